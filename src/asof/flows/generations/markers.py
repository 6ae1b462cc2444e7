"""Which generations the online store has lost: their marker is missing, which a finished build writes last.

A missing marker alone is no loss. Readers may have switched to another generation, or the rows may be from before there
were markers. So the registry and the masters are asked before anything is called lost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from asof.definitions import FeatureView, Snapshot
from asof.errors import OnlineRowsLost, StorageError, some
from asof.flows.generations.progress import progress_of
from asof.flows.stores import Stores, current_generation, table_of
from asof.online.protocol import OnlineTable


def lost_views(stores: Stores, snapshot: Snapshot | None = None) -> list[FeatureView]:
    """The applied views whose rows the online store has lost.

    It marks rows that are whole and have no marker, those from before there were markers, if it may write.

    Args:
        snapshot: what was applied when somebody looked last; the registry is read again before anything is called lost.

    Raises:
        RegistryError: the registry cannot be read.
        StorageError: the online store cannot be read.
    """
    snapshot = snapshot or stores.registry.load(stores.project)
    lost = lost_among(stores, current_tables(stores, snapshot), snapshot)
    while lost:
        # Where readers have switched since then, the tables of before are dropped.
        before, snapshot = lost, stores.registry.load(stores.project)
        lost = lost_among(stores, current_tables(stores, snapshot), snapshot)
        if set(lost) <= set(before):
            break
    return list(lost.values())


def lost_among(
    stores: Stores, tables: Mapping[OnlineTable, FeatureView], snapshot: Snapshot
) -> dict[OnlineTable, FeatureView]:
    """The tables whose rows are lost, or which are not those that readers use by a snapshot; see `lost_views`."""
    unmarked = stores.online.unmarked(list(tables))
    if not unmarked:
        return {}
    current = current_tables(stores, snapshot)
    return {
        table: tables[table]
        for table in unmarked
        if table not in current or not _mark_if_whole(stores, snapshot, table)
    }


def current_tables(stores: Stores, snapshot: Snapshot) -> dict[OnlineTable, FeatureView]:
    """The tables that readers use, and their views."""
    return {
        table_of(stores.project, view, generation): view
        for view in snapshot.project.views.values()
        if view.online and (generation := current_generation(snapshot, view))
    }


def rows_lost(views: Collection[FeatureView]) -> OnlineRowsLost:
    """The error of a read of views that are lost, with what brings them back."""
    streamed = [view.name for view in views if view.source.is_log]
    batch = [view.name for view in views if not view.source.is_log]
    steps = []
    if streamed:
        steps.append(
            f"`asof stream run` builds {some(streamed)} again, and so does `asof rebuild {' '.join(streamed)}`"
        )
    if batch:
        steps.append(f"run `asof materialize {' '.join(batch)}`")
    many = len(views) > 1
    return OnlineRowsLost(
        f"the online store has lost the rows of feature view{'s' if many else ''} "
        f"{some([view.name for view in views])}: it was emptied, replaced, or failed over to a server without them",
        hint="; ".join(steps),
    )


def lost_rows(stores: Stores, snapshot: Snapshot, view: FeatureView, generation: str) -> bool:
    """Whether the online store has lost a run, or rows written directly, that the registry has recorded."""
    table = table_of(stores.project, view, generation)
    run = snapshot.facts.last_run(view.name, generation)
    if run is None or run.started is None:
        return _has_lost_written(stores, snapshot, table)
    known = progress_of(stores.online, table).materialized
    return known is None or known < run.started


def _has_lost_written(stores: Stores, snapshot: Snapshot, table: OnlineTable) -> bool:
    """Whether a generation that rows were written to directly is gone: its table says when it was made."""
    if snapshot.facts.generations_of(table.view).written != table.generation:
        return False
    return not progress_of(stores.online, table).is_built


def _mark_if_whole(stores: Stores, snapshot: Snapshot, table: OnlineTable) -> bool:
    """Whether what a build has written into the store, by the registry and every master, is there."""
    run = snapshot.facts.last_run(table.view, table.generation)
    progress = progress_of(stores.online, table)
    if snapshot.project.views[table.view].source.is_log:
        is_whole = progress.is_built
    elif run is None or run.started is None:
        # It was never materialized: what can be lost are rows that were written directly.
        is_whole = not _has_lost_written(stores, snapshot, table)
    else:
        is_whole = progress.materialized is not None and progress.materialized >= run.started
    if is_whole:
        try:
            stores.online.mark(table)
        except StorageError:
            pass  # there is no table yet, or this process may only read: then the next one that writes marks it
    return is_whole


__all__ = ["current_tables", "lost_among", "lost_rows", "lost_views", "rows_lost"]
