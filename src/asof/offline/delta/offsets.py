"""The archived offsets of Delta tables in a bucket, kept from one use to the next: only new commits are read.

The driver reads the log since its last checkpoint for each partition each time. Here, it is read once for all of them,
and what was known at one version is carried on by the commits since then:

    version 7: partition 0 → 41, partition 1 → 17
    8.json:    "txn" of partition 1 → 20            ⇒  version 8: partition 0 → 41, partition 1 → 20

Before each use, the commit of the known version is read again. Where it is another one, or is gone, the table was made
again or its log was cleaned up, and nothing is known.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from asof.connections.object_storage import ObjectStorage


@dataclass(frozen=True)
class _OffsetsAtVersion:
    """Of a table at a version.

    Args:
        last: partition → offset in that version's own commit.
        offsets: partition → its last archived offset, else -1; of those that were looked for.
        has_all: whether partitions that are not in `offsets` have none.
    """

    version: int
    last: Mapping[int, int]
    offsets: Mapping[int, int]
    has_all: bool = False

    def of(self, partition: int) -> int | None:
        """The partition's offset; None where it is to be looked for."""
        return self.offsets.get(partition, -1 if self.has_all else None)


class OffsetCache:
    """What is known of each table's archived offsets, by its address. Safe between threads.

    Args:
        most_commits: where there are more since the known version, the log is read as the driver does, from its last
            checkpoint.
    """

    def __init__(self, storage: ObjectStorage, most_commits: int) -> None:
        self._storage, self._most_commits = storage, most_commits
        # Values are replaced as a whole, so threads need no lock; of two, either may be kept.
        self._known: dict[str, _OffsetsAtVersion] = {}

    def is_current(self, address: str) -> bool:
        """Whether the log still has the commit of the known version; if not, nothing is known any more."""
        known = self._known.get(address)
        if known is None or self._commits(address, [known.version]) == [known.last]:
            return True
        self._known.pop(address, None)
        return False

    def offsets(self, address: str, table: DeltaTable, partitions: Sequence[int]) -> dict[int, int]:
        """Each partition's last archived offset in the table at its version or a later one, else -1."""
        known = self._at_version(address, table)
        missing = {each: archived_offset(table, each) for each in partitions if known.of(each) is None}
        offsets = {**missing, **known.offsets}
        # Where another thread knows a later version, what this table lacks may be outdated there.
        if known.version == table.version():
            self._known[address] = replace(known, offsets=offsets)
        return {each: offsets.get(each, -1) for each in partitions}

    def committed(self, address: str, version: int, offsets: Mapping[int, int]) -> None:
        """Take over the offsets of the commit that made this version."""
        known = self._known.get(address)
        if known is not None and known.version == version - 1:
            self._known[address] = _OffsetsAtVersion(
                version, dict(offsets), {**known.offsets, **offsets}, known.has_all
            )

    def forget(self, below: str) -> None:
        """Forget the tables below an address."""
        self._known = {each: known for each, known in self._known.items() if not each.startswith(below)}

    def _at_version(self, address: str, table: DeltaTable) -> _OffsetsAtVersion:
        """What is known at the table's version, or at a later one that another thread knows already."""
        known, version = self._known.get(address), table.version()
        if known is not None and known.version >= version:
            return known
        if known is not None and version - known.version <= self._most_commits:
            commits = self._commits(address, range(known.version + 1, version + 1))
            found = [each for each in commits if each is not None]
            if len(found) == len(commits):
                offsets = dict(known.offsets)
                for each in found:
                    offsets.update(each)
                return _OffsetsAtVersion(version, found[-1], offsets, known.has_all)
        return self._from_log(address, version)

    def _from_log(self, address: str, version: int) -> _OffsetsAtVersion:
        """What the last checkpoint and the commits since then say; nothing where the log has another form."""
        at, offsets = self._checkpoint(address)
        if at is not None and at <= version:
            # The version's own commit is read also where the checkpoint has it: by that, `is_current` knows the table.
            first = min(at + 1, version)
            commits = self._commits(address, range(first, version + 1))
            found = [each for each in commits if each is not None]
            if len(found) == len(commits):
                for each in found:
                    offsets.update(each)
                return _OffsetsAtVersion(version, found[-1], offsets, has_all=True)
        return _OffsetsAtVersion(version, self._commits(address, [version])[0] or {}, {})

    def _checkpoint(self, address: str) -> tuple[int | None, dict[int, int]]:
        """The last checkpoint and its offsets: -1 where there is none, None where it has another form."""
        log = f"{address}/_delta_log"
        data = self._storage.read(f"{log}/_last_checkpoint")
        if data is None:
            return -1, {}
        try:
            version = int(json.loads(data)["version"])
            # In several files, or with side files, it has another name.
            content = self._storage.read(f"{log}/{version:020}.checkpoint.parquet")
            if content is None:
                return None, {}
            column = pq.read_table(io.BytesIO(content), columns=["txn"])["txn"].combine_chunks()
        except (ValueError, KeyError, TypeError, pa.ArrowException):
            return None, {}
        return version, _offsets_of(each for each in column.drop_null().to_pylist() if each["appId"] is not None)

    def _commits(self, address: str, versions: Sequence[int]) -> list[dict[int, int] | None]:
        """Partition → offset in the commit of each version; None where there is no such commit."""
        found = self._storage.read_all(f"{address}/_delta_log/{version:020}.json" for version in versions)
        return [None if data is None else offsets_in(data) for data in found]


def application(partition: int) -> str:
    """The application ID under which a partition's offset is a transaction's version."""
    return f"partition {partition}"


def archived_offset(table: DeltaTable, partition: int) -> int:
    """A partition's last archived offset, as the driver reads it from the log; else -1."""
    version = table.transaction_version(application(partition))
    return -1 if version is None else version


def offsets_in(commit: bytes) -> dict[int, int]:
    """Partition → offset in a commit of Delta's log."""
    lines = (json.loads(line) for line in commit.splitlines() if b'"txn"' in line)
    return _offsets_of(each["txn"] for each in lines if each.get("txn"))


def _offsets_of(transactions: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """Partition → offset of Delta's transactions; those of other applications say nothing."""
    found = {}
    for each in transactions:
        name, _, number = each["appId"].partition(" ")
        if name == "partition":
            found[int(number)] = int(each["version"])
    return found


__all__ = ["OffsetCache", "application", "archived_offset", "offsets_in"]
