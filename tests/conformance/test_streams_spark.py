"""The traps of streams with archives that Sail reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.flows.stores import Stores
from asof.offline.spark.engine import SparkOffline
from asof.testing.clock import MicrosClock
from asof.testing.traps import TrapsSuite
from tests.embedded_stores import close, embedded_stores
from tests.sail import running

pytestmark = [pytest.mark.integration, pytest.mark.soak]


@pytest.fixture(scope="module")
def remote() -> Iterator[str]:
    with running() as remote:
        yield remote


class TestArchivesThatSparkReads(TrapsSuite):
    # It waits for a worker's turn for as long as all others take together, and on the embedded stores it does so already.
    test_a_column_that_is_applied_while_a_worker_runs_is_null_before_and_known_after = None
    # What expires is decided before any engine is asked.
    test_a_row_stays_as_long_as_anything_that_it_keeps = None

    @pytest.fixture
    def make_stores(self, tmp_path: Path, remote: str) -> Iterator[Callable[[MicrosClock], Stores]]:
        made: list[Stores] = []

        def make(clock: MicrosClock) -> Stores:
            stores = embedded_stores(tmp_path, clock=clock)
            stores.offline.close()  # type: ignore[attr-defined]
            made.append(stores.replaced(offline=SparkOffline(tmp_path / "archive", remote=remote)))
            return made[-1]

        yield make
        for stores in made:
            close(stores)
