"""Historical rows of one key, of some keys, or of a whole view."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import FeatureView, Field, LogSource, Snapshot, Source
from asof.flows.offline.inputs import inputs_of, rows_of
from asof.flows.rows.batch import RowBatch, batch_of, batch_of_archive, input_schema
from asof.flows.rows.keys import values_of_keys
from asof.flows.rows.tombstones import deletions
from asof.flows.stores import Stores
from asof.selection import FeatureOut, ViewRead
from asof.sources.protocol import ScanRequest, is_ordered
from asof.sql import archive as statements
from asof.sql.names import free_name
from asof.sql.partitions import HISTORY
from asof.sql.query import PointInTime, columns_of, tie_columns
from asof.timing import Micros, moment
from asof.values.fit import event_micros, fit, source_micros
from asof.values.from_arrow import python_values

_TIMES = pa.timestamp("us", "UTC")


def whole_view(view: FeatureView, *, keys: Sequence[str] | None = None) -> ViewRead:
    """A read of all features of a view, under their own names."""
    features = tuple(FeatureOut(field.name, field.name, field.dtype, field.default) for field in view.features)
    return ViewRead(view, tuple(keys or view.join_keys), features)


def view_as_of(
    stores: Stores,
    snapshot: Snapshot,
    read: ViewRead,
    keys: Mapping[str, Sequence[Any]],
    at: Micros,
    *,
    seen: Mapping[str, Mapping[int, int]] | None = None,
) -> dict[str, list[Any]]:
    """A view's features for some keys as of one time, from history: output → values."""
    fields: list[Field] = [
        Field(column, field.dtype) for column, field in zip(read.keys, read.view.key_fields, strict=True)
    ]
    n = len(next(iter(keys.values()))) if keys else 1
    columns = {field.name: pa.array(keys[field.name], field.dtype.arrow()) for field in fields}
    time = free_name("asof_at", columns)
    columns[time] = pa.array([moment(at)] * n, pa.timestamp("us", "UTC"))
    query = PointInTime((read,), time, None, seen)
    result = stores.offline.run(query, inputs_of(stores, snapshot, query, None), spine=pa.table(columns))
    table = result.reader().read_all()
    return {feature.output: python_values(table[feature.output]) for feature in read.features}


def _of_times(table: pa.Table, keys: Mapping[str, Micros]) -> pa.Table:
    """The rows whose columns are these times, in microseconds."""
    for column, value in keys.items():
        table = table.filter(pc.equal(event_micros(table[column].combine_chunks()), value))
    return table


def newest_event(stores: Stores, view: FeatureView, plain: Sequence[Any], at: Micros) -> Micros | None:
    """Event time of a key's newest historical row up to `at`; None without one, or after a tombstone."""
    rows = rows_of_key(stores, view, plain)
    # Rows are ordered, so the last one decides whether the key exists.
    seen = np.flatnonzero(rows.batch.event_time <= at)
    if view.is_aggregated:
        seen = seen[~rows.gone[seen]]
    return int(rows.batch.event_time[seen[-1]]) if len(seen) and not rows.gone[seen[-1]] else None


@dataclass(frozen=True)
class KeyRows:
    """A key's rows, oldest first.

    Args:
        known: n created times, in microseconds.
        stored: mask of the rows that count: not before `stream_from`.
        gone: mask of tombstones.
        raw: the rows with the source's columns.
    """

    batch: RowBatch
    known: npt.NDArray[np.int64]
    stored: npt.NDArray[np.bool_]
    gone: npt.NDArray[np.bool_]
    raw: pa.Table


def rows_of_key(stores: Stores, view: FeatureView, plain: Sequence[Any]) -> KeyRows:
    source = view.source
    keys = values_of_keys([source.raw(key) for key in view.join_keys], view.key_fields, [plain])
    found = rows_of(stores, source, [view], need=ScanRequest(keys=keys or None))
    table = _empty(source)
    if found is not None:
        # Engines compare times of nanoseconds each in its way, so that `_of_key` looks at those keys.
        looked_up = [i for i, field in enumerate(view.key_fields) if source.is_log or field.dtype.name != "Timestamp"]
        text = statements.rows_of_keys(
            [source.raw(view.join_keys[i]) for i in looked_up], [view.key_fields[i] for i in looked_up],
            [[plain[i] for i in looked_up]], dialect=stores.offline.dialect, relation="source",
            # Of a table only what the view reads: it may have more, of whatever names.
            selected=() if source.is_log else sorted(columns_of(PointInTime((whole_view(view),)), source.name)),
        )  # fmt: skip
        table = stores.offline.sql(text, {"source": found}).reader().read_all()
        left = [(view.key_fields[i], plain[i]) for i in range(len(plain)) if i not in looked_up]
        table = _of_times(table, {source.raw(field.name): int(value) for field, value in left})
    times = source_micros(table[source.timestamp_field].combine_chunks(), source.timestamp_unit)
    table, times = table.filter(times.is_valid()), times.drop_null()
    if source.is_log:
        batch = batch_of_archive(source, table)
    else:
        batch = batch_of(
            source, table, event_time=times.to_numpy(zero_copy_only=False),
            partition=np.zeros(table.num_rows, dtype=np.int32), offset=np.arange(table.num_rows),
        )  # fmt: skip
    gone = deletions(stores, source, batch.rows)
    gone = np.zeros(len(batch), dtype=bool) if gone is None else gone
    if not source.is_log and not is_ordered(found):
        batch = replace(batch, offset=_ranks(view, batch.rows, gone))
    arrival = reversed(batch.arrival.columns) if source.is_log else (batch.partition, batch.offset)
    order = np.lexsort((*arrival, batch.created, batch.event_time))
    known = batch.created
    if source.is_log and not source.created_timestamp_column:
        known = event_micros(table["ingested_at"].combine_chunks()).to_numpy(zero_copy_only=False)
        if batch.pushed_at is not None:
            known = np.where(batch.pushed_at > 0, batch.pushed_at, known)
    stored = np.ones(len(batch), dtype=bool)
    if isinstance(source, LogSource) and source.stream_from is not None:
        stored = (batch.partition == HISTORY) == (batch.event_time < source.stream_from)
    return KeyRows(batch.take(order), known[order], stored[order], gone[order], table.take(pa.array(order)))


def _empty(source: Source) -> pa.Table:
    fields = [pa.field(field.name, field.dtype.arrow()) for field in source.schema]
    if source.is_log:
        fields += [
            pa.field("partition", pa.int32()), pa.field("offset", pa.int64()), pa.field("ingested_at", _TIMES)
        ]  # fmt: skip
    elif source.timestamp_field not in [field.name for field in fields]:
        fields.append(pa.field(source.timestamp_field, _TIMES))
    return pa.schema(fields).empty_table()


def _ranks(view: FeatureView, rows: pa.Table, gone: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Order of rows without an arrival: by the values that decide between them, then tombstones last."""
    columns = []
    for name in tie_columns(view):
        dtype = input_schema(view).get(name)
        column = rows[name] if dtype is None else fit(rows[name], dtype)[0]
        columns.append(column.to_pylist())
    ranks = [tuple(map(_rank, values)) for values in zip(*columns, gone.tolist(), strict=True)]
    order = sorted(range(len(ranks)), key=ranks.__getitem__)
    positions = np.zeros(len(ranks), dtype=np.int64)
    positions[order] = np.arange(len(ranks))
    return positions


def _rank(value: Any) -> tuple[Any, ...]:
    """A value to be sorted by, as engines do: null lowest, NaN greatest; in a list null is greater than all."""
    if value is None:
        return (0,)
    if isinstance(value, list):
        return (1, [(3,) if each is None else _rank(each) for each in value])
    return (2,) if isinstance(value, float) and math.isnan(value) else (1, value)
