"""How Spark writes the pieces that every plan needs: names, literals, times, casts.

Times are BIGINT microseconds in all plans: integers sort and subtract exactly in every engine of this SQL. A session
has the settings of `SESSION`; no form depends on others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from asof.dtypes import DType
from asof.expressions.dialects import CHECKED_SPARK, SqlForms
from asof.expressions.dialects import SPARK as FORMS
from asof.sql.quoting import text_spark
from asof.sql.spark.casts import cast, cast_or_null, refusing
from asof.sql.spark.types import INTEGERS, time_of, type_name
from asof.timing import EARLIEST, LATEST, UNITS, Micros, micros, whole_units

SESSION: Mapping[str, str] = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.decimalOperations.allowPrecisionLoss": "false",
    "spark.sql.parser.escapedStringLiterals": "false",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
}
"""What a session must have set: in ANSI mode what no form guards is an error, where it would be null or wrap else."""

N = "asof_n"
"""The spine's column with its rows' numbers."""

_WITHIN = {"Int32": ("tinyint", "smallint", "int"), "Int64": ("tinyint", "smallint", "int", "bigint")}
"""Type of integers → those whose values all fit it."""

NAN = "CAST('NaN' AS double)"


def literal(value: Any, dtype: DType) -> str:
    """A Python value as SQL of the type."""
    name = type_name(dtype)
    if value is None:
        return f"CAST(NULL AS {name})"
    if isinstance(value, list | tuple):
        inner = dtype.inner if dtype.inner is not None else DType("Float32")
        return f"CAST(array({', '.join(literal(each, inner) for each in value)}) AS {name})"
    if dtype.name == "Timestamp":
        return f"timestamp_micros({micros(value)})"
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    if isinstance(value, bool):
        return f"CAST({str(value).lower()} AS {name})"
    if isinstance(value, float) and not math.isfinite(value):
        written = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        return f"CAST({text_spark(written)} AS {name})"
    if isinstance(value, Decimal):
        return f"CAST('{value:f}' AS {name})"
    if isinstance(value, str | date | datetime | float):
        return f"CAST({text_spark(str(value))} AS {name})"
    return f"CAST({text_spark(str(value))} AS {name})"


def instant(us: Micros) -> str:
    """A moment as SQL."""
    return str(us)


def shifted(time: str, us: Micros) -> str:
    """A time that much later, or earlier."""
    return f"({time} {'+' if us > 0 else '-'} {abs(us)})" if us else time


def is_time(column: str, sql_type: str, unit: str = "") -> str:
    """Whether a raw time column holds a moment of the years 1 to 9999: null is none.

    Args:
        unit: of an integer column, which is compared before `time_of` multiplies it.
    """
    if sql_type == "date":
        return f"{column} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31'"
    if unit and not sql_type.startswith("timestamp"):
        # No nanosecond of 64 bits is outside these years.
        inside = f"{column} BETWEEN {whole_units(EARLIEST, unit)} AND {whole_units(LATEST, unit)}"
        return f"{column} IS NOT NULL" if unit == "ns" else inside
    least, greatest = (from_micros(us, sql_type) for us in (EARLIEST, LATEST))
    return f"{column} BETWEEN {least} AND {greatest}" if least else f"{column} IS NOT NULL"


def from_micros(value: Micros, sql_type: str, unit: str = "", *, up: bool = False) -> str:
    """A moment as a literal to compare a raw time column with, so that files are skipped; else an empty text.

    Args:
        up: for an upper bound of a coarser column.
    """
    if sql_type == "timestamp":
        return f"timestamp_micros({value})"
    if sql_type == "timestamp_ntz":
        return f"CAST(timestamp_micros({value}) AS timestamp_ntz)"
    if unit and sql_type in INTEGERS:
        whole = whole_units(value, unit)
        return str(whole + UNITS[unit][1] if up else whole)
    return ""


def normal(value: str, dtype: DType | None) -> str:
    """A value to be compared, sorted or counted: one NaN and one zero; some engines compare the bits of floats."""
    if dtype is None or not dtype.is_float:
        return value
    name = type_name(dtype)
    return (
        f"CASE WHEN isnan({value}) THEN CAST('NaN' AS {name}) WHEN {value} = 0 THEN CAST('0' AS {name}) "
        f"ELSE {value} END"
    )


def is_value(column: str, value: Any, dtype: DType) -> str:
    """Whether a raw column holds a key's value.

    Args:
        value: plain as it is packed: a time as microseconds, a date as days, a decimal as text.
    """
    if dtype.name == "Timestamp":
        return f"{column} = timestamp_micros({value})"
    if dtype.name == "Date":
        return f"CAST({column} AS date) = date_from_unix_date({value})"
    if dtype.name == "Decimal":
        # Not every engine reads 1E-9.
        return f"{column} = CAST('{Decimal(value):f}' AS {type_name(dtype)})"
    if isinstance(value, bytes):
        return f"{column} = {literal(value, dtype)}"
    return f"{column} = {text_spark(value) if isinstance(value, str) else str(value).lower()}"


def is_among(columns: str, others: str, relation: str) -> str:
    """Whether the columns are those of one of the relation's rows."""
    return f"({columns}) IN (SELECT {others} FROM {relation})"


def keeps_key(sql_type: str, dtype: DType) -> bool:
    """Whether a spine's key of this type compares with values of the declared type as that type does."""
    return sql_type in INTEGERS if dtype.is_integer else sql_type == type_name(dtype)


@dataclass(frozen=True)
class SparkDialect:
    """See `asof.sql.dialect.Dialect`.

    Args:
        forms: `SPARK`, or `CHECKED_SPARK` for an engine without `try_add` of decimals.
    """

    forms: SqlForms = field(default=FORMS)
    name = "spark"
    numbers_rows = False

    type_name = staticmethod(type_name)
    literal = staticmethod(literal)
    instant = staticmethod(instant)
    time_of = staticmethod(time_of)
    is_time = staticmethod(is_time)
    from_micros = staticmethod(from_micros)
    keeps_key = staticmethod(keeps_key)
    is_value = staticmethod(is_value)
    is_among = staticmethod(is_among)

    def cast(self, value: str, sql_type: str, dtype: DType, what: str = "") -> str:
        """A source's value in its field's declared type; a value that does not fit is an error, never changed."""
        return cast(value, sql_type, dtype, what, self.forms)

    def join_key(self, column: str, sql_type: str, dtype: DType, what: str) -> str:
        """A source's raw join key, such that it compares with a spine's; a value that does not fit is an error."""
        if sql_type in _WITHIN.get(dtype.name, ()):
            return column
        made = self.cast(column, sql_type, dtype, what)
        if dtype.name in ("Date", "Timestamp"):
            return refusing(column, sql_type, dtype, is_time(column, sql_type), made, what)
        return made

    def ordering(self, column: str, sql_type: str, dtype: DType | None) -> str:
        """A column to be sorted by: in its declared type, null where a value does not fit."""
        if dtype is None:
            # A map has no order.
            return f"to_json({column})" if "map<" in sql_type else column
        return normal(cast_or_null(column, sql_type, dtype, self.forms), dtype)


SPARK = SparkDialect()
CHECKED = SparkDialect(CHECKED_SPARK)
"""For engines that fail `DECIMALS` (`asof.sql.spark.capabilities`)."""

__all__ = [
    "CHECKED", "N", "NAN", "SESSION", "SPARK", "SparkDialect", "from_micros", "instant", "is_time",
    "literal", "normal", "shifted", "time_of", "type_name",
]  # fmt: skip
