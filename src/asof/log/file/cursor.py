"""A reader's position in one partition of the file log."""

from __future__ import annotations

import os
from bisect import bisect_right
from io import FileIO

import numpy as np

from asof.errors import LogError
from asof.log.file.frames import HEADER, DamagedBatch, UnpackedRecords, unpack
from asof.log.file.partition import FilePartition
from asof.log.file.state import PartitionDeleted, PartitionState, reporting, segment_name
from asof.log.protocol import Messages, OffsetOutOfRange, Partition

CHUNK_BYTES = 1 << 20


class _Gap(Exception):
    """The record at the position is missing."""


class Cursor:
    """Reads a partition forward from an offset, in large chunks of a segment.

    Attributes:
        offset: the next offset to be read.
    """

    def __init__(self, partition: FilePartition, name: Partition, offset: int) -> None:
        self.offset = offset
        self._partition = partition
        self._name = name
        self._epoch: int | None = None
        self._file: FileIO | None = None
        self._segment = 0
        self._position: int | None = None
        self._ready = Messages.empty()
        self._ready_end = offset

    def close(self) -> None:
        """Close the segment's file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, max_messages: int, *, stop: int | None = None) -> Messages:
        """The next records, at most `max_messages` and below `stop`; empty if there are none (yet).

        Raises:
            OffsetOutOfRange: the position is outside the partition; it stays unchanged.
            LogError: the segment is damaged or cannot be read.
        """
        while True:
            state = self._partition.state()
            if state.epoch != self._epoch:
                self._let_go(state)
            if not state.start <= self.offset <= state.next:
                raise OffsetOutOfRange(self._name, wanted=self.offset, first=state.start, next=state.next)
            try:
                return self._read(state, max_messages, state.next if stop is None else min(stop, state.next))
            except (FileNotFoundError, _Gap) as error:
                if self._partition.is_deleted():
                    raise PartitionDeleted from None
                if self._partition.state().epoch != state.epoch:
                    # Segments were deleted or rewritten since the state was read: retry.
                    continue
                raise self._missing(state) from error
            except OSError as error:
                raise LogError(f"cannot read log partition {self._partition.path}: {error}") from error

    def _read(self, state: PartitionState, max_messages: int, end: int) -> Messages:
        while self.offset < end:
            if not len(self._ready):
                self._load(state)
            taken = self._take(max_messages, end) if len(self._ready) else self._ready
            if len(taken):
                return taken
        return Messages.empty()

    def _missing(self, state: PartitionState) -> LogError:
        bases = [*self._partition.segments(state), state.next]
        following = bases[bisect_right(bases, self.offset)]
        return LogError(
            f"log partition {self._partition.path} has lost the records {self.offset} to {following - 1}",
            hint=f"restore the missing segment from a copy, or accept the gap and seek to {following}",
        )

    def _let_go(self, state: PartitionState) -> None:
        """Drop the read-ahead: segments were deleted or rewritten."""
        self.close()
        self._position = None
        self._ready = Messages.empty()
        self._epoch = state.epoch

    def _take(self, max_messages: int, end: int) -> Messages:
        """Take records from the read-ahead, and advance the position."""
        ready = self._ready
        count = min(max_messages, int(np.searchsorted(ready.offsets, end)))
        if count == len(ready):
            self._ready, self.offset = Messages.empty(), min(self._ready_end, end)
            return ready
        self._ready = ready[count:]
        # Offsets between two remaining records are erased.
        self.offset = min(int(ready.offsets[count]), end)
        return ready[:count]

    def _load(self, state: PartitionState) -> None:
        """Read ahead from the position: fill `_ready`, or skip offsets without records."""
        limit = self._open(state)
        position = self._position
        if position is None:
            position = self._partition.locate(self._segment, self.offset, limit)
        if position < limit:
            self._read_piece(position, limit)
        else:
            self._step_over_end(state)

    def _open(self, state: PartitionState) -> int:
        """Open the segment with the position; returns the end of its published bytes."""
        if self._file is None:
            if self._position is None:
                bases = self._partition.segments(state)
                at = bisect_right(bases, self.offset) - 1
                if at < 0:
                    raise _Gap
                self._segment = bases[at]
            self._file = FileIO(self._partition.path / segment_name(self._segment))
        if self._segment == state.segment:
            return state.position
        return os.fstat(self._file.fileno()).st_size

    def _step_over_end(self, state: PartitionState) -> None:
        self.close()
        bases = [*self._partition.segments(state), state.next]
        following = bases[bisect_right(bases, self._segment)]
        if following != self.offset or self._segment == state.segment:
            raise _Gap
        self._segment, self._position = following, 0

    def _read_piece(self, position: int, limit: int) -> None:
        size = CHUNK_BYTES
        while True:
            found = self._unpack(position, min(size, limit - position), at_end=position + size >= limit)
            if found.first_offset is not None and found.next_offset is not None:
                break
            size = max(found.needed, HEADER.size)
        if found.first_offset > self.offset:
            raise _Gap
        self._position = position + found.size
        messages = found.messages
        skipped = int(np.searchsorted(messages.offsets, self.offset))
        self._ready = messages[skipped:] if skipped else messages
        self._ready_end = max(found.next_offset, self.offset)
        if not len(self._ready):
            self.offset = self._ready_end

    def _unpack(self, position: int, size: int, *, at_end: bool) -> UnpackedRecords:
        """The batches in a chunk; up to a damaged one, or its error if it is the first."""
        assert self._file is not None
        partition = self._partition
        path = partition.path / segment_name(self._segment)
        with reporting("read", path):
            data = os.pread(self._file.fileno(), size, position)
        try:
            found = unpack(data, partition.number)
            if found.next_offset is None and at_end:
                raise DamagedBatch(0, "it ends in the middle of a batch")
            return found
        except DamagedBatch as damage:
            if damage.at:
                return unpack(data[: damage.at], partition.number)
            if os.stat(path).st_ino != os.fstat(self._file.fileno()).st_ino:
                # An erase that was killed has replaced the file without increasing the epoch.
                self.close()
                self._file = FileIO(path)
                return self._unpack(position, size, at_end=at_end)
            raise partition.damaged(self._segment, position, damage.reason) from damage
