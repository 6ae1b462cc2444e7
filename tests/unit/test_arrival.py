"""Arrival as whole numbers: one row's, many rows' and SQL's are the same, and compare as the design says."""

from __future__ import annotations

import random

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof.aggregation import Events, RowLayout, answer, decode, encode, fold
from asof.aggregation.rows import in_format_of
from asof.definitions import Aggregation, Session, Sliding
from asof.dtypes import Int64, String
from asof.flows.rows.arrival import (
    ORIGIN,
    STAMP,
    Arrivals,
    first_origin,
    origin,
    origin_header,
    origins_of,
    stamp_header,
    stamps_of,
)
from asof.sql.arrival import TOPIC, Arrival, arrival_terms, order_of
from asof.sql.duckdb.dialect import DUCKDB
from asof.timing import LATEST, micros
from asof.values.packing import Version, merge_versions, versions_of

STAMPS = st.one_of(st.just(0), st.integers(1, 3), st.just(TOPIC - 1))
SLOWLY = settings(deadline=None)
TOPICS = st.sampled_from([0, 1, 2, 2044])
PLACES = st.one_of(
    st.tuples(st.just(-1), st.integers(0, 3), st.just(0)),
    st.tuples(
        st.builds(lambda topic, number: topic * 1_000_000 + number, TOPICS, st.sampled_from([0, 1, 499_999, 500_000])),
        st.sampled_from([0, 1, 2, 2**40]), STAMPS,
    ),
)  # fmt: skip


def as_designed(partition: int, offset: int, stamp: int) -> tuple[int, ...]:
    topic = -1 if partition == -1 else partition // 1_000_000
    return (topic, 1, stamp, partition, offset) if stamp else (topic, 0, offset, partition)


@SLOWLY
@given(st.lists(PLACES, min_size=1, max_size=12))
def test_arrivals_compare_as_the_design_says(positions: list[tuple[int, int, int]]) -> None:
    made = sorted(positions, key=lambda place: Arrival.of(*place))

    assert [as_designed(*place) for place in made] == sorted(as_designed(*place) for place in positions)
    assert [Arrival.of(*place).place for place in positions] == [place[:2] for place in positions]
    assert max(Arrival.of(*place).era for place in positions) < 2**63


@SLOWLY
@given(st.lists(PLACES, min_size=1, max_size=12))
def test_many_rows_and_sql_make_what_one_row_does(positions: list[tuple[int, int, int]]) -> None:
    columns = [np.array(column) for column in zip(*positions, strict=True)]
    expected = [Arrival.of(*place) for place in positions]

    words = Arrivals.of(columns[0].astype(np.int32), columns[1], columns[2]).columns
    assert [Arrival(*each) for each in zip(*(word.tolist() for word in words), strict=True)] == expected

    rows = pa.table({
        "partition": pa.array(columns[0], pa.int32()), "offset": pa.array(columns[1], pa.int64()),
        "asof_pushed_at": pa.array(columns[2], pa.int64(), mask=columns[2] == 0),
        "asof_origin_partition": pa.nulls(len(positions), pa.int32()), "asof_origin_offset": pa.nulls(len(positions), pa.int64()),
    })  # fmt: skip
    terms = arrival_terms(set(rows.column_names), DUCKDB)
    found = duckdb.sql(f"SELECT {', '.join(terms.values())} FROM rows").fetchall()
    assert found == expected


@pytest.mark.parametrize(
    ("partitions", "unstamped", "order"),
    [
        ([0, 3], 9, "offsets"), ([0, 3], 0, "stamps"), ([0, 3], 1, ""), ([1_000_000, 1_000_004], 9, "offsets"),
        ([0, 1_000_000], 9, ""), ([-1, 0], 9, ""), ([0, 500_000], 9, ""), ([-1], 9, ""), ([], 0, ""),
    ],
)  # fmt: skip
def test_an_archive_of_one_topic_is_ordered_in_a_short_way(partitions: list[int], unstamped: int, order: str) -> None:
    assert order_of(partitions, rows=9, unstamped=unstamped) == order


def test_a_stamp_is_read_as_it_was_written_and_anything_else_is_none() -> None:
    stamp = micros("2026-01-01T12:00:00Z")
    odd = [((STAMP, b"x"),), ((STAMP, None),), ((STAMP, b"-1"),), ((STAMP, b"0"),), ((STAMP, b"%d" % LATEST),), ()]

    assert stamps_of([stamp_header(stamp), (("batch", b"1"), *stamp_header(stamp)), *odd]) is not None
    found = stamps_of([stamp_header(stamp), (("batch", b"1"), *stamp_header(stamp)), *odd])
    assert found is not None and found.tolist() == [stamp, stamp, 0, 0, 0, 0, 0, 0]
    assert stamps_of(odd) is None and stamps_of(None) is None


def test_a_letter_that_was_replayed_twice_has_the_place_of_its_message() -> None:
    own = (ORIGIN, b"a header of the message's own")
    once = (own, origin_header((3, 17)))
    twice = (*once, origin_header((500_000, 4)))

    assert (origin(once), first_origin(once)) == ((3, 17), (3, 17))
    assert (origin(twice), first_origin(twice)) == ((500_000, 4), (3, 17))
    assert origin((own,)) is first_origin((own,)) is None
    positions = origins_of([twice, ()], np.array([500_000, 500_000]), np.array([9, 10]))
    assert positions is not None and [each.tolist() for each in positions] == [[3, 500_000], [17, 10]]


# -- packed rows -------------------------------------------------------------------------------------------------------

PLACE = st.tuples(st.sampled_from([-1, 0, 1, 1_000_000]), st.integers(0, 3))
TIMES = st.integers(0, 4)
LIVES = st.lists(
    st.tuples(TIMES, st.integers(0, 1), PLACE, st.none() | st.integers(0, 9).map(lambda value: [value])), max_size=6,
    unique_by=lambda each: each[2],
)  # fmt: skip


@SLOWLY
@given(LIVES, st.integers(0, 6), st.data())
def test_rows_of_an_earlier_version_go_on_in_the_order_of_arrival(
    life: list[tuple[int, int, tuple[int, int], list[int] | None]], begun: int, data: st.DataObject
) -> None:
    """Some rows of a key are written as an earlier version did, then the others as this one does, at later and later times."""
    now = [Version(time, created, era, within, values) for time, created, (era, *within), values in _arrived(life)]
    old = [Version(time, created, offset, partition, values) for time, created, (partition, offset), values in life]
    row = None
    for version in old[:begun]:
        row = merge_versions(row, [version], width=1, clock=data.draw(TIMES), format=1) or row
    kept = set() if row is None else {each.place for each in versions_of(row, 1)}
    for version in now[begun:]:
        row = merge_versions(row, [version], width=1, clock=5) or row

    left = [each for each in now if each.place in kept or each in now[begun:]]
    if now[begun:] and row is not None:
        assert versions_of(row, 1)[-1].place == max(left, key=lambda each: each[:4]).place


def _arrived(
    life: list[tuple[int, int, tuple[int, int], list[int] | None]],
) -> list[tuple[int, int, Arrival, list[int] | None]]:
    return [(time, created, Arrival.of(*place), values) for time, created, place, values in life]


@pytest.mark.parametrize("created", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_states_of_the_earlier_format_become_what_this_format_makes_of_their_events(seed: int, created: bool) -> None:
    rng = random.Random(seed)
    functions = [
        ("price", "first"), ("price", "last"), ("name", "last"), ("name", "last_n"), ("price", "sum"), ("", "count"),
        ("name", "count_distinct"),
    ]  # fmt: skip
    windows = [None, Sliding("1h"), Session("30m")]
    made = tuple(
        Aggregation(column, function, name=f"{function}_{column}_{i}", window=window, **({"n": 3} if function == "last_n" else {}))
        for column, function in functions for i, window in enumerate(windows)
    )  # fmt: skip
    types = {"price": Int64, "name": String}
    typed = tuple(each.with_dtype(each.output_dtype(types.get(each.column))) for each in made)
    layout = RowLayout.of(typed, types, created=created, arrival=True)
    n, keys = 60, 4
    minutes = np.array([rng.randrange(90) for _ in range(n)], dtype=np.int64)
    partition, offset = np.array([rng.randrange(2) for _ in range(n)]), np.arange(n, dtype=np.int64)

    def events(*, arrival: bool) -> Events:
        names = {"price": np.arange(n), "name": pa.array([f"n{i}" for i in range(n)])}
        values = [
            (None if not column else names[column], np.array([i % 5 > 0 or not column for i in range(n)]))
            for column, _ in layout.inputs
        ]
        words = Arrivals.of(partition, offset).columns if arrival else None
        return Events(offset % keys, minutes * 60_000_000, minutes * 60_000_000, partition, offset, values, words)

    clock = 95 * 60_000_000
    earlier = layout.earlier
    assert (earlier.format, layout.format) == (1, 2) and earlier.fingerprint != layout.fingerprint
    nothing = [None] * keys
    old = encode(earlier, fold(earlier, decode(earlier, nothing), events(arrival=False), clock_us=clock)[0])
    new = encode(layout, fold(layout, decode(layout, nothing), events(arrival=True), clock_us=clock)[0])

    # Of one topic without stamps both orders are one.
    assert answer(earlier, old, clock).columns == answer(layout, new, clock).columns
    mixed = [old[0], new[1], None, old[3]]
    for rows in (mixed, mixed * 20):
        expected = answer(layout, [new[0], new[1], None, new[3]] * (len(rows) // 4), clock)
        assert answer(layout, rows, clock) == expected
    assert in_format_of(layout, old) == new


def test_a_layout_without_first_or_last_values_is_the_same_in_both_formats() -> None:
    made = (Aggregation("", "count", name="n").with_dtype(Int64),)

    assert RowLayout.of(made, {}, arrival=True) is RowLayout.of(made, {})
