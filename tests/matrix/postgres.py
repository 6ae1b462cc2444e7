"""Values in tables of PostgreSQL: of which type there, and what has to come out of each declared type."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from typing import Any

import psycopg

from asof import PostgresSource
from asof.definitions import Source
from asof.dtypes import DType
from asof.types import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)
from tests.matrix.cases import GREATEST, LEAST, NOON, REFUSED


@dataclass(frozen=True)
class TableCase:
    """One value in a column of a table.

    Args:
        kind: the column's type, as SQL.
        given: the value, as SQL.
        expected: what comes out, or `REFUSED`.
    """

    name: str
    dtype: DType
    kind: str
    given: str
    expected: Any


NAN, INF = math.nan, math.inf


def _cases() -> dict[str, TableCase]:
    whole, amount = Decimal(38, 0), Decimal(38, 9)
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)
    rows: list[tuple[DType, str, str, Any]] = [
        # ordinary, extreme and null values
        (Bool, "bool", "true", True), (Int32, "int2", "-7", -7), (Int32, "int4", "2147483647", 2**31 - 1),
        (Int64, "int8", "-9223372036854775808", -(2**63)), (Int64, "int8", "9007199254740993", 2**53 + 1),
        (Int64, "int4", "7", 7), (Float32, "float4", "0.1", 0.10000000149011612), (Float64, "float8", "5e-324", 5e-324),
        (Float64, "float8", "'NaN'", NAN), (Float64, "float8", "'-Infinity'", -INF), (Float64, "float8", "'-0'", -0.0),
        (String, "text", "'Zoë 🙂'", "Zoë 🙂"), (String, "varchar(9)", "''", ""), (String, "text", "null", None),
        (String, "char(4)", "'ab'", "ab"), (String, "uuid", "'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'",
         "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (Bytes, "bytea", "'\\x00ff'", b"\x00\xff"), (Date, "date", "'0001-01-01'", date(1, 1, 1)),
        (Date, "date", "'9999-12-31'", date(9999, 12, 31)), (Timestamp, "timestamptz", "'0001-01-01 00:00Z'", LEAST),
        (Timestamp, "timestamptz", "'9999-12-31 23:59:59.999999Z'", GREATEST), (Timestamp, "timestamp", "'2026-01-01 12:00'", NOON),
        (Timestamp, "date", "'2026-01-01'", datetime(2026, 1, 1, tzinfo=UTC)), (Json, "json", "'{\"a\":[1,null]}'", '{"a":[1,null]}'),
        (Json, "jsonb", "'{\"a\": 1}'", '{"a": 1}'), (Json, "text", "'{\"a\":1}'", '{"a":1}'),
        # decimals
        (Decimal(10, 2), "numeric(10,2)", "-1.50", Number("-1.50")), (whole, "numeric(38,0)", "9" * 38, Number("9" * 38)),
        (whole, "numeric", "9" * 38, Number("9" * 38)), (Decimal(38, 38), "numeric", "0." + "9" * 38, Number("0." + "9" * 38)),
        (Decimal(38, 12), "numeric", "0.123456789012", Number("0.123456789012")), (amount, "numeric", "1.5", Number("1.500000000")),
        (amount, "numeric", "0.1234567891", REFUSED), (amount, "numeric", "null", None), (amount, "numeric", "'NaN'", REFUSED),
        (amount, "numeric", "'Infinity'", REFUSED), (Decimal(10, 2), "numeric(10,2)", "'NaN'", REFUSED),
        (Decimal(10, 2), "numeric", "1.505", REFUSED), (Decimal(4, 2), "numeric", "123.45", REFUSED),
        (Decimal(10, 2), "numeric", "1e400", REFUSED), (amount, "numeric(12,2)", "1.50", Number("1.500000000")),
        (amount, "int8", "9223372036854775807", Number("9223372036854775807.000000000")),
        (Decimal(12, 2), "int4", "7", Number("7.00")),
        (Decimal(5, 0), "numeric(3,-2)", "12300", Number("12300")),
        (Float64, "numeric", "0.1", 0.1), (Float64, "numeric", "1" * 40, float("1" * 40)), (Float64, "numeric", "0." + "1" * 60, float("0." + "1" * 60)),
        (Float64, "numeric", "'NaN'", NAN), (Float64, "numeric", "'Infinity'", INF), (Float64, "numeric", "1e400", REFUSED),
        (Float64, "numeric", "1e-400", REFUSED), (Float64, "numeric(12,2)", "0.10", 0.1), (Float64, "numeric(60,2)", "0.10", 0.1),
        (Float64, "numeric(10,2)", "'NaN'", REFUSED),
        (Float32, "numeric", "0.1", 0.10000000149011612), (Float32, "numeric", "1e39", REFUSED),
        (Int64, "numeric", "9223372036854775807", 2**63 - 1), (Int64, "numeric", "3.7", REFUSED), (Int64, "numeric", "9223372036854775808", REFUSED),
        (Int64, "numeric", "'NaN'", REFUSED), (Int64, "numeric(10,0)", "7", REFUSED), (Int32, "numeric(20,0)", "2147483648", REFUSED),
        # floats and integers
        (Float64, "int8", "9007199254740992", 2.0**53), (Float64, "int8", "9007199254740993", REFUSED), (Float64, "int8", "1152921504606846977", REFUSED),
        (Float64, "int8", "9223372036854775807", REFUSED),
        (Float64, "int4", "2147483647", 2.0**31 - 1), (Float32, "int4", "16777217", REFUSED), (Float32, "int4", "16777216", 2.0**24),
        (Float32, "float8", "0.1", 0.10000000149011612), (Float32, "float8", "1e39", REFUSED), (Float32, "float8", "'Infinity'", INF),
        (Float32, "float8", "'NaN'", NAN), (Float32, "float8", "1e-60", 0.0),
        (Float64, "float4", "0.1", 0.10000000149011612), (Int64, "float8", "7", 7), (Int64, "float8", "'NaN'", None), (Int64, "float8", "3.7", REFUSED),
        (Int64, "float8", "9007199254740994", REFUSED), (Int64, "float8", "9223372036854775808", REFUSED), (Int64, "float8", "'Infinity'", REFUSED),
        (Int64, "float4", "16777218", REFUSED), (Int32, "int8", "5", 5), (Int32, "int8", "2147483648", REFUSED),
        # what does not fit
        (String, "int8", "12", REFUSED), (Bool, "int4", "1", REFUSED), (Int64, "text", "'12'", REFUSED), (Int64, "bool", "true", REFUSED),
        (Timestamp, "text", "'2026-01-01'", REFUSED), (Timestamp, "timestamptz", "'infinity'", REFUSED), (Timestamp, "timestamp", "'-infinity'", REFUSED),
        (Date, "date", "'infinity'", REFUSED), (Timestamp, "timestamptz", "'10000-01-01 00:00Z'", REFUSED),
        (Timestamp, "timestamptz", "'0001-12-31 BC'", REFUSED), (Timestamp, "timestamp", "'10000-01-01'", REFUSED), (Date, "date", "'10000-01-01'", REFUSED),
        (Timestamp, "date", "'10000-01-01'", REFUSED), (Timestamp, "date", "'infinity'", REFUSED),
        (Date, "timestamptz", "'2026-01-01 12:00Z'", REFUSED), (Json, "text", "'{bad'", REFUSED), (Json, "text", "'NaN'", REFUSED),
        (Json, "text", "''", REFUSED), (String, "interval", "'1 day'", REFUSED), (String, "point", "'(1,2)'", REFUSED), (Decimal(10, 2), "money", "'1.5'", REFUSED),
        # arrays
        (Array(Int64), "int8[]", "array[9007199254740993,null,-9223372036854775808]", [2**53 + 1, None, -(2**63)]), (Array(String), "text[]", "'{}'", []),
        (Array(Int64), "int4[]", "array[1,null]", [1, None]), (Array(Float64), "float8[]", "'{NaN,Infinity,null,0.1}'", [NAN, INF, None, 0.1]),
        (Array(Decimal(38, 2)), "numeric(38,2)[]", f"array[{'9' * 36}.99,null]", [Number("9" * 36 + ".99"), None]),
        (Array(Decimal(38, 2)), "numeric[]", f"array[{'9' * 36}.99,null]", [Number("9" * 36 + ".99"), None]), (Array(Decimal(38, 2)), "numeric[]", "array[1.505]", REFUSED),
        (Array(Decimal(38, 2)), "numeric[]", "'{NaN}'", REFUSED), (Array(Float64), "numeric[]", "'{NaN,null,0.1}'", [NAN, None, 0.1]),
        (Array(Float64), "numeric(10,2)[]", "'{0.10}'", [0.1]),
        (Array(Float64), "int8[]", "'{9007199254740993}'", REFUSED), (Array(Float64), "int8[]", "'{9007199254740992}'", [2.0**53]), (Array(Int64), "float8[]", "'{7,null}'", [7, None]),
        (Array(Int64), "float8[]", "'{1.5}'", REFUSED), (Array(Int32), "int8[]", "'{2147483648}'", REFUSED), (Array(String), "int8[]", "'{1}'", REFUSED),
        (Array(Int64), "int4[]", "'{{1,2},{3,4}}'", REFUSED), (Array(Decimal(38, 2)), "numeric[]", "'{{1,2},{3,4}}'", REFUSED), (Array(Float64), "numeric[]", "'{{1,2},{3,4}}'", REFUSED),
        (Array(String), "text[]", "'{{a,b},{c,d}}'", REFUSED), (Array(Timestamp), "timestamptz[]", "'{2026-01-01 12:00Z,null}'", [moment, None]),
        (Array(Timestamp), "timestamptz[]", "'{infinity}'", REFUSED), (Array(Timestamp), "timestamptz[]", "'{null,-infinity}'", REFUSED),
        (Array(Timestamp), "timestamptz[]", "'{10000-01-01 00:00Z}'", REFUSED), (Array(Date), "date[]", "'{infinity}'", REFUSED), (Array(Date), "date[]", "'{2026-01-01,null}'", [date(2026, 1, 1), None]),
        (Array(Timestamp), "timestamp[]", "'{2026-01-01 12:00,null}'", [moment, None]), (Array(Timestamp), "timestamp[]", "'{infinity}'", REFUSED),
        (Array(Timestamp), "timestamp[]", "'{null,-infinity}'", REFUSED),
        (Array(Bytes), "bytea[]", "array['\\xff'::bytea,null]", [b"\xff", None]), (Array(Bool), "bool[]", "'{t,null}'", [True, None]), (Array(String), "uuid[]",
         "array['a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid]", ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
        (Array(Json), "jsonb[]", "array['{\"a\":1}'::jsonb]", ['{"a": 1}']), (Embedding(3), "float4[]", "'{0.5,-1,2}'", [0.5, -1.0, 2.0]), (Embedding(2), "float8[]", "'{0.1,1}'", [0.10000000149011612, 1.0]),
        (Embedding(3), "float4[]", "'{1,2}'", REFUSED), (Embedding(2), "float4[]", "'{1,null}'", REFUSED), (Embedding(2), "float8[]", "'{1,1e39}'", REFUSED), (Embedding(4), "float4[]", "'{{1,2},{3,4}}'", REFUSED),
        (Embedding(3), "float4[]", "null", None), (Array(Int64), "int4[]", "null", None), (Array(Int64), "int4[]", "'[0:1]={1,2}'", [1, 2]),
    ]  # fmt: skip
    cases = {}
    for dtype, kind, given, expected in rows:
        name = f"{kind} {given[:50]} as {dtype}"
        assert name not in cases
        cases[name] = TableCase(name, dtype, kind, given, expected)
    return cases


TABLE_CASES = _cases()


def table_source(url: str) -> Callable[[str, Any], Source]:
    """Makes a table with one row, and its source."""

    def made(name: str, case: TableCase) -> Source:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f'CREATE TABLE {name} ("user" int8, at timestamptz, value {case.kind})')
            connection.execute(f"INSERT INTO {name} VALUES (1, '2026-01-01 12:00Z', {case.given})")
        return PostgresSource(name=name, table=name, timestamp_field="at", connection_ref="warehouse")

    return made


__all__ = ["TABLE_CASES", "TableCase", "table_source"]
