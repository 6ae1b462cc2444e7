"""Compaction: fewer, larger archive files; and removal of expired online rows."""

from __future__ import annotations

from typing import Any

from asof.definitions import LogSource, Snapshot
from asof.flows.stores import Stores


def compact(stores: Stores, snapshot: Snapshot) -> dict[str, Any]:
    """Compact small archive files, and delete expired online rows.

    Returns:
        Per log source the numbers of files `added`, `removed`, `vacuumed`; and `expired`, the number of online rows
        deleted.
    """
    answer: dict[str, Any] = {}
    for source in snapshot.project.sources.values():
        if isinstance(source, LogSource):
            answer[source.name] = stores.offline.compact(stores.archive_of(source))
    answer["expired"] = stores.online.delete_expired(stores.project, stores.clock())
    return answer
