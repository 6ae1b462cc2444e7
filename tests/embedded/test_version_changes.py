"""What each version of the definitions changed, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, PushSource
from asof.errors import NotFound
from asof.types import Int64, Timestamp

USER = Entity("user", join_keys=["user_id"])


def activity(**more: str) -> FeatureView:
    clicks = PushSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
    count = Aggregation("", "count", name="n")
    return FeatureView("activity", entities=[USER], source=clicks, aggregations=[count], **more)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    store = FeatureStore(tmp_path)
    store.apply([activity()])
    store.push("clicks", [{"user_id": 1, "at": store.now()}])
    store.apply([activity(description="What a user did")])
    return store


def test_a_version_is_compared_with_the_definitions_before_it(store: FeatureStore) -> None:
    newest, oldest = store.history()

    last = store.version_changes(newest.version)

    assert (last.before, last.after) == (oldest.version, None)
    assert list(last.lines) == ["~ feature view 'activity'", "    + description: What a user did"]
    assert (last.who, last.when, last.summary) == (newest.who, newest.when, newest.summary)


def test_all_of_the_first_version_is_new(store: FeatureStore) -> None:
    newest, oldest = store.history()

    first = store.version_changes(oldest.version)

    assert (first.before, first.after) == (0, newest.version)
    assert [each for each in first.lines if not each.startswith(" ")] == [
        "+ entity 'user'", "+ source 'clicks'", "+ feature view 'activity'",
    ]  # fmt: skip


def test_a_version_of_facts_alone_is_refused(store: FeatureStore) -> None:
    changed = {each.version for each in store.history(100)}
    others = set(range(1, max(changed))) - changed
    assert others, "the store commits its own progress"
    for version in (*others, 999):
        with pytest.raises(NotFound, match=f"no version {version} of project 'shop' changed definitions"):
            store.version_changes(version)
