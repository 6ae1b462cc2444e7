"""`asof show`: one thing that is applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.features import source_columns, view_facts
from asof.cli.kinds import DESCRIPTION, PARTS, field_record, kind_named, show_list
from asof.cli.options import Command
from asof.cli.tables import Column
from asof.definitions import FeatureView, LogSource, OnDemandFeatureView
from asof.timing import iso, span_text

_FIRST = ("name", "rows", "created", "created_by", "reproducible", "why", "content_hash", "entity_frame", "features")
"""What people look for first in a training set's manifest."""

_UNTOLD = ("asof_version", "column_hashes", "frame_columns", "projections", "table")
"""What only programs want to know of a training set."""


@click.command(cls=Command)
@click.argument("kind")
@click.argument("name", required=False)
@pass_context
def show(context: CliContext, kind: str, name: str | None) -> None:
    """Show one thing that is applied.

    KIND is entity, source, view, on-demand-view, service, feature or training-set.

    \b
    asof show view user_traffic
    asof show feature user_traffic:views_1d
    asof show training-sets
    """
    found = kind_named(kind)
    if name is None:
        show_list(context, found)
        return
    thing = found.one_of(context.store, name)
    if isinstance(thing, Mapping):
        content = thing if context.output.form == "json" else _for_people(found.one, thing)
        context.output.details(found.one.replace("-", "_"), content)
        return
    where = {"defined_at": thing.where} if thing.where else {}
    more = view_facts(context.store, thing) if found.one == "view" else {}
    if context.output.form == "json":
        live: dict[str, Any] = {key: more[key] for key in ("freshness", "services") if key in more}
        if found.one == "view":
            live["source_columns"] = source_columns(context.store, thing)
        context.output.details(found.one.replace("-", "_"), {**thing.content(), **live, **where})
        return
    facts = {key: value for key, value in found.record(thing).items() if key != "features"}
    facts |= _history_of(thing)
    labels = {name: value for name in ("owner", "tags") if (value := getattr(thing, name, None))}
    context.output.details("", more or {**facts, **labels, **where})
    if hasattr(thing, "feature_names"):
        context.output.lines("", ["", "Features:"], None)
        _show_features(context, thing)
    elif found.one == "service":
        context.output.lines("", ["", "Features:"], None)
        parts = [
            {"view": part.name, "features": list(part.features or part.view.feature_names)} for part in thing.features
        ]
        context.output.records("", parts, (Column("view"), PARTS), empty="None.")
    elif found.one == "source" and thing.schema:
        context.output.lines("", ["", "Columns:"], None)
        fields = [{"name": field.name, **field_record(field)} for field in thing.schema]
        context.output.records("", fields, (Column("name"), Column("type"), DESCRIPTION), empty="None.")


def _show_features(context: CliContext, view: FeatureView | OnDemandFeatureView) -> None:
    fields = {field.name: field for field in view.features}
    made = {each.name: each for each in view.aggregations} if isinstance(view, FeatureView) else {}
    sources = source_columns(context.store, view) if isinstance(view, FeatureView) else {}
    records = [
        {"name": name, "aggregate": _aggregate(made.get(name)), "source_columns": sources.get(name),
         **field_record(fields.get(name))}
        for name in view.feature_names
    ]  # fmt: skip
    columns = (
        Column("name"), Column("type"), Column("aggregate", prose=True, spare=True),
        Column("source_columns", prose=True, spare=True), DESCRIPTION,
    )  # fmt: skip
    context.output.records("", records, columns, empty="None.")


def _aggregate(each: Any) -> str | None:
    if each is None:
        return None
    text = f"{each.function}({each.column or '*'})"
    if each.where:
        text += f" where {each.where}"
    if each.window is None:
        return f"{text}, all events"
    hop = f" by {span_text(each.window.hop)}" if hasattr(each.window, "hop") else ""
    return f"{text}, {each.window}{hop}"


def _history_of(thing: object) -> dict[str, Any]:
    """Of a source of a log: where its rows from before the log are, and since when the log counts."""
    if not isinstance(thing, LogSource) or thing.batch_source is None:
        return {}
    found = {"batch_source": f"{thing.batch_source.name} ({thing.batch_source.type})"}
    return found if thing.stream_from is None else {**found, "stream_from": iso(thing.stream_from)}


def _for_people(kind: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    if kind == "feature":
        return {key: value for key, value in manifest.items() if value is not None}
    first = {key: manifest[key] for key in _FIRST if key in manifest}
    return {**first, **{key: value for key, value in manifest.items() if key not in (*_FIRST, *_UNTOLD)}}
