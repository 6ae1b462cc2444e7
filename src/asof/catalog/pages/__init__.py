"""The catalog's pages: one module and one dataclass per page, with a template of the same name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asof.catalog.pages.dead_letter import dead_letter_page, replay_one
from asof.catalog.pages.entity import entity_page
from asof.catalog.pages.feature import feature_page
from asof.catalog.pages.home import home_page
from asof.catalog.pages.key import key_page
from asof.catalog.pages.lineage import lineage_page
from asof.catalog.pages.page import Page, PageRequest, Redirect
from asof.catalog.pages.runs import runs_page, version_page
from asof.catalog.pages.search import search_page
from asof.catalog.pages.service import service_page
from asof.catalog.pages.source import replay_all, source_page
from asof.catalog.pages.training_sets import compare_page, training_set_page, training_sets_page
from asof.catalog.pages.view import view_page


@dataclass(frozen=True)
class PageKind:
    """A kind of page. Its key in `PAGES` is the beginning of its address, and (with `_`) its template's name.

    Args:
        make: the page for a request, or the address to go to instead.
        fewest, most: how many names follow the kind in an address.
        parts: what can be asked for alone, as `?part=`: each has a template of its own, `KIND_PART`.
        template: the name of the template, where it is that of another kind.
        submit: does what the page's form is for.
    """

    make: Callable[[PageRequest], Page | Redirect]
    fewest: int = 0
    most: int = 0
    parts: tuple[str, ...] = ()
    template: str = ""
    submit: Callable[[PageRequest], Redirect] | None = None


PAGES: Mapping[str, PageKind] = {
    "home": PageKind(home_page),
    "search": PageKind(search_page, parts=("results", "matches")),
    "view": PageKind(view_page, 1, 1),
    "feature": PageKind(feature_page, 2, 2),
    "service": PageKind(service_page, 1, 1),
    "entity": PageKind(entity_page, 1, 1),
    "lineage": PageKind(lineage_page, 2, 2),
    "key": PageKind(key_page, 1, 1),
    "on-demand-view": PageKind(view_page, 1, 1, template="view"),
    "runs": PageKind(runs_page),
    "runs/apply": PageKind(version_page, 1, 1),
    "training-sets": PageKind(training_sets_page),
    "training-sets/compare": PageKind(compare_page),
    "training-set": PageKind(training_set_page, 1, 1),
    "source": PageKind(source_page, 1, 1, submit=replay_all),
    "dead-letter": PageKind(dead_letter_page, 3, 3, submit=replay_one),
}
