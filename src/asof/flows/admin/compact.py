"""Compaction: fewer, larger archive files; and removal of expired online rows."""

from __future__ import annotations

from typing import Any

from asof.definitions import LogSource, Snapshot
from asof.flows.stores import Parts


def compact(parts: Parts, snapshot: Snapshot) -> dict[str, Any]:
    """Compact small archive files, and delete expired online rows.

    Returns:
        Per log source the numbers of files `added`, `removed`, `vacuumed`; and `expired`, the number of online rows
        deleted.
    """
    answer: dict[str, Any] = {}
    for source in snapshot.project.sources.values():
        if isinstance(source, LogSource):
            answer[source.name] = parts.offline.compact(parts.archive_of(source))
    answer["expired"] = parts.online.delete_expired(parts.project, parts.clock())
    return answer
