"""The audit log of writes and admin requests: caller, object, time and outcome as JSON; no values, no secrets."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from asof.connections.private_files import make_folder, private
from asof.errors import ConfigError
from asof.secrets import masked
from asof.timing import Clock, iso
from asof.values.legible import cut

MAX_TEXT = 300
"""Longest name in a line: names come from callers."""


class AuditLog:
    """Appends lines to a file or to stderr.

    Each line is a single write, so that several processes can share a file. A file that a log rotation moved away is
    created again.

    Args:
        target: a path, `stderr`, or `off`.
    """

    def __init__(self, target: str, *, clock: Clock) -> None:
        self._path = Path(target) if target not in ("stderr", "off") else None
        self._is_off = target == "off"
        self._clock = clock
        self._lock = Lock()
        self._file: int | None = None
        self._inode: tuple[int, int] | None = None
        if self._path is not None:
            try:
                make_folder(self._path.parent)
                self._opened()
            except OSError as error:
                raise ConfigError(
                    f"auth.audit: {self._path} cannot be written: {error.strerror}",
                    hint="give a path that the server may write to, stderr, or off",
                ) from error

    def write(self, **facts: Any) -> None:
        """Write one line: the time, then these fields in order; empty ones are left out."""
        if self._is_off:
            return
        line = json.dumps(line_of(self._clock(), facts), ensure_ascii=True, separators=(",", ":")) + "\n"
        with self._lock:
            if self._path is not None:
                try:
                    os.write(self._opened(), line.encode())
                    return
                except OSError as error:
                    # On a full disk the line goes to stderr instead.
                    self._to_stderr(f"asof: audit log {self._path}: {error.strerror}; its line follows\n")
            self._to_stderr(line)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = self._inode = None

    def _to_stderr(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()

    def _opened(self) -> int:
        assert self._path is not None
        try:
            found = os.stat(self._path)
            inode = (found.st_dev, found.st_ino)
        except FileNotFoundError:
            inode = None
        if self._file is None or inode != self._inode:
            if self._file is not None:
                os.close(self._file)
                self._file = None
            # Readable by its owner only.
            self._file = private(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            made = os.fstat(self._file)
            self._inode = (made.st_dev, made.st_ino)
        return self._file


def line_of(now: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a line: secrets hidden, long texts cut."""
    shown = {name: _short(value) for name, value in facts.items() if value not in (None, "", [], {})}
    return {"time": iso(now), **masked(shown)}


_OBJECTS = {
    "push_source_name": "source", "feature_view_name": "view", "feature_views": "views", "batch_id": "batch_id",
    "start_ts": "start", "end_ts": "end",
}  # fmt: skip
"""Field of a request's body → field in the log."""


def object_of(content: Any) -> dict[str, Any]:
    """The objects that a request's body names; never its rows."""
    found = {word: getattr(content, name, None) for name, word in _OBJECTS.items()}
    return {word: value for word, value in found.items() if value is not None}


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return cut(value, MAX_TEXT)
    if isinstance(value, list | tuple):
        return [_short(each) for each in value[:50]]
    return value if isinstance(value, int | float | bool) else _short(str(value))
