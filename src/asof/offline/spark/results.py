"""What Spark reads: SQL over inputs, one view's own rows, and point-in-time reads in passes over the spine.

A read is run again from its beginning where the server was lost before any row came, so that it returns all rows or an
error. Of a pass each number of a spine row must come back once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asof.connections.spark.client import DataFrame
from asof.connections.spark.errors import SessionLost
from asof.display import counted
from asof.errors import AsofError, EntityFrameError, StorageError
from asof.offline import results
from asof.offline.files import read_files
from asof.offline.in_order import InOrder
from asof.offline.protocol import BatchFunction
from asof.offline.results import SPINE, LazyResult, cut, in_types
from asof.offline.spark.arrow import type_of
from asof.offline.spark.inputs import prepare
from asof.offline.spark.names import with_backquotes
from asof.offline.spark.read import Given, SparkRead, reading
from asof.offline.spark.server import SparkServer
from asof.sources.protocol import Files
from asof.sql.names import safe_names
from asof.sql.query import ViewRows
from asof.sql.quoting import quote_spark
from asof.sql.source_rows import SourceTable, SpineTable
from asof.sql.spark.dialect import N
from asof.sql.spark.point_in_time import compile_select, range_spine
from asof.sql.spark.view_rows import compile_rows
from asof.values.fit import event_micros

_ATTEMPTS = 3


def repeated(parts: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """The schema and the batches of a read, which is run again while the server loses it before the first batch.

    Args:
        parts: runs it.
    """
    has_schema = False
    for attempt in range(1, _ATTEMPTS + 1):
        has_rows = False
        try:
            for each in parts():
                if isinstance(each, pa.Schema):
                    if has_schema:
                        continue
                    has_schema = True
                elif each.num_rows:
                    has_rows = True
                yield each
            return
        except SessionLost:
            if has_rows or attempt == _ATTEMPTS:
                raise


class MappedRows(ABC):
    """Rows that functions can take on the executors. See `DistributedResult`."""

    server: SparkServer

    def refusal(self) -> AsofError | None:
        """See `DistributedResult.refusal`."""
        with reading(self.server, "trying the executors") as read:
            return self.server.executors.trial(read.session).refusal

    def mapped(
        self, function: BatchFunction, schema: pa.Schema, *, keys: Sequence[str] = (), order: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """See `DistributedResult.mapped`."""
        with self._read() as read:
            frame, given = self._frame(read)
            yield from self.server.executors.mapped(
                read.session, frame, function, schema, given=given, keys=keys, order=order
            )
            read.check()

    @abstractmethod
    def _frame(self, read: SparkRead) -> tuple[DataFrame, pa.Schema]:
        """The rows on the server, and their columns."""

    @abstractmethod
    def _read(self) -> AbstractContextManager[SparkRead]: ...


@dataclass(frozen=True)
class SparkSqlResult(MappedRows, LazyResult):
    """SQL over inputs."""

    server: SparkServer
    sql: str
    inputs: Mapping[str, Given]

    def text(self) -> str:
        return self.sql

    def schema(self) -> pa.Schema:
        with self._read() as read:
            read.expose(self.inputs, describe_only=True)
            return read.schema(with_backquotes(self.sql))

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        return repeated(lambda: self._parts(batch_rows))

    def _parts(self, batch_rows: int) -> Iterator[Any]:
        with self._read() as read:
            frame, schema = self._frame(read)
            yield schema
            for batch in cut(read.stream(frame), batch_rows):
                yield in_types(batch.columns, schema)

    def _frame(self, read: SparkRead) -> tuple[DataFrame, pa.Schema]:
        read.expose(self.inputs)
        frame = read.session.frame(with_backquotes(self.sql))
        return frame, read.schema(frame)

    def _read(self) -> AbstractContextManager[SparkRead]:
        return reading(self.server, "SQL", user_sql=True)


@dataclass(frozen=True)
class SparkViewRowsResult(MappedRows, LazyResult):
    """A read of one view's own rows."""

    server: SparkServer
    query: ViewRows
    inputs: Mapping[str, Given]

    def schema(self) -> pa.Schema:
        with self._read() as read:
            return self._shape(prepare(read, self.query, self.inputs, describe_only=True))

    def text(self) -> str:
        """The SQL that a read would run now."""
        with self._read() as read:
            return compile_rows(self.query, prepare(read, self.query, self.inputs, describe_only=True))

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        return repeated(lambda: self._parts(batch_rows))

    def _parts(self, batch_rows: int) -> Iterator[Any]:
        with self._read() as read:
            frame, schema = self._frame(read)
            yield schema
            for batch in cut(read.stream(frame), batch_rows):
                yield in_types(batch.columns, schema)

    def _frame(self, read: SparkRead) -> tuple[DataFrame, pa.Schema]:
        tables = prepare(read, self.query, self.inputs)
        return read.session.frame(compile_rows(self.query, tables)), self._shape(tables)

    def _shape(self, tables: Mapping[str, SourceTable]) -> pa.Schema:
        return pa.schema(
            [(name, dtype.arrow() if dtype is not None else pa.string()) for name, dtype in self.query.shape(tables)]
        )

    def _read(self) -> AbstractContextManager[SparkRead]:
        return reading(self.server, f"rows of feature view {self.query.view.name!r}")


@dataclass(frozen=True, kw_only=True)
class SparkPointInTimeResult(results.PointInTimeResult):
    """See `asof.offline.results.PointInTimeResult`."""

    server: SparkServer

    def schema(self) -> pa.Schema:
        """The spine's columns, then the outputs."""
        if isinstance(self.spine, pa.Table):
            return self.with_outputs(self.spine.schema)
        if isinstance(self.spine, Files):
            return self.with_outputs(read_files(self.spine).schema)
        with self._read() as read:
            tables = self._prepare(read, describe_only=True)
            return self.with_outputs(read.schema(self._spine_select(tables)))

    def text(self) -> str:
        """The SQL that a read would run now (for its first pass)."""
        with self._read() as read:
            tables = self._prepare(read, describe_only=True)
            if isinstance(self.spine, pa.Table):
                spine = self._measured(self.spine.slice(0, self.chunk))
            else:
                spine = self._measured(self.schema().empty_table())
            return self._compiled(read, tables, spine)

    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        return repeated(lambda: self._parts(batch_rows))

    def _parts(self, batch_rows: int) -> Iterator[Any]:
        with self._read() as read:
            tables = self._prepare(read) if self.query.outputs or not isinstance(self.spine, pa.Table) else {}
            frame = self._frame(read, tables)
            schema = self.with_outputs(frame.schema)
            yield schema
            for chunk in _chunks(frame, self.chunk):
                outputs = self._outputs(read, tables, chunk) if self.query.outputs else _nothing
                for at in range(0, chunk.num_rows, batch_rows):
                    own = chunk.slice(at, batch_rows).combine_chunks()
                    yield in_types([*own.columns, *outputs(at, batch_rows)], schema)

    def _frame(self, read: SparkRead, tables: Mapping[str, SourceTable]) -> pa.RecordBatchReader:
        """The entity frame's rows, in its order; what a SELECT returns is computed once."""
        if isinstance(self.spine, pa.Table):
            return self.spine.to_reader()
        if isinstance(self.spine, Files):
            return read_files(self.spine)
        frame = read.session.frame(self._spine_select(tables))
        schema = read.schema(frame)
        batches = (in_types(batch.columns, schema) for batch in read.stream(frame))
        return pa.RecordBatchReader.from_batches(schema, batches)

    def _outputs(
        self, read: SparkRead, tables: Mapping[str, SourceTable], chunk: pa.Table
    ) -> Callable[[int, int], list[pa.ChunkedArray]]:
        """The outputs of one pass, by row."""
        spine = self._measured(chunk)
        names = spine.names
        columns = {N: pa.chunked_array([np.arange(chunk.num_rows)])}
        columns |= {names[name]: chunk[name] for name in spine.sql_types}
        views = read.session.views
        read.ship(pa.table(columns).to_reader(), SPINE)
        found = read.table(self._compiled(read, tables, spine))
        # The server keeps the rows of a view.
        read.session.drop_views(after=views)
        numbers = found.column(0).to_numpy()
        if len(numbers) != chunk.num_rows or np.any(np.bincount(numbers, minlength=chunk.num_rows) != 1):
            raise self._torn(len(numbers), chunk.num_rows)
        return InOrder(found, 0, chunk.num_rows).slice

    def _torn(self, found: int, expected: int) -> StorageError:
        return StorageError(
            f"historical read: Spark at {self.server.pool.target.address} returned "
            f"{counted(found, 'row')} for {counted(expected, 'row')} of the entity frame, or one of them twice",
            hint="run it again; if it recurs, look at the executors' logs",
        )

    def _compiled(self, read: SparkRead, tables: Mapping[str, SourceTable], spine: SpineTable) -> str:
        return compile_select(
            self.query, tables, spine, capabilities=read.server.capabilities(read.session), with_spine=False,
            ordered=False,
        )  # fmt: skip

    def _prepare(self, read: SparkRead, *, describe_only: bool = False) -> dict[str, SourceTable]:
        return prepare(read, self.query, self.inputs, spine=self.spine, describe_only=describe_only)

    def _spine_select(self, tables: Mapping[str, SourceTable]) -> str:
        if self.spine is None:
            return range_spine(self.query, tables)
        assert isinstance(self.spine, str)
        return with_backquotes(self.spine.strip().rstrip(";"))

    def _measured(self, chunk: pa.Table) -> SpineTable:
        """A pass's rows as they are sent: keys and time."""
        time = self.query.time
        if time not in chunk.column_names:
            raise EntityFrameError(f"the entity frame has no column {time!r}", hint=f"it has {chunk.column_names}")
        columns = list(dict.fromkeys((*self.spine_keys, time)))
        types = {name: type_of(chunk.schema.field(name).type, name) for name in columns}
        span = pc.min_max(pa.chunked_array([event_micros(each) for each in chunk[time].chunks], pa.int64()))
        return SpineTable(
            SPINE, types, time, span["min"].as_py(), span["max"].as_py(), chunk.num_rows,
            names=safe_names(columns), quote=quote_spark,
        )  # fmt: skip

    def _read(self) -> AbstractContextManager[SparkRead]:
        return reading(self.server, "historical read", user_sql=isinstance(self.spine, str))


def _chunks(frame: pa.RecordBatchReader, rows: int) -> Iterator[pa.Table]:
    """The rows in tables of this many."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in frame:
        at = 0
        while at < batch.num_rows:
            part = batch.slice(at, rows - count)
            held.append(part)
            at, count = at + part.num_rows, count + part.num_rows
            if count == rows:
                yield pa.Table.from_batches(held)
                held, count = [], 0
    if held:
        yield pa.Table.from_batches(held)


def _nothing(at: int, rows: int) -> list[pa.ChunkedArray]:
    return []


__all__ = ["SparkPointInTimeResult", "SparkSqlResult", "SparkViewRowsResult", "repeated"]
