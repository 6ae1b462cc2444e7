"""Names like Asof's own, an engine's or SQL's in tables of Postgres, whatever computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adbc_driver_postgresql import dbapi as adbc

from asof import FeatureStore, PostgresSource
from asof.definitions import Source
from tests.embedded.test_hostile_names import LATER, NAMES, HostileNamesSuite, Roles, all_roles, quoted

pytestmark = pytest.mark.integration

OF_TABLES = [name for name in NAMES if name not in ("ctid", "xmin") and len(name) < 64]
"""Postgres has no columns with the other names."""


class TestTables(HostileNamesSuite):
    ROLES = all_roles(OF_TABLES)[::4]

    @pytest.fixture
    def written(self, postgres_url: str) -> Iterator[Callable[[Roles], Source]]:
        with adbc.connect(postgres_url) as connection, connection.cursor() as cursor:

            def write(roles: Roles) -> Source:
                name = f"Rows {roles.place}"
                cursor.adbc_ingest(name, roles.rows(), mode="create")
                if roles.place % 4:
                    cursor.execute(f"CREATE INDEX ON {quoted(name)} ({quoted(roles.key)}, {quoted(roles.time)})")
                connection.commit()
                return PostgresSource(
                    roles.source, table=name, timestamp_field=roles.time, created_timestamp_column=roles.created
                )

            yield write

    @pytest.fixture(params=["duckdb", "postgres"])
    def store(self, tmp_path: Path, postgres_url: str, request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
        offline = f"{{type: postgres, url: '{postgres_url}'}}" if request.param == "postgres" else "{type: duckdb}"
        (tmp_path / "feature_store.yaml").write_text(
            f"project: names\noffline_store: {offline}\n"
            f"connections: {{main: {{type: postgres, url: '{postgres_url}'}}}}\n",
            encoding="utf-8",
        )
        with FeatureStore(tmp_path, clock=lambda: LATER) as store:
            yield store
