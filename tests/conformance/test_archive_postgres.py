"""The archives' suite on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from asof.offline.postgres.engine import PostgresOffline
from asof.testing.archive import ArchiveSuite
from tests.openers import opener

pytestmark = pytest.mark.integration


class TestPostgresArchives(ArchiveSuite):
    @pytest.fixture
    def open_store(self, postgres_url: str) -> Iterator[Callable[[], PostgresOffline]]:
        yield from opener(lambda: PostgresOffline(url=postgres_url))
