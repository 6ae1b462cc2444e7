"""What a worker of an executor runs around a function. Nothing of the client may be needed here."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from asof.errors import AsofError
from asof.offline.protocol import BatchFunction
from asof.offline.results import in_types

ERROR = "asof__error"
"""The column that an error comes back in; the others of its row are null."""


def reported(
    pickled: bytes, schema: pa.Schema, given: pa.Schema | None, order: tuple[str, ...],
    batches: Iterator[pa.RecordBatch],
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """The rows of a pickled function with an empty `ERROR`; where it refuses, one row with that.

    Args:
        schema: of its rows, with `ERROR`.
        given: what the engine's own types are cast to before the function has the rows; None: as they come.
        order: the columns to sort the part's rows by; empty where they come as they should.
    """
    function: BatchFunction = pickle.loads(pickled)
    if given is not None:
        batches = (in_types(batch.columns, given) for batch in batches)
    try:
        for batch in function(in_order(batches, order) if order else batches):
            if batch.num_rows:
                none = pa.nulls(batch.num_rows, pa.string())
                yield pa.RecordBatch.from_arrays([*batch.columns, none], schema=schema)
    except AsofError as error:
        text = json.dumps({**error.to_dict(), "may_pass": error.may_pass})
        nulls = [pa.nulls(1, field.type) for field in schema][:-1]
        yield pa.RecordBatch.from_arrays([*nulls, pa.array([text])], schema=schema)


@dataclass(frozen=True)
class NumberedRows:
    """A function over some columns of rows, whose rows get the others back.

    Args:
        kept: so many columns, from the first on, are those of the rows that it makes, too; the first numbers them.
        inputs: the indexes of the columns that it takes first; then come those from `features` on.
    """

    function: BatchFunction
    kept: int
    inputs: tuple[int, ...]
    features: int

    @property
    def modules(self) -> tuple[str, ...]:
        """See `_pickled` of the executors: the modules of the function."""
        return (type(self.function).__module__, *getattr(self.function, "modules", ()))

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            taken = [*self.inputs, *range(self.features, batch.num_columns)]
            schema = pa.schema([batch.schema.field(place) for place in taken])
            rest = pa.RecordBatch.from_arrays([batch.column(place) for place in taken], schema=schema)
            made = pa.Table.from_batches(list(self.function(iter([rest])))) if rest.num_rows else None
            if made is not None:
                columns = [column.combine_chunks() for column in made.columns]
                columns = [each.chunk(0) if isinstance(each, pa.ChunkedArray) else each for each in columns]
                columns = [*batch.columns[: self.kept], *columns]
                yield pa.RecordBatch.from_arrays(columns, [str(place) for place in range(len(columns))])


def in_order(batches: Iterator[pa.RecordBatch], order: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a part, sorted in memory."""
    held = list(batches)
    if held:
        table = pa.Table.from_batches(held)
        yield from table.sort_by([(name, "ascending") for name in order]).combine_chunks().to_batches()


__all__ = ["ERROR", "NumberedRows", "in_order", "reported"]
