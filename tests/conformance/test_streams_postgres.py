"""The traps of streams with archives in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.flows.stores import Parts
from asof.offline.postgres.engine import PostgresOffline
from asof.testing.clock import MicrosClock
from asof.testing.traps import TrapsSuite
from tests.parts import close, embedded_parts

pytestmark = pytest.mark.integration


class TestArchivesInPostgres(TrapsSuite):
    # It waits for a worker's turn for as long as all others take together, and on the embedded parts it does so already.
    test_a_column_that_is_applied_while_a_worker_runs_is_null_before_and_known_after = None

    @pytest.fixture
    def make_parts(self, tmp_path: Path, database_url: str) -> Iterator[Callable[[MicrosClock], Parts]]:
        made: list[Parts] = []

        def make(clock: MicrosClock) -> Parts:
            parts = embedded_parts(tmp_path, clock=clock)
            parts.offline.close()  # type: ignore[attr-defined]
            made.append(parts.replaced(offline=PostgresOffline(url=database_url)))
            made[-1].offline.drop_project(parts.project)
            return made[-1]

        yield make
        for parts in made:
            close(parts)
