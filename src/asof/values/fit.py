"""Convert values to declared types without changing any: misfits are listed by row, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asof.dtypes import GREATEST_EXACT, GREATEST_EXACT_32, DType
from asof.timing import DAY, EARLIEST, LATEST, UNITS, whole_units
from asof.values.check import PYTHON_TYPES, checker
from asof.values.legible import why

Misfit = tuple[int, str]
"""A row's index, and the reason why its value does not fit."""


_BEYOND_CALENDAR = "is beyond the calendar, the years 1 to 9999"


def fit(column: pa.Array | pa.ChunkedArray, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """Convert an Arrow column to the declared type; misfits become null.

    Whole floats fit integer types (pandas makes floats of nullable integers), and NaN in them is null; integers fit
    float types where they are exact; timestamps of any unit are floored to microseconds, naive ones are taken as UTC.
    """
    fitted, misfits = _fit_column(column, dtype)
    beyond = _beyond_calendar(fitted)
    if not len(beyond):
        return fitted, misfits
    kept = np.ones(len(fitted), dtype=bool)
    kept[beyond] = False
    misfits = sorted([*misfits, *((row, _BEYOND_CALENDAR) for row in beyond.tolist())])
    return pc.if_else(pa.array(kept), fitted, pa.scalar(None, fitted.type)), misfits


def _fit_column(column: pa.Array | pa.ChunkedArray, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """`fit` without the check of the calendar."""
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
    if dtype.name == "Array" and _is_list(array.type):
        return _fit_lists(array, dtype)
    fast = _fit_arrow(array, dtype, target)
    return fast if fast is not None else fit_values(_python_values(array), dtype)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _fit_lists(array: pa.Array, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """Lists by their elements, so that these are fitted as a column of them would be."""
    assert dtype.inner is not None
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_field))
    inner, misfits = fit(pc.list_flatten(array), dtype.inner)
    parents = pc.list_parent_indices(array).to_pylist() if misfits else []
    # Reversed, so that of several misfits of one list the first is the reason.
    bad = {parents[place]: reason for place, reason in reversed(misfits)}
    # The offsets are counted again: those of a slice begin elsewhere, and flattening left out what null lists hold.
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    missing = array.is_null().to_numpy(zero_copy_only=False).copy()
    missing[list(bad)] = True
    return pa.ListArray.from_arrays(offsets, inner, type=dtype.arrow(), mask=pa.array(missing)), sorted(bad.items())


def salvaged(
    fitted: Callable[[Any], tuple[pa.Array, list[Misfit]]], values: Sequence[Any], dtype: DType
) -> tuple[pa.Array, list[Misfit]]:
    """Apply `fitted` to all values at once; where that fails, to halves, down to single values. The error for a single
    value is the reason why it is a misfit.
    """
    try:
        return fitted(values)
    except Exception as error:
        if len(values) <= 1:
            return pa.nulls(len(values), dtype.arrow()), [(row, why(error)) for row in range(len(values))]
    middle = len(values) // 2
    (first, its), (second, others) = (salvaged(fitted, half, dtype) for half in (values[:middle], values[middle:]))
    return pa.concat_arrays([first, second]), [*its, *((row + middle, reason) for row, reason in others)]


def _python_values(array: pa.Array) -> list[Any]:
    """An Arrow column as Python values; what Python cannot represent stays an Arrow scalar, and fits no type."""
    try:
        return array.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, ArithmeticError, KeyError, TypeError):
        return list(map(_python_value, array))


def _python_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py(maps_as_pydicts="strict")
    except (ValueError, OverflowError, ArithmeticError, KeyError, TypeError):
        return scalar


def _beyond_calendar(array: pa.Array) -> npt.NDArray[np.int64]:
    """Rows with a time or date (also inside lists) outside the years 1 to 9999."""
    row = np.arange(len(array))
    # One level of lists after the other; `row` says which row each element came from.
    while pa.types.is_list(array.type):
        row, array = row[pc.list_parent_indices(array)], pc.list_flatten(array)
    if pa.types.is_timestamp(array.type):
        low, high, counts = EARLIEST, LATEST, array.cast(pa.int64())
    elif pa.types.is_date32(array.type):
        low, high, counts = EARLIEST // DAY, LATEST // DAY, array.cast(pa.int32())
    else:
        return row[:0]
    # Nearly every column ends here, without a copy of its numbers.
    bounds = pc.min_max(counts).as_py()
    if bounds["min"] is None or low <= bounds["min"] <= bounds["max"] <= high:
        return row[:0]
    numbers = counts.fill_null(0).to_numpy(zero_copy_only=False)
    return np.unique(row[(numbers < low) | (numbers > high)])


def first_misfit(column: pa.Array | pa.ChunkedArray, dtype: DType) -> Misfit | None:
    """The first value, if any, that the type does not have though its Arrow form does.

    Of what engines return, in the declared types: a time beyond the calendar, an embedding of another length or with
    nulls, text that is no JSON.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if dtype.name in ("Timestamp", "Date"):
        beyond = _beyond_calendar(array)
        return (int(beyond[0]), _BEYOND_CALENDAR) if len(beyond) else None
    if dtype.name == "Embedding":
        return _first_odd_embedding(array, dtype)
    if dtype.name == "Json":
        return _first_odd_json(array)
    if dtype.name == "Array" and dtype.inner is not None:
        found = first_misfit(pc.list_flatten(array), dtype.inner)
        return found and (pc.list_parent_indices(array)[found[0]].as_py(), found[1])
    return None


def _first_odd_embedding(array: pa.Array, dtype: DType) -> Misfit | None:
    lengths = pc.list_value_length(array).fill_null(dtype.size).to_numpy(zero_copy_only=False)
    odd = np.flatnonzero(lengths != dtype.size)
    if len(odd):
        return int(odd[0]), f"has {lengths[odd[0]]} numbers, not {dtype.size} (Embedding)"
    # Flat, all numbers are one column, and one count says that none is null.
    values = pc.list_flatten(array)
    if not values.null_count:
        return None
    place = pc.index(pc.is_null(values), True).as_py()
    return pc.list_parent_indices(array)[place].as_py(), "has a null among its numbers (Embedding)"


def _first_odd_json(array: pa.Array) -> Misfit | None:
    check, seen = checker(DType("Json")), {None}
    for row, value in enumerate(array.to_pylist()):
        if value not in seen:
            try:
                check(value)
            except ValueError as error:
                return row, why(error)
            seen.add(value)
    return None


def nul_in_text(rows: pa.Table) -> dict[int, str]:
    """Rows with a NUL character in a text, which not every store can keep: position → reason."""
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
    """Convert the column as a whole, or return None where values need to be checked one by one."""
    kind = array.type
    try:
        if dtype.is_integer and pa.types.is_integer(kind):
            return array.cast(target), []
        if dtype.is_integer and pa.types.is_floating(kind):
            return _whole_floats(array, dtype, target)
        if dtype.is_float and (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            # Float64 to Float32 rounds to the nearest value, as declaring Float32 asks for; overflow to infinity does
            # not.
            fitted = array.cast(target, safe=not pa.types.is_floating(kind))
            if dtype.name == "Float32" and pc.any(pc.and_(pc.is_inf(fitted), pc.is_finite(array))).as_py():
                return None
            return fitted, []
        if dtype.name == "String" and isinstance(kind, pa.UuidType):
            return pa.array([None if value is None else str(value) for value in array.to_pylist()], target), []
        if dtype.name == "Timestamp" and pa.types.is_timestamp(kind):
            if kind.unit == "ns":
                # Arrow's cast cuts towards 0; before 1970 that is the next microsecond, after the event.
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


def _whole_floats(array: pa.Array, dtype: DType, target: pa.DataType) -> tuple[pa.Array, list[Misfit]] | None:
    """Whole numbers in a column of floats, as far as each float stands for one integer; NaN is null."""
    numbers = pc.if_else(pc.is_nan(array), None, array)
    exact = GREATEST_EXACT if pa.types.is_float64(array.type) else GREATEST_EXACT_32
    # 2**53 + 1 as a float is 2**53: from there on a float may be meant for another integer than it says.
    beyond = pc.greater(pc.abs(numbers), pa.scalar(float(exact), array.type)).fill_null(False)
    if not pc.any(beyond).as_py():
        return numbers.cast(target, safe=True), []
    if pa.types.is_float64(array.type):
        return None  # by its values, which are floats of Python's
    fitted, misfits = fit(pc.if_else(beyond, None, array), dtype)
    found = [
        (row, f"{array[row].as_py()} is a Float32 beyond 2**24, which stands for several integers ({dtype})")
        for row in np.flatnonzero(beyond.to_numpy(zero_copy_only=False)).tolist()
    ]
    return fitted, sorted([*misfits, *found])


def fit_values(values: Sequence[Any], dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """Convert Python values to the declared type; misfits become null."""
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
    """The values, if Arrow converts them all as `checker` does (which this must equal), else None."""
    # By exact types: a bool is an int and a datetime a date for `isinstance`, and neither for a declared type.
    kinds = set(map(type, values))
    try:
        if kinds <= {PYTHON_TYPES.get(dtype.name), NoneType}:
            return pa.array(values, dtype.arrow())
        if dtype.name == "Timestamp" and kinds <= {str, NoneType}:
            # Arrow refuses times without a zone, and digits below microseconds.
            times = pa.array(values, pa.string()).cast(dtype.arrow())
            bounds = pc.min_max(times.cast(pa.int64())).as_py()
            if bounds["min"] is None or EARLIEST <= bounds["min"] <= bounds["max"] <= LATEST:
                return times
        is_moments = dtype.name == "Timestamp" and kinds <= {datetime, NoneType}
        if is_moments and all(value is None or value.tzinfo is UTC for value in values):
            return pa.array(values, dtype.arrow())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        pass
    return None


def event_micros(array: pa.Array, unit: str = "") -> pa.Array:
    """A time column as int64 microseconds: floored, naive as UTC, integers by their unit.

    Raises:
        ValueError: integers without a unit, or a type that is not a time.
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


def source_micros(array: pa.Array, unit: str = "") -> pa.Array:
    """Event times of a batch source as int64 microseconds; null outside the years 1 to 9999, as engines take them."""
    if pa.types.is_integer(array.type) and unit and unit != "ns":
        least, greatest = (pa.scalar(whole_units(us, unit)) for us in (EARLIEST, LATEST))
    else:
        array = event_micros(array, unit)
        least, greatest, unit = pa.scalar(EARLIEST), pa.scalar(LATEST), "us"
    # Before they are multiplied: what is outside may have no product.
    inside = pc.and_(pc.greater_equal(array, least), pc.less_equal(array, greatest))
    return event_micros(pc.if_else(inside, array, pa.scalar(None, array.type)), unit)
