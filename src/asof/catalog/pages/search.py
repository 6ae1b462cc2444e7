"""The search page: what is found as one types, and lists of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.catalog.entries import KINDS, CatalogEntry
from asof.catalog.pages.page import Link, Page, PageRequest
from asof.catalog.urls import page_url, url_of
from asof.errors import RequestError, some

_SHOWN = 50
_MOST = 1_000


@dataclass(frozen=True)
class SearchMatch:
    """One entry that matches."""

    kind: str
    name: str
    type: str
    description: str
    expression: str
    owner: str
    tags: Sequence[tuple[str, str]]
    url: str


@dataclass(frozen=True, kw_only=True)
class SearchPage(Page):
    """The page.

    Args:
        text: what is searched for; empty for all.
        filters: name → value of the filters that are set.
        found: the best matches first.
        more_url: the address of the same with more matches; empty if these are all.
    """

    text: str
    filters: dict[str, str]
    kinds: Sequence[str]
    found: Sequence[SearchMatch]
    more_url: str


def search_page(request: PageRequest) -> SearchPage:
    text = request.text("q") or ""
    names = ("kind", "entity", "tag", "owner", "source")
    filters = {name: value for name in names if (value := request.text(name))}
    if filters.get("kind", KINDS[0]) not in KINDS:
        raise RequestError(f"?kind={filters['kind'][:40]}: there is no such kind", hint=f"kinds: {some(KINDS)}")
    shown = request.number("limit", _SHOWN, most=_MOST)
    entries = request.index.find(text[:500], limit=shown + 1, viewer=request.viewer, **filters)
    found = [
        SearchMatch(
            each.kind, each.name, each.type, each.description, _expression(each),
            each.owner, each.tags, url_of(each.kind, each.name),
        )
        for each in entries[:shown]
    ]  # fmt: skip
    is_all = len(entries) <= shown or shown == _MOST
    more = "" if is_all else page_url("search", query={"q": text, **filters, "limit": min(shown * 4, _MOST)})
    return SearchPage(
        title=f"Search: {text}" if text else "Search", above=[Link("Home", page_url())], text=text, filters=filters,
        kinds=KINDS, found=found, more_url=more,
    )  # fmt: skip


def _expression(entry: CatalogEntry) -> str:
    return "; ".join(entry.expressions) if entry.kind == "feature" else ""
