"""The fast path over real connections and a real Redis: any request gets the bytes that the general way answers."""

from __future__ import annotations

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from asof import FeatureStore
from asof.errors import AsofError
from asof.server.app import App
from asof.server.fast_path.shortcut import Shortcut
from asof.server.http.connection import BoundedProtocol
from asof.server.process.service import Service
from asof.server.settings import ServerSettings
from tests.embedded.test_server_one_row import DEFINITIONS, NOW
from tests.services import Redis

pytestmark = pytest.mark.integration

NUMBERS = [1.5, None, math.nan, -math.inf, math.inf, 0.0, -0.0, 1e308, 5e-324, 0.1, -1e-7, 2.0**53]
COUNTS = [2**62, None, -1, 0, 2**63 - 1, -(2**63), 5]
WORDS = ["plain", None, "says null", 'a "quote"', "", "\r\n\r\n", "\u0000\u001f", "ü€😀", "\\", "a" * 5000]
AGES = [
    timedelta(), timedelta(microseconds=1), timedelta(days=1, microseconds=7), timedelta(days=30),
    timedelta(days=30, microseconds=1), timedelta(days=40), timedelta(microseconds=-1), timedelta(days=-1),
]  # fmt: skip
SHOPS = ["a", "b", "ü", "", "\\", "a}b"]
USERS = 120


class Serving:
    """A server in this process, on a loop of its own.

    Args:
        fast_path: as `server.fast_path`.
    """

    def __init__(self, folder: Path, *, fast_path: bool) -> None:
        self.taken = 0
        self._folder, self._fast_path = folder, fast_path
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._service, self.port = self._run(self._start())
        self._socket: socket.socket | None = None

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> Any:
        service = Service(FeatureStore(self._folder), ServerSettings(fast_path=self._fast_path))
        config: Any = uvicorn.Config(
            App(service), ws="none", log_config=None, server_header=False, date_header=False, proxy_headers=False
        )
        config.load()
        config.shortcut = self._counting(Shortcut(service)) if service.takes_fast_path else None
        await service.start()
        state = ServerState()
        made = await self._loop.create_server(
            lambda: BoundedProtocol(config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        return service, made.sockets[0].getsockname()[1]

    def _counting(self, shortcut: Shortcut) -> Any:
        def take(connection: Any, data: bytes) -> int:
            missing = shortcut.take(connection, data)
            self.taken += missing == 0
            return missing

        return SimpleNamespace(take=take, learn=shortcut.learn, url=shortcut.url)

    def answer(self, raw: bytes, *, cuts: tuple[int, ...] = ()) -> bytes:
        """All bytes of the answer; on one connection as long as the server keeps it open."""
        for attempt in range(2):
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self.port), timeout=30)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                for start, end in zip((0, *cuts), (*cuts, len(raw)), strict=True):
                    self._socket.sendall(raw[start:end])
                found = self._whole()
            except OSError:
                found = b""
            if found or attempt:
                break
            self.hang_up()  # the server had closed it after the answer before
        if b"connection: close" in found.lower():
            self.hang_up()
        return found

    def _whole(self) -> bytes:
        assert self._socket is not None
        found = b""
        while b"\r\n\r\n" not in found:
            more = self._socket.recv(1 << 16)
            if not more:
                return found
            found += more
        head, _, body = found.partition(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:"))
        while len(body) < size:
            body += self._socket.recv(1 << 16)
        return head + b"\r\n\r\n" + body

    def hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def stop(self) -> None:
        self.hang_up()
        self._run(self._service.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, redis: Redis) -> Path:
    folder: Path = tmp_path_factory.mktemp("fast_path")
    (folder / "feature_store.yaml").write_text(
        f"project: shop\nclock: {NOW.isoformat()}\nonline_store:\n  type: redis\n  url: {redis.url}\n"
        f'  key_prefix: "fast_path_{folder.name}:"\n'
    )
    (folder / "features.py").write_text(
        DEFINITIONS
        + 'model = FeatureService("model", features=[one])\nboth = FeatureService("both", features=[one, pair])\n'
    )

    def cycled(values: list[Any]) -> list[Any]:
        return [values[place % len(values)] for place in range(USERS)]

    rows = pa.table(
        {
            "user_id": list(range(USERS)), "shop": cycled(SHOPS), "number": cycled(NUMBERS), "count": cycled(COUNTS),
            "at": pa.array([NOW - age for age in cycled(AGES)], pa.timestamp("us", "UTC")),
            "flag": cycled([True, None, False]), "word": cycled(WORDS),
        }
    )  # fmt: skip
    pq.write_table(rows, folder / "rows.parquet")
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
        pushed = pa.table(
            {
                "user_id": [1, 2, 2, 3], "number": [1.0, None, 3.0, math.nan], "word": ["a", "b", "c", None],
                "at": [NOW - timedelta(hours=1), NOW - timedelta(hours=2), NOW + timedelta(minutes=1), NOW],
            }
        )  # fmt: skip
        store.push("clicks", pushed)
    return folder


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[tuple[Serving, Serving]]:
    made = (Serving(folder, fast_path=True), Serving(folder, fast_path=False))
    yield made
    for each in made:
        each.stop()


PLAIN = [f"{view}:{name}" for view in ("one", "pair") for name in ("number", "count", "flag", "word")]
REFERENCES = st.sampled_from([*PLAIN, "newest:word", "newest:number"])
ODD_REFERENCES = st.sampled_from(
    ["counted:n", "stuffed:word", "one:nothing", "nobody:x", "one", "", ":", "one:", "\ud800"]
)
KEYS = st.one_of(st.integers(0, USERS), st.sampled_from([-1, 2**31, 2**63 - 1, -(2**63)]))
ODD_KEYS = st.sampled_from([None, True, 1.0, 1.5, "1", 2**63, -(2**63) - 1, [1], {"a": 1}, "", "\ud800", 10**400])
FEATURES = st.one_of(
    st.lists(REFERENCES, min_size=1, max_size=6),
    st.lists(st.one_of(REFERENCES, ODD_REFERENCES), max_size=4),
    st.sampled_from([None, [], "one:word", "model", 1, [1], [None], {"a": 1}]),
)
COLUMN = st.one_of(
    st.lists(KEYS, min_size=1, max_size=1), st.lists(st.one_of(KEYS, ODD_KEYS), max_size=3), ODD_KEYS,
)  # fmt: skip
SHOP = st.one_of(
    st.lists(st.sampled_from(SHOPS), min_size=1, max_size=1), st.lists(st.one_of(st.text(), ODD_KEYS), max_size=2)
)


@st.composite
def ordinary(draw: Any) -> bytes:
    """A body as programs send it: plain views, one row of keys that fit."""
    view = draw(st.sampled_from(["one", "one", "pair", "newest", "model"]))
    content: dict[str, Any] = {"features": draw(st.lists(REFERENCES, min_size=1, max_size=6, unique=True))}
    if view == "model":
        content = {"feature_service": "model"}
    elif view != "pair":
        content["features"] = [each for each in content["features"] if not each.startswith("pair")] or ["one:word"]
    content["entities"] = {"user_id": [draw(KEYS)]}
    if any(each.startswith("pair") for each in content.get("features", ())):
        content["entities"]["shop"] = [draw(st.sampled_from(SHOPS))]
    if draw(st.booleans()):
        content["full_feature_names"] = draw(st.booleans())
    if len({each.partition(":")[2] for each in content.get("features", ())}) < len(content.get("features", ())):
        content["full_feature_names"] = True
    return json.dumps(content, ensure_ascii=draw(st.booleans())).encode()


@st.composite
def odd(draw: Any) -> bytes:
    """A body that is odd in one place or more, or no JSON at all."""
    entities: Any = {}
    if draw(st.integers(0, 9)):
        entities["user_id"] = draw(COLUMN)
    if draw(st.booleans()):
        entities["shop"] = draw(SHOP)
    if draw(st.integers(0, 9)) == 0:
        entities[draw(st.sampled_from(["other", "", "user_id2", "features"]))] = [1]
    if draw(st.integers(0, 19)) == 0:
        entities = draw(st.sampled_from([None, [], [{"user_id": 1}], "x", 3]))
    content: dict[str, Any] = {"entities": entities}
    asks = draw(st.integers(0, 9))
    if asks:
        content["features"] = draw(FEATURES)
    if asks in (0, 1):
        content["feature_service"] = draw(st.sampled_from(["model", "both", "nobody", "", None, 1]))
    for name in ("full_feature_names", "include_feature_view_version_metadata"):
        if draw(st.integers(0, 4)) == 0:
            content[name] = draw(st.sampled_from([True, False, None, 1, "true"]))
    if draw(st.integers(0, 9)) == 0:
        content[draw(st.sampled_from(["more", "at", "Entities"]))] = draw(st.sampled_from([1, None, {}]))
    if draw(st.booleans()):
        content = dict(reversed(content.items()))
    indent = draw(st.sampled_from([None, None, None, 1]))
    text = json.dumps(content, indent=indent, ensure_ascii=draw(st.booleans()))
    raw = text.encode("utf-8", "surrogatepass")
    damage = draw(st.integers(0, 29))
    if damage == 0:
        return raw[: draw(st.integers(0, len(raw)))]
    if damage == 1:
        return raw + draw(st.sampled_from([b" ", b"\n", b"x", b"{}", b"\x00"]))
    if damage == 2:
        return raw.replace(b'"entities"', b'"features": ["one:word"], "entities"', 1)
    if damage == 3:
        return draw(st.sampled_from([b"", b"\xff", b"[]", b"null", b"[" * 5000]))
    return raw


HEADERS = st.sampled_from(
    [
        "", "", "", "", "X: 1\r\n", "accept: */*\r\ncontent-type: application/json\r\n", "Accept:application/json\r\n",
        "content-type: text/plain\r\n", "connection: close\r\n", "connection: keep-alive\r\n", "origin: http://a\r\n",
        "content-encoding: gzip\r\n", "authorization: Bearer x\r\n", "traceparent: 00-1-1-01\r\n", "x: a\r\n\tb\r\n",
    ]
)  # fmt: skip
STARTS = st.sampled_from(
    ["POST /get-online-features HTTP/1.1"] * 12
    + ["POST /get-online-features? HTTP/1.1", "GET /get-online-features HTTP/1.1", "POST /get-online-features HTTP/1.0"]
)


@st.composite
def requests(draw: Any) -> tuple[bytes, tuple[int, ...]]:
    """A request's bytes, and where they are cut into pieces."""
    body = draw(st.one_of(ordinary(), ordinary(), odd()))
    raw = f"{draw(STARTS)}\r\nhost: localhost\r\n{draw(HEADERS)}content-length: {len(body)}\r\n\r\n".encode() + body
    cuts = draw(st.one_of(st.just(()), st.lists(st.integers(1, len(raw) - 1), max_size=2, unique=True)))
    return raw, tuple(sorted(cuts))


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_any_request_is_answered_with_the_bytes_of_the_general_way(
    servers: tuple[Serving, Serving], request: tuple[bytes, tuple[int, ...]]
) -> None:
    fast, general = servers
    raw, cuts = request
    expected = general.answer(raw)
    before = fast.taken

    # At first the general way decides it, and the parser learns its head; then the fast path may take it.
    # One that is refused before all of it has come closes its connection, so that only others are cut into pieces.
    whole = not expected.startswith(b"HTTP/1.1 200")
    first, second, third = fast.answer(raw), fast.answer(raw), fast.answer(raw, cuts=() if whole else cuts)

    event(f"the fast path took {fast.taken - before} of 3; {expected[9:12].decode()}")
    assert expected
    assert first == expected
    assert second == expected
    assert third == expected


def test_ordinary_requests_take_the_fast_path_only_where_it_is_on(servers: tuple[Serving, Serving]) -> None:
    fast, general = servers
    before = fast.taken
    for user in range(1, 6):
        body = json.dumps({"features": ["one:word", "one:number"], "entities": {"user_id": [user]}}).encode()
        raw = (
            f"POST /get-online-features HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert [fast.answer(raw) for _ in range(3)] == [general.answer(raw)] * 3

    assert fast.taken - before >= 10
    assert general.taken == 0


def test_rows_of_pushes_take_the_fast_path_too(
    folder: Path, servers: tuple[Serving, Serving], caplog: pytest.LogCaptureFixture
) -> None:
    fast, general = servers
    # Taken for a row of a batch view, which has a longer version before it, this text begins another row: a time, 5, 65.
    text = "xy\u0096\x02\u0380AAA\x05A"
    with FeatureStore(folder) as store:
        store.push("clicks", [{"user_id": 90, "number": 0.5, "word": text, "at": NOW - timedelta(hours=1)}])
    for user in (1, 2, 3, 90):
        raw = ask_one(["newest:word", "newest:number", "one:word"][: 2 + user % 2], user)
        if user % 2:
            raw = raw.replace(b'{"features"', b'{"full_feature_names": true, "features"')
            body = raw.partition(b"\r\n\r\n")[2]
            raw = (
                f"POST /get-online-features HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                + body
            )
        expected = general.answer(raw)
        assert expected.startswith(b"HTTP/1.1 200")
        assert [fast.answer(raw) for _ in range(3)] == [expected] * 3
    assert "the fast path failed" not in caplog.text


@pytest.mark.parametrize("more", ["tracing: otlp", "feature_log_share: 0.5", "fast_path: false"])
def test_settings_that_need_the_general_way_switch_the_fast_path_off(folder: Path, more: str) -> None:
    name, value = more.split(": ")
    options: dict[str, Any] = {name: {"false": False, "0.5": 0.5}.get(value, value)}
    with FeatureStore(folder) as store:
        assert Service(store, ServerSettings()).takes_fast_path
        assert not Service(store, ServerSettings(**options)).takes_fast_path


def get_request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


def ask_one(features: list[str], user: int) -> bytes:
    body = json.dumps({"features": features, "entities": {"user_id": [user]}}).encode()
    return (
        f"POST /get-online-features HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    )


@pytest.mark.parametrize("lost", ["all rows", "all rows, and then one is pushed", "all but rows"])
def test_lost_rows_are_answered_as_by_the_general_way(tmp_path: Path, private_redis: Redis, lost: str) -> None:
    """Never zeros or nulls, nor rows beside which no marker is: they do not know of the lost ones."""
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\nclock: {NOW.isoformat()}\nonline_store: {{type: redis, url: '{private_redis.url}'}}\n"
    )
    (tmp_path / "features.py").write_text(DEFINITIONS)
    rows = pa.table(
        {
            "user_id": [1, 2], "shop": ["a", "b"], "number": [1.5, 2.5], "count": [1, 2], "flag": [True, False],
            "at": pa.array([NOW - timedelta(days=1)] * 2, pa.timestamp("us", "UTC")), "word": ["a", "b"],
        }
    )  # fmt: skip
    pq.write_table(rows, tmp_path / "rows.parquet")
    pushed = [{"user_id": 1, "number": 1.0, "word": "newest", "at": NOW - timedelta(hours=1)}]
    late = [{"user_id": 1, "number": 9.0, "word": "late", "at": NOW - timedelta(hours=2)}]
    with FeatureStore(tmp_path) as store:
        store.apply()
        store.materialize()
        store.push("clicks", pushed)
        requests = [ask_one(["one:word", "one:number"], 1), ask_one(["newest:word", "newest:number"], 1)]
        fast, general = Serving(tmp_path, fast_path=True), Serving(tmp_path, fast_path=False)
        try:
            for raw in requests:
                assert [fast.answer(raw) for _ in range(3)] == [general.answer(raw)] * 3
            taken = fast.taken
            assert taken >= 2, "the fast path knows these requests, and is asked first"
            with private_redis.client() as client:
                if lost == "all but rows":
                    others = [name for name in client.scan_iter(count=1000) if not name.endswith(b"}")]
                    assert client.delete(*others) == len(others) > 0
                else:
                    client.flushdb()
            if "pushed" in lost:
                with suppress(AsofError):
                    store.push("clicks", late)

            for raw in requests:
                expected = general.answer(raw)
                assert expected.startswith(b"HTTP/1.1 503") and b"OnlineRowsLost" in expected
                assert [fast.answer(raw) for _ in range(3)] == [expected] * 3
            assert fast.taken > taken, "the fast path was tried, and left them to the general way"
            for each in (fast, general):
                assert b'"status":"rows lost"' in until_ready_is(each, 503)
        finally:
            fast.stop()
            general.stop()


def until_ready_is(server: Serving, status: int) -> bytes:
    for _ in range(300):
        if (found := server.answer(get_request("/ready"))).startswith(b"HTTP/1.1 %d" % status):
            return found
        time.sleep(0.1)
    raise AssertionError(f"/ready did not become {status}")
