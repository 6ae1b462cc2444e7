"""The expressions' suite on DuckDB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from asof.dtypes import DType
from asof.testing.expressions import ExpressionSuite, Rows, Run


def answers(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], rows: Rows, schema: Mapping[str, DType]
) -> list[tuple[Any, ...]]:
    arrays = [pa.array([row[name] for row in rows], dtype.arrow()) for name, dtype in schema.items()]
    table = pa.table([pa.array(range(len(rows))), *arrays], ["row number", *schema])
    connection.register("given", table)
    texts = ", ".join(f"{sql} AS c{number}" for number, sql in enumerate(columns))
    found = connection.sql(f'SELECT {texts} FROM given ORDER BY "row number"').to_arrow_table()
    utc = pa.timestamp("us", "UTC")
    columns_in_utc = [column.cast(utc) if pa.types.is_timestamp(column.type) else column for column in found.columns]
    return list(zip(*(column.to_pylist() for column in columns_in_utc)))


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    # A zone far from UTC: nothing may depend on it.
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        yield connection


class TestExpressionsOnDuckDB(ExpressionSuite):
    dialect = "duckdb"

    @pytest.fixture
    def run(self, connection: duckdb.DuckDBPyConnection) -> Run:
        return lambda columns, rows, schema: answers(connection, columns, rows, schema)
