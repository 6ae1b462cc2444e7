"""The home page: what is here, what changed, what needs attention."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Page, PageRequest

_CHANGES = 8
_MOST_CHECKS = 50


@dataclass(frozen=True)
class Change:
    """One applied version."""

    version: int
    who: str
    when: datetime
    note: str
    summary: str


@dataclass(frozen=True)
class Attention:
    """Something that does not work, with the next step."""

    part: str
    text: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class HomePage(Page):
    """The page.

    Args:
        counts: kind of catalog entry → how many the viewer may see.
        changes: the newest versions, newest first.
        attention: what `doctor` finds wrong.
    """

    counts: Mapping[str, int]
    changes: LiveValue[Sequence[Change]]
    attention: LiveValue[Sequence[Attention]]


def home_page(request: PageRequest) -> HomePage:
    index, viewer = request.index, request.viewer
    everything = viewer.may("read")
    counts = Counter(each.kind for each in index.entries if everything or index.shows(viewer, each))
    # What is said of the whole store names objects that a viewer of some views may not know.
    changes = request.live.get("changes", lambda: _changes(request)) if everything else LiveValue[Sequence[Change]](())
    attention = (
        request.live.get("attention", lambda: _attention(request), budget_s=0.5)
        if everything
        else LiveValue[Sequence[Attention]](())
    )
    return HomePage(title=request.store.project, counts=dict(counts), changes=changes, attention=attention)


def _changes(request: PageRequest) -> Sequence[Change]:
    return [
        Change(each.version, each.who, each.when, each.note, each.summary) for each in request.store.history(_CHANGES)
    ]


def _attention(request: PageRequest) -> Sequence[Attention]:
    found = [each for each in request.store.doctor() if not each.ok]
    return [Attention(each.part, each.text, each.hint) for each in found[:_MOST_CHECKS]]
