"""DuckDB's SQL for the elements of every plan: names, literals, times, casts, aggregates."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from asof.dtypes import GREATEST_EXACT, GREATEST_EXACT_32, DType
from asof.expressions.dialects import DUCKDB as FORMS
from asof.sql.dialect import Dialect
from asof.sql.quoting import text
from asof.timing import EARLIEST, LATEST, UNITS, Micros, micros, whole_units

LAST_OF_ALL = "9223372036854775807"
"""Sorts a spine row after every row of the same time."""

_DIGITS_OF_ONE_SUM = 28
"""Ten thousand million values of so many digits have a sum that fits 128 bits."""

_HALF = "10000000000000000000"
"""Half of 38 digits, as SQL; a HUGEINT."""

EXACT_UP_TO = {"DOUBLE": GREATEST_EXACT, "FLOAT": GREATEST_EXACT_32}
"""Type of floats → the greatest number up to which each integer has a float of its own."""

_INTEGERS = {
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT",
}  # fmt: skip

_WITHIN = {
    "Int32": ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT"),
    "Int64": ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"),
}
"""Type of integers → those whose values all fit it."""

TYPES = {
    "Bool": "BOOLEAN", "Int32": "INTEGER", "Int64": "BIGINT", "Float32": "FLOAT", "Float64": "DOUBLE",
    "String": "VARCHAR", "Json": "VARCHAR", "Bytes": "BLOB", "Date": "DATE", "Timestamp": "TIMESTAMPTZ",
    "Embedding": "FLOAT[]",
}  # fmt: skip


def type_name(dtype: DType) -> str:
    """The SQL type of a value type."""
    if dtype.name == "Array":
        assert dtype.inner is not None
        return f"{type_name(dtype.inner)}[]"
    if dtype.name == "Decimal":
        return f"DECIMAL({dtype.precision or 38},{dtype.scale})"
    return TYPES[dtype.name]


def literal(value: Any, dtype: DType) -> str:
    """A Python value as SQL of the type."""
    if value is None:
        return f"CAST(NULL AS {type_name(dtype)})"
    if isinstance(value, list | tuple):
        inner = dtype.inner if dtype.inner is not None else DType("Float32")
        return f"CAST([{', '.join(literal(each, inner) for each in value)}] AS {type_name(dtype)})"
    if dtype.name == "Timestamp":
        return f"make_timestamptz({micros(value)})"
    if isinstance(value, bytes):
        return f"from_hex('{value.hex()}')"
    if isinstance(value, bool):
        return f"CAST({str(value).upper()} AS {type_name(dtype)})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"CAST({text(str(value))} AS {type_name(dtype)})"
    if isinstance(value, str | date | datetime | Decimal | float):
        return f"CAST({text(str(value))} AS {type_name(dtype)})"
    return f"CAST({value} AS {type_name(dtype)})"


def floor_divide(value: str, divisor: int) -> str:
    """Integer division rounded down, also below zero."""
    return f"(({value}) - ((({value}) % {divisor}) + {divisor}) % {divisor}) // {divisor}"


def floor_to(value: str, hop: Micros) -> str:
    """The greatest multiple of `hop` that is not after `value`."""
    return f"({value}) - ((({value}) % {hop}) + {hop}) % {hop}"


def time_of(column: str, sql_type: str, unit: str = "") -> str:
    """A time column as BIGINT microseconds UTC; nanoseconds are floored, a date is its midnight, naive is UTC.

    Args:
        column: its SQL.
        sql_type: its type as DuckDB names it.
        unit: of an integer column.
    """
    if sql_type in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS", "TIMESTAMP_NS WITH TIME ZONE"):
        # A cast to microseconds would round up, and could move an event past the time of a read.
        return floor_divide(f"epoch_ns({column})", 1000)
    if sql_type.startswith(("TIMESTAMP", "DATE")):
        return f"epoch_us({column})"
    if unit:
        multiplier, divisor = UNITS[unit]
        whole = f"CAST({column} AS BIGINT)"
        return floor_divide(whole, divisor) if divisor > 1 else whole if multiplier == 1 else f"{whole} * {multiplier}"
    return f"epoch_us(CAST({column} AS TIMESTAMPTZ))"


def is_time(column: str, sql_type: str, unit: str = "") -> str:
    """Whether a raw time column holds a moment of the years 1 to 9999: null is none.

    Args:
        unit: of an integer column, which is compared before `time_of` multiplies it.
    """
    if sql_type == "DATE":
        return f"{column} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'"
    if unit and not sql_type.startswith("TIMESTAMP"):
        # No nanosecond of 64 bits is outside these years.
        inside = f"{column} BETWEEN {whole_units(EARLIEST, unit)} AND {whole_units(LATEST, unit)}"
        return f"{column} IS NOT NULL" if unit == "ns" else inside
    least, greatest = (from_micros(us, sql_type) for us in (EARLIEST, LATEST))
    return f"{column} BETWEEN {least} AND {greatest}" if least else f"{column} IS NOT NULL"


def instant(us: Micros) -> str:
    """A moment as SQL."""
    return str(us)


def join_key(column: str, sql_type: str, dtype: DType, what: str) -> str:
    """A source's raw join key, such that it compares with a spine's; a value that does not fit is an error."""
    if sql_type in _WITHIN.get(dtype.name, ()):
        return column
    made = cast(column, sql_type, dtype, what)
    if dtype.name in ("Date", "Timestamp"):
        return _unless(f"NOT ({is_time(column, sql_type)})", made, column, dtype, what)
    return made


def keeps_key(sql_type: str, dtype: DType) -> bool:
    """Whether a spine's key of this type compares with values of the declared type as that type does."""
    return sql_type in _INTEGERS if dtype.is_integer else sql_type == type_name(dtype)


def ordering(column: str, sql_type: str, dtype: DType | None) -> str:
    """A column to be sorted by: in its declared type, null where a value does not fit."""
    return column if dtype is None else cast(column, sql_type, dtype, None)


def is_value(column: str, value: Any, dtype: DType) -> str:
    """Whether a raw column holds a key's value.

    Args:
        value: plain as it is packed: a time as microseconds, a date as days, a decimal as text.
    """
    if dtype.name == "Timestamp":
        return f"epoch_us({column}) = {value}"
    if dtype.name == "Date":
        return f"CAST({column} AS DATE) = DATE '1970-01-01' + {value}"
    if isinstance(value, bytes):
        return f"{column} = from_hex('{value.hex()}')"
    return f"{column} = {text(value) if isinstance(value, str) else repr(value)}"


def is_among(columns: str, others: str, relation: str) -> str:
    """Whether the columns are those of one of the relation's rows."""
    return f"({columns}) IN (SELECT ({others}) FROM {relation})"


def from_micros(value: Micros, sql_type: str, unit: str = "", *, up: bool = False) -> str:
    """A moment as a literal to compare a raw time column with, where that helps to skip files; else an empty text.

    Args:
        up: for an upper bound of a coarser column.
    """
    if sql_type == "TIMESTAMP":
        return f"make_timestamp({value})"
    if sql_type in ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"):
        return f"make_timestamptz({value})"
    if unit:
        whole = whole_units(value, unit)
        divisor = UNITS[unit][1]
        return str(whole + divisor if up else whole)
    return ""


def cast(value: str, sql_type: str, dtype: DType, what: str | None = "") -> str:
    """A source's value in its field's declared type; no value is changed silently.

    Args:
        sql_type: the value's type as DuckDB names it.
        what: names the column, for the error; None: null where a value does not fit.
    """
    wanted = type_name(dtype)
    if sql_type == wanted or (sql_type == "TIMESTAMP WITH TIME ZONE" and wanted == "TIMESTAMPTZ"):
        return value
    if dtype.name in ("Array", "Embedding") and sql_type.endswith("]"):
        return _cast_list(value, sql_type, dtype, what)
    if dtype.name == "Timestamp" and sql_type.startswith("TIMESTAMP"):
        return f"make_timestamptz({time_of(value, sql_type)})"
    if dtype.is_text and sql_type.startswith(("STRUCT", "MAP")):
        return f"CAST(to_json({value}) AS {wanted})"
    if dtype.is_integer and sql_type in EXACT_UP_TO:
        # pandas' integers with gaps arrive as floats: whole ones are integers, NaN is null, all else is an error. So is
        # a float so great that several integers have it.
        fits = f"{value} = trunc({value}) AND abs({value}) <= {EXACT_UP_TO[sql_type]}"
        made = f"TRY_CAST({value} AS {wanted})"
        wrong = _misfit(value, dtype, what)
        return (
            f"CASE WHEN {value} IS NULL OR isnan({value}) THEN NULL WHEN {fits} THEN coalesce({made}, {wrong}) "
            f"ELSE {wrong} END"
        )
    if dtype.is_float and sql_type in _INTEGERS:
        made = f"CAST({value} AS {wanted})"
        # Compared as a wide integer: as floats any two that are near are equal.
        return _unless(f"CAST({made} AS HUGEINT) <> {value}", made, value, dtype, what)
    if dtype.is_float and sql_type.startswith("DECIMAL"):
        made = f"CAST(CAST({value} AS VARCHAR) AS DOUBLE)"
        return made if dtype.name == "Float64" else f"CAST({made} AS FLOAT)"
    made = f"TRY_CAST({value} AS {wanted})"
    if dtype.name == "Decimal" and sql_type in ("DOUBLE", "FLOAT"):
        made = f"TRY_CAST(CAST({value} AS VARCHAR) AS {wanted})"
        return _unless(f"{made} IS NULL OR CAST({made} AS {sql_type}) <> {value}", made, value, dtype, what)
    return _unless(f"{made} IS NULL", made, value, dtype, what)


def _cast_list(value: str, sql_type: str, dtype: DType, what: str | None) -> str:
    """A list, each of its elements cast."""
    before, _, size = sql_type[:-1].rpartition("[")
    whole = f"CAST({value} AS {before}[])" if size else value
    element = f"asof_e{before.count('[')}"
    inner = cast(element, before, dtype.inner or DType("Float32"), what)
    return whole if inner == element else f"list_transform({whole}, lambda {element}: {inner})"


def _unless(wrong: str, made: str, value: str, dtype: DType, what: str | None) -> str:
    """What is made of a value, unless that is wrong; null of null."""
    return f"CASE WHEN {value} IS NULL THEN NULL WHEN {wrong} THEN {_misfit(value, dtype, what)} ELSE {made} END"


def _misfit(value: str, dtype: DType, what: str | None) -> str:
    """The SQL of the error for a value that does not fit; of null, where it is no error."""
    if what is None:
        return literal(None, dtype)
    shown = f"left(CAST({value} AS VARCHAR), 80)"
    before, after = text(f"asof: {what} holds "), text(f", which is no {dtype}, as it is declared")
    return f"CAST(error({before} || {shown} || {after}) AS {type_name(dtype)})"


def aggregate(
    function: str, value: str, dtype: DType | None, *, wrap: Callable[[str], str], order: str = "", n: int = 0
) -> str:
    """One aggregate of the non-null values, in its output type.

    Args:
        value: the SQL of the values.
        dtype: their type; None for `count` of rows.
        wrap: completes each call of an SQL aggregate: by ` FILTER (…)`, or by the window it is over.
        order: a column that numbers the rows in their order, for `first`, `last` and `last_n`.
    """
    plain = {
        "count": f"count({value})",
        "count_distinct": f"count(DISTINCT {value})",
        "min": f"min({value})",
        "max": f"max({value})",
        "first": f"arg_min({value}, {order})",
        "last": f"arg_max({value}, {order})",
    }
    if function in plain:
        return wrap(plain[function])
    if function == "last_n":
        return f"list_reverse({wrap(f'arg_max({value}, {order}, {n})')})"
    assert dtype is not None
    if function == "sum":
        if dtype.is_float:
            return _float_sum(value, wrap)
        if dtype.name == "Decimal":
            return _decimal_sum(value, dtype, wrap)
        # The sum of integers is a HUGEINT; TRY_CAST returns null outside Int64.
        return f"TRY_CAST({wrap(f'sum({value})')} AS BIGINT)"
    if function == "mean":
        # Floats and decimals as doubles; integers are summed exactly first.
        if dtype.is_float:
            return _float_mean(value, wrap)
        return wrap(f"avg({value})" if dtype.is_integer else f"avg(CAST({value} AS DOUBLE))")
    return _spread({"std": "stddev_samp", "var": "var_samp"}[function], value, dtype, wrap)


def _float_sum(value: str, wrap: Callable[[str], str]) -> str:
    """A sum of floats, infinite beyond the greatest, in whatever order DuckDB adds them up."""
    total = wrap(f"sum(CAST({value} AS DOUBLE))")
    return f"CASE WHEN isfinite({total}) THEN {total} ELSE {_scaled_sum(value, wrap)} END"


def _float_mean(value: str, wrap: Callable[[str], str]) -> str:
    mean, count = wrap(f"avg(CAST({value} AS DOUBLE))"), wrap(f"count({value})")
    return f"CASE WHEN isfinite({mean}) THEN {mean} ELSE {_scaled_sum(value, wrap)} / {count} END"


def _scaled_sum(value: str, wrap: Callable[[str], str]) -> str:
    """A sum of values that are divided by 2^64, so that no sum on its way is infinite."""
    return f"{wrap(f'sum(CAST({value} AS DOUBLE) * {2.0**-64!r})')} * {2.0**64!r}"


def _decimal_sum(value: str, dtype: DType, wrap: Callable[[str], str]) -> str:
    """An exact sum of 38 digits and the scale of its values; null beyond them."""
    if (dtype.precision or 38) <= _DIGITS_OF_ONE_SUM:
        return wrap(f"sum({value})")
    # DuckDB sums in 128 bits and raises an error on overflow, so digits are summed in two halves.
    unscaled = f"CAST(replace(CAST({value} AS VARCHAR), '.', '') AS HUGEINT)"
    high, low = (wrap(f"sum({unscaled} {operator} {_HALF})") for operator in ("//", "%"))
    carried = f"({high} + {low} // {_HALF})"
    # Its product with one half fits 128 bits, whatever the sum is.
    bounded = f"(CASE WHEN abs({carried}) <= {_HALF} THEN {carried} END)"
    smallest = f"CAST('{Decimal(1).scaleb(-dtype.scale):f}' AS DECIMAL(38,{dtype.scale}))"
    return f"TRY_CAST({bounded} * {_HALF} + {low} % {_HALF} AS DECIMAL(38,0)) * {smallest}"


def _spread(function: str, value: str, dtype: DType, wrap: Callable[[str], str]) -> str:
    number = f"CAST({value} AS DOUBLE)"
    if not dtype.is_float:
        return wrap(f"{function}({number})")
    # An infinity or NaN among the values makes NaN; DuckDB 1.x raises an error there, so it must not see them.
    odd = wrap(f"count(CASE WHEN NOT isfinite({number}) OR abs({number}) > 1e150 THEN 1 END)")
    fine = wrap(f"{function}(CASE WHEN isfinite({number}) AND abs({number}) <= 1e150 THEN {number} END)")
    return (
        f"CASE WHEN {wrap(f'count({value})')} < 2 THEN NULL WHEN {odd} > 0 THEN CAST('nan' AS DOUBLE) ELSE {fine} END"
    )


class DuckDBDialect:
    """See `asof.sql.dialect.Dialect`."""

    name = "duckdb"
    forms = FORMS
    numbers_rows = True

    type_name = staticmethod(type_name)
    literal = staticmethod(literal)
    instant = staticmethod(instant)
    time_of = staticmethod(time_of)
    is_time = staticmethod(is_time)
    from_micros = staticmethod(from_micros)
    cast = staticmethod(cast)
    join_key = staticmethod(join_key)
    keeps_key = staticmethod(keeps_key)
    ordering = staticmethod(ordering)
    is_value = staticmethod(is_value)
    is_among = staticmethod(is_among)


DUCKDB: Dialect = DuckDBDialect()
