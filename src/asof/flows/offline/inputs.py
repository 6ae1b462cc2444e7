"""Inputs of historical reads and of runs over a source: archives, and rows of source readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from asof.definitions import FileSource, LogSource, Snapshot, Source
from asof.errors import EntityFrameError, SourceError, nearest, some
from asof.flows.stores import Stores
from asof.planning import users_of, with_declared_types
from asof.planning.declared import SourceUser
from asof.sources.protocol import Input, ScanRequest
from asof.sql.query import PointInTime, columns_of


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
    inputs: dict[str, Any] = {}
    for name, source in sources.items():
        # A text may ask for any column; what a query asks for is known.
        columns = () if isinstance(spine, str) else sorted(columns_of(query, name))
        inputs[name] = rows_of(stores, source, users_of(snapshot.project, name), columns=columns)
    return inputs


def rows_of(
    stores: Stores,
    source: Source,
    users: Iterable[SourceUser] = (),
    *,
    columns: Sequence[str] = (),
    version: int | None = None,
    need: ScanRequest | None = None,
) -> Input | None:
    """A source's history: the archive of a log source, else the rows of its reader.

    Args:
        users: what declares types of its columns.
        columns: all of them that will be asked for, where that is known, by their names in the source.
        need: all that will be asked of it, where that is known; there may be more.
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
    source = with_declared_types(source, users)
    if isinstance(source, FileSource):
        need = replace(need or ScanRequest(), columns=tuple(columns))
    return reader.scan(source, need or ScanRequest())
