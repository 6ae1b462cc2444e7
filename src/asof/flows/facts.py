"""Change the registry's facts, with a retry if another process commits at the same time."""

from __future__ import annotations

from collections.abc import Callable

from asof.definitions import Snapshot
from asof.definitions.facts import Facts
from asof.errors import RegistryConflict
from asof.flows.stores import Parts
from asof.timing import iso

_ATTEMPTS = 50


def commit_change(parts: Parts, change: Callable[[Snapshot], Snapshot], *, note: str) -> Snapshot:
    """Commit `change(snapshot)` on the newest snapshot; retried on a conflict.

    Raises:
        RegistryConflict: raised by `change`, or there were conflicts at all attempts.
    """
    for attempt in range(_ATTEMPTS):
        snapshot = parts.registry.load(parts.project)
        changed = change(snapshot)
        try:
            return parts.registry.commit(
                changed, expected=snapshot.version, who=parts.who, when=parts.clock(), note=note
            )
        except RegistryConflict:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def change_facts(parts: Parts, change: Callable[[Facts], Facts], *, note: str) -> Snapshot:
    """Commit the newest facts as `change` returns them; see `commit_change`."""
    return commit_change(parts, lambda snapshot: snapshot.with_facts(change(snapshot.facts)), note=note)


def record_gap(parts: Parts, source: str, gap: str) -> None:
    """Record permanently that a loss of messages was accepted."""
    note = f"{iso(parts.clock())} {gap} accepted as lost"
    change_facts(parts, lambda facts: facts.with_gap(source, note), note=note)
