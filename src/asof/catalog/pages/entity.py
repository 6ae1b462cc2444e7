"""The page of an entity: its join keys, the views about it, and some keys to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.catalog.keys import KeyInput, key_inputs, views_of_key
from asof.catalog.live import LiveValue
from asof.catalog.pages.key import example_links
from asof.catalog.pages.page import Link, Page, PageRequest, missing
from asof.catalog.urls import page_url, url_of
from asof.definitions import FeatureView
from asof.lineage import hides_key


@dataclass(frozen=True)
class EntityView:
    """One view about the entity.

    Args:
        keys: all of its join keys.
    """

    name: str
    kind: str
    url: str
    description: str
    owner: str
    keys: Sequence[str]
    features: int


@dataclass(frozen=True, kw_only=True)
class EntityPage(Page):
    """The page.

    Args:
        inputs: the join keys, as inputs of a form that leads to a key's page.
        examples: links to keys that are served; empty if they are hidden.
        are_keys_hidden: whether its keys are tagged `pii`.
    """

    name: str
    description: str
    owner: str
    tags: Sequence[tuple[str, str]]
    defined_at: str
    join_keys: Sequence[str]
    inputs: Sequence[KeyInput]
    views: Sequence[EntityView]
    examples: LiveValue[Sequence[Link]]
    are_keys_hidden: bool
    sources: Sequence[Link]


def entity_page(request: PageRequest) -> EntityPage:
    index, (name,) = request.index, request.names
    entity = index.entity(name)
    if entity is None or not index.shows_entity(request.viewer, name):
        known = [each for each in index.project.entities if index.shows_entity(request.viewer, each)]
        raise missing("entity", name, known)
    about = views_of_key(index, name, lambda view: index.shows_view(request.viewer, view))
    views = [
        EntityView(
            view.name, kind, url_of(kind, view.name), view.description, view.owner, view.join_keys,
            len(view.feature_names),
        )
        for view in about
        if (kind := "view" if isinstance(view, FeatureView) else "on-demand-view")
    ]  # fmt: skip
    sources = dict.fromkeys(view.source.name for view in about if isinstance(view, FeatureView))
    return EntityPage(
        title=name, above=[Link("Home", page_url()), Link("Entities", page_url("search", query={"kind": "entity"}))],
        name=name, description=entity.description, owner=entity.owner, tags=sorted(entity.tags.items()),
        defined_at=entity.where, join_keys=entity.join_keys,
        inputs=key_inputs(index, name, about, {}), views=views, examples=example_links(request, name, about),
        are_keys_hidden=any(hides_key(view) for view in about),
        sources=[Link(each, url_of("source", each)) for each in sources],
    )  # fmt: skip
