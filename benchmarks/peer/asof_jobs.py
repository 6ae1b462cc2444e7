"""Asof's side of the jobs."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.types import Float64, Int64
from benchmarks.peer.jobs import FEATURES, HISTORICAL, HISTORICAL_VIEWS, ONLINE, ONLINE_VIEWS, Jobs, facts_of, run

USER = Entity("user", ["user_id"])
CONFIG = """project: peer
registry: {registry_type: sqlite, path: registry.db}
offline_store: {type: duckdb, path: archive}
online_store: {type: sqlite, path: online.db}
log: {type: file, path: log}
"""


def store_in(folder: str | Path) -> FeatureStore:
    """The store in `folder`, which is made."""
    root = Path(folder, "asof")
    root.mkdir(parents=True, exist_ok=True)
    (root / "feature_store.yaml").write_text(CONFIG)
    return FeatureStore(root)


def view_of(name: str, path: str, *, prefix: str, created: str = "", ttl: str | None = None) -> FeatureView:
    """A view of ten numbers per user."""
    source = FileSource(path, name=f"{name}_rows", timestamp_field="ts", created_timestamp_column=created)
    schema = [Field("user_id", Int64), *(Field(f"{prefix}_{index}", Float64) for index in range(FEATURES))]
    return FeatureView(name, source=source, entities=[USER], schema=schema, ttl=ttl)


def prepare_historical(folder: str, ttl_hours: int) -> None:
    ttl = f"{ttl_hours}h" if ttl_hours else None
    store_in(folder).apply(
        [
            view_of(f"view{i}", f"{folder}/view{i}.parquet", prefix=f"f{i}", created="created", ttl=ttl)
            for i in range(HISTORICAL_VIEWS)
        ]
    )


def historical(folder: str, spine: str) -> Callable[[], Any]:
    store = store_in(folder)
    return lambda: facts_of(store.get_historical_features(f"{folder}/{spine}.parquet", HISTORICAL).to_arrow())


def prepare_online(folder: str) -> None:
    store = store_in(folder)
    store.apply([view_of(f"online{i}", f"{folder}/online{i}.parquet", prefix=f"o{i}") for i in range(ONLINE_VIEWS)])
    store.materialize()


def online(folder: str) -> Callable[[list[dict[str, Any]]], dict[str, list[Any]]]:
    store = store_in(folder)
    return lambda rows: store.get_online_features(ONLINE, rows).to_dict()


def materialize(folder: str) -> Callable[[], Any]:
    store = store_in(tempfile.mkdtemp(dir=folder))
    store.apply([view_of("profile", f"{folder}/online0.parquet", prefix="o0")])
    return lambda: store.materialize() and None


if __name__ == "__main__":
    run(Jobs(prepare_historical, historical, prepare_online, online, materialize), sys.argv[1:])
