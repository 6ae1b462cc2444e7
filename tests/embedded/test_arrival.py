"""Arrival: of rows of one key and time the one that came last counts, in serving and in history, whoever brought it."""

from __future__ import annotations

import json
import random
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.aggregation import decode
from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, LogSource, PushSource, project_of
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.batch.backfill import backfill
from asof.flows.generations.layout import layout_of
from asof.flows.generations.writer import GenerationWriter
from asof.flows.offline.key_rows import view_as_of, whole_view
from asof.flows.push.pusher import Pusher
from asof.flows.rows.arrival import STAMP, stamps_of
from asof.flows.stores import Stores, current_generation, table_of
from asof.flows.stream.dead_letters import list_dead_letters, replay_dead_letters
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.log.file.log import FileLog
from asof.planning import NewGeneration
from asof.store import open_store_of
from asof.testing.clock import NOW, MicrosClock
from asof.timing import HOUR, MINUTE, SECOND, Micros, moment
from asof.types import Int64, Timestamp
from tests.embedded_stores import embedded_stores, read_online
from tests.oracle import features_as_of

STORES = Path(__file__).parents[1] / "stores" / "without_arrival.tar.gz"

ITEM = Entity("item", ["item"])
SCHEMA = [Field("item", Int64), Field("price", Int64), Field("at", Timestamp)]
FUNCTIONS = [
    Aggregation("price", "first", name="first"), Aggregation("price", "last", name="last"),
    Aggregation("price", "last_n", name="last_3", n=3), Aggregation("price", "count", name="n"),
]  # fmt: skip
YESTERDAY = NOW - 24 * HOUR


def definitions(source: LogSource) -> list[Any]:
    return [
        source, ITEM, FeatureView("newest", entities=[ITEM], source=source, schema=[Field("price", Int64)]),
        FeatureView("ends", entities=[ITEM], source=source, aggregations=FUNCTIONS),
    ]  # fmt: skip


def pushes(**options: Any) -> PushSource:
    return PushSource("prices", SCHEMA, "at", **options)


def applied(stores: Stores, source: LogSource) -> None:
    apply_plan(stores, make_plan(stores, project_of(definitions(source))))


def row(price: int, *, item: int = 1, at: Micros = NOW - MINUTE) -> dict[str, Any]:
    return {"item": item, "price": price, "at": moment(at)}


class Process:
    """A process that pushes: a log object and a system clock of its own, over the same folders."""

    def __init__(self, stores: Stores, folder: Path, *, clock: MicrosClock | None = None) -> None:
        self.system_clock = clock or MicrosClock(YESTERDAY)
        self.log = FileLog(folder / "log", clock=stores.clock)
        self.stores = stores.replaced(log=self.log)
        self.stores.system_clock = self.system_clock
        self.pusher = Pusher(self.stores, "prices")

    def push(self, *rows: dict[str, Any], after: Micros = SECOND) -> None:
        self.system_clock.move(after)
        self.pusher.push(list(rows))

    def close(self) -> None:
        self.pusher.close()
        self.log.close()

    def die(self) -> None:
        """End without archiving what was pushed."""
        self.pusher.ingest.close()
        self.log.close()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    made = embedded_stores(tmp_path)
    yield made
    for part in (made.registry, made.online, made.log, made.offline):
        part.close()  # type: ignore[attr-defined]


def served(stores: Stores, item: int = 1) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for view in ("newest", "ends"):
        found |= {name: values[0] for name, values in read_online(stores, view, {"item": [item]}).items()}
    found.pop("item")
    return found


def trained(stores: Stores, item: int = 1, *, at: Micros | None = None) -> dict[str, Any]:
    snapshot = stores.registry.load(stores.project)
    found: dict[str, Any] = {}
    for view in ("newest", "ends"):
        read = whole_view(snapshot.project.views[view])
        answer = view_as_of(stores, snapshot, read, {"item": [item]}, stores.clock() if at is None else at)
        found |= {name: values[0] for name, values in answer.items()}
    return found


def agreed(stores: Stores, item: int = 1) -> dict[str, Any]:
    """What serving and history both return."""
    found = served(stores, item)
    assert found == trained(stores, item)
    return found


def test_a_correction_by_another_process_counts_whichever_has_pushed_more(stores: Stores, tmp_path: Path) -> None:
    applied(stores, pushes())
    clock = MicrosClock(YESTERDAY)
    busy, idle = Process(stores, tmp_path, clock=clock), Process(stores, tmp_path, clock=clock)
    busy.push(*(row(price, item=9) for price in range(5)))
    busy.push(row(10), row(11))
    idle.push(row(20))
    assert served(stores) == {"price": 20, "first": 10, "last": 20, "last_3": [10, 11, 20], "n": 3}
    busy.push(row(30))
    for process in (busy, idle):
        process.close()

    assert agreed(stores) == {"price": 30, "first": 10, "last": 30, "last_3": [11, 20, 30], "n": 4}


def test_of_equal_stamps_the_partition_decides_and_then_the_offset(stores: Stores, tmp_path: Path) -> None:
    applied(stores, pushes())
    one, other = (Process(stores, tmp_path) for _ in range(2))
    other.push(row(20), row(21))
    one.push(row(item=9, price=0), row(10))
    for process in (one, other):
        process.close()

    assert agreed(stores) == {"price": 21, "first": 10, "last": 21, "last_3": [10, 20, 21], "n": 3}


def test_a_push_after_a_backfill_counts_and_comes_after_it(stores: Stores, tmp_path: Path) -> None:
    history = pa.table(
        {"item": [1] * 6, "price": list(range(6)), "at": pa.array([NOW - MINUTE] * 6, pa.timestamp("us", "UTC"))}
    )
    pq.write_table(history, tmp_path / "old.parquet")
    applied(stores, pushes(batch_source=FileSource("old.parquet", name="old", timestamp_field="at")))
    backfill(stores, "prices")
    assert agreed(stores)["price"] == 5
    process = Process(stores, tmp_path)
    process.push(row(20))
    process.close()

    assert agreed(stores) == {"price": 20, "first": 0, "last": 20, "last_3": [4, 5, 20], "n": 7}


def test_rows_pushed_before_a_backfill_come_after_it_too(stores: Stores, tmp_path: Path) -> None:
    history = pa.table({"item": [1, 1], "price": [1, 2], "at": pa.array([NOW - MINUTE] * 2, pa.timestamp("us", "UTC"))})
    pq.write_table(history, tmp_path / "old.parquet")
    applied(stores, pushes(batch_source=FileSource("old.parquet", name="old", timestamp_field="at")))
    process = Process(stores, tmp_path)
    process.push(row(20))
    process.close()
    backfill(stores, "prices")

    assert agreed(stores) == {"price": 20, "first": 1, "last": 20, "last_3": [1, 2, 20], "n": 3}


def message(price: int, *, item: int = 1) -> bytes:
    return json.dumps({"item": item, "price": price, "at": moment(NOW - MINUTE).isoformat()}).encode()


def test_a_correction_after_the_topic_was_made_again_counts(stores: Stores) -> None:
    applied(stores, LogSource("prices", schema=SCHEMA, timestamp_field="at"))
    for prices in ([10, 11, 12], [20]):
        stores.log.delete("prices")
        stores.log.create("prices", 1)
        stores.log.send("prices", [message(price) for price in prices], partition=0, durable=True)
        run_stream(stores, ["prices"], until_caught_up=True, accept_gap=True)

    assert agreed(stores) == {"price": 20, "first": 10, "last": 20, "last_3": [11, 12, 20], "n": 4}
    rebuild(stores, stores.registry.load("shop").project.views["ends"])
    assert agreed(stores)["last_3"] == [11, 12, 20]


def test_messages_of_a_topic_are_ordered_by_offset_and_then_by_partition(stores: Stores) -> None:
    applied(stores, LogSource("prices", schema=SCHEMA, timestamp_field="at"))
    stores.log.delete("prices")
    stores.log.create("prices", 2)
    stores.log.send("prices", [message(10), message(11)], partition=1, durable=True)
    run_stream(stores, ["prices"], until_caught_up=True, accept_gap=True)
    stores.log.send("prices", [message(20)], partition=0, durable=True)
    run_stream(stores, ["prices"], until_caught_up=True)

    assert agreed(stores) == {"price": 11, "first": 20, "last": 11, "last_3": [20, 10, 11], "n": 3}


def test_a_replayed_dead_letter_keeps_its_original_place(stores: Stores) -> None:
    applied(stores, LogSource("prices", schema=SCHEMA, timestamp_field="at", max_future="1s"))
    late = {"item": 1, "at": moment(NOW + 10 * SECOND).isoformat()}
    messages = [json.dumps({**late, "price": price}).encode() for price in (10, 11)]
    stores.log.send("prices", messages, partition=0, durable=True)
    run_stream(stores, ["prices"], until_caught_up=True)
    assert len(list_dead_letters(stores)) == 2
    stores.clock.move(HOUR)  # type: ignore[attr-defined]
    stores.log.send("prices", [json.dumps({**late, "price": 20}).encode()], partition=0, durable=True)
    run_stream(stores, ["prices"], until_caught_up=True)
    assert agreed(stores)["price"] == 20
    assert replay_dead_letters(stores, "prices")["sent"] == 2
    run_stream(stores, ["prices"], until_caught_up=True)

    assert agreed(stores) == {"price": 20, "first": 10, "last": 20, "last_3": [10, 11, 20], "n": 3}
    rebuild(stores, stores.registry.load("shop").project.views["newest"])
    assert agreed(stores)["price"] == 20


def test_what_is_pushed_after_a_take_over_comes_after_what_was_there_though_the_clock_lags(
    stores: Stores, tmp_path: Path
) -> None:
    applied(stores, pushes())
    ahead = Process(stores, tmp_path, clock=MicrosClock(YESTERDAY + HOUR))
    ahead.push(row(10))
    ahead.die()
    behind = Process(stores, tmp_path, clock=MicrosClock(YESTERDAY))
    behind.push(row(20))
    behind.close()
    again = Process(stores, tmp_path, clock=MicrosClock(YESTERDAY))
    again.push(row(30))
    again.close()

    assert agreed(stores)["last_3"] == [10, 20, 30]


def test_messages_without_a_stamp_come_before_those_with_one(stores: Stores, tmp_path: Path) -> None:
    applied(stores, pushes())
    process = Process(stores, tmp_path)
    process.push(row(10))
    # As a process of an earlier version pushes, and one that is no Asof at all.
    partition = stores.log.own_partition("push.prices")
    headers = [(), (("batch", b"x"),), ((STAMP, b"soon"),), ((STAMP, None),), ((STAMP, b"9" * 30),)]
    stores.log.send(
        "push.prices", [message(20 + i) for i in range(5)], partition=partition, headers=headers, durable=True
    )
    run_stream(stores, ["prices"], until_caught_up=True)
    process.close()

    assert agreed(stores) == {"price": 10, "first": 20, "last": 10, "last_3": [23, 24, 10], "n": 6}


def test_a_stamp_is_the_system_s_time_and_no_rebuild_changes_it(stores: Stores, tmp_path: Path) -> None:
    applied(stores, pushes())
    process = Process(stores, tmp_path, clock=MicrosClock(YESTERDAY))
    process.push(row(10, at=YESTERDAY - HOUR), after=0)
    process.push(row(20, at=YESTERDAY - HOUR), after=MINUTE)
    process.close()

    def known(at: Micros, cut: bool | Micros) -> list[Any]:
        snapshot = stores.registry.load(stores.project)
        from asof.flows.offline.read import read_history
        from asof.selection import select

        frame = pa.table({"item": [1], "event_timestamp": pa.array([at]).cast(pa.timestamp("us", "UTC"))})
        found = read_history(stores, snapshot, select(snapshot, ["newest", "ends:n"]), frame, known_at=cut).table()
        return [found["price"][0].as_py(), found["n"][0].as_py()]

    def all_known() -> list[list[Any]]:
        return [
            known(YESTERDAY - 1, True), known(YESTERDAY, True), known(YESTERDAY + MINUTE, True),
            known(NOW, YESTERDAY + MINUTE - 1),
        ]  # fmt: skip

    before = all_known()
    assert before == [[None, 0], [10, 1], [20, 2], [10, 1]]
    stores.clock.move(HOUR)  # type: ignore[attr-defined]
    for view in stores.registry.load("shop").project.views.values():
        rebuild(stores, view)
    assert all_known() == before


@pytest.mark.parametrize("seed", range(6))
def test_on_random_histories_serving_and_training_are_what_the_design_says(
    stores: Stores, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    past = [row(price, item=rng.randrange(2), at=NOW - rng.randrange(1, 4) * MINUTE) for price in range(8)]
    columns: dict[str, Any] = {name: [each[name] for each in past] for name in ("item", "price")}
    columns["at"] = pa.array([each["at"] for each in past], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table(columns), tmp_path / "old.parquet")
    source = pushes(batch_source=FileSource("old.parquet", name="old", timestamp_field="at"))
    applied(stores, source)
    events = [{**each, "arrival": (-1, 0, number, 0)} for number, each in enumerate(past)]
    clock, topic, price = MicrosClock(YESTERDAY), 0, 100
    processes = [Process(stores, tmp_path, clock=clock) for _ in range(2)]
    for step in range(14):
        process, what = rng.choice(processes), rng.random()
        if what < 0.7:
            rows = []
            for _ in range(rng.randrange(1, 4)):
                price += 1
                rows.append(row(price, item=rng.randrange(2), at=NOW - rng.randrange(1, 4) * MINUTE))
            process.push(*rows, after=rng.choice([0, 0, SECOND]))
            partition = process.pusher.partition
            first = process.log.bounds("push.prices")[partition][1] - len(rows)
            (stamp, *_) = stamps_of(process.log.read("push.prices", partition, first).headers).tolist()  # type: ignore[union-attr]
            events += [
                {**each, "arrival": (topic, stamp, partition, first + number)} for number, each in enumerate(rows)
            ]
        elif what < 0.8:
            backfill(stores, "prices")
        elif what < 0.9:
            # A process dies, and one whose clock lags takes its partition over.
            process.die()
            processes.remove(process)
            processes.append(Process(stores, tmp_path, clock=MicrosClock(YESTERDAY - HOUR) if step % 2 else clock))
        elif what < 0.95:
            rebuild(stores, stores.registry.load("shop").project.views[rng.choice(["newest", "ends"])])
        else:
            for each in processes:
                each.close()
            run_stream(stores, ["prices"], until_caught_up=True)
            stores.log.delete("push.prices")
            stores.log.create("push.prices", 1)
            run_stream(stores, ["prices"], until_caught_up=True, accept_gap=True)
            topic += 1
            processes = [Process(stores, tmp_path, clock=clock) for _ in range(2)]
    for each in processes:
        each.close()
    backfill(stores, "prices")

    views = stores.registry.load("shop").project.views
    oracle = [{**each, "event_time": _micros(each["at"])} for each in events]
    for item in (0, 1):
        expected = {}
        for view in ("newest", "ends"):
            expected |= features_as_of(oracle, views[view], [item], NOW)
        assert agreed(stores, item) == expected, (seed, item)


def _micros(at: datetime) -> Micros:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


# -- stores of an earlier version --------------------------------------------------------------------------------------

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[FeatureStore]:
    with tarfile.open(STORES) as archive:
        archive.extractall(tmp_path, filter="data")
    with FeatureStore(tmp_path / "prices", clock=lambda: NOON) as store:
        yield store


def online(store: FeatureStore, *items: str) -> dict[str, dict[str, Any]]:
    found = store.get_online_features("model", {"item": list(items)}).to_dict()
    return {item: {name: found[name][i] for name in found if name != "item"} for i, item in enumerate(items)}


def offline(store: FeatureStore, *items: str) -> dict[str, dict[str, Any]]:
    times = pa.array([NOON] * len(items), pa.timestamp("us", "UTC"))
    frame = pa.table({"item": list(items), "event_timestamp": times})
    found = store.get_historical_features(frame, "model").to_arrow().drop_columns(["item", "event_timestamp"])
    return dict(zip(items, found.to_pylist(), strict=True))


def pushed(item: str, price: float, minutes: float) -> dict[str, Any]:
    return {"item": item, "price": price, "at": NOON + timedelta(minutes=minutes)}


def test_rows_of_an_earlier_version_are_read_and_fed_until_an_apply_builds_them_anew(earlier: FeatureStore) -> None:
    before = online(earlier, "a", "b", "z")
    assert [before[item]["last"] for item in "abz"] == [1.0, 10.0, 3.0]
    names = {
        view.name: current_generation(open_store_of(earlier).snapshot(), view)
        for view in open_store_of(earlier).snapshot().project.views.values()
    }

    earlier.push("prices", [pushed("c", 8.0, -10), pushed("d", 1.0, -10)])
    found = online(earlier, "c", "d")
    assert found["c"] == {"price": 8.0, "first": 7.0, "last": 8.0, "last_3": [7.0, 8.0], "n": 2}
    assert found["d"] == {"price": 1.0, "first": 1.0, "last": 1.0, "last_3": [1.0], "n": 1}
    # An earlier version reads what was written to these rows.
    view = open_store_of(earlier).snapshot().project.views["ends"]
    rows = open_store_of(earlier).stores.online.scan(table_of("prices", view, str(names["ends"])))
    assert {each[1][0] for each in rows} == {1}
    assert not layout_of(view, names["ends"]).keeps_arrival and len(
        decode(layout_of(view, names["ends"]), [rows[0][1]])
    )

    plan = earlier.plan()
    assert {each.view for each in plan.changes if isinstance(each, NewGeneration)} == {"price", "ends"}
    assert [each.hint for each in earlier.doctor() if "earlier Asof" in each.text] == ["run `asof apply`"] * 2
    earlier.apply(plan)
    assert earlier.plan().is_empty
    # History came before the log all along, so its correction counts now.
    after = online(earlier, "a", "b", "c", "d", "z")
    assert after == offline(earlier, "a", "b", "c", "d", "z")
    assert after["a"] == {"price": 2.0, "first": 1.0, "last": 2.0, "last_3": [1.0, 2.0], "n": 2}
    assert after["b"]["last"] == 10.0, "what has no stamp keeps its offset and partition"
    earlier.push("prices", [pushed("b", 30.0, -30)])
    assert online(earlier, "b") == offline(earlier, "b")
    assert online(earlier, "b")["b"]["last"] == 30.0
    assert earlier.audit().ok


def test_a_training_set_of_an_earlier_version_is_rebuilt_as_it_was(earlier: FeatureStore) -> None:
    assert earlier.rebuild_training_set("at_noon")["identical"]
    earlier.apply()
    earlier.push("prices", [pushed("a", 30.0, -60)])
    earlier.stream_run(until_caught_up=True)

    again = earlier.rebuild_training_set("at_noon")

    assert again["identical"] and again["equal"], again


def test_rows_that_an_earlier_version_still_writes_to_new_tables_are_read_and_mended(
    earlier: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of an earlier version that goes on after an apply writes its own format wherever it finds no row."""
    earlier.apply()
    stores, snapshot = open_store_of(earlier).stores, open_store_of(earlier).snapshot()
    with monkeypatch.context() as patch:
        for module in ("writer", "layout"):
            patch.setattr(f"asof.flows.generations.{module}.keeps_arrival", lambda *_: False)
        for name in ("price", "ends"):
            view = snapshot.project.views[name]
            rows = pa.table({"item": ["e", "e"], "price": [1.0, 2.0], "at": pa.array([NOON - timedelta(hours=1)] * 2)})
            writer = GenerationWriter(stores, view, str(current_generation(snapshot, view)))
            writer.apply(_batch(view, rows), clock=stores.clock())
    assert online(earlier, "e")["e"] == {"price": 2.0, "first": 1.0, "last": 2.0, "last_3": [1.0, 2.0], "n": 2}
    assert len(online(earlier, *"ez" * 40)) == 2

    earlier.push("prices", [pushed("e", 3.0, -60)])

    assert online(earlier, "e")["e"] == {"price": 3.0, "first": 1.0, "last": 3.0, "last_3": [1.0, 2.0, 3.0], "n": 3}
    table = table_of("prices", view, str(current_generation(snapshot, view)))
    assert {each[1][0] for each in stores.online.scan(table)} == {2}


def _batch(view: FeatureView, rows: pa.Table) -> Any:
    import numpy as np

    from asof.flows.rows.batch import batch_of

    times = rows["at"].combine_chunks().cast(pa.int64()).to_numpy()
    offsets = np.arange(100, 100 + rows.num_rows)
    return batch_of(view.source, rows, event_time=times, partition=np.full(rows.num_rows, 5, np.int32), offset=offsets)
