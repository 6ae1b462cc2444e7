"""Errors of SQLite as errors of the online store, with the next step."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from asof.errors import StorageError

SETTING = "online_store.path"


def failure_of(error: sqlite3.Error, path: Path, *, busy_timeout_s: float) -> StorageError:
    """The error for an error of SQLite, with the next step."""
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    what, hint = _FAILURES.get(code, (f"failed: {error}", "see the cause with `--debug`"))
    return StorageError(
        f"the online store {path} {what.format(wait=busy_timeout_s, error=error)} ({SETTING})", hint=hint
    )


_ACCESS = (
    "cannot be opened or written: {error}",
    f"check the owner and permissions of the file of `{SETTING}` and of its directory",
)
_DAMAGED = (
    "is damaged: {error}",
    "move the file away and run `asof rebuild`, which rebuilds the online store from the archive",
)
_FAILURES = {
    sqlite3.SQLITE_FULL: (
        "cannot grow: the disk is full",
        f"free disk space, or set `{SETTING}` to a file on another disk",
    ),
    sqlite3.SQLITE_BUSY: (
        "was locked by another process for more than {wait:g} s",
        "find the process that keeps the file open",
    ),
    sqlite3.SQLITE_LOCKED: (
        "was locked by another process for more than {wait:g} s",
        "find the process that keeps the file open",
    ),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_READONLY: _ACCESS,
    sqlite3.SQLITE_CANTOPEN: _ACCESS,
    sqlite3.SQLITE_PERM: _ACCESS,
    sqlite3.SQLITE_AUTH: _ACCESS,
    sqlite3.SQLITE_IOERR: ("cannot be read or written: {error}", f"check the disk of `{SETTING}` and its free space"),
    sqlite3.SQLITE_TOOBIG: ("refuses a row: {error}", "a row can have at most 1 GB"),
}
"""SQLite's primary result code → what happened to the file, and the next step."""
