"""One partition of the file log: finding a place in its segments, appending to them, and what a crash left.

Readers look only at what the state says is published, so they never meet half a batch and need no lock.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from struct import Struct

import numpy as np

from asof.errors import LogError
from asof.log.file.frames import HEADER, MAGIC, DamagedBatch, PackedBatch, check, filler, head_at
from asof.log.file.state import (
    STATE,
    PartitionDeleted,
    PartitionState,
    boot_id,
    decode_state,
    reporting,
    segment_name,
    sync_directory,
)

SEGMENT_BYTES = 64 << 20
INDEX_EVERY = 64 << 10
"""A segment's index has an entry about every so many bytes."""

_ENTRY = Struct("<qq")
_SEGMENT = re.compile(r"(\d{20})\.log")
sync_data = getattr(os, "fdatasync", os.fsync)


@dataclass(slots=True, eq=False)
class _Append:
    """What one thread wants appended, and what became of it."""

    batches: Sequence[PackedBatch]
    durable: bool
    first: int | None = None
    error: Exception | None = None


class FilePartition:
    """The directory of one partition, for one process; several processes may write to it at once.

    Args:
        path: holds `state` and `<first offset>.log` segments, each with a `.index` beside it.
        segment_bytes: a segment that has so many bytes is followed by a new one.
    """

    def __init__(self, path: Path, number: int, *, segment_bytes: int) -> None:
        self.path = path
        self.number = number
        self._segment_bytes = segment_bytes
        self._text = str(path)
        self._thread = threading.RLock()
        self.waiting: deque[_Append] = deque()
        self._fd = -1
        self._writing: tuple[int, int, int] | None = None
        self._listed: tuple[tuple[int, int, int], list[int]] | None = None
        self._fd = os.open(path / "state", os.O_RDWR)

    @staticmethod
    def make(path: Path) -> None:
        """Write an empty partition's files into the existing directory `path`."""
        (path / segment_name(0)).touch()
        (path / "state").write_bytes(PartitionState(boot_id(), 0, 0, 0, 0, 0).encode())
        sync_directory(path)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files. Safe in a forked child: the parent's locks stay."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._close_writing()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer, over threads and processes; the system frees the lock of a process that dies.

        Raises:
            PartitionDeleted: the topic was deleted meanwhile.
        """
        with self._thread:
            if self._fd < 0:
                raise PartitionDeleted
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                if os.fstat(self._fd).st_nlink == 0:
                    raise PartitionDeleted
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def is_deleted(self) -> bool:
        """Whether the topic was deleted while this was open."""
        return self._fd < 0 or os.fstat(self._fd).st_nlink == 0

    # ---- reading

    def state(self) -> PartitionState:
        """What is published now; after the machine restarted, what the power cut left is put in order first.

        Raises:
            PartitionDeleted: the topic was deleted meanwhile.
            LogError: the files are damaged or cannot be read.
        """
        with reporting("read the state in", self.path):
            for _ in range(100):
                # A writer may be half way through these bytes; the checksum tells.
                found = decode_state(os.pread(self._fd, STATE.size, 0))
                if found is not None:
                    if found.boot == boot_id():
                        return found
                    break
            with self.locked():
                return self.settled()

    def segments(self, state: PartitionState) -> list[int]:
        """The first offsets of the published segments, ascending."""
        known = (state.epoch, state.start, state.segment)
        listed = self._listed
        if listed is None or listed[0] != known:
            listed = self._listed = (known, [base for base in self.bases() if state.start <= base <= state.segment])
        return listed[1]

    def locate(self, base: int, offset: int, limit: int) -> int:
        """The position, in the segment at `base`, of the batch that holds `offset` or is the first after it."""
        path = self.path / segment_name(base)
        with open(path, "rb", buffering=0) as file:
            fd = file.fileno()
            position = 0
            for first, at in reversed(self._index(base, offset)):
                with suppress(DamagedBatch):
                    if at < limit and head_at(os.pread(fd, HEADER.size, at)).first_offset == first:
                        position = at
                        break
            while position < limit:
                try:
                    head = head_at(os.pread(fd, HEADER.size, position))
                except DamagedBatch as damage:
                    raise self.damaged(base, position, damage.reason) from damage
                if head.first_offset + head.count > offset:
                    break
                position += head.size
        return position

    def damaged(self, base: int, position: int, reason: str) -> LogError:
        """The error for a segment whose published bytes are not what was written."""
        return LogError(
            f"log segment {self.path / segment_name(base)} is damaged at byte {position}: {reason}",
            hint="restore the file from a copy, or seek beyond the damage if the gap can be accepted",
        )

    def _index(self, base: int, offset: int) -> list[tuple[int, int]]:
        """The last two index entries at or before `offset`; the index may be missing or lag behind."""
        try:
            data = self.index_path(base).read_bytes()
        except FileNotFoundError:
            return []
        entries = np.frombuffer(data, "<i8", len(data) // _ENTRY.size * 2).reshape(-1, 2)
        row = int(np.searchsorted(entries[:, 0], offset, side="right"))
        return [(first, at) for first, at in entries[max(0, row - 2) : row].tolist()]

    def index_path(self, base: int) -> Path:
        """The index of the segment at `base`: pairs of first offset and position, ascending."""
        return self.path / f"{base:020d}.index"

    def bases(self) -> list[int]:
        """The first offsets of all segments on disk, ascending, published or not."""
        with reporting("list", self.path):
            names = os.listdir(self.path)
        return sorted(int(found[1]) for name in names if (found := _SEGMENT.fullmatch(name)))

    def _segment_text(self, base: int) -> str:
        # Not by pathlib, which takes as long as writing a record.
        return f"{self._text}/{base:020d}.log"

    # ---- appending

    def append(self, batches: Sequence[PackedBatch], *, durable: bool) -> int:
        """Write and publish; returns the first offset. What threads ask for while one is at it is written at one go,
        so that they share one sync.
        """
        mine = _Append(batches, durable)
        self.waiting.append(mine)
        with self._thread:
            if mine.first is None and mine.error is None:
                self._append_waiting()
        if mine.error is not None:
            raise mine.error
        assert mine.first is not None
        return mine.first

    def _append_waiting(self) -> None:
        waiting = [self.waiting.popleft() for _ in range(len(self.waiting))]
        try:
            with self.locked():
                batches = [batch for one in waiting for batch in one.batches]
                state = self.write(batches, durable=any(one.durable for one in waiting))
                self.publish(state)
        except BaseException as error:
            for one in waiting:
                one.error = error if isinstance(error, Exception) else LogError("a send was interrupted; send again")
            if not isinstance(error, Exception):
                raise
            return
        offset = state.next - sum(batch.count for batch in batches)
        for one in waiting:
            one.first = offset
            offset += sum(batch.count for batch in one.batches)

    def write(self, batches: Sequence[PackedBatch], *, durable: bool) -> PartitionState:
        """Append behind what is published, still unseen by readers; needs `locked`, ends with `publish`.

        Returns:
            The state to publish.
        """
        state = self.settled()
        if state.position >= self._segment_bytes:
            state = self.roll(state)
        fd = self._open_segment(state)
        with reporting("append to", self._segment_text(state.segment)):
            size = os.fstat(fd).st_size
            if size < state.position:
                raise self.damaged(state.segment, size, f"it ends here, but should have {state.position} bytes")
            if size > state.position:
                # Left by a writer that died before it published; no sender got its offsets.
                os.ftruncate(fd, state.position)
            pieces, marks = [], []
            position, offset = state.position, state.next
            for batch in batches:
                piece = batch.sealed(offset)
                pieces.append(piece)
                offset += batch.count
                if (position + len(piece)) // INDEX_EVERY != position // INDEX_EVERY:
                    marks.append((offset, position + len(piece)))
                position += len(piece)
            try:
                _write_all(fd, b"".join(pieces), state.position)
                if durable:
                    sync_data(fd)
            except BaseException:
                os.ftruncate(fd, state.position)
                raise
            if marks:
                # Only a shortcut for readers: a full disk must not fail the send here.
                with suppress(OSError):
                    self._append_index(state.segment, marks)
        return replace(state, position=position, next=offset)

    def publish(self, state: PartitionState) -> None:
        """Let readers see everything up to `state`."""
        with reporting("publish in", self.path):
            os.pwrite(self._fd, state.encode(), 0)

    def _append_index(self, base: int, marks: Sequence[tuple[int, int]]) -> None:
        fd = os.open(self.index_path(base), os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            whole = os.fstat(fd).st_size // _ENTRY.size * _ENTRY.size
            os.pwrite(fd, b"".join(_ENTRY.pack(*mark) for mark in marks), whole)
        finally:
            os.close(fd)

    def roll(self, state: PartitionState) -> PartitionState:
        """Begin a new segment. The old one is synced first: only the last segment can be torn by a power cut."""
        path = self.path / segment_name(state.next)
        with reporting("begin segment", path):
            fd = self._open_segment(state)
            # Readers take a segment that is followed by another as published to its end.
            if os.fstat(fd).st_size > state.position:
                os.ftruncate(fd, state.position)
            sync_data(fd)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))
            sync_directory(self.path)
            self.index_path(state.next).unlink(missing_ok=True)
        return replace(state, segment=state.next, position=0)

    def _open_segment(self, state: PartitionState) -> int:
        if self._writing is None or self._writing[:2] != (state.epoch, state.segment):
            self._close_writing()
            path = self.path / segment_name(state.segment)
            with reporting("open", path):
                self._writing = (state.epoch, state.segment, os.open(path, os.O_RDWR))
        return self._writing[2]

    def _close_writing(self) -> None:
        if self._writing is not None:
            os.close(self._writing[2])
            self._writing = None

    # ---- after a crash

    def settled(self) -> PartitionState:
        """The state; under the lock. Within one start of the machine the file is right: a dead process cannot tear it.

        After a power cut it may be older than the segments, or newer: then the last segment is read again.
        """
        found = decode_state(os.pread(self._fd, STATE.size, 0))
        if found is not None and found.boot == boot_id():
            return found
        bases = self.bases()
        if not bases:
            raise LogError(f"log partition {self.path} has no segments", hint="restore it from a copy")
        last = bases[-1]
        position, offset, marks = self._scan(last)
        # An offset that was once published is never given to another record; no offset is left out either, so that
        # a missing segment can be told.
        lost = max(0, found.next - offset) if found else 0
        path = self.path / segment_name(last)
        with reporting("recover", path):
            os.truncate(path, position)
            with open(path, "ab") as file:
                for batch in filler(lost):
                    position += file.write(batch.sealed(offset))
                    offset += batch.count
                file.flush()
                os.fsync(file.fileno())
            self.index_path(last).unlink(missing_ok=True)
            if marks:
                self._append_index(last, marks)
        state = PartitionState(
            boot=boot_id(),
            epoch=found.epoch + 1 if found else int.from_bytes(os.urandom(6), "little"),
            start=max(bases[0], found.start if found else 0),
            segment=last,
            position=position,
            next=offset,
        )
        self.publish(state)
        return state

    def _scan(self, base: int) -> tuple[int, int, list[tuple[int, int]]]:
        """Where the whole batches of a segment end, the offset after them, and the index of what lies between.

        Raises:
            LogError: whole batches follow after damage, so this is not the torn end that a power cut leaves.
        """
        path = self.path / segment_name(base)
        with reporting("read", path):
            data = path.read_bytes()
        position, offset = 0, base
        marks: list[tuple[int, int]] = []
        while position < len(data):
            try:
                head = check(data, position)
            except DamagedBatch as damage:
                self._refuse_batches_after(data, position, base, damage)
                break
            offset = head.first_offset + head.count
            if (position + head.size) // INDEX_EVERY != position // INDEX_EVERY:
                marks.append((offset, position + head.size))
            position += head.size
        return position, offset, marks

    def _refuse_batches_after(self, data: bytes, position: int, base: int, damage: DamagedBatch) -> None:
        magic = MAGIC.to_bytes(4, "little")
        at = data.find(magic, position + 1)
        while at >= 0:
            with suppress(DamagedBatch):
                check(data, at)
                raise self.damaged(base, position, damage.reason) from damage
            at = data.find(magic, at + 1)


def _write_all(fd: int, data: bytes, position: int) -> None:
    """Write everything: a full disk takes a part first, and refuses only the rest."""
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, position)
        left = left[written:]
        position += written
