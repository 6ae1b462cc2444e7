"""From a snapshot and the repository's project to the plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from asof.definitions.base import Definition
from asof.definitions.logs import LogSource
from asof.definitions.on_demand import OnDemandFeatureView
from asof.definitions.project import KINDS, Project, Snapshot, is_ordered_by_arrival, state_hash
from asof.definitions.views import FeatureView
from asof.planning.changes import (
    Change,
    Create,
    CreateArchive,
    Delete,
    DropGeneration,
    FieldChange,
    KeepArchive,
    NewFunction,
    NewGeneration,
    Plan,
    Update,
)
from asof.timing import span_text

_LISTS = ("schema", "aggregations", "features", "sources")
"""What definitions have several of, each with a name: a line each."""
_DURATIONS = ("ttl", "delay", "lookback", "lag", "allowed_lateness", "max_future")


def diff(snapshot: Snapshot, project: Project) -> Plan:
    """The plan that brings the registry, archives and online rows to the project's state.

    New and changed definitions come first, each after those that it names and followed by its consequences for archives
    and online rows; then removed ones, in reverse order. `file:line` is not compared.

    Args:
        project: resolved, so that every type is known (`checks.resolve`).
    """
    changes: list[Change] = []
    for kind in KINDS:
        before, after = getattr(snapshot.project, kind), getattr(project, kind)
        for name, new in after.items():
            old = before.get(name)
            lines = _lines(old, new)
            if old is None:
                changes.append(Create(new.kind, name, lines))
            elif lines:
                changes.append(Update(new.kind, name, lines))
            changes += _consequences(snapshot, old, new)
    for kind in reversed(KINDS):
        before, after = getattr(snapshot.project, kind), getattr(project, kind)
        for name, old in before.items():
            if name not in after:
                changes.append(Delete(old.kind, name))
                changes += _remains(snapshot, old)
    return Plan(snapshot.name, snapshot.version, project, tuple(changes))


def _consequences(snapshot: Snapshot, old: Definition | None, new: Definition) -> Iterator[Change]:
    if isinstance(new, LogSource) and not isinstance(old, LogSource):
        yield CreateArchive(new.name)
    elif isinstance(old, LogSource) and not isinstance(new, LogSource):
        yield KeepArchive(new.name)
    if isinstance(new, FeatureView):
        before = _shape_of(snapshot, old) if isinstance(old, FeatureView) and old.online else None
        if not new.online:
            if before:
                yield DropGeneration(new.name, before)
        elif (after := state_hash(new)) != before:
            yield NewGeneration(new.name, before, after)
    if isinstance(new, OnDemandFeatureView):
        before = old.fingerprint if isinstance(old, OnDemandFeatureView) else None
        if new.fingerprint != before:
            yield NewFunction(new.name, before, new.fingerprint)


def _remains(snapshot: Snapshot, old: Definition) -> Iterator[Change]:
    if isinstance(old, LogSource):
        yield KeepArchive(old.name)
    if isinstance(old, FeatureView) and old.online:
        yield DropGeneration(old.name, _shape_of(snapshot, old))


def _shape_of(snapshot: Snapshot, view: FeatureView) -> str:
    """What the view's online rows are the shape of: an earlier version of Asof may have built them."""
    current = snapshot.facts.generations_of(view.name).current
    if current is None or not is_ordered_by_arrival(view):
        return state_hash(view)
    return current.rpartition("-")[0]


def _lines(old: Definition | None, new: Definition) -> tuple[FieldChange, ...]:
    before, after = _flat(old) if old is not None else {}, _flat(new)
    # The text of a function would fill the page; NewFunction prints its fingerprint.
    if old is not None and before.get("source_text") != after.get("source_text"):
        before["source_text"], after["source_text"] = "the code applied before", "other code"
    elif old is None and "source_text" in after:
        after["source_text"] = "new code"
    for key in _LISTS:
        if _is_same_order(before.get(f"{key} order"), after.get(f"{key} order")):
            # What comes and what goes has lines of its own.
            before.pop(f"{key} order")
            after.pop(f"{key} order")
    return tuple(
        FieldChange(key, before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    )


def _is_same_order(before: str | None, after: str | None) -> bool:
    """Whether the items in both are in the same order."""
    if before is None or after is None:
        return False
    old, new = before.split(", "), after.split(", ")
    return [each for each in old if each in new] == [each for each in new if each in old]


def _flat(each: Definition) -> dict[str, str]:
    """A definition's content as one text per line to compare: a field, an aggregation, a setting."""
    # Through JSON, so that what was read from a registry compares with what was just written.
    content = json.loads(json.dumps(each.content(), sort_keys=True))
    flat: dict[str, str] = {}
    for key, value in content.items():
        if key in _LISTS:
            names = [_item_name(item) for item in value]
            flat[f"{key} order"] = ", ".join(names)
            for name, item in zip(names, value, strict=True):
                # A service may name a view twice, for features that do not stand together.
                known = flat.get(f"{key}.{name}")
                flat[f"{key}.{name}"] = f"{known}; {_item(key, item)}" if known else _item(key, item)
        elif isinstance(value, dict) and key != "batch_source":
            flat |= {f"{key}.{inner}": _text(each) for inner, each in value.items()}
        elif key != "name":
            flat[key] = span_text(value) if key in _DURATIONS else _text(value)
    return flat


def _item_name(item: Mapping[str, Any]) -> str:
    return str(next(item[each] for each in ("name", "alias", "view", "request") if each in item))


def _item(key: str, item: Mapping[str, Any]) -> str:
    if "view" in item:
        return _projection(item)
    if "request" in item:
        return "request values"
    if key == "schema":
        text = str(item["dtype"])
    else:
        text = f"{item['function']}({item.get('column', '*')})"
        text += f" where {item['where']}" if "where" in item else ""
        text += f" over {_window(item)}"
        text += f" as {item['dtype']}" if "dtype" in item else ""
    extras = {name: item[name] for name in ("n", "default", "description", "tags") if name in item}
    return text + "".join(f", {name} {_text(value)}" for name, value in extras.items())


def _projection(item: Mapping[str, Any]) -> str:
    text = ", ".join(item["features"]) if "features" in item else "all features"
    text += f" of {item['view']}" if "alias" in item else ""
    keys = item.get("join_key_map", {})
    return text + "".join(f", {own} from {other}" for own, other in keys.items())


def _window(item: Mapping[str, Any]) -> str:
    if "sliding" in item:
        length, hop = item["sliding"]
        return f"sliding {span_text(length)} by {span_text(hop)}"
    return f"session gap {span_text(item['session'])}" if "session" in item else "all events"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, sort_keys=True)
