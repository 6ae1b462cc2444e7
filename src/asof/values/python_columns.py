"""Columns of Python values that have their declared type already, checked as a whole.

A fast path for pushed rows: `own_column` must equal `fit_values` and `plain_values`, and returns None for columns that
need them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import isfinite
from operator import attrgetter
from types import NoneType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asof.dtypes import GREATEST_EXACT, GREATEST_EXACT_32, GREATEST_FLOAT32, DType
from asof.timing import SECOND, micros, moment
from asof.values.check import own_values
from asof.values.json import write_float, writer
from asof.values.packing import plain_values

VECTOR = 32
"""Number of values from which NumPy is faster than a loop."""

_pack = msgspec.msgpack.Encoder().encode
_zone = attrgetter("tzinfo")

# A whole list is checked by packing it with MessagePack and viewing the bytes as a NumPy array of cells, each a tag
# and a value:
#
#     head | CB 8-byte float | CB 8-byte float | CB 8-byte float | …
#
# If the total length is that of n such cells and every tag is right, then all values have this type: a cell of any
# other type has another tag or length, and would shift the tags behind it. No Python object is looked at one by one,
# and the values are at hand as an array.
_FLOATS = np.dtype([("tag", "u1"), ("value", ">f8")]), 0xCB
_TIMES = np.dtype([("tag", ">u2"), ("value", ">u8")]), 0xD7FF
_WHOLE_SECONDS = np.dtype([("tag", ">u2"), ("value", ">u4")]), 0xD6FF


class TypedColumn:
    """Values that fit their type, in the forms that a push needs.

    Attributes:
        written: as in a JSON message, for msgspec.
        plain: as in a packed row (`plain_values`).
    """

    __slots__ = ("_array", "dtype", "plain", "written")

    def __init__(self, dtype: DType, written: list[Any], plain: list[Any], array: pa.Array | None = None) -> None:
        self.dtype = dtype
        self.written = written
        self.plain = plain
        self._array = array

    @classmethod
    def of_array(cls, column: pa.Array, dtype: DType) -> TypedColumn:
        """A fitted Arrow column."""
        plain = plain_values(column, dtype)
        return cls(dtype, _written(column, dtype, plain), plain, column)

    @property
    def array(self) -> pa.Array:
        """The values as an Arrow array, made on first use."""
        if self._array is None:
            self._array = array_of([self])
        return self._array


def array_of(columns: Sequence[TypedColumn]) -> pa.Array:
    """The values of several columns of one type, concatenated."""
    if len(columns) == 1 and columns[0]._array is not None:
        return columns[0]._array
    arrays = [each._array for each in columns]
    if all(each is None for each in arrays):
        dtype = columns[0].dtype
        plain = columns[0].plain if len(columns) == 1 else [value for each in columns for value in each.plain]
        kind = dtype.arrow()
        return pa.array(plain, pa.int64()).cast(kind) if dtype.name == "Timestamp" else pa.array(plain, kind)
    return pa.concat_arrays([each.array for each in columns])


def own_column(values: list[Any], dtype: DType) -> TypedColumn | None:
    """The values as a column; None where they need to be checked one by one, or one does not fit."""
    find = _OWN.get(dtype.name)
    return find(values, dtype) if find is not None else None


def _floats(values: list[Any], dtype: DType) -> TypedColumn | None:
    if len(values) >= VECTOR and (cells := _cells(values, *_FLOATS)) is not None:
        return _vector(values, cells, dtype)
    kinds = set(map(type, values))
    present = values
    if type(None) in kinds:
        kinds.discard(type(None))
        present = [value for value in values if value is not None]
    if int in kinds and kinds <= {int, float}:
        exact = GREATEST_EXACT_32 if dtype.name == "Float32" else GREATEST_EXACT
        if not all(-exact <= value <= exact for value in present if type(value) is int):
            return None
        values = [None if value is None else float(value) for value in values]
        present = list(map(float, present))
    elif not kinds <= {float}:
        return None
    # One pass in C: a sum is finite only if every number is. It may also overflow; then the full check decides.
    if not isfinite(sum(present)):
        return None
    if dtype.name == "Float32":
        if not all(-GREATEST_FLOAT32 <= value <= GREATEST_FLOAT32 for value in present):
            return None
        # `array("f")` rounds to Float32, so that the row holds the value that Arrow and a later read have.
        rounded = iter(array("f", present).tolist())
        values = [None if value is None else next(rounded) for value in values]
    return TypedColumn(dtype, values, values)


def _vector(values: list[Any], cells: npt.NDArray[Any], dtype: DType) -> TypedColumn | None:
    if not np.isfinite(cells).all():
        return None
    if dtype.name == "Float32":
        if float(np.abs(cells).max()) > GREATEST_FLOAT32:
            return None
        narrow = cells.astype("<f4")
        values = narrow.tolist()
        return TypedColumn(dtype, values, values, pa.array(narrow))
    return TypedColumn(dtype, values, values, pa.array(cells.astype("<f8")))


def _own(values: list[Any], dtype: DType) -> TypedColumn | None:
    return TypedColumn(dtype, values, values) if own_values(values, dtype) is not None else None


def _texts(values: list[Any], dtype: DType) -> TypedColumn | None:
    present = own_values(values, dtype)
    if present is None:
        return None
    # Only a lone surrogate fails to encode; joining first makes that one check for the column.
    text = "".join(present)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return None
    return TypedColumn(dtype, values, values)


def _times(values: list[Any], dtype: DType) -> TypedColumn | None:
    times = _vector_of_times(values) if len(values) >= VECTOR else None
    if times is not None:
        return TypedColumn(dtype, values, times.tolist(), pa.array(times).cast(dtype.arrow()))
    if not set(map(type, values)) <= {datetime, NoneType}:
        return None
    if not all(value is None or value.tzinfo is UTC for value in values):
        return None
    return TypedColumn(dtype, values, [None if value is None else micros(value) for value in values])


def _vector_of_times(values: list[Any]) -> npt.NDArray[np.int64] | None:
    # MessagePack's timestamps, as integers: 64 bits are nanoseconds (upper 30) and seconds (lower 34); times without
    # a fraction have 32 bits of seconds. A column that mixes both has no cells of one layout, and goes the slow way.
    if (cells := _cells(values, *_TIMES)) is not None:
        times = (cells & 0x3_FFFF_FFFF).astype(np.int64) * SECOND + (cells >> 34).astype(np.int64) // 1000
    elif (cells := _cells(values, *_WHOLE_SECONDS)) is not None:
        times = cells.astype(np.int64) * SECOND
    else:
        return None
    # The bytes are the same for every zone, but the values are returned as they are: they must be in UTC already.
    return times if set(map(_zone, values)) == {UTC} else None


def _cells(values: list[Any], layout: np.dtype[Any], tag: int) -> npt.NDArray[Any] | None:
    """The values as an array, if every cell has this layout and tag, else None."""
    try:
        packed = _pack(values)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError):
        return None
    # `array 16` and `array 32` headers; shorter headers do not occur from `VECTOR` values on.
    head = 3 if len(values) < 1 << 16 else 5
    if len(packed) != head + layout.itemsize * len(values):
        return None
    cells = np.frombuffer(packed, layout, offset=head)
    return cells["value"] if (cells["tag"] == tag).all() else None


_OWN: dict[str, Callable[[list[Any], DType], TypedColumn | None]] = {
    "Bool": _own, "Int32": _own, "Int64": _own, "Float32": _floats, "Float64": _floats, "String": _texts,
    "Bytes": _own, "Timestamp": _times,
}  # fmt: skip


def _written(column: pa.Array, dtype: DType, plain: list[Any]) -> list[Any]:
    if dtype.name == "Timestamp":
        # Via integers: Arrow's own conversion to Python times would take most of the time of a push.
        return [None if value is None else moment(value) for value in plain]
    if dtype.is_float:
        if not column.null_count and np.isfinite(column.to_numpy()).all():
            return plain
        return [None if value is None else write_float(value) for value in plain]
    if dtype.name in _OWN or dtype.name == "Json":
        return plain
    values, cells = column.to_pylist(), column
    while pa.types.is_list(cells.type):
        cells = pc.list_flatten(cells)
    # A sum is finite only if every number is; the sum of an empty column is null.
    if not pa.types.is_floating(cells.type) or isfinite(pc.sum(cells).as_py() or 0):
        return values
    write = writer(dtype)
    return values if write is None else [None if value is None else write(value) for value in values]


__all__ = ["VECTOR", "TypedColumn", "array_of", "own_column"]
