"""The kinds of things that can be listed and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asof.cli.context import CliContext
from asof.cli.options import misused
from asof.cli.tables import Column
from asof.errors import nearest
from asof.timing import span_text


@dataclass(frozen=True)
class Kind:
    """One kind of thing that can be listed and shown.

    Args:
        one, many: its names on the command line.
        all_of, one_of: ask the store.
        record: one thing as a record of the list.
    """

    one: str
    many: str
    all_of: Callable[[Any], list[Any]]
    one_of: Callable[[Any, str], Any]
    record: Callable[[Any], dict[str, Any]]
    columns: tuple[Column, ...]


def _entity(each: Any) -> dict[str, Any]:
    return {"name": each.name, "join_keys": list(each.join_keys), "description": each.description or None}


def _source(each: Any) -> dict[str, Any]:
    place = next((found for name in ("path", "topic", "table", "query") if (found := getattr(each, name, ""))), "")
    return {"name": each.name, "type": each.type, "place": place or None, "event_time": each.timestamp_field,
            "description": each.description or None}  # fmt: skip


def _view(each: Any) -> dict[str, Any]:
    return {
        "name": each.name, "entities": [entity.name for entity in each.entities], "source": each.source.name,
        "features": list(each.feature_names), "ttl": span_text(each.ttl) if each.ttl else None, "online": each.online,
        "description": each.description or None,
    }  # fmt: skip


def _on_demand(each: Any) -> dict[str, Any]:
    return {"name": each.name, "mode": each.mode, "sources": [source.name for source in each.sources],
            "features": list(each.feature_names), "description": each.description or None}  # fmt: skip


def _service(each: Any) -> dict[str, Any]:
    parts = [f"{part.name}[{', '.join(part.features)}]" if part.features else part.name for part in each.features]
    return {"name": each.name, "features": parts, "description": each.description or None}


def _features(store: Any) -> list[dict[str, Any]]:
    views = [*store.list_feature_views(), *store.list_on_demand_feature_views()]
    features = []
    for view in views:
        # The types of aggregates are known once the view is resolved, as applied ones are.
        fields = {field.name: field for field in view.features}
        for name in view.feature_names:
            features.append({"name": f"{view.name}:{name}", **field_record(fields.get(name))})
    return features


def field_record(field: Any) -> dict[str, Any]:
    if field is None:
        return {"type": None, "description": None}
    return {"type": str(field.dtype), "description": field.description or None}


def _feature(store: Any, name: str) -> dict[str, Any]:
    from asof.errors import UnknownFeature

    known = {each["name"]: each for each in _features(store)}
    if name not in known:
        raise UnknownFeature(name, known)
    from asof.cli.features import feature_facts

    view, _, feature = name.partition(":")
    views = {each.name: each for each in (*store.list_feature_views(), *store.list_on_demand_feature_views())}
    return feature_facts(store, views[view], feature)


DESCRIPTION = Column("description", prose=True, spare=True)
PARTS = Column("features", prose=True)

KINDS = (
    Kind("entity", "entities", lambda store: store.list_entities(), lambda store, name: store.get_entity(name),
         _entity, (Column("name"), Column("join_keys"), DESCRIPTION)),
    Kind("source", "sources", lambda store: store.list_sources(), lambda store, name: store.get_source(name),
         _source, (Column("name"), Column("type"), Column("event_time"), Column("place", prose=True), DESCRIPTION)),
    Kind("view", "views", lambda store: store.list_feature_views(), lambda store, name: store.get_feature_view(name),
         _view, (Column("name"), Column("entities"), Column("source"), PARTS, Column("ttl", spare=True), DESCRIPTION)),
    Kind("on-demand-view", "on-demand-views", lambda store: store.list_on_demand_feature_views(),
         lambda store, name: store.get_on_demand_feature_view(name),
         _on_demand, (Column("name"), Column("mode"), Column("sources", prose=True), PARTS, DESCRIPTION)),
    Kind("service", "services", lambda store: store.list_feature_services(),
         lambda store, name: store.get_feature_service(name), _service, (Column("name"), PARTS, DESCRIPTION)),
    Kind("feature", "features", _features, _feature, dict, (Column("name"), Column("type"), DESCRIPTION)),
    Kind("training-set", "training-sets", lambda store: store.training_sets().to_dicts(),
         lambda store, name: store.training_set(name).to_dict(), dict,
         (Column("name"), Column("rows"), Column("created"), Column("features", prose=True, spare=True))),
)  # fmt: skip

DEFINED = KINDS[:5]


def show_list(context: CliContext, kind: Kind) -> None:
    records = [kind.record(thing) for thing in kind.all_of(context.store)]
    empty = "Nothing is applied yet: run `asof apply`." if kind in DEFINED else f"No {kind.many.replace('-', ' ')}."
    context.output.records(kind.many.replace("-", "_"), records, kind.columns, empty=empty)


def kind_named(name: str) -> Kind:
    for kind in KINDS:
        if name in (kind.one, kind.many, kind.one.replace("-", "_"), kind.many.replace("-", "_")):
            return kind
    names = [kind.many for kind in KINDS]
    near = nearest(name, [*names, *(kind.one for kind in KINDS)])
    raise misused(f"no kind {name!r}: {near or 'choose one of ' + ', '.join(names)}")
