"""The offline store that computes inside a Postgres database: the entity frame goes there, the answer comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import exp

from asof.connections.duckdb import Evaluator
from asof.connections.postgres.database import Postgres
from asof.definitions import Source
from asof.errors import EntityFrameError, StorageError
from asof.expressions.dialects import DUCKDB
from asof.offline.postgres.archives import PostgresArchives
from asof.offline.postgres.arrow import dtype_of, plain_field, sql_type_of, stored_as, travelling
from asof.offline.postgres.session import Given, Session, aliased, relation_in, rows_of, session
from asof.selection import FeatureOut
from asof.sources.protocol import Files, Input
from asof.sql.postgres import dialect as words
from asof.sql.postgres.dialect import POSTGRES
from asof.sql.postgres.latest import AT, US, N
from asof.sql.postgres.point_in_time import TIED, Answer, Statements, compile_statements, near_keys, range_spine
from asof.sql.postgres.view_rows import compile_rows
from asof.sql.query import WANTED, PointInTime, ViewRows, columns_of
from asof.sql.quoting import quote
from asof.sql.source_rows import Arrival, SpineTable, Table
from asof.values.fit import event_micros

Spine: TypeAlias = pa.Table | Files | str
"""An entity frame: a table, files, or a SELECT over the inputs by name."""

SPINE = "asof_spine"
_WHOLE = "asof_spine_whole"
_CHUNK_VALUES = 64_000_000
"""How many values one pass may hold here; bigger spines are read in several passes, so that memory is bounded."""
_FEWEST_ROWS, _MOST_ROWS = 250_000, 5_000_000
_TIMES = pa.timestamp("us", "UTC")
_OF_LOOKUPS = {"enable_bitmapscan": "off"}
"""A bitmap forgets the order of its index, and then all of a key's rows are sorted to find the last of them."""


class PostgresEngine:
    """Runs point-in-time reads and SQL in the database; nothing is kept there between two reads.

    Args:
        settings: of the server, for each read.
    """

    dialect = POSTGRES
    batch_dialect = DUCKDB

    def __init__(self, database: Postgres, settings: Mapping[str, str]) -> None:
        self.database = database
        self.settings = dict(settings)
        self._evaluator = Evaluator(threads=1)

    def run(
        self, query: PointInTime | ViewRows, inputs: Mapping[str, Given], *, spine: Spine | None = None
    ) -> PointInTimeResult | ViewRowsResult:
        """A point-in-time read, or (without a spine) a read of one view's own rows.

        Args:
            inputs: source name → its rows; None where there are none. An SQL spine sees all of them by name.
            spine: the entity frame; None reads the query's time range.
        """
        if isinstance(query, ViewRows):
            return ViewRowsResult(self, query, dict(inputs))
        if isinstance(spine, Files):
            spine = rows_of(spine).read_all()
        return PointInTimeResult(self, query, dict(inputs), spine)

    def sql(self, text: str, inputs: Mapping[str, Given]) -> SqlResult:
        """SQL text over named inputs."""
        return SqlResult(self, text, dict(inputs))

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        """Evaluate expressions over a batch, in this process: a round trip would cost more than the work."""
        return self._evaluator.evaluate(batch, expressions)

    def tables_in(self, sql: str) -> set[str]:
        """The tables that a SELECT names.

        Raises:
            EntityFrameError: it is not one SELECT.
        """
        try:
            statements = sqlglot.parse(sql, read="postgres")
        except sqlglot.errors.ParseError as error:
            problem = error.errors[0]["description"].rstrip(".") if error.errors else str(error)
            raise EntityFrameError(
                f"SQL entity frame: {problem}{_place(error)}", hint="check the names of tables and columns"
            ) from error
        except sqlglot.errors.SqlglotError as error:
            raise EntityFrameError(f"SQL entity frame: {error}", hint="check the text") from error
        writes = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into)
        if len(statements) != 1 or not isinstance(statements[0], exp.Query) or statements[0].find(*writes):
            raise EntityFrameError("the SQL entity frame is not one SELECT", hint="write SELECT … FROM a source")
        own = {each.alias for each in statements[0].find_all(exp.CTE)}
        return {each.name for each in statements[0].find_all(exp.Table) if each.name and each.name not in own}

    def reaches(self, given: Input | None) -> bool:
        """Whether rows stand in this database; what does not would be shipped for every read."""
        return given is None or bool(relation_in(self.database, given))

    def bucket(self, columns: list[str], buckets: int) -> str:
        """SQL of a number below `buckets`, the same wherever the columns are the same."""
        if not columns:
            return "0"
        row = ", ".join(quote(column) for column in columns)
        return f"((hash_record_extended(ROW({row}), 0) & 9223372036854775807) % {buckets})"

    def close(self) -> None:
        self._evaluator.close()
        self.database.close()


class PostgresOffline(PostgresEngine, PostgresArchives):
    """A database that joins, and keeps archives and training sets as tables.

    Args:
        schema: where they are; made where it is missing.
        work_mem: how much memory a sort or hash of a read may take in the server, like `256MB`.
        connection: how the database is reached (`asof.connections.postgres.database.Postgres`).
    """

    def __init__(self, *, schema: str = "", work_mem: str = "256MB", **connection: Any) -> None:
        database = Postgres(**{"label": "offline_store", "kind": StorageError, "schema": schema, **connection})
        settings = {"work_mem": work_mem.replace(" ", ""), "maintenance_work_mem": work_mem.replace(" ", "")}
        PostgresEngine.__init__(self, database, settings)
        PostgresArchives.__init__(self, database, schema or "asof")


class SqlResult:
    """SQL over inputs; each `reader` runs it again."""

    def __init__(self, engine: PostgresEngine, sql: str, inputs: Mapping[str, Given]) -> None:
        self._engine, self._sql, self._inputs = engine, sql, inputs

    @property
    def schema(self) -> pa.Schema:
        with self._session() as opened:
            return _schema(opened, self._text(opened, describe_only=True))

    def reader(self, batch_rows: int = 100_000) -> pa.RecordBatchReader:
        parts = self._schema_and_batches(batch_rows)
        return pa.RecordBatchReader.from_batches(next(parts), parts)

    def to_arrow(self) -> pa.Table:
        return self.reader().read_all()

    def _schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        with self._session() as opened:
            select = self._text(opened)
            with opened.read_only():
                schema, batches = opened.stream(select)
                yield schema
                yield from _cut(batches, batch_rows)

    def _session(self) -> Any:
        return session(self._engine.database, "SQL", self._engine.settings, user_sql=True)

    def _text(self, opened: Session, *, describe_only: bool = False) -> str:
        for name, given in self._inputs.items():
            if given is not None:
                opened.expose(name, given, describe_only=describe_only)
        return opened.with_inputs(self._sql)


@dataclass(frozen=True)
class ViewRowsResult:
    """A read of one view's own rows; each `reader` runs it again."""

    _engine: PostgresEngine
    _query: ViewRows
    _inputs: Mapping[str, Given]

    @property
    def schema(self) -> pa.Schema:
        with self._session() as opened:
            return self._shape(self._tables(opened, describe_only=True))

    @property
    def text(self) -> str:
        """The SQL that a read would run now."""
        with self._session() as opened:
            return compile_rows(self._query, self._tables(opened, describe_only=True))

    def reader(self, batch_rows: int = 100_000) -> pa.RecordBatchReader:
        parts = self._schema_and_batches(batch_rows)
        return pa.RecordBatchReader.from_batches(next(parts), parts)

    def _schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        with self._session() as opened:
            tables = self._tables(opened)
            schema = self._shape(tables)
            yield schema
            _, batches = opened.stream(compile_rows(self._query, tables))
            for batch in _cut(batches, batch_rows):
                yield _as(batch, schema)

    def _tables(self, opened: Session, *, describe_only: bool = False) -> dict[str, Table]:
        wanted = self._inputs.get(WANTED)
        if wanted is not None:
            assert isinstance(wanted, pa.Table)
            name = opened.ship(wanted.to_reader(), describe_only=describe_only)
            opened.execute(f"ALTER TABLE {name} RENAME TO {WANTED}")
        return _prepare(opened, self._query, self._inputs, whole=False, describe_only=describe_only)

    def _shape(self, tables: Mapping[str, Table]) -> pa.Schema:
        return pa.schema(
            [(name, dtype.arrow() if dtype is not None else pa.string()) for name, dtype in self._query.shape(tables)]
        )

    def _session(self) -> Any:
        what = f"rows of feature view {self._query.view.name!r}"
        return session(self._engine.database, what, self._engine.settings)


@dataclass(frozen=True)
class PointInTimeResult:
    """A point-in-time read; each `reader` runs it again. Rows are the spine's, in its order, in bounded memory."""

    _engine: PostgresEngine
    _query: PointInTime
    _inputs: Mapping[str, Given]
    _spine: pa.Table | str | None
    chunk_rows: int = 0
    """How many spine rows one pass handles; 0 chooses by the number of features."""

    @property
    def schema(self) -> pa.Schema:
        """The spine's columns, then the outputs."""
        if isinstance(self._spine, pa.Table):
            return _with_outputs(self._spine.schema, self._query.outputs)
        with self._session() as opened:
            select = self._spine_select(opened, self._prepare(opened, describe_only=True))
            return _with_outputs(_schema(opened, select), self._query.outputs)

    @property
    def text(self) -> str:
        """The SQL that a read would run now (for its first pass)."""
        with self._session() as opened:
            tables = self._prepare(opened, describe_only=True)
            if isinstance(self._spine, pa.Table):
                spine = _measured(self._spine.slice(0, self._chunk()), self._query)
            else:
                schema = opened.described(self._spine_select(opened, tables))
                spine = SpineTable(SPINE, _sql_types(schema), self._query.time)
            return compile_statements(self._query, tables, spine).text

    def reader(self, batch_rows: int = 100_000) -> pa.RecordBatchReader:
        """Run it; rows come in batches of at most `batch_rows`."""
        if isinstance(self._spine, pa.Table):
            schema = self.schema
            return pa.RecordBatchReader.from_batches(schema, self._over_table(self._spine, schema, batch_rows))
        parts = self._over_loaded(batch_rows)
        return pa.RecordBatchReader.from_batches(next(parts), parts)

    def to_arrow(self) -> pa.Table:
        return self.reader().read_all()

    def _session(self) -> Any:
        settings = {**self._engine.settings, **_OF_LOOKUPS}
        return session(self._engine.database, "historical read", settings, user_sql=True)

    def _chunk(self) -> int:
        if self.chunk_rows:
            return self.chunk_rows
        return max(_FEWEST_ROWS, min(_MOST_ROWS, _CHUNK_VALUES // max(1, len(self._query.outputs))))

    def _prepare(self, opened: Session, *, describe_only: bool = False) -> dict[str, Table]:
        whole = isinstance(self._spine, str)
        return _prepare(opened, self._query, self._inputs, whole=whole, describe_only=describe_only)

    def _spine_select(self, opened: Session, tables: Mapping[str, Table]) -> str:
        if self._spine is None:
            return range_spine(self._query, tables)
        assert isinstance(self._spine, str)
        return opened.with_inputs(self._spine.strip().rstrip(";"))

    def _over_table(self, spine: pa.Table, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The server gets keys and times alone; the frame's own columns stay here, and stay what they are."""
        if not self._query.outputs:
            yield from spine.to_batches(max_chunksize=batch_rows)
            return
        count = len(spine.schema)
        with self._session() as opened:
            tables = self._prepare(opened)
            for start in range(0, max(spine.num_rows, 1), self._chunk()):
                chunk = spine.slice(start, self._chunk())
                if not chunk.num_rows:
                    return
                made = _measured(chunk, self._query)
                _ship_spine(opened, chunk, self._query)
                outputs = self._run(opened, compile_statements(self._query, tables, made), 0, chunk.num_rows)
                for at in range(0, chunk.num_rows, batch_rows):
                    own = chunk.slice(at, batch_rows).combine_chunks()
                    found = outputs(at, batch_rows)
                    columns = [_one(own.column(i), schema.field(i).type) for i in range(count)]
                    columns += [_cast(column, schema.field(count + i).type) for i, column in enumerate(found)]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _over_loaded(self, batch_rows: int) -> Iterator[Any]:
        with self._session() as opened:
            tables = self._prepare(opened)
            select = self._spine_select(opened, tables)
            described = opened.described(select)
            schema = _with_outputs(pa.schema([plain_field(each) for each in described]), self._query.outputs)
            yield schema
            rows = self._load(opened, select, described)
            for start in range(0, rows, self._chunk()):
                made = self._chunk_of_loaded(opened, described, start)
                assert made.rows is not None
                own = f"SELECT {N}, {', '.join(map(quote, described.names))} FROM {SPINE}"
                frame = _InOrder(opened.table(own), start, made.rows)
                outputs = self._run(opened, compile_statements(self._query, tables, made), start, made.rows)
                for at in range(0, made.rows, batch_rows):
                    found = [*frame.slice(at, batch_rows), *outputs(at, batch_rows)]
                    columns = [_cast(column, field.type) for column, field in zip(found, schema, strict=True)]
                    yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _load(self, opened: Session, select: str, described: pa.Schema) -> int:
        """Put the whole spine into a table, numbered in its order; how many rows it has."""
        time = self._query.time
        if time not in described.names:
            raise EntityFrameError(f"the entity frame has no column {time!r}", hint=f"it has {described.names}")
        numbered = f"SELECT row_number() OVER () - 1 AS {N}, * FROM (\n{select}\n) AS asof_q"
        opened.execute(f"CREATE TEMP TABLE {_WHOLE} ON COMMIT DROP AS\n{numbered}\nWITH NO DATA")
        with opened.read_only():
            opened.execute(f"INSERT INTO {_WHOLE}\n{numbered}")
        sql_type = words.time_of(quote(time), _sql_types(described)[time])
        rows, odd = opened.values(
            f"SELECT count(*), count(*) FILTER (WHERE NOT isfinite({sql_type})) FROM {_WHOLE}"
        )  # fmt: skip
        if odd:
            raise EntityFrameError(
                f"the entity frame's time {time!r} is infinite in {odd} rows", hint="leave such rows out"
            )
        return int(rows)

    def _chunk_of_loaded(self, opened: Session, described: pa.Schema, start: int) -> SpineTable:
        time = self._query.time
        types = _sql_types(described)
        at = words.time_of(quote(time), types[time])
        own = ", ".join(quote(name) for name in described.names)
        near = near_keys(self._query)
        order = ", ".join([*(words.sortable(quote(key), types[key]) for key in near), AT])
        opened.execute(f"DROP TABLE IF EXISTS {SPINE}")
        opened.execute(
            f"CREATE TEMP TABLE {SPINE} ON COMMIT DROP AS\nSELECT {N}, {at} AS {AT}, {words.micros_of(at)} AS {US}, "
            f"{own}\nFROM {_WHOLE}\nWHERE {N} >= {start} AND {N} < {start + self._chunk()}\nORDER BY {order}"
        )
        opened.execute(f"ANALYZE {SPINE}")
        first, last, rows = opened.values(f"SELECT min({US}), max({US}), count(*) FROM {SPINE}")
        return SpineTable(SPINE, types, time, first, last, rows, near)

    def _run(
        self, opened: Session, statements: Statements, first: int, rows: int
    ) -> Callable[[int, int], list[pa.ChunkedArray]]:
        """What gives the outputs of some of the rows, in the order of the spine from row number `first` on."""
        answers = []
        for answer in statements.answers:
            for step in answer.steps:
                opened.execute(step)
            found = opened.table(answer.select)
            again = None
            if answer.again and found.num_rows > rows:
                again = _asked_again(opened, answer, found.column(0).to_numpy())
            for step in answer.steps:
                made = step.partition("CREATE TEMP TABLE ")[2].split(" ")[0]
                if made:
                    opened.execute(f"DROP TABLE {made}")
            answers.append((answer.outputs, _InOrder(found, first, rows, again=again)))

        def outputs(at: int, count: int) -> list[pa.ChunkedArray]:
            columns: dict[int, pa.ChunkedArray] = {}
            for places, found in answers:
                columns |= dict(zip(places, found.slice(at, count), strict=True))
            return [columns[place] for place in sorted(columns)]

        return outputs


class _InOrder:
    """Rows in the order of their first column, each number once, from `first` on.

    Args:
        again: rows that take the place of those with the same numbers.
    """

    def __init__(self, found: pa.Table, first: int, rows: int, *, again: pa.Table | None = None) -> None:
        numbers = found.column(0).to_numpy() - first
        self._found = found.remove_column(0)
        self._places: pa.Array | None = None
        if again is None and np.array_equal(numbers, np.arange(rows)):
            return
        places = np.empty(rows, dtype=np.int64)
        places[numbers] = np.arange(found.num_rows)
        if again is not None:
            places[again.column(0).to_numpy() - first] = found.num_rows + np.arange(again.num_rows)
            self._found = pa.concat_tables([self._found, again.remove_column(0)])
        self._places = pa.array(places)

    def slice(self, at: int, rows: int) -> list[pa.ChunkedArray]:
        """The columns behind the first, of some of the rows."""
        if self._places is None:
            part: pa.Table = self._found.slice(at, rows)
        else:
            part = self._found.take(self._places.slice(at, rows))
        columns: list[pa.ChunkedArray] = part.combine_chunks().columns
        return columns


def _asked_again(opened: Session, answer: Answer, numbers: np.ndarray[Any, Any]) -> pa.Table:
    """The rows for the numbers that were answered more than once."""
    least = numbers.min()
    tied = np.flatnonzero(np.bincount(numbers - least) > 1) + least
    opened.execute(f"CREATE TEMP TABLE {TIED} ({N} bigint) ON COMMIT DROP")
    opened.copy(TIED, pa.table({N: tied}))
    opened.execute(f"ANALYZE {TIED}")
    found = opened.table(answer.again)
    opened.execute(f"DROP TABLE {TIED}")
    return found


def _prepare(
    opened: Session,
    query: PointInTime | ViewRows,
    inputs: Mapping[str, Given],
    *,
    whole: bool,
    describe_only: bool = False,
) -> dict[str, Table]:
    """Make every source of the read visible; source name → its table.

    Args:
        whole: a text may read any column of what is shipped.
    """
    sources = {read.view.source.name: read.view.source for read in query.reads}
    if whole:
        for name, given in inputs.items():
            if name not in sources and given is not None:
                opened.expose(name, given, describe_only=describe_only)
    return {
        name: _source_table(opened, source, inputs.get(name), query, whole=whole, describe_only=describe_only)
        for name, source in sources.items()
    }


def _source_table(
    opened: Session, source: Source, given: Given, query: PointInTime | ViewRows, *, whole: bool, describe_only: bool
) -> Table:
    used = () if whole else (*columns_of(query, source.name), "partition", "offset", "ingested_at")
    term = opened.expose(source.name, given if given is not None else _empty(source), columns=used,
                         describe_only=describe_only)  # fmt: skip
    schema = opened.described(f"SELECT * FROM {aliased(term)} LIMIT 0")
    sql_types = _sql_types(schema)
    dtypes = {field.name: dtype_of(field) for field in schema}
    arrival: Arrival
    if source.is_log and {"partition", "offset"} <= sql_types.keys():
        arrival = "log"
    else:
        arrival = "row" if isinstance(given, Files) else "columns"
    return Table(term, sql_types, dtypes, arrival, POSTGRES, opened.indexes(term))


def _sql_types(schema: pa.Schema) -> dict[str, str]:
    return {field.name: sql_type_of(field) for field in schema}


def _empty(source: Source) -> pa.Table:
    """No rows, with the columns that the source declares."""
    fields = [pa.field(field.name, field.dtype.arrow()) for field in source.schema]
    if source.is_log:
        fields += [
            pa.field("partition", pa.int32()), pa.field("offset", pa.int64()), pa.field("ingested_at", _TIMES),
        ]  # fmt: skip
    return pa.schema(fields).empty_table()


def _used_columns(query: PointInTime) -> list[str]:
    return list(dict.fromkeys(key for read in query.reads for key in read.keys))


def _measured(chunk: pa.Table, query: PointInTime) -> SpineTable:
    """A chunk of the spine as the server will see it."""
    times = _micros(chunk, query.time)
    span = pc.min_max(times)
    types = {}
    for name in _used_columns(query):
        found = stored_as(chunk.schema.field(name).type)
        types[name] = found[1] if found else "text"
    first, last = span["min"].as_py(), span["max"].as_py()
    return SpineTable(SPINE, types, query.time, first, last, chunk.num_rows, near_keys(query))


def _ship_spine(opened: Session, chunk: pa.Table, query: PointInTime) -> None:
    """Number, time and keys of each row, near ones together."""
    times = _micros(chunk, query.time)
    columns = {N: pa.chunked_array([pa.array(np.arange(chunk.num_rows))]), AT: times.cast(_TIMES), US: times}
    types = [(N, "bigint"), (AT, words.TYPES["Timestamp"]), (US, "bigint")]
    for name in _used_columns(query):
        column, sql_type = travelling(chunk[name], name)
        columns[name] = column
        types.append((name, sql_type))
    made = ", ".join(f"{quote(name)} {sql_type}" for name, sql_type in types)
    opened.execute(f"DROP TABLE IF EXISTS {SPINE}")
    opened.execute(f"CREATE TEMP TABLE {SPINE} ({made}) ON COMMIT DROP")
    rows = pa.table(columns)
    # Arrow has no order of lists; it would only be quicker.
    near = [name for name in (*near_keys(query), US) if not pa.types.is_nested(rows[name].type)]
    opened.copy(SPINE, rows.take(pc.sort_indices(rows, [(name, "ascending") for name in near])))
    opened.execute(f"ANALYZE {SPINE}")


def _micros(chunk: pa.Table, time: str) -> pa.ChunkedArray:
    if time not in chunk.column_names:
        raise EntityFrameError(f"the entity frame has no column {time!r}", hint=f"it has {chunk.column_names}")
    return pa.chunked_array([event_micros(each) for each in chunk[time].chunks], pa.int64())


def _schema(opened: Session, select: str) -> pa.Schema:
    return pa.schema([plain_field(each) for each in opened.described(select)])


def _with_outputs(schema: pa.Schema, outputs: tuple[FeatureOut, ...]) -> pa.Schema:
    return pa.schema([*schema, *(pa.field(feature.output, feature.dtype.arrow()) for feature in outputs)])


def _cut(batches: Iterator[pa.RecordBatch], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most so many."""
    for batch in batches:
        for at in range(0, batch.num_rows, batch_rows):
            yield batch.slice(at, batch_rows)


def _as(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The columns in their types and under their names: the server's names are no longer than 63 bytes."""
    columns = [_cast(each, field.type) for each, field in zip(batch.columns, schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _one(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """A column that has been made one chunk, as an array."""
    return column.chunk(0) if column.num_chunks else pa.array([], kind)


def _cast(column: Any, kind: pa.DataType) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        column = _one(column, column.type)
    return column if column.type == kind else column.cast(kind)


def _place(error: sqlglot.errors.ParseError) -> str:
    if not error.errors:
        return ""
    found = error.errors[0]
    return f" at line {found['line']}, column {found['col']}, near {found['highlight']!r}"


__all__ = ["PostgresEngine", "PostgresOffline"]
