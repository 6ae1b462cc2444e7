"""What Spark reads: SQL over inputs, and one view's own rows.

A read is run again from its beginning where the server was lost before any row came, so that it returns all rows or an
error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from asof.connections.spark.client import DataFrame
from asof.connections.spark.errors import SessionLost
from asof.errors import AsofError
from asof.offline.protocol import BatchFunction
from asof.offline.results import LazyResult, cut, in_types
from asof.offline.spark.inputs import prepare
from asof.offline.spark.names import with_backquotes
from asof.offline.spark.read import Given, SparkRead, reading
from asof.offline.spark.server import SparkServer
from asof.sql.query import ViewRows
from asof.sql.source_rows import SourceTable
from asof.sql.spark.view_rows import compile_rows

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


__all__ = ["MappedRows", "SparkSqlResult", "SparkViewRowsResult", "repeated"]
