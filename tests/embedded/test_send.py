"""Messages that a program sends to a source's topic through the store."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from asof import Entity, FeatureStore, FeatureView, Field, LogSource, PushSource
from asof.errors import NotFound, SourceError
from asof.types import Int64, String

VISITS = LogSource(
    name="visits",
    topic="visits",
    message_format="json",
    schema=[Field("user_id", Int64), Field("page", String), Field("timestamp", Int64)],
    timestamp_field="timestamp",
    timestamp_unit="ms",
)
NOTES = PushSource(
    "notes",
    schema=[Field("user_id", Int64), Field("timestamp", Int64)],
    timestamp_field="timestamp",
    timestamp_unit="ms",
)
USER = Entity("user", join_keys=["user_id"])
MESSAGE = b'{"user_id": 7, "page": "home", "timestamp": 1600000000000}'


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    store = FeatureStore(tmp_path, clock=lambda: datetime(2020, 9, 13, 12, 30, tzinfo=UTC))
    store.apply(
        [USER, VISITS, NOTES, FeatureView("visited", entities=[USER], schema=[Field("page", String)], source=VISITS)]
    )
    return store


def test_a_message_that_is_sent_is_served(store: FeatureStore) -> None:
    with store:
        positions = store.send("visits", [MESSAGE, MESSAGE], keys=[b"7", b"7"])
        store.stream_run(["visits"], until_caught_up=True)

        assert positions[1] == (positions[0][0], positions[0][1] + 1), (
            "events of one key follow each other in one partition"
        )
        assert store.get_online_features(["visited:page"], [{"user_id": 7}]).to_dict()["page"] == ["home"]


def test_messages_to_a_push_source_are_refused(store: FeatureStore) -> None:
    with store, pytest.raises(SourceError, match="source 'notes' takes rows, not messages") as caught:
        store.send("notes", [MESSAGE])

    assert caught.value.hint == "call push('notes', rows)"


def test_messages_to_no_source_are_refused(store: FeatureStore) -> None:
    with store, pytest.raises(NotFound, match="source 'visit' is not applied") as caught:
        store.send("visit", [MESSAGE])

    assert "visits" in caught.value.hint
