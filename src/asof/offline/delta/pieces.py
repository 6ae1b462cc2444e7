"""Saved tables in pieces, as the executors of an engine write them: an index where the table would be, and their files.

    tables/orders.1f3a.parquet                                     the columns, no rows, and which files there are
    tables/orders.1f3a.pieces/pass=0/asof_piece=0/….parquet          rows 0 to 249,999 of the first pass, in any order
    tables/orders.1f3a.pieces/pass=0/asof_piece=1/….parquet

The files have a column that numbers the rows of a pass, and c0, c1, … for the columns of the result that was written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from asof.errors import StorageError

NUMBER, PIECE, ERROR = "asof_n", "asof_piece", "asof__error"
"""The number of a row in its pass, which piece it is in (the folder's name), and what a function refused."""

_INDEX = b"asof.pieces"
_PLACE = re.compile(r"/pass=(\d+)/asof_piece=(-?\d+)/[^/_.][^/]*\.parquet$")


@dataclass(frozen=True)
class TablePieces:
    """The files of a table.

    Args:
        address: the folder that they are below.
        files: of each piece its files' paths below the folder, in the order of the pieces.
        columns: of each column of the table the number of the column that has it in the files.
    """

    address: str
    files: tuple[tuple[str, ...], ...]
    columns: tuple[int, ...]


def pieces_address(path: str) -> str:
    """The folder of the files of a saved table."""
    return f"{path.removesuffix('.parquet')}.pieces"


def written_pieces(folder: Any, address: str, columns: Sequence[int]) -> TablePieces:
    """The files that were written below an address."""
    if folder.storage is None:
        paths = [str(each) for each in Path(address).rglob("*.parquet")]
    else:
        paths = [each.address for each in folder.storage.objects_below(address)]
    positions: dict[tuple[int, int], list[str]] = {}
    for path in sorted(paths):
        if found := _PLACE.search(path):
            positions.setdefault((int(found[1]), int(found[2])), []).append(path.removeprefix(f"{address}/"))
    return TablePieces(address, tuple(tuple(files) for _, files in sorted(positions.items())), tuple(columns))


def rows_of(folder: Any, pieces: TablePieces, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in their order; of each piece all are in memory.

    Raises:
        StorageError: a row is missing, or is there twice.
    """
    last_pass, expected = "", 0
    for files in pieces.files:
        table = pa.concat_tables([_table(folder, f"{pieces.address}/{each}") for each in files])
        if files[0].partition("/")[0] != last_pass:
            last_pass, expected = files[0].partition("/")[0], 0
        table = table.sort_by(NUMBER)
        numbers = table[NUMBER].to_numpy()
        if table[NUMBER].null_count or not np.array_equal(numbers, np.arange(expected, expected + len(numbers))):
            raise StorageError(
                f"the saved rows below {pieces.address} are not whole: rows from {expected} on are missing or twice",
                hint="save the training set again",
            )
        expected += len(numbers)
        columns = [table[f"c{place}"].cast(field.type) for place, field in zip(pieces.columns, schema, strict=True)]
        yield from pa.table(columns, schema=schema).to_batches(100_000)


def first_error(folder: Any, pieces: TablePieces) -> str | None:
    """What a function refused, as it was written in place of its rows."""
    for files in pieces.files:
        for each in files:
            if "/asof_piece=-1/" in f"/{each}":
                found = pc.drop_null(_table(folder, f"{pieces.address}/{each}")[ERROR])
                return str(found[0].as_py())
    return None


def index_of(pieces: TablePieces, schema: pa.Schema) -> pa.RecordBatchReader:
    """What is saved in the place of the table."""
    text = json.dumps({"files": pieces.files, "columns": pieces.columns})
    return schema.with_metadata({_INDEX: text.encode()}).empty_table().to_reader()


def load_saved(folder: Any, path: str) -> pa.RecordBatchReader | None:
    """The rows of a saved table, in pieces or not, in their order; None where there is none."""
    found: pa.RecordBatchReader | None = folder.load(path)
    if found is None or _INDEX not in (found.schema.metadata or {}):
        return found
    index = json.loads(found.schema.metadata[_INDEX])
    pieces = TablePieces(pieces_address(path), tuple(map(tuple, index["files"])), tuple(index["columns"]))
    schema = found.schema.remove_metadata()
    return pa.RecordBatchReader.from_batches(schema, rows_of(folder, pieces, schema))


def drop_saved(folder: Any, path: str) -> None:
    """Delete a saved table, and its pieces."""
    folder.remove(path)
    folder.drop(pieces_address(path))


def _table(folder: Any, path: str) -> pa.Table:
    source = path if folder.storage is None else folder.storage.files.open(path)
    # Not as a data set: the folders' names are no columns.
    return pyarrow.parquet.ParquetFile(source).read()


__all__ = [
    "ERROR", "NUMBER", "PIECE", "TablePieces", "drop_saved", "first_error", "index_of", "load_saved", "pieces_address",
    "rows_of", "written_pieces",
]  # fmt: skip
