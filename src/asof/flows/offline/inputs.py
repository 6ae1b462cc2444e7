"""Inputs of historical reads and of runs over a source: archives, and rows of source readers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from asof.definitions import FileSource, LogSource, Snapshot, Source
from asof.dtypes import from_arrow
from asof.errors import EntityFrameError, SourceError, nearest, some
from asof.flows.stores import Stores
from asof.offline.pruning import rows_needed
from asof.planning import users_of, with_declared_types
from asof.planning.declared import SourceUser
from asof.planning.drift import Drift, drift, drift_error
from asof.sources.protocol import Files, Input, Relation, ScanRequest, SourceColumn, is_ordered
from asof.sql.query import PointInTime, columns_of, lenient_columns_of


def inputs_of(stores: Stores, snapshot: Snapshot, query: PointInTime, spine: Any) -> dict[str, Any]:
    """Source name → its rows, for every source of the read."""
    sources = {read.view.source.name: read.view.source for read in query.reads}
    if isinstance(spine, str):
        known = snapshot.project.sources
        for name in sorted(stores.offline.tables_in(spine)):
            if name not in known and stores.offline.frames_read_anything:
                continue
            if name not in known:
                raise EntityFrameError(
                    f"the SQL entity frame reads {name!r}, which is not an applied source",
                    hint=nearest(name, known) or f"applied sources: {some(sorted(known))}",
                )
            sources[name] = known[name]
    inputs: dict[str, Any] = {}
    for name, source in sources.items():
        touched = columns_of(query, name)
        inputs[name] = rows_of(
            stores, source, users_of(snapshot.project, name), read=touched, ordering=lenient_columns_of(query, name),
            # A text may ask for any column; what a query asks for is known.
            columns=() if isinstance(spine, str) else sorted(touched),
        )  # fmt: skip
    return inputs


def rows_of(
    stores: Stores,
    source: Source,
    users: Iterable[SourceUser] = (),
    *,
    columns: Sequence[str] = (),
    read: Collection[str] | None = None,
    ordering: Collection[str] = (),
    version: int | None = None,
    need: ScanRequest | None = None,
) -> Input | None:
    """A source's history: the archive of a log source, else the rows of its reader.

    Args:
        users: what declares types of its columns.
        columns: all of them that will be asked for, where that is known, by their names in the source.
        read: those that have to be there, in the types that the users declare; None is `columns`, or all that the
            users read where those are not given.
        ordering: those that only order rows that are equal so far.
        need: all that will be asked of it, where that is known; there may be more.

    Raises:
        SourceError: it cannot be reached, or was changed so that its columns are not those of the definitions.
    """
    if isinstance(source, LogSource):
        rows = stores.offline.rows(stores.archive_of(source), version=version)
        return rows if need is None else rows_needed(rows, source, need)
    reader = stores.readers.get(source.type)
    if reader is None:
        raise SourceError(
            f"source {source.name!r}: no reader for sources of type {source.type!r} is installed",
            hint=f"installed readers: {some(sorted(stores.readers))}",
            where=source.where,
        )
    users = list(users)
    declared = with_declared_types(source, users)
    if isinstance(source, FileSource):
        need = replace(need or ScanRequest(), columns=tuple(columns))
    given = reader.scan(declared, need or ScanRequest())
    there = _columns_of(given)
    if there is not None:
        read = set(columns or ()) or None if read is None else set(read)
        if read is not None and is_ordered(given):
            read -= set(ordering)

        def changes(found: Sequence[SourceColumn]) -> list[Drift]:
            return drift(source, users, found, read=read, untyped=ordering)

        # Rows have only columns of types that Asof has; the description of the source knows all.
        if changes(there) and (found := changes(described := reader.describe(declared))):
            raise drift_error(source, found, described)
    return given


def _columns_of(given: Input) -> list[SourceColumn] | None:
    """The columns of rows, as far as that is known before they are read."""
    if isinstance(given, Relation) or given.schema is None:
        return None
    fields = list(given.schema)
    if isinstance(given, Files) and given.partitions is not None:
        fields += given.partitions.schema
    return [
        # A column without a single value is of whatever type is declared.
        SourceColumn(each.name, from_arrow(each.type), str(each.type), is_text=pa.types.is_null(each.type))
        for each in fields
    ]
