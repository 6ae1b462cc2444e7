"""Entity frames of all kinds are read alike, and what is wrong with one is said in one message."""

from datetime import UTC, datetime

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.errors import EntityFrameError, FeatureNameCollision, UnknownFeature

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

FEATURES = """
from asof import Aggregation, Entity, FeatureView, Field, FileSource, RequestSource, on_demand_feature_view
from asof.types import Float64, Int64, String

user = Entity(name="user", join_keys=["user_id"])
trips = FileSource(name="trips", path="trips.parquet", timestamp_field="taken_at")
fares = FeatureView(name="fares", entities=[user], source=trips, schema=[Field("fare", Float64), Field("city", String)])
more = FeatureView(name="more", entities=[user], source=trips, schema=[Field("fare", Float64)])
basket = RequestSource(name="basket", schema=[Field("amount", Float64)])


@on_demand_feature_view(sources=[fares, basket], schema=[Field("share", Float64)], mode="python")
def shares(row):
    return {"share": None if row["fare"] is None else row["fare"] / row["amount"]}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    root = tmp_path_factory.mktemp("repo")
    trips = pa.table(
        {
            "user_id": pa.array([1, 1, 2], pa.int64()),
            "taken_at": pa.array([NOON.replace(hour=10), NOON.replace(hour=11), NOON], pa.timestamp("us", "UTC")),
            "fare": [1.0, 2.0, 3.0],
            "city": ["a", "b", "c"],
        }
    )
    pq.write_table(trips, root / "trips.parquet")
    (root / "feature_store.yaml").write_text("project: rides\n")
    (root / "features.py").write_text(FEATURES)
    with FeatureStore(root, clock=lambda: NOON) as store:
        store.apply()
        yield store


def read(store, frame, features=("fares:fare", "fares:city"), **options):
    return store.get_historical_features(frame, list(features), **options).to_arrow()


COLUMNS = {"user_id": [2, 1, 1, 9], "event_timestamp": [NOON, NOON, NOON.replace(hour=10), NOON], "label": [1, 0, 1, 0]}


@pytest.mark.parametrize(
    "make",
    [
        pd.DataFrame,
        pl.DataFrame,
        lambda columns: pl.LazyFrame(columns),
        pa.table,
        dict,
        lambda columns: pd.DataFrame(columns).astype({"user_id": "float64"}),
        lambda columns: pd.DataFrame(
            {**columns, "event_timestamp": [t.replace(tzinfo=None) for t in columns["event_timestamp"]]}
        ),
    ],
    ids=["pandas", "polars", "lazy", "arrow", "dict", "float keys", "naive times"],
)
def test_frames_of_every_kind_are_read_alike(store, make):
    table = read(store, make(COLUMNS))

    assert table["fare"].to_pylist() == [3.0, 2.0, 1.0, None]
    assert table["city"].to_pylist() == ["c", "b", "a", None]
    assert table["label"].to_pylist() == [1, 0, 1, 0]
    assert table.column_names == ["user_id", "event_timestamp", "label", "fare", "city"]


def test_files_and_sql_are_frames(store, tmp_path):
    frame = pa.table(COLUMNS)
    pq.write_table(frame, tmp_path / "frame.parquet")
    pyarrow.csv.write_csv(frame, tmp_path / "frame.csv")

    for given in (
        tmp_path / "frame.parquet",
        str(tmp_path / "frame.csv"),
        "SELECT user_id, taken_at FROM trips ORDER BY taken_at DESC",
    ):
        assert read(store, given)["fare"].to_pylist()[:3] == [3.0, 2.0, 1.0]


def test_without_a_frame_all_rows_of_a_time_range_are_read(store):
    table = read(store, None, start_date="2026-01-01T11:00:00", end_date="2026-01-01T12:00:00")

    assert table.to_pylist() == [
        {"user_id": 1, "event_timestamp": NOON.replace(hour=11), "fare": 2.0, "city": "b"},
    ]


def test_request_values_come_with_the_frame(store):
    table = read(store, pa.table({**COLUMNS, "amount": [6.0, 4.0, 1.0, 1.0]}), ["shares:share"])

    assert table["share"].to_pylist() == [0.5, 0.5, 1.0, None]
    assert "fare" not in table.column_names


def test_batches_are_the_whole(store):
    result = store.get_historical_features(pa.table(COLUMNS), ["fares:fare"])

    assert pa.Table.from_batches(list(result.to_batches(2))).equals(result.to_arrow())
    assert "SELECT" in result.to_sql()
    assert result.to_df()["fare"].tolist()[:3] == [3.0, 2.0, 1.0]
    assert result.to_polars()["fare"].to_list() == [3.0, 2.0, 1.0, None]


@pytest.mark.parametrize(
    ("frame", "message", "hint"),
    [
        ({"user": [1], "event_timestamp": [NOON]}, "the entity frame has no join key 'user_id'; it has ['user', 'event_timestamp']", "rename its column 'user' to 'user_id'"),
        ({"user_id": [1, None], "event_timestamp": [NOON, NOON]}, "join key 'user_id' is null in 1 row, first in row 1", "remove such rows"),
        ({"user_id": [1]}, "the entity frame has no time column: expected 'event_timestamp'; it has ['user_id']", "add a column with the time"),
        ({"user_id": [1], "event_timestamp": [1_700_000_000]}, "has integers (int64) of unknown unit", "unit='ms'"),
        ({"user_id": [1], "event_timestamp": ["today"]}, "'event_timestamp' is string; expected a timestamp", "convert it"),
        ({"user_id": [1, 2], "event_timestamp": [NOON, None]}, "time 'event_timestamp' is null in 1 row, first in row 1", "remove such rows"),
        ({"user_id": ["x"], "event_timestamp": [NOON]}, "join key 'user_id' does not fit Int64 in 1 row, first in row 0: 'x' is not Int64", "declared type"),
        ({"user_id": [1], "a": [NOON], "b": [NOON]}, "several time columns: ['a', 'b']", "name the one to use 'event_timestamp'"),
        ({"user_id": [1], "event_timestamp": [NOON], "fare": [1]}, "columns named like requested features: 'fare'", "full_feature_names=True"),
        ("SELECT user_id, taken_at FROM trip", "the SQL entity frame reads 'trip', which is not an applied source", "did you mean 'trips'?"),
        ("SELECT 'x' AS user_id, taken_at FROM trips", "join key 'user_id' is string; expected Int64", "CAST(user_id AS BIGINT)"),
        ("SELECT nope FROM trips", "nope", "check the names"),
        ("DELETE FROM trips", "neither a SELECT nor a .parquet or .csv file", "SQL begins with SELECT"),
        ("frames.parquet", "there is no file 'frames.parquet' for the entity frame", "check the path"),
        (42, "the entity frame is a int", "pandas, Polars or Arrow"),
    ],
)  # fmt: skip
def test_a_broken_frame_is_one_clear_message(store, frame, message, hint):
    with pytest.raises(EntityFrameError) as caught:
        read(store, pa.table(frame) if isinstance(frame, dict) else frame)

    assert message in caught.value.message
    assert hint in caught.value.hint


def test_a_missing_request_value_is_named(store):
    with pytest.raises(EntityFrameError, match="no request value 'amount'"):
        read(store, pa.table(COLUMNS), ["shares:share"])


def test_an_unknown_feature_suggests_the_near_one(store):
    with pytest.raises(UnknownFeature) as caught:
        read(store, pa.table(COLUMNS), ["fares:fair"])

    assert str(caught.value) == "no feature 'fares:fair' in the registry\n  next: did you mean 'fares:fare'?"


def test_colliding_names_are_refused_and_full_names_are_the_way_out(store):
    with pytest.raises(FeatureNameCollision, match="'fares:fare' and 'more:fare' would both be named 'fare'") as caught:
        read(store, pa.table(COLUMNS), ["fares:fare", "more:fare"])

    assert caught.value.hint == "pass full_feature_names=True"
    table = read(store, pa.table(COLUMNS), ["more:fare", "fares:fare"], full_feature_names=True)
    assert table.column_names[3:] == ["more__fare", "fares__fare"]
