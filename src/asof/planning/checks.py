"""Check all definitions against the real sources' columns, and resolve every type; all findings at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from asof.definitions import (
    Definition,
    FeatureService,
    FeatureView,
    LogSource,
    OnDemandFeatureView,
    Project,
    Projection,
    RequestSource,
    Source,
    project_of,
)
from asof.dtypes import DType
from asof.errors import AsofError, nearest, some
from asof.planning.changes import Finding
from asof.planning.expectations import check_expectations
from asof.planning.sources import (
    ActualColumn,
    CheckedSource,
    Findings,
    check_batch_source,
    check_source,
    copy_of,
    title,
)
from asof.planning.views import check_view

EVENT_TIMESTAMP = "event_timestamp"
"""The column by which on-demand functions see the row's time."""

Descriptions = Mapping[str, Sequence[ActualColumn] | AsofError]


def resolve(project: Project, described: Descriptions, applied: Project | None = None) -> tuple[Project, list[Finding]]:
    """Resolve every type of the project, and check it.

    Args:
        described: source name → its actual columns, or the error on reading them. A source that is missing here is
            checked by its `schema`, as log sources always are.
        applied: what was applied last, whose types are taken for those of sources that cannot be read.

    Returns:
        The project, usable only if no finding is an error. The findings: errors first.
    """
    findings = Findings()
    for each in project:
        for note in each.notes:
            findings.add("note", each, note.removeprefix(f"{title(each)}: "))
    checked = {
        name: check_source(source, described.get(name), findings=findings) for name, source in project.sources.items()
    }
    sources = {name: _with_batch(source, checked, findings) for name, source in project.sources.items()}
    views: dict[str, FeatureView | OnDemandFeatureView] = {}
    for name, view in project.views.items():
        source = checked[view.source.name]
        if source is None:
            views[name] = _as_applied(copy_of(view, source=sources[view.source.name]), applied)
        else:
            settled = CheckedSource(sources[view.source.name], source.columns, source.times, source.found)
            views[name] = check_view(view, settled, findings=findings)
    _check_shared_keys([view for view in views.values() if isinstance(view, FeatureView)], findings)
    for name, derived in project.on_demand_views.items():
        views[name] = _derived(derived, views, findings)
    services = [_service(service, views, findings) for service in project.services.values()]
    resolved = project_of(
        [*project.entities.values(), *sources.values(), *project.request_sources.values(), *views.values(), *services]
    )
    order = ("error", "warning", "note")
    return resolved, sorted(findings, key=lambda finding: order.index(finding.severity))


def _as_applied(view: FeatureView, applied: Project | None) -> FeatureView:
    """A view whose source cannot be read, with the types it was applied with: that they are unknown is not a change."""
    known = applied.views.get(view.name) if applied is not None else None
    if known is None:
        return view
    columns = {field.name: field.dtype for field in known.schema}
    return check_view(view, CheckedSource(view.source, columns, frozenset(), {}), findings=Findings())


def _with_batch(source: Source, checked: Mapping[str, CheckedSource | None], findings: Findings) -> Source:
    """The source with its event time settled, and its batch source's, too."""
    own = checked[source.name]
    settled = own.source if own is not None else source
    if isinstance(settled, LogSource) and settled.batch_source is not None:
        batch = checked[settled.batch_source.name]
        if batch is not None:
            check_batch_source(settled, batch, findings=findings)
            settled = copy_of(settled, batch_source=batch.source)
    return settled


def _check_shared_keys(views: Sequence[FeatureView], findings: Findings) -> None:
    """Check that a join key has the same type in all views: a request may ask for several of them."""
    first: dict[str, tuple[FeatureView, DType]] = {}
    for view in views:
        for field in view.key_fields:
            other, dtype = first.setdefault(field.name, (view, field.dtype))
            if dtype != field.dtype and not (dtype.is_integer and field.dtype.is_integer):
                findings.add(
                    "warning", view,
                    f"join key {field.name!r} is {field.dtype}, but {dtype} in {title(other)}: "
                    "no request can read both",
                    hint="give both sources the same type, or map one key to another name (field_mapping=)",
                )  # fmt: skip


def _settled(
    projection: Projection,
    views: Mapping[str, FeatureView | OnDemandFeatureView],
    about: Definition,
    findings: Findings,
) -> Projection:
    view = views.get(projection.view.name, projection.view)
    known = view.feature_names
    kept = projection.features
    for feature in projection.features or ():
        if known and feature not in known:
            findings.error(
                about,
                f"{title(view)} has no feature {feature!r}",
                hint=nearest(feature, known) or f"it has {some(known)}",
            )
            kept = tuple(each for each in kept or () if each != feature)
    return Projection(view, kept, projection.alias, projection.join_key_map)


def _derived(
    derived: OnDemandFeatureView, views: Mapping[str, FeatureView | OnDemandFeatureView], findings: Findings
) -> OnDemandFeatureView:
    sources = [
        each if isinstance(each, RequestSource) else _settled(each, views, derived, findings)
        for each in derived.sources
    ]
    derived = copy_of(derived, sources=tuple(sources))
    projections = [each for each in sources if isinstance(each, Projection)]
    names = Counter(name for each in projections for name in (each.features or each.view.feature_names))
    # A feature name that two views share is passed as `view__feature`, so it does not collide.
    inputs = {name for name, count in names.items() if count == 1}
    requested = Counter(field.name for field in derived.request_fields)
    keys = set(derived.join_keys)
    for name in sorted(name for name, count in requested.items() if count > 1):
        findings.error(derived, f"two of its request sources have a field {name!r}", hint="rename one of them")
    for label, clash in (
        ("a feature and a join key", inputs & keys),
        ("a feature and a request field", inputs & set(requested)),
        ("a join key and a request field", keys & set(requested)),
        ("an input and the row's time", {EVENT_TIMESTAMP} & (inputs | keys | set(requested))),
        ("a join key and a field that it returns", keys & set(derived.feature_names)),
    ):
        if clash:
            findings.error(derived, f"{some(sorted(clash))} would name both {label}", hint="rename one of them")
    check_expectations(derived, findings=findings)
    return derived


def _service(
    service: FeatureService, views: Mapping[str, FeatureView | OnDemandFeatureView], findings: Findings
) -> FeatureService:
    parts = tuple(_settled(part, views, service, findings) for part in service.features)
    origins: dict[str, list[str]] = {}
    for part in parts:
        for feature in part.features if part.features is not None else part.view.feature_names:
            origins.setdefault(feature, []).append(f"{part.name}:{feature}")
    for names in origins.values():
        if len(names) > 1:
            findings.add(
                "warning", service, f"{' and '.join(names)} would have the same output name",
                hint="ask for full feature names, or rename a view in the service (with_name)",
            )  # fmt: skip
    return copy_of(service, features=parts)
