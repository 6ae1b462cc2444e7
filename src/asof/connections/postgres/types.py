"""PostgreSQL's types: their types in Asof, and how to select a column so that Arrow gets exact values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa

from asof.dtypes import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    DType,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)
from asof.sql.postgres.casts import cast, cast_or_null
from asof.sql.quoting import quote, text

_PLAIN: dict[str, DType] = {
    "bool": Bool, "int2": Int32, "int4": Int32, "int8": Int64, "oid": Int64, "float4": Float32, "float8": Float64,
    "text": String, "varchar": String, "bpchar": String, "name": String, "citext": String, "uuid": String,
    "bytea": Bytes, "date": Date, "timestamp": Timestamp, "timestamptz": Timestamp, "json": Json, "jsonb": Json,
}  # fmt: skip
_SHOWN = {
    "int2": "smallint", "int4": "integer", "int8": "bigint", "float4": "real", "float8": "double precision",
    "bool": "boolean", "timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone",
    "varchar": "character varying", "bpchar": "character",
}  # fmt: skip
_TYPES = """
SELECT t.oid, t.typname, t.typtype, coalesce(e.typname, ''), coalesce(e.typtype, '')
FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE t.oid = ANY(%s)
"""
_ENDS = {"timestamptz": "294247-01-01 00:00:00+00", "timestamp": "294247-01-01 00:00:00", "date": "5867440-01-01"}
"""The end of the range of 64-bit microseconds since 1970, and of the drivers' days."""


@dataclass(frozen=True)
class PostgresColumn:
    """A column of a table, a view or a query.

    Args:
        type: the server's name, such as `int4`; for an array, the element type.
        is_array: of any number of dimensions, which the server does not report.
        digits: precision and scale of a `numeric`, where it has them.
        dtype: Asof's type, or None.
    """

    name: str
    type: str
    is_array: bool = False
    is_enum: bool = False
    digits: tuple[int, int] | None = None
    dtype: DType | None = None

    @property
    def shown(self) -> str:
        """The SQL name of the type, for messages."""
        text = _SHOWN.get(self.type, self.type)
        if self.digits is not None:
            text += f"({self.digits[0]},{self.digits[1]})"
        return f"{text}[]" if self.is_array else text

    @property
    def is_fitted(self) -> bool:
        """Whether its values are fitted to the type that it is declared with: numbers of any digits."""
        return self.type == "numeric" and _of_digits(self.digits) is None

    @property
    def is_text(self) -> bool:
        """Whether it compares by its characters only."""
        return not self.is_array and self.type in ("text", "varchar")

    @property
    def is_integer(self) -> bool:
        return not self.is_array and self.type in ("int2", "int4", "int8")

    @property
    def is_time(self) -> bool:
        return not self.is_array and self.type in _ENDS

    def select(self, *, bounded: bool = False, lenient: bool = False, beyond: bool = False) -> str:
        """The column in a SELECT, in a form that Arrow reads exactly; values without such a form make the server raise
        an error.

        Args:
            bounded: its values are known to be in the range of Asof's times.
            lenient: values without such a form are null, and no error.
            beyond: a time without such a form becomes one outside Asof's years: no time where rows are ordered, and an
                error as a value.
        """
        name = quote(self.name)
        brackets = "[]" if self.is_array else ""
        value = name
        if self.type == "numeric" and self.dtype is not None:
            what = f"column {self.name!r}"
            value = cast(name, self.shown, self.dtype, what)
            if lenient:
                value = cast_or_null(name, self.shown, self.dtype)
            if self._leaf_dtype is not None and self._leaf_dtype.name == "Decimal":
                # Arrow has no numeric without digits.
                value = f"CAST({value} AS text{brackets})"
            return f"{value} AS {name}"
        if self.is_enum or self.type in ("bpchar", "name", "citext", "uuid", "json", "jsonb"):
            value = f"CAST({name} AS text{brackets})"
        elif self.type == "oid":
            value = f"CAST({name} AS int8{brackets})"
        refused = self._refused(bounded)
        if refused:
            condition, problem, shown = refused
            message = text(f"asof: column {self.name!r} holds {problem} ")
            # The text is not valid for the type, so the cast fails with Asof's message. It is null where the value is.
            wrong = f"CAST({message} || {shown} AS {self._target}{brackets})"
            if beyond and self.is_time:
                ends = [f"CAST({text(each)} AS {self.type})" for each in ("4000-01-01 BC", "20000-01-01")]
                wrong = f"CASE WHEN {name} < 'epoch' THEN {ends[0]} ELSE {ends[1]} END"
            value = f"CASE WHEN {condition} THEN {'NULL' if lenient else wrong} ELSE {value} END"
        return value if value == name else f"{value} AS {name}"

    def arrow(self) -> pa.DataType:
        """The column's type for engines, after `fitted`."""
        assert self.dtype is not None
        if self.type == "timestamp":
            naive = pa.timestamp("us")
            return pa.list_(naive) if self.is_array else naive
        return self.dtype.arrow()

    @property
    def _leaf_dtype(self) -> DType | None:
        return self.dtype.inner if self.is_array and self.dtype is not None else self.dtype

    @property
    def _target(self) -> str:
        if self.is_enum or self.type in ("bpchar", "name", "citext", "uuid", "json", "jsonb"):
            return "text"
        return "int8" if self.type == "oid" else self.type

    def _refused(self, bounded: bool) -> tuple[str, str, str] | None:
        """Values that the drivers would change silently: the condition, a description, and how to show the value."""
        name = quote(self.name)
        if self.is_array:
            # Arrow's lists have one dimension, and the drivers flatten the others.
            conditions = [f"array_ndims({name}) > 1"]
            conditions += [f"{each} = ANY({name})" for each in ("'infinity'", "'-infinity'") if self.type in _ENDS]
            return " OR ".join(conditions), "an array that Asof cannot represent:", f"CAST({name} AS text)"
        if self.type in _ENDS and not bounded:
            # Infinity would wrap around to a finite time.
            inside = f"{name} > '-infinity' AND {name} < '{_ENDS[self.type]}'"
            return f"NOT ({inside})", f"a {self.type} that no {self.dtype} can be:", f"CAST({name} AS text)"
        return None


def columns_of(
    connection: psycopg.Connection[Any], relation: str, declared: dict[str, DType] | None = None
) -> list[PostgresColumn]:
    """The columns of a FROM term, and their types. Reads no row.

    Args:
        declared: column → type; the type of a `numeric` whose digits say none.
    """
    # LIMIT 0 ends before the first row is made. A prepared statement would fail once the table has other columns.
    cursor = connection.execute(f"SELECT * FROM {relation} LIMIT 0", prepare=False)
    description = cursor.description or []
    rows = connection.execute(_TYPES, [sorted({each.type_code for each in description})])
    found: dict[int, Any] = {row[0]: row[1:] for row in rows}
    unknown: Any = ("unknown", "b", "", "")
    types, result = declared or {}, cursor.pgresult
    assert result is not None
    return [
        _column(each, result.fmod(at), *found.get(each.type_code, unknown), declared=types)
        for at, each in enumerate(description)
    ]


def _column(
    each: psycopg.Column,
    modifier: int,
    name: str,
    kind: str,
    element: str,
    element_kind: str,
    *,
    declared: dict[str, DType],
) -> PostgresColumn:
    type_ = element or name
    is_enum = (element_kind or kind) == "e"
    digits = _digits(modifier) if type_ == "numeric" else None
    wanted = declared.get(each.name)
    if is_enum:
        leaf: DType | None = String
    elif type_ == "numeric":
        leaf = _numeric(digits, wanted.inner if element and wanted else wanted)
    else:
        leaf = _PLAIN.get(type_)
    dtype = Array(leaf) if element and leaf is not None else leaf
    return PostgresColumn(each.name, type_, bool(element), is_enum, digits, dtype)


def _digits(modifier: int) -> tuple[int, int] | None:
    """Precision and scale of a `numeric` by its type modifier; None of one without them."""
    packed = modifier - 4
    return None if packed < 0 else (packed >> 16 & 0xFFFF, (packed & 0x7FF ^ 1024) - 1024)


def _numeric(digits: tuple[int, int] | None, declared: DType | None) -> DType:
    """The type of its digits; of more than a Decimal has, and of any number of them, the declared one."""
    return _of_digits(digits) or (declared if declared is not None and declared.is_numeric else Decimal(38, 9))


def _of_digits(digits: tuple[int, int] | None) -> DType | None:
    if digits is None:
        return None
    precision, scale = digits
    most = max(precision - min(scale, 0), scale)
    return Decimal(most, max(scale, 0)) if most <= 38 else None


def fitted(batch: pa.RecordBatch, columns: Sequence[PostgresColumn], schema: pa.Schema) -> pa.RecordBatch:
    """A batch from the server, cast to the types of `schema` without rounding.

    Raises:
        pa.ArrowInvalid: a value does not fit.
    """
    arrays = []
    for index, (column, field) in enumerate(zip(columns, schema, strict=True)):
        array = batch.column(index)
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if array.type != field.type:
            try:
                array = array.cast(field.type)
            except pa.ArrowInvalid as error:
                value = _first_misfit(array, field.type)
                raise pa.ArrowInvalid(
                    f"column {column.name!r} ({column.shown}) holds {value}: no {column.dtype}"
                ) from error
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _first_misfit(array: pa.Array, kind: pa.DataType) -> str:
    """The first value that cannot be cast, as text; found by bisection."""
    while len(array) > 1:
        half = array.slice(0, len(array) // 2)
        try:
            half.cast(kind)
            array = array.slice(len(half))
        except pa.ArrowInvalid:
            array = half
    return str(array[0].as_py())


__all__ = ["PostgresColumn", "columns_of", "fitted"]
