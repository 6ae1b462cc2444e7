"""Inputs of historical reads and of runs over a source: archives, and rows of source readers."""

from __future__ import annotations

from typing import Any

from asof.definitions import LogSource, Snapshot, Source
from asof.errors import EntityFrameError, SourceError, nearest, some
from asof.flows.stores import Stores
from asof.sources.protocol import Input, ScanRequest
from asof.sql.query import PointInTime


def inputs_of(stores: Stores, snapshot: Snapshot, query: PointInTime, spine: Any) -> dict[str, Any]:
    """Source name → its rows, for every source of the read."""
    sources = {read.view.source.name: read.view.source for read in query.reads}
    if isinstance(spine, str):
        known = snapshot.project.sources
        for name in sorted(stores.offline.tables_in(spine)):
            if name not in known:
                raise EntityFrameError(
                    f"the SQL entity frame reads {name!r}, which is not an applied source",
                    hint=nearest(name, known) or f"applied sources: {some(sorted(known))}",
                )
            sources[name] = known[name]
    return {name: rows_of(stores, source) for name, source in sources.items()}


def rows_of(
    stores: Stores, source: Source, *, version: int | None = None, need: ScanRequest | None = None
) -> Input | None:
    """A source's history: the archive of a log source, else the rows of its reader.

    Args:
        need: columns and rows that will be read, if known; the result may have more.
    """
    if isinstance(source, LogSource):
        return stores.offline.rows(stores.archive_of(source), version=version)
    reader = stores.readers.get(source.type)
    if reader is None:
        raise SourceError(
            f"source {source.name!r}: no reader for sources of type {source.type!r} is installed",
            hint=f"installed readers: {some(sorted(stores.readers))}",
            where=source.where,
        )
    return reader.scan(source, need or ScanRequest())
