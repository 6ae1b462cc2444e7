"""Logs that several projects or environments share: who uses which topic, and the warnings of `plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from asof.definitions import LogSource, Project
from asof.errors import AsofError
from asof.flows.stores import Stores
from asof.log.protocol import LogUser, UnknownTopic
from asof.offline.protocol import Archive
from asof.planning import Finding
from asof.sql.partitions import ArchivePartition


def kept_topics(stores: Stores, old: Mapping[str, str], *, project: str = "") -> set[str]:
    """The topics of a project among `old`: topics (name → ID) from before topic names had a project prefix.

    The registry knows a source's topic by its ID; the topic of its dead letters belongs to the same project.

    Args:
        project: by default, the project of `stores`.
    """
    project = project or stores.project
    snapshot = stores.registry.load(project)
    known = snapshot.facts.topics
    kept = {name for name, id in old.items() if id in known.values()}
    for source in snapshot.project.sources.values():
        if not isinstance(source, LogSource):
            continue
        replay = source.replay_topic
        if not source.topic_is_ours:
            # Its own topic is in another log. Replayed dead letters have left their offsets in the archive.
            if replay in old and source.name in known:
                epochs = range(snapshot.facts.epoch_of(source.name) + 1)
                partitions = [ArchivePartition.of(0, epoch=epoch, is_replayed=True) for epoch in epochs]
                offsets = stores.offline.offsets(Archive(project, source.name), partitions)
                kept |= {replay} if any(offset >= 0 for offset in offsets.values()) else set()
        elif source.topic in kept:
            kept |= {replay, source.dead_letter_topic} & old.keys()
    return kept


def others_of(stores: Stores, topic: str) -> list[LogUser]:
    """The other stores that use one of the project's topics."""
    log = stores.log.shared
    if log is None:
        return []
    try:
        others = log.other_users(topic)
    except UnknownTopic:
        return []
    old = log.old_topics()
    if topic in old and topic in kept_topics(stores, old):
        # A store may have used the topic before users were recorded; this registry's projects can be checked.
        for project in stores.registry.projects():
            if (
                project != stores.project
                and topic in kept_topics(stores, old, project=project)
                and not any(each.project == project for each in others)
            ):
                others.append(LogUser(project))
    return others


def also_used_by(others: Sequence[LogUser]) -> str:
    """`also used by …`, as messages about a shared topic say it."""
    return f"also used by {' and '.join(map(str, others))}"


def delete_or_leave(stores: Stores, topic: str) -> list[LogUser]:
    """Delete a topic, unless others use it; returns those."""
    others = others_of(stores, topic)
    if others:
        leave(stores, topic)
    else:
        stores.log.delete(topic)
    return others


def leave(stores: Stores, topic: str) -> None:
    """Remove this store from a topic's users, without deleting the topic."""
    log = stores.log.shared
    if log is not None:
        with suppress(UnknownTopic):
            log.leave(topic)


def check_sharing(stores: Stores, project: Project) -> list[Finding]:
    """Warnings about logs and archives that other environments or projects write to as well."""
    findings = [
        Finding(
            "warning", f"project {stores.project!r}", "", "",
            f"{file} has the same {' and '.join(sections)}, so both environments share all data: rows pushed in one "
            "are trained on and served in the other, and `teardown --purge` of one may delete both",
            f"give each its own `project` (and no common topic_prefix), or its own {' and '.join(sections)}",
        )
        for file, sections in stores.shared_stores().items()
    ]  # fmt: skip
    sources = [each for each in project.sources.values() if isinstance(each, LogSource) and each.topic_is_ours]
    if not sources:
        return findings
    # A log that cannot be reached is what `check_logs` reports.
    with suppress(AsofError):
        log = stores.log.shared
        old = log.old_topics() if log is not None else {}
        kept = kept_topics(stores, old) if old else set()
        known = stores.registry.load(stores.project).facts.topics
        for source in sources:
            if others := others_of(stores, source.topic):
                findings.append(
                    Finding(
                        "warning", f"source {source.name!r}", source.where, "",
                        f"topic {source.topic!r} is {also_used_by(others)}: rows sent to one are trained "
                        "on and served in the other",
                        "give each environment its own `project`, or its own log; for a store that was moved or "
                        "deleted, see docs/how-to/environments.md",
                    )
                )  # fmt: skip
            elif source.topic in old.keys() - kept and source.name not in known:
                findings.append(
                    Finding(
                        "warning", f"source {source.name!r}", source.where, "",
                        f"the log has an old topic {source.topic!r} without a project prefix, which the registry does "
                        "not know; it stays unused, and the project gets a new topic",
                        "if its events are this project's, see docs/how-to/environments.md to adopt it",
                    )
                )  # fmt: skip
    return findings
