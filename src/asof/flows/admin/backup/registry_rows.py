"""What a registry holds of a project, as rows: its versions, its records and its counts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pyarrow as pa

from asof.definitions import Snapshot
from asof.errors import RegistryError
from asof.flows.admin.baselines import RECORD_KIND as PROFILE
from asof.flows.admin.expectations import RESULT_KIND
from asof.flows.records import AUDIT, RUN
from asof.flows.stores import Stores
from asof.flows.use import SAVED, SERVED
from asof.registry.protocol import Commit
from asof.registry.records import RegistryRecord, decode_record, encode_body

RECORD_KINDS = (RUN, AUDIT, PROFILE, RESULT_KIND)
COUNT_KINDS = (SERVED, SAVED)

_ALL = 1_000_000
"""More than a registry keeps."""

_VERSIONS_AT_ONCE = 16

VERSIONS = pa.schema(
    [
        ("version", pa.int64()),
        ("who", pa.string()),
        ("when", pa.int64()),
        ("note", pa.string()),
        ("summary", pa.string()),
        ("content", pa.string()),
    ]
)
RECORDS = pa.schema([("kind", pa.string()), ("subject", pa.string()), ("when", pa.int64()), ("body", pa.string())])
COUNTS = pa.schema([("kind", pa.string()), ("day", pa.date32()), ("subject", pa.string()), ("amount", pa.int64())])


class VersionRows:
    """The versions up to one, newest first.

    Attributes:
        count: number of versions that were read.
        unreadable: those that are damaged in the registry; they are left out.
    """

    def __init__(self, stores: Stores, newest: Snapshot) -> None:
        self._stores, self._newest = stores, newest
        self.count = 0
        self.unreadable: list[int] = []

    def batches(self) -> Iterator[pa.RecordBatch]:
        rows: list[dict[str, object]] = []
        for commit in self._stores.registry.history(self._stores.project, _ALL):
            if commit.version > self._newest.version:
                continue
            snapshot = self._read(commit.version)
            if snapshot is None:
                continue
            self.count += 1
            rows.append({**_commit_row(commit), "content": snapshot.encode()})
            if len(rows) == _VERSIONS_AT_ONCE:
                yield pa.RecordBatch.from_pylist(rows, VERSIONS)
                rows = []
        yield pa.RecordBatch.from_pylist(rows, VERSIONS)

    def _read(self, version: int) -> Snapshot | None:
        if version == self._newest.version:
            return self._newest
        try:
            return self._stores.registry.load_version(self._stores.project, version)
        except RegistryError as error:
            if error.may_pass:
                raise
            # Damaged; or one of facts only that was dropped since the history was read.
            self.unreadable.append(version)
            return None


def _commit_row(commit: Commit) -> dict[str, object]:
    return {"version": commit.version, "who": commit.who, "when": commit.when, "note": commit.note,
            "summary": commit.summary}  # fmt: skip


def versions_of(batches: pa.RecordBatchReader) -> Iterator[tuple[Commit, Snapshot]]:
    """The versions that `VersionRows` gave, newest first."""
    for batch in batches:
        for row in batch.to_pylist():
            content = row.pop("content")
            yield Commit(**row), Snapshot.decode(content)


def record_rows(stores: Stores) -> Iterator[pa.RecordBatch]:
    """All records, oldest first, kind by kind."""
    for kind in RECORD_KINDS:
        found = stores.registry.records(stores.project, kind, limit=_ALL)[::-1]
        rows = [
            {"kind": kind, "subject": each.subject, "when": each.when, "body": encode_body(each.body)} for each in found
        ]
        yield pa.RecordBatch.from_pylist(rows, RECORDS)


def records_of(batch: pa.RecordBatch) -> list[RegistryRecord]:
    """The records that `record_rows` gave."""
    found = [decode_record(each["kind"], each["subject"], each["when"], each["body"]) for each in batch.to_pylist()]
    return [each for each in found if each is not None]


def count_rows(stores: Stores) -> Iterator[pa.RecordBatch]:
    """All counts, kind by kind, days ascending."""
    for kind in COUNT_KINDS:
        rows = [
            {"kind": kind, "day": day, "subject": subject, "amount": amount}
            for day, counts in stores.registry.counts(stores.project, kind).items()
            for subject, amount in counts.items()
        ]
        yield pa.RecordBatch.from_pylist(rows, COUNTS)


def add_counts(stores: Stores, batches: pa.RecordBatchReader) -> None:
    """Add the counts that `count_rows` gave."""
    days: dict[tuple[str, date], dict[str, int]] = {}
    for batch in batches:
        for row in batch.to_pylist():
            days.setdefault((row["kind"], row["day"]), {})[row["subject"]] = row["amount"]
    for (kind, day), counts in days.items():
        stores.registry.add_counts(stores.project, kind, day, counts)


__all__ = [
    "COUNTS", "RECORDS", "VERSIONS", "VersionRows", "add_counts", "count_rows", "record_rows", "records_of",
    "versions_of",
]  # fmt: skip
