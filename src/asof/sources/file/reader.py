"""Reads `FileSource`s: what columns their files have, and their rows, natively where every file has the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa

from asof.connections.csv_files import CsvFiles
from asof.connections.object_storage import ObjectStorage
from asof.definitions import FileSource, Source
from asof.dtypes import DType, Int64, Timestamp, from_arrow
from asof.errors import SourceError
from asof.sources.file.case import refuse_split_columns
from asof.sources.file.delta import DeltaFiles, delta_files, delta_objects
from asof.sources.file.find import SourceFiles, find_files, refused
from asof.sources.file.objects import find_objects
from asof.sources.file.parquet import fitted_rows, union_of
from asof.sources.protocol import Batches, Files, ScanRequest, SourceColumn, SourceReaderDefaults
from asof.values.local_paths import NotLocal, is_object_address, local_path
from asof.values.text_columns import Narrowest, fit_text

ReadFile: TypeAlias = Callable[[str, Mapping[str, DType]], Iterator[pa.RecordBatch]]
"""Reads the rows of one file, of columns in these types."""


class FileReader(SourceReaderDefaults):
    """Reads `FileSource`s.

    Args:
        root: what relative paths are relative to: the feature repository.
        storage: how paths in object storage (`s3://…`) are reached.
    """

    def __init__(self, root: Path | str, *, storage: ObjectStorage | None = None) -> None:
        self.root, self._storage = Path(root), storage or ObjectStorage()

    def describe(self, source: Source) -> list[SourceColumn]:
        """The columns of all files, and those that the names of their folders give."""
        assert isinstance(source, FileSource)
        if source.file_format == "delta":
            schema = self._delta(source).schema
            return [SourceColumn(each.name, from_arrow(each.type), str(each.type)) for each in schema]
        found = self._find(source)
        declared = {field.name: field.dtype for field in source.schema}
        if source.file_format == "csv":
            files = self._csv(source, found)
            refuse_split_columns(source, files.columns, files.columns_of_files, _read_columns(source))
            texts = files.types(declared)
            if (
                source.timestamp_field in texts.keys() - declared.keys()
                and not texts[source.timestamp_field].is_integer
            ):
                texts[source.timestamp_field] = Timestamp
            columns = [SourceColumn(name, dtype, f"text, {dtype}", is_text=True) for name, dtype in texts.items()]
        else:
            union = union_of(source, found.paths, self._storage)
            refuse_split_columns(source, union.columns, union.of_files, _read_columns(source))
            columns = union.described(declared)
        partitions = _partition_columns(source, found, {column.name for column in columns})
        of_folders = [
            SourceColumn(each.name, from_arrow(each.type), "text of a folder's name", is_text=True)
            for each in partitions.schema
        ]
        return [*columns, *of_folders]

    def scan(self, source: Source, request: ScanRequest) -> Files | Batches:
        """The source's files; the engine reads only the columns and the time range that it needs."""
        assert isinstance(source, FileSource)
        if source.file_format == "delta":
            return self._scan_delta(source)
        found = self._find(source)
        if source.file_format == "csv":
            files = self._csv(source, found)
            read = request.columns or _read_columns(source)
            refuse_split_columns(source, files.columns, files.columns_of_files, read)
            types = files.types(_with_times(source), request.columns or None)
            return self._batches(source, found, files.columns, types, files.rows)
        union = union_of(source, found.paths, self._storage)
        refuse_split_columns(source, union.columns, union.of_files, request.columns or _read_columns(source))
        if not union.differing:
            partitions = _partition_columns(source, found, union.columns)
            return Files(
                found.paths, union.schema, partitions if partitions.num_columns else None, storage=self._of(found.paths)
            )
        described = union.described({field.name: field.dtype for field in source.schema})
        types = {
            column.name: column.dtype
            for column in described
            if column.dtype is not None and (not request.columns or column.name in request.columns)
        }
        read_file = partial(fitted_rows, source, self._storage)
        return self._batches(source, found, union.columns, types, read_file)

    def _scan_delta(self, source: FileSource) -> Files | Batches:
        table = self._delta(source)
        if table.paths:
            partitions = table.partitions if table.partitions.num_columns else None
            # A rewrite of the table (OPTIMIZE) moves rows between files.
            return Files(table.paths, table.schema, partitions, is_ordered=False, storage=self._of(table.paths))
        return Batches(table.schema, lambda request: pa.RecordBatchReader.from_batches(table.schema, []))

    def _find(self, source: FileSource) -> SourceFiles:
        if is_object_address(source.path):
            return find_objects(source, self._storage, source.path)
        return find_files(source, self.root, self._path(source))

    def _delta(self, source: FileSource) -> DeltaFiles:
        if is_object_address(source.path):
            return delta_objects(source, self._storage, source.path.rstrip("/"))
        return delta_files(source, self.root / self._path(source))

    def _csv(self, source: FileSource, found: SourceFiles) -> CsvFiles:
        return CsvFiles(found.paths, f"source {source.name!r}", storage=self._of(found.paths))

    def _of(self, paths: Sequence[str]) -> ObjectStorage | None:
        """How these files are reached, if they are in object storage."""
        return self._storage if is_object_address(paths[0]) else None

    def _batches(
        self, source: FileSource, found: SourceFiles, own: Collection[str], types: Mapping[str, DType], read: ReadFile
    ) -> Batches:
        return replace(_batches(source, found, own, types, read), storage=self._of(found.paths))

    def _path(self, source: FileSource) -> str:
        """Where a source's files are, as a path or a pattern."""
        try:
            return os.path.expanduser(local_path(source.path))
        except NotLocal as error:
            raise refused(
                source, f"path=: {error}",
                hint="give a path on this machine, file:///…, or an address such as s3://bucket/rows.parquet",
            ) from error  # fmt: skip


def _read_columns(source: FileSource) -> set[str]:
    """The columns that something declares."""
    return {*_with_times(source)}


def _with_times(source: FileSource) -> dict[str, DType]:
    """The types that the source's columns are declared with; its times are times, unless it says otherwise."""
    time = Int64 if source.timestamp_unit else Timestamp
    times = {name: time for name in (source.timestamp_field, source.created_timestamp_column) if name}
    return {**times, **{field.name: field.dtype for field in source.schema}}


def _partition_columns(source: FileSource, found: SourceFiles, own: Collection[str]) -> pa.Table:
    """The columns that the names of folders give and the files do not have, a row per file."""
    declared = _with_times(source)
    columns = {}
    for name, values in found.partitions.items():
        if name in own:
            continue
        texts = pa.array(values, pa.string())
        narrowest = Narrowest()
        narrowest.look(texts)
        dtype = declared.get(name, narrowest.dtype)
        column, misfits = fit_text(texts, dtype)
        if misfits:
            at, reason = misfits[0]
            raise refused(
                source, f"column {name!r} of the folders' names does not fit {dtype}: {reason}; {found.paths[at]!r}",
                hint="declare the type that all of them have, or String",
            )  # fmt: skip
        columns[name] = column
    return pa.table(columns)


def _batches(
    source: FileSource,
    found: SourceFiles,
    own: Collection[str],
    types: Mapping[str, DType],
    read: ReadFile,
) -> Batches:
    """Rows that are fitted as they are read, in the order of the files.

    Args:
        own: the columns that files have.
        read: the rows of one file, of columns in these types.
    """
    partitions = _partition_columns(source, found, own)
    fields = [pa.field(name, dtype.arrow()) for name, dtype in types.items()]
    schema = pa.schema([*fields, *partitions.schema])

    def rows(names: list[str], unread: Collection[str]) -> Iterator[pa.RecordBatch]:
        wanted = {name: dtype for name, dtype in types.items() if name in names and name not in unread}
        for at, path in enumerate(found.paths):
            constants = [(name, partitions[name][at]) for name in partitions.column_names if name in names]
            try:
                for batch in read(path, wanted):
                    for name, value in constants:
                        batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
                    for name in unread:
                        batch = batch.append_column(name, pa.nulls(batch.num_rows, schema.field(name).type))
                    yield batch.select(names)
            except SourceError as error:
                error.where = error.where or source.where
                raise

    def opened(request: ScanRequest) -> pa.RecordBatchReader:
        names = [name for name in schema.names if not request.columns or name in request.columns]
        # The order of rows of files is where they are: columns that only order equal rows are not looked at.
        unread = [name for name in names if name in request.lenient and name in types]
        return pa.RecordBatchReader.from_batches(pa.schema([schema.field(name) for name in names]), rows(names, unread))

    return Batches(schema, opened, is_ordered=True, paths=found.paths)


__all__ = ["FileReader"]
