"""DuckDB as an offline store: what only it can do, and failures in our words."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from asof.connections.duckdb import Evaluator, SpillFolder
from asof.definitions import Field
from asof.dtypes import Int64
from asof.errors import AsofError, SourceError, StorageError
from asof.offline.duckdb.engine import DuckDBEngine
from asof.sources.protocol import Batches, Files, ScanRequest
from asof.sql.query import PointInTime
from asof.testing.offline import NOON, events, reads, spine, view


@pytest.fixture(scope="module")
def shared() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=2)
    yield engine
    engine.close()


LATEST = PointInTime(reads(view(Field("value", Int64))))


def test_of_equal_rows_in_files_the_last_one_wins(shared: DuckDBEngine, tmp_path: Path) -> None:
    for name, rows in (("z", events((1, NOON, 9), (1, NOON, 3))), ("a", events((1, NOON, 5), (1, NOON, 4)))):
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    files = Files((str(tmp_path / "z.parquet"), str(tmp_path / "a.parquet")))

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
    asked: list[ScanRequest] = []

    def fetch(need: ScanRequest) -> pa.RecordBatchReader:
        asked.append(need)
        return rows.select(need.columns).to_reader()

    answer = shared.run(LATEST, {"events": Batches(rows.schema, fetch)}, spine=spine((1, NOON))).to_arrow()

    assert answer.column("value").to_pylist() == [7]
    assert [set(need.columns) for need in asked] == [{"user", "happened", "value"}]
    assert [need.keys["user"].to_pylist() for need in asked if need.keys] == [[1]]


def test_a_read_of_a_time_range_fetches_what_happened_before_it(shared: DuckDBEngine) -> None:
    rows = events((1, NOON - 5, 7), (1, NOON, None))
    asked: list[ScanRequest] = []

    def fetch(need: ScanRequest) -> pa.RecordBatchReader:
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

    with pytest.raises(StorageError, match=r"more than its memory_limit \([\d.]+ \w+ of 976.5 KiB used\)"):
        engine.run(LATEST, {"events": rows}, spine=spine((1, NOON))).to_arrow()


def test_a_full_disk_for_what_spills_is_a_storage_error(tmp_path: Path) -> None:
    engine = DuckDBEngine(threads=1, memory_limit="40MB", temp_directory=str(tmp_path))
    with engine.session() as cursor:
        # As on a disk with so much room.
        cursor.execute("SET max_temp_directory_size = '1MB'")
    rows = events(*((number, NOON + number, number) for number in range(1_000)))
    many = "SELECT a.* FROM events a CROSS JOIN range(2000) ORDER BY a.value"

    with pytest.raises(StorageError, match="the disk for data beyond memory_limit is full") as caught:
        engine.sql(many, {"events": rows}).to_arrow()

    assert "larger disk" in str(caught.value)


SPILLS = """
import sys
from pathlib import Path
from asof.offline.duckdb.engine import DuckDBEngine
engine = DuckDBEngine(threads=1, memory_limit="60MB", temp_directory=sys.argv[1])
with engine.session() as cursor:
    cursor.execute("CREATE TEMP TABLE large AS SELECT range AS i, repeat(range::text, 9) AS t FROM range(2000000)")
    (folder,) = Path(sys.argv[2]).iterdir()
    print(oct(folder.stat().st_mode)[-4:], any(each.stat().st_size > 0 for each in folder.iterdir()))
"""


@pytest.mark.parametrize("is_named", [True, False])
def test_what_spills_is_its_owner_s_alone_and_gone_with_the_process(tmp_path: Path, is_named: bool) -> None:
    place = tmp_path / "spill"
    place.mkdir(mode=0o777)
    ran = subprocess.run(
        [sys.executable, "-c", SPILLS, str(place) if is_named else "", str(place)],
        env={**os.environ, "TMPDIR": str(tmp_path if is_named else place)}, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert ran.stdout == "0700 True\n"
    assert list(place.iterdir()) == []


def test_each_engine_spills_into_a_folder_of_its_own_that_goes_when_it_is_closed(tmp_path: Path) -> None:
    engines = [DuckDBEngine(temp_directory=str(tmp_path / "not" / "there")) for _ in range(2)]
    asked = "SELECT current_setting('temp_directory') AS folder"
    folders = [engine.sql(asked, {}).to_arrow()["folder"][0].as_py() for engine in engines]

    assert len(set(folders)) == 2
    assert {Path(each).parent for each in folders} == {tmp_path / "not" / "there"}
    for engine, folder in zip(engines, folders, strict=True):
        assert Path(folder).is_dir()
        engine.close()
        assert not Path(folder).exists()


FORKS = """
import os, sys
from asof.connections.duckdb import SpillFolder
spill = SpillFolder(sys.argv[1])
child = os.fork()
if not child:
    sys.exit()
os.waitpid(child, 0)
print(os.path.isdir(spill.path))
"""


def test_a_forked_child_that_ends_leaves_its_parent_s_spill_folder(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path)], capture_output=True, text=True, check=True
    )  # fmt: skip

    assert ran.stdout == "True\n"
    assert list(tmp_path.iterdir()) == []


def test_a_spill_folder_is_closed_once_and_again(tmp_path: Path) -> None:
    spill = SpillFolder(str(tmp_path))
    (Path(spill.path) / "rows.tmp").write_text("rows")

    spill.close()
    spill.close()
    assert list(tmp_path.iterdir()) == []


def test_expressions_do_not_spill_where_the_process_runs() -> None:
    evaluator = Evaluator()
    found = evaluator.evaluate(pa.table({"a": [1]}), {"place": "current_setting('temp_directory')"})
    place = Path(found["place"][0].as_py())

    assert place.is_absolute() and place.stat().st_mode & 0o777 == 0o700
    evaluator.close()
    assert not place.exists()


def test_a_place_for_spilling_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match="temp_directory .*/file/below"):
        DuckDBEngine(temp_directory=str(tmp_path / "file" / "below"))


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


def test_a_read_that_runs_while_the_engine_is_closed_is_interrupted() -> None:
    engine = DuckDBEngine()
    outcome: list[BaseException] = []
    began = threading.Event()
    schema = pa.schema([("n", pa.int64())])

    def opened(request: ScanRequest) -> pa.RecordBatchReader:
        began.set()
        return pa.RecordBatchReader.from_batches(schema, iter([pa.record_batch([[7]], schema)]))

    def read() -> None:
        try:
            # Hours of it.
            hours = "SELECT count(*) FROM range(100000000) a, range(1000000) b, numbers WHERE a.range % n = 3"
            engine.sql(hours, {"numbers": Batches(schema, opened)}).to_arrow()
        except BaseException as error:
            outcome.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    assert began.wait(60)

    engine.close()
    engine.close()

    reading.join(60)
    assert not reading.is_alive() and len(outcome) == 1 and isinstance(outcome[0], AsofError)


def test_a_result_that_is_half_read_does_not_hold_up_the_end(tmp_path: Path) -> None:
    engine = DuckDBEngine()
    batches = iter(engine.sql("SELECT * FROM range(10000000)", {}).reader(1000))
    next(batches)

    engine.close()

    with pytest.raises(AsofError):
        for _ in batches:
            pass


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("error('asof: column x holds 7')", "column x holds 7"),
        ("CAST('x' AS INT)", "a value cannot be converted: Conversion Error: Could not convert string 'x' to INT32"),
        ("CAST(9000000000000 AS BIGINT) * (range + 9000000000000)", "Out of Range Error: Overflow in multiplication"),
    ],
)
def test_a_result_that_fails_after_its_first_rows_says_what_one_says_that_fails_at_once(sql: str, message: str) -> None:
    engine = DuckDBEngine()
    late = f"SELECT CASE WHEN range = 4000000 THEN CAST({sql} AS VARCHAR) END AS a FROM range(4000001)"
    reader = engine.sql(late, {}).reader(10_000)
    next(iter(reader))
    with pytest.raises(SourceError, match=re.escape(message)):
        for _ in reader:
            pass
    engine.close()
