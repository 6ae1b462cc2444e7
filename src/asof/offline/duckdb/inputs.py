"""The inputs of a read in DuckDB: each source as a relation, of which only what the read may need is fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from asof.definitions import Source
from asof.definitions.logs import TOMBSTONE
from asof.dtypes import from_arrow
from asof.errors import SourceError
from asof.offline.duckdb.tables import copy, metadata_sql, schema_of, view_files
from asof.offline.files import read_files
from asof.offline.needs import archived_bounds, columns_of_files, need_of, times_of
from asof.offline.protocol import ARRIVAL_COLUMNS, LATER_COLUMNS, Spine
from asof.offline.pruning import rows_needed, rows_within
from asof.offline.results import arrival_of, empty_rows
from asof.offline.snapshots import Snapshots
from asof.sources.protocol import Batches, Files, Input, Relation, ScanRequest
from asof.sql.duckdb.dialect import DUCKDB
from asof.sql.names import alike, are_safe, safe_names
from asof.sql.query import WANTED, PointInTime, ViewRows
from asof.sql.quoting import quote
from asof.sql.source_rows import ROW, SourceTable
from asof.timing import Micros


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
    is_sql = isinstance(spine, str)
    named = None
    if isinstance(spine, str):
        named = columns_named(cursor, spine)
        if same := alike(inputs):
            raise SourceError(
                f"sources {same[0]!r} and {same[1]!r}: to DuckDB, names that differ by case alone are one",
                hint="rename one of them, or give the entity frame as a table",
            )
    times = times_of(spine, query.time) if isinstance(query, PointInTime) else None
    with BatchFetcher(named, times, inputs.get(WANTED), describe_only=describe_only) as fetching:
        # Only SQL sees sources by name, which may be one of a plan's tables.
        others = {name: given for name, given in inputs.items() if name == WANTED or (is_sql and name not in sources)}
        expose(cursor, others, fetching)
        return {
            name: _source_table(
                cursor, index, source, inputs.get(name), query, spine, fetching, describe_only=describe_only
            )
            for index, (name, source) in enumerate(sources.items())
        }


class BatchFetcher(Snapshots):
    """Fetches rows that come as batches, in one snapshot per database.

    Args:
        named: the columns that the user's SQL names; None if any may be needed.
        times: the entity frame's first and last time, where known.
        wanted_keys: the keys that `RowsOfKeys` reads.
        describe_only: fetch nothing: only types are wanted.
    """

    def __init__(
        self,
        named: NamedColumns | None = None,
        times: tuple[Micros, Micros] | None = None,
        wanted_keys: Any = None,
        *,
        describe_only: bool = False,
    ) -> None:
        self.named, self.times, self.wanted_keys, self.describe_only = named, times, wanted_keys, describe_only
        super().__init__()

    def wanted(self, source: str, names: Sequence[str]) -> list[str]:
        """The columns that the user's SQL may read; at least one, so that there are rows.

        Raises:
            SourceError: the SQL may name two columns that are one name to DuckDB.
        """
        found = list(names)
        # A table's name used as a column is its whole row, unless there is a column of that name.
        if self.named is not None and not self.named.tables - {name.lower() for name in names}:
            lower = {name.lower() for name in self.named.columns}
            found = [name for name in names if name.lower() in lower] or list(names[:1])
            if alike(found) is not None:
                found = [name for name in found if name in self.named.columns]
        same = alike(found)
        if same is not None:
            raise SourceError(
                f"source {source!r} has columns {same[0]!r} and {same[1]!r}, whose names differ by case alone: in SQL "
                "that is one name to DuckDB", hint="rename one of them, or name just one of them in the SQL",
            )  # fmt: skip
        return found


@dataclass(frozen=True)
class NamedColumns:
    """The names that an SQL text may have for columns.

    Args:
        columns: as they are written.
        tables: those in lower case that are also a table's.
    """

    columns: set[str]
    tables: set[str]


def columns_named(cursor: duckdb.DuckDBPyConnection, sql: str) -> NamedColumns | None:
    """Every name in the SQL, as it is written; None if it has a star, or cannot be parsed on its own."""
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
            names |= {each for each in node.get(key) or () if isinstance(each, str)}
        if len(node.get("column_names") or ()) == 1:
            alone.add(node["column_names"][0].lower())
        ahead += node.values()
    return NamedColumns(names, alone & tables)


def expose(
    cursor: duckdb.DuckDBPyConnection, inputs: Mapping[str, Input | pa.Table | None], fetching: BatchFetcher
) -> None:
    """Register inputs under their names, for the user's SQL."""
    for name, given in inputs.items():
        if isinstance(given, Relation):
            cursor.execute(f"CREATE TEMP VIEW {quote(name)} AS SELECT * FROM {given.name}")
        elif isinstance(given, Files) and alike(columns_of_files(given)) is None:
            view_files(cursor, quote(name), given)
        elif given is not None:
            columns = columns_of_files(given) if isinstance(given, Files) else given.schema.names
            copy(cursor, quote(name), _rows_of(given, ScanRequest(fetching.wanted(name, columns)), fetching))


def _rows_of(
    given: Files | Batches | pa.Table, need: ScanRequest, fetching: BatchFetcher
) -> pa.Table | pa.RecordBatchReader:
    """The rows of an input, of the columns that are needed; none where only types are wanted."""
    rows: pa.Table | pa.RecordBatchReader
    if isinstance(given, Batches):
        if fetching.describe_only:
            return pa.schema([each for each in given.schema if each.name in need.columns]).empty_table()
        return fetching.open(given, need)
    if isinstance(given, Files):
        rows = read_files(given, need.columns)
    else:
        rows = given.select([each for each in given.column_names if each in need.columns])
    return rows.schema.empty_table() if fetching.describe_only else rows


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
    relation = f"asof__source_{index}"
    arrival_columns = (*ARRIVAL_COLUMNS, *LATER_COLUMNS, TOMBSTONE) if source.is_log else ()
    names: dict[str, str] = {}
    metadata = ""
    if isinstance(given, Files) and given.bounds is not None:
        given = rows_needed(given, source, _need(query, source, columns_of_files(given), spine, fetching))
        given = rows_within(given, archived_bounds(query, source, given))
    if isinstance(given, Files) and are_safe(safe_names(columns_of_files(given), kept=arrival_columns)):
        # The files' own row numbers avoid a copy; the order of the paths is part of the row order.
        number = "file_row_number" if len(given.paths) == 1 else "(CAST(file_index AS BIGINT) << 40) + file_row_number"
        view_files(cursor, relation, given, f", {number} AS {ROW}")
        metadata = metadata_sql(given)
        if isinstance(spine, str):
            expose(cursor, {source.name: given}, fetching)
    elif isinstance(given, Relation):
        limit = " LIMIT 0" if describe_only else ""
        cursor.execute(f"CREATE TEMP TABLE {relation}_rows AS SELECT * FROM {given.name}{limit}")
        _number(cursor, relation, source, names, fetching, spine)
    else:
        rows = given if isinstance(given, pa.Table) else empty_rows(source)
        if isinstance(given, Batches | Files):
            columns = columns_of_files(given) if isinstance(given, Files) else given.schema.names
            need = ScanRequest(columns) if describe_only else _need(query, source, columns, spine, fetching)
            rows = _rows_of(given, need, fetching)
        names = safe_names(rows.schema.names, kept=arrival_columns)
        copy(cursor, f"{relation}_rows", rows, names=names)
        _number(cursor, relation, source, names, fetching, spine)
    described = cursor.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    fields = schema_of(cursor, f"SELECT * FROM {relation}")
    # The number of a row is the last column where the others have names.
    own = list(names) or [name for name, *_ in described]
    sql_types = {name: kind for name, (_, kind, *_) in zip(own, described)}
    dtypes = {name: from_arrow(field.type) for name, field in zip(own, fields)}
    arrival = arrival_of(source, given, sql_types)
    if not names:
        del sql_types[ROW]
    return SourceTable(relation, sql_types, dtypes, arrival, DUCKDB, names=names, metadata=metadata)


def _number(
    cursor: duckdb.DuckDBPyConnection,
    relation: str,
    source: Source,
    names: Mapping[str, str],
    fetching: BatchFetcher,
    spine: Spine | None,
) -> None:
    """A relation over the table of a source's rows, which numbers them; and for the user's SQL one by its name.

    Args:
        names: column → its name in that table; as they are where empty.
    """
    cursor.execute(f"CREATE TEMP VIEW {relation} AS SELECT *, rowid AS {ROW} FROM {relation}_rows")
    if isinstance(spine, str):
        columns = ", ".join(
            f"{quote(names[name])} AS {quote(name)}" for name in fetching.wanted(source.name, list(names))
        )
        columns = columns or "*"
        cursor.execute(f"CREATE TEMP VIEW {quote(source.name)} AS SELECT {columns} FROM {relation}_rows")


def _need(
    query: PointInTime | ViewRows, source: Source, names: list[str], spine: Spine | None, fetching: BatchFetcher
) -> ScanRequest:
    """What to fetch from a source of batches."""
    users = fetching.wanted(source.name, names) if isinstance(spine, str) else ()
    return need_of(query, source, names, spine, users=users, times=fetching.times, wanted=fetching.wanted_keys)


__all__ = ["BatchFetcher", "columns_named", "expose", "prepare"]
