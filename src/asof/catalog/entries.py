"""What the catalog finds: one entry per entity, source, view, feature and service that is applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from asof.definitions import Aggregation, FeatureService, FeatureView, OnDemandFeatureView, RequestSource, Source
from asof.definitions.project import Project
from asof.lineage import columns_of_view

KINDS = ("feature", "view", "on-demand-view", "service", "entity", "source")
"""The kinds of entries; of entries that match equally well an earlier kind comes first."""


@dataclass(frozen=True)
class CatalogEntry:
    """One thing that is applied, with all that a search looks at.

    Args:
        kind: one of `KINDS`.
        name: its name; of a feature the reference, `view:feature`.
        type: a feature's type, a source's product; else empty.
        entities: the entities that it is about.
        sources: the sources that its rows come from.
        columns: the source columns that it names.
        expressions: its aggregate and condition as text; of a view those of its features with their names, of a service
            the references of its features.
        where: `file:line` of its definition, if known.
    """

    kind: str
    name: str
    type: str = ""
    description: str = ""
    owner: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    entities: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    where: str = ""


def entries_of(project: Project) -> list[CatalogEntry]:
    """The entries of all that is applied, by kind and name."""
    found = [
        *(_of_entity(project, name) for name in project.entities),
        *(_of_source(project, each) for each in project.sources.values()),
        *(_of_request_source(each) for each in project.request_sources.values()),
        *(each for view in project.views.values() for each in _of_view(view)),
        *(each for view in project.on_demand_views.values() for each in _of_on_demand_view(view)),
        *(_of_service(each) for each in project.services.values()),
    ]
    return sorted(found, key=lambda each: (KINDS.index(each.kind), each.name))


def _of_entity(project: Project, name: str) -> CatalogEntry:
    entity = project.entities[name]
    views = [view for view in project.views.values() if entity in view.entities]
    return CatalogEntry(
        kind="entity", name=name, description=entity.description, owner=entity.owner, tags=_tags(entity.tags),
        entities=(name,), sources=_distinct(view.source.name for view in views), columns=tuple(entity.join_keys),
        where=entity.where,
    )  # fmt: skip


def _of_source(project: Project, source: Source) -> CatalogEntry:
    views = project.views_of(source.name)
    return CatalogEntry(
        kind="source", name=source.name, type=source.type, description=source.description, owner=source.owner,
        tags=_tags(source.tags), entities=_distinct(entity.name for view in views for entity in view.entities),
        sources=(source.name,), columns=tuple(field.name for field in source.schema), where=source.where,
    )  # fmt: skip


def _of_request_source(source: RequestSource) -> CatalogEntry:
    return CatalogEntry(
        kind="source", name=source.name, type="request", description=source.description, owner=source.owner,
        tags=_tags(source.tags), columns=tuple(field.name for field in source.schema), where=source.where,
    )  # fmt: skip


def _of_view(view: FeatureView) -> Iterator[CatalogEntry]:
    aggregations = {each.name: each for each in view.aggregations}
    types = {field.name: field for field in view.features}
    columns = columns_of_view(view)
    features = []
    for name in view.feature_names:
        aggregation = aggregations.get(name)
        field = types.get(name)
        features.append(
            CatalogEntry(
                kind="feature", name=f"{view.name}:{name}", type=str(field.dtype) if field else "",
                description=field.description if field else "", owner=view.owner,
                tags=_tags({**view.tags, **(field.tags if field else {})}), entities=_entities(view),
                sources=(view.source.name,),
                columns=columns[name].made_of,
                expressions=() if aggregation is None else (_text(aggregation),), where=view.where,
            )
        )  # fmt: skip
    yield CatalogEntry(
        kind="view", name=view.name, description=view.description, owner=view.owner, tags=_tags(view.tags),
        entities=_entities(view), sources=(view.source.name,),
        columns=_distinct(column for each in features for column in each.columns),
        expressions=tuple(
            " = ".join([name, *each.expressions]) for name, each in zip(view.feature_names, features, strict=True)
        ),
        where=view.where,
    )  # fmt: skip
    yield from features


def _of_on_demand_view(view: OnDemandFeatureView) -> Iterator[CatalogEntry]:
    inputs = [each.view for each in view.sources if not isinstance(each, RequestSource)]
    read = [each for each in inputs if isinstance(each, FeatureView)]
    entities = _distinct(name for each in read for name in _entities(each))
    names = _distinct(each.name for each in view.sources)
    whole = CatalogEntry(
        kind="on-demand-view", name=view.name, description=view.description, owner=view.owner, tags=_tags(view.tags),
        entities=entities, sources=names, expressions=(view.function_name,), where=view.where,
    )  # fmt: skip
    yield whole
    for field in view.features:
        yield replace(
            whole, kind="feature", name=f"{view.name}:{field.name}", type=str(field.dtype),
            description=field.description, tags=_tags({**view.tags, **field.tags}),
        )  # fmt: skip


def _of_service(service: FeatureService) -> CatalogEntry:
    views = [part.view for part in service.features]
    return CatalogEntry(
        kind="service", name=service.name, description=service.description, owner=service.owner,
        tags=_tags(service.tags),
        entities=_distinct(name for view in views if isinstance(view, FeatureView) for name in _entities(view)),
        sources=_distinct(view.source.name for view in views if isinstance(view, FeatureView)),
        expressions=tuple(
            f"{part.name}:{feature}"
            for part in service.features
            for feature in (part.features or part.view.feature_names)
        ),
        where=service.where,
    )  # fmt: skip


def _text(aggregation: Aggregation) -> str:
    condition = f" where {aggregation.where}" if aggregation.where else ""
    window = f", {aggregation.window}" if aggregation.window is not None else ", all events"
    return f"{aggregation.function}({aggregation.column or '*'}){condition}{window}"


def _entities(view: FeatureView) -> tuple[str, ...]:
    return tuple(entity.name for entity in view.entities)


def _tags(tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(tags.items()))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
