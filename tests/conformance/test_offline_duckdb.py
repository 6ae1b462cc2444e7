"""The offline stores' suite on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asof.offline.duckdb.engine import DuckDBEngine
from asof.testing.offline import OfflineStoreSuite


@pytest.fixture(scope="module")
def shared() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=2)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def partitioned() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=2, partitions=3)
    yield engine
    engine.close()


class TestDuckDB(OfflineStoreSuite):
    @pytest.fixture
    def engine(self, shared: DuckDBEngine) -> DuckDBEngine:
        return shared


class TestDuckDBInPartitions(OfflineStoreSuite):
    """The same rows where each view is read in several hash partitions of its keys."""

    @pytest.fixture
    def engine(self, partitioned: DuckDBEngine) -> DuckDBEngine:
        return partitioned
