"""Reads of the online store that end where their rows have too many bytes."""

from __future__ import annotations

from collections.abc import Sequence

from asof.online.protocol import Lookup, MarkedRows, OnlineStore, Row
from asof.server.http.limits import above

FIRST_KEYS = 512
"""Keys of the first command of a large read. Each further one has twice as many: it may be as much larger than expected
as the rows before were smaller."""


def refuse_large(found: Sequence[Sequence[Row | None]], most: int, *, before: int = 0) -> int:
    """The bytes of these rows, and those before them.

    Raises:
        HttpError: they are more than `most`, `server.max_response_bytes`.
    """
    size = before + sum([len(row[0]) for rows in found for row in rows if row is not None])
    if size > most:
        raise above(f"the request reads rows of {size} bytes or more", most, "max_response_bytes")
    return size


def read_bounded(store: OnlineStore, lookups: Sequence[Lookup], most: int) -> list[MarkedRows]:
    """As `store.read_marked`, but in pieces, and only until the rows have more than `most` bytes.

    Raises:
        HttpError: they have more.
    """
    total = max((len(lookup.keys) for lookup in lookups), default=0)
    found: list[list[Row | None]] = [[] for _ in lookups]
    at, size, step = 0, 0, max(1, FIRST_KEYS // len(lookups))
    while at < total:
        part = [Lookup(lookup.table, lookup.keys[at : at + step]) for lookup in lookups]
        marked = store.read_marked(part)
        rows = [each for each in marked if each is not None]
        if len(rows) < len(marked):
            return list(marked)
        size = refuse_large(rows, most, before=size)
        for kept, more in zip(found, rows, strict=True):
            kept += more
        at, step = at + step, 2 * step
    return list(found)


__all__ = ["read_bounded", "refuse_large"]
