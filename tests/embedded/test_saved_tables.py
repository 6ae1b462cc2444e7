"""Saved tables beside the archives, and archives whose source changes its columns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.errors import StorageError
from asof.offline.delta.archives import DeltaArchives
from asof.offline.protocol import Archive

EVENTS = Archive("shop", "events")
PLACE = {
    "partition": pa.int32(),
    "offset": pa.int64(),
    "ingested_at": pa.timestamp("us", "UTC"),
    "ingest_date": pa.date32(),
}


def rows(offset: int, **columns: pa.Array) -> pa.Table:
    place = {"partition": 0, "offset": offset, "ingested_at": 0, "ingest_date": date(2026, 1, 1)}
    return pa.table({**columns, **{name: pa.array([place[name]], kind) for name, kind in PLACE.items()}})


def reader(table: pa.Table) -> pa.RecordBatchReader:
    return table.to_reader(max_chunksize=2)


def test_a_saved_table_is_read_back_in_its_order_and_types(tmp_path: Path) -> None:
    store = DeltaArchives(tmp_path)
    table = pa.table({"n": pa.array([3, None, 1], pa.int32()), "at": pa.array([1, 2, 3], pa.timestamp("us", "UTC"))})

    store.save_table("shop", "march", reader(table))

    found = store.load_table("shop", "march")
    assert found is not None and found.read_all().equals(table)
    assert store.load_table("shop2", "march") is None
    store.drop_table("shop", "march")
    store.drop_table("shop", "march")
    assert store.load_table("shop", "march") is None


def test_a_save_that_fails_leaves_the_former_table_and_no_part_of_its_own(tmp_path: Path) -> None:
    store = DeltaArchives(tmp_path)
    table = pa.table({"n": [1, 2, 3]})
    store.save_table("shop", "march", reader(table))

    def broken() -> Iterator[pa.RecordBatch]:
        yield table.to_batches()[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="the disk is full"):
        store.save_table("shop", "march", pa.RecordBatchReader.from_batches(table.schema, broken()))
    found = store.load_table("shop", "march")
    assert found is not None and found.read_all().equals(table)
    assert [each.name for each in (tmp_path / "shop" / "tables").iterdir()] == ["march.parquet"]


def test_a_column_that_its_source_dropped_is_null_from_then_on(tmp_path: Path) -> None:
    store = DeltaArchives(tmp_path)
    store.append(EVENTS, rows(0, user=pa.array([7]), page=pa.array(["x"])), {0: 0})
    fewer = rows(1, user=pa.array([8]))
    store.create(EVENTS, fewer.schema)

    assert store.append(EVENTS, fewer, {0: 1}) == 1
    found = store.rows(EVENTS)
    assert found is not None
    pages = [pq.ParquetFile(path).read()["page"].to_pylist() for path in found.paths]
    assert sorted(pages, key=str) == [["x"], [None]]


def test_a_column_that_changes_its_type_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = DeltaArchives(tmp_path)
    store.append(EVENTS, rows(0, user=pa.array([7])), {0: 0})

    with pytest.raises(StorageError, match="holds column 'user' as int64; the source now declares string"):
        store.create(EVENTS, rows(1, user=pa.array(["seven"])).schema)


def test_several_values_of_a_column_are_forgotten_at_once(tmp_path: Path) -> None:
    store = DeltaArchives(tmp_path)
    store.append(EVENTS, pa.concat_tables([rows(i, user=pa.array([i])) for i in range(5)]), {0: 4})

    assert store.forget(EVENTS, {"partition": 0, "offset": [1, 3, 9]}) == 2
    assert store.forget(EVENTS, {"partition": 0, "offset": [1, 3, 9]}) == 0
    assert store.offsets(EVENTS, [0]) == {0: 4}
