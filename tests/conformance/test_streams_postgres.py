"""The traps of streams with archives in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.flows.stores import Stores
from asof.offline.postgres.engine import PostgresOffline
from asof.testing.clock import MicrosClock
from asof.testing.traps import TrapsSuite
from tests.embedded_stores import close, embedded_stores

pytestmark = pytest.mark.integration


class TestArchivesInPostgres(TrapsSuite):
    # It waits for a worker's turn for as long as all others take together, and on the embedded stores it does so already.
    test_a_column_that_is_applied_while_a_worker_runs_is_null_before_and_known_after = None

    @pytest.fixture
    def make_stores(self, tmp_path: Path, database_url: str) -> Iterator[Callable[[MicrosClock], Stores]]:
        made: list[Stores] = []

        def make(clock: MicrosClock) -> Stores:
            stores = embedded_stores(tmp_path, clock=clock)
            stores.offline.close()  # type: ignore[attr-defined]
            made.append(stores.replaced(offline=PostgresOffline(url=database_url)))
            made[-1].offline.drop_project(stores.project)
            return made[-1]

        yield make
        for stores in made:
            close(stores)
