"""Which rows of a batch source an archive lacks: compared by all columns, each copy of a row by itself.

A row is known by a digest of its values, so that a source of any order, and files that were joined or renamed, give
each row once. Digests are compared partition by partition, and are in files where they are many:

    archived rows ── digests by time ──┐
    source's rows ── digests by time ──┴─ what is missing: digests by time ── the source's rows, read again, of which
    archived IDs ─── digests by ID ────┐                                      those with such a digest are loaded
    source's rows ── digests by ID ────┴─ what is missing …

Rows of one event time are in one partition: the order in which they are loaded is that of the source.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import Field, LogSource
from asof.flows.batch.spilled_records import PARTITIONS, Records, SpilledRecords, together
from asof.values.fit import event_micros
from asof.values.packing import pack_values, plain_values

Digests = npt.NDArray[np.bytes_]
"""n digests of 16 bytes; NumPy compares them whole, since all are of one length."""

_BYTES = 16
_DIGEST = f"S{_BYTES}"

MISSING_AT_ONCE = 4_000_000
"""Missing rows that are looked up at once, of 32 bytes each; beyond, the source is read again for the others."""

_MISSING = np.dtype([("digest", _DIGEST), ("known", np.int64), ("most", np.int64)])
"""A missing row: how many of the first copies are known, and how many of those after them are loaded at most."""


def row_digests(rows: pa.Table, fields: Sequence[Field]) -> Digests:
    """A digest of each row's values; all NaNs are equal, and a null differs from every value."""
    columns = [_comparable(rows[field.name], field) for field in fields]
    packed = pack_values(*columns) if rows.num_rows else []
    whole = b"".join(hashlib.blake2b(each, digest_size=_BYTES).digest() for each in packed)
    return np.frombuffer(whole, dtype=_DIGEST)


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


def _copies(found: npt.NDArray[np.int64], place: npt.NDArray[np.int64]) -> tuple[Any, Any]:
    """The indexes `found` with the copies of one row (of equal `place`) one after the other, and each one's number."""
    order = found[np.argsort(place[found], kind="stable")]
    rows = place[order]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = rows[1:] != rows[:-1]
    starts = np.flatnonzero(first)
    return order, np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows))))


class _Counts:
    """How many copies of each row are not matched yet."""

    def __init__(self, digests: Digests) -> None:
        self.digests, self.left = np.unique(digests, return_counts=True)

    def match(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Which rows are copies of these; each copy is matched once."""
        if not len(self.digests):
            return np.zeros(len(digests), dtype=bool)
        place = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        found = np.flatnonzero(self.digests[place] == digests)
        order, number = _copies(found, place)
        rows = place[order]
        matched = number < self.left[rows]
        np.subtract.at(self.left, rows[matched], 1)
        known = np.zeros(len(digests), dtype=bool)
        known[order[matched]] = True
        return known

    def of(self, digests: Digests) -> npt.NDArray[np.int64]:
        """How many copies of each of these rows there are."""
        if not len(self.digests):
            return np.zeros(len(digests), dtype=np.int64)
        place = np.minimum(np.searchsorted(self.digests, digests), len(self.digests) - 1)
        return np.where(self.digests[place] == digests, self.left[place], 0)


class ArchiveComparison:
    """The rows of a batch source that an archive lacks.

    The archived rows are added, then the source's, and then `find_missing` is called.

    Args:
        source: whose archive it is.
        columns: first offset → the columns with which rows were loaded from that offset on. What was loaded before a
            column was declared has nulls there, and is compared by the columns of its time.

    Attributes:
        missing: how many rows the archive lacks.
    """

    def __init__(self, source: LogSource, columns: Mapping[int, Iterable[str]]) -> None:
        self._source, self._fields = source, list(source.schema)
        self._folder = _DigestFolder()
        names = [set(columns[first]) for first in sorted(columns)] or [{field.name for field in self._fields}]
        self._starts = sorted(columns)[1:]
        self._then = [[field for field in self._fields if field.name in each] for each in names]
        self._archived = [self._spilled(f"archived-{place}", _DIGEST) for place in range(len(names))]
        digests = [("whole", _DIGEST), *((f"then{place}", _DIGEST) for place in range(len(names)))]
        self._rows = self._spilled("rows", [("partition", np.uint8), *digests])
        self._id_fields = [field for field in self._fields if field.name == source.event_id]
        self._archived_ids = self._spilled("archived-ids", _DIGEST)
        self._ids = self._spilled("ids", [("partition", np.uint8), ("id", _DIGEST), ("whole", _DIGEST)])
        self._missing = self._spilled("missing", _MISSING)
        self.missing = 0

    def add_archived(self, rows: pa.Table, offsets: npt.NDArray[np.int64]) -> None:
        """Add archived rows; those with an event ID are known by that alone."""
        if self._id_fields:
            without = rows[self._id_fields[0].name].is_null().to_numpy()
            rows, offsets = rows.filter(pa.array(without)), offsets[without]
        time = np.searchsorted(self._starts, offsets, side="right")
        for number, (fields, archived) in enumerate(zip(self._then, self._archived, strict=True)):
            mine = np.flatnonzero(time == number)
            if len(mine):
                some = rows.take(pa.array(mine))
                archived.add(self._partitions(some), row_digests(some, fields))

    def add_archived_ids(self, rows: pa.Table) -> None:
        """Add archived event IDs."""
        digests = row_digests(rows, self._id_fields)
        self._archived_ids.add(_first_bytes(digests), digests)

    def add_source(self, rows: pa.Table) -> None:
        """Add the source's next rows."""
        with_id, others = self._by_id(rows)
        if len(others) and self._has_rows:
            some = rows.take(pa.array(others))
            records = np.empty(len(others), self._rows.dtype)
            records["partition"] = self._partitions(some)
            records["whole"] = row_digests(some, self._fields)
            for place, fields in enumerate(self._then):
                is_whole = len(fields) == len(self._fields)
                records[f"then{place}"] = records["whole"] if is_whole else row_digests(some, fields)
            self._rows.add(records["partition"].copy(), records)
        elif len(others):
            self.missing += len(others)
        if len(with_id):
            some = rows.take(pa.array(with_id))
            records = np.empty(len(with_id), self._ids.dtype)
            records["partition"] = self._partitions(some)
            records["id"], records["whole"] = row_digests(some, self._id_fields), row_digests(some, self._fields)
            self._ids.add(_first_bytes(records["id"]), records)

    def find_missing(self) -> None:
        """Compare what was added."""
        for *archived, rows in together(*self._archived, self._rows):
            known = np.zeros(len(rows), dtype=bool)
            for place, digests in reversed(list(enumerate(archived))):
                others = np.flatnonzero(~known)
                known[others] = _Counts(digests).match(rows[f"then{place}"][others])
            missing, first, copies = np.unique(rows["whole"][~known], return_index=True, return_counts=True)
            counts = _Counts(rows["whole"][known])
            self._add_missing(rows["partition"][~known][first], missing, counts.of(missing), copies)
        for archived_ids, rows in together(self._archived_ids, self._ids):
            ids, first = np.unique(rows["id"], return_index=True)
            # The first row of the source with an ID that no archived one has.
            news = rows[first[~np.isin(ids, archived_ids)]]
            self._add_missing(news["partition"], news["whole"], 0, 1)

    def _add_missing(self, partitions: Any, digests: Digests, known: Any, most: Any) -> None:
        records = np.empty(len(digests), _MISSING)
        records["digest"], records["known"], records["most"] = digests, known, most
        self._missing.add(partitions, records)
        self.missing += int(records["most"].sum())

    def passes(self) -> Iterator[ComparedPass]:
        """What to look up in each pass over the source."""
        first, held = 0, 0
        for number, count in enumerate(self._missing.counts.tolist()):
            if held and held + count > MISSING_AT_ONCE:
                yield self._pass(range(first, number))
                first, held = number, 0
            held += count
        yield self._pass(range(first, PARTITIONS))

    def _pass(self, partitions: range) -> ComparedPass:
        found = np.concatenate([self._missing.partition(each) for each in partitions])
        return ComparedPass(self, partitions, found[np.argsort(found["digest"])])

    @property
    def _has_rows(self) -> bool:
        """Whether archived rows without an event ID are known."""
        return any(each.count for each in self._archived)

    def _by_id(self, rows: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The indexes of the rows with an event ID, and of those without."""
        if not self._id_fields:
            return np.empty(0, dtype=np.int64), np.arange(rows.num_rows)
        has_id = rows[self._id_fields[0].name].is_valid().to_numpy()
        return np.flatnonzero(has_id), np.flatnonzero(~has_id)

    def _partitions(self, rows: pa.Table) -> npt.NDArray[np.uint8]:
        """A row's partition, by its event time."""
        column = rows[self._source.timestamp_field].combine_chunks()
        times = event_micros(column, self._source.timestamp_unit or "us").fill_null(0)
        mixed = times.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64) * _MIXER
        return (mixed >> np.uint64(56)).astype(np.uint8)

    def _spilled(self, name: str, dtype: npt.DTypeLike) -> SpilledRecords:
        folder = self._folder
        return SpilledRecords(lambda: folder.path / name, dtype)


class _DigestFolder:
    """A folder for temporary files, made when it is first asked for, and removed when nothing holds it any more."""

    @cached_property
    def path(self) -> Path:
        made = tempfile.mkdtemp(prefix="asof-history-")
        weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return Path(made)


class ComparedPass:
    """The missing rows that one pass over the source selects.

    Args:
        comparison: that found them.
        partitions: whose rows it selects.
        found: the missing rows, sorted by their digests.
    """

    def __init__(self, comparison: ArchiveComparison, partitions: range, found: Records) -> None:
        self._comparison, self._partitions = comparison, partitions
        self._digests, self._known, self._ends = found["digest"], found["known"], found["known"] + found["most"]
        self._seen = np.zeros(len(found), dtype=np.int64)

    def select(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Which of the source's next rows are to be loaded in this pass."""
        chosen = np.zeros(rows.num_rows, dtype=bool)
        all_of_them = self._comparison._partitions(rows)
        mine = (all_of_them >= self._partitions.start) & (all_of_them < self._partitions.stop)
        if not self._comparison._has_rows:
            # Nothing is archived that rows without an ID could be.
            _, others = self._comparison._by_id(rows)
            chosen[others] = mine[others]
            mine[others] = False
        index = np.flatnonzero(mine)
        if not len(index) or not len(self._digests):
            return chosen
        digests = row_digests(rows.take(pa.array(index)), self._comparison._fields)
        place = np.minimum(np.searchsorted(self._digests, digests), len(self._digests) - 1)
        order, number = _copies(np.flatnonzero(self._digests[place] == digests), place)
        entries = place[order]
        number = number + self._seen[entries]
        taken = (number >= self._known[entries]) & (number < self._ends[entries])
        np.add.at(self._seen, entries, 1)
        chosen[index[order[taken]]] = True
        return chosen


_MIXER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number whose multiples spread over the highest bits."""


def _first_bytes(digests: Digests) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(digests).view(np.uint8).reshape(-1, _BYTES)[:, 0].copy()


__all__ = ["MISSING_AT_ONCE", "ArchiveComparison", "ComparedPass", "row_digests"]
