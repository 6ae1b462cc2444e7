"""The stream worker: members of a consumer group that bring the logs' messages into the stores."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from threading import Event
from typing import Any

from asof.definitions import LogSource
from asof.errors import LogError
from asof.flows.archiving import replay_topic
from asof.flows.ingest import Ingest
from asof.flows.parts import Parts, Progress, log_source_named, silent
from asof.log.protocol import Consumer, Partition, TopicReplaced, UnknownTopic
from asof.timing import iso

POLL_MESSAGES = 20_000
POLL_S = 0.01
FLUSH_EVERY_S = 5.0
FLUSH_ROWS = 500_000


def group_of(project: str) -> str:
    """The consumer group of a project's workers."""
    return f"asof.{project}"


class Member:
    """This process's part of one topic.

    Args:
        accept_gap: go on where the log lost events that were never archived, and record it.
    """

    def __init__(self, parts: Parts, ingest: Ingest, topic: str, *, accept_gap: bool) -> None:
        self.parts = parts
        self.ingest = ingest
        self.topic = topic
        self.accept_gap = accept_gap
        self.consumer: Consumer = parts.log.subscribe(
            topic, group_of(parts.project), assigned=self._assigned, revoked=self._revoked, lost=self._lost
        )

    def _assigned(self, partitions: Sequence[Partition]) -> None:
        bounds = self.parts.log.bounds(self.topic)
        for each in partitions:
            first, _ = bounds[each.number]
            position = self.ingest.begin(self.topic, each.number, first=first, accept_gap=self.accept_gap)
            self.consumer.seek(each.number, position)

    def _revoked(self, partitions: Sequence[Partition]) -> None:
        self.commit(self.ingest.flush())
        self.ingest.release(self.topic, [each.number for each in partitions])

    def _lost(self, partitions: Sequence[Partition]) -> None:
        # Someone else reads them by now, from where the archive ends; what is buffered is theirs to write.
        self.ingest.discard()
        self.ingest.release(self.topic, [each.number for each in partitions])

    def commit(self, archived: dict[int, int]) -> None:
        """Tell the group how far the archive is; it serves lag tools alone, so a refusal is no loss."""
        base = self.ingest.base(self.topic)
        held = {each.number for each in self.consumer.assignment()}
        offsets = {each - base: offset + 1 for each, offset in archived.items() if each - base in held}
        if offsets:
            try:
                self.consumer.commit(offsets)
            except LogError:
                self.ingest.counts["commits refused"] += 1

    def is_caught_up(self) -> bool:
        """Whether every partition of the topic that this member holds has been read to its end."""
        bounds = self.parts.log.bounds(self.topic)
        return all(self.consumer.position(each.number) >= bounds[each.number][1] for each in self.consumer.assignment())


def run_stream(
    parts: Parts,
    sources: Sequence[str] | None = None,
    *,
    until_caught_up: bool = False,
    accept_gap: bool = False,
    stop: Event | None = None,
    progress: Progress = silent,
    flush_every_s: float = FLUSH_EVERY_S,
) -> dict[str, int]:
    """Work until stopped, or until all that was sent is archived.

    Args:
        sources: names of log sources; all of the project where None.
        stop: set it to finish, flush and return.

    Returns:
        Counts: events, dead letters, rows recomputed and the like.
    """
    snapshot = parts.registry.load(parts.project)
    chosen = (
        [log_source_named(snapshot, name) for name in sources]
        if sources
        else [each for each in snapshot.project.sources.values() if isinstance(each, LogSource)]
    )
    if not chosen:
        raise LogError("no log source is applied, so there is nothing to work on", hint="apply a LogSource or PushSource")
    stop = stop or Event()
    ingests = {source.name: Ingest(parts, source.name, seconds=time.monotonic) for source in chosen}
    members: list[Member] = []
    try:
        for source in chosen:
            check_topic(parts, source, accept_gap=accept_gap)
            ingest = ingests[source.name]
            members.append(Member(parts, ingest, source.topic, accept_gap=accept_gap))
        _work(parts, chosen, ingests, members, stop, until_caught_up, progress, flush_every_s)
        for member in members:
            member.commit(member.ingest.flush())
    finally:
        for member in members:
            member.consumer.close()
        for ingest in ingests.values():
            ingest.close()
    counts: Counter[str] = Counter()
    for ingest in ingests.values():
        counts.update(ingest.counts)
        for feeder in ingest.feeders.values():
            counts.update(feeder.counts)
        counts.update({f"undeclared field {name!r}": count for name, count in ingest.undeclared.items()})
    return dict(counts)


def _work(
    parts: Parts,
    sources: Sequence[LogSource],
    ingests: dict[str, Ingest],
    members: list[Member],
    stop: Event,
    until_caught_up: bool,
    progress: Progress,
    flush_every_s: float,
) -> None:
    flushed_at = time.monotonic()
    replays = {source.name: False for source in sources}
    taken = 0
    while not stop.is_set():
        got = 0
        for member in members:
            messages = member.consumer.poll(POLL_MESSAGES, POLL_S / len(members))
            member.ingest.take(member.topic, messages)
            got += len(messages)
        taken += got
        if got:
            progress("events", taken, None)
        due = time.monotonic() - flushed_at >= flush_every_s
        if due or any(ingest.buffered >= FLUSH_ROWS for ingest in ingests.values()):
            for source in sources:
                ingest = ingests[source.name]
                if not replays[source.name] and replay_topic(source) in parts.log.topics():
                    members.append(Member(parts, ingest, replay_topic(source), accept_gap=False))
                    replays[source.name] = True
            for member in members:
                if member.ingest.flush_is_done:
                    member.commit(member.ingest.flush(wait=due and not got))
            flushed_at = time.monotonic()
        if until_caught_up and not got:
            for source in sources:
                if not replays[source.name] and replay_topic(source) in parts.log.topics():
                    members.append(Member(parts, ingests[source.name], replay_topic(source), accept_gap=False))
                    replays[source.name] = True
                    got = 1
            if not got and all(member.is_caught_up() and member.consumer.assignment() for member in members):
                return


def check_topic(parts: Parts, source: LogSource, *, accept_gap: bool = False) -> None:
    """Make the source's topic where there is none, and notice one that was deleted and made again.

    Raises:
        LogError: its offsets start anew, so what the old one held and no one archived is lost.
    """
    from asof.flows.facts import change_facts  # noqa: PLC0415

    parts.log.create(source.topic, int(parts.options.get("partitions", 1)))
    found = parts.log.topic_id(source.topic)
    facts = parts.registry.load(parts.project).facts
    known = facts.get("topics", {}).get(source.name)
    if known == found:
        return
    if known is not None and not accept_gap:
        raise LogError(
            f"topic {source.topic!r} of source {source.name!r} was deleted and made again (its id was {known}, now it is "
            f"{found}); what the old one held beyond the archive is lost",
            hint="accept the loss with `asof stream run --accept-gap`, which records it",
            where=source.where,
        )

    def with_topic(facts: Any) -> dict[str, Any]:
        topics = {**facts.get("topics", {}), source.name: found}
        if known is None:
            return {"topics": topics}
        epochs = {**facts.get("epochs", {}), source.name: facts.get("epochs", {}).get(source.name, 0) + 1}
        gaps = dict(facts.get("gaps", {}))
        gaps[source.name] = [
            *gaps.get(source.name, []), f"{iso(parts.clock())} topic {source.topic!r} made again; accepted as lost",
        ]  # fmt: skip
        return {"topics": topics, "epochs": epochs, "gaps": gaps}

    change_facts(parts, with_topic, note=f"topic {source.topic}: id {found}")


def stream_status(parts: Parts) -> list[dict[str, Any]]:
    """Where each partition of each log source stands: bounds, archived, lag, dead letters, gaps."""
    snapshot = parts.registry.load(parts.project)
    answer = []
    for source in snapshot.project.sources.values():
        if not isinstance(source, LogSource):
            continue
        letters = _letters_by_partition(parts, source)
        epoch = snapshot.facts.get("epochs", {}).get(source.name, 0)
        for topic, extra in ((source.topic, 0), (replay_topic(source), 500_000)):
            try:
                bounds = parts.log.bounds(topic)
            except UnknownTopic:
                continue
            base = epoch * 1_000_000 + extra
            archived = parts.offline.offsets(parts.archive_of(source), [base + number for number in bounds])
            for number, (first, after) in sorted(bounds.items()):
                done = archived[base + number]
                last = parts.log.read(topic, number, after - 1, max_messages=1) if after > first else None
                answer.append(
                    {
                        "source": source.name, "topic": topic, "partition": number, "first": first, "next": after,
                        "archived": done, "lag": max(after - 1 - done, 0), "letters": letters.get(base + number, 0),
                        "last_message": iso(int(last.timestamps_us[0])) if last is not None and len(last) else None,
                        "gaps": snapshot.facts.get("gaps", {}).get(source.name, []),
                    }
                )  # fmt: skip
    return answer


def _letters_by_partition(parts: Parts, source: LogSource) -> dict[int, int]:
    rows = parts.offline.rows(parts.letters_of(source))
    if rows is None:
        return {}
    table = parts.offline.sql("SELECT partition, count(*) AS n FROM letters GROUP BY 1", {"letters": rows}).reader().read_all()
    return dict(zip(table["partition"].to_pylist(), table["n"].to_pylist(), strict=True))


__all__ = ["TopicReplaced", "check_topic", "group_of", "run_stream", "stream_status"]
