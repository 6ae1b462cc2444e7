"""The online stores' suite on PostgreSQL."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from asof.online.postgres.store import PostgresOnlineStore
from asof.testing.online import OnlineStoreSuite
from tests.openers import opener

pytestmark = pytest.mark.integration


class TestPostgresOnlineStore(OnlineStoreSuite):
    @pytest.fixture
    def open_store(self, database_url: str) -> Iterator[Callable[[], PostgresOnlineStore]]:
        schema = f"Test {uuid.uuid4().hex[:12]}"
        yield from opener(lambda: PostgresOnlineStore(database_url, schema=schema))
