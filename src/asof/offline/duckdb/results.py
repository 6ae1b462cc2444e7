"""What DuckDB reads: SQL over inputs, one view's own rows, and point-in-time reads in passes over the spine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from asof.errors import EntityFrameError
from asof.offline import results
from asof.offline.duckdb.errors import late_errors, wrapping
from asof.offline.duckdb.inputs import BatchFetcher, columns_named, expose, prepare
from asof.offline.duckdb.partitioner import ByMemory
from asof.offline.duckdb.tables import copy, drop, files_sql, reach, schema_of, stream
from asof.offline.results import SPINE, WHOLE, LazyResult, in_types
from asof.sources.protocol import Files, Input
from asof.sql.duckdb.dialect import DUCKDB
from asof.sql.duckdb.point_in_time import compile_program, range_spine
from asof.sql.duckdb.view_rows import compile_rows
from asof.sql.names import safe_names
from asof.sql.query import ViewRows
from asof.sql.quoting import quote
from asof.sql.source_rows import SourceTable, SpineTable

Open: TypeAlias = Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]
"""Opens a connection with private temporary tables."""


@dataclass(frozen=True)
class DuckDBSqlResult(LazyResult):
    """SQL over inputs."""

    open: Open
    sql: str
    inputs: Mapping[str, Input | pa.Table | None]

    def text(self) -> str:
        return self.sql

    def schema(self) -> pa.Schema:
        with self._wrapping(), self.open() as cursor:
            with BatchFetcher(columns_named(cursor, self.sql), describe_only=True) as fetching:
                expose(cursor, self.inputs, fetching)
            return schema_of(cursor, self.sql)

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        yield self.schema()
        with self._wrapping(), self.open() as cursor:
            with BatchFetcher(columns_named(cursor, self.sql)) as fetching:
                expose(cursor, self.inputs, fetching)
            yield from stream(cursor, self.sql, batch_rows)

    def _wrapping(self) -> AbstractContextManager[None]:
        return wrapping("SQL", user_sql=True, given=self.inputs.values())


@dataclass(frozen=True)
class DuckDBViewRowsResult(LazyResult):
    """A read of one view's own rows."""

    open: Open
    query: ViewRows
    inputs: Mapping[str, Input | pa.Table | None]

    def schema(self) -> pa.Schema:
        with self._wrapping(), self.open() as cursor:
            return schema_of(cursor, self._compiled(cursor, describe_only=True))

    def text(self) -> str:
        with self._wrapping(), self.open() as cursor:
            return self._compiled(cursor, describe_only=True)

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        # Prepare the source once for both.
        with self._wrapping(), self.open() as cursor:
            reader = cursor.sql(self._compiled(cursor)).to_arrow_reader(batch_rows)
            yield reader.schema
            yield from late_errors(reader)

    def _compiled(self, cursor: duckdb.DuckDBPyConnection, *, describe_only: bool = False) -> str:
        return compile_rows(self.query, prepare(cursor, self.query, self.inputs, describe_only=describe_only))

    def _wrapping(self) -> AbstractContextManager[None]:
        return wrapping(f"rows of feature view {self.query.view.name!r}", given=self.inputs.values())


@dataclass(frozen=True, kw_only=True)
class DuckDBPointInTimeResult(results.PointInTimeResult):
    """See `asof.offline.results.PointInTimeResult`.

    Args:
        partitions: in how many partitions of its keys each view is read; 0 chooses by its rows and the memory limit.
        progress: given how many of the read's steps are done.
    """

    open: Open
    partitions: int = 0
    progress: Callable[[int, int], None] = lambda done, total: None

    def reporting(self, progress: Callable[[int, int], None]) -> DuckDBPointInTimeResult:
        """See `ReportingResult`: a step is a statement over one partition of one view's rows."""
        return replace(self, progress=progress)

    def schema(self) -> pa.Schema:
        """The spine's columns, then the outputs."""
        if isinstance(self.spine, pa.Table):
            return self.with_outputs(self.spine.schema)
        with self._wrapping(), self.open() as cursor:
            tables: dict[str, SourceTable] = {}
            if not isinstance(self.spine, Files):
                tables = prepare(cursor, self.query, self.inputs, spine=self.spine, describe_only=True)
            return self.with_outputs(self._named(schema_of(cursor, self._spine_select(cursor, tables))))

    def text(self) -> str:
        """The SQL that a read would run now (for its first pass)."""
        with self._wrapping(), self.open() as cursor:
            tables = prepare(cursor, self.query, self.inputs, spine=self.spine)
            _, columns = self._load_spine(cursor, tables)
            cursor.execute(f"CREATE TEMP TABLE {SPINE} AS SELECT * FROM {WHOLE} LIMIT {self.chunk}")
            spine = _measured(cursor, self.query.time, columns)
            return compile_program(self.query, tables, spine, partitioner=self._partitioner(cursor)).text

    def _partitioner(self, cursor: duckdb.DuckDBPyConnection) -> ByMemory:
        return ByMemory(cursor, forced=self.partitions)

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        schema = self.schema()
        yield schema
        with self._wrapping(), self.open() as cursor:
            tables = prepare(cursor, self.query, self.inputs, spine=self.spine)
            if isinstance(self.spine, pa.Table):
                yield from self._over_table(cursor, tables, self.spine, schema, batch_rows)
            else:
                yield from self._over_loaded(cursor, tables, schema, batch_rows)

    def _over_table(
        self,
        cursor: duckdb.DuckDBPyConnection,
        tables: Mapping[str, SourceTable],
        spine: pa.Table,
        schema: pa.Schema,
        batch_rows: int,
    ) -> Iterator[pa.RecordBatch]:
        """DuckDB gets only keys and times; the frame's own columns bypass it and are unchanged."""
        if not self.query.outputs:
            yield from spine.to_batches(max_chunksize=batch_rows)
            return
        for start in range(0, max(spine.num_rows, 1), self.chunk):
            chunk = spine.slice(start, self.chunk)
            drop(cursor, SPINE)
            columns = list(dict.fromkeys((*self.spine_keys, self.query.time)))
            copy(cursor, SPINE, chunk.select(columns), names=safe_names(columns))
            at = 0
            for batch in self._run(
                cursor, tables, columns, with_spine=False, batch_rows=batch_rows, start=start, rows=spine.num_rows
            ):
                own = chunk.slice(at, batch.num_rows).combine_chunks()
                at += batch.num_rows
                yield in_types([*own.columns, *batch.columns], schema)

    def _over_loaded(
        self, cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, SourceTable], schema: pa.Schema, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        rows, columns = self._load_spine(cursor, tables)
        for start in range(0, max(rows, 1), self.chunk):
            if rows <= self.chunk:
                cursor.execute(f"ALTER TABLE {WHOLE} RENAME TO {SPINE}")
            else:
                drop(cursor, SPINE)
                part = f"rowid >= {start} AND rowid < {start + self.chunk}"
                cursor.execute(f"CREATE TEMP TABLE {SPINE} AS SELECT * FROM {WHOLE} WHERE {part}")
            for batch in self._run(
                cursor, tables, columns, with_spine=True, batch_rows=batch_rows, start=start, rows=rows
            ):
                yield in_types(batch.columns, schema)

    def _run(
        self,
        cursor: duckdb.DuckDBPyConnection,
        tables: Mapping[str, SourceTable],
        columns: Sequence[str],
        *,
        with_spine: bool,
        batch_rows: int,
        start: int,
        rows: int,
    ) -> Iterator[pa.RecordBatch]:
        """One pass over the spine.

        Args:
            start: the number of the pass's first spine row.
            rows: how many spine rows all passes have.
        """
        spine = _measured(cursor, self.query.time, columns)
        program = compile_program(
            self.query, tables, spine, with_spine=with_spine, partitioner=self._partitioner(cursor)
        )
        passed, passes = start // self.chunk, max(1, -(-rows // self.chunk))
        for done, step in enumerate(program.steps):
            self.progress(passed * len(program.steps) + done, passes * len(program.steps))
            if not step.adds:
                drop(cursor, step.table)
            cursor.execute(step.text)
        self.progress((passed + 1) * len(program.steps), passes * len(program.steps))
        yield from stream(cursor, program.final, batch_rows)
        for step in program.steps:
            drop(cursor, step.table)

    def _spine_select(self, cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, SourceTable]) -> str:
        if self.spine is None:
            return range_spine(self.query, tables)
        if isinstance(self.spine, Files):
            reach(cursor, self.spine)
            return f"SELECT * FROM {files_sql(self.spine)}"
        assert isinstance(self.spine, str)
        return self.spine.strip().rstrip(";")

    def _wrapping(self) -> AbstractContextManager[None]:
        return wrapping("historical read", user_sql=True, given=(*self.inputs.values(), self.spine))

    def _named(self, schema: pa.Schema) -> pa.Schema:
        """The spine's columns; without an entity frame, the keys and the time, whatever DuckDB calls them."""
        if self.spine is not None:
            return schema
        names = [*self.spine_keys, self.query.time]
        return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])

    def _load_spine(
        self, cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, SourceTable]
    ) -> tuple[int, list[str]]:
        """Put the whole spine into a table in its order; returns its number of rows, and its columns."""
        if isinstance(self.spine, pa.Table):
            columns = self.spine.column_names
            copy(cursor, WHOLE, self.spine, names=safe_names(columns))
            return int(self.spine.num_rows), columns
        select = self._spine_select(cursor, tables)
        columns = self._named(schema_of(cursor, select)).names
        names = ", ".join(map(quote, safe_names(columns).values()))
        cursor.execute(f"CREATE TEMP TABLE {WHOLE} AS SELECT * FROM (\n{select}\n) AS asof_frame({names})")
        rows = cursor.execute(f"SELECT count(*) FROM {WHOLE}").fetchone()
        assert rows is not None
        return int(rows[0]), columns


def _measured(cursor: duckdb.DuckDBPyConnection, time: str, columns: Sequence[str]) -> SpineTable:
    """The spine's table.

    Args:
        columns: the names of its columns in the entity frame.
    """
    described = cursor.execute(f"DESCRIBE {SPINE}").fetchall()
    sql_types = {name: kind for name, (_, kind, *_) in zip(columns, described, strict=True)}
    if time not in sql_types:
        raise EntityFrameError(f"the entity frame has no column {time!r}", hint=f"it has {list(sql_types)}")
    spine = SpineTable(SPINE, sql_types, time, names=safe_names(columns))
    moment = spine.moment(DUCKDB)
    found = cursor.execute(f"SELECT min({moment}), max({moment}), count(*) FROM {SPINE}").fetchone()
    assert found is not None
    return replace(spine, first=found[0], last=found[1], rows=found[2])


__all__ = ["DuckDBPointInTimeResult", "DuckDBSqlResult", "DuckDBViewRowsResult"]
