"""The offline stores' suite on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asof.offline.postgres.engine import PostgresOffline
from asof.testing.offline import OfflineStoreSuite

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared(database_url: str) -> Iterator[PostgresOffline]:
    store = PostgresOffline(url=database_url)
    yield store
    store.close()


class TestPostgres(OfflineStoreSuite):
    @pytest.fixture
    def engine(self, shared: PostgresOffline) -> PostgresOffline:
        return shared
