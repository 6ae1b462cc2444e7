"""Conversion of values to and from a row's state: 64-bit words, or MessagePack objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Context, Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asof.dtypes import DType
from asof.timing import EPOCH, EPOCH_DAY

WORD_TYPES = frozenset({"Bool", "Int32", "Int64", "Float32", "Float64", "Date", "Timestamp"})
"""Names of the types whose values fit a 64-bit word; values of other types are objects of the row's pool."""

_EPOCH_DAY = EPOCH_DAY.toordinal()
_WIDE = Context(prec=60)
_DECIMAL_BIAS = 1 << 127


def fits_word(dtype: DType) -> bool:
    return dtype.name in WORD_TYPES


@dataclass
class InputColumn:
    """The values of one input for a batch of events.

    Args:
        values: n values, arbitrary where `mask` is false. None for `count` of rows.
        mask: bool[n], true where the condition holds and the value is not null.
        dtype: None for `count` of rows.
    """

    values: Any
    mask: NDArray[np.bool_]
    dtype: DType | None
    _words: Any = field(default=None, repr=False)
    _objects: Any = field(default=None, repr=False)

    def take(self, chosen: NDArray[Any]) -> InputColumn:
        """Only the chosen events (a bool mask)."""
        values = self.values
        if isinstance(values, pa.Array | pa.ChunkedArray):
            values = values.filter(pa.array(chosen))
        elif values is not None:
            values = values[chosen]
        return InputColumn(values, self.mask[chosen], self.dtype)

    def words(self) -> NDArray[Any]:
        """int64[n] or, for floats and decimals, float64[n]; 0 where the mask is false."""
        if self._words is None:
            assert self.dtype is not None
            # Where the mask is false, Arrow's buffer holds arbitrary bits; 0 adds nothing to a sum.
            self._words = np.where(self.mask, _numbers(self.values, self.dtype), 0)
        return self._words

    def objects(self) -> list[Any]:
        """The values in a form for MessagePack (`portable`, or their words); arbitrary where the mask is false."""
        if self._objects is None:
            assert self.dtype is not None
            if fits_word(self.dtype):
                self._objects = self.words().tolist()
                return self._objects
            # Values outside of the mask are not converted: they may be null, or no values of the type at all.
            convert = portable(self.dtype)
            plain = self.values.to_pylist() if hasattr(self.values, "to_pylist") else self.values.tolist()
            kept = self.mask.tolist()
            if convert is None:
                self._objects = [value if keep else None for value, keep in zip(plain, kept)]
            else:
                self._objects = [convert(value) if keep else None for value, keep in zip(plain, kept)]
        return self._objects

    def limbs(self) -> list[NDArray[np.int64]]:
        """Unscaled decimals as four numbers, lowest first: `l0 + l1·2³² + l2·2⁶⁴ + l3·2⁹⁶`, all but l3 in [0, 2³²)."""
        assert self.dtype is not None
        array = pa.array(self.values) if not isinstance(self.values, pa.Array | pa.ChunkedArray) else self.values
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        # A decimal of Arrow is two 64-bit halves, the lower first; a slice shares the buffer, and says where it begins.
        array = array.cast(self.dtype.arrow())
        data = np.frombuffer(array.buffers()[1], dtype=np.int64)
        pairs = data[array.offset * 2 : (array.offset + len(array)) * 2].reshape(-1, 2)
        low, high = (np.where(self.mask, pairs[:, half], 0) for half in (0, 1))
        # `>>` of a lower half is signed, though the half is not: its mask undoes that. Only the last limb has a sign.
        return [low & 0xFFFFFFFF, (low >> 32) & 0xFFFFFFFF, high & 0xFFFFFFFF, high >> 32]


def _numbers(values: Any, dtype: DType) -> NDArray[Any]:
    target = np.float64 if dtype.is_float or dtype.name == "Decimal" else np.int64
    if isinstance(values, np.ndarray):
        if values.dtype == object:
            values = pa.array(values, type=dtype.arrow())
        elif values.dtype.kind == "M":
            unit = "D" if dtype.name == "Date" else "us"
            return values.astype(f"datetime64[{unit}]").astype(np.int64)
        else:
            return values.astype(target, copy=False)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    # Times, dates, decimals and booleans are no numbers for NumPy yet; what is below a microsecond is cut off.
    if pa.types.is_timestamp(values.type):
        values = values.cast(dtype.arrow(), safe=False).cast(pa.int64())
    elif pa.types.is_date(values.type):
        values = values.cast(pa.date32()).cast(pa.int32())
    elif pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    elif pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    # With nulls `to_numpy` would make floats, which do not hold every integer.
    if values.null_count:
        values = pc.fill_null(values, 0)
    return values.to_numpy(zero_copy_only=False).astype(target, copy=False)


def portable(dtype: DType) -> Callable[[Any], Any] | None:
    """A function from a Python value to a MessagePack value, which keeps order and equality; None where not needed."""
    if dtype.name == "Timestamp":
        return lambda value: value if isinstance(value, int) else (value - EPOCH) // timedelta(microseconds=1)
    if dtype.name == "Date":
        return lambda value: value if isinstance(value, int) else value.toordinal() - _EPOCH_DAY
    if dtype.name == "Decimal":
        return lambda value: decimal_bytes(int(value.scaleb(dtype.scale, _WIDE)))
    if dtype.name == "Array":
        assert dtype.inner is not None
        inner = portable(dtype.inner)
        if inner is None:
            return None
        return lambda value: [None if each is None else inner(each) for each in value]
    return None


def restored(dtype: DType) -> Callable[[Any], Any] | None:
    """The inverse of `portable`."""
    if dtype.name == "Timestamp":
        return lambda value: EPOCH + timedelta(microseconds=value)
    if dtype.name == "Date":
        return lambda value: date.fromordinal(value + _EPOCH_DAY)
    if dtype.name == "Decimal":
        return lambda value: unscaled(int.from_bytes(value, "big") - _DECIMAL_BIAS, dtype.scale)
    if dtype.name == "Bool":
        return bool
    if dtype.name == "Array":
        assert dtype.inner is not None
        inner = restored(dtype.inner)
        if inner is None:
            return None
        return lambda value: [None if each is None else inner(each) for each in value]
    return None


def decimal_bytes(number: int) -> bytes:
    """An unscaled decimal as 16 bytes that sort like the numbers."""
    # Bytes compare without a sign: moved up by half of the range, the least number has the least bytes.
    return (number + _DECIMAL_BIAS).to_bytes(16, "big")


def unscaled(number: int, scale: int) -> Decimal:
    """The decimal of this unscaled integer."""
    return Decimal(number).scaleb(-scale, _WIDE)
