"""Spark's names of types, and its columns of times as microseconds."""

from __future__ import annotations

import re

from asof.dtypes import DType
from asof.timing import DAY, EARLIEST, LATEST, UNITS, whole_units

TYPES = {
    "Bool": "boolean", "Int32": "int", "Int64": "bigint", "Float32": "float", "Float64": "double",
    "String": "string", "Json": "string", "Bytes": "binary", "Date": "date", "Timestamp": "timestamp",
    "Embedding": "array<float>",
}  # fmt: skip

INTEGERS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
"""Type → its bits."""


def type_name(dtype: DType) -> str:
    """The SQL type of a value type, as the catalog spells it (`DataType.simpleString`)."""
    if dtype.name == "Array":
        assert dtype.inner is not None
        return f"array<{type_name(dtype.inner)}>"
    if dtype.name == "Decimal":
        return f"decimal({dtype.precision or 38},{dtype.scale})"
    return TYPES[dtype.name]


def is_text(sql_type: str) -> bool:
    """Whether the type is one of text, of any length."""
    return sql_type == "string" or sql_type.startswith(("varchar(", "char("))


def digits_of(sql_type: str) -> tuple[int, int] | None:
    """Precision and scale of a `decimal(12,2)`; None of another type."""
    found = re.match(r"decimal\((\d+),(\d+)\)$", sql_type)
    return (int(found[1]), int(found[2])) if found else None


def time_of(column: str, sql_type: str, unit: str = "") -> str:
    """A time column as BIGINT microseconds UTC; nanoseconds are floored, a date is its midnight, naive is UTC.

    Args:
        unit: of an integer column; what no timestamp can be is null.
    """
    if sql_type == "timestamp":
        return f"unix_micros({column})"
    if sql_type == "date":
        return f"(CAST(unix_date({column}) AS BIGINT) * {DAY})"
    if unit and sql_type != "timestamp_ntz":
        whole = f"CAST({column} AS BIGINT)"
        multiplier, divisor = UNITS[unit]
        if divisor > 1:
            return floor_divide(whole, divisor)
        if multiplier == 1:
            return whole
        # In ANSI mode a product beyond 64 bits is an error, and the optimizer may look at rows that are left out later.
        least, greatest = whole_units(EARLIEST, unit), whole_units(LATEST, unit)
        return f"CASE WHEN {whole} BETWEEN {least} AND {greatest} THEN {whole} * {multiplier} END"
    return f"unix_micros(CAST({column} AS timestamp))"


def floor_divide(value: str, divisor: int) -> str:
    """Integer division rounded down, also below zero."""
    return f"(({value}) - pmod({value}, {divisor})) DIV {divisor}"


def floor_to(value: str, hop: int) -> str:
    """The greatest multiple of `hop` that is not after `value`."""
    return f"({value}) - pmod({value}, {hop})"


__all__ = ["INTEGERS", "TYPES", "digits_of", "floor_divide", "floor_to", "is_text", "time_of", "type_name"]
