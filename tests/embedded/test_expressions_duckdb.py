"""Expressions on DuckDB: the settings and versions that must not change their answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb
import pytest

from asof.dtypes import Decimal, DType, Float64, Int64, String, Timestamp
from asof.expressions import check, parse, print_sql
from asof.expressions.dialects import DUCKDB
from asof.testing.expressions import INTEGERS, pairs
from tests.conformance.test_expressions_duckdb import answers


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    # A zone far from UTC: nothing may depend on it.
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        yield connection


SQL_TYPES = {
    "n + 1": "BIGINT",
    "n / 2": "DOUBLE",
    "CASE WHEN n > 1 THEN 1 END": "BIGINT",
    "CASE WHEN n > 1 THEN 1 ELSE x END": "DOUBLE",
    "COALESCE(n, 0)": "BIGINT",
    "NULLIF(n, 0)": "BIGINT",
    "7": "BIGINT",
    "0.1": "DOUBLE",
    "CAST(TRUE AS Int32)": "INTEGER",
    "CAST(n AS Float32)": "FLOAT",
    "price * n": "DECIMAL(38,2)",
    "price * price": "DECIMAL(38,4)",
    "price + 0.001": "DECIMAL(38,3)",
    "round(price)": "DECIMAL(11,0)",
    "COALESCE(price, n)": "DECIMAL(21,2)",
    "length(page)": "BIGINT",
    "at > DATE '2024-01-01'": "BOOLEAN",
    "CAST(page AS Timestamp)": "TIMESTAMP WITH TIME ZONE",
    "CAST(at AS Date)": "DATE",
}
SCHEMA = {"n": Int64, "x": Float64, "price": Decimal(12, 2), "page": String, "at": Timestamp}


@pytest.mark.parametrize("text", SQL_TYPES)
def test_duckdb_s_type_is_the_checked_one(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    tree = parse(text)
    rows = [{"n": 1, "x": 1.5, "price": None, "page": "a", "at": datetime(2024, 1, 1, tzinfo=UTC)}]
    sql = print_sql(tree, "duckdb", schema=SCHEMA)

    assert answers(connection, [f"typeof({sql})"], rows, SCHEMA) == [(SQL_TYPES[text],)]
    assert _sql_type(check(tree, SCHEMA)) == SQL_TYPES[text]


def _sql_type(dtype: DType) -> str:
    names = {"Timestamp": "TIMESTAMP WITH TIME ZONE"}
    return names.get(dtype.name, DUCKDB.types[dtype.name]) + str(dtype).removeprefix(dtype.name)


@pytest.mark.parametrize("setting", ["integer_division = true", "ieee_floating_point_ops = false"])
def test_arithmetic_does_not_follow_the_session_s_settings(setting: str) -> None:
    texts = ["a / b", "a % b", "a * b", "CAST(a AS Float64) / b", "a + 0.5"]
    columns = [print_sql(parse(text), "duckdb", schema={"a": Int64, "b": Int64}) for text in texts]
    rows = pairs(INTEGERS, INTEGERS)
    with duckdb.connect(config={"threads": 1}) as plain, duckdb.connect(config={"threads": 1}) as odd:
        odd.execute(f"SET {setting}")
        schema = {"a": Int64, "b": Int64}

        assert answers(odd, columns, rows, schema) == answers(plain, columns, rows, schema)


def test_a_sign_is_never_taken_for_a_part_of_an_operator(connection: duckdb.DuckDBPyConnection) -> None:
    # DuckDB 2.0 reads `%-` as an operator of its own, and `a -> b` and `--` mean other things altogether.
    texts = ["7 % -3", "7 - -3", "7 * -3", "-(-3)", "a > -3", "a IN (-3, - -3)", "7%-a"]
    columns = [print_sql(parse(text), "duckdb", schema={"a": Int64}) for text in texts]

    assert answers(connection, columns, [{"a": 3}], {"a": Int64}) == [(1, 10, -21, 3, True, True, 1)]


def test_expressions_stand_inside_aggregates_windows_and_filters(connection: duckdb.DuckDBPyConnection) -> None:
    schema = {"a": Int64, "d": Decimal(38, 9)}
    amount = print_sql(parse("COALESCE(CAST(a * a AS Decimal(38,9)), d) * 2"), "duckdb", schema=schema)
    kept = print_sql(parse("a % 2 = 1 OR CAST(a AS String) LIKE '4%'"), "duckdb", schema=schema)
    values = "(VALUES (1::BIGINT, NULL::DECIMAL(38, 9)), (2, NULL), (3, NULL), (9223372036854775807, 1)) AS t(a, d)"

    total = connection.sql(f"SELECT sum({amount}) FILTER (WHERE {kept}) FROM {values}").fetchall()
    running = connection.sql(
        f"SELECT count(*) FILTER (WHERE {kept}) OVER (ORDER BY a) FROM {values} ORDER BY a"
    ).fetchall()

    assert total == [(22,)]
    assert running == [(1,), (1,), (2,), (3,)]
