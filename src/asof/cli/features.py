"""What `asof show` says of feature views and their features: how each is made, from which columns, for whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asof.catalog.descriptions import describe_feature
from asof.definitions import Aggregation, FeatureView, LogSource, OnDemandFeatureView, Sliding
from asof.errors import AsofError
from asof.lineage import columns_of_view, inputs_of_feature
from asof.timing import iso, micros, moment, span_text


def view_facts(store: Any, view: FeatureView) -> dict[str, Any]:
    """One feature view: where its rows come from, how old they may be, how fresh what is served is, and who uses it."""
    return {
        "name": view.name, "entities": [entity.name for entity in view.entities], "join_keys": list(view.join_keys),
        "source": f"{view.source.name} ({view.source.type})", "event_time": view.source.timestamp_field,
        "ttl": span_text(view.ttl) if view.ttl else None, **_boundary(view),
        "online": view.online, "freshness": _freshness(store, view), "services": _services(store, view.name),
        **_labels(view),
    }  # fmt: skip


def feature_facts(store: Any, view: FeatureView | OnDemandFeatureView, name: str) -> dict[str, Any]:
    """One feature: its type, how it is made of which source columns, and what its view says."""
    field = next((each for each in view.features if each.name == name), None)
    said: dict[str, Any] = {"name": f"{view.name}:{name}", "type": str(field.dtype) if field is not None else None}
    said |= {"meaning": " ".join(describe_feature(view, name))}
    if isinstance(view, OnDemandFeatureView):
        inputs = inputs_of_feature(view)
        said |= {"made_by": f"{view.function_name}, of {', '.join(each.name for each in view.sources)}"}
        said |= {"input_features": list(inputs.features), "request_values": list(inputs.request)}
        said |= {"services": _services(store, view.name, name), **_labels(view)}
    else:
        made = next((each for each in view.aggregations if each.name == name), None)
        said |= made_of(made) if made is not None else {}
        shown = view_facts(store, view)
        said |= {"source_columns": source_columns(store, view)[name], **shown, "name": said["name"]}
        said["services"] = _services(store, view.name, name)
    own = field.description if field is not None else ""
    return said | {
        "description": own or said["description"],
        **({"tags": field.tags} if field and field.tags else {}),
    }


def made_of(made: Aggregation) -> dict[str, Any]:
    """An aggregation, part by part."""
    window = made.window
    return {
        "aggregate": f"{made.function}({made.column or '*'})", "where": made.where or None,
        "window": "all events" if window is None else f"sliding {span_text(window.length)}"
        if isinstance(window, Sliding) else f"session gap {span_text(window.gap)}",
        "hop": span_text(window.hop) if isinstance(window, Sliding) else None,
    }  # fmt: skip


def source_columns(store: Any, view: FeatureView) -> dict[str, list[str]]:
    """Feature → the source's columns that its values are made of, without keys and times."""
    select = None
    if isinstance(view.source, LogSource) and view.source.transform is not None and view.source.transform.sql:
        # Only the engine can read the SQL of a transform; it is not loaded for anything else here.
        from asof.flows.stream.transforms import select_of
        from asof.store import open_store_of

        select = select_of(open_store_of(store).stores, view.source)
    return {name: list(columns.made_of) for name, columns in columns_of_view(view, select=select).items()}


def _boundary(view: FeatureView) -> dict[str, str]:
    return {"boundary": view.boundary} if view.aggregations else {}


def _labels(view: FeatureView | OnDemandFeatureView) -> dict[str, Any]:
    owner: Mapping[str, Any] = {"owner": view.owner} if view.owner else {}
    return {"description": view.description or None, **owner, **({"tags": view.tags} if view.tags else {}),
            "defined_at": view.where or None}  # fmt: skip


def _services(store: Any, view: str, feature: str | None = None) -> list[str]:
    """The services that have the view, or one of its features."""
    return [
        service.name
        for service in store.list_feature_services()
        if any(
            part.view.name == view and (feature is None or part.features is None or feature in part.features)
            for part in service.features
        )
    ]


def _freshness(store: Any, view: FeatureView) -> str | None:
    if not view.online:
        return None
    if not view.source.is_log:
        from asof.store import open_store_of

        facts = open_store_of(store).snapshot().facts
        current = facts.generations_of(view.name).current
        run = None if current is None else facts.last_run(view.name, current)
        started = None if run is None else run.started
        return f"last materialized {iso(started)}" if started is not None else "never materialized"
    try:
        found = store.stream_status(view.source.name)
    except AsofError as error:
        return f"unknown: {error.message}"
    times = [each.last_message for each in found if each.last_message is not None]
    newest = f"newest message {iso(micros(moment(micros(max(times)))))}" if times else "no message yet"
    return f"{newest}; {sum(each.lag for each in found):,} not archived"
