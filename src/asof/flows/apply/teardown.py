"""Teardown: remove a project."""

from __future__ import annotations

from asof.definitions import LogSource
from asof.flows.stores import Parts
from asof.flows.stream.shared_logs import delete_or_leave, leave


def teardown(parts: Parts, *, purge: bool = False) -> list[str]:
    """Remove everything of exactly this project: registry, online rows; archives and logs only with `purge`.

    Returns:
        Descriptions of what was not removed because others use it.
    """
    snapshot = parts.registry.load(parts.project)
    left = []
    parts.online.drop_project(parts.project)
    if purge:
        for source in snapshot.project.sources.values():
            if not isinstance(source, LogSource):
                continue
            own = [source.topic] if source.type == "push" else []
            for topic in [*own, source.replay_topic]:
                if others := delete_or_leave(parts, topic):
                    left.append(f"topic {topic!r} was kept: it is also used by {' and '.join(others)}")
            if source.type == "log":
                # Other programs may send to it.
                leave(parts, source.topic)
        parts.offline.drop_project(parts.project)
    parts.registry.drop(parts.project)
    return left
