"""The rows of Parquet files as Arrow, for engines that do not read files themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from asof.errors import SourceError
from asof.sources.protocol import Files


def read_files(files: Files, columns: Sequence[str] = ()) -> pa.RecordBatchReader:
    """The rows in the order of the files, with nulls in columns that a file lacks.

    Args:
        columns: those that are needed; all where empty.

    Raises:
        SourceError: a file cannot be read.
    """
    # It loads pandas where that is installed, 40 MB that whoever opens an offline store would pay for.
    from pyarrow.dataset import dataset

    try:
        own = files.partitions.column_names if files.partitions is not None else []
        schema = (
            pa.schema([each for each in files.schema if each.name not in own]) if files.schema is not None else None
        )
        found = dataset(list(files.paths), schema=schema, filesystem=_file_system(files))
        chosen = [name for name in found.schema.names if not columns or name in columns]
        if files.partitions is None:
            return found.scanner(columns=chosen, use_threads=False).to_reader()
        more = [name for name in own if not columns or name in columns]
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(files.paths[0], error) from error
    partitions = files.partitions.select(more)
    made = pa.schema([*(found.schema.field(name) for name in chosen), *partitions.schema])
    return pa.RecordBatchReader.from_batches(made, _file_by_file(files, found.schema, partitions, made))


def _file_system(files: Files) -> Any:
    """What Arrow reads the files through; None for those of this machine."""
    if files.storage is None:
        return None
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(files.storage.files))


def _file_by_file(files: Files, schema: pa.Schema, partitions: pa.Table, made: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of one file after the other, with the values that its folders give."""
    from pyarrow.dataset import dataset

    chosen = made.names[: len(made) - partitions.num_columns]
    for at, path in enumerate(files.paths):
        try:
            found = dataset([path], schema=schema, filesystem=_file_system(files))
            for batch in found.scanner(columns=chosen, use_threads=False).to_batches():
                values = [pa.repeat(partitions[name][at], batch.num_rows) for name in partitions.column_names]
                yield pa.RecordBatch.from_arrays([*batch.columns, *values], schema=made)
        except (OSError, pa.ArrowInvalid) as error:
            raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> SourceError:
    return SourceError(
        f"file {path!r} cannot be read: {str(error).splitlines()[0]}",
        hint="check that the files exist and are complete",
    )


__all__ = ["read_files"]
