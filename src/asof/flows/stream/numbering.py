"""Partition numbers and start offsets of a source's archive; a recreated topic gets new partition numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from asof.definitions import LogSource
from asof.definitions.facts import Facts
from asof.errors import LogError
from asof.flows.facts import change_facts, record_gap
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores
from asof.flows.stream.topics import make_topic, topics_of
from asof.log.protocol import Log, UnknownTopic
from asof.sql.partitions import HISTORY, ArchivePartition
from asof.timing import micros


def check_topic(stores: Stores, source: LogSource, *, accept_gap: bool = False) -> None:
    """Create the source's topic if it is missing, and detect one that was recreated or truncated.

    The first call also records the start offset of each partition, permanently and for all workers.

    Raises:
        LogError: the topic was recreated or truncated, so messages that were not archived are lost.
    """
    make_topic(stores, source)
    log = stores.log_of(source)
    found = log.topic_id(source.topic)
    facts = stores.registry.load(stores.project).facts
    known, epoch = facts.topics.get(source.name), facts.epoch_of(source.name)
    base = ArchivePartition.of(0, epoch=epoch)
    short: dict[int, int] = {}
    if known == found:
        bounds = log.bounds(source.topic)
        archived = stores.offline.offsets(stores.archive_of(source), [base + number for number in bounds])
        short = {number: after for number, (_, after) in bounds.items() if archived[base + number] >= after}
        if not short:
            return
    if known is not None and not accept_gap:
        if short:
            number, after = min(short.items())
            raise shortened(source.topic, number, archived=archived[base + number], after=after)
        raise LogError(
            f"topic {source.topic!r} of source {source.name!r} was deleted and recreated, or replaced (its ID was "
            f"{known}, now it is {found}); messages of the old one that were not archived are lost",
            hint="accept the loss with `asof stream run --accept-gap`, which records it",
            where=source.where,
        )
    if short:
        # A truncated topic keeps its archived messages: only later ones get the new numbers.
        following = ArchivePartition.of(0, epoch=epoch + 1)
        through = {following + number: after - 1 for number, (_, after) in bounds.items()}
        none = archive_schema(source).empty_table()
        stores.offline.append(stores.archive_of(source), none, through)

    if known is None:
        _begin(stores, source, found)
        return
    change_facts(
        stores, lambda facts: facts.with_topic_again(source.name, found, epoch=epoch + 1),
        note=f"topic {source.topic}: id {found}",
    )  # fmt: skip
    what = "truncated" if short else "recreated"
    record_gap(stores, source.name, f"topic {source.topic!r} {what};")


def _begin(stores: Stores, source: LogSource, topic_id: str) -> None:
    """Record the topic and the start offsets of its partitions.

    Workers that start at the same time all use the offsets of the first one to commit.
    """
    starts = _starts(stores, source)

    def with_topic(facts: Facts) -> Facts:
        return facts if source.name in facts.topics else facts.with_topic(source.name, topic_id, starts=starts)

    facts = change_facts(stores, with_topic, note=f"topic {source.topic}: id {topic_id}").facts
    through = {number: offset - 1 for number, offset in facts.starts.get(source.name, {}).items() if offset > 0}
    if through:
        stores.offline.append(stores.archive_of(source), archive_schema(source).empty_table(), through)


def _starts(stores: Stores, source: LogSource) -> Mapping[int, int]:
    """Partition → start offset, for a topic that others write to and that may have older messages."""
    if source.topic_is_ours:
        return {}
    log = stores.log_of(source)
    bounds = log.bounds(source.topic)
    if source.start == "earliest":
        return {number: first for number, (first, _) in bounds.items()}
    if source.start == "latest":
        return {number: after for number, (_, after) in bounds.items()}
    return log.offsets_at(source.topic, micros(source.start))


def shortened(topic: str, number: int, *, archived: int, after: int) -> LogError:
    """The error for a log that ends before the last archived offset."""
    return LogError(
        f"partition {number} of topic {topic!r} ends before offset {after}, but offsets up to {archived} are archived: "
        "the log was truncated, or restored from a backup",
        hint="accept the loss with `asof stream run --accept-gap`, which records it",
    )


def partitions_of(stores: Stores, source: LogSource, *, epoch: int) -> list[int]:
    """All partition numbers that the source's archive may have."""
    numbers: list[int] = [HISTORY]
    for each in range(epoch + 1):
        for log, topic, is_replayed in topics_of(stores, source):
            try:
                count = log.partitions(topic)
            except UnknownTopic:
                continue
            numbers += [ArchivePartition.of(n, epoch=each, is_replayed=is_replayed) for n in range(count)]
    return numbers


@dataclass(frozen=True)
class LogPartition:
    """A partition of one of a source's topics.

    Args:
        number: its number in the topic.
        archived_as: its number in the archive.
        first, after: its current offsets, `[first, after)`.
    """

    log: Log
    topic: str
    number: int
    archived_as: ArchivePartition
    first: int
    after: int


def log_partitions(stores: Stores, source: LogSource, *, epoch: int) -> Iterator[LogPartition]:
    """The partitions of a source's topic and of its replay topic, as far as the topics exist.

    Args:
        epoch: number of times that the source's topic was recreated.
    """
    for log, topic, is_replayed in topics_of(stores, source):
        try:
            bounds = log.bounds(topic)
        except UnknownTopic:
            continue
        for number, (first, after) in bounds.items():
            partition = ArchivePartition.of(number, epoch=epoch, is_replayed=is_replayed)
            yield LogPartition(log, topic, number, partition, first, after)
