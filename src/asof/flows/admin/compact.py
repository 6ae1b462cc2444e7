"""Compaction: archives in few sorted files, without what no reader can ask for any more; no expired online rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from asof.definitions import LogSource, Snapshot
from asof.flows.admin.feature_log import PREFIX, SERVED_AT
from asof.flows.stores import Progress, Stores, silent
from asof.offline.protocol import Archive
from asof.results import Record


@dataclass(frozen=True)
class CompactResult(Record):
    """What a compaction did.

    Args:
        archives: log source → the numbers of its archive: files `added`, `removed` and `vacuumed`; `files_before`,
            `files_after`, `bytes_before` and `bytes_after` of what a reader of all rows opens; `busy`, 1 where another
            process was compacting it, so that nothing was done.
        dead_letters: log source → the same of its dead letters, if it has any.
        feature_logs: feature service → the same of its feature log, if it has one.
        expired: number of expired online rows that were deleted.
    """

    archives: Mapping[str, Mapping[str, int]]
    dead_letters: Mapping[str, Mapping[str, int]]
    feature_logs: Mapping[str, Mapping[str, int]]
    expired: int


def compact(stores: Stores, snapshot: Snapshot, *, progress: Progress = silent) -> CompactResult:
    """Sort and join the files of archives, and delete expired online rows."""
    events: dict[str, Mapping[str, int]] = {}
    dead_letters: dict[str, Mapping[str, int]] = {}
    feature_logs: dict[str, Mapping[str, int]] = {}
    kept = stores.offline.names(stores.project, "letters")
    for source in snapshot.project.sources.values():
        if not isinstance(source, LogSource):
            continue
        order = [*keys_of(snapshot, source), source.timestamp_field]
        events[source.name] = _compacted(
            stores, stores.archive_of(source), source.name, order=order, time=source.timestamp_field, progress=progress
        )
        if source.name in kept:
            name = f"dead letters of {source.name}"
            dead_letters[source.name] = _compacted(stores, stores.dead_letters_of(source), name, progress=progress)
    for name in stores.offline.names(stores.project, "events"):
        if name.startswith(PREFIX):
            service = name.removeprefix(PREFIX)
            archive = Archive(stores.project, name)
            feature_logs[service] = _compacted(
                stores, archive, f"feature log of {service}", order=[SERVED_AT], time=SERVED_AT, progress=progress
            )
    expired = stores.online.delete_expired(stores.project, stores.clock())
    return CompactResult(events, dead_letters, feature_logs, expired)


def _compacted(
    stores: Stores, archive: Archive, what: str, *, order: list[str] | None = None, time: str = "", progress: Progress
) -> Mapping[str, int]:
    return stores.offline.compact(
        archive, order=order or (), time=time, progress=lambda done, total: progress(f"compact {what}", done, total)
    )


def keys_of(snapshot: Snapshot, source: LogSource) -> list[str]:
    """The key columns, under their names in the source, of most of its views; of the first one where several lead."""
    keys = Counter(
        tuple(source.raw(key) for key in view.join_keys)
        for view in snapshot.project.views_of(source.name) if view.join_keys
    )  # fmt: skip
    return list(keys.most_common(1)[0][0]) if keys else []


__all__ = ["CompactResult", "compact", "keys_of"]
