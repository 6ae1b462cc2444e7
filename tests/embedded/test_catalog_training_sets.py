"""The pages of training sets: the list, the manifest, and two compared, by role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from tests.catalog_browser import CONFIGURATION, NOW, Browser, browser_of

DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
rows = FileSource("people.parquet", name="people", timestamp_field="at")
profile = FeatureView("profile", entities=[user], source=rows, schema=[Field("age", Int64), Field("<b>height", Int64)],
    tags={"team": "shop"})
clicks = PushSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
activity = FeatureView("activity", entities=[user], source=clicks, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="n")])
"""


def write_people(folder: Path, age: int) -> None:
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "age": [age], "<b>height": [180], "at": at}), folder / "people.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    (folder / "feature_store.yaml").write_text(CONFIGURATION)
    (folder / "features.py").write_text(DEFINITIONS)
    write_people(folder, 30)
    frame = pd.DataFrame({"user_id": [1, 2], "event_timestamp": [NOW, NOW], "label": [0, 1]})
    with FeatureStore(folder, clock=lambda: NOW) as store:
        store.apply()
        store.push("clicks", [{"user_id": 1, "at": NOW}])
        store.get_historical_features(frame, ["profile:age", "profile:<b>height", "activity:n"]).save("march")
        query = 'SELECT user_id, "at" AS event_timestamp FROM people'
        store.get_historical_features(query, ["activity:n"]).save("counts")
        write_people(folder, 31)
        store.get_historical_features(frame, ["profile:age", "profile:<b>height"]).save("april.json")
        store.get_historical_features(frame[:1], ["activity:n"]).save("half")
    return folder


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    yield from browser_of(folder)


def compared(browser: Browser, a: str, b: str, **more: Any) -> Any:
    return browser.get(f"/ui/training-sets/compare.json?a={a}&b={b}", **more).json()


def test_the_list_has_all_of_them_with_their_rows(browser: Browser) -> None:
    found = browser.get("/ui/training-sets.json").json()["sets"]
    assert {each["name"]: (each["rows"], each["features"]) for each in found} == {
        "march": (2, 3), "april.json": (2, 2), "counts": (1, 1), "half": (1, 1),
    }  # fmt: skip
    page = browser.get("/ui/training-sets").text
    assert "/ui/training-set/april%2Ejson" in page and "/ui/training-sets/compare" in page


class TestManifest:
    def test_it_says_what_the_set_was_made_of(self, browser: Browser) -> None:
        page = browser.get("/ui/training-set/march.json").json()
        assert (page["rows"], page["frame"], page["reproducible"]) == (2, "a table", True)
        assert [each["text"] for each in page["features"]] == ["profile:age", "profile:<b>height", "activity:n"]
        assert [each["name"] for each in page["columns"] if each["is_feature"]] == ["age", "<b>height", "n"]
        pinned = {each["name"]: each["pinned"] for each in page["sources"]}
        assert pinned["people"].startswith("1 file: people.parquet (sha256 ")
        assert pinned["clicks"].startswith("archive version ")
        text = browser.get("/ui/training-set/march").text
        assert "<b>height" not in text and "store.rebuild_training_set(&#34;march&#34;)" in text

    def test_it_says_what_changed_since(self, browser: Browser) -> None:
        while (found := browser.get("/ui/training-set/march.json").json()["changes"])["is_late"]:
            pass
        (change,) = found["value"]
        assert "people.parquet was changed or removed" in change
        assert "changed or removed" in browser.get("/ui/training-set/march").text

    def test_the_query_of_a_frame_is_shown(self, browser: Browser) -> None:
        page = browser.get("/ui/training-set/counts.json").json()
        assert page["frame"] == 'SELECT user_id, "at" AS event_timestamp FROM people' and page["is_query"]


class TestCompare:
    def test_columns_are_compared_by_their_hashes(self, browser: Browser) -> None:
        page = compared(browser, "march", "april.json")
        verdicts = {each["name"]: each["verdict"] for each in page["columns"]}
        assert verdicts == {
            "user_id": "same values", "event_timestamp": "same values", "label": "same values",
            "age": "other values", "<b>height": "same values", "n": "only in A",
        }  # fmt: skip
        assert page["columns"][0]["name"] == "age" and not page["is_identical"]
        definitions = {each["name"]: (bool(each["a"]), bool(each["b"])) for each in page["definitions"]}
        assert definitions == {"profile": (True, True), "activity": (True, False)}
        facts = {each["name"]: (each["a"], each["b"]) for each in page["facts"]}
        assert facts["Rows"] == ("2", "2") and facts["Source people"][0] != facts["Source people"][1]

    def test_sets_with_other_rows_are_not_said_to_have_other_values(self, browser: Browser) -> None:
        verdicts = {each["name"]: each["verdict"] for each in compared(browser, "march", "half")["columns"]}
        assert verdicts["n"] == "other rows" and verdicts["age"] == "only in A"

    def test_a_set_is_identical_with_itself(self, browser: Browser) -> None:
        assert compared(browser, "march", "march")["is_identical"]
        assert "All values are the same" in browser.get("/ui/training-sets/compare?a=march&b=march").text

    def test_without_names_it_asks_for_two(self, browser: Browser) -> None:
        page = browser.get("/ui/training-sets/compare")
        assert page.status_code == 200 and "<select" in page.text
        assert browser.get("/ui/training-sets/compare?a=march").status_code == 200
        assert browser.get("/ui/training-sets/compare?a=march&b=marhc").status_code == 404


class TestRoles:
    def test_a_viewer_sees_the_sets_of_which_they_may_read_all_views(self, browser: Browser) -> None:
        found = browser.get("/ui/training-sets.json", role="fraud_read").json()["sets"]
        assert sorted(each["name"] for each in found) == ["counts", "half"]
        hidden = browser.get("/ui/training-set/march", role="fraud_read")
        missing = browser.get("/ui/training-set/nothing", role="fraud_read")
        assert hidden.status_code == missing.status_code == 404
        assert hidden.text.replace("march", "X") == missing.text.replace("nothing", "X")
        assert browser.get("/ui/training-sets/compare?a=march&b=half", role="fraud_read").status_code == 404
        assert "march" not in browser.get("/ui/training-sets/compare", role="fraud_read").text

    def test_a_frame_over_sources_that_are_hidden_from_them_is_hidden(self, browser: Browser) -> None:
        page = browser.get("/ui/training-set/counts.json", role="fraud_read").json()
        assert page["frame"] is None and [each["name"] for each in page["sources"]] == ["clicks"]
        assert "people" not in browser.get("/ui/training-set/counts", role="fraud_read").text
        facts = compared(browser, "counts", "half", role="fraud_read")
        assert "people" not in str(facts)


def test_without_any_the_next_step_is_said(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    for browser in browser_of(tmp_path):
        assert '.save("march")' in browser.get("/ui/training-sets", role="").text
        assert "none is saved" in browser.get("/ui/training-sets/compare", role="").text
        assert "Nothing has run yet" in browser.get("/ui/runs", role="").text
