"""What is asked of an archive, with PostgreSQL as the offline store."""

from __future__ import annotations

import pytest

from asof.offline.postgres.engine import PostgresOffline
from tests.embedded.test_composite_keys import ArchivedColumnsSuite, CompositeKeysSuite, KeyWidthsSuite

pytestmark = pytest.mark.integration


class TestPostgres(CompositeKeysSuite):
    @pytest.fixture
    def offline(self, postgres_url: str) -> str:
        return f'{{type: postgres, url: "{postgres_url}"}}'


class TestKeyWidthsInPostgres(KeyWidthsSuite):
    @pytest.fixture
    def offline(self, postgres_url: str) -> str:
        return f'{{type: postgres, url: "{postgres_url}"}}'


class TestArchivedColumnsInPostgres(ArchivedColumnsSuite):
    @pytest.fixture
    def offline_store(self, postgres_url: str) -> PostgresOffline:
        return PostgresOffline(url=postgres_url)
