"""A view's aggregates for a handful of rows, in plain Python; they must equal those of `answer_vector`.

For one row, NumPy's call overhead exceeds the work; both are equally fast at about twenty rows.
Sums of floats are equal to their last bits.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from struct import Struct
from typing import Any

from asof.aggregation import float_sums
from asof.aggregation.answer_vector import VectorAggregates, object_reader
from asof.aggregation.earlier import is_earlier
from asof.aggregation.layout import AggregateOutput, RowLayout
from asof.aggregation.objects import LENGTH_BITS, LENGTH_MASK, NONE, read_object
from asof.aggregation.rows import INCOMPLETE, NEVER, OVERFLOW, foreign_row, in_format_of
from asof.aggregation.states import LIMB, IntegerSum, ObjectComponent, Pick, StateComponent
from asof.aggregation.words import restored, unscaled
from asof.definitions.windows import Session, Sliding
from asof.dtypes import GREATEST_INT64
from asof.timing import Micros


class _Members:
    """One row's records in a window: a run of merged ones, and a run of fresh ones (positions in words)."""

    __slots__ = ("begin", "end", "floats", "fresh", "fresh_end", "integers", "whole", "width")

    def __init__(self, width: int) -> None:
        self.width = width
        self.whole = memoryview(b"")
        self.integers = self.whole.cast("q")
        self.floats: memoryview[Any] = self.whole.cast("d")
        self.begin = self.end = self.fresh = self.fresh_end = 0

    def words(self, at: int) -> list[int]:
        words = self.integers[self.begin + at : self.end : self.width].tolist()
        fresh, end = self.fresh, self.fresh_end
        # Almost always only the newest event is fresh.
        while fresh < end:
            words.append(self.integers[fresh + at])
            fresh += self.width
        return words

    def has_any(self, at: int) -> bool:
        """Whether any of the words is not 0."""
        if any(self.integers[self.begin + at : self.end : self.width]):
            return True
        return self.fresh < self.fresh_end and any(self.integers[self.fresh + at : self.fresh_end : self.width])

    def doubles(self, at: int) -> list[float]:
        doubles: list[Any] = self.floats[self.begin + at : self.end : self.width].tolist()
        fresh, end = self.fresh, self.fresh_end
        while fresh < end:
            doubles.append(self.floats[fresh + at])
            fresh += self.width
        return doubles

    def object(self, name: int) -> Any:
        begin = (name >> LENGTH_BITS) * 8
        return read_object(self.whole[begin : begin + (name & LENGTH_MASK)])


Finisher = Callable[[_Members], Any]
OUT_OF_RANGE = object()
"""Returned by a finisher for a sum that does not fit its type."""


@dataclass(frozen=True)
class _ScalarPlan:
    """The finishers of each window, and the requested outputs.

    Args:
        header: the words of a row's header up to the counts of its families.
        may_misfit: whether a value can be `OUT_OF_RANGE`.
        windows: (the length of a sliding one, its hop, the gap of a session, family, ((output's place, finisher), …));
            length or gap is 0 if the window is of another kind.
    """

    header: Struct
    windows: tuple[tuple[int, int, int, int, tuple[tuple[int, Finisher], ...]], ...]
    names: tuple[str, ...]
    unseen: tuple[Any, ...]
    may_misfit: bool


def answer_few(
    layout: RowLayout, blobs: Sequence[bytes | None], t: Micros, names: Sequence[str] | None = None
) -> VectorAggregates:
    """The same as `finish(layout, decode(layout, blobs), t, names)`, in lists.

    Raises:
        StorageError: a blob was not written by this layout and format version.
    """
    plan = _plan(layout, tuple(names) if names is not None else None)
    members = _Members(layout.width)
    windows = [
        (t - length - (t - length) % hop if length else None, gap, family, finishers)
        for length, hop, gap, family, finishers in plan.windows
    ]
    behind, incomplete, overflow, newest, misfits = [], [], [], [], 0
    rows = []
    for blob in blobs:
        values: Sequence[Any] = plan.unseen
        horizon, last, flags = NEVER, NEVER, 0
        if blob:
            values, horizon, last, flags = _answer_row(layout, plan, windows, members, blob, t)
            if plan.may_misfit and OUT_OF_RANGE in values:
                misfits += values.count(OUT_OF_RANGE)
                values = [None if value is OUT_OF_RANGE else value for value in values]
        rows.append(values)
        newest.append(last)
        behind.append(t - layout.exclusive < horizon)
        incomplete.append(flags & INCOMPLETE != 0)
        overflow.append(flags & OVERFLOW != 0)
    columns = dict(zip(plan.names, map(list, zip(*rows)))) if rows else {name: [] for name in plan.names}
    return VectorAggregates(columns, behind, incomplete, overflow, misfits, newest)


def _answer_row(
    layout: RowLayout,
    plan: _ScalarPlan,
    windows: Sequence[tuple[Micros | None, int, int, tuple[tuple[int, Finisher], ...]]],
    members: _Members,
    blob: bytes,
    t: Micros,
) -> tuple[list[Any], Micros, Micros, int]:
    """One row's values, horizon, newest event and flags.

    Args:
        windows: (the start of a sliding one, the gap of a session, family, ((output's place, finisher), …)).
        members: reused for each row; its old content is overwritten.
    """
    width = layout.width
    if blob[0] != layout.format and layout.keeps_arrival and is_earlier(blob):
        blob = in_format_of(layout, [blob])[0]
    if len(blob) % (8 * width):
        raise foreign_row("its length is not a multiple of a record")
    first, horizon, _, *counts = plan.header.unpack_from(blob)
    if first & 0xFF != layout.format:
        raise foreign_row(f"format version {first & 0xFF}, this program reads {layout.format}")
    if first >> 48 != layout.mark:
        raise foreign_row("it was written for other aggregations")
    flags = (first >> 8) & 0xFF
    values: list[Any] = [None] * len(plan.names)
    members.whole = whole = memoryview(blob)
    members.integers = integers = whole.cast("q")
    members.floats = whole.cast("d")
    bounds = list(accumulate(counts, initial=(first >> 16) & 0xFFFF))
    fresh, fresh_end = bounds[-2] * width, bounds[-1] * width
    reach = t - layout.exclusive
    while fresh_end > fresh and integers[fresh_end - width] > reach:
        fresh_end -= width
    last = integers[fresh_end - width] if fresh_end > fresh else horizon
    if flags & OVERFLOW:
        return values, horizon, last, flags
    members.fresh_end = fresh_end
    for lowest, gap, family, finishers in windows:
        begin = bounds[family] * width
        members.end = end = bounds[family + 1] * width
        if gap:
            _choose_session(members, gap, begin, fresh, t)
        elif lowest is None:
            members.begin, members.fresh = begin, fresh
        else:
            if begin < end and integers[begin] < lowest:
                begin += bisect_left(integers[begin:end:width], lowest) * width
            members.begin, first_fresh = begin, fresh
            while first_fresh < fresh_end and integers[first_fresh] < lowest:
                first_fresh += width
            members.fresh = first_fresh
        for place, finisher in finishers:
            values[place] = finisher(members)
    return values, horizon, last, flags


def _choose_session(members: _Members, gap: Micros, begin: int, fresh: int, t: Micros) -> None:
    """Narrow the members to the session open at t: the last interval, and the fresh events chained to it."""
    integers, width = members.integers, members.width
    last: Micros | None = None
    members.begin = members.end
    if members.end > begin:
        members.begin = members.end - width
        last = integers[members.begin + 1]
    members.fresh = fresh
    for at in range(fresh, members.fresh_end, width):
        if last is None or integers[at] - last > gap:
            members.begin, members.fresh = members.end, at
        last = integers[at]
    if last is None or t - last > gap:
        members.begin, members.fresh = members.end, members.fresh_end


@lru_cache(maxsize=1024)
def _plan(layout: RowLayout, names: tuple[str, ...] | None) -> _ScalarPlan:
    outputs = [layout.by_name[name] for name in names] if names is not None else list(layout.outputs)
    finishers = [_finisher(output) for output in outputs]
    windows = {output.aggregation.window: output.family for output in outputs}
    plan = tuple(
        (
            window.length if isinstance(window, Sliding) else 0,
            window.hop if isinstance(window, Sliding) else 0,
            window.gap if isinstance(window, Session) else 0,
            family,
            tuple((place, finishers[place]) for place, each in enumerate(outputs) if each.aggregation.window == window),
        )
        for window, family in windows.items()
    )  # fmt: skip
    unseen = tuple(finisher(_Members(layout.width)) for finisher in finishers)
    may_misfit = any(isinstance(part, IntegerSum) for output in outputs for part in output.parts)
    return _ScalarPlan(
        Struct(f"<{layout.dropped_at}q"), plan, tuple(output.name for output in outputs), unseen, may_misfit
    )


def _finisher(output: AggregateOutput) -> Finisher:
    """The function that computes one output from a row's members."""
    function, part = output.aggregation.function, output.parts[0]
    if function == "count":
        at = part.at
        return lambda members: sum(members.words(at))
    if isinstance(part, Pick):
        return _pick(output, part)
    if isinstance(part, ObjectComponent):
        return _object(output, part)
    count_at = output.parts[1].at
    if function in ("min", "max"):
        return _extreme(output, part, count_at)
    if function in ("std", "var"):
        return _variance(part, count_at, root=function == "std")
    if part.kind == "float_sum":
        return _float_sum(part, count_at, mean=function == "mean")
    return _exact_sum(output, part, count_at, mean=function == "mean")


def _float_sum(part: StateComponent, count_at: int, *, mean: bool) -> Finisher:
    def summed(members: _Members) -> float:
        total: float = sum(members.doubles(part.at))
        # Beyond the greatest double on its way, or NaN, or infinite.
        return total if total - total == 0.0 else float_sums.total(members.words(part.at))

    def total_of(members: _Members) -> float | None:
        total = summed(members)
        # A sum of 0 may have no values.
        return float(total) if total or members.has_any(count_at) else None

    def mean_of(members: _Members) -> float | None:
        count = sum(members.words(count_at))
        return summed(members) / count if count else None

    return mean_of if mean else total_of


def _exact_sum(output: AggregateOutput, part: StateComponent, count_at: int, *, mean: bool) -> Finisher:
    is_decimal, scale = part.kind == "decimal_sum", output.column.scale if output.column else 0
    limit = 10 ** (output.dtype.precision or 38) if is_decimal else GREATEST_INT64 + 1

    def finisher(members: _Members) -> Any:
        count = sum(members.words(count_at))
        if not count:
            return None
        total = 0
        for limb, word in enumerate(part.words):
            total += sum(members.words(word)) << (32 * limb)
        fits = abs(total) < limit or (total == -limit and not is_decimal)
        if mean:
            if is_decimal:
                return total / (count * 10**scale)
            # As in `answer_vector`: one rounding if it fits 64 bits, else limb by limb.
            return (float(total) if fits else (total >> 32) * 2.0**32 + (total & LIMB)) / count
        if not fits:
            return OUT_OF_RANGE
        return unscaled(total, scale) if is_decimal else total

    return finisher


def _extreme(output: AggregateOutput, part: StateComponent, count_at: int) -> Finisher:
    assert output.column is not None
    greatest = output.aggregation.function == "max"
    back = restored(output.column)

    def of_floats(members: _Members) -> float | None:
        values = members.doubles(part.at)
        total = sum(values)
        # Without values, a maximum is -inf and a minimum is NaN.
        if total - total == 0.0 and values:
            return max(values) if greatest else min(values)
        if not members.has_any(count_at):
            return None
        numbers = [value for value in values if value == value]
        if greatest:
            return max(numbers) if len(numbers) == len(values) else math.nan
        return min(numbers) if numbers else math.nan

    def of_words(members: _Members) -> Any:
        if not members.has_any(count_at):
            return None
        words = members.words(part.at)
        word = max(words) if greatest else min(words)
        return word if back is None else back(word)

    return of_floats if output.column.is_float else of_words


def _variance(part: StateComponent, count_at: int, *, root: bool) -> Finisher:
    def finisher(members: _Members) -> float | None:
        columns = members.words(count_at), members.doubles(part.at), members.doubles(part.at + 1)
        states = [state for state in zip(*columns) if state[0]]
        total = sum(count for count, _, _ in states)
        if total < 2:
            return None
        pivot = max(mean for _, mean, _ in states)
        mean = pivot + sum(count * (each - pivot) for count, each, _ in states) / total
        if not math.isfinite(mean):
            return math.nan
        spread = sum(square + count * (each - mean) * (each - mean) for count, each, square in states) / (total - 1)
        return math.sqrt(spread) if root else spread

    return finisher


def _pick(output: AggregateOutput, part: Pick) -> Finisher:
    assert output.column is not None
    choose = max if part.last else min
    floats = output.column.is_float
    back: Any = object_reader(output) if part.holds_object else restored(output.column)

    def finisher(members: _Members) -> Any:
        times = members.words(part.at)
        if not times:
            return None
        best: Any = choose(times)
        if best == part.empty[0]:
            return None
        if times.count(best) == 1:
            place = times.index(best)
        else:
            orderings = list(zip(*(members.words(word) for word in range(part.at, part.value_at))))
            place = orderings.index(choose(orderings))
        if floats:
            return members.doubles(part.value_at)[place]
        word = members.words(part.value_at)[place]
        if part.holds_object:
            return back(members.object(word))
        return word if back is None else back(word)

    return finisher


def _object(output: AggregateOutput, part: ObjectComponent) -> Finisher:
    read = object_reader(output)
    nothing = 0 if output.aggregation.function == "count_distinct" else None

    def finisher(members: _Members) -> Any:
        states = [members.object(name) for name in members.words(part.at) if name != NONE]
        if not states:
            return nothing
        return read(states[0] if len(states) == 1 else part.join(states))

    return finisher
