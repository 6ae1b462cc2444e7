"""Streams, pushes and materialized views over Redis: lost seconds, lost stores, fail-overs under load."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asof import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource
from asof.errors import StorageError
from asof.flows.admin.doctor import doctor
from asof.flows.generations.markers import lost_views
from asof.flows.stores import Stores
from asof.flows.stream.run import run_stream
from asof.online.protocol import StoreReplaced
from asof.online.redis.store import RedisOnlineStore
from asof.store import open_store_of
from asof.testing.clock import NOW, MicrosClock
from asof.testing.streams import DEFINITIONS, MORTALS, StreamRun, live_through, visit
from asof.timing import MINUTE, moment
from asof.types import Int64, Timestamp
from tests.embedded.test_push import LONG, SHORT, apply_twins, online_rows, push_both
from tests.embedded_stores import close
from tests.integration.test_worker_faults import oracle, random_visits, until
from tests.redis_stores import of_sentinel, redis_parts
from tests.services import Redis
from tests.services.processes import wait_until

pytestmark = pytest.mark.integration


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), steps=st.integers(20, 60), mortal=st.booleans(), spread=st.booleans())
def test_whatever_happens_online_equals_history_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, redis: Redis, redis_cluster: Any, key_prefix: str,
    seed: int, steps: int, mortal: bool, spread: bool,
) -> None:  # fmt: skip
    kind = "redis_cluster" if spread else "redis"
    url = redis_cluster.url if spread else redis.url
    path = tmp_path_factory.mktemp("life")
    stores = redis_parts(path, MicrosClock(), url=url, redis_type=kind, key_prefix=f"{key_prefix}-{path.name}:")
    definitions = MORTALS if mortal else DEFINITIONS
    run = StreamRun(stores, stores.clock, partitions=2, definitions=definitions)  # type: ignore[arg-type]
    live_through(run, random.Random(seed), steps)
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run))
    stores.online.drop_project(stores.project)
    close(stores)


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
def test_the_short_way_of_a_push_writes_what_the_long_way_does(
    request: pytest.FixtureRequest, tmp_path: Path, key_prefix: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    url = request.getfixturevalue(kind).url
    stores = redis_parts(tmp_path, MicrosClock(), url=url, redis_type=kind, key_prefix=f"{key_prefix}:")  # type: ignore[arg-type]
    apply_twins(stores)
    push_both(stores, random.Random(5), stores.clock, monkeypatch, 12)  # type: ignore[arg-type]

    assert online_rows(stores, SHORT) == online_rows(stores, LONG)
    stores.online.drop_project(stores.project)
    close(stores)


class Worker:
    """`run_stream` in a thread, over connections of its own."""

    def __init__(self, run: StreamRun, stores: Stores) -> None:
        self.run = run
        self.stores = stores
        self.stop = threading.Event()
        self.counts: dict[str, int] = {}
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            self.counts = run_stream(self.stores, stop=self.stop, flush_every_s=0.3)
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.stop.set()
        self._thread.join(timeout=60)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error


def is_served(run: StreamRun, user: int, ever: int) -> bool:
    try:
        return run.served("activity", [user])["ever"] == [ever]
    except StorageError:
        return False


def is_all_archived(run: StreamRun) -> bool:
    return len(run.archived()) + len(run.dead_letters()) == len(run.sent)


@pytest.fixture
def lossy(private_service: Any) -> Redis:
    """A server that keeps on disk only what it is told to save."""
    return private_service(Redis, settings={"appendonly": "no"})


def save(server: Redis) -> None:
    with server.client() as client:
        client.save()


def lose_what_came_since(server: Redis) -> None:
    server.kill()
    server.start()


def test_a_worker_replays_what_a_restart_lost_though_no_event_comes_in(tmp_path: Path, lossy: Redis) -> None:
    clock = MicrosClock()
    run = StreamRun(redis_parts(tmp_path, clock, url=lossy.url), clock)
    worker = Worker(run, run.stores.replaced(online=RedisOnlineStore(lossy.url, clock=clock)))
    run.send(visit(1), visit(2), visit(1), partition=0)
    until(lambda: is_all_archived(run) and is_served(run, 1, 2))
    save(lossy)
    run.send(visit(1), visit(3), partition=1)
    run.send(visit(1), partition=0)
    until(lambda: is_all_archived(run) and is_served(run, 1, 4))
    time.sleep(0.7)  # progress is written, and there is nothing left to do

    lose_what_came_since(lossy)

    until(lambda: is_served(run, 1, 4) and is_served(run, 3, 1))
    worker.end()
    assert worker.counts["fail-overs of the online store"]
    run.assert_online_is_history(oracle(run))
    close(run.stores)


def test_restarts_that_lose_seconds_under_load_lose_and_double_no_event(tmp_path: Path, lossy: Redis) -> None:
    rng = random.Random(1)
    clock = MicrosClock()
    run = StreamRun(redis_parts(tmp_path, clock, url=lossy.url), clock, partitions=3)
    worker = Worker(run, run.stores.replaced(online=RedisOnlineStore(lossy.url, clock=clock)))
    for turn in range(12):
        for partition in range(3):
            run.send(*random_visits(rng, 150, users=30), partition=partition)
        time.sleep(rng.uniform(0.05, 0.4))
        if turn % 4 == 1:
            save(lossy)
        if turn % 4 == 3:
            lose_what_came_since(lossy)
    until(lambda: is_all_archived(run))
    worker.end()
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(users=list(range(1, 31)))
    run.assert_online_is_history(oracle(run), users=[1, 2], later=[0, 20 * MINUTE])
    close(run.stores)


def test_a_fail_over_to_a_replica_that_lacks_the_last_seconds_is_made_good(
    tmp_path: Path, private_redis_sentinel: Any
) -> None:
    services = private_redis_sentinel
    rng = random.Random(7)
    clock = MicrosClock()
    options = {**of_sentinel(services), "retry_s": 30.0}
    run = StreamRun(redis_parts(tmp_path, clock, **options), clock)
    worker = Worker(run, run.stores.replaced(online=RedisOnlineStore(clock=clock, **options)))
    run.send(*random_visits(rng, 300, users=9), partition=0)
    replica = services.replica
    # The tables are there at least: what is to be missing are seconds, and not all.
    until(lambda: is_all_archived(run) and services.master.is_replicated)
    with replica.client() as client:  # it does not get back to its master
        client.config_set("masterauth", "not-the-password")
        client.execute_command("CLIENT", "KILL", "TYPE", "master")
        wait_until(lambda: client.info("replication")["master_link_status"] == "down", "Redis", timeout_s=10)
    run.send(*random_visits(rng, 300, users=9), partition=0)
    run.send(*random_visits(rng, 300, users=9), partition=1)
    until(lambda: is_all_archived(run))

    services.master.kill()
    run.send(*random_visits(rng, 100, users=9), partition=1)
    services.wait_for_master(replica)

    until(lambda: is_all_archived(run))
    worker.end()
    assert worker.counts["fail-overs of the online store"]
    assert "views rebuilt" not in worker.counts
    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run), users=range(1, 10))
    close(run.stores)


def test_a_store_that_is_flushed_under_load_is_built_anew_while_the_worker_runs(
    tmp_path: Path, private_redis: Redis
) -> None:
    rng = random.Random(3)
    clock = MicrosClock()
    run = StreamRun(redis_parts(tmp_path, clock, url=private_redis.url), clock)
    worker = Worker(run, run.stores.replaced(online=RedisOnlineStore(private_redis.url, clock=clock)))
    run.send(*random_visits(rng, 300, users=9), partition=0)
    until(lambda: is_all_archived(run))
    with private_redis.client() as client:
        client.flushall()
    run.send(*random_visits(rng, 300, users=9), partition=1)
    until(lambda: is_all_archived(run) and len(run.stores.online.tables("shop")) == 2)
    until(lambda: not lost_views(run.stores))
    assert run.served("newest", [1])["page"] != [None]
    worker.end()
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run), users=range(1, 10))
    close(run.stores)


# Pushes and batch views

USER = Entity("user", join_keys=["user_id"])
SCHEMA = [Field("user_id", Int64), Field("n", Int64)]


def store_on(folder: Path, server: Redis, *definitions: Any) -> FeatureStore:
    (folder / "feature_store.yaml").write_text(
        f"project: shop\nonline_store: {{type: redis, url: '{server.url}', key_ttl_seconds: 5}}\n"
    )
    store = FeatureStore(folder, clock=lambda: moment(NOW))
    store.apply(list(definitions))
    return store


def amounts(store: FeatureStore, view: str, users: list[int]) -> list[Any]:
    rows = [{"user_id": user} for user in users]
    return store.get_online_features([f"{view}:n"], rows).to_dict()["n"]


def test_a_push_after_lost_seconds_is_read_at_once_and_brings_back_those_before(tmp_path: Path, lossy: Redis) -> None:
    clicks = PushSource("clicks", schema=[*SCHEMA, Field("at", Timestamp)], timestamp_field="at")
    view = FeatureView("click", source=clicks, entities=[USER], schema=SCHEMA)
    store = store_on(tmp_path, lossy, view)
    store.push("clicks", [{"user_id": 1, "n": 1, "at": moment(NOW)}])
    save(lossy)
    store.push("clicks", [{"user_id": 1, "n": 2, "at": moment(NOW)}, {"user_id": 2, "n": 2, "at": moment(NOW)}])
    assert amounts(store, "click", [1, 2, 3]) == [2, 2, None]

    lose_what_came_since(lossy)

    assert amounts(store, "click", [1, 2, 3]) == [1, None, None]
    store.push("clicks", [{"user_id": 3, "n": 3, "at": moment(NOW)}])
    assert amounts(store, "click", [1, 2, 3]) == [2, 2, 3]
    store.close()


def write_rows(path: Path, count: int) -> None:
    table = {
        "user_id": list(range(count)),
        "n": list(range(count)),
        "at": pa.array([NOW] * count, pa.timestamp("us", "UTC")),
    }
    pq.write_table(pa.table(table), path / "rows.parquet")


def batch_view() -> FeatureView:
    source = FileSource("rows.parquet", name="rows", timestamp_field="at")
    return FeatureView("profile", source=source, entities=[USER], schema=SCHEMA)


def test_materialized_rows_that_a_restart_lost_are_found_missing_and_written_anew(tmp_path: Path, lossy: Redis) -> None:
    write_rows(tmp_path, 5000)
    store = store_on(tmp_path, lossy, batch_view())
    save(lossy)
    store.materialize()
    assert amounts(store, "profile", [0, 4999, 5000]) == [0, 4999, None]

    lose_what_came_since(lossy)

    assert amounts(store, "profile", [0]) == [None]
    (said,) = [each for each in doctor(open_store_of(store).stores) if each.part == "view profile"]
    assert not said.ok and "has lost rows" in said.text and "asof materialize profile" in said.hint
    store.materialize_incremental()
    assert amounts(store, "profile", [0, 4999, 5000]) == [0, 4999, None]
    (said,) = [each for each in doctor(open_store_of(store).stores) if each.part == "view profile"]
    assert said.ok
    store.close()


def test_a_materialize_that_a_restart_breaks_into_is_not_recorded(tmp_path: Path, private_redis: Redis) -> None:
    write_rows(tmp_path, 20_000)
    store = store_on(tmp_path, private_redis, batch_view())
    write = open_store_of(store).stores.online.write

    def interrupted(*given: Any, **named: Any) -> Any:
        kept = write(*given, **named)
        private_redis.restart(kill=True)
        return kept

    open_store_of(store).stores.online.write = interrupted
    with pytest.raises(StoreReplaced, match="run it again"):
        store.materialize()
    assert not open_store_of(store).stores.registry.load("shop").facts.materialized
    open_store_of(store).stores.online.write = write
    store.materialize()
    assert amounts(store, "profile", [0, 19_999]) == [0, 19_999]
    store.close()


def test_the_flows_that_look_at_rows_work_on_redis(tmp_path: Path, redis: Redis, key_prefix: str) -> None:
    write_rows(tmp_path, 3000)
    store = store_on(tmp_path, redis, batch_view())
    try:
        store.materialize()
        assert "key_ttl_seconds has no meaning" in "".join(store.config.notes)
        assert len(store.sample("profile", n=10, seed=1, online=True)) == 10
        assert all(each.ok for each in store.doctor() if each.part in ("online store", "view profile"))
        assert store.audit(["profile"], keys=20).ok
        write_rows(tmp_path, 10)
        store.materialize(full=True)
        assert amounts(store, "profile", [9, 10]) == [9, None]
        assert len(open_store_of(store).stores.online.tables("shop")) == 1
    finally:
        store.teardown()
    with redis.client() as client:
        assert list(client.scan_iter("asof:shop[:!]*")) == []
    store.close()
