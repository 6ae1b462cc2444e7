"""The server's routes in this process, over a real store: what they answer, and what they refuse in which words."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from itertools import permutations
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asof import FeatureStore
from asof.errors import NotFound, RegistryError, StorageError
from asof.server.app import App
from asof.server.process.service import Service
from asof.server.settings import ServerSettings
from asof.server.telemetry.request_counts import RequestCounts, SharedCounts
from asof.server.telemetry.stream_metrics import serve_stream_metrics
from asof.server.telemetry.tracing import Tracing
from asof.store import open_store_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)

DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
shop = Entity("shop", join_keys=["shop_id"])
profile = FeatureView(
    "profile", entities=[user], ttl="30d", source=FileSource("profile.parquet", name="profile_rows", timestamp_field="at"),
    schema=[
        Field("age", Int64), Field("score", Float64), Field("city", String, default="?"), Field("is_new", Bool),
        Field("half", Float32), Field("price", Decimal(12, 2)), Field("raw", Bytes), Field("day", Date),
        Field("seen", Timestamp), Field("tags", Array(String)), Field("doc", Json), Field("scores", Array(Float64)),
    ],
)
pair = FeatureView(
    "pair", entities=[user, shop], source=FileSource("pair.parquet", name="pair_rows", timestamp_field="at", created_timestamp_column="written"),
    schema=[Field("visits", Int64)],
)
clicks = PushSource("clicks", schema=[
    Field("user_id", Int64), Field("page", String), Field("amount", Float64), Field("at", Timestamp)], timestamp_field="at")
activity = FeatureView("activity", entities=[user], source=clicks, aggregations=[
    Aggregation("", "count", window=Sliding("1h"), name="n_1h"), Aggregation("amount", "sum", name="total"),
    Aggregation("", "count", window=Session("30m"), name="session")])
newest = FeatureView("newest", entities=[user], source=clicks, schema=[Field("page", String), Field("amount", Float64)])
asked = RequestSource("asked", schema=[Field("amount", Float64), Field("mode", String)])

@on_demand_feature_view(sources=[profile[["age", "score"]], asked], schema=[Field("ratio", Float64), Field("label", String)], mode="python")
def ratio(row):
    import time
    if row["mode"] == "slow":
        while True:
            time.sleep(0.001)
    if row["mode"] == "raise":
        raise ValueError("no such mode")
    age = row["age"]
    return {"ratio": None if age is None else row["amount"] / age, "label": row["mode"].upper()}

model = FeatureService("model", features=[profile[["age", "city"]], ratio])
plain = FeatureService("plain", features=[profile[["age", "city"]], activity])
"""


def rows_of_profile() -> pa.Table:
    at = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "user_id": [1, 2, 3],
            "age": [30, None, 50],
            "score": [1.5, float("nan"), float("inf")],
            "city": ["Bonn", None, "Köln"],
            "is_new": [True, False, None],
            "half": pa.array([0.1, 0.5, None], pa.float32()),
            "price": pa.array([Number("1.50"), None, Number("2.25")], pa.decimal128(12, 2)),
            "raw": [b"\x00\xff", b"", None],
            "day": [date(2026, 1, 1), None, date(1999, 12, 31)],
            "seen": pa.array([datetime(2026, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC), None, NOW], at),
            "tags": [["a", None], [], None],
            "doc": ['{"a":1}', None, "[]"],
            "scores": [[1.0, float("nan")], [], None],
            "at": pa.array(
                [
                    datetime(2026, 1, 1, 1, 2, 3, 250_000, tzinfo=UTC),
                    datetime(2025, 12, 31, tzinfo=UTC),
                    datetime(2025, 11, 28, tzinfo=UTC),
                ],
                at,
            ),
        }
    )


def write_sources(folder: Path) -> None:
    """The files that the definitions read."""
    pq.write_table(rows_of_profile(), folder / "profile.parquet")
    at = pa.array([NOW, NOW], pa.timestamp("us", "UTC"))
    pair = pa.table({"user_id": [1, 1], "shop_id": ["a", "b"], "visits": [3, 4], "at": at, "written": at})
    pq.write_table(pair, folder / "pair.parquet")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository, applied and materialized."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "feature_store.yaml").write_text(f"project: shop\nclock: {NOW.isoformat()}\n")
    (folder / "features.py").write_text(DEFINITIONS)
    write_sources(folder)
    with FeatureStore(folder, clock=lambda: NOW) as store:
        store.apply()
        store.materialize()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy of the repository, to be written to."""
    shutil.copytree(built, tmp_path / "repo")
    return tmp_path / "repo"


@asynccontextmanager
async def client(folder: Path, *, clock: Callable[[], datetime] = lambda: NOW, **settings: Any) -> Any:
    """A client of the server in this process."""
    service = Service(FeatureStore(folder, clock=clock), ServerSettings(**settings))
    app = App(service)
    await service.start()
    try:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
            made.service = service  # type: ignore[attr-defined]
            yield made
    finally:
        await service.stop()


def asked(folder: Path, *requests: tuple[str, str, Any], **settings: Any) -> list[httpx.Response]:
    """The answers to requests: (method, path, body as JSON, bytes or None)."""

    async def ask() -> list[httpx.Response]:
        async with client(folder, **settings) as made:
            answers = []
            for method, path, body in requests:
                content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
                answers.append(await made.request(method, path, content=content))
            return answers

    return asyncio.run(ask())


def online(folder: Path, **body: Any) -> httpx.Response:
    return asked(folder, ("POST", "/get-online-features", body))[0]


def refusal(response: httpx.Response) -> dict[str, str]:
    """What Feast's client makes of an error: JSON text that holds JSON."""
    return json.loads(response.json())


def column(response: httpx.Response, name: str) -> dict[str, Any]:
    words = response.json()
    return words["results"][words["metadata"]["feature_names"].index(name)]


def test_features_come_column_by_column_in_the_order_asked_for_after_the_entity_columns(built):
    response = online(built, features=["profile:city", "profile:age"], entities={"user_id": [1, 2, 9]})

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "metadata": {"feature_names": ["user_id", "city", "age"]},
        "results": [
            {"values": [1, 2, 9], "statuses": ["PRESENT"] * 3, "event_timestamps": ["1970-01-01T00:00:00Z"] * 3},
            {
                "values": ["Bonn", "?", "?"],
                "statuses": ["PRESENT", "NULL_VALUE", "NOT_FOUND"],
                "event_timestamps": ["2026-01-01T01:02:03.250000Z", "2025-12-31T00:00:00Z", "1970-01-01T00:00:00Z"],
            },
            {
                "values": [30, None, None],
                "statuses": ["PRESENT", "NULL_VALUE", "NOT_FOUND"],
                "event_timestamps": ["2026-01-01T01:02:03.250000Z", "2025-12-31T00:00:00Z", "1970-01-01T00:00:00Z"],
            },
        ],
    }


@pytest.mark.parametrize(
    ("feature", "values"),
    [
        ("age", [30, None]), ("score", [1.5, "NaN"]), ("is_new", [True, False]),
        ("half", [0.10000000149011612, 0.5]), ("price", ["1.50", None]),
        ("raw", [base64.b64encode(b"\x00\xff").decode(), ""]), ("day", ["2026-01-01", None]),
        ("seen", [1767225601, None]), ("tags", [["a", None], []]), ("doc", ['{"a":1}', None]),
        ("scores", [[1.0, "NaN"], []]),
    ],
)  # fmt: skip
def test_values_are_written_as_feast_writes_them(built, feature, values):
    response = online(built, features=[f"profile:{feature}"], entities={"user_id": [1, 2]})

    assert column(response, feature)["values"] == values


def test_a_row_past_its_ttl_says_so(built):
    response = online(built, features=["profile:score"], entities={"user_id": [3]})

    assert column(response, "score")["values"] == [None]
    assert column(response, "score")["statuses"] == ["OUTSIDE_MAX_AGE"]


def test_many_rows_are_answered_as_one_by_one(built):
    users = [n % 5 for n in range(700)]
    features = ["profile:age", "profile:score", "profile:seen", "activity"]
    many = online(built, features=features, entities={"user_id": users}).json()["results"]
    one = {user: online(built, features=features, entities={"user_id": [user]}).json()["results"] for user in range(5)}

    for place, result in enumerate(many):
        for word in ("values", "statuses", "event_timestamps"):
            assert result[word] == [one[user][place][word][0] for user in users]


def test_full_names_and_versions_are_answered_when_asked_for(built):
    response = online(
        built, features=["profile:age"], entities={"user_id": [1]}, full_feature_names=True,
        include_feature_view_version_metadata=True,
    )  # fmt: skip

    assert response.json()["metadata"] == {
        "feature_names": ["user_id", "profile__age"],
        "feature_view_metadata": [{"name": "profile", "version": 0}],
    }


def test_a_service_is_answered_with_its_on_demand_features_and_without_the_request_values(built):
    response = online(
        built, feature_service="model", entities={"user_id": [1, 2], "amount": [6, 1.5], "mode": ["a", "b"]}
    )

    assert response.json()["metadata"]["feature_names"] == ["user_id", "age", "city", "ratio", "label"]
    assert column(response, "ratio")["values"] == [0.2, None]
    assert column(response, "ratio")["statuses"] == ["PRESENT", "NULL_VALUE"]
    assert column(response, "label")["values"] == ["A", "B"]
    assert column(response, "label")["event_timestamps"] == ["1970-01-01T00:00:00Z"] * 2


def test_composite_keys_are_read(built):
    response = online(built, features=["pair:visits"], entities={"shop_id": ["b", "a", "c"], "user_id": [1, 1, 1]})

    assert column(response, "visits")["values"] == [4, 3, None]
    assert response.json()["metadata"]["feature_names"] == ["user_id", "shop_id", "visits"]


def test_the_lean_route_answers_row_by_row(built):
    body = {"features": ["profile:age", "profile:seen", "profile:score"], "entities": {"user_id": [1, 2, 9]}}
    rows, more = asked(
        built, ("POST", "/v1/features", body), ("POST", "/v1/features", {**body, "statuses": True, "event_times": True})
    )

    assert rows.json() == {
        "names": ["user_id", "age", "seen", "score"],
        "rows": [[1, 30, "2026-01-01T00:00:01.500000Z", 1.5], [2, None, None, "NaN"], [9, None, None, None]],
    }
    assert more.json()["statuses"] == [["PRESENT"] * 3, ["NULL_VALUE", "NULL_VALUE", "PRESENT"], ["NOT_FOUND"] * 3]
    assert more.json()["event_times"][1:] == [["2025-12-31T00:00:00Z"] * 3, [None] * 3]


def test_the_lean_route_takes_rows_and_answers_arrow(built):
    body = {"service": "plain", "entities": [{"user_id": 1}, {"user_id": 9}], "statuses": True}

    async def ask() -> httpx.Response:
        async with client(built) as made:
            return await made.post("/v1/features", json=body, headers={"accept": "application/vnd.apache.arrow.stream"})

    response = asyncio.run(ask())
    table = pa.ipc.open_stream(response.content).read_all()

    assert response.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert table.select(["user_id", "age", "n_1h"]).to_pylist() == [
        {"user_id": 1, "age": 30, "n_1h": 0}, {"user_id": 9, "age": None, "n_1h": 0}
    ]  # fmt: skip
    assert table["age__status"].to_pylist() == ["PRESENT", "NOT_FOUND"]
    assert table.schema.field("n_1h").type == pa.int64()


PUSHED = {
    "user_id": [1, 1],
    "page": ["a", "b"],
    "amount": [1.5, 2],
    "at": ["2026-01-01T11:59:00", "2026-01-01T11:59:30Z"],
}


def test_pushed_rows_are_served_at_once(folder):
    pushed, read = asked(
        folder, ("POST", "/push", {"push_source_name": "clicks", "df": PUSHED, "to": "online_and_offline"}),
        ("POST", "/get-online-features", {"features": ["activity:n_1h", "activity:total", "newest:page"], "entities": {"user_id": [1]}}),
    )  # fmt: skip

    assert (pushed.status_code, pushed.content) == (200, b"")
    assert [column(read, name)["values"] for name in ("n_1h", "total", "page")] == [[2], [3.5], ["b"]]


def test_a_push_again_under_its_name_is_no_push(folder):
    push = ("POST", "/push", {"push_source_name": "clicks", "df": PUSHED, "batch_id": "b1"})
    *pushed, read = asked(
        folder,
        push,
        push,
        ("POST", "/get-online-features", {"features": ["activity:n_1h"], "entities": {"user_id": [1]}}),
    )

    assert [each.status_code for each in pushed] == [200, 200]
    assert column(read, "n_1h")["values"] == [2]


def test_rows_written_as_feasts_client_writes_them_are_served(folder):
    rows = {
        "user_id": [1, 7],
        "shop_id": ["a", "z"],
        "visits": [5, 6],
        "event_timestamp": ["2026-01-01T12:00:00", "2026-01-01T11:00:00"],
        "created": [None, None],
    }
    written, read = asked(
        folder, ("POST", "/write-to-online-store", {"feature_view_name": "pair", "df": rows, "allow_registry_cache": False}),
        ("POST", "/get-online-features", {"features": ["pair:visits"], "entities": {"user_id": [1, 7], "shop_id": ["a", "z"]}}),
    )  # fmt: skip

    assert (written.status_code, written.content) == (200, b"null")
    assert column(read, "visits")["values"] == [5, 6]


def test_rows_of_a_pushed_view_go_through_its_log(folder):
    rows = {
        "user_id": [4],
        "page": ["x"],
        "amount": ["NaN"],
        "event_timestamp": ["2026-01-01T11:00:00"],
        "created": [None],
    }
    written, read = asked(
        folder, ("POST", "/write-to-online-store", {"feature_view_name": "newest", "df": rows}),
        ("POST", "/get-online-features", {"features": ["newest", "activity:n_1h"], "entities": {"user_id": [4]}}),
    )  # fmt: skip

    assert (written.status_code, written.content) == (200, b"null")
    assert column(read, "amount")["values"] == ["NaN"]
    assert column(read, "n_1h")["values"] == [1]


ONE = {"user_id": [1]}
AGE = {"features": ["profile:age"], "entities": ONE}

REFUSED = {
    "an unknown feature": ({"features": ["profile:agee"], "entities": ONE}, 404, "did you mean 'profile:age'"),
    "an unknown view": ({"features": ["nothing:age"], "entities": ONE}, 404, "no feature 'nothing:age'"),
    "an unknown service": ({"feature_service": "modle", "entities": ONE}, 404, "did you mean 'model'"),
    "a missing join key": ({"features": ["pair:visits"], "entities": ONE}, 422, "no column 'shop_id'"),
    "no entities": ({"features": ["profile:age"], "entities": {}}, 422, "no column 'user_id'"),
    "a missing request value": ({"feature_service": "model", "entities": {**ONE, "mode": ["a"]}}, 422, "no column 'amount'"),
    "a key of the wrong type": ({"features": ["profile:age"], "entities": {"user_id": ["x"]}}, 422, "'x' is not Int64"),
    "a boolean as a key": ({"features": ["profile:age"], "entities": {"user_id": [True]}}, 422, "Int64"),
    "a key beyond 64 bits": ({"features": ["profile:age"], "entities": {"user_id": [2**63]}}, 422, "Int64"),
    "a key with a fraction": ({"features": ["profile:age"], "entities": {"user_id": [1.5]}}, 422, "Int64"),
    "a null key": ({"features": ["profile:age"], "entities": {"user_id": [1, None]}}, 422, "null in entity row 1"),
    "no features": ({"features": [], "entities": ONE}, 422, "no features requested"),
    "neither features nor a service": ({"entities": ONE}, 422, "neither of `features` and `feature_service`"),
    "features and a service": ({**AGE, "feature_service": "model"}, 422, "both of"),
    "ragged columns": ({"features": ["pair:visits"], "entities": {"user_id": [1, 2], "shop_id": ["a"]}}, 422, "differ in length"),
    "colliding names": ({"features": ["activity:total", "activity:total"], "entities": ONE}, 422, "would both be named"),
    "a column that is no list": ({"features": ["profile:age"], "entities": {"user_id": 1}}, 422, "$.entities"),
    "entities that are rows": ({"features": ["profile:age"], "entities": [{"user_id": 1}]}, 422, "$.entities"),
    "a feature that is no text": ({"features": [1], "entities": ONE}, 422, "$.features[0]"),
    "no object": ([1], 422, "expected `object`"),
    "malformed JSON": (b'{"features": [', 400, "is not JSON"),
    "an empty body": (b"", 400, "is empty"),
    "no text at all": (b"\xff\xfe\x00", 400, "is not JSON"),
    "NaN": (b'{"features": ["profile:age"], "entities": {"user_id": [NaN]}}', 400, "is not JSON"),
    "a name twice": (b'{"features": ["profile:age"], "entities": {"user_id": [1], "user_id": [2]}}', 422, "'user_id' twice"),
    "half a code point": (b'{"features": ["pair:visits"], "entities": {"user_id": [1], "shop_id": ["\\ud800"]}}', 400, "is not JSON"),
    "a function that raises": ({"feature_service": "model", "entities": {**ONE, "amount": [1], "mode": ["raise"]}}, 424, "'ratio'"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "words"), REFUSED.values(), ids=REFUSED)
def test_a_bad_read_is_refused_in_words_that_feasts_client_shows(built, body, status, words):
    (response,) = asked(built, ("POST", "/get-online-features", body))

    assert response.status_code == status
    said = refusal(response)
    assert said["module"] == "feast.errors"
    assert words in said["message"]


BAD_WRITES = {
    "an unknown push source": ("/push", {"push_source_name": "click", "df": PUSHED}, 404, "did you mean 'clicks'"),
    "a source that is no push source": ("/push", {"push_source_name": "profile_rows", "df": PUSHED}, 404, "'profile_rows' is of type file, so rows are not pushed to it; push sources: 'clicks'"),
    "a bad `to`": ("/push", {"push_source_name": "clicks", "df": PUSHED, "to": "both"}, 422, "$.to"),
    "a missing column": ("/push", {"push_source_name": "clicks", "df": {k: v for k, v in PUSHED.items() if k != "page"}}, 422, "'page' is missing"),
    "a column too many": ("/push", {"push_source_name": "clicks", "df": {**PUSHED, "x": [1, 2]}}, 422, "'x' is not declared"),
    "ragged columns": ("/push", {"push_source_name": "clicks", "df": {**PUSHED, "page": ["a"]}}, 422, "differ in length"),
    "no df": ("/push", {"push_source_name": "clicks"}, 422, "missing required field `df`"),
    "a null key": ("/push", {"push_source_name": "clicks", "df": {**PUSHED, "user_id": [1, None]}}, 422, "is null"),
    "a wrong type": ("/push", {"push_source_name": "clicks", "df": {**PUSHED, "amount": [1, "x"]}}, 422, "row 1: 'x' is not a number"),
    "a bad time": ("/push", {"push_source_name": "clicks", "df": {**PUSHED, "at": ["noon", "2026-01-01"]}}, 422, "'noon' is not an ISO 8601 time"),
    "a time of the future": ("/push", {"push_source_name": "clicks", "df": {**PUSHED, "at": ["2027-01-01", "2026-01-01"]}}, 422, "row 0"),
    "an unknown view": ("/write-to-online-store", {"feature_view_name": "pairs", "df": {}}, 404, "did you mean 'pair'"),
    "a view without its key": ("/write-to-online-store", {"feature_view_name": "pair", "df": {"user_id": [1], "visits": [1], "event_timestamp": ["2026-01-01"]}}, 422, "'shop_id' is missing"),
    "an aggregated view without its columns": ("/write-to-online-store", {"feature_view_name": "activity", "df": {"user_id": [1], "event_timestamp": ["2026-01-01"]}}, 422, "is missing"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "words"), BAD_WRITES.values(), ids=BAD_WRITES)
def test_a_bad_write_is_refused_and_nothing_is_written(folder, path, body, status, words):
    refused, read = asked(
        folder, ("POST", path, body),
        ("POST", "/get-online-features", {"features": ["activity:n_1h"], "entities": {"user_id": [1]}}),
    )  # fmt: skip

    assert refused.status_code == status
    assert words in refusal(refused)["message"]
    assert column(read, "n_1h")["values"] == [0]


OWN_ERRORS = {
    "unknown feature": ("POST", "/v1/features", {"features": ["profile:agee"], "entities": ONE}, 404, "UnknownFeature"),
    "not JSON": ("POST", "/v1/features", b"{", 400, "HttpError"),
    "unknown job": ("GET", "/jobs/abc", None, 404, "NotFound"),
    "wrong method of a v1 route": ("PUT", "/v1/features", None, 405, "HttpError"),
    "wrong method of /jobs": ("POST", "/jobs", None, 405, "HttpError"),
    "wrong method of /jobs/{id}": ("POST", "/jobs/abc", None, 405, "HttpError"),
    "wrong method of /metrics": ("POST", "/metrics", None, 405, "HttpError"),
    "wrong method of /ready": ("POST", "/ready", None, 405, "HttpError"),
    "unknown v1 path": ("GET", "/v1/nothing", None, 404, "HttpError"),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), OWN_ERRORS.values(), ids=OWN_ERRORS)
def test_an_error_of_asofs_own_routes_is_an_object_as_the_document_says(built, method, path, body, status, code):
    (response, described) = asked(built, (method, path, body), ("GET", "/openapi.json", None))

    error, schema = response.json(), described.json()["components"]["schemas"]["Error"]
    assert response.status_code == status
    assert error["code"] == code and error["message"] and error["hint"]
    assert set(schema["required"]) == {"code", "message", "hint"} <= set(error) <= set(schema["properties"])


FEAST_ERRORS = {
    "read": ("POST", "/get-online-features", {"features": ["profile:agee"], "entities": ONE}, 404, "UnknownFeature"),
    "push": ("POST", "/push", {"push_source_name": "click", "df": {}}, 404, "NotFound"),
    "write": ("POST", "/write-to-online-store", {"feature_view_name": "profil", "df": {}}, 404, "NotFound"),
    "materialize": ("POST", "/materialize", {"feature_views": ["profil"]}, 404, "NotFound"),
    "incremental": ("POST", "/materialize-incremental", {"version": "2"}, 422, "RequestError"),
    "wrong method": ("GET", "/push", None, 405, "HttpError"),
    "unknown path": ("GET", "/nothing", None, 404, "HttpError"),
}


@pytest.mark.parametrize(("method", "path", "body", "status", "code"), FEAST_ERRORS.values(), ids=FEAST_ERRORS)
def test_an_error_of_feasts_routes_keeps_feasts_shape(built, method, path, body, status, code):
    (response,) = asked(built, (method, path, body))

    error = refusal(response)
    assert response.status_code == status
    assert error["module"] == "feast.errors" and error["class"].startswith("Fea")
    assert error["code"] == code and error["hint"] and error["message"].endswith(f"({error['hint']})")


def test_the_error_of_a_failed_job_is_the_same_object(folder):
    (folder / "profile.parquet").unlink()
    failed, jobs = asked(folder, ("POST", "/materialize", {"feature_views": ["profile"]}), ("GET", "/jobs", None))

    (job,) = jobs.json()["jobs"]
    assert failed.status_code == 424
    assert job["state"] == "failed" and job["error"]["code"] == "SourceError"
    assert refusal(failed)["message"] == f"{job['error']['message']} ({job['error']['hint']})"


def test_an_unknown_path_and_a_wrong_method_are_refused_in_json(built):
    unknown, wrong = asked(built, ("GET", "/nothing", None), ("GET", "/push", None))

    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert "no route /nothing" in refusal(unknown)["message"]
    assert wrong.headers["allow"] == "POST"


def test_a_function_that_takes_too_long_is_ended_and_named(built):
    slow = {"feature_service": "model", "entities": {**ONE, "amount": [1], "mode": ["slow"]}}
    fast = {"feature_service": "model", "entities": {**ONE, "amount": [3], "mode": ["a"]}}
    refused, answered = asked(
        built, ("POST", "/get-online-features", slow), ("POST", "/get-online-features", fast),
        function_timeout_s=0.3, function_threads=1,
    )  # fmt: skip

    assert refused.status_code == 424
    assert "'ratio'" in refusal(refused)["message"]
    assert "features.py:" in refusal(refused)["message"]
    assert column(answered, "ratio")["values"] == [0.1]


def test_a_body_that_is_too_large_is_refused(built):
    (response,) = asked(built, ("POST", "/get-online-features", {**AGE, "x": "y" * 5000}), max_body_bytes=4096)

    assert response.status_code == 413
    assert "larger than 4096 bytes" in refusal(response)["message"]


def test_too_many_rows_are_refused(built):
    (response,) = asked(
        built, ("POST", "/get-online-features", {**AGE, "entities": {"user_id": [1] * 11}}), max_rows=10
    )

    assert response.status_code == 413
    assert "11 entity rows" in refusal(response)["message"]


def test_a_change_of_the_registry_is_taken_over_without_a_restart(folder):
    async def ask() -> tuple[httpx.Response, httpx.Response]:
        async with client(folder, registry_refresh_s=0.05) as made:
            before = await made.post("/get-online-features", json={"features": ["profile:age"], "entities": ONE})
            text = (
                (folder / "features.py")
                .read_text()
                .replace('Field("age", Int64)', 'Field("age", Int64), Field("shoe", Int64)')
            )
            (folder / "features.py").write_text(text)
            table = rows_of_profile()
            pq.write_table(table.append_column("shoe", pa.array([41, 42, 43])), folder / "profile.parquet")

            def change() -> None:
                with FeatureStore(folder, clock=lambda: NOW) as store:
                    store.apply()
                    store.materialize(full=True)

            await asyncio.to_thread(change)
            for _ in range(100):
                after = await made.post(
                    "/get-online-features", json={"features": ["profile:age", "profile:shoe"], "entities": ONE}
                )
                if after.status_code == 200:
                    break
                await asyncio.sleep(0.05)
            return before, after

    before, after = asyncio.run(ask())

    assert column(before, "age")["values"] == [30]
    assert (column(after, "age")["values"], column(after, "shoe")["values"]) == ([30], [41])


def test_rows_are_found_right_after_readers_switched_to_new_ones(folder):
    async def ask() -> list[Any]:
        # The server looks at the registry by itself only once a minute here.
        async with client(folder, registry_refresh_s=60) as made:
            body = {"features": ["profile:age"], "entities": ONE}
            values = [column(await made.post("/get-online-features", json=body), "age")["values"]]

            def rebuild() -> None:
                with FeatureStore(folder, clock=lambda: NOW) as store:
                    store.materialize(full=True)

            await asyncio.to_thread(rebuild)
            return [*values, column(await made.post("/get-online-features", json=body), "age")["values"]]

    assert asyncio.run(ask()) == [[30], [30]]


async def ended(made: Any, job: str) -> dict[str, Any]:
    for _ in range(600):
        words = (await made.get(f"/jobs/{job}")).json()
        if words["state"] != "running":
            return words
        await asyncio.sleep(0.1)
    raise AssertionError(words)


def test_a_materialize_run_is_a_job_to_ask_about_and_two_at_once_are_refused(folder):
    async def ask() -> Any:
        async with client(folder) as made:
            table = rows_of_profile().set_column(1, "age", pa.array([31, 32, 33]))
            pq.write_table(table, folder / "profile.parquet")
            body = {"start_ts": "2025-12-01T00:00:00", "end_ts": "2026-01-02T00:00:00Z", "feature_views": ["profile"]}
            begun = await made.post("/materialize?async=true", json=body)
            again = await made.post("/materialize?async=true", json=body)
            forced = await made.post("/materialize?async=true&force=true", json=body)
            words = await ended(made, begun.json()["job"])
            await ended(made, forced.json()["job"])
            whole = await made.post("/materialize-incremental", json={"end_ts": "2026-01-01T12:00:00Z"})
            read = await made.post(
                "/get-online-features", json={"features": ["profile:age"], "entities": {"user_id": [1]}}
            )
            return begun, again, forced, words, whole, read, (await made.get("/jobs")).json()

    begun, again, forced, words, whole, read, jobs = asyncio.run(ask())

    assert begun.status_code == 202
    assert begun.json() == {"status": "accepted", "feature_views": ["profile"], "job": begun.json()["job"]}
    assert again.status_code == 409
    assert again.json()["feature_views"] == ["profile"] and "already being materialized" in again.json()["error"]
    assert forced.status_code == 202
    assert words["state"] == "done" and words["result"][0]["rows"] == 2
    assert (whole.status_code, whole.content) == (200, b"null")
    assert column(read, "age")["values"] == [31]
    assert len(jobs["jobs"]) == 3


def test_jobs_and_the_store_use_the_configuration_file_that_was_named(folder, tmp_path, monkeypatch):
    base = (folder / "feature_store.yaml").read_text()
    (folder / "feature_store_other.yaml").write_text(
        base + "\nregistry: o/registry.db\nonline_store: {path: o/online.db}\n"
    )
    monkeypatch.chdir(folder.parent)

    async def ask() -> Any:
        store = FeatureStore(fs_yaml_file=f"{folder.name}/feature_store_other.yaml", clock=lambda: NOW)
        store.apply()
        service = Service(store)
        app = App(service)
        await service.start()
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as made:
                # The job has the system's clock, which is later.
                whole = await made.post("/materialize-incremental", json={"end_ts": "2026-01-01T12:00:00Z"})
                read = await made.post("/get-online-features", json={"features": ["profile:age"], "entities": ONE})
                return whole, read
        finally:
            await service.stop()

    whole, read = asyncio.run(ask())

    assert (whole.status_code, whole.content) == (200, b"null")
    assert column(read, "age")["values"] == [30]
    assert (folder / "o" / "registry.db").exists() and (folder / "o" / "online.db").exists()


BAD_RUNS = {
    "an unknown view": ({"feature_views": ["profil"]}, 404, "did you mean 'profile'"),
    "a pushed view": ({"feature_views": ["activity"]}, 422, "reads the log"),
    "a bad time": ({"start_ts": "noon"}, 422, "'noon' is not a time"),
    "an end before its start": ({"start_ts": "2026-01-02", "end_ts": "2026-01-01"}, 422, "is not after start_ts"),
    "a version": ({"version": "v2"}, 422, "a view has one version"),
    "rows for newer than they are": ({"disable_event_timestamp": True}, 422, "disable_event_timestamp"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "status", "words"), BAD_RUNS.values(), ids=BAD_RUNS)
def test_a_bad_materialize_run_is_refused_before_it_begins(built, body, status, words):
    refused, jobs = asked(built, ("POST", "/materialize", body), ("GET", "/jobs", None))

    assert refused.status_code == status
    assert words in refusal(refused)["message"]
    assert jobs.json() == {"jobs": []}


def test_a_run_that_fails_says_so_and_why(folder):
    (folder / "profile.parquet").unlink()
    (failed,) = asked(folder, ("POST", "/materialize", {"feature_views": ["profile"]}))

    assert failed.status_code == 424
    assert "profile" in refusal(failed)["message"]


def test_an_unknown_job_is_refused(built):
    (refused,) = asked(built, ("GET", "/jobs/..%2Flock", None))

    assert refused.status_code == 404


def test_metrics_say_what_was_asked_and_found(built):
    read = ("POST", "/get-online-features", {"features": ["profile:age"], "entities": {"user_id": [1, 3, 9]}})
    model = ("POST", "/get-online-features", {"feature_service": "plain", "entities": {"user_id": [1]}})
    wrong = ("POST", "/get-online-features", {"features": ["profile:agee"], "entities": ONE})
    *_, response = asked(built, read, model, wrong, ("GET", "/metrics", None))
    lines = set(response.text.splitlines())

    assert response.headers["content-type"].startswith("text/plain")
    assert 'asof_requests_total{route="/get-online-features",service="plain",status="200"} 1.0' in lines
    assert 'asof_requests_total{route="/get-online-features",service="",status="404"} 1.0' in lines
    assert 'asof_rows_total{route="/get-online-features",service=""} 3.0' in lines
    assert 'asof_view_rows_total{outcome="found",view="profile"} 2.0' in lines
    assert 'asof_view_rows_total{outcome="missing",view="profile"} 1.0' in lines
    assert 'asof_view_rows_total{outcome="expired",view="profile"} 1.0' in lines
    assert 'asof_errors_total{kind="UnknownFeature"} 1.0' in lines
    assert 'asof_request_seconds_count{route="/get-online-features",service="plain"} 1.0' in lines
    assert 'asof_view_newest_event_timestamp_seconds{view="profile"} 1.76722932325e+09' in lines
    assert any(line.startswith('asof_view_materialized_until_timestamp_seconds{view="profile"}') for line in lines)
    assert any(line.startswith("asof_online_store_seconds_count 2.0") for line in lines)


def test_counts_of_workers_add_up_and_outlive_them(tmp_path):
    first, second = RequestCounts(), RequestCounts()
    for each, status in ((first, 200), (second, 200), (second, 404)):
        each.request("/push", "", status, 0.003, 2)
    second.views["a"] = [1, 2, 3, 4]
    SharedCounts(tmp_path, first).leave()
    total = SharedCounts(tmp_path, second).all()

    assert total.requests == {("/push", "", 200): 2, ("/push", "", 404): 1}
    assert total.rows == {("/push", ""): 6}
    assert total.views == {"a": [1, 2, 3, 4]}
    assert sum(total.seconds["/push", ""].buckets) == 3


def test_the_access_log_is_a_line_of_json_per_request(built, capfd):
    read = ("POST", "/get-online-features", {"feature_service": "plain", "entities": {"user_id": [1, 2]}})
    wrong = ("POST", "/push", {"push_source_name": "click", "df": {}})
    asked(built, read, wrong, access_log="all")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "path" in line and "ms" in line]
    asked(built, read, wrong, access_log="errors")
    errors = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "path" in line and "ms" in line]
    asked(built, wrong, access_log="errors", log_messages=True)
    whole = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "path" in line and "ms" in line]

    assert [(each["method"], each["path"], each["status"]) for each in lines] == [
        ("POST", "/get-online-features", 200),
        ("POST", "/push", 404),
    ]
    assert (lines[0]["service"], lines[0]["rows"]) == ("plain", 2)
    assert lines[1]["error"] == "NotFound"
    assert whole[0]["error"].startswith("NotFound: no push source 'click'")
    assert [each["status"] for each in errors] == [404]


def test_served_features_are_kept_for_audit_and_forgotten_on_request(folder):
    model = (
        "POST",
        "/get-online-features",
        {"feature_service": "model", "entities": {"user_id": [1, 2], "amount": [6, 1.5], "mode": ["a", "b"]}},
    )
    full = (
        "POST",
        "/v1/features",
        {"service": "model", "full_feature_names": True, "entities": [{"user_id": 1, "amount": 3, "mode": "c"}]},
    )
    features = ("POST", "/get-online-features", {"features": ["profile:age"], "entities": ONE})
    asked(folder, model, full, features, feature_log_share=1.0)
    asked(folder, model, feature_log_share=1.0, feature_log_services=["plain"])
    asked(folder, model, feature_log_share=1.0, feature_log_queue=1)

    with FeatureStore(folder) as store:
        kept = store.served_features("model")
        report = store.forget("user", 1)
        left = store.served_features("model")
        with pytest.raises(NotFound, match="has no feature log"):
            store.served_features("plain")

    assert kept.to_dicts() == [
        {"user_id": user, "amount": amount, "mode": mode, "profile__age": age, "profile__city": city, "ratio__ratio": ratio, "ratio__label": mode.upper(), "served_at": NOW}
        for user, amount, mode, age, city, ratio in ((1, 6.0, "a", 30, "Bonn", 0.2), (2, 1.5, "b", None, "?", None), (1, 3.0, "c", 30, "Bonn", 0.1))
    ]  # fmt: skip
    assert report["feature_log"] == {"model": 2}
    assert [each.user_id for each in left] == [2]


def test_a_request_is_a_span_below_its_callers(built):
    spans = InMemorySpanExporter()
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def ask() -> None:
        async with client(built) as made:
            made.service.tracing = made.service.reading.tracing = Tracing(exporter=spans)
            body = {"feature_service": "plain", "entities": {"user_id": [1, 2]}}
            await made.post("/get-online-features", json=body, headers={"traceparent": caller})
            await made.post("/push", json={"push_source_name": "click", "df": {}})

    asyncio.run(ask())
    read, request, push = spans.get_finished_spans()

    assert (read.name, read.parent.span_id) == ("read", request.context.span_id)
    assert (request.name, f"{request.parent.span_id:x}") == ("POST /get-online-features", "b7ad6b7169203331")
    assert dict(request.attributes) == {
        "http.request.method": "POST", "http.route": "/get-online-features", "http.response.status_code": 200,
        "asof.rows": 2, "asof.service": "plain",
    }  # fmt: skip
    assert (push.attributes["error.type"], push.attributes["http.response.status_code"]) == ("NotFound", 404)


def test_a_stream_worker_serves_metrics_of_its_logs(folder):
    asked(folder, ("POST", "/push", {"push_source_name": "clicks", "df": PUSHED}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with FeatureStore(folder) as store:
        stop = serve_stream_metrics(store.stream_status, port)
        try:
            lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text.splitlines()
        finally:
            stop()

    assert 'asof_stream_lag{partition="0",source="clicks"} 0.0' in lines
    assert "asof_stream_status_known 1.0" in lines


def broken(folder: Path, ask: Callable[[Any], Any], **settings: Any) -> Any:
    """What `ask` answers, which is given a client whose server it may break."""

    async def run() -> Any:
        async with client(folder, **settings) as made:
            return await ask(made)

    return asyncio.run(run())


def test_with_too_much_waiting_requests_are_told_to_come_back(built):
    async def ask(made: Any) -> Any:
        made.service.waiting = lambda: 11
        refused = await made.post("/get-online-features", json=AGE)
        return refused, await made.get("/health")

    refused, health = broken(built, ask, max_waiting=10)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "too many requests in progress" in refusal(refused)["message"]
    assert health.status_code == 200


def test_what_is_kept_of_decided_requests_is_bounded_by_their_features(built, monkeypatch):
    lists = [list(each) for each in permutations(["profile:age", "profile:city", "profile:score", "profile:is_new"], 3)]

    async def ask(made: Any) -> Any:
        kept = []
        for features in lists:
            answer = await made.post("/get-online-features", json={"features": features, "entities": {"user_id": [1]}})
            assert answer.status_code == 200
            kept.append(list(made.service.reading.applied.requests()))
        again = await made.post("/get-online-features", json={"features": lists[0], "entities": {"user_id": [1]}})
        return kept, again

    monkeypatch.setattr("asof.applied.OUTPUTS", 10)
    kept, again = broken(built, ask)

    assert all(sum(len(each.reader.selection.outputs) for each in these) <= 10 for these in kept)
    # The newest stay.
    assert [tuple(lists[-1])] == [each.request.features for each in kept[-1]][-1:]
    assert column(again, "age")["values"] == [30]


def test_no_values_of_an_answer_are_kept(built):
    async def ask(made: Any) -> Any:
        for users in ([1], [1, 3], [3, 1, 3]):
            await made.post("/get-online-features", json={"features": ["profile:age"], "entities": {"user_id": users}})
        (prepared,) = made.service.reading.applied.requests()
        return [prepared.encoder.frame(n) for n in (1, 2, 3)]

    frames = broken(built, ask)

    assert frames[0] is not None
    assert all(each["values"] is None for frame in frames if frame is not None for each in frame)


def test_the_objects_of_responses_are_bounded_over_all_requests(built, monkeypatch):
    async def ask(made: Any) -> Any:
        kept = []
        for features in permutations(["profile:age", "profile:city", "profile:score"], 2):
            for n in range(1, 6):
                body = {"features": features, "entities": {"user_id": [1] * n}}
                assert (await made.post("/get-online-features", json=body)).status_code == 200
                requests = list(made.service.reading.applied.requests())
                frames = [each.encoder.frame(n) for each in requests for n in range(1, 6)]
                kept.append(sum(len(frame) for frame in frames if frame is not None))
        return kept, frames

    monkeypatch.setattr("asof.server.read.responses.FRAME_CELLS", 20)
    kept, frames = broken(built, ask)

    assert max(kept) <= 20
    # The newest stay.
    assert frames[-1] is not None


def test_while_a_store_is_away_reads_are_told_to_come_back_and_answered_after(built, monkeypatch):
    async def ask(made: Any) -> Any:
        store = open_store_of(made.service.store).stores.online
        with monkeypatch.context() as patch:
            patch.setattr(
                store, "read_marked", lambda lookups: (_ for _ in ()).throw(StorageError("it is away", hint="wait"))
            )
            refused = await made.post("/get-online-features", json=AGE)
            ready = await made.get("/ready")
        return refused, ready, await made.post("/get-online-features", json=AGE)

    refused, ready, after = broken(built, ask)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refusal(refused)["message"] == "it is away (wait)"
    assert ready.status_code == 200
    assert column(after, "age")["values"] == [30]


def test_while_the_registry_is_away_what_was_applied_is_served(built, monkeypatch):
    async def ask(made: Any) -> Any:
        def away(project: str) -> int:
            raise RegistryError("it is away")

        monkeypatch.setattr(open_store_of(made.service.store).stores.registry, "version", away)
        await asyncio.sleep(0.2)
        nobody = {**AGE, "entities": {"user_id": [30_000]}}
        return (
            await made.get("/ready"), await made.post("/get-online-features", json=AGE),
            await made.post("/get-online-features", json=nobody),
        )  # fmt: skip

    ready, read, of_nobody = broken(built, ask, registry_refresh_s=0.05)

    assert ready.json()["registry"] == "it is away"
    assert column(read, "age")["values"] == [30]
    # Nobody can tell whether the row stands in a generation that was switched to just now: what is known is said.
    assert column(of_nobody, "age")["statuses"] == ["NOT_FOUND"]


def test_an_answer_that_takes_too_long_is_given_up(built, monkeypatch):
    async def ask(made: Any) -> Any:
        store = open_store_of(made.service.store).stores.online
        made.service.reading.is_local = False
        read = store.read_marked
        monkeypatch.setattr(store, "read_marked", lambda lookups: time.sleep(1.5) or read(lookups))
        return await made.post("/get-online-features", json=AGE)

    refused = broken(built, ask, request_timeout_s=0.3)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert "timed out after 0.3 s" in refusal(refused)["message"]


def test_rows_that_the_log_keeps_and_the_store_does_not_take_are_accepted_and_applied_later(folder, monkeypatch):
    async def ask(made: Any) -> Any:
        store = open_store_of(made.service.store).stores.online
        await made.post("/push", json={"push_source_name": "clicks", "df": {**PUSHED, "user_id": [5, 5]}})
        with monkeypatch.context() as patch:
            patch.setattr(store, "write", lambda *args, **options: (_ for _ in ()).throw(StorageError("it is away")))
            pushed = await made.post("/push", json={"push_source_name": "clicks", "df": PUSHED})
        body = {"features": ["activity:n_1h"], "entities": ONE}
        for _ in range(100):
            read = await made.post("/get-online-features", json=body)
            if column(read, "n_1h")["values"] == [2]:
                break
            await asyncio.sleep(0.1)
        return pushed, read

    pushed, read = broken(folder, ask)

    assert pushed.status_code == 202
    assert "are durable in its log" in pushed.json()["message"]
    assert column(read, "n_1h")["values"] == [2]


def test_a_defect_is_told_without_its_details(built, monkeypatch):
    async def ask(made: Any) -> Any:
        store = open_store_of(made.service.store).stores.online
        monkeypatch.setattr(store, "read_marked", lambda lookups: 1 / 0)
        return await made.post("/get-online-features", json=AGE)

    failed = broken(built, ask)

    assert failed.status_code == 500
    assert "ZeroDivisionError" in refusal(failed)["message"] and "division by zero" not in failed.text
