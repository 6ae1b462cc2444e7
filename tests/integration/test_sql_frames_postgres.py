"""SQL entity frames over tables of Postgres, whatever computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi as adbc

from asof import FeatureStore, PostgresSource
from asof.definitions import Source
from tests.embedded.test_sql_frames import NOON, SqlFramesSuite

pytestmark = pytest.mark.integration


class TestTables(SqlFramesSuite):
    @pytest.fixture
    def written(self, postgres_url: str) -> Iterator[Callable[[str, pa.Table, str], Source]]:
        with adbc.connect(postgres_url) as connection, connection.cursor() as cursor:

            def write(name: str, rows: pa.Table, time: str) -> Source:
                cursor.adbc_ingest(name, rows, mode="create")
                connection.commit()
                return PostgresSource(name, table=name, timestamp_field=time)

            yield write

    @pytest.fixture(params=["duckdb", "postgres"])
    def store(self, tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
        offline = f"{{type: postgres, url: '{postgres_url}'}}" if request.param == "postgres" else "{type: duckdb}"
        (tmp_path / "feature_store.yaml").write_text(
            f"project: frames\noffline_store: {offline}\n"
            f"connections: {{main: {{type: postgres, url: '{postgres_url}'}}}}\n",
            encoding="utf-8",
        )
        with FeatureStore(tmp_path, clock=lambda: NOON + timedelta(hours=1)) as store:
            yield store
