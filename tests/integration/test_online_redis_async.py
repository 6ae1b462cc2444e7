"""The non-blocking Redis reader: the same answers as the blocking one, also through TLS, restarts and silence."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from asof.errors import StorageError
from asof.online.protocol import NO_ROW, Lookup, Newest, OnlineTable, Unchanged, pack_version
from asof.online.redis.aio import AsyncReader
from asof.online.redis.connection import ConnectionLost
from asof.online.redis.store import RedisOnlineStore
from tests.redis_stores import of_sentinel
from tests.services import Redis

pytestmark = pytest.mark.integration

TRIPS = OnlineTable("prod", "trips", "1-1", "latest")
STATE = OnlineTable("prod", "traffic", "1-1", "state")
UNKNOWN = OnlineTable("prod", "unknown", "1-1", "latest")
V1 = pack_version(1)
KEYS = [b"%d" % i for i in range(6000)]


def fill(store: RedisOnlineStore) -> None:
    for table in (TRIPS, STATE):
        store.prepare(table)
        store.mark(table)
    store.write(TRIPS, KEYS, [key * 20 for key in KEYS], condition=Newest([V1] * len(KEYS)))
    store.write(STATE, KEYS[:100], KEYS[:100], condition=Unchanged([NO_ROW] * 100))


def with_reader(store: RedisOnlineStore, work: Callable[[AsyncReader], Awaitable[Any]]) -> Any:
    """Run `work` with a reader in an event loop of its own."""

    async def run() -> Any:
        reader = store.async_reader()
        assert reader is not None
        try:
            return await work(reader)
        finally:
            await reader.close()

    return asyncio.run(run())


@pytest.fixture
def store(redis, key_prefix: str) -> Iterator[RedisOnlineStore]:
    store = RedisOnlineStore(redis.url, key_prefix=f"{key_prefix}:")
    fill(store)
    yield store
    store.drop_project("prod")
    store.close()


LOOKUPS = [
    [Lookup(TRIPS, [b"1"])],
    [Lookup(TRIPS, [b"1", b"x", b"1"]), Lookup(STATE, [b"7", b"x"]), Lookup(UNKNOWN, [b"1"]), Lookup(STATE, [])],
    [Lookup(STATE, KEYS[:50])],
    [Lookup(TRIPS, KEYS), Lookup(STATE, KEYS)],
    [Lookup(TRIPS, [])],
    [],
]


@pytest.mark.parametrize("lookups", LOOKUPS)
def test_the_answers_are_those_of_the_blocking_read(store: RedisOnlineStore, lookups: list[Lookup]) -> None:
    assert with_reader(store, lambda reader: reader.read(lookups)) == store.read_marked(lookups)


def test_one_row_of_each_table_is_what_a_read_of_them_answers(store: RedisOnlineStore) -> None:
    tables, keys = [TRIPS, TRIPS, TRIPS], [b"1", b"2", b"x"]
    lookups = [Lookup(table, [key]) for table, key in zip(tables, keys, strict=True)]

    async def work(reader: AsyncReader) -> Any:
        ask, reply = reader.asker(tables), asyncio.get_running_loop().create_future()
        # Not before there is a connection.
        assert not ask(keys, reply)
        await reader.read([Lookup(TRIPS, [b"0"])])
        assert ask(keys, reply)
        # A table without a marker leaves all to the general way.
        ask_also, lost = reader.asker([TRIPS, UNKNOWN]), asyncio.get_running_loop().create_future()
        assert ask_also([b"1", b"1"], lost)
        assert reader.packed([TRIPS, UNKNOWN], await lost) == [None, None]
        return reader.packed(tables, await reply)

    rows = with_reader(store, work)

    assert [[row] for row in rows] == [[row and row[0]] for (row,) in store.read(lookups)]


def test_who_asks_for_one_row_is_told_when_the_connection_is_lost(store: RedisOnlineStore) -> None:
    async def work(reader: AsyncReader) -> Any:
        await reader.read([Lookup(TRIPS, [b"0"])])
        ask, reply = reader.asker([TRIPS]), asyncio.get_running_loop().create_future()
        assert ask([b"1"], reply)
        reader._wire._transport.abort()
        with pytest.raises(ConnectionLost):
            await reply
        assert not ask([b"1"], reply)

    with_reader(store, work)


def test_many_reads_at_once_share_one_connection_and_few_writes(
    store: RedisOnlineStore, redis, monkeypatch: Any
) -> None:
    async def work(reader: AsyncReader) -> None:
        await reader.read([Lookup(TRIPS, [b"0"])])
        transport = reader._wire._transport
        writes = []
        monkeypatch.setattr(reader._wire, "_transport", type("T", (), {
            "write": lambda _, data: writes.append(data) or transport.write(data), "abort": lambda _: transport.abort(),
        })())  # fmt: skip

        answers = await asyncio.gather(*(reader.read([Lookup(TRIPS, [key])]) for key in KEYS[:500]))

        assert answers == [[[(key * 20, V1)]] for key in KEYS[:500]]
        assert len(writes) == 1

    with_reader(store, work)


def test_a_read_that_is_given_up_does_not_mix_up_the_others(store: RedisOnlineStore) -> None:
    async def work(reader: AsyncReader) -> None:
        reads = [asyncio.create_task(reader.read([Lookup(TRIPS, [key])])) for key in KEYS[:200]]
        await asyncio.sleep(0)
        for read in reads[::3]:
            read.cancel()
        answers = await asyncio.gather(*reads, return_exceptions=True)
        for i, (key, answer) in enumerate(zip(KEYS, answers)):
            assert isinstance(answer, asyncio.CancelledError) if i % 3 == 0 else answer == [[(key * 20, V1)]]

    with_reader(store, work)


def test_tls_and_sentinels_serve_it_too(redis, redis_sentinel, store: RedisOnlineStore, key_prefix: str) -> None:
    tls = RedisOnlineStore(redis.tls_url, key_prefix=f"{key_prefix}:", tls_ca=str(redis.certificates.ca))
    assert with_reader(tls, lambda reader: reader.read([Lookup(TRIPS, [b"1"])])) == [[(b"1" * 20, V1)]]
    tls.close()
    watched = RedisOnlineStore(key_prefix=f"{key_prefix}:", **of_sentinel(redis_sentinel))
    fill(watched)
    assert with_reader(watched, lambda reader: reader.read([Lookup(TRIPS, [b"1"])])) == [[(b"1" * 20, V1)]]
    watched.drop_project("prod")
    watched.close()


def test_a_cluster_has_no_such_reader() -> None:
    assert RedisOnlineStore("redis://localhost", redis_type="redis_cluster").async_reader() is None


def test_reads_go_on_after_a_restart(private_redis: Redis) -> None:
    store = RedisOnlineStore(private_redis.url)
    fill(store)

    async def work(reader: AsyncReader) -> None:
        assert await reader.read([Lookup(TRIPS, [b"1"])]) == [[(b"1" * 20, V1)]]
        private_redis.stop()
        restart = threading.Timer(0.5, private_redis.start)
        restart.start()
        answers = await asyncio.gather(*(reader.read([Lookup(TRIPS, [b"1"])]) for _ in range(20)))
        assert answers == [[[(b"1" * 20, V1)]]] * 20
        restart.join()

    with_reader(store, work)
    store.close()


def test_a_server_that_stays_away_is_an_error_after_a_bounded_wait(private_redis: Redis) -> None:
    store = RedisOnlineStore(private_redis.url, retry_s=0.5)
    fill(store)

    async def work(reader: AsyncReader) -> float:
        await reader.read([Lookup(TRIPS, [b"1"])])
        private_redis.stop()
        began = time.monotonic()
        with pytest.raises(StorageError, match=r"cannot be reached.*online_store\.retry_s"):
            await reader.read([Lookup(TRIPS, [b"1"])])
        return time.monotonic() - began

    assert with_reader(store, work) < 5
    store.close()


def test_a_server_that_is_silent_is_given_up(private_redis: Redis) -> None:
    store = RedisOnlineStore(private_redis.url, timeout_s=0.4, retry_s=0.8)
    fill(store)

    async def work(reader: AsyncReader) -> None:
        await reader.read([Lookup(TRIPS, [b"1"])])
        private_redis.process.signal(signal.SIGSTOP)
        try:
            with pytest.raises(StorageError, match=r"did not respond within 0\.4 s \(online_store\.timeout_s\)"):
                await reader.read([Lookup(TRIPS, [b"1"])])
        finally:
            private_redis.process.signal(signal.SIGCONT)
        assert await reader.read([Lookup(TRIPS, [b"1"])]) == [[(b"1" * 20, V1)]]

    with_reader(store, work)
    store.close()


def test_a_wrong_password_and_an_unknown_place_are_told_at_once(redis) -> None:
    for url, words in (
        (redis.url.replace("asof-secret", "no-secret"), "refused the password"),
        ("redis://127.0.0.1:1/0", "cannot be reached"),
    ):
        store = RedisOnlineStore(url)
        with pytest.raises(StorageError, match=words) as caught:
            with_reader(store, lambda reader: reader.read([Lookup(TRIPS, [b"1"])]))
        assert "no-secret" not in str(caught.value)


def test_a_closed_reader_says_so(store: RedisOnlineStore) -> None:
    async def work(reader: AsyncReader) -> None:
        await reader.read([Lookup(TRIPS, [b"1"])])
        await reader.close()
        with pytest.raises(StorageError, match="closed"):
            await reader.read([Lookup(TRIPS, [b"1"])])

    with_reader(store, work)


def test_no_socket_is_left_open(store: RedisOnlineStore, redis) -> None:
    opened = []

    async def work(reader: AsyncReader) -> None:
        await reader.read([Lookup(TRIPS, [b"1"])])
        opened.append(reader._wire._transport)
        await reader.close()
        await asyncio.sleep(0)
        assert opened[0].is_closing() and opened[0].get_extra_info("socket").fileno() == -1

    with_reader(store, work)
