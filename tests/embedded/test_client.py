"""The client over the real routes: its answers are the store's, and its errors are those that the store raises."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import AsyncClient, Client, FeatureStore
from asof.client.responses import error_of, response_of
from asof.client.retries import LONGEST_WAIT_S
from asof.errors import (
    AsofError,
    ConfigError,
    EntityFrameError,
    JobRunning,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Overloaded,
    PushNotApplied,
    RequestError,
    RowsRefused,
    ServerError,
    ServerTimeout,
    ServerUnreachable,
    SourceError,
    UnknownFeature,
)
from asof.server.app import App
from asof.server.process.service import Service

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
day = Entity("day", join_keys=["day", "part", "cut"])
profile = FeatureView("profile", entities=[user], source=FileSource("profile.parquet", name="rows", timestamp_field="at"),
    ttl="30d", schema=[
        Field("age", Int64), Field("small", Int32), Field("score", Float64), Field("half", Float32), Field("name", String),
        Field("is_new", Bool), Field("price", Decimal(12, 2)), Field("raw", Bytes), Field("born", Date),
        Field("seen", Timestamp), Field("doc", Json), Field("tags", Array(String)), Field("times", Array(Timestamp)),
        Field("prices", Array(Decimal(12, 2))), Field("vector", Embedding(2)), Field("filled", Int64, default=7),
    ])
by_day = FeatureView("by_day", entities=[day], source=FileSource("days.parquet", name="days", timestamp_field="at"),
    schema=[Field("day", Date), Field("part", Bytes), Field("cut", Decimal(6, 2)), Field("n", Int64)])
clicks = PushSource("clicks", schema=[
    Field("user_id", Int64), Field("amount", Float64), Field("price", Decimal(12, 2)), Field("raw", Bytes),
    Field("tags", Array(String)), Field("at", Timestamp)], timestamp_field="at")
newest = FeatureView("newest", entities=[user], source=clicks, schema=[
    Field("amount", Float64), Field("price", Decimal(12, 2)), Field("raw", Bytes), Field("tags", Array(String))])
activity = FeatureView("activity", entities=[user], source=clicks, aggregations=[Aggregation("", "count", name="n")])
whole = FeatureView("whole", entities=[], source=FileSource("whole.parquet", name="wholes", timestamp_field="at"),
    schema=[Field("rate", Float64)])
asked = RequestSource("asked", schema=[Field("amount", Float64), Field("since", Timestamp)])

@on_demand_feature_view(sources=[profile[["age"]], asked], schema=[Field("ratio", Float64), Field("later", Bool)], mode="python")
def ratio(row):
    if row["amount"] < 0:
        raise ValueError("no")
    return {"ratio": None if row["age"] is None else row["amount"] / row["age"], "later": row["since"].year > 2000}

model = FeatureService("model", features=[profile[["age", "seen"]], ratio])
"""
AT = pa.timestamp("us", "UTC")


def profile_rows() -> pa.Table:
    micro = datetime(2026, 1, 1, 1, 2, 3, 250_001, tzinfo=UTC)
    return pa.table(
        {
            "user_id": [1, 2, 3],
            "age": [2**63 - 1, None, 2**53 + 1],
            "small": pa.array([-(2**31), None, 7], pa.int32()),
            "score": [float("nan"), float("inf"), -0.0],
            "half": pa.array([0.1, float("-inf"), None], pa.float32()),
            "name": ["Zoë \U0001f600 \"'\\\n", "", None],
            "is_new": [True, False, None],
            "price": pa.array([Number("0.10"), Number("-9999999999.99"), None], pa.decimal128(12, 2)),
            "raw": [b"\x00\xff", b"", None],
            "born": [date(2026, 1, 1), date(1, 1, 1), None],
            "seen": pa.array([micro, datetime(1969, 12, 31, tzinfo=UTC), None], AT),
            "doc": ['{"a":[1,null]}', '"x"', None],
            "tags": [["a", None, ""], [], None],
            "times": pa.array([[micro, None], [], None], pa.list_(AT)),
            "prices": pa.array([[Number("1.50"), None], [], None], pa.list_(pa.decimal128(12, 2))),
            "vector": pa.array([[0.1, float("nan")], [1.0, 2.0], None], pa.list_(pa.float32())),
            "filled": [1, None, None],
            "at": pa.array([micro, NOW, datetime(2025, 1, 1, tzinfo=UTC)], AT),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    (folder / "feature_store.yaml").write_text("project: shop\n")
    (folder / "features.py").write_text(DEFINITIONS)
    pq.write_table(profile_rows(), folder / "profile.parquet")
    days = {"day": [date(2026, 1, 1)], "part": [b"\x00"], "cut": [Number("1.50")], "n": [3], "at": pa.array([NOW], AT)}
    days["cut"] = pa.array(days["cut"], pa.decimal128(6, 2))
    pq.write_table(pa.table(days), folder / "days.parquet")
    pq.write_table(pa.table({"rate": [0.5], "at": pa.array([NOW], AT)}), folder / "whole.parquet")
    with FeatureStore(folder, clock=lambda: NOW) as store:
        store.apply()
        store.materialize()
    return folder


class Bridge(httpx.BaseTransport):
    """Carries a waiting client's requests to the server's loop in this thread."""

    def __init__(self, app: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = httpx.ASGITransport(app)
        self._loop = loop

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.stream = httpx.ByteStream(request.read())

        async def answer() -> httpx.Response:
            got = await self._transport.handle_async_request(request)
            body = b"".join([part async for part in got.stream])  # type: ignore[union-attr]
            return httpx.Response(got.status_code, headers=got.headers, content=body)

        return self._loop.run_until_complete(answer())


@dataclass
class Pair:
    """The same repository behind a server, and opened here."""

    client: Client
    store: FeatureStore


@pytest.fixture(scope="module")
def pair(folder: Path) -> Iterator[Pair]:
    loop = asyncio.new_event_loop()
    service = Service(FeatureStore(folder, clock=lambda: NOW))
    loop.run_until_complete(service.start())
    client = client_over(Bridge(App(service), loop))
    with FeatureStore(folder, clock=lambda: NOW) as store, client:
        yield Pair(client, store)
    loop.run_until_complete(service.stop())
    loop.close()


def client_over(transport: Any, **options: Any) -> Client:
    with patch("httpx.Client", partial(httpx.Client, transport=transport)):
        return Client("http://localhost", **options)


USERS = {"user_id": [1, 2, 3, 4]}
READS: dict[str, tuple[Any, Any]] = {
    "every type": ("profile", USERS),
    "a list": (["profile:seen", "profile:age"], [{"user_id": 2}, {"user_id": 1}, {"user_id": 2}]),
    "one reference": ("profile:price", USERS),
    "a view": (["profile"], USERS),
    "an aggregation": ("activity", USERS),
    "keys of odd types": ("by_day", [{"day": date(2026, 1, 1), "part": b"\x00", "cut": Number("1.5")}, {"day": "2026-01-02", "part": b"x", "cut": 3}]),
    "no keys": ("whole:rate", {}),
    "no rows": ("profile", {"user_id": []}),
    "a service with request values": ("model", [{"user_id": 1, "amount": 3, "since": NOW}, {"user_id": 9, "amount": 2.5, "since": "1999-01-01"}]),
    "columns that are passed over": ("profile:age", {"user_id": [1], "other": [NOW]}),
    "pandas": ("profile:age", pd.DataFrame({"user_id": pd.array([1, 2], "Int64")})),
    "polars": ("profile:age", pl.DataFrame(USERS)),
    "arrow": ("profile:age", pa.table(USERS)),
    "numpy": ("profile:age", {"user_id": np.array([1, 2])}),
    "numpy scalars": ("profile:age", [{"user_id": np.int64(1)}]),
}  # fmt: skip


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize("full", [False, True])
def test_a_read_answers_what_the_store_answers(pair: Pair, what: str, full: bool) -> None:
    features, rows = READS[what]
    answer = pair.client.get_online_features(features, rows, full_feature_names=full)
    expected = pair.store.get_online_features(features, rows, full_feature_names=full)

    assert repr(answer.to_dict(include_event_timestamps=True)) == repr(expected.to_dict(include_event_timestamps=True))
    assert answer.statuses == expected.statuses
    assert answer.event_times == expected.event_times
    assert (len(answer), answer.at) == (len(expected), expected.at)
    assert repr(answer.to_arrow()) == repr(expected.to_arrow())
    pd.testing.assert_frame_equal(answer.to_df(), expected.to_df())


def test_a_matrix_is_the_same_too(pair: Pair) -> None:
    features = ["profile:small", "profile:score", "profile:price", "profile:is_new"]

    np.testing.assert_array_equal(
        pair.client.get_online_features(features, USERS).to_numpy(),
        pair.store.get_online_features(features, USERS).to_numpy(),
    )
    with pytest.raises(RequestError, match="feature 'profile:name' has type String; expected a number"):
        pair.client.get_online_features("profile:name", USERS).to_numpy()
    with pytest.raises(RequestError, match="feature 'profile:age' is 9223372036854775807, which no float is exactly"):
        pair.client.get_online_features("profile:age", USERS).to_numpy()


def test_details_may_be_left_out(pair: Pair) -> None:
    answer = pair.client.get_online_features("profile:filled", USERS, details=False)

    assert answer.to_dict()["filled"] == [1, 7, 7, 7]
    with pytest.raises(RequestError, match="the response has no statuses"):
        answer.statuses  # noqa: B018 - the access is what is tested
    with pytest.raises(RequestError, match="the response has no event times"):
        answer.event_times  # noqa: B018


def test_a_service_object_or_a_view_stands_for_its_name(pair: Pair) -> None:
    view = pair.store.get_feature_view("profile")

    assert list(pair.client.get_online_features([view], USERS).to_dict()) == ["user_id", *view.feature_names]
    service = pair.store.get_feature_service("model")
    rows = [{"user_id": 1, "amount": 1.0, "since": NOW}]
    assert pair.client.get_online_features(service, rows).to_dict()["later"] == [True]


BAD_READS: dict[str, tuple[Any, Any]] = {
    "unknown feature": (["profile:agee"], USERS),
    "unknown service": ("modl", USERS),
    "missing key": ("profile:age", [{"user": 1}]),
    "missing key of columns": ("profile:age", {"user": [1]}),
    "null key": ("profile:age", [{"user_id": None}]),
    "wrong type": ("profile:age", [{"user_id": "x"}]),
    "ragged": ("by_day", {"day": [NOW.date()], "part": [b"", b""], "cut": [1]}),
    "one value for a column": ("profile:age", {"user_id": 7}),
    "no features": ([], USERS),
    "colliding names": (["profile:age", "profile:age"], USERS),
    "a function that raises": ("model", [{"user_id": 1, "amount": -1.0, "since": NOW}]),
}


@pytest.mark.parametrize("what", BAD_READS)
def test_an_error_is_the_one_that_the_store_raises(pair: Pair, what: str) -> None:
    features, rows = BAD_READS[what]
    with pytest.raises(AsofError) as expected:
        pair.store.get_online_features(features, rows)
    with pytest.raises(AsofError) as raised:
        pair.client.get_online_features(features, rows)

    if what == "one value for a column":
        # Refused by the server's check of bodies, before the store sees it.
        assert isinstance(raised.value, RequestError)
        return
    assert type(raised.value) is type(expected.value)
    assert (raised.value.message, raised.value.hint) == (expected.value.message, expected.value.hint)


def row(user: int, **more: Any) -> dict[str, Any]:
    known = {
        "user_id": user,
        "amount": float("nan"),
        "price": Number("1.50"),
        "raw": b"\x00\xff",
        "tags": ["a"],
        "at": NOW,
    }
    return known | more


FORMS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "dicts": list,
    "columns": lambda rows: {name: [each[name] for each in rows] for name in rows[0]},
    "pandas": pd.DataFrame,
    "polars": lambda rows: pl.DataFrame(rows),
    "arrow": pa.Table.from_pylist,
}


@pytest.mark.parametrize("form", FORMS)
def test_pushed_rows_are_served_with_every_value_as_it_was(pair: Pair, form: str) -> None:
    user = 100 + list(FORMS).index(form)

    assert pair.client.push("clicks", FORMS[form]([row(user), row(user + 50, amount=None)])) == 2
    answer = pair.client.get_online_features("newest", {"user_id": [user, user + 50]}).to_dict()
    assert repr(answer["amount"][0]) == "nan" or form == "pandas"
    assert (answer["price"], answer["raw"], answer["tags"]) == ([Number("1.50")] * 2, [b"\x00\xff"] * 2, [["a"]] * 2)


def test_a_push_of_the_same_batch_is_none(pair: Pair) -> None:
    assert pair.client.push("clicks", [row(200)], batch_id="till-3/1") == 1
    assert pair.client.push("clicks", [row(200)], batch_id="till-3/1") == 0
    assert pair.client.get_online_features("activity:n", {"user_id": [200]}).to_dict()["n"] == [1]


def test_a_misfit_refuses_the_batch_with_each_reason(pair: Pair) -> None:
    with pytest.raises(RowsRefused) as raised:
        pair.client.push("clicks", [row(300, amount="x"), row(None)])  # type: ignore[arg-type]

    assert len(raised.value.misfits) == 2
    with pytest.raises(RowsRefused, match="row 1: has the columns") as raised:
        pair.client.push("clicks", [row(300), {"user_id": 1}])
    with pytest.raises(RowsRefused, match="nothing was sent"):
        pair.client.push("clicks", 7)
    with pytest.raises(NotFound, match="no push source 'clicksy'"):
        pair.client.push("clicksy", [row(300)])


def test_rows_of_a_view_are_written(pair: Pair) -> None:
    rows = [{"rate": 0.75, "at": NOW}]

    assert pair.client.write_to_online_store("whole", rows) == 1
    assert pair.client.get_online_features("whole:rate", {}).to_dict()["rate"] == [0.75]
    assert pair.client.write_to_online_store("newest", [row(400)]) == 1


def test_materialize_runs_on_the_server(pair: Pair) -> None:
    (done,) = pair.client.materialize_incremental(feature_views=["profile"], wait_s=120)

    assert done["view"] == "profile" and done["rows"] >= 0
    (job, *_) = pair.client.jobs()
    assert job["state"] == "done" and pair.client.job(job["id"])["result"] == [done]
    with pytest.raises(NotFound, match="no feature view 'nosuch'"):
        pair.client.start_materialize(feature_views=["nosuch"])
    with pytest.raises(NotFound, match="there is no job 'x'"):
        pair.client.job("x")


def test_text_that_has_no_utf8_is_refused_before_it_is_sent(pair: Pair) -> None:
    with pytest.raises(RequestError, match="cannot be encoded as UTF-8"):
        pair.client.get_online_features("profile:age", [{"user_id": "\ud800"}])
    with pytest.raises(EntityFrameError, match="expected dicts"):
        pair.client.get_online_features("profile:age", 7)  # type: ignore[arg-type]


def test_the_server_says_how_it_is(pair: Pair) -> None:
    assert pair.client.health() and pair.client.ready()


def test_the_client_for_event_loops_answers_the_same(folder: Path) -> None:
    async def ask() -> None:
        service = Service(FeatureStore(folder, clock=lambda: NOW))
        await service.start()
        with patch("httpx.AsyncClient", partial(httpx.AsyncClient, transport=httpx.ASGITransport(App(service)))):
            client = AsyncClient("http://localhost")
        async with client:
            answers = await asyncio.gather(*(client.get_online_features("profile", USERS) for _ in range(5)))
            assert await client.push("clicks", [row(500)], batch_id="async") == 1
            assert await client.write_to_online_store("whole", [{"rate": 1.0, "at": NOW}]) == 1
            assert await client.health() and await client.ready()
            with pytest.raises(UnknownFeature, match="'profile:agee'"):
                await client.get_online_features(["profile:agee"], USERS)
        with FeatureStore(folder, clock=lambda: NOW) as store:
            expected = store.get_online_features("profile", USERS)
        assert {repr(each.to_dict()) for each in answers} == {repr(expected.to_dict())}
        await service.stop()

    asyncio.run(ask())


# ---- what goes wrong on the way ----

ANSWER = json.dumps(
    {"names": ["user_id", "n"], "rows": [[1, 2]], "at": "2026-01-01T12:00:00Z",
     "types": {"keys": [["user_id", "Int64"]], "request": [], "features": [["n", "Int64", "activity:n"]]}}
).encode()  # fmt: skip


class Script(httpx.BaseTransport):
    """Answers with what it was given, one after the other, and keeps what was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def ok() -> httpx.Response:
    return httpx.Response(200, content=ANSWER, headers={"asof-rows": "1"})


def words(status: int, error: str, message: str = "said", **headers: str) -> httpx.Response:
    body = {"code": error, "message": message, "hint": ""}
    return httpx.Response(status, json=body, headers=headers)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    # The client's own `time`: threads of other tests sleep by the module that all share.
    monkeypatch.setattr("asof.client.sync.time", SimpleNamespace(sleep=waited.append, monotonic=time.monotonic))
    return waited


def read(client: Client) -> Any:
    return client.get_online_features("activity:n", [{"user_id": 1}], details=False)


def push(client: Client) -> Any:
    return client.push("clicks", [{"user_id": 1}])


def push_named(client: Client) -> Any:
    return client.push("clicks", [{"user_id": 1}], batch_id="b")


def write(client: Client) -> Any:
    return client.write_to_online_store("whole", [{"rate": 1.0}])


REFUSED = httpx.ConnectError("[Errno 111] Connection refused")
BROKEN = httpx.RemoteProtocolError("Server disconnected without sending a response.")
SLOW = httpx.ReadTimeout("timed out")
BUSY = lambda: words(503, "Overloaded", **{"retry-after": "1"})  # noqa: E731
LATE = lambda: words(503, "HttpError", "was not answered; it may have been done all the same", **{"retry-after": "1"})  # noqa: E731
GATEWAY = lambda: httpx.Response(502, content=b"<html>bad gateway</html>")  # noqa: E731


@pytest.mark.parametrize(
    ("failure", "repeats"),
    [
        # failure, which of (read, push, push with a batch_id, write) send it again
        (lambda: REFUSED, (True, True, True, True)),
        (lambda: httpx.ConnectTimeout("slow"), (True, True, True, True)),
        (lambda: BROKEN, (True, False, True, False)),
        (lambda: httpx.ReadError("reset"), (True, False, True, False)),
        (lambda: SLOW, (False, False, False, False)),
        (BUSY, (True, True, True, True)),
        (lambda: words(429, "Overloaded"), (True, True, True, True)),
        (lambda: words(503, "StorageError"), (True, False, True, False)),
        (GATEWAY, (True, False, True, False)),
        (lambda: httpx.Response(504), (True, False, True, False)),
        (lambda: words(500, "Unexpected"), (False, False, False, False)),
        (lambda: words(422, "RequestError"), (False, False, False, False)),
        (lambda: words(401, "NotAuthenticated"), (False, False, False, False)),
    ],
)
@pytest.mark.parametrize("place", range(4))
def test_only_what_is_safe_is_sent_again(
    waits: list[float], failure: Any, repeats: tuple[bool, ...], place: int
) -> None:
    call = (read, push, push_named, write)[place]
    script = Script(failure(), ok())
    client = client_over(script)

    if repeats[place]:
        assert call(client)
        assert len(script.asked) == 2 and len(waits) == 1
        assert script.asked[0].content == script.asked[1].content
    else:
        with pytest.raises(AsofError):
            call(client)
        assert len(script.asked) == 1 and waits == []


def test_a_503_that_may_have_been_done_is_not_sent_again(waits: list[float]) -> None:
    script = Script(LATE(), ok())

    with pytest.raises(AsofError, match="may have been done all the same"):
        push(client_over(script))
    assert len(script.asked) == 1


def test_tries_are_bounded(waits: list[float]) -> None:
    script = Script(*[REFUSED] * 9)

    with pytest.raises(ServerUnreachable, match="no connection to http://localhost: connection refused"):
        read(client_over(script, retries=3))
    assert len(script.asked) == 4
    assert len(waits) == 3 and waits == sorted(waits) or max(waits) < 1


def test_retry_after_is_honoured_up_to_a_limit(waits: list[float]) -> None:
    assert read(client_over(Script(words(503, "Overloaded", **{"retry-after": "2"}), ok())))
    assert waits[0] >= 2

    script = Script(words(503, "Overloaded", **{"retry-after": str(int(LONGEST_WAIT_S) + 1)}), ok())
    with pytest.raises(Overloaded) as raised:
        read(client_over(script))
    assert raised.value.retry_after_s == LONGEST_WAIT_S + 1 and len(script.asked) == 1


@pytest.mark.parametrize(
    ("failure", "kind", "says", "hint"),
    [
        (REFUSED, ServerUnreachable, "no connection to http://localhost: connection refused", "that the server is running"),
        (httpx.ConnectTimeout("x"), ServerUnreachable, "within connect_timeout_s", "firewall"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"), ServerUnreachable, "signed by an untrusted CA", "set ca="),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] Hostname mismatch"), ServerUnreachable, "for another host name", "check the url"),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number"), ServerUnreachable, "does not use TLS", "http://"),
        (httpx.ReadError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required"), ServerUnreachable, "requires a client certificate", "client_cert="),
        (SLOW, ServerTimeout, "reading features: no response from http://localhost within 10 s", "raise timeout_s"),
        (httpx.PoolTimeout("x"), ServerTimeout, "all connections", "pool_size"),
    ],
)  # fmt: skip
def test_a_failure_is_one_clear_message(
    waits: list[float], failure: Exception, kind: type, says: str, hint: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        read(client_over(Script(*[failure] * 5)))

    assert hint in raised.value.hint
    assert raised.value.__cause__ is failure


def test_of_a_write_that_broke_it_is_said_that_nobody_knows(waits: list[float]) -> None:
    for failure in (BROKEN, SLOW):
        with pytest.raises(ServerError, match="the push to 'clicks'.*it is unknown whether it was done"):
            push(client_over(Script(failure)))


def test_rows_that_are_kept_and_not_served_yet_are_said_to_be(waits: list[float]) -> None:
    kept = httpx.Response(202, json={"status": "accepted", "message": "kept, not applied"})

    with pytest.raises(PushNotApplied, match="kept, not applied") as raised:
        push(client_over(Script(kept)))
    assert "do not push them again" in raised.value.hint


@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (404, b'{"code":"UnknownFeature","message":"no feature","hint":"did you"}', UnknownFeature, "no feature"),
        (403, json.dumps(json.dumps({"module": "feast.errors", "class": "FeastPermissionError", "message": "may not (ask)", "code": "NotAllowed", "hint": "ask"})).encode(), NotAllowed, "may not"),
        (422, b'{"code":"NoSuchClass","message":"m"}', RequestError, "m"),
        (422, b'{"code":"AsofError","message":"m"}', RequestError, "m"),
        (422, b'{"code":"annotations","message":"m"}', RequestError, "m"),
        (401, b"", NotAuthenticated, "reading failed: the server returned 401"),
        (403, b"<html>proxy</html>", NotAllowed, "reading failed: the server returned 403"),
        (404, b"[]", NotFound, "reading failed: the server returned 404"),
        (413, b"7", RequestError, "reading failed: the server returned 413"),
        (500, b'"oops"', ServerError, "reading failed: the server returned 500"),
        (503, b"", ServerError, "reading failed: the server returned 503"),
        (504, b"\xff", ServerTimeout, "reading failed: the server returned 504"),
        (302, b"", RequestError, "reading failed: the server returned 302"),
    ],
)  # fmt: skip
def test_every_answer_that_is_an_error_has_a_class_and_words(
    status: int, body: bytes, kind: type, message: str
) -> None:
    error = error_of(status, body, what="reading")

    assert type(error) is kind and error.message == message
    assert str(error) and error.to_dict()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"rows": 7, "types": {}}',
        ANSWER.replace(b"[[1, 2]]", b"[[1]]"),
        ANSWER.replace(b"Int64", b"Int65"),
        ANSWER.replace(b'"Int64", "activity', b'"Date", "activity'),
    ],
)
def test_an_answer_of_something_else_is_named(body: bytes) -> None:
    with pytest.raises(AsofError, match="not one of an Asof server"):
        response_of(body)


def job(state: str, **more: Any) -> httpx.Response:
    return httpx.Response(200, json={"id": "ab", "state": state, "feature_views": ["profile"]} | more)


BEGUN = lambda: httpx.Response(202, json={"status": "accepted", "feature_views": ["profile"], "job": "ab"})  # noqa: E731


def test_a_materialize_run_is_waited_for(waits: list[float]) -> None:
    result = [{"view": "profile", "rows": 3}]
    script = Script(BEGUN(), job("running"), job("running"), job("done", result=result))
    client = client_over(script)

    assert client.materialize("2026-01-01", NOW, ["profile"]) == result
    begun, *looks = script.asked
    assert json.loads(begun.content) == {
        "start_ts": "2026-01-01",
        "end_ts": "2026-01-01T12:00:00Z",
        "feature_views": ["profile"],
    }
    assert (begun.url.path, dict(begun.url.params)) == ("/materialize", {"async": "true"})
    assert {(each.method, each.url.path) for each in looks} == {("GET", "/jobs/ab")}
    assert len(waits) == 2 and waits[0] < waits[1]


def test_a_run_that_failed_raises_what_it_failed_with(waits: list[float]) -> None:
    error = {"code": "SourceError", "message": "the source is gone", "hint": "bring it back"}
    client = client_over(Script(BEGUN(), job("failed", error=error)))

    with pytest.raises(SourceError, match="the source is gone") as raised:
        client.materialize_incremental()
    assert raised.value.hint == "bring it back"


def test_waiting_for_a_run_may_have_an_end(waits: list[float]) -> None:
    with pytest.raises(ServerTimeout, match="job ab has not ended after 0 s") as raised:
        client_over(Script(BEGUN(), job("running"))).materialize(wait_s=0)
    assert "job('ab')" in raised.value.hint


def test_a_view_that_is_being_materialized_is_named(waits: list[float]) -> None:
    busy = httpx.Response(
        409, json={"error": "already being materialized: profile", "feature_views": ["profile"], "job": "cd"}
    )

    with pytest.raises(JobRunning) as raised:
        client_over(Script(busy)).start_materialize(force=False)
    assert (raised.value.views, raised.value.job) == (["profile"], "cd")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "features:6566"}, "is not an http"),
        ({"url": "http://"}, "has no host"),
        ({"url": "http://ada:hunter2@host"}, "has a user or password"),
        ({"api_key": "a", "token": "b"}, "both api_key and token"),
        ({"api_key": " "}, "is empty"),
        ({"api_key": "a b"}, "is empty, or has invalid characters"),
        ({"ca": "ca.pem"}, "is without TLS"),
        ({"url": "https://host", "ca": "no-such.pem"}, "no such file"),
        ({"url": "https://host", "client_cert": ("no-such.pem", "key.pem")}, "no such file"),
    ],
)
def test_what_cannot_be_meant_so_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as raised:
        Client(**{"url": "http://host", **options})

    assert "hunter2" not in str(raised.value) and raised.value.hint


def test_a_key_goes_with_each_request_and_a_callable_renews_its_token() -> None:
    tokens = iter(["one", "two"])
    script = Script(ok(), ok(), ok())
    with client_over(script, token=lambda: next(tokens)) as client:
        read(client)
        read(client)
    with client_over(script, api_key="asof_a_b") as client:
        read(client)
        assert "asof_a_b" not in repr(client)
    with patch("httpx.Client") as made:
        Client("http://localhost", api_key="asof_a_b")
        assert "asof_a_b" not in repr(made.call_args.kwargs["auth"])

    assert [each.headers["authorization"] for each in script.asked] == ["Bearer one", "Bearer two", "Bearer asof_a_b"]


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "is_noted"),
    [
        ("http://features.example.com", True), ("http://10.0.0.7:6566", True), ("http://localhost.evil.example", True),
        ("https://features.example.com", False), ("http://localhost:6566", False), ("http://127.0.0.9", False),
        ("http://[::1]:6566", False),
    ],
)  # fmt: skip
def test_a_key_that_goes_to_another_host_without_tls_is_noted(kind: Any, url: str, is_noted: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kind(url, api_key="asof_a_hunter2")
        kind(url)

    notes = [str(each.message) for each in caught if "without TLS" in str(each.message)]
    assert len(notes) == is_noted
    assert "hunter2" not in str(notes)


def test_importing_and_using_the_client_loads_nothing_heavy() -> None:
    code = f"""
import sys
from asof import AsyncClient, Client
from asof.client.responses import response_of
answer = response_of({ANSWER!r})
assert answer.to_dict() == {{"user_id": [1], "n": [2]}}
print([name for name in ("duckdb", "pyarrow", "numpy", "pandas", "sqlite3", "yaml", "deltalake") if name in sys.modules])
"""
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": source}, capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")
