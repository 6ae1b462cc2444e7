"""Numbers with a point or exponent in JSON: what their text says, where the float nearest to it stands for several."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import msgspec

_DIGITS = re.compile(rb"[0-9][0-9.]{15}")
"""Shorter numbers are floats of their own: their text and the float say the same."""

_LONGEST = 1000
"""Characters of a number that is taken for more than a float."""


class RoundedNumber(float):
    """A float that stands for another number than was written; where a float is wanted, it is the nearest one.

    Attributes:
        written: what was written.
    """

    written: Decimal


def exact_float(text: str) -> float:
    """The float nearest to a number in JSON, which knows what was written where an integer would be read from it.

    Raises:
        ValueError: the number is beyond all floats.
    """
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is beyond all floats")
    if not number.is_integer() or len(text) > _LONGEST:
        return number
    written = Decimal(text)
    if written == number:
        return number
    made = RoundedNumber(number)
    made.written = written
    return made


def exact_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """A decoder of JSON that keeps what the texts of such numbers say, wherever no type is declared."""
    return msgspec.json.Decoder(kind, float_hook=exact_float)


def may_be_inexact(text: bytes) -> bool:
    """Whether JSON has a number so long that it needs an `exact_decoder`, which is slower."""
    return _DIGITS.search(text) is not None


__all__ = ["RoundedNumber", "exact_decoder", "exact_float", "may_be_inexact"]
