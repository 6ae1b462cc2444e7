"""Use of features: counted per request and day, written now and then, and kept by the registry."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.errors import RegistryError, RequestError
from asof.registry.sqlite import SqliteRegistry
from asof.server.telemetry.use_counts import FLUSH_S, RequestUse, UseCounts
from asof.types import Int64

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TODAY = NOON.date()


class Planned:
    """A planned request, as far as its use goes."""

    def __init__(self, *features: str) -> None:
        self.use = RequestUse(features)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    at = pa.array([NOON], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "price": [7], "items": [2], "at": at}), tmp_path / "sales.parquet")
    store = FeatureStore(tmp_path, clock=clock)
    sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
    user = Entity("user", join_keys=["user_id"])
    store.apply(
        [FeatureView("latest", entities=[user], source=sales, schema=[Field("price", Int64), Field("items", Int64)])]
    )
    yield store
    store.close()


def used(store: FeatureStore, days: int = 30) -> dict[tuple[str, date], tuple[int, int]]:
    return {(each.feature, each.day): (each.requests, each.training_sets) for each in store.use(days)}


def test_requests_count_for_each_of_their_features_and_only_once(store: FeatureStore) -> None:
    assert FLUSH_S <= 60
    counts, both, one = UseCounts(store), Planned("v:a", "v:b"), Planned("v:a")
    for each in (both, one):
        counts.watch(each)
    both.use.served += 3
    one.use.served += 1

    counts.flush()
    counts.flush()
    assert used(store) == {("v:a", TODAY): (4, 0), ("v:b", TODAY): (3, 0)}

    both.use.served += 1
    counts.flush()
    assert used(store) == {("v:a", TODAY): (5, 0), ("v:b", TODAY): (4, 0)}


def test_a_request_that_is_planned_no_more_is_counted_to_its_end(store: FeatureStore) -> None:
    counts = UseCounts(store)
    for _ in range(3):
        planned = Planned("v:a")
        counts.watch(planned)
        planned.use.served += 2
    del planned
    gc.collect()

    counts.flush()
    assert used(store) == {("v:a", TODAY): (6, 0)}
    assert len(counts) == 0


def test_many_different_requests_leave_nothing_behind_but_their_sums(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asof.server.telemetry.use_counts.MOST_ENDED", 10)
    counts = UseCounts(store)
    for n in range(100):
        planned = Planned(f"v:{n % 3}")
        counts.watch(planned)
        planned.use.served += 1
        del planned
        gc.collect(0)
    assert len(counts) <= 12

    counts.flush()
    assert sum(requests for requests, _ in used(store).values()) == 100


def test_counts_that_cannot_be_kept_wait_and_one_warning_says_so(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise RegistryError("registry: it is away")

    counts, planned = UseCounts(store), Planned("v:a")
    counts.watch(planned)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING, "asof.server"):
        patched.setattr(SqliteRegistry, "add_counts", refuse)
        for _ in range(3):
            planned.use.served += 1
            counts.flush()
    assert caplog.messages == ["the use of features cannot be kept: registry: it is away"]
    assert used(store) == {}

    counts.flush()
    assert used(store) == {("v:a", TODAY): (3, 0)}


def test_nothing_is_written_where_nothing_was_served(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    monkeypatch.setattr(SqliteRegistry, "add_counts", lambda *args: written.append(args))
    counts = UseCounts(store)
    counts.watch(planned := Planned("v:a"))
    counts.flush()

    assert written == [] and planned.use.served == 0


def test_saved_training_sets_count_and_reads_of_the_store_do_not(store: FeatureStore) -> None:
    frame = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})
    read = store.get_historical_features(frame, ["latest:price"])
    read.to_arrow()
    assert used(store) == {}

    read.save("one")
    read.save("two")
    store.get_historical_features(frame, ["latest"]).save("three")

    assert used(store) == {("latest:items", TODAY): (0, 1), ("latest:price", TODAY): (0, 3)}


def test_a_training_set_is_saved_where_its_use_cannot_be_counted(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise RegistryError("registry: it is away")

    monkeypatch.setattr(SqliteRegistry, "add_counts", refuse)
    frame = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})
    with caplog.at_level(logging.WARNING, "asof.records"):
        assert store.get_historical_features(frame, ["latest:price"]).save("one").rows == 1

    assert caplog.messages == ["the use of features in a training set was not counted: registry: it is away"]


def test_use_is_listed_by_day_the_newest_first(store: FeatureStore, clock: Clock) -> None:
    counts, planned = UseCounts(store), Planned("v:a")
    counts.watch(planned)
    for _ in range(3):
        planned.use.served += 1
        counts.flush()
        clock.now += timedelta(days=1)
    clock.now -= timedelta(days=1)

    assert [each.day for each in store.use()] == [TODAY + timedelta(days=n) for n in (2, 1, 0)]
    assert [each.day for each in store.use(days=2)] == [TODAY + timedelta(days=n) for n in (2, 1)]
    assert store.use().to_arrow().schema.types == [pa.string(), pa.date32(), pa.int64(), pa.int64()]


@pytest.mark.parametrize("days", [0, -1, 101, 1.5, "30", True, None])
def test_a_number_of_days_that_is_none_is_refused_by_name(store: FeatureStore, days: object) -> None:
    with pytest.raises(RequestError, match="is no number of days that are kept") as caught:
        store.use(days)  # type: ignore[arg-type]
    assert "from 1 to 100" in caught.value.hint
