"""Frames of pandas and of Python values as Arrow has them; what Arrow cannot take is named, or stays values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from asof.errors import EntityFrameError
from asof.values.fit import MOST_DEPTH, is_too_deep, why

_NOT_ARROWS = (pa.ArrowException, TypeError, ValueError, OverflowError)
"""What Arrow raises for values that it has no type for: integers of 20 digits, lone surrogates, mixed kinds …"""


def pandas_columns(frame: Any) -> dict[str, Any]:
    """A pandas frame's columns: of Arrow, or a list of values where Arrow cannot take them, for a look at each."""
    try:
        for name in frame.columns:
            refuse_deep(frame[name])
        table = pa.Table.from_pandas(frame, preserve_index=False)
        return {name: table[name] for name in table.column_names}
    except _NOT_ARROWS:
        if not frame.columns.is_unique:
            raise
        return {str(name): _column(frame[name]) for name in frame.columns}


def _column(series: Any) -> Any:
    try:
        refuse_deep(series)
        return pa.array(series, from_pandas=True)
    except _NOT_ARROWS:
        missing = series.isna().tolist()
        return [None if is_missing else value for value, is_missing in zip(series, missing, strict=True)]


def entity_table(made: Callable[[], pa.Table], columns: Mapping[Any, Any]) -> pa.Table:
    """An entity frame's table.

    Args:
        columns: what it is made of.

    Raises:
        EntityFrameError: a column that Arrow cannot take.
    """
    try:
        for values in columns.values():
            refuse_deep(values)
        return made()
    except _NOT_ARROWS as error:
        for name, values in columns.items():
            try:
                refuse_deep(values)
                pa.array(values)
            except _NOT_ARROWS as reason:
                raise _unreadable(f"the entity frame's column {name!r}", reason) from reason
        raise _unreadable("the entity frame", error) from error


def _unreadable(what: str, error: Exception) -> EntityFrameError:
    return EntityFrameError(f"{what} cannot be read: {why(error)}", hint="give values of one type, which Arrow has")


def refuse_deep(values: Any) -> None:
    """Refuse a column of lists in lists that Arrow would follow without a bound.

    Raises:
        ValueError: one of the values.
    """
    is_typed = isinstance(values, pa.Array | pa.ChunkedArray) or str(getattr(values, "dtype", "object")) != "object"
    if is_typed or not hasattr(values, "__iter__"):
        return
    if any(is_too_deep(value) for value in values if not isinstance(value, str | bytes | int | float)):
        raise ValueError(f"a value is nested too deeply; the most are {MOST_DEPTH} levels")


__all__ = ["entity_table", "pandas_columns", "refuse_deep"]
