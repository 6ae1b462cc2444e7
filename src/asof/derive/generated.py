"""Generated rows for checking functions: typical values, and odd ones that occur in real data sooner or later."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from asof.dtypes import GREATEST_EXACT, INT_BOUNDS, DType
from asof.timing import DAY, Micros, micros, moment

_TYPICAL_ROWS = 8
"""Number of generated rows with only typical values, on which a function must succeed."""

_BASE = micros("2026-01-05T08:30:00")


@dataclass(frozen=True)
class GeneratedRow:
    """One value per input, and the time; only typical values, or also odd ones."""

    values: tuple[Any, ...]
    event_time_us: Micros
    is_typical: bool


def generated_rows(
    types: Sequence[DType], count: int, chance: random.Random, *, never_null: Sequence[bool] = ()
) -> list[GeneratedRow]:
    """Typical rows first, then one row per oddity, then rows that mix both.

    Args:
        never_null: per input whether it is never null, such as a key or a count.
    """
    rows = [
        GeneratedRow(tuple(_typical(dtype, chance) for dtype in types), _moment(chance), True)
        for _ in range(min(count, _TYPICAL_ROWS))
    ]
    # One row twice, to meet functions that drop or rank duplicates.
    rows[-1] = rows[0]
    certain = never_null or [False] * len(types)
    odd = [
        [value for value in _odd(dtype) if value is not None or not known]
        for dtype, known in zip(types, certain, strict=True)
    ]
    kinds = max((len(values) for values in odd), default=0)
    for kind in range(kinds):
        rows.append(GeneratedRow(tuple(values[kind % len(values)] for values in odd), _moment(chance), False))
    while len(rows) < count:
        values = tuple(
            chance.choice(oddities) if chance.random() < 0.4 else _typical(dtype, chance)
            for dtype, oddities in zip(types, odd, strict=True)
        )
        rows.append(GeneratedRow(values, _moment(chance), False))
    return rows[: max(count, 1)]


def _moment(chance: random.Random) -> Micros:
    return _BASE + chance.randrange(90 * DAY)


def _typical(dtype: DType, chance: random.Random) -> Any:
    match dtype.name:
        case "Bool":
            return chance.random() < 0.5
        case "Int32" | "Int64":
            return chance.randint(1, 100)
        case "Float32" | "Float64":
            # Quarters are exact in both widths.
            return chance.randint(1, 400) / 4
        case "Decimal":
            return _scaled(chance.randint(1, min(10**dtype.precision - 1, 10_000)), dtype)
        case "String":
            return chance.choice(["a", "b", "7", "listing_page", "Ünal", "2026-01-05"])
        case "Json":
            return chance.choice(['{"a":1,"b":"x"}', '{"a":2}', "[1,2]"])
        case "Bytes":
            return chance.randbytes(4)
        case "Date":
            return date(2026, 1, 5) + timedelta(days=chance.randrange(90))
        case "Timestamp":
            return moment(_moment(chance))
        case "Embedding":
            return [chance.randint(-8, 8) / 8 for _ in range(dtype.size)]
        case _:
            assert dtype.inner is not None
            return [_typical(dtype.inner, chance) for _ in range(chance.randint(1, 3))]


def _odd(dtype: DType) -> list[Any]:
    """A null, then zeros, negatives, empties and extremes; integers stay where sums and floats of them are exact."""
    match dtype.name:
        case "Bool":
            return [None, False, True]
        case "Int32":
            return [None, 0, -1, *reversed(INT_BOUNDS["Int32"])]
        case "Int64":
            return [None, 0, -1, GREATEST_EXACT - 1, -GREATEST_EXACT]
        case "Float32" | "Float64":
            return [None, 0.0, -1.5, 2.0**100, -(2.0**-100), math.nan, math.inf]
        case "Decimal":
            return [None, _scaled(0, dtype), _scaled(-1, dtype), _scaled(10 ** (dtype.precision - 1), dtype)]
        case "String":
            return [None, "", " ", "0", "-1", "x" * 1000]
        case "Json":
            return [None, "{}", "[]", "null", "0"]
        case "Bytes":
            return [None, b"", b"\x00\xff"]
        case "Date":
            return [None, date(1970, 1, 1), date(1900, 3, 1), date(2199, 12, 31)]
        case "Timestamp":
            early, late = datetime(1900, 3, 1, tzinfo=UTC), datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
            return [None, moment(0), early, late]
        case "Embedding":
            return [None, [0.0] * dtype.size, [-1.0] * dtype.size]
        case _:
            return [None, []]


def _scaled(unscaled: int, dtype: DType) -> Decimal:
    return Decimal(unscaled).scaleb(-dtype.scale)
