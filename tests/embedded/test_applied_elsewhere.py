"""What another process has just applied is there for one that has looked at the registry less than a second ago."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asof import Entity, FeatureStore, FeatureView, Field, PushSource
from asof.errors import NotFound, RowsRefused
from asof.types import Int64, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = Entity("user", join_keys=["user_id"])


def view(*columns: str, source: str = "clicks", name: str = "latest") -> FeatureView:
    fields = [Field(each, Int64) for each in ("user_id", *columns)]
    pushed = PushSource(name=source, schema=[*fields, Field("at", Timestamp)], timestamp_field="at")
    return FeatureView(name, entities=[USER], source=pushed, schema=fields)


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FeatureStore, FeatureStore]]:
    """Two stores of one project, as of two processes; the second never looks at the registry by time alone."""
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    monkeypatch.setattr("asof.open_store.REFRESH_S", 3600.0)
    with FeatureStore(tmp_path, clock=lambda: NOON) as one, FeatureStore(tmp_path, clock=lambda: NOON) as other:
        one.apply([view("n")])
        other.get_online_features(["latest:n"], [{"user_id": 1}])
        yield one, other


def test_a_new_feature_is_found(stores: tuple[FeatureStore, FeatureStore]) -> None:
    one, other = stores
    one.apply([view("n", "more")])

    assert other.get_online_features(["latest:more"], [{"user_id": 1}]).to_dict()["more"] == [None]
    with pytest.raises(NotFound):
        other.get_online_features(["latest:none"], [{"user_id": 1}])


def test_a_new_push_source_is_found(stores: tuple[FeatureStore, FeatureStore]) -> None:
    one, other = stores
    one.apply([view("n"), view("m", source="visits", name="visited")])

    assert other.push("visits", [{"user_id": 1, "m": 5, "at": NOON}]) == 1


def test_an_open_pusher_takes_a_new_column(stores: tuple[FeatureStore, FeatureStore]) -> None:
    one, other = stores
    other.push("clicks", [{"user_id": 1, "n": 1, "at": NOON}])
    one.apply([view("n", "more")])

    assert other.push("clicks", [{"user_id": 1, "n": 2, "more": 3, "at": NOON}]) == 1
    assert other.get_online_features(["latest:more"], [{"user_id": 1}]).to_dict()["more"] == [3]
    with pytest.raises(RowsRefused):
        other.push("clicks", [{"user_id": 1, "n": 2, "none": 3, "at": NOON}])
