"""A stream worker's membership in the consumer group of one topic: what it polls, and where it starts and pauses."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asof.decoding import SchemaRegistryUnavailable
from asof.errors import AsofError, DefinitionError, LogError
from asof.flows.stores import Stores
from asof.flows.stream.ingest import Ingest
from asof.flows.stream.numbering import shortened
from asof.flows.stream.worker_log import WorkerLog
from asof.log.protocol import Consumer, Log, Messages, OffsetOutOfRange, Partition

PAUSE_S, MOST_PAUSE_S = 1.0, 30.0
"""First and longest pause of a topic whose schema registry is away."""

STAY_EVERY_S = 0.2
"""Interval of polls in a pause, by which the member stays in its group."""


def group_of(project: str, source: str, environment: str) -> str:
    """The consumer group of the workers on one source; each source has its own.

    Environments of one project are groups of their own: else each would get some of a topic's partitions only.
    """
    return ".".join(["asof", project, source, *([environment] if environment else [])])


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
        worker_log: what it says.

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
        worker_log: WorkerLog | None = None,
    ) -> None:
        self.worker_log = worker_log or WorkerLog()
        self.pausing = pausing
        self.pause: Pause | None = None
        self._polled_at = 0.0
        self.stores = stores
        self.ingest = ingest
        self.topic = topic
        self.log = log
        self.accept_gap = accept_gap
        self._is_abandoned = False
        group = group_of(stores.project, ingest.name, ingest.snapshot.facts.environment)
        group += "" if topic == ingest.source.topic else ".replay"
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
        except (SchemaRegistryUnavailable, DefinitionError) as error:
            # A definition that cannot be used here (by a bound that was lowered since it was applied) stops no others.
            self._begin_pause(error)
            self._give_back(messages)
            return 0
        if len(messages):
            if self.pause is not None:
                self.worker_log.resumes(self.topic, time.monotonic() - self.pause.since)
            self.pause = None
        return len(messages)

    def _begin_pause(self, error: AsofError) -> None:
        """Try again later, and ever later: an attempt may take long, and the other topics wait for it."""
        now, before = time.monotonic(), self.pause
        pause_s = min(before.pause_s * 2, MOST_PAUSE_S) if before is not None else PAUSE_S
        self.pause = Pause(error, before.since if before is not None else now, now + pause_s, pause_s)
        if before is None:
            why = "a definition" if isinstance(error, DefinitionError) else "a schema registry"
            self.ingest.counts[f"pauses for {why}"] += 1
            self.worker_log.pauses(self.topic, error)
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
        started = {each.number: self._start(each.number) for each in partitions}
        self.worker_log.assigned(
            self.topic, {number: position for number, (position, _) in started.items()},
            {number: after - position for number, (position, after) in started.items()},
        )  # fmt: skip

    def _start(self, number: int) -> tuple[int, int]:
        """Read a partition from where it is archived; returns that position, and the log's end."""
        first, after = self.log.bounds(self.topic)[number]
        position = self.ingest.begin(self.topic, number, first=first, accept_gap=self.accept_gap)
        if position > after:
            raise shortened(self.topic, number, archived=position - 1, after=after)
        self.ingest.watch_for_deaths(self.topic, number, position=position, after=after)
        self.consumer.seek(number, position)
        return position, after

    def _revoked(self, partitions: Sequence[Partition]) -> None:
        if not self._is_abandoned:
            self.commit(self.ingest.flush())
        numbers = [each.number for each in partitions]
        self.ingest.release(self.topic, numbers, in_order=not self._is_abandoned)
        if not self._is_abandoned:
            self.worker_log.revoked(self.topic, numbers)

    def _lost(self, partitions: Sequence[Partition]) -> None:
        # Another member reads them now, from the end of the archive, and will write what is buffered here.
        numbers = [each.number for each in partitions]
        self.worker_log.lost(self.topic, numbers)
        self.ingest.discard(self.topic, numbers)

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

    def lag(self) -> int:
        """Number of offsets of its partitions that are not read."""
        bounds = self.log.bounds(self.topic)
        return sum(
            max(bounds[each.number][1] - self.consumer.position(each.number), 0) for each in self.consumer.assignment()
        )

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
