"""What Postgres reads: SQL over inputs, one view's own rows, and point-in-time reads in passes over the spine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asof.connections.postgres.database import Postgres
from asof.display import counted
from asof.errors import EntityFrameError
from asof.offline import results
from asof.offline.in_order import InOrder
from asof.offline.postgres.arrow import plain_field, stored_as, travelling
from asof.offline.postgres.inputs import prepare, sql_types_of
from asof.offline.postgres.session import Given, PostgresSession, session
from asof.offline.results import SPINE, WHOLE, LazyResult, cut, in_types
from asof.sql.names import safe_names
from asof.sql.postgres.dialect import micros_of, sortable
from asof.sql.postgres.latest import AT, US, N
from asof.sql.postgres.point_in_time import TIED, OutputSelect, Statements, compile_statements, near_keys, range_spine
from asof.sql.postgres.types import TYPES, time_of
from asof.sql.postgres.view_rows import compile_rows
from asof.sql.query import WANTED, PointInTime, ViewRows
from asof.sql.quoting import quote
from asof.sql.source_rows import SourceTable, SpineTable
from asof.values.fit import event_micros

_TIMES = pa.timestamp("us", "UTC")
_OF_LOOKUPS = {"enable_bitmapscan": "off"}
"""A bitmap scan loses the order of its index, so that all of a key's rows would be sorted to find the last."""


@dataclass(frozen=True)
class PostgresServer:
    """The database of reads, which run in one transaction each.

    Args:
        settings: server settings for each read.
    """

    database: Postgres
    settings: Mapping[str, str]

    def session(
        self, what: str, *, user_sql: bool = False, settings: Mapping[str, str] | None = None
    ) -> AbstractContextManager[PostgresSession]:
        return session(self.database, what, {**self.settings, **(settings or {})}, user_sql=user_sql)


@dataclass(frozen=True)
class PostgresSqlResult(LazyResult):
    """SQL over inputs."""

    server: PostgresServer
    sql: str
    inputs: Mapping[str, Given]

    def text(self) -> str:
        return self.sql

    def schema(self) -> pa.Schema:
        with self._session() as opened:
            return _schema(opened, self._exposed(opened, describe_only=True))

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        with self._session() as opened:
            select = self._exposed(opened)
            with opened.read_only():
                schema, batches = opened.stream(select, is_users=True)
                yield schema
                yield from cut(batches, batch_rows)

    def _session(self) -> AbstractContextManager[PostgresSession]:
        return self.server.session("SQL", user_sql=True)

    def _exposed(self, opened: PostgresSession, *, describe_only: bool = False) -> str:
        for name, given in self.inputs.items():
            if given is not None:
                opened.expose(name, given, describe_only=describe_only)
        return opened.with_inputs(self.sql)


@dataclass(frozen=True)
class PostgresViewRowsResult(LazyResult):
    """A read of one view's own rows."""

    server: PostgresServer
    query: ViewRows
    inputs: Mapping[str, Given]

    def schema(self) -> pa.Schema:
        with self._session() as opened:
            return self._shape(self._tables(opened, describe_only=True))

    def text(self) -> str:
        """The SQL that a read would run now."""
        with self._session() as opened:
            return compile_rows(self.query, self._tables(opened, describe_only=True))

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        with self._session() as opened:
            tables = self._tables(opened)
            schema = self._shape(tables)
            yield schema
            _, batches = opened.stream(compile_rows(self.query, tables))
            for batch in cut(batches, batch_rows):
                yield in_types(batch.columns, schema)

    def _tables(self, opened: PostgresSession, *, describe_only: bool = False) -> dict[str, SourceTable]:
        wanted = self.inputs.get(WANTED)
        if wanted is not None:
            assert isinstance(wanted, pa.Table)
            name = opened.ship(wanted.to_reader(), describe_only=describe_only)
            opened.execute(f"ALTER TABLE {name} RENAME TO {WANTED}")
        return prepare(opened, self.query, self.inputs, whole=False, describe_only=describe_only)

    def _shape(self, tables: Mapping[str, SourceTable]) -> pa.Schema:
        return pa.schema(
            [(name, dtype.arrow() if dtype is not None else pa.string()) for name, dtype in self.query.shape(tables)]
        )

    def _session(self) -> AbstractContextManager[PostgresSession]:
        return self.server.session(f"rows of feature view {self.query.view.name!r}")


@dataclass(frozen=True, kw_only=True)
class PostgresPointInTimeResult(results.PointInTimeResult):
    """See `asof.offline.results.PointInTimeResult`; an entity frame in files has been read."""

    server: PostgresServer

    def schema(self) -> pa.Schema:
        """The spine's columns, then the outputs."""
        if isinstance(self.spine, pa.Table):
            return self.with_outputs(self.spine.schema)
        with self._session() as opened:
            select = self._spine_select(opened, self._prepare(opened, describe_only=True))
            return self.with_outputs(_schema(opened, select))

    def text(self) -> str:
        """The SQL that a read would run now (for its first pass)."""
        with self._session() as opened:
            tables = self._prepare(opened, describe_only=True)
            if isinstance(self.spine, pa.Table):
                spine = _measured(self.spine.slice(0, self.chunk), self.query)
            else:
                schema = opened.described(self._spine_select(opened, tables))
                spine = SpineTable(SPINE, sql_types_of(schema), self.query.time, names=safe_names(schema.names))
            return compile_statements(self.query, tables, spine).text

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        if isinstance(self.spine, pa.Table):
            schema = self.schema()
            yield schema
            yield from self._over_table(self.spine, schema, batch_rows)
        else:
            yield from self._over_loaded(batch_rows)

    def _session(self) -> AbstractContextManager[PostgresSession]:
        return self.server.session("historical read", user_sql=True, settings=_OF_LOOKUPS)

    def _prepare(self, opened: PostgresSession, *, describe_only: bool = False) -> dict[str, SourceTable]:
        whole = isinstance(self.spine, str)
        return prepare(opened, self.query, self.inputs, whole=whole, describe_only=describe_only)

    def _spine_select(self, opened: PostgresSession, tables: Mapping[str, SourceTable]) -> str:
        if self.spine is None:
            return range_spine(self.query, tables)
        assert isinstance(self.spine, str)
        return opened.with_inputs(self.spine.strip().rstrip(";"))

    def _over_table(self, spine: pa.Table, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """The server gets only keys and times; the frame's own columns stay here, unchanged."""
        if not self.query.outputs:
            yield from spine.to_batches(max_chunksize=batch_rows)
            return
        with self._session() as opened:
            tables = self._prepare(opened)
            for start in range(0, max(spine.num_rows, 1), self.chunk):
                # Rows are numbered within their chunk, so results are put in order by it alone.
                chunk = spine.slice(start, self.chunk)
                if not chunk.num_rows:
                    return
                made = _measured(chunk, self.query)
                _ship_spine(opened, chunk, self.query)
                outputs = self._run(opened, compile_statements(self.query, tables, made), 0, chunk.num_rows)
                for at in range(0, chunk.num_rows, batch_rows):
                    own = chunk.slice(at, batch_rows).combine_chunks()
                    yield in_types([*own.columns, *outputs(at, batch_rows)], schema)

    def _over_loaded(self, batch_rows: int) -> Iterator[Any]:
        with self._session() as opened:
            tables = self._prepare(opened)
            select = self._spine_select(opened, tables)
            described = opened.described(select)
            schema = self.with_outputs(pa.schema([plain_field(each) for each in described]))
            yield schema
            rows = self._load(opened, select, described)
            for start in range(0, rows, self.chunk):
                made = self._chunk_of_loaded(opened, described, start)
                assert made.rows is not None
                own = f"SELECT {N}, {', '.join(map(made.column, described.names))} FROM {SPINE}"
                frame = InOrder(opened.table(own, is_users=True), start, made.rows)
                outputs = self._run(opened, compile_statements(self.query, tables, made), start, made.rows)
                for at in range(0, made.rows, batch_rows):
                    yield in_types([*frame.slice(at, batch_rows), *outputs(at, batch_rows)], schema)

    def _load(self, opened: PostgresSession, select: str, described: pa.Schema) -> int:
        """Put the whole spine into a table, numbered in its order; returns its number of rows."""
        time = self.query.time
        if time not in described.names:
            raise EntityFrameError(f"the entity frame has no column {time!r}", hint=f"it has {described.names}")
        names = safe_names(described.names)
        columns = ", ".join(map(quote, names.values()))
        numbered = f"SELECT row_number() OVER () - 1 AS {N}, * FROM (\n{select}\n) AS asof_q ({columns})"
        # In two steps: a table cannot be made in a read-only transaction, and the user's SQL may run in no other.
        opened.execute(f"CREATE TEMP TABLE {WHOLE} ON COMMIT DROP AS\n{numbered}\nWITH NO DATA")
        with opened.read_only():
            opened.execute(f"INSERT INTO {WHOLE}\n{numbered}")
        for name, sql_type in sql_types_of(described).items():
            # The driver makes one list of lists in lists.
            nested = f"SELECT count(*) FROM {WHOLE} WHERE array_ndims({quote(names[name])}) > 1"
            if sql_type.endswith("[]") and any(opened.values(nested)):
                raise EntityFrameError(
                    f"the entity frame's column {name!r} has lists in lists, which no type of {sql_type} keeps apart",
                    hint="leave it out, or turn it into text or JSON: to_json(…)",
                )
        sql_type = time_of(quote(names[time]), sql_types_of(described)[time])
        rows, odd = opened.values(
            f"SELECT count(*), count(*) FILTER (WHERE NOT isfinite({sql_type})) FROM {WHOLE}"
        )  # fmt: skip
        if odd:
            raise EntityFrameError(
                f"the entity frame's time {time!r} is infinite in {counted(odd, 'row')}", hint="exclude such rows"
            )
        return int(rows)

    def _chunk_of_loaded(self, opened: PostgresSession, described: pa.Schema, start: int) -> SpineTable:
        time = self.query.time
        types = sql_types_of(described)
        names = safe_names(described.names)
        at = time_of(quote(names[time]), types[time])
        own = ", ".join(map(quote, names.values()))
        near = near_keys(self.query)
        order = ", ".join([*(sortable(quote(names[key]), types[key]) for key in near), AT])
        opened.execute(f"DROP TABLE IF EXISTS {SPINE}")
        opened.execute(
            f"CREATE TEMP TABLE {SPINE} ON COMMIT DROP AS\nSELECT {N}, {at} AS {AT}, {micros_of(at)} AS {US}, "
            f"{own}\nFROM {WHOLE}\nWHERE {N} >= {start} AND {N} < {start + self.chunk}\nORDER BY {order}"
        )
        # Autovacuum never sees a temporary table: without statistics the planner takes it for a few rows.
        opened.execute(f"ANALYZE {SPINE}")
        first, last, rows = opened.values(f"SELECT min({US}), max({US}), count(*) FROM {SPINE}")
        return SpineTable(SPINE, types, time, first, last, rows, near, names)

    def _run(
        self, opened: PostgresSession, statements: Statements, first: int, rows: int
    ) -> Callable[[int, int], list[pa.ChunkedArray]]:
        """Returns the outputs of a chunk, in the order of the spine from row number `first` on."""
        answers = []
        for answer in statements.answers:
            for step in answer.steps:
                opened.execute(step)
            found = opened.table(answer.select)
            # More rows than were asked for: ties, which the short plan does not decide. The plan for them is slower, so
            # it gets only their numbers.
            again = None
            if answer.again and found.num_rows > rows:
                again = _read_again(opened, answer, found.column(0).to_numpy())
            # The next pass makes them again; disk space is for one pass.
            for step in answer.steps:
                made = step.partition("CREATE TEMP TABLE ")[2].split(" ")[0]
                if made:
                    opened.execute(f"DROP TABLE {made}")
            answers.append((answer.outputs, InOrder(found, first, rows, again=again)))

        def outputs(at: int, count: int) -> list[pa.ChunkedArray]:
            columns: dict[int, pa.ChunkedArray] = {}
            for positions, found in answers:
                columns |= dict(zip(positions, found.slice(at, count), strict=True))
            return [columns[place] for place in sorted(columns)]

        return outputs


def _read_again(opened: PostgresSession, answer: OutputSelect, numbers: np.ndarray[Any, Any]) -> pa.Table:
    """The rows for numbers with more than one result."""
    least = numbers.min()
    # Counted from the least number, so that a late chunk does not count all the numbers before it.
    tied = np.flatnonzero(np.bincount(numbers - least) > 1) + least
    opened.execute(f"CREATE TEMP TABLE {TIED} ({N} bigint) ON COMMIT DROP")
    opened.copy(TIED, pa.table({N: tied}))
    opened.execute(f"ANALYZE {TIED}")
    found = opened.table(answer.again)
    opened.execute(f"DROP TABLE {TIED}")
    return found


def _measured(chunk: pa.Table, query: PointInTime) -> SpineTable:
    """A chunk of the spine as sent to the server."""
    times = _micros(chunk, query.time)
    span = pc.min_max(times)
    types = {}
    for name in _spine_keys(query):
        found = stored_as(chunk.schema.field(name).type)
        types[name] = found[1] if found else "text"
    first, last = span["min"].as_py(), span["max"].as_py()
    return SpineTable(
        SPINE, types, query.time, first, last, chunk.num_rows, near_keys(query), safe_names(_spine_keys(query))
    )  # fmt: skip


def _ship_spine(opened: PostgresSession, chunk: pa.Table, query: PointInTime) -> None:
    """Number, time and keys of each row, clustered by key."""
    times = _micros(chunk, query.time)
    columns = {N: pa.chunked_array([pa.array(np.arange(chunk.num_rows))]), AT: times.cast(_TIMES), US: times}
    types = [(N, "bigint"), (AT, TYPES["Timestamp"]), (US, "bigint")]
    names = safe_names(_spine_keys(query))
    for name, own in names.items():
        columns[own], sql_type = travelling(chunk[name], name)
        types.append((own, sql_type))
    made = ", ".join(f"{quote(name)} {sql_type}" for name, sql_type in types)
    opened.execute(f"DROP TABLE IF EXISTS {SPINE}")
    opened.execute(f"CREATE TEMP TABLE {SPINE} ({made}) ON COMMIT DROP")
    # Rows of one key next to each other find the source's pages in memory.
    rows = pa.table(columns)
    # Arrow cannot sort lists; the order is only for speed.
    near = [name for name in (*map(names.__getitem__, near_keys(query)), US) if not pa.types.is_nested(rows[name].type)]
    opened.copy(SPINE, rows.take(pc.sort_indices(rows, [(name, "ascending") for name in near])))
    opened.execute(f"ANALYZE {SPINE}")


def _micros(chunk: pa.Table, time: str) -> pa.ChunkedArray:
    if time not in chunk.column_names:
        raise EntityFrameError(f"the entity frame has no column {time!r}", hint=f"it has {chunk.column_names}")
    return pa.chunked_array([event_micros(each) for each in chunk[time].chunks], pa.int64())


def _schema(opened: PostgresSession, select: str) -> pa.Schema:
    return pa.schema([plain_field(each) for each in opened.described(select)])


def _spine_keys(query: PointInTime) -> list[str]:
    return list(dict.fromkeys(key for read in query.reads for key in read.keys))


__all__ = ["PostgresPointInTimeResult", "PostgresServer", "PostgresSqlResult", "PostgresViewRowsResult"]
