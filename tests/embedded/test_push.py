"""The short way of a push, which does not read the log again, writes the rows and the history that the long way does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, PushSource, Sliding, project_of
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.push.pusher import Pusher
from asof.flows.rows.pushed import pushed_rows
from asof.flows.stores import Stores, current_generation, table_of
from asof.flows.stream.ingest import Ingest
from asof.log.file.log import FileLog
from asof.log.protocol import Log, Messages, OwnershipLost
from asof.testing.clock import MicrosClock
from asof.timing import HOUR, MINUTE, SECOND, moment
from asof.types import Bool, Date, Decimal, Float32, Float64, Int64, String, Timestamp
from asof.values.packing import unpack_row, versions_of
from tests.embedded_stores import close, copied_stores, embedded_stores, read_online

USER = Entity("user", join_keys=["user_id"])
PLACE = Entity("place", join_keys=["user_id", "city"])
SCHEMA = [
    Field("uid", Int64), Field("town", String), Field("score", Float64), Field("small", Float32), Field("n", Int64),
    Field("ok", Bool), Field("day", Date), Field("price", Decimal(9, 2)), Field("at", Timestamp),
    Field("written", Timestamp),
]  # fmt: skip
FEATURES = [Field("score", Float64), Field("n", Int64), Field("price", Decimal(9, 2)), Field("day", Date)]
VIEWS = {
    "newest": [Field("user_id", Int64), *FEATURES, Field("small", Float32), Field("at", Timestamp)],
    "places": [Field("user_id", Int64), Field("city", String), Field("ok", Bool)],
    "delayed": [Field("user_id", Int64), Field("score", Float64)],
    "overall": [Field("n", Int64)],
}
SHORT, LONG = "short", "long"


def definitions(source_name: str, **options: Any) -> list[Any]:
    source = PushSource(
        source_name, SCHEMA, "at", created_timestamp_column="written", field_mapping={"uid": "user_id", "town": "city"},
        max_future=timedelta(hours=1), **options,
    )  # fmt: skip
    entities = {"places": [PLACE], "overall": []}
    more: dict[str, Any] = {"newest": {"ttl": timedelta(days=3)}, "delayed": {"delay": timedelta(minutes=20)}}
    views = [
        FeatureView(
            f"{source_name}_{name}", entities=entities.get(name, [USER]), source=source, schema=schema,
            **more.get(name, {}),
        )
        for name, schema in VIEWS.items()
    ]  # fmt: skip
    windows = FeatureView(
        f"{source_name}_windows", entities=[USER], source=source,
        aggregations=[
            Aggregation("", "count", window=Sliding("1h"), name="events"), Aggregation("score", "sum", name="sum"),
            Aggregation("n", "last", where="ok", name="last"),
        ],
    )  # fmt: skip
    return [source, *views, windows]


def apply_twins(stores: Stores) -> None:
    """The same definitions twice: one source for each way."""
    made = [each for name in (SHORT, LONG) for each in definitions(name)]
    apply_plan(stores, make_plan(stores, project_of([USER, PLACE, *made])))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("built")
    stores = embedded_stores(path, clock=MicrosClock())
    apply_twins(stores)
    close(stores)
    return path


@pytest.fixture
def stores(built: Path, tmp_path: Path) -> Iterator[Stores]:
    stores = copied_stores(built, tmp_path)
    yield stores
    close(stores)


def random_rows(rng: random.Random, now: int, count: int) -> list[dict[str, Any]]:
    """Rows of few keys: late, at one moment, in the future; with nulls, and with values of other types that fit."""
    rows = []
    for _ in range(count):
        at = now + rng.choice([-2 * HOUR, -MINUTE, -MINUTE, 0, 0, 30 * MINUTE, -rng.randrange(HOUR)])
        rows.append({
            "uid": rng.randrange(4), "town": rng.choice(["Ghent", "Röm"]),
            "score": rng.choice([None, rng.random(), rng.random(), 3, float("nan"), float("inf")]),
            "small": rng.choice([0.1, None, rng.random()]), "n": rng.choice([None, rng.randrange(-5, 2**40), 7.0]),
            "ok": rng.choice([True, False, None]), "day": rng.choice([moment(at).date(), None]),
            "price": rng.choice(["1.50", None]), "at": rng.choice([moment(at), moment(at).isoformat()]),
            "written": rng.choice([moment(at + rng.randrange(3) * SECOND), None]),
        })  # fmt: skip
    return rows


def plain_rows(rng: random.Random, now: int, count: int) -> list[dict[str, Any]]:
    """Rows that are plainly as declared, in ascending times."""
    return [
        {
            "uid": rng.randrange(200), "town": "Ghent", "score": rng.random(), "small": rng.random(), "n": i, "ok": True,
            "day": moment(now).date(), "price": "2.00", "at": moment(now - HOUR + i * SECOND), "written": moment(now),
        }
        for i in range(count)
    ]  # fmt: skip


def online_rows(stores: Stores, source: str) -> dict[str, list[tuple[bytes, Any]]]:
    """View, without its source's name → its rows as they are stored."""
    snapshot = stores.registry.load(stores.project)
    found = {}
    for view in snapshot.project.views_of(source):
        rows = stores.online.scan(table_of(stores.project, view, str(current_generation(snapshot, view))))
        found[view.name.removeprefix(source)] = [(row[0], row[1]) for row in rows]
    return found


def history(stores: Stores, source: str) -> dict[str, list[Any]]:
    rows = stores.offline.rows(stores.archive_of(stores.registry.load(stores.project).project.sources[source]))
    assert rows is not None
    query = 'SELECT * EXCLUDE ingested_at FROM t ORDER BY "partition", "offset"'
    return stores.offline.sql(query, {"t": rows}).reader().read_all().to_pydict()


class UnreadLog:
    """A log whose messages nobody may read any more once that is said: who pushes by the short way need not."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.may_be_read = True

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.log, verb)

    def read(self, *arguments: Any, **options: Any) -> Messages:
        assert self.may_be_read, "the short way was not gone"
        return self.log.read(*arguments, **options)


def push_both(
    stores: Stores, rng: random.Random, clock: MicrosClock, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The same pushes to both sources, one of which must never read its log and one of which always does."""
    log = UnreadLog(stores.log)
    short, long = Pusher(stores.replaced(log=log), SHORT), Pusher(stores, LONG)
    # Each has changed the registry by beginning; the first push reads it again.
    for pusher in (short, long):
        pusher.push(plain_rows(random.Random(0), clock(), 1))
    monkeypatch.setattr(long.ingest, "look_ahead", lambda *_: None)
    log.may_be_read = False
    for step in range(steps):
        clock.move(rng.choice([0, SECOND, MINUTE, 40 * MINUTE]))
        made = rng.choice([random_rows, random_rows, plain_rows])
        rows = made(rng, clock(), rng.choice([1, 1, 2, 5, 40, 150]))
        assert short.push(rows) == long.push(rows) == len(rows)
        if rng.random() < 0.2:
            short.flush()
            long.flush()
        assert online_rows(stores, SHORT) == online_rows(stores, LONG), f"after push {step}"
    short.close()
    long.close()


@pytest.mark.parametrize("seed", range(4))
def test_the_short_way_writes_what_the_long_way_does(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    push_both(stores, random.Random(seed), stores.clock, monkeypatch, 20)  # type: ignore[arg-type]

    assert sum(map(len, online_rows(stores, SHORT).values())) > 10
    # As text, in which NaN is NaN.
    assert repr(history(stores, SHORT)) == repr(history(stores, LONG))


@pytest.mark.parametrize("late", [timedelta(days=30), timedelta(days=11), timedelta(days=365 * 60)])
@pytest.mark.parametrize("way", [SHORT, LONG])
def test_a_late_push_leaves_a_row_as_long_as_the_later_one_that_it_keeps(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, way: str, late: timedelta
) -> None:
    clock: MicrosClock = stores.clock  # type: ignore[assignment]
    log = UnreadLog(stores.log)
    pusher = Pusher(stores.replaced(log=log), way)
    (row,) = plain_rows(random.Random(1), clock(), 1)
    pusher.push([{**row, "uid": row["uid"] + 1}])
    if way == LONG:
        monkeypatch.setattr(pusher.ingest, "look_ahead", lambda *_: None)
    else:
        log.may_be_read = False
    soon = clock() + 30 * MINUTE
    for at in (moment(soon), moment(clock()) - late):
        pusher.push([{**row, "at": at, "n": at.year}])
    pusher.close()
    stores.online.delete_expired(stores.project, clock())
    clock.move(30 * MINUTE)

    assert read_online(stores, f"{way}_newest", {"user_id": [row["uid"]]})["n"] == [moment(soon).year]


def unread(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> list[Messages]:
    """What is taken out of the log by the long way from here on."""
    taken: list[Messages] = []
    take: Callable[..., None] = Ingest.take

    def watched(self: Ingest, topic: str, messages: Messages) -> None:
        taken.append(messages)
        take(self, topic, messages)

    monkeypatch.setattr(Ingest, "take", watched)
    return taken


def test_rows_that_came_in_between_are_applied_first(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    pusher = Pusher(stores, SHORT)
    (row,) = plain_rows(random.Random(1), stores.clock(), 1)
    pusher.push([row])
    taken = unread(stores, monkeypatch)
    # As a push leaves it that failed between the log and the online store.
    stores.log.send(pusher.topic, messages_of(pusher, [{**row, "n": 5}]), partition=pusher.partition, durable=True)
    pusher.push([{**row, "uid": row["uid"] + 1}])
    assert [len(each) for each in taken] == [2]
    pusher.push([row])
    assert len(taken) == 1
    pusher.close()

    assert history(stores, SHORT)["offset"] == [0, 1, 2, 3]


class Fenced:
    """A log that finds at a send that the own partition has become another's."""

    def __init__(self, log: Any, other: Any) -> None:
        self.log, self.other, self.is_fenced = log, other, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    def own_partition(self, topic: str) -> int:
        return (self.other if self.is_fenced else self.log).own_partition(topic)  # type: ignore[no-any-return]

    def send(self, topic: str, values: Any, *, partition: int, **options: Any) -> Any:
        if partition == 0 and self.is_fenced:
            raise OwnershipLost(topic, partition)
        return self.log.send(topic, values, partition=partition, **options)


def test_a_push_that_goes_to_another_partition_has_its_place_there(stores: Stores, tmp_path: Path) -> None:
    log = Fenced(stores.log, FileLog(tmp_path / "log", clock=stores.clock))
    pusher = Pusher(stores.replaced(log=log), SHORT)  # type: ignore[arg-type]
    rows = plain_rows(random.Random(1), stores.clock(), 3)
    pusher.push(rows[:1])
    log.is_fenced = True
    for row in rows[1:]:
        pusher.push([row])
    pusher.close()
    log.other.close()

    found = history(stores, SHORT)
    assert list(zip(found["partition"], found["offset"], strict=True)) == [(0, 0), (1, 0), (1, 1)]
    width = len(stores.registry.load(stores.project).project.views[f"{SHORT}_newest"].features)
    positions = [each.place for _, row in online_rows(stores, SHORT)["_newest"] for each in versions_of(row, width)]
    assert sorted(positions) == [(0, 0), (1, 0), (1, 1)]


def messages_of(pusher: Pusher, rows: list[dict[str, Any]]) -> list[bytes]:
    return pushed_rows(pusher.ingest.source, rows, required=["at"], clock=pusher.stores.clock()).messages()


def test_a_definition_that_changed_is_taken_up_before_the_next_row(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    pusher = Pusher(stores, SHORT)
    rows = plain_rows(random.Random(1), stores.clock(), 3)
    pusher.push(rows[:1])
    made = [each for name in (SHORT, LONG) for each in definitions(name, delete_when="n = 1")]
    apply_plan(stores, make_plan(stores, project_of([USER, PLACE, *made])))
    taken = unread(stores, monkeypatch)
    pusher.push(rows[1:2])
    pusher.push(rows[2:])
    pusher.close()

    assert [len(each) for each in taken] == [1]
    packed = [unpack_row(value)[1] for _, value in online_rows(stores, SHORT)["_newest"]]
    # The second row says that its key is no more, and the third one was given to views by the new definition, too.
    assert packed.count(None) == 1 and len(packed) == 3


def test_events_that_have_ids_are_looked_for_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = embedded_stores(tmp_path, clock=MicrosClock())
    apply_plan(stores, make_plan(stores, project_of([USER, PLACE, *definitions(SHORT, event_id="n")])))
    pusher = Pusher(stores, SHORT)
    rows = plain_rows(random.Random(1), stores.clock(), 2)
    for row in (*rows, rows[0]):
        pusher.push([row])
    pusher.close()

    assert pusher.ingest.counts["duplicates dropped"] == 1
    close(stores)
