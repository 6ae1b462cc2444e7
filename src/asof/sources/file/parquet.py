"""Parquet files as one table: the union of their columns, each in a type that every file's values fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from asof.connections.object_storage import ObjectStorage
from asof.connections.object_storage.access import for_arrow, stamp_of
from asof.definitions import FileSource
from asof.dtypes import Date, Decimal, DType, Float64, Int64, Timestamp, from_arrow
from asof.sources.file.find import refused
from asof.sources.protocol import SourceColumn
from asof.values.fit import fit


@dataclass(frozen=True)
class Union:
    """The columns of several files.

    Args:
        columns: name → the Arrow type of the union; None where the files' types have none.
        differing: name → the types that it has, each with the first file of it, where an engine may not unite them.
        of_files: path → the names of its columns.
    """

    columns: Mapping[str, pa.DataType | None]
    differing: Mapping[str, Mapping[pa.DataType, str]]
    of_files: Mapping[str, Collection[str]]

    def described(self, declared: Mapping[str, DType]) -> list[SourceColumn]:
        """The columns; one whose types differ is of the declared type, if each of them may be read as that."""
        found = []
        for name, kind in self.columns.items():
            if name not in self.differing:
                assert kind is not None
                # A column without a single value is of whatever type is declared.
                dtype = declared.get(name) if pa.types.is_null(kind) else from_arrow(kind)
                found.append(SourceColumn(name, dtype, str(kind)))
                continue
            shown = ", ".join(f"{each} in {Path(path).name}" for each, path in self.differing[name].items())
            wanted = declared.get(name)
            fits = wanted is not None and all(_may_be(each, wanted) for each in self.differing[name])
            united = from_arrow(kind) if kind is not None else None
            found.append(SourceColumn(name, wanted if fits else united, shown))
        return found

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, kind) for name, kind in self.columns.items() if kind is not None])


def union_of(source: FileSource, paths: Sequence[str], storage: ObjectStorage | None = None) -> Union:
    """The union of the files' columns, in the order in which they first appear.

    Raises:
        SourceError: a file is no Parquet file.
    """
    kinds: dict[str, dict[pa.DataType, str]] = {}
    schemas = {path: _schema(source, path, storage) for path in paths}
    for path, schema in schemas.items():
        for field in schema:
            kinds.setdefault(field.name, {}).setdefault(_plain(field.type), path)
    columns: dict[str, pa.DataType | None] = {}
    differing = {}
    for name, each in kinds.items():
        known = {kind: path for kind, path in each.items() if not pa.types.is_null(kind)} or each
        columns[name] = _united(list(known))
        if len(known) > 1 and not _widen(list(known)):
            differing[name] = known
    return Union(columns, differing, {path: schema.names for path, schema in schemas.items()})


def fitted_rows(
    source: FileSource, storage: ObjectStorage | None, path: str, types: Mapping[str, DType]
) -> Iterator[pa.RecordBatch]:
    """The rows of one file, each column fitted to its type; null where the file lacks it.

    Raises:
        SourceError: while they are read: a value does not fit.
    """
    schema = pa.schema([(name, dtype.arrow()) for name, dtype in types.items()])
    try:
        with pyarrow.parquet.ParquetFile(for_arrow(path, storage)) as file:
            there = [name for name in types if name in file.schema_arrow.names]
            first = 1
            for batch in file.iter_batches(columns=there or None):
                yield _fitted(source, path, batch, types, schema, first)
                first += batch.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        raise _not_parquet(source, path, error) from error


def _fitted(
    source: FileSource, path: str, batch: pa.RecordBatch, types: Mapping[str, DType], schema: pa.Schema, first: int
) -> pa.RecordBatch:
    columns = []
    for name, dtype in types.items():
        if name not in batch.schema.names:
            columns.append(pa.nulls(batch.num_rows, dtype.arrow()))
            continue
        column, misfits = fit(batch.column(name), dtype)
        if misfits:
            row, reason = misfits[0]
            raise refused(
                source, f"column {name!r} is {batch.schema.field(name).type} in file {path!r} and does not fit {dtype} "
                f"in row {first + row}: {reason}", hint="write all files with one type, or declare one that fits all",
            )  # fmt: skip
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _schema(source: FileSource, path: str, storage: ObjectStorage | None) -> pa.Schema:
    try:
        return _read_schema(path, stamp_of(path, storage), storage)
    except (pa.ArrowInvalid, OSError) as error:
        raise _not_parquet(source, path, error) from error


@lru_cache(maxsize=16384)
def _read_schema(path: str, stamp: tuple[str, int], storage: ObjectStorage | None) -> pa.Schema:
    """The columns of a file; one that did not change is not opened again."""
    schema: pa.Schema = pyarrow.parquet.read_schema(for_arrow(path, storage))
    return schema.remove_metadata()


def _not_parquet(source: FileSource, path: str, error: Exception) -> Exception:
    hint = "check path= and file_format="
    if isinstance(error, FileNotFoundError):
        return refused(source, f"file {path} is gone", hint="check that the files exist and are complete")
    return refused(source, f"{path} is not a parquet file: {str(error).splitlines()[0]}", hint=hint)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without what only says how its values are laid out."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def _widen(kinds: Sequence[pa.DataType]) -> bool:
    """Whether every engine unites the types without a loss, as `_united` does: all integers, or all floats."""
    return all(map(pa.types.is_signed_integer, kinds)) or all(map(pa.types.is_floating, kinds))


def _may_be(kind: pa.DataType, declared: DType) -> bool:
    """Whether values of the type may fit a declared one."""
    found = from_arrow(kind)
    if found is None:
        return False
    numbers = found.is_numeric and declared.is_numeric
    return numbers or found == declared or {found.name, declared.name} <= {"Date", "Timestamp"}


def _united(kinds: Sequence[pa.DataType]) -> pa.DataType | None:
    """The narrowest of our types that holds the values of all, where each value is looked at; None: there is none."""
    if len(kinds) == 1:
        return kinds[0]
    if all(map(pa.types.is_signed_integer, kinds)):
        return max(kinds, key=lambda kind: kind.bit_width)
    if all(map(pa.types.is_floating, kinds)):
        return max(kinds, key=lambda kind: kind.bit_width)
    found = [from_arrow(kind) for kind in kinds]
    known = [each for each in found if each is not None]
    if len(known) < len(found):
        return None
    if all(each.is_integer for each in known):
        return Int64.arrow()
    if all(each.is_integer or each.is_float for each in known):
        return Float64.arrow()
    if all(each.is_integer or each.name == "Decimal" for each in known):
        return _decimal(known)
    if all(each in (Date, Timestamp) for each in known):
        return Timestamp.arrow()
    return None


def _decimal(known: Sequence[DType]) -> pa.DataType | None:
    digits = {"Int32": 10, "Int64": 19}
    scale = max(each.scale for each in known)
    whole = max(digits.get(each.name, each.precision - each.scale) for each in known)
    return Decimal(whole + scale, scale).arrow() if whole + scale <= 38 else None


__all__ = ["Union", "fitted_rows", "union_of"]
