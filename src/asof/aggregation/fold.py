"""Bring events into the states of their rows, and merge two states of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asof.aggregation.layout import EVER, RowLayout
from asof.aggregation.merging import IncomingRecords, absorb, concatenated
from asof.aggregation.objects import NONE, ObjectPool
from asof.aggregation.rows import StateRows
from asof.aggregation.segments import firsts, ranges
from asof.aggregation.states import Ints
from asof.aggregation.words import InputColumn
from asof.timing import Micros

Mask = NDArray[np.bool_]
_SIGN = 1 << 31


@dataclass(frozen=True)
class Events:
    """n events as columns.

    Args:
        rows: int64[n], the number of each event's row in the state.
        event_time: int64[n], microseconds.
        created: int64[n], the created time, or the event time where it is null; not read where the layout has none.
        partition: int[n], a code of the log partition that fits 32 bits.
        offset: int64[n]; (partition, offset) names an event: what a row has seen is dropped.
        values: per input of the layout (values, mask): numpy or Arrow values (None for `count` of rows), and bool[n],
            true where the condition holds and the value is not null.
        arrival: int64[n] each, what orders events of equal times: of a layout that keeps it era, first and second
            (`asof.sql.arrival`); None: offset and partition.
    """

    rows: Ints
    event_time: Ints
    created: Ints
    partition: NDArray[Any]
    offset: Ints
    values: Sequence[tuple[Any, Mask]]
    arrival: Sequence[Ints] | None = None


@dataclass(frozen=True)
class FoldCounts:
    """What became of a batch's events.

    Attributes:
        events: all of them.
        replayed: seen before, left out.
        late: older than everything the row keeps; no feature of the row can show them.
        session_late: left out of at least one session, because their session was over long ago.
        pending: later than the clock; they count when they are due.
        incomplete: rows that were marked for recomputation by this batch.
        overflowed: events of rows that had passed the size limit before.
    """

    events: int = 0
    replayed: int = 0
    late: int = 0
    session_late: int = 0
    pending: int = 0
    incomplete: int = 0
    overflowed: int = 0


def fold(layout: RowLayout, state: StateRows, events: Events, *, clock_us: Micros) -> tuple[StateRows, FoldCounts]:
    """The state with these events in it, and what became of them.

    An event at or below the row's offset of its partition is dropped, so folding a batch again changes nothing. An
    event later than the clock (or, on an exclusive boundary, at the newest instant) stays apart until it is due.
    """
    total = len(events.rows)
    events_rows = np.asarray(events.rows, dtype=np.int64)
    new, state = _advance(state, events_rows, events)
    replayed = total - int(new.sum())
    alive = new & ~state.overflow[events_rows]
    overflowed = int(new.sum() - alive.sum())
    chosen = alive if not alive.all() else None
    rows = events_rows if chosen is None else events_rows[chosen]
    pool = state.pool.copy()
    states = _start(layout, events, chosen, pool)
    times = states[0]

    horizon = state.horizon.copy()
    due = times <= clock_us
    np.maximum.at(horizon, rows[due], times[due] - layout.margin)
    old_rows, old_lines = _fresh(layout, state)
    if len(old_lines):
        old_times = state.records[old_lines, 0]
        old_due = old_times <= clock_us
        np.maximum.at(horizon, old_rows[old_due], old_times[old_due] - layout.margin)
        ripe = old_times <= horizon[old_rows]
        rows = np.concatenate([rows, old_rows[ripe]])
        states = np.concatenate([states, state.records[old_lines[ripe]].T], axis=1)
    incoming, origin = _spread(layout, rows, states, horizon)
    state = replace(state, horizon=horizon, pool=pool)
    merged, kept, late_for_session, incomplete = absorb(layout, state, incoming)

    used, missed = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    used[origin[kept]] = True
    missed[origin[late_for_session]] = True
    fresh_events = len(times)
    return merged, FoldCounts(
        events=total, replayed=replayed, late=int((~used[:fresh_events]).sum()),
        session_late=int(missed[:fresh_events].sum()), pending=int((~due).sum()), incomplete=incomplete,
        overflowed=overflowed,
    )  # fmt: skip


def merge(layout: RowLayout, left: StateRows, right: StateRows) -> StateRows:
    """The join of two states of the same rows that saw different events, such as a bulk build and what came after it.

    Both have to be of the same layout; in which order they are joined makes no difference.
    """
    horizon = np.maximum(left.horizon, right.horizon)
    dropped = np.maximum(left.dropped, right.dropped)
    pool = left.pool.joined(right.pool)
    totals = right.counts.sum(axis=1)
    lines = ranges(right.starts, totals)
    states = np.ascontiguousarray(right.records[lines].T)
    for word in layout.object_words:
        states[word] = left.pool.renamed(states[word])
    families = np.tile(np.arange(len(layout.families)), len(right))
    incoming = IncomingRecords(
        np.repeat(np.arange(len(right)), totals), np.repeat(families, right.counts.reshape(-1)), states
    )
    folded = incoming.family != layout.fresh
    rows, fresh_states = incoming.rows[~folded], incoming.states[:, ~folded]
    left_rows, left_lines = _fresh(layout, left)
    ripe = left.records[left_lines, 0] <= horizon[left_rows]
    rows = np.concatenate([rows, left_rows[ripe]])
    fresh_states = np.concatenate([fresh_states, left.records[left_lines[ripe]].T], axis=1)
    spread, _ = _spread(layout, rows, fresh_states, horizon)
    incoming = concatenated([incoming.take(folded), spread])

    both = with_offsets(left, right.offset_rows, right.partitions, right.offsets)
    both = replace(both, horizon=horizon, dropped=dropped, pool=pool, flags=left.flags | right.flags)
    # What one side has dropped may belong to a session of the other.
    recheck: Any = (dropped > left.dropped).any(axis=1)
    return absorb(layout, both, incoming, recheck=recheck)[0]


def _advance(state: StateRows, rows: Ints, events: Events) -> tuple[Mask, StateRows]:
    """Which events are new to their row, and the state with its offsets moved on."""
    partitions = np.asarray(events.partition, dtype=np.int64)
    offsets = np.asarray(events.offset, dtype=np.int64)
    new = np.ones(len(rows), dtype=bool)
    if len(state.offset_rows) and len(rows):
        known, keys = _place(state.offset_rows, state.partitions), _place(rows, partitions)
        found = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        new = (known[found] != keys) | (offsets > state.offsets[found])
    # The same event twice in one batch; a batch of one partition in its order has none.
    if len(rows) > 1 and not ((partitions == partitions[0]).all() and (offsets[1:] > offsets[:-1]).all()):
        order = np.lexsort((offsets, partitions, rows))
        new[order[~firsts(rows[order], partitions[order], offsets[order])]] = False
    return new, with_offsets(state, rows[new], partitions[new], offsets[new])


def _place(rows: Ints, partitions: Ints) -> Ints:
    return (rows << 32) + (partitions + _SIGN)


def with_offsets(state: StateRows, rows: Ints, partitions: Ints, offsets: Ints) -> StateRows:
    """The state with, per row and partition, the greatest of its own offset and these (int64[k] each)."""
    if not len(rows):
        return state
    known, keys = _place(state.offset_rows, state.partitions), _place(rows, partitions)
    if len(known):
        found = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        if (known[found] == keys).all():
            moved = state.offsets.copy()
            np.maximum.at(moved, found, offsets)
            return replace(state, offsets=moved)
    keys, offsets = np.concatenate([known, keys]), np.concatenate([state.offsets, offsets])
    order = np.argsort(keys, kind="stable")
    keys, offsets = keys[order], offsets[order]
    heads = np.flatnonzero(firsts(keys))
    keys = keys[heads]
    return replace(
        state, offset_rows=keys >> 32, partitions=(keys & 0xFFFFFFFF) - _SIGN,
        offsets=np.maximum.reduceat(offsets, heads),
    )  # fmt: skip


def _start(layout: RowLayout, events: Events, chosen: Mask | None, pool: ObjectPool) -> Ints:
    """The state of each single event, words × events."""
    pairs = zip(events.values, layout.dtypes)
    columns = [InputColumn(values, np.asarray(mask, dtype=bool), dtype) for (values, mask), dtype in pairs]
    order: list[NDArray[Any]] = [events.event_time, events.created]
    order += [events.offset, events.partition] if events.arrival is None else events.arrival
    assert len(order) == 4 + layout.keeps_arrival, "these events are of another layout"
    if not layout.created:
        del order[1]
    order = [np.asarray(numbers, dtype=np.int64) for numbers in order]
    if chosen is not None:
        columns = [column.take(chosen) for column in columns]
        order = [numbers[chosen] for numbers in order]
    states = np.empty((layout.width, len(order[0])), dtype=np.int64)
    states[: layout.states_at] = order[0]
    for part in layout.parts:
        part.start(columns[part.source], order, states, pool)
    return states


def _fresh(layout: RowLayout, state: StateRows) -> tuple[Ints, Ints]:
    """Row numbers and record lines of all fresh records."""
    counts = state.counts[:, layout.fresh]
    begins = state.starts + state.counts[:, : layout.fresh].sum(axis=1)
    return np.repeat(np.arange(len(state)), counts), ranges(begins, counts)


def _spread(layout: RowLayout, rows: Ints, states: Ints, horizon: Ints) -> tuple[IncomingRecords, Ints]:
    """Each single event's record for each family that it belongs to, and the number of its event.

    An event later than the horizon is one fresh record; any other has one record per family.
    """
    ripe = states[0] <= horizon[rows]
    folded, later = np.flatnonzero(ripe), np.flatnonzero(~ripe)
    groups = [*((family, folded) for family in range(layout.fresh)), (layout.fresh, later)]
    origin = np.concatenate([chosen for _, chosen in groups])
    family = np.repeat([number for number, _ in groups], [len(chosen) for _, chosen in groups])
    spread = states[:, origin]
    position = 0
    for number, chosen in groups:
        part = slice(position, position + len(chosen))
        position += len(chosen)
        if number in layout.tiles:
            step = layout.families[number].step
            spread[0, part] = 0 if layout.families[number].kind == EVER else spread[0, part] // step * step
        for word in layout.unused_objects[number]:
            spread[word, part] = NONE
    return IncomingRecords(rows[origin], family, spread), origin
