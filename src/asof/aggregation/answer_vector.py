"""A view's aggregates from the states of many rows at once: the general way, which `answer_scalar` must equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asof.aggregation import float_sums
from asof.aggregation.layout import AggregateOutput, RowLayout
from asof.aggregation.merge import reduce_groups
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
        columns: aggregate's name → n Python values.
        behind: rows that have merged events later than t, and so cannot be read as of t; their values are meaningless.
        incomplete: rows whose sessions must be recomputed from the archive.
        overflow: rows that exceeded the size limit; all their values are null.
        out_of_range: number of integer or decimal sums that do not fit their type, and are null.
        newest: the time of each row's newest fresh event up to t, else the row's horizon, which is not before any
            merged event; `NEVER` without events.
    """

    columns: Mapping[str, list[Any]]
    behind: Sequence[bool] | Mask
    incomplete: Sequence[bool] | Mask
    overflow: Sequence[bool] | Mask
    out_of_range: int
    newest: Sequence[Micros] | Ints


@dataclass(frozen=True)
class _WindowRequest:
    """The requested outputs of one window.

    Args:
        in_place: state components that are reduced without copying records; `gathered`: the others.
    """

    window: Window | None
    family: int
    outputs: tuple[AggregateOutput, ...]
    in_place: tuple[StateComponent, ...]
    gathered: tuple[StateComponent, ...]


def finish(
    layout: RowLayout, state: StateRows, t: Micros | Ints, names: Sequence[str] | None = None
) -> VectorAggregates:
    """Compute the named aggregates (default: all) of every row as of t: one time, or int64[n].

    A row can be read as of any t from its horizon on. The horizon is the time of its newest event that was due at the
    last fold, less the layout's margin.
    """
    # Each row's records are two sorted runs: those of a window's family, and the fresh ones. The values of a row are
    # those of the records between four cuts:
    #
    #     family   | too old | 0 … in the window … 1 |
    #     fresh    | too old | 2 … in the window … 3 | later than t |
    #
    # Merged records need no upper cut: t is not before the horizon, and no merged event is after it.
    reach = t - 1 if layout.exclusive else t
    order, windows = _plan(layout, tuple(names) if names is not None else None)
    words = WordColumns(state.records)
    times = words[0]
    ends = state.counts.cumsum(axis=1)
    ends += state.starts[:, None]
    begins = ends - state.counts
    fresh, fresh_ends = begins[:, layout.fresh], ends[:, layout.fresh]
    has_fresh = fresh_ends > fresh
    # The usual read is as of now, when no fresh event is later than t: then this one comparison is all.
    newest = times[fresh_ends - 1]
    if (has_fresh & (newest > reach)).any():
        fresh_ends = lower_bounds(times[:-1], fresh, fresh_ends, reach + 1)
        has_fresh = fresh_ends > fresh
        newest = times[fresh_ends - 1]
    cuts = np.empty((len(state), 4), dtype=np.int64)
    cuts[:, 2], cuts[:, 3] = fresh, fresh_ends
    columns: dict[str, Any] = {}
    out_of_range = 0
    # NaN and infinities propagate without warnings.
    with np.errstate(all="ignore"):
        for request in windows:
            cuts[:, 0], cuts[:, 1] = begins[:, request.family], ends[:, request.family]
            states = _reduced(layout, state, RecordRuns(words, _members(words, request.window, cuts, t)), request)
            for output in request.outputs:
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
    """The outputs' names in order, and the requested outputs of each window."""
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
    """The lines of the records in a window that ends at each row's t: int64[n, 4], begin and end of two runs per row.

    Args:
        family: the same for all records of the window's family, and for all fresh ones up to t.
    """
    if isinstance(window, Sliding):
        cuts = family.copy()
        # The window's start moves in hops, so a tile is either in the window as a whole or not at all.
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
    """Where the open session's records begin: among the merged sessions (at most one), and among the fresh records."""
    # Merged sessions are more than a gap apart, so only the last one can be open. Fresh events continue it, or begin a
    # new session wherever one is more than the gap after the event before it.
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
        # The last break of each row is where its latest session begins; after a break, no merged record belongs to it.
        cuts = np.maximum.reduceat(np.where(broken, lines, -1), np.flatnonzero(head))
        cut = cuts >= 0
        begins[some[cut]] = ends[some[cut]]
        fresh = fresh.copy()
        fresh[some[cut]] = cuts[cut]
        latest[some] = fresh_times[np.cumsum(sizes[some]) - 1]
    over = latest < t - gap
    return np.where(over, ends, begins), np.where(over, fresh_ends, fresh)


def _reduced(layout: RowLayout, state: StateRows, runs: RecordRuns, request: _WindowRequest) -> dict[int, Ints]:
    """One merged state per row, word by word, for the outputs' state components; empty where there is no record."""
    reduced: dict[int, Ints] = {}
    for part in request.in_place:
        part.merge_in_place(runs, reduced)
    if request.gathered:
        # Such a state cannot be reduced one word at a time: copy the records of both runs of each row side by side.
        lengths = runs.cuts[:, 1::2] - runs.cuts[:, 0::2]
        lines, sizes = ranges(runs.cuts[:, 0::2].reshape(-1), lengths.reshape(-1)), lengths.sum(axis=1)
        filled = np.flatnonzero(sizes)
        heads = np.cumsum(sizes) - sizes
        merged = reduce_groups(layout, state.records[lines].T, heads[filled], state.pool, parts=request.gathered)
        for part in request.gathered:
            for word in part.words:
                reduced[word] = np.full(len(state), layout.empty[word])
                reduced[word][filled] = merged[word]
    return reduced


def _answer(output: AggregateOutput, states: Mapping[int, Ints], pool: ObjectPool) -> tuple[list[Any], int]:
    """One aggregate from the merged states, and the number of sums that do not fit their type."""
    function, part = output.aggregation.function, output.parts[0]
    if function == "count":
        return states[part.at].tolist(), 0
    if part.holds_object:
        return _objects(output, part, states, pool), 0
    if isinstance(part, Pick):
        # Without values, the first word still has its initial value.
        return _restored(output, states[part.value_at], missing=states[part.at] == part.empty[0]), 0
    counts = states[output.parts[1].at]
    if function in ("min", "max"):
        return _restored(output, states[part.at], missing=counts == 0), 0
    if isinstance(part, DecimalSum):
        return _decimals(output, part, states, counts)
    if function in ("std", "var"):
        return _listed(variance(output, states, counts), missing=counts < 2), 0
    if part.kind == "float_sum":
        totals = float_sums.doubles_of(states[part.at])
        return _listed(totals / counts if function == "mean" else totals, missing=counts == 0), 0
    low, high = states[part.at], states[part.at + 1]
    # A total fits 64 bits if its upper limb fits 32 bits, signed: moved up by 2**31 it has no bits above.
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
    """Convert words to values."""
    assert output.column is not None
    listed = _listed(words.view(np.float64) if output.column.is_float else words, missing=missing)
    back = restored(output.column)
    return listed if back is None else [None if value is None else back(value) for value in listed]


def variance(output: AggregateOutput, states: Mapping[int, Ints], counts: Ints) -> NDArray[np.float64]:
    """The sample variance or its square root; NaN if any value is infinite or NaN."""
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
    """A function from an object of the pool to this output's value."""
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
