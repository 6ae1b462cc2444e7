"""Tables whose names want double quotes, on PostgreSQL: the hint is what works."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, PostgresSource
from asof.types import Int64

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("asked", ["Orders", "orders"])
def test_a_table_with_upper_case_letters_is_named_with_its_quotes(
    asked: str, tmp_path: Path, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute('CREATE TABLE "Orders" (user_id bigint, amount bigint, at timestamptz)')
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\nconnections:\n  shop: {{type: postgres, url: '{postgres_url}'}}\n"
    )
    store = FeatureStore(tmp_path)

    def errors(table: str) -> str:
        source = PostgresSource(name="orders", table=table, timestamp_field="at")
        user = Entity("user", join_keys=["user_id"])
        view = FeatureView("latest", entities=[user], source=source, schema=[Field("amount", Int64)])
        return "\n".join(map(str, store.plan([view]).errors))

    assert "write table='\"Orders\"'" in errors(asked)
    assert errors('"Orders"') == ""
    store.close()
