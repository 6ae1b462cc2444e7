"""What was done to a store is kept: each kind of run, how it ended, and what it may not disturb."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, LogSource, Sliding
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.errors import AsofError, RegistryError, RequestError, SourceError
from asof.flows.records import KEPT, RUN
from asof.flows.runs import kind_of_reason, recorded_run
from asof.flows.stream.sums import MOST_REASONS, OTHERS, SourceSums
from asof.offline.protocol import COMPACTED
from asof.registry.records import RUN_KINDS
from asof.registry.sqlite import SqliteRegistry
from asof.store import open_store_of
from asof.types import Int64, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
USER = Entity("user", join_keys=["user_id"])
FRAME = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})


def definitions() -> list[FeatureView]:
    columns = [Field("user_id", Int64), Field("n", Int64), Field("at", Timestamp)]
    clicks = LogSource(
        "clicks", schema=columns, timestamp_field="at", stream_from="2026-01-01T13:00:00Z",
        batch_source=FileSource("old_clicks.parquet", name="old_clicks", timestamp_field="at"),
    )  # fmt: skip
    total = Aggregation(column="n", function="sum", window=Sliding(timedelta(hours=1)), name="total")
    sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
    return [
        FeatureView("latest", entities=[USER], source=sales, schema=[Field("price", Int64)]),
        FeatureView("clicked", entities=[USER], source=clicks, aggregations=[total]),
    ]


def write_table(path: Path, **columns: list[int]) -> None:
    count = len(columns["user_id"])
    pq.write_table(pa.table({**columns, "at": pa.array([NOON] * count, pa.timestamp("us", "UTC"))}), path)


def message(n: object) -> bytes:
    return json.dumps({"user_id": 1, "n": n, "at": NOON.isoformat()}).encode()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    write_table(tmp_path / "sales.parquet", user_id=[1, 2], price=[7, 8])
    write_table(tmp_path / "old_clicks.parquet", user_id=[1, 1, 2], n=[5, 6, 7])
    store = FeatureStore(tmp_path, clock=lambda: NOON)
    store.apply(definitions())
    yield store
    store.close()


def test_each_kind_of_run_is_kept_with_what_it_did(store: FeatureStore) -> None:
    assert [(each.kind, each.rows, dict(each.sources)) for each in store.runs()] == [
        ("load-history", 3, {"clicks": {"rows": 3}})
    ]
    store.materialize()
    store.send("clicks", [message(1), message("many"), message("more"), b"{"])
    store.stream_run(until_caught_up=True)
    store.rebuild(["clicked"])
    store.backfill("clicks")
    store.compact()
    store.audit()
    store.get_historical_features(FRAME, ["latest:price"]).save("noon")
    store.rebuild_training_set("noon")

    runs = store.runs()
    assert [each.kind for each in runs] == [
        "rebuild", "training-set", "audit", "compact", "backfill", "rebuild", "stream", "materialize",
        "load-history",
    ]  # fmt: skip
    assert {each.kind for each in runs} == {*RUN_KINDS} - {"profile", "backup", "restore"}
    assert {each.outcome for each in runs} == {"done"}
    assert all(each.who and each.error is None and each.started == NOON for each in runs)
    assert all(each.ended is not None and each.seconds is not None and each.ended >= NOON for each in runs)
    rebuilt_set, *rest = runs
    by_kind = {each.kind: each for each in rest}
    assert by_kind["materialize"].views == {"latest": 2, "clicked": 0} and by_kind["materialize"].rows == 2
    assert by_kind["rebuild"].views == {"clicked": 2}
    assert by_kind["backfill"].sources == {"clicks": {"rows": 0}}
    assert set(by_kind["compact"].sources["clicks"]) == {*COMPACTED}
    assert by_kind["audit"].views.keys() == {"latest", "clicked"}
    assert by_kind["audit"].details == {"values": by_kind["audit"].rows, "differences": 0}
    assert (by_kind["training-set"].rows, by_kind["training-set"].details) == (1, {"training_set": "noon"})
    assert rebuilt_set.details == {"training_set": "noon", "equal": True, "differing": 0, "why": []}
    clicks = by_kind["stream"].sources["clicks"]
    assert (clicks["messages"], clicks["rows"], clicks["lag"]) == (4, 1, 0)
    dead_letters = clicks["dead_letters"]
    assert isinstance(dead_letters, dict) and sorted(dead_letters.values()) == [1, 2]
    assert not any("many" in kind or "more" in kind for kind in dead_letters), "no value is kept"


def test_runs_are_narrowed_by_kind_and_number_and_a_wrong_kind_names_the_near_one(store: FeatureStore) -> None:
    for _ in range(3):
        store.materialize(["latest"][:0] or None)

    assert len(store.runs("materialize")) == 3
    assert len(store.runs("materialize", 2)) == 2 and len(store.runs(limit=1)) == 1
    assert len(store.runs("audit")) == 0
    with pytest.raises(RequestError, match="kind='materialise' is no kind of runs") as caught:
        store.runs("materialise")
    assert "materialize" in caught.value.hint
    assert store.runs().to_df()["kind"].tolist() == ["materialize"] * 3 + ["load-history"]


def test_runs_make_no_version_of_the_project(store: FeatureStore) -> None:
    registry = open_store_of(store).stores.registry
    store.materialize()
    before = registry.version("shop")
    for _ in range(3):
        store.compact()
        store.audit()

    assert registry.version("shop") == before


def test_a_run_that_fails_is_kept_with_the_first_line_of_its_error(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "sales.parquet").unlink()
    with pytest.raises(AsofError) as caught:
        store.materialize(feature_views=["latest"])
    with pytest.raises(AsofError):
        store.backfill("never_there")

    backfill, materialize = list(store.runs(limit=2))
    assert (backfill.kind, backfill.outcome) == ("backfill", "failed")
    assert backfill.error is not None and "never_there" in backfill.error
    assert (materialize.outcome, materialize.rows) == ("failed", 0)
    assert materialize.error == f"{type(caught.value).__name__}: {caught.value.message.splitlines()[0]}"[:500]


def test_a_run_that_is_interrupted_is_stopped_and_not_failed(store: FeatureStore) -> None:
    def interrupt(what: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.materialize(full=True, progress=interrupt)

    (run,) = store.runs(limit=1)
    assert (run.kind, run.outcome, run.error) == ("materialize", "stopped", None)


def test_a_worker_is_seen_while_it_runs_and_counted_once_when_it_ended(store: FeatureStore) -> None:
    stop, seen = Event(), []
    store.send("clicks", [message(1)])

    def look(what: str, done: int, total: int | None) -> None:
        seen.extend(store.runs("stream"))
        stop.set()

    store.stream_run(stop=stop, progress=look)

    assert [(each.outcome, each.ended, each.seconds) for each in seen] == [("running", None, None)]
    (run,) = store.runs("stream")
    assert (run.outcome, run.sources["clicks"]["messages"]) == ("done", 1)


KILLED = """
import os, signal, sys
from asof import FeatureStore
def kill(what, done, total):
    os.kill(os.getpid(), signal.SIGKILL)
FeatureStore(sys.argv[1]).stream_run(progress=kill)
"""


def test_a_worker_that_was_killed_stays_running_in_the_list(store: FeatureStore, tmp_path: Path) -> None:
    store.send("clicks", [message(1)])
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "PYTHONPATH": source}, timeout=120
    )
    assert done.returncode == -signal.SIGKILL

    (run,) = store.runs("stream")
    assert (run.outcome, run.ended) == ("running", None)


def test_what_cannot_be_kept_is_a_warning_and_the_job_is_done(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise RegistryError("registry: the disk is full; nothing was written", hint="free some space")

    monkeypatch.setattr(SqliteRegistry, "append_records", refuse)
    store.send("clicks", [message(1)])
    with caplog.at_level(logging.WARNING, "asof.records"):
        (done,) = [each for each in store.materialize() if each.view == "latest"]
        assert store.stream_run(until_caught_up=True)["events"] == 1
        assert store.audit().ok
        assert store.get_historical_features(FRAME, ["latest:price"]).save("noon").rows == 1

    assert done.rows == 2
    assert len(caplog.messages) == 5, "the worker says it at its start and its end"
    assert "no record of this was kept (run of 'materialize'): registry: the disk is full" in caplog.messages[0]


def test_an_error_of_the_job_is_raised_where_its_record_cannot_be_kept_either(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> None:
        raise RegistryError("registry: unreachable")

    monkeypatch.setattr(SqliteRegistry, "append_records", refuse)

    with pytest.raises(SourceError, match="first"), recorded_run(open_store_of(store).stores, "backfill"):
        raise SourceError("the first error")


def test_the_registry_is_not_asked_again_about_a_run_that_it_failed(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(SqliteRegistry, "append_records", lambda *args: asked.append(args))

    with pytest.raises(RegistryError), recorded_run(open_store_of(store).stores, "backfill"):
        raise RegistryError("registry: unreachable")

    assert asked == []


def test_only_the_newest_runs_of_each_kind_are_kept(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT[RUN] == 100
    monkeypatch.setattr("asof.flows.records.KEPT", {**KEPT, RUN: 2})
    for _ in range(4):
        store.compact()

    assert len(store.runs("compact")) == 2
    assert len(store.runs("load-history")) == 1


def test_an_audit_leaves_a_record_of_each_view_with_the_causes_by_kind(store: FeatureStore, tmp_path: Path) -> None:
    store.materialize()
    write_table(tmp_path / "sales.parquet", user_id=[1, 2], price=[70, 80])
    report = store.audit()
    assert len(report) == 2

    found = open_store_of(store).stores.registry.records("shop", "audit")
    by_view = {each.subject: each.body for each in found}
    assert by_view.keys() == {"latest", "clicked"}
    assert by_view["clicked"]["differences"] == 0 and by_view["clicked"]["causes"] == {}
    cause = "the source's rows changed since they were materialized: run `asof materialize --full`"
    assert by_view["latest"]["causes"] == {cause: 2}
    assert by_view["latest"]["differences"] == 2
    (run,) = store.runs("audit")
    assert run.details["differences"] == 2


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("column 'price': 'abc' is not an Int64", "column 'price': … is not an Int64"),
        ("column 'price': 300 is out of the range of Int8", "column 'price': … is out of the range of Int8"),
        ("event time 2026-01-01T13:00:00Z is 1h after the clock", "event time … is … after the clock"),
        ('key: "a@b.c" is null', "key: … is null"),
        ("later batch rows (up to 2026-01-01T00:00:00Z) are not materialized", "later batch rows … are not materialized"),
        ("transform 'clean' failed: KeyError: 'no such thing'", "transform 'clean' failed: KeyError: …"),
        ("column 'id': 'a(b)c'... is not Int64", "column 'id': …... is not Int64"),
        ("column 'id': 'x(1)abcde... is not Int64", "column 'id': … is not Int64"),
        ("JSON is malformed: found 'abc", "JSON is malformed: found …"),
        ("the row is missing", "the row is missing"),
    ],
)  # fmt: skip
def test_a_kind_of_reason_names_the_column_and_no_value(reason: str, kind: str) -> None:
    assert kind_of_reason(reason) == kind


def test_kinds_of_reasons_are_short_and_their_number_is_bounded() -> None:
    assert len(kind_of_reason("x" * 10_000)) <= 120
    sums, other = SourceSums(), SourceSums()
    sums.count(30, 0, [f"reason {chr(65 + n)}" for n in range(30)])
    other.count(3, 1, ["reason A", "reason new", "reason new"])
    sums.add(other)

    assert len(sums.dead_letters) == MOST_REASONS + 1
    assert (sums.messages, sums.rows, sums.dead_letters.total()) == (33, 1, 33)
    assert sums.dead_letters[OTHERS] == 30 - MOST_REASONS + 2 and sums.dead_letters["reason A"] == 2


@pytest.mark.parametrize("width", [80, 120])
def test_runs_are_listed_in_a_terminal(store: FeatureStore, tmp_path: Path, width: int) -> None:
    store.materialize()
    store.send("clicks", [message("many"), message("more")])
    store.stream_run(until_caught_up=True)
    with pytest.raises(AsofError):
        store.backfill("never_there")
    context = CliContext(lambda *place: FeatureStore(tmp_path, clock=lambda: NOON))

    shown = CliRunner().invoke(cli, ["runs"], obj=context, env={"COLUMNS": str(width)}).stdout

    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split()[:4] == ["started", "kind", "outcome", "rows"]
    assert [line.split()[1:4] for line in lines if line.startswith("2026")] == [
        ["backfill", "failed", "0"], ["stream", "done", "0"], ["materialize", "done", "2"], ["load-history", "done", "3"]
    ]  # fmt: skip
    flat = " ".join(shown.split())
    assert "never_there" in flat and "2 dead letters" in flat

    context = CliContext(lambda *place: FeatureStore(tmp_path, clock=lambda: NOON))
    document = CliRunner().invoke(cli, ["--output", "json", "runs", "--kind", "stream"], obj=context).stdout
    (run,) = json.loads(document)["runs"]
    assert run["sources"]["clicks"]["messages"] == 2 and run["outcome"] == "done"
