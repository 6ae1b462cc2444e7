"""The catalog's pages in a browser (Chromium), over the demo's store: what a page's HTML alone does not say."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import jinja2
import pytest

from asof import FeatureStore
from asof.catalog.live import LiveValue
from asof.catalog.rendering import age, number, seconds, when
from asof.demo import story
from asof.display import cell
from asof.server.security.keys import new_key
from tests.services import unavailable

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PICTURES = Path(__file__).parents[2] / "test-output" / "catalog"
"""Where the screenshots are kept, for people to look at."""

WIDTHS = (1440, 1024, 390)
MOST_OF_A_KIND = 3
"""Of each kind of page so many are walked: the others differ in their names."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    from playwright.sync_api import Error, sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        unavailable("Chromium", "no program of that name; install the package `chromium`")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        except Error as error:
            unavailable("Chromium", str(error).splitlines()[0])
        yield browser
        browser.close()


class Pages:
    """`asof ui` on a repository, in a process of its own."""

    def __init__(self, repository: Path) -> None:
        # Through Python: the command of an environment may be another checkout's.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "asof", "ui", "--no-browser"], cwd=repository, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if found := re.search(r"(http://\S+)/ui/", line):
                self.address = found[1]
                return
        raise AssertionError("".join(said))

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's folder."""
    output = tmp_path_factory.mktemp("shop")
    story.run(output, users=300, ticks=20_000, seed=3, say=lambda _: None)
    return output


@pytest.fixture(scope="module")
def address(shop: Path) -> Iterator[str]:
    pages = Pages(shop / "repo")
    yield pages.address
    pages.close()


class Tab:
    """A tab of the browser, which notes what no page may do.

    Attributes:
        faults: errors of the console, and requests that left the machine.
    """

    def __init__(self, chromium, address: str, **options) -> None:
        self.address = address
        self.faults: list[str] = []
        self._context = chromium.new_context(**options)
        self.page = self._context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.faults.append(said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request) -> None:
        if not request.url.startswith((self.address, "data:")):
            self.faults.append(f"a request to {request.url}")

    def open(self, path: str):
        response = self.page.goto(self.address + path)
        assert response is not None and response.status == 200, f"{path}: {response and response.status}"
        self.page.wait_for_load_state("networkidle")
        return self.page

    def close(self) -> None:
        self._context.close()


@pytest.fixture
def tab(chromium, address: str) -> Iterator[Tab]:
    tab = Tab(chromium, address)
    yield tab
    tab.close()
    assert tab.faults == []


def kind_of(path: str) -> str:
    """The kind of a page, from its address: `view`, or `search?kind` for one with parameters."""
    parts = urlsplit(path)
    names = parts.path.strip("/").split("/")[1:]
    kind = names[0] if names else "home"
    return kind + (f"-{names[1]}" if kind == "runs" and len(names) > 1 else "")


@pytest.fixture(scope="module")
def paths(chromium, address: str) -> dict[str, list[str]]:
    """Kind of page → addresses, as links lead there from the home page."""
    tab = Tab(chromium, address)
    found: dict[str, list[str]] = defaultdict(list)
    waiting, seen = ["/ui/"], set()
    while waiting:
        path = waiting.pop(0)
        if path in seen or len(found[kind_of(path)]) >= MOST_OF_A_KIND:
            continue
        seen.add(path)
        found[kind_of(path)].append(path)
        page = tab.open(path)
        links = page.eval_on_selector_all("a[href]", "links => links.map(each => each.getAttribute('href'))")
        waiting += [each for each in links if each.startswith("/ui/") and ".json" not in each]
    tab.close()
    assert tab.faults == []
    return dict(found)


def test_every_kind_of_page_is_reached(paths: dict[str, list[str]]) -> None:
    expected = {"home", "search", "view", "on-demand-view", "feature", "entity", "service", "key", "lineage"}
    assert expected <= paths.keys()


def test_no_page_has_a_finding_of_axe(tab: Tab, paths: dict[str, list[str]]) -> None:
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()
    found = {}
    for scheme in ("light", "dark"):
        tab.page.emulate_media(color_scheme=scheme)
        for path in (each[0] for each in paths.values()):
            result = axe.run(tab.open(path))
            if result.violations_count:
                found[path, scheme] = result.generate_report()
    assert not found, "\n".join(f"{path} ({scheme}): {said}" for (path, scheme), said in found.items())


def test_every_page_has_its_json(tab: Tab, paths: dict[str, list[str]]) -> None:
    for path in (path for each in paths.values() for path in each):
        page = tab.open(path)
        link = page.get_by_role("link", name="This page as JSON").get_attribute("href")
        query = urlsplit(path).query
        said = page.request.get(tab.address + link + (f"?{query}" if query and "?" not in link else ""))
        assert said.ok and json.loads(said.text())["title"] in page.title() or path == "/ui/", path


def test_pages_fit_their_window_and_are_kept_as_pictures(chromium, address: str, paths: dict[str, list[str]]) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            tab = Tab(chromium, address, viewport={"width": width, "height": 900}, color_scheme=scheme)
            for kind, (path, *_) in paths.items():
                page = tab.open(path)
                page.screenshot(path=PICTURES / f"{kind}-{width}-{scheme}.png", full_page=True)
                too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                assert too_wide <= 0, f"{path} at {width}: {too_wide} pixels too wide"
            tab.close()
            assert tab.faults == []


def test_a_typo_finds_a_feature_as_one_types_and_the_keyboard_opens_it(tab: Tab) -> None:
    page = tab.open("/ui/")
    page.keyboard.press("/")
    page.keyboard.type("user_trafic")
    page.locator("#found li:first-child", has_text="user_traffic").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/view/user_traffic")


def test_escape_closes_the_matches(tab: Tab) -> None:
    page = tab.open("/ui/")
    page.get_by_role("searchbox").first.fill("photo")
    page.locator("#found li").first.wait_for()
    page.keyboard.press("Escape")
    page.locator("#found li").first.wait_for(state="detached")


def test_filters_change_the_list_at_once(tab: Tab) -> None:
    page = tab.open("/ui/search")
    page.get_by_label("Kind").select_option("service")
    page.locator("#results li", has_text="order_model").wait_for()
    page.locator("#results li", has_text="user_traffic").first.wait_for(state="detached")


def test_a_page_with_something_late_completes_itself(tab: Tab) -> None:
    environment = jinja2.Environment(loader=jinja2.PackageLoader("asof.catalog"), autoescape=True)
    environment.filters |= {"age": age, "number": number, "seconds": seconds, "value": cell, "when": when}
    macros = environment.get_template("macros.html").module
    late = macros.part(LiveValue(is_late=True), "The moon", caller=lambda: "")
    whole = tab.page.request.get(tab.address + "/ui/").text()
    asked = []

    def respond(route) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(body=whole.replace("<h1>", late + "<h1>", 1), content_type="text/html")
        else:
            route.continue_()

    tab.page.route("**/ui/", respond)
    page = tab.open("/ui/")
    page.get_by_text("The moon takes longer").wait_for(state="detached")
    assert page.get_by_role("heading", name="What changed").is_visible()


def test_a_click_on_a_drawn_feature_leads_to_its_lineage(tab: Tab) -> None:
    page = tab.open("/ui/lineage/view/user_traffic")
    page.locator("svg a", has_text="views_7d").click()
    page.wait_for_url("**/ui/lineage/feature/user_traffic*views_7d")
    page.locator("svg a", has_text="traffic").first.wait_for()


def test_a_key_has_the_values_of_the_store_now_and_as_of_a_moment(tab: Tab, shop: Path) -> None:
    from playwright.sync_api import expect

    features = ["session_photo_page_views", "views_1d", "views_7d", "last_page_1h"]
    references = [f"user_traffic:{each}" for each in features]
    with FeatureStore(shop / "repo") as store:
        now = store.now()
        (user,) = store.sample("user_traffic", n=1, by="entities", seed=1).to_arrow()["user_id"].to_pylist()
        online = store.get_online_features(references, [{"user_id": user}]).to_dict()
        at = now - timedelta(days=2)
        training = store.get_historical_features({"user_id": [user], "event_timestamp": [at]}, references).to_arrow()
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
    page.locator("#explanation").get_by_text("counts").first.wait_for()
    assert explained.value == training["views_7d"][0].as_py()


def test_a_dead_letter_that_still_does_not_fit_is_said_so_after_a_replay(tab: Tab) -> None:
    page = tab.open("/ui/source/traffic")
    page.get_by_role("button", name="Replay dead letters").click()
    page.get_by_text("key 'user_id' is null").first.wait_for()
    page.get_by_role("status").wait_for()


def test_a_snippet_is_copied_as_it_is_shown(chromium, address: str) -> None:
    tab = Tab(chromium, address, permissions=["clipboard-read", "clipboard-write"])
    page = tab.open("/ui/feature/user_traffic/views_7d")
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("figure.code pre").first.text_content()
    assert "user_traffic:views_7d" in copied
    tab.close()
    assert tab.faults == []


def test_pages_work_without_javascript(chromium, address: str) -> None:
    tab = Tab(chromium, address, java_script_enabled=False)
    page = tab.open("/ui/")
    page.get_by_role("searchbox").first.fill("user_trafic")
    page.get_by_role("searchbox").first.press("Enter")
    page.get_by_role("link", name="user_traffic", exact=True).first.click()
    page.wait_for_url("**/ui/view/user_traffic")
    tab.close()
    assert tab.faults == []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The address of a server that wants a key, and a key."""
    folder = tmp_path_factory.mktemp("guarded")
    key = new_key()
    (folder / "feature_store.yaml").write_text(
        f"project: shop\nauth:\n  keys:\n    - {{id: {key.id}, hash: '{key.hash}', name: ann, roles: [read]}}\n"
    )
    (folder / "features.py").write_text('from asof import *\nuser = Entity("user", join_keys=["user_id"])\n')
    with FeatureStore(folder) as store:
        store.apply()
    pages = Pages(folder)
    yield pages.address, key.text
    pages.close()


class TestSignIn:
    def test_a_key_opens_the_page_that_was_asked_for_and_signing_out_closes_it(
        self, chromium, guarded: tuple[str, str]
    ) -> None:
        address, key = guarded
        tab = Tab(chromium, address)
        page = tab.open("/ui/search?q=user")
        page.get_by_label("API key or token").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/ui/search?q=user")
        page.get_by_role("link", name="user", exact=True).wait_for()
        assert page.get_by_text("Signed in as ann").is_visible()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/ui/sign-in")
        assert tab.open("/ui/").url.startswith(f"{address}/ui/sign-in")
        tab.close()
        assert tab.faults == []

    def test_a_wrong_key_is_refused(self, chromium, guarded: tuple[str, str]) -> None:
        tab = Tab(chromium, guarded[0])
        page = tab.open("/ui/sign-in")
        page.get_by_label("API key or token").fill("asof_wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
        tab.close()
