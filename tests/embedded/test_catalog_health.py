"""The health of a real store: what runs, audits, servers and workers leave behind is what pages and searches show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, LogSource, Sliding
from asof.catalog.health_index import HealthIndex, read_health
from asof.catalog.live import LiveValues
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.definitions import Snapshot
from asof.errors import AsofError, LogError
from asof.flows.use import count_served
from asof.registry.sqlite import SqliteRegistry
from asof.store import open_store_of
from asof.types import Int64, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FRAME = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    at = pa.array([NOON - timedelta(minutes=3)], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "price": [7], "items": [2], "at": at}), tmp_path / "sales.parquet")
    store = FeatureStore(tmp_path, clock=lambda: NOON)
    user = Entity("user", join_keys=["user_id"])
    sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
    columns = [Field("user_id", Int64), Field("n", Int64), Field("at", Timestamp)]
    clicks = LogSource("clicks", schema=columns, timestamp_field="at")
    total = Aggregation(column="n", function="sum", window=Sliding(timedelta(hours=1)), name="total")
    prices = FeatureView("prices", entities=[user], source=sales, schema=[Field("price", Int64), Field("items", Int64)])
    store.apply([prices, FeatureView("clicked", entities=[user], source=clicks, aggregations=[total])])
    yield store
    store.close()


def message(n: object) -> bytes:
    return json.dumps({"user_id": 1, "n": n, "at": NOON.isoformat()}).encode()


def used_store(store: FeatureStore) -> None:
    """Let everything have happened once."""
    store.materialize()
    store.send("clicks", [message(1), message("many")])
    store.stream_run(until_caught_up=True)
    store.audit()
    store.get_historical_features(FRAME, ["prices:price"]).save("noon")
    count_served(open_store_of(store).stores, {"prices:price": 60, "clicked:total": 3})


def applied(store: FeatureStore) -> Snapshot:
    """The newest snapshot, with what the last run recorded in it."""
    store.refresh_registry()
    return open_store_of(store).snapshot()


def test_health_is_what_runs_audits_servers_and_workers_left(store: FeatureStore) -> None:
    used_store(store)

    health = read_health(store, applied(store))

    assert health.late == () and health.at == NOON
    prices, clicked, clicks = health.views["prices"], health.views["clicked"], health.sources["clicks"]
    assert (prices.requests, prices.training_sets, prices.requests_per_day) == (60, 1, 2.0)
    assert prices.last_run is not None and (prices.last_run.kind, prices.last_run.rows) == ("materialize", 1)
    assert prices.served_until is not None and abs(prices.served_until - NOON) < timedelta(seconds=1)
    assert prices.audit is not None and (prices.audit.differences, prices.audit.when) == (0, NOON)
    assert clicked.last_run is not None and clicked.last_run.kind == "stream"
    assert (clicks.lag, clicks.dead_letters, clicked.requests) == (0, 1, 3)
    assert clicked.attention == ("source 'clicks' has 1 dead letter: see `asof dead-letters list`",)
    assert prices.attention == ()


def test_the_views_that_a_failed_run_was_about_need_attention(store: FeatureStore, tmp_path: Path) -> None:
    store.materialize()
    (tmp_path / "sales.parquet").unlink()
    with pytest.raises(AsofError):
        store.materialize()

    attention = read_health(store, applied(store)).views["prices"].attention
    assert len(attention) == 1 and attention[0].startswith("its last run (materialize, 0s ago) failed: SourceError")


def test_a_part_that_takes_longer_than_its_budget_says_so_and_the_others_are_there(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_store(store)
    status, goes_on = store.stream_status, Event()

    def slow() -> Any:
        goes_on.wait(60)
        return status()

    monkeypatch.setattr(store, "stream_status", slow)
    live = LiveValues()
    index, snapshot = HealthIndex(store), applied(store)
    try:
        # The others get all the time that they need.
        index.of(snapshot, live, with_streams=False, budget_s=60)
        health = index.of(snapshot, live, budget_s=0.01)
        assert health.late == ("the status of streams takes longer than this page waits",)
        assert health.views["prices"].requests == 60 and health.sources["clicks"].lag is None
        goes_on.set()
        health = index.of(snapshot, live, budget_s=60)
        assert health.late == () and health.sources["clicks"].lag == 0
        assert index.of(snapshot, live, budget_s=60) is health, "put together once"
    finally:
        goes_on.set()
        live.close()


def test_a_part_that_cannot_be_read_is_named_and_the_others_are_there(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_store(store)

    def unreachable() -> Any:
        raise LogError("Kafka at localhost:9092 does not respond", hint="start it")

    monkeypatch.setattr(store, "stream_status", unreachable)
    live = LiveValues()
    snapshot = applied(store)
    expected = ("the status of streams cannot be read: Kafka at localhost:9092 does not respond",)
    try:
        for health in (HealthIndex(store).of(snapshot, live, budget_s=60), read_health(store, snapshot)):
            assert health.late == expected
            assert health.views["prices"].requests == 60 and health.views["clicked"].served_until is None
    finally:
        live.close()


def found(folder: Path, *options: str) -> tuple[list[dict[str, Any]], str]:
    context = CliContext(lambda *place: FeatureStore(folder, clock=lambda: NOON))
    done = CliRunner().invoke(cli, ["--output", "json", "search", *options], obj=context)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)["matches"], done.stderr


def test_a_search_in_the_terminal_ranks_by_use_and_filters_what_is_stale_or_unused(
    store: FeatureStore, tmp_path: Path
) -> None:
    names = [each["name"] for each in found(tmp_path, "--kind", "feature")[0]]
    assert names == ["clicked:total", "prices:items", "prices:price"]
    stale = [each["name"] for each in found(tmp_path, "--stale", "--kind", "view")[0]]
    assert stale == ["prices"], "never materialized"
    used_store(store)

    matches, _ = found(tmp_path, "--kind", "feature")
    assert [(each["name"], each["requests"]) for each in matches] == [
        ("prices:price", 60), ("clicked:total", 3), ("prices:items", None)
    ]  # fmt: skip
    assert [each["name"] for each in found(tmp_path, "--unused", "--kind", "feature")[0]] == ["prices:items"]
    assert found(tmp_path, "--stale")[0] == []


def test_a_search_goes_on_where_records_are_damaged_and_a_filter_says_what_is_missing(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **options: object) -> Any:
        raise AsofError("the file is damaged")

    monkeypatch.setattr(SqliteRegistry, "counts", broken)

    assert found(tmp_path, "prices:price")[0][0]["name"] == "prices:price"
    matches, said = found(tmp_path, "--unused", "--kind", "feature")
    assert len(matches) == 3 and "the use of features cannot be read: the file is damaged" in said
