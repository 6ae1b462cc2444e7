"""Fit values to declared types without bending any: what does not fit is named, by row, with the reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, DecimalException, Inexact, InvalidOperation
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asof.dtypes import GREATEST_FLOAT32, INT_BOUNDS, DType
from asof.timing import DAY, EARLIEST, LATEST, UNITS, micros

Misfit = tuple[int, str]
"""A row's index, and why its value does not fit."""

MOST_DEPTH = 200
"""So many lists and objects may lie in one another: what reads them, here and in native code, calls itself for each."""

MOST_DIGITS = 1000
"""The longest text of a decimal, the widest integer and the greatest exponent of a zero that are looked at."""

_EXACTLY = Context(prec=76, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Inexact])
_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*\\?(?:"|\Z)|[\[\]{}]', re.DOTALL)
# Finer digits than microseconds are cut off, never rounded: rounding up would move an event past its own time.
_FINE = re.compile(r"(\.\d{6})\d+")


def fit(column: pa.Array | pa.ChunkedArray, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """An Arrow column in the declared type; a misfit's place is null.

    Whole floats fit integer types (pandas makes floats of nullable integers), and NaN in them is null; integers fit
    float types where they are exact; timestamps of any unit are floored to microseconds, naive ones are taken as UTC.
    """
    fitted, misfits = _fit_column(column, dtype)
    beyond = _beyond_calendar(fitted)
    if not len(beyond):
        return fitted, misfits
    kept = np.ones(len(fitted), dtype=bool)
    kept[beyond] = False
    misfits = sorted([*misfits, *((row, "is beyond the calendar, the years 1 to 9999") for row in beyond.tolist())])
    return pc.if_else(pa.array(kept), fitted, pa.scalar(None, fitted.type)), misfits


def _fit_column(column: pa.Array | pa.ChunkedArray, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """`fit`, whatever the calendar says."""
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
    return fast if fast is not None else fit_values(_python_values(array), dtype)


def salvaged(
    fitted: Callable[[Any], tuple[pa.Array, list[Misfit]]], values: Sequence[Any], dtype: DType
) -> tuple[pa.Array, list[Misfit]]:
    """What `fitted` makes of all values at once; where that fails, of halves, down to the value that is to blame.

    Whatever it raises for a value alone is why that value is a misfit.
    """
    try:
        return fitted(values)
    except Exception as error:
        if len(values) <= 1:
            return pa.nulls(len(values), dtype.arrow()), [(row, why(error)) for row in range(len(values))]
    middle = len(values) // 2
    (first, its), (second, others) = (salvaged(fitted, half, dtype) for half in (values[:middle], values[middle:]))
    return pa.concat_arrays([first, second]), [*its, *((row + middle, reason) for row, reason in others)]


def why(error: BaseException) -> str:
    """What an error says, as one line of text that every store can keep."""
    if isinstance(error, RecursionError):
        return f"is nested too deeply; the most are {MOST_DEPTH} levels"
    try:
        text = str(error)
    except Exception:
        text = ""
    return legible(text.strip().split("\n")[0]) or type(error).__name__


def legible(text: str, most: int = 1000) -> str:
    """Text that every store can keep: without half characters and NUL, and not endless."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def is_too_deep(value: Any) -> bool:
    """Whether lists and dicts (or the brackets of JSON, given as text or bytes) lie deeper than `MOST_DEPTH`."""
    if isinstance(value, bytes):
        if value.count(b"[") + value.count(b"{") <= MOST_DEPTH:
            return False
        # Each byte as one character: brackets and quotes are no part of any other character in UTF-8.
        value = value.decode("latin-1")
    if isinstance(value, str):
        if value.count("[") + value.count("{") <= MOST_DEPTH:
            return False
        depth = 0
        for found in _BRACKETS.finditer(value):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
            if depth > MOST_DEPTH:
                return True
        return False
    level = [value] if type(value) in _NESTED else []
    for _ in range(MOST_DEPTH):
        if not level:
            return False
        # Each once, so that what stands in two places is not looked at twice at every level.
        level = list({id(inner): inner for each in level for inner in _inside(each) if type(inner) in _NESTED}.values())
    return bool(level)


_NESTED = frozenset((list, tuple, dict, np.ndarray))


def _inside(value: Any) -> Any:
    if type(value) is np.ndarray:
        return value.ravel() if value.dtype == object else ()
    return value.values() if type(value) is dict else value


def _python_values(array: pa.Array) -> list[Any]:
    """An Arrow column as Python values; one that Python has no value for stays Arrow's, and fits nothing."""
    try:
        return array.to_pylist()
    except (ValueError, OverflowError, ArithmeticError):
        return list(map(_python_value, array))


def _python_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, ArithmeticError):
        return scalar


def _beyond_calendar(array: pa.Array) -> npt.NDArray[np.int64]:
    """The rows with a time or date, in a list too, that is not in the years 1 to 9999."""
    row = np.arange(len(array))
    while pa.types.is_list(array.type):
        row, array = row[pc.list_parent_indices(array)], pc.list_flatten(array)
    if pa.types.is_timestamp(array.type):
        low, high, counts = EARLIEST, LATEST, array.cast(pa.int64())
    elif pa.types.is_date32(array.type):
        low, high, counts = EARLIEST // DAY, LATEST // DAY, array.cast(pa.int32())
    else:
        return row[:0]
    bounds = pc.min_max(counts).as_py()
    if bounds["min"] is None or low <= bounds["min"] <= bounds["max"] <= high:
        return row[:0]
    numbers = counts.fill_null(0).to_numpy(zero_copy_only=False)
    return np.unique(row[(numbers < low) | (numbers > high)])


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
        except Exception as error:
            fitted.append(None)
            misfits.append((row, why(error)))
    kind = dtype.arrow()
    array, refused = salvaged(lambda some: (pa.array(some, kind), []), fitted, dtype)
    return array, sorted([*misfits, *refused]) if refused else misfits


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
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
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
    return ValueError(f"{_shown(value)} is not {expected}")


def _shown(value: Any) -> str:
    """A value in a message, shortened; also one that Python does not write, such as an integer of 5000 digits."""
    if is_too_deep(value):
        return f"a value that is nested more than {MOST_DEPTH} levels deep"
    try:
        shown = repr(value)
    except Exception:
        size = f" of {value.bit_length()} bits" if isinstance(value, int) else ""
        return f"a value of type {type(value).__name__}{size}"
    return shown if len(shown) <= 60 else shown[:57] + "..."


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
        raise ValueError(f"{_shown(value)} is outside {name} ({low} to {high})")
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        item = getattr(value, "item", None)
        if item is None or isinstance(value, bool | str | bytes):
            raise _refused(value, "a number")
        return _float(item())
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{_shown(value)} has no exact float") from None
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
    return _with_utf8(value)


def _with_utf8(text: str) -> str:
    """The text, unless it has half characters (lone surrogates), which nothing outside Python has."""
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
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{_shown(value)} is not JSON: {error}") from None
    return _with_utf8(text)


def _no_json(word: str) -> Any:
    raise ValueError(f"{word} is no number of JSON's")


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
    # Before anything is done with its digits: an exponent may say that there are a thousand million of them.
    if not exact.is_finite() or abs(exact.adjusted()) > MOST_DIGITS:
        raise _refused(value, str(dtype))
    try:
        # With the digits that its type has, as Arrow gives it, which must not be handed many more than that.
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


def event_micros(array: pa.Array, unit: str = "") -> pa.Array:
    """A time column as int64 microseconds: floored, naive as UTC, integers by their unit.

    Raises:
        ValueError: integers without a unit, or a type that is no time.
    """
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _fit_column(array, DType("Timestamp"))[0].cast(pa.int64())
    if pa.types.is_integer(kind):
        if not unit:
            raise ValueError("integers without a unit")
        whole = array.cast(pa.int64())
        if unit == "us":
            return whole
        if unit == "ns":
            return _fit_column(whole.cast(pa.timestamp("ns")), DType("Timestamp"))[0].cast(pa.int64())
        return pc.multiply_checked(whole, UNITS[unit][0])
    raise ValueError(f"{kind} is not a time")
