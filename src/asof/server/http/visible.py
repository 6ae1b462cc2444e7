"""What of a project a caller may know of: errors and lists name nothing else.

Who may read the whole project sees what there is. To others an object that they may not use is as one that does not
exist, and both are refused before anything is planned for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from asof.definitions import FeatureView, LogSource, OnDemandFeatureView, Project, Projection
from asof.selection import known_references
from asof.server.security.callers import Action, RequestPrincipal


def viewed(parts: Iterable[Any]) -> list[Any]:
    """The views of a service or an on-demand view, with the sources of on-demand views, at any depth."""
    views = [part.view for part in parts if isinstance(part, Projection)]
    below = [viewed(view.sources) for view in views if isinstance(view, OnDemandFeatureView)]
    return [*views, *(each for these in below for each in these)]


def refuse_hidden_features(
    principal: RequestPrincipal, project: Project, requested: str | Sequence[str], *, is_service: bool
) -> None:
    """Refuse a request for features of views that the caller may not read.

    Args:
        requested: references, or the name of a service or view.
        is_service: whether the request says that it is the name of a service.

    Raises:
        NotAllowed: the caller may not read one, or there is none of that name.
    """
    if principal.may("read"):
        return
    service = project.services.get(requested) if isinstance(requested, str) else None
    if service is not None and principal.may("read", viewed(service.features)):
        return
    if is_service:
        raise principal.hidden("read", "feature service", [str(requested)], readable_services(principal, project))
    references = (requested,) if isinstance(requested, str) else requested
    names = dict.fromkeys(each.partition(":")[0] for each in references)
    refused = [name for name in names if not _is_readable(principal, project.view(name))]
    if refused or service is not None:
        raise principal.hidden("read", "feature view", refused or [*names], readable_views(principal, project))


def readable_services(principal: RequestPrincipal, project: Project) -> list[str]:
    """Names of the feature services that the caller may read."""
    return sorted(each.name for each in project.services.values() if principal.may("read", viewed(each.features)))


def readable_views(principal: RequestPrincipal, project: Project) -> list[str]:
    """Names of the views, also on-demand ones, that the caller may read."""
    views: list[Any] = [*project.views.values(), *project.on_demand_views.values()]
    return sorted(each.name for each in views if _is_readable(principal, each))


def readable_references(principal: RequestPrincipal, snapshot: Any) -> list[str]:
    """Every `view:feature` that the caller may read."""
    readable = set(readable_views(principal, snapshot.project))
    return [each for each in known_references(snapshot) if each.partition(":")[0] in readable]


def writable_sources(principal: RequestPrincipal, project: Project) -> list[str]:
    """Names of the push sources all of whose views the caller may write to."""
    sources = [each for each in project.sources.values() if isinstance(each, LogSource) and each.type == "push"]
    return sorted(each.name for each in sources if principal.may("write", project.views_changed_by(each)))


def refuse_hidden_views(
    principal: RequestPrincipal, project: Project, names: Iterable[str], action: Action,
    changed: Callable[[FeatureView], Sequence[FeatureView]] = lambda view: [view],
) -> None:  # fmt: skip
    """Refuse a request that changes views for which the caller lacks the role.

    Args:
        changed: all views that are changed where this one is named.

    Raises:
        NotAllowed: the caller lacks the role for one, or there is none of that name.
    """
    if principal.may("read"):
        return
    views: Mapping[str, FeatureView] = project.views

    def allows(view: FeatureView | None) -> bool:
        return view is not None and principal.may(action, changed(view))

    refused = [name for name in dict.fromkeys(names) if not allows(views.get(name))]
    if refused:
        known = [name for name, view in views.items() if allows(view)]
        raise principal.hidden(action, "feature view", refused, known)


def shows_job(principal: RequestPrincipal, project: Project, views: Sequence[str]) -> bool:
    """Whether the caller may know of a run of these views."""
    if principal.may("admin"):
        return True
    known = [project.views.get(name) for name in views]
    return bool(known) and None not in known and principal.may("admin", known)


def _is_readable(principal: RequestPrincipal, view: Any) -> bool:
    if view is None:
        return False
    inputs = viewed(view.sources) if isinstance(view, OnDemandFeatureView) else []
    return principal.may("read", [view, *inputs])
