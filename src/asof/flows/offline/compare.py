"""Compare feature values: exactly, but sums of floats within 1e-9 of their magnitude."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

TOLERANCE = 1e-9


def values_agree(one: Any, other: Any, *, magnitude: float = 0.0) -> bool:
    """Whether two values of a feature are equal.

    Args:
        magnitude: sum of the absolute values that a float was summed from; the tolerance is relative to it.
    """
    if isinstance(one, float) and isinstance(other, float):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        if math.isinf(one) or math.isinf(other):
            return one == other
        return abs(one - other) <= TOLERANCE * max(abs(one), abs(other), magnitude)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(values_agree, one, other))
    return type(one) is type(other) and bool(one == other)


class RowComparison:
    """Compares the features of two runs of rows, batch by batch: it keeps one bit per differing row and column.

    Args:
        columns: those to compare.
        shown: columns of the first rows whose values are kept with each difference.
        limit: number of differences to keep per column.
    """

    def __init__(self, columns: Sequence[str], *, shown: Sequence[str], limit: int) -> None:
        self._columns, self._shown, self._limit = columns, shown, limit
        self._start = 0
        self._masks: list[dict[str, npt.NDArray[np.uint8]]] = []
        self._examples: dict[str, list[dict[str, object]]] = {}

    def add(self, then: pa.RecordBatch, now: pa.RecordBatch) -> None:
        """Compare the next rows; both batches have as many."""
        masks = {}
        for column in self._columns:
            one, other = then[column], now[column]
            # In Arrow NaN differs from itself; then each value is looked at.
            if one.equals(other):
                continue
            pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
            differing = np.fromiter((not values_agree(*pair) for pair in pairs), dtype=bool, count=len(one))
            if differing.any():
                masks[column] = np.packbits(differing)
                self._show(column, then, now, np.flatnonzero(differing))
        if masks:
            self._masks.append(masks)
        self._start += then.num_rows

    def _show(self, column: str, then: pa.RecordBatch, now: pa.RecordBatch, differing: npt.NDArray[np.int64]) -> None:
        examples = self._examples.setdefault(column, [])
        for row in differing[: self._limit - len(examples)].tolist():
            shown = {name: then[name][row].as_py() for name in self._shown}
            values = {"column": column, "then": then[column][row].as_py(), "now": now[column][row].as_py()}
            examples.append({"row": self._start + row, **shown, **values})

    def differing(self, columns: Sequence[str]) -> int:
        """Number of rows that differ in any of these columns."""
        rows = 0
        for masks in self._masks:
            among = [masks[column] for column in columns if column in masks]
            if among:
                rows += int(np.unpackbits(np.bitwise_or.reduce(among)).sum())
        return rows

    def examples(self, column: str) -> list[dict[str, object]]:
        """The first differences of a column: row, the columns that are shown, column, then and now."""
        return self._examples.get(column, [])


def side_by_side(
    one: Iterator[pa.RecordBatch], other: Iterator[pa.RecordBatch]
) -> Iterator[tuple[pa.RecordBatch | None, pa.RecordBatch | None]]:
    """Two runs of rows in batches of equal lengths; None where one of them has no more."""
    left: pa.RecordBatch | None = None
    right: pa.RecordBatch | None = None
    while True:
        left = left if left is not None else _next_rows(one)
        right = right if right is not None else _next_rows(other)
        if left is None and right is None:
            return
        if left is None or right is None:
            yield left, right
            left = right = None
            continue
        rows = min(left.num_rows, right.num_rows)
        yield left.slice(0, rows), right.slice(0, rows)
        left = left.slice(rows) if left.num_rows > rows else None
        right = right.slice(rows) if right.num_rows > rows else None


def _next_rows(batches: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next((batch for batch in batches if batch.num_rows), None)
