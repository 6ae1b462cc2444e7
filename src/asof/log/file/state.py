"""The published state of a file log's partition; and operating system errors as `LogError`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EACCES, EDQUOT, EFBIG, ENOSPC, EPERM, EROFS
from functools import cache
from pathlib import Path
from struct import Struct
from zlib import crc32

from asof.errors import LogError

STATE = Struct("<IIQqqqqq")
_FORBIDDEN = (EACCES, EPERM, EROFS)
_STATE_MAGIC = int.from_bytes(b"ASS1", "little")


class PartitionDeleted(Exception):
    """The partition's directory was removed while it was open."""


@contextmanager
def reporting(action: str, path: Path | str) -> Iterator[None]:
    """Turn operating system errors into a `LogError` with the action and the path."""
    try:
        yield
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT, EFBIG):
            raise LogError(
                f"cannot {action} {path}: no space left ({error.strerror}); nothing was written",
                hint="free disk space, or delete old records by retention, then send again",
            ) from error
        if error.errno in _FORBIDDEN:
            raise LogError(
                f"cannot {action} {path}: {error.strerror}",
                hint="check the owner and permissions of log.path: who writes needs to write all of it",
            ) from error
        raise LogError(f"cannot {action} {path}: {error.strerror or error}") from error


def is_writable(path: Path) -> bool:
    """Whether this process may write the file, or to the folder."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


@cache
def boot_id() -> int:
    """An ID that changes when the machine restarts, to tell a power cut from the death of a process.

    0 on systems without one.
    """
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return 0
    return int(text.replace("-", "")[:16], 16)


def sync_directory(path: Path) -> None:
    """Sync a directory, so that its file names survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def segment_name(first_offset: int) -> str:
    """File name of the segment that starts at `first_offset`."""
    return f"{first_offset:020d}.log"


@dataclass(frozen=True, slots=True)
class PartitionState:
    """The published state of a partition.

    Args:
        boot: boot ID of the machine at the time of writing.
        epoch: increases when segments are deleted or rewritten, so that readers drop what they have read ahead.
        start: the partition's first offset.
        segment: first offset of the last segment, which is written to.
        position: end of the published bytes in that segment.
        next: the next offset to be written.
    """

    boot: int
    epoch: int
    start: int
    segment: int
    position: int
    next: int

    def encode(self) -> bytes:
        """The bytes of the state file, with a checksum."""
        body = STATE.pack(0, 0, self.boot, self.epoch, self.start, self.segment, self.position, self.next)[8:]
        return _STATE_MAGIC.to_bytes(4, "little") + crc32(body).to_bytes(4, "little") + body


def decode_state(data: bytes) -> PartitionState | None:
    """The state, or None if the bytes are incomplete or the checksum is wrong."""
    if len(data) != STATE.size:
        return None
    magic, crc, *fields = STATE.unpack(data)
    return PartitionState(*fields) if magic == _STATE_MAGIC and crc32(data[8:]) == crc else None


def open_state(partition: Path) -> int:
    """Open the state file of a partition, to write or, for who may only read, to read.

    Raises:
        LogError: it cannot be read.
    """
    path = partition / "state"
    try:
        return os.open(path, os.O_RDWR)
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
    with reporting("read", path):
        return os.open(path, os.O_RDONLY)
