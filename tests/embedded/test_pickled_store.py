"""A store in other processes: it pickles to its configuration."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.types import Int64

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def noon() -> datetime:
    return NOON


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    at = pa.array([NOON], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "price": [7], "at": at}), tmp_path / "sales.parquet")
    made = FeatureStore(tmp_path, clock=noon)
    user = Entity("user", join_keys=["user_id"])
    sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
    made.apply([FeatureView("latest", entities=[user], source=sales, schema=[Field("price", Int64)])])
    made.materialize()
    return made


def prices(store: FeatureStore) -> list[Any]:
    online = store.get_online_features(["latest:price"], [{"user_id": 1}]).to_dict()["price"]
    frame = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})
    trained = store.get_historical_features(frame, ["latest:price"]).to_arrow()["price"].to_pylist()
    return [*online, *trained]


def test_a_used_store_pickles_to_its_configuration(store: FeatureStore) -> None:
    assert prices(store) == [7, 7]
    copy = pickle.loads(pickle.dumps(store))
    assert (copy.project, copy.config.path, copy.now()) == (store.project, store.config.path, NOON)
    assert prices(copy) == [7, 7]
    copy.close()
    assert prices(store) == [7, 7]


def test_a_used_store_works_in_spawned_processes(store: FeatureStore) -> None:
    assert prices(store) == [7, 7]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(prices, store).result(timeout=120) == [7, 7]
