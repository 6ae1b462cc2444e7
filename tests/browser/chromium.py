"""Debian's Chromium, driven by Playwright: tabs that note what no page may do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, Page, sync_playwright

from tests.services import unavailable

PICTURES = Path(__file__).parents[2] / "test-output" / "catalog"
"""Where the screenshots are kept, for people to look at."""

WIDTHS = (1440, 1024, 390)
HEIGHT = 900

_CONTRAST = {"runOnly": ["color-contrast"], "resultTypes": ["violations"]}
"""All that can differ between light and dark."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; a test that cannot have it is skipped, but fails in CI."""
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


class Tab:
    """A tab with cookies of its own.

    Args:
        key: the API key of who looks; empty for a browser that has not signed in.
        options: of the browser's context.

    Attributes:
        faults: errors of the console, and requests that left the machine.
    """

    def __init__(self, browser: Browser, address: str, *, key: str = "", **options: Any) -> None:
        self.address = address
        self.faults: list[str] = []
        self.context = browser.new_context(**{"viewport": {"width": WIDTHS[0], "height": HEIGHT}, **options})
        if key:
            self.context.add_cookies([{"name": "asof_key", "value": key, "url": address}])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda said: said.type in ("error", "warning") and self.faults.append(said.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.address + "/", "data:")):
            self.faults.append(f"a request to {request.url}")

    def open(self, path: str, *, status: int = 200) -> Page:
        """Go to a page; where scripts run, it has all its values by now."""
        response = self.page.goto(self.address + path)
        assert response is not None and response.status == status, f"{path}: {response and response.status}"
        if status == 200:
            self.complete()
        else:
            # The browser itself says so in the console.
            self.faults = [each for each in self.faults if f"status of {status}" not in each]
        return self.page

    def complete(self) -> None:
        """Wait until nothing of the page is late."""
        self.page.locator("#main .note.late[data-hx-get]").first.wait_for(state="detached")

    def json(self, path: str) -> Any:
        """The page's JSON twin, as this viewer has it."""
        head, mark, query = path.partition("?")
        response = self.page.request.get(f"{self.address}{head if head != '/ui/' else '/ui/home'}.json{mark}{query}")
        assert response.ok, f"{path}: {response.status} {response.text()}"
        return response.json()

    def close(self) -> None:
        self.context.close()


def findings(page: Page) -> list[str]:
    """What is wrong with a page whoever looks at it: too wide at some width, or a finding of axe, light and dark."""
    axe, found = Axe(), []
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": HEIGHT})
        wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wider > 0:
            found.append(f"{wider} pixels too wide at {width}")
    page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})
    for scheme, options in (("light", None), ("dark", _CONTRAST)):
        page.emulate_media(color_scheme=scheme)
        result = axe.run(page, options=options) if options else axe.run(page)
        if result.violations_count:
            found.append(f"{scheme}: {result.generate_report()}")
    page.emulate_media(color_scheme="light")
    return found


def keep_picture(page: Page, name: str, *, width: int, scheme: str) -> None:
    """Keep a screenshot of the whole page."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.screenshot(path=PICTURES / f"{name}-{width}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})
