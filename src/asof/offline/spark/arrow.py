"""Conversion between Arrow and Spark: types of columns, and columns in a form that can be sent."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import types as spark
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_type

from asof.errors import StorageError
from asof.values.fit import event_micros

_PLAIN = (
    (pa.types.is_boolean, pa.bool_(), "boolean"), (pa.types.is_int8, pa.int8(), "tinyint"),
    (pa.types.is_uint8, pa.int16(), "smallint"), (pa.types.is_int16, pa.int16(), "smallint"),
    (pa.types.is_uint16, pa.int32(), "int"), (pa.types.is_int32, pa.int32(), "int"),
    (pa.types.is_uint32, pa.int64(), "bigint"), (pa.types.is_int64, pa.int64(), "bigint"),
    (pa.types.is_uint64, pa.decimal128(20, 0), "decimal(20,0)"), (pa.types.is_float16, pa.float32(), "float"),
    (pa.types.is_float32, pa.float32(), "float"), (pa.types.is_float64, pa.float64(), "double"),
    (pa.types.is_string, pa.string(), "string"), (pa.types.is_large_string, pa.string(), "string"),
    (pa.types.is_string_view, pa.string(), "string"), (pa.types.is_binary, pa.binary(), "binary"),
    (pa.types.is_large_binary, pa.binary(), "binary"), (pa.types.is_binary_view, pa.binary(), "binary"),
    (pa.types.is_fixed_size_binary, pa.binary(), "binary"), (pa.types.is_date, pa.date32(), "date"),
    (pa.types.is_null, pa.string(), "string"), (pa.types.is_time, pa.string(), "string"),
    (pa.types.is_duration, pa.int64(), "bigint"),
)  # fmt: skip
"""Test of an Arrow type → the type in which it is sent, and Spark's."""

_IN_FILES = frozenset({
    "boolean", "tinyint", "smallint", "int", "bigint", "float", "double", "string", "binary", "date", "timestamp",
    "timestamp_ntz",
})  # fmt: skip

_TYPES: dict[str, type[spark.DataType]] = {
    "boolean": spark.BooleanType, "tinyint": spark.ByteType, "smallint": spark.ShortType, "int": spark.IntegerType,
    "bigint": spark.LongType, "float": spark.FloatType, "double": spark.DoubleType, "string": spark.StringType,
    "binary": spark.BinaryType, "date": spark.DateType, "timestamp": spark.TimestampType,
    "timestamp_ntz": spark.TimestampNTZType,
}  # fmt: skip


def stored_as(kind: pa.DataType) -> tuple[pa.DataType, str] | None:
    """The Arrow type in which values are sent, and Spark's name of their type; None if there is none."""
    if pa.types.is_dictionary(kind):
        return stored_as(kind.value_type)
    if isinstance(kind, pa.UuidType):
        return pa.string(), "string"
    if pa.types.is_timestamp(kind):
        return (pa.timestamp("us", "UTC"), "timestamp") if kind.tz else (pa.timestamp("us"), "timestamp_ntz")
    if pa.types.is_decimal(kind):
        fits = 0 <= kind.scale <= kind.precision <= 38
        return (pa.decimal128(kind.precision, kind.scale), f"decimal({kind.precision},{kind.scale})") if fits else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = stored_as(kind.value_type)
        return None if inner is None else (pa.list_(inner[0]), f"array<{inner[1]}>")
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        try:
            found = from_arrow_type(kind)
            return to_arrow_type(found, timezone="UTC"), found.simpleString()
        except Exception:  # its own type for what it does not know
            return None
    for fits_it, travels, sql_type in _PLAIN:
        if fits_it(kind):
            return travels, sql_type
    return None


def arrives(kind: pa.DataType) -> bool:
    """Whether a column of this type is the same after it was sent."""
    found = stored_as(kind)
    if found is None or pa.types.is_null(kind):
        return False
    return found[0] == kind or (pa.types.is_timestamp(kind) and kind.unit == "us")


def is_read_from_files(kind: pa.DataType) -> bool:
    """Whether every engine reads a Parquet column of this type as what it is: no nanoseconds, no unsigned integers.

    Arrow's writers note their own types in a file, and an engine over Arrow (Sail) refuses to read one that is not its
    own for Spark's type: large lists, lists of a fixed size, short decimals, dates in milliseconds, UUIDs.
    """
    if pa.types.is_list(kind):
        return is_read_from_files(kind.value_type)
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    if pa.types.is_timestamp(kind):
        return bool(kind.unit != "ns")
    if pa.types.is_decimal(kind) and not pa.types.is_decimal128(kind):
        return False
    if pa.types.is_unsigned_integer(kind) or pa.types.is_float16(kind) or pa.types.is_dictionary(kind):
        return False
    if pa.types.is_duration(kind) or pa.types.is_time(kind) or pa.types.is_null(kind) or pa.types.is_date64(kind):
        return False
    found = stored_as(kind)
    return found is not None and (found[1] in _IN_FILES or found[1].startswith("decimal("))


def travelling(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """A column in the type in which it is sent.

    Raises:
        StorageError: Spark has no type for it.
    """
    kind, _ = _stored(column.type, name)
    if column.type == kind:
        return column
    if isinstance(column.type, pa.UuidType):
        return pa.chunked_array(
            [[None if each is None else str(uuid.UUID(str(each))) for each in column.to_pylist()]], pa.string()
        )
    if pa.types.is_timestamp(kind) and column.type.unit == "ns":
        # A cast would refuse times between two microseconds. Floor them, so that no event moves past the time of a
        # read.
        return pa.chunked_array([event_micros(chunk).cast(kind) for chunk in column.chunks], kind)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return pa.chunked_array([_floored(chunk).cast(kind) for chunk in column.chunks], kind)


def _floored(array: pa.Array) -> pa.Array:
    """The array with nanoseconds that it holds inside, in lists and structs, floored to microseconds."""
    kind = array.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return event_micros(array).cast(pa.timestamp("us", kind.tz))
    if pa.types.is_fixed_size_list(kind):
        array = array.cast(pa.list_(kind.value_type))
        kind = array.type
    missing = array.is_null()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        made = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        ends = pc.cumulative_sum(lengths)
        offsets = pa.concat_arrays([pa.array([0], ends.type), ends])
        return made.from_arrays(offsets, _floored(array.flatten()), mask=missing)
    if pa.types.is_struct(kind):
        fields = [_floored(array.field(place)) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, names=[each.name for each in kind], mask=missing)
    return array


def type_of(kind: pa.DataType, name: str) -> str:
    """Spark's name of the type in which a column is sent.

    Raises:
        StorageError: there is none.
    """
    return _stored(kind, name)[1]


def _stored(kind: pa.DataType, name: str) -> tuple[pa.DataType, str]:
    found = stored_as(kind)
    if found is None:
        raise StorageError(
            f"column {name!r} is {kind}, which no type of Spark can hold",
            hint="make it a list of plain values, or text",
        )
    return found


def struct_of(columns: Iterable[tuple[str, str]]) -> spark.StructType:
    """Columns and Spark's names of their types, as a schema."""
    return spark.StructType([spark.StructField(name, data_type(sql_type)) for name, sql_type in columns])


def data_type(sql_type: str) -> spark.DataType:
    """The type with that name (`DataType.simpleString`)."""
    if sql_type.startswith("array<"):
        return spark.ArrayType(data_type(sql_type[len("array<") : -1]))
    if sql_type.startswith("map<"):
        key, value = _parts(sql_type[len("map<") : -1])
        return spark.MapType(data_type(key), data_type(value))
    if sql_type.startswith("struct<"):
        fields = (each.partition(":") for each in _parts(sql_type[len("struct<") : -1]))
        return struct_of((name, kind) for name, _, kind in fields)
    digits = re.match(r"decimal\((\d+),(\d+)\)$", sql_type)
    return spark.DecimalType(int(digits[1]), int(digits[2])) if digits else _TYPES[sql_type]()


def _parts(inner: str) -> list[str]:
    """What commas outside of brackets separate."""
    parts, depth = [""], 0
    for each in inner:
        depth += (each in "<(") - (each in ">)")
        if each == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += each
    return parts


def arrow_schema(schema: spark.StructType) -> pa.Schema:
    """The columns of a result, as Arrow has them."""
    return pa.schema([pa.field(each.name, to_arrow_type(each.dataType, timezone="UTC")) for each in schema.fields])


__all__ = [
    "arrives", "arrow_schema", "data_type", "is_read_from_files", "stored_as", "struct_of", "travelling", "type_of",
]  # fmt: skip
