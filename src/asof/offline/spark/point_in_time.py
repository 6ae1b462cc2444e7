"""Point-in-time reads in passes over the spine: their rows, and the files that the server writes of them.

Of a pass each number of a spine row must come back once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asof.connections.spark.client import DataFrame
from asof.display import counted
from asof.errors import EntityFrameError, StorageError
from asof.offline import results
from asof.offline.delta.pieces import NUMBER, PIECE
from asof.offline.files import read_files
from asof.offline.in_order import InOrder
from asof.offline.protocol import BatchFunction
from asof.offline.results import SPINE, in_types
from asof.offline.spark.arrow import arrives, type_of
from asof.offline.spark.executors import is_picklable
from asof.offline.spark.hot_keys import HotViews
from asof.offline.spark.inputs import prepare
from asof.offline.spark.names import with_backquotes
from asof.offline.spark.read import SparkRead, reading
from asof.offline.spark.results import repeated
from asof.offline.spark.server import SparkServer
from asof.offline.spark.workers import NumberedRows
from asof.sources.protocol import Files
from asof.sql.names import safe_names
from asof.sql.quoting import quote_spark
from asof.sql.source_rows import SourceTable, SpineTable
from asof.sql.spark.dialect import N
from asof.sql.spark.point_in_time import compile_select, range_spine
from asof.values.fit import event_micros


@dataclass(frozen=True)
class LastStep:
    """What executors do with the rows of a read. See `FinishingResult.finished`."""

    function: BatchFunction
    schema: pa.Schema
    inputs: tuple[str, ...]
    check: Callable[[pa.Table], None]


@dataclass(frozen=True, kw_only=True)
class SparkPointInTimeResult(results.PointInTimeResult):
    """See `asof.offline.results.PointInTimeResult`."""

    server: SparkServer
    last: LastStep | None = None

    def takes(self, function: BatchFunction, packages: Mapping[str, str], inputs: Sequence[str]) -> bool:
        """See `FinishingResult.takes`."""
        own = self.schema() if inputs else pa.schema([])
        if not all(arrives(own.field(name).type) for name in inputs) or not is_picklable(function):
            return False
        with self._read() as read:
            executors = self.server.executors
            return executors.trial(read.session).refusal is None and not executors.differences(read.session, packages)

    def finished(
        self, function: BatchFunction, schema: pa.Schema, *, inputs: Sequence[str],
        check: Callable[[pa.Table], None],
    ) -> SparkPointInTimeResult:  # fmt: skip
        """See `FinishingResult.finished`."""
        return replace(self, last=LastStep(function, schema, tuple(inputs), check))

    def with_outputs(self, spine: pa.Schema) -> pa.Schema:
        """The spine's columns, then the outputs, or what the last step makes of them."""
        return super().with_outputs(spine) if self.last is None else pa.schema([*spine, *self.last.schema])

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
            hot = HotViews(self.query)
            for chunk in _chunks(frame, self.chunk):
                outputs = self._outputs(read, tables, chunk, hot) if self.query.outputs else _nothing
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
        self, read: SparkRead, tables: Mapping[str, SourceTable], chunk: pa.Table, hot: HotViews
    ) -> Callable[[int, int], list[pa.ChunkedArray]]:
        """The outputs of one pass, by row."""
        if self.last is not None:
            self.last.check(chunk)
        carried = self.last.inputs if self.last is not None else ()
        views = read.session.views
        spine = self._shipped(read, chunk, carried)
        select = self._compiled(read, tables, spine, hot.found(read, tables, spine), carried=carried)
        found = read.table(select) if self.last is None else self._mapped(read, select, chunk, self.last)
        # The server keeps the rows of a view.
        read.session.drop_views(after=views)
        numbers = found.column(0).to_numpy()
        if len(numbers) != chunk.num_rows or np.any(np.bincount(numbers, minlength=chunk.num_rows) != 1):
            raise self._torn(len(numbers), chunk.num_rows)
        return InOrder(found, 0, chunk.num_rows).slice

    def _mapped(self, read: SparkRead, select: str, chunk: pa.Table, last: LastStep) -> pa.Table:
        """The numbers of a pass's rows, and what the last step makes of them on the executors."""
        own = [pa.field(f"i{place}", chunk.schema.field(name).type) for place, name in enumerate(last.inputs)]
        features = [pa.field(each.output, each.dtype.arrow()) for each in self.query.outputs]
        made = [pa.field(f"o{place}", each.type) for place, each in enumerate(last.schema)]
        number = pa.field(N, pa.int64())
        batches = list(
            self.server.executors.mapped(
                read.session, read.session.frame(select),
                NumberedRows(last.function, 1, tuple(range(1, len(own) + 1)), len(own) + 1),
                pa.schema([number, *made]), given=pa.schema([number, *own, *features]),
            )
        )  # fmt: skip
        read.check()
        return pa.Table.from_batches(batches, pa.schema([number, *made]))

    def can_be_written(self) -> bool:
        """Whether the server can write all rows, the entity frame's columns as they are."""
        return all(arrives(each.type) for each in self.schema())

    def write_pieces(
        self, address: str, *, rows: int, check: Callable[[pa.Table], None], progress: Callable[[int], None]
    ) -> int:
        """Have the server write all rows below an address (`asof.offline.delta.pieces`); returns their number.

        Args:
            rows: of a piece.
            check: is given the rows of each pass of the entity frame before they are used.
            progress: given the number of rows so far.
        """
        done = 0
        with self._read() as read:
            tables = self._prepare(read)
            frame, hot = self._frame(read, tables), HotViews(self.query)
            for place, chunk in enumerate(_chunks(frame, self.chunk)):
                check(chunk)
                views = read.session.views
                whole = self._whole(read, tables, chunk, hot)
                whole.selectExpr("*", f"coalesce({NUMBER} DIV {rows}, -1) AS {PIECE}").repartition(
                    PIECE
                ).write.partitionBy(PIECE).parquet(f"{address}/pass={place}")
                read.check()
                read.session.drop_views(after=views)
                done += chunk.num_rows
                progress(done)
        return done

    def _whole(self, read: SparkRead, tables: Mapping[str, SourceTable], chunk: pa.Table, hot: HotViews) -> DataFrame:
        """The rows of a pass with all columns of the entity frame: a number, c0, c1, …, and what a function refused."""
        frame = chunk.column_names
        spine = self._shipped(read, chunk, frame)
        select = self._compiled(read, tables, spine, hot.found(read, tables, spine), carried=frame)
        own = [pa.field(f"i{place}", each.type) for place, each in enumerate(chunk.schema)]
        features = [pa.field(each.output, each.dtype.arrow()) for each in self.query.outputs]
        number = pa.field(NUMBER, pa.int64())
        last = self.last
        if last is None:
            names = [NUMBER, *(f"c{place}" for place in range(len(own) + len(features)))]
            return read.session.frame(select).toDF(*names)
        run = NumberedRows(
            last.function, 1 + len(own), tuple(1 + frame.index(name) for name in last.inputs), 1 + len(own)
        )
        made = [*own, *last.schema]
        columns = [pa.field(f"c{place}", each.type) for place, each in enumerate(made)]
        return self.server.executors.rows(
            read.session, read.session.frame(select), run, pa.schema([number, *columns]),
            given=pa.schema([number, *own, *features]),
        )  # fmt: skip

    def _shipped(self, read: SparkRead, chunk: pa.Table, carried: Sequence[str]) -> SpineTable:
        """A pass's rows, as they are on the server then."""
        spine = self._measured(chunk, carried)
        columns = {N: pa.chunked_array([np.arange(chunk.num_rows)])}
        columns |= {spine.names[name]: chunk[name] for name in spine.sql_types}
        read.ship(pa.table(columns).to_reader(), SPINE)
        return spine

    def _torn(self, found: int, expected: int) -> StorageError:
        return StorageError(
            f"historical read: Spark at {self.server.pool.target.address} returned "
            f"{counted(found, 'row')} for {counted(expected, 'row')} of the entity frame, or one of them twice",
            hint="run it again; if it recurs, look at the executors' logs",
        )

    def _compiled(
        self, read: SparkRead, tables: Mapping[str, SourceTable], spine: SpineTable,
        hot: frozenset[str] = frozenset(), *, carried: Sequence[str] = (),
    ) -> str:  # fmt: skip
        return compile_select(
            self.query, tables, spine, capabilities=read.server.capabilities(read.session), hot=hot, with_spine=False,
            carried=carried, ordered=False,
        )  # fmt: skip

    def _prepare(self, read: SparkRead, *, describe_only: bool = False) -> dict[str, SourceTable]:
        return prepare(read, self.query, self.inputs, spine=self.spine, describe_only=describe_only)

    def _spine_select(self, tables: Mapping[str, SourceTable]) -> str:
        if self.spine is None:
            return range_spine(self.query, tables)
        assert isinstance(self.spine, str)
        return with_backquotes(self.spine.strip().rstrip(";"))

    def _measured(self, chunk: pa.Table, carried: Sequence[str] = ()) -> SpineTable:
        """A pass's rows as they are sent: keys and time."""
        time = self.query.time
        if time not in chunk.column_names:
            raise EntityFrameError(f"the entity frame has no column {time!r}", hint=f"it has {chunk.column_names}")
        columns = list(dict.fromkeys((*self.spine_keys, time, *carried)))
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


__all__ = ["LastStep", "SparkPointInTimeResult"]
