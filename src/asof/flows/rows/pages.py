"""All rows of an online table in pages of some thousands, ordered by key."""

from __future__ import annotations

from collections.abc import Iterator

from asof.flows.stores import Stores
from asof.online.protocol import OnlineTable, ScannedRow

PAGE_ROWS = 2000


def pages_of(stores: Stores, table: OnlineTable, *, most_rows: int | None = None) -> Iterator[list[ScannedRow]]:
    """The rows of a table in pages; no page if it is empty.

    Args:
        most_rows: stop after the page that reaches this number of rows.
    """
    after: bytes | None = None
    read = 0
    while most_rows is None or read < most_rows:
        page = stores.online.scan(table, after=after, limit=PAGE_ROWS)
        if page:
            yield page
        if len(page) < PAGE_ROWS:
            return
        read += len(page)
        after = page[-1][0]
