"""A view's aggregates from the states of many rows at once: the general way, which `answer_scalar` must equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asof.aggregation.layout import AggregateOutput, RowLayout
from asof.aggregation.merging import reduce_groups
from asof.aggregation.objects import NONE, ObjectPool
from asof.aggregation.rows import NEVER, StateRows
from asof.aggregation.segments import RecordRuns, WordColumns, firsts, lower_bounds, ranges
from asof.aggregation.states import DecimalSum, Ints, Pick, StateComponent
from asof.aggregation.words import restored, unscaled
from asof.definitions.windows import Session, Sliding, Window
from asof.timing import Micros

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class VectorAggregates:
    """The aggregates of n rows as of one t, or of one t per row.

    Attributes:
        columns: by the aggregate's name n Python values.
        behind: rows that have merged events later than t: they cannot be answered as of t. Their values mean nothing.
        incomplete: rows whose sessions must be recomputed from the archive.
        overflow: rows that passed the size limit; all their values are null.
        out_of_range: how many integer or decimal sums did not fit their type, and read as null.
        newest: the time of each row's newest event that the windows could hold, as far as it still stands apart; else
            the row's horizon, which no merged event is later than; `NEVER` without events.
    """

    columns: Mapping[str, list[Any]]
    behind: Sequence[bool] | Mask
    incomplete: Sequence[bool] | Mask
    overflow: Sequence[bool] | Mask
    out_of_range: int
    newest: Sequence[Micros] | Ints


@dataclass(frozen=True)
class _WindowRequest:
    """What is asked of one window.

    Args:
        in_place: the parts that are reduced where they lie; `gathered`: the others.
    """

    window: Window | None
    family: int
    outputs: tuple[AggregateOutput, ...]
    in_place: tuple[StateComponent, ...]
    gathered: tuple[StateComponent, ...]


def finish(
    layout: RowLayout, state: StateRows, t: Micros | Ints, names: Sequence[str] | None = None
) -> VectorAggregates:
    """Every named aggregate (all by default) of every row, as of t: a moment, or int64[n].

    A row can be asked for any t from its horizon on: the time of its newest event that is not later than the clock
    that the last fold was given, less the layout's margin.
    """
    reach = t - 1 if layout.exclusive else t
    order, windows = _plan(layout, tuple(names) if names is not None else None)
    words = WordColumns(state.records)
    times = words[0]
    ends = state.counts.cumsum(axis=1)
    ends += state.starts[:, None]
    begins = ends - state.counts
    fresh, fresh_ends = begins[:, layout.fresh], ends[:, layout.fresh]
    has_fresh = fresh_ends > fresh
    newest = times[fresh_ends - 1]
    if (has_fresh & (newest > reach)).any():
        fresh_ends = lower_bounds(times[:-1], fresh, fresh_ends, reach + 1)
        has_fresh = fresh_ends > fresh
        newest = times[fresh_ends - 1]
    cuts = np.empty((len(state), 4), dtype=np.int64)
    cuts[:, 2], cuts[:, 3] = fresh, fresh_ends
    columns: dict[str, Any] = {}
    out_of_range = 0
    # NaN and the infinities go their ways without a word.
    with np.errstate(all="ignore"):
        for asked in windows:
            cuts[:, 0], cuts[:, 1] = begins[:, asked.family], ends[:, asked.family]
            states = _reduced(layout, state, RecordRuns(words, _members(words, asked.window, cuts, t)), asked)
            for output in asked.outputs:
                columns[output.name], misfits = _answer(output, states, state.pool)
                out_of_range += misfits
    overflow = state.overflow
    for row in overflow.nonzero()[0].tolist():
        for column in columns.values():
            column[row] = None
    newest = np.where(has_fresh, newest, state.horizon)
    in_order = {name: columns[name] for name in order}
    return VectorAggregates(in_order, reach < state.horizon, state.incomplete, overflow, out_of_range, newest)


@lru_cache(maxsize=1024)
def _plan(layout: RowLayout, names: tuple[str, ...] | None) -> tuple[tuple[str, ...], tuple[_WindowRequest, ...]]:
    """The outputs' names in order, and what is asked of each window."""
    outputs = [layout.by_name[name] for name in names] if names is not None else list(layout.outputs)
    windows: dict[Window | None, list[AggregateOutput]] = {}
    for output in outputs:
        windows.setdefault(output.aggregation.window, []).append(output)
    plan = []
    for window, its in windows.items():
        parts = list(dict.fromkeys(part for output in its for part in output.parts))
        in_place = tuple(part for part in parts if part.merges_in_place)
        gathered = tuple(part for part in parts if not part.merges_in_place)
        plan.append(_WindowRequest(window, its[0].family, tuple(its), in_place, gathered))
    return tuple(output.name for output in outputs), tuple(plan)


def _members(words: WordColumns, window: Window | None, family: Ints, t: Micros | Ints) -> Ints:
    """The record lines that a window ending at each row's t holds: int64[n, 4], begin and end of two runs per row.

    Args:
        family: the same of all records of the window's family, and of all fresh ones up to t.
    """
    if isinstance(window, Sliding):
        cuts = family.copy()
        lowest = (t - window.length) // window.hop * window.hop
        runs = cuts.reshape(-1, 2)
        keys = lowest if isinstance(lowest, int) else lowest.repeat(2)
        runs[:, 0] = lower_bounds(words[0][:-1], runs[:, 0], runs[:, 1], keys)
        return cuts
    if isinstance(window, Session):
        cuts = family.copy()
        cuts[:, 0], cuts[:, 2] = _latest_session(words, window.gap, family, t)
        return cuts
    return family


def _latest_session(words: WordColumns, gap: Micros, family: Ints, t: Micros | Ints) -> tuple[Ints, Ints]:
    """Where the open session's records begin: among the merged intervals (at most one), and among the fresh records."""
    begins, ends, fresh, fresh_ends = family.T
    times = words[0]
    latest = np.where(ends > begins, words[1][ends - 1], NEVER)
    begins = np.maximum(ends - 1, begins)
    sizes = fresh_ends - fresh
    some = np.flatnonzero(sizes)
    if len(some):
        lines, rows = ranges(fresh[some], sizes[some]), np.repeat(some, sizes[some])
        fresh_times = times[lines]
        head = firsts(rows)
        previous = np.concatenate([[0], fresh_times[:-1]])
        previous[head] = latest[some]
        broken = fresh_times - previous > gap
        cuts = np.maximum.reduceat(np.where(broken, lines, -1), np.flatnonzero(head))
        cut = cuts >= 0
        begins[some[cut]] = ends[some[cut]]
        fresh = fresh.copy()
        fresh[some[cut]] = cuts[cut]
        latest[some] = fresh_times[np.cumsum(sizes[some]) - 1]
    over = latest < t - gap
    return np.where(over, ends, begins), np.where(over, fresh_ends, fresh)


def _reduced(layout: RowLayout, state: StateRows, runs: RecordRuns, asked: _WindowRequest) -> dict[int, Ints]:
    """One merged state per row, word by word, of the parts that the outputs read; empty where there is no record."""
    reduced: dict[int, Ints] = {}
    for part in asked.in_place:
        part.merge_in_place(runs, reduced)
    if asked.gathered:
        # Parts that look at each record's neighbours need those of all runs side by side.
        lengths = runs.cuts[:, 1::2] - runs.cuts[:, 0::2]
        lines, sizes = ranges(runs.cuts[:, 0::2].reshape(-1), lengths.reshape(-1)), lengths.sum(axis=1)
        filled = np.flatnonzero(sizes)
        heads = np.cumsum(sizes) - sizes
        merged = reduce_groups(layout, state.records[lines].T, heads[filled], state.pool, parts=asked.gathered)
        for part in asked.gathered:
            for word in part.words:
                reduced[word] = np.full(len(state), layout.empty[word])
                reduced[word][filled] = merged[word]
    return reduced


def _answer(output: AggregateOutput, states: Mapping[int, Ints], pool: ObjectPool) -> tuple[list[Any], int]:
    """One aggregate from the merged states, and how many sums did not fit their type."""
    function, part = output.aggregation.function, output.parts[0]
    if function == "count":
        return states[part.at].tolist(), 0
    if part.holds_object:
        return _objects(output, part, states, pool), 0
    if isinstance(part, Pick):
        # What was never set has the order's lowest (or highest) word.
        return _restored(output, states[part.value_at], missing=states[part.at] == part.empty[0]), 0
    counts = states[output.parts[1].at]
    if function in ("min", "max"):
        return _restored(output, states[part.at], missing=counts == 0), 0
    if isinstance(part, DecimalSum):
        return _decimals(output, part, states, counts)
    if function in ("std", "var"):
        return _listed(variance(output, states, counts), missing=counts < 2), 0
    if part.kind == "float_sum":
        totals = states[part.at].view(np.float64)
        return _listed(totals / counts if function == "mean" else totals, missing=counts == 0), 0
    low, high = states[part.at], states[part.at + 1]
    # A total fits 64 bits where its upper limb fits 32.
    misfits = (high + 2**31) >> 32 != 0
    exact = (high << 32) | low
    if function == "sum":
        return _listed(exact, missing=(counts == 0) | misfits), int(misfits.sum())
    totals = np.where(misfits, high.astype(np.float64) * 2.0**32 + low, exact.astype(np.float64))
    return _listed(totals / counts, missing=counts == 0), 0


def _listed(values: NDArray[Any], *, missing: Mask) -> list[Any]:
    listed: list[Any] = values.tolist()
    for row in missing.nonzero()[0].tolist():
        listed[row] = None
    return listed


def _restored(output: AggregateOutput, words: Ints, *, missing: Mask) -> list[Any]:
    """Words as the values that they stand for."""
    assert output.column is not None
    listed = _listed(words.view(np.float64) if output.column.is_float else words, missing=missing)
    back = restored(output.column)
    return listed if back is None else [None if value is None else back(value) for value in listed]


def variance(output: AggregateOutput, states: Mapping[int, Ints], counts: Ints) -> NDArray[np.float64]:
    """The sample variance or its root; NaN where an infinite value or NaN is among the values."""
    part = output.parts[0]
    means, squares = states[part.at].view(np.float64), states[part.at + 1].view(np.float64)
    spread = np.where(np.isfinite(means), squares / np.maximum(counts - 1, 1), np.nan)
    return np.sqrt(spread) if output.aggregation.function == "std" else spread


def _decimals(
    output: AggregateOutput, part: StateComponent, states: Mapping[int, Ints], counts: Ints
) -> tuple[list[Any], int]:
    assert output.column is not None
    scale, values, misfits = output.column.scale, [], 0
    limbs = (states[word].tolist() for word in part.words)
    for l0, l1, l2, l3, count in zip(*limbs, counts.tolist()):
        total = l0 + (l1 << 32) + (l2 << 64) + (l3 << 96)
        value: Any = None
        if count and output.aggregation.function == "mean":
            value = total / (count * 10**scale)
        elif count and abs(total) < 10 ** (output.dtype.precision or 38):
            value = unscaled(total, scale)
        elif count:
            misfits += 1
        values.append(value)
    return values, misfits


def _objects(output: AggregateOutput, part: StateComponent, states: Mapping[int, Ints], pool: ObjectPool) -> list[Any]:
    read = object_reader(output)
    nothing = 0 if output.aggregation.function == "count_distinct" else None
    return [read(pool[name]) if name != NONE else nothing for name in states[part.at + part.width - 1].tolist()]


def object_reader(output: AggregateOutput) -> Any:
    """How an object of the pool becomes this output's value."""
    function, column = output.aggregation.function, output.column
    assert column is not None
    back = restored(column)
    if function == "count_distinct":
        return len
    if function == "last_n":
        if back is None:
            return lambda state: [place[-1] for place in state]
        return lambda state: [back(place[-1]) for place in state]
    return back or (lambda state: state)
