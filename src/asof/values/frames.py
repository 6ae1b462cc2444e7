"""Frames of pandas, Polars and Arrow, and dicts of columns, as columns; values that Arrow cannot hold stay as they are.

Inputs of public verbs are converted here: `table_columns` for rows that are checked value by value, `entity_table` for
entity frames, which engines read whole. `asof.client`, which loads no Arrow, converts columns in `calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa

from asof.errors import EntityFrameError
from asof.values.frame_types import is_lazy, is_pandas, is_polars
from asof.values.legible import why
from asof.values.nesting import MOST_DEPTH, is_too_deep

MOST_NAMED = 20
"""Maximum number of columns that a message names."""

_NOT_ARROWS = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""Errors of Arrow for values that it has no type for: integers of 20 digits, lone surrogates, mixed types …"""


def table_columns(rows: Any) -> dict[str, Any] | None:
    """The columns of a table by name: Arrow columns, or lists where Arrow has no type; None if it is not a table."""
    if is_pandas(rows):
        return _pandas_columns(rows)
    if is_polars(rows):
        return _polars_columns(rows)
    table = _arrow_table(rows)
    return None if table is None else {name: table[name] for name in table.column_names}


def entity_table(frame: Any) -> pa.Table | None:
    """An entity frame as a table; None if it is neither a table nor a dict of columns.

    Raises:
        EntityFrameError: Arrow cannot hold a column.
    """
    if is_pandas(frame):
        frame = _dense(frame)
        made = partial(pa.Table.from_pandas, frame, preserve_index=False)
        columns = {name: frame.iloc[:, place] for place, name in enumerate(frame.columns)}
        return _readable(made, columns).replace_schema_metadata(None)
    if isinstance(frame, Mapping):
        return _readable(partial(pa.table, dict(frame)), frame)
    frame = frame.collect() if is_lazy(frame) else frame
    if not is_polars(frame):
        return _arrow_table(frame)
    for name, column in _polars_columns(frame).items():
        if isinstance(column, list):
            kind = TypeError(f"Arrow has no type for {frame[name].dtype} of Polars")
            raise _unreadable(f"the entity frame's column {name!r}", kind)
    return frame.to_arrow()


def repeated_columns(rows: Any) -> list[str]:
    """The names that several columns of a table have."""
    names = list(getattr(rows, "columns", ())) if is_pandas(rows) else list(getattr(rows, "column_names", ()))
    return repeated_names(list(map(str, names)))


def repeated_names(names: Sequence[str]) -> list[str]:
    """The names that are there more than once."""
    return sorted({name for name in names if names.count(name) > 1})


def arrow_column(values: Any) -> Any:
    """A column of NumPy, pandas, Polars or Arrow as an Arrow column; others, without an Arrow type, as a list."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    is_stream = hasattr(values, "__arrow_c_stream__")
    if is_stream or hasattr(values, "__array__"):
        try:
            _refuse_deep(values)
            return pa.chunked_array(values) if is_stream else pa.array(values)
        except _NOT_ARROWS:
            pass
    return list(values)


def uneven(columns: Mapping[str, Sized]) -> str:
    """Column lengths for a message if they differ, else the empty string."""
    if len(set(map(len, columns.values()))) <= 1:
        return ""
    lengths = {name: len(values) for name, values in columns.items()}
    more = f" and {len(lengths) - MOST_NAMED} more" if len(lengths) > MOST_NAMED else ""
    return f"{dict(islice(lengths.items(), MOST_NAMED))}{more}"


def _dense(frame: Any) -> Any:
    """The frame with pandas' sparse columns written out, which Arrow does not know."""
    sparse = [place for place, kind in enumerate(frame.dtypes) if hasattr(kind, "fill_value")]
    if not sparse:
        return frame
    frame = frame.copy(deep=False)
    for place in sparse:
        frame.isetitem(place, frame.iloc[:, place].sparse.to_dense())
    return frame


def _arrow_table(rows: Any) -> pa.Table | None:
    """A table of Arrow, or of anything else that exports an Arrow stream."""
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pa.RecordBatch):
        return pa.Table.from_batches([rows])
    if not hasattr(rows, "__arrow_c_stream__") or isinstance(rows, Mapping):
        return None
    try:
        return pa.table(rows)
    except pa.ArrowInvalid:
        # A stream of values instead of rows: a series.
        return None


def _polars_columns(frame: Any) -> dict[str, Any]:
    """Arrow columns, or lists where Arrow has no type."""
    return {series.name: _polars_column(series) for series in frame.get_columns()}


def _polars_column(series: Any) -> Any:
    # Of objects, Polars would export the addresses.
    if str(series.dtype) != "Object":
        try:
            return series.to_arrow()
        except _NOT_ARROWS:
            pass
    return series.to_list()


def _pandas_columns(frame: Any) -> dict[str, Any]:
    try:
        for name in frame.columns:
            _refuse_deep(frame[name])
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return {name: table[name] for name in table.column_names}
    except _NOT_ARROWS:
        return {str(name): _pandas_column(frame[name]) for name in frame.columns}


def _pandas_column(series: Any) -> Any:
    try:
        _refuse_deep(series)
        return pa.array(series, from_pandas=True)
    except _NOT_ARROWS:
        missing = series.isna().tolist()
        return [None if is_missing else value for value, is_missing in zip(series, missing, strict=True)]


def _readable(made: Callable[[], pa.Table], columns: Mapping[Any, Any]) -> pa.Table:
    """A table of these columns; the error names the column that Arrow cannot hold."""
    try:
        for values in columns.values():
            _refuse_deep(values)
        return made()
    except _NOT_ARROWS as error:
        for name, values in columns.items():
            try:
                _refuse_deep(values)
                pa.array(values)
            except _NOT_ARROWS as reason:
                raise _unreadable(f"the entity frame's column {name!r}", reason) from reason
        raise _unreadable("the entity frame", error) from error


def _unreadable(what: str, error: Exception) -> EntityFrameError:
    return EntityFrameError(f"{what} cannot be read: {why(error)}", hint="give values of one type, which Arrow has")


def _refuse_deep(values: Any) -> None:
    """Refuse a column of deeply nested lists, which Arrow would follow without a bound.

    Raises:
        ValueError: one of the values.
    """
    is_typed = isinstance(values, pa.Array | pa.ChunkedArray) or str(getattr(values, "dtype", "object")) != "object"
    if is_typed or not hasattr(values, "__iter__"):
        return
    if any(is_too_deep(value) for value in values if not isinstance(value, str | bytes | int | float)):
        raise ValueError(f"a value is nested too deeply; the most are {MOST_DEPTH} levels")


__all__ = [
    "MOST_NAMED",
    "arrow_column",
    "entity_table",
    "repeated_columns",
    "repeated_names",
    "table_columns",
    "uneven",
]
