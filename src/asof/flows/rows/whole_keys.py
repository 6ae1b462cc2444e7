"""Batches put together: into tables of a size, or with all rows of a key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc


def in_tables(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """The rows in tables of at least so many rows, but for the last: engines give them in small batches."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.num_rows
        if size >= rows:
            yield pa.Table.from_batches(held)
            held, size = [], 0
    if size:
        yield pa.Table.from_batches(held)


def by_key(batches: Iterable[pa.RecordBatch], keys: Sequence[str], rows: int) -> Iterator[pa.Table]:
    """Rows that are sorted by key, in tables with all rows of a key and about so many rows.

    Args:
        keys: the columns; none: all rows have one key.
    """
    held: list[pa.Table] = []
    size = 0
    for batch in batches:
        held.append(pa.Table.from_batches([batch]))
        size += batch.num_rows
        if size >= rows:
            table = pa.concat_tables(held)
            cut = int(starts(table, keys)[-1])
            if cut:
                yield table.slice(0, cut)
            held, size = [table.slice(cut)], table.num_rows - cut
    if size:
        yield pa.concat_tables(held)


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


__all__ = ["by_key", "in_tables", "starts"]
