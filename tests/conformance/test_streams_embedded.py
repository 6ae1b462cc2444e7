"""The traps of streams on the embedded stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.flows.stores import Stores
from asof.testing.clock import MicrosClock
from asof.testing.traps import TrapsSuite
from tests.embedded_stores import close, embedded_stores

pytestmark = pytest.mark.integration


class TestEmbedded(TrapsSuite):
    @pytest.fixture
    def make_stores(self, tmp_path: Path) -> Iterator[Callable[[MicrosClock], Stores]]:
        made: list[Stores] = []

        def make(clock: MicrosClock) -> Stores:
            made.append(embedded_stores(tmp_path, clock=clock))
            return made[-1]

        yield make
        for stores in made:
            close(stores)
