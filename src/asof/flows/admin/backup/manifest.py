"""A backup's manifest: what it holds, with a hash of each file; it is written last, so what has none is no backup."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from asof.errors import StorageError

FORMAT = 1
"""Format of a backup; newer ones are refused."""

NAME = "manifest.json"

_SAFE = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)*\.[a-z]+")
"""Paths in a backup: a manifest that was tampered with names no file outside of it."""


class BackupFile(msgspec.Struct, frozen=True):
    """One file of a backup.

    Args:
        path: below the backup, with `/`.
        sha256: of its content, in hexadecimal.
    """

    path: str
    bytes: int
    sha256: str


class ArchiveCopy(msgspec.Struct, frozen=True, kw_only=True):
    """One archive: of a source's events or dead letters, or a feature log.

    Args:
        kind: as `Archive` has it.
        rows: number of rows; 0 where only its place was noted.
        offsets: partition → last archived offset.
        files: its rows in the order of partitions and offsets; none where they were not copied.
    """

    name: str
    kind: Literal["events", "letters"]
    rows: int
    offsets: Mapping[int, int]
    files: Sequence[BackupFile] = ()


class TableCopy(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a training set, under the name of their table in the offline store."""

    training_set: str
    table: str
    rows: int
    files: Sequence[BackupFile]


class LogReference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a source's log stood. Its messages are not in the backup.

    Args:
        topic_id: identifies the topic's history; empty before the first message was read.
        archived: partition of the topic → last archived offset.
        next: partition of the topic → offset of its next message; empty where the log could not be reached.
    """

    source: str
    topic: str
    topic_id: str
    archived: Mapping[int, int] = {}
    next: Mapping[int, int] = {}

    @property
    def unarchived(self) -> int:
        """Number of offsets that were only in the log."""
        return sum(max(after - 1 - self.archived.get(each, -1), 0) for each, after in self.next.items())


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All that a backup holds.

    Args:
        id: random text, by which a restore that broke off is known again.
        made, who: when it was made, as text, and by whom.
        registry_version: the newest version of the project in it.
        are_archives_copied: False where archives were only noted, with their offsets.
        versions, unreadable: number of versions in it; those that the registry has and that are damaged.
        registry: files of the versions, records and counts.
        batch_views: views with online rows from batch sources, which are not copied.
        stores: family → product that it was made from.
    """

    format: int
    id: str
    project: str
    made: str
    who: str
    asof_version: str
    registry_version: int
    are_archives_copied: bool
    versions: int
    unreadable: Sequence[int]
    registry: Mapping[str, BackupFile]
    archives: Sequence[ArchiveCopy]
    tables: Sequence[TableCopy]
    logs: Sequence[LogReference]
    batch_views: Sequence[str]
    stores: Mapping[str, str]

    @property
    def files(self) -> Iterator[BackupFile]:
        """All files but the manifest."""
        yield from self.registry.values()
        for archive in self.archives:
            yield from archive.files
        for table in self.tables:
            yield from table.files

    def encode(self) -> bytes:
        """The manifest's bytes: JSON, with a hash of itself."""
        content = msgspec.to_builtins(self, str_keys=True)
        return msgspec.json.format(msgspec.json.encode({**content, "sha256": _hash(content)}), indent=1) + b"\n"


def decode_manifest(data: bytes, *, place: str) -> Manifest:
    """The manifest that `encode` wrote.

    Raises:
        StorageError: it is damaged, of a newer format, or names files outside of its backup.
    """
    damaged = StorageError(
        f"backup {place}: {NAME} is damaged; nothing was changed", hint="use another backup, or a copy of this one"
    )
    try:
        content = msgspec.json.decode(data)
        if content["format"] > FORMAT:
            raise StorageError(
                f"backup {place} is of format {content['format']}; this Asof reads up to {FORMAT}", hint="upgrade asof"
            )
        if content.pop("sha256") != _hash(content):
            raise damaged
        manifest: Manifest = msgspec.convert(content, Manifest, str_keys=True)
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
        raise damaged from error
    if not all(_SAFE.fullmatch(each.path) for each in manifest.files):
        raise damaged
    return manifest


def _hash(content: object) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


__all__ = [
    "FORMAT", "NAME", "ArchiveCopy", "BackupFile", "LogReference", "Manifest", "TableCopy", "decode_manifest",
]  # fmt: skip
