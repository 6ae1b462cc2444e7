"""Traps that need a whole store: what is asked for, in its order; corrections; projects beside one another."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.errors import CheckFailed

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FEATURES = """
from datetime import timedelta
from asof import *
from asof.types import *
day = Sliding(timedelta(days=1))
user = Entity(name="user", join_keys=["user_id"])
sales = FileSource(name="sales", path="sales.parquet", timestamp_field="at", created_timestamp_column="created")
latest = FeatureView(name="latest", entities=[user], source=sales, schema=[Field("price", Int64), Field("shop", String)])
totals = FeatureView(name="totals", entities=[user], source=sales, aggregations=[
    Aggregation(function="count", window=day, name="sales_1d"),
    Aggregation(column="price", function="min", window=day, name="least_1d"),
    Aggregation(column="price", function="max", window=day, name="most_1d"),
    Aggregation(column="price", function="last_n", n=2, window=day, name="last_two"),
])

@on_demand_feature_view(sources=[totals], schema=[Field("spread", Int64)], mode="python")
def spread(row):
    return {"spread": None if row["most_1d"] is None else row["most_1d"] - row["least_1d"]}
"""
ASKED = ["totals:most_1d", "spread:spread", "latest:shop", "totals:sales_1d", "latest:price", "totals:least_1d"]


def write_sales(folder: Path, *rows: tuple[int, int, str, datetime, datetime]) -> None:
    users, prices, shops, at, created = zip(*rows, strict=True)
    times = pa.timestamp("us", "UTC")
    table = {
        "user_id": users,
        "price": prices,
        "shop": shops,
        "at": pa.array(at, times),
        "created": pa.array(created, times),
    }
    pq.write_table(pa.table(table), folder / "sales.parquet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return repository(tmp_path / "repo", "shop", tmp_path / "data")


def repository(folder: Path, project: str, data: Path) -> Path:
    folder.mkdir()
    (folder / "features.py").write_text(FEATURES)
    (folder / "feature_store.yaml").write_text(
        f"project: {project}\nregistry: {data}/registry.db\nonline_store:\n  path: {data}/online.db\n"
        f"offline_store:\n  path: {data}/archive\nlog:\n  path: {data}/log\n"
    )
    write_sales(folder, (1, 10, "a", NOON, NOON), (1, 30, "b", NOON + timedelta(hours=1), NOON + timedelta(hours=1)))
    return folder


def values(store: FeatureStore, at: datetime, *features: str) -> tuple[list[object], list[object]]:
    """What history and serving say of user 1 at `at`, where the store's clock stands."""
    trained = (
        store.get_historical_features({"user_id": [1], "event_timestamp": [at]}, features).to_arrow().to_pylist()[0]
    )
    served = store.get_online_features(features, [{"user_id": 1}]).to_dict()
    names = [each.split(":")[1] for each in features]
    return [trained[name] for name in names], [served[name][0] for name in names]


def test_features_come_in_the_order_asked_for(folder: Path) -> None:
    with FeatureStore(folder, clock=lambda: NOON + timedelta(hours=2)) as store:
        store.apply()
        store.materialize()
        for asked in itertools.islice(itertools.permutations(ASKED), 0, None, 97):
            names = [each.split(":")[1] for each in asked]
            served = store.get_online_features(asked, [{"user_id": 1}])
            assert list(served.to_dict()) == served.to_arrow().column_names == ["user_id", *names]
            assert list(served.statuses) == names
            trained = store.get_historical_features({"user_id": [1], "event_timestamp": [NOON]}, asked)
            assert trained.to_arrow().column_names == ["user_id", "event_timestamp", *names]


def test_features_come_in_the_order_asked_for_in_every_process(folder: Path) -> None:
    with FeatureStore(folder) as store:
        store.apply()
    program = (
        "import sys; from asof import FeatureStore; store = FeatureStore(sys.argv[1]); asked = sys.argv[2:]\n"
        "print(list(store.get_online_features(asked, [{'user_id': 1}]).to_dict()))\n"
        "print(list(store.get_online_features('totals', [{'user_id': 1}]).to_dict()))"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program, str(folder), *ASKED], check=True, capture_output=True, text=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert said[0] == said[1]
    assert said[0].splitlines()[0] == str(["user_id", *(each.split(":")[1] for each in ASKED)])


def test_corrections_under_min_max_and_last_n_reach_what_is_served(folder: Path) -> None:
    asked = ("totals:least_1d", "totals:most_1d", "totals:last_two", "totals:sales_1d")
    now = [NOON + timedelta(hours=1)]
    with FeatureStore(folder, clock=lambda: now[0]) as store:
        store.apply()
        store.materialize()
        assert values(store, now[0], *asked) == ([10, 30, [10, 30], 2],) * 2
        now[0] = NOON + timedelta(hours=3)
        later = NOON + timedelta(hours=2)
        # The greatest and the least are both outdone by rows that were written down later, one of them for an earlier time.
        write_sales(
            folder, (1, 10, "a", NOON, NOON), (1, 30, "b", NOON + timedelta(hours=1), NOON + timedelta(hours=1)),
            (1, 99, "b", NOON + timedelta(minutes=30), later), (1, 5, "c", later, later),
        )  # fmt: skip
        store.materialize()
        assert values(store, now[0], *asked) == ([5, 99, [30, 5], 4],) * 2


def test_an_event_later_than_the_last_batch_job_counts_once_it_is_materialized(folder: Path) -> None:
    asked = ("totals:sales_1d", "latest:price")
    now = [NOON + timedelta(minutes=30)]
    with FeatureStore(folder, clock=lambda: now[0]) as store:
        store.apply()
        store.materialize()
        assert values(store, now[0], *asked) == ([1, 10],) * 2, "the row of one o'clock lies in the future"
        now[0] = NOON + timedelta(hours=2)
        assert store.get_online_features(asked, [{"user_id": 1}]).to_dict()["sales_1d"] == [1]
        store.materialize_incremental()
        assert values(store, now[0], *asked) == ([2, 30],) * 2
        now[0] = NOON + timedelta(days=2)
        assert values(store, now[0], "totals:sales_1d") == ([0], [0]), "the window moves on without another run"


def test_a_teardown_leaves_a_project_with_a_longer_name_as_it_was(tmp_path: Path) -> None:
    at = NOON + timedelta(hours=2)
    stores = [
        FeatureStore(repository(tmp_path / project, project, tmp_path / "data"), clock=lambda: at)
        for project in ("shop", "shop_2", "shop2")
    ]
    for store in stores:
        store.apply()
        store.materialize()
    stores[0].teardown(purge=True)
    assert stores[0].list_feature_views() == []
    for store in stores[1:]:
        assert [each.name for each in store.list_feature_views()] == ["latest", "totals"]
        assert values(store, at, "totals:sales_1d", "latest:price") == ([2, 30],) * 2
    for store in stores:
        store.close()


ODD_NAMES = [
    "ts",
    "created",
    "arrived",
    "known",
    "part",
    "place",
    "mark",
    "n",
    "k0",
    "c0",
    "f0",
    "row",
    "source_row",
    "own_n",
    "rowid",
    "offset",
    "select",
]
"""Names that queries use themselves, and one that SQL does."""


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_column_may_be_called_as_asof_calls_its_own(name: str, tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", "shop", tmp_path / "data")
    (folder / "features.py").write_text(
        FEATURES.split("@on_demand")[0].replace("price", name).replace('created_timestamp_column="created"', 'lag="1d"')
    )
    times = pa.array([NOON, NOON + timedelta(hours=1)], pa.timestamp("us", "UTC"))
    pq.write_table(
        pa.table({"user_id": [1, 1], name: [10, 30], "shop": ["a", "b"], "at": times}), folder / "sales.parquet"
    )
    at = NOON + timedelta(hours=2)
    with FeatureStore(folder, clock=lambda: at) as store:
        try:
            store.apply()
        except CheckFailed as refused:
            assert name in str(refused) and "rename" in str(refused)
            return
        store.materialize()
        asked = (f"latest:{name}", "totals:least_1d", "totals:last_two", "totals:sales_1d")
        assert values(store, at, *asked) == ([30, 10, [10, 30], 2],) * 2
