"""Where sorted files are cut into ranges of their key."""

from __future__ import annotations

import pytest

from asof.offline.duckdb.key_ranges import RowGroup, are_even, cuts


def a_file(groups: int, *, rows: int = 100, first: int = 0) -> list[RowGroup[int]]:
    """Row groups of a file that is sorted by its key, of which each has 10 values."""
    return [(first + 10 * number, first + 10 * number + 9, rows) for number in range(groups)]


def test_ranges_have_about_as_many_rows_each() -> None:
    assert cuts(a_file(12), 3) == [40, 80]
    assert cuts([*a_file(12), *a_file(12, rows=300)], 4) == [30, 60, 90]
    # Most rows are those of the first keys.
    assert cuts([*a_file(12, rows=600), *a_file(24, first=120)], 3) == [60, 110]


def test_flushes_that_are_not_sorted_yet_do_not_move_the_cuts() -> None:
    flushes = [(0, 119, 10) for _ in range(20)]

    assert cuts([*a_file(12), *flushes], 3) == [40, 80]


@pytest.mark.parametrize(
    ("why", "groups", "of"),
    [
        ("few row groups", a_file(5), 3),
        ("no order", [(0, 99, 100)] * 12, 3),
        ("mostly flushes", [*a_file(12), *[(0, 119, 100)] * 20], 3),
        ("one key with most rows", [(5, 5, 100)] * 12 + a_file(2), 3),
        ("no row groups", [], 3),
    ],
)
def test_there_are_no_ranges_where_they_would_not_pay(why: str, groups: list[RowGroup[int]], of: int) -> None:
    assert cuts(groups, of) == [], why


def test_ranges_are_even_where_none_has_many_more_rows_than_the_mean() -> None:
    assert are_even([100, 90, 110]) and are_even([0, 0]) and are_even([1, 0, 0])
    assert not are_even([300, 0, 0])
