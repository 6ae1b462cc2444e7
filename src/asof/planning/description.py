"""A plan as text for people: each change once, and findings of one kind together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from asof.planning.changes import (
    Change,
    Create,
    CreateArchive,
    Delete,
    DropGeneration,
    Finding,
    KeepArchive,
    NewFunction,
    NewGeneration,
    Plan,
    Update,
)

_NAME = re.compile(r"'[^']*'")
_SAID_BY_NEW_FUNCTION = ("source_text",)


def describe(plan: Plan) -> list[str]:
    """The plan and its findings as lines of text."""
    lines = [line for change in plan.changes for line in _change(change)] or ["nothing to change"]
    kinds: dict[tuple[str, ...], list[Finding]] = {}
    for finding in plan.findings:
        kinds.setdefault(_kind(finding), []).append(finding)
    return [*lines, *(line for alike in kinds.values() for line in _findings(alike))]


def _change(change: Change) -> Iterator[str]:
    match change:
        case Create(kind, name):
            yield f"+ {kind} {name!r}"
        case Update(kind, name, fields):
            yield f"~ {kind} {name!r}"
            skipped = _SAID_BY_NEW_FUNCTION if kind == "on-demand feature view" else ()
            yield from (f"    {each}" for each in fields if each.field not in skipped)
        case Delete(kind, name):
            yield f"- {kind} {name!r}"
        case CreateArchive():
            yield "    its events are archived from now on"
        case KeepArchive():
            yield "    its archive stays; `asof teardown --purge` deletes archives"
        case NewGeneration(_, None, after):
            yield f"    its online rows are built (generation {after})"
        case NewGeneration(_, before, after):
            yield f"    its online rows are rebuilt (generation {before} → {after}); the old ones serve until then"
        case DropGeneration(_, before):
            yield f"    its online rows are dropped (generation {before})"
        case NewFunction(_, before, after):
            yield f"    its function is {'new' if before is None else f'changed ({before} → {after})'}"


def _kind(finding: Finding) -> tuple[str, ...]:
    """What findings have in common that say the same of several objects; each error is a kind of its own."""
    if finding.severity == "error":
        return (str(finding),)
    texts = (finding.object, finding.expected, finding.found, finding.hint)
    return (finding.severity, *(_NAME.sub("''", text) for text in texts))


def _findings(alike: Sequence[Finding]) -> list[str]:
    first = alike[0]
    if len(alike) == 1:
        return [f"{first.severity}: {first}"]
    names = [_NAME.findall(_said(each)) for each in alike]
    # What differs between them is left out of the sentence, and stands in the line of each.
    differ = [len({each[i] for each in names}) > 1 for i in range(len(names[0]))]
    left_out = iter(differ)
    said = _NAME.sub(lambda name: "…" if next(left_out) else name.group(), _said(first))
    kind, _, _ = first.object.partition(" '")
    lines = [f"{first.severity}: {len(alike)} {kind}s: {said}"]
    for each, named in zip(alike, names, strict=True):
        own = [name for i, name in enumerate(named) if differ[i]]
        name = "".join(_NAME.findall(each.object)) or each.object
        place = f"{each.where}: " if each.where else ""
        lines.append(f"    {place}{name}" + (f" ({', '.join(own)})" if own else ""))
    return lines


def _said(finding: Finding) -> str:
    return str(Finding(finding.severity, "", "", finding.expected, finding.found, finding.hint)).removeprefix(": ")
