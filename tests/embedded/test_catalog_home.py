"""The home page: what needs attention, what ran, what is used, what changed; by role."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.catalog.index import CatalogIndex
from asof.catalog.site import Site
from asof.catalog.viewer import Owner
from asof.store import open_store_of
from tests.catalog_browser import CONFIGURATION, NOW, Browser, browser_of

DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
rows = FileSource("people.parquet", name="people", timestamp_field="at")
profile = FeatureView("profile", entities=[user], source=rows, schema=[Field("age", Int64)], tags={"team": "shop"})
clicks = LogSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
activity = FeatureView("activity", entities=[user], source=clicks, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="n")])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "feature_store.yaml").write_text(CONFIGURATION)
    (folder / "features.py").write_text(DEFINITIONS)
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "age": [30], "at": at}), folder / "people.parquet")
    frame = pd.DataFrame({"user_id": [1], "event_timestamp": [NOW]})
    with FeatureStore(folder, clock=lambda: NOW) as store:
        store.apply()
        store.send("clicks", [b"not json", b'{"user_id": 1, "at": "2026-01-01T11:00:00Z"}'])
        store.stream_run(until_caught_up=True)
        for name in ("one", "two"):
            store.get_historical_features(frame, ["activity:n"]).save(name)
        store.get_historical_features(frame, ["profile:age"]).save("three")
    return folder


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    yield from browser_of(folder)


def home(browser: Browser, role: str = "read") -> dict[str, Any]:
    """The page's JSON once all of it is there."""

    def is_there(page: dict[str, Any]) -> bool:
        parts = [page[name] for name in ("checks", "expectations", "changes", "runs")]
        return not page["late"] and all(each["value"] is not None or each["error"] for each in parts)

    while not is_there(page := browser.get("/ui/home.json", role=role).json()):
        pass
    return page


def test_what_needs_attention_is_said_once_with_its_page(browser: Browser) -> None:
    found = [(each["part"], each["url"]) for each in home(browser)["attention"]]
    assert found == [("source clicks", "/ui/source/clicks"), ("view profile", "/ui/view/profile")]
    page = browser.get("/ui/").text
    assert "1 dead letter" in page and "never materialized" in page


def test_views_without_a_profile_are_named(browser: Browser, folder: Path) -> None:
    found = home(browser)["expectations"]["value"]
    assert (found["failing"], found["more_unprofiled"]) == ([], 0)
    assert sorted(each["text"] for each in found["unprofiled"]) == ["activity", "profile"]
    assert "Never profiled:" in browser.get("/ui/").text


def test_checks_of_the_whole_store_are_shown(browser: Browser) -> None:
    assert any(each["part"] == "view profile" for each in home(browser)["checks"]["value"])


def test_the_most_used_features_come_first(browser: Browser) -> None:
    assert [(each["name"], each["training_sets"], each["requests"]) for each in home(browser)["used"]] == [
        ("activity:n", 2, 0), ("profile:age", 1, 0),
    ]  # fmt: skip


def test_the_latest_runs_and_versions_are_shown(browser: Browser) -> None:
    page = home(browser)
    assert {"stream", "training-set", "apply"} == {each["kind"] for each in page["runs"]["value"]}
    assert len(page["changes"]["value"]) == 1


def test_a_viewer_of_some_views_sees_what_concerns_them_alone(browser: Browser) -> None:
    page = home(browser, "fraud_read")
    assert [each["part"] for each in page["attention"]] == ["source clicks"]
    assert [each["text"] for each in page["expectations"]["value"]["unprofiled"]] == ["activity"]
    assert [each["name"] for each in page["used"]] == ["activity:n"]
    assert page["checks"]["value"] == page["changes"]["value"] == []
    assert {each["kind"] for each in page["runs"]["value"]} <= {"stream", "training-set"}
    text = browser.get("/ui/", role="fraud_read").text + browser.get("/ui/home.json", role="fraud_read").text
    assert "profile:age" not in text and "view/profile" not in text and "people" not in text


def test_a_viewer_of_nothing_is_sent_to_whoever_gives_roles(browser: Browser) -> None:
    assert "There is nothing that you may read" in browser.get("/ui/", role="nobody").text


def test_an_empty_store_says_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    for browser in browser_of(tmp_path):
        page = browser.get("/ui/", role="").text
        assert "Nothing is applied yet" in page and "asof apply" in page


def test_a_search_goes_by_names_until_all_texts_are_indexed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    goes_on, prepare = Event(), CatalogIndex.prepare

    def slow(index: CatalogIndex) -> None:
        goes_on.wait(60)
        prepare(index)

    monkeypatch.setattr(CatalogIndex, "prepare", slow)
    monkeypatch.setattr("asof.catalog.pages.search.INDEX_S", 0.01)
    with FeatureStore(folder, clock=lambda: NOW) as store:
        site = Site(store, snapshot=open_store_of(store).snapshot)
        try:

            def search(text: str) -> Any:
                return json.loads(site.respond("/ui/search.json", {"q": text}, Owner()).body)

            found = search("prof")
            assert [each["name"] for each in found["found"]] == ["profile:age", "profile"]
            assert found["late"] == ["the index of all texts is still being made: these go by names alone"]
            assert search("profle")["found"] == [], "names as they are"
            part = site.respond("/ui/search", {"q": "profle", "part": "results"}, Owner()).body.decode()
            assert 'data-hx-get="/ui/search?q=profle&amp;limit=50&amp;part=results" data-hx-trigger="load' in part
            goes_on.set()
            while (found := search("profle"))["late"]:
                pass
            assert {"profile", "profile:age"} <= {each["name"] for each in found["found"]}
            assert found["again_url"] == ""
        finally:
            goes_on.set()
            site.close()
