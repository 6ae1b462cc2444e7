"""Tables and queries of Postgres that changed after `apply`: every verb says what is not as it was, in both engines."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi as adbc

from asof import PostgresSource
from tests.drift.verbs import CHANGES, ROWS, VERBS, check_doctor, check_verb, used_store

pytestmark = pytest.mark.integration

SOURCES = {"table": {"table": "sales"}, "query": {"query": "SELECT * FROM sales"}}


@pytest.mark.parametrize("engine", ["duckdb", "postgres"])
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("change", CHANGES)
def test_every_verb_says_which_column_is_not_as_it_was(
    engine: str, kind: str, change: str, tmp_path: Path, postgres_url: str
) -> None:
    offline = f"{{type: postgres, url: '{postgres_url}'}}" if engine == "postgres" else "{type: duckdb}"
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\noffline_store: {offline}\nconnections: {{main: {{type: postgres, url: '{postgres_url}'}}}}\n"
    )

    def write(rows: dict[str, object]) -> None:
        with adbc.connect(postgres_url) as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS sales")
            cursor.adbc_ingest("sales", pa.table(rows), mode="create")
            connection.commit()

    write(ROWS)
    with used_store(tmp_path, PostgresSource("sales", timestamp_field="at", **SOURCES[kind])) as store:
        write(CHANGES[change][0])
        for verb in VERBS:
            check_verb(store, verb, change)
        check_doctor(store, change)
