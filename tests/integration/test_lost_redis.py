"""A Redis that was flushed, a shard that was emptied, a fail-over to an empty replica: errors, recovery, never zeros."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asof import FeatureStore, FeatureView, Field, PushSource
from asof.errors import CheckFailed, OnlineRowsLost
from asof.online.protocol import Lookup, Newest, OnlineTable, Unchanged, pack_version
from asof.online.redis.store import RedisOnlineStore
from asof.store import open_store_of
from asof.testing.clock import MicrosClock
from asof.testing.streams import StreamRun, visit
from asof.types import Timestamp
from tests.embedded_stores import close
from tests.integration.test_redis_streams import SCHEMA, USER, Worker, is_all_archived
from tests.integration.test_worker_faults import until
from tests.redis_stores import of_sentinel, redis_parts

pytestmark = pytest.mark.integration

CLICK = FeatureView(
    "click", entities=[USER], schema=SCHEMA,
    source=PushSource("clicks", schema=[*SCHEMA, Field("at", Timestamp)], timestamp_field="at"),
)  # fmt: skip
USERS = list(range(1, 13))


def lose_and_come_back(tmp_path: Path, lose: Callable[[], None], **options: Any) -> None:
    """Rows of an idle topic are lost by `lose`: until a worker has built them again, reads fail or are right."""
    clock = MicrosClock()
    run = StreamRun(redis_parts(tmp_path, clock, **options), clock)
    worker = Worker(run, run.stores.replaced(online=RedisOnlineStore(clock=clock, **options)))
    run.send(*(visit(user) for user in USERS))
    whole = {"ever": [1] * len(USERS)}

    def served() -> Any:
        try:
            return {"ever": run.served("activity", USERS)["ever"]}
        except OnlineRowsLost as error:
            assert "asof rebuild activity" in error.hint
            return None

    until(lambda: is_all_archived(run) and served() == whole)
    lose()
    for _ in range(3):
        assert served() in (None, whole)

    def is_back() -> bool:
        found = served()
        assert found in (None, whole)
        return bool(found == whole)

    until(is_back)
    # A row that nobody wrote: counted as zero, and only where the marker is.
    assert run.served("activity", [777])["ever"] == [0]
    worker.end()
    assert worker.counts["views rebuilt"]
    close(run.stores)


def test_a_flushed_server_on_an_idle_topic(tmp_path: Path, private_redis: Any) -> None:
    def flush() -> None:
        with private_redis.client() as client:
            client.flushdb()

    lose_and_come_back(tmp_path, flush, url=private_redis.url)


@pytest.mark.parametrize("node", [0, 1, 2])
def test_a_shard_of_a_cluster_that_was_emptied_on_an_idle_topic(
    tmp_path: Path, private_redis_cluster: Any, node: int
) -> None:
    def flush() -> None:
        with private_redis_cluster.nodes[node].client() as client:
            client.flushall()

    lose_and_come_back(tmp_path, flush, url=private_redis_cluster.url, redis_type="redis_cluster")


def test_a_fail_over_to_an_empty_replica_on_an_idle_topic(tmp_path: Path, private_redis_sentinel: Any) -> None:
    services = private_redis_sentinel

    def lose() -> None:
        replica = services.replica
        with replica.client() as client:
            # Cut off from its master, then made one that is empty.
            client.config_set("masterauth", "not-the-password")
            client.execute_command("CLIENT", "KILL", "TYPE", "master")
            client.config_set("replica-read-only", "no")
            client.flushall()
        services.master.kill()
        services.wait_for_master(replica)

    lose_and_come_back(tmp_path, lose, **{**of_sentinel(services), "retry_s": 30.0})


TABLE = OnlineTable("prod", "trips", "1-1", "latest")
STATES = OnlineTable("prod", "visits", "1-1", "state")


def test_a_row_written_to_an_emptied_shard_is_not_taken_for_a_whole_one(private_redis_cluster: Any) -> None:
    store = RedisOnlineStore(private_redis_cluster.url, redis_type="redis_cluster")
    keys = [b"%d" % i for i in range(60)]
    for table in (TABLE, STATES):
        store.prepare(table)
    store.write(TABLE, keys, keys, condition=Newest([pack_version(1)] * 60))
    for table in (TABLE, STATES):
        store.mark(table)
    assert store.read_marked([Lookup(TABLE, keys)]) == store.read([Lookup(TABLE, keys)])
    with private_redis_cluster.nodes[2].client() as client:
        client.flushall()

    for table, condition in ((TABLE, Newest([pack_version(2)])), (STATES, Unchanged([0]))):
        for key in keys:
            try:
                store.write(table, [key], [b"late"], condition=condition)
            except Exception:
                pass  # a shard that has lost its tables may say so
    assert store.unmarked([TABLE, STATES]) == [TABLE, STATES]
    single = [store.read_marked([Lookup(TABLE, [key])])[0] for key in keys]
    lost = [key for key, rows in zip(keys, single, strict=True) if rows is None]
    assert 5 < len(lost) < 40
    assert all(rows is None or rows[0] is not None for rows in single)
    assert store.read_marked([Lookup(TABLE, keys), Lookup(STATES, lost[:1])]) == [None, None]
    store.close()


def test_replicas_that_are_behind_are_not_taken_for_a_loss(private_redis_sentinel: Any) -> None:
    services = private_redis_sentinel
    store = RedisOnlineStore(**{**of_sentinel(services), "replica_reads": True})
    other = RedisOnlineStore(**of_sentinel(services))
    other.prepare(TABLE)
    other.write(TABLE, [b"k"], [b"v"], condition=Newest([pack_version(1)]))
    other.mark(TABLE)
    with services.replica.client() as client:
        until(lambda: client.dbsize() == services.master.client().dbsize())
        client.config_set("replica-read-only", "no")
        client.flushall()
    assert store.read_marked([Lookup(TABLE, [b"k"])]) == [[(b"v", pack_version(1))]]
    store.close()
    other.close()


def test_a_policy_that_evicts_rows_is_an_error_at_plan(tmp_path: Path, private_redis: Any) -> None:
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\nonline_store: {{type: redis, url: '{private_redis.url}'}}\n"
    )
    with private_redis.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    with FeatureStore(tmp_path) as store:
        plan = store.plan([CLICK])
        (finding,) = plan.errors
        assert "maxmemory-policy allkeys-lru" in str(finding) and "noeviction" in str(finding)
        with pytest.raises(CheckFailed, match="maxmemory-policy"):
            store.apply([CLICK])
        with private_redis.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
        assert not store.plan([CLICK]).errors
        assert open_store_of(store).stores.online.evicts() == ""
