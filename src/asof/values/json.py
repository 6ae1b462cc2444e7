"""Values as JSON carries them between server and client; what JSON has no form for stands as text.

| type | in JSON |
| --- | --- |
| Bool, Int32, Int64, String, Json | as it is (Json: its text) |
| Float32, Float64, Embedding | a number; `"NaN"`, `"Infinity"` and `"-Infinity"` as text |
| Decimal | text with all of its digits |
| Bytes | base64 text |
| Date | `2026-11-23` |
| Timestamp | ISO 8601 with `Z`, microseconds where there are any |
| Array | a list of these |
"""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from asof.dtypes import DType
from asof.timing import micros, moment

NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

Convert = Callable[[Any], Any]


def writer(dtype: DType) -> Convert | None:
    """What makes a JSON value of one that is not None; None where it is one already."""
    return _of_type(dtype, _WRITERS)


def reader(dtype: DType) -> Convert | None:
    """What makes Python's own value of a JSON value that is not null; None where it is that already.

    The converter raises ValueError where the value is not what `writer` writes for `dtype`.
    """
    return _of_type(dtype, _READERS)


def write_value(value: Any) -> Any:
    """A value of any Python type as JSON carries it, for requests: their types are known to the server alone."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return _write_float(value)
    if isinstance(value, datetime):
        # pandas' missing time is a datetime too, and not equal to itself.
        return None if value != value else _write_moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _write_bytes(value)
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
    # pandas' NA has no truth value, and says so by raising.
    return None if type(value).__name__ == "NAType" else str(value)


def _of_type(dtype: DType, converters: dict[str, Convert]) -> Convert | None:
    if dtype.name == "Embedding":
        return lambda row: list(map(converters["Float32"], row))
    if dtype.name == "Array":
        assert dtype.inner is not None
        inner = _of_type(dtype.inner, converters)
        return None if inner is None else lambda row: [None if each is None else inner(each) for each in row]
    return converters.get(dtype.name)


def _write_float(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if number != number else "Infinity" if number > 0 else "-Infinity"


def _read_float(value: Any) -> float:
    return NOT_FINITE[value] if isinstance(value, str) and value in NOT_FINITE else float(value)


def _write_bytes(value: bytes | bytearray | memoryview) -> str:
    return b64encode(value).decode("ascii")


def _read_bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


def _write_moment(value: datetime) -> str:
    text = value.isoformat() if value.tzinfo is UTC else moment(micros(value)).isoformat()
    return text.replace("+00:00", "Z")


def _read_moment(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    # Else through microseconds, so that the zone is `datetime.UTC` itself, as in the store's answers.
    return value if value.tzinfo is UTC else moment(micros(value))


_WRITERS: dict[str, Convert] = {
    "Float32": _write_float, "Float64": _write_float, "Decimal": str, "Bytes": _write_bytes, "Date": date.isoformat,
    "Timestamp": _write_moment,
}  # fmt: skip
_READERS: dict[str, Convert] = {
    "Float32": _read_float, "Float64": _read_float, "Decimal": Decimal, "Bytes": _read_bytes,
    "Date": date.fromisoformat, "Timestamp": _read_moment,
}  # fmt: skip

__all__ = ["NOT_FINITE", "reader", "write_value", "writer"]
