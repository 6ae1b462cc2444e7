"""`asof list | show`: what is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command, misused
from asof.cli.tables import Column
from asof.errors import nearest
from asof.timing import span_text


@dataclass(frozen=True)
class Kind:
    """One kind of thing that can be listed and shown.

    Args:
        one, many: the words of the command line.
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
            features.append({"name": f"{view.name}:{name}", **_field(fields.get(name))})
    return features


def _field(field: Any) -> dict[str, Any]:
    if field is None:
        return {"type": None, "description": None}
    return {"type": str(field.dtype), "description": field.description or None}


def _feature(store: Any, name: str) -> dict[str, Any]:
    from asof.errors import UnknownFeature

    known = {each["name"]: each for each in _features(store)}
    if name not in known:
        raise UnknownFeature(name, known)
    return known[name]


_TEXT = Column("description", prose=True, spare=True)
_PARTS = Column("features", prose=True)

KINDS = (
    Kind("entity", "entities", lambda store: store.list_entities(), lambda store, name: store.get_entity(name),
         _entity, (Column("name"), Column("join_keys"), _TEXT)),
    Kind("source", "sources", lambda store: store.list_sources(), lambda store, name: store.get_source(name),
         _source, (Column("name"), Column("type"), Column("event_time"), Column("place", prose=True), _TEXT)),
    Kind("view", "views", lambda store: store.list_feature_views(), lambda store, name: store.get_feature_view(name),
         _view, (Column("name"), Column("entities"), Column("source"), _PARTS, Column("ttl", spare=True), _TEXT)),
    Kind("on-demand-view", "on-demand-views", lambda store: store.list_on_demand_feature_views(),
         lambda store, name: store.get_on_demand_feature_view(name),
         _on_demand, (Column("name"), Column("mode"), Column("sources", prose=True), _PARTS, _TEXT)),
    Kind("service", "services", lambda store: store.list_feature_services(),
         lambda store, name: store.get_feature_service(name), _service, (Column("name"), _PARTS, _TEXT)),
    Kind("feature", "features", _features, _feature, dict, (Column("name"), Column("type"), _TEXT)),
    Kind("training-set", "training-sets", lambda store: store.training_sets().to_dicts(),
         lambda store, name: store.training_set(name), dict,
         (Column("name"), Column("rows"), Column("created"), Column("features", prose=True, spare=True))),
)  # fmt: skip

_DEFINED = KINDS[:5]

_FIRST = ("name", "rows", "created", "created_by", "reproducible", "why", "content_hash", "entity_frame", "features")
"""What people look for first in a training set's manifest."""

_UNTOLD = ("asof_version", "column_hashes", "frame_columns", "projections", "table")
"""What only programs want to know of a training set."""


@click.command("list", cls=Command)
@click.argument("kind", required=False, metavar="[KIND]")
@pass_context
def list_objects(context: CliContext, kind: str | None) -> None:
    """List what is applied.

    All of it, or one KIND: entities, sources, views, on-demand-views, services, features, training-sets.
    """
    if kind is not None:
        _list(context, _kind_named(kind))
        return
    records = [
        {"kind": each.one, "name": thing.name, "description": thing.description or None}
        for each in _DEFINED
        for thing in each.all_of(context.store)
    ]
    columns = (Column("kind"), Column("name"), _TEXT)
    context.output.records("objects", records, columns, empty="Nothing is applied yet: run `asof apply`.")


@click.command(cls=Command)
@click.argument("kind")
@click.argument("name", required=False)
@pass_context
def show(context: CliContext, kind: str, name: str | None) -> None:
    """Show one thing that is applied.

    KIND is entity, source, view, on-demand-view, service, feature or training-set.

    \b
    asof show view user_traffic
    asof show training-sets
    """
    found = _kind_named(kind)
    if name is None:
        _list(context, found)
        return
    thing = found.one_of(context.store, name)
    if isinstance(thing, Mapping):
        content = thing if context.output.form == "json" else _for_people(thing)
        context.output.details(found.one.replace("-", "_"), content)
        return
    where = {"defined_at": thing.where} if thing.where else {}
    if context.output.form == "json":
        context.output.details(found.one.replace("-", "_"), {**thing.content(), **where})
        return
    facts = {key: value for key, value in found.record(thing).items() if key != "features"}
    context.output.details("", {**facts, **where, **({"tags": thing.tags} if thing.tags else {})})
    if hasattr(thing, "feature_names"):
        context.output.lines("", ["", "Features:"], None)
        _show_features(context, thing)
    elif found.one == "service":
        context.output.lines("", ["", "Features:"], None)
        parts = [
            {"view": part.name, "features": list(part.features or part.view.feature_names)} for part in thing.features
        ]
        context.output.records("", parts, (Column("view"), _PARTS), empty="None.")
    elif found.one == "source" and thing.schema:
        context.output.lines("", ["", "Columns:"], None)
        fields = [{"name": field.name, **_field(field)} for field in thing.schema]
        context.output.records("", fields, (Column("name"), Column("type"), _TEXT), empty="None.")


def _show_features(context: CliContext, view: Any) -> None:
    fields = {field.name: field for field in view.features}
    made = {each.name: each for each in getattr(view, "aggregations", ())}
    records = [
        {"name": name, "aggregate": _aggregate(made.get(name)), **_field(fields.get(name))}
        for name in view.feature_names
    ]
    columns = (Column("name"), Column("type"), Column("aggregate", prose=True, spare=True), _TEXT)
    context.output.records("", records, columns, empty="None.")


def _aggregate(each: Any) -> str | None:
    if each is None:
        return None
    text = f"{each.function}({each.column or '*'})"
    if each.where:
        text += f" where {each.where}"
    return f"{text}, {each.window}" if each.window is not None else f"{text}, all events"


def _for_people(manifest: Mapping[str, Any]) -> dict[str, Any]:
    first = {key: manifest[key] for key in _FIRST if key in manifest}
    return {**first, **{key: value for key, value in manifest.items() if key not in (*_FIRST, *_UNTOLD)}}


def _list(context: CliContext, kind: Kind) -> None:
    records = [kind.record(thing) for thing in kind.all_of(context.store)]
    empty = "Nothing is applied yet: run `asof apply`." if kind in _DEFINED else f"No {kind.many.replace('-', ' ')}."
    context.output.records(kind.many.replace("-", "_"), records, kind.columns, empty=empty)


def _kind_named(word: str) -> Kind:
    for kind in KINDS:
        if word in (kind.one, kind.many, kind.one.replace("-", "_"), kind.many.replace("-", "_")):
            return kind
    words = [kind.many for kind in KINDS]
    near = nearest(word, [*words, *(kind.one for kind in KINDS)])
    raise misused(f"no kind {word!r}: {near or 'choose one of ' + ', '.join(words)}")
