"""Change the registry's facts, with a retry if another process commits at the same time."""

from __future__ import annotations

from collections.abc import Callable

from asof.definitions import Snapshot
from asof.definitions.facts import Facts
from asof.errors import RegistryConflict
from asof.flows.stores import Stores
from asof.timing import iso

_ATTEMPTS = 50


def commit_change(stores: Stores, change: Callable[[Snapshot], Snapshot], *, note: str) -> Snapshot:
    """Commit `change(snapshot)` on the newest snapshot; retried on a conflict.

    Raises:
        RegistryConflict: raised by `change`, or there were conflicts at all attempts.
    """
    for attempt in range(_ATTEMPTS):
        snapshot = stores.registry.load(stores.project)
        changed = change(snapshot)
        try:
            return stores.registry.commit(
                changed, expected=snapshot.version, who=stores.who, when=stores.clock(), note=note
            )
        except RegistryConflict:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def change_facts(stores: Stores, change: Callable[[Facts], Facts], *, note: str) -> Snapshot:
    """Commit the newest facts as `change` returns them; see `commit_change`."""
    return commit_change(stores, lambda snapshot: snapshot.with_facts(change(snapshot.facts)), note=note)


def record_gap(stores: Stores, source: str, gap: str) -> None:
    """Record permanently that a loss of messages was accepted."""
    note = f"{iso(stores.clock())} {gap} accepted as lost"
    change_facts(stores, lambda facts: facts.with_gap(source, note), note=note)
