"""Compaction: fewer, larger archive files, and no rows online that can no longer be seen."""

from __future__ import annotations

from typing import Any

from asof.definitions import LogSource, Snapshot
from asof.flows.stores import Stores


def compact(stores: Stores, snapshot: Snapshot) -> dict[str, Any]:
    """Join small archive files, and delete online rows that have expired.

    Returns:
        Per log source the files `added`, `removed`, `vacuumed`; and `expired`, the number of online rows deleted.
    """
    answer: dict[str, Any] = {}
    for source in snapshot.project.sources.values():
        if isinstance(source, LogSource):
            answer[source.name] = stores.offline.compact(stores.archive_of(source))
    answer["expired"] = stores.online.delete_expired(stores.project, stores.clock())
    return answer
