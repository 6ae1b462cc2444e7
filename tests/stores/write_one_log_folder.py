"""Writes the stores in `one_log_folder.tar.gz`, as the code before projects had log folders of their own kept them.

They are data now: newer code lays a log out differently, so this says how they came to be and is not run again. With
commit a955051 checked out, for its `src` alone:

    PYTHONPATH=src:. python -m tests.stores.write_one_log_folder /tmp/stores
    tar -C /tmp/stores -czf tests/stores/one_log_folder.tar.gz shop two

`shop` is one project with batch, log and push sources. A dead letter was replayed, another one was not; a training set
was saved; the last push (user 3) is in the log alone, since its process ended before it archived. `two` are the projects
`shop` and `lab` (feature_store.lab.yaml) in one folder, each with a push in the log that they share.
"""

from __future__ import annotations

import json
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
project: shop
registry: {type: sqlite, path: data/registry.db}
offline_store: {type: duckdb, path: data/archive}
online_store: {type: sqlite, path: data/online.db}
log: {type: file, path: data/log, partitions: 2}
"""

FEATURES = """\
from asof import Aggregation, Entity, FeatureService, FeatureView, Field, FileSource, LogSource, PushSource, Sliding
from asof.types import Float64, Int64, String

user = Entity(name="user", join_keys=["user_id"])
users = FileSource(name="users", path="users.parquet", timestamp_field="at")
profile = FeatureView(name="profile", entities=[user], source=users, schema=[Field("city", String)])
orders = PushSource("orders", [Field("user_id", Int64), Field("amount", Float64), Field("ms", Int64)], "ms", timestamp_unit="ms")
spent = FeatureView(
    name="spent", entities=[user], source=orders,
    aggregations=[
        Aggregation("amount", "sum", name="spent_ever"), Aggregation(function="count", window=Sliding("1h"), name="orders_1h"),
    ],
)
visits = LogSource(
    "visits", topic="visits", schema=[Field("user_id", Int64), Field("page", String), Field("ms", Int64)],
    timestamp_field="ms", timestamp_unit="ms", dead_letter_topic="visits_dead",
)
seen = FeatureView(name="seen", entities=[user], source=visits, aggregations=[Aggregation(function="count", name="visits_ever")])
model = FeatureService(name="model", features=[profile, spent, seen])
"""


def ms(minutes: float) -> int:
    """Milliseconds of a moment so many minutes from noon."""
    return int((NOON + timedelta(minutes=minutes)).timestamp() * 1000)


def order(user: int, amount: float, minutes: float) -> dict[str, object]:
    return {"user_id": user, "amount": amount, "ms": ms(minutes)}


def visit(user: int, minutes: float) -> bytes:
    return json.dumps({"user_id": user, "page": "home", "ms": ms(minutes)}).encode()


def open_store(folder: Path, *, env: str | None = None, hours: float = 0) -> FeatureStore:
    return FeatureStore(folder, env=env, clock=lambda: NOON + timedelta(hours=hours))


def write_repository(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "feature_store.yaml").write_text(CONFIG)
    (folder / "features.py").write_text(FEATURES)
    at = pa.array([NOON - timedelta(days=1)] * 2, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1, 2], "at": at, "city": ["Gdynia", "Sopot"]}), folder / "users.parquet")


def write_shop(folder: Path) -> None:
    write_repository(folder)
    with open_store(folder) as store:
        store.apply()
        store.materialize()
        store.push("orders", [order(1, 10.0, -90), order(1, 5.5, -30), order(2, 7.25, -10)])
        early = visit(1, 90)
        store.stores.log.send(
            "visits", [visit(1, -20), visit(2, -15), b"no message", early, visit(1, -5)],
            keys=[b"1", b"2", b"2", b"1", b"1"], durable=True,
        )  # fmt: skip
        store.stream_run(until_caught_up=True)
    with open_store(folder, hours=2) as store:
        # What was too far ahead of the clock fits by now.
        dead_letters = store.dead_letters().to_pylist()
        assert store.replay_dead_letters("visits", [each["id"] for each in dead_letters])["sent"] == 1
        store.stream_run(until_caught_up=True)
        frame = pa.table({"user_id": [1, 2], "event_timestamp": pa.array([NOON] * 2, pa.timestamp("us", "UTC"))})
        store.get_historical_features(frame, "model").save("at_noon")
    subprocess.run([sys.executable, "-m", "tests.stores.write_one_log_folder", "--die", str(folder)], check=True)


def die(folder: str) -> None:
    """Push, and end before the push is archived."""
    store = open_store(Path(folder), hours=2)
    store.push("orders", [order(3, 1.5, 100)])
    os._exit(0)


def write_two(folder: Path) -> None:
    write_repository(folder)
    (folder / "feature_store.lab.yaml").write_text("project: lab\n")
    for env, user in ((None, 1), ("lab", 2)):
        with open_store(folder, env=env) as store:
            store.apply()
            store.push("orders", [order(user, 10.0 * user, -30)])
            store.stream_run(until_caught_up=True)


if __name__ == "__main__":
    asof.store._who = lambda: "somebody"
    if sys.argv[1] == "--die":
        die(sys.argv[2])
    write_shop(Path(sys.argv[1]) / "shop")
    write_two(Path(sys.argv[1]) / "two")
