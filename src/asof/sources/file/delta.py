"""Delta tables as sources: the files that their log names, all of them inside of the table."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from asof.connections.delta import open_table
from asof.connections.object_storage import ObjectStorage, StoredObject
from asof.connections.object_storage.errors import translated
from asof.definitions import FileSource
from asof.errors import SourceError
from asof.sources.file.find import refused
from asof.values.local_paths import NotLocal, local_path, scheme_of

_UNREADABLE = re.compile(r"[%\[\]^|\\?#]")
_HARMLESS = {"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"}
"""Features of readers that leave the files what they are."""


@dataclass(frozen=True)
class DeltaFiles:
    """A Delta table's files, in the order of their paths.

    Args:
        schema: the table's columns.
        partitions: its partition columns, a row per file; they are in none of the files.
    """

    paths: tuple[str, ...]
    schema: pa.Schema
    partitions: pa.Table


def delta_files(source: FileSource, folder: Path) -> DeltaFiles:
    """The files of the newest version.

    Raises:
        SourceError: it is no Delta table, its files are not plain ones, or its log names one outside of it.
    """
    try:
        if not folder.is_dir():
            raise refused(source, f"there is no folder {folder}", hint="check path=, or write the table first")
        table = open_table(folder)
        _check_features(source, folder, table)
        schema = pa.schema(table.schema().to_arrow())
        adds = pa.table(table.get_add_actions(flatten=True))
        columns = list(table.metadata().partition_columns)
    except (DeltaError, OSError, ValueError) as error:
        if _UNREADABLE.search(str(folder)):
            raise _bad_name(source, folder) from error
        raise refused(source, f"{folder} is not a Delta table: {str(error).splitlines()[0]}") from error
    except BaseException as error:
        # What the driver's Rust code says of a path that it cannot make a URL of is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        raise _bad_name(source, folder) from error
    named = adds["path"].to_pylist() if adds.num_rows else []
    return _in_order([_inside(source, folder, each) for each in named], schema, adds, columns)


def delta_objects(source: FileSource, storage: ObjectStorage, address: str) -> DeltaFiles:
    """The files of the newest version of a table in object storage.

    Raises:
        SourceError, StorageError: as of `delta_files`.
    """
    try:
        table = open_table(address, storage.delta_options(address))
        _check_features(source, address, table)
        schema = pa.schema(table.schema().to_arrow())
        adds = pa.table(table.get_add_actions(flatten=True))
        columns = list(table.metadata().partition_columns)
    except TableNotFoundError as error:
        raise refused(source, f"{address} is not a Delta table", hint="check path=, or write it first") from error
    except (DeltaError, OSError, ValueError) as error:
        raise translated(error, f"source {source.name!r}: Delta table {address}") from error
    paths = []
    for named in adds["path"].to_pylist() if adds.num_rows else []:
        name = os.path.normpath(unquote(named))
        if scheme_of(named) or name.startswith(("..", "/")):
            raise _outside(source, address, named)
        paths.append(f"{address}/{name}")
    sizes = adds["size_bytes"].to_pylist() if paths else []
    storage.files.remember(StoredObject(path, size) for path, size in zip(paths, sizes, strict=True))
    return _in_order(paths, schema, adds, columns)


def _in_order(paths: Sequence[str], schema: pa.Schema, adds: pa.Table, columns: Sequence[str]) -> DeltaFiles:
    """The files in the order of their paths, with their values of the partition columns."""
    order = sorted(range(len(paths)), key=paths.__getitem__)
    values = {}
    for name in columns:
        column = adds[f"partition.{name}"] if f"partition.{name}" in adds.column_names else pa.nulls(len(paths))
        values[name] = column.cast(schema.field(name).type).take(pa.array(order, pa.int64()))
    return DeltaFiles(tuple(paths[at] for at in order), schema, pa.table(values))


def _bad_name(source: FileSource, folder: Path) -> SourceError:
    return refused(source, f"the Delta driver cannot open a folder of this name: {folder}",
                   hint="rename it, without %, brackets and other characters that URLs escape")  # fmt: skip


def _check_features(source: FileSource, folder: Path | str, table: DeltaTable) -> None:
    features = set(table.protocol().reader_features or []) - _HARMLESS
    mode = (table.metadata().configuration or {}).get("delta.columnMapping.mode", "none")
    if mode not in ("none", None):
        features.add("columnMapping")
    if features:
        raise refused(
            source, f"Delta table {folder} uses {', '.join(sorted(features))}; its files cannot be read natively",
            hint="rewrite the table without deletion vectors and column mapping",
        )  # fmt: skip


def _inside(source: FileSource, folder: Path, named: str) -> str:
    """The place of a file that the log names, which has to be in the table's folder."""
    try:
        # Names are escaped as in URLs; those of partition folders are escaped twice, once by the folder's name.
        place = os.path.normpath(os.path.join(folder, local_path(named) if scheme_of(named) else unquote(named)))
    except NotLocal:
        place = ""
    if not place or os.path.commonpath([place, os.path.abspath(folder)]) != os.path.abspath(folder):
        raise _outside(source, folder, named)
    return place


def _outside(source: FileSource, folder: Path | str, named: str) -> SourceError:
    return refused(
        source, f"the log of Delta table {folder} names a file that is not in the table: {named!r}",
        hint="a table whose files lie elsewhere (a shallow clone) is to be copied, for example with a deep clone",
    )  # fmt: skip


__all__ = ["DeltaFiles", "delta_files", "delta_objects"]
