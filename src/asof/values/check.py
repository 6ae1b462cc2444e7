"""Convert one Python value to its declared type, or say why that fails."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DecimalException, Inexact, InvalidOperation
from types import NoneType
from typing import Any
from uuid import UUID

from asof.dtypes import GREATEST_EXACT, GREATEST_EXACT_32, GREATEST_FLOAT32, INT_BOUNDS, DType
from asof.timing import EARLIEST, LATEST, micros
from asof.values.exact_floats import RoundedNumber, json_text
from asof.values.legible import shown
from asof.values.nesting import MOST_DEPTH, is_too_deep

MOST_DIGITS = 1000
"""Limits of inputs that are parsed: text of a decimal, size of an integer, exponent of a zero."""
_SINGLE = struct.Struct("f")
_EXACTLY = Context(prec=76, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Inexact])
# Digits below microseconds are truncated, never rounded: rounding up would move an event past its own time.
_FINE = re.compile(r"(\.\d{6})\d+")

PYTHON_TYPES: dict[str, type] = {
    "Bool": bool, "Int32": int, "Int64": int, "Float64": float, "String": str, "Bytes": bytes, "Date": date,
}  # fmt: skip
"""Type → the Python type whose values need only a range check; values of subclasses need a full check."""


def own_values(values: list[Any], dtype: DType) -> list[Any] | None:
    """The values without nulls, if `checker` would return each unchanged, else None; a fast path, which must equal
    that.

    Without nulls, the list itself. Lone surrogates in text are not checked for.
    """
    own = PYTHON_TYPES.get(dtype.name)
    kinds = set(map(type, values))
    if kinds != {own}:
        if not kinds <= {own, NoneType}:
            return None
        values = [value for value in values if value is not None]
    if own is int and values:
        low, high = INT_BOUNDS[dtype.name]
        if not low <= min(values) <= max(values) <= high:
            return None
    return values


def checker(dtype: DType) -> Callable[[Any], Any]:
    """A function that converts one value to what Arrow accepts, or raises ValueError with the reason."""
    if dtype.is_integer:
        low, high = INT_BOUNDS[dtype.name]
        return lambda value: _integer(value, low, high, dtype.name)
    if dtype.name == "Array":
        assert dtype.inner is not None
        inner = checker(dtype.inner)
        return lambda value: _array(value, inner, dtype)
    if dtype.name == "Embedding":
        return lambda value: _embedding(value, dtype.size)
    if dtype.name == "Decimal":
        return lambda value: _decimal(value, dtype)
    return {
        "Bool": _boolean, "Float32": _float32, "Float64": _float, "String": _text, "Bytes": _bytes, "Date": _date,
        "Timestamp": _timestamp, "Json": _json,
    }[dtype.name]  # fmt: skip


def _refused(value: Any, expected: str) -> ValueError:
    return ValueError(f"{shown(value)} is not {expected}")


def _integer(value: Any, low: int, high: int, name: str) -> int | None:
    if isinstance(value, bool):
        raise _refused(value, name)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if not value.is_integer():
            raise _refused(value, f"a whole number ({name})")
        if isinstance(value, RoundedNumber) and abs(value) < GREATEST_EXACT:
            raise _refused(str(value.written), f"a whole number ({name})")
        if abs(value) > GREATEST_EXACT or isinstance(value, RoundedNumber):
            raise ValueError(f"{shown(value)} is a float beyond 2**53, which stands for several integers ({name})")
        value = int(value)
    elif not isinstance(value, int):
        try:
            value = value.__index__()
        except AttributeError:
            return _integer(_wide_float(value, name), low, high, name)
    if not low <= value <= high:
        raise ValueError(f"{shown(value)} is outside {name} ({low} to {high})")
    return int(value)


def _wide_float(value: Any, name: str) -> float:
    """A NumPy float of 16 or 32 bits that stands for one integer at most."""
    number = value.item() if hasattr(value, "item") else None
    if not isinstance(number, float):
        raise _refused(value, name)
    if abs(number) > GREATEST_EXACT_32 and not math.isinf(number):
        raise ValueError(f"{number} is a Float32 beyond 2**24, which stands for several integers ({name})")
    return number


def _float(value: Any) -> float:
    if isinstance(value, Decimal):
        return _float_of_decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        item = getattr(value, "item", None)
        if item is None or isinstance(value, bool | str | bytes):
            raise _refused(value, "a number")
        return _float(item())
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{shown(value)} has no exact float") from None
    if isinstance(value, int) and int(number) != value:
        raise ValueError(f"{value} has no exact float")
    return number


def _float_of_decimal(value: Decimal) -> float:
    """The nearest float."""
    number = math.inf if value.is_snan() else float(value)
    if (math.isinf(number) and not value.is_infinite()) or (not number and value):
        raise _refused(value, "a number that a float is near to")
    return number


def _float32(value: Any) -> float:
    number = _float(value)
    if math.isfinite(number) and abs(number) > GREATEST_FLOAT32:
        raise ValueError(f"{number} is outside Float32")
    if isinstance(value, int) and abs(value) > GREATEST_EXACT_32 and _SINGLE.unpack(_SINGLE.pack(number))[0] != value:
        raise ValueError(f"{value} has no exact Float32")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    item = getattr(value, "item", None)
    if item is not None and isinstance(item(), bool):
        return bool(item())
    raise _refused(value, "true or false (Bool)")


def _text(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str):
        raise _refused(value, "text (String)")
    return _with_utf8(value)


def _with_utf8(text: str) -> str:
    """The text; lone surrogates are refused, which exist only in Python."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _refused(text, "text that has UTF-8: it has a lone surrogate") from None
    return text


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _refused(value, "bytes (Bytes)")
    return bytes(value)


def _json(value: Any) -> str:
    if is_too_deep(value):
        raise ValueError(f"is nested too deeply; the most are {MOST_DEPTH} levels (Json)")
    if isinstance(value, str):
        try:
            json.loads(value, parse_constant=_no_json)
        except ValueError:
            raise _refused(value, "JSON text") from None
        return _with_utf8(value)
    if not isinstance(value, dict | list | int | float | bool):
        raise _refused(value, "JSON")
    try:
        text = json_text(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{shown(value)} is not JSON: {error}") from None
    return _with_utf8(text)


def _no_json(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON number")


def _date(value: Any) -> date:
    if isinstance(value, datetime):
        raise _refused(value, "a date (Date)")
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise _refused(value, "a date like 2026-11-23 (Date)") from None
    raise _refused(value, "a date (Date)")


def _timestamp(value: Any) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(_FINE.sub(r"\1", value))
        except ValueError:
            raise _refused(value, "an ISO 8601 time (Timestamp)") from None
    elif type(value).__name__ == "datetime64":  # of NumPy, which is not imported here
        value = value.astype("datetime64[us]").item()
    if isinstance(value, datetime):
        us = micros(value)
    elif isinstance(value, date):
        us = micros(datetime(value.year, value.month, value.day, tzinfo=UTC))
    else:
        raise _refused(value, "a time (Timestamp); for integers declare Int64 with timestamp_unit")
    if not EARLIEST <= us <= LATEST:
        raise _refused(value, "a time of the years 1 to 9999")
    return us


def _decimal(value: Any, dtype: DType) -> Decimal:
    if isinstance(value, bool | float) or not isinstance(value, int | str | Decimal):
        raise _refused(value, f"{dtype} (give a Decimal, an integer or text)")
    is_long = (
        len(value) > MOST_DIGITS
        if isinstance(value, str)
        else (isinstance(value, int) and value.bit_length() > MOST_DIGITS)
    )
    if is_long:
        raise _refused(value, str(dtype))
    try:
        exact = Decimal(value)
    except InvalidOperation:
        raise _refused(value, str(dtype)) from None
    # Before its digits are expanded: an exponent may stand for a thousand million of them.
    if not exact.is_finite() or abs(exact.adjusted()) > MOST_DIGITS:
        raise _refused(value, str(dtype))
    try:
        # With the digits of its type, as Arrow has it; Arrow must not get many more than that.
        fitted = _EXACTLY.quantize(exact, Decimal(1).scaleb(-dtype.scale))
    except DecimalException:
        raise _refused(value, str(dtype)) from None
    if fitted and fitted.adjusted() >= dtype.precision - dtype.scale:
        raise _refused(value, str(dtype))
    return fitted


def _array(value: Any, inner: Callable[[Any], Any], dtype: DType) -> list[Any]:
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        raise _refused(value, str(dtype))
    return [None if item is None else inner(item) for item in value]


def _embedding(value: Any, size: int) -> list[float]:
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        raise _refused(value, f"Embedding({size})")
    numbers = [_float32(item) for item in value]
    if len(numbers) != size:
        raise ValueError(f"has {len(numbers)} numbers, not {size} (Embedding)")
    return numbers
