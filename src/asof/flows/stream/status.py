"""Status of each log partition: archived offset, lag, rate, freshness, lateness, dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from asof.definitions import LogSource, Snapshot
from asof.flows.stores import Stores, log_sources
from asof.flows.stream.numbering import log_partitions
from asof.log.protocol import Log
from asof.offline.pruning import rows_within
from asof.results import Record, Records
from asof.sql import archive as statements
from asof.timing import MINUTE, SECOND, Micros, moment
from asof.values.fit import event_micros

RECENT_ROWS = 1000
"""Lateness is computed over this many of a partition's newest rows."""

RATE_OVER = MINUTE
"""The rate is over the last minute."""

_MARKS = 64
"""The last offsets may be transaction marks; the last message is searched among this many offsets."""


@dataclass(frozen=True)
class _NewestArchived:
    """Statistics of the newest archived rows of one partition.

    Args:
        offset, ingested_at: of the last row.
        late_p50, late_max: time from event time to archive of the newest rows, in microseconds.
    """

    offset: int
    ingested_at: Micros
    late_p50: float
    late_max: float


@dataclass(frozen=True)
class PartitionStatus(Record):
    """Status of one partition of a log.

    Args:
        first, next: the log's first offset, and the offset of its next message.
        archived: last archived offset; -1 for none.
        lag: number of offsets that are not archived.
        behind_s: age of the oldest message that is not archived; 0 without lag.
        events_per_s: archived in the last minute.
        freshness_s: from the newest archived message's timestamp to its ingestion.
        late_p50_s, late_max_s: from event time to archive, over the newest rows.
        dead_letters: dead letters.
        gaps: descriptions of accepted losses of messages.
    """

    source: str
    topic: str
    partition: int
    first: int
    next: int
    archived: int
    lag: int
    behind_s: float
    events_per_s: float
    freshness_s: float | None
    late_p50_s: float | None
    late_max_s: float | None
    dead_letters: int
    last_message: datetime | None
    gaps: list[str]


def stream_status(stores: Stores, source: str | None = None) -> Records[PartitionStatus]:
    """Status of each partition of one or all log sources."""
    snapshot = stores.applied()
    answer: list[PartitionStatus] = []
    for each in log_sources(snapshot, source):
        answer += _of_source(stores, snapshot, each)
    return Records(PartitionStatus, answer)


def _of_source(stores: Stores, snapshot: Snapshot, source: LogSource) -> list[PartitionStatus]:
    epoch = snapshot.facts.epoch_of(source.name)
    gaps = list(snapshot.facts.gaps.get(source.name, ()))
    held = sorted(log_partitions(stores, source, epoch=epoch), key=lambda each: each.archived_as)
    archived = stores.offline.offsets(stores.archive_of(source), [each.archived_as for each in held])
    newest, rates, dead_letters = (
        _newest(stores, source, archived),
        _rates(stores, source),
        _dead_letters(stores, source),
    )
    now = stores.clock()
    answer = []
    for each in held:
        partition, first, after = each.archived_as, each.first, each.after
        log, topic, number = each.log, each.topic, each.number
        done, row = archived[partition], newest.get(partition)
        lag = max(after - 1 - done, 0)
        last = _time_at(log, topic, number, max(first, after - _MARKS), after, last=True)
        waiting = _time_at(log, topic, number, max(first, done + 1), after) if lag else None
        taken = _time_at(log, topic, number, row.offset, after) if row is not None and row.offset >= first else None
        answer.append(
            PartitionStatus(
                source=source.name, topic=topic, partition=number, first=first, next=after, archived=done, lag=lag,
                behind_s=_seconds(now - waiting) if waiting is not None else 0.0,
                events_per_s=round(rates.get(partition, 0) * SECOND / RATE_OVER, 1),
                freshness_s=_seconds(row.ingested_at - taken) if row is not None and taken is not None else None,
                late_p50_s=_seconds(row.late_p50) if row is not None else None,
                late_max_s=_seconds(row.late_max) if row is not None else None,
                dead_letters=dead_letters.get(partition, 0),
                last_message=moment(last) if last is not None else None,
                gaps=gaps,
            )
        )  # fmt: skip
    return answer


def _seconds(duration: float) -> float:
    return round(max(duration, 0) / SECOND, 3)


def _time_at(log: Log, topic: str, number: int, start: int, stop: int, *, last: bool = False) -> Micros | None:
    """The time of the first (or last) message between two offsets."""
    if start >= stop:
        return None
    messages = log.read(topic, number, start, stop=stop, max_messages=_MARKS if last else 1)
    return int(messages.timestamps_us[-1 if last else 0]) if len(messages) else None


def _newest(stores: Stores, source: LogSource, archived: Mapping[int, int]) -> dict[int, _NewestArchived]:
    rows = stores.offline.rows(stores.archive_of(source))
    begun = [partition for partition, offset in archived.items() if offset >= 0]
    if rows is None or not begun:
        return {}
    text = statements.newest_rows(begun, count=RECENT_ROWS, time=source.timestamp_field)
    table = stores.offline.sql(text, {"archive": rows}).reader().read_all()
    partitions, offsets = (table[name].to_numpy() for name in ("partition", "offset"))
    taken = event_micros(table["ingested_at"].combine_chunks()).to_numpy(zero_copy_only=False)
    happened = event_micros(table["happened"].combine_chunks(), source.timestamp_unit)
    late = taken - happened.fill_null(0).to_numpy(zero_copy_only=False)
    answer = {}
    for partition in np.unique(partitions).tolist():
        rows_of_it = np.flatnonzero(partitions == partition)
        last = rows_of_it[np.argmax(offsets[rows_of_it])]
        answer[partition] = _NewestArchived(
            int(offsets[last]), int(taken[last]), float(np.median(late[rows_of_it])), float(late[rows_of_it].max())
        )
    return answer


def _rates(stores: Stores, source: LogSource) -> dict[int, int]:
    """Partition → number of rows archived within the last minute."""
    rows = stores.offline.rows(stores.archive_of(source))
    if rows is None:
        return {}
    since = stores.clock() - RATE_OVER
    text = statements.counts_since(since, dialect=stores.offline.dialect)
    return _counts(stores, text, {"archive": rows_within(rows, {"ingested_at": (since, None)})})


def _dead_letters(stores: Stores, source: LogSource) -> dict[int, int]:
    rows = stores.offline.rows(stores.dead_letters_of(source))
    if rows is None:
        return {}
    return _counts(stores, statements.counts_by_partition("dead_letters"), {"dead_letters": rows})


def _counts(stores: Stores, text: str, inputs: Mapping[str, Any]) -> dict[int, int]:
    table = stores.offline.sql(text, inputs).reader().read_all()
    return dict(zip(table["partition"].to_pylist(), table["n"].to_pylist(), strict=True))


__all__ = ["PartitionStatus", "stream_status"]
