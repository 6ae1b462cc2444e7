"""How Postgres writes the pieces that every plan needs: names, literals, times, casts, aggregates.

Times stay timestamptz, which Postgres compares and indexes as whole microseconds; nothing is counted in SQL. Each form
is for server 14 and up, and the session's zone is UTC.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from asof.dtypes import DType
from asof.expressions.dialects import POSTGRES as FORMS
from asof.sql.dialect import Dialect
from asof.sql.postgres.casts import cast, cast_key, cast_or_null
from asof.sql.postgres.types import TEXTS, base_type, floor_divide, time_of, type_name
from asof.sql.quoting import text
from asof.timing import EARLIEST, LATEST, UNITS, Micros, micros, moment, whole_units

_INT64 = "-9223372036854775808 AND 9223372036854775807"
_DOWN = "18446744073709551616e0"
_OVERFLOW = "9.7453140113e288"
"""The greatest float, divided by 2^64, but for what may come to it."""
_ENDS = "'NaN', 'Infinity', '-Infinity'"
_NAN = "double precision 'NaN'"


def literal(value: Any, dtype: DType) -> str:
    """A Python value as SQL of the type."""
    name = type_name(dtype)
    if value is None:
        return f"CAST(NULL AS {name})"
    if isinstance(value, list | tuple):
        inner = dtype.inner if dtype.inner is not None else DType("Float32")
        return f"CAST(ARRAY[{', '.join(literal(each, inner) for each in value)}] AS {name})"
    if dtype.name == "Timestamp":
        return instant(micros(value))
    if isinstance(value, bytes):
        return f"CAST('\\x{value.hex()}' AS bytea)"
    if isinstance(value, bool):
        return f"CAST({str(value).upper()} AS {name})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"CAST({text(str(value))} AS {name})"
    if isinstance(value, str | date | datetime | Decimal | float):
        return f"CAST({text(str(value))} AS {name})"
    return f"CAST({text(str(value))} AS {name})"


def instant(us: Micros) -> str:
    """A moment as SQL; beyond the years that can be named, it is before or after everything."""
    if us < EARLIEST:
        return "timestamptz '-infinity'"
    return "timestamptz 'infinity'" if us > LATEST else f"timestamptz '{moment(us).isoformat(sep=' ')}'"


def span(us: Micros) -> str:
    """A duration as SQL, of microseconds alone: no day in it may be 23 hours long."""
    return f"interval '{us} microseconds'"


def shifted(time: str, us: Micros) -> str:
    """A time that much later, or earlier."""
    if not us:
        return time
    return f"({time} + {span(us)})" if us > 0 else f"({time} - {span(-us)})"


def floor_to(time: str, hop: Micros) -> str:
    """The greatest multiple of `hop` since the epoch that is not after `time`."""
    origin = EARLIEST - EARLIEST % hop + hop
    return f"date_bin({span(hop)}, {time}, {instant(origin)})"


def micros_of(time: str) -> str:
    """A timestamptz as BIGINT microseconds since the epoch."""
    return f"CAST(EXTRACT(EPOCH FROM {time}) * 1000000 AS bigint)"


def is_time(column: str, sql_type: str, unit: str = "") -> str:
    """Whether a raw time column holds a moment of the years 1 to 9999: null is none, and an infinity is none either.

    Args:
        unit: of an integer column.
    """
    kind = base_type(sql_type)
    if kind == "date":
        return f"{column} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'"
    if unit and not kind.startswith("timestamp"):
        # No nanosecond of 64 bits is outside these years.
        inside = f"{column} BETWEEN {whole_units(EARLIEST, unit)} AND {whole_units(LATEST, unit)}"
        return f"{column} IS NOT NULL" if unit == "ns" else inside
    least, greatest = (from_micros(us, sql_type) for us in (EARLIEST, LATEST))
    # Comparisons, since of these the planner knows how many rows they leave.
    return f"{column} BETWEEN {least} AND {greatest}" if least else f"{column} IS NOT NULL"


def from_micros(value: Micros, sql_type: str, unit: str = "", *, up: bool = False) -> str:
    """A moment as a literal to compare a raw time column with, so that an index serves; else an empty text.

    Args:
        up: for an upper bound of a coarser column.
    """
    kind = base_type(sql_type)
    if kind == "timestamp with time zone":
        return instant(value)
    if kind == "timestamp without time zone":
        return f"({instant(value)} AT TIME ZONE 'UTC')"
    if unit:
        whole = whole_units(value, unit)
        return str(whole + 1 if up and unit in ("s", "ms") else whole)
    return ""


def bound(time: str, us: str, sql_type: str, *, unit: str = "", shift: Micros = 0, upper: bool = True) -> str:
    """A spine's time as the greatest (or, not `upper`, the least) raw value that is not later (or earlier).

    Args:
        time: the spine's time as SQL.
        us: the same as BIGINT microseconds, for integer columns.
        shift: added to it.

    Returns:
        Empty where the raw column cannot be compared with it in the order of times.
    """
    kind = base_type(sql_type)
    if kind == "timestamp with time zone":
        return shifted(time, shift)
    if kind == "timestamp without time zone":
        return f"({shifted(time, shift)} AT TIME ZONE 'UTC')"
    if kind in ("bigint", "integer", "smallint") and unit in ("s", "ms", "us"):
        multiplier, _ = UNITS[unit]
        moved = f"({us} + {shift})" if shift else us
        if multiplier == 1:
            return moved
        return floor_divide(moved if upper else f"({moved} + {multiplier - 1})", multiplier)
    return ""


def compares_as_it_is(sql_type: str, dtype: DType) -> bool:
    """Whether a raw key column can be looked up by a value of the declared type, so that its index serves."""
    kind = base_type(sql_type)
    if dtype.is_integer:
        return kind in ("bigint", "integer", "smallint")
    if dtype.name == "String":
        return kind in TEXTS
    return kind == base_type(type_name(dtype)) and dtype.name not in ("Decimal", "Array", "Embedding", "Json")


def keeps_key(sql_type: str, dtype: DType) -> bool:
    """Never, since not all types compare: a cast to the type that it has is none."""
    return False


def collated(value: str, dtype: DType | None) -> str:
    """A value to be sorted or compared: text by code point, whatever the database's collation."""
    inner = dtype
    while inner is not None and inner.name == "Array":
        inner = inner.inner
    return f'({value} COLLATE "C")' if inner is not None and inner.is_text else value


def sortable(column: str, sql_type: str) -> str:
    """A raw column to be sorted by: text by code point."""
    return f'{column} COLLATE "C"' if base_type(sql_type) in TEXTS else column


def ordering(column: str, sql_type: str, dtype: DType | None) -> str:
    """A column to be sorted by: in its declared type, or as text, since not every type of Postgres has an order."""
    if dtype is None:
        return f'(CAST({column} AS text) COLLATE "C")'
    kind = base_type(sql_type)
    if dtype.is_integer and (kind in ("smallint", "integer") or (kind == "bigint" and dtype.name == "Int64")):
        return column
    return collated(cast_or_null(column, sql_type, dtype), dtype)


def is_value(column: str, value: Any, dtype: DType) -> str:
    """Whether a raw column holds a key's value.

    Args:
        value: plain as it is packed: a time as microseconds, a date as days, a decimal as text.
    """
    if dtype.name == "Timestamp":
        return f"{column} = {instant(value)}"
    if dtype.name == "Date":
        return f"CAST({column} AS date) = DATE '1970-01-01' + {value}"
    if isinstance(value, bytes):
        return f"{column} = {literal(value, dtype)}"
    if isinstance(value, str):
        # Of no type of its own: the column may be a uuid or an enum. No text here has a NUL character.
        return "false" if "\0" in value else f"{column} = {text(value)}"
    return f"{column} = {value!r}"


def is_among(columns: str, others: str, relation: str) -> str:
    """Whether the columns are those of one of the relation's rows."""
    return f"({columns}) IN (SELECT {others} FROM {relation})"


def out(value: str, dtype: DType) -> str:
    """A value as it travels: Arrow has no numeric of any precision."""
    if dtype.name == "Decimal":
        return f"CAST({value} AS text)"
    if dtype.name == "Array" and dtype.inner is not None and dtype.inner.name == "Decimal":
        return f"CAST({value} AS text[])"
    return value


def aggregate(function: str, value: str, dtype: DType | None, *, wrap: Callable[[str], str]) -> str:
    """One aggregate of the non-null values, in its output type; `first`, `last` and `last_n` are looked up.

    Args:
        value: the SQL of the values.
        dtype: their type; None for `count` of rows.
        wrap: completes each call of an SQL aggregate: by ` FILTER (…)`, or by the window it is over.
    """
    if function == "count":
        return wrap(f"count({value})")
    assert dtype is not None
    if function == "count_distinct":
        return wrap(f"count(DISTINCT {collated(value, dtype)})")
    if function in ("min", "max"):
        return _extreme(function, value, dtype, wrap)
    if function == "sum":
        return _float_sum(value, wrap) if dtype.is_float else wrap(f"sum({value})")
    if function == "mean":
        if dtype.is_float:
            return _float_mean(value, wrap)
        call = wrap(f"avg({value})" if dtype.is_integer else f"avg(CAST({value} AS double precision))")
        return f"CAST({call} AS double precision)"
    return _spread({"std": "stddev_samp", "var": "var_samp"}[function], value, dtype, wrap)


def finished(function: str, value: str, dtype: DType) -> str:
    """A sum as a value of its type: it was summed exactly, and is null outside of Int64, or beyond 38 digits."""
    if function == "sum" and dtype.is_integer:
        return f"CASE WHEN {value} BETWEEN {_INT64} THEN CAST({value} AS bigint) END"
    if function == "sum" and dtype.name == "Decimal":
        return f"CASE WHEN abs({value}) < 1e{38 - dtype.scale} THEN {value} END"
    return value


def _extreme(function: str, value: str, dtype: DType, wrap: Callable[[str], str]) -> str:
    if dtype.name == "Bool":
        return wrap(f"bool_{'and' if function == 'min' else 'or'}({value})")
    if dtype.name == "Bytes":
        # No aggregate of bytea before Postgres 18; hexadecimal digits sort as their bytes do.
        call = wrap(f"{function}(encode({value}, 'hex') COLLATE \"C\")")
        return f"decode({call}, 'hex')"
    return wrap(f"{function}({collated(value, dtype)})")


def _float_sum(value: str, wrap: Callable[[str], str]) -> str:
    """A sum of floats, infinite beyond the greatest; the server's own raises an error there.

    Values of more than 1e290 are summed apart, divided by 2^64, so that no sum of them overflows.
    """
    small, great = _halves(value)
    small, great = wrap(f"sum({small})"), wrap(f"sum({great} / {_DOWN})")
    whole = f"{great} * {_DOWN} + coalesce({small}, 0)"
    sign = f"sign({great}) * double precision 'Infinity'"
    return (
        f"(CASE WHEN {great} IS NULL THEN {small} WHEN {great} IN ({_ENDS}) THEN {great} "
        f"WHEN abs({great}) >= {_OVERFLOW} THEN {sign} ELSE {whole} END)"
    )


def _float_mean(value: str, wrap: Callable[[str], str]) -> str:
    """The mean of floats: `avg` keeps squares too, which overflow, and a division that comes to 0 is an error."""
    total, count = _float_sum(value, wrap), wrap(f"count({value})")
    is_zero = f"2 * abs({total}) <= {count} * double precision '5e-324'"
    return (
        f"CASE WHEN abs({total}) > 1e-300 THEN {total} / {count} WHEN {is_zero} THEN 0 * {total} "
        f"ELSE {total} / {count} END"
    )


def _halves(value: str) -> tuple[str, str]:
    """The value where no sum of such can overflow, and where one can; else null."""
    number = f"CAST({value} AS double precision)"
    return f"CASE WHEN abs({number}) <= 1e290 THEN {number} END", f"CASE WHEN abs({number}) > 1e290 THEN {number} END"


def _spread(function: str, value: str, dtype: DType, wrap: Callable[[str], str]) -> str:
    number = f"CAST({value} AS double precision)"
    if not dtype.is_float:
        return wrap(f"{function}({number})")
    # An infinity or NaN among the values makes NaN, and the square of a huge one would be an error.
    fits = f"abs({number}) <= 1e150"
    odd = wrap(f"count(CASE WHEN NOT {fits} THEN 1 END)")
    fine = wrap(f"{function}(CASE WHEN {fits} THEN {number} END)")
    return f"CASE WHEN {wrap(f'count({value})')} < 2 THEN NULL WHEN {odd} > 0 THEN {_NAN} ELSE {fine} END"


class PostgresDialect:
    """See `asof.sql.dialect.Dialect`."""

    name = "postgres"
    forms = FORMS
    numbers_rows = False

    type_name = staticmethod(type_name)
    literal = staticmethod(literal)
    instant = staticmethod(instant)
    time_of = staticmethod(time_of)
    is_time = staticmethod(is_time)
    from_micros = staticmethod(from_micros)
    cast = staticmethod(cast)
    join_key = staticmethod(cast_key)
    keeps_key = staticmethod(keeps_key)
    ordering = staticmethod(ordering)
    is_value = staticmethod(is_value)
    is_among = staticmethod(is_among)


POSTGRES: Dialect = PostgresDialect()
