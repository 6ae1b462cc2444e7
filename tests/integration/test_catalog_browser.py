"""The catalog's pages in Chromium over the embedded demo: what a page's HTML alone does not say."""

from __future__ import annotations

import re

import jinja2
import pytest

from tests.browser.chromium import Tab
from tests.browser.shop import ShopStore, tell
from tests.browser.walk import CatalogWalk

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


class TestEmbedded(CatalogWalk):
    command = "ui"
    archive = "repo/data/archive/shop/events/traffic"

    @pytest.fixture(scope="class")
    @classmethod
    def shop(cls, tmp_path_factory: pytest.TempPathFactory) -> ShopStore:
        return tell(tmp_path_factory.mktemp("shop"))

    def test_a_page_with_something_late_completes_itself(self, tab: Tab) -> None:
        templates = jinja2.Environment(loader=jinja2.PackageLoader("asof.catalog"), autoescape=True)
        source, _, _ = templates.loader.get_source(templates, "macros.html")
        again = templates.from_string(re.search(r"{% macro again.*?{% endmacro %}", source)[0]).module.again("moon")
        late = f'<p class="note late" {again}>The moon takes longer than this page waits.</p>'
        whole = tab.page.request.get(tab.address + "/ui/").text()
        requests = []

        def respond(route) -> None:
            requests.append(route.request.url)
            if len(requests) <= 3:
                route.fulfill(body=whole.replace("<h1>", late + "<h1>", 1), content_type="text/html")
            else:
                route.continue_()

        tab.page.route("**/ui/", respond)
        page = tab.page
        page.goto(f"{tab.address}/ui/")
        page.get_by_text("The moon takes longer").wait_for(state="detached")
        assert page.get_by_role("heading", name="What changed").is_visible()
        page.unroute("**/ui/")
