"""The value of a row in Redis: version (32 bytes) or token (8 bytes), then the packed row."""

from __future__ import annotations

from collections.abc import Sequence

from asof.online.protocol import Lookup, MarkedRows, Row

KEYS_PER_READ = 5000
"""Most keys per command, so that other clients are served in between."""

VERSION_BYTES = 32
TOKEN_BYTES = 8


def rows_of(lookups: Sequence[Lookup], values: Sequence[bytes | None]) -> list[list[Row | None]]:
    """Split the values of all keys, in order, into the rows of lookups."""
    found: list[list[Row | None]] = []
    number = int.from_bytes
    start = 0
    for table, keys in lookups:
        end = start + len(keys)
        part = values if end - start == len(values) else values[start:end]
        if table.kind == "latest":
            found.append([None if value is None else (value[32:], value[:32]) for value in part])
        else:
            found.append([None if value is None else (value[8:], number(value[:8], "big")) for value in part])
        start = end
    return found


def marked_rows_of(
    lookups: Sequence[Lookup], values: Sequence[bytes | None], markers: Sequence[bytes | None]
) -> list[MarkedRows]:
    """The rows of lookups, but None for each whose marker is missing; see `rows_of`.

    Args:
        values: of all their keys in order; what follows is not looked at.
        markers: lookup by lookup.
    """
    rows: list[MarkedRows] = list(rows_of(lookups, values))
    if None in markers:
        rows = [None if marker is None else found for marker, found in zip(markers, rows, strict=True)]
    return rows
