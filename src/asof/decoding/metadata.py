"""Read a message's metadata as columns: its key, its headers, the time of its record."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.decoding.bounds import MessageBounds
from asof.decoding.codecs import key_codec_of
from asof.decoding.schemas import Schemas
from asof.definitions import AvroFormat, Field, LogSource
from asof.dtypes import DType
from asof.timing import EARLIEST, LATEST
from asof.values.exact_floats import exact_decoder
from asof.values.fit import fit_values
from asof.values.legible import why
from asof.values.nesting import is_too_deep

Headers = Sequence[tuple[str, bytes | None]]

_decode_key = exact_decoder(Any).decode

UNREADABLE = "asof.unreadable"
"""Stands for the headers of a message that its client cannot read, since a name is not UTF-8."""

_WHOLE = re.compile(r"-?[0-9]+")
_PER_UNIT = {"s": 1_000_000, "ms": 1000, "us": 1}


def key_columns(
    source: LogSource,
    keys: Sequence[bytes | None],
    indexes: Sequence[int],
    *,
    dead_letters: dict[int, str],
    schemas: Schemas | None,
    bounds: MessageBounds,
) -> dict[str, pa.Array]:
    """The columns from the messages' keys; a message without a key has nulls there."""
    fields = source.key_columns
    if isinstance(source.key_format, AvroFormat):
        return _avro_keys(source, fields, keys, indexes, dead_letters=dead_letters, schemas=schemas, bounds=bounds)
    names = [field.name for field in fields]
    values: dict[str, list[Any]] = {name: [] for name in names}
    readers: dict[str, Callable[[bytes, Sequence[Field]], dict[str, Any]]] = {
        "text": _text_key,
        "int": _int_key,
        "json": partial(_json_key, bounds=bounds),
    }
    read = readers[source.key_format]
    for place, key in zip(indexes, keys, strict=True):
        found: dict[str, Any] = {}
        if key is not None:
            try:
                found = read(key, fields)
            except Exception as error:
                dead_letters.setdefault(place, f"key: {why(error)}")
        for name in names:
            values[name].append(found.get(name))
    return {
        field.name: _fitted(values[field.name], field, indexes, dead_letters, what="key column") for field in fields
    }


def header_column(
    name: str, field: Field, headers: Sequence[Headers] | None, indexes: Sequence[int], dead_letters: dict[int, str]
) -> pa.Array:
    """One header of each message: the last one of that name, or null."""
    values: list[Any] = []
    for row, place in enumerate(indexes):
        found = None
        for each, value in headers[row] if headers is not None else ():
            if each == name:
                found = value
            elif each == UNREADABLE:
                dead_letters.setdefault(
                    place, f"header {name!r}: the message's headers have a name that is not text in UTF-8"
                )
        try:
            values.append(None if found is None else from_text(found, field.dtype))
        except Exception as error:
            dead_letters.setdefault(place, f"header {name!r}: {why(error)}")
            values.append(None)
    return _fitted(values, field, indexes, dead_letters, what="header column")


def record_times(
    times: npt.NDArray[np.int64], dtype: DType, unit: str, *, indexes: Sequence[int], dead_letters: dict[int, str]
) -> pa.Array:
    """The records' times in the declared type, floored to its unit; times outside the calendar make dead letters."""
    beyond = (times < EARLIEST) | (times > LATEST)
    for row in np.flatnonzero(beyond).tolist():
        dead_letters.setdefault(indexes[row], f"the record's time, {times[row]} us, is beyond the calendar")
    times = np.where(beyond, 0, times)
    if not dtype.is_integer:
        return pa.array(times, pa.int64()).cast(pa.timestamp("us", "UTC")).cast(dtype.arrow(), safe=False)
    if unit == "ns":
        return pa.array([int(time) * 1000 for time in times], pa.int64())
    return pa.array(np.floor_divide(times, _PER_UNIT[unit]), pa.int64())


def from_text(value: bytes, dtype: DType) -> Any:
    """Parse a value from text.

    Raises:
        ValueError: the text is not of this type.
    """
    if dtype.name == "Bytes":
        return value
    text = value.decode()
    if dtype.is_integer:
        if not _WHOLE.fullmatch(text):
            raise ValueError(f"{text!r} is not a whole number ({dtype})")
        return int(text)
    if dtype.is_float:
        return float(text)
    if dtype.name == "Bool":
        if text not in ("true", "false"):
            raise ValueError(f"{text!r} is not true or false (Bool)")
        return text == "true"
    return text


def _text_key(key: bytes, fields: Sequence[Field]) -> dict[str, Any]:
    return {fields[0].name: from_text(key, fields[0].dtype)}


def _int_key(key: bytes, fields: Sequence[Field]) -> dict[str, Any]:
    if len(key) not in (4, 8):
        raise ValueError(f"has {len(key)} bytes; a whole number has 4 or 8")
    return {fields[0].name: int.from_bytes(key, "big", signed=True)}


def _json_key(key: bytes, fields: Sequence[Field], *, bounds: MessageBounds) -> dict[str, Any]:
    if is_too_deep(key, bounds.max_depth):
        raise ValueError(bounds.too_deep)
    found = _decode_key(key)
    if isinstance(found, dict):
        return found
    if len(fields) > 1:
        raise ValueError(f"is not a JSON object with {', '.join(repr(field.name) for field in fields)}")
    return {fields[0].name: found}


def _avro_keys(
    source: LogSource, fields: Sequence[Field], keys: Sequence[bytes | None], indexes: Sequence[int], *,
    dead_letters: dict[int, str], schemas: Schemas | None, bounds: MessageBounds,
) -> dict[str, pa.Array]:  # fmt: skip
    codec = key_codec_of(source, fields, bounds)
    rows = [row for row, key in enumerate(keys) if key is not None]
    found: dict[int, str] = {}
    good, columns = codec.decode(
        rows, [key for key in keys if key is not None], dead_letters=found, undeclared=Counter(), schemas=schemas
    )  # fmt: skip
    for row, reason in found.items():
        dead_letters.setdefault(indexes[row], f"key: {reason}")
    if len(good) == len(keys):
        return columns
    # Messages with a missing or unreadable key have nulls there.
    index = np.full(len(keys), -1, dtype=np.int64)
    index[np.asarray(good, dtype=np.int64)] = np.arange(len(good))
    take = pa.array(index, mask=index < 0)
    return {name: column.take(take) for name, column in columns.items()}


def _fitted(
    values: list[Any], field: Field, indexes: Sequence[int], dead_letters: dict[int, str], *, what: str
) -> pa.Array:
    array, misfits = fit_values(values, field.dtype)
    for row, reason in misfits:
        dead_letters.setdefault(indexes[row], f"{what} {field.name!r}: {reason}")
    return array


__all__ = ["UNREADABLE", "Headers", "from_text", "header_column", "key_columns", "record_times"]
