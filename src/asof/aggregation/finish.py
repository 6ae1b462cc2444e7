"""Answer a view's aggregates from the states of many rows at once, as Arrow columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from asof.aggregation.absorb import reduce_groups
from asof.aggregation.layout import Layout, Output
from asof.aggregation.parts import DecimalSum, Ints, Part, Pick
from asof.aggregation.pool import NONE, Pool
from asof.aggregation.rows import NEVER, State
from asof.aggregation.runs import firsts, lower_bounds, ranges
from asof.aggregation.values import column_of_words, restored, unscaled
from asof.definitions.windows import Session, Sliding, Window
from asof.timing import Micros

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """The aggregates of n rows as of one t, or of one t per row.

    Attributes:
        columns: by the aggregate's name an Arrow array of n values; `answer_few` gives lists of Python values instead.
        behind: rows that have merged events later than t: they cannot be answered as of t. Their values mean nothing.
        incomplete: rows whose sessions must be recomputed from the archive.
        overflow: rows that passed the size limit; all their values are null.
        out_of_range: how many integer or decimal sums did not fit their type, and read as null.
        newest: the time of each row's newest event that the windows could hold, as far as it still stands apart; else
            the row's horizon, which no merged event is later than; `NEVER` without events.
    """

    columns: Mapping[str, Any]
    behind: Sequence[bool] | Mask
    incomplete: Sequence[bool] | Mask
    overflow: Sequence[bool] | Mask
    out_of_range: int
    newest: Sequence[Micros] | Ints


def finish(layout: Layout, state: State, t: Micros | Ints, names: Sequence[str] | None = None) -> Answers:
    """Every named aggregate (all by default) of every row, as of t: a moment, or int64[n].

    A row can be asked for any t from its horizon on: the time of its newest event that is not later than the clock
    that the last fold was given, less the layout's margin.
    """
    reach = t - 1 if layout.exclusive else t
    outputs = [layout.by_name[name] for name in names] if names is not None else list(layout.outputs)
    windows: dict[Window | None, list[Output]] = {}
    for output in outputs:
        windows.setdefault(output.aggregation.window, []).append(output)
    ends = state.starts[:, None] + state.counts.cumsum(axis=1)
    begins = ends - state.counts
    fresh = begins[:, layout.fresh]
    fresh_ends = lower_bounds(state.records[:, 0], fresh, ends[:, layout.fresh], reach + 1)
    overflow = state.overflow
    columns: dict[str, Any] = {}
    out_of_range = 0
    for window, of_window in windows.items():
        family = of_window[0].family
        merged = begins[:, family], ends[:, family]
        bounds = _members(state, window, merged, (fresh, fresh_ends), t)
        states = _reduced(layout, state, bounds, of_window)
        for output in of_window:
            column, misfits = answer(layout, output, states, state.pool, ~overflow)
            columns[output.name] = column
            out_of_range += misfits
    columns = {output.name: columns[output.name] for output in outputs}
    newest = state.horizon
    if len(state.records):
        newest = np.where(fresh_ends > fresh, state.records[fresh_ends - 1, 0], newest)
    return Answers(columns, reach < state.horizon, state.incomplete, overflow, out_of_range, newest)


def _members(
    state: State, window: Window | None, merged: tuple[Ints, Ints], fresh: tuple[Ints, Ints], t: Micros | Ints
) -> Ints:
    """The record lines that a window ending at each row's t holds: int64[n, 4], begin and end of two runs per row.

    Args:
        merged: begin and end of the lines of each row's family.
        fresh: begin and end of the lines of each row's fresh records, up to t.
    """
    bounds = np.stack((*merged, *fresh), axis=1)
    if isinstance(window, Sliding):
        lowest = (t - window.length) // window.hop * window.hop
        runs = bounds.reshape(-1, 2)
        keys = lowest if isinstance(lowest, int) else lowest.repeat(2)
        runs[:, 0] = lower_bounds(state.records[:, 0], runs[:, 0], runs[:, 1], keys)
    elif isinstance(window, Session):
        bounds[:, 0], bounds[:, 2] = _latest_session(state, window.gap, *merged, *fresh, t)
    return bounds


def _latest_session(
    state: State, gap: Micros, begins: Ints, ends: Ints, fresh: Ints, fresh_ends: Ints, t: Micros | Ints
) -> tuple[Ints, Ints]:
    """Where the open session's records begin: among the merged intervals (at most one), and among the fresh records."""
    if not len(state.records):
        return ends, fresh_ends
    lasts = state.records[:, 1]
    has_interval = ends > begins
    latest = np.where(has_interval, lasts[np.maximum(ends, 1) - 1], NEVER)
    begins = np.where(has_interval, ends - 1, ends)
    sizes = fresh_ends - fresh
    some = np.flatnonzero(sizes)
    if len(some):
        lines, rows = ranges(fresh[some], sizes[some]), np.repeat(some, sizes[some])
        times = state.records[lines, 0]
        head = firsts(rows)
        previous = np.concatenate([[0], times[:-1]])
        previous[head] = latest[some]
        broken = times - previous > gap
        cuts = np.maximum.reduceat(np.where(broken, lines, -1), np.flatnonzero(head))
        cut = cuts >= 0
        begins[some[cut]] = ends[some[cut]]
        fresh = fresh.copy()
        fresh[some[cut]] = cuts[cut]
        latest[some] = times[np.cumsum(sizes[some]) - 1]
    over = latest < t - gap
    return np.where(over, ends, begins), np.where(over, fresh_ends, fresh)


def _reduced(layout: Layout, state: State, bounds: Ints, outputs: Sequence[Output]) -> Ints:
    """One merged state per row (words × rows), of the parts that these outputs read; empty where there is no record."""
    parts = list(dict.fromkeys(part for output in outputs for part in output.parts))
    merged = np.empty((layout.width, len(state)), dtype=np.int64)
    in_place = [part for part in parts if part.merges_in_place]
    if in_place:
        _reduce_in_place(layout, state, bounds, in_place, merged)
    if len(in_place) < len(parts):
        _reduce_gathered(layout, state, bounds, [part for part in parts if not part.merges_in_place], merged)
    return merged


def _reduce_in_place(layout: Layout, state: State, bounds: Ints, parts: Sequence[Part], out: Ints) -> None:
    """Reduce the runs where they lie: what lies between them is reduced, too, which costs less than to copy them."""
    # Ascending: row after row lie the runs, and between them what is not asked for.
    cuts = bounds.reshape(-1)
    cuts = cuts[: np.searchsorted(cuts, len(state.records))]
    runs = np.empty((layout.width, bounds.size), dtype=np.int64)
    if len(cuts):
        with np.errstate(invalid="ignore", over="ignore"):
            for part in parts:
                part.merge(state.records.T, cuts, cuts, runs[:, : len(cuts)], state.pool)
    filled = bounds[:, 0::2] < bounds[:, 1::2]
    runs = np.where(filled.reshape(-1), runs[:, 0::2], layout.empty[:, None])
    for part in parts:
        part.merge(runs, np.arange(0, runs.shape[1], 2), cuts, out, state.pool)


def _reduce_gathered(layout: Layout, state: State, bounds: Ints, parts: Sequence[Part], out: Ints) -> None:
    """Gather the records of all runs and reduce them: for parts that look at each record's neighbours."""
    lengths = bounds[:, 1::2] - bounds[:, 0::2]
    lines, sizes = ranges(bounds[:, 0::2].reshape(-1), lengths.reshape(-1)), lengths.sum(axis=1)
    filled = np.flatnonzero(sizes)
    states = state.records[lines].T
    heads = np.cumsum(sizes) - sizes
    reduced = reduce_groups(layout, states, heads[filled], state.pool, parts=parts)
    for part in parts:
        for word in part.words:
            out[word] = layout.empty[word]
            out[word, filled] = reduced[word]


def answer(
    layout: Layout, output: Output, states: Ints, pool: Pool, alive: Mask
) -> tuple[pa.Array, int]:
    """One aggregate from the merged states (words × rows), and how many sums did not fit their type."""
    function, dtype, part = output.aggregation.function, output.dtype, output.parts[0]
    if function == "count":
        return pa.array(states[part.at], mask=None if alive.all() else ~alive), 0
    if part.holds_object:
        return _objects(output, part, states, pool, alive), 0
    if isinstance(part, Pick):
        # What was never set has the order's lowest (or highest) word.
        valid = (states[part.at] != part.empty[0]) & alive
        return column_of_words(_typed(states[part.value_at], output), valid, dtype), 0
    counts = states[output.parts[1].at]
    valid = (counts > 0) & alive
    if function in ("min", "max"):
        return column_of_words(_typed(states[part.at], output), valid, dtype), 0
    if isinstance(part, DecimalSum):
        return _decimals(output, part, states, counts, valid)
    if function in ("std", "var"):
        return pa.array(variance(output, states, counts), mask=~(valid & (counts > 1))), 0
    if part.kind == "float_sum":
        totals = states[part.at].view(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return pa.array(totals / np.maximum(counts, 1) if function == "mean" else totals, mask=~valid), 0
    low, high = states[part.at], states[part.at + 1]
    fits = (high >= -(2**31)) & (high < 2**31)
    exact = (high << 32) | low
    if function == "sum":
        return pa.array(exact, mask=~(valid & fits)), int((valid & ~fits).sum())
    totals = np.where(fits, exact.astype(np.float64), high.astype(np.float64) * 2.0**32 + low)
    return pa.array(totals / np.maximum(counts, 1), mask=~valid), 0


def variance(output: Output, states: Ints, counts: Ints) -> NDArray[np.float64]:
    """The sample variance or its root; NaN where an infinite value or NaN is among the values."""
    part = output.parts[0]
    means, squares = states[part.at].view(np.float64), states[part.at + 1].view(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        spread = np.where(np.isfinite(means), squares / np.maximum(counts - 1, 1), np.nan)
        return np.sqrt(spread) if output.aggregation.function == "std" else spread


def _typed(words: Ints, output: Output) -> NDArray[Any]:
    return words.view(np.float64) if output.column is not None and output.column.is_float else words


def _decimals(output: Output, part: Part, states: Ints, counts: Ints, valid: Mask) -> tuple[pa.Array, int]:
    assert output.column is not None
    scale, values, misfits = output.column.scale, [], 0
    limbs = (states[word].tolist() for word in part.words)
    for l0, l1, l2, l3, count, good in zip(*limbs, counts.tolist(), valid.tolist()):
        total = l0 + (l1 << 32) + (l2 << 64) + (l3 << 96)
        value: Any = None
        if good and output.aggregation.function == "mean":
            value = total / (count * 10**scale)
        elif good and abs(total) < 10 ** (output.dtype.precision or 38):
            value = unscaled(total, scale)
        elif good:
            misfits += 1
        values.append(value)
    return pa.array(values, type=output.dtype.arrow()), misfits


def _objects(output: Output, part: Part, states: Ints, pool: Pool, alive: Mask) -> pa.Array:
    word = part.at + part.width - 1
    read = object_reader(output)
    values = [read(pool[name]) if name != NONE else None for name in states[word].tolist()]
    if output.aggregation.function == "count_distinct":
        values = [0 if value is None else value for value in values]
    if not alive.all():
        values = [value if good else None for value, good in zip(values, alive.tolist())]
    return pa.array(values, type=output.dtype.arrow())


def object_reader(output: Output) -> Any:
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
