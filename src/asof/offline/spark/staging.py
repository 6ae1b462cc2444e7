"""Rows from elsewhere that are too many for a message: Parquet files beside the archives, where the server reads them."""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asof.connections.object_storage import ObjectStorage
from asof.errors import StorageError
from asof.values.local_paths import is_object_address

FOLDER = "_asof_staging"
"""The folder of these files, beside the projects'; what is in it belongs to reads that run."""


class Staging:
    """Writes files for one read, and deletes them.

    Args:
        root: the folder of the archives, or its address in object storage.
    """

    def __init__(self, root: Path | str, storage: ObjectStorage | None) -> None:
        self.storage = storage if is_object_address(str(root)) else None
        self._root = str(root) if self.storage is not None else str(Path(root).absolute())

    def write(self, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> tuple[str, int]:
        """Write the rows into a file; returns its path and their number."""
        path = posixpath.join(self._root, FOLDER, f"{uuid.uuid4().hex}.parquet")
        rows = 0
        try:
            if self.storage is None:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            with pq.ParquetWriter(path, schema, filesystem=self._file_system(), compression="zstd") as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
        except OSError as error:
            raise StorageError(
                f"rows for Spark cannot be written to {path}: {str(error).splitlines()[0]}",
                hint="check the offline store's path and its permissions",
            ) from error
        return path, rows

    def delete(self, path: str) -> None:
        """Delete a file that `write` made, if it is still there."""
        with suppress(OSError):
            if self.storage is None:
                Path(path).unlink(missing_ok=True)
            else:
                self.storage.files.rm(path)

    def _file_system(self) -> Any:
        if self.storage is None:
            return None
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return PyFileSystem(FSSpecHandler(self.storage.files))


__all__ = ["FOLDER", "Staging"]
