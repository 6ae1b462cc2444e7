"""Feast's side of the jobs; it runs in the environment that `environment.py` makes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource
from feast.types import Float64, Int64
from feast.value_type import ValueType

from benchmarks.peer.jobs import FEATURES, HISTORICAL, HISTORICAL_VIEWS, ONLINE, ONLINE_VIEWS, Jobs, facts_of, run

USER = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
CONFIG = """project: peer
provider: local
registry: registry.db
offline_store: {type: duckdb}
online_store: {type: sqlite, path: online.db}
entity_key_serialization_version: 3
"""
START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def store_in(folder: str | Path) -> FeatureStore:
    """The store in `folder`, which is made."""
    root = Path(folder, "feast")
    root.mkdir(parents=True, exist_ok=True)
    (root / "feature_store.yaml").write_text(CONFIG)
    return FeatureStore(str(root))


def view_of(name: str, path: str, *, prefix: str, created: str = "", ttl: timedelta = timedelta(0)) -> FeatureView:
    """A view of ten numbers per user."""
    source = FileSource(name=f"{name}_rows", path=path, timestamp_field="ts", created_timestamp_column=created)
    schema = [Field(name=f"{prefix}_{index}", dtype=Float64) for index in range(FEATURES)]
    schema.insert(0, Field(name="user_id", dtype=Int64))
    return FeatureView(name=name, source=source, entities=[USER], schema=schema, ttl=ttl)


def prepare_historical(folder: str, ttl_hours: int) -> None:
    ttl = timedelta(hours=ttl_hours)
    views = [
        view_of(f"view{i}", f"{folder}/view{i}.parquet", prefix=f"f{i}", created="created", ttl=ttl)
        for i in range(HISTORICAL_VIEWS)
    ]
    store_in(folder).apply([USER, *views])


def historical(folder: str, spine: str) -> Callable[[], Any]:
    store = store_in(folder)

    def read() -> list[int]:
        # Feast takes no path: reading the frame is a part of the job.
        frame = pd.read_parquet(f"{folder}/{spine}.parquet")
        return facts_of(store.get_historical_features(frame, HISTORICAL).to_arrow())

    return read


def prepare_online(folder: str) -> None:
    store = store_in(folder)
    views = [view_of(f"online{i}", f"{folder}/online{i}.parquet", prefix=f"o{i}") for i in range(ONLINE_VIEWS)]
    store.apply([USER, *views])
    store.materialize(START, END)


def online(folder: str) -> Callable[[list[dict[str, Any]]], dict[str, list[Any]]]:
    store = store_in(folder)
    return lambda rows: store.get_online_features(ONLINE, rows).to_dict()


def materialize(folder: str) -> Callable[[], Any]:
    store = store_in(tempfile.mkdtemp(dir=folder))
    store.apply([USER, view_of("profile", f"{folder}/online0.parquet", prefix="o0")])
    return lambda: store.materialize(START, END)


if __name__ == "__main__":
    run(Jobs(prepare_historical, historical, prepare_online, online, materialize), sys.argv[1:])
