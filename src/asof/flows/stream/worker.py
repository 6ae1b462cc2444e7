"""A stream worker: one member of a consumer group per source; when it flushes, and when it looks at the registry."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from asof.decoding import SchemaRegistryUnavailable
from asof.definitions import LogSource
from asof.errors import AsofError, LogError, RegistryConflict
from asof.flows.generations.markers import lost_views
from asof.flows.stores import Stores, log_source_named
from asof.flows.stream.ingest import Ingest
from asof.flows.stream.numbering import check_topic, shortened
from asof.flows.stream.rebuild import rebuild
from asof.log.protocol import Consumer, Log, Messages, OffsetOutOfRange, Partition
from asof.online.protocol import StoreReplaced

POLL_MESSAGES = 50_000
"""Batches are this large only if the worker lags: the more events per online row, the less each costs."""

POLL_S = 0.01
FLUSH_EVERY_S = 5.0
FLUSH_ROWS = 500_000
NEWS_EVERY_S = 1.0
"""Interval of checks for registry changes and new generations; a change causes an early flush."""

PAUSE_S, MOST_PAUSE_S = 1.0, 30.0
"""First and longest pause of a topic whose schema registry is away."""

STAY_EVERY_S = 0.2
"""Interval of polls in a pause, by which the member stays in its group."""

log = logging.getLogger("asof.stream")

LOOK_EVERY_S = 0.2
"""Interval of checks while waiting for other workers to catch up."""


def group_of(project: str, source: str) -> str:
    """The consumer group of the workers on one source; each source has its own."""
    return f"asof.{project}.{source}"


class Pause(NamedTuple):
    """A topic's messages cannot be decoded now, which is no fault of theirs.

    Args:
        error: why.
        since, until: in seconds of a monotonic clock; then it is tried again.
        pause_s: the length of this pause.
    """

    error: AsofError
    since: float
    until: float
    pause_s: float


def unsaid(error: AsofError) -> None:
    """Say nothing of a pause."""


class TopicMember:
    """This process's membership in the consumer group of one topic.

    Args:
        accept_gap: continue if the log lost events that were never archived, and record the gap.
        pausing: called with the error when this topic pauses, once until it goes on.

    Attributes:
        pause: while the schema registry is away; other topics go on.
    """

    def __init__(
        self,
        stores: Stores,
        ingest: Ingest,
        topic: str,
        *,
        log: Log,
        accept_gap: bool,
        pausing: Callable[[AsofError], None] = unsaid,
    ) -> None:
        self.pausing = pausing
        self.pause: Pause | None = None
        self._polled_at = 0.0
        self.stores = stores
        self.ingest = ingest
        self.topic = topic
        self.log = log
        self.accept_gap = accept_gap
        self._is_abandoned = False
        group = group_of(stores.project, ingest.name) + ("" if topic == ingest.source.topic else ".replay")
        self.consumer: Consumer = log.subscribe(
            topic, group, assigned=self._assigned, revoked=self._revoked, lost=self._lost
        )

    def take(self, max_messages: int, timeout_s: float) -> int:
        """Poll once and apply the messages; returns their number. While the topic pauses, none is applied.

        Raises:
            LogUnreachable: the log is unreachable.
            LogError: the log lost its topic, or events that were never archived.
            StorageError: a store cannot be written.
        """
        if self.pause is not None and time.monotonic() < self.pause.until:
            self._stay(timeout_s)
            return 0
        try:
            messages = self.consumer.poll(max_messages, timeout_s)
        except OffsetOutOfRange as error:
            # Retention deleted messages before they were read. Flush first, so that the error can name the range.
            self.ingest.flush()
            self._start(error.partition.number)
            messages = Messages.empty()
        try:
            self.ingest.take(self.topic, messages)
        except SchemaRegistryUnavailable as error:
            self._begin_pause(error)
            self._give_back(messages)
            return 0
        if len(messages):
            self.pause = None
        return len(messages)

    def _begin_pause(self, error: AsofError) -> None:
        """Try again later, and ever later: an attempt may take long, and the other topics wait for it."""
        now, before = time.monotonic(), self.pause
        pause_s = min(before.pause_s * 2, MOST_PAUSE_S) if before is not None else PAUSE_S
        self.pause = Pause(error, before.since if before is not None else now, now + pause_s, pause_s)
        if before is None:
            self.ingest.counts["pauses for a schema registry"] += 1
            log.warning("topic %r pauses: %s", self.topic, error.message)
            self.pausing(error)

    def _give_back(self, messages: Messages) -> None:
        """Let the consumer return these messages again: nothing of them was applied."""
        for number in np.unique(messages.partitions).tolist():
            self.consumer.seek(number, int(messages.offsets[messages.partitions == number][0]))

    def _stay(self, timeout_s: float) -> None:
        """Stay in the group, without taking anything."""
        if time.monotonic() - self._polled_at < STAY_EVERY_S:
            time.sleep(timeout_s)
            return
        self._polled_at = time.monotonic()
        with contextlib.suppress(OffsetOutOfRange):  # the next attempt meets it, too
            self._give_back(self.consumer.poll(1, timeout_s))

    def _assigned(self, partitions: Sequence[Partition]) -> None:
        for each in partitions:
            self._start(each.number)

    def _start(self, number: int) -> None:
        first, after = self.log.bounds(self.topic)[number]
        position = self.ingest.begin(self.topic, number, first=first, accept_gap=self.accept_gap)
        if position > after:
            raise shortened(self.topic, number, archived=position - 1, after=after)
        self.ingest.watch_for_deaths(self.topic, number, position=position, after=after)
        self.consumer.seek(number, position)

    def _revoked(self, partitions: Sequence[Partition]) -> None:
        if not self._is_abandoned:
            self.commit(self.ingest.flush())
        self.ingest.release(self.topic, [each.number for each in partitions], in_order=not self._is_abandoned)

    def _lost(self, partitions: Sequence[Partition]) -> None:
        # Another member reads them now, from the end of the archive, and will write what is buffered here.
        self.ingest.discard(self.topic, [each.number for each in partitions])

    def commit(self, archived: Mapping[int, int]) -> None:
        """Commit the archived offsets to the group, for lag monitoring only; a refused commit loses nothing."""
        base = self.ingest.base(self.topic)
        held = {each.number for each in self.consumer.assignment()}
        offsets = {each - base: offset + 1 for each, offset in archived.items() if each - base in held}
        if offsets:
            try:
                self.consumer.commit(offsets)
            except LogError:
                self.ingest.counts["commits refused"] += 1

    def passed(self) -> None:
        """Record offsets at the log's end without a message (such as transaction marks) as archived."""
        positions = {each.number: self.consumer.position(each.number) for each in self.consumer.assignment()}
        self.ingest.passed(self.topic, positions)

    def is_caught_up(self) -> bool:
        """Whether every partition of the topic is read to its end, by this member or (as archived) others."""
        bounds = self.log.bounds(self.topic)
        held = {each.number: self.consumer.position(each.number) for each in self.consumer.assignment()}
        if any(position < bounds[number][1] for number, position in held.items()):
            return False
        base = self.ingest.base(self.topic)
        others = {number + base: after - 1 for number, (_, after) in bounds.items() if number not in held}
        if not others:
            return True
        archived = self.stores.offline.offsets(self.stores.archive_of(self.ingest.source), list(others))
        return all(archived[partition] >= last for partition, last in others.items())

    def close(self, *, abandon: bool) -> None:
        """Leave the group.

        Args:
            abandon: do not archive the buffer; its messages are read from the log again.
        """
        self._is_abandoned = abandon
        self.consumer.close()


class StreamWorker:
    """All members of a process, one per log source; sources are added and removed as the registry changes.

    Args:
        sources: names; None for all of the project.
        accept_gap: see `TopicMember`.
        flush_every_s: interval of flushes to the archive.
        pausing: called with the error when a topic pauses, once until it goes on.

    Attributes:
        has_archived: whether any message was written to both stores.
    """

    def __init__(
        self,
        stores: Stores,
        sources: Sequence[str] | None,
        *,
        accept_gap: bool,
        flush_every_s: float,
        pausing: Callable[[AsofError], None] = unsaid,
    ) -> None:
        self.pausing = pausing
        self.stores = stores
        self.accept_gap = accept_gap
        self.flush_every_s = flush_every_s
        self.ingests: dict[str, Ingest] = {}
        self.members: dict[tuple[str, str], TopicMember] = {}
        self.counts: Counter[str] = Counter()
        self.has_archived = False
        self._named = list(sources) if sources else None
        self._version = -1
        self._flushed_at = time.monotonic()
        self._looked_at = 0.0
        self._checked_at = time.monotonic()
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="rebuild")
        self._building: Future[int] | None = None

    def look_at_registry(self) -> None:
        """Join the groups of new sources, and leave those of removed ones."""
        version = self.stores.registry.version(self.stores.project)
        if version != self._version:
            snapshot = self.stores.registry.load(self.stores.project)
            names = self._named or [
                name for name, each in snapshot.project.sources.items() if isinstance(each, LogSource)
            ]
            sources = {name: log_source_named(snapshot, name) for name in names}
            for name in list(self.ingests):
                if name not in sources or sources[name].topic != self.ingests[name].source.topic:
                    self._leave(name)
            for name, source in sources.items():
                if name not in self.ingests:
                    check_topic(self.stores, source, accept_gap=self.accept_gap)
                    self.ingests[name] = Ingest(self.stores, name, seconds=time.monotonic)
                    self._join(name, source.topic, self.stores.log_of(source))
            if self._version < 0:
                # Online rows from before there were markers get them. What is lost is found generation by generation.
                lost_views(self.stores, snapshot)
            self._version = version
        topics = self.stores.log.topics()
        for name, ingest in self.ingests.items():
            if ingest.source.replay_topic in topics:
                self._join(name, ingest.source.replay_topic, self.stores.log)

    def _join(self, name: str, topic: str, log: Log) -> None:
        if (name, topic) not in self.members:
            ingest = self.ingests[name]
            self.members[name, topic] = TopicMember(
                self.stores, ingest, topic, log=log, accept_gap=self.accept_gap, pausing=self.pausing
            )

    def _leave(self, name: str, *, abandon: bool = False) -> None:
        ingest = self.ingests.pop(name)
        mine = [self.members.pop(key) for key in list(self.members) if key[0] == name]
        self._count(ingest)
        try:
            for member in mine:
                member.close(abandon=abandon)
        finally:
            ingest.close()

    def _count(self, ingest: Ingest) -> None:
        self.counts.update(ingest.counts)
        self.counts.update(ingest.generations.counts)
        for feeder in ingest.feeders.values():
            self.counts.update(feeder.counts)
        self.counts.update({f"undeclared field {name!r}": count for name, count in ingest.undeclared.items()})

    def step(self) -> int:
        """Poll every member once, and flush those that are due; returns the number of messages."""
        got = 0
        for member in list(self.members.values()):
            got += member.take(POLL_MESSAGES, POLL_S / len(self.members))
        due = time.monotonic() - self._flushed_at >= self.flush_every_s or self._has_news()
        if due or any(ingest.buffered >= FLUSH_ROWS for ingest in self.ingests.values()):
            if due:
                self._flushed_at = time.monotonic()
                self.look_at_registry()
                self._restore_lost_rows()
            for ingest in list(self.ingests.values()):
                # Wait if the archive is slower than the log, to limit memory.
                if ingest.flush_is_done or ingest.buffered >= 2 * FLUSH_ROWS:
                    self._flush(ingest, wait=due and not got)
        return got

    @property
    def longest_pause(self) -> Pause | None:
        """The pause of a topic that began first, if any topic pauses."""
        return min((each.pause for each in self.members.values() if each.pause), key=lambda p: p.since, default=None)

    def _has_news(self) -> bool:
        now = time.monotonic()
        if now - self._checked_at < NEWS_EVERY_S:
            return False
        self._checked_at = now
        for ingest in self.ingests.values():
            ingest.generations.look_at_store()
        return any(ingest.has_news() for ingest in self.ingests.values())

    def flush(self) -> None:
        """Flush all members."""
        for ingest in self.ingests.values():
            self._flush(ingest, wait=True)

    def _flush(self, ingest: Ingest, *, wait: bool) -> None:
        mine = [member for member in self.members.values() if member.ingest is ingest]
        for member in mine:
            member.passed()
        done = ingest.flush(wait=wait)
        self.has_archived |= bool(done)
        for member in mine:
            member.commit(done)

    def _restore_lost_rows(self) -> None:
        """Rebuild lost online rows; among several workers, the one with the topic's first partition does it."""
        if self._building is not None and self._building.done():
            building, self._building = self._building, None
            try:
                building.result()
            except (RegistryConflict, StoreReplaced):
                pass  # another build started, or the store failed over: a later check rebuilds what is lost
        for ingest in self.ingests.values():
            is_mine = ingest.base(ingest.source.topic) in ingest.archived
            is_new = self.stores.registry.version(self.stores.project) == ingest.snapshot.version
            if self._building is None and is_mine and is_new and (views := ingest.lost()):
                self.counts["views rebuilt"] += 1
                self._building = self._builder.submit(rebuild, self.stores, views[0])

    def is_caught_up(self) -> bool:
        """Whether all messages of the logs are applied, and no online rows are missing."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return False
        self.look_at_registry()
        if not all(member.is_caught_up() for member in self.members.values()):
            self._looked_at = now
            return False
        if self._building is not None or not self._is_whole():
            self.flush()
            self._restore_lost_rows()
            self._looked_at = now
            return self._building is None and self._is_whole()
        return True

    def _is_whole(self) -> bool:
        """Whether every generation in use exists and is up to date."""
        return not any(ingest.lost() or ingest.generations.are_replaced for ingest in self.ingests.values())

    def close(self, *, abandon: bool = False) -> None:
        """Leave all groups; an error of one does not stop the others."""
        errors = []
        for name in list(self.ingests):
            try:
                self._leave(name, abandon=abandon)
            except Exception as error:  # raised below, after all groups
                errors.append(error)
        self._builder.shutdown(wait=not abandon, cancel_futures=True)
        if errors:
            raise errors[0]
