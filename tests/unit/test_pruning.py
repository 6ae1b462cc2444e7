"""Which files of an archive are left out of a read."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from asof.definitions import Field, LogSource
from asof.offline.pruning import rows_needed, rows_within
from asof.sources.protocol import Files, Relation, ScanRequest
from asof.timing import SECOND, micros
from asof.types import Int64, String, Timestamp

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
AT = Timestamp.arrow()


def files(**bounds: list[tuple[Any, Any]]) -> Files:
    """Files a, b, c… with the least and greatest value of each column."""
    columns = {}
    for name, ends in bounds.items():
        for index, end in enumerate(("min", "max")):
            values = [each[index] for each in ends]
            kind = AT if any(isinstance(value, dt.datetime) for value in values) else None
            columns[f"{end}.{name}"] = pa.array(values, kind)
    table = pa.table(columns)
    return Files(tuple("abcdef"[: table.num_rows]), bounds=table)


def left(found: Files) -> str:
    assert found.bounds is not None and found.bounds.num_rows == len(found.paths)
    return "".join(found.paths)


USERS = files(user=[(0, 9), (10, 19), (20, 29), (None, None)])


@pytest.mark.parametrize(
    ("keys", "expected"),
    [([5], "ad"), ([9, 10], "abd"), ([25, 30], "cd"), ([30], "d"), ([-1], "d"), ([None, 15], "bd"), ([], "abcd")],
)
def test_files_without_a_key_are_left_out(keys: list[int | None], expected: str) -> None:
    assert left(rows_within(USERS, keys={"user": pa.array(keys, pa.int64())})) == expected


def test_texts_are_compared_by_code_point_and_long_ones_bound_nothing() -> None:
    texts = files(user=[("A", "Z"), ("a", "z"), ("é", "é"), ("a", "b" * 32)])

    assert left(rows_within(texts, keys={"user": pa.array(["m"])})) == "bd"
    assert left(rows_within(texts, keys={"user": pa.array(["B", "é"])})) == "acd"


@pytest.mark.parametrize("values", [pa.array(["5"]), pa.array([5.0]), pa.array([b"5"]), pa.array([NOON], AT)])
def test_values_of_other_types_leave_nothing_out(values: pa.Array) -> None:
    assert left(rows_within(USERS, keys={"user": values})) == "abcd"
    assert left(rows_within(USERS, keys={"unknown": values})) == "abcd"


def test_one_file_is_left_where_none_can_have_rows() -> None:
    assert left(rows_within(files(user=[(0, 1), (2, 3)]), keys={"user": pa.array([7])})) == "a"


def test_ranges_include_their_ends_and_may_be_open() -> None:
    found = files(offset=[(0, 9), (10, 19), (20, None), (None, 5)], partition=[(0, 0), (0, 1), (1, 1), (0, 0)])

    assert left(rows_within(found, {"offset": (9, 10)})) == "ab"
    assert left(rows_within(found, {"offset": (19, None)})) == "bc"
    assert left(rows_within(found, {"offset": (None, 4)})) == "ad"
    assert left(rows_within(found, {"offset": (0, 100), "partition": (1, 1)})) == "bc"


def source(**more: Any) -> LogSource:
    return LogSource("events", schema=[Field("user", String), Field("at", more.pop("dtype", Timestamp))], **more)


def test_times_are_those_of_events_with_a_margin_for_rounded_bounds() -> None:
    times = files(at=[(NOON, NOON + HOUR), (NOON + 2 * HOUR, NOON + 3 * HOUR), (None, None)])
    made = source(timestamp_field="at")

    def needed(start: dt.datetime | None, end: dt.datetime | None) -> str:
        need = ScanRequest(start=start and micros(start), end=end and micros(end))
        return left(rows_needed(times, made, need))

    assert needed(None, NOON) == "ac" and needed(NOON + 2 * HOUR, None) == "bc"
    just_after = NOON + HOUR + dt.timedelta(microseconds=500)
    assert needed(just_after, just_after) == "ac"
    later = NOON + HOUR + dt.timedelta(milliseconds=2)
    assert needed(later, later) == "c"
    assert needed(None, None) == "abc"


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
def test_times_in_units_are_found_in_their_units(unit: str, per_second: int) -> None:
    made = source(timestamp_field="at", timestamp_unit=unit, dtype=Int64)
    times = files(at=[(second * per_second, (second + 1) * per_second) for second in (0, 10_000, 20_000)])

    found = rows_needed(times, made, ScanRequest(start=10_000 * SECOND, end=10_001 * SECOND))

    assert left(found) == "b"


def test_what_is_in_no_files_or_has_no_bounds_is_returned_as_it_is() -> None:
    keys = {"user": pa.array([5])}
    for rows in (None, Relation("events"), Files(("a", "b")), replace(USERS, paths=("a",), bounds=USERS.bounds)):
        assert rows_within(rows, keys=keys) is rows


def test_the_values_of_folders_stay_with_their_files(tmp_path: Path) -> None:
    found = replace(USERS, partitions=pa.table({"day": [1, 2, 3, 4]}))

    chosen = rows_within(found, keys={"user": pa.array([15])})

    assert chosen.partitions is not None and chosen.partitions["day"].to_pylist() == [2, 4]
