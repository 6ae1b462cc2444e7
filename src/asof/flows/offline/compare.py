"""Compare feature values: exactly, but sums of floats within 1e-9 of their magnitude."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

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


def differing_rows(
    one: pa.Table, other: pa.Table, columns: Sequence[str], *, limit: int
) -> tuple[int, dict[str, list[int]]]:
    """Number of rows that differ in any of these columns; and for each such column the first `limit` of them."""
    rows: set[int] = set()
    found: dict[str, list[int]] = {}
    for column in columns:
        pairs = zip(one[column].to_pylist(), other[column].to_pylist(), strict=False)
        differing = [row for row, (then, now) in enumerate(pairs) if not values_agree(then, now)]
        if differing:
            found[column] = differing[:limit]
            rows.update(differing)
    return len(rows), found
