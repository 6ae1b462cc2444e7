"""The packed online state against the brute-force oracle, on generated histories."""

import math
from dataclasses import dataclass, field, replace
from datetime import UTC
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof import dtypes
from asof.aggregation import (
    MAX_ROW_BYTES,
    NEVER,
    Events,
    FoldCounts,
    RowLayout,
    answer,
    answer_few,
    decode,
    encode,
    finish,
    fold,
    merge,
    with_offsets,
)
from asof.definitions import Aggregation, Session, Sliding
from asof.errors import DefinitionError, StorageError
from tests.oracle import aggregate, same

KEYS = 3
S = 1_000_000
COLUMNS = {
    "i": dtypes.Int64, "f": dtypes.Float64, "s": dtypes.String, "d": dtypes.Decimal(20, 2), "b": dtypes.Bool,
    "ts": dtypes.Timestamp, "day": dtypes.Date, "tags": dtypes.Array(dtypes.String), "small": dtypes.Float32,
}  # fmt: skip
CONDITIONS = {"i > 0": lambda row: None if row["i"] is None else row["i"] > 0}


def every_function(column: str, window: Any, names: tuple[str, ...], where: str = "") -> list[Aggregation]:
    return [
        Aggregation(column, name, window=window, where=where, name=f"{name}({column}|{where}) {window}",
                    n=3 if name == "last_n" else 0)
        for name in names
    ]  # fmt: skip


NUMBERS = ("count", "sum", "mean", "min", "max", "std", "var", "first", "last", "count_distinct", "last_n")
ORDERED = ("count", "min", "max", "first", "last", "count_distinct", "last_n")
WINDOWS = (
    Sliding.of_micros(10 * S, S),
    Sliding.of_micros(25 * S, S),
    Sliding.of_micros(60 * S, 7 * S),
    Session.of_micros(4 * S),
    None,
)
BROAD = [
    Aggregation("", "count", window=window, where=where, name=f"rows {window} {where}")
    for window in WINDOWS
    for where in ("", "i > 0")
]
for _window in WINDOWS:
    BROAD += every_function("i", _window, NUMBERS) + every_function("f", _window, NUMBERS)
    BROAD += every_function("s", _window, ORDERED, where="i > 0")
RARE: list[Aggregation] = []
for _window in (Sliding.of_micros(20 * S, 2 * S), Session.of_micros(3 * S), None):
    RARE += every_function("d", _window, NUMBERS)
    for _column in ("b", "ts", "day"):
        RARE += every_function(_column, _window, ("min", "max", "first", "last", "count_distinct", "last_n"))
    RARE += every_function("tags", _window, ("first", "last", "last_n", "count"))
    RARE += every_function("small", _window, ("min", "max", "last", "sum"))


@dataclass
class Rig:
    """Rows of some keys, packed between batches, beside all events they have seen."""

    layout: RowLayout
    clock: int = 10**15
    seen: list[dict[str, Any]] = field(default_factory=list)
    blobs: list[bytes | None] = field(default_factory=lambda: [None] * KEYS)
    counts: list[FoldCounts] = field(default_factory=list)

    def feed(self, batch: list[dict[str, Any]], *, clock: int | None = None) -> FoldCounts:
        self.clock = clock if clock is not None else self.clock
        state = decode(self.layout, self.blobs)
        state, counts = fold(self.layout, state, events_of(self.layout, batch), clock_us=self.clock)
        self.blobs = list(encode(self.layout, state))
        known = {(event["partition"], event["offset"]) for event in self.seen}
        self.seen += [event for event in batch if (event["partition"], event["offset"]) not in known]
        self.counts.append(counts)
        return counts

    def check(self, t: int) -> None:
        """Every row that can be answered as of t agrees with the oracle; raises otherwise."""
        state = decode(self.layout, self.blobs)
        compare(self.layout, state, self.seen, t)
        check_few(self.layout, self.blobs, t)


def compare(layout: RowLayout, state: Any, seen: list[dict[str, Any]], t: int) -> None:
    answers = finish(layout, state, t)
    found = answers.columns
    for key in range(KEYS):
        if answers.behind[key]:
            assert any(event["key"] == key and event["event_time"] > t - 1 for event in seen)
            continue
        if answers.incomplete[key]:
            continue
        history = sorted(
            (event for event in seen if event["key"] == key),
            key=lambda event: (event["event_time"], event["created"], event["offset"], event["partition"]),
        )
        for output in layout.outputs:
            boundary = "exclusive" if layout.exclusive else "inclusive"
            expected = aggregate(history, output.aggregation, t, boundary, evaluate)
            if isinstance(expected, float) and output.dtype == dtypes.Float32 and math.isfinite(expected):
                expected = float(np.float32(expected))
            magnitude = sum(
                abs(float(value)) ** (2 if output.aggregation.function in ("var", "std") else 1)
                for event in history
                if isinstance(value := event.get(output.aggregation.column), int | float | Decimal)
                and math.isfinite(value)
            )
            answer = found[output.name][key]
            assert same(expected, answer, magnitude), (output.name, key, t, expected, answer, history)


def check_few(layout: RowLayout, blobs: list[bytes | None], t: int) -> None:
    """A few rows are answered in plain Python exactly as many are in vectors (sums of floats to their last bits)."""
    few, many = answer_few(layout, blobs, t), finish(layout, decode(layout, blobs), t)
    for flag in ("behind", "incomplete", "overflow"):
        assert getattr(few, flag) == getattr(many, flag).tolist()
    for name, column in many.columns.items():
        assert all(same(a, b, 1e3) for a, b in zip(column, few.columns[name], strict=True)), name
    assert few.out_of_range == many.out_of_range


def evaluate(text: str, row: dict[str, Any]) -> Any:
    return CONDITIONS[text](row) if text in CONDITIONS else row[text]


def events_of(layout: RowLayout, batch: list[dict[str, Any]]) -> Events:
    def column(name: str) -> np.ndarray:
        return np.array([event[name] for event in batch], dtype=np.int64)

    values = []
    for text, where in layout.inputs:
        mask = np.array([not where or evaluate(where, event) is True for event in batch], dtype=bool)
        array = None
        if text:
            array = pa.array([event[text] for event in batch], type=COLUMNS[text].arrow())
            mask &= np.array([event[text] is not None for event in batch], dtype=bool)
        values.append((array, mask))
    return Events(
        rows=column("key"), event_time=column("event_time"), created=column("created"), partition=column("partition"),
        offset=column("offset"), values=values,
    )  # fmt: skip


def event(t: int, *, key: int = 0, **values: Any) -> dict[str, Any]:
    plain = {"key": key, "event_time": t, "created": t, "partition": 0, "i": 1, "f": 1.0, "s": "a"}
    return plain | values


def numbered(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events with offsets in the order given, per partition."""
    heads: dict[int, int] = {}
    for each in events:
        each["offset"] = heads.get(each["partition"], -1) + 1
        heads[each["partition"]] = each["offset"]
    return events


INTEGERS = st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63), 2**62]))
FLOATS = st.one_of(
    st.none(), st.integers(-8, 8).map(lambda x: x / 4), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e140])
)
SMALL = st.floats(width=32, allow_infinity=False, min_value=-9, max_value=9)
TEXTS = st.one_of(st.none(), st.sampled_from(["", "a", "b", "é", "\U0001f600", "\uffff", "long " * 9]))
TIMES = st.one_of(
    st.integers(-60, 60).map(lambda s: s * S), st.integers(-60 * S, 60 * S), st.sampled_from([4 * S, 4 * S + 1, -1, 0])
)


@st.composite
def histories(draw: Any, rare: bool = False, max_size: int = 14) -> list[dict[str, Any]]:
    size = draw(st.integers(0, max_size))
    history = []
    for _ in range(size):
        each = event(
            draw(TIMES), key=draw(st.integers(0, KEYS - 1)), partition=draw(st.integers(0, 2)),
            created=draw(st.integers(0, 2)), i=draw(INTEGERS), f=draw(FLOATS), s=draw(TEXTS),
        )  # fmt: skip
        if rare:
            each |= {
                "d": draw(st.one_of(st.none(), st.decimals("-1e17", "1e17", places=2))),
                "b": draw(st.one_of(st.none(), st.booleans())),
                "ts": draw(st.one_of(st.none(), st.datetimes(timezones=st.just(UTC)))),
                "day": draw(st.one_of(st.none(), st.dates())),
                "tags": draw(st.one_of(st.none(), st.lists(TEXTS, max_size=2))),
                "small": draw(st.one_of(st.none(), SMALL)),
            }
        history.append(each)
    return numbered(history)


def some(draw: Any, aggregations: list[Aggregation]) -> list[Aggregation]:
    return draw(st.lists(st.sampled_from(aggregations), min_size=1, max_size=9, unique=True))


def cuts_of(draw: Any, history: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    batches: list[list[dict[str, Any]]] = []
    at = 0
    while at < len(history):
        size = draw(st.integers(1, 6))
        batches.append(history[at : at + size])
        at += size
    return batches


def moments(seen: list[dict[str, Any]], draw: Any) -> list[int]:
    """Times at which a window or a gap may end or begin, and some between."""
    base = [each["event_time"] for each in seen] or [0]
    near = [t + step for t in base for step in (0, 1, 4 * S, 4 * S + 1, 10 * S, 11 * S, 25 * S, 26 * S - 1, 60 * S)]
    return draw(st.lists(st.sampled_from(near), min_size=1, max_size=4)) + [max(base)]


@pytest.mark.parametrize("boundary", ["inclusive", "exclusive"])
@settings(max_examples=7, deadline=None)
@given(data=st.data())
def test_rows_answer_as_the_oracle_does(boundary: str, data: Any) -> None:
    history = data.draw(histories())
    rig = Rig(RowLayout.of(some(data.draw, BROAD), COLUMNS, boundary=boundary, allowed_lateness=10**12))
    for batch in cuts_of(data.draw, history):
        rig.feed(batch)
    assert all(counts.session_late == 0 and counts.incomplete == 0 for counts in rig.counts)
    for t in moments(history, data.draw):
        rig.check(t)


@settings(max_examples=7, deadline=None)
@given(data=st.data())
def test_every_type_survives_its_row(data: Any) -> None:
    history = data.draw(histories(rare=True, max_size=8))
    rig = Rig(RowLayout.of(some(data.draw, RARE), COLUMNS))
    for batch in cuts_of(data.draw, history):
        rig.feed(batch)
    for t in moments(history, data.draw):
        rig.check(t)


@settings(max_examples=7, deadline=None)
@given(data=st.data())
def test_reads_between_batches_never_see_the_future(data: Any) -> None:
    """The clock stands anywhere among the events: what is later waits in the row until it is due."""
    history = data.draw(histories(max_size=10))
    layout = RowLayout.of(
        [*every_function("i", WINDOWS[2], NUMBERS), *every_function("s", WINDOWS[3], ORDERED),
         Aggregation("", "count", name="n"), Aggregation("", "count", window=Session.of_micros(4 * S), name="open")],
        COLUMNS, boundary=data.draw(st.sampled_from(["inclusive", "exclusive"])), allowed_lateness=10**12,
        margin=data.draw(st.sampled_from([0, 3 * S])),
    )  # fmt: skip
    rig, clock = Rig(layout), -70 * S
    for batch in cuts_of(data.draw, history):
        clock += data.draw(st.integers(0, 40)) * S
        rig.feed(batch, clock=clock)
        now = clock + layout.exclusive
        assert not any(finish(layout, decode(layout, rig.blobs), now).behind)
        for t in (now - 2 * S, now, now + 2 * S, now + 30 * S):
            rig.check(t)


@settings(max_examples=7, deadline=None)
@given(data=st.data())
def test_a_replay_changes_nothing(data: Any) -> None:
    history = data.draw(histories())
    batches = cuts_of(data.draw, history)
    rig = Rig(RowLayout.of(BROAD[::6], COLUMNS, allowed_lateness=10**12))
    for batch in batches:
        rig.feed(batch)
    before = list(rig.blobs)
    for batch in batches[data.draw(st.integers(0, len(batches))) :]:
        counts = rig.feed(batch + batch)
        assert counts.replayed == counts.events
    assert rig.blobs == before


@settings(max_examples=7, deadline=None)
@given(data=st.data())
def test_events_in_the_order_of_their_times_make_the_same_rows_in_pieces_as_at_once(data: Any) -> None:
    history = sorted(data.draw(histories()), key=lambda each: each["event_time"])
    # The last bits of moments depend on how they were merged.
    exact = [each for each in BROAD if each.function not in ("std", "var")]
    layout = RowLayout.of(some(data.draw, exact), COLUMNS, allowed_lateness=S)
    clock = data.draw(st.sampled_from([10**15, *(each["event_time"] for each in history)]))
    whole, _ = fold(layout, decode(layout, [None] * KEYS), events_of(layout, history), clock_us=clock)

    state = decode(layout, [None] * KEYS)
    for batch in cuts_of(data.draw, history):
        # Their offsets have an order of their own.
        state, counts = fold(layout, state, events_of(layout, batch), clock_us=clock, unseen=True)
        assert counts.replayed == 0

    assert encode(layout, state) == encode(layout, whole)


@settings(max_examples=7, deadline=None)
@given(data=st.data())
def test_merging_states_commutes_and_associates(data: Any) -> None:
    history = data.draw(histories())
    layout = RowLayout.of(some(data.draw, BROAD), COLUMNS, allowed_lateness=10**12)
    parts = []
    for partition in range(3):
        mine = [each for each in history if each["partition"] == partition]
        state, _ = fold(layout, decode(layout, [None] * KEYS), events_of(layout, mine), clock_us=10**15)
        parts.append(decode(layout, encode(layout, state)))
    a, b, c = parts
    merged = [
        merge(layout, merge(layout, a, b), c), merge(layout, a, merge(layout, b, c)),
        merge(layout, merge(layout, c, b), a), merge(layout, merge(layout, b, a), c),
    ]  # fmt: skip
    t = max((each["event_time"] for each in history), default=0)
    for state in merged:
        assert [state.offsets_of(row) for row in range(KEYS)] == [merged[0].offsets_of(row) for row in range(KEYS)]
        again = decode(layout, encode(layout, state))
        compare(layout, again, history, t)
        compare(layout, again, history, t + 7 * S)


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_late_events_are_exact_dropped_and_counted_or_mark_the_row(data: Any) -> None:
    """With a short lateness rows are trimmed hard; whatever they then answer is still right, or they say incomplete."""
    history = data.draw(histories(max_size=24))
    for each in history:
        each["key"] %= 2
    layout = RowLayout.of(
        [Aggregation("", "count", window=Session.of_micros(4 * S), name="open"),
         Aggregation("i", "sum", window=Session.of_micros(9 * S), name="wide"),
         Aggregation("", "count", window=Sliding.of_micros(10 * S, 3 * S), name="sliding")],
        COLUMNS, allowed_lateness=data.draw(st.sampled_from([0, 2 * S, 12 * S])),
    )  # fmt: skip
    rig = Rig(layout)
    for batch in cuts_of(data.draw, history):
        rig.feed(batch)
        t = max(each["event_time"] for each in rig.seen)
        for moment in (t, t + 3 * S, t + 4 * S, t + 9 * S, t + 9 * S + 1):
            rig.check(moment)


def test_an_event_within_the_allowed_lateness_never_makes_a_row_incomplete() -> None:
    layout = RowLayout.of(
        [Aggregation("", "count", window=Session.of_micros(4 * S), name="n")], COLUMNS, allowed_lateness=20 * S
    )
    rig = Rig(layout)
    order = [0, 17, 40, 36, 20, 24, 28, 32, 44, 24]
    for offset, second in enumerate(order):
        counts = rig.feed([event(second * S, offset=offset)])
        assert counts.incomplete == 0
        rig.check(max(order[: offset + 1]) * S)


def test_an_event_that_may_reach_back_past_what_was_kept_marks_its_row() -> None:
    layout = RowLayout.of(
        [Aggregation("", "count", window=Session.of_micros(4 * S), name="n")], COLUMNS, allowed_lateness=0
    )
    rig = Rig(layout)
    for offset, second in enumerate([0, 10, 18]):
        rig.feed([event(second * S, offset=offset)])
    bridge = rig.feed([event(14 * S, offset=3)])
    assert bridge.incomplete == 1
    assert decode(layout, rig.blobs).incomplete.tolist() == [True, False, False]
    assert rig.feed([event(19 * S, offset=4)]).incomplete == 0, "counted once"


def test_merging_marks_a_row_whose_session_may_reach_what_the_other_side_dropped() -> None:
    """Neither side brings a record for the other's sessions: 28 s and 30 s are within the margin, 12 s is dropped."""
    layout = RowLayout.of(
        [Aggregation("", "count", window=Session.of_micros(4 * S), name="n")], COLUMNS, allowed_lateness=0, margin=5 * S
    )
    left = right = decode(layout, [None])
    for offset, second in enumerate([*range(2, 26, 3), 28]):
        left, _ = fold(layout, left, events_of(layout, [event(second * S, offset=offset, partition=1)]), clock_us=10**9)
    for offset, second in enumerate([0, 12, 30]):
        right, _ = fold(layout, right, events_of(layout, [event(second * S, offset=offset)]), clock_us=10**9)
    assert right.counts.tolist() == [[0, 1]]
    for merged in (merge(layout, left, right), merge(layout, right, left)):
        assert merged.incomplete.tolist() == [True]


def test_late_events_join_two_sessions() -> None:
    layout = RowLayout.of([Aggregation("i", "sum", window=Session.of_micros(4 * S), name="sum")], COLUMNS)
    rig = Rig(layout)
    rig.feed(numbered([event(0, i=1), event(8 * S, i=2)]))
    assert finish(layout, decode(layout, rig.blobs), 8 * S).columns["sum"] == [2, None, None]
    rig.feed([event(4 * S, i=4, offset=2)])
    assert finish(layout, decode(layout, rig.blobs), 8 * S).columns["sum"] == [7, None, None]
    assert finish(layout, decode(layout, rig.blobs), 12 * S).columns["sum"] == [7, None, None]
    assert finish(layout, decode(layout, rig.blobs), 12 * S + 1).columns["sum"] == [None, None, None]


def test_events_older_than_every_window_are_counted() -> None:
    layout = RowLayout.of([Aggregation("", "count", window=Sliding.of_micros(10 * S, S), name="n")], COLUMNS)
    rig = Rig(layout)
    counts = [rig.feed([event(second * S, offset=offset)]) for offset, second in enumerate([100, 89, 90, -50])]
    assert [each.late for each in counts] == [0, 1, 0, 1]
    assert finish(layout, decode(layout, rig.blobs), 100 * S).columns["n"] == [2, 0, 0]


@pytest.mark.parametrize("boundary", ["inclusive", "exclusive"])
@pytest.mark.parametrize("margin", [0, S])
@pytest.mark.parametrize("clock", [-(10**17), 0, 5 * S, 7 * S, 100 * S])
def test_a_row_knows_the_newest_event_that_it_has_merged_or_keeps_for_later(
    boundary: str, margin: int, clock: int
) -> None:
    layout = RowLayout.of(
        [Aggregation("i", "sum", window=Sliding.of_micros(10 * S, S))], COLUMNS, boundary=boundary, margin=margin
    )
    blobs: list[bytes | None] = [None] * KEYS
    newest = [NEVER] * KEYS
    for number, (key, time) in enumerate([(0, 5 * S), (1, 7 * S), (0, 3 * S), (0, -(10**15)), (1, 9 * S), (0, 6 * S)]):
        batch = numbered([event(time, key=key)])
        state, _ = fold(
            layout, decode(layout, blobs), events_of(layout, [{**batch[0], "offset": number}]), clock_us=clock
        )
        newest[key] = max(newest[key], time)
        blobs = list(encode(layout, state))

        assert state.newest(layout).tolist() == decode(layout, blobs).newest(layout).tolist() == newest


def test_the_newest_instant_stays_apart_on_an_exclusive_boundary() -> None:
    layout = RowLayout.of([Aggregation("", "count", name="n")], COLUMNS, boundary="exclusive")
    rig = Rig(layout)
    rig.feed(numbered([event(5), event(5), event(4)]))
    state = decode(layout, rig.blobs)
    assert finish(layout, state, 5).columns["n"] == [1, 0, 0]
    assert finish(layout, state, 6).columns["n"] == [3, 0, 0]
    assert finish(layout, state, 5).behind.tolist() == [False, False, False]
    assert finish(layout, state, 4).behind.tolist() == [True, False, False]


def test_a_read_before_merged_events_is_said_to_be_behind() -> None:
    layout = RowLayout.of([Aggregation("", "count", name="n")], COLUMNS)
    rig = Rig(layout)
    rig.feed(numbered([event(5), event(9, key=1)]))
    behind = finish(layout, decode(layout, rig.blobs), np.array([4, 9, 0])).behind
    assert behind.tolist() == [True, False, False]


def test_sums_outside_int64_read_as_null_and_are_counted_and_come_back() -> None:
    layout = RowLayout.of([Aggregation("i", "sum", name="sum"), Aggregation("i", "mean", name="mean")], COLUMNS)
    rig = Rig(layout)
    rig.feed(numbered([event(1, i=2**63 - 1), event(2, i=2**63 - 1)]))
    answers = finish(layout, decode(layout, rig.blobs), 2)
    assert (answers.columns["sum"][0], answers.out_of_range) == (None, 1)
    assert answers.columns["mean"][0] == float(2**63 - 1)
    rig.feed([event(3, i=-(2**63), offset=2)])
    assert finish(layout, decode(layout, rig.blobs), 3).columns["sum"][0] == 2**63 - 2


def test_equal_values_have_no_variance_at_all() -> None:
    layout = RowLayout.of([Aggregation("f", "std", name="std")], COLUMNS)
    rig = Rig(layout)
    for offset in range(7):
        rig.feed([event(offset, f=0.1, offset=offset)])
    assert finish(layout, decode(layout, rig.blobs), 9).columns["std"][0] == 0.0


def test_a_row_too_long_answers_nulls_and_keeps_its_offsets() -> None:
    layout = RowLayout.of(
        [Aggregation("s", "count_distinct", name="n"), Aggregation("", "count", name="rows")], COLUMNS
    )
    state = decode(layout, [None] * KEYS)
    many = numbered([event(1, s=f"value {number}") for number in range(200)] + [event(1, key=1)])
    blobs = encode(layout, fold(layout, state, events_of(layout, many), clock_us=9)[0], 1000)
    state = decode(layout, blobs)
    answers = finish(layout, state, 9)
    assert answers.overflow.tolist() == [True, False, False]
    assert answers.columns["n"] == [None, 1, 0]
    assert answers.columns["rows"] == [None, 1, 0]
    assert state.offsets_of(0) == {0: 199} and len(blobs[0]) <= 1000
    state, counts = fold(layout, state, events_of(layout, [event(2, offset=201)]), clock_us=9)
    assert counts.overflowed == 1 and finish(layout, state, 9).overflow.tolist() == [True, False, False]
    assert decode(layout, encode(layout, state, MAX_ROW_BYTES)).offsets_of(0) == {0: 201}


def test_a_hot_key_keeps_one_record_per_tile() -> None:
    layout = RowLayout.of([Aggregation("i", "sum", window=Sliding.of_micros(60 * S, S), name="sum")], COLUMNS)
    rig = Rig(layout)
    rig.feed(numbered([event(number * 1000, i=1) for number in range(5000)]))
    assert decode(layout, rig.blobs).counts[0].tolist() == [5, 0]
    assert finish(layout, decode(layout, rig.blobs), 5 * S).columns["sum"][0] == 5000


def test_rows_of_another_format_are_refused() -> None:
    layout = RowLayout.of([Aggregation("", "count", name="n")], COLUMNS)
    with pytest.raises(StorageError, match="format version"):
        decode(layout, [b"\x09" + bytes(layout.width * 8 - 1)])
    with pytest.raises(StorageError, match="not a multiple"):
        decode(layout, [b"\x01" * 3])
    rows = Aggregation("", "count", window=Session.of_micros(S), name="n")
    other = RowLayout.of([rows, Aggregation("i", "max", name="m")], COLUMNS)
    blobs = encode(other, fold(other, decode(other, [None]), events_of(other, [event(1, offset=0)]), clock_us=9)[0])
    twin = RowLayout.of([rows, Aggregation("i", "min", name="m")], COLUMNS)
    for read in (lambda: decode(twin, blobs), lambda: answer_few(twin, blobs, 9)):
        with pytest.raises(StorageError, match="other aggregations"):
            read()


def test_any_number_of_rows_is_answered_as_one_by_one() -> None:
    layout = RowLayout.of([*every_function("i", WINDOWS[2], NUMBERS), *every_function("s", None, ORDERED)], COLUMNS)
    rig = Rig(layout)
    rig.feed(numbered([event(number * S, key=number % 2, i=number) for number in range(9)]))
    one = answer_few(layout, rig.blobs, 9 * S)
    for times in (1, 10, 20, 170, 400):
        many = answer(layout, rig.blobs * times, 9 * S)
        assert many.columns.keys() == one.columns.keys()
        for name, column in many.columns.items():
            assert all(same(a, b, 1e3) for a, b in zip(one.columns[name] * times, column, strict=True)), name
        for flag in ("behind", "incomplete", "overflow", "newest"):
            assert getattr(many, flag) == getattr(one, flag) * times


def test_functions_without_meaning_for_a_type_are_refused() -> None:
    with pytest.raises(DefinitionError, match="sum does not work on String"):
        RowLayout.of([Aggregation("s", "sum", name="n")], COLUMNS)


def test_the_fingerprint_tells_what_shapes_the_rows() -> None:
    hour = Aggregation("i", "sum", window=Sliding("1h"), name="a")
    layout = RowLayout.of([hour], COLUMNS)
    renamed = Aggregation("i", "sum", window=Sliding("1h"), name="b", default=0)
    assert RowLayout.of([renamed], COLUMNS).fingerprint == layout.fingerprint
    assert RowLayout.of([hour], COLUMNS) is layout
    others = [
        RowLayout.of([Aggregation("i", "sum", window=Sliding("2h"), name="a")], COLUMNS),
        RowLayout.of([Aggregation("i", "max", window=Sliding("1h"), name="a")], COLUMNS),
        RowLayout.of([hour], COLUMNS, boundary="exclusive"),
        RowLayout.of([hour], replace_type("i", dtypes.Float64)),
    ]
    assert len({each.fingerprint for each in (layout, *others)}) == 5


def replace_type(column: str, dtype: dtypes.DType) -> dict[str, dtypes.DType]:
    return COLUMNS | {column: dtype}


def test_states_are_left_as_they_were() -> None:
    layout = RowLayout.of(BROAD, COLUMNS)
    two = events_of(layout, numbered([event(1), event(2)]))
    first, _ = fold(layout, decode(layout, [None] * KEYS), two, clock_us=9)
    before = encode(layout, first)
    fold(layout, first, events_of(layout, [event(3, offset=5)]), clock_us=9)
    assert encode(layout, first) == before
    assert encode(layout, replace(first, spare=None)) == before


def test_a_reader_a_little_behind_is_answered_within_the_margin() -> None:
    layout = RowLayout.of([Aggregation("", "count", name="n")], COLUMNS, margin=2 * S)
    rig = Rig(layout)
    rig.feed(numbered([event(0), event(8 * S), event(10 * S)]))
    answers = [finish(layout, decode(layout, rig.blobs), t) for t in (8 * S - 1, 8 * S, 9 * S, 10 * S)]
    assert [bool(each.behind[0]) for each in answers] == [True, False, False, False]
    assert [each.columns["n"][0] for each in answers[1:]] == [2, 2, 3]


def test_a_row_built_in_bulk_leaves_out_what_its_base_offsets_cover() -> None:
    layout = RowLayout.of([Aggregation("", "count", name="n")], COLUMNS)
    state, _ = fold(layout, decode(layout, [None]), events_of(layout, [event(1, offset=3)]), clock_us=9)
    base = np.array([0, 0]), np.array([0, 7]), np.array([5, 6])
    state = with_offsets(state, *base)
    assert state.offsets_of(0) == {0: 5, 7: 6}
    late = [event(2, offset=5), event(2, offset=6, partition=7), event(2, offset=6)]
    state, counts = fold(layout, decode(layout, encode(layout, state)), events_of(layout, late), clock_us=9)
    assert counts.replayed == 2 and finish(layout, state, 9).columns["n"] == [2]


def test_no_rows_and_no_events_are_fine() -> None:
    layout = RowLayout.of(BROAD, COLUMNS)
    nothing = events_of(layout, [])
    state, counts = fold(layout, decode(layout, []), nothing, clock_us=9)
    assert (encode(layout, state), counts) == ([], FoldCounts())
    state, counts = fold(layout, decode(layout, [None]), nothing, clock_us=9)
    assert decode(layout, encode(layout, state)).counts.sum() == 0
    assert answer_few(layout, [], 9).columns == {output.name: [] for output in layout.outputs}


def test_numpy_and_arrow_values_mean_the_same() -> None:
    layout = RowLayout.of(every_function("i", None, ORDERED) + every_function("s", None, ORDERED), COLUMNS)
    arrow = events_of(layout, numbered([event(1, i=4, s="b"), event(2, i=None, s=None), event(3, i=-4, s="a")]))
    plain = {"i": np.array([4, 0, -4]), "s": np.array(["b", None, "a"], dtype=object)}
    values = [(plain[column], mask) for (column, _), (_, mask) in zip(layout.inputs, arrow.values, strict=True)]
    blobs = [
        encode(layout, fold(layout, decode(layout, [None]), events, clock_us=9)[0])
        for events in (arrow, replace(arrow, values=values))
    ]
    assert blobs[0] == blobs[1]
