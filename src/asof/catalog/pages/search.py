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
_FILTER_S = 1.0
"""How long a search for what is stale or unused waits for what is known of that."""

INDEX_S = 0.8
"""How long a search waits for the index of all texts, before it goes by names."""


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
        late: what this does not go by yet, a sentence each.
        again_url: the address of these results, to be asked for again while something is late; else empty.
        more_url: the address of the same with more matches; empty if these are all.
        is_short: whether these are a few to choose from as one types.
    """

    text: str
    filters: dict[str, str]
    kinds: Sequence[str]
    found: Sequence[SearchMatch]
    late: Sequence[str]
    again_url: str
    more_url: str
    is_short: bool


def search_page(request: PageRequest) -> SearchPage:
    text = request.text("q") or ""
    names = ("kind", "entity", "tag", "owner", "source")
    filters = {name: value for name in names if (value := request.text(name))}
    if filters.get("kind", KINDS[0]) not in KINDS:
        raise RequestError(f"?kind={filters['kind'][:40]}: there is no such kind", hint=f"kinds: {some(KINDS)}")
    shown = request.number("limit", _SHOWN, most=_MOST)
    flags = [name for name in ("stale", "unused") if request.text(name)]
    # As one types, the order is by what is known; a filter waits for what it filters by.
    health = request.current_health(with_streams="stale" in flags, budget_s=_FILTER_S if flags else 0.0)
    is_indexed = request.prepare_search(INDEX_S).value is not None
    find = request.index.find if is_indexed else request.index.find_by_name
    entries = find(
        text[:500], limit=shown + 1, viewer=request.viewer, health=health, stale="stale" in flags,
        unused="unused" in flags, **filters,
    )  # fmt: skip
    filters |= dict.fromkeys(flags, "1")
    found = [
        SearchMatch(
            each.kind, each.name, each.type, each.description, _expression(each),
            each.owner, each.tags, url_of(each.kind, each.name),
        )
        for each in entries[:shown]
    ]  # fmt: skip
    is_all = len(entries) <= shown or shown == _MOST
    late = [] if is_indexed else ["the index of all texts is still being made: these go by names alone"]
    late += [f"{each}; the filter goes by what is known" for each in health.late if flags]
    more = "" if is_all else page_url("search", query={"q": text, **filters, "limit": min(shown * 4, _MOST)})
    return SearchPage(
        title=f"Search: {text}" if text else "Search", above=[Link("Home", page_url())], text=text, filters=filters,
        kinds=KINDS, found=found, late=late, more_url=more, is_short=request.text("part") == "matches",
        again_url=page_url("search", query={"q": text, **filters, "limit": shown, "part": "results"}) if late else "",
    )  # fmt: skip


def _expression(entry: CatalogEntry) -> str:
    return "; ".join(entry.expressions) if entry.kind == "feature" else ""
