"""The page of a feature: what it is, whether to trust it, how fresh it is, how to use it, and what depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.catalog.descriptions import describe_feature
from asof.catalog.drawings.window import window_svg
from asof.catalog.index import View
from asof.catalog.live import LiveValue
from asof.catalog.pages.lineage import DrawnLineage, near_lineage
from asof.catalog.pages.page import Link, Page, PageRequest, missing
from asof.catalog.pages.sections.examples import example_row, read_views, snippet_subject
from asof.catalog.pages.sections.freshness import ViewFreshness, view_freshness
from asof.catalog.pages.sections.impact import Impact, impact_of
from asof.catalog.pages.sections.series import Series, requests_by_day
from asof.catalog.pages.sections.trust import FeatureTrust, feature_trust, profile_command
from asof.catalog.pages.view import reads_of
from asof.catalog.snippets import Snippet, snippets_of
from asof.catalog.urls import page_url, url_of
from asof.defaults import USE_DAYS
from asof.definitions import Aggregation, FeatureView, OnDemandFeatureView
from asof.definitions.windows import Window
from asof.flows.use import UseSums
from asof.lineage import FeatureColumns, LineageNode, columns_of_feature, hides_values, inputs_of_feature


@dataclass(frozen=True, kw_only=True)
class FeaturePage(Page):
    """The page.

    Args:
        kind: the kind of its view: `view` or `on-demand-view`.
        meaning: what it is, in sentences; names are in backticks.
        window_drawing: which events count, as SVG; empty for an on-demand feature.
        expression: its aggregate and condition as text; empty where there is none.
        columns: the source columns it is made of, by what they are read for; None for an on-demand feature.
        reads: its source, or what its function is given.
        inputs, request: the features and the request values that an on-demand function is given.
        function: the source text of an on-demand view's function; empty for others.
        freshness: of its view; of an on-demand feature, of each view that it is made of.
        profile_command: makes a profile of its view.
        use: requests and saved training sets of the last `use_days` days.
        use_over_time: the requests by day; None without any.
        late: what of runs, audits and use cannot be said yet.
        note: why the key in the snippets is made up; empty where it is real.
    """

    view: str
    name: str
    kind: str
    type: str
    description: str
    meaning: Sequence[str]
    window_drawing: str
    owner: str
    tags: Sequence[tuple[str, str]]
    defined_at: str
    is_hidden: bool
    expression: str
    window: Window
    boundary: str
    ttl_us: int
    delay_us: int
    entities: Sequence[Link]
    columns: FeatureColumns | None
    reads: Sequence[Link]
    inputs: Sequence[Link]
    request: Sequence[str]
    function: str
    trust: LiveValue[FeatureTrust]
    profile_command: str
    freshness: Sequence[ViewFreshness]
    use: UseSums
    use_over_time: Series | None
    use_days: int
    late: Sequence[str]
    snippets: Sequence[Snippet]
    note: str
    impact: LiveValue[Impact]
    lineage: LiveValue[DrawnLineage]


def feature_page(request: PageRequest) -> FeaturePage:
    index, (name, feature) = request.index, request.names
    view = index.view(name)
    if view is None or not index.shows_view(request.viewer, view):
        known = [each.name for each in index.views() if index.shows_view(request.viewer, each)]
        raise missing("feature view", name, known)
    if feature not in view.feature_names:
        raise missing(f"feature of {name!r} named", feature, view.feature_names)
    reference = f"{name}:{feature}"
    entry = index.entry("feature", reference)
    kind = "view" if isinstance(view, FeatureView) else "on-demand-view"
    aggregation = _aggregation(view, feature)
    row = example_row(request, [view])
    health = request.current_health(with_streams=False)
    use = health.use.get(reference, UseSums())
    return FeaturePage(
        title=reference, above=[Link("Home", page_url()), Link(name, url_of(kind, name))],
        view=name, name=feature, kind=kind, type=entry.type, description=entry.description or view.description,
        meaning=describe_feature(view, feature),
        window_drawing=window_svg(view, feature) if isinstance(view, FeatureView) else "",
        owner=entry.owner, tags=entry.tags, defined_at=entry.where, is_hidden=hides_values(view, feature),
        expression="; ".join(entry.expressions), window=aggregation.window if aggregation is not None else None,
        boundary=view.boundary if isinstance(view, FeatureView) and aggregation is not None else "",
        ttl_us=view.ttl if isinstance(view, FeatureView) and aggregation is None else 0,
        delay_us=view.delay if isinstance(view, FeatureView) else 0,
        entities=[Link(each, url_of("entity", each)) for each in entry.entities],
        columns=columns_of_feature(view, feature) if isinstance(view, FeatureView) else None, reads=reads_of(view),
        inputs=[Link(each, url_of("feature", each)) for each in _inputs(view)],
        request=[f"{each} {value.dtype}" for each, value in row.request.items()],
        function=view.source_text if isinstance(view, OnDemandFeatureView) else "",
        trust=feature_trust(request, view, feature), profile_command=profile_command(name),
        freshness=[view_freshness(request, each) for each, _ in read_views([view])],
        use=use, use_over_time=requests_by_day([use], request.now), use_days=USE_DAYS, late=health.late,
        snippets=snippets_of(snippet_subject(request, row, [view], features=[reference])), note=row.note,
        impact=impact_of(request, LineageNode("feature", reference)),
        lineage=near_lineage(request, LineageNode("feature", reference)),
    )  # fmt: skip


def _aggregation(view: View, feature: str) -> Aggregation | None:
    if not isinstance(view, FeatureView):
        return None
    return next((each for each in view.aggregations if each.name == feature), None)


def _inputs(view: View) -> Sequence[str]:
    return inputs_of_feature(view).features if isinstance(view, OnDemandFeatureView) else ()
