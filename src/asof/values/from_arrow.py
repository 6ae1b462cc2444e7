"""Arrow columns as Python values, and as times."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from asof.dtypes import Timestamp
from asof.values.fit import fit


def python_values(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """A column as Python values; times in `datetime.UTC`, as in the online reader."""
    values = array.to_pylist()
    kind = array.type
    if pa.types.is_timestamp(kind):
        return [None if value is None else value.replace(tzinfo=UTC) for value in values]
    return [in_utc(value) for value in values] if pa.types.is_list(kind) else values


def in_utc(value: Any) -> Any:
    """An Arrow value as in the online reader: times (also inside lists) in `datetime.UTC`."""
    if isinstance(value, list):
        return [in_utc(each) for each in value]
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def moments_of(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A table's time column (times, or integer microseconds) as `timestamp[us, UTC]`."""
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64()).cast(Timestamp.arrow())
    return fit(column, Timestamp)[0]
