"""Change the facts beside the applied definitions, whoever else commits at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asof.definitions import Snapshot
from asof.errors import RegistryConflict
from asof.flows.stores import Parts
from asof.timing import iso

_ATTEMPTS = 50


def change_facts(parts: Parts, change: Callable[[Mapping[str, Any]], Mapping[str, Any]], *, note: str) -> Snapshot:
    """Commit `change(facts)` over the newest snapshot; on a conflict, over the one that came between.

    Args:
        change: answers the topics that change, each whole.
    """
    for attempt in range(_ATTEMPTS):
        snapshot = parts.registry.load(parts.project)
        changed = snapshot.with_facts(**change(snapshot.facts))
        try:
            return parts.registry.commit(
                changed, expected=snapshot.version, who=parts.who, when=parts.clock(), note=note
            )
        except RegistryConflict:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def record_gap(parts: Parts, source: str, gap: str) -> None:
    """Keep for good that this was lost and accepted."""
    note = f"{iso(parts.clock())} {gap} accepted as lost"

    def with_gap(facts: Mapping[str, Any]) -> dict[str, Any]:
        gaps = dict(facts.get("gaps", {}))
        return {"gaps": {**gaps, source: [*gaps.get(source, []), note]}}

    change_facts(parts, with_gap, note=note)
