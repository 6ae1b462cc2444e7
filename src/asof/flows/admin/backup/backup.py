"""Backup: the registry with its history, archives and training sets, in one place with a hash of each file.

It may run while workers, servers and other processes go on. What it holds fits together, since it is read in this
order: the registry's newest version, then archives, which are never behind what the registry says of them, each up to
the offsets that it had. Online rows are a cache of that, and logs are only referred to.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from asof.definitions import LogSource, Snapshot
from asof.distribution import installed_version
from asof.errors import AsofError, RegistryError, StorageError
from asof.flows.admin.backup.manifest import FORMAT, ArchiveCopy, BackupFile, LogReference, Manifest, TableCopy
from asof.flows.admin.backup.registry_rows import COUNTS, RECORDS, VERSIONS, VersionRows, count_rows, record_rows
from asof.flows.admin.backup.tables import in_pieces, write_rows
from asof.flows.admin.backup.targets import BackupTarget, target_at
from asof.flows.admin.feature_log import PREFIX
from asof.flows.records import refuse_unfinished_restore
from asof.flows.runs import BACKUP, recorded_run
from asof.flows.stores import Progress, Stores, silent
from asof.flows.stream.numbering import log_partitions, partitions_of
from asof.offline.protocol import Archive
from asof.results import Record
from asof.sources.protocol import Input
from asof.sql import archive as statements
from asof.timing import iso

_ATTEMPTS = 3
"""How often an archive is read that another process took files away from meanwhile."""

KINDS: tuple[Literal["events"], Literal["letters"]] = ("events", "letters")


@dataclass(frozen=True)
class BackupResult(Record):
    """What a backup holds.

    Args:
        target: where it is.
        made: when, as text.
        registry_version, versions: the newest version, and the number of versions.
        archives: source → number of rows of its archive; `dead letters of NAME` and `feature log of NAME` as well.
        training_sets: their names.
        unarchived: source → number of messages that only its log has.
        files, bytes: of all that was written.
        notes: what it does not hold.
    """

    target: str
    made: str
    registry_version: int
    versions: int
    archives: Mapping[str, int]
    training_sets: Sequence[str]
    unarchived: Mapping[str, int]
    files: int
    bytes: int
    notes: Sequence[str]


def backup(
    stores: Stores, target: str | os.PathLike[str], *, stores_of: Mapping[str, str], copy_archives: bool = True,
    progress: Progress = silent,
) -> BackupResult:  # fmt: skip
    """Back a project up.

    Args:
        target: a folder that does not exist or is empty, or an address in object storage with nothing below it.
        stores_of: family → product, for the manifest.
        copy_archives: False only notes their offsets, for archives that are kept safe otherwise.

    Raises:
        RegistryError: nothing is applied.
        StorageError: the target is taken or cannot be written, or an archive cannot be read.
    """
    place = target_at(target, stores.storage)
    snapshot = stores.registry.load(stores.project)
    if snapshot.version == 0:
        raise RegistryError(
            f"project {stores.project!r} has nothing to back up: nothing was applied", hint="run `asof apply` first"
        )
    refuse_unfinished_restore(stores)
    with recorded_run(stores, BACKUP) as run:
        run.details["target"] = place.address
        place.begin()
        try:
            manifest, notes = _written(
                stores, snapshot, place, stores_of, copy_archives=copy_archives, progress=progress
            )
            encoded = manifest.encode()
            place.finish(encoded)
        except BaseException:
            place.abandon()
            raise
        for each in manifest.archives:
            run.add_source(described(each), each.rows)
    files = list(manifest.files)
    return BackupResult(
        target=place.address, made=manifest.made, registry_version=manifest.registry_version,
        versions=manifest.versions, archives={described(each): each.rows for each in manifest.archives},
        training_sets=[each.training_set for each in manifest.tables],
        unarchived={each.source: each.unarchived for each in manifest.logs if each.unarchived}, files=len(files) + 1,
        bytes=sum(each.bytes for each in files) + len(encoded), notes=notes,
    )  # fmt: skip


def described(archive: ArchiveCopy) -> str:
    """An archive as results name it."""
    if archive.kind == "letters":
        return f"dead letters of {archive.name}"
    service = archive.name.removeprefix(PREFIX)
    return f"feature log of {service}" if service != archive.name else archive.name


def _written(
    stores: Stores, snapshot: Snapshot, place: BackupTarget, stores_of: Mapping[str, str], *, copy_archives: bool,
    progress: Progress,
) -> tuple[Manifest, list[str]]:  # fmt: skip
    notes: list[str] = []
    progress("back up the registry", 0, None)
    versions = VersionRows(stores, snapshot)
    registry = {
        "versions": write_rows(place, "registry/versions.parquet", VERSIONS, versions.batches()),
        "records": write_rows(place, "registry/records.parquet", RECORDS, record_rows(stores)),
        "counts": write_rows(place, "registry/counts.parquet", COUNTS, count_rows(stores)),
    }
    if versions.unreadable:
        notes.append(f"versions of the registry that cannot be read: {', '.join(map(str, versions.unreadable))}")
    tables = list(_tables(stores, snapshot, place, notes, progress))
    archives = []
    names = [(kind, name) for kind in KINDS for name in stores.offline.names(stores.project, kind)]
    for number, (kind, name) in enumerate(names):
        copied = _archive(
            stores, snapshot, Archive(stores.project, name, kind), place, f"archives/{number}", copy=copy_archives,
            progress=progress,
        )  # fmt: skip
        archives.append(copied)
    logs = [
        _reference(stores, snapshot, each, notes)
        for each in snapshot.project.sources.values() if isinstance(each, LogSource)
    ]  # fmt: skip
    manifest = Manifest(
        format=FORMAT, id=uuid.uuid4().hex, project=stores.project, made=iso(stores.system_clock()), who=stores.who,
        asof_version=installed_version(), registry_version=snapshot.version, are_archives_copied=copy_archives,
        versions=versions.count, unreadable=versions.unreadable, registry=registry, archives=archives, tables=tables,
        logs=logs, stores=dict(stores_of),
        batch_views=[each.name for each in snapshot.project.views.values() if each.online and not each.source.is_log],
    )  # fmt: skip
    return manifest, notes


def _tables(
    stores: Stores, snapshot: Snapshot, place: BackupTarget, notes: list[str], progress: Progress
) -> Iterator[TableCopy]:
    for number, saved in enumerate(snapshot.facts.training_sets.values()):
        rows = stores.offline.load_table(stores.project, saved.table)
        if rows is None:
            notes.append(f"training set {saved.name!r}: its rows are missing in the offline store")
            continue
        counted = _RowCounter(rows, f"back up training set {saved.name}", saved.rows, progress)
        file = write_rows(place, f"tables/{number}.parquet", rows.schema, counted)
        yield TableCopy(training_set=saved.name, table=saved.table, rows=counted.rows, files=[file])


class _RowCounter:
    """Batches, whose rows are counted and reported."""

    def __init__(self, batches: pa.RecordBatchReader, what: str, total: int | None, progress: Progress) -> None:
        self._batches, self._what, self._total, self._progress = batches, what, total, progress
        self.rows = 0

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            yield batch
            self.rows += batch.num_rows
            self._progress(self._what, self.rows, None if self._total is None else max(self._total, self.rows))


def _archive(
    stores: Stores, snapshot: Snapshot, archive: Archive, place: BackupTarget, path: str, *, copy: bool,
    progress: Progress,
) -> ArchiveCopy:  # fmt: skip
    for attempt in range(_ATTEMPTS):
        try:
            return _archive_once(stores, snapshot, archive, place, path, copy=copy, progress=progress)
        except StorageError:
            # A key may have been forgotten meanwhile, whose files go at once.
            if attempt == _ATTEMPTS - 1 or not _is_there(stores, archive):
                raise
    raise AssertionError("unreachable")


def _is_there(stores: Stores, archive: Archive) -> bool:
    with suppress(StorageError):
        return stores.offline.version(archive) >= 0
    return False


def _archive_once(
    stores: Stores, snapshot: Snapshot, archive: Archive, place: BackupTarget, path: str, *, copy: bool,
    progress: Progress,
) -> ArchiveCopy:  # fmt: skip
    rows = stores.offline.rows(archive)
    offsets = _offsets(stores, snapshot, archive, rows)
    if rows is None or not copy:
        return ArchiveCopy(name=archive.name, kind=archive.kind, rows=0, offsets=offsets)
    # Read once more: what is archived up to these offsets is there by now.
    rows = stores.offline.rows(archive)
    assert rows is not None
    known = stores.offline.sql(statements.every_column(), {"archive": rows}).schema()
    # The day of arrival is computed again: not all stores have it as a column of rows.
    columns = [name for name in known.names if name != "ingest_date"]
    reader = stores.offline.sql(statements.rows_through(columns, offsets), {"archive": rows}).reader()
    counted = _RowCounter(reader, f"back up the archive of {archive.name}", None, progress)
    files: list[BackupFile] = []
    for piece in in_pieces(counted):
        files.append(write_rows(place, f"{path}/{len(files)}.parquet", reader.schema, piece))
    return ArchiveCopy(name=archive.name, kind=archive.kind, rows=counted.rows, offsets=offsets, files=files)


def _offsets(stores: Stores, snapshot: Snapshot, archive: Archive, rows: Input | None) -> dict[int, int]:
    """Partition → last archived offset, of all that the archive may have."""
    partitions: set[int] = set()
    if rows is not None:
        found = stores.offline.sql(statements.last_offsets(), {"archive": rows}).reader().read_all()
        partitions |= set(found["partition"].to_pylist())
    source = snapshot.project.sources.get(archive.name)
    if isinstance(source, LogSource):
        partitions |= set(snapshot.facts.starts.get(source.name, {}))
        with suppress(AsofError):  # noted as a reference without its end
            partitions |= set(partitions_of(stores, source, epoch=snapshot.facts.epoch_of(source.name)))
    archived = stores.offline.offsets(archive, sorted(partitions))
    return {partition: offset for partition, offset in archived.items() if offset >= 0}


def _reference(stores: Stores, snapshot: Snapshot, source: LogSource, notes: list[str]) -> LogReference:
    topic_id, epoch = snapshot.facts.topics.get(source.name, ""), snapshot.facts.epoch_of(source.name)
    try:
        held = [each for each in log_partitions(stores, source, epoch=epoch) if not each.archived_as.is_replayed]
    except AsofError as error:
        notes.append(f"source {source.name!r}: where its log ends is not known: {error.message}")
        return LogReference(source=source.name, topic=source.topic, topic_id=topic_id)
    archived = stores.offline.offsets(stores.archive_of(source), [each.archived_as for each in held])
    return LogReference(
        source=source.name, topic=source.topic, topic_id=topic_id,
        archived={each.number: archived[each.archived_as] for each in held},
        next={each.number: each.after for each in held},
    )  # fmt: skip


__all__ = ["BackupResult", "backup", "described"]
