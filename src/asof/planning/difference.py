"""From a snapshot and the repository's project to the plan, and the plan as text for people."""

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

_DURATIONS = ("ttl", "delay", "lookback", "lag", "allowed_lateness", "max_future")


def diff(snapshot: Snapshot, project: Project) -> Plan:
    """What makes the registry, and what hangs on it, as the project says.

    New and changed definitions come first, each after what it names and followed by what it means for archives and
    online rows; then what goes, in the opposite order. Places (`file:line`) are no difference.

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


def describe(plan: Plan) -> list[str]:
    """The plan and its findings as lines of text."""
    lines = []
    for change in plan.changes:
        match change:
            case Create(kind, name):
                lines.append(f"+ {kind} {name!r}")
            case Update(kind, name, fields):
                lines += [f"~ {kind} {name!r}", *(f"    {each}" for each in fields)]
            case Delete(kind, name):
                lines.append(f"- {kind} {name!r}")
            case CreateArchive():
                lines.append("    its events are archived from now on")
            case KeepArchive():
                lines.append("    its archive stays; `asof teardown --purge` deletes archives")
            case NewGeneration(_, None, after):
                lines.append(f"    its online rows are built (generation {after})")
            case NewGeneration(_, before, after):
                lines.append(
                    f"    its online rows are built anew (generation {before} → {after}); the old ones serve meanwhile"
                )
            case DropGeneration(_, before):
                lines.append(f"    its online rows are dropped (generation {before})")
            case NewFunction(_, before, after):
                lines.append(f"    its function is {'new' if before is None else f'changed ({before} → {after})'}")
    if plan.is_empty:
        lines.append("nothing to change")
    return [*lines, *(f"{finding.severity}: {finding}" for finding in plan.findings)]


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
    # The text of a function would fill the page; its fingerprint is told by NewFunction.
    if old is not None and before.get("source_text") != after.get("source_text"):
        before["source_text"], after["source_text"] = "the code applied before", "other code"
    elif old is None and "source_text" in after:
        after["source_text"] = "new code"
    return tuple(
        FieldChange(key, before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    )


def _flat(each: Definition) -> dict[str, str]:
    """A definition's content as one text per line that a reader would call a thing of its own."""
    # Through JSON, so that what was read from a registry compares with what was just written.
    content = json.loads(json.dumps(each.content(), sort_keys=True))
    flat: dict[str, str] = {}
    for key, value in content.items():
        if key in ("schema", "aggregations"):
            flat[f"{key} order"] = ", ".join(item["name"] for item in value)
            flat |= {f"{key}.{item['name']}": _item(key, item) for item in value}
        elif isinstance(value, dict) and key != "batch_source":
            flat |= {f"{key}.{inner}": _text(each) for inner, each in value.items()}
        elif key != "name":
            flat[key] = span_text(value) if key in _DURATIONS else _text(value)
    return flat


def _item(key: str, item: Mapping[str, Any]) -> str:
    if key == "schema":
        text = str(item["dtype"])
    else:
        text = f"{item['function']}({item.get('column', '*')})"
        text += f" where {item['where']}" if "where" in item else ""
        text += f" over {_window(item)}"
        text += f" as {item['dtype']}" if "dtype" in item else ""
    extras = {name: item[name] for name in ("n", "default", "description", "tags") if name in item}
    return text + "".join(f", {name} {_text(value)}" for name, value in extras.items())


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
