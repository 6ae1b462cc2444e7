"""The offline stores' suite on Spark itself, on the JVM: a part of it with each run, all of it in `make soak`."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from asof.offline.duckdb.engine import DuckDBEngine
from asof.offline.spark.engine import SparkOffline
from asof.sql.query import PointInTime
from asof.testing.history import reads
from asof.testing.offline import OfflineStoreSuite
from tests.embedded.test_spark_sql import differences, entity_frame, history, latest_view, windowed_view
from tests.services import Spark

# Its start is part of the first test, and takes minutes beside others.
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

QUICK = {
    "test_an_event_exactly_at_t_counts",
    "test_a_value_exactly_as_old_as_the_ttl_is_known",
    "test_a_delay_shifts_the_answer",
    "test_a_window_starts_at_a_whole_hop",
    "test_a_late_event_joins_two_sessions",
    "test_where_filters_what_is_counted_and_not_what_keeps_a_session_alive",
    "test_of_two_events_of_one_key_and_one_time_the_later_created_wins",
    "test_corrections_count_under_min_max_and_last_n",
    "test_spine_rows_are_neither_dropped_nor_merged",
    "test_a_read_of_a_time_range_needs_no_entity_frame",
    "test_sql_over_the_sources_is_an_entity_frame",
}


@pytest.fixture(scope="module")
def shared(spark: Spark, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkOffline]:
    # Each statement over few rows is another one: to compile it would take longer than to run it.
    settings = {"spark.sql.codegen.wholeStage": False, "spark.sql.shuffle.partitions": 2}
    store = SparkOffline(tmp_path_factory.mktemp("spark"), remote=spark.url, settings=settings)
    yield store
    store.close()


class TestSpark(OfflineStoreSuite):
    @pytest.fixture
    def engine(self, shared: SparkOffline) -> SparkOffline:
        return shared


for name in {each for each in dir(OfflineStoreSuite) if each.startswith("test_")} - QUICK:
    setattr(TestSpark, name, None)


@pytest.mark.soak
@pytest.mark.parametrize("known_at", [None, True])
def test_a_random_history_reads_as_in_duckdb(shared: SparkOffline, known_at: bool | None) -> None:
    rng = random.Random(f"on the JVM {known_at}")
    duckdb = DuckDBEngine(threads=1)
    for made in (latest_view(rng), windowed_view(rng)):
        rows = history(rng, 80)
        frame = entity_frame(rng, 40, rows)
        query = PointInTime(reads(made), known_at=known_at)
        wanted = duckdb.run(query, {made.source.name: rows}, spine=frame).to_arrow().to_pylist()

        found = shared.run(query, {made.source.name: rows}, spine=frame).to_arrow().to_pylist()

        assert not differences(found, wanted, made)
    duckdb.close()


@pytest.mark.soak
class TestAllOnSpark(OfflineStoreSuite):
    @pytest.fixture(scope="class")
    def whole(self, spark: Spark, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkOffline]:
        store = SparkOffline(tmp_path_factory.mktemp("spark"), remote=spark.url)
        yield store
        store.close()

    @pytest.fixture
    def engine(self, whole: SparkOffline) -> SparkOffline:
        return whole
