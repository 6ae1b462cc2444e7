"""The file log: topics as directories of append-only segments, shared by the processes of one machine.

    <root>/<topic>/topic.json                          its id and number of partitions
    <root>/<topic>/<partition>/<first offset>.log      batches of records (file_frames), `.index` beside each
    <root>/<topic>/<partition>/state                   what is published (file_partition); also the writers' lock
    <root>/<topic>/<partition>/owner                   locked by the log object whose own partition it is
    <root>/<topic>/groups/<group>/                     members, assignment, committed offsets (file_group)

The directory must be on a local disk: locks, and what one process sees of another's writes, do not hold over networks.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import threading
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import msgspec
import numpy as np

from asof.errors import LogError
from asof.log.file_consumer import FileConsumer
from asof.log.file_cursor import Cursor
from asof.log.file_frames import Packed, pack
from asof.log.file_group import committed_offsets
from asof.log.file_partition import SEGMENT_BYTES, FilePartition
from asof.log.file_state import Deleted, reporting, sync_directory
from asof.log.file_topic import Topic, TopicFile, write_topic
from asof.log.file_upkeep import drop_before, erase
from asof.log.protocol import Headers, Messages, PartitionsCallback, UnknownTopic
from asof.timing import Clock, Micros

_TOPIC_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,248}")
_KEPT_CURSORS = 16
T = TypeVar("T")


class FileLog:
    """Topics in a directory. See `asof.log.protocol.Log`.

    Args:
        root: made if missing; on a local disk.
        clock: the time of records that are sent without one, and the now of retention.
        segment_bytes: a segment of this size is followed by a new one; retention drops whole segments.
        session_timeout_s: a group's member that does not poll for so long loses its partitions. The same for all
            processes. A dead process's partitions are free at once.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        clock: Clock,
        segment_bytes: int = SEGMENT_BYTES,
        session_timeout_s: float = 60.0,
    ) -> None:
        self.root = Path(root)
        # For the paths that every send looks at: pathlib takes as long as writing a record.
        self._root_text = str(root)
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._session_timeout_s = session_timeout_s
        self._turns = count(int.from_bytes(os.urandom(2), "little"))
        self._consumers: weakref.WeakSet[FileConsumer] = weakref.WeakSet()
        self._begin_empty()
        with reporting("make", self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        _open_logs.add(self)

    def _begin_empty(self) -> None:
        self._lock = threading.RLock()
        self._topics: dict[str, Topic] = {}
        self._owned: dict[str, tuple[int, int]] = {}
        self._cursors: OrderedDict[tuple[str, int, int], Cursor] = OrderedDict()

    # ---- topics

    def create(self, topic: str, partitions: int = 1) -> None:
        """See `Log.create`."""
        if not _TOPIC_NAME.fullmatch(topic):
            raise LogError(
                f"{topic!r} cannot be a topic's name: it needs letters, digits, '_', '-' and '.', not a '.' first, "
                "and at most 249 of them"
            )
        if partitions < 1:
            raise LogError(f"topic {topic!r} needs at least one partition, asked for were {partitions}")
        path = self.root / topic
        with self._changing(), reporting("create", path):
            if path.exists():
                return
            new = self.root / f".new-{uuid.uuid4().hex}"
            (new / "groups").mkdir(parents=True)
            for number in range(partitions):
                (new / str(number)).mkdir()
                FilePartition.make(new / str(number))
            write_topic(new, TopicFile(1, uuid.uuid4().hex, partitions))
            os.rename(new, path)
            sync_directory(self.root)

    def delete(self, topic: str) -> None:
        """See `Log.delete`."""
        with self._changing(), ExitStack() as stack:
            try:
                found = self.topic(topic)
            except UnknownTopic:
                return
            for number in range(found.partitions):
                # Nobody may be writing: a writer that waits for the lock will then see that the file is gone.
                stack.enter_context(found.partition(number).locked())
            with reporting("delete", found.path):
                trash = self.root / f".deleted-{uuid.uuid4().hex}"
                os.rename(found.path, trash)
                sync_directory(self.root)
                shutil.rmtree(trash)
        self._forget(topic)

    def topics(self) -> list[str]:
        """See `Log.topics`."""
        with reporting("list", self.root):
            return sorted(entry.name for entry in os.scandir(self.root) if not entry.name.startswith("."))

    def topic_id(self, topic: str) -> str:
        """See `Log.topic_id`."""
        return self.topic(topic).id

    def partitions(self, topic: str) -> int:
        """See `Log.partitions`."""
        return self.topic(topic).partitions

    def topic(self, name: str) -> Topic:
        """The topic as it is now on disk."""
        with self._lock:
            known = self._topics.get(name)
            try:
                if known is None and not _TOPIC_NAME.fullmatch(name):
                    raise FileNotFoundError
                found = os.stat(f"{self._root_text}/{name}/topic.json")
                stamp = (found.st_ino, found.st_mtime_ns)
                if known is not None and known.stamp == stamp:
                    return known
                path = self.root / name
                file = msgspec.json.decode((path / "topic.json").read_bytes(), type=TopicFile)
            except (FileNotFoundError, NotADirectoryError):
                self._forget(name)
                raise UnknownTopic(name, f"the file log {self.root}") from None
            except msgspec.DecodeError as error:
                raise LogError(f"{path / 'topic.json'} is damaged: {error}") from error
            if file.version != 1:
                raise LogError(f"{path} has format {file.version}, this Asof reads 1", hint="install a newer Asof")
            if known is not None and known.id == file.id:
                known.grown(file, stamp)
                return known
            self._forget(name)
            self._topics[name] = Topic(path, file, stamp, segment_bytes=self._segment_bytes)
            return self._topics[name]

    def _forget(self, topic: str) -> None:
        """Let go of a topic that is gone. Threads that still use it keep its files until they are done."""
        with self._lock:
            self._topics.pop(topic, None)
            owned = self._owned.pop(topic, None)
            if owned is not None:
                os.close(owned[1])

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Be the only process that makes, grows or deletes topics here."""
        with self._lock, reporting("lock", self.root / ".lock"):
            fd = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                yield
            finally:
                os.close(fd)

    def _on(self, topic: str, work: Callable[[Topic], T]) -> T:
        """Do `work` on the topic, once more if it was deleted and made again just then."""
        try:
            return work(self.topic(topic))
        except Deleted:
            self._forget(topic)
        try:
            return work(self.topic(topic))
        except Deleted:
            raise UnknownTopic(topic, f"the file log {self.root}") from None

    def own_partition(self, topic: str) -> int:
        """See `Log.own_partition`."""
        with self._changing():
            found = self.topic(topic)
            if topic in self._owned:
                return self._owned[topic][0]
            with reporting("claim a partition of", found.path):
                for number in range(found.partitions):
                    if self._claim(found, number):
                        return number
                number = found.partitions
                new = found.path / f".new-{uuid.uuid4().hex}"
                new.mkdir()
                FilePartition.make(new)
                # Left by a process that died before it wrote the topic's file; nothing was ever sent to it.
                shutil.rmtree(found.path / str(number), ignore_errors=True)
                os.rename(new, found.path / str(number))
                write_topic(found.path, TopicFile(1, found.id, number + 1))
                self._claim(self.topic(topic), number)
                return number

    def _claim(self, topic: Topic, number: int) -> bool:
        fd = os.open(topic.path / str(number) / "owner", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._owned[topic.name] = (number, fd)
        return True

    # ---- records

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """See `Log.bounds`."""

        def work(found: Topic) -> dict[int, tuple[int, int]]:
            states = [found.partition(number).state() for number in range(found.partitions)]
            return {number: (state.start, state.next) for number, state in enumerate(states)}

        return self._on(topic, work)

    def offsets_at(self, topic: str, moment_us: Micros) -> dict[int, int]:
        """See `Log.offsets_at`. Reads through each partition: its records need not be in the order of time."""
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
        """See `Log.send`. Over several partitions it is all or nothing unless this process or the machine dies."""
        size = len(values)
        for column, cells in (("keys", keys), ("timestamps_us", timestamps_us), ("headers", headers)):
            if cells is not None and len(cells) != size:
                raise LogError(f"a send to {topic!r} has {size} values, but {len(cells)} {column}")
        if not size:
            return []
        times: Sequence[Micros] | Micros = self._clock() if timestamps_us is None else timestamps_us

        def work(found: Topic) -> list[tuple[int, int]]:
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

    def _append(self, topic: Topic, batches: dict[int, list[Packed]], *, durable: bool) -> dict[int, int]:
        """Write to all partitions, then publish all; answers each one's first offset."""
        if len(batches) == 1:
            ((number, only),) = batches.items()
            return {number: topic.partition(number).append(only, durable=durable)}
        firsts = {}
        with ExitStack() as stack:
            # In order of number, so that two senders never wait for each other.
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

        def work(found: Topic) -> Messages:
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

    def _keep(self, topic: Topic, partition: int, cursor: Cursor, following: int) -> None:
        """Keep the place for a reader that goes on at the offset after the last record that it got."""
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

        def work(found: Topic) -> None:
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
            found.group_path(group).mkdir(exist_ok=True)
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
        """See `Log.close`. Consumers are closed by whoever made them."""
        with self._lock:
            for cursor in self._cursors.values():
                cursor.close()
            for topic in self._topics.values():
                topic.close()
            for _, fd in self._owned.values():
                os.close(fd)
            self._begin_empty()

    def _after_fork(self) -> None:
        """Begin anew in a forked child: a lock that it inherited would be held by both."""
        self._lock = threading.RLock()
        for consumer in list(self._consumers):
            consumer.close_files()
        for topic in self._topics.values():
            topic.begin_anew()
        with suppress(OSError):
            self.close()


def _rows_by_partition(routes: list[int]) -> dict[int, list[int] | None]:
    """Per partition the rows that go there; None for all of them."""
    if routes.count(routes[0]) == len(routes):
        return {routes[0]: None}
    rows: dict[int, list[int]] = {}
    for row, number in enumerate(routes):
        rows.setdefault(number, []).append(row)
    return dict(rows)


def _at(cells: Sequence[T], rows: list[int] | None) -> Sequence[T]:
    return cells if rows is None else [cells[row] for row in rows]


_open_logs: weakref.WeakSet[FileLog] = weakref.WeakSet()


def _begin_anew_in_child() -> None:
    for log in list(_open_logs):
        log._after_fork()


os.register_at_fork(after_in_child=_begin_anew_in_child)
