"""Values as JSON: each type is written and read here; values without a JSON form become text.

| type | in JSON |
| --- | --- |
| Bool, Int32, Int64, String, Json | as it is (Json: its text) |
| Float32, Float64, Embedding | a number; `"NaN"`, `"Infinity"` and `"-Infinity"` as text |
| Decimal | text with all of its digits |
| Bytes | base64 text |
| Date | `2026-11-23` |
| Timestamp | ISO 8601 with `Z`, microseconds where there are any |
| Array | a list of these |

This is the format of Asof's client and server: `writer`, `reader`, and `column_writer` for whole columns. The others
differ as their names say:

- `feast_column_writer`: Feast's responses, in which times are whole seconds since the epoch.
- `message_reader`: values in messages, checked later.
- `request_reader`: values in requests of Asof's and Feast's clients, in which times may be seconds; checked later.
- `write_value`: values of unknown type.

This module loads neither NumPy nor Arrow, as `asof.client` uses it.
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

from asof.dtypes import DType, Float32
from asof.timing import EPOCH, SECOND, micros, moment

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""Text → float, for the numbers that JSON does not have."""

Convert = Callable[[Any], Any]
Column = list[Any]
ConvertColumn = Callable[[Column], Column]


def writer(dtype: DType) -> Convert | None:
    """A function from a value (not None) to its JSON value; None where no conversion is needed."""
    return _of_type(dtype, _WRITERS)


def reader(dtype: DType) -> Convert | None:
    """A function from a JSON value (not null) to its Python value; None where no conversion is needed. It raises
    ValueError for a value that `writer` does not write for `dtype`.
    """
    return _of_type(dtype, _READERS)


def column_writer(dtype: DType) -> ConvertColumn | None:
    """`writer` for a column with nulls; None where no conversion is needed."""
    if dtype.is_float:
        return write_floats
    write = writer(dtype)
    return None if write is None else lambda values: [None if value is None else write(value) for value in values]


def feast_column_writer(dtype: DType) -> ConvertColumn | None:
    """`column_writer`, but times are whole epoch seconds, as in Feast's server."""
    if dtype.name == "Timestamp":
        return lambda values: [None if value is None else micros(value) // SECOND for value in values]
    if dtype.name == "Array" and dtype.inner is not None:
        inner = feast_column_writer(dtype.inner)
        return None if inner is None else lambda rows: [None if row is None else inner(row) for row in rows]
    return column_writer(dtype)


def message_reader(dtype: DType) -> Convert | None:
    """A function from a value in a message to one that fits `dtype`; None where no conversion is needed. A value of
    another type is returned unchanged, for the later type check to report.
    """
    if dtype.is_float:
        return lambda value: NOT_FINITE.get(value, value) if type(value) is str else value
    if dtype.name == "Bytes":
        return bytes_or_same
    return _of_lists(dtype, message_reader)


def request_reader(dtype: DType) -> Convert | None:
    """`message_reader`, but times may be epoch seconds, as Feast's clients send them."""
    if dtype.name == "Timestamp":
        return _moment_of_seconds
    return _of_lists(dtype, request_reader) or message_reader(dtype)


def _of_lists(dtype: DType, reader_of: Callable[[DType], Convert | None]) -> Convert | None:
    """The reader of lists, made from the reader of their elements."""
    inner = Float32 if dtype.name == "Embedding" else dtype.inner
    one = reader_of(inner) if inner is not None else None
    if one is not None:
        return lambda value: [None if each is None else one(each) for each in value] if type(value) is list else value
    return None


def read_columns(columns: Mapping[str, Sequence[Any]], types: Mapping[str, DType]) -> dict[str, Any]:
    """The columns of a request; those of known types are converted by `request_reader`."""
    found: dict[str, Any] = {}
    for name, values in columns.items():
        read = request_reader(types[name]) if name in types else None
        found[name] = values if read is None else [None if value is None else read(value) for value in values]
    return found


def write_value(value: Any) -> Any:
    """A value of any Python type as JSON, for requests: only the server knows the declared types."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return write_float(value)
    if isinstance(value, datetime):
        # pandas' missing time is a datetime too, and not equal to itself.
        return None if value != value else _write_moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return write_bytes(value)
    if isinstance(value, dict):
        return {str(key): write_value(each) for key, each in value.items()}
    item = getattr(value, "item", None)
    if item is not None and getattr(value, "ndim", 0) == 0:
        # A scalar of numpy.
        return write_value(item())
    if hasattr(value, "tolist"):
        return write_value(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [write_value(each) for each in value]
    # pandas' NA has no truth value: it raises.
    return None if type(value).__name__ == "NAType" else str(value)


def _of_type(dtype: DType, converters: dict[str, Convert]) -> Convert | None:
    if dtype.name == "Embedding":
        return lambda row: list(map(converters["Float32"], row))
    if dtype.name == "Array":
        assert dtype.inner is not None
        inner = _of_type(dtype.inner, converters)
        return None if inner is None else lambda row: [None if each is None else inner(each) for each in row]
    return converters.get(dtype.name)


def write_floats(values: Column) -> Column:
    """`write_float` for a column with nulls; the column itself where all of its numbers are finite."""
    try:
        # The sum of finite numbers may overflow to infinity; then each is checked.
        if math.isfinite(sum(values)):
            return values
    except TypeError:
        pass
    return [None if value is None else write_float(value) for value in values]


def all_finite(columns: Sequence[Column]) -> bool:
    """True if no column has a null or a non-finite number; False may also mean unknown."""
    try:
        return math.isfinite(sum(chain.from_iterable(columns)))
    except TypeError:
        return False


def write_float(number: float) -> float | str:
    """A float, or its text where JSON has no such number."""
    if math.isfinite(number):
        return number
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def _read_float(value: Any) -> float:
    return NOT_FINITE[value] if isinstance(value, str) and value in NOT_FINITE else float(value)


def write_bytes(value: bytes | bytearray | memoryview) -> str:
    """Base64 text."""
    return b64encode(value).decode("ascii")


def _read_bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


def bytes_or_same(value: Any) -> Any:
    """Decode base64 text; anything else is returned unchanged, for the type check to report."""
    if not isinstance(value, str):
        return value
    try:
        return _read_bytes(value)
    except ValueError:
        return value


def _write_moment(value: datetime) -> str:
    text = value.isoformat() if value.tzinfo is UTC else moment(micros(value)).isoformat()
    return text.replace("+00:00", "Z")


def _read_moment(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    # Else via microseconds, so that the zone is `datetime.UTC` itself, as in the store's results.
    return value if value.tzinfo is UTC else moment(micros(value))


def _moment_of_seconds(value: Any) -> Any:
    """A time from epoch seconds, as Feast's clients send them; anything else is returned unchanged."""
    if type(value) is int or isinstance(value, float):
        try:
            return EPOCH + timedelta(seconds=value)
        except (OverflowError, ValueError):
            return value
    return value


_WRITERS: dict[str, Convert] = {
    "Float32": write_float, "Float64": write_float, "Decimal": str, "Bytes": write_bytes, "Date": date.isoformat,
    "Timestamp": _write_moment,
}  # fmt: skip
_READERS: dict[str, Convert] = {
    "Float32": _read_float, "Float64": _read_float, "Decimal": Decimal, "Bytes": _read_bytes,
    "Date": date.fromisoformat, "Timestamp": _read_moment,
}  # fmt: skip

__all__ = [
    "Column", "ConvertColumn", "all_finite", "bytes_or_same", "column_writer", "feast_column_writer", "message_reader",
    "read_columns", "reader", "request_reader", "write_bytes", "write_float", "write_floats", "write_value", "writer",
]  # fmt: skip
