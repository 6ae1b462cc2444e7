"""Index arithmetic over runs (many short ranges of one long array) without loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def ranges(begins: Ints, lengths: Ints) -> Ints:
    """The numbers of all ranges `begin, begin + 1, … begin + length - 1`, concatenated.

        begins 10, 50   lengths 3, 2   →   10 11 12 50 51

    In the result, a range's numbers begin at position `end - length`, where `end` is the sum of the lengths so far: so
    each number is its position plus `begin - (end - length)`, which is constant over the range.
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(begins - ends + lengths, lengths) + np.arange(total, dtype=np.int64)


class WordColumns(dict[int, Ints]):
    """Each word of many records as a contiguous array, copied on first use, with a 0 appended.

    A run may end after the last record, and `reduceat` needs its end as an index inside of the array.
    """

    def __init__(self, records: Ints) -> None:
        super().__init__()
        self._records = records

    def __missing__(self, word: int) -> Ints:
        column = np.zeros(len(self._records) + 1, dtype=np.int64)
        column[:-1] = self._records[:, word]
        self[word] = column
        return column


class RecordRuns:
    """Two runs of records per row, which are reduced without copying records.

    Args:
        cuts: int64[n, 4], ascending: begin and end of a row's first run, and of its second.
    """

    def __init__(self, words: WordColumns, cuts: Ints) -> None:
        self.words, self.cuts = words, cuts
        runs = cuts.reshape(-1, 2)
        self._flat = cuts.reshape(-1)
        self._without_records = (runs[:, 0] == runs[:, 1]).nonzero()[0]

    def reduce(self, operation: np.ufunc, word: int, empty: int, *, floats: bool = False) -> Ints:
        """Reduce one word of each row's records to one value.

        Args:
            empty: the result of a run without records, as stored in a record.
        """
        return self.reduce_column(operation, self.words[word].view(np.float64) if floats else self.words[word], empty)

    def reduce_column(self, operation: np.ufunc, column: NDArray[Any], empty: int) -> Ints:
        """The same for any column over the records, which has one element more than they are."""
        # `reduceat` reduces from each index to the next one: the runs, and also the records between them, which is
        # cheaper than copying the runs. Every second result is of a run. For an empty run it returns the element at its
        # index, so these are overwritten.
        found = operation.reduceat(column, self._flat)
        words = found.view(np.int64)[0::2]
        words[self._without_records] = empty
        return operation(found[0::4], found[2::4]).view(np.int64)


def lower_bounds(values: Ints, begins: Ints, ends: Ints, keys: Ints | int) -> Ints:
    """For each sorted run `values[begin:end]`, the first position whose value is not below its key, else `end`.

    Args:
        keys: one per run, or one for all, which is faster.
    """
    if isinstance(keys, int):
        # Runs are sorted, so the position is the number of smaller values in the run: a difference of running counts.
        below = np.zeros(len(values) + 1, dtype=np.int64)
        np.cumsum(values < keys, out=below[1:])
        return begins + below[ends] - below[begins]
    # Binary search in all runs at once, as many steps as the widest run needs.
    low, high = begins.copy(), ends.copy()
    widest = int((high - low).max()) if len(low) else 0
    if widest <= 0:
        return low
    top = len(values) - 1
    for _ in range(widest.bit_length()):
        middle = (low + high) >> 1
        less = (middle < high) & (values[np.minimum(middle, top)] < keys)
        np.copyto(low, middle + 1, where=less)
        np.copyto(high, middle, where=~less)
    return low


def firsts(*keys: Ints) -> NDArray[np.bool_]:
    """True where a new group of equal keys begins in a table that is sorted by these columns."""
    first = np.ones(len(keys[0]), dtype=bool)
    if len(first) > 1:
        np.not_equal(keys[0][1:], keys[0][:-1], out=first[1:])
        for key in keys[1:]:
            first[1:] |= key[1:] != key[:-1]
    return first


def running_max(values: Ints, rows: Ints) -> Ints:
    """The running maximum within each row; `rows` ascends.

    One `maximum.accumulate` serves all rows: each row's values are raised above those of the row before. Rows are split
    into blocks where the raised numbers would exceed 64 bits.
    """
    if not len(values):
        return values
    heads = np.flatnonzero(firsts(rows))
    lows = np.minimum.reduceat(values, heads)
    widths = np.maximum.reduceat(values, heads) - lows + 1
    lengths = np.diff(np.append(heads, len(values)))
    blocks = np.cumsum(widths.astype(np.float64)) // 2.0**61
    result = np.empty_like(values)
    for first in np.flatnonzero(firsts(blocks.astype(np.int64))).tolist():
        last = first + int(np.count_nonzero(blocks[first:] == blocks[first]))
        span = slice(int(heads[first]), int(heads[last - 1] + lengths[last - 1]))
        lifts = np.cumsum(widths[first:last]) - widths[first:last] - lows[first:last]
        lift = np.repeat(lifts, lengths[first:last])
        result[span] = np.maximum.accumulate(values[span] + lift) - lift
    return result
