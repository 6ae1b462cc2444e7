"""The traps of streams on the embedded parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.flows.stores import Parts
from asof.testing.clock import MicrosClock
from asof.testing.traps import TrapsSuite
from tests.parts import close, embedded_parts

pytestmark = pytest.mark.integration


class TestEmbedded(TrapsSuite):
    @pytest.fixture
    def make_parts(self, tmp_path: Path) -> Iterator[Callable[[MicrosClock], Parts]]:
        made: list[Parts] = []

        def make(clock: MicrosClock) -> Parts:
            made.append(embedded_parts(tmp_path, clock=clock))
            return made[-1]

        yield make
        for parts in made:
            close(parts)
