"""Numbers with a point or exponent in JSON: what their text says, where the float nearest to it stands for several."""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from asof.dtypes import GREATEST_EXACT

_SHAPE = bytes.maketrans(b"123456789.E", b"0000000000e")
_LONG, _TINY = b"0" * 16, b"e-000"
"""Shapes of numbers that may be inexact: 16 digits, or an exponent of three digits below zero. Shorter numbers are
floats of their own: their text and the float say the same, but for those next to zero."""

_FIRST_BYTES = 4096


class RoundedNumber(float):
    """A float that stands for another number than was written; where a float is wanted, it is the nearest one.

    Attributes:
        written: what was written.
    """

    written: Decimal


def exact_float(text: str) -> float:
    """The float nearest to a number in JSON, which knows what was written where an integer or text is made of it.

    Raises:
        ValueError: the number is beyond all floats.
    """
    number = float(text)
    shortest = float.__repr__(number)
    # A float that is written so is read back as itself; only of great whole ones other integers are as near.
    if shortest == text and (not number.is_integer() or abs(number) < GREATEST_EXACT):
        return number
    if math.isinf(number):
        raise ValueError("a number is beyond all floats")
    try:
        written = Decimal(text)
    except InvalidOperation:
        raise ValueError("a number has an exponent beyond all floats") from None
    if written == (number if number.is_integer() else Decimal(shortest)):
        return number
    made = RoundedNumber(number)
    made.written = written
    return made


def json_text(value: Any) -> str:
    """A value of dicts, lists and plain values as JSON without spaces, its numbers as they were written.

    Raises:
        ValueError, TypeError: NaN, an infinity, or a value that JSON does not have.
    """
    if not _has_rounded(value):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    if isinstance(value, RoundedNumber):
        return str(value.written)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_text(str(key))}:{json_text(each)}" for key, each in value.items()) + "}"
    return "[" + ",".join(map(json_text, value)) + "]"


def _has_rounded(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_rounded, value.values()))
    return any(map(_has_rounded, value)) if isinstance(value, list | tuple) else isinstance(value, RoundedNumber)


def exact_decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """A decoder of JSON that keeps what the texts of such numbers say, wherever no type is declared."""
    return msgspec.json.Decoder(kind, float_hook=exact_float)


def may_be_inexact(text: bytes) -> bool:
    """Whether JSON has a number so long that it needs an `exact_decoder`, which is slower."""
    # Ten times as fast as a regular expression, and of the same speed for any text.
    return _has_long(text[:_FIRST_BYTES]) or (len(text) > _FIRST_BYTES and _has_long(text))


def _has_long(text: bytes) -> bool:
    shape = text.translate(_SHAPE)
    return _LONG in shape or _TINY in shape


__all__ = ["RoundedNumber", "exact_decoder", "exact_float", "json_text", "may_be_inexact"]
