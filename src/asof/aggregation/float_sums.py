"""Sums of doubles that pass the greatest double on their way: the same in any order of merging, as in every engine.

A partial sum beyond the greatest double is stored as a NaN that carries it, divided by 2^64, with 42 bits of fraction:

    bit  63    62 … 48    47 … 42           41 … 0
         sign  0x7FFD     exponent - 960    first bits of the fraction

Only a partial sum is carried: what is read is infinite. A program that does not know of them reads NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from asof.dtypes import LEAST_INT64

Ints = NDArray[np.int64]
Doubles = NDArray[np.float64]

_UP, _DOWN = 2.0**64, 2.0**-64
_MARK, _SIGN = 0x7FFD, LEAST_INT64
_BIAS, _LEAST_EXPONENT = 1023, 960
_FRACTION, _KEPT = 52, 42


def is_carried(words: Ints) -> NDArray[np.bool_]:
    """Whether each word carries a sum beyond the greatest double."""
    carried: NDArray[np.bool_] = (words >> 48) & 0x7FFF == _MARK
    return carried


def doubles_of(words: Ints) -> Doubles:
    """The sums as they are read: infinite beyond the greatest double."""
    sums = words.view(np.float64)
    if np.isfinite(sums).all():
        return sums
    return np.where(is_carried(words), np.where(words < 0, -np.inf, np.inf), sums)


def merged(words: Ints, reduce: Callable[[Doubles], Doubles]) -> Ints:
    """The words of the merged sums.

    Args:
        reduce: sums of a column of the states.
    """
    # Infinities of both signs make NaN, and great floats an infinity: that is the sum, and no warning.
    with np.errstate(invalid="ignore", over="ignore"):
        sums = reduce(words.view(np.float64))
        if np.isfinite(sums).all():
            return sums.view(np.int64)
        scaled = reduce(_scaled(words))
        # A sum that was infinite on its way may be none in the end.
        whole = np.where(np.isfinite(sums), sums, scaled * _UP)
    return np.where(np.isinf(whole) & np.isfinite(scaled), _carrying(scaled), whole.view(np.int64))


def total(words: list[int]) -> float:
    """One sum as it is read, of the states that it is made of."""
    whole = merged(np.array(words, dtype=np.int64), lambda column: np.add.reduce(column, keepdims=True))
    return float(doubles_of(whole)[0])


def _scaled(words: Ints) -> Doubles:
    """The sums divided by 2^64, so that no sum of them overflows."""
    exponents = ((words >> _KEPT) & 0x3F) + (_LEAST_EXPONENT + _BIAS)
    fractions = (words & (2**_KEPT - 1)) << (_FRACTION - _KEPT)
    of_carried = (words & _SIGN) | (exponents << _FRACTION) | fractions
    return np.where(is_carried(words), of_carried.view(np.float64), words.view(np.float64) * _DOWN)


def _carrying(scaled: Doubles) -> Ints:
    """The words that carry sums that were divided by 2^64; any word where the sum is no such."""
    words = np.ascontiguousarray(scaled).view(np.int64)
    exponents = ((words >> _FRACTION) & 0x7FF) - (_LEAST_EXPONENT + _BIAS)
    fractions = (words & (2**_FRACTION - 1)) >> (_FRACTION - _KEPT)
    made: Ints = (words & _SIGN) | np.int64(_MARK << 48) | ((exponents & 0x3F) << _KEPT) | fractions
    return made


__all__ = ["doubles_of", "is_carried", "merged", "total"]
