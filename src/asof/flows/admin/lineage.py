"""The lineage of all that is applied."""

from __future__ import annotations

from asof.definitions import LogSource, Snapshot
from asof.errors import AsofError
from asof.flows.stores import Stores
from asof.flows.stream.transforms import select_of
from asof.lineage import LineageGraph
from asof.sql.row_select import RowSelect


def lineage_of(stores: Stores, snapshot: Snapshot) -> LineageGraph:
    """The lineage of a snapshot; the engine reads the SQL of transforms."""
    selects = {
        source.name: select
        for source in snapshot.project.sources.values()
        if isinstance(source, LogSource) and (select := _select(stores, source)) is not None
    }
    return LineageGraph(snapshot.project, snapshot.facts.training_sets, selects)


def _select(stores: Stores, source: LogSource) -> RowSelect | None:
    try:
        return select_of(stores, source)
    except AsofError:
        # Without the engine, or its consent, each column of a message may matter: more than needed, never less.
        return None


__all__ = ["lineage_of"]
