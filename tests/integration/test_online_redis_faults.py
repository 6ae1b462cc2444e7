"""The Redis online store when servers are out of reach, refuse, are full, restart or fail over: on real servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asof.errors import AsofError, ConfigError, StorageError
from asof.online.protocol import NO_ROW, Lookup, Newest, OnlineTable, StoreReplaced, Unchanged, pack_version
from asof.online.redis.store import RedisOnlineStore
from tests.redis_stores import of_sentinel
from tests.services import Redis
from tests.services.processes import free_port, wait_until

pytestmark = pytest.mark.integration

TRIPS = OnlineTable("prod", "trips", "1-1", "latest")
STATE = OnlineTable("prod", "traffic", "1-1", "state")
SECRETS = ("asof-secret", "redis-secret", "wrong-secret")


def read(store: RedisOnlineStore, key: bytes = b"k") -> Any:
    return store.read([Lookup(TRIPS, [key])])[0][0]


def write(store: RedisOnlineStore, moment: int, value: bytes = b"x" * 20, *, key: bytes = b"k") -> bool:
    return store.write(TRIPS, [key], [value], condition=Newest([pack_version(moment)]))[0]


def told(work: Callable[[], Any], *words: str, within_s: float = 30.0) -> AsofError:
    """The error that `work` ends with: it has all the words, a next step, a cause, and no secret."""
    began = time.monotonic()
    with pytest.raises(AsofError) as caught:
        work()
    assert time.monotonic() - began < within_s
    text = str(caught.value)
    for word in words:
        assert word in text, text
    assert caught.value.hint and caught.value.__cause__ is not None
    assert not any(secret in text for secret in SECRETS)
    return caught.value


def opened(url: str, **options: Any) -> RedisOnlineStore:
    return RedisOnlineStore(url, **{"retry_s": 1.0, "connect_timeout_s": 1.0, **options})


# A setting is wrong: told at once


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    port = free_port()
    began = time.monotonic()
    told(lambda: read(opened(f"redis://127.0.0.1:{port}/0", retry_s=30)), f"127.0.0.1:{port}", "cannot be reached",
         "Connection refused", "online_store.url")  # fmt: skip
    assert time.monotonic() - began < 20  # and not 30
    told(lambda: read(opened("redis://no-such-host.invalid/0")), "no-such-host.invalid", "cannot be reached")


def test_a_server_that_takes_no_connection_is_told_in_time() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        told(lambda: read(opened(url, timeout_s=0.3)), "did not respond within 0.3 s", "online_store.timeout_s")


def test_passwords_and_users_that_are_wrong_or_missing_are_told(redis) -> None:
    place = f"127.0.0.1:{redis.port}"
    told(lambda: read(opened(f"redis://asof:wrong-secret@{place}/0")), "refused the password", "online_store.password")
    told(lambda: read(opened(f"redis://{place}/0")), "requires a password", "online_store.password")
    told(
        lambda: read(opened("", connection_string=f"{place},db=0,password=wrong-secret")),
        "refused the password", "online_store.connection_string",
    )  # fmt: skip


def test_a_password_for_a_server_that_has_none_is_told(private_service: Any) -> None:
    server = private_service(Redis)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "nopass")
        told(lambda: read(opened(f"redis://:wrong-secret@127.0.0.1:{server.port}/0", username="nobody")), "password")


def test_a_user_without_rights_is_told_what_it_may_not_do(private_redis: Redis) -> None:
    with private_redis.client() as client:
        client.execute_command("ACL SETUSER blind on >wrong-secret ~asof:* +@connection +info")
        client.execute_command("ACL SETUSER reader on >wrong-secret ~asof:* +@connection +info +@read")
    place = f"127.0.0.1:{private_redis.port}"
    told(lambda: read(opened(f"redis://blind:wrong-secret@{place}/0")), "does not allow this for the user", "mget")
    store = opened(f"redis://reader:wrong-secret@{place}/0")
    assert read(store) is None
    told(lambda: store.prepare(TRIPS), "does not allow this for the user", "docs/how-to/redis.md")


def test_the_rights_that_the_docs_name_are_enough(private_redis: Redis) -> None:
    rights = "~asof:* +@read +@write +@scripting +@connection +info +time +cluster|slots"
    with open("docs/how-to/redis.md") as text:
        assert rights in text.read()
    with private_redis.client() as client:
        client.execute_command(f"ACL SETUSER least on >wrong-secret {rights}")
    store = opened(f"redis://least:wrong-secret@127.0.0.1:{private_redis.port}/0", clock=lambda: 0)
    store.prepare(TRIPS)
    store.prepare(STATE)
    assert store.write(TRIPS, [b"k"], [b"x"], condition=Newest([pack_version(1)]), expires_at=[1000]) == [True]
    assert store.write(STATE, [b"k"], [b"x"], condition=Unchanged([NO_ROW], within=store.incarnation())) == [True]
    store.write_progress(STATE, {"0": 1})
    assert len(store.scan(TRIPS)) == 1
    assert store.delete(STATE, [b"k"]) == 1
    assert store.delete_expired("prod", 2000) == 1
    assert store.ping() and store.warnings() == []
    store.drop(TRIPS)
    store.drop_project("prod")
    store.close()


def test_tls_on_one_side_alone_is_told(redis) -> None:
    plain, tls = redis.port, redis.port_of("tls_port")
    ca = str(redis.certificates.ca)
    told(lambda: read(opened(f"rediss://asof:asof-secret@127.0.0.1:{plain}/0", tls_ca=ca)), "does not speak TLS",
         "redis://")  # fmt: skip
    told(lambda: read(opened(f"redis://asof:asof-secret@127.0.0.1:{tls}/0")), "closed the connection", "rediss://")


def test_certificates_that_cannot_be_trusted_or_read_are_told(redis) -> None:
    told(lambda: read(opened(redis.tls_url, tls_ca=str(redis.certificates.other_ca))), "cannot be trusted",
         "online_store.tls_ca")  # fmt: skip
    told(lambda: read(opened(redis.tls_url, tls_ca="/nowhere/ca.pem")), "cannot be read", "/nowhere/ca.pem", "tls_ca")
    with pytest.raises(StorageError, match="cannot be trusted"):
        read(opened(redis.tls_url))
    assert read(opened(redis.tls_url, tls_verify=False)) is None


def test_a_client_certificate_that_the_server_wants_is_told_and_taken(private_service: Any) -> None:
    server = private_service(Redis, settings={"tls-auth-clients": "yes"})
    ours = server.certificates
    store = opened(server.tls_url, tls_ca=str(ours.ca))
    told(lambda: read(store), "online_store.tls_cert")
    store = opened(server.tls_url, tls_ca=str(ours.ca), tls_cert=str(ours.certificate), tls_key=str(ours.key))
    assert read(store) is None


def test_a_database_that_is_not_there_is_told(redis) -> None:
    told(lambda: read(opened(redis.url.replace("/0", "/99"))), "has no database 99", "online_store.db")


def test_another_kind_of_server_is_told(redis, redis_cluster) -> None:
    told(lambda: read(opened(redis.url, redis_type="redis_cluster")), "not a node of a Redis Cluster", "redis_type")
    told(lambda: read(opened(redis_cluster.url)), "is a node of a Redis Cluster", "redis_type: redis_cluster")


def test_sentinels_that_know_no_such_master_or_are_not_there_are_told(redis_sentinel) -> None:
    options = of_sentinel(redis_sentinel)
    told(lambda: read(opened("", **{**options, "sentinel_master": "nobody"})), "do not know the master 'nobody'", "sentinel_master")
    options["connection_string"] = f"127.0.0.1:{free_port()},password=wrong-secret"
    told(lambda: read(opened("", **options)), "sentinels", "online_store.connection_string")


def test_a_replica_is_refused_unless_stale_reads_are_asked_for(redis_sentinel) -> None:
    url = redis_sentinel.replica.url
    told(lambda: read(opened(url)), "is a read-only replica", "replica_reads")
    store = opened(url, replica_reads=True)
    assert read(store) is None
    told(lambda: write(store, 1), "is a read-only replica")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "http://x"}, "use redis://"),
        ({"url": "redis://"}, "no host"),
        ({"url": "redis://h:port"}, "host:port"),
        ({"url": "redis://h/x"}, "db"),
        ({"url": "redis://h?ssl=1"}, "ssl"),
        ({"url": "redis://h", "connection_string": "h:1"}, "keep one"),
        ({"connection_string": "h:1,passwort=wrong-secret"}, "did you mean 'password'"),
        ({"connection_string": "h:1,ssl=perhaps"}, "ssl=true"),
        ({"url": "redis://h", "redis_type": "redis_clutser"}, "redis_cluster"),
        ({"url": "redis://h/3", "redis_type": "redis_cluster"}, "database 0"),
        ({"url": "redis://h", "tls_ca": "ca.pem"}, "rediss://"),
        ({"url": "redis://h", "username": "me"}, "password"),
        ({"url": "redis://h", "key_prefix": "a{b"}, "key_prefix"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisOnlineStore(**options)
    assert words in str(caught.value) and "wrong-secret" not in str(caught.value)


def test_feasts_connection_string_and_urls_say_the_same() -> None:
    one = RedisOnlineStore(connection_string="h:7000,i:7001,db=2,ssl=true,username=me,password=a=b").settings
    two = RedisOnlineStore("rediss://me:a%3Db@h:7000,i:7001/2").settings
    assert (one.addresses, one.db, one.tls, one.username, one.password) == (
        two.addresses, two.db, two.tls, two.username, two.password,
    ) == ((("h", 7000), ("i", 7001)), 2, True, "me", "a=b")  # fmt: skip
    assert "a=b" not in repr(one) and RedisOnlineStore().settings.addresses == (("localhost", 6379),)


# A server is in trouble


def test_a_full_server_refuses_writes_with_the_setting_and_reads_go_on(private_redis: Redis) -> None:
    store = opened(private_redis.url)
    store.prepare(TRIPS)
    write(store, 1)
    with private_redis.client() as client:
        client.config_set("maxmemory", 1)
    told(lambda: write(store, 2), "no memory left", "maxmemory")
    assert read(store) is not None
    with private_redis.client() as client:
        client.config_set("maxmemory", 0)
    assert write(store, 2)
    store.close()


def test_a_server_that_loads_its_data_is_waited_for(private_redis: Redis) -> None:
    store = opened(private_redis.url, retry_s=20)
    store.prepare(TRIPS)
    keys = [b"%d" % i for i in range(3000)]
    store.write(TRIPS, keys, keys, condition=Newest([pack_version(1)] * 3000))

    def reload() -> None:
        with private_redis.client() as client:
            client.execute_command("DEBUG", "RELOAD")

    with private_redis.client() as client:
        client.config_set("key-load-delay", 300)
        client.config_set("loading-process-events-interval-bytes", 1024)
        reloading = threading.Thread(target=reload)
        reloading.start()
        wait_until(lambda: _is_loading(private_redis), "Redis", timeout_s=10)
        impatient = opened(private_redis.url, retry_s=0.05)
        told(lambda: read(impatient), "is still loading its data from disk", "online_store.retry_s")
        assert read(store, b"7") == (b"7", pack_version(1))
        reloading.join()
    store.close()


def _is_loading(server: Redis) -> bool:
    with server.client() as client:
        return bool(client.info("persistence")["loading"])


def test_a_silent_server_is_an_error_after_a_bounded_wait_and_then_serves_again(private_redis: Redis) -> None:
    store = opened(private_redis.url, timeout_s=0.3)
    store.prepare(TRIPS)
    write(store, 1)
    private_redis.pause()
    told(lambda: read(store), "did not respond within 0.3 s", "online_store.retry_s", within_s=20)
    told(lambda: write(store, 2), "did not respond within 0.3 s", within_s=20)
    private_redis.resume()
    assert read(store) is not None
    store.close()


def test_reads_and_writes_go_on_after_a_restart(private_redis: Redis) -> None:
    store = opened(private_redis.url, retry_s=20)
    store.prepare(TRIPS)
    write(store, 1)
    before = store.incarnation()
    private_redis.stop()
    restart = threading.Timer(0.5, private_redis.start)
    restart.start()

    assert read(store) == (b"x" * 20, pack_version(1))
    assert write(store, 2, b"y")
    restart.join()
    assert store.incarnation() != before
    store.close()


def test_a_server_that_is_gone_is_an_error_after_a_bounded_wait(private_redis: Redis) -> None:
    store = opened(private_redis.url)
    store.prepare(TRIPS)
    private_redis.kill()
    for work in (lambda: read(store), lambda: write(store, 1), lambda: store.progress(TRIPS)):
        told(work, "cannot be reached", "after retries for 1 s", "online_store.retry_s", within_s=20)
    store.close()


def test_the_pool_has_an_end(redis) -> None:
    store = opened(redis.url, max_connections=1, timeout_s=0.2)
    in_use = store._servers.take(store._servers.masters()[0])
    with pytest.raises(StorageError, match=r"all 1 connections.*\n.*max_connections"):
        read(store)
    store._servers.give_back(in_use)
    assert read(store) is None
    store.close()


def test_more_threads_than_connections_take_turns(redis, redis_cluster) -> None:
    for url, kind in ((redis.url, "redis"), (redis_cluster.url, "redis_cluster")):
        store = opened(url, redis_type=kind, max_connections=3, timeout_s=20)
        read(store)
        failed: list[BaseException] = []

        def look(store: RedisOnlineStore = store, failed: list[BaseException] = failed) -> None:
            try:
                for i in range(100):
                    assert read(store, b"%d" % i) is None
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=look) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        connections = store._servers._connections
        assert failed == [] and connections.waiting == 0
        assert connections.opened == sum(map(len, connections.idle.values())) <= 3
        store.close()
        assert connections.opened == 0


def test_settings_that_may_lose_rows_are_warned_of(private_redis: Redis) -> None:
    store = opened(private_redis.admin_url)
    assert store.warnings() == []
    with private_redis.client() as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
    evicts, keeps_nothing = store.warnings()
    assert "allkeys-lru" in evicts and "noeviction" in evicts
    assert "appendonly" in keeps_nothing
    store.close()


# Fail-overs


def test_reads_survive_a_lost_master_and_writes_are_for_one_incarnation(private_redis_sentinel: Any) -> None:
    services = private_redis_sentinel
    store = RedisOnlineStore(retry_s=30, **of_sentinel(services))
    store.prepare(TRIPS)
    store.prepare(STATE)
    write(store, 1)
    before = store.incarnation()
    assert store.write(STATE, [b"k"], [b"x"], condition=Unchanged([NO_ROW], within=before)) == [True]
    ((row,),) = store.read([Lookup(STATE, [b"k"])])
    wait_until(lambda: services.master.is_replicated, "Redis", timeout_s=10)

    services.master.kill()

    assert read(store) == (b"x" * 20, pack_version(1))
    assert write(store, 2, b"y")
    with pytest.raises(StoreReplaced):
        store.write(STATE, [b"k"], [b"z"], condition=Unchanged([row[1]], within=before))
    with pytest.raises(StoreReplaced):
        store.write_progress(STATE, {"0": 1}, within=before)
    now = store.incarnation()
    assert now != before
    assert store.write(STATE, [b"k"], [b"z"], condition=Unchanged([row[1]], within=now)) == [True]
    store.close()


def test_a_planned_fail_over_is_followed(private_redis_sentinel: Any) -> None:
    services = private_redis_sentinel
    store = RedisOnlineStore(retry_s=30, **of_sentinel(services))
    store.prepare(TRIPS)
    write(store, 1)
    wait_until(lambda: services.master.is_replicated, "Redis", timeout_s=10)
    other = opened("", **of_sentinel(services), replica_reads=True)
    assert read(other) is not None

    wait_until(services.fail_over, "Redis Sentinel", timeout_s=20)  # Sentinel has to know the replica well

    assert write(store, 2, b"y")
    assert read(store) == (b"y", pack_version(2))
    store.close()
    other.close()


def test_stale_reads_go_to_a_replica_and_only_if_asked_for(private_redis_sentinel: Any) -> None:
    services = private_redis_sentinel
    store = opened("", **of_sentinel(services))
    stale = opened("", **of_sentinel(services), replica_reads=True)
    store.prepare(TRIPS)
    write(store, 1)
    wait_until(lambda: services.master.is_replicated, "Redis", timeout_s=10)

    def asked(server: Redis) -> int:
        with server.client() as client:
            return client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"]

    assert read(stale) == read(store) == (b"x" * 20, pack_version(1))
    assert (asked(services.master), asked(services.replica)) == (1, 1)
    store.close()
    stale.close()


@pytest.fixture
def cluster_with_replica(private_redis_cluster: Any, private_service: Any) -> Iterator[tuple[Any, Redis]]:
    """A cluster whose first master has a replica."""
    cluster = private_redis_cluster
    replica = private_service(Redis, cluster=True)
    cluster.add_replica(replica, of=cluster.nodes[0])
    yield cluster, replica


def test_a_cluster_goes_on_when_a_replica_takes_over(cluster_with_replica: tuple[Any, Redis]) -> None:
    cluster, _ = cluster_with_replica
    store = RedisOnlineStore(cluster.nodes[1].url.removesuffix("/0"), redis_type="redis_cluster", retry_s=40)
    store.prepare(TRIPS)
    keys = [b"%d" % i for i in range(200)]
    store.write(TRIPS, keys, keys, condition=Newest([pack_version(1)] * 200))
    store.write_progress(TRIPS, {"0": 1})
    before = store.incarnation()
    wait_until(lambda: cluster.nodes[0].is_replicated, "Redis", timeout_s=10)

    cluster.nodes[0].kill()

    (rows,) = store.read([Lookup(TRIPS, keys)])
    assert rows == [(key, pack_version(1)) for key in keys]
    assert store.progress(TRIPS) == {"0": 1}
    assert store.incarnation() != before
    with pytest.raises(StoreReplaced):
        store.write_progress(TRIPS, {"0": 2}, within=before)
    assert store.write(TRIPS, keys, keys, condition=Newest([pack_version(2)] * 200)) == [True] * 200
    store.close()


def test_a_cluster_without_a_master_for_some_keys_is_an_error_after_a_bounded_wait(private_redis_cluster: Any) -> None:
    cluster = private_redis_cluster
    store = opened(cluster.nodes[0].url.removesuffix("/0"), redis_type="redis_cluster")
    store.prepare(TRIPS)
    keys = [b"%d" % i for i in range(50)]
    cluster.nodes[2].kill()

    told(lambda: store.read([Lookup(TRIPS, keys)]), "online_store.retry_s", within_s=20)

    def is_down() -> bool:
        with cluster.nodes[0].client() as client:
            return client.cluster("INFO")["cluster_state"] == "fail"

    wait_until(is_down, "Redis Cluster", timeout_s=20)
    error = told(lambda: store.read([Lookup(TRIPS, [b"0"])]), "online_store.retry_s", within_s=20)
    assert "cannot serve all keys" in str(error) or "cannot be reached" in str(error)
    store.close()
