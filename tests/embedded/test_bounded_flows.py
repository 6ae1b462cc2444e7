"""Verbs over sources larger than `memory_limit`: what outgrows it is sorted on disk, and the results are the same.

DuckDB refuses what does not fit its limit, so a verb that returns has kept it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, PushSource, Sliding
from asof.flows.batch import spilled_records
from asof.flows.generations.writer import GenerationWriter
from asof.flows.rows.batch import RowBatch
from asof.flows.stream import bulk_rebuild
from asof.testing.clock import NOW
from asof.timing import SECOND, moment
from asof.types import Int64, String, Timestamp

EVENTS, USERS = 400_000, 1_000
"""A tenth of the events are of user 0."""

LIMIT = "40MB"
"""The events' numbers alone take 13 MB in memory, their texts 19 MB, and a sort of both about twice as much."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    number = np.arange(EVENTS)
    users = np.where(number % 10 == 0, 0, number % USERS)
    at = pa.array(NOW - (EVENTS - number) * SECOND // 5).cast(pa.timestamp("us", "UTC"))
    text = pc.binary_join_element_wise("the page number", pa.array(number).cast(pa.string()), "of all", " ")
    events = pa.table({"user": users, "at": at, "amount": number, "page": text})
    pq.write_table(events, folder / "events.parquet", row_group_size=20_000)
    frame = {"user": users[::50], "event_timestamp": at.take(pa.array(np.arange(0, EVENTS, 50)))}
    pq.write_table(pa.table(frame), folder / "frame.parquet")
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[FeatureStore]:
    (folder / "feature_store.yaml").write_text(
        f"project: bounded\noffline_store: {{memory_limit: {LIMIT}, threads: 1}}\n"
    )
    source = FileSource(str(folder / "events.parquet"), name="events", timestamp_field="at")
    user, day = Entity("user", ["user"]), Sliding("1d")
    fields = [Field("user", Int64), Field("amount", Int64), Field("page", String)]
    made = [
        Aggregation(function="count", window=day, name="n"),
        Aggregation("amount", "sum", window=day, name="spent"),
    ]
    with FeatureStore(folder, clock=lambda: moment(NOW)) as store:
        store.apply(
            [
                FeatureView("latest", entities=[user], source=source, schema=fields),
                FeatureView("windows", entities=[user], source=source, aggregations=made),
            ]
        )
        yield store


def test_materialize_and_audit_keep_the_memory_limit(store: FeatureStore) -> None:
    store.materialize(moment(NOW - EVENTS * SECOND), moment(NOW))

    found = store.get_online_features(
        features=["latest:amount", "latest:page", "windows:n", "windows:spent"], entity_rows=[{"user": 0}, {"user": 7}]
    ).to_dict()
    of_seven = [each for each in range(EVENTS) if each % USERS == 7]
    assert found["amount"] == [EVENTS - 10, EVENTS - USERS + 7]
    assert found["page"][1] == f"the page number {EVENTS - USERS + 7} of all"
    assert found["n"] == [EVENTS // 10, len(of_seven)] and found["spent"][1] == sum(of_seven)
    audited = store.audit()
    assert audited.ok and audited.values


def test_a_training_set_is_saved_and_built_again_within_the_memory_limit(store: FeatureStore, folder: Path) -> None:
    read = store.get_historical_features(
        entity_df=str(folder / "frame.parquet"), features=["latest:amount", "latest:page", "windows:n", "windows:spent"]
    )

    read.save("bounded")

    assert store.rebuild_training_set("bounded").identical
    saved = store.read_training_set("bounded").to_arrow()
    assert saved.num_rows == EVENTS // 50 and saved["amount"].to_pylist() == list(range(0, EVENTS, 50))


def test_explain_of_a_key_with_a_tenth_of_the_events_keeps_the_memory_limit(store: FeatureStore) -> None:
    assert store.explain("windows:spent", {"user": 0}, at=moment(NOW)).value == sum(range(0, EVENTS, 10))


def test_a_profile_keeps_the_memory_limit(store: FeatureStore) -> None:
    report = store.profile(["latest"])

    assert {each.feature: (each.rows, each.max) for each in report if each.feature == "amount"} == {
        "amount": (EVENTS, EVENTS - 1)
    }


def test_reads_without_an_entity_frame_and_exports_keep_the_memory_limit(
    store: FeatureStore, folder: Path, tmp_path: Path
) -> None:
    features = ["latest:amount", "latest:page", "windows:n", "windows:spent"]
    start, end = moment(NOW - EVENTS // 50 * SECOND), moment(NOW)

    read = store.get_historical_features(features=features, start_date=start, end_date=end)
    assert read.write(str(tmp_path / "x.parquet")) == EVENTS // 10
    assert sorted(pq.read_table(tmp_path / "x.parquet")["amount"].to_pylist()) == list(range(EVENTS * 9 // 10, EVENTS))

    frame = 'SELECT "user", "at" AS event_timestamp FROM events WHERE amount % 10 = 0'
    assert store.get_historical_features(features=features, entity_df=frame).to_arrow().num_rows == EVENTS // 10
    assert "asof__windows_0" in store.get_historical_features(features=features, entity_df=frame).to_sql()
    assert len(store.sample("windows")) == 10


def test_a_backfill_and_the_build_of_its_views_keep_the_memory_limit(
    store: FeatureStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spilled_records, "HELD_BYTES", 1 << 20)
    monkeypatch.setattr(bulk_rebuild, "EVENTS_AT_ONCE", 10_000)
    sizes: list[int] = []
    apply_of_key = GenerationWriter.apply_of_key

    def measured(self: GenerationWriter, batch: RowBatch, **options: Any) -> int:
        sizes.append(len(batch))
        return apply_of_key(self, batch, **options)

    monkeypatch.setattr(GenerationWriter, "apply_of_key", measured)
    fields = [Field("user", Int64), Field("at", Timestamp), Field("amount", Int64), Field("page", String)]
    old = FileSource(str(folder / "events.parquet"), name="old", timestamp_field="at")
    pushes = PushSource("pushes", fields, "at", batch_source=old)
    day = Sliding("1d")
    made = [Aggregation("", "count", window=day, name="n"), Aggregation("page", "last", window=day, name="page")]
    view = FeatureView("pushed", entities=[Entity("user", ["user"])], source=pushes, aggregations=made)
    (tmp_path / "feature_store.yaml").write_text((folder / "feature_store.yaml").read_text())
    with FeatureStore(tmp_path, clock=lambda: moment(NOW)) as other:
        other.apply([view])

        found = other.get_online_features(features=["pushed:n", "pushed:page"], entity_rows=[{"user": 0}]).to_dict()
        assert found["n"] == [EVENTS // 10] and found["page"] == [f"the page number {EVENTS - 10} of all"]
        # All of them are archived: they are compared, in files, and none is loaded again.
        assert other.backfill("pushes") == 0
    assert sum(sizes) == EVENTS and max(sizes) < 3 * 10_000
