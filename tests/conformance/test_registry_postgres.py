"""The registries' suite on PostgreSQL, with sessions of its own and behind shared ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from asof.registry.postgres import PostgresRegistry
from asof.testing.registry import OpenRegistry, RegistrySuite
from tests.openers import opener

pytestmark = pytest.mark.integration


class TestPostgresRegistry(RegistrySuite):
    pgbouncer = False

    @pytest.fixture
    def open_registry(self, database_url: str) -> Iterator[OpenRegistry]:
        schema = f"Test {uuid.uuid4().hex[:12]}"
        yield from opener(lambda: PostgresRegistry(database_url, schema=schema, pgbouncer=self.pgbouncer))


class TestPostgresRegistryBehindASharedSession(TestPostgresRegistry):
    pgbouncer = True
