"""Records and counts in a bucket: an object per append, and one per kind and day that is replaced only unchanged."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from asof.connections.object_storage import ObjectStorage, StoredObject
from asof.errors import RegistryError, StorageError
from asof.registry.object.layout import escaped
from asof.registry.records import KEPT_COUNT_DAYS, RECORDS, DayCounts, RegistryRecord, decode_record, encode_body
from asof.timing import Micros

_SEVERAL = "several"
"""Stands for the subject in the name of an object with several records."""

_AT_ONCE = 16
_ATTEMPTS = 60
_WRITES = 100
"""How many writes an object of counts knows, so that one whose response was lost is not added again."""


@dataclass(frozen=True)
class _Batch:
    """An object of records, as far as its name says.

    Args:
        when: the greatest of its records' times.
        number: counts the appends of the process.
        subject: a hash, or `_SEVERAL`.
    """

    stored: StoredObject
    when: Micros
    number: int
    subject: str

    @property
    def appended(self) -> tuple[datetime, int]:
        """When it was appended: as the store says, and within a process exactly."""
        return self.stored.modified, self.number


_Row = tuple[str, str, Micros, str]
"""A record in an object: kind, subject, time, and its body as JSON text."""

_Position = tuple[Micros, tuple[datetime, int], int]
"""What records are ordered by: their time, when they were appended, and the position in their object."""


class ObjectRecords:
    """The records and counts of a registry's bucket; see `Registry` for the verbs.

    Args:
        root: the registry's address.
    """

    def __init__(self, root: str, storage: ObjectStorage) -> None:
        self._root, self._storage = root, storage
        self._appends = itertools.count()
        self._cleaned: set[tuple[str, str, date]] = set()

    def append_records(self, project: str, records: Sequence[RegistryRecord]) -> None:
        rows = [[each.kind, each.subject, each.when, encode_body(each.body)] for each in records]
        if not rows:
            return
        kinds = ".".join(sorted({escaped(each.kind) for each in records}))
        subject = _hash(records[0].subject) if len(records) == 1 else _SEVERAL
        when = max(0, *(each.when for each in records))
        name = f"{when:020d}-{next(self._appends):09d}-{subject}-{uuid.uuid4().hex[:12]}.json"
        with wrapping():
            # One object, whatever their kinds: all of them are kept, or none.
            self._storage.write(f"{self._records_at(project)}/{kinds}/{name}", _encoded(rows))

    def records(
        self, project: str, kind: str, subject: str | None = None, *, since: Micros | None = None,
        limit: int = RECORDS, per_subject: int | None = None,
    ) -> list[RegistryRecord]:  # fmt: skip
        with wrapping():
            batches = [
                each
                for each in self._batches(project, kind)
                if (subject is None or each.subject in (_SEVERAL, _hash(subject)))
                and (since is None or each.when >= since)
            ]
            if per_subject is not None:
                batches = _newest_of_each(batches, per_subject)
            found: list[tuple[_Position, RegistryRecord]] = []
            for start in range(0, len(batches), _AT_ONCE):
                # Those ahead are no newer than this one.
                ahead = batches[start].when
                if per_subject is None and sum(position[0] > ahead for position, _ in found) >= limit:
                    break
                for batch, rows in self._read(batches[start : start + _AT_ONCE]):
                    found += _records_of(batch, rows, kind)
        found = [
            (position, each)
            for position, each in found
            if (subject is None or each.subject == subject) and (since is None or each.when >= since)
        ]
        ordered = [each for _, each in sorted(found, key=lambda pair: pair[0], reverse=True)]
        if per_subject is not None:
            ordered = [each for rank, each in _ranked(ordered) if rank < per_subject]
        return ordered[:limit]

    def prune_records(self, project: str, kind: str, *, keep: int | None = None, before: Micros | None = None) -> None:
        with wrapping():
            batches = self._batches(project, kind)
            several = dict(self._read_named([each for each in batches if each.subject == _SEVERAL]))
            # Position, hash of the subject, object and row in it, of every record of the kind.
            known: list[tuple[_Position, str, _Batch, int]] = []
            for batch in batches:
                if batch.subject != _SEVERAL:
                    known.append(((batch.when, batch.appended, 0), batch.subject, batch, 0))
                for row, each in enumerate(several.get(batch.stored.address, ())):
                    if each[0] == kind:
                        known.append(((each[2], batch.appended, row), _hash(each[1]), batch, row))
            known.sort(key=lambda each: each[0], reverse=True)
            counted: dict[str, int] = {}
            gone: dict[str, set[int]] = {}
            for position, subject, batch, row in known:
                counted[subject] = counted.get(subject, 0) + 1
                if (keep is not None and counted[subject] > keep) or (before is not None and position[0] < before):
                    gone.setdefault(batch.stored.address, set()).add(row)
            empty = []
            for address, numbers in gone.items():
                left = [each for row, each in enumerate(several.get(address, ())) if row not in numbers]
                if left:
                    self._storage.write(address, _encoded(left))
                else:
                    empty.append(address)
            if empty:
                self._storage.delete(empty)

    def add_counts(self, project: str, kind: str, day: date, counts: Mapping[str, int]) -> None:
        if not counts:
            return
        address, token = self._counts_at(project, kind, day), uuid.uuid4().hex
        with wrapping():
            for attempt in range(_ATTEMPTS):
                found = self._storage.read_with_version(address)
                content = json.loads(found[0]) if found is not None else {"counts": {}, "writes": []}
                if token in content["writes"]:
                    break  # it was added, and the response to it was lost
                added = dict(content["counts"])
                for subject, amount in counts.items():
                    added[subject] = added.get(subject, 0) + amount
                data = json.dumps({"counts": added, "writes": [*content["writes"][-_WRITES:], token]}).encode()
                if found is None:
                    is_done = self._storage.create(address, data)
                else:
                    is_done = self._storage.replace(address, data, version=found[1])
                if is_done:
                    break
                time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))
            else:
                raise RegistryError(
                    f"registry {self._root}: counts of {kind!r} were changed by others {_ATTEMPTS} times in a row",
                    hint="run it again; nothing was added",
                )
            self._drop_old_counts(project, kind, day)

    def counts(self, project: str, kind: str, *, since: date | None = None) -> DayCounts:
        with wrapping():
            days = {
                day: each.address
                for each in self._storage.objects_below(f"{self._root}/counts/{escaped(project)}/{escaped(kind)}")
                if (day := _day_of(each.address)) is not None and (since is None or day >= since)
            }
            found = self._storage.read_all(days.values())
        contents = {day: json.loads(data)["counts"] for day, data in zip(days, found, strict=True) if data is not None}
        return {day: contents[day] for day in sorted(contents) if contents[day]}

    def _drop_old_counts(self, project: str, kind: str, day: date) -> None:
        """Delete the days that are too old; once a day is enough."""
        if (project, kind, day) in self._cleaned:
            return
        self._cleaned.add((project, kind, day))
        oldest = day - timedelta(days=KEPT_COUNT_DAYS)
        below = self._storage.objects_below(f"{self._root}/counts/{escaped(project)}/{escaped(kind)}")
        old = [each.address for each in below if (found := _day_of(each.address)) is not None and found < oldest]
        if old:
            self._storage.delete(old)

    def _records_at(self, project: str) -> str:
        return f"{self._root}/records/{escaped(project)}"

    def _counts_at(self, project: str, kind: str, day: date) -> str:
        return f"{self._root}/counts/{escaped(project)}/{escaped(kind)}/{day.isoformat()}.json"

    def _batches(self, project: str, kind: str) -> list[_Batch]:
        """The objects with records of a kind, by their greatest time, newest first."""
        top = self._records_at(project)
        kinds = [each for each in self._storage.folders(top) if escaped(kind) in each.split(".")]
        found = [_batch(each) for folder in kinds for each in self._storage.objects_below(f"{top}/{folder}")]
        batches = [each for each in found if each is not None]
        return sorted(batches, key=lambda each: (each.when, each.appended), reverse=True)

    def _read(self, batches: Sequence[_Batch]) -> Iterator[tuple[_Batch, list[_Row]]]:
        """Objects with their rows; those that are gone or damaged are left out."""
        objects = self._storage.read_all(each.stored.address for each in batches)
        for batch, data in zip(batches, objects, strict=True):
            try:
                yield batch, json.loads(data) if data is not None else []
            except ValueError:
                continue

    def _read_named(self, batches: Sequence[_Batch]) -> Iterator[tuple[str, list[_Row]]]:
        for start in range(0, len(batches), _AT_ONCE):
            for batch, rows in self._read(batches[start : start + _AT_ONCE]):
                yield batch.stored.address, rows


def _encoded(rows: Sequence[object]) -> bytes:
    return json.dumps(rows).encode()


def _batch(stored: StoredObject) -> _Batch | None:
    parts = stored.address.rpartition("/")[2].removesuffix(".json").split("-")
    if len(parts) != 4 or not (parts[0].isdigit() and parts[1].isdigit()):
        return None
    return _Batch(stored, int(parts[0]), int(parts[1]), parts[2])


def _records_of(batch: _Batch, rows: Sequence[_Row], kind: str) -> list[tuple[_Position, RegistryRecord]]:
    found = []
    for number, (own, subject, when, text) in enumerate(rows):
        record = decode_record(own, subject, when, text) if own == kind else None
        if record is not None:
            found.append(((record.when, batch.appended, number), record))
    return found


def _newest_of_each(batches: Sequence[_Batch], count: int) -> list[_Batch]:
    """The objects that may have the newest records of each subject."""
    seen: dict[str, int] = {}
    chosen = []
    for each in batches:
        seen[each.subject] = seen.get(each.subject, 0) + 1
        if each.subject == _SEVERAL or seen[each.subject] <= count:
            chosen.append(each)
    return chosen


def _ranked(records: Sequence[RegistryRecord]) -> Iterator[tuple[int, RegistryRecord]]:
    seen: dict[str, int] = {}
    for each in records:
        yield seen.get(each.subject, 0), each
        seen[each.subject] = seen.get(each.subject, 0) + 1


def _hash(subject: str) -> str:
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _day_of(address: str) -> date | None:
    try:
        return date.fromisoformat(address.rpartition("/")[2].removesuffix(".json"))
    except ValueError:
        return None


@contextmanager
def wrapping() -> Iterator[None]:
    """Convert errors of object storage to those of a registry."""
    try:
        yield
    except StorageError as error:
        made = RegistryError(f"registry {error.message}", hint=error.hint)
        made.may_pass = error.may_pass
        raise made from error


__all__ = ["ObjectRecords", "wrapping"]
