"""Hashes of tables, files and definitions, independent of the engine and of batch sizes."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asof.connections.object_storage import ObjectStorage
from asof.definitions import FeatureView, OnDemandFeatureView
from asof.definitions.facts import FileMark
from asof.values.local_paths import is_object_address

_WHOLE_BYTES = 64 * 1024 * 1024
_END_BYTES = 1024 * 1024


class TableHash:
    """A hash of ordered rows, per column, updated batch by batch.

    It ignores the width of numbers and the encoding of strings. A null differs from every value; all NaNs are equal.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.rows = 0
        self._columns = {field.name: _ColumnHash() for field in schema}

    def add(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Update the hash with the next rows; returns them unchanged."""
        self.rows += batch.num_rows
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            self._columns[name].add(column)
        return batch

    def through(self, batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        """The same batches; each updates the hash as it passes."""
        return map(self.add, batches)

    @property
    def columns(self) -> dict[str, str]:
        """Column → the hash of its values."""
        return {name: column.hexdigest() for name, column in self._columns.items()}

    @property
    def whole(self) -> str:
        """The hash of all columns with their names, in order."""
        return hashlib.sha256(json.dumps(list(self.columns.items())).encode()).hexdigest()


class _ColumnHash:
    """Separate hashes of nulls, lengths and values, so that batch boundaries do not matter."""

    def __init__(self) -> None:
        self._parts: dict[str, Any] = {}

    def add(self, array: pa.Array, path: str = "") -> None:
        # The hash is of values, not of how a batch holds them: dictionaries, views and widths must not matter.
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        self._update(f"{path}valid", array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8))
        kind = array.type
        if pa.types.is_null(kind):
            return
        # Below a null anything may be stored.
        present = array.drop_null()
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            lengths = pc.list_value_length(present).cast(pa.int64())
            self._update(f"{path}lengths", lengths.to_numpy(zero_copy_only=False))
            self.add(pc.list_flatten(present), f"{path}items.")
        elif pa.types.is_floating(kind):
            values = present.cast(pa.float64()).to_numpy(zero_copy_only=False)
            # All NaNs are one value, as they are for readers.
            self._update(f"{path}values", np.where(np.isnan(values), math.nan, values))
        elif pa.types.is_boolean(kind) or pa.types.is_integer(kind):
            # Only these have numbers that 64 bits with a sign do not hold.
            if pa.types.is_uint64(kind):
                self._update(f"{path}values", present.to_numpy(zero_copy_only=False))
            else:
                self._update(f"{path}values", present.cast(pa.int64()).to_numpy(zero_copy_only=False))
        elif pa.types.is_timestamp(kind):
            self._update(f"{path}values", present.cast(pa.int64()).to_numpy(zero_copy_only=False))
        elif pa.types.is_date32(kind):
            self._update(f"{path}values", present.cast(pa.int32()).cast(pa.int64()).to_numpy(zero_copy_only=False))
        else:
            self._texts(path, present)

    def _texts(self, path: str, present: pa.Array) -> None:
        kind = present.type
        is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        values = present.to_pylist()
        texts = values if is_bytes else [(each if is_text else repr(each)).encode() for each in values]
        # With the lengths, joined texts are unambiguous: "a", "bc" and "ab", "c" differ.
        self._update(f"{path}lengths", np.fromiter(map(len, texts), dtype=np.int64, count=len(texts)))
        self._digest(f"{path}values").update(b"".join(texts))

    def _update(self, name: str, values: Any) -> None:
        self._digest(name).update(np.ascontiguousarray(values).tobytes())

    def _digest(self, name: str) -> Any:
        if name not in self._parts:
            self._parts[name] = hashlib.sha256()
        return self._parts[name]

    def hexdigest(self) -> str:
        # A hash without values is left out, so that an empty batch changes nothing.
        empty = hashlib.sha256().digest()
        parts = [(name, part.hexdigest()) for name, part in sorted(self._parts.items()) if part.digest() != empty]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def file_mark(path: str, storage: ObjectStorage) -> FileMark:
    """A file's fingerprint: size in bytes, modification time in ns, and a hash.

    Of large files only both ends are hashed: the footer of a Parquet file lists all row groups with their bounds.
    Object storage has a tag of its own for each content (`etag`): nothing is read for it.
    """
    if is_object_address(path):
        found = storage.head(path)
        if found is None:
            raise FileNotFoundError(path)
        return FileMark(path=path, bytes=found.size, changed_ns=0, sha256=found.etag, hashed="etag")
    place = Path(path)
    stat = place.stat()
    digest = hashlib.sha256()
    with place.open("rb") as file:
        if stat.st_size <= _WHOLE_BYTES:
            while block := file.read(_END_BYTES):
                digest.update(block)
        else:
            digest.update(file.read(_END_BYTES))
            file.seek(-_END_BYTES, os.SEEK_END)
            digest.update(file.read(_END_BYTES))
    return FileMark(
        path=str(path), bytes=stat.st_size, changed_ns=stat.st_mtime_ns, sha256=digest.hexdigest(),
        hashed="whole" if stat.st_size <= _WHOLE_BYTES else "both ends",
    )  # fmt: skip


def file_is_same(mark: FileMark, storage: ObjectStorage) -> bool:
    """Whether the file still has the fingerprint's content."""
    try:
        now = file_mark(mark.path, storage)
    except OSError:
        return False
    return (now.bytes, now.sha256) == (mark.bytes, mark.sha256) and (
        mark.hashed in ("whole", "etag") or now.changed_ns == mark.changed_ns
    )


def content_hash(view: FeatureView | OnDemandFeatureView) -> str:
    """A hash of the definitions of a view and its source, without descriptions, tags and owners."""
    content: dict[str, Any] = {"view": view.content()}
    if isinstance(view, FeatureView):
        content["source"] = view.source.content()
    for each in content.values():
        for silent in ("description", "tags", "owner"):
            each.pop(silent, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
