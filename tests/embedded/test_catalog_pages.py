"""The catalog's pages on the feature server: as HTML and JSON, for each role, signed in by a cookie."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.server.settings import ServerSettings
from tests.catalog_browser import CONFIGURATION, KEYS, NOW, Browser, browser_of

DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
rows = FileSource("profile.parquet", name="rows", timestamp_field="at", owner="crm")
profile = FeatureView("profile", entities=[user], source=rows, schema=[Field("age", Int64), Field("<b>odd</b>.json", String)],
    tags={"team": "shop"}, description="Who a user is <script>alert(1)</script>")
clicks = PushSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
activity = FeatureView("activity", entities=[user], source=clicks, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="n")])

@on_demand_feature_view(sources=[activity, profile], schema=[Field("mix", Int64)], mode="python", tags={"team": "fraud"})
def mixed(row):
    return {"mix": row["n"]}

frauds = FeatureService("frauds", features=[activity])
everything = FeatureService("everything", features=[mixed])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("catalog")
    (folder / "feature_store.yaml").write_text(CONFIGURATION)
    (folder / "features.py").write_text(DEFINITIONS)
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    pq.write_table(
        pa.table({"user_id": [1], "age": [30], "<b>odd</b>.json": ["x"], "at": at}), folder / "profile.parquet"
    )
    with FeatureStore(folder, clock=lambda: NOW) as store:
        store.apply()
        store.materialize()
    return folder


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    yield from browser_of(folder)


def test_every_link_of_every_page_leads_to_a_page_and_has_its_json(browser: Browser) -> None:
    """From the home page, as one who may read everything."""
    seen: set[str] = set()
    waiting = ["/ui/"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        response = browser.get(path)
        assert response.status_code == 200, f"{path}: {response.status_code}\n{response.text}"
        if response.headers["content-type"].startswith("application/json"):
            json.loads(response.text)
        if not response.headers["content-type"].startswith("text/html"):
            continue
        assert "<script>alert" not in response.text and "<b>odd" not in response.text, path
        # The policy forbids them, and a browser would say nothing.
        assert not re.search(r"<[^>]+ (style|on\w+)=", response.text), path
        links = re.findall(r'(?:href|src|data-hx-get)="([^"#]+)', response.text)
        waiting += [each.replace("&amp;", "&") for each in links if each]
    kinds = {urlsplit(each).path.split("/")[2] for each in seen}
    assert {"search", "view", "feature", "entity", "service", "key", "lineage", "static"} <= kinds
    # The browser has no way out.
    assert all(each.startswith("/ui/") for each in seen)


def test_pages_let_nothing_in_from_elsewhere(browser: Browser) -> None:
    headers = browser.get("/ui/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"


class TestRoles:
    def test_without_a_key_a_browser_is_led_to_the_sign_in_page_and_back(self, browser: Browser) -> None:
        response = browser.get("/ui/search?q=age", role="")
        assert response.status_code == 303
        assert response.headers["location"] == "/ui/sign-in?to=%2Fui%2Fsearch%3Fq%3Dage"
        page = browser.get(response.headers["location"], role="")
        assert page.status_code == 200 and 'value="/ui/search?q=age"' in page.text
        assert browser.get("/ui/home.json", role="").status_code == 401

    def test_a_key_that_is_known_becomes_a_cookie(self, browser: Browser) -> None:
        response = browser.post("/ui/sign-in", {"key": KEYS["read"].text, "to": "/ui/search?q=age"})
        assert (response.status_code, response.headers["location"]) == (303, "/ui/search?q=age")
        cookie = response.headers["set-cookie"].partition(";")[0]
        assert browser.get("/ui/search?q=age", role="", cookie=cookie).status_code == 200
        out = browser.post("/ui/sign-out", {}, cookie=cookie)
        assert out.status_code == 303 and "Max-Age=0" in out.headers["set-cookie"]

    @pytest.mark.parametrize("key, status", [("", 401), ("asof_wrong", 401), ("é", 401), ("nobody", 200)])
    def test_another_is_refused_with_the_reason(self, browser: Browser, key: str, status: int) -> None:
        response = browser.post("/ui/sign-in", {"key": KEYS[key].text if key in KEYS else key, "to": "/ui/"})
        assert response.status_code == (303 if status == 200 else status)
        assert ("set-cookie" in response.headers) is (status == 200)
        if status != 200:
            assert 'role="alert"' in response.text

    def test_a_form_of_another_page_is_refused(self, browser: Browser) -> None:
        for headers in ({"sec-fetch-site": "same-site"}, {"origin": "http://localhost:9999"}):
            response = browser.post("/ui/sign-in", {"key": KEYS["read"].text}, **headers)
            assert response.status_code == 403 and "set-cookie" not in response.headers

    def test_a_viewer_of_some_views_sees_them_and_what_hangs_on_them_alone(self, browser: Browser) -> None:
        names = [each["name"] for each in browser.get("/ui/search.json?limit=100", role="fraud_read").json()["found"]]
        assert sorted(names) == ["activity", "activity:n", "clicks", "frauds", "user"]
        assert browser.get("/ui/view/activity", role="fraud_read").status_code == 200
        page = browser.get("/ui/view/profile", role="fraud_read")
        missing = browser.get("/ui/view/nothing", role="fraud_read")
        assert page.status_code == missing.status_code == 404
        assert page.text.replace("profile", "X") == missing.text.replace("nothing", "X")
        # What they may not read is not named where they may look.
        for path in ("/ui/", "/ui/view/activity", "/ui/search?q=prof&part=results", "/ui/view/profil"):
            assert not re.search(r"mixed|everything|/profile|>profile<", browser.get(path, role="fraud_read").text), (
                path
            )
        assert browser.get("/ui/search.json", role="nobody").json()["found"] == []


class TestAddresses:
    def test_browsers_are_led_to_the_catalog(self, browser: Browser) -> None:
        for path in ("/", "/docs", "/ui"):
            response = browser.get(path, role="")
            assert (response.status_code, response.headers["location"]) == (302, "/ui/")

    @pytest.mark.parametrize("path, status, said", [
        ("/ui/nothing", 404, "no page"), ("/ui/view", 404, "no page"), ("/ui/view/a/b", 404, "no page"),
        ("/ui/view/profil", 404, "did you mean &#39;profile&#39;?"), ("/ui/search?limit=x", 422, "positive whole number"),
        ("/ui/search?kind=feat", 422, "no such kind"), ("/ui/search?part=x", 404, "no part"),
        ("/ui/static/nothing.css", 404, "static file"), ("/ui/%00", 404, "no page"), ("/ui/%ff", 404, "no page"),
    ])  # fmt: skip
    def test_a_wrong_address_gets_a_page_with_the_next_step(
        self, browser: Browser, path: str, status: int, said: str
    ) -> None:
        response = browser.get(path)
        assert response.status_code == status and said in response.text
        assert response.headers["content-type"] == "text/html; charset=utf-8"

    def test_the_json_of_an_error_is_an_object(self, browser: Browser) -> None:
        response = browser.get("/ui/view/profil.json")
        assert response.status_code == 404
        error = response.json()["error"]
        assert error["code"] == "NotFound" and error["hint"] == "did you mean 'profile'?"

    def test_a_part_is_the_part_alone(self, browser: Browser) -> None:
        while browser.get("/ui/search.json?q=agee").json()["late"]:
            pass  # Until the index of all texts is made, a search goes by names as they are.
        part = browser.get("/ui/search?q=agee&part=results").text
        assert "profile:<wbr>age" in part and "<html" not in part


def test_a_server_without_the_catalog_has_no_pages(folder: Path) -> None:
    for browser in browser_of(folder, ServerSettings(catalog=False)):
        assert browser.get("/ui/").status_code == 404
        assert browser.get("/").status_code == 404


def test_what_is_applied_later_is_found_at_once(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    with FeatureStore(tmp_path, clock=lambda: NOW) as store:
        for browser in browser_of(tmp_path, ServerSettings(registry_refresh_s=0.05)):
            assert "Nothing is applied yet" in browser.get("/ui/", role="").text
            (tmp_path / "features.py").write_text('from asof import *\nuser = Entity("user", join_keys=["user_id"])\n')
            store.apply()
            assert browser.get("/ui/", role="", host="evil.example:6566").status_code == 403
            found: Any = []
            while not found:
                found = browser.get("/ui/search.json?q=user", role="").json()["found"]
            assert found[0]["url"] == "/ui/entity/user"
