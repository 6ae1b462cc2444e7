"""The guard in front of the real routes: who may what, how a refusal looks, and what is written down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.server.app import App
from asof.server.process.service import Service
from asof.server.security.keys import new_key
from asof.server.security.pages import with_pages
from asof.store import open_store_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
profile = FeatureView("profile", entities=[user], source=FileSource("profile.parquet", name="rows", timestamp_field="at"),
    schema=[Field("age", Int64)], tags={"team": "shop"})
clicks = PushSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
idle = PushSource("idle", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
activity = FeatureView("activity", entities=[user], source=clicks, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="n")])

taps = PushSource("taps", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
tapped = FeatureView("tapped", entities=[user], source=taps, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="tapped_n")])
offered = FeatureView("offered", entities=[user], source=taps, online=False, tags={"team": "shop"},
    aggregations=[Aggregation("", "count", name="offered_n")])
swipes = PushSource("swipes", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
swiped = FeatureView("swiped", entities=[user], source=swipes, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="swiped_n")])
reread = FeatureView("reread", entities=[user], tags={"team": "shop"},
    source=LogSource("swipes_again", topic="push.swipes", schema=[Field("user_id", Int64), Field("at", Timestamp)],
        timestamp_field="at"),
    aggregations=[Aggregation("", "count", name="reread_n")])

@on_demand_feature_view(sources=[activity, profile], schema=[Field("mix", Int64)], mode="python", tags={"team": "fraud"})
def mixed(row):
    return {"mix": row["n"]}

frauds = FeatureService("frauds", features=[activity])
everything = FeatureService("everything", features=[mixed])
"""
ROLES = ("nobody", "read", "write", "admin", "fraud_read", "fraud_write", "elsewhere")
KEYS = {role: new_key() for role in ROLES}
AUTH = """project: shop
auth:
  audit: audit.jsonl
  origins: [https://pages.example.com]
  public: [/openapi.json]
  roles:
    nobody: {allow: read, tags: {team: none}}
    fraud_read: {allow: read, tags: {team: fraud}}
    fraud_write: {allow: write, tags: {team: fraud}}
    elsewhere: {allow: admin, projects: [other]}
  keys:
""" + "".join(
    f"    - {{id: {key.id}, hash: '{key.hash}', name: {role}, roles: [{role}]}}\n" for role, key in KEYS.items()
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "feature_store.yaml").write_text(AUTH)
    (folder / "features.py").write_text(DEFINITIONS)
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "age": [30], "at": at}), folder / "profile.parquet")
    with FeatureStore(folder, clock=lambda: NOW) as store:
        store.apply()
        store.materialize()
    return folder


@dataclass
class Server:
    """The guarded server in this process, and its audit log."""

    folder: Path
    service: Service
    loop: asyncio.AbstractEventLoop
    client: httpx.AsyncClient

    def ask(self, method: str, path: str, body: Any = None, *, role: str = "", **headers: str) -> httpx.Response:
        if role:
            headers["authorization"] = f"Bearer {KEYS[role].text}"
        return self.loop.run_until_complete(self.client.request(method, path, json=body, headers=headers))

    def written(self) -> list[dict[str, Any]]:
        path = self.folder / "audit.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    loop = asyncio.new_event_loop()
    service = Service(FeatureStore(folder, clock=lambda: NOW))
    app = with_pages(App(service), service.store.config.auth)
    loop.run_until_complete(service.start())
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    yield Server(folder, service, loop, client)
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(service.stop())
    loop.close()


USER = {"user_id": [1]}
ROW = {"user_id": [1], "at": ["2026-01-01T12:00:00Z"]}
REQUESTS: dict[str, tuple[str, str, Any]] = {
    "profile": ("POST", "/get-online-features", {"entities": USER, "features": ["profile:age"]}),
    "lean profile": ("POST", "/v1/features", {"entities": USER, "features": ["profile:age"]}),
    "activity": ("POST", "/v1/features", {"entities": USER, "features": ["activity:n"]}),
    "both": ("POST", "/v1/features", {"entities": USER, "features": ["activity:n", "profile:age"]}),
    "on demand": ("POST", "/v1/features", {"entities": USER, "features": ["mixed:mix"]}),
    "push": ("POST", "/push", {"push_source_name": "clicks", "df": ROW}),
    "push to no view": ("POST", "/push", {"push_source_name": "idle", "df": ROW}),
    "write activity": ("POST", "/write-to-online-store", {"feature_view_name": "activity", "df": ROW}),
    "write profile": (
        "POST", "/write-to-online-store", {"feature_view_name": "profile", "df": ROW | {"age": [31]}},
    ),
    "push to views of two teams": ("POST", "/push", {"push_source_name": "taps", "df": ROW}),
    "write tapped, and so offered": ("POST", "/write-to-online-store", {"feature_view_name": "tapped", "df": ROW}),
    "push to a topic that another source reads": ("POST", "/push", {"push_source_name": "swipes", "df": ROW}),
    "write swiped, and so reread": ("POST", "/write-to-online-store", {"feature_view_name": "swiped", "df": ROW}),
}  # fmt: skip
ALLOWED = {
    "nobody": (),
    "read": ("profile", "lean profile", "activity", "both", "on demand"),
    "write": tuple(REQUESTS),
    "admin": tuple(REQUESTS),
    "fraud_read": ("activity",),
    "fraud_write": ("activity", "push", "write activity"),
    "elsewhere": (),
}


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_allows_on_each_route(server: Server, role: str, what: str) -> None:
    answer = server.ask(*REQUESTS[what], role=role)

    assert answer.status_code == (200 if what in ALLOWED[role] else 403), answer.text


@pytest.mark.parametrize("what", REQUESTS)
def test_without_a_key_nothing_is_to_be_had(server: Server, what: str) -> None:
    answer = server.ask(*REQUESTS[what])

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="asof"'
    assert "needs authentication" in answer.text and "profile" not in answer.text


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_whether_the_server_is_well_is_for_everybody(server: Server, path: str) -> None:
    assert server.ask("GET", path).status_code == 200


def test_feasts_client_is_told_in_its_own_shape(server: Server) -> None:
    answer = server.ask(*REQUESTS["profile"], role="fraud_read")

    inside = json.loads(answer.json())
    assert (inside["module"], inside["class"]) == ("feast.errors", "FeastPermissionError")
    assert "key 'fraud_read' lacks the read role for feature view 'profile'" in inside["message"]
    assert json.loads(server.ask(*REQUESTS["profile"]).json())["class"] == "FeastPermissionError"


def test_the_lean_route_tells_it_plainly(server: Server) -> None:
    answer = server.ask(*REQUESTS["both"], role="fraud_read").json()

    assert answer["code"] == "NotAllowed"
    assert answer["message"] == "key 'fraud_read' lacks the read role for feature view 'profile'"
    assert answer["hint"]


def test_whoever_is_not_known_learns_nothing_of_what_there_is(server: Server) -> None:
    unknown = server.ask("POST", "/push", {"push_source_name": "no_such", "df": ROW})
    known = server.ask("POST", "/push", {"push_source_name": "clicks", "df": ROW})

    assert unknown.content == known.content


def test_of_services_and_push_sources_callers_learn_the_names_of_those_that_are_theirs(server: Server) -> None:
    asked = {"entities": USER, "feature_service": "everythin"}
    hints = {
        role: json.loads(server.ask("POST", "/get-online-features", asked, role=role).json())["hint"]
        for role in ("read", "fraud_read", "nobody")
    }

    assert hints == {
        "read": "did you mean 'everything'?", "fraud_read": "it is allowed for 'frauds'",
        "nobody": "ask the server's admin for a role that allows read with the tags of what you need",
    }  # fmt: skip

    pushed = {"push_source_name": "unknown", "df": ROW}
    hints = {
        role: json.loads(server.ask("POST", "/push", pushed, role=role).json())["hint"]
        for role in ("write", "fraud_write", "read")
    }

    assert hints == {
        "write": "push sources: 'clicks', 'idle', 'swipes', 'taps'", "fraud_write": "it is allowed for 'clicks'",
        "read": "ask the server's admin for a role that allows write",
    }  # fmt: skip


@pytest.mark.parametrize(("view", "other", "source"), [("tapped", "offered", "taps"), ("swiped", "reread", "swipes")])
def test_whoever_may_not_write_all_that_a_view_s_source_feeds_changes_nothing(
    server: Server, view: str, other: str, source: str
) -> None:
    log = open_store_of(server.service.store).stores.log
    before = log.bounds(f"push.{source}")
    answer = server.ask("POST", "/write-to-online-store", {"feature_view_name": view, "df": ROW}, role="fraud_write")

    assert answer.status_code == 403
    assert f"key 'fraud_write' lacks the write role for feature view '{view}'" in answer.text
    assert other not in answer.text
    assert log.bounds(f"push.{source}") == before


def test_a_run_is_written_down_with_its_job(server: Server) -> None:
    before = len(server.written())
    body = {"feature_views": ["profile"], "end_ts": "2026-01-01T12:00:00Z"}
    answer = server.ask("POST", "/materialize-incremental?async=true", body, role="admin").json()
    while server.ask("GET", f"/jobs/{answer['job']}", role="admin").json()["state"] == "running":
        server.loop.run_until_complete(asyncio.sleep(0.05))

    line = server.written()[before]
    assert {name: line[name] for name in ("who", "views", "job", "status")} == {
        "who": "admin", "views": ["profile"], "job": answer["job"], "status": 202,
    }  # fmt: skip


def test_what_is_refused_for_its_caller_is_not_read(server: Server) -> None:
    answer = server.loop.run_until_complete(server.client.post("/push", content=b"x" * 1000))

    assert answer.status_code == 401


def test_writes_are_written_down_with_who_and_what_and_no_values(server: Server) -> None:
    before = len(server.written())
    row = {"user_id": [4711471147114711], "at": ["2026-01-01T12:00:00Z"]}
    server.ask("POST", "/push", {"push_source_name": "clicks", "df": row, "batch_id": "b1"}, role="fraud_write")
    server.ask("POST", "/push", {"push_source_name": "clicks", "df": row}, role="read")
    server.ask("POST", "/push", {"push_source_name": "clicks", "df": row}, authorization="Bearer asof_x_hunter2")
    server.ask("POST", "/push", {"push_source_name": "clicks", "df": row | {"no": ["secret"]}}, role="write")
    server.ask(*REQUESTS["profile"], role="read")

    lines = server.written()[before:]
    for line in lines:
        assert line.pop("time").endswith("Z") and line.pop("address") == "127.0.0.1"
        assert (line.pop("action"), line.pop("route")) == ("write", "/push")
    assert lines == [
        {"who": "fraud_write", "how": "key", "source": "clicks", "batch_id": "b1", "rows": 1, "status": 200},
        {"who": "read", "how": "key", "source": "clicks", "status": 403, "error": "NotAllowed"},
        {"status": 401, "error": "NotAuthenticated"},
        {"who": "write", "how": "key", "source": "clicks", "rows": 1, "status": 422, "error": "RowsRefused"},
    ]
    text = (server.folder / "audit.jsonl").read_text()
    assert not any(
        secret in text for secret in ("4711471147114711", "hunter2", "secret", *(key.text for key in KEYS.values()))
    )


def test_a_page_that_is_named_may_call_and_read(server: Server) -> None:
    asked = server.ask(
        "OPTIONS", "/v1/features", None, origin="https://pages.example.com",
        **{"access-control-request-method": "POST", "access-control-request-headers": "authorization"},
    )  # fmt: skip
    answer = server.ask(*REQUESTS["lean profile"], role="read", origin="https://pages.example.com")

    assert asked.headers["access-control-allow-origin"] == "https://pages.example.com"
    assert answer.headers["access-control-allow-origin"] == "https://pages.example.com"


def test_any_other_page_is_refused(server: Server) -> None:
    asked = server.ask(
        "OPTIONS", "/v1/features", None, origin="https://evil.example.com",
        **{"access-control-request-method": "POST"},
    )  # fmt: skip
    answer = server.ask(*REQUESTS["lean profile"], role="admin", origin="https://evil.example.com")

    assert asked.status_code == 400 and "access-control-allow-origin" not in asked.headers
    assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers


def test_nothing_is_planned_or_kept_for_who_may_not_read_it(server: Server) -> None:
    def planned() -> set[Any]:
        return {each.request for each in server.service.reading.applied.requests()}

    before = planned()
    for features in (["activity:n", "profile:age"], ["profile:age", "activity:n"], ["mixed:mix", "activity:n"]):
        for body in ({"features": features}, {"service": "everything"}, {"features": "mixed"}):
            refused = server.ask("POST", "/v1/features", {"entities": USER, **body}, role="fraud_read")
            assert refused.status_code == 403
    assert planned() == before
    assert server.ask(
        "POST", "/v1/features", {"entities": USER, "features": ["activity:n"]}, role="fraud_read"
    ).is_success
