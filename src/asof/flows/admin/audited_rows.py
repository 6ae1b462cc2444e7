"""Served values of some keys, and the history that they should agree with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from asof.aggregation import StateRows, decode
from asof.definitions import FeatureView, LogSource, Snapshot
from asof.flows.generations.layout import layout_of
from asof.flows.generations.progress import progress_of
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.key_rows import view_as_of, whole_view
from asof.flows.online.read import ViewReader
from asof.flows.rows.archive import wait_until_archived
from asof.flows.rows.batch import batch_of_archive, keyed
from asof.flows.rows.keys import restored_key
from asof.flows.stores import Stores
from asof.offline.pruning import rows_within
from asof.online.protocol import Lookup, OnlineTable
from asof.selection import ViewRead
from asof.sources.protocol import Input
from asof.sql import archive as statements
from asof.sql.names import free_name
from asof.sql.partitions import HISTORY
from asof.sql.query import PointInTime
from asof.timing import Micros, moment
from asof.values.from_arrow import python_values
from asof.values.packing import key_values, versions_of

Vector = Mapping[int, int]
"""Partition → last offset included."""


@dataclass(frozen=True)
class ServedValues:
    """The result of one read of the online store.

    Args:
        keys: n packed keys.
        rows: n stored rows, or None.
        values: feature → n values.
        seen: n offset vectors; empty for views of batch sources.
        state: the rows' state, for an aggregated view.
    """

    keys: list[bytes]
    rows: list[bytes | None]
    values: Mapping[str, list[Any]]
    at: Micros
    seen: list[Vector]
    state: StateRows | None


def serve_keys(
    stores: Stores, snapshot: Snapshot, view: FeatureView, table: OnlineTable, keys: list[bytes]
) -> ServedValues:
    """Read the keys like serving, in one read, with the offsets that each row has seen."""

    def history(read: ViewRead, requested: Mapping[str, Sequence[Any]], at: Micros, *, needs: Any = ()) -> Any:
        # Of an incomplete row, too, whatever history covers by now: a difference that comes of it is named.
        return view_as_of(stores, snapshot, read, requested, at), [None] * len(next(iter(requested.values()), [None]))

    reader = ViewReader(stores, snapshot, whole_view(view), history)
    # Read progress first: rows have all events up to it, so a row that lacks one has lost it.
    reached = progress_of(stores.online, table).reached
    (found,) = stores.online.read([Lookup(table, keys)])
    at = stores.clock()
    columns = key_columns(view, keys)
    values: dict[str, list[Any]] = {}
    reader.answer(found, keys=columns, at=at, values=values, windows=None)
    blobs = [None if row is None else row[0] for row in found]
    state = decode(layout_of(view, table.generation), blobs) if view.is_aggregated else None
    seen: list[Vector] = [{}] * len(keys)
    if isinstance(view.source, LogSource):
        seen = [_joined(reached, each) for each in _offsets(view, blobs, state)]
    return ServedValues(keys, blobs, values, at, seen, state)


def _offsets(view: FeatureView, rows: Sequence[bytes | None], state: StateRows | None) -> Iterable[dict[int, int]]:
    """The offsets that each row has seen."""
    for i, row in enumerate(rows):
        if row is None:
            yield {}
        elif state is not None:
            yield state.offsets_of(i)
        else:
            seen: dict[int, int] = {}
            for each in versions_of(row, len(view.features)):
                partition, offset = each.place
                seen[partition] = max(offset, seen.get(partition, -1))
            yield seen


def wait_for_archive(stores: Stores, view: FeatureView, seen: Sequence[Vector], *, seconds: float) -> dict[int, int]:
    """Wait until the archive has the events that the rows have seen; returns its offsets."""
    wanted: dict[int, int] = {}
    for each in seen:
        wanted = {**wanted, **_joined(wanted, each)}
    return wait_until_archived(stores, view.source, wanted, seconds=seconds)


def seen_rows(stores: Stores, view: FeatureView, served: ServedValues) -> pa.Table | Input | None:
    """The history that the rows should agree with: for a log, each key's events up to the offsets its row has seen."""
    source = view.source
    rows = rows_of(stores, source, [view])
    if not isinstance(source, LogSource) or rows is None:
        return rows
    text = statements.rows_among(
        [source.raw(key) for key in view.join_keys], view.join_keys, dialect=stores.offline.dialect
    )
    inputs = {"archive": rows}
    if view.join_keys:
        inputs["requested"] = requested = _key_table(view, served.keys)
        keys = {source.raw(key): requested[key] for key in view.join_keys}
        inputs["archive"] = rows_within(rows, keys=keys)
    table = stores.offline.sql(text, inputs).reader().read_all()
    batch = batch_of_archive(source, table)
    distinct = keyed(view, batch.rows)
    partitions, columns_of = np.unique(batch.partition, return_inverse=True)
    limits = np.full((len(distinct.keys), len(partitions)), -1, dtype=np.int64)
    by_key = dict(zip(served.keys, served.seen, strict=True))
    for i, key in enumerate(distinct.keys):
        for j, partition in enumerate(partitions.tolist()):
            limits[i, j] = 2**62 if partition == HISTORY else by_key.get(key, {}).get(partition, -1)
    return table.filter(pa.array(batch.offset <= limits[distinct.rows, columns_of]))


def features_as_of(
    stores: Stores, read: ViewRead, served: ServedValues, rows: Any, *, only: Sequence[int] | None = None
) -> dict[str, list[Any]]:
    """A view's features as of the time of the read, over the given rows: output → values."""
    keys = served.keys if only is None else [served.keys[i] for i in only]
    spine = _key_table(read.view, keys)
    at = pa.repeat(pa.scalar(moment(served.at), pa.timestamp("us", "UTC")), len(keys))
    time = free_name("asof_at", spine.column_names)
    spine = spine.append_column(time, at) if spine.num_columns else pa.table({time: at})
    result = stores.offline.run(PointInTime((read,), time), {read.view.source.name: rows}, spine=spine)
    table = result.reader().read_all()
    return {each.output: python_values(table[each.output]) for each in read.features}


def _joined(one: Vector, other: Vector) -> dict[int, int]:
    return {each: max(one.get(each, -1), other.get(each, -1)) for each in {*one, *other} if each != HISTORY}


def key_columns(view: FeatureView, keys: Sequence[bytes]) -> dict[str, list[Any]]:
    rows = [restored_key(view.key_fields, key_values(key)) for key in keys]
    return {each.name: [row[each.name] for row in rows] for each in view.key_fields}


def _key_table(view: FeatureView, keys: Sequence[bytes]) -> pa.Table:
    columns = key_columns(view, keys)
    return pa.table({each.name: pa.array(columns[each.name], each.dtype.arrow()) for each in view.key_fields})
