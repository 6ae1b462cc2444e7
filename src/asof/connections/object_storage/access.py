"""Files by their path or address, whether they are of this machine or in object storage."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO, cast

from asof.connections.object_storage.storage import ObjectStorage
from asof.values.local_paths import is_object_address

_BUFFER_BYTES = 4 << 20
"""What is asked for at once where a file is read from its beginning to its end."""


def for_arrow(path: str, storage: ObjectStorage | None) -> Any:
    """What Arrow reads: the path itself, or an object as a file of which it reads ranges."""
    return storage.files.open(path) if storage is not None and is_object_address(path) else path


def for_reading(path: str, storage: ObjectStorage | None) -> BinaryIO:
    """A file that is read from its beginning on."""
    if storage is not None and is_object_address(path):
        return cast("BinaryIO", io.BufferedReader(storage.files.open(path), _BUFFER_BYTES))
    return open(path, "rb")


def stamp_of(path: str, storage: ObjectStorage | None) -> tuple[str, int]:
    """Differs where the file does; its second part is its size in bytes.

    Raises:
        OSError: it is not there.
    """
    if storage is not None and is_object_address(path):
        found = storage.files.found(path)
        return found.etag or str(found.modified), found.size
    status = Path(path).stat()
    return str(status.st_mtime_ns), status.st_size


__all__ = ["for_arrow", "for_reading", "stamp_of"]
