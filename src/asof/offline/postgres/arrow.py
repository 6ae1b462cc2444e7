"""Conversion between Arrow and Postgres: column types, and columns in a form that can be transferred."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from asof.dtypes import GREATEST_INT64, LEAST_INT64, Decimal, DType, from_arrow
from asof.errors import EntityFrameError, StorageError
from asof.sql.quoting import quote
from asof.timing import EARLIEST, LATEST
from asof.values.fit import event_micros

_TYPE, _TYPMOD = b"POSTGRESQL:type", b"POSTGRESQL:typmod"
"""What the driver says of a column: its type's name, and its digits in the catalog's packed form."""

SQL_TYPES = {
    "bool": "boolean", "int2": "smallint", "int4": "integer", "int8": "bigint", "float4": "real",
    "float8": "double precision", "text": "text", "varchar": "character varying", "bpchar": "character",
    "bytea": "bytea", "date": "date", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "numeric": "numeric", "uuid": "uuid", "json": "json", "jsonb": "jsonb",
    "name": "name",
}  # fmt: skip
"""The catalog's short type names, as in the driver → names in SQL."""

_PLAIN = (
    (pa.types.is_boolean, pa.bool_(), "boolean"), (pa.types.is_int8, pa.int16(), "smallint"),
    (pa.types.is_uint8, pa.int16(), "smallint"), (pa.types.is_int16, pa.int16(), "smallint"),
    (pa.types.is_uint16, pa.int32(), "integer"), (pa.types.is_int32, pa.int32(), "integer"),
    (pa.types.is_uint32, pa.int64(), "bigint"), (pa.types.is_int64, pa.int64(), "bigint"),
    (pa.types.is_uint64, pa.decimal128(20, 0), "numeric(20,0)"), (pa.types.is_float16, pa.float32(), "real"),
    (pa.types.is_float32, pa.float32(), "real"), (pa.types.is_float64, pa.float64(), "double precision"),
    (pa.types.is_string, pa.string(), "text"), (pa.types.is_large_string, pa.string(), "text"),
    (pa.types.is_string_view, pa.string(), "text"), (pa.types.is_binary, pa.binary(), "bytea"),
    (pa.types.is_large_binary, pa.binary(), "bytea"), (pa.types.is_binary_view, pa.binary(), "bytea"),
    (pa.types.is_fixed_size_binary, pa.binary(), "bytea"), (pa.types.is_date, pa.date32(), "date"),
    (pa.types.is_null, pa.string(), "text"), (pa.types.is_time, pa.time64("us"), "time without time zone"),
    (pa.types.is_duration, pa.int64(), "bigint"),
)  # fmt: skip
"""Test of an Arrow type → the transfer type, and the column's SQL type."""

"""The driver's values for infinite times."""


def stored_as(kind: pa.DataType, *, exactly: bool = False) -> tuple[pa.DataType, str] | None:
    """The Arrow type for the transfer and the column's SQL type; None if Postgres has none.

    Args:
        exactly: keep nanoseconds, as a number; else floor them to microseconds.
    """
    if pa.types.is_dictionary(kind):
        return stored_as(kind.value_type, exactly=exactly)
    if pa.types.is_timestamp(kind):
        if exactly and kind.unit == "ns":
            return pa.int64(), "bigint"
        zone = "with" if kind.tz else "without"
        return pa.timestamp("us", "UTC" if kind.tz else None), f"timestamp {zone} time zone"
    if pa.types.is_decimal(kind):
        return (pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 else kind), (
            f"numeric({kind.precision},{kind.scale})"
        )
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = stored_as(kind.value_type, exactly=exactly)
        # Arrays of arrays would have to be rectangular.
        return None if inner is None or inner[1].endswith("[]") else (pa.list_(inner[0]), f"{inner[1]}[]")
    for fits, travels, sql_type in _PLAIN:
        if fits(kind):
            return travels, sql_type
    return None


def travelling(column: pa.ChunkedArray, name: str, *, exactly: bool = False) -> tuple[pa.ChunkedArray, str]:
    """A column in its transfer form, and its SQL type.

    Raises:
        StorageError: Postgres has no type for it.
    """
    found = stored_as(column.type, exactly=exactly)
    if found is None:
        raise StorageError(
            f"column {name!r} is {column.type}, which no type of Postgres can hold",
            hint="make it a list of plain values, or text",
        )
    kind, sql_type = found
    if column.type == kind:
        return column, sql_type
    if pa.types.is_timestamp(kind) and column.type.unit == "ns":
        # A cast would refuse times between two microseconds. Floor them, so that no event moves past the time of a
        # read.
        parts = [event_micros(chunk).cast(kind) for chunk in column.chunks]
        return pa.chunked_array(parts, kind), sql_type
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(kind), sql_type


def sql_type_of(field: pa.Field) -> str:
    """The SQL type of a result's column, from the driver's description."""
    metadata = field.metadata or {}
    name = metadata.get(_TYPE, b"").decode() or "text"
    base = SQL_TYPES.get(name.removeprefix("_"), name.removeprefix("_"))
    digits = _digits(metadata)
    if base == "numeric" and digits:
        base = f"numeric({digits[0]},{digits[1]})"
    return f"{base}[]" if name.startswith("_") else base


def lacks_digits(field: pa.Field) -> bool:
    """Whether a column has lists of numerics, of whose digits the driver says nothing."""
    metadata = field.metadata or {}
    return metadata.get(_TYPE) == b"_numeric" and _TYPMOD not in metadata


def with_digits_of(field: pa.Field, element: pa.Field) -> pa.Field:
    """A column of lists, with the digits of its element; -1 for none."""
    digits = (element.metadata or {}).get(_TYPMOD, b"-1")
    return field.with_metadata({**(field.metadata or {}), _TYPMOD: digits})


def plain_field(field: pa.Field) -> pa.Field:
    """A result's column in Arrow's own types."""
    return pa.field(field.name, _plain_type(field.type, field.metadata or {}))


def plain_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast a result's column to its output type."""
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if column.type == kind:
        return _without_infinity(column) if pa.types.is_timestamp(kind) else column
    if pa.types.is_list(kind) and isinstance(column.type.value_type, pa.BaseExtensionType):
        values = plain_column(column.values, kind.value_type)
        return pa.ListArray.from_arrays(column.offsets, values, mask=column.is_null())
    if pa.types.is_fixed_size_binary(column.type) and pa.types.is_string(kind):
        return pa.array([_uuid(each) for each in column.to_pylist()], pa.string())
    return column.cast(kind)


def checked_column(column: pa.Array, field: pa.Field, *, is_users: bool) -> pa.Array:
    """`plain_column`, with an error that names the column.

    Args:
        is_users: nothing has checked its times.

    Raises:
        EntityFrameError: a value cannot be kept.
    """
    try:
        if is_users and pa.types.is_timestamp(field.type):
            _refuse_odd_times(column)
        return plain_column(column, field.type)
    except pa.ArrowInvalid as error:
        if pa.types.is_timestamp(field.type):
            raise EntityFrameError(
                f"column {field.name!r} of the SQL holds {str(error).splitlines()[0]}",
                hint="exclude such rows, or make these values null",
            ) from error
        raise EntityFrameError(
            f"column {field.name!r} of the SQL is numeric without digits and holds a value that {field.type} cannot "
            f"hold: {str(error).splitlines()[0]}",
            hint="cast it to the type that it is to have, for example CAST(… AS double precision) or "
            "CAST(… AS numeric(38, 20))",
        ) from error


def dtype_of(field: pa.Field) -> DType | None:
    """Asof's type for a result's column, or None."""
    return from_arrow(plain_field(field).type)


def columns_sql(columns: Iterable[tuple[str, str]]) -> str:
    """The columns of a CREATE TABLE."""
    return ", ".join(f"{quote(name)} {sql_type}" for name, sql_type in columns)


def _plain_type(kind: pa.DataType, metadata: dict[bytes, bytes]) -> pa.DataType:
    if pa.types.is_list(kind):
        of_element: dict[bytes, bytes] = {**(kind.value_field.metadata or metadata)}
        if _TYPMOD in metadata:
            of_element[_TYPMOD] = metadata[_TYPMOD]
        return pa.list_(_plain_type(kind.value_type, of_element))
    if not isinstance(kind, pa.BaseExtensionType):
        return kind
    if metadata.get(_TYPE, b"").removeprefix(b"_") == b"numeric":
        digits = _digits(metadata)
        # A number without a precision has unlimited digits: it is what it is as a source's column.
        return pa.decimal128(*digits) if digits and 0 <= digits[1] <= digits[0] <= 38 else Decimal.arrow()
    return pa.string()


def _digits(metadata: dict[bytes, bytes]) -> tuple[int, int] | None:
    """Precision and scale from the catalog's packed form."""
    packed = int(metadata.get(_TYPMOD, b"-1")) - 4
    return None if packed < 0 else (packed >> 16 & 0xFFFF, (packed & 0x7FF ^ 1024) - 1024)


def _refuse_odd_times(column: pa.Array) -> None:
    """Refuse infinities, which the driver gives as the ends of 64 bits, and times that Python does not have.

    Raises:
        pa.ArrowInvalid: there is one.
    """
    ends = pc.min_max(column.cast(pa.int64())).as_py()
    if ends["min"] is not None and not EARLIEST <= ends["min"] <= ends["max"] <= LATEST:
        raise pa.ArrowInvalid("a time outside of the years 1 to 9999")


def _without_infinity(column: pa.Array) -> pa.Array:
    whole = column.cast(pa.int64())
    odd = pc.or_(pc.equal(whole, GREATEST_INT64), pc.equal(whole, LEAST_INT64))
    return pc.if_else(odd, pa.scalar(None, column.type), column) if pc.any(odd).as_py() else column


def _uuid(value: bytes | None) -> str | None:
    return None if value is None else re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", value.hex())
