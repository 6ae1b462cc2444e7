"""One partition of the file log: lookup in its segments, appends, and recovery after a crash.

    00000000000000000000.log      segment: batches at increasing offsets (frames.py draws one)
    00000000000000000000.index    (first offset, position) of a batch about every 64 KiB of its segment
    00000000000000057344.log      the last segment, named by its first offset; only this one is written to:
                                      [batch][batch][batch] | [batch being wri…
                                                            ^ state.position: bytes before it are published
    00000000000000057344.index
    state                         what is published (state.py); its lock is that of the writers

A writer appends batches after `state.position`, syncs them if `durable`, and then writes the new state: only that
publishes them. Readers use only published bytes, so they need no lock and never read half a batch. Bytes after
`state.position` are of a running or dead writer; the next writer cuts them off.
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

from asof.connections.private_files import like_its_folder
from asof.errors import LogError
from asof.log.file.frames import HEADER, MAGIC, DamagedBatch, PackedBatch, check, filler, head_at
from asof.log.file.state import (
    STATE,
    PartitionDeleted,
    PartitionState,
    boot_id,
    decode_state,
    open_state,
    reporting,
    segment_name,
    sync_directory,
)

INDEX_EVERY = 64 << 10
"""Bytes of a segment between two entries of its index."""

_ENTRY = Struct("<qq")
_SEGMENT = re.compile(r"(\d{20})\.log")
sync_data = getattr(os, "fdatasync", os.fsync)


@dataclass(slots=True, eq=False)
class _Append:
    """An append that one thread requested, and its outcome."""

    batches: Sequence[PackedBatch]
    durable: bool
    first: int | None = None
    error: Exception | None = None


class FilePartition:
    """One partition's directory, opened by one process; several processes may write to it.

    Args:
        path: directory with `state` and segments `<first offset>.log`, each with an `.index`.
        segment_bytes: a new segment is started at this size.
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
        self._fd = open_state(path)

    @staticmethod
    def make(path: Path) -> None:
        """Create an empty partition's files in the existing directory `path`."""
        for name, content in ((segment_name(0), b""), ("state", PartitionState(boot_id(), 0, 0, 0, 0, 0).encode())):
            with open(path / name, "wb", opener=like_its_folder) as out:
                out.write(content)
        sync_directory(path)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the files. Safe in a forked child: the parent's locks stay."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._close_writing()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the partition for writing, across threads and processes; the system releases a dead process's lock.

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
        """The published state; after a restart of the machine, the last segment is recovered first.

        Raises:
            PartitionDeleted: the topic was deleted meanwhile.
            LogError: the files are damaged or unreadable.
        """
        with reporting("read the state in", self.path):
            for _ in range(100):
                # A writer may be replacing these bytes; the checksum detects that.
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
        """Position, in the segment at `base`, of the batch with `offset`, or of the first batch after it."""
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
        """The error for a segment whose published bytes are damaged."""
        return LogError(
            f"log segment {self.path / segment_name(base)} is damaged at byte {position}: {reason}",
            hint="restore the file from a copy, or accept the gap and seek beyond the damage",
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
        # Not with pathlib, which takes as long as writing a record.
        return f"{self._text}/{base:020d}.log"

    # ---- appending

    def append(self, batches: Sequence[PackedBatch], *, durable: bool) -> int:
        """Write and publish; returns the first offset.

        Appends that other threads request meanwhile are combined into the next write, and share one sync.
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
                one.error = (
                    error if isinstance(error, Exception) else LogError("a send was interrupted", hint="send again")
                )
            if not isinstance(error, Exception):
                raise
            return
        offset = state.next - sum(batch.count for batch in batches)
        for one in waiting:
            one.first = offset
            offset += sum(batch.count for batch in one.batches)

    def write(self, batches: Sequence[PackedBatch], *, durable: bool) -> PartitionState:
        """Append after the published bytes, invisible to readers until `publish`; needs `locked`.

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
                raise self.damaged(state.segment, size, f"the file ends here; expected {state.position} bytes")
            if size > state.position:
                # Left by a writer that died before publishing; no sender got its offsets.
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
                # The index only speeds up readers: a full disk must not fail the send here.
                with suppress(OSError):
                    self._append_index(state.segment, marks)
        return replace(state, position=position, next=offset)

    def publish(self, state: PartitionState) -> None:
        """Make everything up to `state` visible to readers."""
        with reporting("publish in", self.path):
            os.pwrite(self._fd, state.encode(), 0)

    def _append_index(self, base: int, marks: Sequence[tuple[int, int]]) -> None:
        fd = like_its_folder(self.index_path(base), os.O_WRONLY | os.O_CREAT)
        try:
            whole = os.fstat(fd).st_size // _ENTRY.size * _ENTRY.size
            os.pwrite(fd, b"".join(_ENTRY.pack(*mark) for mark in marks), whole)
        finally:
            os.close(fd)

    def roll(self, state: PartitionState) -> PartitionState:
        """Start a new segment. The old one is synced first, so that a power cut can tear only the last segment."""
        path = self.path / segment_name(state.next)
        with reporting("begin segment", path):
            fd = self._open_segment(state)
            # Readers take every segment but the last as published to its end.
            if os.fstat(fd).st_size > state.position:
                os.ftruncate(fd, state.position)
            sync_data(fd)
            os.close(like_its_folder(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
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
        """The state; needs the lock. While the machine runs the file is correct: a dying process cannot tear it.

        After a power cut it may be older or newer than the segments: then the last segment is scanned.
        """
        found = decode_state(os.pread(self._fd, STATE.size, 0))
        if found is not None and found.boot == boot_id():
            return found
        bases = self.bases()
        if not bases:
            raise LogError(f"log partition {self.path} has no segments", hint="restore it from a copy")
        last = bases[-1]
        position, offset, marks = self._scan(last)
        # A published offset is never used for another record. Lost ones are filled with erased records, so that
        # a missing segment is detected.
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
        """End position of a segment's complete batches, the offset after them, and their index entries.

        Raises:
            LogError: complete batches follow the damage, so it is not the torn end of a power cut.
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
    """Write all bytes: on a full disk `write` first writes some of them, and fails only at the next call."""
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, position)
        left = left[written:]
        position += written
