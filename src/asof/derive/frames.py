"""Functions of mode pandas and polars: a frame of all rows in, a frame out."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from asof.derive.calls import DerivationCall
from asof.derive.failures import CallFailure, no_frame, raised, refuse_misfits, wrong_fields
from asof.display import counted
from asof.errors import MissingExtra
from asof.values.fit import Misfit, fit, fit_values


def call_frame(call: DerivationCall, table: pa.Table) -> list[pa.Array]:
    """Run a function of mode pandas or polars over a table of its inputs (by their names in the function) and the
    times.

    NaN from a pandas function is null for every type; NaN from a polars function is null for fields that are not
    floats.

    Returns:
        One column per field, in the declared types.

    Raises:
        CallFailure: the function raised, or did not return what it declares.
    """
    columns = _pandas_columns(call, table) if call.mode == "pandas" else _polars_columns(call, table)
    arrays = []
    for field, default, (array, misfits) in zip(call.fields, call.defaults, columns, strict=True):
        refuse_misfits(field, misfits)
        filled = array if default is None else pc.coalesce(array, pa.scalar(default, array.type))
        arrays.append(filled)
    return arrays


def _pandas_columns(call: DerivationCall, table: pa.Table) -> list[tuple[pa.Array, list[Misfit]]]:
    try:
        import pandas as pd  # an extra
    except ImportError as error:
        raise MissingExtra(f"on-demand feature view {call.view_name!r} (mode pandas)", "pandas") from error
    answer = _answered(call, table.to_pandas(types_mapper=pd.ArrowDtype))
    if isinstance(answer, pd.Series) and len(call.fields) == 1:
        answer = answer.to_frame(call.fields[0].name)
    if not isinstance(answer, pd.DataFrame):
        raise no_frame(call, answer, "pandas.DataFrame")
    _check_frame(call, list(answer.columns), len(answer), table.num_rows)
    if not answer.index.equals(pd.RangeIndex(len(answer))):
        raise CallFailure(
            "shape", "its function returned a frame with a different index",
            hint="keep the rows in their order; undo set_index, and sort_values by sort_index()",
        )  # fmt: skip
    columns = []
    for field in call.fields:
        series = answer[field.name]
        if series.dtype != object:
            try:
                array = pa.array(series, from_pandas=True)
            except (pa.ArrowException, TypeError, ValueError):
                pass
            else:
                columns.append(fit(_without_nan(array), field.dtype))
                continue
        values = [None if value is pd.NA or value is pd.NaT or _is_nan(value) else value for value in series]
        columns.append(fit_values(values, field.dtype))
    return columns


def _polars_columns(call: DerivationCall, table: pa.Table) -> list[tuple[pa.Array, list[Misfit]]]:
    try:
        import polars as pl  # an extra
    except ImportError as error:
        raise MissingExtra(f"on-demand feature view {call.view_name!r} (mode polars)", "polars") from error
    answer = _answered(call, pl.from_arrow(table))
    if isinstance(answer, pl.Series) and len(call.fields) == 1:
        answer = answer.to_frame(call.fields[0].name)
    if not isinstance(answer, pl.DataFrame):
        raise no_frame(call, answer, "polars.DataFrame")
    _check_frame(call, answer.columns, len(answer), table.num_rows)
    columns = []
    for field in call.fields:
        series = answer[field.name]
        if series.dtype == pl.Object:
            columns.append(fit_values(series.to_list(), field.dtype))
            continue
        array = series.to_arrow()
        if pa.types.is_large_list(array.type) and _small(array.type) == field.dtype.arrow():
            array = array.cast(field.dtype.arrow())
        columns.append(fit(array if field.dtype.is_float else _without_nan(array), field.dtype))
    return columns


def _small(kind: pa.DataType) -> pa.DataType:
    """The type with 32 bit offsets, all the way down: Polars has 64 bit ones."""
    if pa.types.is_large_list(kind):
        return pa.list_(_small(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) else kind


def _answered(call: DerivationCall, frame: Any) -> Any:
    rows = len(frame)
    try:
        return call.function(frame)
    except Exception as error:
        raise raised(call, error, rows=rows) from error


def _check_frame(call: DerivationCall, names: list[Any], length: int, expected: int) -> None:
    if len(names) != len(call.fields) or set(names) != set(call.field_names):
        raise wrong_fields(call, names, None)
    if length != expected:
        raise CallFailure(
            "shape", f"its function returned {counted(length, 'row')} for {expected}",
            hint="return one row for each input row; filter and aggregate in feature views, not in on-demand functions",
        )  # fmt: skip


def _without_nan(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.if_else(pc.is_nan(array), None, array) if pa.types.is_floating(array.type) else array


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
