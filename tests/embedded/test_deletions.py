"""Rows that end their key: nulls and NOT_FOUND from their time on, from files and pushes as from messages."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, LogSource, PushSource, Sliding
from asof.errors import CheckFailed
from asof.store import FeatureStore
from asof.timing import MINUTE, iso, micros, moment
from asof.types import Int64, String, Timestamp

NOW = micros("2026-01-01T12:00:00+00:00")
USER = Entity("user", join_keys=["user_id"])
TIMES = pa.timestamp("us", "UTC")
ROWS = [
    # user, minutes before NOW, city, operation
    (1, 30, "Ghent", "c"), (1, 20, None, "d"),
    (2, 30, "Rome", "c"), (2, 20, None, "d"), (2, 10, "Oslo", "c"),
    (3, 30, "Bern", "c"), (3, 40, None, "d"),
    (4, 30, None, "c"),
]  # fmt: skip


def table(rows) -> pa.Table:
    return pa.table({
        "user_id": [row[0] for row in rows],
        "happened": pa.array([NOW - row[1] * MINUTE for row in rows], pa.int64()).cast(TIMES),
        "city": pa.array([row[2] for row in rows], pa.string()),
        "op": [row[3] for row in rows],
    })  # fmt: skip


def views(source) -> list[FeatureView]:
    return [
        FeatureView("users", entities=[USER], source=source, schema=[Field("city", String, default="nowhere")]),
        FeatureView("visits", entities=[USER], source=source, aggregations=[
            Aggregation("", "count", window=Sliding("1h"), name="visits")
        ]),
    ]  # fmt: skip


@pytest.fixture(params=["file", "push"])
def store(tmp_path: Path, request: pytest.FixtureRequest):
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nclock: {iso(NOW)}\n", encoding="utf-8")
    with FeatureStore(tmp_path) as store:
        if request.param == "file":
            pq.write_table(table(ROWS), tmp_path / "users.parquet")
            source = FileSource("users.parquet", timestamp_field="happened", delete_when="op = 'd'")
            store.apply([USER, source, *views(source)])
            store.materialize()
        else:
            schema = [Field("user_id", Int64), Field("happened", Timestamp), Field("city", String), Field("op", String)]
            source = PushSource("users", schema, "happened", delete_when="op = 'd'")
            store.apply([USER, source, *views(source)])
            store.push("users", table(ROWS))
            assert store.audit().ok  # and archives what was pushed
        yield store


KEYS = [{"user_id": user} for user in (1, 2, 3, 4, 5)]


def test_served_is_null_and_not_found_from_the_rows_time_on(store: FeatureStore):
    answer = store.get_online_features(["users:city", "visits:visits"], KEYS)

    assert answer.statuses["city"] == ["NOT_FOUND", "PRESENT", "PRESENT", "NULL_VALUE", "NOT_FOUND"]
    assert answer.to_dict()["city"] == ["nowhere", "Oslo", "Bern", "nowhere", "nowhere"]
    assert answer.event_times["city"][0] is None
    assert answer.to_dict()["visits"] == [1, 2, 1, 1, 0]


def test_history_agrees_at_every_moment(store: FeatureStore):
    frame = pa.table({
        "user_id": [1, 1, 2, 2, 2, 3],
        "event_timestamp": pa.array([NOW - each * MINUTE for each in (21, 20, 21, 20, 10, 35)], pa.int64()).cast(TIMES),
    })  # fmt: skip
    found = store.get_historical_features(frame, ["users:city", "visits:visits"]).to_arrow().to_pydict()

    assert found["city"] == ["Ghent", "nowhere", "Rome", "nowhere", "Oslo", "nowhere"]
    assert found["visits"] == [1, 1, 1, 1, 2, 0]
    assert store.audit().ok


def test_explain_says_what_ended_the_key(store: FeatureStore):
    made = store.explain("users:city", {"user_id": 1})

    assert "It is a tombstone that deletes the key" in made.text
    assert made.rows["why"].to_pylist()[:2] == ["deletes the key", "older"]
    assert made.online["status"] == "NOT_FOUND"
    assert "tombstone, not an event" in store.explain("visits:visits", {"user_id": 1}).rows["why"].to_pylist()


def test_a_read_before_the_end_is_answered_from_history(store: FeatureStore):
    reader_time = moment(NOW - 25 * MINUTE)
    with FeatureStore(store.config.path, clock=lambda: reader_time) as past:
        answer = past.get_online_features(["users:city"], KEYS)

    assert answer.statuses["city"] == ["PRESENT", "PRESENT", "PRESENT", "NULL_VALUE", "NOT_FOUND"]
    assert answer.to_dict()["city"][:3] == ["Ghent", "Rome", "Bern"]


def test_what_is_rebuilt_is_what_it_was(store: FeatureStore):
    before = store.get_online_features(["users:city"], KEYS)
    if store.get_source("users").is_log:
        store.rebuild()
    else:
        store.materialize(full=True)

    after = store.get_online_features(["users:city"], KEYS)
    assert after.statuses == before.statuses and after.to_dict() == before.to_dict()


def test_an_expression_that_means_nothing_is_refused_by_plan(tmp_path: Path):
    (tmp_path / "feature_store.yaml").write_text("project: shop\n", encoding="utf-8")
    schema = [Field("user_id", Int64), Field("at", Int64), Field("op", String)]

    with FeatureStore(tmp_path) as store:
        for text, reason in (("opp = 'd'", "opp"), ("op", "Bool"), ("op =", "delete_when")):
            source = LogSource("users", schema=schema, timestamp_field="at", timestamp_unit="ms", delete_when=text)
            with pytest.raises(CheckFailed, match=reason):
                store.apply([USER, source, FeatureView("users", entities=[USER], source=source)])
