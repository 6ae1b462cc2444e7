"""Compaction of one archive: its rows sorted by key and event time in few files, while streams go on appending to it.

For each ingest date (`asof.offline.delta.levels` chooses the files):

    files of flushes and of smaller runs  →  rows in order, from the engine, which spills  →  files of a run
    one commit:  remove the old files, add the new ones, if the old ones are all still there

New files are no part of the table before that commit, so a process that dies leaves nothing but files that `vacuum`
deletes. The commit is tried again at the newest version as long as its old files are there: appends never get in its
way. Where `forget` or another compaction has replaced one of them, the new files are dropped, and nothing has changed.

Within a file rows are in the order of the key, so a row group of it has few keys: statistics let readers skip all but
those that they need. Many rows of one date (a loaded history) are first cut by event time, so that these can be skipped
by time as well; a date's own events are near each other in time.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from asof.offline.delta.folders import TableFiles
from asof.offline.delta.lease import COMMIT_ATTEMPTS, Lease, Open, held_until, pause, system_us
from asof.offline.delta.levels import ArchiveFile, file_name, is_sorted, order_id, to_join

ROW_GROUP_ROWS = 122_880
"""What a reader of one key reads at least; it is also what DuckDB makes row groups of."""

FILE_BYTES = 256 << 20
"""A file of a run ends after the row group with which it is so large."""

RANGE_ROWS = 8_000_000
"""Of more rows each range of event times with about so many is sorted by itself."""

_MOST_TEXT = 64
"""Characters of a text in a file's statistics; a bound that is longer is left out."""

SortedRows = Callable[[Sequence[ArchiveFile], pa.Schema, Sequence[Any]], pa.RecordBatchReader]
"""The rows of files in the order of the run: of these columns, and cut at these values of the event time."""

Times = Callable[[Sequence[ArchiveFile]], Iterator[pa.Array]]
"""The event times of files, in batches."""


@dataclass(frozen=True)
class Sizes:
    """How large files and what is in them become; see the constants."""

    row_group_rows: int = ROW_GROUP_ROWS
    file_bytes: int = FILE_BYTES
    range_rows: int = RANGE_ROWS


@dataclass
class Compaction:
    """One compaction of one archive.

    Args:
        files: writes and deletes the table's files.
        order: the columns that rows are sorted by.
        time: the column of event times, which is one of them; empty if there is none.
        rows, times: read files by the engine.
        progress: given the rows written so far, and how many there are to be written.
    """

    files: TableFiles
    open_table: Open
    order: Sequence[str]
    time: str
    rows: SortedRows
    times: Times
    progress: Callable[[int, int], None] = lambda done, total: None
    sizes: Sizes = Sizes()
    added: int = field(default=0, init=False)
    removed: int = field(default=0, init=False)
    is_busy: bool = field(default=False, init=False)
    """Whether another process was compacting the archive, so that nothing was done."""
    _done: int = field(default=0, init=False)
    _total: int = field(default=0, init=False)

    def run(self) -> None:
        """Compact what there is to compact.

        Raises:
            deltalake.exceptions.DeltaError, OSError, pyarrow.ArrowInvalid: as the drivers raise them.
        """
        if not self._groups():
            return
        lease = Lease.take(self.open_table)
        if lease is None:
            self.is_busy = True
            return
        try:
            groups = self._groups()
            self._total = sum(each.rows for group in groups for each in group)
            for group in groups:
                self._join(group, lease)
        finally:
            lease.release()

    def _groups(self) -> list[list[ArchiveFile]]:
        files = files_of(self.open_table())
        return to_join(files, order_id(self.order), few_rows=self.sizes.row_group_rows)

    def _join(self, group: Sequence[ArchiveFile], lease: Lease) -> None:
        made: list[_NewFile] = []
        try:
            self.write(group, made, lease)
            is_done = self.commit(group, made)
        except BaseException:
            self._drop(made)
            raise
        if is_done:
            self.added += len(made)
            self.removed += len(group)

    def write(self, group: Sequence[ArchiveFile], made: list[_NewFile], lease: Lease) -> None:
        """Write the rows of a group as the files of a run."""
        table = self.open_table()
        schema = pa.schema([each for each in pa.schema(table.schema().to_arrow()) if each.name != "ingest_date"])
        cuts = self._cuts(group, schema)
        folder, run = Path(group[0].path).parent, uuid.uuid4().hex
        writer: FileWriter | None = None
        current = 0
        for number, batch in self._in_ranges(self.rows(group, schema, cuts), schema, cuts):
            if writer is not None and (number != current or writer.bytes >= self.sizes.file_bytes):
                writer.close()
                writer = None
            if writer is None:
                current = number
                made.append(_NewFile(str(folder / file_name(order_id(self.order), run, len(made))), group[0].date))
                writer = FileWriter(self.files, made[-1], schema)
            writer.write(batch)
            self._done += batch.num_rows
            self.progress(self._done, self._total)
            # Where it is lost, the commit still decides: work that is nearly done is not thrown away.
            lease.renew()
        if writer is not None:
            writer.close()

    def _in_ranges(
        self, rows: pa.RecordBatchReader, schema: pa.Schema, cuts: Sequence[Any]
    ) -> Iterator[tuple[int, pa.Table]]:
        """Row groups and the number of the range that each is of."""
        bounds = _as_numbers(pa.array(cuts, schema.field(self.time).type)) if cuts else None
        for batch in rows:
            table = pa.Table.from_batches([batch]).cast(schema)
            if bounds is None:
                yield 0, table
                continue
            column = table[self.time].combine_chunks()
            numbers = np.searchsorted(bounds, _as_numbers(column.fill_null(cuts[-1])), side="right")
            starts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), table.num_rows]
            for start, end in zip(starts, starts[1:]):
                if end > start:
                    yield int(numbers[start]), table.slice(start, end - start)

    def _cuts(self, group: Sequence[ArchiveFile], schema: pa.Schema) -> list[Any]:
        """Where ranges of event times begin, of about `range_rows` each; none where one is enough."""
        ranges = -(-sum(each.rows for each in group) // self.sizes.range_rows)
        if ranges < 2 or not self.time or not _is_time(schema.field(self.time).type):
            return []
        # Of each batch some: the ranges need not be equal.
        found = [_as_numbers(batch)[::97] for batch in self.times(group)]
        seen = np.sort(np.concatenate([each for each in found if len(each)] or [np.zeros(0, np.int64)]))
        if not len(seen):
            return []
        chosen = np.unique(seen[(np.arange(1, ranges) * len(seen)) // ranges])
        cuts: list[Any] = pa.array(chosen).cast(schema.field(self.time).type).to_pylist()
        return cuts

    def commit(self, group: Sequence[ArchiveFile], made: Sequence[_NewFile]) -> bool:
        """Put the new files in place of the old ones; False, and the new files dropped, where an old one is gone."""
        for attempt in range(COMMIT_ATTEMPTS):
            table = self.open_table()
            live = {each.path for each in files_of(table)}
            if made and made[0].path in live:
                # The attempt before did commit, and failed afterwards.
                return True
            if not all(each.path in live for each in group):
                break
            try:
                now = system_us() // 1000
                table.create_write_transaction(
                    [*(each.added(now) for each in made), *(_removed(each, now) for each in group)], "append",
                    table.schema(), partition_by=table.metadata().partition_columns,
                    commit_properties=CommitProperties(
                        max_commit_retries=0, custom_metadata={"asof": f"compact by {', '.join(self.order)}"}
                    ),
                )  # fmt: skip
                return True
            except CommitFailedError:
                pause(attempt)
        self._drop(made)
        return False

    def _drop(self, made: Sequence[_NewFile]) -> None:
        if made and made[0].path in {each.path for each in files_of(self.open_table())}:
            return
        self.files.delete([each.path for each in made])


@dataclass
class _NewFile:
    """A new file."""

    path: str
    date: str
    bytes: int = 0
    statistics: str = ""

    def added(self, now_ms: int) -> AddAction:
        # No change of data: who follows the table's changes sees no rows that only moved.
        return AddAction(self.path, self.bytes, {"ingest_date": self.date}, now_ms, False, self.statistics)


def _removed(file: ArchiveFile, now_ms: int) -> RemoveAction:
    return RemoveAction(file.path, False, now_ms, file.bytes, {"ingest_date": file.date})


class FileWriter:
    """Writes one file; each batch is a row group."""

    def __init__(self, files: TableFiles, made: _NewFile, schema: pa.Schema) -> None:
        self._made, self._schema = made, schema
        self._found: list[pyarrow.parquet.FileMetaData] = []
        self._file = files.create(made.path)
        self._writer = pyarrow.parquet.ParquetWriter(
            self._file, schema, compression="zstd", store_schema=False, write_page_index=True,
            metadata_collector=self._found,
        )  # fmt: skip

    @property
    def bytes(self) -> int:
        return self._file.tell()

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=rows.num_rows)

    def close(self) -> None:
        """End the file; its bytes are kept before any commit can name it."""
        self._writer.close()
        self._made.bytes = self._file.tell()
        self._file.finish()
        self._made.statistics = json.dumps(statistics_of(self._found[0], self._schema))


def files_of(table: DeltaTable) -> list[ArchiveFile]:
    """The files of the table's version."""
    found = pa.table(table.get_add_actions(flatten=True))
    dates = found["partition.ingest_date"].cast(pa.string())
    columns = (found["path"], found["size_bytes"], found["num_records"], dates)
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return [ArchiveFile(unquote(path), size, records or 0, day) for path, size, records, day in rows]


def drop_leftovers(files: TableFiles, table: DeltaTable) -> None:
    """Delete what compactions that died have written and not committed: it may hold rows that are forgotten now.

    A compaction that goes on deletes its files itself, since the rows were forgotten in files that it replaces.
    """
    if held_until(table) > system_us():
        return
    unused = table.vacuum(retention_hours=0, dry_run=True, enforce_retention_duration=False, full=True)
    # Other files may be of an append that goes on.
    files.delete([path for path in map(unquote, unused) if is_sorted(path)])


def bounds_of(table: DeltaTable) -> pa.Table:
    """What the table's log knows of the values in its files, in the order of their paths; see `Files.bounds`."""
    found = pa.table(table.get_add_actions(flatten=True))
    paths = [unquote(path) for path in found["path"].to_pylist()]
    known = [name for name in found.column_names if name.startswith(("min.", "max."))]
    by_path = pa.array(sorted(range(len(paths)), key=paths.__getitem__), pa.int64())
    return found.select([*known, "size_bytes"]).rename_columns([*known, "bytes"]).take(by_path)


def have_all_columns(table: DeltaTable, schema: pa.Schema) -> bool:
    """Whether each file has these columns, as far as the table's log knows: of lists it does not."""
    found = pa.table(table.get_add_actions(flatten=True))
    counts = [f"null_count.{name}" for name in schema.names]
    return all(name in found.column_names and not found[name].null_count for name in counts)


def statistics_of(metadata: pyarrow.parquet.FileMetaData, schema: pa.Schema) -> dict[str, Any]:
    """A file's statistics as the table's log has them; a bound that is not known for sure is left out."""
    least: dict[str, Any] = {}
    greatest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for index in range(metadata.num_columns):
        column = metadata.schema.column(index)
        name = column.path
        if column.max_repetition_level or name not in schema.names or pa.types.is_nested(schema.field(name).type):
            continue
        found = [metadata.row_group(number).column(index).statistics for number in range(metadata.num_row_groups)]
        if any(each is None or not each.has_null_count for each in found):
            continue
        nulls[name] = sum(each.null_count for each in found)
        # A row group without values has no bounds.
        bounded = [each for each in found if each.num_values]
        if _has_bounds(schema.field(name).type) and bounded and all(each.has_min_max for each in bounded):
            ends = min(each.min for each in bounded), max(each.max for each in bounded)
            for into, value in zip((least, greatest), map(_as_json, ends)):
                if value is not None:
                    into[name] = value
    return {"numRecords": metadata.num_rows, "minValues": least, "maxValues": greatest, "nullCount": nulls}


def _has_bounds(kind: pa.DataType) -> bool:
    # Floats are left out: NaN is in no bounds.
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or _is_time(kind) or pa.types.is_date32(kind))


def _is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(kind) or pa.types.is_integer(kind))


def _as_numbers(times: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
    numbers: np.ndarray[Any, np.dtype[np.int64]] = times.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return numbers


def _as_json(value: Any) -> int | str | None:
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo is not None else value
        return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, str):
        return value if len(value) <= _MOST_TEXT else None
    return int(value)


__all__ = ["Compaction", "Sizes", "bounds_of", "drop_leftovers", "files_of", "have_all_columns", "statistics_of"]
