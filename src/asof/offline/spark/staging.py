"""Rows that are too many for a message: in a Parquet file next to the archives, where the server reads them."""

from __future__ import annotations

import uuid
from contextlib import suppress

import pyarrow as pa

from asof.connections.object_storage import ObjectStorage
from asof.errors import AsofError, StorageError
from asof.offline.delta.folders import Folder

FOLDER = "_asof_staging"
"""The folder of these files, next to the projects'; what is in it belongs to reads that run."""


class StagingFolder:
    """Writes a file for a read, and deletes it.

    Args:
        folder: of the archives.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    @property
    def storage(self) -> ObjectStorage | None:
        """The bucket's; None for a folder of this machine."""
        return self._folder.storage

    def write(self, rows: pa.RecordBatchReader) -> str:
        """Write the rows into a file; returns its path."""
        path = self._folder.address(FOLDER, f"{uuid.uuid4().hex}.parquet")
        try:
            self._folder.save(path, rows)
        except OSError as error:
            raise StorageError(
                f"rows for Spark cannot be written to {path}: {str(error).splitlines()[0]}",
                hint="check the offline store's path and its permissions",
            ) from error
        return path

    def delete(self, path: str) -> None:
        """Delete a file that `write` made, if it is still there."""
        with suppress(OSError, AsofError):
            self._folder.remove(path)


__all__ = ["FOLDER", "StagingFolder"]
