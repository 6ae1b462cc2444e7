"""Fit values to declared types without bending any: what does not fit is named, by row, with the reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asof.dtypes import DType
from asof.timing import EARLIEST, LATEST, micros

Misfit = tuple[int, str]
"""A row's index, and why its value does not fit."""

INT_BOUNDS = {"Int32": (-(2**31), 2**31 - 1), "Int64": (-(2**63), 2**63 - 1)}
GREATEST_FLOAT32 = (2 - 2**-23) * 2.0**127
# Finer digits than microseconds are cut off, never rounded: rounding up would move an event past its own time.
_FINE = re.compile(r"(\.\d{6})\d+")


def fit(column: pa.Array | pa.ChunkedArray, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """An Arrow column in the declared type; a misfit's place is null.

    Whole floats fit integer types (pandas makes floats of nullable integers), and NaN in them is null; integers fit
    float types where they are exact; timestamps of any unit are floored to microseconds, naive ones are taken as UTC.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    target = dtype.arrow()
    if array.type == target and dtype.name not in ("Embedding", "Timestamp", "Json"):
        return array, []
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), target), []
    fast = _fit_arrow(array, dtype, target)
    return fast if fast is not None else fit_values(array.to_pylist(), dtype)


def nul_in_text(rows: pa.Table) -> dict[int, str]:
    """The rows, by place, that have text with a NUL character, which not every store can keep; each with the reason."""
    found: dict[int, str] = {}
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        place = np.arange(len(column))
        while pa.types.is_list(column.type):
            place, column = place[pc.list_parent_indices(column)], pc.list_flatten(column)
        if pa.types.is_string(column.type):
            for row in place[pc.match_substring(column, "\0").fill_null(False).to_numpy(zero_copy_only=False)].tolist():
                found.setdefault(
                    row, f"column {name!r}: text with a NUL character, which the offline store cannot keep"
                )
    return found


def _fit_arrow(array: pa.Array, dtype: DType, target: pa.DataType) -> tuple[pa.Array, list[Misfit]] | None:
    """The column fitted as a whole, or None where its values have to be looked at one by one."""
    kind = array.type
    try:
        if dtype.is_integer and pa.types.is_integer(kind):
            return array.cast(target), []
        if dtype.is_integer and pa.types.is_floating(kind):
            return pc.if_else(pc.is_nan(array), None, array).cast(target, safe=True), []
        if dtype.is_float and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            # Float64 to Float32 keeps the nearest value: that is what declaring Float32 asks for. Infinity is not near.
            fitted = array.cast(target, safe=not pa.types.is_floating(kind))
            if dtype.name == "Float32" and pc.any(pc.and_(pc.is_inf(fitted), pc.is_finite(array))).as_py():
                return None
            return fitted, []
        if dtype.name == "Timestamp" and pa.types.is_timestamp(kind):
            if kind.unit == "ns":
                nanos = array.cast(pa.int64())
                floored = np.floor_divide(nanos.fill_null(0).to_numpy(zero_copy_only=False), 1000)
                return pa.array(floored, mask=array.is_null().to_numpy(zero_copy_only=False)).cast(target), []
            return array.cast(pa.timestamp("us", kind.tz)).cast(target), []
        if dtype.name == "Timestamp" and pa.types.is_date(kind):
            return array.cast(pa.timestamp("us")).cast(target), []
        if dtype.name == "String" and (pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
            return array.cast(target), []
        if dtype.name == "Bytes" and (pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)):
            return array.cast(target), []
        if dtype.name == "Date" and pa.types.is_date(kind):
            return array.cast(target), []
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return None


def fit_values(values: Sequence[Any], dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """Python values in the declared type; a misfit's place is null."""
    at_once = _fit_at_once(values, dtype)
    if at_once is not None:
        return at_once, []
    check = checker(dtype)
    fitted: list[Any] = []
    misfits: list[Misfit] = []
    for row, value in enumerate(values):
        if value is None:
            fitted.append(None)
            continue
        try:
            fitted.append(check(value))
        except (ValueError, TypeError, OverflowError, InvalidOperation) as error:
            fitted.append(None)
            misfits.append((row, str(error)))
    return pa.array(fitted, dtype.arrow()), misfits


def _fit_at_once(values: Sequence[Any], dtype: DType) -> pa.Array | None:
    """The values, where Arrow itself takes all of them as the rules here do; None where each has to be looked at."""
    kinds = set(map(type, values))
    try:
        if kinds <= _OWN_TYPES.get(dtype.name, frozenset()):
            return pa.array(values, dtype.arrow())
        if dtype.name == "Timestamp" and kinds <= {str, type(None)}:
            # Arrow refuses times without a zone, and digits finer than microseconds.
            times = pa.array(values, pa.string()).cast(dtype.arrow())
            bounds = pc.min_max(times.cast(pa.int64())).as_py()
            if bounds["min"] is None or EARLIEST <= bounds["min"] <= bounds["max"] <= LATEST:
                return times
        is_moments = dtype.name == "Timestamp" and kinds <= {datetime, type(None)}
        if is_moments and all(value is None or value.tzinfo is UTC for value in values):
            return pa.array(values, dtype.arrow())
    except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
        pass
    return None


_OWN_TYPES = {
    name: frozenset((kind, type(None)))
    for name, kind in (
        ("Bool", bool), ("Int32", int), ("Int64", int), ("Float64", float), ("String", str), ("Bytes", bytes),
    )
}  # fmt: skip
"""Type → what its values are in Python when there is nothing to look at but their range."""


def checker(dtype: DType) -> Callable[[Any], Any]:
    """A function that answers one value as Arrow takes it, or raises ValueError with the reason."""
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
    shown = repr(value)
    return ValueError(f"{shown if len(shown) <= 60 else shown[:57] + '...'} is not {expected}")


def _integer(value: Any, low: int, high: int, name: str) -> int | None:
    if isinstance(value, bool):
        raise _refused(value, name)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        if not value.is_integer():
            raise _refused(value, f"a whole number ({name})")
        value = int(value)
    elif not isinstance(value, int):
        try:
            value = value.__index__()
        except AttributeError:
            raise _refused(value, name) from None
    if not low <= value <= high:
        raise ValueError(f"{value} is outside {name} ({low} to {high})")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        item = getattr(value, "item", None)
        if item is None or isinstance(value, bool | str | bytes):
            raise _refused(value, "a number")
        return _float(item())
    number = float(value)
    if isinstance(value, int) and int(number) != value:
        raise ValueError(f"{value} has no exact float")
    return number


def _float32(value: Any) -> float:
    number = _float(value)
    if math.isfinite(number) and abs(number) > GREATEST_FLOAT32:
        raise ValueError(f"{number} is outside Float32")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    item = getattr(value, "item", None)
    if item is not None and isinstance(item(), bool):
        return bool(item())
    raise _refused(value, "true or false (Bool)")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _refused(value, "text (String)")
    return value


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise _refused(value, "bytes (Bytes)")
    return bytes(value)


def _json(value: Any) -> str:
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            raise _refused(value, "JSON text") from None
        return value
    if isinstance(value, dict | list | int | float | bool):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    raise _refused(value, "JSON")


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
    try:
        exact = Decimal(value)
    except InvalidOperation:
        raise _refused(value, str(dtype)) from None
    if not exact.is_finite():
        raise _refused(value, str(dtype))
    scaled = exact.scaleb(dtype.scale)
    if scaled != scaled.to_integral_value() or abs(scaled) >= 10**dtype.precision:
        raise _refused(value, str(dtype))
    return exact


def _array(value: Any, inner: Callable[[Any], Any], dtype: DType) -> list[Any]:
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        raise _refused(value, str(dtype))
    return [None if item is None else inner(item) for item in value]


def _embedding(value: Any, size: int) -> list[float]:
    if isinstance(value, str | bytes | dict) or not hasattr(value, "__iter__"):
        raise _refused(value, f"Embedding({size})")
    numbers = [_float(item) for item in value]
    if len(numbers) != size:
        raise ValueError(f"has {len(numbers)} numbers, not {size} (Embedding)")
    return numbers


def event_micros(array: pa.Array, unit: str = "") -> pa.Array:
    """A time column as int64 microseconds: floored, naive as UTC, integers by their unit.

    Raises:
        ValueError: integers without a unit, or a type that is no time.
    """
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return fit(array, DType("Timestamp"))[0].cast(pa.int64())
    if pa.types.is_integer(kind):
        if not unit:
            raise ValueError("integers without a unit")
        whole = array.cast(pa.int64())
        if unit == "us":
            return whole
        if unit == "ns":
            return fit(whole.cast(pa.timestamp("ns")), DType("Timestamp"))[0].cast(pa.int64())
        return pc.multiply_checked(whole, 1_000_000 if unit == "s" else 1000)
    raise ValueError(f"{kind} is not a time")
