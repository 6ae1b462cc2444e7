"""From a snapshot and the repository's project to the plan."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from asof.definitions.base import Definition
from asof.definitions.identity import shown
from asof.definitions.logs import LogSource
from asof.definitions.on_demand import OnDemandFeatureView
from asof.definitions.project import KINDS, Project, Snapshot, state_hash
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
_PART = "part "
"""Begins the lines of what decides a function's value."""
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
        if not isinstance(old, OnDemandFeatureView) or new.code.differences(old.code):
            yield NewFunction(new.name, before, new.fingerprint)


def _remains(snapshot: Snapshot, old: Definition) -> Iterator[Change]:
    if isinstance(old, LogSource):
        yield KeepArchive(old.name)
    if isinstance(old, FeatureView) and old.online:
        yield DropGeneration(old.name, _shape_of(snapshot, old))


def _shape_of(snapshot: Snapshot, view: FeatureView) -> str:
    """What the view's online rows are the shape of: an earlier version of Asof may have built them."""
    current = snapshot.facts.generations_of(view.name).current
    if current is None or state_hash(view) == state_hash(view, earlier=True):
        return state_hash(view)
    return current.rpartition("-")[0]


def _lines(old: Definition | None, new: Definition) -> tuple[FieldChange, ...]:
    before, after = _flat(old) if old is not None else {}, _flat(new)
    # The text of a function would fill the page; NewFunction prints its fingerprint.
    for key in ("source_text", "transform.source_text"):
        if old is not None and before.get(key) != after.get(key):
            before[key], after[key] = "the code applied before", "other code"
        elif old is None and key in after:
            after[key] = "new code"
    _show_identity(before, after)
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


def _show_identity(before: dict[str, str], after: dict[str, str]) -> None:
    """What decides a function's value by its name, in place of digests."""
    old = {key for key in before if key.startswith(_PART)}
    new = {key for key in after if key.startswith(_PART)}
    if not (old and new):
        # A new function is said to be new; one of an earlier Asof was known by its text alone.
        for key in old:
            del before[key]
        for key in new:
            del after[key]
        if new and before:
            before["known by"], after["known by"] = "its text", "its text, and the constants and functions that it uses"
        return
    # That the function's own text is another one is said already.
    own = f"{_PART}function {after.get('function') or after.get('transform.function_name')}"
    for key in sorted(old | new):
        changed = before.pop(key, None), after.pop(key, None)
        if changed[0] != changed[1] and key != own:
            name = shown(key.removeprefix(_PART))
            before[name] = "as it was applied" if changed[0] else "not used"
            after[name] = "not used" if not changed[1] else "another one" if changed[0] else "used"


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
            identity = value if key == "identity" else value.get("identity", {}) if key == "transform" else {}
            flat |= {f"{_PART}{label}": each for label, each in identity.get("parts", {}).items()}
            flat |= {f"package {name}": each for name, each in identity.get("packages", {}).items()}
            if key != "identity":
                flat |= {f"{key}.{inner}": _text(each) for inner, each in value.items() if inner != "identity"}
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
