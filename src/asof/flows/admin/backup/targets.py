"""Where a backup is: a folder, which appears whole, or a prefix in object storage, whose manifest comes last."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from asof.connections.object_storage import ObjectStorage
from asof.connections.private_files import make_folder, private
from asof.errors import StorageError
from asof.flows.admin.backup.manifest import NAME
from asof.values.local_paths import NotAnAddress, NotLocal, checked_object_address, is_object_address, local_path

_PIECE_BYTES = 8 << 20


class BackupTarget(Protocol):
    """The files of one backup, by their paths in it. Every verb may raise StorageError."""

    address: str
    """For messages and commands."""

    def begin(self) -> None:
        """Make room for a new backup.

        Raises:
            StorageError: there is something already; nothing was changed.
        """
        ...

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write a file of the new backup."""
        ...

    def finish(self, manifest: bytes) -> None:
        """Write the manifest, and let the new backup appear."""
        ...

    def abandon(self) -> None:
        """Delete what was written of a new backup that does not come to its end."""
        ...

    def pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes; StorageError where it is not there."""
        ...

    def open(self, path: str) -> Any:
        """A file to read from any position."""
        ...


def target_at(target: str | os.PathLike[str], storage: ObjectStorage) -> BackupTarget:
    """The place of a path, or of an address in object storage.

    Raises:
        StorageError: it is neither.
    """
    text = os.fspath(target)
    try:
        if is_object_address(text):
            return BucketTarget(checked_object_address(text), storage)
        folder = Path(os.path.abspath(local_path(text)))
    except (NotLocal, NotAnAddress) as error:
        raise StorageError(f"no backup can be there: {error}", hint="give a folder, or s3://BUCKET/PREFIX") from error
    if not folder.name:
        raise StorageError(f"no backup can be at {text!r}", hint="give a folder in it")
    return FolderTarget(folder)


class FolderTarget:
    """See `BackupTarget`: written next to its place under a hidden name, which is changed at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._new = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        self.address = str(folder)

    def begin(self) -> None:
        with _wrapping(self.address):
            if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
                raise _taken(self.address)
            make_folder(self._new)

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        file = self._new / path
        with _wrapping(self.address):
            make_folder(file.parent)
            with open(file, "wb", opener=private) as opened:
                for piece in pieces:
                    opened.write(piece)
                opened.flush()
                os.fsync(opened.fileno())

    def finish(self, manifest: bytes) -> None:
        self.write(NAME, [manifest])
        with _wrapping(self.address):
            for folder, _, _ in os.walk(self._new):
                _sync(folder)
            try:
                os.rename(self._new, self._folder)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise _taken(self.address) from error
                raise
            _sync(self._folder.parent)

    def abandon(self) -> None:
        # What is left where this fails has a hidden name, and is no backup.
        import shutil

        shutil.rmtree(self._new, ignore_errors=True)

    def pieces(self, path: str) -> Iterator[bytes]:
        with self.open(path) as opened, _wrapping(self.address):
            while piece := opened.read(_PIECE_BYTES):
                yield piece

    def open(self, path: str) -> Any:
        try:
            return open(self._folder / path, "rb")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _missing(self.address, path) from error
        except OSError as error:
            raise _wrapped(self.address, error) from error


class BucketTarget:
    """See `BackupTarget`: until it has a manifest, what is there is no backup, and the next one replaces it."""

    def __init__(self, address: str, storage: ObjectStorage) -> None:
        self.address, self._storage = address, storage

    def begin(self) -> None:
        if self._storage.head(f"{self.address}/{NAME}") is not None:
            raise _taken(self.address)
        left = [each.address for each in self._storage.objects_below(self.address)]
        own = ("/registry/", "/archives/", "/tables/")
        if any(not each[len(self.address) :].startswith(own) for each in left):
            raise _taken(self.address)
        self._storage.delete(left)

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        self._storage.write(f"{self.address}/{path}", pieces)

    def finish(self, manifest: bytes) -> None:
        if not self._storage.create(f"{self.address}/{NAME}", manifest):
            raise _taken(self.address)

    def abandon(self) -> None:
        """Nothing is deleted: the store may be what failed, and the next backup to this place replaces it."""

    def pieces(self, path: str) -> Iterator[bytes]:
        address = f"{self.address}/{path}"
        found = self._storage.head(address)
        if found is None:
            raise _missing(self.address, path)
        for start in range(0, max(found.size, 1), _PIECE_BYTES):
            length = min(_PIECE_BYTES, found.size - start)
            yield self._storage.read(address, start=start, length=length, etag=found.etag) or b"" if length else b""

    def open(self, path: str) -> Any:
        address = f"{self.address}/{path}"
        if self._storage.head(address) is None:
            raise _missing(self.address, path)
        return self._storage.files.open(address)


def _taken(address: str) -> StorageError:
    return StorageError(
        f"{address} is not empty; nothing was changed", hint="give each backup a place of its own, such as its date"
    )


def _missing(address: str, path: str) -> StorageError:
    if path == NAME:
        return StorageError(
            f"{address} is no backup: it has no {NAME}",
            hint="give the place that `asof backup` wrote; one that broke off is no backup",
        )
    return StorageError(
        f"backup {address}: {path} is missing; nothing was changed", hint="use another backup, or a copy of this one"
    )


def _wrapped(address: str, error: OSError) -> StorageError:
    if error.errno == errno.ENOSPC:
        return StorageError(f"backup {address}: the disk is full", hint="free space, or give another place")
    return StorageError(f"backup {address}: {error.strerror or error}", hint="check the folder and its owner")


@contextmanager
def _wrapping(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _wrapped(address, error) from error


def _sync(folder: str | Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


__all__ = ["BackupTarget", "target_at"]
