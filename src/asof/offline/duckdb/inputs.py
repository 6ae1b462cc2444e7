"""The inputs of a read in DuckDB: each source as a relation, of which only what the read may need is fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import Source
from asof.dtypes import from_arrow
from asof.offline.duckdb.tables import copy, schema_of, view_files
from asof.offline.protocol import Spine
from asof.offline.results import arrival_of, empty_rows
from asof.sources.protocol import Batches, Files, Input, Relation, ScanRequest
from asof.sql.duckdb.dialect import DUCKDB
from asof.sql.query import WANTED, PointInTime, RowsOfKeys, ViewRows, columns_of, lenient_columns_of, reach_of
from asof.sql.quoting import quote
from asof.sql.source_rows import ROW, SourceTable
from asof.timing import Micros

_FEW_KEYS = 10_000
"""Maximum number of keys to filter a source by value."""


def prepare(
    cursor: duckdb.DuckDBPyConnection,
    query: PointInTime | ViewRows,
    inputs: Mapping[str, Input | pa.Table | None],
    *,
    spine: Spine | None = None,
    describe_only: bool = False,
) -> dict[str, SourceTable]:
    """Register every source of the read; returns source name → its table."""
    sources = {read.view.source.name: read.view.source for read in query.reads}
    named = columns_named(cursor, spine) if isinstance(spine, str) else None
    times = _times(spine, query.time) if isinstance(query, PointInTime) else None
    with BatchFetcher(named, times, inputs.get(WANTED)) as fetching:
        others = {name: given for name, given in inputs.items() if name not in sources or isinstance(given, Files)}
        expose(cursor, others, None if describe_only else fetching)
        return {
            name: _source_table(
                cursor, index, source, inputs.get(name), query, spine, fetching, describe_only=describe_only
            )
            for index, (name, source) in enumerate(sources.items())
        }


class BatchFetcher:
    """Fetches rows that come as batches, in one snapshot per database.

    Args:
        named: the columns that the user's SQL names; None if any may be needed.
        times: the entity frame's first and last time, where known.
        wanted_keys: the keys that `RowsOfKeys` reads.
    """

    def __init__(
        self, named: set[str] | None = None, times: tuple[Micros, Micros] | None = None, wanted_keys: Any = None
    ) -> None:
        self.named, self.times, self.wanted_keys = named, times, wanted_keys
        self._held: dict[Any, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> BatchFetcher:
        return self

    def __exit__(self, *caught: Any) -> bool | None:
        return self._stack.__exit__(*caught)

    def open(self, given: Batches, need: ScanRequest) -> pa.RecordBatchReader:
        if given.database is None:
            return given.open(need)
        identity = given.database.identity
        if identity not in self._held:
            self._held[identity] = self._stack.enter_context(given.database.snapshot())
        return given.open(replace(need, within=self._held[identity]))

    def wanted(self, names: Sequence[str]) -> list[str]:
        """The columns that the user's SQL may read; at least one, so that there are rows."""
        if self.named is None:
            return list(names)
        return [name for name in names if name.lower() in self.named] or list(names[:1])


def columns_named(cursor: duckdb.DuckDBPyConnection, sql: str) -> set[str] | None:
    """Every name in the SQL, in lower case; None if it has a star, or cannot be parsed on its own."""
    try:
        found = cursor.execute("SELECT json_serialize_sql(?)", [sql.strip().rstrip(";")]).fetchall()
        tree = json.loads(found[0][0])
    except (duckdb.Error, ValueError):
        return None
    if not tree or tree.get("error"):
        return None
    names: set[str] = set()
    alone: set[str] = set()
    tables: set[str] = set()
    ahead: list[Any] = [tree]
    while ahead:
        node = ahead.pop()
        if isinstance(node, list):
            ahead += node
        if not isinstance(node, dict):
            continue
        # A star reads all columns, a natural join those of both sides; columns may be renamed by position.
        if "STAR" in (node.get("class"), node.get("type")) or node.get("ref_type") == "NATURAL":
            return None
        if node.get("column_name_alias") or node.get("type") in ("PIVOT", "SHOW_REF"):
            return None
        if node.get("type") == "BASE_TABLE":
            tables |= {str(node.get("table_name", "")).lower(), str(node.get("alias", "")).lower()}
        for key in ("column_names", "using_columns"):
            names |= {each.lower() for each in node.get(key) or () if isinstance(each, str)}
        if len(node.get("column_names") or ()) == 1:
            alone.add(node["column_names"][0].lower())
        ahead += node.values()
    # A table's name used as a column is its whole row.
    return None if alone & tables else names


def expose(
    cursor: duckdb.DuckDBPyConnection, inputs: Mapping[str, Input | pa.Table | None], fetching: BatchFetcher | None
) -> None:
    """Register inputs under their names, for the user's SQL; without `fetching` nothing is fetched."""
    for name, given in inputs.items():
        if isinstance(given, Files):
            view_files(cursor, quote(name), given)
        elif isinstance(given, Batches):
            empty = pa.Table.from_batches([], given.schema)
            wanted = ScanRequest(fetching.wanted(given.schema.names)) if fetching is not None else ScanRequest()
            copy(cursor, quote(name), fetching.open(given, wanted) if fetching is not None else empty)
        elif isinstance(given, Relation):
            cursor.execute(f"CREATE TEMP VIEW {quote(name)} AS SELECT * FROM {given.name}")
        elif given is not None:
            copy(cursor, quote(name), given)


def _source_table(
    cursor: duckdb.DuckDBPyConnection,
    index: int,
    source: Source,
    given: Input | pa.Table | None,
    query: PointInTime | ViewRows,
    spine: Spine | None,
    fetching: BatchFetcher,
    *,
    describe_only: bool,
) -> SourceTable:
    relation = f"asof_source_{index}"
    if isinstance(given, Files):
        # The files' own row numbers avoid a copy; the order of the paths is part of the row order.
        number = "file_row_number" if len(given.paths) == 1 else "(CAST(file_index AS BIGINT) << 40) + file_row_number"
        view_files(cursor, relation, given, f", {number} AS {ROW}")
    else:
        own = f"{relation}_rows"
        if isinstance(given, Relation):
            limit = " LIMIT 0" if describe_only else ""
            cursor.execute(f"CREATE TEMP TABLE {own} AS SELECT * FROM {given.name}{limit}")
        elif isinstance(given, Batches):
            if describe_only:
                copy(cursor, own, pa.Table.from_batches([], given.schema))
            else:
                need = _need(query, source, given.schema.names, spine, fetching)
                copy(cursor, own, fetching.open(given, need))
        else:
            copy(cursor, own, given if given is not None else empty_rows(source))
        cursor.execute(f"CREATE TEMP VIEW {relation} AS SELECT *, rowid AS {ROW} FROM {own}")
        cursor.execute(f"CREATE TEMP VIEW {quote(source.name)} AS SELECT * FROM {own}")
    sql_types = {name: kind for name, kind, *_ in cursor.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    dtypes = {field.name: from_arrow(field.type) for field in schema_of(cursor, f"SELECT * FROM {relation}")}
    arrival = arrival_of(source, given, sql_types)
    del sql_types[ROW]
    return SourceTable(relation, sql_types, dtypes, arrival, DUCKDB)


def _need(
    query: PointInTime | ViewRows, source: Source, names: list[str], spine: Spine | None, fetching: BatchFetcher
) -> ScanRequest:
    """What to fetch from a source of batches: only the columns, times and keys that the read surely needs."""
    touched = columns_of(query, source.name)
    if isinstance(spine, str):
        # An SQL entity frame may read any row of the source.
        own = set(fetching.wanted(names))
        return ScanRequest([name for name in names if name in touched or name in own or source.is_log])
    names = [name for name in names if name in touched or source.is_log]
    if isinstance(query, ViewRows):
        keys = _few_wanted(query, source, fetching.wanted_keys)
        return ScanRequest(names, query.start, query.end, keys, news=query.news)
    if spine is None:
        # Without an entity frame there is a row per event in the range, and each looks back from its time.
        first, last = query.start, query.end
    else:
        first, last = fetching.times or (None, None)
    reach = reach_of(query, source.name)
    start = first - reach if first is not None and reach is not None else None
    keys = _few_keys(query, source, spine) if isinstance(spine, pa.Table) else None
    return ScanRequest(names, start, last, keys, lenient=lenient_columns_of(query, source.name))


def _few_wanted(query: ViewRows, source: Source, wanted: Any) -> dict[str, pa.Array] | None:
    """The values of the source's key columns for the keys that `RowsOfKeys` reads, if they are few."""
    if not isinstance(query, RowsOfKeys) or not isinstance(wanted, pa.Table) or wanted.num_rows > _FEW_KEYS:
        return None
    keys = {source.raw(key): wanted[f"k{index}"].unique() for index, key in enumerate(query.view.join_keys)}
    return keys or None


def _times(spine: Spine | None, time: str) -> tuple[Micros, Micros] | None:
    """The first and last time of an entity frame in memory, in microseconds."""
    if not isinstance(spine, pa.Table) or time not in spine.column_names or not spine.num_rows:
        return None
    kind = spine.schema.field(time).type
    if not pa.types.is_timestamp(kind):
        return None
    ends = pc.min_max(spine[time])
    per_second = {"s": 1, "ms": 1000, "us": 1_000_000, "ns": 1_000_000_000}[kind.unit]
    first, last = (ends[name].cast(pa.int64()).as_py() for name in ("min", "max"))
    if first is None:
        return None
    return first * 1_000_000 // per_second, last * 1_000_000 // per_second


def _few_keys(query: PointInTime | ViewRows, source: Source, spine: pa.Table) -> dict[str, pa.Array] | None:
    """The values of the source's key columns in the spine; None if they are many, or not all known."""
    found: dict[str, list[pa.Array]] = {}
    reads = [read for read in query.reads if read.view.source.name == source.name]
    for read in reads:
        for column, key in zip(read.view.join_keys, read.keys, strict=True):
            values = spine.column(key).drop_null().unique()
            if isinstance(values, pa.DictionaryArray):
                values = values.dictionary_decode()
            found.setdefault(source.raw(column), []).append(values)
    keys: dict[str, pa.Array] = {}
    for column, parts in found.items():
        # A view with other keys needs all rows for the key columns that it does not have.
        if len(parts) == len(reads) and len({part.type for part in parts}) == 1:
            values = pa.chunked_array(parts).unique()
            if len(values) <= _FEW_KEYS:
                keys[column] = values
    return keys or None


__all__ = ["BatchFetcher", "columns_named", "expose", "prepare"]
