"""A feature store on Sail against the same one on DuckDB: what users ask of history, and functions on executors."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.errors import DerivationError
from asof.offline.spark import engine, executors
from asof.offline.spark.executors import Executors
from tests.sail import running

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DEFINITIONS = """
from datetime import timedelta

import pandas as pd

from asof import Aggregation, Entity, FeatureView, Field, FileSource, RequestSource, Session, Sliding, on_demand_feature_view
from asof.types import Float64, Int64, String

user = Entity("user", join_keys=["user_id"])
orders = FileSource("orders.parquet", timestamp_field="at", created_timestamp_column="written")
latest = FeatureView("latest", entities=[user], source=orders, ttl="20d", schema=[
    Field("amount", Int64), Field("page", String)])
bought = FeatureView("bought", entities=[user], source=orders, aggregations=[
    Aggregation("", "count", name="orders_7d", window=Sliding("7d")),
    Aggregation("amount", "max", name="most", window=Sliding("7d"), where="page <> 'b'"),
    Aggregation("amount", "std", name="spread", window=Sliding("30d")),
    Aggregation("amount", "sum", name="session_sum", window=Session("1d")),
    Aggregation("page", "last", name="last_page")])
given = RequestSource("given", schema=[Field("limit", Int64)])
OFFSET = 2


def doubled(value):
    return value * OFFSET


@on_demand_feature_view(sources=[latest, given], schema=[Field("share", Float64), Field("late", Int64)], mode="pandas")
def compared(inputs):
    made = pd.DataFrame()
    made["share"] = doubled(inputs["amount"].astype("double[pyarrow]")) / inputs["limit"]
    made["late"] = inputs["event_timestamp"].dt.hour.astype("int64[pyarrow]")
    return made


@on_demand_feature_view(sources=[latest, given], schema=[Field("label", String)], mode="python")
def labelled(row):
    if row["limit"] == -1:
        raise ValueError("no limit below zero")
    return {"label": f"{row['page']}:{row['limit']}"}
"""
FEATURES = [
    "latest:amount", "latest:page", "bought:orders_7d", "bought:most", "bought:spread", "bought:session_sum",
    "bought:last_page",
]  # fmt: skip
DERIVED = ["compared:share", "labelled:label", "latest:amount", "compared:late"]


def opened(root: Path, offline: str) -> FeatureStore:
    """A store over a new repository, with these lines of `offline_store`."""
    (root / "features.py").write_text(DEFINITIONS)
    (root / "feature_store.yaml").write_text(
        f"project: shop\nclock: {NOW.isoformat()}\noffline_store:\n  path: archive\n  {offline}\n"
    )
    pq.write_table(pa.Table.from_pylist(_orders()), root / "orders.parquet")
    return FeatureStore(root)


@pytest.fixture(scope="module")
def remote() -> Iterator[str]:
    with running() as remote:
        yield remote


@pytest.fixture(scope="module")
def stores(remote: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FeatureStore, FeatureStore]]:
    """One on DuckDB, and one on Sail."""
    with (
        opened(tmp_path_factory.mktemp("duckdb"), "type: duckdb") as here,
        opened(tmp_path_factory.mktemp("spark"), f"type: spark\n  remote: {remote}") as there,
    ):
        here.apply()
        there.apply()
        yield here, there


def _orders() -> list[dict[str, Any]]:
    chosen = random.Random(4)
    moments = [NOW - timedelta(minutes=chosen.randrange(60 * 24 * 40)) for _ in range(300)]
    return [
        {
            "user_id": chosen.randrange(9), "at": at, "written": at + timedelta(hours=chosen.choice((0, 30))),
            "amount": chosen.choice((1, 2, 3, None)), "page": chosen.choice("abc"),
        }
        for at in moments
    ]  # fmt: skip


def _frame(rows: int = 40, **columns: Any) -> pa.Table:
    chosen = random.Random(5)
    return pa.table({
        "event_timestamp": pa.array([NOW - timedelta(hours=chosen.randrange(24 * 30)) for _ in range(rows)], pa.timestamp("us", "UTC")),
        "user_id": pa.array([chosen.randrange(11) for _ in range(rows)], pa.int64()), **columns,
    })  # fmt: skip


def _same(found: pa.Table, wanted: pa.Table) -> None:
    assert found.schema.equals(wanted.schema)
    assert found.drop_columns(["spread"]).equals(wanted.drop_columns(["spread"]))
    for mine, theirs in zip(found["spread"].to_pylist(), wanted["spread"].to_pylist(), strict=True):
        assert mine == theirs or mine == pytest.approx(theirs, rel=1e-9)


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


@pytest.mark.parametrize("known_at", [None, True, NOW - timedelta(days=9)])
def test_history_is_that_of_duckdb(stores: tuple[FeatureStore, FeatureStore], known_at: Any) -> None:
    wanted, found = (
        each.get_historical_features(_frame(), FEATURES, known_at=known_at).to_arrow() for each in stores
    )  # fmt: skip

    _same(found, wanted)


def test_a_read_of_a_range_comes_in_batches_and_as_sql(stores: tuple[FeatureStore, FeatureStore]) -> None:
    results = [
        each.get_historical_features(features=FEATURES, start_date=NOW - timedelta(days=5), end_date=NOW)
        for each in stores
    ]
    wanted, found = ([*each.to_batches(7)] for each in results)

    assert len(wanted) > 1 and all(each.num_rows <= 7 for each in found)
    _same(pa.Table.from_batches(found), pa.Table.from_batches(wanted))
    assert "named_struct" in results[1].to_sql() or "row_number" in results[1].to_sql()


def test_functions_run_on_the_executors_with_the_same_rows(
    stores: tuple[FeatureStore, FeatureStore], taken: list[str]
) -> None:
    frame = _frame(limit=pa.array(range(1, 41), pa.int64()), other=pa.array([None, "x"] * 20))
    wanted, found = (each.get_historical_features(frame, DERIVED).to_arrow() for each in stores)

    assert found.equals(wanted)
    assert taken == ["NumberedRows"]


def test_a_function_that_raises_says_the_same_on_an_executor(
    stores: tuple[FeatureStore, FeatureStore], taken: list[str]
) -> None:
    frame = _frame(1, limit=pa.array([-1], pa.int64()))
    said = []
    for each in stores:
        with pytest.raises(DerivationError, match="no limit below zero") as caught:
            each.get_historical_features(frame, DERIVED).to_arrow()
        message = re.sub(r"at \S*features.py", "at features.py", caught.value.message)
        said.append((message, caught.value.hint, caught.value.where))

    assert said[0] == said[1]
    assert taken == ["NumberedRows"]


def test_a_training_set_has_the_same_hash(stores: tuple[FeatureStore, FeatureStore]) -> None:
    frame = _frame(limit=pa.array(range(1, 41), pa.int64()))
    saved = [
        each.get_historical_features(frame, [*DERIVED, "bought:orders_7d", "bought:most"]).save("set", overwrite=True)
        for each in stores
    ]

    assert saved[0].content_hash == saved[1].content_hash
    assert saved[0].rows == saved[1].rows == 40


def test_a_training_set_of_an_sql_frame_is_the_same(stores: tuple[FeatureStore, FeatureStore]) -> None:
    sql = (
        'SELECT user_id, "at" AS event_timestamp, amount AS paid FROM orders WHERE amount > 1 ORDER BY "at", user_id, 3'
    )
    here, there = (
        each.get_historical_features(sql, FEATURES[:4]).save("of_sql", overwrite=True) for each in stores
    )  # fmt: skip

    assert here.rows == there.rows > 100
    assert here.content_hash == there.content_hash


@pytest.mark.parametrize("features", [DERIVED, FEATURES[:4]], ids=["functions", "none"])
def test_a_training_set_that_the_server_writes_is_the_same(
    stores: tuple[FeatureStore, FeatureStore],
    remote: str,
    tmp_path: Path,
    features: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "PIECE_ROWS", 7)
    frame = _frame(limit=pa.array(range(1, 41), pa.int64()), other=pa.array(["a", None] * 20))
    wanted = stores[0].get_historical_features(frame, features).save("set", overwrite=True)
    with opened(tmp_path, f"type: spark\n  remote: {remote}") as store:
        store.apply()
        saved = store.get_historical_features(frame, features).save("set")

        assert saved.content_hash == wanted.content_hash
        assert store.read_training_set("set").to_arrow().equals(stores[0].read_training_set("set").to_arrow())
        assert len(list((tmp_path / "archive").rglob("*.pieces/**/*.parquet"))) == 6
        if features == DERIVED:
            bad = frame.set_column(2, "limit", pa.array([-1] * 40, pa.int64()))
            with pytest.raises(DerivationError, match="no limit below zero"):
                store.get_historical_features(bad, features).save("bad")
        store.get_historical_features(frame, features).save("set", overwrite=True)
        assert len(list((tmp_path / "archive").rglob("*.pieces/**/*.parquet"))) == 6


def test_samples_explanations_and_profiles_are_those_of_duckdb(stores: tuple[FeatureStore, FeatureStore]) -> None:
    sampled = [each.sample("bought", n=20, seed=3).to_arrow() for each in stores]
    explained = [each.explain("bought:session_sum", {"user_id": 3}, at=NOW) for each in stores]
    profiled = [each.profile(["latest"]) for each in stores]

    assert sampled[0].num_rows == sampled[1].num_rows == 20 and sampled[0].schema == sampled[1].schema
    assert str(explained[0]) == str(explained[1])
    known = [
        [(each.feature, each.rows, each.nulls, each.min, each.max, each.mean) for each in report.features]
        for report in profiled
    ]
    assert known[0] == known[1]


def test_plan_says_what_the_executors_lack(remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, f"type: spark\n  remote: {remote}") as store:
        assert not [each for each in store.plan().findings if each.object == "offline store"]
    monkeypatch.setattr(executors, "versions_there", lambda session, modules: dict.fromkeys(modules, "0.1"))
    with FeatureStore(tmp_path) as store:
        (other,) = [each for each in store.plan().findings if each.object == "offline store"]
    monkeypatch.setattr(executors, "python_there", lambda session: "3.9.1")
    with FeatureStore(tmp_path) as store:
        (python,) = [each for each in store.plan().findings if each.object == "offline store"]

    assert other.severity == python.severity == "warning"
    assert "pandas 0.1" in other.found and "in this process" in other.found
    assert "the executors run Python 3.9" in python.found


def test_plan_on_a_server_that_does_not_respond_is_one_error(tmp_path: Path) -> None:
    with opened(tmp_path, "type: spark\n  remote: sc://127.0.0.1:1\n  retry_s: 0.2") as store:
        (found,) = store.plan().errors

    assert "127.0.0.1:1 does not respond" in found.found and "offline_store.remote" in found.hint
