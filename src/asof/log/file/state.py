"""What of a file log's partition is published, and how the system's refusals are told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, ENOSPC
from functools import cache
from pathlib import Path
from struct import Struct
from zlib import crc32

from asof.errors import LogError

STATE = Struct("<IIQqqqqq")
_STATE_MAGIC = int.from_bytes(b"ASS1", "little")


class PartitionDeleted(Exception):
    """The partition's directory was removed while it was open."""


@contextmanager
def reporting(action: str, path: Path | str) -> Iterator[None]:
    """Turn the operating system's refusals into a `LogError` that says what was tried where."""
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT, EFBIG):
            raise LogError(
                f"cannot {action} {path}: no space left ({error.strerror}); nothing of it was kept",
                hint="free space, or drop old records by retention, then send again",
            ) from error
        raise LogError(f"cannot {action} {path}: {error.strerror or error}") from error


@cache
def boot_id() -> int:
    """Changes when the machine restarts, so that what a power cut left differs from what a dead process left.

    Where the system has none it is always 0.
    """
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return 0
    return int(text.replace("-", "")[:16], 16)


def sync_directory(path: Path) -> None:
    """Make the names in a directory outlive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def segment_name(first_offset: int) -> str:
    """The file of the segment that begins at `first_offset`."""
    return f"{first_offset:020d}.log"


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What of a partition is published.

    Args:
        boot: the machine's start at which this was written.
        epoch: grows when segments are dropped or rewritten, so that readers let go of what they hold.
        start: the first offset that is there.
        segment: the first offset of the segment that is written to.
        position: where in that segment the published bytes end.
        next: the next offset to be written.
    """

    boot: int
    epoch: int
    start: int
    segment: int
    position: int
    next: int

    def encode(self) -> bytes:
        """As the bytes of the state file, with a checksum."""
        body = STATE.pack(0, 0, self.boot, self.epoch, self.start, self.segment, self.position, self.next)[8:]
        return _STATE_MAGIC.to_bytes(4, "little") + crc32(body).to_bytes(4, "little") + body


def decode_state(data: bytes) -> PartitionState | None:
    """The state, or None if these bytes are not whole."""
    if len(data) != STATE.size:
        return None
    magic, crc, *fields = STATE.unpack(data)
    return PartitionState(*fields) if magic == _STATE_MAGIC and crc32(data[8:]) == crc else None
