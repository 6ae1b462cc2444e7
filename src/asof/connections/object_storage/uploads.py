"""Rows as the bytes of a file that is being uploaded, in bounded memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

_UPLOAD_BYTES = 8 << 20
"""So many bytes are uploaded at once."""


def file_bytes(schema: pa.Schema, batches: Iterable[pa.RecordBatch], writer: Callable[..., Any]) -> Iterator[bytes]:
    """The bytes of a file.

    Args:
        writer: writes it: given a file to write to and the schema, it has `write_batch` and `close`.
    """
    written = _FileBytes()
    opened = writer(written, schema)
    for batch in batches:
        opened.write_batch(batch)
        if written.size >= _UPLOAD_BYTES:
            yield written.take()
    opened.close()
    yield written.take()


class _FileBytes(io.RawIOBase):
    """Keeps what was written and not taken; its position counts all of it."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._at = 0
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._at += len(piece)
        self.size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._at

    def take(self) -> bytes:
        data, self._pieces, self.size = b"".join(self._pieces), [], 0
        return data


__all__ = ["file_bytes"]
