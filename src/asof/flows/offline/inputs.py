"""The rows that a historical read, or a run over a source, is computed from: archives, and what readers find."""

from __future__ import annotations

from typing import Any

from asof.definitions import LogSource, Snapshot, Source
from asof.errors import EntityFrameError, SourceError, nearest
from asof.flows.stores import Parts
from asof.sources.protocol import Input, ScanRequest
from asof.sql.query import PointInTime


def inputs_of(parts: Parts, snapshot: Snapshot, query: PointInTime, spine: Any) -> dict[str, Any]:
    """The rows of every source that the read touches, by the source's name."""
    sources = {read.view.source.name: read.view.source for read in query.reads}
    if isinstance(spine, str):
        known = snapshot.project.sources
        for name in sorted(parts.offline.tables_in(spine)):
            if name not in known:
                raise EntityFrameError(
                    f"the SQL entity frame names {name!r}, which is not an applied source",
                    hint=nearest(name, known) or f"the sources are {sorted(known)}",
                )
            sources[name] = known[name]
    return {name: rows_of(parts, source) for name, source in sources.items()}


def rows_of(
    parts: Parts, source: Source, *, version: int | None = None, need: ScanRequest | None = None
) -> Input | None:
    """A source's history: its archive, if a log feeds it, else what its reader finds.

    Args:
        need: all that will be asked of it, where that is known; there may be more.
    """
    if isinstance(source, LogSource):
        return parts.offline.rows(parts.archive_of(source), version=version)
    reader = parts.readers.get(source.type)
    if reader is None:
        raise SourceError(
            f"source {source.name!r}: no reader for sources of type {source.type!r} is installed",
            hint=f"there are readers for {sorted(parts.readers)}",
            where=source.where,
        )
    return reader.scan(source, need or ScanRequest())
