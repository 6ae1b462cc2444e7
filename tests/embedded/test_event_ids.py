"""Duplicates of a retrying producer count once, by their event id: in any batch, partition, worker and crash."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asof.definitions import Aggregation, Entity, FeatureView, Field, LogSource, PushSource, Session, Sliding
from asof.errors import DefinitionError
from asof.flows.stream.event_ids import EVENTS
from asof.store import FeatureStore
from asof.testing.clock import NOW, MicrosClock
from asof.testing.streams import VISITS, StreamRun, live_through, visit
from asof.timing import DAY, MINUTE, SECOND, iso
from asof.types import Float64, Int64, String
from tests.embedded_stores import close, embedded_stores

USER = Entity("user", ["user_id"])


def source(**options):
    options.setdefault("event_id", "id")
    return LogSource(
        "visits", schema=[*VISITS.schema, Field("id", String)], timestamp_field="at", timestamp_unit="us",
        allowed_lateness="10m", max_future="5m", **options,
    )  # fmt: skip


def views(of):
    made = [
        Aggregation("", "count", name="ever"), Aggregation("amount", "sum", window=Sliding("1h"), name="hour"),
        Aggregation("page", "last_n", n=3, name="pages"), Aggregation("", "count", window=Session("30m"), name="session"),
    ]  # fmt: skip
    return (
        of, USER, FeatureView("activity", entities=[USER], source=of, aggregations=made),
        FeatureView("newest", entities=[USER], source=of, schema=[Field("page", String), Field("amount", Float64)]),
    )  # fmt: skip


class Run(StreamRun):
    """Each event gets an id; what is sent again has the id that it had, and comes to any partition."""

    def send(self, *events, partition=0):
        given_ids = [
            each if isinstance(each, bytes) or "id" in each else {**each, "id": f"e{len(self.sent) + place}"}
            for place, each in enumerate(events)
        ]  # fmt: skip
        super().send(*given_ids, partition=partition)

    def send_again(self, count, partition=0):
        again = [event for event in self.sent.values() if event is not None][-count:]
        if again:
            self.send(*again, partition=(partition + 1) % self.partitions)

    def ids(self):
        rows = self._table("events", "id")
        return sorted(row["id"] for row in rows)

    def expected_ids(self):
        dead = {(row["partition"], row["offset"]) for row in self.dead_letters()}
        return sorted({event["id"] for place, event in self.sent.items() if event is not None and place not in dead})


@pytest.fixture
def run(tmp_path: Path):
    stores = embedded_stores(tmp_path, clock=MicrosClock())
    yield Run(stores, stores.clock, partitions=2, definitions=views(source()))
    close(stores)


def seen(run: Run) -> list[int]:
    return run.served("activity")["ever"]


def test_a_duplicate_counts_once_wherever_it_comes(run: Run):
    run.send(visit(1), visit(1), visit(2))
    run.send_again(1, partition=1)  # the same batch, the same partition
    run.step()
    assert seen(run) == [2, 1, 0]
    run.send_again(3, partition=1)
    run.step()
    run.send_again(3)  # another partition
    run.step()
    assert seen(run) == [2, 1, 0]
    run.flush()
    run.kill()
    run.send_again(3)  # another worker
    run.step(1)
    assert seen(run) == [2, 1, 0]

    run.finish()
    assert run.ids() == run.expected_ids() == ["e0", "e1", "e2"]
    run.assert_online_is_history()


def test_events_without_an_id_are_all_events(run: Run):
    run.send({**visit(1), "id": None}, {**visit(1), "id": None})
    run.finish()

    assert seen(run)[0] == 2


def test_ids_that_a_fail_over_of_the_store_lost_are_brought_back_from_the_archive(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    run.send(visit(1), visit(2))
    run.step()
    run.flush()
    online = run.stores.online
    (ids,) = [table for table in online.tables(run.stores.project) if table[1:3] == (f"visits{EVENTS}", "ids")]
    online.delete(ids, [key for key, _, _ in online.scan(ids)])
    monkeypatch.setattr(online, "incarnation", lambda: "the standby")
    run.flush()

    run.send_again(2)
    run.step()

    assert seen(run) == [1, 1, 0]
    run.finish()
    run.assert_online_is_history()


def test_an_id_is_remembered_for_its_horizon(run: Run):
    run.send(visit(1))
    run.step()
    run.flush()
    run.clock.now += DAY - SECOND
    run.send_again(1)
    run.step()
    assert seen(run)[0] == 1
    run.clock.now += SECOND
    run.send_again(1)
    run.step()

    assert seen(run)[0] == 2
    run.finish()
    run.assert_online_is_history()


def test_an_id_whose_message_is_not_archived_yet_is_never_free(run: Run):
    run.send(visit(1))
    run.step()
    run.kill()
    run.clock.now += 2 * DAY
    again = next(event for event in run.sent.values() if event is not None)
    # The duplicate is read before the first message is read again.
    run.send(again, partition=1)
    run.finish()

    assert seen(run)[0] == 1 and run.ids() == ["e0"]
    run.assert_online_is_history()


def test_ids_that_the_online_store_lost_come_back_from_the_archive(run: Run):
    run.send(visit(1), visit(2))
    run.step()
    run.flush()
    run.kill()
    for table in run.stores.online.tables(run.stores.project):
        if table.view.endswith(EVENTS):
            run.stores.online.drop(table)
    run.send_again(2)
    run.finish()

    assert seen(run) == [1, 1, 0] and run.ids() == ["e0", "e1"]


def test_a_source_that_names_an_id_later_knows_those_of_its_archive(tmp_path: Path):
    stores = embedded_stores(tmp_path, clock=MicrosClock())
    run = Run(stores, stores.clock, partitions=2, definitions=views(source(event_id="")))
    run.send(visit(1), visit(1))
    run.step()
    run.flush()
    run.apply(*views(source()))
    run.send_again(2)
    run.step()
    run.flush()
    run.send_again(2)
    run.step()

    assert run.served("activity", [1])["ever"] in ([2], [4])  # those between apply and flush are of the old definition
    run.finish()
    run.assert_online_is_history()
    close(stores)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), steps=st.integers(20, 80), partitions=st.integers(1, 3))
def test_whatever_happens_each_event_counts_once(tmp_path_factory, seed: int, steps: int, partitions: int):
    stores = embedded_stores(tmp_path_factory.mktemp("life"), clock=MicrosClock())
    run = Run(stores, stores.clock, partitions=partitions, definitions=views(source()))
    rng = random.Random(seed)
    live_through(run, rng, steps)
    run.send_again(5)
    run.finish()

    assert run.ids() == run.expected_ids()
    run.assert_online_is_history()
    close(stores)


def test_pushes_are_told_apart_as_well(tmp_path: Path):
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nclock: {iso(NOW)}\n", encoding="utf-8")
    pushed = PushSource(
        "orders", [Field("user_id", Int64), Field("id", Int64), Field("at", Int64)], "at", timestamp_unit="us",
        event_id="id",
    )  # fmt: skip
    view = FeatureView("orders", entities=[USER], source=pushed, aggregations=[Aggregation("", "count", name="ever")])
    with FeatureStore(tmp_path) as store:
        store.apply([USER, pushed, view])
        rows = [{"user_id": 1, "id": each, "at": NOW - MINUTE} for each in (1, 2, 2)]
        store.push("orders", rows)
        store.push("orders", rows)

        assert store.get_online_features(["orders:ever"], [{"user_id": 1}]).to_dict()["ever"] == [2]
        assert store.audit().ok
        assert not store.forget("user", 1)["notes"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"event_id": "idd"}, "did you mean 'id'"), ({"event_id": "amount"}, "'amount' is Float64"),
        ({"event_id_horizon": 0}, "no ID would be kept"),
    ],
)  # fmt: skip
def test_an_id_that_cannot_be_one_is_refused(options, reason):
    with pytest.raises(DefinitionError, match=reason):
        source(**options)
