"""Rows that come back in any order, sorted by their number."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


class InOrder:
    """Rows in the order of their first column, each number once, from `first` on.

    Args:
        again: rows that replace those with the same numbers.
    """

    def __init__(self, found: pa.Table, first: int, rows: int, *, again: pa.Table | None = None) -> None:
        numbers = found.column(0).to_numpy() - first
        self._found = found.remove_column(0)
        self._positions: pa.Array | None = None
        if again is None and np.array_equal(numbers, np.arange(rows)):
            return
        positions = np.empty(rows, dtype=np.int64)
        positions[numbers] = np.arange(found.num_rows)
        if again is not None:
            positions[again.column(0).to_numpy() - first] = found.num_rows + np.arange(again.num_rows)
            self._found = pa.concat_tables([self._found, again.remove_column(0)])
        self._positions = pa.array(positions)

    def slice(self, at: int, rows: int) -> list[pa.ChunkedArray]:
        """The columns after the first, of some of the rows."""
        if self._positions is None:
            part: pa.Table = self._found.slice(at, rows)
        else:
            part = self._found.take(self._positions.slice(at, rows))
        columns: list[pa.ChunkedArray] = part.combine_chunks().columns
        return columns


__all__ = ["InOrder"]
