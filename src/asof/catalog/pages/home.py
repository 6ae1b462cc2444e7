"""The home page: what is here, what needs attention, what changed, what ran, what is used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nsmallest

from asof.catalog.health import Health
from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Link, Page, PageRequest
from asof.catalog.pages.runs import RunRow, runs_of
from asof.catalog.urls import url_of
from asof.defaults import USE_DAYS
from asof.definitions import FeatureView, OnDemandFeatureView
from asof.lineage import hides_values

_CHANGES = 8
_RUNS = 6
_USED = 8
_MOST_CHECKS = 20
_MOST_UNPROFILED = 5
_BUDGET_S = 0.01
"""The home page shows many values, and waits but a little for each; what is late is there when it is opened again."""
_MAX_AGE_S = 120.0
_CHECKS_AGE_S = 600.0


@dataclass(frozen=True)
class Change:
    """One applied version."""

    version: int
    who: str
    when: datetime
    summary: str


@dataclass(frozen=True)
class Attention:
    """Something that does not work, with the next step.

    Args:
        url: the page of what it is about; empty where it has none.
    """

    part: str
    text: str
    hint: str = ""
    url: str = ""


@dataclass(frozen=True)
class UsedFeature:
    """A feature with its use in the last `days` days."""

    name: str
    url: str
    requests: int
    training_sets: int


@dataclass(frozen=True)
class Expectations:
    """What the newest checks and profiles say of all views that the viewer may read.

    Args:
        failing: expectations that do not hold.
        unprofiled: the first views that were never profiled.
        more_unprofiled: how many more there are.
    """

    failing: Sequence[Attention]
    unprofiled: Sequence[Link]
    more_unprofiled: int


@dataclass(frozen=True, kw_only=True)
class HomePage(Page):
    """The page.

    Args:
        counts: kind of catalog entry → how many the viewer may see.
        is_whole: whether the viewer may read everything; to others no check, version or run of all is shown.
        attention: of the views and sources that the viewer may read, as they are served.
        more_attention: how many more there are.
        late: what is not known of them, a sentence each.
        checks: what `doctor` finds wrong.
        changes: the newest versions, newest first.
        used: the most used features of the last `days` days.
    """

    counts: Mapping[str, int]
    is_whole: bool
    attention: Sequence[Attention]
    more_attention: int
    late: Sequence[str]
    checks: LiveValue[Sequence[Attention]]
    expectations: LiveValue[Expectations]
    changes: LiveValue[Sequence[Change]]
    runs: LiveValue[Sequence[RunRow]]
    used: Sequence[UsedFeature]
    days: int


def home_page(request: PageRequest) -> HomePage:
    index, viewer = request.index, request.viewer
    is_whole = viewer.may("read")
    health = request.current_health(budget_s=_BUDGET_S)
    attention = list(_attention(request, health, is_whole=is_whole))
    # What is said of the whole store names objects that a viewer of some views may not know.
    nothing = LiveValue[Sequence[Attention]](())
    return HomePage(
        title=request.store.project, counts=index.counts(viewer), is_whole=is_whole, attention=attention[:_MOST_CHECKS],
        more_attention=max(len(attention) - _MOST_CHECKS, 0), late=health.late,
        checks=request.live.later("checks", lambda: _checks(request), max_age_s=_CHECKS_AGE_S)
        if is_whole else nothing,
        expectations=_expectations(request),
        changes=request.live.get("changes", lambda: _changes(request), budget_s=_BUDGET_S)
        if is_whole else LiveValue[Sequence[Change]](()),
        runs=runs_of(request, limit=_RUNS, budget_s=_BUDGET_S), used=_used(request, health, is_whole=is_whole),
        days=USE_DAYS,
    )  # fmt: skip


def _attention(request: PageRequest, health: Health, *, is_whole: bool) -> Iterator[Attention]:
    """Sources first: what is wrong with one is said once, and not with each of its views again."""
    index, viewer = request.index, request.viewer
    for source in health.sources.values():
        if source.attention and index.shows_source(viewer, source.name):
            for reason in source.attention:
                text = reason.removeprefix(f"source {source.name!r} has ").removeprefix(f"source {source.name!r}: ")
                yield Attention(f"source {source.name}", text, url=url_of("source", source.name))
    for view in health.views.values():
        found = index.view(view.name)
        # An on-demand view only repeats what is said of its inputs.
        if not view.attention or not view.source or found is None or not index.shows_view(viewer, found):
            continue
        of_source = health.sources[view.source].attention if view.source in health.sources else ()
        for reason in view.attention:
            if reason not in of_source:
                # The message of a run's error may name views that are not theirs.
                text = reason if is_whole else reason.partition(") failed: ")[0]
                yield Attention(f"view {view.name}", text, url=url_of("view", view.name))


def _checks(request: PageRequest) -> Sequence[Attention]:
    # No page reads whole sources.
    found = [each for each in request.store.doctor(rows=False) if not each.ok]
    return [Attention(each.part, each.text, each.hint, _url_of_part(each.part)) for each in found[:_MOST_CHECKS]]


def _url_of_part(part: str) -> str:
    kind, _, name = part.partition(" ")
    return url_of(kind, name) if name and kind in ("source", "view") else ""


def _changes(request: PageRequest) -> Sequence[Change]:
    return [Change(each.version, each.who, each.when, each.summary) for each in request.store.history(_CHANGES)]


def _expectations(request: PageRequest) -> LiveValue[Expectations]:
    def fetched() -> tuple[set[str], Mapping[str, Sequence[tuple[str, str, str]]]]:
        """The views that were profiled; view → feature, name and finding of each expectation that does not hold."""
        failed: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
        for each in request.store.kept_expectations():
            if not each.ok:
                failed[each.view].append(
                    (each.feature, each.expectation, f"expected {each.expected}, found {each.found}")
                )
        return {each.view for each in request.store.kept_profiles()}, failed

    live = request.live.get("expectations", fetched, budget_s=_BUDGET_S, max_age_s=_MAX_AGE_S)
    if live.value is None:
        return LiveValue(None, live.age_s, live.is_late, live.error, live.hint)
    profiled, failed = live.value
    failing: list[Attention] = []
    unprofiled: list[str] = []
    project = request.index.project
    views: list[FeatureView | OnDemandFeatureView] = [*project.views.values(), *project.on_demand_views.values()]
    for view in views:
        if not request.index.shows_view(request.viewer, view):
            continue
        kind = "view" if isinstance(view, FeatureView) else "on-demand-view"
        if kind == "view" and view.name not in profiled:
            unprofiled.append(view.name)
        for feature, name, text in failed.get(view.name, ()):
            is_hidden = feature in view.feature_names and hides_values(view, feature)
            said = name.partition("(")[0] if is_hidden else f"{name}: {text}"
            failing.append(Attention(f"view {view.name}", said, url=url_of(kind, view.name)))
    found = Expectations(
        failing[:_MOST_CHECKS], [Link(each, url_of("view", each)) for each in unprofiled[:_MOST_UNPROFILED]],
        max(len(unprofiled) - _MOST_UNPROFILED, 0),
    )  # fmt: skip
    return LiveValue(found, live.age_s, live.is_late)


def _used(request: PageRequest, health: Health, *, is_whole: bool) -> Sequence[UsedFeature]:
    index = request.index

    def may_see(reference: str) -> bool:
        view = index.view(reference.partition(":")[0])
        return view is not None and (is_whole or index.shows_view(request.viewer, view))

    found = nsmallest(
        _USED, (each for each in health.use.items() if may_see(each[0])),
        key=lambda each: (-each[1].requests, -each[1].training_sets, each[0]),
    )  # fmt: skip
    return [UsedFeature(name, url_of("feature", name), sums.requests, sums.training_sets) for name, sums in found]
