"""What is known of an object, and the reads that files of objects are made of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


@dataclass(frozen=True)
class StoredObject:
    """An object of a bucket.

    Args:
        etag: differs where its content does; empty where unknown.
    """

    address: str
    size: int
    etag: str = ""
    modified: datetime = datetime(2000, 1, 1, tzinfo=UTC)


class ObjectReader(Protocol):
    """Reads objects by their address; see `ObjectStorage`."""

    def head(self, address: str) -> StoredObject | None: ...

    def read(self, address: str, *, start: int = 0, length: int | None = None, etag: str = "") -> bytes | None: ...


__all__ = ["ObjectReader", "StoredObject"]
