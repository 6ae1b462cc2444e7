"""Batches put together: into tables of a size, or with all rows of a key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

READ_ROWS = 10_000
"""Rows of a batch to be put together: few, since a table is closed only after a batch, and rows may be long."""

TABLE_BYTES = 64 << 20
"""A table is closed when its rows take so many bytes."""


class KeyedRows(NamedTuple):
    """Rows of whole keys, or a piece of the rows of one key.

    Args:
        goes_on: the next ones are of the same key.
    """

    rows: pa.Table
    goes_on: bool


def in_tables(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The rows in tables of about so many rows, but for the last, or of fewer that are long.

    Engines give them in batches of any size.
    """
    held: list[pa.RecordBatch] = []
    size = taken = 0
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            piece = batch.slice(start, rows)
            held.append(piece)
            size += piece.num_rows
            taken += piece.nbytes
            if size >= rows or taken >= TABLE_BYTES:
                yield pa.Table.from_batches(held)
                held, size, taken = [], 0, 0
    if size:
        yield pa.Table.from_batches(held)


def by_key(batches: Iterable[pa.RecordBatch], keys: Sequence[str], rows: int) -> Iterator[KeyedRows]:
    """Rows that are sorted by key, in tables with all rows of their keys, or with a piece of those of one key.

    So fewer rows are held than three tables have, however many of them one key has.

    Args:
        keys: the columns; none: all rows have one key.
        rows: about how many a table has.
    """
    rest: pa.Table | None = None  # the last key's rows so far
    is_open = False
    for table in in_tables(batches, rows):
        is_last = table.num_rows < rows and table.nbytes < TABLE_BYTES
        table = table if rest is None else pa.concat_tables([rest, table])
        begins = starts(table, keys)
        if is_open and len(begins) > 1:
            yield KeyedRows(table.slice(0, int(begins[1])), False)
            is_open = False
            table, begins = table.slice(int(begins[1])), begins[1:] - begins[1]
        cut = 0 if is_last else int(begins[-1])
        if cut:
            yield KeyedRows(table.slice(0, cut), False)
        rest = table.slice(cut)
        if not is_last and rest.num_rows > 1 and (rest.num_rows > rows or rest.nbytes > TABLE_BYTES):
            # The row that is kept back tells whether the next table's first rows are of the same key.
            is_open = True
            yield KeyedRows(rest.slice(0, rest.num_rows - 1), True)
            rest = rest.slice(rest.num_rows - 1)
    if rest is not None and rest.num_rows:
        yield KeyedRows(rest, False)


def starts(rows: pa.Table, keys: Sequence[str]) -> npt.NDArray[np.int64]:
    """Start index of each key's rows, in rows that are sorted by key."""
    # A key begins where any of its columns differs from the row before.
    new = np.zeros(rows.num_rows, dtype=bool)
    new[:1] = True
    for name in keys:
        column = rows[name].combine_chunks()
        column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        # A null is a key of its own: next to a value it differs, next to a null it does not.
        differs = pc.not_equal(column[1:], column[:-1])
        differs = pc.if_else(differs.is_null(), pc.xor(column[1:].is_null(), column[:-1].is_null()), differs)
        new[1:] |= differs.to_numpy(zero_copy_only=False)
    return np.flatnonzero(new)


__all__ = ["READ_ROWS", "TABLE_BYTES", "KeyedRows", "by_key", "in_tables", "starts"]
