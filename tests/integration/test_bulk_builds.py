"""Builds of online rows by the executors of a Spark Connect server: the same rows as by this process."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.config import load_config
from asof.errors import ConfigError
from asof.flows.batch.materialize import materialize
from asof.flows.batch.rebuild import rebuild_views
from asof.flows.stores import Stores
from asof.offline.spark.executors import Executors
from asof.opening.stores import open_stores
from tests.services import Redis, Sail, Spark, SparkCluster

pytest.importorskip("pyspark", reason="the extra `spark` is not installed")

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
USERS = 300

DEFINITIONS = """
from asof import Aggregation, Entity, FeatureView, Field, FileSource, PushSource, Sliding
from asof.types import Float64, Int64, String, Timestamp

user = Entity("user", join_keys=["user_id", "region"])
changes = FileSource("changes.parquet", timestamp_field="at")
orders = FileSource("orders.parquet", timestamp_field="at")
visits = PushSource("visits", [Field("user_id", Int64), Field("region", String), Field("page", String),
                               Field("at", Timestamp)], "at")

profile = FeatureView("profile", entities=[user], source=changes, ttl="60d", schema=[
    Field("country", String), Field("score", Float64)])
bought = FeatureView("bought", entities=[user], source=orders, aggregations=[
    Aggregation("", "count", name="orders_7d", window=Sliding("7d")),
    Aggregation("amount * 2", "sum", name="twice", where="amount > 3", window=Sliding("30d")),
    Aggregation("amount", "last", name="last_amount")])
seen = FeatureView("seen", entities=[user], source=visits, aggregations=[
    Aggregation("", "count", name="visits"), Aggregation("page", "last", name="page")])
"""

FEATURES = [
    "profile:country", "profile:score", "bought:orders_7d", "bought:twice", "bought:last_amount", "seen:visits",
    "seen:page",
]  # fmt: skip


def _rows(count: int, seed: int) -> list[dict[str, Any]]:
    chosen = random.Random(seed)
    return [
        {
            "user_id": chosen.randrange(USERS), "region": chosen.choice(["north", "süd"]),
            "at": NOW - timedelta(minutes=chosen.randrange(60 * 24 * 90)), "amount": chosen.randrange(10),
            "country": chosen.choice(["DE", "FR", None]), "score": chosen.random(),
        }
        for _ in range(count)
    ]  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A feature repository with its sources, whose online store is the Redis of a variable."""
    (tmp_path / "features.py").write_text(DEFINITIONS)
    (tmp_path / "feature_store.yaml").write_text(
        "project: bulk\noffline_store:\n  type: duckdb\n  path: archive\n"
        f"clock: {NOW.isoformat()}\nonline_store:\n  type: redis\n  url: ${{ASOF_TEST_BULK_REDIS}}\n"
        f"  key_prefix: ${{ASOF_TEST_BULK_PREFIX:-{uuid.uuid4().hex}}}\n"
    )
    (tmp_path / "feature_store.spark.yaml").write_text(
        "offline_store:\n  type: spark\n  path: archive\n  remote: ${ASOF_TEST_BULK_REMOTE}\n"
    )
    for name, columns, seed in (("changes", ["country", "score"], 1), ("orders", ["amount"], 2)):
        rows = [{key: row[key] for key in ["user_id", "region", "at", *columns]} for row in _rows(4_000, seed)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
    return tmp_path


@pytest.fixture
def there(private_service: Any, redis: Redis) -> Sail:
    """A server whose environment has the variable. It ends after the session that `build` opens."""
    return private_service(Sail, environment={"ASOF_TEST_BULK_REDIS": redis.url})


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions that executors were given."""
    names: list[str] = []
    mapped = Executors.mapped

    def noted(self: Executors, session: Any, frame: Any, function: Any, *rest: Any, **options: Any) -> Any:
        names.append(type(function).__name__)
        return mapped(self, session, frame, function, *rest, **options)

    monkeypatch.setattr(Executors, "mapped", noted)
    return names


@pytest.fixture
def bare(private_service: Any) -> Sail:
    """A server without it: started before `build` sets it in this process."""
    return private_service(Sail)


Build = Callable[..., tuple[FeatureStore, Stores]]


@pytest.fixture
def build(repository: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Apply the repository, and open its stores; with a server's address their rows are for its executors."""
    monkeypatch.setenv("ASOF_TEST_BULK_REDIS", redis.url)
    opened: list[Any] = []

    def built(url: str = "") -> tuple[FeatureStore, Stores]:
        monkeypatch.setenv("ASOF_TEST_BULK_REMOTE", url)
        env = "spark" if url else ""
        store = FeatureStore(repository, env=env)
        opened.append(store)
        store.apply()
        clock = lambda: int(NOW.timestamp()) * 1_000_000  # noqa: E731, a clock
        stores = open_stores(load_config(repository, env=env), clock=clock, system_clock=clock, who="tests")
        opened.append(stores)
        return store, stores

    yield built
    for each in reversed(opened):
        each.close()


def _values(store: FeatureStore, features: list[str] = FEATURES) -> dict[str, list[Any]]:
    rows = [{"user_id": user, "region": region} for user in range(USERS) for region in ("north", "süd")]
    return store.get_online_features(features, rows).to_dict()


def _pushed(store: FeatureStore) -> None:
    rows = [
        {"user_id": row["user_id"], "region": row["region"], "page": f"p{row['amount']}", "at": row["at"]}
        for row in _rows(1_000, 3)
    ]
    store.push("visits", rows)


def test_executors_write_the_rows_that_this_process_writes(there: Sail, build: Build, taken: list[str]) -> None:
    store, stores = build(there.url)
    _pushed(store)
    _, here = build()
    local = [each.rows for each in materialize(here, full=True)]
    rebuilt_here = rebuild_views(here, here.registry.load("bulk"), ["seen"])
    expected = _values(store)

    done = [each.rows for each in materialize(stores, full=True)]
    rebuilt = rebuild_views(stores, stores.registry.load("bulk"), ["seen"])

    assert taken == ["WindowsBuild", "NewestBuild", "ArchiveFold"]
    assert done == local and rebuilt == rebuilt_here
    assert _values(store) == expected
    assert any(value is not None for value in expected["twice"])


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_spark_itself_computes_a_training_set_and_writes_online_rows(
    spark: Spark, redis: Redis, build: Build, taken: list[str], repository: Path
) -> None:
    # All tests share this server, so its executors' environment has nothing of this one.
    configuration = repository / "feature_store.yaml"
    configuration.write_text(configuration.read_text().replace("${ASOF_TEST_BULK_REDIS}", redis.url))
    configuration = repository / "feature_store.spark.yaml"
    configuration.write_text(configuration.read_text() + "  settings: {spark.sql.codegen.wholeStage: false}\n")
    store, stores = build(spark.url)
    embedded, here = build()
    views, features = ["profile", "bought"], FEATURES[:5]
    local = [each.rows for each in materialize(here, views=views, full=True)]
    expected = _values(embedded, features)

    done = [each.rows for each in materialize(stores, views=views, full=True)]

    assert taken == ["NewestBuild", "WindowsBuild"]
    assert done == local
    assert _values(store, features) == expected
    frame = pa.table({
        "user_id": [user % USERS for user in range(1_000)], "region": ["north", "süd"] * 500,
        "event_timestamp": pa.array([NOW - timedelta(hours=each) for each in range(1_000)], pa.timestamp("us", "UTC")),
    })  # fmt: skip
    saved = [
        each.get_historical_features(frame, features).save(name)
        for each, name in ((embedded, "here"), (store, "there"))
    ]
    assert saved[0]["content_hash"] == saved[1]["content_hash"]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_an_executor_that_is_killed_in_the_middle_costs_no_row(
    private_service: Any, redis: Redis, build: Build, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = private_service(
        SparkCluster, environment={"ASOF_TEST_BULK_REDIS": redis.url}, python=_bare_python(tmp_path)
    )
    gate = tmp_path / "gate"
    gate.mkdir()
    mapped = Executors.mapped
    monkeypatch.setattr(
        Executors, "mapped",
        lambda self, session, frame, function, *rest, **options: mapped(
            self, session, frame, Gated(function, gate), *rest, **options
        ),
    )  # fmt: skip
    store, stores = build(cluster.url)
    _, here = build()
    local = {each.view: each.rows for each in materialize(here, full=True)}
    expected = _values(store)
    killer = threading.Thread(target=_kill_one, args=(cluster, gate), daemon=True)
    killer.start()

    done = {each.view: each.rows for each in materialize(stores, full=True)}

    killer.join(timeout=120)
    # An executor was lost while it held a part: that part was begun twice.
    homes = {each.read_text() for each in gate.glob("*.begun")}
    assert (gate / "killed").exists()
    assert done == local
    assert _values(store) == expected
    assert all(".zip" in home for home in homes), homes
    stores.close()


class Gated:
    """A function that begins once an executor was killed while one of its kind ran."""

    def __init__(self, function: Any, gate: Path) -> None:
        self.function, self.gate = function, gate

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import time
        import uuid as ids

        import asof as package

        (self.gate / f"{ids.uuid4().hex}.begun").write_text(str(package.__file__))
        until = time.monotonic() + 240
        while not (self.gate / "killed").exists() and time.monotonic() < until:
            time.sleep(0.05)
        yield from self.function(batches)


def _kill_one(cluster: SparkCluster, gate: Path) -> None:
    until = time.monotonic() + 240
    while not any(gate.glob("*.begun")) and time.monotonic() < until:
        time.sleep(0.05)
    cluster.kill_executor()
    (gate / "killed").touch()


def _bare_python(folder: Path) -> str:
    """A Python with the packages of this one, but without Asof: executors get it with the session."""
    script = folder / "python"
    paths = ":".join(each for each in sys.path if each.endswith("site-packages"))
    # Without `site`, no editable install adds its own folder.
    script.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{paths}" exec {sys.executable} -S "$@"\n')
    script.chmod(0o755)
    return str(script)


def test_a_second_run_writes_the_same_rows_again_and_leaves_newer_ones(there: Sail, build: Build) -> None:
    store, stores = build(there.url)
    first = {each.view: each.rows for each in materialize(stores, full=True)}
    expected = _values(store)
    store.write_to_online_store(
        "profile", [{"user_id": 1, "region": "north", "country": "IT", "score": 9.0, "at": NOW}]
    )

    again = {each.view: each.rows for each in materialize(stores)}

    assert again == {**first, "profile": first["profile"] - 1}
    values = _values(store)
    assert values["country"][2] == "IT"
    assert values["twice"] == expected["twice"]


def test_a_variable_that_is_not_set_on_the_executors_is_one_clear_error(bare: Sail, build: Build) -> None:
    _, stores = build(bare.url)

    with pytest.raises(ConfigError, match=r"on an executor: the environment variable ASOF_TEST_BULK_REDIS is not set"):
        materialize(stores, views=["profile"], full=True)


def test_nothing_of_the_environment_is_sent(build: Build, redis: Redis) -> None:
    import pickle

    _, stores = build()
    assert stores.remote is not None

    assert redis.url.encode() not in pickle.dumps(stores.remote)
    assert json.dumps(redis.url).encode() not in pickle.dumps(stores.remote)
