"""Bring events into the states of their rows, and merge two states of the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asof.aggregation.layout import EVER, Layout
from asof.aggregation.parts import Ints, Part
from asof.aggregation.pool import NONE, Pool
from asof.aggregation.rows import INCOMPLETE, NEVER, State, header_records
from asof.aggregation.runs import firsts, lower_bounds, ranges, running_max
from asof.aggregation.values import Column
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
    """

    rows: Ints
    event_time: Ints
    created: Ints
    partition: NDArray[Any]
    offset: Ints
    values: Sequence[tuple[Any, Mask]]


@dataclass(frozen=True)
class Counts:
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


@dataclass
class _Incoming:
    """Records that are to be merged into the rows: where they belong, and their words (words × records)."""

    rows: Ints
    family: Ints
    states: Ints

    def take(self, chosen: NDArray[Any]) -> _Incoming:
        return _Incoming(self.rows[chosen], self.family[chosen], self.states[:, chosen])


def fold(layout: Layout, state: State, events: Events, *, clock_us: Micros) -> tuple[State, Counts]:
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
    merged, kept, late_for_session, incomplete = _absorb(layout, state, incoming)

    used, missed = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    used[origin[kept]] = True
    missed[origin[late_for_session]] = True
    fresh_events = len(times)
    return merged, Counts(
        events=total, replayed=replayed, late=int((~used[:fresh_events]).sum()),
        session_late=int(missed[:fresh_events].sum()), pending=int((~due).sum()), incomplete=incomplete,
        overflowed=overflowed,
    )  # fmt: skip


def merge(layout: Layout, left: State, right: State) -> State:
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
    incoming = _Incoming(
        np.repeat(np.arange(len(right)), totals), np.repeat(families, right.counts.reshape(-1)), states
    )
    folded = incoming.family != layout.fresh
    rows, fresh_states = incoming.rows[~folded], incoming.states[:, ~folded]
    left_rows, left_lines = _fresh(layout, left)
    ripe = left.records[left_lines, 0] <= horizon[left_rows]
    rows = np.concatenate([rows, left_rows[ripe]])
    fresh_states = np.concatenate([fresh_states, left.records[left_lines[ripe]].T], axis=1)
    spread, _ = _spread(layout, rows, fresh_states, horizon)
    incoming = _joined([incoming.take(folded), spread])

    both = with_offsets(left, right.offset_rows, right.partitions, right.offsets)
    both = replace(both, horizon=horizon, dropped=dropped, pool=pool, flags=left.flags | right.flags)
    return _absorb(layout, both, incoming)[0]


def _advance(state: State, rows: Ints, events: Events) -> tuple[Mask, State]:
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


def with_offsets(state: State, rows: Ints, partitions: Ints, offsets: Ints) -> State:
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


def _start(layout: Layout, events: Events, chosen: Mask | None, pool: Pool) -> Ints:
    """The state of each single event, words × events."""
    pairs = zip(events.values, layout.dtypes)
    columns = [Column(values, np.asarray(mask, dtype=bool), dtype) for (values, mask), dtype in pairs]
    order = [events.event_time, events.created, events.offset, events.partition]
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


def _fresh(layout: Layout, state: State) -> tuple[Ints, Ints]:
    """Row numbers and record lines of all fresh records."""
    counts = state.counts[:, layout.fresh]
    begins = state.starts + state.counts[:, : layout.fresh].sum(axis=1)
    return np.repeat(np.arange(len(state)), counts), ranges(begins, counts)


def _spread(layout: Layout, rows: Ints, states: Ints, horizon: Ints) -> tuple[_Incoming, Ints]:
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
    return _Incoming(rows[origin], family, spread), origin


def _joined(parts: Sequence[_Incoming]) -> _Incoming:
    return _Incoming(
        np.concatenate([part.rows for part in parts]), np.concatenate([part.family for part in parts]),
        np.concatenate([part.states for part in parts], axis=1),
    )  # fmt: skip


def _absorb(layout: Layout, state: State, incoming: _Incoming) -> tuple[State, Mask, Mask, int]:
    """Merge records into the rows, and trim the rows by their horizon.

    Returns:
        The new state; per incoming record whether it was kept, and whether it came too late for its session; how many
        rows were newly found incomplete.
    """
    families = len(layout.families)
    ends = state.starts[:, None] + np.cumsum(state.counts, axis=1)
    begins, ends = (ends - state.counts).reshape(-1), ends.reshape(-1)
    segments = incoming.rows * families + incoming.family
    oldest = _oldest(layout, state.horizon)
    in_session = np.isin(incoming.family, layout.sessions) if layout.sessions else np.zeros(len(segments), dtype=bool)

    # Old records that stay are a run per segment: what is trimmed lies at its beginning. Sessions are made anew.
    touched = np.zeros(len(begins), dtype=bool)
    touched[segments[in_session]] = True
    record_starts = state.records[:, 0]
    stays = lower_bounds(record_starts, begins, ends, oldest)
    stays[touched] = ends[touched]

    kept = in_session | (incoming.states[0] >= oldest[segments])
    chosen = np.flatnonzero(kept & ~in_session)
    order = chosen[np.lexsort((incoming.states[0, chosen], segments[chosen]))]
    tile_segments, tiles = segments[order], incoming.states[:, order]
    heads = np.flatnonzero(firsts(tile_segments, tiles[0]))
    tiles, tile_segments = reduce_groups(layout, tiles, heads, state.pool), tile_segments[heads]
    places = lower_bounds(record_starts, stays[tile_segments], ends[tile_segments], tiles[0])
    inside = places < ends[tile_segments]
    same = inside.copy()
    same[inside] = record_starts[places[inside]] == tiles[0, inside]
    pairs = np.empty((layout.width, 2 * int(same.sum())), dtype=np.int64)
    pairs[:, 0::2], pairs[:, 1::2] = state.records[places[same]].T, tiles[:, same]
    updated = reduce_groups(layout, pairs, np.arange(0, pairs.shape[1], 2), state.pool)

    sessions, session_segments, dropped, late, broken = _join_sessions(
        layout, state, incoming, np.flatnonzero(in_session), begins, ends
    )
    kept &= ~late

    # Lay the rows out anew: room for each header, then the old records that stay with the new ones put between them.
    n = len(state)
    headers = header_records(layout, np.bincount(state.offset_rows, minlength=n))
    run_begins = np.zeros((n, families + 1), dtype=np.int64)
    run_lengths = np.empty((n, families + 1), dtype=np.int64)
    run_begins[:, 1:], run_lengths[:, 0] = stays.reshape(n, families), headers
    run_lengths[:, 1:] = (ends - stays).reshape(n, families)
    sources = ranges(run_begins.reshape(-1), run_lengths.reshape(-1))
    positions = np.cumsum(run_lengths.reshape(-1)) - run_lengths.reshape(-1)
    positions = positions.reshape(n, families + 1)[:, 1:].reshape(-1)

    new_segments = np.concatenate([tile_segments[~same], session_segments])
    new_places = np.concatenate(
        [positions[tile_segments[~same]] + places[~same] - stays[tile_segments[~same]], positions[session_segments]]
    )
    order = np.lexsort((new_segments, new_places))
    new_places = new_places[order]
    new_lines = new_places + np.arange(len(order))
    old_lines = positions[tile_segments[same]] + places[same] - stays[tile_segments[same]]
    old_lines += np.searchsorted(new_places, old_lines, side="right")
    take = np.zeros(len(sources) + len(order), dtype=np.int64)
    free = np.ones(len(take), dtype=bool)
    free[new_lines] = False
    take[free] = sources
    if len(state.records):
        records = np.take(state.records, take, axis=0, mode="clip")
    else:
        records = np.zeros((len(take), layout.width), dtype=np.int64)
    records[new_lines] = np.concatenate([tiles[:, ~same], sessions], axis=1)[:, order].T
    records[old_lines] = updated.T

    counts = run_lengths[:, 1:] + np.bincount(new_segments, minlength=n * families).reshape(n, families)
    sizes = headers + counts.sum(axis=1)
    flags = state.flags | np.where(broken, INCOMPLETE, 0)
    newly = int((broken & ~state.incomplete).sum())
    merged = replace(
        state, records=records, starts=np.cumsum(sizes) - sizes + headers, counts=counts, dropped=dropped, flags=flags,
        spare=headers,
    )  # fmt: skip
    return merged, kept, late, newly


def _oldest(layout: Layout, horizon: Ints) -> Ints:
    """Per row and family (flat) the least start of a record that can still be read at or after the horizon.

    For fresh records it is the first moment after the horizon: what is due has been spread to the other families.
    Sessions are trimmed where they are joined.
    """
    oldest = np.full((len(horizon), len(layout.families)), 2 * NEVER, dtype=np.int64)
    for number in layout.tiles:
        family = layout.families[number]
        if family.kind != EVER:
            oldest[:, number] = (horizon - family.keep) // family.step * family.step
    oldest[:, layout.fresh] = horizon + 1
    return oldest.reshape(-1)


def _join_sessions(
    layout: Layout, state: State, incoming: _Incoming, chosen: Ints, begins: Ints, ends: Ints
) -> tuple[Ints, Ints, Ints, Mask, Mask]:
    """Join the session records of all touched rows: those that overlap or lie at most the gap apart become one.

    Invariant: whatever was dropped from a row's sessions ended at or before `dropped`, and each kept interval begins
    more than the gap after it, so it is whole. An interval that begins nearer may lack events: it is dropped as well,
    unless it may still be open; then only the archive knows the session, and the row is incomplete.

    Returns:
        The joined records (words × records), their segments, `dropped`, late incoming records, incomplete rows.
    """
    families = len(layout.families)
    late, broken = np.zeros(len(incoming.rows), dtype=bool), np.zeros(len(state), dtype=bool)
    dropped = state.dropped.copy()
    found: list[tuple[Ints, Ints]] = [(np.zeros((layout.width, 0), dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for column, number in enumerate(layout.sessions):
        gap = layout.families[number].step
        mine = chosen[incoming.family[chosen] == number]
        if not len(mine):
            continue
        touched = np.zeros(len(state), dtype=bool)
        touched[incoming.rows[mine]] = True
        old_rows = np.flatnonzero(touched)
        segments = old_rows * families + number
        sizes = ends[segments] - begins[segments]
        lines = ranges(begins[segments], sizes)
        rows = np.concatenate([np.repeat(old_rows, sizes), incoming.rows[mine]])
        states = np.concatenate([state.records[lines].T, incoming.states[:, mine]], axis=1)
        order = np.lexsort((states[0], rows))
        rows, states = rows[order], states[:, order]
        reach = running_max(states[1], rows)
        head = firsts(rows)
        head[1:] |= states[0, 1:] - reach[:-1] > gap
        heads = np.flatnonzero(head)
        groups = np.cumsum(head) - 1
        joined, rows = reduce_groups(layout, states, heads, state.pool), rows[heads]

        horizon = state.horizon[rows]
        over = joined[1] < horizon - layout.allowed_lateness - gap
        unsure = joined[0] - dropped[rows, column] <= gap
        closed = joined[1] < horizon - gap
        broken[rows[unsure & ~closed]] = True
        gone = over | (unsure & closed)
        # What is trimmed by age was in the row until now; only what came with this batch came too late.
        was_incoming = np.zeros(len(order), dtype=bool)
        was_incoming[order >= len(lines)] = True
        missed = was_incoming & gone[groups]
        late[mine[order[missed] - len(lines)]] = True
        np.maximum.at(dropped[:, column], rows[gone], joined[1, gone])
        found.append((joined[:, ~gone], rows[~gone] * families + number))
    return (
        np.concatenate([states for states, _ in found], axis=1),
        np.concatenate([segments for _, segments in found]),
        dropped, late, broken,
    )  # fmt: skip


def reduce_groups(
    layout: Layout, states: Ints, heads: Ints, pool: Pool, parts: Sequence[Part] | None = None
) -> Ints:
    """Merge each run of records (words × records) that begins at a head into one.

    Args:
        parts: those whose words are wanted (and set), without the records' times; all by default.
    """
    if len(heads) == states.shape[1]:
        return states
    sizes = np.diff(np.append(heads, states.shape[1]))
    merged = states[:, heads]
    several = np.flatnonzero(sizes > 1)
    if len(several) < len(heads):
        states = states[:, ranges(heads[several], sizes[several])]
        sizes = sizes[several]
        heads = np.cumsum(sizes) - sizes
    out = np.empty((layout.width, len(several)), dtype=np.int64)
    if parts is None:
        out[0] = np.minimum.reduceat(states[0], heads)
        if layout.states_at > 1:
            out[1] = np.maximum.reduceat(states[1], heads)
    for part in parts or layout.parts:
        part.merge(states, heads, sizes, out, pool)
    merged[:, several] = out
    return merged
