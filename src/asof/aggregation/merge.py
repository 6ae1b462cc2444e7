"""Merge records into rows: tiles of one hop, sessions that touch; and trim records that no window reads any more."""

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
    """Records to merge into the rows: their row numbers, families, and words (words × records)."""

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


def merge_records(
    layout: RowLayout, state: StateRows, incoming: IncomingRecords, *, recheck: Mask | None = None
) -> tuple[StateRows, Mask, Mask, int]:
    """Merge records into the rows, and trim the rows by their horizon.

    Args:
        recheck: bool[n], rows whose sessions are joined again even without incoming records.

    Returns:
        The new state; per incoming record whether it was kept, and whether it was too late for its session; the number
        of rows newly found incomplete.
    """
    # A segment is one family of one row, number row * families + family. Its records lie at begins[s] … ends[s] - 1 of
    # state.records, ascending by start:
    #
    #     records   | row 0: tiles | sessions | fresh | row 1: tiles | sessions | fresh | …
    #     segment   |      0       |    1     |   2   |      3       |    4     |   5   | …
    families = len(layout.families)
    ends = state.starts[:, None] + np.cumsum(state.counts, axis=1)
    begins, ends = (ends - state.counts).reshape(-1), ends.reshape(-1)
    segments = incoming.rows * families + incoming.family
    oldest = _oldest(layout, state.horizon)
    in_session = np.isin(incoming.family, layout.sessions) if layout.sessions else np.zeros(len(segments), dtype=bool)

    # The old records that stay are one run per segment, since trimmed ones are at its beginning. Touched sessions are
    # joined again below, so none of their old records stay.
    marks = np.zeros((len(state), families), dtype=bool)
    if recheck is not None:
        marks[np.ix_(recheck, np.array(layout.sessions, dtype=np.int64))] = True
    touched = marks.reshape(-1)
    touched[segments[in_session]] = True
    record_starts = state.records[:, 0]
    stays = lower_bounds(record_starts, begins, ends, oldest)
    stays[touched] = ends[touched]

    # Incoming tiles and fresh records: first reduce those of the same segment and start to one, then find each one's
    # position among the old records. Where an old record has the same start, the two are reduced to one (`same`);
    # elsewhere the new record is inserted.
    kept = in_session | (incoming.states[0] >= oldest[segments])
    chosen = np.flatnonzero(kept & ~in_session)
    order = chosen[np.lexsort((incoming.states[0, chosen], segments[chosen]))]
    tile_segments, tiles = segments[order], incoming.states[:, order]
    heads = np.flatnonzero(firsts(tile_segments, tiles[0]))
    tiles, tile_segments = reduce_groups(layout, tiles, heads, state.pool), tile_segments[heads]
    tile_positions = lower_bounds(record_starts, stays[tile_segments], ends[tile_segments], tiles[0])
    inside = tile_positions < ends[tile_segments]
    same = inside.copy()
    same[inside] = record_starts[tile_positions[inside]] == tiles[0, inside]
    # Old and new record side by side, so that each pair is a group for `reduce_groups`.
    pairs = np.empty((layout.width, 2 * int(same.sum())), dtype=np.int64)
    pairs[:, 0::2], pairs[:, 1::2] = state.records[tile_positions[same]].T, tiles[:, same]
    updated = reduce_groups(layout, pairs, np.arange(0, pairs.shape[1], 2), state.pool)

    sessions, session_segments, dropped, late, broken = _join_sessions(
        layout, state, incoming, np.flatnonzero(in_session), begins, ends, touched
    )
    kept &= ~late

    # The new matrix of records: per row, space for its header, then the old records that stay, with the new ones
    # inserted. `positions` is where each segment's old records would be if nothing were inserted; each insertion moves
    # what follows by one.
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
    new_positions = np.concatenate(
        [
            positions[tile_segments[~same]] + tile_positions[~same] - stays[tile_segments[~same]],
            positions[session_segments],
        ]
    )
    # The k-th insertion, in order of position, ends up k lines later. The segment breaks ties, since empty segments
    # share a position; within a segment the records ascend already, and the sort is stable.
    order = np.lexsort((new_segments, new_positions))
    new_positions = new_positions[order]
    new_lines = new_positions + np.arange(len(order))
    old_lines = positions[tile_segments[same]] + tile_positions[same] - stays[tile_segments[same]]
    old_lines += np.searchsorted(new_positions, old_lines, side="right")
    # One gather copies all old records, with any line (0) where a new one will be written.
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
    """Per segment (row and family) the least start of a record that can still be read at or after the horizon.

    For fresh records it is just after the horizon: earlier ones were spread to the other families. Sessions are trimmed
    where they are joined.
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
    """Join the session records of all touched rows: those that overlap or are at most the gap apart become one.

    All dropped sessions of a row ended at or before `dropped`. A session that begins more than the gap after that is
    complete. One that begins earlier may lack events, which matters only if it may still be open: then only the
    archive knows the session, and the row is incomplete.

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
        # Sorted by start, a record begins a new session if it starts more than the gap after the latest end so far of
        # its row. The latest end, not the previous one: a long interval may contain later, shorter ones.
        reach = running_max(states[1], rows)
        head = firsts(rows)
        head[1:] |= states[0, 1:] - reach[:-1] > gap
        heads = np.flatnonzero(head)
        groups = np.cumsum(head) - 1
        joined, rows = reduce_groups(layout, states, heads, state.pool), rows[heads]

        horizon = state.horizon[rows]
        # `dropped` is still that of earlier batches: sessions that this one drops are more than the gap from the
        # others.
        unsure = joined[0] - dropped[rows, column] <= gap
        broken[rows[unsure & (joined[1] >= horizon - gap)]] = True
        gone = joined[1] < horizon - layout.allowed_lateness - gap
        # Trimmed records that were in the row are just old; only incoming ones are counted as too late.
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
    """Reduce each run of records (words × records) that begins at a head to one record.

    Args:
        parts: only these state components are reduced, and not the records' times; default: all.
    """
    if len(heads) == states.shape[1]:
        return states
    # Most runs have one record, which is its own result: only the longer runs are gathered and reduced.
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
