"""The topic under a log source: made where there is none, and never silently another one than the archive knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asof.definitions import KafkaSource, LogSource, Project
from asof.errors import AsofError, LogError
from asof.flows.facts import change_facts, record_gap
from asof.flows.rows.archive import EPOCH, REPLAYED, archive_schema, replay_topic
from asof.flows.stores import Parts
from asof.log.protocol import Log, UnknownTopic
from asof.planning import Finding
from asof.timing import micros


def topics_of(parts: Parts, source: LogSource) -> list[tuple[Log, str, int]]:
    """A source's own topic and its replay topic: the log, the name, what is added to its partition numbers."""
    return [(parts.log_of(source), source.topic, 0), (parts.log, replay_topic(source), REPLAYED)]


def check_logs(parts: Parts, project: Project) -> list[Finding]:
    """Whether each log source's log answers, and has the topic where others make it."""
    findings: list[Finding] = []
    asked: dict[int, AsofError | None] = {}
    for source in project.sources.values():
        if not isinstance(source, LogSource):
            continue
        try:
            log = parts.log_of(source)
            if id(log) not in asked:
                # A cluster that is away is waited for once, however many sources are there.
                asked[id(log)] = None
                try:
                    log.topics()
                except AsofError as error:
                    asked[id(log)] = error
            if (failure := asked[id(log)]) is not None:
                raise failure
            if isinstance(source, KafkaSource):
                make_topic(parts, source)
        except AsofError as error:
            findings.append(Finding("error", f"source {source.name!r}", source.where, "", error.message, error.hint))
    return findings


def make_topic(parts: Parts, source: LogSource) -> None:
    """Make the source's topic where it is Asof's to make.

    Raises:
        UnknownTopic: it is others', and not there.
    """
    if source.dead_letter_topic:
        parts.log_of(source).create(source.dead_letter_topic, 1)
    if not isinstance(source, KafkaSource):
        parts.log.create(source.topic, parts.partitions)
        return
    try:
        parts.log_of(source).topic_id(source.topic)
    except UnknownTopic as error:
        error.where, error.hint = source.where, "create it there, or check topic= and bootstrap_servers="
        raise


def shortened(topic: str, number: int, *, archived: int, after: int) -> LogError:
    """The error for a log that ends before what was archived out of it."""
    return LogError(
        f"partition {number} of topic {topic!r} ends before offset {after}, but offsets up to {archived} are archived: "
        "the log lost its end, or was restored from a backup",
        hint="accept that its offsets begin anew with `asof stream run --accept-gap`, which records it",
    )


def check_topic(parts: Parts, source: LogSource, *, accept_gap: bool = False) -> None:
    """Make the source's topic where there is none, and notice one that was made again, or lost its end.

    The first time it also settles where each partition begins, for good and for all workers.

    Raises:
        LogError: its offsets start anew, so what the old one held and no one archived is lost.
    """
    make_topic(parts, source)
    log = parts.log_of(source)
    found = log.topic_id(source.topic)
    facts = parts.registry.load(parts.project).facts
    known = facts.get("topics", {}).get(source.name)
    epoch = int(facts.get("epochs", {}).get(source.name, 0))
    short: dict[int, int] = {}
    if known == found:
        bounds = log.bounds(source.topic)
        archived = parts.offline.offsets(parts.archive_of(source), [epoch * EPOCH + number for number in bounds])
        short = {n: after for n, (_, after) in bounds.items() if archived[epoch * EPOCH + n] >= after}
        if not short:
            return
    if known is not None and not accept_gap:
        if short:
            number, after = min(short.items())
            raise shortened(source.topic, number, archived=archived[epoch * EPOCH + number], after=after)
        raise LogError(
            f"topic {source.topic!r} of source {source.name!r} was deleted and made again, or is another one now (its "
            f"id was {known}, now it is {found}); what the old one held beyond the archive is lost",
            hint="accept the loss with `asof stream run --accept-gap`, which records it",
            where=source.where,
        )
    if short:
        # What is there was archived under the old numbering; only what comes from now on is new.
        through = {(epoch + 1) * EPOCH + number: after - 1 for number, (_, after) in bounds.items()}
        none = archive_schema(source).empty_table()
        parts.offline.append(parts.archive_of(source), none, through)

    if known is None:
        _begin(parts, source, found)
        return

    def with_topic(facts: Mapping[str, Any]) -> dict[str, Any]:
        topics = {**facts.get("topics", {}), source.name: found}
        return {"topics": topics, "epochs": {**facts.get("epochs", {}), source.name: epoch + 1}}

    change_facts(parts, with_topic, note=f"topic {source.topic}: id {found}")
    what = "lost its end" if short else "made again"
    record_gap(parts, source.name, f"topic {source.topic!r} {what};")


def _begin(parts: Parts, source: LogSource, topic_id: str) -> None:
    """Take note of the topic, and of the offsets that the source begins at.

    Workers that begin at once agree on the offsets of whoever was first: an archive has no two beginnings.
    """
    starts = _starts(parts, source)

    def with_topic(facts: Mapping[str, Any]) -> dict[str, Any]:
        if source.name in facts.get("topics", {}):
            return {}
        changed: dict[str, Any] = {"topics": {**facts.get("topics", {}), source.name: topic_id}}
        if starts:
            changed["starts"] = {**facts.get("starts", {}), source.name: starts}
        return changed

    facts = change_facts(parts, with_topic, note=f"topic {source.topic}: id {topic_id}").facts
    agreed = facts.get("starts", {}).get(source.name, {})
    through = {int(number): offset - 1 for number, offset in agreed.items() if offset > 0}
    if through:
        parts.offline.append(parts.archive_of(source), archive_schema(source).empty_table(), through)


def _starts(parts: Parts, source: LogSource) -> dict[str, int]:
    """Partition → the first offset that counts, of a topic that others write to: it has a past of its own."""
    if not isinstance(source, KafkaSource):
        return {}
    log = parts.log_of(source)
    bounds = log.bounds(source.topic)
    if source.start == "earliest":
        offsets = {number: first for number, (first, _) in bounds.items()}
    elif source.start == "latest":
        offsets = {number: after for number, (_, after) in bounds.items()}
    else:
        offsets = log.offsets_at(source.topic, micros(source.start))
    return {str(number): offset for number, offset in offsets.items()}
