"""DuckDB passes the conformance suite of offline stores, and fails in our words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from asof.definitions import Field
from asof.dtypes import Int64
from asof.errors import SourceError, StorageError
from asof.offline.duckdb import DuckDBEngine
from asof.sources.protocol import Batches, Files, Need
from asof.sql import PointInTime
from asof.testing.offline import NOON, OfflineStoreSuite, events, reads, spine, view


@pytest.fixture(scope="module")
def shared() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=2)
    yield engine
    engine.close()


class TestDuckDB(OfflineStoreSuite):
    @pytest.fixture
    def engine(self, shared: DuckDBEngine) -> DuckDBEngine:
        return shared


LATEST = PointInTime(reads(view(Field("value", Int64))))


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_of_equal_rows_in_files_the_last_one_wins(shared: DuckDBEngine, tmp_path: Path, kind: str) -> None:
    for name, rows in (("z", events((1, NOON, 9), (1, NOON, 3))), ("a", events((1, NOON, 5), (1, NOON, 4)))):
        write = pq.write_table if kind == "parquet" else pyarrow.csv.write_csv
        write(rows, tmp_path / f"{name}.{kind}")
    files = Files((str(tmp_path / f"z.{kind}"), str(tmp_path / f"a.{kind}")), kind)

    assert shared.run(LATEST, {"events": files}, spine=spine((1, NOON))).to_arrow().column("value").to_pylist() == [4]


def test_files_can_be_the_entity_frame(shared: DuckDBEngine, tmp_path: Path) -> None:
    frame = spine(*((number % 2, NOON + number) for number in range(9)))
    pq.write_table(frame, tmp_path / "frame.parquet")

    answer = shared.run(
        LATEST, {"events": events((1, NOON, 7))}, spine=Files((str(tmp_path / "frame.parquet"),))
    ).to_arrow()

    assert answer.select(frame.schema.names).equals(frame)
    assert answer.column("value").to_pylist() == [None, 7] * 4 + [None]


def test_fetched_sources_are_asked_only_for_the_columns_and_keys_that_are_needed(shared: DuckDBEngine) -> None:
    rows = events((1, NOON, 7)).append_column("unused", pa.array(["x"]))
    asked: list[Need] = []

    def fetch(need: Need) -> pa.RecordBatchReader:
        asked.append(need)
        return rows.select(need.columns).to_reader()

    answer = shared.run(LATEST, {"events": Batches(rows.schema, fetch)}, spine=spine((1, NOON))).to_arrow()

    assert answer.column("value").to_pylist() == [7]
    assert [set(need.columns) for need in asked] == [{"user", "happened", "value"}]
    assert [need.keys["user"].to_pylist() for need in asked if need.keys] == [[1]]


def test_a_read_of_a_time_range_fetches_what_happened_before_it(shared: DuckDBEngine) -> None:
    rows = events((1, NOON - 5, 7), (1, NOON, None))
    asked: list[Need] = []

    def fetch(need: Need) -> pa.RecordBatchReader:
        asked.append(need)
        return rows.to_reader()

    shared.run(replace(LATEST, start=NOON), {"events": Batches(rows.schema, fetch)}).to_arrow()

    assert [need.start for need in asked] == [None]


@pytest.mark.parametrize("name", ["a[1]", "a*", "a?"])
def test_a_path_with_signs_of_a_pattern_is_that_file_alone(shared: DuckDBEngine, tmp_path: Path, name: str) -> None:
    for each, value in (("a1", 1), (name, 2)):
        pq.write_table(events((1, NOON, value)), tmp_path / f"{each}.parquet")
    files = Files((str(tmp_path / f"{name}.parquet"),))

    assert shared.run(LATEST, {"events": files}, spine=spine((1, NOON))).to_arrow().column("value").to_pylist() == [2]


def test_a_missing_column_is_named_with_its_source(shared: DuckDBEngine) -> None:
    with pytest.raises(SourceError, match="source 'events' has no column 'value'"):
        shared.run(
            LATEST,
            {"events": events((1, NOON, 7)).rename_columns(["user", "happened", "valu"])},
            spine=spine((1, NOON)),
        ).to_arrow()


def test_a_damaged_file_is_a_source_error(shared: DuckDBEngine, tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"not parquet at all")

    with pytest.raises(SourceError):
        shared.run(LATEST, {"events": Files((str(tmp_path / "bad.parquet"),))}, spine=spine((1, NOON))).to_arrow()


def test_too_little_memory_is_a_storage_error(tmp_path: Path) -> None:
    engine = DuckDBEngine(threads=1, memory_limit="1MB", temp_directory="")
    rows = events(*((number, NOON + number, number) for number in range(100_000)))

    with pytest.raises(StorageError, match="memory"):
        engine.run(LATEST, {"events": rows}, spine=spine((1, NOON))).to_arrow()


def test_an_unknown_option_names_the_store() -> None:
    with pytest.raises(StorageError, match="DuckDB does not start"):
        DuckDBEngine(memory_limit="lots")


def test_two_reads_at_once_do_not_see_each_other(shared: DuckDBEngine) -> None:
    frame = spine((1, NOON), (2, NOON))
    first = shared.run(LATEST, {"events": events((1, NOON, 7))}, spine=frame).reader(batch_rows=1)
    second = shared.run(LATEST, {"events": events((1, NOON, 8))}, spine=frame).reader(batch_rows=1)

    pairs = [
        (one, other)
        for a, b in zip(first, second, strict=True)
        for one, other in zip(a.column("value").to_pylist(), b.column("value").to_pylist(), strict=True)
    ]

    assert pairs == [(7, 8), (None, None)]
