"""The file log: topics as directories of append-only segments, shared by the processes of one machine.

    <root>/@<project>/<topic>/                         a topic of a project; projects that share a root share no topic
    <topic>/topic.json                                 its ID and number of partitions
    <topic>/users                                      the stores that use it, one per line
    <topic>/<partition>/<first offset>.log             a segment: batches of records (frames.py), with an `.index`
    <topic>/<partition>/state                          what is published (state.py); also the writers' lock
    <topic>/<partition>/owner                          locked by the log object that owns the partition
    <topic>/groups/<group>/                            members, assignment, committed offsets (group.py)

Topics of earlier versions, without a project's directory, are in `<root>` itself; a project keeps its own ones there.

The directory must be on a local disk: locks, and the visibility of other processes' writes, do not hold over networks.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import numpy as np

from asof.connections.private_files import make_folder, make_folder_like_its_own
from asof.defaults import SEGMENT_BYTES, SESSION_TIMEOUT_S
from asof.display import counted
from asof.errors import LogError
from asof.forks import ForkListener, listen_to_forks
from asof.log.file.consumer import FileConsumer
from asof.log.file.cursor import Cursor
from asof.log.file.frames import PackedBatch, pack
from asof.log.file.group import committed_offsets
from asof.log.file.retention import drop_before, erase
from asof.log.file.state import PartitionDeleted, is_writable, reporting
from asof.log.file.topic import FileTopic, FileTopics
from asof.log.protocol import Headers, LogUser, Messages, PartitionsCallback, SharedLog, UnknownTopic
from asof.timing import Clock, Micros

_KEPT_CURSORS = 16
T = TypeVar("T")


class FileLog(ForkListener):
    """Topics in a directory. See `asof.log.protocol.Log`.

    Args:
        root: created if missing; on a local disk.
        clock: the time of records that are sent without one, and the current time for retention.
        project: the topics' project; they are in its directory. "" is for topics in `root` itself.
        user: the store; recorded with each topic that it creates or uses.
        kept: given the topics in `root` itself (name → ID), returns the names of those that are the project's.
        segment_bytes: a new segment is started at this size; retention deletes whole segments.
        session_timeout_s: a group's member that does not poll for this long loses its partitions. It must be the same
            for all processes. A dead process's partitions are free at once.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        clock: Clock,
        project: str = "",
        user: LogUser | None = None,
        kept: Callable[[Mapping[str, str]], Collection[str]] | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        session_timeout_s: float = SESSION_TIMEOUT_S,
    ) -> None:
        self.root = Path(root)
        self._topics = FileTopics(self.root, project=project, user=user, kept=kept, segment_bytes=segment_bytes)
        self.home = self._topics.home
        self._clock = clock
        self._session_timeout_s = session_timeout_s
        self._turns = count(int.from_bytes(os.urandom(2), "little"))
        self._consumers: weakref.WeakSet[FileConsumer] = weakref.WeakSet()
        self._begin_empty()
        with reporting("make", self.root):
            make_folder(self.root)
        listen_to_forks(self)

    def _begin_empty(self) -> None:
        self._lock = threading.RLock()
        self._cursors: OrderedDict[tuple[str, int, int], Cursor] = OrderedDict()

    # ---- topics

    def create(self, topic: str, partitions: int = 1) -> None:
        """See `Log.create`."""
        self._topics.create(topic, partitions)

    def delete(self, topic: str) -> None:
        """See `Log.delete`."""
        self._topics.delete(topic)

    def topics(self) -> list[str]:
        """See `Log.topics`."""
        return self._topics.names()

    def topic(self, name: str) -> FileTopic:
        """The topic's current state on disk."""
        return self._topics.find(name)

    def own_partition(self, topic: str) -> int:
        """See `Log.own_partition`."""
        return self._topics.own_partition(topic)

    def topic_id(self, topic: str) -> str:
        """See `Log.topic_id`."""
        return self.topic(topic).id

    def partitions(self, topic: str) -> int:
        """See `Log.partitions`."""
        return self.topic(topic).partitions

    # ---- other projects and stores

    @property
    def shared(self) -> SharedLog:
        """See `Log.shared`: this log itself."""
        return self

    def may_write(self) -> bool:
        """See `Log.may_write`."""
        return is_writable(self.home if self.home.exists() else self.root)

    def old_topics(self) -> dict[str, str]:
        """See `SharedLog.old_topics`."""
        return self._topics.old()

    def other_users(self, topic: str) -> list[LogUser]:
        """See `SharedLog.other_users`."""
        return self._topics.other_users(topic)

    def leave(self, topic: str) -> None:
        """See `SharedLog.leave`."""
        self._topics.leave(topic)

    def _on(self, topic: str, work: Callable[[FileTopic], T]) -> T:
        """Run `work` on the topic, once more if it was recreated at that moment."""
        try:
            return work(self.topic(topic))
        except PartitionDeleted:
            self._topics.forget(topic)
        try:
            return work(self.topic(topic))
        except PartitionDeleted:
            raise UnknownTopic(topic, f"the file log {self.root}") from None

    # ---- records

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """See `Log.bounds`."""

        def work(found: FileTopic) -> dict[int, tuple[int, int]]:
            states = [found.partition(number).state() for number in range(found.partitions)]
            return {number: (state.start, state.next) for number, state in enumerate(states)}

        return self._on(topic, work)

    def offsets_at(self, topic: str, moment_us: Micros) -> dict[int, int]:
        """See `Log.offsets_at`. Scans each partition: its records need not be ordered by time."""
        found = {}
        for number, (first, after) in self.bounds(topic).items():
            at, found[number] = first, after
            while len(messages := self.read(topic, number, at, stop=after)):
                due = np.flatnonzero(messages.timestamps_us >= moment_us)
                if len(due):
                    found[number] = int(messages.offsets[due[0]])
                    break
                at = int(messages.offsets[-1]) + 1
        return found

    def send(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        partition: int | None = None,
        timestamps_us: Sequence[Micros] | None = None,
        headers: Sequence[Headers] | None = None,
        durable: bool,
    ) -> list[tuple[int, int]]:
        """See `Log.send`. Atomic over several partitions unless this process or the machine dies."""
        size = len(values)
        for column, cells in (("keys", keys), ("timestamps_us", timestamps_us), ("headers", headers)):
            if cells is not None and len(cells) != size:
                raise LogError(f"a send to topic {topic!r} has {counted(size, 'value')}, but {len(cells)} {column}")
        if not size:
            return []
        times: Sequence[Micros] | Micros = self._clock() if timestamps_us is None else timestamps_us

        def work(found: FileTopic) -> list[tuple[int, int]]:
            routes = [partition] * size if partition is not None else self._routes(keys, size, found.partitions)
            rows = _rows_by_partition(routes)
            batches = {
                number: list(
                    pack(
                        _at(values, at),
                        keys=None if keys is None else _at(keys, at),
                        headers=None if headers is None else _at(headers, at),
                        times=times if isinstance(times, int) else _at(times, at),
                    )
                )
                for number, at in rows.items()
            }
            firsts = self._append(found, batches, durable=durable)
            if len(rows) == 1:
                ((number, first),) = firsts.items()
                return [(number, offset) for offset in range(first, first + size)]
            nexts = {number: count(first) for number, first in firsts.items()}
            return [(number, next(nexts[number])) for number in routes]

        return self._on(topic, work)

    def _routes(self, keys: Sequence[bytes | None] | None, size: int, partitions: int) -> list[int]:
        turn = next(self._turns) % partitions
        if partitions == 1 or keys is None:
            return [turn] * size
        return [turn if key is None else crc32(key) % partitions for key in keys]

    def _append(self, topic: FileTopic, batches: dict[int, list[PackedBatch]], *, durable: bool) -> dict[int, int]:
        """Write to all partitions, then publish all; returns each one's first offset."""
        if len(batches) == 1:
            ((number, only),) = batches.items()
            return {number: topic.partition(number).append(only, durable=durable)}
        firsts = {}
        with ExitStack() as stack:
            # Ordered by number, so that two senders cannot deadlock.
            opened = [topic.partition(number) for number in sorted(batches)]
            for partition in opened:
                stack.enter_context(partition.locked())
            states = [partition.write(batches[partition.number], durable=durable) for partition in opened]
            for partition, state in zip(opened, states, strict=True):
                partition.publish(state)
                firsts[partition.number] = state.next - sum(batch.count for batch in batches[partition.number])
        return firsts

    def read(
        self, topic: str, partition: int, start: int, *, stop: int | None = None, max_messages: int = 10_000
    ) -> Messages:
        """See `Log.read`."""

        def work(found: FileTopic) -> Messages:
            with self._lock:
                cursor = self._cursors.pop((found.id, partition, start), None)
            if cursor is None:
                cursor = Cursor(found.partition(partition), found.name_of(partition), start)
            try:
                messages = cursor.read(max_messages, stop=stop)
            except BaseException:
                cursor.close()
                raise
            self._keep(found, partition, cursor, int(messages.offsets[-1]) + 1 if len(messages) else start)
            return messages

        return self._on(topic, work)

    def _keep(self, topic: FileTopic, partition: int, cursor: Cursor, following: int) -> None:
        """Keep the cursor for a reader that continues after the last record that it got."""
        with self._lock:
            replaced = self._cursors.pop((topic.id, partition, following), None)
            self._cursors[topic.id, partition, following] = cursor
            over = self._cursors.popitem(last=False)[1] if len(self._cursors) > _KEPT_CURSORS else None
        for gone in (replaced, over):
            if gone is not None:
                gone.close()

    def retain(self, topic: str, *, max_age_us: Micros | None = None, max_bytes: int | None = None) -> None:
        """See `Log.retain`."""
        oldest_us = None if max_age_us is None else self._clock() - max_age_us

        def work(found: FileTopic) -> None:
            for number in range(found.partitions):
                drop_before(found.partition(number), oldest_us=oldest_us, max_bytes=max_bytes)

        self._on(topic, work)

    def erase(self, topic: str, match: Callable[[bytes | None, bytes | None], bool]) -> int:
        """See `Log.erase`. Rewrites only segments with matching records; senders to a partition wait meanwhile."""
        return self._on(
            topic, lambda found: sum(erase(found.partition(number), match) for number in range(found.partitions))
        )

    # ---- groups

    def subscribe(
        self,
        topic: str,
        group: str,
        *,
        assigned: PartitionsCallback | None = None,
        revoked: PartitionsCallback | None = None,
        lost: PartitionsCallback | None = None,
    ) -> FileConsumer:
        """See `Log.subscribe`."""
        found = self.topic(topic)
        with reporting("make the group in", found.path):
            make_folder_like_its_own(found.group_path(group))
        consumer = FileConsumer(
            found,
            group,
            assigned=assigned,
            revoked=revoked,
            lost=lost,
            topic_named=self.topic,
            session_timeout_s=self._session_timeout_s,
        )
        self._consumers.add(consumer)
        return consumer

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """See `Log.committed`."""
        return committed_offsets(self.topic(topic).group_path(group))

    # ---- the end

    def close(self) -> None:
        """See `Log.close`. Consumers are closed by their creators."""
        with self._lock:
            for cursor in self._cursors.values():
                cursor.close()
            self._topics.close()
            self._begin_empty()

    def after_fork_in_child(self) -> None:
        """See `ForkListener`: an inherited lock of a partition would be held by both processes."""
        self._lock = threading.RLock()
        for consumer in list(self._consumers):
            consumer.close_files()
        self._topics.begin_again()
        with suppress(OSError):
            self.close()


def _rows_by_partition(routes: list[int]) -> dict[int, list[int] | None]:
    """Partition → indexes of its rows; None for all rows."""
    if routes.count(routes[0]) == len(routes):
        return {routes[0]: None}
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(routes):
        rows.setdefault(number, []).append(row)
    return dict(rows)


def _at(cells: Sequence[T], rows: list[int] | None) -> Sequence[T]:
    return cells if rows is None else [cells[row] for row in rows]
