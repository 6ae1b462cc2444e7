"""A historical read that is decided and not run: what is read, for which rows, and the columns that come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import Snapshot
from asof.derive import derive
from asof.errors import EntityFrameError, some
from asof.flows.offline.inputs import inputs_of
from asof.flows.stores import Parts
from asof.selection import Output, Selection
from asof.sql.query import PointInTime


class Shape:
    """The columns of the answer."""

    def __init__(self, frame: pa.Schema, outputs: Sequence[Output]) -> None:
        taken = {output.name for output in outputs} & set(frame.names)
        if taken:
            raise EntityFrameError(
                f"the entity frame has columns named like requested features: {some(sorted(taken))}",
                hint="pass full_feature_names=True, or rename the frame's columns",
            )
        self.frame = frame.names
        self.schema = pa.schema([*frame, *(pa.field(output.name, output.dtype.arrow()) for output in outputs)])


@dataclass(frozen=True)
class HistoricalRead:
    """A read of a selection's history; it runs as often as its rows are asked for.

    Args:
        spine: the entity frame as engines take it; None where every row of the views' sources is read.
    """

    parts: Parts
    snapshot: Snapshot
    selection: Selection
    query: PointInTime
    spine: Any
    shape: Shape

    @property
    def schema(self) -> pa.Schema:
        """The entity frame's columns, then the features in the order asked for."""
        return self.shape.schema

    def up_to(self, seen: Mapping[str, Mapping[int, int]]) -> HistoricalRead:
        """The same read, over no more of each archive than these offsets: source → partition → the last one."""
        return replace(self, query=replace(self.query, seen=seen))

    def run(self) -> Any:
        """What the engine answers; on-demand functions have not seen it yet."""
        inputs = inputs_of(self.parts, self.snapshot, self.query, self.spine)
        if isinstance(self.spine, pa.Table):
            check_frame(self.spine, self.selection, self.query.time)
        return self.parts.offline.run(self.query, inputs, spine=self.spine)

    def batches(self, batch_rows: int = 100_000) -> Iterator[pa.RecordBatch]:
        """The rows in batches, in bounded memory."""
        for batch in self.run().reader(batch_rows):
            yield from self._finished(pa.Table.from_batches([batch])).combine_chunks().to_batches()

    def table(self) -> pa.Table:
        """All rows."""
        return self._finished(self.run().reader().read_all())

    def _finished(self, table: pa.Table) -> pa.Table:
        if not isinstance(self.spine, pa.Table) and self.spine is not None:
            # What a query or a file holds is known once it has been read.
            check_frame(table, self.selection, self.query.time)
            check_keys(table, self.selection)
        table = derive(table, self.selection.derivations, event_time_column=self.query.time)
        columns = [table[name] for name in self.shape.frame]
        columns += [table[output.column].cast(output.dtype.arrow()) for output in self.selection.outputs]
        return pa.table(columns, schema=self.schema)


def check_frame(frame: pa.Table, selection: Selection, time: str) -> None:
    """Refuse null times.

    Raises:
        EntityFrameError: with how many rows, and the first.
    """
    nulls = frame[time].null_count
    if nulls:
        row = pc.index(pc.is_null(frame[time]), True).as_py()
        raise EntityFrameError(
            f"the entity frame's time {time!r} is null in {nulls} rows, first in row {row}", hint="leave such rows out"
        )


def check_keys(frame: pa.Table, selection: Selection) -> None:
    """Refuse null join keys."""
    for field in selection.keys:
        nulls = frame[field.name].null_count
        if nulls:
            row = pc.index(pc.is_null(frame[field.name]), True).as_py()
            raise EntityFrameError(
                f"the entity frame's join key {field.name!r} is null in {nulls} rows, first in row {row}",
                hint="leave such rows out",
            )
