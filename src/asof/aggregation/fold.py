"""Fold events into the states of their rows, and merge two states of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asof.aggregation.layout import EVER, RowLayout
from asof.aggregation.merge import IncomingRecords, concatenated, merge_records
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
        rows: int64[n], the row number of each event in the state.
        event_time: int64[n], microseconds.
        created: int64[n], the created time, or the event time where it is null; ignored if the layout has no created
            time.
        partition: int[n], the number of the log partition, which fits 32 bits.
        offset: int64[n]; (partition, offset) identifies an event: those that a row has seen are dropped.
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
    """Counts of a batch's events by what happened to them.

    Attributes:
        events: all of them.
        replayed: seen before and dropped.
        late: older than everything that the row keeps, so that no feature can include them.
        session_late: missing from at least one session, because it had ended long ago.
        pending: later than the clock; they count once they are due.
        incomplete: rows that this batch marked for recomputation.
        overflowed: events of rows that had exceeded the size limit before.
    """

    events: int = 0
    replayed: int = 0
    late: int = 0
    session_late: int = 0
    pending: int = 0
    incomplete: int = 0
    overflowed: int = 0


def fold(
    layout: RowLayout, state: StateRows, events: Events, *, clock_us: Micros, unseen: bool = False
) -> tuple[StateRows, FoldCounts]:
    """Fold events into the state; returns the new state and the counts.

    An event at or below the row's offset of its partition is dropped, so folding a batch again changes nothing. An
    event later than the clock (or, on an exclusive boundary, at the newest instant) stays a fresh record until it is
    due.

    Args:
        unseen: the rows have seen none of the events, whatever their offsets: those of a bulk build, which come in
            the order of their times.
    """
    total = len(events.rows)
    events_rows = np.asarray(events.rows, dtype=np.int64)
    new, state = _advance(state, events_rows, events, unseen=unseen)
    replayed = total - int(new.sum())
    alive = new & ~state.overflow[events_rows]
    overflowed = int(new.sum() - alive.sum())
    chosen = alive if not alive.all() else None
    rows = events_rows if chosen is None else events_rows[chosen]
    pool = state.pool.copy()
    states = _start(layout, events, chosen, pool)
    times = states[0]

    # 1. The new horizon of each row is its newest due event (less the margin). It never goes back, and never passes the
    #    clock: a reader as of the clock, or of any later time, finds everything that it may see merged.
    horizon = state.horizon.copy()
    due = times <= clock_us
    np.maximum.at(horizon, rows[due], times[due] - layout.margin)
    # 2. Fresh records of earlier batches may have come due. Those that do are folded together with the new events,
    #    as if they were events of this batch, since a fresh record has all state components.
    old_rows, old_lines = _fresh(layout, state)
    if len(old_lines):
        old_times = state.records[old_lines, 0]
        old_due = old_times <= clock_us
        np.maximum.at(horizon, old_rows[old_due], old_times[old_due] - layout.margin)
        ripe = old_times <= horizon[old_rows]
        rows = np.concatenate([rows, old_rows[ripe]])
        states = np.concatenate([states, state.records[old_lines[ripe]].T], axis=1)
    # 3. One record per event and family, merged into the rows. Old fresh records that were folded are trimmed there,
    #    since they are not after the horizon any more.
    incoming, origin = _spread(layout, rows, states, horizon)
    state = replace(state, horizon=horizon, pool=pool)
    merged, kept, late_for_session, incomplete = merge_records(layout, state, incoming)

    # An event counts as late only if none of its records was kept. Only events of this batch are counted: they come
    # first in `rows`, the fresh records of earlier batches after them.
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
    """Merge two states of the same rows that saw different events, such as a bulk build and the stream since then.

    Both must have the same layout; the order of the two does not matter.
    """
    horizon = np.maximum(left.horizon, right.horizon)
    dropped = np.maximum(left.dropped, right.dropped)
    pool = left.pool.joined(right.pool)
    totals = right.counts.sum(axis=1)
    lines = ranges(right.starts, totals)
    states = np.ascontiguousarray(right.records[lines].T)
    # The right side's objects get new names in the joined pool.
    for word in layout.object_words:
        states[word] = left.pool.renamed(states[word])
    families = np.tile(np.arange(len(layout.families)), len(right))
    incoming = IncomingRecords(
        np.repeat(np.arange(len(right)), totals), np.repeat(families, right.counts.reshape(-1)), states
    )
    # The sides may have different horizons. Fresh records of either that are not after the greater one are spread to
    # the families, as in `fold`; all other records of the right side are merged into the left as they are.
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
    # A session that one side has dropped may touch a session of the other: check those again.
    recheck: Any = (dropped > left.dropped).any(axis=1)
    return merge_records(layout, both, incoming, recheck=recheck)[0]


def _advance(state: StateRows, rows: Ints, events: Events, *, unseen: bool) -> tuple[Mask, StateRows]:
    """Which events are new to their row, and the state with its offsets advanced."""
    partitions = np.asarray(events.partition, dtype=np.int64)
    offsets = np.asarray(events.offset, dtype=np.int64)
    new = np.ones(len(rows), dtype=bool)
    if len(state.offset_rows) and len(rows) and not unseen:
        known, keys = _place(state.offset_rows, state.partitions), _place(rows, partitions)
        found = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        new = (known[found] != keys) | (offsets > state.offsets[found])
    # Drop repeated events within the batch; a batch of one partition in ascending order has none.
    if len(rows) > 1 and not ((partitions == partitions[0]).all() and (offsets[1:] > offsets[:-1]).all()):
        order = np.lexsort((offsets, partitions, rows))
        new[order[~firsts(rows[order], partitions[order], offsets[order])]] = False
    return new, with_offsets(state, rows[new], partitions[new], offsets[new])


def _place(rows: Ints, partitions: Ints) -> Ints:
    """(row, partition) as one number that sorts like the pair, so that one `searchsorted` finds both.

    Partitions may be negative (-1 is history), so they are moved up by 2**31 to fit the lower 32 bits.
    """
    return (rows << 32) + (partitions + _SIGN)


def with_offsets(state: StateRows, rows: Ints, partitions: Ints, offsets: Ints) -> StateRows:
    """The state with its offsets raised to these (int64[k] each), per row and partition."""
    if not len(rows):
        return state
    known, keys = _place(state.offset_rows, state.partitions), _place(rows, partitions)
    if len(known):
        found = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        # The usual case: every (row, partition) has an entry already, so the columns keep their length.
        if (known[found] == keys).all():
            moved = state.offsets.copy()
            np.maximum.at(moved, found, offsets)
            return replace(state, offsets=moved)
    # Else merge the entries: sort them, and keep the greatest offset of each group of equal keys.
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
    """The states of single events, words × events."""
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
    """Row numbers and line numbers of all fresh records."""
    # They are the last family, so they begin after all other records of the row.
    counts = state.counts[:, layout.fresh]
    begins = state.starts + state.counts[:, : layout.fresh].sum(axis=1)
    return np.repeat(np.arange(len(state)), counts), ranges(begins, counts)


def _spread(layout: RowLayout, rows: Ints, states: Ints, horizon: Ints) -> tuple[IncomingRecords, Ints]:
    """Copy each event's state to a record per family that it belongs to; also returns the event's number per record.

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
            # A tile starts at its hop and the `ever` record at 0; session and fresh records keep the event's time.
            step = layout.families[number].step
            spread[0, part] = 0 if layout.families[number].kind == EVER else spread[0, part] // step * step
        for word in layout.unused_objects[number]:
            spread[word, part] = NONE
    return IncomingRecords(rows[origin], family, spread), origin
