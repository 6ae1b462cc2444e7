"""Files and folders that only their owner may read: 0600 and 0700, whatever the process's umask.

What exists keeps the rights that its owner gave it. Files of a log get those of their folder, so that a log whose
folders were opened to a group stays open to it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FILE, FOLDER = 0o600, 0o700


def make_folder(path: Path) -> None:
    """Create a folder and those above it that are missing, each for its owner alone."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    try:
        path.mkdir(FOLDER)
    except FileExistsError:
        if not path.is_dir():
            raise


def make_folder_like_its_own(path: Path) -> None:
    """Create a folder with the rights of the one that it is in."""
    path.mkdir(path.parent.stat().st_mode & 0o777, exist_ok=True)


def make_file(path: Path) -> None:
    """Create an empty file for its owner alone, where there is none and it can be made: SQLite's journals get the
    rights of their file.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE))


def private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file, and create it for its owner alone; an `opener` of `open`."""
    return os.open(path, flags, FILE)


def like_its_folder(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file, and create it with the rights of its folder; an `opener` of `open`."""
    mode = os.stat(os.path.dirname(path)).st_mode & 0o666 if flags & os.O_CREAT else 0
    return os.open(path, flags, mode)


__all__ = ["like_its_folder", "make_file", "make_folder", "make_folder_like_its_own", "private"]
