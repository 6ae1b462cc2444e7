"""Which rows of a batch source an archive has already: compared by all columns, each copy of a row by itself.

A row is known by a digest of its values, so that a source of any order, and files that were joined or renamed, give
each row once; 16 bytes of memory per archived row.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import Field
from asof.values.packing import pack_values, plain_values

Digests = npt.NDArray[np.bytes_]
"""n digests of 16 bytes; NumPy compares them whole, since all are of one length."""

_BYTES = 16


def row_digests(rows: pa.Table, fields: Sequence[Field]) -> Digests:
    """A digest of each row's values; all NaNs are equal, and a null differs from every value."""
    columns = [_comparable(rows[field.name], field) for field in fields]
    packed = pack_values(*columns) if rows.num_rows else []
    whole = b"".join(hashlib.blake2b(each, digest_size=_BYTES).digest() for each in packed)
    return np.frombuffer(whole, dtype=f"S{_BYTES}")


def _comparable(column: pa.ChunkedArray, field: Field) -> list[Any]:
    if pa.types.is_floating(column.type):
        # The bits of a NaN do not come back from every store.
        return pc.if_else(pc.is_nan(column), math.nan, column).to_pylist()
    values = plain_values(column, field.dtype)
    return [_one_nan(value) for value in values] if field.dtype.name in ("Array", "Embedding") else values


def _one_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_one_nan(each) for each in value]
    return math.nan if isinstance(value, float) and math.isnan(value) else value


class _Counts:
    """How many copies of each row are not matched yet."""

    def __init__(self, pieces: Sequence[Digests]) -> None:
        whole = np.concatenate(pieces) if pieces else np.empty(0, dtype=f"S{_BYTES}")
        self.digests, self.left = np.unique(whole, return_counts=True)

    def match(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Which rows are copies of these; each copy is matched once."""
        if not len(self.digests):
            return np.zeros(len(digests), dtype=bool)
        place = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        found = np.flatnonzero(self.digests[place] == digests)
        # The copies of one row, one after the other, each with its number.
        order = found[np.argsort(place[found], kind="stable")]
        rows = place[order]
        first = np.ones(len(rows), dtype=bool)
        first[1:] = rows[1:] != rows[:-1]
        starts = np.flatnonzero(first)
        number = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))
        matched = number < self.left[rows]
        np.subtract.at(self.left, rows[matched], 1)
        known = np.zeros(len(digests), dtype=bool)
        known[order[matched]] = True
        return known


class KnownRows:
    """The rows that an archive has of a batch source.

    Args:
        fields: the source's columns.
        columns: first offset → the columns with which rows were loaded from that offset on. What was loaded before a
            column was declared has nulls there, and is compared by the columns of its time.
    """

    def __init__(self, fields: Sequence[Field], columns: Mapping[int, Iterable[str]]) -> None:
        names = [set(columns[first]) for first in sorted(columns)] or [{field.name for field in fields}]
        self._starts = sorted(columns)[1:]
        self._fields = [[field for field in fields if field.name in each] for each in names]
        self._pieces: list[list[Digests]] = [[] for _ in names]
        self._counts: list[_Counts] | None = None
        self.is_empty = True

    def add(self, rows: pa.Table, offsets: npt.NDArray[np.int64]) -> None:
        """Add archived rows."""
        time = np.searchsorted(self._starts, offsets, side="right")
        for number, (fields, pieces) in enumerate(zip(self._fields, self._pieces, strict=True)):
            mine = np.flatnonzero(time == number)
            if len(mine):
                self.is_empty = False
                pieces.append(row_digests(rows.take(pa.array(mine)), fields))

    def match(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Which of the next rows of the source are among the archived ones; each of those is matched once."""
        if self._counts is None:
            self._counts = [_Counts(pieces) for pieces in self._pieces]
        known = np.zeros(rows.num_rows, dtype=bool)
        if self.is_empty:
            return known
        for fields, counts in zip(reversed(self._fields), reversed(self._counts), strict=True):
            others = np.flatnonzero(~known)
            if len(counts.digests) and len(others):
                known[others] = counts.match(row_digests(rows.take(pa.array(others)), fields))
        return known


class KnownIds:
    """The event IDs that an archive has, and those of the rows that were matched before."""

    def __init__(self, field: Field) -> None:
        self._fields = [field]
        self._pieces: list[Digests] = []
        self._archived: Digests | None = None
        self._seen: set[bytes] = set()

    def add(self, rows: pa.Table) -> None:
        """Add archived rows."""
        self._pieces.append(row_digests(rows, self._fields))

    def match(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows have an ID that a row before them has."""
        if self._archived is None:
            self._archived = np.unique(np.concatenate(self._pieces)) if self._pieces else np.empty(0, f"S{_BYTES}")
        digests = row_digests(rows, self._fields)
        known = np.isin(digests, self._archived)
        for i in np.flatnonzero(~known).tolist():
            digest = bytes(digests[i])
            known[i] = digest in self._seen
            self._seen.add(digest)
        return known


__all__ = ["KnownIds", "KnownRows", "row_digests"]
