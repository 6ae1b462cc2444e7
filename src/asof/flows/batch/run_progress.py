"""Progress of one run over many views, committed for several of them at a time.

Each commit writes the whole snapshot, so that a commit per view would cost the square of their number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from asof.definitions import Snapshot
from asof.definitions.facts import Facts
from asof.display import counted
from asof.errors import RegistryConflict
from asof.flows.facts import change_facts
from asof.flows.generations.switch import drop_generations
from asof.flows.stores import Stores
from asof.online.protocol import OnlineTable

COMMITS = 8
"""How many commits a run over many views makes, but for slow ones."""

COMMIT_EVERY_S = 30.0
"""A slow run commits more often, so that an interrupted one repeats little."""


class ViewProgress(NamedTuple):
    """What a run has done for one view.

    Args:
        rows: written.
        change: records it.
        built: the table that readers switch to with it; dropped if they do not.
    """

    view: str
    rows: int
    change: Callable[[Facts], Facts]
    built: OnlineTable | None = None


class RunProgress:
    """Collects the progress of views, and commits it.

    Args:
        snapshot: as the run found it.
        views: how many the run is about.
    """

    def __init__(self, stores: Stores, snapshot: Snapshot, *, views: int) -> None:
        self.group = max(1, -(-views // COMMITS))
        self._stores = stores
        self._snapshot = self._cleaned = snapshot
        self._pending: list[ViewProgress] = []
        self._committed_at = time.monotonic()

    def snapshot(self) -> Snapshot:
        """The newest snapshot; it is read again if another process has changed it."""
        if self._stores.registry.version(self._stores.project) != self._snapshot.version:
            self._snapshot = self._stores.registry.load(self._stores.project)
        return self._snapshot

    def record(self, done: ViewProgress) -> None:
        """Record a view's progress, now or together with that of the next ones.

        Raises:
            RegistryConflict: readers did not switch to a built table, because the view changed, or another build
                of it started.
        """
        self._pending.append(done)
        if len(self._pending) >= self.group or time.monotonic() - self._committed_at > COMMIT_EVERY_S:
            self.commit()

    def commit(self) -> None:
        """Commit what is recorded, and drop the tables that readers have left.

        Raises:
            RegistryConflict: as `record` does; the progress of the other views is committed.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        refused: dict[str, RegistryConflict] = {}

        def all_of_them(facts: Facts) -> Facts:
            refused.clear()
            for each in pending:
                try:
                    facts = each.change(facts)
                except RegistryConflict as error:
                    refused[each.view] = error
            return facts

        built = {each.view: each.built for each in pending if each.built is not None}
        try:
            after = change_facts(self._stores, all_of_them, note=_note(pending))
        except BaseException:
            self._drop(built.values())
            raise
        self._snapshot, self._committed_at = after, time.monotonic()
        if built:
            self._drop(table for view, table in built.items() if view in refused)
            # Also those that an earlier run announced and did not finish.
            drop_generations(self._stores, self._cleaned, after)
            self._cleaned = after
        if refused:
            raise next(iter(refused.values()))

    def _drop(self, tables: Iterable[OnlineTable]) -> None:
        for table in tables:
            self._stores.online.drop(table)


def _note(done: list[ViewProgress]) -> str:
    what = done[0].view if len(done) == 1 else counted(len(done), "feature view")
    rows = sum(each.rows for each in done)
    return f"materialized {what}: {counted(rows, 'row')}"


__all__ = ["RunProgress", "ViewProgress"]
