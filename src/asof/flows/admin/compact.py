"""Compaction: fewer, larger archive files; and removal of expired online rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from asof.definitions import LogSource, Snapshot
from asof.flows.stores import Stores
from asof.results import Record


@dataclass(frozen=True)
class CompactResult(Record):
    """What a compaction did.

    Args:
        archives: log source → the numbers of its archive's files `added`, `removed` and `vacuumed`.
        expired: number of expired online rows that were deleted.
    """

    archives: Mapping[str, Mapping[str, int]]
    expired: int


def compact(stores: Stores, snapshot: Snapshot) -> CompactResult:
    """Compact small archive files, and delete expired online rows."""
    archives = {
        source.name: stores.offline.compact(stores.archive_of(source))
        for source in snapshot.project.sources.values() if isinstance(source, LogSource)
    }  # fmt: skip
    return CompactResult(archives, stores.online.delete_expired(stores.project, stores.clock()))


__all__ = ["CompactResult", "compact"]
