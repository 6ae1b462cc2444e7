"""Writes the store in `without_arrival.tar.gz`, as the code kept it that ordered rows of logs by offset and partition.

It is data now: newer code stamps pushes, so this says how it came to be and is not run again. With commit e0345f5
checked out, for its `src` alone:

    PYTHONPATH=src:. python -m tests.stores.write_without_arrival FOLDER
    tar -C FOLDER -czf tests/stores/without_arrival.tar.gz prices

Item `a` was corrected by a push after its history was loaded, item `b` by a second process: that code dropped both. The
last push (item `c`) is in the log alone, since its process ended before it archived. A training set was saved.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import asof.store
from asof import FeatureStore

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

CONFIG = """\
project: prices
registry: {type: sqlite, path: data/registry.db}
offline_store: {type: duckdb, path: data/archive}
online_store: {type: sqlite, path: data/online.db}
log: {type: file, path: data/log}
"""

FEATURES = """\
from asof import Aggregation, Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from asof.types import Float64, String, Timestamp

item = Entity(name="item", join_keys=["item"])
prices = PushSource(
    "prices", [Field("item", String), Field("price", Float64), Field("at", Timestamp)], "at",
    batch_source=FileSource("old_prices.parquet", name="old_prices", timestamp_field="at"),
)
price = FeatureView(name="price", entities=[item], source=prices, schema=[Field("price", Float64)])
ends = FeatureView(
    name="ends", entities=[item], source=prices,
    aggregations=[
        Aggregation("price", "first", name="first"), Aggregation("price", "last", name="last"),
        Aggregation("price", "last_n", n=3, name="last_3"), Aggregation(function="count", name="n"),
    ],
)
model = FeatureService(name="model", features=[price, ends])
"""


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def row(item: str, price: float, minutes: float) -> dict[str, object]:
    return {"item": item, "price": price, "at": at(minutes)}


def open_store(folder: Path) -> FeatureStore:
    return FeatureStore(folder, clock=lambda: NOON)


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(CONFIG)
    (folder / "features.py").write_text(FEATURES)
    history = [row("z", i, -90 + i) for i in range(4)] + [row("a", 1.0, -60)]
    columns = {name: [each[name] for each in history] for name in ("item", "price")}
    times = pa.array([each["at"] for each in history], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({**columns, "at": times}), folder / "old_prices.parquet")
    with open_store(folder) as store:
        store.apply()
        store.backfill("prices")
        store.push("prices", [row("a", 2.0, -60), row("b", 5.0, -40), row("b", 10.0, -30)])
        push_and_die(folder, row("b", 20.0, -30))
        store.stream_run(until_caught_up=True)
        frame = pa.table({"item": ["a", "b", "z"], "event_timestamp": pa.array([NOON] * 3, pa.timestamp("us", "UTC"))})
        store.get_historical_features(frame, "model").save("at_noon")
    push_and_die(folder, row("c", 7.0, -20))


def push_and_die(folder: Path, pushed: dict[str, object]) -> None:
    """Push in a process of its own, which ends before the push is archived."""
    command = [sys.executable, "-m", "tests.stores.write_without_arrival", str(folder), str(pushed["item"])]
    minutes = (pushed["at"] - NOON) / timedelta(minutes=1)  # type: ignore[operator]
    subprocess.run([*command, str(pushed["price"]), str(minutes)], check=True)


if __name__ == "__main__":
    asof.store.user_and_host = lambda: "somebody"
    if len(sys.argv) == 2:
        write(Path(sys.argv[1]) / "prices")
    else:
        path, name, amount, minute = sys.argv[1:]
        open_store(Path(path)).push("prices", [row(name, float(amount), float(minute))])
        os._exit(0)
