"""Archives as Delta tables: every event that a log delivered, appended exactly once.

Delta does not refuse a repeated or lower transaction version. So each append opens the table, reads every partition's
version from that handle, drops rows at or below it, and commits through the same handle without Delta's own retries. If
another writer has committed in between, the commit fails and the append starts over.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from asof.connections.object_storage import ObjectStorage
from asof.connections.object_storage.errors import translated
from asof.defaults import KEEP_HOURS
from asof.dtypes import from_arrow
from asof.errors import AsofError, StorageError
from asof.offline.delta.compaction import Compaction, Sizes, bounds_of, drop_leftovers, files_of, have_all_columns
from asof.offline.delta.folders import Folder, folder_of
from asof.offline.delta.levels import ArchiveFile
from asof.offline.delta.offsets import application
from asof.offline.delta.pieces import drop_saved, load_saved
from asof.offline.delta.predicates import equal_to
from asof.offline.protocol import ARRIVAL_COLUMNS, COMPACTED, LATER_COLUMNS, Archive, Archives, Engine
from asof.sources.protocol import ArchiveOrder, Files
from asof.sql import archive as statements
from asof.sql.arrival import PUSHED_AT, order_of

_ATTEMPTS = 50

LOG_DAYS = 30
"""Delta's default: a compaction deletes files of the log that are older, and that a later checkpoint covers."""


class DeltaArchives(Archives):
    """The archives below one folder: `<root>/<project>/<kind>/<name>`.

    Args:
        root: a folder, created if missing; or an address in object storage.
        engine: sorts the rows of compacted files; without one they are joined as they lie.
        storage: how object storage is reached.

    Attributes:
        sizes: of compacted files, and of what is in them.
    """

    keeps_nul = True

    def __init__(self, root: Path | str, engine: Engine | None = None, *, storage: ObjectStorage | None = None) -> None:
        self._folder: Folder = folder_of(root, storage)
        self._engine = engine
        self.sizes = Sizes()

    def _path(self, archive: Archive) -> str:
        return self._folder.address(archive.project, archive.kind, archive.name)

    def _open(self, archive: Archive) -> DeltaTable | None:
        try:
            return self._folder.open(self._path(archive))
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise _wrapped(error, f"archive {archive.name!r} at {self._path(archive)} cannot be opened") from error

    def check(self, archive: Archive, schema: pa.Schema) -> None:
        """Check that the archive, if there is one, holds these columns as these types."""
        table = self._open(archive)
        known = _schema(table) if table is not None else pa.schema([])
        for each in schema:
            if each.name in known.names and from_arrow(known.field(each.name).type) != from_arrow(each.type):
                raise StorageError(
                    f"archive {archive.name!r} holds column {each.name!r} as {known.field(each.name).type}; "
                    f"the source now declares {each.type}, and archived events keep their type",
                    hint="restore the column's type, or declare a new column or source for the new one",
                )

    def create(self, archive: Archive, schema: pa.Schema, *, lookups: Sequence[Sequence[str]] = ()) -> None:
        """Create the archive, or add its new columns.

        Args:
            schema: the rows' columns; `partition`, `offset`, `ingested_at` and `ingest_date` among them.
            lookups: ignored, since files are read whole.
        """
        table = self._open(archive)
        try:
            if table is None:
                self._folder.prepare(self._path(archive))
                DeltaTable.create(
                    self._path(archive), schema=schema, partition_by=["ingest_date"], mode="ignore",
                    storage_options=self._folder.options,
                    configuration={"delta.checkpointInterval": str(self._folder.checkpoint_every)},
                )  # fmt: skip
                return
            self.check(archive, schema)
            known = _schema(table)
            missing = [each for each in schema if each.name not in known.names]
            if missing:
                empty = pa.Table.from_batches([], schema)
                write_deltalake(table, empty, mode="append", schema_mode="merge")
        except (DeltaError, OSError) as error:
            raise _wrapped(error, f"archive {archive.name!r} cannot be made at {self._path(archive)}") from error

    def append(self, archive: Archive, rows: pa.Table, through: Mapping[int, int]) -> int:
        """Append the rows that are new and advance each partition's archived offset, in one commit.

        Args:
            rows: with `partition`, `offset`, `ingested_at` (timestamp) and `ingest_date`.
            through: partition → the last offset that these rows cover, even if its row was dropped.

        Returns:
            Number of new rows.
        """
        for attempt in range(_ATTEMPTS):
            table = self._open(archive)
            if table is None:
                self.create(archive, rows.schema)
                continue
            schema = _schema(table)
            if rows.num_rows and any(name in LATER_COLUMNS and name not in schema.names for name in rows.column_names):
                # An earlier version made the archive.
                self.create(archive, rows.schema)
                continue
            version, done = table.version(), self._folder.offsets(self._path(archive), table, list(through))
            news = {partition: offset for partition, offset in through.items() if offset > done[partition]}
            if not news:
                self._folder.close(self._path(archive), table)
                return 0
            fresh = rows
            if rows.num_rows and any(offset >= 0 for offset in done.values()):
                fresh = _beyond(rows, done)
            try:
                write_deltalake(
                    table, _with_all_columns(fresh, schema), mode="append",
                    commit_properties=CommitProperties(
                        app_transactions=[
                            Transaction(application(each), last) for each, last in sorted(news.items())
                        ],
                        max_commit_retries=0,
                    ),
                    # It would list the whole log each time; a compaction cleans it up.
                    post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
                )  # fmt: skip
                if table.version() == version + 1:  # else another writer has committed after it
                    self._folder.committed(self._path(archive), version + 1, news)
                self._folder.close(self._path(archive), table)
                return fresh.num_rows
            except CommitFailedError:
                # Another writer was faster; the retry drops the rows that it covered.
                time.sleep(min(0.001 * 2**attempt, 0.2))
            except (DeltaError, OSError) as error:
                raise _wrapped(error, f"archive {archive.name!r} at {self._path(archive)} cannot be written") from error
        raise StorageError(
            f"archive {archive.name!r}: {_ATTEMPTS} commits in a row conflicted with another writer",
            hint="check which other workers write it; `asof stream status` lists them",
        )

    def offsets(self, archive: Archive, partitions: Sequence[int]) -> dict[int, int]:
        """Each partition's last archived offset, else -1."""
        table = self._open(archive)
        if table is None:
            return dict.fromkeys(partitions, -1)
        found = self._folder.offsets(self._path(archive), table, partitions)
        self._folder.close(self._path(archive), table)
        return found

    def rows(self, archive: Archive, *, version: int | None = None) -> Files | None:
        """The archive's Parquet files now or as of a version; None if it has no rows."""
        table = self._open(archive)
        if table is None:
            return None
        try:
            if version is not None:
                table.load_as_version(version)
            paths = self._folder.paths(self._path(archive), table)
        except (DeltaError, OSError) as error:
            raise _wrapped(error, f"version {version} of archive {archive.name!r} no longer exists") from error
        # An added column is in no file until the next append; the partition column is never in a file.
        schema = pa.schema([each for each in _schema(table) if each.name != "ingest_date"])
        order, bounds, are_alike = _order(table), bounds_of(table), have_all_columns(table, schema)
        if version is None:
            self._folder.close(self._path(archive), table)
        files = Files(paths, schema, order=order, storage=self._folder.storage, bounds=bounds, are_alike=are_alike)
        return files if paths else None

    def version(self, archive: Archive) -> int:
        """The archive's version, to pin a training set; -1 if there is no archive."""
        table = self._open(archive)
        if table is None:
            return -1
        self._folder.close(self._path(archive), table)
        return table.version()

    def compact(
        self, archive: Archive, *, order: Sequence[str] = (), time: str = "", keep_hours: int = KEEP_HOURS,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, int]:  # fmt: skip
        """Sort and join the files of each ingest date, and remove files that no version of the last `keep_hours` uses.

        `removed` files became `added` ones. `busy` is 1 where another process is compacting the archive, and nothing
        was done but that removal.
        """
        table = self._open(archive)
        if table is None:
            return _compacted([], [])
        before = files_of(table)
        try:
            compaction = self._compaction(archive, _schema(table), order=order, time=time, progress=progress)
            if compaction is not None:
                compaction.run()
                added, removed, busy = compaction.added, compaction.removed, compaction.is_busy
            else:
                metrics = table.optimize.compact()
                added, removed, busy = metrics["numFilesAdded"], metrics["numFilesRemoved"], False
            table = self._folder.open(self._path(archive))  # at its new version
            vacuumed = self._vacuum(archive, table, keep_hours)
            if added:
                table.create_checkpoint()  # readers need not go through each flush
            if keep_hours <= LOG_DAYS * 24:
                table.cleanup_metadata()
        except CommitFailedError:
            return _compacted(before, before)  # another writer was active; the next run does it
        except (DeltaError, OSError, pa.ArrowInvalid) as error:
            raise _wrapped(error, f"archive {archive.name!r} cannot be compacted") from error
        return _compacted(before, files_of(table), added=added, removed=removed, vacuumed=vacuumed, busy=int(busy))

    def _vacuum(self, archive: Archive, table: DeltaTable, keep_hours: int) -> int:
        """Delete the files that no version of the last `keep_hours` uses; returns their number."""
        # A process that died may have left files that no version has. Who is writing one now has it in no version
        # either, but is done with it in less than a day.
        is_full = keep_hours >= 24
        options: dict[str, Any] = {"retention_hours": keep_hours, "enforce_retention_duration": False, "full": is_full}
        # The log lists files long after they are gone.
        listed = table.vacuum(dry_run=True, **options)
        gone = self._folder.existing(self._path(archive), listed) if listed else []
        try:
            if gone:
                table.vacuum(dry_run=False, **options)
        except CommitFailedError:
            return 0  # another writer was faster; the next run deletes what is left
        return len(gone)

    def _compaction(
        self, archive: Archive, schema: pa.Schema, *, order: Sequence[str], time: str,
        progress: Callable[[int, int], None],
    ) -> Compaction | None:  # fmt: skip
        """A compaction that sorts; None without an engine."""
        engine, address = self._engine, self._path(archive)
        files_at = self._folder.files(address)
        order = [each for each in (*order, *ARRIVAL_COLUMNS[:2]) if each in schema.names]
        if engine is None:
            return None
        dtype = from_arrow(schema.field(time).type) if time in order else None

        def run(text: str, files: Sequence[ArchiveFile], columns: pa.Schema) -> pa.RecordBatchReader:
            given = Files(tuple(files_at.address(each.path) for each in files), columns, storage=self._folder.storage)
            return engine.sql(text, {"archive": given}).reader(self.sizes.row_group_rows)

        def rows(files: Sequence[ArchiveFile], columns: pa.Schema, cuts: Sequence[Any]) -> pa.RecordBatchReader:
            bounds = [engine.dialect.literal(each, dtype) for each in cuts] if dtype is not None else []
            return run(statements.sorted_rows(columns.names, order, time=time, cuts=bounds), files, columns)

        def times(files: Sequence[ArchiveFile]) -> Iterator[pa.Array]:
            for batch in run(statements.values_of(time), files, schema):
                yield batch.column(0)

        return Compaction(
            files_at,
            lambda: self._folder.open(address),
            order,
            time if dtype is not None else "",
            rows,
            times,
            progress,
            self.sizes,
        )

    def forget(self, archive: Archive, columns: Mapping[str, Any]) -> int:
        """Delete the rows where every column has the given value, or one of a list, and rewrite their files."""
        table = self._open(archive)
        if table is None:
            return 0
        predicate = equal_to(columns)
        for _ in range(_ATTEMPTS):
            try:
                metrics = table.delete(predicate)
                table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
                drop_leftovers(self._folder.files(self._path(archive)), table)
                return int(metrics.get("num_deleted_rows") or 0)
            except CommitFailedError:
                table = self._folder.open(self._path(archive))
            except (DeltaError, OSError) as error:
                raise _wrapped(error, f"rows of archive {archive.name!r} cannot be deleted") from error
        raise StorageError(f"archive {archive.name!r} is written too often to delete rows from", hint="try again")

    def save_table(self, project: str, name: str, rows: pa.RecordBatchReader) -> None:
        """Save rows as one Parquet file, which appears once complete."""
        path = self._table_path(project, name)
        try:
            self._folder.save(path, rows)
        except (OSError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise _wrapped(error, f"table {name!r} cannot be saved at {path}") from error

    def load_table(self, project: str, name: str) -> pa.RecordBatchReader | None:
        """The rows saved by `save_table`, in order and in bounded memory."""
        path = self._table_path(project, name)
        try:
            return load_saved(self._folder, path)
        except (OSError, pa.ArrowInvalid) as error:
            raise _wrapped(error, f"table {name!r} at {path} cannot be read") from error

    def drop_table(self, project: str, name: str) -> None:
        """Delete the rows saved by `save_table`."""
        drop_saved(self._folder, self._table_path(project, name))

    def _table_path(self, project: str, name: str) -> str:
        return self._folder.address(project, "tables", f"{name}.parquet")

    def names(self, project: str, kind: str) -> list[str]:
        """The archives of one kind that exactly this project has."""
        return self._folder.names(self._folder.address(project, kind))

    def drop_project(self, project: str) -> None:
        """Delete all archives and saved tables of exactly this project."""
        # One by one: its folder may also be another store's root.
        for kind in get_args(get_type_hints(Archive)["kind"]):
            for name in self.names(project, kind):
                path = self._path(Archive(project, name, kind))
                if "_delta_log" in self._folder.names(path):
                    self._folder.drop(path)
        self._folder.drop_rest(self._folder.address(project), tables="tables")


def _order(table: DeltaTable) -> ArchiveOrder:
    """How the rows can be ordered, as the table's log says: of which partitions each file has rows, and stamps."""
    files = pa.table(table.get_add_actions(flatten=True))
    needed = ("min.partition", "max.partition", "num_records")
    if (
        not files.num_rows
        or not set(needed) <= set(files.column_names)
        or any(files[name].null_count for name in needed)
    ):
        return ""
    least, greatest = pc.min(files["min.partition"]).as_py(), pc.max(files["max.partition"]).as_py()
    stamps = f"null_count.{PUSHED_AT}"
    without = files["num_records"]
    if stamps in files.column_names:
        # A file from before the column was added has only rows without a stamp.
        without = (
            pc.fill_null(files[stamps], 0) if not files[stamps].null_count else pc.coalesce(files[stamps], without)
        )
    return order_of([least, greatest], rows=pc.sum(files["num_records"]).as_py(), unstamped=pc.sum(without).as_py())


def _compacted(before: Sequence[ArchiveFile], after: Sequence[ArchiveFile], **numbers: int) -> dict[str, int]:
    sizes = {
        "files_before": len(before), "files_after": len(after),
        "bytes_before": sum(each.bytes for each in before), "bytes_after": sum(each.bytes for each in after),
    }  # fmt: skip
    return dict.fromkeys(COMPACTED, 0) | sizes | numbers


def _schema(table: DeltaTable) -> pa.Schema:
    return pa.schema(table.schema().to_arrow())


def _with_all_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with nulls in columns that their source no longer declares."""
    for each in schema:
        if each.name not in rows.column_names:
            rows = rows.append_column(each.name, pa.nulls(rows.num_rows, each.type))
    return rows


def _beyond(rows: pa.Table, done: Mapping[int, int]) -> pa.Table:
    keep = pa.repeat(pa.scalar(True), rows.num_rows)
    for partition, offset in done.items():
        if offset >= 0:
            seen = pc.and_(pc.equal(rows["partition"], partition), pc.less_equal(rows["offset"], offset))
            keep = pc.and_not(keep, seen)
    return rows.filter(keep)


def _wrapped(error: Exception, problem: str) -> AsofError:
    text = str(error)
    if "://" in problem:
        return translated(error, problem)
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in text:
        return StorageError(f"{problem}: the disk is full", hint="free space, then run it again; nothing was lost")
    if "Permission denied" in text:
        return StorageError(f"{problem}: permission denied", hint="check offline_store.path and its owner")
    line = text.splitlines()[0] if text else type(error).__name__
    return StorageError(f"{problem}: {line}", hint="check offline_store.path")
