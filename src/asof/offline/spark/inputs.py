"""The inputs of a read in Spark: each source as a view, of files that the server reads or of rows that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa

from asof.definitions import Source
from asof.definitions.logs import TOMBSTONE
from asof.dtypes import from_arrow
from asof.errors import SourceError
from asof.offline.needs import archived_bounds, need_of, times_of
from asof.offline.protocol import ARRIVAL_COLUMNS, LATER_COLUMNS, Spine
from asof.offline.pruning import rows_needed, rows_within
from asof.offline.results import arrival_of, empty_rows
from asof.offline.spark.arrow import type_of
from asof.offline.spark.files import rows_in, schema_of_files
from asof.offline.spark.read import Given, SparkRead
from asof.sources.protocol import Batches, Files
from asof.sql.dialect import Dialect
from asof.sql.names import alike, are_safe, safe_names
from asof.sql.query import WANTED, PointInTime, ViewRows
from asof.sql.source_rows import ROW, SourceTable

_FEW_FILES = 64
"""So many footers are read to know how many rows there are."""


def prepare(
    read: SparkRead,
    query: PointInTime | ViewRows,
    inputs: Mapping[str, Given],
    *,
    spine: Spine | None = None,
    describe_only: bool = False,
) -> dict[str, SourceTable]:
    """Register every source of the read; returns source name → its table."""
    sources = {each.view.source.name: each.view.source for each in query.reads}
    is_sql = isinstance(spine, str)
    if is_sql and (same := alike(inputs)):
        raise SourceError(
            f"sources {same[0]!r} and {same[1]!r}: to Spark, names that differ by case alone are one",
            hint="rename one of them, or give the entity frame as a table",
        )
    # Only SQL sees sources by name, which may be one of a plan's tables.
    others = {name: given for name, given in inputs.items() if name == WANTED or (is_sql and name not in sources)}
    read.expose(others, describe_only=describe_only)
    dialect = read.server.capabilities(read.session).dialect
    return {
        name: _source_table(
            read, index, source, inputs.get(name), query, spine, dialect,
            wanted=inputs.get(WANTED), describe_only=describe_only,
        )
        for index, (name, source) in enumerate(sources.items())
    }  # fmt: skip


def _source_table(
    read: SparkRead,
    index: int,
    source: Source,
    given: Given,
    query: PointInTime | ViewRows,
    spine: Spine | None,
    dialect: Dialect,
    *,
    wanted: Given,
    describe_only: bool,
) -> SourceTable:
    relation = f"asof__source_{index}"
    kept = (*ARRIVAL_COLUMNS, *LATER_COLUMNS, TOMBSTONE) if source.is_log else ()
    fields = _fields(source, given)
    times = times_of(spine, query.time) if isinstance(query, PointInTime) else None
    users = fields.names if isinstance(spine, str) else ()
    need = need_of(query, source, fields.names, spine, users=users, times=times, wanted=wanted)
    if isinstance(given, Files) and given.bounds is not None:
        given = rows_needed(given, source, need)
        given = rows_within(given, archived_bounds(query, source, given))
    arrival = arrival_of(source, given, dict.fromkeys(fields.names, ""))
    numbered = arrival == "row"
    columns = list(need.columns) or list(fields.names)
    names = safe_names(columns, kept=kept)
    frame = None
    if isinstance(given, Files) and are_safe(names):
        frame = read.native(given, columns, numbered=numbered)
    if frame is not None:
        assert isinstance(given, Files)
        read.session.view(relation, frame)
        if len(given.paths) <= _FEW_FILES:
            read.rows[relation] = rows_in(given)
        types = {name: type_of(fields.field(name).type, name) for name in columns}
    else:
        rows = given if given is not None else empty_rows(source)
        types = read.ship(
            read.rows_of(rows, replace(need, columns=columns), describe_only=describe_only),
            relation,
            names=names,
            numbered=numbered,
        )
    if isinstance(spine, str):
        read.alias(source.name, relation, names)
    dtypes = {name: from_arrow(fields.field(name).type) for name in types}
    assert ROW not in types
    return SourceTable(relation, types, dtypes, arrival, dialect, names=names)


def _fields(source: Source, given: Given) -> pa.Schema:
    """The columns of an input."""
    if given is None:
        return empty_rows(source).schema
    if isinstance(given, Files):
        own = schema_of_files(given)
        return pa.schema([*own, *(given.partitions.schema if given.partitions is not None else [])])
    if isinstance(given, pa.Table | Batches):
        return given.schema
    raise SourceError(
        f"source {source.name!r} is a relation of another engine", hint="use the offline store that it belongs to"
    )


__all__ = ["prepare"]
