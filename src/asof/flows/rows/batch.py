"""A batch of a source's rows with times, partitions and offsets; and its distinct keys for a view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.definitions import FeatureView, LogSource, Source
from asof.dtypes import DType
from asof.flows.rows.arrival import Arrivals, numbers
from asof.offline.protocol import ARRIVAL_COLUMNS, LATER_COLUMNS
from asof.sql.arrival import ORIGIN_OFFSET, ORIGIN_PARTITION, PUSHED_AT
from asof.sql.partitions import HISTORY
from asof.values.fit import event_micros, fit, source_micros
from asof.values.packing import key_bytes, plain_values

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowBatch:
    """n rows of one source.

    Args:
        rows: the source's columns, renamed by its `field_mapping`.
        event_time, created: n times in microseconds; created is the event time if the source has no created column.
        partition, offset: n each, of the rows in the log.
        pushed_at: n stamps of pushes, 0 where a row has none; None if no row has one.
        origin: n partitions and n offsets that replayed dead letters had as messages; None if no row is one.
    """

    rows: pa.Table
    event_time: Ints
    created: Ints
    partition: npt.NDArray[np.int32]
    offset: Ints
    pushed_at: Ints | None = None
    origin: tuple[Ints, Ints] | None = None

    @cached_property
    def arrival(self) -> Arrivals:
        """Which of rows of equal times came later."""
        partition, offset = self.origin or (self.partition, self.offset)
        return Arrivals.of(partition, offset, self.pushed_at)

    def __len__(self) -> int:
        return len(self.event_time)

    def take(self, index: npt.NDArray[np.int64]) -> RowBatch:
        """The rows at these indexes, in that order."""
        return RowBatch(
            self.rows.take(pa.array(index)), self.event_time[index], self.created[index], self.partition[index],
            self.offset[index], None if self.pushed_at is None else self.pushed_at[index],
            None if self.origin is None else (self.origin[0][index], self.origin[1][index]),
        )  # fmt: skip


def batch_of(
    source: Source, rows: pa.Table, *, event_time: Ints, partition: npt.NDArray[np.int32], offset: Ints,
    pushed_at: Ints | None = None, origin: tuple[Ints, Ints] | None = None,
) -> RowBatch:  # fmt: skip
    """A batch of decoded rows, its columns renamed as the source's `field_mapping` says."""
    created = event_time
    column = source.created_timestamp_column
    if column and column != source.timestamp_field:
        known = source_micros(rows[column].combine_chunks(), source.timestamp_unit or "us")
        created = known.fill_null(0).to_numpy(zero_copy_only=False)
        missing = known.is_null().to_numpy(zero_copy_only=False)
        # A created time that is none is replaced by the event time.
        created = np.where(missing, event_time, created)
    if source.field_mapping:
        rows = rows.rename_columns([source.renamed(name) for name in rows.column_names])
    return RowBatch(rows, event_time, created, partition, offset, pushed_at, origin)


def batch_of_archive(source: Source, rows: pa.Table) -> RowBatch:
    """A batch of archived rows.

    Rows archived before a column was declared have nulls in it; rows without an event time are left out.
    """
    for field in source.schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.dtype.arrow()))
    if rows[source.timestamp_field].null_count:
        rows = rows.filter(rows[source.timestamp_field].is_valid())
    partition, offset = numbers(rows, "partition"), numbers(rows, "offset")
    # What an earlier version archived has no stamps and no origins.
    pushed_at = origin = None
    if PUSHED_AT in rows.column_names and rows[PUSHED_AT].null_count < rows.num_rows:
        pushed_at = numbers(rows, PUSHED_AT, default=np.zeros(rows.num_rows, dtype=np.int64))
    if ORIGIN_PARTITION in rows.column_names and rows[ORIGIN_PARTITION].null_count < rows.num_rows:
        origin = numbers(rows, ORIGIN_PARTITION, default=partition), numbers(rows, ORIGIN_OFFSET, default=offset)
    raw = rows.drop_columns([name for name in (*ARRIVAL_COLUMNS, *LATER_COLUMNS) if name in rows.column_names])
    times = event_micros(raw[source.timestamp_field].combine_chunks(), source.timestamp_unit)
    return batch_of(
        source, raw, event_time=times.to_numpy(zero_copy_only=False), partition=partition.astype(np.int32),
        offset=offset, pushed_at=pushed_at, origin=origin,
    )  # fmt: skip


def counted(source: Source, batch: RowBatch) -> RowBatch:
    """Drop log events before `stream_from`, and history from then on: the log has those times."""
    if not isinstance(source, LogSource) or source.stream_from is None:
        return batch
    counts = (batch.event_time < source.stream_from) == (batch.partition == HISTORY)
    return batch if counts.all() else batch.take(np.flatnonzero(counts))


def with_keys(view: FeatureView, batch: RowBatch) -> RowBatch:
    """Drop rows with a null join key: no read can find them.

    Only rows that were archived before the key's column was declared have one.
    """
    kept = np.ones(len(batch), dtype=bool)
    for field in view.key_fields:
        column = batch.rows[field.name]
        if column.null_count:
            kept &= column.is_valid().to_numpy()
    return batch if kept.all() else batch.take(np.flatnonzero(kept))


@dataclass(frozen=True)
class BatchKeys:
    """The distinct keys of a batch for one view.

    Args:
        keys: m packed keys.
        rows: per row of the batch, the index of its key.
    """

    keys: list[bytes]
    rows: Ints


def keyed(view: FeatureView, rows: pa.Table) -> BatchKeys:
    """Find the distinct keys of `rows` for a view; a view without entities has one key, the empty one."""
    fields = view.key_fields
    if not fields:
        return BatchKeys([key_bytes(())], np.zeros(rows.num_rows, dtype=np.int64))
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    distinct: list[Sequence[Any]] = []
    for field in fields:
        column, _ = fit(rows[field.name], field.dtype)
        encoded = column.dictionary_encode()
        values = plain_values(encoded.dictionary, field.dtype)
        codes = codes * max(len(values), 1) + encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        distinct.append(values)
        if len(fields) > 1:
            # Renumbering after each column keeps the product of the counts within 64 bits.
            used, codes = np.unique(codes, return_inverse=True)
            distinct = [_picked(distinct, used)]
    if len(fields) == 1:
        return BatchKeys([key_bytes((value,)) for value in distinct[0]], codes)
    return BatchKeys([key_bytes(value) for value in distinct[0]], codes)


def _picked(distinct: list[Sequence[Any]], used: Ints) -> list[tuple[Any, ...]]:
    """The distinct combinations of the columns so far with the next column's values."""
    if len(distinct) == 1:
        return [(distinct[0][code],) for code in used.tolist()]
    before, newest = distinct
    size = max(len(newest), 1)
    return [(*before[code // size], newest[code % size]) for code in used.tolist()]


def input_schema(view: FeatureView) -> dict[str, DType]:
    """The columns that a view's expressions may use, renamed by the source's `field_mapping`."""
    source = view.source
    columns = {field.name: field.dtype for field in view.schema}
    return columns | {source.renamed(field.name): field.dtype for field in source.schema}
