"""The Redis online store: what only it does, on a single server, through TLS, under Sentinel and on a Cluster."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from asof.errors import StorageError
from asof.online.protocol import NO_ROW, Lookup, Newest, OnlineTable, Unchanged, pack_version
from asof.online.redis.connection import RedisConnection
from asof.online.redis.scripts import LATER_MS
from asof.online.redis.store import RedisOnlineStore
from tests.redis_stores import Open, redis_opener
from tests.services import Redis
from tests.services.redis import PASSWORD

pytestmark = pytest.mark.integration

TRIPS = OnlineTable("prod", "trips", "1-1", "latest")
STATE = OnlineTable("prod", "traffic", "1-1", "state")
V1, V2 = pack_version(1), pack_version(2)
YEAR = 31_536_000_000_000


@pytest.fixture
def open_store(redis, key_prefix: str) -> Iterator[Open]:
    yield from redis_opener([redis], key_prefix, url=redis.url)


@pytest.fixture
def store(open_store: Open) -> RedisOnlineStore:
    store = open_store()
    store.prepare(TRIPS)
    store.prepare(STATE)
    return store


@pytest.fixture
def cluster_store(redis_cluster, key_prefix: str) -> Iterator[RedisOnlineStore]:
    for open_one in redis_opener(redis_cluster.nodes, key_prefix, url=redis_cluster.url, redis_type="redis_cluster"):
        store = open_one()
        store.prepare(TRIPS)
        store.prepare(STATE)
        yield store


def names_in(server: Redis, prefix: str) -> list[bytes]:
    with server.client() as client:
        return sorted(client.scan_iter(f"{prefix}:*", 1000))


def test_making_a_store_connects_to_nothing() -> None:
    RedisOnlineStore("redis://nowhere.invalid:1/0").close()


def test_all_views_of_a_request_are_one_round_trip(store: RedisOnlineStore, monkeypatch: Any) -> None:
    store.write(TRIPS, [b"a"], [b"x"], condition=Newest([V1]))
    sent = []
    send = RedisConnection.send
    monkeypatch.setattr(
        RedisConnection, "send", lambda connection, packed: sent.append(packed) or send(connection, packed)
    )

    store.read([Lookup(TRIPS, [b"a", b"b"]), Lookup(STATE, [b"a"])])

    assert len(sent) == 1 and sent[0].count(b"MGET") == 1


def test_what_is_asked_for_is_read_later_or_dropped(open_store: Open, redis) -> None:
    store = open_store(max_connections=1)
    store.prepare(STATE)
    assert store.write(STATE, [b"a"], [b"x"], condition=Unchanged([NO_ROW])) == [True]
    lookups = [Lookup(STATE, [b"a", b"b"]), Lookup(TRIPS, [b"a"])]

    # The one connection comes back each time.
    for _ in range(3):
        assert store.ask(lookups).rows() == store.read(lookups)
        store.ask(lookups).drop()
    with redis.client() as client:
        asked = store.ask(lookups)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert asked.rows() == store.read(lookups)
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert store.ask(lookups).rows() == store.read(lookups)
    asked.drop()  # again: nothing happens
    assert store.ask([]).rows() == []


@pytest.mark.parametrize("kind", ["redis", "redis_cluster"])
@pytest.mark.parametrize("small_bytes", [-1, 1 << 20])
def test_rows_of_any_size_are_decided_alike(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, key_prefix: str, kind: str, small_bytes: int
) -> None:
    monkeypatch.setattr("asof.online.redis.write.SMALL_BYTES", small_bytes)
    server = request.getfixturevalue(kind)
    nodes = server.nodes if kind == "redis_cluster" else [server]
    for open_one in redis_opener(nodes, key_prefix, url=server.url, redis_type=kind, clock=lambda: YEAR):
        store = open_one()
        store.prepare(STATE)
        keys = [b"\x00%d" % i for i in range(1200)]
        values = [b"v%d" % i * (i % 7) for i in range(1200)]
        expiry = [None if i % 3 else YEAR + i * 1000 for i in range(1200)]
        assert all(store.write(STATE, keys, values, condition=Unchanged([NO_ROW] * 1200), expires_at=expiry))
        (found,) = store.read([Lookup(STATE, keys)])
        assert [row and row[0] for row in found] == values and len({row and row[1] for row in found}) == 1200

        # Of every three rows one is told its token, one another's, and one none at all.
        tokens = [(row[1], row[1] + 2**40, NO_ROW)[i % 3] for i, row in enumerate(found)]  # type: ignore[index]
        kept = store.write(STATE, keys, [b"w"] * 1200, condition=Unchanged(tokens))
        assert kept == [i % 3 == 0 for i in range(1200)]
        (after,) = store.read([Lookup(STATE, keys)])
        assert [row[0] for row in after if row] == [b"w" if i % 3 == 0 else values[i] for i in range(1200)]
        assert all((row != before) == was for row, before, was in zip(after, found, kept, strict=True))
        # A kept row's expiry is that of its last write.
        assert store.delete_expired("prod", YEAR + 10**9) == 0
        store.drop_project("prod")


def test_the_views_of_one_entity_lie_in_one_slot() -> None:
    from asof.online.redis.keys import RedisNames, anchors, slot_of

    names = RedisNames("asof:")
    keys = [names.rows(table) + b"\x91\xcd}\x01{}" + b"}" for table in (TRIPS, STATE)]
    assert len({slot_of(key) for key in keys}) == 1
    assert [slot_of(anchor) // 256 for anchor in anchors()] == list(range(64))
    assert slot_of(b"123456789") == 12739  # the example of the cluster's specification


def test_a_row_expires_by_itself_where_the_clock_is_the_servers(
    store: RedisOnlineStore, redis, key_prefix: str
) -> None:
    with redis.client() as client:
        seconds, micros = client.time()
    now = seconds * 1_000_000 + micros
    store.write(
        TRIPS, [b"gone", b"kept"], [b"x"] * 2, condition=Newest([V1] * 2), expires_at=[now - 10_000, now + YEAR]
    )

    assert store.read([Lookup(TRIPS, [b"gone", b"kept"])]) == [[None, (b"x", V1)]]
    assert [key for key, *_ in store.scan(TRIPS)] == [b"kept"]


def test_a_row_does_not_expire_by_the_servers_clock_where_the_stores_clock_is_another(open_store: Open) -> None:
    store = open_store(clock=lambda: YEAR)  # 1971
    store.prepare(TRIPS)
    keys = [b"soon", b"later"]
    store.write(TRIPS, keys, [b"x"] * 2, condition=Newest([V1] * 2), expires_at=[YEAR + 1000, YEAR + 9_000_000])

    assert store.read([Lookup(TRIPS, keys)]) == [[(b"x", V1)] * 2]
    assert store.delete_expired("prod", YEAR + 1_000_000) == 1
    assert store.read([Lookup(TRIPS, keys)]) == [[None, (b"x", V1)]]
    assert LATER_MS * 1000 > 1000 * YEAR


def test_a_dropped_project_leaves_nothing_behind(store: RedisOnlineStore, redis, key_prefix: str) -> None:
    other = OnlineTable("preprod", "trips", "1-1", "latest")
    store.prepare(other)
    for table in (TRIPS, other):
        store.write(table, [b"%d" % i for i in range(3000)], [b"x"] * 3000, condition=Newest([V1] * 3000))
    store.write_progress(TRIPS, {"0": 1})

    store.drop_project("prod")

    left = names_in(redis, key_prefix)
    assert len(left) == 3001  # rows, and the list of tables
    assert all(name.startswith(f"{key_prefix}:preprod".encode()) for name in left)


@pytest.mark.parametrize("kind", ["single", "cluster"])
def test_a_drop_beside_writers_leaves_no_rows(kind: str, redis, redis_cluster, key_prefix: str) -> None:
    servers = [redis] if kind == "single" else redis_cluster.nodes
    options = {"url": redis.url} if kind == "single" else {"url": redis_cluster.url, "redis_type": "redis_cluster"}
    for open_one in redis_opener(servers, key_prefix, **options):
        store = open_one()
        store.prepare(TRIPS)
        refused = threading.Event()
        started = threading.Barrier(4)

        def write(place: int) -> None:
            mine = open_one()  # noqa: B023
            started.wait()  # noqa: B023
            try:
                for i in range(1000):
                    keys = [b"%d-%d-%d" % (place, i, j) for j in range(100)]
                    mine.write(TRIPS, keys, [b"x"] * 100, condition=Newest([V1] * 100))
            except StorageError as error:
                assert "was never prepared" in str(error)
                refused.set()  # noqa: B023

        threads = [threading.Thread(target=write, args=(place,)) for place in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        while not store.scan(TRIPS, limit=1):
            pass
        store.drop(TRIPS)
        for thread in threads:
            thread.join()

        assert refused.is_set()
        assert [name for server in servers for name in names_in(server, key_prefix)] == []


def test_an_interrupted_drop_is_finished_before_the_table_is_made_again(store: RedisOnlineStore) -> None:
    store.write(TRIPS, [b"old"], [b"x"], condition=Newest([V2]))
    store._tables.mark_dropping(TRIPS, b"killed here")
    with pytest.raises(StorageError, match="was never prepared"):
        store.write(TRIPS, [b"old"], [b"x"], condition=Newest([V2]))

    store.prepare(TRIPS)

    assert store.read([Lookup(TRIPS, [b"old"])]) == [[None]]
    assert store.write(TRIPS, [b"old"], [b"y"], condition=Newest([V1])) == [True]


def test_a_repeated_write_of_states_is_kept_once(store: RedisOnlineStore, monkeypatch: Any) -> None:
    """The answer gets lost, the write does not: tried again it must be told kept, and a duplicate refused."""
    taken = store._rows._take_answer
    lost = []

    def losing(connection: Any, *arguments: Any) -> None:
        if not lost:
            lost.append(connection)
            connection.receive()
            connection._socket.close()
        taken(connection, *arguments)

    monkeypatch.setattr(store._rows, "_take_answer", losing)
    assert store.write(STATE, [b"k", b"k"], [b"1", b"2"], condition=Unchanged([NO_ROW] * 2)) == [True, False]
    assert lost
    ((row,),) = store.read([Lookup(STATE, [b"k"])])
    assert row is not None and row[0] == b"1"


def test_scripts_that_the_server_forgot_are_sent_again(store: RedisOnlineStore, redis) -> None:
    store.write(TRIPS, [b"k"], [b"x"], condition=Newest([V1]))
    with redis.client() as client:
        client.script_flush()

    assert store.write(TRIPS, [b"k"], [b"y"], condition=Newest([V2])) == [True]


def test_a_lost_store_refuses_writes_and_has_no_tables(private_redis) -> None:
    store = RedisOnlineStore(private_redis.url)
    store.prepare(TRIPS)
    store.write_progress(TRIPS, {"0": 1})
    with private_redis.client() as client:
        client.flushall()

    assert store.tables("prod") == []
    assert store.progress(TRIPS) == {}
    with pytest.raises(StorageError, match="was never prepared"):
        store.write(TRIPS, [b"k"], [b"x"], condition=Newest([V1]))
    store.close()


def test_a_large_table_is_scanned_window_by_window(store: RedisOnlineStore, monkeypatch: Any) -> None:
    monkeypatch.setattr("asof.online.redis.scan.KEYS_IN_WINDOW", 100)
    keys = [b"%04d" % i for i in range(1000)]
    store.write(TRIPS, keys, keys, condition=Newest([V1] * 1000))

    found: list[bytes] = []
    after = None
    while page := store.scan(TRIPS, after=after, limit=70):
        found += [key for key, *_ in page]
        after = found[-1]
        store.delete(TRIPS, [b"%04d" % (len(found) + 20)])

    gone = {b"%04d" % (i + 20) for i in range(1, 1001)}
    assert found == sorted(set(found)) and set(keys) - gone <= set(found) <= set(keys)


def test_threads_share_few_connections(store: RedisOnlineStore) -> None:
    for _ in range(20):
        thread = threading.Thread(target=lambda: store.read([Lookup(TRIPS, [b"k"])]))
        thread.start()
        thread.join()

    (idle,) = [each for each in store._servers._connections.idle.values() if each]
    assert len(idle) == 1


def test_a_forked_child_and_its_parent_go_on_with_one_store(store: RedisOnlineStore) -> None:
    store.write(STATE, [b"k"], [b"parent"], condition=Unchanged([NO_ROW]))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ((row,),) = store.read([Lookup(STATE, [b"k"])])
            kept = store.write(STATE, [b"k"], [b"child"], condition=Unchanged([row[1]]))
            store.close()
            code = 0 if kept == [True] else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    ((row,),) = store.read([Lookup(STATE, [b"k"])])
    assert row[0] == b"child"
    assert store.write(STATE, [b"k"], [b"parent again"], condition=Unchanged([row[1]])) == [True]


def test_a_closed_store_says_so(store: RedisOnlineStore) -> None:
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.read([Lookup(TRIPS, [b"k"])])


def test_a_unix_socket_serves_too(private_service, tmp_path_factory: Any) -> None:
    path = f"/tmp/asof-{os.getpid()}.sock"
    private_service(Redis, settings={"unixsocket": path})
    store = RedisOnlineStore(f"unix://asof:asof-secret@{path}?db=3")
    store.prepare(TRIPS)
    store.write(TRIPS, [b"k"], [b"x"], condition=Newest([V1]))
    assert store.read([Lookup(TRIPS, [b"k"])]) == [[(b"x", V1)]]
    store.close()


def test_a_slot_on_its_way_to_another_node_is_read_and_written(private_redis_cluster) -> None:
    from asof.online.redis.keys import slot_of

    store = RedisOnlineStore(private_redis_cluster.url, redis_type="redis_cluster")
    store.prepare(TRIPS)
    store.prepare(STATE)
    store.write(TRIPS, [b"k"], [b"old"], condition=Newest([V1]))
    slot = slot_of(b"x{k}")
    clients = [node.client() for node in private_redis_cluster.nodes]
    ids = [client.execute_command("CLUSTER MYID").decode() for client in clients]
    source = next(i for i, client in enumerate(clients) if client.cluster("COUNTKEYSINSLOT", slot))
    target = (source + 1) % 3
    clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    clients[source].execute_command(
        "MIGRATE", "127.0.0.1", private_redis_cluster.nodes[target].port, "", 0, 5000, "AUTH", PASSWORD, "KEYS",
        b"asof:prod:trips:1-1:{k}",
    )  # fmt: skip

    assert store.read([Lookup(TRIPS, [b"k"]), Lookup(STATE, [b"k"])]) == [[(b"old", V1)], [None]]
    assert store.write(TRIPS, [b"k"], [b"new"], condition=Newest([V2])) == [True]
    assert store.write(TRIPS, [b"k"], [b"older"], condition=Newest([V1])) == [False]
    for client in (clients[target], clients[source]):
        client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    assert store.read([Lookup(TRIPS, [b"k"])]) == [[(b"new", V2)]]
    assert store.write(TRIPS, [b"k"], [b"newest"], condition=Newest([V2])) == [True]
    for client in clients:
        client.close()
    store.close()


def test_a_master_that_lost_everything_takes_the_clusters_tables_with_it(private_redis_cluster) -> None:
    store = RedisOnlineStore(private_redis_cluster.url, redis_type="redis_cluster")
    store.prepare(TRIPS)
    store.write_progress(TRIPS, {"0": 7})
    assert store.progress(TRIPS) == {"0": 7}
    with private_redis_cluster.nodes[1].client() as client:
        client.flushall()

    assert store.tables("prod") == []
    assert store.progress(TRIPS) == {}
    store.close()


def test_of_a_clusters_masters_the_one_that_is_least_far_tells_the_progress(cluster_store: RedisOnlineStore) -> None:
    store = cluster_store
    store.write_progress(TRIPS, {"0": 7, "1": 3, "topic": "x"})
    anchor = store._servers.anchors()[40]
    store._commands.ask(store._servers.master_of_anchor(anchor), ("HSET", store._names.facts(TRIPS, anchor), "0", "i5"))
    store._commands.ask(store._servers.master_of_anchor(anchor), ("HDEL", store._names.facts(TRIPS, anchor), "1"))

    assert store.progress(TRIPS) == {"0": 5, "topic": "x"}
