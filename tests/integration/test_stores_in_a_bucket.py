"""A store whose files are in a bucket: archives, training sets, sources, entity frames and exports, as from a configuration."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from asof import FeatureStore
from asof.connections.object_storage import ObjectStorage, StorageSettings
from tests.services import S3Proxy

pytestmark = pytest.mark.integration

FEATURES = """
from asof import Aggregation, Entity, FeatureView, Field, PushSource, Sliding
from asof.types import Int64, String, Timestamp

user = Entity("user", ["user_id"])
clicks = PushSource(
    "clicks", schema=[Field("user_id", Int64), Field("page", String), Field("at", Timestamp)], timestamp_field="at"
)
views = FeatureView(
    "views", entities=[user], source=clicks, schema=[Field("user_id", Int64)],
    aggregations=[Aggregation("", "count", window=Sliding("1d"), name="clicks_1d")],
)
"""


def repository(folder: Path, features: str, **sections: object) -> FeatureStore:
    """An applied store over a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"project": "shop", "clock": "2026-01-02T00:00:00Z", **sections}
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    (folder / "features.py").write_text(features)
    store = FeatureStore(folder)
    store.apply()
    return store


@pytest.fixture
def storage(s3_proxy: S3Proxy) -> ObjectStorage:
    return ObjectStorage(StorageSettings(**s3_proxy.storage))


def put_parquet(storage: ObjectStorage, address: str, table: pa.Table, **options: object) -> int:
    """Write a table as an object; returns its size in bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    storage.write(address, sink.getvalue())
    return len(sink.getvalue())


def test_what_is_pushed_is_archived_in_the_bucket_read_from_there_and_saved_there(
    tmp_path: Path, bucket: str, s3_proxy: S3Proxy, storage: ObjectStorage
) -> None:
    store = repository(
        tmp_path / "repo", FEATURES, storage=s3_proxy.storage, offline_store={"path": f"{bucket}/features"}
    )
    rows = [{"user_id": n % 3, "page": "a", "at": f"2026-01-01T{n:02}:00:00Z"} for n in range(12)]
    store.push("clicks", rows)
    store.stream_run(until_caught_up=True)
    frame = pa.table(
        {"user_id": [0, 1, 2, 9], "event_timestamp": pa.array([1767312000_000_000] * 4, pa.timestamp("us", "UTC"))}
    )

    found = store.get_historical_features(frame, ["views:clicks_1d"]).to_arrow()
    assert found["clicks_1d"].to_pylist() == [4, 4, 4, 0]

    saved = store.get_historical_features(frame, ["views:clicks_1d"]).save("first")
    assert saved.rows == 4 and saved.sources["clicks"].kind == "archive"
    again = FeatureStore(tmp_path / "repo")
    assert again.read_training_set("first").to_arrow().equals(found)
    names = {
        each.address.removeprefix(f"{bucket}/features/shop/").split("/")[0] for each in storage.objects_below(bucket)
    }
    assert names >= {"events", "tables"} and not list((tmp_path / "repo").rglob("*.parquet"))
