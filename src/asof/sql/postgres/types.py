"""Postgres' names of types, and its columns of times as moments."""

from __future__ import annotations

import re

from asof.dtypes import DType
from asof.timing import EARLIEST, HOUR, LATEST, UNITS, whole_units

TYPES = {
    "Bool": "boolean", "Int32": "integer", "Int64": "bigint", "Float32": "real", "Float64": "double precision",
    "String": "text", "Json": "text", "Bytes": "bytea", "Date": "date", "Timestamp": "timestamp with time zone",
    "Embedding": "real[]",
}  # fmt: skip

TEXTS = ("text", "character varying")
"""The types of text that compare as they are."""


def type_name(dtype: DType) -> str:
    """The SQL type of a value type, as the catalog spells it."""
    if dtype.name == "Array":
        assert dtype.inner is not None
        return f"{type_name(dtype.inner)}[]"
    if dtype.name == "Decimal":
        return f"numeric({dtype.precision or 38},{dtype.scale})"
    return TYPES[dtype.name]


def base_type(sql_type: str) -> str:
    """A type's name without its length or precision: `timestamp(3) without time zone` is a timestamp."""
    before, bracket, after = sql_type.partition("(")
    return before.rstrip() + after.partition(")")[2] if bracket else sql_type


def digits_of(sql_type: str) -> tuple[int, int] | None:
    """Precision and scale of a `numeric(12,2)`; None of one without them."""
    found = re.match(r"numeric\((\d+),(-?\d+)\)", sql_type)
    return (int(found[1]), int(found[2])) if found else None


def time_of(column: str, sql_type: str, unit: str = "") -> str:
    """A time column as timestamptz; naive is UTC, a date its midnight.

    Args:
        unit: of an integer column; what no timestamp can be is null.
    """
    kind = base_type(sql_type)
    if kind == "timestamp with time zone":
        return column
    if kind == "timestamp without time zone":
        return f"({column} AT TIME ZONE 'UTC')"
    if kind == "date":
        return f"(CAST({column} AS timestamp) AT TIME ZONE 'UTC')"
    if unit:
        whole = f"CAST({column} AS bigint)"
        least, greatest = whole_units(EARLIEST, unit), whole_units(LATEST, unit)
        multiplier, divisor = UNITS[unit]
        us = floor_divide(whole, divisor) if divisor > 1 else whole if multiplier == 1 else f"{whole} * {multiplier}"
        return f"CASE WHEN {whole} BETWEEN {least} AND {greatest} THEN {_from_micros(us)} END"
    return f"CAST({column} AS timestamptz)"


def floor_divide(value: str, divisor: int) -> str:
    return f"(({value}) - ((({value}) % {divisor}) + {divisor}) % {divisor}) / {divisor}"


def _from_micros(us: str) -> str:
    """BIGINT microseconds as timestamptz, exactly: seconds as a double are exact within an hour."""
    hours, rest = f"CAST(({us}) / {HOUR} AS integer)", f"(({us}) % {HOUR}) / 1e6::double precision"
    return f"(timestamptz 'epoch' + make_interval(hours => {hours}, secs => {rest}))"


__all__ = ["TEXTS", "TYPES", "base_type", "digits_of", "floor_divide", "time_of", "type_name"]
