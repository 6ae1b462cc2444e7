"""The archives' suite on Delta."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import ArchiveSuite


class TestDeltaArchives(ArchiveSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], DuckDBOffline]:
        return lambda: DuckDBOffline(tmp_path / "a folder", threads=1)
