"""The bytes of an online row: keys, and the values of a latest-value view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

from asof.dtypes import DType
from asof.timing import moment

FORMAT = 1
"""The version of a packed latest-value row, its first element."""

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder(list).decode
_EPOCH_DAY = date(1970, 1, 1)


def key_bytes(values: Sequence[Any]) -> bytes:
    """One key's values, already plain (see `plain_values`), as the bytes that the online store files them under."""
    return _encode(list(values))


def key_values(key: bytes) -> list[Any]:
    """The plain values that `key_bytes` packed."""
    return _decode(key)


def plain_values(column: pa.Array | pa.ChunkedArray, dtype: DType) -> list[Any]:
    """A fitted column as values that pack alike everywhere: times as microseconds, dates as days, decimals as text."""
    if dtype.name == "Timestamp":
        return column.cast(pa.int64()).to_pylist()
    if dtype.name == "Date":
        return column.cast(pa.int32()).to_pylist()
    if dtype.name == "Decimal":
        return [None if value is None else str(value) for value in column.to_pylist()]
    if dtype.name == "Array" and dtype.inner is not None and dtype.inner.name in ("Timestamp", "Date", "Decimal"):
        return [None if row is None else plain_values(pa.array(row, dtype.inner.arrow()), dtype.inner) for row in column.to_pylist()]
    return column.to_pylist()


def restorer(dtype: DType) -> Callable[[Any], Any] | None:
    """What turns a plain value back into Python's own type for `dtype`; None where it is that already."""
    if dtype.name == "Timestamp":
        return moment
    if dtype.name == "Date":
        return lambda days: _EPOCH_DAY + timedelta(days=days)
    if dtype.name == "Decimal":
        return Decimal
    if dtype.name == "Array" and dtype.inner is not None:
        inner = restorer(dtype.inner)
        if inner is not None:
            return lambda row: [None if value is None else inner(value) for value in row]
    return None


def pack_rows(event_times: Sequence[int], columns: Sequence[Sequence[Any]]) -> list[bytes]:
    """Rows of a latest-value view: `[format, event time, value, …]` each."""
    return [_encode([FORMAT, *row]) for row in zip(event_times, *columns, strict=True)]


def unpack_row(value: bytes) -> list[Any]:
    """`[format, event time in microseconds, plain value, …]` of a packed row."""
    return _decode(value)
