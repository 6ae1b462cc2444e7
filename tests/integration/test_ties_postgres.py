"""Rows of one key and time in a table of Postgres: the columns that a view reads decide, whatever computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from adbc_driver_postgresql import dbapi as adbc

from asof import FeatureStore, PostgresSource
from asof.definitions import Source
from tests.embedded.test_ties import LATER, ROWS, TiesSuite

pytestmark = pytest.mark.integration


class TestTables(TiesSuite):
    """Text in the database's own collation sorts otherwise than by code point."""

    @pytest.fixture(params=["no index", "index"])
    def source(self, postgres_url: str, request: pytest.FixtureRequest) -> Source:
        with adbc.connect(postgres_url) as connection, connection.cursor() as cursor:
            cursor.adbc_ingest("rows", ROWS, mode="create")
            if request.param == "index":
                cursor.execute('CREATE INDEX ON rows ("user", at)')
            connection.commit()
        return PostgresSource("rows", table="rows", timestamp_field="at")

    @pytest.fixture(params=["duckdb", "postgres"])
    def store(self, tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
        offline = f"{{type: postgres, url: '{postgres_url}'}}" if request.param == "postgres" else "{type: duckdb}"
        (tmp_path / "feature_store.yaml").write_text(
            f"project: ties\noffline_store: {offline}\nconnections: {{main: {{type: postgres, url: '{postgres_url}'}}}}\n",
            encoding="utf-8",
        )
        with FeatureStore(tmp_path, clock=lambda: LATER) as store:
            yield store
