"""The engine: each read has a database of its own in memory, into which its inputs are loaded."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlglot
from sqlglot import exp

from asof.connections.duckdb import Evaluator
from asof.dtypes import DType, from_arrow
from asof.errors import EntityFrameError, SourceError
from asof.expressions.dialects import DUCKDB
from asof.offline import results
from asof.offline.delta.archives import DeltaArchives
from asof.offline.files import read_files
from asof.offline.protocol import Engine, Spine
from asof.offline.results import SPINE, LazyResult, arrival_of, cut, empty_rows, in_types
from asof.sources.protocol import Batches, Files, Input, ScanRequest, is_ordered
from asof.sql.query import WANTED, PointInTime, ViewRows
from asof.sql.quoting import quote
from asof.sql.row_select import RowSelect
from asof.sql.source_rows import ROW, SourceTable, SpineTable
from asof.values.fit import event_micros
from tests.third_engine.dialect import THIRD
from tests.third_engine.point_in_time import compile_program, range_spine
from tests.third_engine.view_rows import compile_rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LIKE_PYTHON = {
    "MICROS": lambda told: _EPOCH + timedelta(microseconds=int(told)),
    "DAYS": lambda told: date(1970, 1, 1) + timedelta(days=int(told)),
    "BOOLEAN": lambda told: told == b"1",
    "DECIMALTEXT": lambda told: Decimal(told.decode()),
}
for _name, _convert in _LIKE_PYTHON.items():
    sqlite3.register_converter(_name, _convert)


class ThirdEngine(Engine):
    dialect = THIRD
    batch_dialect = DUCKDB
    reach_hint = ""

    def __init__(self) -> None:
        self._evaluator = Evaluator(threads=1)

    def run(
        self,
        query: PointInTime | ViewRows,
        inputs: Mapping[str, Input | pa.Table | None],
        *,
        spine: Spine | None = None,
    ) -> PointInTimeRead | ViewRowsRead:
        if isinstance(query, ViewRows):
            return ViewRowsRead(query, dict(inputs))
        return PointInTimeRead(query, dict(inputs), spine)

    def sql(self, text: str, inputs: Mapping[str, Input | pa.Table | None]) -> SqlRead:
        return SqlRead(text, dict(inputs))

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        return self._evaluator.evaluate(batch, expressions)

    def read_select(self, sql: str, *, table: str, columns: Sequence[str]) -> RowSelect:
        return self._evaluator.read_select(sql, table=table, columns=columns)

    def tables_in(self, sql: str) -> set[str]:
        try:
            statements = sqlglot.parse(sql, read="sqlite")
        except sqlglot.errors.ParseError as error:
            raise EntityFrameError(f"SQL entity frame: {error}") from error
        if len(statements) != 1 or not isinstance(statements[0], exp.Query):
            raise EntityFrameError("the SQL entity frame is not one SELECT")
        return {each.name for each in statements[0].find_all(exp.Table)}

    def bucket(self, columns: Sequence[str], buckets: int) -> str:
        return f"asof_hash({', '.join(map(quote, columns))}) % {buckets}" if columns else "0"

    def reaches(self, given: Input | None) -> bool:
        return True

    def close(self) -> None:
        self._evaluator.close()


class ThirdOffline(ThirdEngine, DeltaArchives):
    def __init__(self, path: Path | str) -> None:
        ThirdEngine.__init__(self)
        DeltaArchives.__init__(self, path)


@dataclass(frozen=True)
class SqlRead(LazyResult):
    sql: str
    inputs: Mapping[str, Input | pa.Table | None]

    def text(self) -> str:
        return self.sql

    def schema(self) -> pa.Schema:
        return self._table().schema

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        table = self._table()
        yield table.schema
        yield from table.to_batches(max_chunksize=batch_rows)

    def _table(self) -> pa.Table:
        with _database(as_python=True) as database:
            for name, given in self.inputs.items():
                _load(database, name, given)
            cursor = database.execute(self.sql)
            rows = cursor.fetchall()
            return pa.table({each[0]: [row[i] for row in rows] for i, each in enumerate(cursor.description)})


@dataclass(frozen=True)
class ViewRowsRead(LazyResult):
    query: ViewRows
    inputs: Mapping[str, Input | pa.Table | None]

    def text(self) -> str:
        with _database() as database:
            return compile_rows(self.query, _tables(database, self.query, self.inputs))

    def schema(self) -> pa.Schema:
        with _database() as database:
            return self._schema(_tables(database, self.query, self.inputs))

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        with _database() as database:
            tables = _tables(database, self.query, self.inputs)
            schema = self._schema(tables)
            yield schema
            _load(database, WANTED, self.inputs.get(WANTED))
            dtypes = [dtype for _, dtype in self.query.shape(tables)]
            yield from cut(iter([_fetched(database, compile_rows(self.query, tables), dtypes, schema)]), batch_rows)

    def _schema(self, tables: Mapping[str, SourceTable]) -> pa.Schema:
        return pa.schema([(name, dtype.arrow() if dtype else pa.string()) for name, dtype in self.query.shape(tables)])


@dataclass(frozen=True)
class PointInTimeRead(results.PointInTimeResult):
    def text(self) -> str:
        with _database() as database:
            tables, frame = self._prepared(database)
            return compile_program(self.query, tables, self._load_spine(database, frame)).text

    def schema(self) -> pa.Schema:
        with _database() as database:
            return self.with_outputs(self._prepared(database)[1].schema)

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        with _database() as database:
            tables, frame = self._prepared(database)
            schema = self.with_outputs(frame.schema)
            yield schema
            for start in range(0, frame.num_rows, self.chunk):
                chunk = frame.slice(start, self.chunk).combine_chunks()
                program = compile_program(self.query, tables, self._load_spine(database, chunk))
                for step in program.steps:
                    database.execute(f"DROP TABLE IF EXISTS {step.table}")
                    database.execute(step.text)
                dtypes = [each.dtype for each in self.query.outputs]
                outputs = _fetched(database, program.final, dtypes, self.with_outputs(pa.schema([])))
                yield from cut(iter([in_types([*chunk.columns, *outputs.columns], schema)]), batch_rows)

    def _prepared(self, database: sqlite3.Connection) -> tuple[dict[str, SourceTable], pa.Table]:
        """The sources' tables, and the entity frame."""
        tables = _tables(database, self.query, self.inputs)
        if isinstance(self.spine, pa.Table):
            return tables, self.spine
        if isinstance(self.spine, Files):
            return tables, read_files(self.spine).read_all()
        if isinstance(self.spine, str):
            return tables, SqlRead(self.spine, self.inputs).to_arrow()
        keys = {k: f for read in self.query.reads for k, f in zip(read.keys, read.view.key_fields, strict=True)}
        dtypes = [*(field.dtype for field in keys.values()), DType("Timestamp")]
        schema = pa.schema([(n, d.arrow()) for n, d in zip((*keys, self.query.time), dtypes, strict=True)])
        return tables, pa.Table.from_batches([_fetched(database, range_spine(self.query, tables), dtypes, schema)])

    def _load_spine(self, database: sqlite3.Connection, frame: pa.Table) -> SpineTable:
        sql_types = _load(database, SPINE, frame.select([*self.spine_keys, self.query.time]))
        moment = SpineTable(SPINE, sql_types, self.query.time).moment(THIRD)
        first, last, rows = database.execute(f"SELECT min({moment}), max({moment}), count(*) FROM {SPINE}").fetchone()
        return SpineTable(SPINE, sql_types, self.query.time, first, last, rows)


@contextmanager
def _database(*, as_python: bool = False) -> Iterator[sqlite3.Connection]:
    """A database that is gone afterwards.

    Args:
        as_python: columns that are times, dates, flags and decimals come back as such, and not as they are stored.
    """
    database = sqlite3.connect(
        ":memory:", detect_types=sqlite3.PARSE_DECLTYPES if as_python else 0, check_same_thread=False
    )
    problems: list[str] = []

    def error(value: object, problem: str) -> None:
        if value is not None:
            problems.append(problem.removeprefix("asof: "))
            raise ValueError(problem)

    database.create_function("asof_error", 2, error)
    database.create_function("asof_hash", -1, lambda *values: zlib.crc32(repr(values).encode()))
    database.create_function("asof_decimal", 1, lambda told: f"{Decimal(told).normalize():f}" if told else None)
    try:
        yield database
    except sqlite3.Error as caught:
        raise SourceError(problems[0] if problems else str(caught)) from caught
    finally:
        database.close()


def _tables(
    database: sqlite3.Connection, query: PointInTime | ViewRows, inputs: Mapping[str, Input | pa.Table | None]
) -> dict[str, SourceTable]:
    """Load every source of the read; source name → its table."""
    tables = {}
    for number, source in enumerate({read.view.source.name: read.view.source for read in query.reads}.values()):
        given = inputs.get(source.name)
        rows = _rows(given) if given is not None else empty_rows(source)
        dtypes = {field.name: from_arrow(field.type) for field in rows.schema}
        if is_ordered(given):
            rows = rows.append_column(ROW, pa.array(range(rows.num_rows), pa.int64()))
        sql_types = _load(database, f"asof_source_{number}", rows)
        sql_types.pop(ROW, None)
        arrival = arrival_of(source, given, sql_types)
        tables[source.name] = SourceTable(f"asof_source_{number}", sql_types, dtypes, arrival, THIRD)
    return tables


def _rows(given: Input | pa.Table) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, Batches):
        return given.open(ScanRequest()).read_all()
    assert isinstance(given, Files)
    return read_files(given).read_all()


def _load(database: sqlite3.Connection, name: str, given: Input | pa.Table | None) -> dict[str, str]:
    """Put rows into a table of the name; its columns with their types."""
    if given is None:
        return {}
    rows = _rows(given)
    stored = [_stored(column, from_arrow(column.type)) for column in rows.columns]
    types = dict(zip(rows.column_names, (sql_type for sql_type, _ in stored), strict=True))
    columns = ", ".join(f"{quote(column)} {sql_type}" for column, sql_type in types.items())
    database.execute(f"DROP TABLE IF EXISTS {quote(name)}")
    database.execute(f"CREATE TABLE {quote(name)} ({columns})")
    marks = ", ".join("?" * len(types))
    database.executemany(f"INSERT INTO {quote(name)} VALUES ({marks})", zip(*(values for _, values in stored)))
    return types


def _stored(column: pa.ChunkedArray, dtype: DType | None) -> tuple[str, list[Any]]:
    if dtype is None:
        return "TEXT", [None if each is None else str(each) for each in column.to_pylist()]
    if dtype.name == "Timestamp":
        return "MICROS", [each for chunk in column.chunks for each in event_micros(chunk).to_pylist()]
    if dtype.name == "Date":
        return "DAYS", column.cast(pa.int32()).to_pylist()
    if dtype.name == "Decimal":
        return "DECIMALTEXT", [None if each is None else f"{each:f}" for each in column.to_pylist()]
    return THIRD.type_name(dtype), column.to_pylist()


def _fetched(
    database: sqlite3.Connection, select: str, dtypes: Sequence[DType | None], schema: pa.Schema
) -> pa.RecordBatch:
    """The rows of a SELECT, in the types of the schema."""
    rows = database.execute(select).fetchall()
    columns = []
    for place, (dtype, field) in enumerate(zip(dtypes, schema, strict=True)):
        values = [row[place] for row in rows]
        if dtype is not None and dtype.name in ("Timestamp", "Date"):
            whole = pa.int64() if dtype.name == "Timestamp" else pa.int32()
            columns.append(pa.array(values, whole).cast(field.type))
        elif dtype is not None and dtype.name == "Bool":
            columns.append(pa.array([None if each is None else bool(each) for each in values], field.type))
        elif dtype is not None and dtype.name == "Decimal":
            columns.append(pa.array([None if each is None else Decimal(str(each)) for each in values], field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
