"""Reads and writes of archives: events with partition, offset and ingestion time; dead letters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from asof.definitions import LogSource, Source
from asof.definitions.logs import TOMBSTONE
from asof.flows.rows.counts import count_by
from asof.flows.stores import Stores
from asof.log.protocol import Headers, Messages
from asof.offline.pruning import rows_within
from asof.sources.protocol import Input
from asof.sql import archive as statements
from asof.sql.arrival import ORIGIN_OFFSET, ORIGIN_PARTITION, PUSHED_AT
from asof.timing import DAY, EARLIEST, LATEST, Micros, micros

DEAD_LETTERS_SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("topic_partition", pa.int32()),
        ("topic_offset", pa.int64()),
        ("reason", pa.string()),
        ("key", pa.binary()),
        ("value", pa.binary()),
        ("headers", pa.binary()),
        ("at", pa.timestamp("us", "UTC")),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("ingested_at", pa.timestamp("us", "UTC")),
        ("ingest_date", pa.date32()),
    ]
)

ARRIVAL_FIELDS = tuple(DEAD_LETTERS_SCHEMA)[-4:]

_STAMP = pa.field(PUSHED_AT, pa.int64())
_ORIGIN = (pa.field(ORIGIN_PARTITION, pa.int32()), pa.field(ORIGIN_OFFSET, pa.int64()))

_POLL_S = 0.05


def archive_schema(source: LogSource) -> pa.Schema:
    """The columns of a source's archive: its declared columns, then partition, offset and times of arrival."""
    declared = [(field.name, field.dtype.arrow()) for field in source.schema]
    if source.has_tombstones:
        declared.append((TOMBSTONE, pa.bool_()))
    return pa.schema([*(pa.field(*each) for each in declared), *_later_fields(source), *ARRIVAL_FIELDS])


def _later_fields(source: LogSource) -> tuple[pa.Field, ...]:
    return (_STAMP, *_ORIGIN) if source.type == "push" else _ORIGIN


def with_arrival(
    rows: pa.Table, *, partition: Any, offset: Any, ingested_at: Any, source: LogSource | None = None,
    pushed_at: Any = None, origin: tuple[Any, Any] | None = None,
) -> pa.Table:  # fmt: skip
    """Add the four columns that every archive has, and those that only archives of log sources have.

    Args:
        partition, offset: n of each.
        ingested_at: one moment in microseconds for all rows, or n.
        pushed_at: n stamps, 0 where a row has none; None where no row has one.
        origin: n partitions and n offsets that replayed dead letters had as messages; None where no row is one.
    """
    later: list[pa.Array] = []
    fields = () if source is None else _later_fields(source)
    if _STAMP in fields:
        none = pa.nulls(rows.num_rows, _STAMP.type)
        later.append(none if pushed_at is None else pa.array(pushed_at, pa.int64(), mask=pushed_at == 0))
    if fields:
        positions = [pa.nulls(rows.num_rows, each.type) for each in _ORIGIN]
        if origin is not None:
            positions = [pa.array(column, each.type) for column, each in zip(origin, _ORIGIN, strict=True)]
        later += positions
    at = np.ascontiguousarray(np.broadcast_to(np.asarray(ingested_at, np.int64), rows.num_rows))
    arrival = (
        pa.array(partition, pa.int32()), pa.array(offset, pa.int64()), pa.array(at).cast(ARRIVAL_FIELDS[2].type),
        pa.array((at // DAY).astype(np.int32)).cast(pa.date32()),
    )  # fmt: skip
    # At once: each further column of a table takes as long as the making of one.
    schema = pa.schema([*rows.schema, *fields, *ARRIVAL_FIELDS])
    return pa.Table.from_arrays([*rows.columns, *later, *arrival], schema=schema)


def dead_letter_rows(
    source: LogSource, topic: str, messages: Messages, reasons: Mapping[int, str], *, base: int, at: Micros
) -> pa.Table:
    """Messages at these indexes, as rows of the dead-letter table."""
    index = list(reasons)
    picked = messages.select(index)
    rows = pa.table(
        {
            "topic": [topic] * len(index),
            "topic_partition": pa.array(picked.partitions, pa.int32()),
            "topic_offset": pa.array(picked.offsets, pa.int64()),
            "reason": [reasons[i] for i in index],
            "key": pa.array(picked.keys, pa.binary()),
            "value": pa.array(picked.values, pa.binary()),
            "headers": pa.array([_packed(each) for each in picked.headers or [()] * len(index)], pa.binary()),
            # A producer may set any timestamp; readers of the table support only years 1 to 9999.
            "at": pa.array(np.clip(picked.timestamps_us, EARLIEST, LATEST), pa.int64()).cast(pa.timestamp("us", "UTC")),
        }
    )
    rows = with_arrival(rows, partition=picked.partitions + base, offset=picked.offsets, ingested_at=at)
    return rows.cast(DEAD_LETTERS_SCHEMA)


def _packed(headers: Headers) -> bytes | None:
    return msgspec.msgpack.encode(headers) if headers else None


def unpacked_headers(packed: bytes | None) -> Headers:
    """Headers of a dead letter, as in its message."""
    if packed is None:
        return ()
    return tuple((name, value) for name, value in msgspec.msgpack.decode(packed, type=list[tuple[str, bytes | None]]))


def send_dead_letters(stores: Stores, source: LogSource, dead_letters: pa.Table) -> None:
    """Send dead letters to the `dead_letter_topic`: the original messages, with headers of origin and reason.

    Raises:
        LogError: they may or may not have been written; send them again.
    """
    rows = dead_letters.to_pylist()
    stores.log_of(source).send(
        source.dead_letter_topic, [row["value"] for row in rows], keys=[row["key"] for row in rows],
        timestamps_us=[micros(row["at"]) for row in rows],
        headers=[
            (
                *unpacked_headers(row["headers"]), ("asof.source", source.name.encode()),
                ("asof.topic", row["topic"].encode()), ("asof.partition", str(row["topic_partition"]).encode()),
                ("asof.offset", str(row["topic_offset"]).encode()), ("asof.reason", row["reason"].encode()),
            )
            for row in rows
        ],
        durable=True,
    )  # fmt: skip


def archived_after(
    stores: Stores, source: LogSource, partition: int, *, after: int, through: int, batch_rows: int = 200_000
) -> Iterator[pa.Table]:
    """Archived rows of a partition with `after < offset <= through`, ordered by offset."""
    rows = _archived(stores, source, partition, after=after, through=through)
    if rows is None or after >= through:
        return
    text = statements.rows_between(partition, after=after, through=through)
    for batch in stores.offline.sql(text, {"archive": rows}).reader(batch_rows):
        if batch.num_rows:
            yield pa.Table.from_batches([batch])


def archived_rows(stores: Stores, source: LogSource, partition: int, *, after: int, through: int) -> int:
    """Number of archived rows of a partition with `after < offset <= through`."""
    rows = _archived(stores, source, partition, after=after, through=through)
    if rows is None or after >= through:
        return 0
    return count_by(stores, statements.count_between(partition, after=after, through=through), "archive", rows)


def _archived(stores: Stores, source: LogSource, partition: int, *, after: int, through: int) -> Input | None:
    """The archive, or those files of it that may have such rows."""
    rows = stores.offline.rows(stores.archive_of(source))
    return rows_within(rows, {"partition": (partition, partition), "offset": (after + 1, through)})


def dead_letters_after(stores: Stores, source: LogSource, partition: int, *, after: int) -> dict[int, str]:
    """Dead letters of a partition with `offset > after`: offset → reason."""
    if stores.offline.offsets(stores.dead_letters_of(source), [partition])[partition] <= after:
        return {}
    rows = stores.offline.rows(stores.dead_letters_of(source))
    if rows is None:
        return {}
    text = statements.dead_letter_reasons(partition, after=after)
    found = stores.offline.sql(text, {"dead_letters": rows}).reader().read_all()
    return dict(zip(found["offset"].to_pylist(), found["reason"].to_pylist(), strict=True))


def wait_until_archived(stores: Stores, source: Source, wanted: Mapping[int, int], *, seconds: float) -> dict[int, int]:
    """Wait until a source's archive has reached these offsets, or for `seconds`.

    Args:
        wanted: partition → offset to wait for.

    Returns:
        The archived offsets of these partitions.
    """
    if not wanted:
        return {}
    until = time.monotonic() + seconds
    while True:
        archived = stores.offline.offsets(stores.archive_of(source), sorted(wanted))
        if all(archived[each] >= offset for each, offset in wanted.items()) or time.monotonic() >= until:
            return archived
        time.sleep(_POLL_S)
