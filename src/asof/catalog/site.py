"""The catalog as a site: an address and a viewer become a page, as HTML or as JSON. It knows no web server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import msgspec

from asof.catalog.health_index import HealthIndex
from asof.catalog.index import CatalogIndex
from asof.catalog.live import LiveValues, Values
from asof.catalog.pages import PAGES, PageKind
from asof.catalog.pages.page import Link, Page, PageRequest, Redirect
from asof.catalog.rendering import render, static_file
from asof.catalog.urls import JSON, ROOT, STATIC, page_url, segments_of
from asof.catalog.viewer import Viewer
from asof.definitions import Snapshot
from asof.errors import AsofError, NotFound
from asof.store import FeatureStore

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The Content-Security-Policy of all pages: nothing but the site's own files, and nothing inline."""

HTML = "text/html; charset=utf-8"
JSON_TYPE = "application/json"


@dataclass(frozen=True)
class SiteResponse:
    """What the site returns for an address.

    Args:
        content_type: of the body; empty for a redirect.
        location: the address to go to instead; empty if there is none.
        notice: what that address is to be asked for with; see `Redirect`.
    """

    status: int = 200
    content_type: str = ""
    body: bytes = b""
    location: str = ""
    notice: str = ""
    is_static: bool = False

    def headers(self) -> list[tuple[str, str]]:
        """The headers of the response, but for its length."""
        headers = [
            ("content-security-policy", POLICY), ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"), ("x-frame-options", "DENY"),
            ("cache-control", "public, max-age=31536000, immutable" if self.is_static else "no-store"),
        ]  # fmt: skip
        if self.content_type:
            headers.append(("content-type", self.content_type))
        if self.location:
            headers.append(("location", self.location))
        return headers


class Site:
    """The pages of one store. Safe for several threads.

    Args:
        snapshot: returns the applied snapshot, as young as readers see it.
        can_sign_out: whether viewers sign in, and so pages offer to sign out.
        live: asks the store for what pages show; closed with the site.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        snapshot: Callable[[], Snapshot],
        can_sign_out: bool = False,
        live: LiveValues | None = None,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._can_sign_out = can_sign_out
        self._live = live or LiveValues()
        self._health = HealthIndex(store)
        self._lock = Lock()
        self._index: CatalogIndex | None = None

    def close(self) -> None:
        self._live.close()

    def respond(self, path: str, query: Mapping[str, str], viewer: Viewer, notice: str = "") -> SiteResponse:
        """The page at an address.

        Args:
            path: the raw path, still quoted, below `/ui`.
            notice: what a form that led here did; see `Redirect`.

        Raises:
            NotFound: there is no such page, or the viewer may not see it.
            AsofError: whatever the store's verbs raise; `error_page` shows it.
        """
        names, is_json = segments_of(path)
        with self._live.page() as live:
            kind, template, request = self._request(live, names, query, viewer, notice=notice)
            page = kind.make(request)
            response = self._response(kind, template, page, is_json, viewer, path, query)
        request.prepare_search()
        return response

    def _response(
        self, kind: PageKind, template: str, page: Page | Redirect, is_json: bool, viewer: Viewer, path: str,
        query: Mapping[str, str],
    ) -> SiteResponse:  # fmt: skip
        if isinstance(page, Redirect):
            return SiteResponse(303, location=page.url)
        if is_json:
            return SiteResponse(200, JSON_TYPE, _json(page))
        part = query.get("part", "")
        if part and part not in kind.parts:
            raise NotFound(
                f"page {template!r} has no part {part[:40]!r}", hint=f"parts: {', '.join(kind.parts) or 'none'}"
            )
        return self._html(f"{template}_{part}" if part else template, page, viewer, 200, path, query)

    def submit(self, path: str, form: Mapping[str, str], viewer: Viewer) -> SiteResponse:
        """Do what a form of a page is for, and return the page to go to.

        Raises:
            NotFound: the page has no form.
            NotAllowed: the viewer lacks the role.
            AsofError: whatever the store's verb raises.
        """
        names, _ = segments_of(path)
        with self._live.page() as live:
            kind, template, request = self._request(live, names, {}, viewer, form)
            if kind.submit is None:
                raise NotFound(f"page {template!r} has no form", hint="open it without sending one")
            to = kind.submit(request)
            return SiteResponse(303, location=to.url, notice=to.notice)

    def static(self, path: str) -> SiteResponse:
        """A static file, for everyone.

        Raises:
            NotFound: there is none at that address.
        """
        found = static_file(path.removeprefix(f"{STATIC}/"))
        if found is None:
            raise NotFound("there is no such static file", hint=f"open {ROOT}/")
        return SiteResponse(200, found[1], found[0], is_static=True)

    def sign_in_page(self, error: AsofError | None, to: str, status: int = 200) -> SiteResponse:
        """The page on which a viewer gives a key or token.

        Args:
            to: the address to go to afterwards.
        """
        body = render("sign_in", {"to": to, "error": error, **self._around("", None)})
        return SiteResponse(status, HTML, body)

    def error_page(self, error: AsofError, status: int, path: str, viewer: Viewer | None) -> SiteResponse:
        """An error as a page, or as JSON where that was asked for."""
        if path.endswith(JSON):
            said = {"code": type(error).__name__, "message": error.message, "hint": error.hint or ""}
            return SiteResponse(status, JSON_TYPE, msgspec.json.encode({"error": said}))
        page = Page(title="Not found" if status == 404 else "That did not work", above=[Link("Home", page_url())])
        content = {"page": page, "error": error, "status": status, **self._around(path, viewer)}
        return SiteResponse(status, HTML, render("error", content))

    def index(self) -> CatalogIndex:
        """The index of the applied snapshot; made again when another version is applied."""
        snapshot = self._snapshot()
        index = self._index
        if index is None or index.snapshot is not snapshot:
            with self._lock:
                index = self._index
                if index is None or index.snapshot is not snapshot:
                    before = index
                    index = self._index = CatalogIndex(snapshot, before)
        return index

    def _request(
        self, live: Values, names: tuple[str, ...], query: Mapping[str, str], viewer: Viewer,
        form: Mapping[str, str] | None = None, notice: str = "",
    ) -> tuple[PageKind, str, PageRequest]:  # fmt: skip
        length = 2 if "/".join(names[:2]) in PAGES else 1
        name, rest = ("/".join(names[:length]), names[length:]) if names else ("home", ())
        kind = PAGES.get(name)
        if kind is None or not kind.fewest <= len(rest) <= kind.most:
            raise NotFound(f"there is no page {'/'.join(names)[:200]!r}", hint=f"open {page_url()}")
        now = self._store.now()
        request = PageRequest(
            self._store, self.index(), live, self._health, viewer, rest, query, now, form or {}, notice
        )  # fmt: skip
        return kind, kind.template or name.replace("-", "_").replace("/", "_"), request

    def _html(
        self, template: str, page: Page, viewer: Viewer, status: int, path: str, query: Mapping[str, str]
    ) -> SiteResponse:
        return SiteResponse(status, HTML, render(template, {"page": page, **self._around(path, viewer, query)}))

    def _around(
        self, path: str, viewer: Viewer | None, query: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, Any]:
        """What templates show around every page."""
        index = self._index
        parameters = f"?{urlencode(query)}" if query else ""
        json_path = path.rstrip("/") + JSON if path.rstrip("/") != ROOT else f"{ROOT}/home{JSON}"
        return {
            "project": self._store.project, "version": index.snapshot.version if index is not None else 0,
            "now": self._store.now(), "path": path, "viewer": viewer, "can_sign_out": self._can_sign_out,
            "json_url": json_path + parameters,
        }  # fmt: skip


def _json(page: Page) -> bytes:
    return msgspec.json.format(msgspec.json.encode(page, enc_hook=str), indent=2)
