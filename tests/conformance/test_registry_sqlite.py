"""The registries' suite on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asof.registry.sqlite import SqliteRegistry
from asof.testing.registry import OpenRegistry, RegistrySuite
from tests.openers import opener


class TestSqliteRegistry(RegistrySuite):
    @pytest.fixture
    def open_registry(self, tmp_path: Path) -> Iterator[OpenRegistry]:
        yield from opener(lambda: SqliteRegistry(tmp_path / "data" / "registry.db"))
