"""The page of a feature view or an on-demand view: its features, where its rows come from, who reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.catalog.drawings.window import window_svg
from asof.catalog.index import View
from asof.catalog.live import LiveValue
from asof.catalog.pages.lineage import DrawnLineage, near_lineage
from asof.catalog.pages.page import Link, Page, PageRequest, Redirect, missing
from asof.catalog.pages.sections.examples import read_views
from asof.catalog.pages.sections.freshness import ViewFreshness, view_freshness
from asof.catalog.pages.sections.impact import Impact, impact_of
from asof.catalog.pages.sections.series import Series, requests_by_day
from asof.catalog.pages.sections.trust import ProfiledView, profile_command, view_trust
from asof.catalog.urls import page_url, url_of
from asof.defaults import USE_DAYS
from asof.definitions import FeatureView, RequestSource
from asof.lineage import LineageNode

_WINDOWS = 12
"""How many distinct windows are drawn."""


@dataclass(frozen=True)
class FeatureRow:
    """One feature of the view."""

    name: str
    type: str
    expression: str
    columns: Sequence[str]
    description: str
    url: str


@dataclass(frozen=True)
class ViewWindow:
    """One of the view's windows.

    Args:
        features: those that it is the window of.
        drawing: which events count, as SVG.
    """

    features: Sequence[str]
    drawing: str


@dataclass(frozen=True, kw_only=True)
class ViewPage(Page):
    """The page.

    Args:
        kind: `view` or `on-demand-view`.
        reads: links to what it is made of: its source, or the views of an on-demand view.
        on_demand: on-demand views that read it.
        freshness: of the view, or of those that an on-demand view is made of.
        windows: each distinct one once.
        trust: what its newest profile says; `profile_command` makes one.
        requests_per_day, training_sets: use of its features in the last `use_days` days, a request for two of them
            counted for each; `use_over_time` has the requests by day, None without any.
        late: what of runs, audits and use cannot be said yet.
    """

    kind: str
    name: str
    description: str
    owner: str
    tags: Sequence[tuple[str, str]]
    defined_at: str
    entities: Sequence[Link]
    reads: Sequence[Link]
    ttl_us: int | None
    boundary: str
    is_online: bool
    features: Sequence[FeatureRow]
    services: Sequence[Link]
    on_demand: Sequence[Link]
    freshness: Sequence[ViewFreshness]
    windows: Sequence[ViewWindow]
    trust: LiveValue[ProfiledView]
    profile_command: str
    requests_per_day: float
    training_sets: int
    use_over_time: Series | None
    use_days: int
    late: Sequence[str]
    impact: LiveValue[Impact]
    lineage: LiveValue[DrawnLineage]


def view_page(request: PageRequest) -> ViewPage | Redirect:
    index, (name,) = request.index, request.names
    view = index.view(name)
    if view is None or not index.shows_view(request.viewer, view):
        known = [each.name for each in index.views() if index.shows_view(request.viewer, each)]
        raise missing("feature view", name, known)
    entries = {each.name: each for each in index.entries_of_view(name)}
    own = entries[name]
    features = [
        FeatureRow(
            feature, entry.type, "; ".join(entry.expressions), entry.columns, entry.description,
            page_url("feature", name, feature),
        )
        for feature in view.feature_names
        if (entry := entries[f"{name}:{feature}"])
    ]  # fmt: skip
    services = [each for each in index.services_of(name) if index.shows_service(request.viewer, each)]
    derived = [each for each in index.on_demand_of(name) if index.shows_view(request.viewer, each)]
    health = request.current_health(with_streams=False)
    use = [each for feature in view.feature_names if (each := health.use.get(f"{name}:{feature}")) is not None]
    return ViewPage(
        title=name, above=[Link("Home", page_url()), Link("Views", page_url("search", query={"kind": own.kind}))],
        kind=own.kind, name=name, description=own.description, owner=own.owner, tags=own.tags, defined_at=own.where,
        entities=[Link(each, url_of("entity", each)) for each in own.entities], reads=reads_of(view),
        ttl_us=view.ttl if isinstance(view, FeatureView) and view.ttl else None,
        boundary=view.boundary if isinstance(view, FeatureView) and view.aggregations else "",
        is_online=view.online if isinstance(view, FeatureView) else True, features=features,
        services=[Link(each.name, url_of("service", each.name)) for each in services],
        on_demand=[Link(each.name, url_of("on-demand-view", each.name)) for each in derived],
        freshness=[view_freshness(request, each) for each, _ in read_views([view])], windows=_windows(view),
        trust=view_trust(request, view), profile_command=profile_command(name),
        requests_per_day=sum(each.requests for each in use) / USE_DAYS,
        training_sets=max((each.training_sets for each in use), default=0),
        use_over_time=requests_by_day(use, request.now), use_days=USE_DAYS, late=health.late,
        impact=impact_of(request, LineageNode(own.kind, name)),
        lineage=near_lineage(request, LineageNode(own.kind, name)),
    )  # fmt: skip


def reads_of(view: View) -> Sequence[Link]:
    """Links to what a view is made of: its source, or the views and request sources of an on-demand view."""
    if isinstance(view, FeatureView):
        return [Link(view.source.name, url_of("source", view.source.name))]
    return [
        Link(each.name, url_of("source", each.name))
        if isinstance(each, RequestSource)
        else Link(each.name, url_of("view" if isinstance(each.view, FeatureView) else "on-demand-view", each.view.name))
        for each in view.sources
    ]


def _windows(view: View) -> Sequence[ViewWindow]:
    if not isinstance(view, FeatureView):
        return []
    features: dict[str, list[str]] = {}
    windows = {each.name: str(each.window) for each in view.aggregations}
    for name in view.feature_names:
        features.setdefault(windows.get(name, ""), []).append(name)
    return [ViewWindow(names, window_svg(view, names[0])) for names in list(features.values())[:_WINDOWS]]
