"""The source readers' suite on tables and queries of PostgreSQL."""

from __future__ import annotations

import psycopg
import pytest

from asof import PostgresSource
from asof.offline.duckdb.engine import DuckDBOffline
from asof.sources.postgres.reader import PostgresReader
from asof.testing.sources import SourceReaderSuite
from tests.connections import OneServer

pytestmark = pytest.mark.integration


class PostgresSuite(SourceReaderSuite):
    query = ""

    @pytest.fixture
    def reader(self, tmp_path, postgres_url):
        reader = PostgresReader(tmp_path, connections=OneServer(postgres_url))
        yield reader
        reader.close()

    @pytest.fixture
    def engine(self, tmp_path):
        return DuckDBOffline(tmp_path / "offline", threads=1)

    @pytest.fixture
    def source_of(self, postgres_url):
        def make(rows):
            if rows is not None:
                with psycopg.connect(postgres_url, autocommit=True) as connection:
                    connection.execute('CREATE TABLE rides (user_id int8, "at" timestamptz, fare float8, city text)')
                    connection.cursor().executemany(
                        "INSERT INTO rides VALUES (%s, %s, %s, %s)", [list(row.values()) for row in rows.to_pylist()]
                    )
            table = "" if self.query else "rides"
            return PostgresSource(name="rides", query=self.query, table=table, timestamp_field="at")

        return make


class TestPostgresTable(PostgresSuite):
    pass


class TestPostgresQuery(PostgresSuite):
    query = "SELECT * FROM rides -- all of them"
