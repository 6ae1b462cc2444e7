"""The pages of runs: all of them, by kind and outcome; what one version changed; by role."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.errors import AsofError
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

SCHEDULE = "schedule:\n  materialize: '*/15 * * * *'\n  nightly: {job: audit, cron: '0 3 * * *', views: [profile]}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "feature_store.yaml").write_text(CONFIGURATION + SCHEDULE)
    (folder / "features.py").write_text(DEFINITIONS)
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "age": [30], "at": at}), folder / "people.parquet")
    with FeatureStore(folder, clock=lambda: NOW) as store:
        store.apply()
        store.materialize()
        with pytest.raises(AsofError):
            store.materialize(feature_views=["<b>nothing"])
        store.send("clicks", [b"secret-1", b'{"user_id": 1, "at": "2026-01-01T11:00:00Z"}'])
        store.stream_run(until_caught_up=True)
        store.run_schedule(once=True)
        (folder / "features.py").write_text(DEFINITIONS + 'profile2 = FeatureService("both", features=[profile])\n')
        store.apply()
    return folder


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[Browser]:
    yield from browser_of(folder)


def runs(browser: Browser, query: str = "", **more: Any) -> list[dict[str, Any]]:
    while (found := browser.get(f"/ui/runs.json{query}", **more).json()["runs"])["value"] is None:
        assert not found["error"], found
    rows: list[dict[str, Any]] = found["value"]
    return rows


class TestRuns:
    def test_versions_and_runs_are_in_one_list(self, browser: Browser) -> None:
        found = runs(browser)
        kinds = sorted((each["kind"], each["outcome"]) for each in found)
        assert kinds == [
            ("apply", "done"), ("apply", "done"), ("materialize", "done"), ("materialize", "failed"), ("stream", "done"),
        ]  # fmt: skip
        assert "Runs" in browser.get("/ui/runs").text and "<b>nothing" not in browser.get("/ui/runs").text

    def test_they_say_what_they_wrote_and_what_went_wrong(self, browser: Browser) -> None:
        by_kind = {(each["kind"], each["outcome"]): each for each in runs(browser)}
        done = by_kind["materialize", "done"]
        assert [(view["text"], rows) for view, rows in done["views"]] == [("profile", 1)] and done["rows"] == 1
        assert "no feature view '<b>nothing'" in by_kind["materialize", "failed"]["error"]
        streamed = by_kind["stream", "done"]
        assert streamed["sources"][0][0]["url"] == "/ui/source/clicks"
        assert sum(streamed["dead_letters"].values()) == 1 and "secret" not in str(streamed)

    @pytest.mark.parametrize("query, kinds", [
        ("?kind=stream", ["stream"]), ("?kind=apply", ["apply", "apply"]), ("?outcome=failed", ["materialize"]),
        ("?kind=audit", []), ("?kind=materialize&outcome=done", ["materialize"]), ("?limit=1&kind=apply", ["apply"]),
    ])  # fmt: skip
    def test_filters(self, browser: Browser, query: str, kinds: list[str]) -> None:
        assert [each["kind"] for each in runs(browser, query)] == kinds
        assert browser.get(f"/ui/runs{query}").status_code == 200

    def test_more_are_one_link_away(self, browser: Browser) -> None:
        runs(browser, "?limit=2")
        assert browser.get("/ui/runs.json?limit=2").json()["more_url"] == "/ui/runs?limit=8"
        assert browser.get("/ui/runs.json?limit=100").json()["more_url"] == ""

    def test_a_filter_that_is_none_is_refused(self, browser: Browser) -> None:
        for query in ("?kind=strem", "?outcome=fine"):
            refused = browser.get(f"/ui/runs{query}")
            assert refused.status_code == 422 and "choose one of" in refused.text

    def test_a_viewer_sees_the_runs_of_their_views_and_no_versions(self, browser: Browser) -> None:
        found = runs(browser, role="fraud_read")
        assert [each["kind"] for each in found] == ["stream"]
        assert ">profile</a>" not in browser.get("/ui/runs", role="fraud_read").text
        assert runs(browser, "?kind=apply", role="fraud_read") == []
        assert runs(browser, role="nobody") == []


class TestVersion:
    def test_it_shows_what_changed_as_plan_does(self, browser: Browser) -> None:
        newest = max(int(each["url"].rpartition("/")[2]) for each in runs(browser, "?kind=apply"))
        while (found := browser.get(f"/ui/runs/apply/{newest}.json").json()["content"])["value"] is None:
            assert not found["error"], found
        content = found["value"]
        assert [(each["text"], each["state"]) for each in content["lines"]] == [("+ feature service 'both'", "added")]
        assert content["after"] is None
        before = browser.get(content["before"]["url"])
        assert before.status_code == 200

    @pytest.mark.parametrize("version", ["0", "x", "-1", "²", "99999999999"])
    def test_what_is_no_version_is_not_found(self, browser: Browser, version: str) -> None:
        assert browser.get(f"/ui/runs/apply/{version}").status_code == 404

    def test_it_is_for_those_who_may_read_everything(self, browser: Browser) -> None:
        assert browser.get("/ui/runs/apply/2", role="fraud_read").status_code == 404


def test_the_jobs_of_the_schedule_stand_beside_their_runs(browser: Browser) -> None:
    while (found := browser.get("/ui/runs.json").json()["schedule"])["value"] is None:
        assert not found["error"], found
    assert [(each["name"], each["job"], each["outcome"]) for each in found["value"]] == [
        ("materialize", "materialize", "waiting"), ("nightly", "audit", "waiting"),
    ]  # fmt: skip
    text = browser.get("/ui/runs").text
    assert "*/15 * * * *" in text and "No process works through it" in text
    # A job names views, and its error may.
    assert browser.get("/ui/runs.json", role="fraud_read").json()["schedule"] is None
    assert "nightly" not in browser.get("/ui/runs", role="fraud_read").text


def test_what_a_version_changed_is_said_of_definitions_alone(browser: Browser) -> None:
    newest, first = [each["summary"] for each in runs(browser, "?kind=apply")]
    assert newest == "created feature service 'both'"
    assert first.startswith("created entity 'user'") and "facts" not in first
