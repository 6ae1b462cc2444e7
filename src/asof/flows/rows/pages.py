"""Pages of an online table: all its rows in the order of keys, some thousands at a time."""

from __future__ import annotations

from collections.abc import Iterator

from asof.flows.stores import Parts
from asof.online.protocol import OnlineTable, ScannedRow

PAGE_ROWS = 2000


def pages_of(parts: Parts, table: OnlineTable, *, most_rows: int | None = None) -> Iterator[list[ScannedRow]]:
    """The rows of a table, page after page; none where it has no rows.

    Args:
        most_rows: no page follows once so many rows were read.
    """
    after: bytes | None = None
    read = 0
    while most_rows is None or read < most_rows:
        page = parts.online.scan(table, after=after, limit=PAGE_ROWS)
        if page:
            yield page
        if len(page) < PAGE_ROWS:
            return
        read += len(page)
        after = page[-1][0]
