"""Sums of doubles that pass the greatest double on their way, merged in any order and grouping."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asof.aggregation.float_sums import doubles_of, is_carried, merged, total

GREATEST = 1.7976931348623157e308
huge = st.sampled_from([GREATEST, -GREATEST, 1e308, -1e308, 1.5e307, -3e300, 0.1, -1.0, 0.0, 5e-324])


def words_of(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64).view(np.int64)


def summed(words: np.ndarray) -> int:
    return int(merged(words, lambda column: np.add.reduce(column, keepdims=True))[0])


def in_groups(values: list[float], data: st.DataObject) -> int:
    """The word of a sum whose parts are merged in some order, some of them before others."""
    parts = [int(word) for word in words_of(*values)]
    while len(parts) > 1:
        chosen = data.draw(st.lists(st.integers(0, len(parts) - 1), min_size=2, max_size=4, unique=True))
        made = summed(np.array([parts[place] for place in chosen], dtype=np.int64))
        parts = [part for place, part in enumerate(parts) if place not in chosen] + [made]
    return parts[0]


@given(st.lists(huge, min_size=1, max_size=12), st.data())
def test_a_sum_is_the_exact_one_in_whatever_order_its_parts_are_merged(
    values: list[float], data: st.DataObject
) -> None:
    exact, magnitude = sum(map(Fraction, values)), sum(abs(Fraction(value)) for value in values)

    word = in_groups(values, data)

    found = float(doubles_of(np.array([word], dtype=np.int64))[0])
    assert found == total([word]) or math.isnan(found)
    if math.isinf(found):
        assert abs(exact) + magnitude * Fraction(1, 10**9) > Fraction(GREATEST) and (exact > 0) == (found > 0)
    else:
        assert abs(Fraction(found) - exact) <= magnitude * Fraction(1, 10**9)
        assert abs(exact) - magnitude * Fraction(1, 10**9) <= Fraction(GREATEST)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1e308, 1e308, -1e308], 1e308), ([GREATEST] * 3 + [-GREATEST] * 3, 0.0), ([1e308] * 4, math.inf),
        ([-1e308] * 4, -math.inf), ([1e308, 1e308, math.inf], math.inf), ([1e308, 1e308, -math.inf], -math.inf),
        ([-1e308, -1e308, math.inf], math.inf), ([1e308, 1e308, math.nan], math.nan),
        ([math.inf, -math.inf, 1e308], math.nan), ([GREATEST, 0.0], GREATEST),
    ],
)  # fmt: skip
def test_what_is_read_of_a_sum(values: list[float], expected: float) -> None:
    for order in (values, values[::-1], sorted(values)):
        word = summed(words_of(*order[:2]))
        for value in order[2:]:
            word = summed(np.array([word, int(words_of(value)[0])], dtype=np.int64))
        found = total([word])
        if math.isfinite(expected):
            # Within 1e-9 of the sum of magnitudes.
            assert math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e299)
        else:
            assert found == expected or (math.isnan(found) and math.isnan(expected))


def test_only_sums_beyond_the_greatest_double_are_carried() -> None:
    ordinary = words_of(math.nan, -math.nan, math.inf, -math.inf, GREATEST, 0.0)

    assert not is_carried(ordinary).any()
    assert is_carried(np.array([summed(words_of(1e308, 1e308)), summed(words_of(-1e308, -1e308))])).all()


def test_columns_are_merged_group_by_group() -> None:
    words = words_of(1e308, 1e308, 2.0, 3.0, -1e308, -1e308, math.nan, 1.0)
    heads = np.array([0, 2, 4, 6])

    found = doubles_of(merged(words, lambda column: np.add.reduceat(column, heads)))

    assert found[:3].tolist() == [math.inf, 5.0, -math.inf] and math.isnan(found[3])
