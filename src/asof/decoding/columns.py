"""Convert decoded values to declared columns, for all formats; misfits become dead letters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asof.dtypes import GREATEST_INT64, LEAST_INT64, DType
from asof.timing import DAY, EARLIEST, LATEST
from asof.values.fit import Misfit, fit, fit_values
from asof.values.json import write_bytes
from asof.values.nesting import is_too_deep

_PER_UNIT = {"ms": 1000, "us": 1, "ns": 1}


def arrow_column(values: Sequence[Any], kind: pa.DataType, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """Convert values of one Arrow type to the declared type."""
    try:
        array = pa.array(values, kind)
    except (OverflowError, pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        return fit_values(values, dtype)
    return fit(array, dtype)


def time_column(values: Sequence[Any], unit: str, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """Whole numbers since the epoch: times where Timestamp is declared, floored to microseconds; else numbers."""
    if dtype.name != "Timestamp":
        return arrow_column(values, pa.int64(), dtype)
    try:
        array = pa.array(values, pa.int64())
    except (OverflowError, pa.ArrowInvalid):
        # A damaged time may have any size; huge ones are outside the calendar.
        array = pa.array(
            [None if each is None else max(LEAST_INT64, min(each, GREATEST_INT64)) for each in values], pa.int64()
        )
    nulls = array.is_null().to_numpy(zero_copy_only=False)
    counts = array.fill_null(0).to_numpy(zero_copy_only=False)
    low, high = EARLIEST, LATEST
    if unit == "ms":
        low, high = EARLIEST // 1000, LATEST // 1000
    if unit == "ns":
        counts = np.floor_divide(counts, 1000)
    bad = (counts < low) | (counts > high)
    misfits = [(row, f"{values[row]} {unit} is beyond the calendar") for row in np.flatnonzero(bad & ~nulls).tolist()]
    micros = np.where(bad, 0, counts) * _PER_UNIT[unit]
    return pa.array(micros, pa.int64(), mask=nulls | bad).cast(dtype.arrow()), misfits


def date_column(values: Sequence[Any], dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """Days since the epoch: dates where Date is declared, midnights where Timestamp is, else numbers."""
    if dtype.is_integer:
        return arrow_column(values, pa.int32(), dtype)
    low, high = EARLIEST // DAY, LATEST // DAY
    bad = [row for row, value in enumerate(values) if value is not None and not low <= value <= high]
    if not bad:
        return fit(pa.array(values, pa.int32()).cast(pa.date32()), dtype)
    kept = [None if value is None or not low <= value <= high else value for value in values]
    fitted, misfits = fit(pa.array(kept, pa.int32()).cast(pa.date32()), dtype)
    return fitted, sorted([*misfits, *((row, f"{values[row]} days is beyond the calendar") for row in bad)])


def object_column(values: Sequence[Any], dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """Convert Python values of any type one by one; nested ones become JSON where Json is declared."""
    if dtype.name == "Json":
        values = [value if value is None or isinstance(value, str) else _jsonable(value) for value in values]
    elif dtype.name == "String":
        values = [str(value) if isinstance(value, UUID) else value for value in values]
    elif dtype.name == "Array" and dtype.inner is not None and dtype.inner.name in ("String", "Json"):
        spelt: Callable[[Any], Any] = jsonable if dtype.inner.name == "Json" else _spelt
        values = [list(map(spelt, value)) if isinstance(value, list | tuple) else value for value in values]
    return fit_values(values, dtype)


def _jsonable(value: Any) -> Any:
    # Values nested too deeply are passed on: the type check reports them.
    return value if is_too_deep(value) else jsonable(value)


def _spelt(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def jsonable(value: Any) -> Any:
    """A nested value as JSON: times as ISO 8601, decimals and UUIDs as text, bytes as base64."""
    if isinstance(value, dict):
        return {str(key): jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(each) for each in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, bytes):
        return write_bytes(value)
    return value


def empty_column(rows: int, dtype: DType) -> pa.Array:
    """A column of nulls, for a field that no message has."""
    return pa.nulls(rows, dtype.arrow())


def joined(parts: Sequence[tuple[list[int], dict[str, pa.Array]]]) -> tuple[list[int], dict[str, pa.Array]]:
    """Merge separately decoded columns in the order of their positions."""
    parts = [part for part in parts if part[0]] or list(parts[:1])
    if len(parts) == 1:
        return parts[0]
    indexes = np.concatenate([np.asarray(part[0], dtype=np.int64) for part in parts])
    order = np.argsort(indexes, kind="stable")
    columns = {
        name: pc.take(pa.concat_arrays([part[1][name] for part in parts]), pa.array(order)) for name in parts[0][1]
    }
    return indexes[order].tolist(), columns


__all__ = ["arrow_column", "date_column", "empty_column", "joined", "jsonable", "object_column", "time_column"]
