"""What JSON cannot say by itself: bytes, moments, not-a-number; from the wire and onto it, type by type."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from math import isfinite
from typing import Any

from asof.dtypes import DType, Float32, Float64
from asof.timing import SECOND, micros, moment
from asof.values.json import NOT_FINITE, writer

Column = list[Any]
Converter = Callable[[Column], Column]


def finite(values: Column) -> Column:
    """Numbers (and nulls), with words in place of those that JSON has not."""
    try:
        # The sum of finite numbers may itself be infinite; then each is looked at.
        if isfinite(sum(values)):
            return values
    except TypeError:
        pass
    return [None if value is None else one_number(value) for value in values]


one_number = writer(Float64) or float
"""A number, or the word in its place where JSON has none."""


def feast_converter(dtype: DType) -> Converter | None:
    """What makes a column ready for JSON as Feast's server has it: moments are whole epoch seconds."""
    if dtype.name == "Timestamp":
        return lambda values: [None if value is None else micros(value) // SECOND for value in values]
    if dtype.name == "Array" and dtype.inner is not None:
        inner = feast_converter(dtype.inner)
        return None if inner is None else lambda rows: [None if row is None else inner(row) for row in rows]
    return converter(dtype)


def converter(dtype: DType) -> Converter | None:
    """What makes a column ready for JSON as `asof.values.json` has it; None where nothing is to be done."""
    if dtype.is_float:
        return finite
    write = writer(dtype)
    return None if write is None else lambda values: [None if value is None else write(value) for value in values]


def reader(dtype: DType) -> Callable[[Any], Any] | None:
    """What turns a value as it came in JSON into one that fits `dtype`; None where it is that already.

    A value of another kind is handed on as it is: the check of types, which comes later, names it.
    """
    if dtype.is_float:
        return lambda value: NOT_FINITE.get(value, value) if type(value) is str else value
    if dtype.name == "Timestamp":
        return _moment
    if dtype.name == "Bytes":
        return _bytes
    inner = Float32 if dtype.name == "Embedding" else dtype.inner
    one = reader(inner) if inner is not None else None
    if one is not None:
        return lambda value: [None if each is None else one(each) for each in value] if type(value) is list else value
    return None


def _moment(value: Any) -> Any:
    """Epoch seconds, as Feast's clients send them, as a moment."""
    if type(value) is int or type(value) is float:
        try:
            return moment(0) + timedelta(seconds=value)
        except (OverflowError, ValueError):
            return value
    return value


def _bytes(value: Any) -> Any:
    if type(value) is str:
        try:
            return b64decode(value, validate=True)
        except (NotBase64, ValueError):
            return value
    return value


def read_columns(columns: Mapping[str, Sequence[Any]], types: Mapping[str, DType]) -> dict[str, Any]:
    """Columns as they came in JSON, those of known types with values of their kind."""
    answer: dict[str, Any] = {}
    for name, values in columns.items():
        read = reader(types[name]) if name in types else None
        answer[name] = values if read is None else [None if value is None else read(value) for value in values]
    return answer


def all_finite(columns: Sequence[Column]) -> bool:
    """Whether no column holds a null, or a number that JSON has not; False may also mean that it is not known."""
    try:
        return isfinite(sum(chain.from_iterable(columns)))
    except TypeError:
        return False
