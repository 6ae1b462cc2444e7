"""The traps of streams with PostgreSQL as the online store."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from asof.flows.stores import Stores
from asof.online.postgres.store import PostgresOnlineStore
from asof.testing.clock import MicrosClock
from asof.testing.traps import LIVES, TrapsSuite
from tests.embedded_stores import close, embedded_stores

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def url(postgres) -> Iterator[str]:
    name = f"stream_traps_{uuid.uuid4().hex}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.mark.parametrize("batches", LIVES[2:7:2], ids=str)
def test_a_row_in_postgres_stays_as_long_as_anything_that_it_keeps(
    tmp_path: Path, url: str, batches: list[list[int]]
) -> None:
    made: list[Stores] = []

    def make(clock: MicrosClock) -> Stores:
        stores = embedded_stores(tmp_path, clock=clock)
        stores.online.close()  # type: ignore[attr-defined]
        made.append(stores.replaced(online=PostgresOnlineStore(url, schema=f"online_{uuid.uuid4().hex}")))
        return made[-1]

    TrapsSuite().test_a_row_stays_as_long_as_anything_that_it_keeps(make, batches)
    close(made[0])
