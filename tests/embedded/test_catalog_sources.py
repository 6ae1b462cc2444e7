"""The pages of sources: their schema now, how far logs are read, and dead letters, by role."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.flows.facts import change_facts
from asof.store import open_store_of
from tests.catalog_browser import CONFIGURATION, KEYS, NOW, Browser, browser_of

DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
rows = FileSource("people.parquet", name="people", timestamp_field="at", owner="crm", description="Who they are")
profile = FeatureView("profile", entities=[user], source=rows, schema=[Field("age", Int64)], tags={"team": "shop"})
clicks = LogSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
activity = FeatureView("activity", entities=[user], source=clicks, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="n")])
mails = LogSource("mails", schema=[Field("user_id", Int64), Field("at", Timestamp), Field("email", String, tags={"pii": "yes"})],
    timestamp_field="at")
posts = FeatureView("posts", entities=[user], source=mails, tags={"team": "fraud"},
    aggregations=[Aggregation("", "count", name="n")])
empty = LogSource("empty", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
idle = FeatureView("idle", entities=[user], source=empty, aggregations=[Aggregation("", "count", name="n")])
screen = RequestSource("screen", schema=[Field("width", Int64)])

@on_demand_feature_view(sources=[profile, screen], schema=[Field("mix", Int64)], mode="python", tags={"team": "shop"})
def mixed(row):
    return {"mix": row["width"]}
"""
SECRET = "555-1234"
BAD = [
    b"<script>alert(1)</script> " + SECRET.encode(),
    json.dumps({"user_id": SECRET, "at": "2026-01-01T11:00:00Z"}).encode(),
    json.dumps({"user_id": f"{SECRET}x", "at": "2026-01-01T11:00:00Z"}).encode(),
]
EARLY = json.dumps({"user_id": 7, "at": "2026-01-01T12:20:00Z"}).encode()
"""An event ahead of the clock: it fits twenty minutes later."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text(CONFIGURATION)
    (tmp_path / "features.py").write_text(DEFINITIONS)
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "age": [30], "at": at, "more": ["x"]}), tmp_path / "people.parquet")
    with FeatureStore(tmp_path, clock=lambda: NOW) as store:
        store.apply()
        for source in ("clicks", "mails"):
            store.send(source, [*BAD, EARLY])
        store.stream_run(["clicks", "mails"], until_caught_up=True)
    return tmp_path


@pytest.fixture
def browser(folder: Path) -> Iterator[Browser]:
    yield from browser_of(folder)


def value_of(browser: Browser, path: str, name: str, **more: Any) -> Any:
    """A live value of a page's JSON, once it is there."""
    while (found := browser.get(path, **more).json()[name])["value"] is None:
        assert not found["error"], found
    return found["value"]


class TestBatchSources:
    def test_the_page_shows_the_columns_as_they_are_now(self, browser: Browser, folder: Path) -> None:
        found = value_of(browser, "/ui/source/people.json", "columns")
        assert [(each["name"], each["declared"], each["state"]) for each in found] == [
            ("user_id", "Int64", "same"), ("age", "Int64", "same"), ("at", "", "same"), ("more", "", "not used"),
        ]  # fmt: skip
        page = browser.get("/ui/source/people").text
        assert "Who they are" in page and "people.parquet" in page and 'href="/ui/view/profile"' in page

    def test_a_column_that_is_missing_is_marked(self, browser: Browser, folder: Path) -> None:
        at = pa.array([NOW], pa.timestamp("us", "UTC"))
        pq.write_table(pa.table({"user_id": ["x"], "at": at}), folder / "people.parquet")
        states = {each["name"]: each["state"] for each in value_of(browser, "/ui/source/people.json", "columns")}
        assert states == {"user_id": "does not fit", "at": "same", "age": "missing"}
        assert "2 columns not as declared" in browser.get("/ui/source/people").text

    def test_a_source_that_cannot_be_read_says_so_and_the_page_goes_on(self, browser: Browser, folder: Path) -> None:
        (folder / "people.parquet").unlink()
        while (found := browser.get("/ui/source/people.json").json()["columns"])["is_late"]:
            pass
        assert "people" in found["error"] and found["hint"]
        assert 'href="/ui/view/profile"' in browser.get("/ui/source/people").text

    def test_a_request_source_shows_its_columns_and_who_takes_them(self, browser: Browser) -> None:
        page = browser.get("/ui/source/screen.json").json()
        assert [each["name"] for each in page["declared"]] == ["width"]
        assert [each["text"] for each in page["on_demand"]] == ["mixed"]
        assert page["columns"] is page["partitions"] is page["dead_letters"] is None
        assert browser.get("/ui/source/screen").status_code == 200


class TestLogs:
    def test_a_log_without_a_topic_yet_has_its_pages(self, browser: Browser, folder: Path) -> None:
        (topic,) = (each for each in folder.rglob("empty") if "log" in each.parts)
        shutil.rmtree(topic)
        assert value_of(browser, "/ui/source/empty.json", "partitions") == []
        assert "does not exist yet" in browser.get("/ui/source/empty").text
        while (page := browser.get("/ui/feature/idle/n.json")).status_code == 200:
            if (log := page.json()["freshness"][0]["log"])["value"] is not None:
                break
        assert page.status_code == 200 and log["value"]["partitions"] == 0
        assert browser.get("/ui/feature/idle/n").status_code == 200

    def test_the_page_shows_how_far_the_log_is_read(self, browser: Browser) -> None:
        (partition,) = value_of(browser, "/ui/source/clicks.json", "partitions")
        assert (partition["next"], partition["lag"], partition["dead_letters"]) == (4, 0, 4)
        assert "The log" in browser.get("/ui/source/clicks").text

    def test_dead_letters_are_counted_by_reason_with_an_example(self, browser: Browser) -> None:
        letters = value_of(browser, "/ui/source/clicks.json", "dead_letters", role="write")
        assert (letters["count"], letters["waiting"], letters["is_all"]) == (4, 4, True)
        most = letters["kinds"][0]
        assert (most["reason"], most["count"]) == ("column 'user_id': … is not Int64", 2)
        assert SECRET in most["example"]
        page = browser.get("/ui/source/clicks", role="write").text
        assert "&lt;script&gt;alert" in page and "<script>alert" not in page and SECRET in page

    def test_a_dead_letter_has_a_page_with_its_message(self, browser: Browser) -> None:
        letters = value_of(browser, "/ui/source/clicks.json", "dead_letters", role="write")
        urls = {each["offset"]: each["url"] for each in letters["newest"]}
        letter = value_of(browser, f"{urls[0]}.json", "dead_letter", role="write")
        assert letter["text"] == BAD[0].decode() and letter["refused_now"] and not letter["replayed"]
        page = browser.get(urls[0], role="write").text
        assert "<script>alert" not in page and "still does not fit" in page
        assert "no dead letter" in browser.get("/ui/dead-letter/clicks/0/99", role="write").text
        assert browser.get("/ui/dead-letter/people/0/0", role="write").status_code == 404


class TestMessagesAreHidden:
    @pytest.mark.parametrize("role", ["read", "fraud_read"])
    def test_from_those_who_may_not_write(self, browser: Browser, role: str) -> None:
        letters = value_of(browser, "/ui/source/clicks.json", "dead_letters", role=role)
        assert letters["count"] == 4 and all(each["example"] is None for each in letters["kinds"])
        for path in ("/ui/source/clicks", *(each["url"] for each in letters["newest"])):
            for address in (path, f"{path}.json"):
                text = browser.get(address, role=role).text
                assert SECRET not in text and "alert(1)" not in text, address
        page = browser.get("/ui/source/clicks", role=role).text
        assert "need the write role" in page and "<button>" not in page

    def test_from_all_where_a_column_is_tagged_pii(self, browser: Browser) -> None:
        letters = value_of(browser, "/ui/source/mails.json", "dead_letters", role="admin")
        for path in ("/ui/source/mails", letters["newest"][0]["url"]):
            for address in (path, f"{path}.json"):
                assert SECRET not in browser.get(address, role="admin").text, address
        page = browser.get("/ui/source/mails", role="admin").text
        assert "tagged pii" in page and "Replay dead letters" in page

    def test_a_dead_letter_that_does_not_exist_has_no_page(self, browser: Browser) -> None:
        for path in ("/ui/dead-letter/clicks/0/999", "/ui/dead-letter/clicks/x/y", "/ui/dead-letter/clicks/0/999.json"):
            page = browser.get(path, role="fraud_write")
            assert page.status_code == 404 and "no dead letter" in page.text, path

    def test_a_viewer_of_other_views_does_not_know_the_source(self, browser: Browser) -> None:
        for path in ("/ui/source/people", "/ui/source/peopl", "/ui/dead-letter/people/0/1"):
            page = browser.get(path, role="fraud_read")
            assert page.status_code == 404 and "did you mean" not in page.text


def after_form(browser: Browser, done: httpx.Response, *, role: str) -> httpx.Response:
    """The page that a form leads to, as a browser asks for it."""
    assert done.status_code == 303 and "?" not in done.headers["location"]
    notice, path, *_ = done.headers["set-cookie"].split("; ")
    assert path == f"Path={done.headers['location']}"
    return browser.get(done.headers["location"], cookie=f"asof_key={KEYS[role].text}; {notice}")


class TestReplay:
    def test_it_sends_what_fits_by_now_and_says_what_it_did(self, folder: Path) -> None:
        at = [NOW]
        for browser in browser_of(folder, clock=lambda: at[0]):
            before = value_of(browser, "/ui/source/clicks.json", "dead_letters", role="write")
            at[0] = NOW.replace(minute=30)
            sent = browser.post("/ui/source/clicks", {}, role="write")
            assert sent.status_code == 303
            page = after_form(browser, sent, role="write").text
            assert "The replay sent 1 message; 3 still do not fit." in page
            # What the page showed before is asked for again at once.
            after = value_of(browser, "/ui/source/clicks.json", "dead_letters", role="write")
            assert (before["waiting"], after["waiting"]) == (4, 3)

    def test_one_letter_is_replayed_from_its_page_once(self, folder: Path) -> None:
        for browser in browser_of(folder, clock=lambda: NOW.replace(minute=30)):
            letters = value_of(browser, "/ui/source/clicks.json", "dead_letters", role="fraud_write")
            url = next(each["url"] for each in letters["newest"] if each["offset"] == 3)
            assert value_of(browser, f"{url}.json", "dead_letter", role="fraud_write")["refused_now"] is None
            assert "Replay this message" in browser.get(url, role="fraud_write").text
            for said in ("The replay sent 1 message.", "The replay sent 0 messages; 1 had been replayed before."):
                done = browser.post(url, {}, role="fraud_write")
                assert said in after_form(browser, done, role="fraud_write").text
            assert "The replay" not in browser.get(done.headers["location"], role="fraud_write").text
            assert value_of(browser, f"{url}.json", "dead_letter", role="fraud_write")["replayed"]

    @pytest.mark.parametrize("role, status", [("", 401), ("read", 403), ("fraud_read", 403)])
    def test_it_needs_the_write_role(self, browser: Browser, role: str, status: int) -> None:
        for path in ("/ui/source/clicks", "/ui/dead-letter/clicks/0/3"):
            refused = browser.post(path, {}, role=role)
            assert refused.status_code == (303 if status == 401 else status)
            assert "asof_notice" not in refused.headers.get("set-cookie", "")
        assert value_of(browser, "/ui/source/clicks.json", "dead_letters", role="write")["waiting"] == 4

    def test_a_source_of_rows_has_none(self, browser: Browser) -> None:
        assert browser.post("/ui/source/people", {}, role="admin").status_code == 404

    def test_what_no_replay_said_is_not_shown(self, browser: Browser) -> None:
        for notice in ("replay.1", "replay.x.0.0", "replay.1.-1.0", "replay.\u00b2.0.0", '"', "replay.1.0.0.0"):
            cookie = f"asof_key={KEYS['read'].text}; asof_notice={notice}".encode("latin-1")
            page = browser.get("/ui/source/clicks", cookie=cookie)  # type: ignore[arg-type]  # Not ASCII, as some send.
            assert page.status_code == 200 and "The replay" not in page.text
        assert "The replay" not in browser.get("/ui/source/clicks?sent=1&already=0&unfit=0").text


def test_a_log_that_lost_messages_says_so(folder: Path) -> None:
    gap = "offsets 1 to 9 were deleted"
    with FeatureStore(folder, clock=lambda: NOW) as store:
        change_facts(open_store_of(store).stores, lambda facts: facts.with_gap("clicks", gap), note="lost")
    for browser in browser_of(folder):
        assert gap in browser.get("/ui/source/clicks").text
