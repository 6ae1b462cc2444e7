"""How SQLite writes the pieces of statements. Times are integers of microseconds, dates integers of days."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from asof.dtypes import DType
from asof.errors import UnsupportedByDialect
from asof.expressions.dialects import DUCKDB as SIMILAR
from asof.sql.dialect import Dialect
from asof.sql.quoting import text
from asof.timing import DAY, EARLIEST, LATEST, UNITS, Micros, micros

TYPES = {
    "Bool": "BOOLEAN", "Int32": "BIGINT", "Int64": "BIGINT", "Float32": "DOUBLE", "Float64": "DOUBLE",
    "String": "TEXT", "Json": "TEXT", "Bytes": "BLOB", "Date": "DAYS", "Timestamp": "MICROS", "Decimal": "DECIMALTEXT",
}  # fmt: skip


class ThirdDialect:
    name = "third"
    forms = replace(SIMILAR, name="third", types={**SIMILAR.types, "String": "TEXT"})
    numbers_rows = False

    def type_name(self, dtype: DType) -> str:
        if dtype.name not in TYPES:
            raise UnsupportedByDialect(f"SQLite has no column for {dtype}", hint="use another offline store")
        return TYPES[dtype.name]

    def literal(self, value: Any, dtype: DType) -> str:
        if value is None:
            return "NULL"
        if dtype.name == "Timestamp":
            return str(micros(value))
        if isinstance(value, bytes):
            return f"X'{value.hex()}'"
        return text(value) if isinstance(value, str) else repr(value)

    def instant(self, us: Micros) -> str:
        return str(us)

    def time_of(self, column: str, sql_type: str, unit: str = "") -> str:
        if sql_type == "DAYS":
            return f"({column} * {DAY})"
        if not unit:
            return column
        multiplier, divisor = UNITS[unit]
        return f"({column} * {multiplier} - ({column} * {multiplier} % {divisor} + {divisor}) % {divisor}) / {divisor}"

    def is_time(self, column: str, sql_type: str, unit: str = "") -> str:
        days, scale = sql_type == "DAYS", UNITS.get(unit, (1, 1))
        least, greatest = (us // DAY if days else us // scale[0] * scale[1] for us in (EARLIEST, LATEST))
        return f"{column} BETWEEN {least} AND {greatest}"

    def from_micros(self, value: Micros, sql_type: str, unit: str = "", *, up: bool = False) -> str:
        return str(value) if sql_type == "MICROS" else ""

    def cast(self, value: str, sql_type: str, dtype: DType, what: str = "") -> str:
        wanted = self.type_name(dtype)
        if dtype.name == "Timestamp":
            return self.time_of(value, sql_type)
        if dtype.is_integer and sql_type == "DOUBLE":
            problem = text(f"asof: {what} holds a fraction, and is declared {dtype}")
            return f"CASE WHEN {value} = round({value}) AND abs({value}) <= {2**53} THEN CAST({value} AS BIGINT) ELSE asof_error({value}, {problem}) END"
        return value if sql_type == wanted else f"CAST({value} AS {wanted})"

    def join_key(self, column: str, sql_type: str, dtype: DType, what: str) -> str:
        return self.cast(column, sql_type, dtype, what)

    def keeps_key(self, sql_type: str, dtype: DType) -> bool:
        return False

    def ordering(self, column: str, sql_type: str, dtype: DType | None) -> str:
        return column

    def is_value(self, column: str, value: Any, dtype: DType) -> str:
        if dtype.name == "Decimal":
            return f"asof_decimal({column}) = asof_decimal({text(value)})"
        if isinstance(value, bytes):
            return f"{column} = X'{value.hex()}'"
        return f"{column} = {text(value) if isinstance(value, str) else repr(value)}"

    def is_among(self, columns: str, others: str, relation: str) -> str:
        return f"({columns}) IN (SELECT {others} FROM {relation})"


THIRD: Dialect = ThirdDialect()
