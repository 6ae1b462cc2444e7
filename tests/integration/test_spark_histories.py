"""Random histories on servers of Spark Connect against DuckDB, value for value: a few each time, a million in soak."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import count

import pytest

from asof.offline.duckdb.engine import DuckDBEngine
from asof.offline.spark.engine import SparkOffline
from asof.sql.query import PointInTime
from asof.testing.history import NOON, reads
from tests.embedded.test_spark_sql import differences, entity_frame, history, latest_view, windowed_view

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ANSWERS = int(os.environ.get("ASOF_TEST_SPARK_ANSWERS", "1_000_000"))
"""How many values each server computes in `make soak`."""


@pytest.fixture
def duckdb() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=1)
    yield engine
    engine.close()


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkOffline]:
    """On the server of the parameter."""
    remote = request.getfixturevalue(request.param).url
    settings = {"spark.sql.shuffle.partitions": 4} if request.param == "spark" else {}
    # All but the shortest entity frames go through a file, as large ones do.
    store = SparkOffline(tmp_path_factory.mktemp("spark"), remote=remote, settings=settings, upload_bytes=1 << 16)
    yield store
    store.close()


def compared(store: SparkOffline, duckdb: DuckDBEngine, rng: random.Random, *, rows: int, asked: int) -> int:
    """Compare a read of latest values and one of windows; returns how many values were equal."""
    equal = 0
    for made in (latest_view(rng), windowed_view(rng)):
        given = history(rng, rows)
        frame = entity_frame(rng, asked, given)
        query = PointInTime(reads(made), known_at=rng.choice((None, None, True, NOON)))
        wanted = duckdb.run(query, {made.source.name: given}, spine=frame).to_arrow()
        found = store.run(query, {made.source.name: given}, spine=frame).to_arrow()

        assert found.schema.equals(wanted.schema)
        assert not differences(found.to_pylist(), wanted.to_pylist(), made)
        equal += asked * len(made.features)
    return equal


@pytest.mark.parametrize("store", ["sail", "sail_cluster"], indirect=True)
def test_a_random_history_reads_as_in_duckdb(store: SparkOffline, duckdb: DuckDBEngine) -> None:
    for seed in range(2):
        assert compared(store, duckdb, random.Random(f"through the store {seed}"), rows=300, asked=200)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("store", ["sail", "sail_cluster", "spark"], indirect=True)
def test_a_million_values_are_those_of_duckdb(store: SparkOffline, duckdb: DuckDBEngine) -> None:
    equal = 0
    for seed in count():
        if equal >= ANSWERS:
            break
        rng = random.Random(f"soak {seed}")
        # Many short histories find more than a long one; a long one has many equal times in it, and goes through files.
        size = rng.choice((20, 200, 2_000, 4_000))
        equal += compared(store, duckdb, rng, rows=size, asked=size)
        print(f"{equal:,} values equal after {seed + 1} histories", flush=True)
