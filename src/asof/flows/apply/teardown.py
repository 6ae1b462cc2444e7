"""Teardown: remove a project."""

from __future__ import annotations

from asof.definitions import LogSource
from asof.flows.schedule_state import schedule_of
from asof.flows.stores import Stores
from asof.flows.stream.shared_logs import also_used_by, delete_or_leave, leave


def teardown(stores: Stores, *, purge: bool = False) -> list[str]:
    """Remove everything of exactly this project: registry, online rows; archives and logs only with `purge`.

    Returns:
        Descriptions of what was not removed because others use it.
    """
    snapshot = stores.registry.load(stores.project)
    left = []
    stores.online.drop_project(stores.project)
    if purge:
        for source in snapshot.project.sources.values():
            if not isinstance(source, LogSource):
                continue
            own = [source.topic] if source.type == "push" else []
            for topic in [*own, source.replay_topic]:
                if others := delete_or_leave(stores, topic):
                    left.append(f"topic {topic!r} was kept: it is {also_used_by(others)}")
            if source.type == "log":
                # Other programs may send to it.
                leave(stores, source.topic)
        stores.offline.drop_project(stores.project)
    stores.registry.drop(stores.project)
    stores.registry.drop(schedule_of(stores.project))
    return left
