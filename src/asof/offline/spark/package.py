"""The package as one archive, for executors that do not have it: its modules, its Lua scripts and its metadata.

The metadata is in it because products are found by entry points, there as here.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from asof.distribution import DISTRIBUTION, installed_version

_ENDINGS = (".py", ".lua", ".sql")
_LEFT_OUT = ("catalog", "demo", "testing", "template", "templates", "static", "__pycache__")
"""Folders that no executor needs."""

_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The date of each file in the archive: equal packages are equal archives."""


@cache
def archive() -> tuple[str, bytes]:
    """The archive's file name, which differs with its content, and its bytes."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in sorted(_contents()):
            file.writestr(zipfile.ZipInfo(name, _EARLIEST), content, zipfile.ZIP_DEFLATED)
    content = written.getvalue()
    return f"asof_{hashlib.sha256(content).hexdigest()[:16]}.zip", content


def write_archive(folder: Path) -> Path:
    """Write the archive into a folder; returns its path."""
    name, content = archive()
    path = folder / name
    path.write_bytes(content)
    return path


def _contents() -> Iterator[tuple[str, bytes]]:
    yield from _below(files("asof"), "asof")
    try:
        metadata = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return  # a source tree on the path
    folder = f"{DISTRIBUTION.replace('-', '_')}-{installed_version()}.dist-info"
    for name in ("METADATA", "entry_points.txt"):
        if (text := metadata.read_text(name)) is not None:
            yield f"{folder}/{name}", text.encode()


def _below(folder: Traversable, path: str) -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            if each.name not in _LEFT_OUT:
                yield from _below(each, f"{path}/{each.name}")
        elif each.name.endswith(_ENDINGS):
            yield f"{path}/{each.name}", each.read_bytes()


__all__ = ["archive", "write_archive"]
