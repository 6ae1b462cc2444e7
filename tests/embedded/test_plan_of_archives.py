"""What `apply` would refuse of an archive is said by `plan`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asof import Entity, FeatureStore, FeatureView, Field, PushSource
from asof.dtypes import DType
from asof.types import Array, Float64, Int64, String, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pushed(dtype: DType) -> FeatureView:
    schema = [Field("user_id", Int64), Field("value", dtype), Field("at", Timestamp)]
    source = PushSource(name="clicks", schema=schema, timestamp_field="at")
    return FeatureView("latest", entities=[Entity("user", join_keys=["user_id"])], source=source,
                       schema=[Field("value", dtype)])  # fmt: skip


def errors(store: FeatureStore, dtype: DType) -> str:
    return "\n".join(map(str, store.plan([pushed(dtype)]).errors))


class PlanOfArchivesSuite:
    @pytest.mark.parametrize("other", [String, Float64, Array(Int64)])
    def test_a_column_of_another_type_than_the_archives_is_an_error_also_where_it_is_empty(
        self, other: DType, store: FeatureStore
    ) -> None:
        assert errors(store, Int64) == ""
        store.apply([pushed(Int64)])

        assert "archive 'clicks' holds column 'value' as" in errors(store, other)
        assert errors(store, Int64) == ""
        store.push("clicks", [{"user_id": 1, "value": 7, "at": NOON}])
        assert "archive 'clicks' holds column 'value' as" in errors(store, other)


class TestDelta(PlanOfArchivesSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[FeatureStore]:
        (tmp_path / "feature_store.yaml").write_text("project: shop\n")
        with FeatureStore(tmp_path, clock=lambda: NOON) as store:
            yield store
