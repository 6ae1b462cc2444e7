"""What `apply` would refuse of an archive in Postgres is said by `plan`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asof import FeatureStore
from asof.types import Array, Int64
from tests.embedded.test_plan_of_archives import NOON, PlanOfArchivesSuite, errors

pytestmark = pytest.mark.integration


class TestPostgres(PlanOfArchivesSuite):
    @pytest.fixture
    def store(self, tmp_path: Path, postgres_url: str) -> Iterator[FeatureStore]:
        (tmp_path / "feature_store.yaml").write_text(
            f"project: shop\noffline_store: {{type: postgres, url: '{postgres_url}'}}\n"
        )
        with FeatureStore(tmp_path, clock=lambda: NOON) as store:
            yield store

    def test_a_type_that_postgres_has_not_is_an_error(self, store: FeatureStore) -> None:
        assert "which no type of Postgres can hold" in errors(store, Array(Array(Int64)))
