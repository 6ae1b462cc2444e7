"""Queries as sources in the offline store's own database: their names mean the same tables, whatever schema it has."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, PostgresSource, Sliding
from asof.types import Int64

pytestmark = pytest.mark.integration

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("of_source", ["", "sales"], ids=["no schema", "a schema of its own"])
@pytest.mark.parametrize("of_store", ["", "features", "public"], ids=["asof", "features", "public"])
def test_a_query_reads_its_own_tables_whatever_the_schema_of_the_offline_store(
    of_source: str, of_store: str, tmp_path: Path, postgres_url: str
) -> None:
    """Each schema has a table of that name, with other rows."""
    right = of_source or "public"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for schema in ("public", "features", "sales"):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            connection.execute(f"CREATE TABLE {schema}.orders (user_id bigint, amount bigint, at timestamptz)")
            amount = 7 if schema == right else 1000
            connection.execute(f"INSERT INTO {schema}.orders VALUES (1, {amount}, '2026-01-01 11:00Z')")
    store_schema = f", schema: {of_store}" if of_store else ""
    source_schema = f", schema: {of_source}" if of_source else ""
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\noffline_store: {{type: postgres, url: '{postgres_url}'{store_schema}}}\n"
        f"connections: {{main: {{type: postgres, url: '{postgres_url}'{source_schema}}}}}\n"
    )
    user = Entity("user", join_keys=["user_id"])
    source = PostgresSource("orders", query="SELECT * FROM orders -- all", timestamp_field="at", connection_ref="main")
    total = Aggregation(column="amount", function="sum", window=Sliding("1d"), name="total")
    views = [
        FeatureView("latest", entities=[user], source=source, schema=[Field("amount", Int64)]),
        FeatureView("summed", entities=[user], source=source, aggregations=[total]),
    ]
    with FeatureStore(tmp_path, clock=lambda: NOON) as store:
        assert not store.plan(views).errors
        store.apply(views)
        store.materialize()
        frame = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})
        features = ["latest:amount", "summed:total"]
        for _ in range(3):  # by connections that are kept
            rows = store.get_historical_features(frame, features).to_arrow()
            assert rows.select(["amount", "total"]).to_pylist() == [{"amount": 7, "total": 7}]
        sql = "SELECT user_id, at + interval '1 minute' AS event_timestamp FROM orders"
        assert store.get_historical_features(sql, features).to_arrow()["amount"].to_pylist() == [7]
        assert store.sample("latest", n=1).to_arrow()["amount"].to_pylist() == [7]
        online = store.get_online_features(features, [{"user_id": 1}]).to_dict()
        assert online["amount"] == [7] and online["total"] == [7]
        assert store.explain("latest:amount", {"user_id": 1})
        assert store.audit().ok
    with psycopg.connect(postgres_url) as connection:
        left = connection.execute("SELECT relname FROM pg_class WHERE relname LIKE 'asof\\_\\_query%'").fetchall()
        assert left == []
