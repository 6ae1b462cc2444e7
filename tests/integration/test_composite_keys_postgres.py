"""Composite keys with PostgreSQL as the offline store."""

from __future__ import annotations

import pytest

from tests.embedded.test_composite_keys import CompositeKeysSuite

pytestmark = pytest.mark.integration


class TestPostgres(CompositeKeysSuite):
    @pytest.fixture
    def offline(self, postgres_url: str) -> str:
        return f'{{type: postgres, url: "{postgres_url}"}}'
