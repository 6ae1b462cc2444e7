"""Retention and erasure in one partition of the file log, under the writers' lock, while readers go on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from asof.connections.private_files import like_its_folder
from asof.log.file.frames import HEADER, DamagedBatch, blank, check, head_at, unpack
from asof.log.file.partition import FilePartition
from asof.log.file.state import PartitionState, reporting, segment_name, sync_directory
from asof.timing import Micros


def drop_before(partition: FilePartition, *, oldest_us: Micros | None, max_bytes: int | None) -> None:
    """Delete whole segments from the start: those entirely older than `oldest_us`, or beyond `max_bytes` in total."""
    with partition.locked():
        published = state = partition.settled()
        if (
            state.position
            and oldest_us is not None
            and _all_older(partition, state.segment, oldest_us, limit=state.position)
        ):
            state = partition.roll(state)
        bases = [base for base in partition.bases() if base <= state.segment]
        sizes = {base: (partition.path / segment_name(base)).stat().st_size for base in bases}
        left = sum(sizes.values())
        start = state.start
        for base, following in zip(bases, bases[1:], strict=False):
            by_size = max_bytes is not None and left > max_bytes
            if not by_size and (oldest_us is None or not _all_older(partition, base, oldest_us)):
                break
            left -= sizes[base]
            start = max(start, following)
        if start != state.start:
            state = replace(state, start=start, epoch=state.epoch + 1)
        if state != published:
            partition.publish(state)
        # Including files left by an earlier call that was killed here.
        with reporting("drop segments in", partition.path):
            for base in bases:
                if base < start:
                    (partition.path / segment_name(base)).unlink(missing_ok=True)
                    partition.index_path(base).unlink(missing_ok=True)


def _all_older(partition: FilePartition, base: int, oldest_us: Micros, *, limit: int | None = None) -> bool:
    path = partition.path / segment_name(base)
    with reporting("read", path), open(path, "rb", buffering=0) as file:
        limit = os.fstat(file.fileno()).st_size if limit is None else limit
        position = 0
        while position < limit:
            try:
                head = head_at(os.pread(file.fileno(), HEADER.size, position))
            except DamagedBatch as damage:
                raise partition.damaged(base, position, damage.reason) from damage
            if head.max_time >= oldest_us:
                return False
            position += head.size
    return True


def erase(partition: FilePartition, match: Callable[[bytes | None, bytes | None], bool]) -> int:
    """Rewrite the segments with matching records, keeping all positions, and replace the files.

    Returns:
        Number of erased records.
    """
    erased = 0
    with partition.locked():
        state = partition.settled()
        for base in partition.segments(state):
            path = partition.path / segment_name(base)
            with reporting("erase in", path):
                data = path.read_bytes()
            if base == state.segment:
                data = data[: state.position]
            rewritten, count = _without(partition, data, base, match)
            # Replaced even without a match if a dead writer has left unpublished bytes: they may match.
            if not count and path.stat().st_size == len(data):
                continue
            new = path.with_suffix(".erasing")
            try:
                with reporting("erase in", path), open(new, "wb", opener=like_its_folder) as file:
                    file.write(rewritten)
                    file.flush()
                    os.fsync(file.fileno())
                # Before the swap, so that no writer continues in the old file if this process dies right after it;
                # and after it, for readers that opened the old file in between.
                state = _next_epoch(partition, state)
                with reporting("erase in", path):
                    os.replace(new, path)
            finally:
                new.unlink(missing_ok=True)
            state = _next_epoch(partition, state)
            erased += count
        sync_directory(partition.path)
    return erased


def _next_epoch(partition: FilePartition, state: PartitionState) -> PartitionState:
    state = replace(state, epoch=state.epoch + 1)
    partition.publish(state)
    return state


def _without(
    partition: FilePartition, data: bytes, base: int, match: Callable[[bytes | None, bytes | None], bool]
) -> tuple[bytes, int]:
    pieces: list[bytes] = []
    position = count = 0
    while position < len(data):
        try:
            piece = data[position : position + check(data, position).size]
        except DamagedBatch as damage:
            raise partition.damaged(base, position, damage.reason) from damage
        messages = unpack(piece, partition.number).messages
        rows = zip(messages.offsets.tolist(), messages.keys, messages.values, strict=True)
        matching = {offset for offset, key, value in rows if match(key, value)}
        pieces.append(blank(piece, matching) if matching else piece)
        count += len(matching)
        position += len(piece)
    return b"".join(pieces), count
