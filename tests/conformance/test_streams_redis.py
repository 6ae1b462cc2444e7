"""The traps of streams with Redis as the online store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.flows.stores import Stores
from asof.testing.clock import MicrosClock
from asof.testing.traps import TrapsSuite
from tests.embedded_stores import close
from tests.redis_stores import redis_parts
from tests.services import Redis

pytestmark = pytest.mark.integration


class TestTrapsOnRedis(TrapsSuite):
    @pytest.fixture
    def make_stores(self, tmp_path: Path, redis: Redis, key_prefix: str) -> Iterator[Callable[[MicrosClock], Stores]]:
        made: list[Stores] = []

        def make(clock: MicrosClock) -> Stores:
            made.append(redis_parts(tmp_path, clock, url=redis.url, key_prefix=f"{key_prefix}:"))
            return made[-1]

        yield make
        for stores in made:
            stores.online.drop_project(stores.project)
            close(stores)
