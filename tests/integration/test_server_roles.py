"""Who may what on each route of a real `asof serve`, and what its answers tell of things that a caller may not know of."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.config.auth import ACTIONS
from asof.server.http.routes import ROUTES
from asof.server.pages.routes import PAGE_ROUTES
from asof.server.security.keys import new_key

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
account = Entity("zq_account", join_keys=["zq_id"], description="zq_words")
event = [Field("user_id", Int64), Field("at", Timestamp)]
clicks = PushSource("clicks", schema=event, timestamp_field="at")
activity = FeatureView("activity", entities=[user], source=clicks, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="n")])
risk = FeatureView("risk", entities=[user], source=FileSource("rows.parquet", name="rows", timestamp_field="at"),
    schema=[Field("age", Int64)], tags={"team": "fraud"})
profile = FeatureView("zq_profile", entities=[user], tags={"team": "zq_shop"}, owner="zq_owner", description="zq_words",
    source=FileSource("zq_rows.parquet", name="zq_rows", timestamp_field="at"), schema=[Field("zq_age", Int64)])
ledger = FeatureView("zq_ledger", entities=[account], tags={"team": "zq_shop"},
    source=PushSource("zq_taps", schema=[Field("zq_id", Int64), Field("at", Timestamp)], timestamp_field="at"),
    aggregations=[Aggregation("", "count", name="zq_n")])
taps = PushSource("taps", schema=event, timestamp_field="at")
tapped = FeatureView("tapped", entities=[user], source=taps, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="tapped_n")])
offered = FeatureView("zq_offered", entities=[user], source=taps, tags={"team": "zq_shop"},
    aggregations=[Aggregation("", "count", name="zq_offered_n")])

@on_demand_feature_view(sources=[activity], schema=[Field("twice", Int64)], mode="python", tags={"team": "fraud"})
def doubled(row):
    return {"twice": row["n"] * 2}

@on_demand_feature_view(sources=[activity, profile], schema=[Field("mix", Int64)], mode="python", tags={"team": "fraud"})
def mixed(row):
    return {"mix": row["n"]}

frauds = FeatureService("frauds", features=[activity, doubled])
everything = FeatureService("zq_everything", features=[activity, profile])
"""
TAGS = {"": {}, "fraud": {"team": "fraud"}, "zq_shop": {"team": "zq_shop"}}
CALLERS = {(allow, team): new_key() for allow in ACTIONS for team in TAGS}
OTHERS = {"expired": new_key(), "elsewhere": new_key()}


def configuration() -> str:
    roles: dict[str, Any] = {
        f"{allow}_{team}": {"allow": allow, "tags": tags} for allow in ACTIONS for team, tags in TAGS.items() if team
    }
    keys: list[dict[str, Any]] = [
        {
            "id": key.id,
            "hash": key.hash,
            "name": f"k-{allow}-{team[-5:]}",
            "roles": [f"{allow}_{team}" if team else allow],
        }
        for (allow, team), key in CALLERS.items()
    ]
    old, other = OTHERS["expired"], OTHERS["elsewhere"]
    keys.append({"id": old.id, "hash": old.hash, "roles": ["admin"], "expires": "2020-01-01T00:00:00Z"})
    keys.append({"id": other.id, "hash": other.hash, "roles": ["elsewhere"]})
    roles["elsewhere"] = {"allow": "admin", "projects": ["other"]}
    sections = {"project": "shop", "clock": NOW.isoformat(), "auth": {"audit": "off", "roles": roles, "keys": keys}}
    return json.dumps(sections)  # YAML is a superset of JSON


class Server(NamedTuple):
    url: str
    client: httpx.Client

    def ask(self, method: str, path: str, body: Any = None, *, key: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        content = {"data": body} if path.startswith("/ui") else {"json": body}
        return self.client.request(method, self.url + path, headers=headers, **(content if body is not None else {}))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("roles")
    (folder / "feature_store.yaml").write_text(configuration())
    (folder / "features.py").write_text(DEFINITIONS)
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "age": [30], "at": at}), folder / "rows.parquet")
    pq.write_table(pa.table({"user_id": [1], "zq_age": [4711471147114711], "at": at}), folder / "zq_rows.parquet")
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
    process = subprocess.Popen(
        [sys.executable, "-m", "asof", "--repo", str(folder), "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if "Serving on" in line:
            break
    else:
        raise AssertionError("".join(said))
    port = int(said[-1].split(" with ")[0].rpartition(":")[2])
    reading = threading.Thread(target=process.stderr.read, daemon=True)
    reading.start()
    with httpx.Client(timeout=120) as client:
        server = Server(f"http://127.0.0.1:{port}", client)
        deadline = time.monotonic() + 120
        while not _is_ready(server):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield server
    process.terminate()
    process.wait(timeout=60)
    reading.join(timeout=30)
    shutil.rmtree(folder)


def _is_ready(server: Server) -> bool:
    try:
        return server.ask("GET", "/ready").status_code == 200
    except httpx.HTTPError:
        return False


EVENT = {"user_id": [1], "at": ["2026-01-01T12:00:00Z"]}
ACCOUNT = {"zq_id": [1], "at": ["2026-01-01T12:00:00Z"]}


def on(path: str, *, hidden: bool, job: str) -> tuple[str, Any]:
    """The address and body of a request for something of the one team or the other."""
    view, feature, source, rows = (
        ("zq_ledger", "zq_n", "zq_taps", ACCOUNT) if hidden else ("activity", "n", "clicks", EVENT)
    )
    entities = {"zq_id": [1]} if hidden else {"user_id": [1]}
    bodies = {
        "/get-online-features": {"entities": entities, "features": [f"{view}:{feature}"]},
        "/v1/features": {"entities": entities, "features": view},
        "/push": {"push_source_name": source, "df": rows},
        "/write-to-online-store": {"feature_view_name": view, "df": rows},
        # A view of a push source is not materialized, which is said to whoever may know of it.
        "/materialize": {"feature_views": [view], "start_ts": "2025-01-01", "end_ts": "2025-01-02"},
        "/materialize-incremental": {"feature_views": [view]},
        "/ui/sign-in": {"key": CALLERS["read", ""].text}, "/ui/{path:path}": {},
    }  # fmt: skip
    at = path.replace("{id}", job).replace("{path:path}", f"view/{view}")
    return at, bodies.get(path)


CELLS = [(route, allow, team) for route in (*ROUTES, *PAGE_ROUTES) for allow, team in (*CALLERS, (None, ""))]


@pytest.fixture(scope="module")
def jobs(server: Server) -> dict[bool, str]:
    """One run of each team's views: whether it is the hidden team's → its ID."""
    found = {}
    for hidden, view, team in ((False, "risk", "fraud"), (True, "zq_profile", "zq_shop")):
        body = {"feature_views": [view], "end_ts": "2026-01-01T12:00:00Z"}
        answer = server.ask("POST", "/materialize-incremental?async=true", body, key=CALLERS["admin", team].text)
        assert answer.status_code == 202, answer.text
        found[hidden] = answer.json()["job"]
        deadline = time.monotonic() + 120
        while server.ask("GET", f"/jobs/{found[hidden]}", key=CALLERS["admin", team].text).json()["state"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.1)
    return found


@pytest.mark.parametrize("route", [*ROUTES, *PAGE_ROUTES], ids=lambda route: f"{route.method} {route.path}")
def test_each_cell_of_the_documented_table_holds(server: Server, jobs: dict[bool, str], route: Any) -> None:
    for allow, team in (*CALLERS, (None, "")):
        access = route.access(allow, is_narrow=bool(team))
        key = CALLERS[allow, team].text if allow else ""
        for hidden in (False, True):
            path, body = on(route.path, hidden=hidden, job=jobs[hidden])
            answer = server.ask(route.method, path, body, key=key)
            is_own = access == "yes" or (access == "its own" and (team == "zq_shop") == hidden)
            if route.path == "/jobs":
                shown = {each["id"] for each in answer.json()["jobs"]} if answer.status_code == 200 else set()
                assert (jobs[hidden] in shown) == is_own, (allow, team, hidden, answer.text)
                assert answer.status_code == (200 if access != "no" else 403 if allow else 401)
            elif is_own:
                # 404: a view has no form, and the static file's name is made up.
                fine = (200, 202, 302, 303, 422, *([404] if route.path.endswith(":path}") else []))
                assert answer.status_code in fine, (allow, team, hidden, answer.text)
            elif allow is None:
                to_sign_in = answer.status_code == 303 and "/ui/sign-in?" in answer.headers["location"]
                assert answer.status_code == 401 or to_sign_in, (hidden, answer.text)
            elif access == "its own" and route.concerns == "visible":
                assert answer.status_code == 404, (allow, team, hidden, answer.text)
            else:
                assert answer.status_code == 403, (allow, team, hidden, answer.text)


@pytest.mark.parametrize("route", [*ROUTES, *PAGE_ROUTES], ids=lambda route: f"{route.method} {route.path}")
def test_a_key_that_is_not_good_here_is_as_none(server: Server, jobs: dict[bool, str], route: Any) -> None:
    path, body = on(route.path, hidden=False, job=jobs[False])
    for kind, key in {**{name: each.text for name, each in OTHERS.items()}, "made up": new_key().text}.items():
        answer = server.ask(route.method, path, body, key=key)
        if route.action is None:
            assert answer.status_code in (200, 302, 303, 404)
        elif kind == "elsewhere":
            assert answer.status_code == 403
        else:
            assert answer.status_code in (401, 303)
        assert "risk" not in answer.text and "zq_" not in answer.text.replace("view/zq_", "")


# ---- what answers tell ----

FRAUD = {allow: CALLERS[allow, "fraud"].text for allow in ACTIONS}


def named(name: str) -> list[tuple[str, str, Any]]:
    """Requests that name something, on each route that takes names."""
    read = {"entities": {"user_id": [1]}}
    return [
        ("POST", "/get-online-features", read | {"features": [f"{name}:{name}"]}),
        ("POST", "/get-online-features", read | {"features": ["activity:n", f"{name}:n", name]}),
        ("POST", "/get-online-features", read | {"feature_service": name}),
        ("POST", "/v1/features", read | {"features": name}),
        ("POST", "/v1/features", read | {"features": f"{name}:zq_age"}),
        ("POST", "/v1/features", read | {"service": name}),
        ("POST", "/push", {"push_source_name": name, "df": EVENT}),
        ("POST", "/write-to-online-store", {"feature_view_name": name, "df": EVENT}),
        ("POST", "/materialize", {"feature_views": [name], "start_ts": "2025-01-01", "end_ts": "2025-01-02"}),
        ("POST", "/materialize", {"feature_views": ["risk", name], "start_ts": "2025-01-01", "end_ts": "2025-01-02"}),
        ("POST", "/materialize-incremental", {"feature_views": [name]}),
        *(
            ("GET", f"/ui/{page}/{name}{end}", None)
            for page in ("view", "source", "entity", "service", "feature", "lineage/view", "lineage/source", "dead-letters")
            for end in ("", ".json", "/zq_age")
        ),
        ("GET", f"/ui/key/{name}?user_id=1", None),
        ("GET", f"/ui/search?q={name}", None), ("GET", f"/ui/search.json?q={name}", None),
        ("GET", f"/ui/search.json?q=&view={name}&entity={name}&source={name}&tag={name}", None),
        ("POST", f"/ui/source/{name}", {}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["zq_profile", "zq_ledger", "zq_offered", "zq_everything", "zq_taps", "zq_rows", "zq_account", "zq_profil", "zq_tap",
     "zq_everythin", "zq_shop", "zq_owner", "zq_words"],
)  # fmt: skip
def test_what_a_caller_may_not_know_of_is_as_what_does_not_exist(server: Server, name: str) -> None:
    absent = f"xj_{name[3:]}"
    for allow in ACTIONS:
        for (method, path, body), (_, other, other_body) in zip(named(name), named(absent), strict=True):
            found, expected = (
                server.ask(method, path, body, key=FRAUD[allow]), server.ask(method, other, other_body, key=FRAUD[allow])
            )  # fmt: skip
            assert found.status_code == expected.status_code, (allow, path, body, found.text, expected.text)
            assert found.text.replace(name, absent) == expected.text, (allow, path, body)
            assert "zq_" not in found.text.replace(name, "").replace("zq_age", ""), (allow, path, found.text)


def test_of_views_on_the_same_source_a_refusal_names_none(server: Server) -> None:
    for path, body in (
        ("/push", {"push_source_name": "taps", "df": EVENT}),
        ("/write-to-online-store", {"feature_view_name": "tapped", "df": EVENT}),
        ("/get-online-features", {"entities": {"user_id": [1]}, "features": ["mixed:mix"]}),
        ("/materialize-incremental", {}),
    ):
        answer = server.ask("POST", path, body, key=FRAUD["admin"])
        assert answer.status_code == 403 and "zq_" not in answer.text, answer.text


def test_near_names_are_those_that_the_caller_may_read(server: Server) -> None:
    for reference in ("activity:zq_n", "activity:nn", "doubled:mix", "risk:zq_age"):
        body = {"entities": {"user_id": [1]}, "features": [reference]}
        answer = server.ask("POST", "/v1/features", body, key=FRAUD["read"])
        assert answer.status_code == 404, answer.text
        assert "zq_" not in answer.text.replace(reference, "") and "mixed" not in answer.text
    near = server.ask("POST", "/v1/features", {"entities": {}, "features": ["activit:n"]}, key=FRAUD["read"])
    assert (near.status_code, near.json()["hint"]) == (403, "did you mean 'activity'?")


def test_readiness_is_for_all_and_its_details_for_those_who_may_read_all(server: Server) -> None:
    whole = server.ask("GET", "/ready", key=CALLERS["read", ""].text).json()
    assert whole["status"] == "ready" and whole["version"]
    for key in ("", FRAUD["admin"], OTHERS["expired"].text, OTHERS["elsewhere"].text, "made up"):
        assert server.ask("GET", "/ready", key=key).json() == {"status": "ready"}


def test_the_openapi_document_names_nothing_of_the_project(server: Server) -> None:
    text = server.ask("GET", "/openapi.json").text

    assert not any(name in text for name in ("zq_", "activity", "tapped", "fraud", "doubled", "clicks"))


LINK = re.compile(r'href="(/ui/[^"#]*)"')


def test_no_page_shows_anything_of_what_its_viewer_may_not_read(server: Server) -> None:
    """Every page that the admin can reach by links, as HTML and as JSON, asked for by one of the other team."""
    todo, seen = ["/ui/"], set()
    while todo and len(seen) < 250:
        path = todo.pop(0)
        if path in seen or path.startswith("/ui/static"):
            continue
        seen.add(path)
        page = server.ask("GET", path, key=CALLERS["admin", ""].text)
        if page.status_code == 200 and "html" in page.headers["content-type"]:
            todo += [html.unescape(each) for each in LINK.findall(page.text)]
    assert len(seen) > 60
    for path in sorted(seen):
        for key in (FRAUD["read"], FRAUD["admin"]):
            answer = server.ask("GET", path, key=key)
            shown = answer.text
            if answer.status_code != 200 or "zq_" in path:
                # It repeats what it was asked for.
                for part in re.findall(r"zq_\w+", path):
                    shown = shown.replace(part, "").replace(quote(part), "")
                if "zq_" in path.partition("?")[0]:
                    assert answer.status_code == 404, path
            assert "zq_" not in shown and "4711471147114711" not in shown, (path, re.findall(r".*zq_.*", shown)[:3])
