"""Objects as files of fsspec, through which DuckDB and Arrow read them: only the ranges that they need."""

from __future__ import annotations

import io
import threading
import zlib
from collections import OrderedDict, deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import fsspec

from asof.connections.object_storage.errors import ObjectChanged
from asof.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from asof.connections.object_storage.objects import ObjectReader, StoredObject

_KNOWN = 100_000
"""Of how many objects size and etag are remembered, so that opening them takes no request."""

_KEPT_ERRORS = 64
"""How many errors are kept: more than an engine has threads that fail at the same time."""

_TAIL_BYTES = 64 << 10
"""What is read of a file's end at once: the footer of most Parquet files."""


class ObjectFiles(fsspec.AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Reads objects; those that a listing or a Delta log named are opened without a request.

    Errors of reads are kept for `raise_error`: engines wrap them in their own, or lose them.
    """

    protocol = ("s3", "gs", "az")
    cachable = False

    def __init__(self, storage: ObjectReader) -> None:
        super().__init__()
        self._storage = storage
        self._known: OrderedDict[str, StoredObject] = OrderedDict()
        self._lock = threading.Lock()
        self._errors: deque[BaseException] = deque(maxlen=_KEPT_ERRORS)

    def remember(self, objects: Iterable[StoredObject]) -> None:
        """Keep size and etag of objects that a listing or a log has just named."""
        with self._lock:
            for each in objects:
                self._known[each.address] = each
                self._known.move_to_end(each.address)
            while len(self._known) > _KNOWN:
                self._known.popitem(last=False)

    def found(self, address: str) -> StoredObject:
        """Size and etag of an object.

        Raises:
            StorageError: it is not there, or cannot be reached.
        """
        known = self._known.get(address)
        if known is not None:
            return known
        try:
            found = self._storage.head(address)
        except Exception as error:
            self.failed(error)
            raise
        if found is None:
            raise self.failed(StorageError(f"{address} is not there", hint="check that the files exist"))
        self.remember([found])
        return found

    def forget(self, address: str) -> None:
        """Ask the store again for what is known of an object."""
        with self._lock:
            self._known.pop(address, None)

    def failed(self, error: BaseException) -> BaseException:
        """Keep an error for `raise_error`, and return it."""
        self._errors.append(error)
        return error

    def raise_error(self, wrapped: BaseException) -> None:
        """Raise the kept error that an engine's error has the text of; none where it has none."""
        text = str(wrapped)
        for kept in reversed(tuple(self._errors)):
            if str(kept).split("\n", 1)[0] in text:
                with suppress(ValueError):  # another thread raises it, too
                    self._errors.remove(kept)
                # Without the engine's: it has nothing but this error's traceback as text.
                raise kept.with_traceback(None) from kept.__cause__

    # What fsspec's users call; the names are its own.

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def unstrip_protocol(self, name: str) -> str:
        return name

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        found = self.found(path)
        return {"name": path, "size": found.size, "type": "file", "mtime": self.modified(path)}

    def exists(self, path: str, **_: Any) -> bool:
        return self.found(path) is not None

    def glob(self, path: str, **_: Any) -> list[str]:
        # Only whole addresses are handed to engines: a star in one is a star.
        return [path]

    def modified(self, path: str) -> datetime:
        """A time that differs where the content does: engines keep bytes of a file as long as its time is the same.

        Stores know times to the second; so the etag is part of it.
        """
        found = self.found(path)
        return datetime.fromtimestamp(zlib.crc32(f"{found.etag}{found.size}{found.modified}".encode()) >> 2, UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> ObjectFile:
        if mode != "rb":
            raise StorageError(f"{path} was opened for {mode!r}; objects are only read here")
        return ObjectFile(self, self._storage, path)


class ObjectFile(io.RawIOBase):
    """An object as a file to read from; every read is one request, but for those near its end."""

    def __init__(self, files: ObjectFiles, storage: ObjectReader, address: str) -> None:
        self._files, self._storage, self._address = files, storage, address
        self._known = files.found(address)
        self.size = self._known.size
        self._at = 0
        self._tail: bytes | None = None

    @property
    def mode(self) -> str:
        return "rb"

    @property
    def path(self) -> str:
        return self._address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence] + offset
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        left = max(self.size - self._at, 0)
        length = left if size is None or size < 0 else min(size, left)
        data = self._range(self._at, length) if length else b""
        self._at += len(data)
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _range(self, start: int, length: int) -> bytes:
        tail = max(self.size - _TAIL_BYTES, 0)
        if start >= tail:
            if self._tail is None:
                self._tail = self._fetch(tail, self.size - tail)
            return self._tail[start - tail : start - tail + length]
        return self._fetch(start, length)

    def _fetch(self, start: int, length: int) -> bytes:
        try:
            data = self._storage.read(self._address, start=start, length=length, etag=self._known.etag)
        except ObjectChanged as error:
            self._files.forget(self._address)
            raise self._files.failed(
                ObjectChanged(f"{self._address} was replaced while it was read", hint="run the read again")
            ) from error
        except Exception as error:
            self._files.failed(error)
            raise
        if data is None or len(data) != length:
            self._files.forget(self._address)
            problem = "is gone" if data is None else f"has {len(data)} bytes where {length} were expected"
            raise self._files.failed(StorageError(f"{self._address} {problem}", hint="run the read again"))
        return data


__all__ = ["ObjectFile", "ObjectFiles"]
