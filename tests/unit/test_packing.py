"""Packed rows: one event and several make the same of a row."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from asof.values.packing import Version, merge_versions

MOMENTS = st.integers(0, 6)
EVENTS = st.builds(
    Version, MOMENTS, st.integers(0, 1), st.integers(0, 2), st.integers(0, 1),
    st.none() | st.tuples(st.sampled_from([1, None, "a"]), st.just(2.5)).map(list),
)  # fmt: skip


@given(st.lists(st.tuples(EVENTS, MOMENTS), max_size=6))
def test_one_event_makes_of_a_row_what_the_same_event_twice_makes_of_it(life: list[tuple[Version, int]]) -> None:
    row = None
    for event, clock in life:
        after = merge_versions(row, [event], width=2, clock=clock)  # its own way, for most rows
        assert after == merge_versions(row, [event, event], width=2, clock=clock)
        row = after or row
