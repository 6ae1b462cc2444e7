"""What all pages have, and what they are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from asof.catalog.health import Health
from asof.catalog.health_index import BUDGET_S, HealthIndex
from asof.catalog.index import CatalogIndex
from asof.catalog.live import LiveValue, Values
from asof.catalog.viewer import Viewer
from asof.errors import NotFound, RequestError, nearest
from asof.store import FeatureStore
from asof.timing import moment_given

_PREPARED_S = 3600.0
"""An index stays as it is; after this long it is looked again whether it is there."""


@dataclass(frozen=True)
class Link:
    """A link to a page."""

    text: str
    url: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page: its dataclass is what the template shows, and its `.json` is the same.

    Args:
        title: what it shows, in short.
        above: the pages above it, from the home page down.
    """

    title: str
    above: Sequence[Link] = ()


@dataclass(frozen=True)
class PageRequest:
    """What a page is made from.

    Args:
        store: its public verbs are all that a page asks.
        index: the applied snapshot.
        live: what pages show of the live store, within budgets.
        health: how views and sources are; see `current_health`.
        viewer: who looks.
        names: what the page is of: the segments of its address after its kind.
        query: the parameters of its address.
        form: the fields of the form that was sent; empty for a request that only looks.
        now: the store's now.
        notice: what the form that led here did; see `Redirect`.
    """

    store: FeatureStore
    index: CatalogIndex
    live: Values
    health: HealthIndex
    viewer: Viewer
    names: tuple[str, ...]
    query: Mapping[str, str]
    now: datetime
    form: Mapping[str, str] = field(default_factory=dict)
    notice: str = ""

    def current_health(self, *, with_streams: bool = True, budget_s: float = BUDGET_S) -> Health:
        """How views and sources are, as far as that is known within the budget; see `HealthIndex.of`."""
        return self.health.of(self.index.snapshot, self.live, with_streams=with_streams, budget_s=budget_s)

    def prepare_search(self, budget_s: float = 0.0) -> LiveValue[bool]:
        """Begin to index what is applied, if that is not done: pages but searches do not wait for it."""

        def prepare() -> bool:
            self.index.prepare()
            return True

        return self.live.get(("search", self.index.snapshot.version), prepare, budget_s=budget_s, max_age_s=_PREPARED_S)

    def text(self, name: str) -> str | None:
        """A parameter without the spaces around it; None if it is missing or empty."""
        return self.query.get(name, "").strip() or None

    def number(self, name: str, default: int, *, most: int) -> int:
        """A positive whole number of the query, at most `most`.

        Raises:
            RequestError: it is none.
        """
        text = self.text(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) < 1:
            raise RequestError(
                f"?{name}={text[:40]}: expected a positive whole number", hint=f"write ?{name}={default}"
            )
        return min(int(text), most)

    def moment(self, name: str) -> int | None:
        """A moment of the query, in microseconds; None if it is missing.

        Raises:
            RequestError: it is no time.
        """
        return moment_given(self.text(name), name)


@dataclass(frozen=True)
class Redirect:
    """Instead of a page: go to another address.

    Args:
        notice: what was done, for the page at that address to say: it is kept in a cookie for a moment, since an
            address would say it again to whoever it is sent to.
    """

    url: str
    notice: str = ""


def missing(what: str, name: str, known: Sequence[str]) -> NotFound:
    """The error for an object that is not applied, or that the viewer may not read: it says the same of both."""
    return NotFound(f"no {what} {name!r} is applied", hint=nearest(name, known) or "search for it")
