"""Ingest and push on the embedded parts: what is kept when a store, the log or the process fails half way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asof.definitions import Aggregation, FeatureView, Field, PushSource
from asof.errors import DeadLetterLimit, LogError, RowsRefused, StorageError
from asof.flows.push.pusher import Pusher
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores, view_named
from asof.flows.stream import worker as worker_module
from asof.flows.stream.ingest import Ingest
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.flows.stream.worker import StreamWorker
from asof.log.file.log import FileLog
from asof.testing.clock import NOW, MicrosClock
from asof.testing.streams import ACTIVITY, TOPIC, USER, VISITS, StreamRun, visit
from asof.timing import SECOND
from asof.types import Int64
from tests.embedded_stores import close, copied_stores, embedded_stores

CLICKS = PushSource("clicks", [Field("user_id", Int64), Field("at", Int64)], "at", timestamp_unit="us")
CLICKED = FeatureView(
    "clicked", entities=[USER], source=CLICKS,
    aggregations=[Aggregation("", "count", name="clicks")],
)  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("built")
    stores = embedded_stores(path, clock=MicrosClock())
    StreamRun(stores, stores.clock, definitions=(VISITS, USER, ACTIVITY, CLICKS, CLICKED))  # type: ignore[arg-type]
    close(stores)
    return path


@pytest.fixture
def stores(built: Path, tmp_path: Path) -> Iterator[Stores]:
    stores = copied_stores(built, tmp_path)
    yield stores
    close(stores)


@pytest.fixture
def ingest(stores: Stores) -> Iterator[Ingest]:
    ingest = Ingest(stores, "visits", seconds=lambda: 0.0)
    yield ingest
    ingest.close()


class Failing:
    """A store of which one verb fails as long as `fails` is set."""

    def __init__(self, store: Any, verb: str) -> None:
        self.store, self.verb, self.fails = store, verb, True

    def __getattr__(self, name: str) -> Any:
        if name == self.verb and self.fails:

            def fail(*_: Any, **__: Any) -> Any:
                raise StorageError("the disk is full", hint="free some space")

            return fail
        return getattr(self.store, name)


def send(stores: Stores, *events: Any, partition: int = 0) -> None:
    import json

    values = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in events]
    stores.log.send(TOPIC, values, partition=partition, durable=False)


def read_all(stores: Stores, ingest: Ingest, number: int) -> None:
    first, after = stores.log.bounds(TOPIC)[number]
    start = ingest.begin(TOPIC, number, first=first)
    ingest.take(TOPIC, stores.log.read(TOPIC, number, start, stop=after))


def archived(stores: Stores, source: str = "visits") -> list[tuple[int, int]]:
    rows = stores.offline.rows(stores.archive_of(stores.registry.load("shop").project.sources[source]))
    if rows is None:
        return []
    table = stores.offline.sql('SELECT "partition", "offset" FROM t ORDER BY 1, 2', {"t": rows}).reader().read_all()
    return list(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))


def served(stores: Stores, view: str, feature: str, user: int = 1) -> Any:
    run = object.__new__(StreamRun)
    run.stores, run.clock = stores, stores.clock  # type: ignore[assignment]
    return StreamRun.served(run, view, [user], at=NOW)[feature][0]


def test_what_a_failed_flush_held_goes_with_the_next_one_in_its_order(stores: Stores) -> None:
    offline = Failing(stores.offline, "append")
    ingest = Ingest(stores.replaced(offline=offline), "visits", seconds=lambda: 0.0)  # type: ignore[arg-type]
    send(stores, visit(1), b"no event")
    read_all(stores, ingest, 0)
    ingest.flush(wait=False)
    send(stores, visit(1))
    ingest.take(TOPIC, stores.log.read(TOPIC, 0, 2))
    with pytest.raises(StorageError, match="disk is full"):
        ingest.flush()
    offline.fails = False

    assert ingest.flush() == {0: 2}
    ingest.close()
    assert archived(stores) == [(0, 0), (0, 2)]
    assert served(stores, "activity", "ever") == 2


def test_partitions_that_were_lost_take_only_their_own_events_with_them(stores: Stores, ingest: Ingest) -> None:
    send(stores, visit(1), partition=0)
    send(stores, visit(2), partition=1)
    read_all(stores, ingest, 0)
    read_all(stores, ingest, 1)
    ingest.discard(TOPIC, [0])

    assert ingest.flush() == {1: 0}
    assert archived(stores) == [(1, 0)]
    read_all(stores, ingest, 0)
    ingest.flush()
    assert archived(stores) == [(0, 0), (1, 0)] and served(stores, "activity", "ever") == 1


def test_messages_that_were_taken_before_are_left_out(stores: Stores, ingest: Ingest) -> None:
    send(stores, visit(1), visit(1), visit(2))
    first = stores.log.read(TOPIC, 0, 0)
    read_all(stores, ingest, 0)
    ingest.take(TOPIC, first)
    ingest.flush()
    ingest.take(TOPIC, first)

    assert ingest.buffered == 0
    assert archived(stores) == [(0, 0), (0, 1), (0, 2)]


def test_a_store_that_fails_to_take_rows_keeps_the_batch_out_of_the_archive(stores: Stores) -> None:
    online = Failing(stores.online, "write")
    ingest = Ingest(stores.replaced(online=online), "visits", seconds=lambda: 0.0)  # type: ignore[arg-type]
    send(stores, visit(1))
    with pytest.raises(StorageError, match="disk is full"):
        read_all(stores, ingest, 0)
    ingest.flush()
    ingest.close()

    assert archived(stores) == []
    run_stream(stores, ["visits"], until_caught_up=True)
    assert archived(stores) == [(0, 0)] and served(stores, "activity", "ever") == 1


def test_progress_never_goes_back_and_is_not_ahead_of_the_archive(stores: Stores, ingest: Ingest) -> None:
    (table,) = [each for each in stores.online.tables("shop") if each.view == "activity"]
    send(stores, visit(1))
    read_all(stores, ingest, 0)
    assert stores.online.progress(table)["partition 0"] == -1
    stores.online.write_progress(table, {"partition 0": 7})
    ingest.flush()
    assert stores.online.progress(table)["partition 0"] == 7


def test_a_lost_range_of_the_log_is_named_and_goes_on_only_when_it_is_accepted(stores: Stores, ingest: Ingest) -> None:
    with pytest.raises(
        LogError, match="offsets 0 to 4 of partition 0 of topic 'visits' are lost: the log deleted them"
    ):
        ingest.begin(TOPIC, 0, first=5)
    assert ingest.begin(TOPIC, 0, first=5, accept_gap=True) == 5
    (gap,) = stores.registry.load("shop").facts.gaps["visits"]
    assert "offsets 0 to 4" in gap and ingest.begin(TOPIC, 0, first=5) == 5


def test_a_log_that_lost_its_end_is_not_taken_for_one_that_was_read(stores: Stores) -> None:
    send(stores, visit(1))
    run_stream(stores, ["visits"], until_caught_up=True)
    stores.offline.append(stores.archive_of(VISITS), archive_schema(VISITS).empty_table(), {0: 5})
    with pytest.raises(LogError, match="ends before offset 1, but offsets up to 5 are archived"):
        run_stream(stores, ["visits"], until_caught_up=True)
    run_stream(stores, ["visits"], until_caught_up=True, accept_gap=True)
    send(stores, visit(1))
    run_stream(stores, ["visits"], until_caught_up=True)

    assert served(stores, "activity", "ever") == 2
    assert archived(stores) == [(0, 0), (1_000_000, 1)]


def test_a_range_that_retention_took_from_under_a_worker_is_named(stores: Stores, tmp_path: Path) -> None:
    log = FileLog(tmp_path / "short", clock=stores.clock, segment_bytes=100)
    log.create(TOPIC, 1)
    stores = stores.replaced(log=log)
    send(stores, visit(1), visit(1))
    worker = StreamWorker(stores, ["visits"], accept_gap=False, flush_every_s=3600)
    worker.look_at_registry()
    assert worker.step() == 2
    for _ in range(6):
        send(stores, visit(1))
    log.retain(TOPIC, max_bytes=100)
    first = log.bounds(TOPIC)[0][0]
    assert first > 2
    with pytest.raises(LogError, match=f"offsets 2 to {first - 1} of partition 0 of topic 'visits' are lost"):
        worker.step()
    worker.close()

    run_stream(stores, ["visits"], until_caught_up=True, accept_gap=True)
    assert served(stores, "activity", "ever") == 2 + 8 - first
    log.close()


def test_too_many_dead_letters_stop_the_worker_after_they_are_written(stores: Stores) -> None:
    now = [0.0]
    ingest = Ingest(stores, "visits", seconds=lambda: now[0])
    send(stores, *[b"no event"] * 1000)
    read_all(stores, ingest, 0)
    now[0] = 9.9
    send(stores, b"no event")
    ingest.take(TOPIC, stores.log.read(TOPIC, 0, 1000))
    now[0] = 10.1
    send(stores, b"no event")
    with pytest.raises(DeadLetterLimit, match="100% of the last 1000 messages"):
        ingest.take(TOPIC, stores.log.read(TOPIC, 0, 1001))
    ingest.close()
    assert stores.offline.offsets(stores.dead_letters_of(VISITS), [0]) == {0: 1001}


def test_a_worker_without_a_partition_of_its_own_is_caught_up_when_the_others_are(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [StreamWorker(stores, ["visits"], accept_gap=False, flush_every_s=3600) for _ in range(3)]

    def step_all() -> None:
        for worker in workers:
            worker.look_at_registry()
            worker.step()

    for _ in range(3):
        step_all()
    (idle,) = [each for each in workers if not any(m.consumer.assignment() for m in each.members.values())]
    send(stores, visit(1))
    step_all()
    assert not idle.is_caught_up(), "what the others hold is not archived"
    for worker in workers:
        worker.flush()
    monkeypatch.setattr(worker_module, "LOOK_EVERY_S", 0.0)
    assert idle.is_caught_up()
    for worker in workers:
        worker.close()


def test_a_rebuild_waits_for_nobody_where_all_is_archived(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoWaiting:
        monotonic = time.monotonic

        @staticmethod
        def sleep(_: float) -> None:
            raise AssertionError("it waits")

    send(stores, visit(1))
    run_stream(stores, ["visits"], until_caught_up=True)
    monkeypatch.setattr("asof.flows.stream.rebuild.time", NoWaiting)
    rebuild(stores, view_named(stores.registry.load("shop"), "activity"))
    assert served(stores, "activity", "ever") == 1

    send(stores, visit(1))
    with pytest.raises(AssertionError, match="it waits"):
        rebuild(stores, view_named(stores.registry.load("shop"), "activity"))


def click(user: int = 1) -> dict[str, int]:
    return {"user_id": user, "at": NOW - SECOND}


def test_a_push_that_failed_half_way_is_applied_with_the_next_and_counted_once(stores: Stores) -> None:
    online = Failing(stores.online, "write")
    online.fails = False
    pusher = Pusher(stores.replaced(online=online), "clicks")  # type: ignore[arg-type]
    pusher.push([click()])
    online.fails = True
    with pytest.raises(StorageError, match="durable in its log") as caught:
        pusher.push([click()], batch_id="a")
    assert "do not push them again" in caught.value.hint
    online.fails = False

    assert pusher.push([click()], batch_id="a") == 0
    assert served(stores, "clicked", "clicks") == 2
    pusher.push([click()])
    pusher.close()
    assert served(stores, "clicked", "clicks") == 3 and len(archived(stores, "clicks")) == 3


def test_an_archive_that_cannot_be_written_fails_no_push(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asof.flows.push.pusher.FLUSH_ROWS", 1)
    offline = Failing(stores.offline, "append")
    pusher = Pusher(stores.replaced(offline=offline), "clicks")  # type: ignore[arg-type]
    for _ in range(3):
        assert pusher.push([click()]) == 1
        until = time.monotonic() + 5
        while not pusher.ingest.flush_is_done and time.monotonic() < until:
            time.sleep(0.001)
    with pytest.raises(StorageError, match="disk is full"):
        pusher.flush()
    offline.fails = False
    pusher.close()

    assert len(archived(stores, "clicks")) == 3 and served(stores, "clicked", "clicks") == 3


def test_two_processes_that_push_and_a_worker_lose_and_double_nothing(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a slow machine a flush would fall due between the pushes, and leave less to take over.
    monkeypatch.setattr("asof.flows.push.pusher.FLUSH_EVERY_S", 3600.0)
    other = embedded_stores(tmp_path, clock=stores.clock)
    pushers = [Pusher(stores, "clicks"), Pusher(other, "clicks")]
    assert pushers[0].partition != pushers[1].partition
    for _ in range(3):
        for pusher in pushers:
            pusher.push([click(), click(2)])
    assert pushers[0].take_over() == 6 and served(stores, "clicked", "clicks") == 6
    pushers[1].push([click()], batch_id="b")
    assert pushers[0].push([click()], batch_id="b") == 0
    run_stream(stores, ["clicks"], until_caught_up=True)
    for pusher in pushers:
        pusher.close()
    close(other)

    assert served(stores, "clicked", "clicks") == 7 and len(set(archived(stores, "clicks"))) == 13
    assert len(archived(stores, "clicks")) == 13


def test_pushes_of_a_process_that_died_are_taken_over(stores: Stores, tmp_path: Path) -> None:
    other = embedded_stores(tmp_path, clock=stores.clock)
    Pusher(other, "clicks").push([click()])
    close(other)
    pusher = Pusher(stores, "clicks")
    pusher.push([click()])
    pusher.close()
    assert served(stores, "clicked", "clicks") == 2 and len(archived(stores, "clicks")) == 2


def test_a_push_of_the_far_future_is_refused_whole(stores: Stores) -> None:
    pusher = Pusher(stores, "clicks")
    with pytest.raises(RowsRefused, match="row 1: event time .* is 1h after the clock"):
        pusher.push([click(), {"user_id": 1, "at": NOW + 3600 * SECOND}])
    pusher.close()
    assert archived(stores, "clicks") == []


def test_an_online_file_that_was_deleted_is_noticed(stores: Stores, tmp_path: Path) -> None:
    assert stores.online.tables("shop")
    for name in ("online.db", "online.db-wal", "online.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert stores.online.tables("shop") == []
