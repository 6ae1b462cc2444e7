"""What the suites on servers share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.services import Postgres


@pytest.fixture(scope="module")
def database_url(postgres: Postgres) -> Iterator[str]:
    """One database for all tests of a module; each has a schema or tables of its own."""
    name = f"conformance_{uuid.uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)
