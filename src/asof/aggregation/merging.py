"""Merge records into rows: tiles of one hop, sessions that touch, and the trimming of what no window reads any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asof.aggregation.layout import EVER, RowLayout
from asof.aggregation.objects import ObjectPool
from asof.aggregation.rows import INCOMPLETE, NEVER, StateRows, header_records
from asof.aggregation.segments import firsts, lower_bounds, ranges, running_max
from asof.aggregation.states import Ints, StateComponent

Mask = NDArray[np.bool_]


@dataclass
class IncomingRecords:
    """Records that are to be merged into the rows: where they belong, and their words (words × records)."""

    rows: Ints
    family: Ints
    states: Ints

    def take(self, chosen: NDArray[Any]) -> IncomingRecords:
        return IncomingRecords(self.rows[chosen], self.family[chosen], self.states[:, chosen])


def concatenated(parts: Sequence[IncomingRecords]) -> IncomingRecords:
    return IncomingRecords(
        np.concatenate([part.rows for part in parts]), np.concatenate([part.family for part in parts]),
        np.concatenate([part.states for part in parts], axis=1),
    )  # fmt: skip


def absorb(
    layout: RowLayout, state: StateRows, incoming: IncomingRecords, *, recheck: Mask | None = None
) -> tuple[StateRows, Mask, Mask, int]:
    """Merge records into the rows, and trim the rows by their horizon.

    Args:
        recheck: bool[n], rows whose sessions are looked at also where no record comes in.

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
    marks = np.zeros((len(state), families), dtype=bool)
    if recheck is not None:
        marks[np.ix_(recheck, np.array(layout.sessions, dtype=np.int64))] = True
    touched = marks.reshape(-1)
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
        layout, state, incoming, np.flatnonzero(in_session), begins, ends, touched
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


def _oldest(layout: RowLayout, horizon: Ints) -> Ints:
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
    layout: RowLayout,
    state: StateRows,
    incoming: IncomingRecords,
    chosen: Ints,
    begins: Ints,
    ends: Ints,
    touched: Mask,
) -> tuple[Ints, Ints, Ints, Mask, Mask]:
    """Join the session records of all touched rows: those that overlap or lie at most the gap apart become one.

    Whatever was dropped from a row's sessions ended at or before `dropped`. An interval that begins more than the gap
    after it is whole. One that begins nearer may lack events; that matters only if it may still be open: then the
    archive alone knows the session, and the row is incomplete.

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
        old_rows = np.flatnonzero(touched[number::families])
        if not len(old_rows):
            continue
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
        unsure = joined[0] - dropped[rows, column] <= gap
        broken[rows[unsure & (joined[1] >= horizon - gap)]] = True
        gone = joined[1] < horizon - layout.allowed_lateness - gap
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
    layout: RowLayout, states: Ints, heads: Ints, pool: ObjectPool, parts: Sequence[StateComponent] | None = None
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
