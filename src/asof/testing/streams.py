"""What every combination of log, stores and worker must do: histories of events, crashes and rebuilds, and their end.

`StreamRun` drives workers step by step, lets them die at chosen moments, and compares what is served in the end with
history. `TrapsSuite` holds the traps that other stores fell into; a subclass gives it parts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asof.definitions import Aggregation, Entity, FeatureView, Field, LogSource, Session, Sliding, Snapshot, project_of
from asof.definitions.base import Definition
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.generations.progress import progress_of
from asof.flows.generations.switch import announce, drop_generations, flip
from asof.flows.offline.key_rows import view_as_of
from asof.flows.online.read import OnlineReader, OnlineResponse
from asof.flows.stores import Stores, view_named
from asof.flows.stream.rebuild import fill
from asof.flows.stream.run import run_stream
from asof.flows.stream.worker import StreamWorker
from asof.selection import select
from asof.testing.clock import NOW, MicrosClock
from asof.timing import HOUR, MINUTE, SECOND, Micros
from asof.types import Float64, Int64, String

TOPIC = "visits"
VISITS = LogSource(
    "visits",
    schema=[Field("user_id", Int64), Field("page", String), Field("amount", Float64), Field("at", Int64)],
    timestamp_field="at", timestamp_unit="us", allowed_lateness="10m", max_future="5m",
)  # fmt: skip
MORTAL = LogSource(
    "visits", schema=VISITS.schema, timestamp_field="at", timestamp_unit="us", allowed_lateness="10m", max_future="5m",
    key_fields="user_id", delete_when="page = 'c'",
)  # fmt: skip
"""The same, and users end: by messages without a value, and by visits of a page."""

USER = Entity("user", ["user_id"])
SESSION, HOUR_WINDOW, DAY_WINDOW = Session("30m"), Sliding("1h"), Sliding("1d")
_AGGREGATIONS = (
    Aggregation("", "count", window=SESSION, name="session"),
    Aggregation("", "count", window=HOUR_WINDOW, name="hour"),
    Aggregation("amount", "max", window=DAY_WINDOW, name="most"),
    Aggregation("page", "last", window=SESSION, name="page"),
    Aggregation("", "count", name="ever", where="page <> 'a'"),
    Aggregation("page", "last_n", n=3, name="pages"),
)
_VALUES = [Field("page", String), Field("amount", Float64)]
ACTIVITY = FeatureView("activity", entities=[USER], source=VISITS, aggregations=_AGGREGATIONS)
NEWEST = FeatureView("newest", entities=[USER], source=VISITS, schema=_VALUES, ttl="6h")
DEFINITIONS: tuple[Definition, ...] = (VISITS, USER, ACTIVITY, NEWEST)
MORTALS: tuple[Definition, ...] = (
    MORTAL, USER, FeatureView("activity", entities=[USER], source=MORTAL, aggregations=_AGGREGATIONS),
    FeatureView("newest", entities=[USER], source=MORTAL, schema=_VALUES, ttl="6h"),
)  # fmt: skip


def definitions_on(source: LogSource) -> tuple[Definition, ...]:
    """The same views over another source with the columns of `VISITS`."""
    activity = FeatureView("activity", entities=[USER], source=source, aggregations=ACTIVITY.aggregations)
    newest = FeatureView("newest", entities=[USER], source=source, schema=NEWEST.schema, ttl="6h")
    return source, USER, activity, newest


class Crash(BaseException):
    """The death of a process at a chosen moment; not an `Exception`, since nothing may handle it."""


CRASH_POINTS = (
    "after write", *(f"{when} append {kind}" for kind in ("letters", "events") for when in ("before", "after")),
    "before write_progress", "after write_progress",
)  # fmt: skip


@dataclass
class CrashPlan:
    """Where the next death happens: at the n-th time that a point is passed; nowhere where `point` is empty."""

    point: str = ""
    left: int = 0

    def passed(self, point: str) -> None:
        if point != self.point:
            return
        self.left -= 1
        if self.left <= 0:
            self.point = ""
            raise Crash(point)


class _Mortal:
    """A store that passes everything on, and tells the plan of each write."""

    def __init__(self, store: Any, plan: CrashPlan) -> None:
        self._store, self._plan = store, plan

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("write", "append", "write_progress"):
            return found

        def call(*given: Any, **named: Any) -> Any:
            point = f"{name} {given[0].kind}" if name == "append" else name
            self._plan.passed(f"before {point}")
            answer = found(*given, **named)
            self._plan.passed(f"after {point}")
            return answer

        return call


@dataclass
class StreamRun:
    """Definitions applied to parts, a topic, and workers that are driven step by step.

    Args:
        stores: fresh ones, whose clock is `clock`; their log has the topic.
        sent: (partition, offset) → the message's fields.
    """

    stores: Stores
    clock: MicrosClock
    partitions: int = 2
    definitions: Sequence[Definition] = DEFINITIONS
    topic: str = TOPIC
    plan: CrashPlan = field(default_factory=CrashPlan)
    workers: dict[int, StreamWorker] = field(default_factory=dict)
    sent: dict[tuple[int, int], Mapping[str, object] | None] = field(default_factory=dict)
    building: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stores.log.create(self.topic, self.partitions)
        self.apply(*self.definitions)
        self.mortal = self.stores.replaced(
            online=_Mortal(self.stores.online, self.plan), offline=_Mortal(self.stores.offline, self.plan)
        )

    def apply(self, *definitions: Definition) -> Snapshot:
        return apply_plan(self.stores, make_plan(self.stores, project_of(definitions)))

    def send(self, *events: Mapping[str, object] | bytes, partition: int = 0) -> None:
        """Send events (or bytes that are none) to one partition, in this order."""
        values = [
            each if isinstance(each, bytes) else None if each.get("tombstone") else json.dumps(each).encode()
            for each in events
        ]
        keys = [None if isinstance(each, bytes) else str(each["user_id"]).encode() for each in events]
        # Only a tombstone's time is the time of its record.
        times: list[Any] = [self.clock.now if isinstance(each, bytes) else each["at"] for each in events]
        positions = self.stores.log.send(
            self.topic, values, keys=keys, partition=partition, timestamps_us=times, durable=False
        )  # fmt: skip
        for place, event in zip(positions, events, strict=True):
            self.sent[place] = None if isinstance(event, bytes) else event

    def send_again(self, count: int, partition: int = 0) -> None:
        """Send the last events of a partition once more, as a producer does that did not hear that they arrived."""
        again = [event for (number, _), event in self.sent.items() if number == partition and event is not None]
        if again:
            self.send(*again[-count:], partition=partition)

    def step(self, number: int = 0) -> bool:
        """Let a worker poll and apply once; it is begun where there is none. False where it died."""
        return self._alive(number, lambda worker: worker.step())

    def flush(self, number: int = 0) -> bool:
        """Let a worker archive what it has taken; False where it died."""
        return self._alive(number, lambda worker: worker.flush())

    def crash_at(self, point: str, times: int = 1) -> None:
        """Whoever passes this point the n-th time from now on dies there."""
        self.plan.point, self.plan.left = point, times

    def kill(self, number: int = 0) -> None:
        """A worker dies between two steps, with all that it had not archived."""
        worker = self.workers.pop(number, None)
        if worker is not None:
            # A killed process writes nothing more; what this one writes while it is closed is no place to die at.
            planned, self.plan.point = self.plan.point, ""
            worker.close(abandon=True)
            self.plan.point = planned

    def leave(self, number: int = 0) -> bool:
        """A worker leaves in order; False where it died over it."""
        left = self._alive(number, lambda worker: worker.flush()) and self._alive(number, lambda worker: worker.close())
        if left:
            self.workers.pop(number)
        return left

    def _alive(self, number: int, act: Callable[[StreamWorker], object]) -> bool:
        try:
            worker = self.workers.get(number)
            if worker is None:
                worker = self.workers[number] = StreamWorker(self.mortal, None, accept_gap=False, flush_every_s=3600)
                worker.look_at_registry()
            act(worker)
        except Crash:
            self.kill(number)
            return False
        return True

    def announce(self, view: str) -> None:
        """A rebuild begins."""
        self.building[view] = announce(self.stores, self._view(view))

    def fill(self, view: str) -> None:
        """A rebuild folds the archive, if one was begun."""
        if view in self.building:
            fill(self.stores, self._view(view), self.building[view])

    def is_filled(self, view: str) -> bool:
        """Whether a rebuild has written its base."""
        tables = self.stores.online.tables(self.stores.project)
        mine = [each for each in tables if (each.view, each.generation) == (view, self.building.get(view))]
        return any(progress_of(self.stores.online, each).is_built for each in mine)

    def flip(self, view: str) -> None:
        """A rebuild that was filled ends: readers switch."""
        before = self.stores.registry.load(self.stores.project)
        drop_generations(self.stores, before, flip(self.stores, self._view(view), self.building.pop(view)))

    def _view(self, name: str) -> FeatureView:
        return view_named(self.stores.registry.load(self.stores.project), name)

    def finish(self) -> None:
        """All workers die, and a last one works until nothing is left."""
        self.plan.point = ""
        for number in list(self.workers):
            self.kill(number)
        run_stream(self.stores, until_caught_up=True)

    # What must be true in the end

    def archived(self) -> list[dict[str, object]]:
        """Every archived event, with `event_time` and `arrival` for an oracle."""
        more = ", tombstone" if MORTAL in self.definitions else ""
        rows = self._table("events", f'"partition", "offset", user_id, page, amount, "at"{more}')
        return [
            {**row, "event_time": row["at"], "created": row["at"], "arrival": (row["offset"], row["partition"])}
            for row in rows
        ]

    def dead_letters(self) -> list[dict[str, object]]:
        """Every dead letter's place and reason."""
        return self._table("letters", '"partition", "offset", reason')

    def _table(self, kind: str, columns: str) -> list[dict[str, object]]:
        source = self.stores.registry.load(self.stores.project).project.sources[VISITS.name]
        archive = self.stores.archive_of(source) if kind == "events" else self.stores.dead_letters_of(source)
        rows = self.stores.offline.rows(archive)
        if rows is None:
            return []
        return self.stores.offline.sql(f"SELECT {columns} FROM t", {"t": rows}).reader().read_all().to_pylist()

    def assert_nothing_lost_or_doubled(self) -> None:
        """Every message is exactly one archived event or one dead letter."""
        positions = [(row["partition"], row["offset"]) for row in self.archived() + self.dead_letters()]
        assert sorted(positions) == sorted(self.sent)

    def assert_online_is_history(
        self, expected: Callable[[FeatureView, int, Micros], Mapping[str, object]] | None = None,
        *, users: Sequence[int] = (1, 2, 3), later: Sequence[Micros] = (0, MINUTE, 31 * MINUTE, 3 * HOUR),
    ) -> None:  # fmt: skip
        """Every feature served at the clock's now and later equals history, and the oracle where one is given."""
        snapshot = self.stores.registry.load(self.stores.project)
        for view in snapshot.project.views.values():
            for t in (self.clock.now + each for each in later):
                served = self.served(view.name, users, at=t)
                (read,) = select(snapshot, view.name).reads
                answer = view_as_of(self.stores, snapshot, read, {"user_id": list(users)}, t)
                history = {feature.name: answer[feature.output] for feature in read.features}
                for place, user in enumerate(users):
                    for name in view.feature_names:
                        found = (view.name, user, name, t - self.clock.now, served[name][place])
                        assert served[name][place] == history[name][place], (found, history[name][place])
                        if expected is not None:
                            wanted = expected(view, user, t)[name]
                            assert served[name][place] == wanted, (found, wanted)

    def served(
        self, view: str, users: Sequence[int] = (1, 2, 3), *, at: Micros | None = None
    ) -> dict[str, list[object]]:
        """A view's features from the online rows alone."""
        return self._answer(view, users, at).to_dict()

    def statuses(
        self, view: str, users: Sequence[int] = (1, 2, 3), *, at: Micros | None = None
    ) -> dict[str, list[str]]:
        """The statuses of the same."""
        return self._answer(view, users, at).statuses

    def _answer(self, view: str, users: Sequence[int], at: Micros | None) -> OnlineResponse:

        def no_history(*_: Any, **__: Any) -> Any:
            raise AssertionError(f"the row of {view} cannot be read as of its own time")

        snapshot = self.stores.registry.load(self.stores.project)
        reader = OnlineReader(self.stores, snapshot, select(snapshot, view), history=no_history)
        answer, _ = reader.read({"user_id": list(users)}, at=self.clock.now if at is None else at)
        return answer


def visit(user: int, after: Micros = 0, *, page: str = "b", amount: float | None = 1.0) -> dict[str, object]:
    """An event so long after (or before) `NOW`."""
    return {"user_id": user, "page": page, "amount": amount, "at": NOW + after}


def end(user: int, after: Micros = 0) -> dict[str, object]:
    """A message that says that a user is no more, so long after (or before) `NOW`."""
    return {"user_id": user, "page": None, "amount": None, "at": NOW + after, "tombstone": True}


def random_visit(rng: random.Random, now: Micros, *, mortal: bool = False) -> dict[str, object] | bytes:
    """An event near the clock: late, tied, pending or too early now and then; or no event at all."""
    if rng.random() < 0.04:
        return rng.choice([b"\xffgarbage", b'{"user_id": null, "at": 1}', b'{"user_id": "x"}'])
    ages = [0, 0, SECOND, 10 * SECOND, *(each * MINUTE for each in (5, 29, 30, 31)), 2 * HOUR, 26 * HOUR]
    age = rng.choice(ages)
    ahead = rng.choice([0] * 9 + [4 * MINUTE, 5 * MINUTE, 8 * MINUTE])
    if mortal and rng.random() < 0.15:
        return {**end(rng.choice([1, 1, 2])), "at": now - age + ahead + rng.choice([0, 0, 1])}
    return {
        "user_id": rng.choice([1, 1, 1, 2, 3]), "page": rng.choice("abc"),
        "amount": rng.choice([None, 0.5, 1.0, 2.0, 8.0]), "at": now - age + ahead + rng.choice([0, 0, 1]),
    }  # fmt: skip


def live_through(run: StreamRun, rng: random.Random, steps: int) -> None:
    """A random life: events come in and out of order, workers come, die and leave, views are rebuilt, time passes."""
    for _ in range(steps):
        act = rng.choice(
            ["send"] * 5 + ["step"] * 6 + ["flush"] * 3 + ["crash"] * 3 + ["kill", "leave", "again", "clock", "clock"]
            + ["announce", "fill", "fill", "flip"]
        )  # fmt: skip
        worker, view = rng.randrange(2), rng.choice(["activity", "newest"])
        if act == "send":
            mortal = MORTAL in run.definitions
            events = [random_visit(rng, run.clock.now, mortal=mortal) for _ in range(rng.randint(1, 6))]
            run.send(*events, partition=rng.randrange(run.partitions))
        elif act == "again":
            run.send_again(rng.randint(1, 3), partition=rng.randrange(run.partitions))
        elif act == "step":
            run.step(worker)
        elif act == "flush":
            run.flush(worker)
        elif act == "crash":
            run.crash_at(rng.choice(CRASH_POINTS), rng.randint(1, 3))
        elif act == "kill":
            run.kill(worker)
        elif act == "leave":
            run.leave(worker)
        elif act == "clock":
            run.clock.now += rng.choice([SECOND, MINUTE, 4 * MINUTE, 20 * MINUTE])
        elif act == "announce":
            run.announce(view)
        elif act == "fill" and not run.is_filled(view):
            run.fill(view)
        elif act == "flip" and run.is_filled(view):
            run.flip(view)
