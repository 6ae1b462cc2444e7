"""Paging through an online table meets every row once, in order, whatever their number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from asof.flows.rows import pages
from asof.online.protocol import OnlineTable

TABLE = OnlineTable("shop", "trips", "0-1", "state")


class Rows:
    """An online store with the scan alone."""

    def __init__(self, count: int) -> None:
        self.keys = [each.to_bytes(2, "big") for each in range(count)]
        self.scans = 0

    def scan(self, table: OnlineTable, *, after: bytes | None = None, limit: int = 1000) -> list[Any]:
        assert table == TABLE
        self.scans += 1
        return [(key, b"row", 1) for key in self.keys if after is None or key > after][:limit]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_ROWS", 3)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7, 20])
def test_every_row_comes_once_and_no_page_is_empty(count: int) -> None:
    store = Rows(count)
    found = list(pages.pages_of(SimpleNamespace(online=store), TABLE))

    assert [row[0] for page in found for row in page] == store.keys
    assert all(found)


@pytest.mark.parametrize(("most", "read"), [(0, 0), (1, 3), (3, 3), (4, 6), (9, 9), (100, 20)])
def test_no_page_follows_once_enough_rows_were_read(most: int, read: int) -> None:
    store = Rows(20)
    found = list(pages.pages_of(SimpleNamespace(online=store), TABLE, most_rows=most))

    assert sum(map(len, found)) == read
    assert store.scans == -(-read // 3)
