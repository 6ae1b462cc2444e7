"""The topic of a log source: created if missing; a replaced topic is never used silently."""

from __future__ import annotations

from asof.definitions import LogSource, Project
from asof.errors import AsofError
from asof.flows.stores import Stores
from asof.log.protocol import Log, UnknownTopic
from asof.planning import Finding


def topics_of(stores: Stores, source: LogSource) -> list[tuple[Log, str, bool]]:
    """A source's own topic and its replay topic: the log, the name, and whether it is the replay topic."""
    return [(stores.log_of(source), source.topic, False), (stores.log, source.replay_topic, True)]


def check_logs(stores: Stores, project: Project) -> list[Finding]:
    """Check that each source's log is reachable, and has the topic if others create it."""
    findings: list[Finding] = []
    checked: dict[int, AsofError | None] = {}
    for source in project.sources.values():
        if not isinstance(source, LogSource):
            continue
        try:
            log = stores.log_of(source)
            if id(log) not in checked:
                # Wait only once for an unreachable cluster, however many sources use it.
                checked[id(log)] = None
                try:
                    log.topics()
                except AsofError as error:
                    checked[id(log)] = error
            if (failure := checked[id(log)]) is not None:
                raise failure
            if not source.topic_is_ours:
                find_topic(stores, source)
        except AsofError as error:
            findings.append(Finding("error", f"source {source.name!r}", source.where, "", error.message, error.hint))
    return findings


def make_topic(stores: Stores, source: LogSource) -> None:
    """Create the source's topic, if Asof owns it.

    Raises:
        UnknownTopic: others own the topic, and it does not exist.
    """
    if source.dead_letter_topic:
        stores.log_of(source).create(source.dead_letter_topic, 1)
    if source.topic_is_ours:
        stores.log.create(source.topic, stores.partitions)
    else:
        find_topic(stores, source)


def find_topic(stores: Stores, source: LogSource) -> str:
    """ID of the topic that a source reads.

    Raises:
        UnknownTopic: it does not exist.
    """
    try:
        return stores.log_of(source).topic_id(source.topic)
    except UnknownTopic as error:
        error.where, error.hint = source.where, "create it there, or check topic= and bootstrap_servers="
        raise
