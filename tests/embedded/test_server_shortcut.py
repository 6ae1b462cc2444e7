"""The shortcut of one-row requests over real connections: the bytes of the general way, in order, or left to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from uvicorn.server import ServerState

from asof import FeatureStore
from asof.errors import NotAuthenticated
from asof.server.app import App
from asof.server.fast_path.shortcut import HEADS, Shortcut
from asof.server.http.connection import BoundedProtocol, sweep
from asof.server.process.service import Service
from asof.server.settings import ServerSettings
from asof.store import open_store_of
from tests.embedded.test_server_one_row import DEFINITIONS, NOW

FEATURES = ["one:number", "one:word", "one:count"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("shortcut")
    (folder / "feature_store.yaml").write_text(f"project: shop\nclock: {NOW.isoformat()}\n")
    (folder / "features.py").write_text(DEFINITIONS + 'model = FeatureService("model", features=[one])\n')
    rows = pa.table(
        {
            "user_id": [1, 2], "shop": ["a", "b"], "at": pa.array([NOW, NOW], pa.timestamp("us", "UTC")),
            "number": [1.5, None], "count": [2**62, 1], "flag": [True, None], "word": ["plain", "\r\n\r\n"],
        }
    )  # fmt: skip
    pq.write_table(rows, folder / "rows.parquet")
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
    return folder


class Reader:
    """A non-blocking reader over the embedded store, whose replies come when the test wants them."""

    def __init__(self, store: FeatureStore) -> None:
        self.store = store
        self.asked = 0
        self.is_connected = True
        self.held: list[Callable[[], None]] | None = None
        self.failure: Exception | None = None

    async def read(self, lookups: Any) -> Any:
        return open_store_of(self.store).stores.online.read_marked(lookups)

    def asker(self, tables: Sequence[Any]) -> Any:
        def ask(keys: Sequence[bytes], reply: Any) -> bool:
            if not self.is_connected:
                return False
            self.asked += 1
            rows = [
                open_store_of(self.store).stores.online.read([(table, [key])])[0][0]
                for table, key in zip(tables, keys, strict=True)
            ]

            def tell() -> None:
                if self.failure is not None:
                    reply.set_exception(self.failure)
                else:
                    reply.set_result([None if row is None else row[0] for row in rows])

            if self.held is None:
                asyncio.get_running_loop().call_soon(tell)
            else:
                self.held.append(tell)
            return True

        return ask

    def packed(self, tables: Any, values: Any) -> Any:
        return values

    def release(self) -> None:
        held, self.held = self.held or [], None
        for tell in held:
            tell()

    async def close(self) -> None:
        pass


class Client:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        for part in parts[:-1]:
            self.writer.write(part)
            # So that the other side mostly gets each part by itself; the answer is the same if it does not.
            await asyncio.sleep(0.005)
        self.writer.write(parts[-1])

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(30):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            return int(head[0].split()[1]), headers, await self._reader.readexactly(int(headers["content-length"]))

    async def ask(self, body: Any, **options: Any) -> tuple[int, dict[str, str], bytes]:
        await self.send(request(body, **options))
        return await self.answer()

    async def begins(self) -> bool:
        async with asyncio.timeout(30):
            return await self._reader.read(1) != b""

    async def ends(self) -> bool:
        async with asyncio.timeout(30):
            return await self._reader.read() == b""


def request(body: Any, *, path: str = "/get-online-features", more: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{more}content-length: {len(raw)}\r\n\r\n".encode() + raw


def about(user: Any, features: Any = FEATURES, **more: Any) -> dict[str, Any]:
    return {"features": features, "entities": {"user_id": [user]}, **more}


@asynccontextmanager
async def server(folder: Path, **settings: Any) -> AsyncIterator[Any]:
    """The protocol of the workers, listening in this process; `client()` connects."""
    service = Service(FeatureStore(folder), ServerSettings(**settings))
    config = uvicorn.Config(App(service), ws="none", log_config=None, server_header=False, date_header=False)
    config.load()
    shortcut = config.shortcut = Shortcut(service)  # type: ignore[attr-defined]
    state = ServerState()
    await service.start()
    service.waiting = lambda: service.working + shortcut.in_flight
    reader = service.reading.without_blocking = Reader(service.store)
    service.reading.is_local = False
    made = await asyncio.get_running_loop().create_server(
        lambda: BoundedProtocol(config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    clients = []

    async def client() -> Client:
        streams = await asyncio.open_connection("127.0.0.1", made.sockets[0].getsockname()[1])
        clients.append(streams[1])
        return Client(*streams)

    try:
        yield SimpleNamespace(client=client, reader=reader, service=service, shortcut=shortcut, state=state)
    finally:
        for each in clients:
            each.close()
        made.close()
        await service.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.001)


async def warm(client: Client) -> None:
    """Decide the request, and have its head known."""
    for _ in range(2):
        await client.ask(about(1))


def test_an_ordinary_request_is_answered_with_the_bytes_of_the_general_way(folder):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            for body in (about(1), about(2), {"feature_service": "model", "entities": {"user_id": [2]}},
                         about(1, full_feature_names=True)):  # fmt: skip
                general = await client.ask(body, path="/get-online-features?")
                await client.ask(body)
                before = on.reader.asked
                short = await client.ask(body)

                assert on.reader.asked == before + 1
                assert short == general
                assert short[0] == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (about(99), 200), (about(None), 422), (about("1"), 422), (about(1, ["one:nothing"]), 404),
        (about(1, []), 422), (about(1, "one:word"), 422), (about(1, None), 422), (b"{", 400), (b"\xff", 400),
        (b'{"entities":{"user_id":[1],"user_id":[2]},"features":["one:word"]}', 422),
        ({"features": FEATURES, "feature_service": "model", "entities": {"user_id": [1]}}, 422),
        ({"feature_service": "nobody", "entities": {"user_id": [1]}}, 404),
        ({"features": FEATURES, "entities": {"user_id": [1, 2]}}, 200), (about(1, ["counted:n"]), 200),
        (about(1, include_feature_view_version_metadata=True), 200), ([], 422), ({"features": FEATURES}, 422),
    ],
)  # fmt: skip
def test_what_is_out_of_the_ordinary_is_answered_by_the_general_way(folder, body, status):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            await warm(client)
            general = await client.ask(body, path="/get-online-features?")

            assert await client.ask(body) == general
            assert await client.ask(body) == general
            assert general[0] == status
            assert await client.ask(about(1)) == await client.ask(about(1), path="/get-online-features?")

    asyncio.run(run())


def test_each_request_counts_once_as_use_on_the_short_way_and_on_the_general_one(folder):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            await warm(client)
            on.service.reading.use.flush()
            known = {each.feature: each.requests for each in on.service.store.use()}
            before = on.reader.asked
            for body in (about(1), about(1), about(99), about("no number"), about(1, ["one:nothing"])):
                await client.ask(body)
            assert on.reader.asked > before, "the short way was taken"
            on.service.reading.use.flush()
            used = {each.feature: each.requests - known.get(each.feature, 0) for each in on.service.store.use()}
            # Two on the short way, and one whose missing row left it; what is refused is no use.
            assert {feature: number for feature, number in used.items() if number} == dict.fromkeys(FEATURES, 3)

    asyncio.run(run())


def test_a_request_may_come_in_any_pieces(folder):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            await warm(client)
            whole = request(about(1))
            expected = await client.ask(about(1))
            head = whole.find(b"\r\n\r\n") + 4
            before = on.reader.asked
            for parts in ((whole[:head], whole[head:]), (whole[:head], whole[head : head + 9], whole[head + 9 :])):
                await client.send(*parts)
                assert await client.answer() == expected
            assert on.reader.asked == before + 2

            for parts in (
                (whole[:9], whole[9:]),
                (whole[: head - 2], whole[head - 2 :]),
                (b"\r\n", whole),
                (b"\r\n" + whole,),
            ):
                await client.send(*parts)
                assert await client.answer() == expected

    asyncio.run(run())


def test_answers_come_in_the_order_of_their_requests(folder):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            await warm(client)
            bodies = [about(1), about(2), about(99), about(1), {"features": FEATURES, "entities": {"user_id": [1, 2]}}]
            expected = [await client.ask(body) for body in bodies]

            await client.send(b"".join(map(request, bodies)))
            assert [await client.answer() for _ in bodies] == expected

            on.reader.held = []
            await client.send(*map(request, bodies))
            await until(lambda: on.shortcut.in_flight == 1)
            assert len(on.reader.held) == 1
            on.reader.release()
            assert [await client.answer() for _ in bodies] == expected

    asyncio.run(run())


@pytest.mark.parametrize("is_connected", [True, False])
def test_a_store_that_is_away_is_asked_again_by_the_general_way(folder, is_connected):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            await warm(client)
            expected = await client.ask(about(1))
            on.reader.is_connected, on.reader.failure = is_connected, OSError("gone")

            assert await client.ask(about(1)) == expected
            assert on.shortcut.in_flight == 0

    asyncio.run(run())


def test_requests_that_wait_for_the_store_count_as_waiting(folder):
    async def run() -> None:
        async with server(folder, max_waiting=1) as on:
            clients = [await on.client() for _ in range(4)]
            await warm(clients[0])
            on.reader.held = []
            for client in clients[:2]:
                await client.send(request(about(1)))
            await until(lambda: on.shortcut.in_flight == 2)

            assert (await clients[2].ask(about(1)))[0] == 503
            on.reader.release()
            assert [(await client.answer())[0] for client in clients[:2]] == [200, 200]

    asyncio.run(run())


def test_a_server_that_stops_answers_what_waits_and_closes(folder):
    async def run() -> None:
        async with server(folder) as on:
            draining, leaving = await on.client(), await on.client()
            await warm(draining)
            on.reader.held = []
            await draining.send(request(about(1)))
            await until(lambda: on.shortcut.in_flight == 1)
            on.service.is_draining = True
            on.reader.release()
            status, headers, _ = await draining.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await draining.ends()

            on.service.is_draining, on.reader.held = False, []
            await leaving.send(request(about(1)))
            await until(lambda: on.shortcut.in_flight == 1)
            (connection,) = [each for each in on.state.connections if not each.is_idle]
            connection.shutdown()
            on.reader.release()
            status, headers, _ = await leaving.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await leaving.ends()

    asyncio.run(run())


def test_a_body_that_does_not_come_is_not_waited_for_without_end(folder):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            await warm(client)
            whole = request(about(1))
            await client.send(whole[:-5])
            (connection,) = on.state.connections
            await until(lambda: not connection.is_idle)

            sweep(on.state.connections, now=100.0, receive_timeout_s=10)
            sweep(on.state.connections, now=109.0, receive_timeout_s=10)
            await client.send(whole[-5:])
            assert (await client.answer())[0] == 200

            await client.send(whole[:-5])
            await until(lambda: not connection.is_idle)
            sweep(on.state.connections, now=111.0, receive_timeout_s=10)
            sweep(on.state.connections, now=122.0, receive_timeout_s=10)
            assert (await client.answer())[0] == 408
            assert await client.ends()

    asyncio.run(run())


def test_a_client_that_leaves_while_the_store_is_asked_hurts_nobody(folder):
    async def run() -> None:
        async with server(folder) as on:
            staying, leaving = await on.client(), await on.client()
            await warm(staying)
            on.reader.held = []
            await leaving.send(request(about(1)))
            await until(lambda: on.shortcut.in_flight == 1)
            leaving.writer.close()
            await until(lambda: len(on.state.connections) == 1)
            on.reader.release()

            assert (await staying.ask(about(1)))[0] == 200
            assert on.shortcut.in_flight == 0

    asyncio.run(run())


def test_requests_are_counted(folder):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            for _ in range(5):
                await client.ask({"feature_service": "model", "entities": {"user_id": [1]}})

            counts = on.service.counts
            assert on.reader.asked == 4
            assert counts.requests == {("/get-online-features", "model", 200): 5}
            assert counts.rows == {("/get-online-features", "model"): 5}
            assert counts.views["one"][0] == 5
            assert sum(counts.store.buckets) == 5

    asyncio.run(run())


@pytest.mark.parametrize(
    "more",
    [
        "expect: 100-continue\r\n", "origin: http://a\r\n", "transfer-encoding: chunked\r\n", "connection: close\r\n",
        "upgrade: h2c\r\nconnection: upgrade\r\n", "x: a\r\n b\r\n", f"x: {'a' * 5000}\r\n",
    ],
)  # fmt: skip
def test_heads_that_mean_more_are_not_remembered(folder, more):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            await client.send(request(about(1), more=more))
            assert await client.begins()
            assert on.shortcut.heads == {}

    asyncio.run(run())


def test_heads_of_unknown_callers_are_not_remembered(folder, monkeypatch):
    async def run() -> None:
        async with server(folder) as on:

            def refuse(caller: Any) -> Any:
                raise NotAuthenticated("no key", hint="send one")

            client = await on.client()
            await warm(client)
            known = dict(on.shortcut.heads)
            monkeypatch.setattr(on.service.security, "authenticate", refuse)
            for i in range(3):
                status, _, _ = await client.ask(about(1), more=f"x: {i}\r\n")
                assert status == 401

            assert known and on.shortcut.heads == known

    asyncio.run(run())


def test_not_more_heads_are_remembered_than_was_said(folder):
    async def run() -> None:
        async with server(folder) as on:
            client = await on.client()
            for i in range(HEADS + 2):
                await client.ask(about(1), more=f"x: {i}\r\n")

            assert len(on.shortcut.heads) == 2

    asyncio.run(run())
