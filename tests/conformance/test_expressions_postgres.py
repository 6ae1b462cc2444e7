"""The expression suite on a real Postgres, in a database whose collation is not by code point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi as adbc

from asof.dtypes import DType
from asof.sql.postgres.dialect import type_name
from asof.sql.quoting import quote
from asof.testing.expressions import ExpressionSuite, Rows, Run

pytestmark = pytest.mark.integration


def answers(url: str, columns: Sequence[str], rows: Rows, schema: Mapping[str, DType]) -> list[tuple[Any, ...]]:
    arrays = [pa.array([row[name] for row in rows], dtype.arrow()) for name, dtype in schema.items()]
    table = pa.table([pa.array(range(len(rows))), *arrays], ["row number", *schema])
    types = ", ".join(f"{quote(name)} {type_name(dtype)}" for name, dtype in schema.items())
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS given")
        cursor.execute(f'CREATE TABLE given ("row number" bigint, {types})')
        cursor.adbc_ingest("given", table, mode="append")
        connection.commit()
    texts = ", ".join(f"{sql} AS c{number}" for number, sql in enumerate(columns))
    with psycopg.connect(url) as connection:
        # As the offline store has it; elsewhere the last hours of 9999 are a year that Python cannot name.
        connection.execute("SET TimeZone = 'UTC'")
        cursor = connection.cursor(binary=True)
        found = cursor.execute(f'SELECT {texts} FROM given ORDER BY "row number"').fetchall()  # type: ignore[call-overload]
    return [tuple(each.astimezone(UTC) if isinstance(each, datetime) else each for each in row) for row in found]


class TestExpressionsOnPostgres(ExpressionSuite):
    dialect = "postgres"

    @pytest.fixture
    def run(self, postgres_url: str) -> Iterator[Run]:
        yield lambda columns, rows, schema: answers(postgres_url, columns, rows, schema)
