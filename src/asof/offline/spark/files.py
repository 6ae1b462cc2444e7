"""Parquet files that the server reads itself, and what must hold for that."""

from __future__ import annotations

import base64
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.types import StructType

from asof.connections.spark import ServerSession
from asof.connections.spark.client import DataFrame, functions
from asof.errors import SourceError
from asof.offline.spark.arrow import data_type, is_read_from_files, struct_of, type_of
from asof.sources.protocol import Files
from asof.sql.source_rows import ROW

MAGIC = re.compile(r"[\[\]{}*?\\]")
"""The characters of a pattern."""

_KEPT = 100_000
_OBJECTS: dict[Hashable, Footer] = {}
"""Objects, in the state in which they were, and their footers."""


def schema_of_files(files: Files) -> pa.Schema:
    """The columns of the files, without those that their folders give.

    Raises:
        SourceError: they cannot be read here.
    """
    own = files.partitions.column_names if files.partitions is not None else []
    if files.schema is not None:
        return pa.schema([each for each in files.schema if each.name not in own])
    from pyarrow.dataset import dataset  # it loads pandas

    try:
        return dataset(list(files.paths), filesystem=_file_system(files)).schema
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(files.paths[0], error) from error


def are_native(schema: pa.Schema) -> bool:
    """Whether each of these columns is read by every engine as what it is."""
    return all(is_read_from_files(each.type) for each in schema)


def foreign_columns(files: Files) -> set[str]:
    """The columns that not every engine reads as what they are from each file, by the files' own footers.

    A source's schema does not say it: there, what only lays values out in another way is one type.

    Raises:
        SourceError: one of them cannot be read here.
    """
    return set().union(*(each.foreign for each in _footers(files)))


def frame_of(
    session: ServerSession, files: Files, schema: pa.Schema, *, paths: Sequence[str], numbered: bool
) -> DataFrame:
    """The rows of files, with the values of their folders.

    Args:
        schema: the columns to be read from the files.
        paths: of the files, as patterns.
        numbered: add a number that ascends in the order of the paths, and of the rows of each.
    """
    own = struct_of((each.name, type_of(each.type, each.name)) for each in schema)
    if numbered:
        parts = [
            _numbered(session, path, own, place).select("*", *_folder_values(files, [place]))
            for place, path in enumerate(paths)
        ]
    else:
        parts = [
            session.files([paths[position] for position in positions], own).select(
                "*", *_folder_values(files, positions)
            )
            for positions in _alike(files)
        ]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.union(part)
    return whole


def _numbered(session: ServerSession, path: str, schema: StructType, place: int) -> DataFrame:
    row = functions.lit(place << 40) + functions.col("_metadata.row_index")
    names = [functions.col(_quoted(name)) for name in schema.names]
    return session.files([path], schema).select(*names, row.alias(ROW))


def _folder_values(files: Files, positions: Sequence[int]) -> list[Any]:
    """The columns that have one value in all of these files."""
    if files.partitions is None:
        return []
    columns = []
    for name in files.partitions.column_names:
        column = files.partitions[name]
        value = functions.lit(column[positions[0]].as_py()).cast(data_type(type_of(column.type, name)))
        columns.append(value.alias(name))
    return columns


def _alike(files: Files) -> Iterable[list[int]]:
    """The numbers of the files, those together whose folders give the same values and that lay values out alike."""
    folders = files.partitions.columns if files.partitions is not None else []
    keys: list[Sequence[Any]] = [column.to_pylist() for column in folders]
    if any(pa.types.is_nested(each.type) for each in schema_of_files(files)):
        # Sail takes a list's texts for what the writer noted, and refuses files of one read whose notes differ.
        keys.append([each.nested for each in _footers(files)])
    if not keys:
        return [list(range(len(files.paths)))]
    groups: dict[tuple[object, ...], list[int]] = {}
    for place, values in enumerate(zip(*keys, strict=True)):
        groups.setdefault(values, []).append(place)
    return groups.values()


def has_row_numbers(session: ServerSession, path: str) -> bool:
    """Whether the engine says which row of a file a row is; nothing is read."""
    try:
        frame = session.files([path], StructType()).selectExpr("_metadata.row_index AS n")
        return bool(frame.schema.names == ["n"])
    except Exception:  # each engine has its own for that
        return False


def literal_path(path: str, *, in_brackets: bool) -> str:
    """The path as a pattern that matches only it.

    Args:
        in_brackets: how a character stands for itself; otherwise behind a backslash.
    """
    if not in_brackets:
        return MAGIC.sub(lambda found: "\\" + found[0], path)
    return MAGIC.sub(lambda found: f"[{found[0]}]", path.replace("]", "\0")).replace("\0", "[]]")


@dataclass(frozen=True)
class Footer:
    """What a file says of itself.

    Args:
        foreign: the columns that not every engine reads as what they are.
        nested: the columns of lists and structs, with the types that their writer noted.
    """

    rows: int
    foreign: frozenset[str]
    nested: frozenset[tuple[str, str]] = frozenset()


def rows_in(files: Files) -> int:
    """The number of rows, by the files' own footers.

    Raises:
        SourceError: one of them cannot be read here.
    """
    return sum(each.rows for each in _footers(files))


def _footers(files: Files) -> Iterator[Footer]:
    if files.storage is None:
        for path in files.paths:
            yield _footer_of_local(path, *_state(path))
        return
    system = _file_system(files)
    for path in files.paths:
        key = files.storage.files.found(path)
        if key not in _OBJECTS:
            if len(_OBJECTS) >= _KEPT:
                _OBJECTS.clear()
            _OBJECTS[key] = _footer(path, system)
        yield _OBJECTS[key]


def _state(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=_KEPT)
def _footer_of_local(path: str, written_ns: int, size: int) -> Footer:
    return _footer(path, None)


def _footer(path: str, system: Any) -> Footer:
    try:
        found = pq.read_metadata(path, filesystem=system)
        own = found.schema.to_arrow_schema()
        noted = _as_written(found)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error
    columns = (*own, *noted)
    return Footer(
        int(found.num_rows),
        foreign=frozenset(each.name for each in columns if not is_read_from_files(each.type)),
        nested=frozenset((each.name, str(each.type)) for each in noted if pa.types.is_nested(each.type)),
    )


def _as_written(found: pq.FileMetaData) -> list[pa.Field]:
    """The columns that an Arrow writer noted; some of them (dates in milliseconds) PyArrow itself does not restore."""
    noted = (found.metadata or {}).get(b"ARROW:schema")
    return list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(noted)))) if noted else []


def _file_system(files: Files) -> Any:
    if files.storage is None:
        return None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(files.storage.files))


def _unreadable(path: str, error: Exception) -> SourceError:
    return SourceError(
        f"file {path!r} cannot be read: {str(error).splitlines()[0]}",
        hint="check that the files exist and are complete",
    )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


__all__ = [
    "MAGIC",
    "are_native",
    "foreign_columns",
    "frame_of",
    "has_row_numbers",
    "literal_path",
    "rows_in",
    "schema_of_files",
]
