"""A consumer of the file log: polls the partitions that its group assigns to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from asof.errors import LogError
from asof.log.file.cursor import Cursor
from asof.log.file.group import Membership, committed_offsets
from asof.log.file.state import PartitionDeleted
from asof.log.protocol import (
    Messages,
    OffsetOutOfRange,
    Partition,
    PartitionNotOwned,
    PartitionsCallback,
    TopicReplaced,
    UnknownTopic,
)

if TYPE_CHECKING:
    from asof.log.file.topic import FileTopic

LOOK_EVERY_S = 0.1
"""Interval of checks for dead members while the group's file is unchanged."""

POLL_BYTES = 32 << 20
"""Approximate limit of a poll's bytes; no more partitions are added beyond it."""

_SHORT_WAIT_S, _LONG_WAIT_S = 0.0005, 0.01


class FileConsumer:
    """One member of a group on one topic of a file log. See `asof.log.protocol.Consumer`.

    Args:
        topic_named: returns the current state of a topic on disk.
    """

    def __init__(
        self,
        topic: FileTopic,
        group: str,
        *,
        assigned: PartitionsCallback | None,
        revoked: PartitionsCallback | None,
        lost: PartitionsCallback | None,
        topic_named: Callable[[str], FileTopic],
        session_timeout_s: float,
    ) -> None:
        self._topic, self._topic_named = topic, topic_named
        self._group = group
        self._path = topic.group_path(group)
        self._assigned, self._revoked, self._lost = assigned, revoked, lost
        self._membership = Membership(self._path, topic.name, group, session_timeout_s=session_timeout_s)
        self._look_every_s = min(LOOK_EVERY_S, session_timeout_s / 4)
        self._cursors: dict[int, Cursor] = {}
        self._resting: set[int] = set()
        self._first = 0
        self._looked_at = float("-inf")
        self._version = (0, 0)
        self._closed = False

    def poll(self, max_messages: int, timeout_s: float) -> Messages:
        """See `Consumer.poll`."""
        deadline = time.monotonic() + timeout_s
        wait_s = _SHORT_WAIT_S
        while True:
            self._look_at_group()
            messages = self._read(max_messages)
            left = deadline - time.monotonic()
            if len(messages) or left <= 0:
                return messages
            time.sleep(min(wait_s, left))
            wait_s = min(wait_s * 2, _LONG_WAIT_S)

    def seek(self, partition: int, offset: int) -> None:
        """See `Consumer.seek`."""
        self._cursor(partition).close()
        self._cursors[partition] = self._cursor_at(partition, offset)
        self._resting.discard(partition)

    def position(self, partition: int) -> int:
        """See `Consumer.position`."""
        return self._cursor(partition).offset

    def assignment(self) -> list[Partition]:
        """See `Consumer.assignment`."""
        return self._names(sorted(self._cursors))

    def commit(self, offsets: Mapping[int, int]) -> None:
        """See `Consumer.commit`."""
        foreign = sorted(set(offsets) - set(self._cursors))
        if foreign:
            raise PartitionNotOwned(self._topic.name, foreign, self._group)
        if offsets:
            self._membership.commit(offsets)

    def committed(self) -> dict[int, int]:
        """See `Consumer.committed`."""
        return committed_offsets(self._path)

    def close(self) -> None:
        """See `Consumer.close`."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._cursors and self._revoked is not None:
                self._revoked(self._names(sorted(self._cursors)))
        finally:
            self._drop(list(self._cursors))
            if self._path.exists():
                self._membership.leave()
            self.close_files()

    def close_files(self) -> None:
        """Close the files without leaving the group: for a forked child."""
        self._membership.close_files()
        self._drop(list(self._cursors))

    # ---- membership

    def _look_at_group(self) -> None:
        """Update the membership if anything changed, and call the callbacks."""
        now = time.monotonic()
        if now - self._looked_at < self._look_every_s and self._membership.version() == self._version:
            return
        topic = self._current_topic()
        changes = self._membership.refresh(topic.partitions)
        if changes.lost:
            self._drop(changes.lost)
            if self._lost is not None:
                self._lost(self._names(changes.lost))
        if changes.give:
            self._give_up(changes.give)
        if changes.taken:
            self._take_over(changes.taken)
        self._looked_at = time.monotonic()
        # A change by another member after the refresh is seen at the next regular check.
        self._version = self._membership.version()

    def _give_up(self, numbers: Sequence[int]) -> None:
        names = self._names(numbers)
        if self._revoked is not None:
            self._revoked(names)
        self._drop(numbers)
        gone = self._membership.release(numbers)
        if gone and self._lost is not None:
            self._lost(self._names(gone))

    def _take_over(self, numbers: Sequence[int]) -> None:
        committed = self.committed()
        for number in numbers:
            partition = self._topic.partition(number)
            start = committed.get(number)
            self._cursors[number] = self._cursor_at(number, partition.state().start if start is None else start)
        try:
            if self._assigned is not None:
                self._assigned(self._names(numbers))
        except BaseException:
            # Nothing is read before a position is set; the next member to be assigned them sets its own.
            self._drop(numbers)
            self._membership.release(numbers)
            raise

    def _current_topic(self) -> FileTopic:
        try:
            found = self._topic_named(self._topic.name)
        except UnknownTopic:
            raise TopicReplaced(self._topic.name, known=self._topic.id, found=None) from None
        if found.id != self._topic.id:
            raise TopicReplaced(self._topic.name, known=self._topic.id, found=found.id)
        self._topic = found
        return found

    # ---- reading

    def _read(self, max_messages: int) -> Messages:
        numbers = sorted(self._cursors)
        parts: list[Messages] = []
        left, size = max_messages, 0
        # Start with another partition at each poll, so that a busy one does not starve the others.
        self._first += 1
        for i in range(len(numbers)):
            number = numbers[(self._first + i) % len(numbers)]
            if number in self._resting:
                continue
            while left > 0 and size < POLL_BYTES:
                try:
                    messages = self._cursors[number].read(left)
                except PartitionDeleted:
                    raise TopicReplaced(self._topic.name, known=self._topic.id, found=None) from None
                except LogError as error:
                    if parts:
                        # Return the records first; a later poll raises the error.
                        break
                    if isinstance(error, OffsetOutOfRange):
                        self._resting.add(number)
                    raise
                if not len(messages):
                    break
                parts.append(messages)
                left -= len(messages)
                size += sum(map(len, filter(None, messages.values)))
        return Messages.concat(parts)

    def _cursor(self, number: int) -> Cursor:
        if number not in self._cursors:
            raise PartitionNotOwned(self._topic.name, [number], self._group)
        return self._cursors[number]

    def _cursor_at(self, number: int, offset: int) -> Cursor:
        return Cursor(self._topic.partition(number), self._topic.name_of(number), offset)

    def _drop(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            cursor = self._cursors.pop(number, None)
            if cursor is not None:
                cursor.close()
            self._resting.discard(number)

    def _names(self, numbers: Sequence[int]) -> list[Partition]:
        return [self._topic.name_of(number) for number in numbers]
