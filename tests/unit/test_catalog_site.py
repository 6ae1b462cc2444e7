"""The addresses of pages, the parts that ask the live store, the static files, and the sign-in cookie."""

from __future__ import annotations

import gzip
from threading import Event, Timer
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asof.catalog.live import LiveValue, LiveValues
from asof.catalog.rendering import age, breaks, number, seconds, share, static_file, static_url, when
from asof.catalog.urls import page_url, segments_of, url_of
from asof.errors import StorageError
from asof.server.pages.sign_in import cookie_of, is_own_form, own_address, with_key_of_cookie
from asof.timing import moment

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


class TestUrls:
    @given(st.lists(names, min_size=1, max_size=4), st.booleans())
    @example(["feature", "v", "x.json"], True)
    @example(["view", ".."], False)
    @example(["view", "a/b?c#d%20 é"], True)
    def test_the_address_of_a_page_is_read_back_as_it_was_written(self, segments: list[str], is_json: bool) -> None:
        url = page_url(*segments) + (".json" if is_json else "")
        assert segments_of(url) == (tuple(segments), is_json)
        assert "/.." not in url and " " not in url and url.isascii()

    def test_a_feature_has_its_view_in_its_address(self) -> None:
        assert url_of("feature", "user_traffic:views_1d") == "/ui/feature/user_traffic/views_1d"
        assert url_of("on-demand-view", "ratios") == "/ui/on-demand-view/ratios"

    def test_parameters_that_are_not_given_are_left_out(self) -> None:
        assert page_url("search", query={"q": "a b&c", "kind": None, "tag": ""}) == "/ui/search?q=a+b%26c"
        assert page_url() == "/ui/"


class TestLiveValues:
    def test_a_value_is_shown_with_its_age_until_it_is_too_old(self) -> None:
        clock = [100.0]
        parts = LiveValues(lambda: clock[0])
        made: list[int] = []

        def work() -> int:
            made.append(1)
            return len(made)

        assert parts.get("n", work, max_age_s=30) == LiveValue(1, 0.0)
        clock[0] += 30
        assert parts.get("n", work, max_age_s=30) == LiveValue(1, 30.0)
        clock[0] += 1
        assert parts.get("n", work, max_age_s=30) == LiveValue(2, 0.0)
        parts.forget("n")
        assert parts.get("n", work, max_age_s=30).value == 3
        parts.close()

    def test_a_part_beyond_its_budget_is_late_once_and_there_for_the_next_page(self) -> None:
        go, done = Event(), Event()
        parts = LiveValues()

        def work() -> str:
            go.wait(60)
            done.set()
            return "there"

        assert parts.get("slow", work, budget_s=0.01) == LiveValue(is_late=True)
        # The same work is not started twice.
        assert parts.get("slow", lambda: "twice", budget_s=0.01).is_late
        go.set()
        done.wait(60)
        assert parts.get("slow", lambda: "twice", budget_s=60).value == "there"
        parts.close()

    def test_closing_waits_for_what_is_being_asked_for(self) -> None:
        go, began, done = Event(), Event(), Event()
        parts = LiveValues()

        def work() -> None:
            began.set()
            go.wait(60)
            done.set()

        parts.get("slow", work, budget_s=0.01)
        began.wait(60)
        Timer(0.05, go.set).start()
        parts.close()
        assert done.is_set()

    def test_an_error_of_the_store_is_shown_and_asked_for_again(self) -> None:
        parts = LiveValues()

        def broken() -> int:
            raise StorageError("the online store is away", hint="start it")

        found = parts.get("n", broken)
        assert (found.value, found.error, found.hint) == (None, "the online store is away", "start it")
        assert parts.get("n", lambda: 7).value == 7
        parts.close()

    def test_a_page_waits_for_all_of_its_values_no_longer_than_for_one(self) -> None:
        clock, go, budgets = [100.0], Event(), list[float]()

        class Watched(LiveValues):
            def get(self, key: Any, work: Any, *, budget_s: float = 0, max_age_s: float = 0) -> Any:
                budgets.append(budget_s)
                clock[0] += min(budget_s, 0.2)  # It takes 0.2 s, if it may.
                return super().get(key, lambda: go.wait(60), budget_s=0.0, max_age_s=max_age_s)

        parts = Watched(lambda: clock[0])
        with parts.page() as page:
            for name in ("one", "two", "three"):
                assert page.get(name, str, budget_s=0.25).is_late
            assert page.get("what the page is about", str, budget_s=2.0).is_late
        go.set()
        parts.close()
        assert budgets == pytest.approx([0.25, 0.05, 0.0, 2.0])

    def test_what_always_takes_long_begins_when_no_page_is_being_made(self) -> None:
        parts, made = LiveValues(), Event()
        with parts.page() as page:
            assert page.later("checks", made.set) == LiveValue(is_late=True)
            assert not made.is_set()
        made.wait(60)
        while (found := parts.later("checks", made.set)).is_late:
            pass
        assert found == LiveValue(None, found.age_s)
        parts.close()


class TestStaticFiles:
    def test_all_javascript_of_the_pages_is_small(self) -> None:
        scripts = [static_file(name) for name in ("htmx.min.js", "uplot.min.js", "catalog.js", "charts.js")]
        assert sum(len(gzip.compress(content, 9)) for content, _ in filter(None, scripts)) <= 40_000

    @pytest.mark.parametrize("name", ["../site.py", "..", "", "README.md", ".", "x/y.css", "nothing.css", "a\\b.js"])
    def test_nothing_else_is_served(self, name: str) -> None:
        assert static_file(name) is None

    def test_their_address_says_their_content(self) -> None:
        assert static_url("catalog.css").startswith("/ui/static/catalog.css?v=")


class TestFilters:
    def test_a_name_may_break_between_its_terms_and_nowhere_else(self) -> None:
        assert breaks("user_traffic:views_1d") == "user_<wbr>traffic:<wbr>views_<wbr>1d"
        assert breaks("a__b_<i>") == "a__<wbr>b_<wbr>&lt;i&gt;" and breaks("_") == "_"
        assert breaks("lastPage not_null(age)") == "last<wbr>Page not_<wbr>null(<wbr>age)"

    def test_moments_ages_and_numbers_read_as_people_write_them(self) -> None:
        now = moment(1_600_000_000_000_000)
        assert when(now) == "2020-09-13 12:26:40"
        assert [age(moment(1_600_000_000_000_000 - s * 1_000_000), now) for s in (0, 1, 59, 119, 120, 7199, 7200, 172_800)] == [
            "just now", "1 second ago", "59 seconds ago", "119 seconds ago", "2 minutes ago", "119 minutes ago",
            "2 hours ago", "2 days ago",
        ]  # fmt: skip
        assert age(moment(1_600_000_005_000_000), now) == "in 5 seconds"
        assert seconds(None) == when(None) == age(None, now) == ""
        assert [number(each) for each in (None, 1234567, 0.5, 1234.5, 1e20, 3.0)] == [
            "-",
            "1,234,567",
            "0.5",
            "1,234.5",
            "1e+20",
            "3",
        ]


class TestSignIn:
    def test_a_key_survives_its_cookie(self) -> None:
        key = 'asof_a;b"c%20=é'
        name, value = cookie_of(key, is_tls=True)
        assert name == b"set-cookie" and b"HttpOnly; SameSite=Strict; Secure" in value and b"Path=/ui;" in value
        sent = value.partition(b";")[0]
        assert with_key_of_cookie([(b"cookie", b"other=1; " + sent)])[-1] == (
            b"authorization",
            f"Bearer {key}".encode("latin-1"),
        )
        assert b"Max-Age=0" in cookie_of("", is_tls=False)[1] and b"Secure" not in cookie_of("", is_tls=False)[1]

    @pytest.mark.parametrize("headers", [
        [], [(b"cookie", b"other=1")], [(b"cookie", b"asof_key=")], [(b"cookie", b"asof_key")],
        [(b"authorization", b"Bearer x"), (b"cookie", b"asof_key=y")], [(b"x-api-key", b"x"), (b"cookie", b"asof_key=y")],
    ])  # fmt: skip
    def test_headers_stay_as_they_are_without_one(self, headers: list[tuple[bytes, bytes]]) -> None:
        assert with_key_of_cookie(headers) == headers

    @pytest.mark.parametrize("to", [
        "", "https://elsewhere.example/ui/", "//elsewhere.example/ui/", "/ui", "/metrics", "/ui/\r\nx: y", "/ui/\\\\x", "ui/",
    ])  # fmt: skip
    def test_no_link_leads_elsewhere_after_signing_in(self, to: str) -> None:
        assert own_address(to) == "/ui/"

    def test_a_page_of_ours_is_returned_to(self) -> None:
        assert own_address("/ui/search?q=a%20b&kind=view") == "/ui/search?q=a%20b&kind=view"

    @pytest.mark.parametrize("headers, is_own", [
        ({}, True), ({b"sec-fetch-site": b"same-origin"}, True), ({b"sec-fetch-site": b"same-site"}, False),
        ({b"sec-fetch-site": b"cross-site"}, False), ({b"sec-fetch-site": b"none"}, True),
        ({b"origin": b"http://localhost:6566", b"host": b"localhost:6566"}, True),
        ({b"origin": b"http://localhost:8888", b"host": b"localhost:6566"}, False), ({b"origin": b"null", b"host": b"x"}, False),
    ])  # fmt: skip
    def test_forms_come_from_our_own_pages(self, headers: dict[bytes, bytes], is_own: bool) -> None:
        assert is_own_form(headers.items()) is is_own


@pytest.mark.parametrize("value, text", [
    (0.0, "0 %"), (1.0, "100 %"), (1 / 3, "33.3 %"), (1e-9, "< 0.1 %"), (1 - 1e-9, "> 99.9 %"), (0.25, "25 %"),
])  # fmt: skip
def test_a_share_is_nothing_or_all_only_where_it_is(value: float, text: str) -> None:
    assert share(value) == text
