"""Numbers of any digits in Postgres: in SQL entity frames, samples and explanations each is what it is, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal as Number
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, PostgresSource
from asof.errors import EntityFrameError
from asof.types import Array, Decimal

pytestmark = pytest.mark.integration

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LONG, FINE, SHORT = Number("12345678901234567890.123456789"), Number("0.12345678901234567"), Number("0.123456789")
AT = "timestamptz '2026-01-01 12:00Z' AS event_timestamp"


@pytest.fixture(params=["duckdb", "postgres"])
def store(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> Iterator[FeatureStore]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE sums (user_id int8, at timestamptz, long numeric, fine numeric, many numeric[])"
        )
        connection.execute(
            "INSERT INTO sums VALUES (1, '2026-01-01 11:00Z', %s, %s, %s)", [LONG, FINE, [FINE, SHORT, None]]
        )
    offline = f"{{type: postgres, url: '{postgres_url}'}}" if request.param == "postgres" else "{type: duckdb}"
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\noffline_store: {offline}\nconnections: {{main: {{type: postgres, url: '{postgres_url}'}}}}\n"
    )
    schema = [Field("long", Decimal(38, 9)), Field("fine", Decimal(20, 17)), Field("many", Array(Decimal(20, 17)))]
    source = PostgresSource("sums", table="sums", timestamp_field="at")
    with FeatureStore(tmp_path, clock=lambda: NOON) as store:
        user = Entity("user", join_keys=["user_id"])
        store.apply([FeatureView("v", entities=[user], source=source, schema=schema)])
        yield store


def test_columns_of_a_source_have_their_declared_types_in_an_sql_frame(store: FeatureStore) -> None:
    sql = f"SELECT user_id, long AS label, fine AS weight, {AT} FROM sums"
    row = store.get_historical_features(sql, ["v:fine"]).to_arrow().to_pylist()[0]

    assert (row["label"], row["weight"], row["fine"]) == (LONG, FINE, FINE)


def test_a_sample_and_an_explanation_have_all_digits(store: FeatureStore) -> None:
    row = store.sample("v", n=1).to_arrow().to_pylist()[0]

    assert (row["long"], row["fine"], row["many"]) == (LONG, FINE, [FINE, SHORT, None])
    assert str(FINE) in str(store.explain("v:fine", {"user_id": 1}))


def test_lists_of_numbers_keep_the_digits_that_they_are_declared_or_cast_with(store: FeatureStore) -> None:
    assert str(FINE) in str(store.explain("v:many", {"user_id": 1}))
    sql = f"SELECT user_id, many AS label, many AS again, {AT} FROM sums"
    row = store.get_historical_features(sql, ["v:many"]).to_arrow().to_pylist()[0]
    assert row["label"] == row["again"] == row["many"] == [FINE, SHORT, None]
    if store.config.offline_store.type == "postgres":
        cast = f"SELECT 1 AS user_id, ARRAY[[0.5, 0.25]]::numeric(30,20)[] AS label, {AT}"
        with pytest.raises(EntityFrameError, match="column 'label' has lists in lists"):
            store.get_historical_features(cast, ["v:fine"]).to_arrow()
        odd = f"SELECT 1 AS user_id, timestamptz 'infinity' AS label, {AT}"
        with pytest.raises(EntityFrameError, match="column 'label' of the SQL holds a time outside of the years"):
            store.get_historical_features(odd, ["v:fine"]).to_arrow()
        cast = cast.replace("[[0.5, 0.25]]", "[0.12345678901234567, 0.25]")
        label = store.get_historical_features(cast, ["v:fine"]).to_arrow()["label"]
        assert label.type == pa.list_(pa.decimal128(30, 20)) and label.to_pylist() == [[FINE, Number("0.25")]]


def test_a_number_of_an_sql_frame_that_no_type_was_given_keeps_its_digits_or_is_refused(store: FeatureStore) -> None:
    def label(value: str) -> object:
        sql = f"SELECT 1 AS user_id, {value} AS label, {AT}"
        return store.get_historical_features(sql, ["v:fine"]).to_arrow()["label"].to_pylist()[0]

    assert label("12345678901234567890.123456789") == LONG
    assert label("CAST(1 AS double precision) / 3") == 1 / 3
    if store.config.offline_store.type == "postgres":
        with pytest.raises(EntityFrameError, match=r"column 'label' of the SQL is numeric without digits") as caught:
            label("1.0 / 3")
        assert "CAST(… AS double precision)" in caught.value.hint
