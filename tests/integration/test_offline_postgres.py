"""Postgres passes the conformance suites of offline stores and archives, and fails in our words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from asof.offline.postgres import PostgresOffline
from asof.testing.archive import ArchiveSuite
from asof.testing.offline import OfflineStoreSuite

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared(postgres) -> Iterator[PostgresOffline]:
    store = PostgresOffline(url=postgres.create_database("offline"))
    yield store
    store.close()
    postgres.drop_database("offline")


class TestPostgres(OfflineStoreSuite):
    @pytest.fixture
    def engine(self, shared: PostgresOffline) -> PostgresOffline:
        return shared


class TestPostgresArchives(ArchiveSuite):
    @pytest.fixture
    def open_store(self, postgres_url: str) -> Iterator[Callable[[], PostgresOffline]]:
        opened: list[PostgresOffline] = []

        def open_one() -> PostgresOffline:
            opened.append(PostgresOffline(url=postgres_url))
            return opened[-1]

        yield open_one
        for each in opened:
            each.close()
