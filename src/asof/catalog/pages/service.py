"""The page of a feature service: its features in order, how to read them, and what it depends on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Link, Page, PageRequest, missing
from asof.catalog.pages.sections.examples import example_row, snippet_subject
from asof.catalog.pages.sections.impact import Impact, impact_of
from asof.catalog.snippets import Snippet, snippets_of
from asof.catalog.urls import page_url, url_of
from asof.definitions import FeatureView
from asof.lineage import LineageNode


@dataclass(frozen=True)
class ServiceFeature:
    """One feature of the service.

    Args:
        name: as the service names it: with its view where two features share a name.
    """

    name: str
    type: str
    expression: str
    description: str
    url: str


@dataclass(frozen=True)
class ServiceView:
    """The features of one view, in the service's order.

    Args:
        alias: the view's name in the service, where it is another one.
        keys: view's join key → column of the request, where they differ.
    """

    name: str
    alias: str
    url: str
    keys: Sequence[tuple[str, str]]
    features: Sequence[ServiceFeature]


@dataclass(frozen=True, kw_only=True)
class ServicePage(Page):
    """The page.

    Args:
        count: number of features.
        entities: what they are about.
        note: why the key in the snippets is made up; empty where it is real.
    """

    name: str
    description: str
    owner: str
    tags: Sequence[tuple[str, str]]
    defined_at: str
    count: int
    entities: Sequence[Link]
    sources: Sequence[Link]
    request: Sequence[str]
    views: Sequence[ServiceView]
    snippets: Sequence[Snippet]
    note: str
    impact: LiveValue[Impact]


def service_page(request: PageRequest) -> ServicePage:
    index, (name,) = request.index, request.names
    service = index.project.services.get(name)
    if service is None or not index.shows_service(request.viewer, service):
        known = [each.name for each in index.project.services.values() if index.shows_service(request.viewer, each)]
        raise missing("feature service", name, known)
    own = index.entry("service", name)
    row = example_row(request, service.features)
    subject = snippet_subject(request, row, service.features, service=service)
    views = []
    for part in service.features:
        entries = {each.name: each for each in index.entries_of_view(part.view.name)}
        kind = "view" if isinstance(part.view, FeatureView) else "on-demand-view"
        features = [
            ServiceFeature(
                f"{part.name}__{feature}" if subject.full_names else feature, entry.type, "; ".join(entry.expressions),
                entry.description, url_of("feature", entry.name),
            )
            for feature in part.features or part.view.feature_names
            if (entry := entries[f"{part.view.name}:{feature}"])
        ]  # fmt: skip
        views.append(
            ServiceView(
                part.view.name, part.alias, url_of(kind, part.view.name), sorted(part.join_key_map.items()), features,
            )
        )  # fmt: skip
    return ServicePage(
        title=name, above=[Link("Home", page_url()), Link("Services", page_url("search", query={"kind": "service"}))],
        name=name, description=own.description, owner=own.owner, tags=own.tags, defined_at=own.where,
        count=sum(len(each.features) for each in views),
        entities=[Link(each, url_of("entity", each)) for each in own.entities],
        sources=[Link(each, url_of("source", each)) for each in own.sources],
        request=[f"{each} {value.dtype}" for each, value in row.request.items()], views=views,
        snippets=snippets_of(subject), note=row.note, impact=impact_of(request, LineageNode("service", name)),
    )  # fmt: skip
