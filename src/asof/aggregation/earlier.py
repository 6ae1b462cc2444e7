"""Rows as earlier versions of Asof packed them, among those of a layout that orders events by their arrival.

Such a row is there while a process of an earlier version still writes to a table that a newer one has built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from asof.aggregation.layout import FORMAT, RowLayout
from asof.aggregation.objects import NONE, ObjectPool
from asof.aggregation.segments import ranges
from asof.aggregation.states import HIGHEST, LOWEST, Ints, Pick, Tail
from asof.sql.arrival import Arrival

_FIRST_BYTE = bytes([FORMAT])


def is_earlier(blob: bytes | None) -> bool:
    """Whether a row is of the earlier format."""
    return blob is not None and blob[:1] == _FIRST_BYTE


def with_arrival(layout: RowLayout, state: Any, earlier: RowLayout) -> Any:
    """A `State` of the earlier layout as one of this layout, its events in the order that they have by now.

    What is first or last among events that the row has merged already stays so.
    """
    totals = state.counts.sum(axis=1)
    # What was decoded has headers and objects between the records.
    lines = state.records[ranges(state.starts, totals)]
    records = np.zeros((len(lines), layout.width), dtype=np.int64)
    records[:, : layout.states_at] = lines[:, : layout.states_at]
    pool = state.pool.copy()
    for part, before in zip(layout.parts, earlier.parts, strict=True):
        old = lines[:, before.at : before.at + before.width]
        if isinstance(part, Pick):
            # Before the offset, the partition and the value.
            place = part.width - 4
            new = np.insert(old, place, _eras(old[:, -2]), axis=1)
        elif isinstance(part, Tail):
            new = _tails(old[:, 0], pool)[:, None]
        else:
            new = old
        records[:, part.at : part.at + part.width] = new
    return replace(state, records=records, starts=np.cumsum(totals) - totals, pool=pool, spare=None)


def _eras(partitions: Ints) -> Ints:
    """The era of each partition; what stands where there is no event stays so."""
    known, positions = np.unique(partitions, return_inverse=True)
    eras = [each if each in (LOWEST, HIGHEST) else Arrival.of(each, 0).era for each in known.tolist()]
    return np.array(eras, dtype=np.int64)[positions]


def _tails(names: Ints, pool: ObjectPool) -> Ints:
    """The last values, each with the era of its partition before its offset."""
    made = []
    for name in names.tolist():
        if name == NONE:
            made.append(NONE)
            continue
        entries = [
            [*place, Arrival.of(partition, 0).era, offset, partition, value]
            for *place, offset, partition, value in pool[name]
        ]
        made.append(pool.add(entries))
    return np.array(made, dtype=np.int64)


def converted(
    blobs: Sequence[bytes | None], convert: Callable[[Sequence[bytes | None]], list[bytes]]
) -> list[bytes | None]:
    """The rows, those of the earlier format converted."""
    positions = [place for place, blob in enumerate(blobs) if is_earlier(blob)]
    made: list[bytes | None] = list(blobs)
    for place, blob in zip(positions, convert([blobs[place] for place in positions]), strict=True):
        made[place] = blob
    return made


__all__ = ["converted", "is_earlier", "with_arrival"]
