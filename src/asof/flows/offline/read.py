"""Historical reads: prepare the entity frame, compile and run the selection, run on-demand functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from asof.defaults import BATCH_ROWS
from asof.definitions import Snapshot
from asof.errors import Argument, EntityFrameError, some
from asof.flows.offline.entity_frame import (
    TIME,
    check_columns,
    check_frame,
    check_keys,
    check_types,
    normal_frame,
    several_of_one_name,
    spine_of,
    time_column,
)
from asof.flows.offline.finished_rows import FinishedRows
from asof.flows.offline.inputs import inputs_of
from asof.flows.rows.checks import refuse_misfits
from asof.flows.stores import Stores
from asof.offline.protocol import FinishingResult, QueryResult, ReportingResult
from asof.results import pandas_frame
from asof.selection import OutputColumn, Selection, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime
from asof.timing import Micros
from asof.values.frame_types import is_pandas
from asof.values.frames import repeated_names

if TYPE_CHECKING:
    import pandas as pd


def read_history(
    stores: Stores,
    snapshot: Snapshot,
    selection: Selection,
    entity_df: Any = None,
    *,
    known_at: bool | Micros | None = None,
    start: Micros | None = None,
    end: Micros | None = None,
    seen: Mapping[str, Mapping[int, int]] | None = None,
    by_offsets: bool = False,
) -> HistoricalRead:
    """Plan a historical read; nothing runs yet.

    Args:
        entity_df: a pandas, Polars or Arrow table, the path of a Parquet or CSV file, or a SELECT over the sources by
            name; None reads all rows of the views' sources with `start <= event time < end`.
        by_offsets: see `PointInTime`.

    Raises:
        EntityFrameError: the frame lacks a key or a time, or has invalid values.
    """
    reads = _with_hidden_features(selection)
    query = PointInTime(reads, TIME, known_at, seen, start, end, by_offsets)
    if entity_df is None:
        if selection.request_fields:
            names = [field.name for field in selection.request_fields]
            raise _frameless(f"the request values {names} need an entity frame")
        if not reads:
            raise _frameless("no entity frame is given, and the request has no view to read rows of")
        if TIME in [key for read in reads for key in read.keys]:
            raise _frameless(f"join key {TIME!r} is named like the times of a read without an entity frame")
        result = stores.offline.run(query, inputs_of(stores, snapshot, query, None), spine=None)
        columns = list(result.schema())
        frame = pa.schema(columns[: len(columns) - len(query.outputs)])
        shape = ResultColumns(frame, selection.outputs)
        return HistoricalRead(stores, snapshot, selection, query, None, shape)
    spine = spine_of(entity_df, selection, stores.storage)
    if isinstance(spine, pa.Table):
        time = time_column(spine.schema)
        spine = normal_frame(spine, selection, time)
        frame = spine.schema
    else:
        described = PointInTime((), TIME)
        inputs = inputs_of(stores, snapshot, query, spine)
        frame = _described(stores, snapshot, described, inputs, spine)
        time = time_column(frame)
        check_columns(frame, selection, time)
        check_types(frame, selection)
    query = replace(query, time=time)
    shape = ResultColumns(frame, selection.outputs)
    # What is written into the frame after this is no part of the read.
    given = entity_df.copy() if is_pandas(entity_df) else None
    return HistoricalRead(stores, snapshot, selection, query, spine, shape, given)


@dataclass(frozen=True)
class HistoricalRead:
    """A historical read of a selection; each access to its rows runs it.

    Args:
        spine: the entity frame in the engines' form; None to read all rows of the views' sources.
        given: the entity frame itself, where it is one of pandas: only that has its index and its own types.
    """

    stores: Stores
    snapshot: Snapshot
    selection: Selection
    query: PointInTime
    spine: Any
    shape: ResultColumns
    given: pd.DataFrame | None = None

    @property
    def schema(self) -> pa.Schema:
        """The entity frame's columns, then the features in the order asked for."""
        return self.shape.schema

    def up_to(self, seen: Mapping[str, Mapping[int, int]]) -> HistoricalRead:
        """The same read, limited to these offsets of each archive: source → partition → last offset."""
        return replace(self, query=replace(self.query, seen=seen))

    def run(self) -> Any:
        """The engine's result, before on-demand functions."""
        inputs = inputs_of(self.stores, self.snapshot, self.query, self.spine)
        if isinstance(self.spine, pa.Table):
            check_frame(self.spine, self.selection, self.query.time)
        return self.stores.offline.run(self.query, inputs, spine=self.spine)

    def batches(
        self, batch_rows: int = BATCH_ROWS, *, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows in batches, in bounded memory.

        Args:
            progress: given how many of the steps are done that come before the first rows, if the engine says so.
        """
        result = self.run()
        if progress is not None and isinstance(result, ReportingResult):
            result = result.reporting(progress)
        if (whole := self._finished_there(result)) is not None:
            yield from whole.reader(batch_rows)
            return
        for batch in result.reader(batch_rows):
            yield from self._finished(pa.Table.from_batches([batch])).combine_chunks().to_batches()

    def table(self) -> pa.Table:
        """All rows."""
        result = self.run()
        whole = self._finished_there(result)
        return self._finished(result.reader().read_all()) if whole is None else whole.reader().read_all()

    def data_frame(self) -> pd.DataFrame:
        """All rows as a data frame: the entity frame's own columns and index as they came, then the features."""
        table = self.table()
        if self.given is None:
            return pandas_frame(table)
        import pandas as pd

        features = pandas_frame(table.select(range(len(self.shape.frame), table.num_columns)))
        features.index = self.given.index
        return pd.concat([self.given, features], axis=1)

    @cached_property
    def _last_step(self) -> FinishedRows:
        return FinishedRows.of(self.selection, self.query, self.shape.frame)

    def _finished_there(self, result: Any) -> QueryResult | None:
        """The read with its functions run where the engine has the rows; None where they are run here."""
        if not (self.selection.derivations and self.query.outputs and isinstance(result, FinishingResult)):
            return None
        last = self._last_step
        if not result.takes(last, last.packages, last.inputs):
            return None
        return result.finished(last, last.schema, inputs=last.inputs, check=self.check_rows)

    def computed_there(self) -> tuple[QueryResult, list[int]] | None:
        """The read for an engine that writes its rows itself, and of each column the number of the engine's.

        None where functions must run here. Features are to be checked by `refuse_misfits` then.
        """
        width = len(self.shape.frame)
        frame = list(range(width))
        result = self.run()
        if self.selection.derivations:
            whole = self._finished_there(result)
            return None if whole is None else (whole, [*frame, *range(width, len(self.schema))])
        indexes = {each.output: width + place for place, each in enumerate(self.query.outputs)}
        return result, [*frame, *(indexes[each.column] for each in self.selection.outputs)]

    def refuse_misfits(self, batch: pa.RecordBatch) -> None:
        """Refuse features that are no values of their types, in rows of the result."""
        found = {each.column: batch.column(len(self.shape.frame) + place)
                 for place, each in enumerate(self.selection.outputs)}  # fmt: skip
        for read in self.query.reads:
            refuse_misfits(
                read.view,
                {each.name: (found[each.output], each.dtype) for each in read.features if each.output in found},
            )

    def check_rows(self, frame: pa.Table) -> None:
        """Check rows of a query or file, of which nothing is known before they are read."""
        if not isinstance(self.spine, pa.Table) and self.spine is not None:
            check_frame(frame, self.selection, self.query.time)
            check_keys(frame, self.selection)

    def _finished(self, table: pa.Table) -> pa.Table:
        self.check_rows(table)
        # By place: the frame may have columns of any names, also `view__feature`, as features are called in here.
        width = len(self.shape.frame)
        frame, found = table.select(range(width)), table.select(range(width, table.num_columns))
        return pa.table(frame.columns + self._last_step.columns(frame, found), schema=self.schema)


def _frameless(message: str) -> EntityFrameError:
    frame = Argument("entity_df")
    return EntityFrameError(message, hint=f"pass {frame}", arguments=[frame])


class ResultColumns:
    """The columns of the result."""

    def __init__(self, frame: pa.Schema, outputs: Sequence[OutputColumn]) -> None:
        taken = {output.name for output in outputs} & set(frame.names)
        if taken:
            longer = Argument("full_feature_names", True)
            are_full = all(each.name == each.reference.replace(":", "__") for each in outputs if each.name in taken)
            raise EntityFrameError(
                f"the entity frame has columns named like requested features: {some(sorted(taken))}",
                hint="rename the frame's columns" if are_full else f"pass {longer}, or rename the frame's columns",
                arguments=[] if are_full else [longer],
            )
        self.frame = frame.names
        self.schema = pa.schema([*frame, *(pa.field(output.name, output.dtype.arrow()) for output in outputs)])


def _described(
    stores: Stores, snapshot: Snapshot, query: PointInTime, inputs: Mapping[str, Any], spine: Any
) -> pa.Schema:
    if isinstance(spine, Files):
        schema: pa.Schema = stores.offline.run(query, {}, spine=spine).schema()
        return schema
    try:
        schema = stores.offline.sql(spine.strip().rstrip(";"), inputs).schema()
        if repeated := repeated_names(schema.names):
            raise several_of_one_name(repeated)
        return schema
    except EntityFrameError as error:
        # Who thinks of a table of that name looks for its columns in vain.
        sources = [snapshot.project.sources[name] for name in sorted(inputs)]
        said = [f"{each.name} is source {each.name!r}" + (f" ({each.where})" if each.where else "") for each in sources]
        error.hint = "; ".join([error.hint, *([f"in this SQL, {', '.join(said)}"] if said else [])])
        raise


def _with_hidden_features(selection: Selection) -> tuple[ViewRead, ...]:
    """The view reads, without views of which only keys are needed."""
    return tuple(read for read in selection.reads if read.features)
