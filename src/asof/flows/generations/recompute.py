"""Recompute incomplete online rows from the archive, over the events that they have seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asof.aggregation import Events, decode, encode, fold
from asof.definitions import LogSource
from asof.flows.generations.layout import expiry_of, inputs_of, layout_of
from asof.flows.generations.writer import GenerationWriter
from asof.flows.rows.batch import batch_of_archive, counted, keyed
from asof.flows.rows.keys import values_of_keys
from asof.flows.rows.tombstones import deletions
from asof.flows.stores import Stores
from asof.offline.pruning import rows_within
from asof.online.protocol import Lookup, Unchanged, state_rows
from asof.sql import archive as statements
from asof.values.packing import key_values

_KEYS_AT_ONCE = 200


def recompute_rows(stores: Stores, source: LogSource, feeder: GenerationWriter, keys: Sequence[bytes]) -> list[bytes]:
    """Recompute rows from the archive, over the events that they have seen; returns the recomputed keys.

    A row that has seen events that are not archived yet stays unchanged until they are.
    """
    rows = stores.offline.rows(stores.archive_of(source))
    if rows is None:
        return []
    done: list[bytes] = []
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        done += _recompute(stores, source, feeder, keys[start : start + _KEYS_AT_ONCE], rows)
    return done


def _recompute(
    stores: Stores, source: LogSource, feeder: GenerationWriter, keys: Sequence[bytes], archive: Any
) -> list[bytes]:
    view = feeder.view
    layout = layout_of(view, feeder.table.generation)
    found = state_rows(*stores.online.read([Lookup(feeder.table, list(keys))]))
    state = decode(layout, [row[0] if row else None for row in found])
    seen = [state.offsets_of(row) for row in range(len(found))]
    archived = stores.offline.offsets(
        stores.archive_of(source), sorted({partition for each in seen for partition in each})
    )
    gone = [key for key, row in zip(keys, found, strict=True) if row is None]
    ready = [
        i for i, row in enumerate(found)
        if row is not None and all(offset <= archived[partition] for partition, offset in seen[i].items())
    ]  # fmt: skip
    if not ready:
        return gone
    columns_of_keys = [view.source.raw(key) for key in view.join_keys]
    wanted = [key_values(keys[i]) for i in ready]
    archive = rows_within(archive, keys=values_of_keys(columns_of_keys, view.key_fields, wanted))
    text = statements.rows_of_keys(columns_of_keys, view.key_fields, wanted, dialect=stores.offline.dialect)
    table = stores.offline.sql(text, {"archive": archive}).reader().read_all()
    batch = counted(view.source, batch_of_archive(view.source, table))
    distinct = keyed(view, batch.rows)
    positions = {keys[i]: place for place, i in enumerate(ready)}
    rows = np.array([positions.get(key, -1) for key in distinct.keys], dtype=np.int64)[distinct.rows]
    limits = [seen[i] for i in ready]
    events_at = zip(rows.tolist(), batch.partition.tolist(), batch.offset.tolist(), strict=True)
    chosen = np.array([row >= 0 and offset <= limits[row].get(part, -1) for row, part, offset in events_at], dtype=bool)
    deleted = deletions(stores, view.source, batch.rows)
    if deleted is not None:
        chosen &= ~deleted
    batch, rows = batch.take(np.flatnonzero(chosen)), rows[chosen]
    columns = inputs_of(stores, view, layout, batch.rows)
    events = Events(
        rows, batch.event_time, batch.created, batch.partition, batch.offset, columns,
        batch.arrival.columns if layout.keeps_arrival else None,
    )  # fmt: skip
    due = stores.clock() - view.delay
    made, _ = fold(layout, decode(layout, [None] * len(ready)), events, clock_us=due)
    kept = stores.online.write(
        feeder.table, [keys[i] for i in ready], encode(layout, made, max_row_bytes=stores.max_row_bytes),
        condition=Unchanged([row[1] for row in (found[i] for i in ready) if row is not None]),
        expires_at=expiry_of(view, layout, made, now=due),
    )  # fmt: skip
    return gone + [keys[i] for i, was in zip(ready, kept, strict=True) if was]
