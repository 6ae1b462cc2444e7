"""Restore: a project out of a backup, into stores of any products.

The registry's versions come last: until then nothing is applied in the project. A record in the registry says that a
restore is going on, so that the next one begins again after one that broke off, and `apply` does not build on its half.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import LogSource, Snapshot
from asof.display import counted
from asof.errors import Argument, AsofError, StorageError
from asof.flows.admin.backup.backup import KINDS, described
from asof.flows.admin.backup.manifest import NAME, ArchiveCopy, Manifest, decode_manifest
from asof.flows.admin.backup.registry_rows import add_counts, records_of, versions_of
from asof.flows.admin.backup.tables import check_hashes, read_rows
from asof.flows.admin.backup.targets import BackupTarget, target_at
from asof.flows.apply.apply import lookups_of
from asof.flows.records import RESTORING, unfinished_restore
from asof.flows.rows.archive import ARRIVAL_FIELDS, DEAD_LETTERS_SCHEMA, archive_schema
from asof.flows.runs import RESTORE, recorded_run
from asof.flows.stores import Progress, Stores, silent
from asof.log.protocol import UnknownTopic
from asof.offline.protocol import Archive
from asof.registry.records import RegistryRecord
from asof.results import Record


@dataclass(frozen=True)
class RestoreResult(Record):
    """What was restored.

    Args:
        source: the backup's place.
        made: when the backup was made, as text.
        registry_version, versions: the newest version, and the number of versions.
        archives: source → number of rows of its archive.
        training_sets: their names.
        next_steps: commands that bring the rest back, each with its reason.
    """

    source: str
    made: str
    registry_version: int
    versions: int
    archives: Mapping[str, int]
    training_sets: Sequence[str]
    next_steps: Sequence[str]


def restore(
    stores: Stores, source: str | os.PathLike[str], *, replace: bool = False, progress: Progress = silent
) -> RestoreResult:
    """Restore a project from a backup.

    Args:
        source: where `backup` wrote it.
        replace: drop what the project has, once all of the backup was read and found whole.

    Raises:
        StorageError: it is no backup, is damaged or another project's, or the project is not empty; nothing was
            changed.
    """
    place = target_at(source, stores.storage)
    manifest = decode_manifest(b"".join(place.pieces(NAME)), place=place.address)
    if manifest.project != stores.project:
        raise StorageError(
            f"backup {place.address} is of project {manifest.project!r}, and this one is {stores.project!r}; nothing "
            "was changed", hint="restore it where feature_store.yaml has that project",
        )  # fmt: skip
    check_hashes(place, manifest, progress=progress)
    is_left = unfinished_restore(stores) is not None
    there = [] if is_left else what_is_there(stores, archives=manifest.are_archives_copied)
    if there and not replace:
        name = Argument("replace", True)
        raise StorageError(
            f"project {stores.project!r} is not empty: it has {', '.join(there)}; nothing was changed",
            hint=f"restore into empty stores, or with {name}, which drops what there is", arguments=[name],
        )  # fmt: skip
    if not manifest.are_archives_copied:
        _check_archives(stores, manifest, place)
    with recorded_run(stores, RESTORE) as run:
        run.details["target"] = place.address
        newest = _restored(stores, manifest, place, drop=bool(there) or is_left, progress=progress)
        for each in manifest.archives:
            run.add_source(described(each), each.rows)
    return RestoreResult(
        source=place.address, made=manifest.made, registry_version=manifest.registry_version,
        versions=manifest.versions, archives={described(each): each.rows for each in manifest.archives},
        training_sets=[each.training_set for each in manifest.tables], next_steps=list(_next_steps(stores, newest)),
    )  # fmt: skip


def _restored(stores: Stores, manifest: Manifest, place: BackupTarget, *, drop: bool, progress: Progress) -> Snapshot:
    """Write all of a backup; returns the newest version."""
    _begin(stores, manifest, place, drop=drop)
    newest = next(versions_of(read_rows(place, manifest.registry["versions"])))[1]
    for each in manifest.archives if manifest.are_archives_copied else ():
        _restore_archive(stores, newest, each, place, progress)
    for table in manifest.tables:
        progress(f"restore training set {table.training_set}", 0, table.rows)
        (file,) = table.files
        stores.offline.save_table(stores.project, table.table, read_rows(place, file))
    progress("restore the registry", 0, None)
    for batch in read_rows(place, manifest.registry["records"]):
        if batch.num_rows:
            stores.registry.append_records(stores.project, records_of(batch))
    add_counts(stores, read_rows(place, manifest.registry["counts"]))
    stores.registry.restore(stores.project, versions_of(read_rows(place, manifest.registry["versions"])))
    _mark(stores, manifest, place, is_done=True)
    return newest


def what_is_there(stores: Stores, *, archives: bool = True) -> list[str]:
    """Descriptions of what a project has that a restore would replace; online rows are no obstacle.

    Args:
        archives: whether archives count.
    """
    version = stores.registry.version(stores.project)
    found = [f"version {version} in the registry"] if version else []
    names = [name for kind in KINDS for name in stores.offline.names(stores.project, kind)] if archives else []
    return found + ([counted(len(names), "archive")] if names else [])


def _check_archives(stores: Stores, manifest: Manifest, place: BackupTarget) -> None:
    """Check that archives which the backup only refers to hold all that they held."""
    for each in manifest.archives:
        archive = Archive(stores.project, each.name, each.kind)
        found = stores.offline.offsets(archive, sorted(each.offsets))
        short = [partition for partition, offset in each.offsets.items() if found[partition] < offset]
        if short:
            raise StorageError(
                f"backup {place.address} has no rows of archives, and {described(each)!r} ends in partition "
                f"{short[0]} at offset {found[short[0]]}; expected {each.offsets[short[0]]}; nothing was changed",
                hint="restore the offline store's files first, then run this again",
            )


def _begin(stores: Stores, manifest: Manifest, place: BackupTarget, *, drop: bool) -> None:
    if drop:
        stores.registry.drop(stores.project)
    _mark(stores, manifest, place, is_done=False)
    if drop and manifest.are_archives_copied:
        stores.offline.drop_project(stores.project)
    # They may be ahead of the archives from now on.
    stores.online.drop_project(stores.project)


def _mark(stores: Stores, manifest: Manifest, place: BackupTarget, *, is_done: bool) -> None:
    body = {"target": place.address, "is_done": is_done}
    record = RegistryRecord(RESTORING, manifest.id, stores.system_clock(), body)
    stores.registry.append_records(stores.project, [record])


def _restore_archive(
    stores: Stores, snapshot: Snapshot, copied: ArchiveCopy, place: BackupTarget, progress: Progress
) -> None:
    archive = Archive(stores.project, copied.name, copied.kind)
    source = snapshot.project.sources.get(copied.name)
    declared = pa.schema([])
    lookups: list[list[str]] = []
    if copied.kind == "letters":
        declared = DEAD_LETTERS_SCHEMA
    elif isinstance(source, LogSource):
        declared, lookups = archive_schema(source), lookups_of(snapshot.project, source)
    schema, rows = declared, 0
    for file in copied.files:
        reader = read_rows(place, file)
        if not rows:
            schema = _with_day(reader.schema, declared)
            stores.offline.create(archive, schema, lookups=lookups)
        table = _dated(reader.read_all()).select(schema.names).cast(schema)
        if table.num_rows:
            rows += stores.offline.append(archive, table, _last_offsets(table))
        progress(f"restore the archive of {copied.name}", rows, copied.rows)
    if not copied.files:
        if not declared.names:
            return
        stores.offline.create(archive, schema, lookups=lookups)
    if copied.offsets:
        stores.offline.append(archive, schema.empty_table(), copied.offsets)
    if rows != copied.rows:
        raise StorageError(
            f"archive {described(copied)!r} has {counted(rows, 'row')} after its restore; expected {copied.rows}",
            hint="another process writes to it: stop workers and servers, then run the restore again",
        )


def _with_day(found: pa.Schema, declared: pa.Schema) -> pa.Schema:
    """The columns of an archive: those of its rows, as they are declared where they are."""
    fields = [declared.field(each.name) if each.name in declared.names else each for each in found]
    # Of dead letters and events alike.
    own = {each.name: each for each in ARRIVAL_FIELDS}
    return pa.schema([own.get(each.name, each) for each in fields] + [own["ingest_date"]])


def _dated(table: pa.Table) -> pa.Table:
    day = ARRIVAL_FIELDS[-1]
    return table.append_column(day, pc.cast(table["ingested_at"], day.type, safe=False))


def _last_offsets(table: pa.Table) -> dict[int, int]:
    found = table.group_by("partition").aggregate([("offset", "max")])
    return dict(zip(found["partition"].to_pylist(), found["offset_max"].to_pylist(), strict=True))


def _next_steps(stores: Stores, snapshot: Snapshot) -> Iterator[str]:
    """What brings the rest back: messages that logs have beyond the archives, then online rows."""
    project, lost = snapshot.project, []
    logs = [each for each in project.sources.values() if isinstance(each, LogSource)]
    for source in logs:
        known = snapshot.facts.topics.get(source.name)
        try:
            if known is not None and stores.log_of(source).topic_id(source.topic) != known:
                lost.append(source.name)
        except UnknownTopic:
            lost.append(source.name)
        except AsofError:
            continue  # where the log cannot be reached now, nothing says that it is another one
    if lost:
        yield (
            f"asof stream run --accept-gap --until-caught-up {' '.join(lost)}: their logs are not those of the backup; "
            "what was only in them is recorded as lost"
        )
    if others := [each.name for each in logs if each.name not in lost]:
        yield f"asof stream run --until-caught-up {' '.join(others)}: reads on in their logs where the archives end"
    if any(each.online for each in project.views.values()):
        yield "asof rebuild: builds the online rows again"
        yield "asof audit: compares them with history"


__all__ = ["RestoreResult", "restore", "what_is_there"]
