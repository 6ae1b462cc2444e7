"""What a reader of the catalog does, in Chromium, on the demo's store: the same for embedded stores and for servers."""

from __future__ import annotations

import json
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, expect

from asof import FeatureStore
from asof.display import cell
from tests.browser.chromium import HEIGHT, Tab, chromium, findings, keep_picture
from tests.browser.raw_numbers import FEATURES, RawNumbers
from tests.browser.shop import KEYS, MANY, PERSONAL_VALUES, ShopStore, served

PAGES = {
    "home", "search", "view", "on-demand-view", "feature", "entity", "source", "dead-letter", "service", "training-sets",
    "training-set", "lineage", "runs", "runs-apply", "key",
}  # fmt: skip
MOST_OF_A_KIND = 4
VIEWS_7D = "/ui/feature/user_traffic/views_7d"
KEPT = {"home": (1440, "light"), "feature": (390, "dark"), "source": (1440, "dark"), "key": (390, "light")}
"""Kind of page → the width and the colours of its picture; `make soak` keeps all."""

SNIPPETS = {
    "train-frame", "train-sql", "train-save", "train-cli", "serve-python", "serve-client", "serve-http", "serve-cli",
}  # fmt: skip


def kind_of(path: str) -> str:
    """The kind of a page, from its address."""
    names = urlsplit(path).path.strip("/").split("/")[1:]
    kind = names[0] if names else "home"
    return f"{kind}-{names[1]}" if kind == "runs" and len(names) > 1 else kind


def figures(page: Page, section: str) -> dict[str, str]:
    """Name → text of the figures of a section."""
    read = "each => [each.querySelector('dt').innerText, each.querySelector('dd').innerText]"
    return dict(page.eval_on_selector_all(f"{section} dl.figures > div", f"all => all.map({read})"))


def number_of(text: str) -> float:
    """The first number of a text."""
    found = re.search(r"-?[\d,]+(\.\d+)?", text)
    assert found is not None, text
    return float(found[0].replace(",", ""))


class CatalogWalk:
    """The tests of one store; a class of them gives `shop`."""

    archive: str
    """The folder of the stream's events below the demo's folder."""

    command: str
    """The command that serves the pages: `ui` or `serve`."""

    @pytest.fixture(scope="class")
    @classmethod
    def browser(cls) -> Iterator[Browser]:
        with chromium() as browser:
            yield browser

    @pytest.fixture(scope="class")
    @classmethod
    def address(cls, shop: ShopStore) -> Iterator[str]:
        with served(shop, cls.command) as address:
            yield address

    @pytest.fixture(scope="class")
    @classmethod
    def tabs(cls, browser: Browser, address: str) -> Iterator[Mapping[str, Tab]]:
        """Name of a key → the tab of who has it."""
        tabs = {name: Tab(browser, address, key=key.text) for name, key in KEYS.items()}
        yield tabs
        for each in tabs.values():
            each.close()

    @pytest.fixture
    def tab(self, tabs: Mapping[str, Tab]) -> Iterator[Tab]:
        """The tab of one who may do everything."""
        yield tabs["admin"]
        faults, tabs["admin"].faults = tabs["admin"].faults, []
        assert faults == []

    @pytest.fixture(scope="class")
    @classmethod
    def numbers(cls, shop: ShopStore) -> Iterator[RawNumbers]:
        raw = RawNumbers(shop.folder / cls.archive, shop.folder / "source" / "users.parquet")
        yield raw
        raw.close()

    @pytest.fixture(scope="class")
    @classmethod
    def links(cls, tabs: Mapping[str, Tab]) -> dict[str, list[str]]:
        """Kind of page → addresses, as links lead there from the home page."""
        found: dict[str, list[str]] = defaultdict(list)
        waiting, seen = ["/ui/"], set()
        while waiting:
            path = waiting.pop(0)
            if path in seen or len(found[kind_of(path)]) >= MOST_OF_A_KIND:
                continue
            seen.add(path)
            found[kind_of(path)].append(path)
            tab = tabs["admin"]
            text = late = "note late"
            while late in text:  # a page may wait for nothing: what is late now is there soon
                response = tab.page.request.get(tab.address + path)
                assert response.status == 200, path
                text = response.text()
                late = "takes longer than this page waits"
            waiting += [
                unescape(each)
                for each in re.findall(r'href="(/ui/[^"#]*)', text)
                if ".json" not in each and "/static/" not in each
            ]
        return dict(found)

    def test_every_kind_of_page_is_reached(self, links: dict[str, list[str]]) -> None:
        assert set(links) == PAGES

    def test_every_page_is_whole(self, tab: Tab, links: dict[str, list[str]]) -> None:
        """Once each: it fits three widths, axe has no finding, the console is silent, and JSON says the same."""
        wrong = {}
        for kind, (path, *_) in links.items():
            page = tab.open(path)
            found = findings(page)
            twin = page.get_by_role("link", name="This page as JSON").get_attribute("href")
            content = json.loads(page.request.get(f"{tab.address}{twin}").text())
            if (
                content["title"] not in (page.title().partition(" · ")[0], "shop", content["title"][:0])
                and kind != "home"
            ):
                found.append(f"its title is {page.title()!r}, in JSON {content['title']!r}")
            if kind in KEPT:
                width, scheme = KEPT[kind]
                keep_picture(page, f"{self.archive.split('/')[-2]}-{kind}", width=width, scheme=scheme)
            found += tab.faults
            tab.faults = []
            if found:
                wrong[path] = found
        assert wrong == {}

    def test_a_browser_is_led_to_the_pages(self, tab: Tab) -> None:
        for path in ("/", "/docs"):
            tab.open(path)
            assert urlsplit(tab.page.url).path == "/ui/"

    def test_a_typo_finds_a_feature_as_one_types_and_the_keyboard_opens_it(self, tab: Tab) -> None:
        page = tab.open("/ui/")
        page.keyboard.press("/")
        page.keyboard.type("user_trafic")
        page.locator("#found li:first-child", has_text="user_traffic").wait_for()
        page.keyboard.press("Escape")
        page.locator("#found li").first.wait_for(state="detached")
        page.keyboard.type(":views_7d")
        page.locator("#found li:first-child", has_text="views_7d").wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_url("**/ui/feature/user_traffic/views_7d")

    def test_filters_change_the_list_at_once(self, tab: Tab) -> None:
        page = tab.open("/ui/search")
        page.get_by_label("Kind").select_option("service")
        page.locator("#results li", has_text="order_model").wait_for()
        page.locator("#results li", has_text="user_traffic").first.wait_for(state="detached")

    @pytest.mark.parametrize("reference", FEATURES)
    def test_a_profile_has_the_numbers_of_duckdb(self, tab: Tab, numbers: RawNumbers, reference: str) -> None:
        path = f"/ui/feature/{reference.replace(':', '/')}"
        page, raw = tab.open(path), numbers.profile(reference)
        shown = figures(page, "#trust")
        assert shown["Nulls"].endswith(f"of {raw.rows:,} rows")
        assert (number_of(shown["Nulls"]) > 0) == (raw.nulls > 0)
        assert abs(number_of(shown["Nulls"]) - 100 * raw.nulls / raw.rows) < 0.06
        assert shown["Distinct values"] == f"{raw.distinct:,}"
        is_text = isinstance(raw.low, str)
        mean, std = map(number_of, shown["Mean length" if is_text else "Mean"].split("±"))
        assert (mean, std) == (pytest.approx(raw.mean, rel=1e-5), pytest.approx(raw.std, rel=1e-5))
        if not is_text:
            low, high = map(number_of, shown["Range"].split("to"))
            assert (low, high) == (pytest.approx(raw.low), pytest.approx(raw.high))

        profile = tab.json(path)["trust"]["value"]["profile"]
        shares = [float(each) for each in profile["quantiles"]]
        assert list(profile["quantiles"].values()) == numbers.quantiles(reference, shares)
        assert number_of(shown["Median length" if is_text else "Median"]) == pytest.approx(
            numbers.quantiles(reference, [0.5])[0], rel=1e-5
        )
        assert profile["nulls"] == raw.nulls
        counts = numbers.bins(reference, profile["histogram"]["edges"])
        assert profile["histogram"]["counts"] == counts
        drawn = page.eval_on_selector_all("#trust svg g > title", "all => all.map(each => each.textContent)")
        if is_text:
            assert [each.partition(" ·")[0] for each in drawn] == [f"{value}: {count:,}" for value, count in raw.top]
        else:
            assert [int(number_of(each.rpartition(": ")[2])) for each in drawn] == counts

    def test_what_is_fresh_and_how_much_there_is_are_duckdbs(self, tab: Tab, numbers: RawNumbers) -> None:
        page = tab.open("/ui/view/user_traffic")
        shown = figures(page, "section")
        events = numbers.one("SELECT count(*) FROM events")
        # The broken message of the demo is archived with the dead letters.
        assert int(number_of(shown["Archived"])) == events + 1
        assert shown["Not archived yet"] == "0"
        served = page.locator("dl.figures > div", has_text="Newest event served")
        assert f"of {numbers.one('SELECT count(DISTINCT user_id) FROM events')} keys" in served.inner_text()
        newest = datetime.fromisoformat(str(served.locator("time").get_attribute("datetime")))
        assert newest == numbers.one("SELECT max(happened) FROM events").replace(tzinfo=UTC)
        page = tab.open("/ui/view/user_profile")
        assert int(number_of(figures(page, "section")["Rows written"])) == numbers.one("SELECT count(*) FROM users")

    def test_a_training_set_has_as_many_rows_as_there_are_orders(
        self, tab: Tab, shop: ShopStore, numbers: RawNumbers
    ) -> None:
        rows = numbers.one(f"SELECT count(*) FROM '{shop.folder / 'source' / 'orders.parquet'}'")
        page = tab.open("/ui/training-set/orders")
        assert page.locator("ul.counts li", has_text="rows").inner_text().split() == [f"{rows:,}", "rows"]

    def test_a_key_has_the_values_of_the_store_now_and_as_of_a_moment(self, tab: Tab, shop: ShopStore) -> None:
        features = ["session_photo_page_views", "views_1d", "views_7d", "last_page_1h"]
        references = [f"user_traffic:{each}" for each in features]
        with FeatureStore(shop.repository) as store:
            now = store.now()
            (user,) = store.sample("user_traffic", n=1, by="entities", seed=1).to_arrow()["user_id"].to_pylist()
            online = store.get_online_features(references, [{"user_id": user}]).to_dict()
            at = now - timedelta(days=2)
            row = {"user_id": [user], "event_timestamp": [at]}
            training = store.get_historical_features(row, references).to_arrow()
            explained = store.explain("user_traffic:views_7d", {"user_id": user}, at=at)
        page = tab.open(f"/ui/key/user?user_id={user}")
        page.get_by_label("As of (UTC)").fill(at.isoformat())
        page.get_by_role("button", name="Look").click()
        page.get_by_role("columnheader", name="As of").first.wait_for()
        for each in features:
            row = page.get_by_role("row").filter(has=page.get_by_role("link", name=each, exact=True))
            # A busy machine has them a moment later; the page completes itself.
            expect(row.get_by_role("cell").nth(1)).not_to_have_text("-", timeout=60_000)
            cells = row.get_by_role("cell").all_inner_texts()
            assert cells[:2] == [cell(online[each][0]), cell(training[each][0].as_py())], each
        page.get_by_role("link", name="Why views_7d").click()
        why = page.locator("#explanation")
        why.get_by_text("user_traffic:views_7d").first.wait_for()
        tab.complete()
        assert explained.value == training["views_7d"][0].as_py()
        lines = [" ".join(each.split()) for each in explained.text.splitlines()]
        assert [" ".join(each.split()) for each in why.locator("p").all_inner_texts()][: len(lines)] == lines
        counting = [each for each in explained if each["why"] == "counts"]
        assert why.locator("tr.chosen").count() == len(counting) == explained.value

    def test_lineage_is_walked_by_clicks_and_a_group_expands_in_place(self, tab: Tab) -> None:
        page = tab.open("/ui/source/traffic")
        page.locator("svg.lineage a", has_text="page").last.click()
        page.wait_for_url("**/ui/lineage/**")
        page = tab.open("/ui/lineage/view/user_traffic")
        page.locator("svg a", has_text="views_7d").click()
        page.wait_for_url("**/ui/lineage/feature/user_traffic*views_7d")
        assert page.locator("svg a[aria-current]").get_attribute("aria-label") == "feature user_traffic:views_7d"
        page.locator("svg a", has_text="order_model").click()
        page.wait_for_url("**/ui/lineage/service/order_model")
        page.get_by_role("link", name="Its page").click()
        page.wait_for_url("**/ui/service/order_model")

        page = tab.open("/ui/lineage/view/user_windows")
        group, features = page.locator("svg a.group"), page.locator("svg a.feature:not(.group)")
        rest = re.match(r"and (\d+) features of user_windows", str(group.locator("> title").text_content()))
        assert rest is not None and 0 < features.count() == MANY - int(rest[1])
        page.evaluate("window.isTheSamePage = true")
        before = page.url
        group.click()
        page.wait_for_url("**expand=*")
        expect(features).to_have_count(MANY)
        expect(group).to_have_count(0)
        assert page.evaluate("window.isTheSamePage")
        page.go_back()
        page.wait_for_url(before)
        expect(group).to_have_count(1)

    def test_a_phone_shows_what_a_drawing_is_about(self, browser: Browser, address: str) -> None:
        tab = Tab(browser, address, key=KEYS["reader"].text, viewport={"width": 390, "height": HEIGHT})
        for path, about in (("/ui/lineage/service/order_model", ".item.focus .box"), (VIEWS_7D, "line.moment")):
            page = tab.open(path)
            box = page.locator(about).first.bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390, path
            page.evaluate("[...document.querySelectorAll('details')].forEach(each => (each.open = true))")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        tab.close()
        assert tab.faults == []

    def test_each_snippet_that_is_copied_runs(
        self, browser: Browser, address: str, shop: ShopStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ASOF_API_KEY", KEYS["admin"].text)
        for name, value in shop.variables.items():
            monkeypatch.setenv(name, value)
        tab = Tab(browser, address, key=KEYS["admin"].text, permissions=["clipboard-read", "clipboard-write"])
        page = tab.open(VIEWS_7D)
        page.evaluate("document.querySelectorAll('#use details').forEach(each => each.open = true)")
        copied = {}
        for button in page.locator("#use button[data-copy]").all():
            button.click()
            expect(button).to_have_text("Copied")
            copied[str(button.get_attribute("data-copy"))] = page.evaluate("navigator.clipboard.readText()")
        tab.close()
        assert tab.faults == [] and copied.keys() == SNIPPETS
        with FeatureStore(shop.repository) as store:
            value, user = None, int(re.search(r"user_id\D+(\d+)", copied["serve-cli"])[1])
            value = store.get_online_features(["user_traffic:views_7d"], [{"user_id": user}]).to_dict()["views_7d"][0]
        assert value > 0
        for name, text in copied.items():
            if name.endswith(("-cli", "-http")):
                said = self._shell(text, shop)
                if name == "serve-http":
                    found = json.loads(said)
                    assert dict(zip(found["names"], found["rows"][0], strict=True))["views_7d"] == value
                elif name == "serve-cli":
                    assert re.search(rf"\b{value}\b", said), said
            else:
                ran = self._python(text, name, shop)
                if name == "train-frame":
                    assert ran["training"]["views_7d"].tolist() == [value]
                elif name.startswith("serve"):
                    assert ran["response"].to_dict()["views_7d"] == [value]
                else:
                    assert len(ran["training"]) and "views_7d" in ran["training"].columns
        written = shop.repository / "training.parquet"
        assert "views_7d" in pq.read_table(written).column_names
        written.unlink()

    def _python(self, text: str, name: str, shop: ShopStore) -> dict[str, Any]:
        """The names that a Python snippet leaves, run in the repository's folder."""
        names: dict[str, Any] = {}
        with chdir(shop.repository):
            exec(compile(text, name, "exec"), names)
        if "store" in names:
            names["store"].close()
        return names

    def _shell(self, text: str, shop: ShopStore) -> str:
        """What a shell snippet prints, run in the repository's folder."""
        done = subprocess.run(
            ["bash", "-e", "-c", text], cwd=shop.repository, capture_output=True, text=True, timeout=300,
            env={**shop.environment, "ASOF_API_KEY": KEYS["admin"].text},
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def test_who_may_read_some_views_sees_nothing_of_others(self, tabs: Mapping[str, Tab]) -> None:
        for name, own, other in (
            ("growth", "user_traffic", "user_profile"),
            ("accounts", "user_profile", "user_traffic"),
        ):
            tab = tabs[name]
            page = tab.open("/ui/search")
            text = page.locator("#results").inner_text()
            assert own in text and other not in text and "order_model" not in text
            page.get_by_role("searchbox").first.fill(other)
            page.locator("#found > *").first.wait_for()
            assert not page.locator("#found a", has_text=re.compile(rf"^{other}")).count()
            tab.open(f"/ui/view/{own}")
            tab.open(f"/ui/view/{other}", status=404)
            assert other not in tab.open("/ui/").content()
            page = tab.open("/ui/lineage/entity/user")
            assert page.locator("svg a.view, svg a.on-demand-view").count()
            assert not page.locator("svg a", has_text=other).count()
            assert "more that you may not see" in page.inner_text("main")
            assert tab.faults == []

    def test_replay_is_for_who_may_write_and_messages_too(self, tabs: Mapping[str, Tab]) -> None:
        for name in ("reader", "growth"):
            page = tabs[name].open("/ui/source/traffic")
            assert page.get_by_text("Messages are hidden").count()
            assert not page.get_by_role("button", name="Replay dead letters").count()
            assert '"photo_page"' not in page.inner_text("main")
            refused = page.request.post(f"{tabs[name].address}/ui/source/traffic")
            assert refused.status == 403 and "write role" in refused.text()
            assert tabs[name].faults == []
        page = tabs["operator"].open("/ui/source/traffic")
        assert page.get_by_text('"page": "photo_page"').count()
        page.get_by_role("button", name="Replay dead letters").click()
        page.get_by_role("status").wait_for()
        page.get_by_text("key 'user_id' is null").first.wait_for()
        assert tabs["operator"].faults == []

    def test_personal_data_is_on_no_page_for_anyone(self, tabs: Mapping[str, Tab], shop: ShopStore) -> None:
        with FeatureStore(shop.repository) as store:
            online = store.get_online_features(["user_profile:platform"], [{"user_id": 1}]).to_dict()
        assert online["platform"][0] in PERSONAL_VALUES
        paths = (
            "/ui/feature/user_profile/platform", "/ui/view/user_profile", "/ui/key/user?user_id=1", "/ui/entity/user",
            "/ui/service/order_model", "/ui/source/users", "/ui/training-set/orders",
            "/ui/key/user?user_id=1&at=2020-09-20T00:00:00Z",
        )  # fmt: skip
        for path in paths:
            page = tabs["admin"].open(path)
            said = page.inner_text("main") + json.dumps(tabs["admin"].json(path))
            assert not re.search(rf"\b({'|'.join(PERSONAL_VALUES)})\b", said), path
        page = tabs["admin"].open("/ui/key/user?user_id=1")
        expect(page.get_by_text("hidden: tagged pii").first).to_be_visible()
        assert tabs["admin"].faults == []

    def test_a_key_opens_the_page_that_was_asked_for_and_signing_out_closes_it(
        self, browser: Browser, address: str
    ) -> None:
        tab = Tab(browser, address)
        page = tab.open("/ui/search?q=user")
        assert parse_qs(urlsplit(page.url).query)["to"] == ["/ui/search?q=user"]
        page.get_by_label("API key or token").fill("asof_wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
        # The browser notes in its console that the key was refused.
        assert len(tab.faults) == 1 and "401" in tab.faults.pop()
        page.get_by_label("API key or token").fill(KEYS["growth"].text)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/ui/search?q=user")
        page.get_by_role("link", name="user", exact=True).wait_for()
        assert page.get_by_text("Signed in as growth").is_visible()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/ui/sign-in")
        assert tab.open("/ui/").url.startswith(f"{address}/ui/sign-in")
        assert findings(page) == [] and tab.faults == []
        tab.close()

    def test_all_is_done_without_javascript(self, browser: Browser, address: str) -> None:
        tab = Tab(browser, address, key=KEYS["operator"].text, java_script_enabled=False)
        page = tab.page
        page.goto(f"{address}/ui/")
        page.get_by_role("searchbox").first.fill("user_trafic")
        page.get_by_role("searchbox").first.press("Enter")
        page.get_by_role("link", name="user_traffic", exact=True).first.click()
        page.wait_for_url("**/ui/view/user_traffic")
        page.get_by_role("link", name="views_7d", exact=True).first.click()
        page.wait_for_url("**/ui/feature/user_traffic/views_7d")
        page.locator("summary", has_text="Python, rows chosen by SQL").click()
        assert page.locator("#train-sql").is_visible() and not page.get_by_role("button", name="Copy").count()
        page.get_by_role("link", name="Lineage", exact=True).click()
        page.locator("svg a.view").click()
        page.locator("svg a.column", has_text="user_id").click()
        page.wait_for_url("**/ui/lineage/column/**")
        page.goto(f"{address}/ui/lineage/view/user_windows")
        page.locator("svg a.group").click()
        page.wait_for_url("**expand=*")
        page.goto(f"{address}/ui/search?kind=view")
        page.get_by_label("Kind").select_option("entity")
        page.locator("form.filters").get_by_role("button").click()
        page.get_by_role("link", name="user", exact=True).first.click()
        page.wait_for_url("**/ui/entity/user")
        page.locator("main").get_by_label("user_id").fill("1")
        page.get_by_role("button", name="Look").click()
        page.get_by_label("As of (UTC)").fill("2020-09-20T00:00:00Z")
        page.get_by_role("button", name="Look").click()
        page.wait_for_url("**at=2020-09-20*")
        page.goto(f"{address}/ui/source/traffic")
        tab.close()
        assert tab.faults == []

    def test_the_keyboard_reaches_everything_in_order_and_focus_is_seen(self, tab: Tab) -> None:
        page = tab.open(VIEWS_7D)
        wanted = page.evaluate(FOCUSABLE)
        reached = []
        for _ in range(len(wanted) + 1):
            page.keyboard.press("Tab")
            found = page.evaluate(FOCUSED)
            if found is None:
                break
            assert found["isSeen"], found
            reached.append(found["number"])
        assert reached == list(range(len(wanted)))
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        tab.open(VIEWS_7D)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url("**#main")


FOCUSABLE = """() => {
  const all = [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
    .filter(each => each.checkVisibility({visibilityProperty: true, contentVisibilityAuto: true}));
  all.forEach((each, number) => (each.dataset.number = number));
  return all.map(each => each.outerHTML.slice(0, 80));
}"""
"""Numbers what the keyboard has to reach, in the page's order."""

FOCUSED = """() => {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at), box = at.getBoundingClientRect();
  const marks = [at, ...at.querySelectorAll('.box')].map(each => getComputedStyle(each));
  const isMarked = marks.some(each =>
    (each.outlineStyle !== 'none' && parseFloat(each.outlineWidth) > 0) || each.strokeDasharray !== 'none');
  const isInside = box.bottom > 0 && box.top < innerHeight && box.width > 0;
  return {number: Number(at.dataset.number), isSeen: isMarked && isInside, html: at.outerHTML.slice(0, 120)};
}"""
"""What has the focus: its number, and whether it is marked and in the window."""
