"""The embedded offline store: DuckDB computes, over files, Arrow batches and the Delta archives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from asof.connections.duckdb import Evaluator, SpillFolder
from asof.definitions import Source
from asof.dtypes import from_arrow
from asof.errors import AsofError, EntityFrameError, Interrupted, SourceError, StorageError
from asof.offline.delta.archives import DeltaArchives
from asof.selection import FeatureOut
from asof.sources.protocol import Batches, Files, Input, Need, Relation
from asof.sql.duckdb.dialect import DUCKDB, type_name
from asof.sql.duckdb.point_in_time import compile_program, range_spine
from asof.sql.duckdb.view_rows import compile_rows
from asof.sql.query import WANTED, PointInTime, RowsOfKeys, ViewRows, columns_of, reach_of
from asof.sql.quoting import quote, text
from asof.sql.source_rows import ROW, Arrival, SpineTable, Table
from asof.timing import Micros

Spine: TypeAlias = pa.Table | Files | str
"""An entity frame: a table, files, or a SELECT over the inputs by name."""

SPINE = "asof_spine"
_WHOLE = "asof_spine_whole"
_CHUNK_VALUES = 64_000_000
"""How many values one pass may hold; bigger spines are read in several passes, so that memory is bounded."""
_FEWEST_ROWS, _MOST_ROWS = 250_000, 5_000_000
_FEW_KEYS = 10_000
"""Up to so many keys a source is asked for them by value."""

_MAGIC = re.compile(r"[\[*?]")


class DuckDBEngine:
    """Runs point-in-time reads and SQL on an in-memory DuckDB; nothing is kept between two reads.

    Args:
        memory_limit: text like `4GB`; DuckDB's default is 80 % of the machine.
        threads: DuckDB's default is one per core.
        temp_directory: where sorts and joins that outgrow the memory go, each engine's into a folder of its own there;
            by default below the system's own.
    """

    dialect = DUCKDB
    batch_dialect = DUCKDB.forms

    def __init__(self, *, memory_limit: str = "", threads: int = 0, temp_directory: str = "") -> None:
        # Nothing may be fetched from the internet behind the user's back.
        config: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        if memory_limit:
            config["memory_limit"] = memory_limit
        if threads:
            config["threads"] = threads
        # DuckDB's own default is a folder where the process happens to run.
        self._spill = SpillFolder(temp_directory)
        config["temp_directory"] = self._spill.path
        try:
            self._connection = duckdb.connect(":memory:", config=config)
        except duckdb.Error as error:
            self._spill.close()
            raise StorageError(f"DuckDB does not start: {error}", hint="check the offline store's options") from error
        self._evaluator = Evaluator(threads=threads)

    def run(
        self,
        query: PointInTime | ViewRows,
        inputs: Mapping[str, Input | pa.Table | None],
        *,
        spine: Spine | None = None,
    ) -> PointInTimeResult | ViewRowsResult:
        """A point-in-time read, or (without a spine) a read of one view's own rows.

        Args:
            inputs: source name → its rows; None where there are none. An SQL spine sees all of them by name.
            spine: the entity frame; None reads the query's time range.
        """
        if isinstance(query, ViewRows):
            return ViewRowsResult(self, query, dict(inputs))
        return PointInTimeResult(self, query, dict(inputs), spine)

    def sql(self, text: str, inputs: Mapping[str, Input | pa.Table | None]) -> SqlResult:
        """SQL text over named inputs."""
        return SqlResult(self, text, dict(inputs))

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        """Evaluate SQL expressions over a batch: one column per name, rows in the batch's order."""
        return self._evaluator.evaluate(batch, expressions)

    def tables_in(self, sql: str) -> set[str]:
        """The tables that a SELECT names.

        Raises:
            EntityFrameError: it is not one SELECT.
        """
        with wrapping("SQL entity frame", user_sql=True):
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise EntityFrameError("the SQL entity frame is not one SELECT", hint="write SELECT … FROM a source")
            return set(self._cursor().get_table_names(sql))

    def bucket(self, columns: Sequence[str], buckets: int) -> str:
        """SQL of a number below `buckets`, the same for rows that are equal in the columns."""
        return f"hash({', '.join(map(quote, columns))}) % {buckets}" if columns else "0"

    def reaches(self, given: Input | None) -> bool:
        """Whether reads can compute over these rows as they are: over all of them, wherever they come from."""
        return True

    def close(self) -> None:
        self._evaluator.close()
        self._connection.close()
        self._spill.close()

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._connection.cursor()
        # Per connection: comparisons of naive and aware times follow the session's zone.
        cursor.execute("SET TimeZone = 'UTC'")
        # The engine's own bar would stand amid results; progress is told by the flows.
        cursor.execute("SET enable_progress_bar = false")
        return cursor


class DuckDBOffline(DuckDBEngine, DeltaArchives):
    """DuckDB over Delta archives.

    Args:
        path: the folder of the archives.
    """

    def __init__(self, path: Path | str, *, memory_limit: str = "", threads: int = 0, temp_directory: str = "") -> None:
        DuckDBEngine.__init__(self, memory_limit=memory_limit, threads=threads, temp_directory=temp_directory)
        DeltaArchives.__init__(self, path)


class SqlResult:
    """SQL over inputs; each `reader` runs it again."""

    def __init__(self, engine: DuckDBEngine, sql: str, inputs: Mapping[str, Input | pa.Table | None]) -> None:
        self._engine, self._sql, self._inputs = engine, sql, inputs

    @property
    def schema(self) -> pa.Schema:
        with wrapping("SQL", user_sql=True), _session(self._engine) as cursor:
            _expose(cursor, self._inputs, None)
            return _schema(cursor, self._sql)

    def reader(self, batch_rows: int = 100_000) -> pa.RecordBatchReader:
        schema = self.schema

        def batches() -> Iterator[pa.RecordBatch]:
            with wrapping("SQL", user_sql=True), _session(self._engine) as cursor:
                with _Fetching(_columns_named(cursor, self._sql)) as fetching:
                    _expose(cursor, self._inputs, fetching)
                yield from _stream(cursor, self._sql, batch_rows)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def to_arrow(self) -> pa.Table:
        return self.reader().read_all()


@dataclass(frozen=True)
class ViewRowsResult:
    """A read of one view's own rows; each `reader` runs it again."""

    _engine: DuckDBEngine
    _query: ViewRows
    _inputs: Mapping[str, Input | pa.Table | None]

    @property
    def schema(self) -> pa.Schema:
        with _wrapping_rows(self._query), _session(self._engine) as cursor:
            tables = _prepare(cursor, self._query, self._inputs, describe_only=True)
            return _schema(cursor, compile_rows(self._query, tables))

    def reader(self, batch_rows: int = 100_000) -> pa.RecordBatchReader:
        parts = self._schema_and_batches(batch_rows)
        return pa.RecordBatchReader.from_batches(next(parts), parts)

    def _schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        """The schema, then the batches: what runs the query knows both, so the source is prepared once."""
        with _wrapping_rows(self._query), _session(self._engine) as cursor:
            tables = _prepare(cursor, self._query, self._inputs)
            reader = cursor.sql(compile_rows(self._query, tables)).to_arrow_reader(batch_rows)
            yield reader.schema
            yield from reader


@dataclass(frozen=True)
class PointInTimeResult:
    """A point-in-time read; each `reader` runs it again. Rows are the spine's, in its order, in bounded memory."""

    _engine: DuckDBEngine
    _query: PointInTime
    _inputs: Mapping[str, Input | pa.Table | None]
    _spine: Spine | None
    chunk_rows: int = 0
    """How many spine rows one pass handles; 0 chooses by the number of features."""

    @property
    def schema(self) -> pa.Schema:
        """The spine's columns, then the outputs."""
        if isinstance(self._spine, pa.Table):
            return _with_outputs(self._spine.schema, self._query.outputs)
        with _wrapping_read(), _session(self._engine) as cursor:
            tables: dict[str, Table] = {}
            if not isinstance(self._spine, Files):
                tables = _prepare(cursor, self._query, self._inputs, describe_only=True)
            select = _spine_select(cursor, self._query, self._spine, tables)
            return _with_outputs(_schema(cursor, select), self._query.outputs)

    @property
    def text(self) -> str:
        """The SQL that a read would run now (for its first pass)."""
        with _wrapping_read(), _session(self._engine) as cursor:
            tables = _prepare(cursor, self._query, self._inputs, spine=self._spine)
            _load_spine(cursor, self._query, self._spine, tables)
            cursor.execute(f"CREATE TEMP TABLE {SPINE} AS SELECT * FROM {_WHOLE} LIMIT {self._chunk()}")
            spine = _measure_spine(cursor, self._query.time)
            return compile_program(self._query, tables, spine).text

    def reader(self, batch_rows: int = 100_000) -> pa.RecordBatchReader:
        """Run it; rows come in batches of at most `batch_rows`."""
        schema = self.schema
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema, batch_rows))

    def to_arrow(self) -> pa.Table:
        return self.reader().read_all()

    def _batches(self, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
        with _wrapping_read(), _session(self._engine) as cursor:
            if isinstance(self._spine, pa.Table):
                yield from self._over_table(cursor, self._spine, schema, batch_rows)
            else:
                yield from self._over_loaded(cursor, schema, batch_rows)

    def _chunk(self) -> int:
        if self.chunk_rows:
            return self.chunk_rows
        return max(_FEWEST_ROWS, min(_MOST_ROWS, _CHUNK_VALUES // max(1, len(self._query.outputs))))

    def _over_table(
        self, cursor: duckdb.DuckDBPyConnection, spine: pa.Table, schema: pa.Schema, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        """DuckDB gets keys and times alone; the frame's own columns go around it and stay what they are."""
        used = [*dict.fromkeys(key for read in self._query.reads for key in read.keys), self._query.time]
        tables = _prepare(cursor, self._query, self._inputs, spine=spine)
        count = len(spine.schema)
        if not self._query.outputs:
            yield from spine.to_batches(max_chunksize=batch_rows)
            return
        for start in range(0, max(spine.num_rows, 1), self._chunk()):
            chunk = spine.slice(start, self._chunk())
            _drop(cursor, SPINE)
            cursor.register("asof_frame", chunk.select(used))
            cursor.execute(f"CREATE TEMP TABLE {SPINE} AS SELECT * FROM asof_frame")
            cursor.unregister("asof_frame")
            at = 0
            for batch in self._run(cursor, tables, with_spine=False, batch_rows=batch_rows):
                own = chunk.slice(at, batch.num_rows).combine_chunks()
                at += batch.num_rows
                columns = [_one(own.column(index), schema.field(index).type) for index in range(count)]
                columns += [
                    _cast(batch.column(index), schema.field(count + index).type) for index in range(batch.num_columns)
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _over_loaded(
        self, cursor: duckdb.DuckDBPyConnection, schema: pa.Schema, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        tables = _prepare(cursor, self._query, self._inputs, spine=self._spine)
        rows = _load_spine(cursor, self._query, self._spine, tables)
        for start in range(0, max(rows, 1), self._chunk()):
            if rows <= self._chunk():
                cursor.execute(f"ALTER TABLE {_WHOLE} RENAME TO {SPINE}")
            else:
                _drop(cursor, SPINE)
                part = f"rowid >= {start} AND rowid < {start + self._chunk()}"
                cursor.execute(f"CREATE TEMP TABLE {SPINE} AS SELECT * FROM {_WHOLE} WHERE {part}")
            for batch in self._run(cursor, tables, with_spine=True, batch_rows=batch_rows):
                columns = [_cast(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _run(
        self, cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, Table], *, with_spine: bool, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        spine = _measure_spine(cursor, self._query.time)
        program = compile_program(self._query, tables, spine, with_spine=with_spine)
        for step in program.steps:
            _drop(cursor, step.table)
            cursor.execute(step.text)
        yield from _stream(cursor, program.final, batch_rows)
        for step in program.steps:
            _drop(cursor, step.table)


@contextmanager
def _session(engine: DuckDBEngine) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own: its temporary tables are seen by nobody else, and are gone afterwards."""
    cursor = engine._cursor()
    try:
        yield cursor
    finally:
        cursor.close()


def _prepare(
    cursor: duckdb.DuckDBPyConnection,
    query: PointInTime | ViewRows,
    inputs: Mapping[str, Input | pa.Table | None],
    *,
    spine: Spine | None = None,
    describe_only: bool = False,
) -> dict[str, Table]:
    """Make every source of the read visible; source name → its table."""
    sources = {read.view.source.name: read.view.source for read in query.reads}
    named = _columns_named(cursor, spine) if isinstance(spine, str) else None
    times = _times(spine, query.time) if isinstance(query, PointInTime) else None
    with _Fetching(named, times, inputs.get(WANTED)) as fetching:
        others = {name: given for name, given in inputs.items() if name not in sources or isinstance(given, Files)}
        _expose(cursor, others, None if describe_only else fetching)
        return {
            name: _source_table(
                cursor, index, source, inputs.get(name), query, spine, fetching, describe_only=describe_only
            )
            for index, (name, source) in enumerate(sources.items())
        }


class _Fetching:
    """Fetches rows that come as batches, all of one database as of one moment.

    Args:
        named: the columns that the user's SQL names; None where any may be needed.
        times: the entity frame's first and last time, where known.
        wanted_keys: the keys that `RowsOfKeys` reads.
    """

    def __init__(
        self, named: set[str] | None = None, times: tuple[Micros, Micros] | None = None, wanted_keys: Any = None
    ) -> None:
        self.named, self.times, self.wanted_keys = named, times, wanted_keys
        self._held: dict[Any, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> _Fetching:
        return self

    def __exit__(self, *caught: Any) -> bool | None:
        return self._stack.__exit__(*caught)

    def open(self, given: Batches, need: Need) -> pa.RecordBatchReader:
        if given.database is None:
            return given.open(need)
        identity = given.database.identity
        if identity not in self._held:
            self._held[identity] = self._stack.enter_context(given.database.snapshot())
        return given.open(replace(need, within=self._held[identity]))

    def wanted(self, names: Sequence[str]) -> list[str]:
        """Those of the columns that the user's SQL may read; one at least, so that there are rows."""
        if self.named is None:
            return list(names)
        return [name for name in names if name.lower() in self.named] or list(names[:1])


def _columns_named(cursor: duckdb.DuckDBPyConnection, sql: str) -> set[str] | None:
    """Every name that stands in the SQL, in lower case; None where it has a star, or cannot be parsed alone."""
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
        # A star takes all columns, a natural join those of both sides; columns may be renamed by their places.
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
    # A table's name in place of a column is its whole row.
    return None if alone & tables else names


def _expose(
    cursor: duckdb.DuckDBPyConnection, inputs: Mapping[str, Input | pa.Table | None], fetching: _Fetching | None
) -> None:
    """Make inputs visible under their names, for the user's SQL; without `fetching` nothing is fetched."""
    for name, given in inputs.items():
        if isinstance(given, Files):
            _view_files(cursor, quote(name), given)
        elif isinstance(given, Batches):
            empty = pa.Table.from_batches([], given.schema)
            wanted = Need(fetching.wanted(given.schema.names)) if fetching is not None else Need()
            _copy(cursor, quote(name), fetching.open(given, wanted) if fetching is not None else empty)
        elif isinstance(given, Relation):
            cursor.execute(f"CREATE TEMP VIEW {quote(name)} AS SELECT * FROM {given.name}")
        elif given is not None:
            _copy(cursor, quote(name), given)


def _source_table(
    cursor: duckdb.DuckDBPyConnection,
    index: int,
    source: Source,
    given: Input | pa.Table | None,
    query: PointInTime | ViewRows,
    spine: Spine | None,
    fetching: _Fetching,
    *,
    describe_only: bool,
) -> Table:
    relation = f"asof_source_{index}"
    numbered = isinstance(given, Files) and given.format == "parquet"
    if isinstance(given, Files) and numbered:
        # The files' own row numbers: nothing is copied, and the order of the paths is part of the order of rows.
        number = "file_row_number" if len(given.paths) == 1 else "(CAST(file_index AS BIGINT) << 40) + file_row_number"
        _view_files(cursor, relation, given, f", {number} AS {ROW}")
    else:
        own = f"{relation}_rows"
        if isinstance(given, Files):
            limit = " LIMIT 0" if describe_only else ""
            cursor.execute(f"CREATE TEMP TABLE {own} AS SELECT * FROM {_files(given)}{limit}")
        elif isinstance(given, Relation):
            limit = " LIMIT 0" if describe_only else ""
            cursor.execute(f"CREATE TEMP TABLE {own} AS SELECT * FROM {given.name}{limit}")
        elif isinstance(given, Batches):
            if describe_only:
                _copy(cursor, own, pa.Table.from_batches([], given.schema))
            else:
                need = _need(query, source, given.schema.names, spine, fetching)
                _copy(cursor, own, fetching.open(given, need))
        else:
            _copy(cursor, own, given if given is not None else _empty(source))
        cursor.execute(f"CREATE TEMP VIEW {relation} AS SELECT *, rowid AS {ROW} FROM {own}")
        if not isinstance(given, Files):
            cursor.execute(f"CREATE TEMP VIEW {quote(source.name)} AS SELECT * FROM {own}")
    sql_types = {name: kind for name, kind, *_ in cursor.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
    dtypes = {field.name: from_arrow(field.type) for field in _schema(cursor, f"SELECT * FROM {relation}")}
    arrival: Arrival
    if source.is_log and {"partition", "offset"} <= sql_types.keys():
        arrival = "log"
    else:
        arrival = "row" if isinstance(given, Files) else "columns"
    del sql_types[ROW]
    return Table(relation, sql_types, dtypes, arrival, DUCKDB)


def _need(
    query: PointInTime | ViewRows, source: Source, names: list[str], spine: Spine | None, fetching: _Fetching
) -> Need:
    """What to ask a source for that answers batches: fewer columns, times and keys, as far as that is sure."""
    touched = columns_of(query, source.name)
    if isinstance(spine, str):
        # An SQL entity frame may read any row of it.
        own = set(fetching.wanted(names))
        return Need([name for name in names if name in touched or name in own or source.is_log])
    names = [name for name in names if name in touched or source.is_log]
    if isinstance(query, ViewRows):
        keys = _few_wanted(query, source, fetching.wanted_keys)
        return Need(names, query.start, query.end, keys, news=query.news)
    if spine is None:
        # Without an entity frame there is a row per event in the range, and each looks back from its time.
        first, last = query.start, query.end
    else:
        first, last = fetching.times or (None, None)
    reach = reach_of(query, source.name)
    start = first - reach if first is not None and reach is not None else None
    return Need(names, start, last, _few_keys(query, source, spine) if isinstance(spine, pa.Table) else None)


def _few_wanted(query: ViewRows, source: Source, wanted: Any) -> dict[str, pa.Array] | None:
    """The values of the source's key columns among the keys that `RowsOfKeys` reads, where they are few."""
    if not isinstance(query, RowsOfKeys) or not isinstance(wanted, pa.Table) or wanted.num_rows > _FEW_KEYS:
        return None
    keys = {source.raw(key): wanted[f"k{index}"].unique() for index, key in enumerate(query.view.join_keys)}
    return keys or None


def _times(spine: Spine | None, time: str) -> tuple[Micros, Micros] | None:
    """The first and the last time of an entity frame that is at hand, in microseconds."""
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
    """The values of the source's key columns that the spine asks for; None where they are many, or not all known."""
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
        # A view with other keys needs all rows of the columns that it does not name.
        if len(parts) == len(reads) and len({part.type for part in parts}) == 1:
            values = pa.chunked_array(parts).unique()
            if len(values) <= _FEW_KEYS:
                keys[column] = values
    return keys or None


def _spine_select(
    cursor: duckdb.DuckDBPyConnection, query: PointInTime, spine: Spine | None, tables: Mapping[str, Table]
) -> str:
    if spine is None:
        return range_spine(query, tables)
    if isinstance(spine, Files):
        return f"SELECT * FROM {_files(spine)}"
    assert isinstance(spine, str)
    return spine.strip().rstrip(";")


def _load_spine(
    cursor: duckdb.DuckDBPyConnection, query: PointInTime, spine: Spine | None, tables: Mapping[str, Table]
) -> int:
    """Put the whole spine into a table in its order, and answer its number of rows."""
    if isinstance(spine, pa.Table):
        _copy(cursor, _WHOLE, spine)
        return spine.num_rows
    cursor.execute(f"CREATE TEMP TABLE {_WHOLE} AS {_spine_select(cursor, query, spine, tables)}")
    rows = cursor.execute(f"SELECT count(*) FROM {_WHOLE}").fetchone()
    assert rows is not None
    return int(rows[0])


def _measure_spine(cursor: duckdb.DuckDBPyConnection, time: str) -> SpineTable:
    sql_types = {name: kind for name, kind, *_ in cursor.execute(f"DESCRIBE {SPINE}").fetchall()}
    if time not in sql_types:
        raise EntityFrameError(f"the entity frame has no column {time!r}", hint=f"it has {list(sql_types)}")
    spine = SpineTable(SPINE, sql_types, time)
    moment = spine.moment(DUCKDB)
    found = cursor.execute(f"SELECT min({moment}), max({moment}), count(*) FROM {SPINE}").fetchone()
    assert found is not None
    return replace(spine, first=found[0], last=found[1], rows=found[2])


def _view_files(cursor: duckdb.DuckDBPyConnection, name: str, files: Files, more: str = "") -> None:
    """A view of the files' rows, with nulls in the columns that no file has yet.

    Args:
        more: further columns, as SQL.
    """
    cursor.execute(f"CREATE TEMP VIEW {name} AS SELECT *{more} FROM {_files(files)}")
    if files.schema is None:
        return
    known = {column.lower() for column, *_ in cursor.execute(f"DESCRIBE {name}").fetchall()}
    missing = [(field.name, from_arrow(field.type)) for field in files.schema if field.name.lower() not in known]
    nulls = [f"CAST(NULL AS {type_name(dtype)}) AS {quote(each)}" for each, dtype in missing if dtype is not None]
    if nulls:
        columns = ", ".join([f"*{more}", *nulls])
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT {columns} FROM {_files(files)}")


def _files(files: Files) -> str:
    paths = ", ".join(text(_literal_path(path)) for path in files.paths)
    if files.format == "csv":
        return f"read_csv([{paths}], header = true, union_by_name = true)"
    # Hive partitions are off: a folder's name would add or replace columns that the source does not declare.
    union = ", union_by_name = true" if len(files.paths) > 1 else ""
    return f"read_parquet([{paths}], hive_partitioning = false{union})"


def _literal_path(path: str) -> str:
    """The path as a pattern that fits it alone: DuckDB takes every path for a pattern, so `a[1]` would read `a1`."""
    return path if "://" in path else _MAGIC.sub(r"[\g<0>]", path)


def _empty(source: Source) -> pa.Table:
    """No rows, with the columns that the source declares."""
    fields = [pa.field(field.name, field.dtype.arrow()) for field in source.schema]
    if source.is_log:
        fields += [
            pa.field("partition", pa.int32()), pa.field("offset", pa.int64()),
            pa.field("ingested_at", pa.timestamp("us", "UTC")),
        ]  # fmt: skip
    return pa.table([pa.array([], each.type) for each in fields], schema=pa.schema(fields))


def _copy(cursor: duckdb.DuckDBPyConnection, name: str, rows: pa.Table | pa.RecordBatchReader) -> None:
    caught: list[BaseException] = []
    if isinstance(rows, pa.RecordBatchReader):
        rows = pa.RecordBatchReader.from_batches(rows.schema, _watched(rows, caught))
    cursor.register("asof_copied", rows)
    try:
        cursor.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM asof_copied")
    except duckdb.Error as error:
        if caught:
            # DuckDB repeats the text of what the source raised; the source's own words are better.
            raise caught[0] from error
        raise
    finally:
        cursor.unregister("asof_copied")


def _watched(rows: pa.RecordBatchReader, caught: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """The batches; what their source raises is kept, since it does not pass through DuckDB."""
    try:
        yield from rows
    except Exception as error:
        caught.append(error)
        raise


def _drop(cursor: duckdb.DuckDBPyConnection, name: str) -> None:
    cursor.execute(f"DROP TABLE IF EXISTS {name}")


def _stream(cursor: duckdb.DuckDBPyConnection, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    relation = cursor.sql(sql)
    if relation is None:
        raise EntityFrameError("the SQL text is not a SELECT", hint="write SELECT … FROM a source")
    reader = (
        relation.to_arrow_reader(batch_rows)
        if hasattr(relation, "to_arrow_reader")
        else relation.fetch_arrow_reader(batch_rows)
    )
    yield from reader


def _table(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    return relation.to_arrow_table()


def _schema(cursor: duckdb.DuckDBPyConnection, sql: str) -> pa.Schema:
    return _table(cursor.sql(f"SELECT * FROM ({sql}) LIMIT 0")).schema


def _with_outputs(schema: pa.Schema, outputs: tuple[FeatureOut, ...]) -> pa.Schema:
    fields = list(schema) + [pa.field(feature.output, feature.dtype.arrow()) for feature in outputs]
    return pa.schema(fields)


def _one(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """A column that has been made one chunk, as an array."""
    return column.chunk(0) if column.num_chunks else pa.array([], kind)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)


_ASOF_ERROR = re.compile(r"asof: (.*)")


@contextmanager
def wrapping(what: str, *, user_sql: bool = False) -> Iterator[None]:
    """Turn DuckDB's exceptions into ours.

    Args:
        what: what was being done, for the message.
        user_sql: whether the text is the user's, so that a mistake in it is theirs.
    """
    try:
        yield
    except duckdb.InterruptException as error:
        raise Interrupted("the query was interrupted") from error
    except duckdb.OutOfMemoryException as error:
        raise StorageError(
            f"{what}: DuckDB ran out of memory", hint="raise memory_limit of the offline store, or set temp_directory"
        ) from error
    except duckdb.IOException as error:
        if "No space left" in str(error):
            raise StorageError(f"{what}: the disk is full", hint="free some space, or set temp_directory") from error
        raise SourceError(f"{what}: {_line(error)}", hint="check that the files are there and whole") from error
    except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException) as error:
        own = _ASOF_ERROR.search(str(error))
        problem = own.group(1).splitlines()[0] if own else f"{what}: a value cannot be converted: {_line(error)}"
        raise SourceError(problem, hint="declare the column as the type that it has, or mend the value") from error
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
        kind: type[AsofError] = EntityFrameError if user_sql else SourceError
        problem = _pointed(error) if user_sql else _line(error)
        raise kind(f"{what}: {problem}", hint="check the names of tables and columns") from error
    except duckdb.Error as error:
        raise StorageError(f"{what}: {_line(error)}") from error
    except RuntimeError as error:
        # What DuckDB's module raises for Ctrl-C is none of its own exceptions.
        if "interrupted" not in str(error):
            raise
        raise Interrupted("the query was interrupted") from error


def _wrapping_rows(query: ViewRows) -> Any:
    return wrapping(f"rows of feature view {query.view.name!r}")


def _wrapping_read() -> Any:
    return wrapping("historical read", user_sql=True)


def _pointed(error: BaseException) -> str:
    """DuckDB's message with its line of the text and the caret below the place."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    return "\n    ".join([lines[0], *lines[-2:]]) if len(lines) > 2 and "^" in lines[-1] else _line(error)


def _line(error: BaseException) -> str:
    return " ".join(str(error).splitlines()[:2])
