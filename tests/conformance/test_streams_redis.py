"""The traps of streams with Redis as the online store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.flows.stores import Parts
from asof.testing.clock import MicrosClock
from asof.testing.traps import TrapsSuite
from tests.parts import close
from tests.redis_stores import redis_parts
from tests.services import Redis

pytestmark = pytest.mark.integration


class TestTrapsOnRedis(TrapsSuite):
    @pytest.fixture
    def make_parts(self, tmp_path: Path, redis: Redis, key_prefix: str) -> Iterator[Callable[[MicrosClock], Parts]]:
        made: list[Parts] = []

        def make(clock: MicrosClock) -> Parts:
            made.append(redis_parts(tmp_path, clock, url=redis.url, key_prefix=f"{key_prefix}:"))
            return made[-1]

        yield make
        for parts in made:
            parts.online.drop_project(parts.project)
            close(parts)
