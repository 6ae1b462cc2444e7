"""SQLite files with a write-ahead log, for those who may write them and those who may only read them.

may write   log    opened
yes         any    as usual
no          yes    read-only: the log and its index are there, which only a writer can create
no          no     as a file that stays as it is, because nothing is being written; valid until it changes
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """A file without a write-ahead log, as it was; equal as long as no process has written it."""

    device: int
    inode: int
    size: int
    modified_ns: int


def may_write(path: Path) -> bool:
    """Whether this process may write the file, or create it, and keep a log next to it."""
    place = path if path.exists() else path.parent
    return _is_writable(path.parent) and _is_writable(place)


def _is_writable(path: Path) -> bool:
    # A folder that does not exist yet is created by who opens the file.
    effective = os.access in os.supports_effective_ids
    return not path.exists() or os.access(path, os.W_OK, effective_ids=effective)


def unchanging(path: Path) -> Stamp | None:
    """The stamp of a file that this process may only read, if it has no write-ahead log; else None."""
    if may_write(path) or not path.exists() or _has_log(path):
        return None
    return _stamp(path)


def is_unchanged(path: Path, stamp: Stamp) -> bool:
    """Whether what was read since the stamp is one state of the file."""
    try:
        return _stamp(path) == stamp and not _has_log(path)
    except OSError:
        return False


def address(path: Path, stamp: Stamp | None) -> str:
    """The URI to open a file with."""
    uri = path.absolute().as_uri()
    if stamp is not None:
        return f"{uri}?immutable=1"
    # A reader's own index of the log would be in the way of who may write.
    return uri if may_write(path) or not path.exists() else f"{uri}?mode=ro&readonly_shm=1"


def copied(path: Path, stamp: Stamp) -> sqlite3.Connection | None:
    """A connection to a copy of the file in memory; None if it changed meanwhile."""
    content = bytearray(path.read_bytes())
    if not is_unchanged(path, stamp):
        return None
    # Write and read version of the file: 2 is "with a write-ahead log", which a file in memory has none of.
    if content[18:20] == b"\x02\x02":
        content[18:20] = b"\x01\x01"
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    if content:
        connection.deserialize(bytes(content))
    connection.execute("PRAGMA query_only = ON")
    return connection


def _has_log(path: Path) -> bool:
    return path.with_name(path.name + "-wal").exists()


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


__all__ = ["Stamp", "address", "copied", "is_unchanged", "may_write", "unchanging"]
