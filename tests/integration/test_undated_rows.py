"""Rows of a Postgres table without an event time of the years 1 to 9999: left out and counted, in every engine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, PostgresSource
from asof.errors import SourceError
from asof.types import Int64, Timestamp

pytestmark = pytest.mark.integration

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIELDS = [Field("user_id", Int64), Field("value", Int64)]
USER = Entity("user", join_keys=["user_id"])
TIMES = {
    "timestamptz": ["'2026-01-01'", "'-infinity'", "'infinity'", "NULL", "'0002-01-01 BC'", "'12026-01-01'"],
    "timestamp": ["'2026-01-01'", "'-infinity'", "'infinity'", "NULL", "'0002-01-01 BC'", "'12026-01-01'"],
    "date": ["'2026-01-01'", "'-infinity'", "'infinity'", "NULL", "'0002-01-01 BC'", "'12026-01-01'"],
    "int8": ["1767225600", "-9223372036854775808", "9223372036854775807", "NULL", "-62135596801", "253402300800"],
}


def opened(folder: Path, url: str, offline: str) -> FeatureStore:
    yaml = f'project: undated\nconnections: {{warehouse: {{type: postgres, url: "{url}"}}}}\n'
    if offline == "postgres":
        yaml += "offline_store: {type: postgres, connection: warehouse}\n"
    (folder / "feature_store.yaml").write_text(yaml, encoding="utf-8")
    return FeatureStore(folder, clock=lambda: AT)


@pytest.mark.parametrize("offline", ["federated", "postgres"])
@pytest.mark.parametrize("kind", TIMES)
def test_odd_event_times_are_left_out_and_counted(postgres_url: str, tmp_path: Path, kind: str, offline: str) -> None:
    rows = ", ".join(f"({user}, {time}, {user * 10})" for user, time in enumerate(TIMES[kind], 1))
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE odd (user_id int8, at {kind}, value int8); INSERT INTO odd VALUES {rows}")
    unit = "s" if kind == "int8" else ""
    source = PostgresSource(name="odd", table="odd", timestamp_field="at", timestamp_unit=unit)
    total = [Aggregation("value", "sum", name="sum")]
    views = [
        FeatureView("latest", entities=[USER], source=source, schema=FIELDS),
        FeatureView("summed", entities=[USER], source=source, schema=FIELDS, aggregations=total),
    ]
    users = list(range(1, 7))
    with opened(tmp_path, postgres_url, offline) as store:
        warned = [str(each) for each in store.plan([USER, source, *views]).findings]
        assert sum("5 rows without one (null, infinite or outside)" in each for each in warned) == 2
        store.apply([USER, source, *views])

        done = {each.view: (each.rows, each.undated) for each in store.materialize()}

        assert done == {"latest": (1, 5), "summed": (1, 5)}
        features = ["latest:value", "summed:sum"]
        frame = pa.table({"user_id": users, "event_timestamp": pa.array([AT] * 6, pa.timestamp("us", "UTC"))})
        expected: dict[str, Any] = {"user_id": users, "value": [10] + [None] * 5, "sum": [10] + [None] * 5}
        assert store.get_online_features(features, {"user_id": users}).to_dict() == expected
        assert store.get_historical_features(frame, features).to_arrow().select(list(expected)).to_pydict() == expected
        assert store.get_historical_features(None, features).to_arrow()["user_id"].to_pylist() == [1]


@pytest.mark.parametrize("offline", ["federated", "postgres"])
def test_an_odd_created_time_is_none_and_an_error_as_a_value(postgres_url: str, tmp_path: Path, offline: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE odd (user_id int8, at timestamptz, made timestamptz, value int8); INSERT INTO odd VALUES "
            "(1, '2026-01-01', '2026-01-02', 10), (1, '2026-01-01', '-infinity', 11), (1, '2026-01-01', 'infinity', 12), "
            "(2, '2026-01-01', 'infinity', 20), (3, '2026-01-01', NULL, 30), (4, NULL, 'infinity', 40)"
        )
    source = PostgresSource(name="odd", table="odd", timestamp_field="at", created_timestamp_column="made")
    shown = [*FIELDS, Field("made", Timestamp)]
    views = [
        FeatureView("latest", entities=[USER], source=source, schema=FIELDS),
        FeatureView("showing", entities=[USER], source=source, schema=shown, online=False),
    ]
    users = [1, 2, 3, 4]
    with opened(tmp_path, postgres_url, offline) as store:
        store.apply([USER, source, *views])
        (done,) = store.materialize()
        assert (done.rows, done.undated) == (3, 1)
        (done,) = store.materialize()
        assert done.undated == 0
        frame = pa.table({"user_id": users, "event_timestamp": pa.array([AT] * 4, pa.timestamp("us", "UTC"))})
        online = store.get_online_features(["latest:value"], {"user_id": users}).to_dict()["value"]
        assert online == store.get_historical_features(frame, ["latest:value"]).to_arrow()["value"].to_pylist()
        assert online == [10, 20, 30, None]
        with pytest.raises(SourceError, match="'made'"):
            store.get_historical_features(frame, ["showing:made"]).to_arrow()
