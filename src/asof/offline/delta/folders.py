"""Where archives and saved tables are: a folder of this machine, or a prefix in a bucket, under the same verbs."""

from __future__ import annotations

import io
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet
from deltalake import DeltaTable

from asof.connections.delta import open_table
from asof.connections.object_storage import ObjectStorage, StoredObject
from asof.connections.object_storage.uploads import file_bytes
from asof.connections.private_files import make_folder, private
from asof.offline.delta.offsets import OffsetCache, archived_offset


class FileSink(Protocol):
    """A file that is being written."""

    def write(self, data: Any) -> int: ...

    def flush(self) -> None: ...

    def tell(self) -> int: ...

    def finish(self) -> None:
        """End the file: it is kept, whatever happens to this process or machine."""
        ...


class TableFiles(Protocol):
    """The files of one Delta table, by their paths in its log."""

    def address(self, path: str) -> str: ...

    def create(self, path: str) -> FileSink: ...

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files; those that are not there are no error."""
        ...


class Folder(Protocol):
    """Delta tables and saved tables below one root; addresses are text."""

    storage: ObjectStorage | None
    """The bucket's; None for a folder of this machine."""

    checkpoint_every: int
    """After how many versions a new archive gets a checkpoint: who opens it reads each version since the last one."""

    @property
    def options(self) -> dict[str, str] | None:
        """The `storage_options` of new Delta tables."""
        ...

    def address(self, *names: str) -> str:
        """The address of what is there under these names."""
        ...

    def prepare(self, address: str) -> None:
        """Make the folder of a new table."""
        ...

    def open(self, address: str) -> DeltaTable:
        """The Delta table at an address, at its newest version.

        Raises:
            deltalake.exceptions.DeltaError, OSError: as the driver raises them.
        """
        ...

    def close(self, address: str, table: DeltaTable) -> None:
        """Take back a table that `open` returned and that is at its newest version, for the next `open`."""
        ...

    def offsets(self, address: str, table: DeltaTable, partitions: Sequence[int]) -> dict[int, int]:
        """Each partition's last archived offset, else -1."""
        ...

    def committed(self, address: str, version: int, offsets: Mapping[int, int]) -> None:
        """Take over the offsets of the commit that made this version."""
        ...

    def paths(self, address: str, table: DeltaTable) -> tuple[str, ...]:
        """The files of a Delta table, ascending."""
        ...

    def files(self, address: str) -> TableFiles:
        """The files of the Delta table at an address, to write and delete them."""
        ...

    def existing(self, address: str, paths: Sequence[str]) -> list[str]:
        """Which files of a Delta table are there."""
        ...

    def save(self, address: str, rows: pa.RecordBatchReader) -> None:
        """Save rows as one Parquet file, which appears once complete."""
        ...

    def load(self, address: str) -> pa.RecordBatchReader | None:
        """Rows that were saved, in bounded memory; None where there are none."""
        ...

    def remove(self, address: str) -> None:
        """Delete a saved table; one that is not there is no error."""
        ...

    def names(self, address: str) -> list[str]:
        """The names right below an address, ascending."""
        ...

    def drop(self, address: str) -> None:
        """Delete everything below an address."""
        ...

    def drop_rest(self, address: str, *, tables: str) -> None:
        """Delete the saved tables right in the folder `tables` below an address, and empty folders."""
        ...


class LocalFolder:
    """See `Folder`: a folder of this machine, created if missing."""

    storage = None
    options = None
    checkpoint_every = 50

    def __init__(self, root: Path) -> None:
        self.root = root

    def address(self, *names: str) -> str:
        return str(self.root.joinpath(*names))

    def prepare(self, address: str) -> None:
        make_folder(Path(address))

    def open(self, address: str) -> DeltaTable:
        return open_table(Path(address))

    def close(self, address: str, table: DeltaTable) -> None:
        """Nothing to do: opening a table here costs no request."""

    def offsets(self, address: str, table: DeltaTable, partitions: Sequence[int]) -> dict[int, int]:
        return {each: archived_offset(table, each) for each in partitions}

    def committed(self, address: str, version: int, offsets: Mapping[int, int]) -> None:
        """Nothing to do: the log is read from this machine."""

    def paths(self, address: str, table: DeltaTable) -> tuple[str, ...]:
        return tuple(sorted(unquote(uri.removeprefix("file://")) for uri in table.file_uris()))

    def files(self, address: str) -> TableFiles:
        return LocalFiles(Path(address))

    def existing(self, address: str, paths: Sequence[str]) -> list[str]:
        return [each for each in paths if (Path(address) / each).exists()]

    def save(self, address: str, rows: pa.RecordBatchReader) -> None:
        path = Path(address)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        try:
            make_folder(path.parent)
            with open(part, "wb", opener=private) as file:
                with pyarrow.parquet.ParquetWriter(file, rows.schema, compression="zstd") as writer:
                    for batch in rows:
                        writer.write_batch(batch)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def load(self, address: str) -> pa.RecordBatchReader | None:
        try:
            file = pyarrow.parquet.ParquetFile(address)
        except FileNotFoundError:
            return None
        return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(100_000))

    def remove(self, address: str) -> None:
        Path(address).unlink(missing_ok=True)

    def names(self, address: str) -> list[str]:
        folder = Path(address)
        return sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []

    def drop(self, address: str) -> None:
        shutil.rmtree(address, ignore_errors=True)

    def drop_rest(self, address: str, *, tables: str) -> None:
        for each in (Path(address) / tables).glob("*.parquet"):
            if each.is_file():
                each.unlink(missing_ok=True)
        for each in (Path(address) / tables).glob("*.pieces"):
            shutil.rmtree(each, ignore_errors=True)
        for folder, _, _ in os.walk(address, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)


class BucketFolder:
    """See `Folder`: a prefix in a bucket.

    Tables stay open between two uses. So a flush reads what was committed since the last one, and not the whole log.
    """

    # Each version is a request there.
    checkpoint_every = 10

    def __init__(self, root: str, storage: ObjectStorage) -> None:
        self.root, self.storage = root.rstrip("/"), storage
        self._open: dict[str, list[DeltaTable]] = {}
        self._offsets = OffsetCache(storage, self.checkpoint_every)

    @property
    def options(self) -> dict[str, str] | None:
        return self.storage.delta_options(self.root)

    def address(self, *names: str) -> str:
        return "/".join((self.root, *names))

    def prepare(self, address: str) -> None:
        """Nothing to do: a bucket has no folders."""

    def open(self, address: str) -> DeltaTable:
        if not self._offsets.is_current(address):
            self._open.pop(address, None)
        try:
            # Taken out: while one thread writes through a table, another opens its own.
            table = self._open.get(address, []).pop()
        except IndexError:
            return open_table(address, self.options)
        try:
            table.update_incremental()
        except Exception:
            # The log was cleaned up beyond this version, or the table was made again.
            return open_table(address, self.options)
        return table

    def close(self, address: str, table: DeltaTable) -> None:
        self._open.setdefault(address, []).append(table)

    def offsets(self, address: str, table: DeltaTable, partitions: Sequence[int]) -> dict[int, int]:
        return self._offsets.offsets(address, table, partitions)

    def committed(self, address: str, version: int, offsets: Mapping[int, int]) -> None:
        self._offsets.committed(address, version, offsets)

    def paths(self, address: str, table: DeltaTable) -> tuple[str, ...]:
        files = pa.table(table.get_add_actions(flatten=True)).select(["path", "size_bytes"]).to_pylist()
        known = [StoredObject(f"{address}/{unquote(each['path'])}", each["size_bytes"]) for each in files]
        # The log knows their sizes, so that reading them begins with their content.
        self.storage.files.remember(known)
        return tuple(sorted(each.address for each in known))

    def files(self, address: str) -> TableFiles:
        return BucketFiles(address, self.storage)

    def existing(self, address: str, paths: Sequence[str]) -> list[str]:
        there = {each.address for each in self.storage.objects_below(address)}
        return [each for each in paths if f"{address}/{each}" in there]

    def save(self, address: str, rows: pa.RecordBatchReader) -> None:
        self.storage.write(address, file_bytes(rows.schema, rows, _writer))

    def load(self, address: str) -> pa.RecordBatchReader | None:
        if self.storage.head(address) is None:
            return None
        file = pyarrow.parquet.ParquetFile(self.storage.files.open(address), pre_buffer=True)
        return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(100_000))

    def remove(self, address: str) -> None:
        self.storage.delete([address])

    def names(self, address: str) -> list[str]:
        return self.storage.folders(address)

    def drop(self, address: str) -> None:
        self._offsets.forget(f"{address}/")
        self._open = {known: tables for known, tables in self._open.items() if not known.startswith(f"{address}/")}
        self.storage.delete(each.address for each in self.storage.objects_below(address))

    def drop_rest(self, address: str, *, tables: str) -> None:
        # A bucket has no empty folders.
        place = f"{address}/{tables}/"
        below = (each.address for each in self.storage.objects_below(place.rstrip("/")))
        self.storage.delete(
            each for each in below
            if (each.endswith(".parquet") and "/" not in each[len(place) :])
            or each[len(place) :].partition("/")[0].endswith(".pieces")
        )  # fmt: skip


class _SyncedFile(io.BufferedWriter):
    """See `FileSink`."""

    def finish(self) -> None:
        self.flush()
        os.fsync(self.fileno())
        self.close()


class LocalFiles:
    """See `TableFiles`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def address(self, path: str) -> str:
        return str(self._folder / path)

    def create(self, path: str) -> FileSink:
        make_folder((self._folder / path).parent)
        return _SyncedFile(io.FileIO(self._folder / path, "wb", opener=private))

    def delete(self, paths: Sequence[str]) -> None:
        for each in paths:
            (self._folder / each).unlink(missing_ok=True)


class _Upload(io.BytesIO):
    """See `FileSink`: it is uploaded when it is finished; a compacted file ends at some 256 MB."""

    def __init__(self, address: str, storage: ObjectStorage) -> None:
        super().__init__()
        self._address, self._storage = address, storage

    def finish(self) -> None:
        self._storage.write(self._address, self.getvalue())
        self.close()


class BucketFiles:
    """See `TableFiles`."""

    def __init__(self, root: str, storage: ObjectStorage) -> None:
        self._root, self._storage = root, storage

    def address(self, path: str) -> str:
        return f"{self._root}/{path}"

    def create(self, path: str) -> FileSink:
        return _Upload(self.address(path), self._storage)

    def delete(self, paths: Sequence[str]) -> None:
        self._storage.delete(map(self.address, paths))


def _writer(sink: Any, schema: pa.Schema) -> pyarrow.parquet.ParquetWriter:
    return pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd")


def folder_of(root: Path | str, storage: ObjectStorage | None) -> Any:
    """The folder of a path, or of an address in object storage."""
    if isinstance(root, str) and "://" in root:
        return BucketFolder(root, storage or ObjectStorage())
    return LocalFolder(Path(root))


__all__ = ["Folder", "LocalFiles", "TableFiles", "folder_of"]
