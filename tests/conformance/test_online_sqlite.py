"""The online stores' suite on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.online.sqlite.store import SqliteOnlineStore
from asof.testing.online import OnlineStoreSuite
from tests.openers import opener


class TestSqliteOnlineStore(OnlineStoreSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[Callable[[], SqliteOnlineStore]]:
        yield from opener(lambda: SqliteOnlineStore(tmp_path / "data" / "online.db"))
