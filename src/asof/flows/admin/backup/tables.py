"""Rows as files of a backup, hashed as they are written, and read back a file at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from asof.connections.object_storage.uploads import file_bytes
from asof.errors import StorageError
from asof.flows.admin.backup.manifest import BackupFile, Manifest
from asof.flows.admin.backup.targets import BackupTarget
from asof.flows.stores import Progress

FILE_ROWS, FILE_BYTES = 1_000_000, 128 << 20
"""Where a file of an archive ends: each is appended at once when it is restored."""


class _HashReader:
    """Hashes and counts bytes as they pass."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self._sha256 = hashlib.sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._sha256.update(piece)
            self.bytes += len(piece)
            yield piece

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()


def write_rows(place: BackupTarget, path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> BackupFile:
    """Write rows as one Parquet file."""
    pieces = _HashReader(file_bytes(schema, batches, lambda sink, own: pq.ParquetWriter(sink, own, compression="zstd")))
    place.write(path, pieces)
    return BackupFile(path, pieces.bytes, pieces.sha256)


def in_pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches as pieces, each of which is read to its end before the next; there is one at least."""
    rest = iter(batches)
    batch = next(rest, None)

    def piece() -> Iterator[pa.RecordBatch]:
        nonlocal batch
        rows = size = 0
        while batch is not None and rows < FILE_ROWS and size < FILE_BYTES:
            yield batch
            rows, size = rows + batch.num_rows, size + batch.nbytes
            batch = next(rest, None)

    yield piece()
    while batch is not None:
        yield piece()


def read_rows(place: BackupTarget, file: BackupFile) -> pa.RecordBatchReader:
    """The rows of a file, in bounded memory.

    Raises:
        StorageError: it is not the Parquet file that was written.
    """
    try:
        opened = pq.ParquetFile(place.open(file.path), pre_buffer=True)
    except pa.ArrowInvalid as error:
        raise _damaged(place, file) from error
    return pa.RecordBatchReader.from_batches(opened.schema_arrow, opened.iter_batches(100_000))


def check_hashes(place: BackupTarget, manifest: Manifest, *, progress: Progress) -> None:
    """Read all files of a backup, and compare them with the manifest.

    Raises:
        StorageError: a file is missing, or another one than was written.
    """
    files = list(manifest.files)
    total, done = sum(each.bytes for each in files), 0
    for file in files:
        pieces = _HashReader(place.pieces(file.path))
        for piece in pieces:
            done += len(piece)
            progress("check the backup", done, max(total, done))
        if (pieces.bytes, pieces.sha256) != (file.bytes, file.sha256):
            raise _damaged(place, file)


def _damaged(place: BackupTarget, file: BackupFile) -> StorageError:
    return StorageError(
        f"backup {place.address}: {file.path} is damaged: it is not what was written; nothing was changed",
        hint="use another backup, or a copy of this one",
    )


__all__ = ["check_hashes", "in_pieces", "read_rows", "write_rows"]
