"""One read on the server: its inputs as views of a session, and its rows, which are checked to be whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TypeAlias

import pyarrow as pa

from asof.connections.spark import ServerSession
from asof.connections.spark.client import DataFrame
from asof.connections.spark.errors import DRIVER_ERRORS, is_missing_file
from asof.display import counted
from asof.offline.needs import columns_of_files
from asof.offline.snapshots import Snapshots
from asof.offline.spark.arrow import arrow_schema, is_read_from_files, struct_of, travelling, type_of
from asof.offline.spark.files import are_native, foreign_columns, frame_of, rows_in, schema_of_files
from asof.offline.spark.json_text import with_json_text
from asof.offline.spark.server import SparkServer
from asof.sources.protocol import Batches, Files, Input, ScanRequest
from asof.sql.quoting import quote_spark
from asof.sql.source_rows import ROW

_PIECE_BYTES = 16 << 20
"""Rows travel in messages of about this size."""

Given: TypeAlias = Input | pa.Table | None


class SparkRead:
    """A session of the server for one read.

    Args:
        what: what is read, for messages.

    Attributes:
        rows: name of a view → the number of its rows, as far as it is known.
    """

    def __init__(self, session: ServerSession, server: SparkServer, what: str) -> None:
        self.session, self.server, self.what = session, server, what
        self.snapshots = Snapshots()
        self.rows: dict[str, int] = {}
        self._shipped = 0
        self._staged: list[str] = []
        self._files: list[tuple[DataFrame, Files]] = []

    def close(self) -> None:
        """Delete what was written for this read."""
        for path in self._staged:
            self.server.staging.delete(path)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def table(self, select: str | DataFrame) -> pa.Table:
        """All rows of a result."""
        found = self.session.fetch(select)
        self.check()
        return found

    def stream(self, select: str | DataFrame) -> Iterator[pa.RecordBatch]:
        """The rows of a result in batches; where it cannot be known that they are all, an error ends them."""
        yield from self.session.stream(select)
        self.check()

    def schema(self, select: str | DataFrame) -> pa.Schema:
        """The columns of a SELECT; nothing runs."""
        frame = self.session.frame(select) if isinstance(select, str) else select
        return arrow_schema(frame.schema)

    def check(self) -> None:
        """See that the server has had all that it was asked over.

        Raises:
            StorageError: it has lost the session and its settings meanwhile, or has not seen all rows of the files.
        """
        if not self.session.is_alive:
            raise self.server.pool.lost(self.what)
        if self.server.ignores_missing_files(self.session):
            for frame, files in self._files:
                self._see_all(frame, files)

    def _frame_of(self, files: Files, schema: pa.Schema, *, numbered: bool) -> DataFrame:
        paths = [self.server.literal_path(self.session, each) for each in files.paths]
        return frame_of(self.session, files, schema, paths=paths, numbered=numbered)

    def sees(self, files: Files, rows: int) -> bool:
        """Whether the server finds this many rows in files."""
        foreign = foreign_columns(files)
        schema = [each for each in schema_of_files(files) if each.name not in foreign and is_read_from_files(each.type)]
        try:
            return bool(self._frame_of(files, pa.schema(schema), numbered=False).count() == rows)
        except DRIVER_ERRORS as error:
            if is_missing_file(error):
                return False
            raise

    def _see_all(self, frame: DataFrame, files: Files) -> None:
        expected, found = rows_in(files), frame.count()
        if found != expected:
            some = f"{counted(len(files.paths), 'file')} such as {files.paths[0]}"
            raise self.server.unreachable_files(
                self.what, f"it finds {counted(found, 'row')} of the {counted(expected, 'row')} of {some}"
            )

    # -- inputs -------------------------------------------------------------------------------------------------------

    def rows_of(self, given: Given, need: ScanRequest, *, describe_only: bool = False) -> pa.RecordBatchReader:
        """The rows of an input, to be sent."""
        if isinstance(given, Batches):
            if describe_only:
                return pa.schema([each for each in given.schema if each.name in need.columns]).empty_table().to_reader()
            return self.snapshots.open(given, need)
        if isinstance(given, Files):
            from asof.offline.files import read_files

            rows = read_files(given, need.columns)
            return rows.schema.empty_table().to_reader() if describe_only else rows
        assert isinstance(given, pa.Table)
        table = given.select([each for each in given.column_names if each in need.columns])
        return (table.slice(0, 0) if describe_only else table).to_reader()

    def native(self, files: Files, columns: Sequence[str], *, numbered: bool) -> DataFrame | None:
        """The rows of files that the server reads itself; None where their rows must be sent.

        Args:
            columns: those that are needed.
            numbered: number the rows.
        """
        schema = pa.schema([each for each in schema_of_files(files) if each.name in columns])
        if not are_native(schema) or (numbered and not self.server.has_row_numbers(self.session, files.paths[0])):
            return None
        folders = files.partitions.column_names if files.partitions is not None else []
        if len({name.lower() for name in (*schema.names, *folders)}) < len(schema.names) + len(folders):
            return None  # names that differ by case alone are one name to Spark
        if files.bounds is None and not foreign_columns(files).isdisjoint(schema.names):
            return None  # only of archives it is known how their files were written
        frame = self._frame_of(files, schema, numbered=numbered)
        self._files.append((frame, files))
        return frame

    def ship(self, rows: pa.RecordBatchReader, name: str, *, names: Mapping[str, str] | None = None,
             numbered: bool = False) -> dict[str, str]:  # fmt: skip
        """Send rows, and register them as a view of this name; returns column → Spark's name of its type.

        Few rows travel with the plan; of more, all go through a file.

        Args:
            names: column → its name in the view; as it is where None.
            numbered: add a number to each row.
        """
        rows = with_json_text(rows, self.server.evaluator)
        own = {each.name: (names or {}).get(each.name, each.name) for each in rows.schema}
        types = {each.name: type_of(each.type, each.name) for each in rows.schema}
        columns = [*((own[name], kind) for name, kind in types.items()), *([(ROW, "bigint")] if numbered else [])]
        struct = struct_of(columns)
        empty = _travelling(rows.schema.empty_table(), 0 if numbered else None)
        target = empty.rename_columns(struct.names).schema
        pieces = (each.rename_columns(struct.names) for each in _pieces(rows, numbered=numbered))
        held: list[pa.Table] = []
        self.rows.pop(name, None)
        for piece in pieces:
            held.append(piece)
            if sum(each.nbytes for each in held) > self.server.upload_bytes:
                self._stage(chain(held, pieces), target, name)
                return types
        self.rows[name] = sum(each.num_rows for each in held)
        views = [self._view(self.session.local(each, struct)) for each in held or [target.empty_table()]]
        union = "\nUNION ALL\n".join(f"SELECT * FROM {each}" for each in views)
        self.session.view(name, self.session.frame(union))
        return types

    def _view(self, frame: DataFrame) -> str:
        self._shipped += 1
        name = f"asof__sent_{self._shipped}"
        self.session.view(name, frame)
        return name

    def _stage(self, tables: Iterator[pa.Table], schema: pa.Schema, name: str) -> None:
        batches = (batch for table in tables for batch in table.to_batches())
        path = self.server.staging.write(pa.RecordBatchReader.from_batches(schema, batches))
        self._staged.append(path)
        files = Files((path,), schema, storage=self.server.staging.storage)
        frame = self._frame_of(files, schema, numbered=False)
        self._see_all(frame, files)
        self.session.view(name, frame)

    def expose(self, inputs: Mapping[str, Given], *, describe_only: bool = False) -> None:
        """Register inputs under their names, for SQL."""
        for name, given in inputs.items():
            if given is None:
                continue
            columns = columns_of_files(given) if isinstance(given, Files) and given.schema is not None else None
            if isinstance(given, Files):
                if columns is None:
                    columns = schema_of_files(given).names
                    columns += given.partitions.column_names if given.partitions is not None else []
                frame = self.native(given, columns, numbered=False)
                if frame is not None:
                    self.session.view(name, frame)
                    continue
            elif not isinstance(given, pa.Table | Batches):
                self.session.view(name, self.session.frame(f"SELECT * FROM {given.name}"))
                continue
            else:
                columns = list(given.schema.names)
            self.ship(self.rows_of(given, ScanRequest(columns), describe_only=describe_only), name)

    def alias(self, name: str, relation: str, names: Mapping[str, str]) -> None:
        """A view of another one whose columns have the names that users know.

        Args:
            names: column → its name in the relation.
        """
        shown = ", ".join(f"{quote_spark(own)} AS {quote_spark(column)}" for column, own in names.items())
        self.session.view(name, self.session.frame(f"SELECT {shown or '*'} FROM {relation}"))


def _pieces(rows: pa.RecordBatchReader, *, numbered: bool) -> Iterator[pa.Table]:
    """The rows in their travelling form, in tables of about the size of a message."""
    at = 0
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in rows:
        each_rows = max(1, int(batch.num_rows * min(1.0, _PIECE_BYTES / max(1, batch.nbytes))))
        for start in range(0, batch.num_rows, each_rows):
            part = batch.slice(start, each_rows)
            held.append(part)
            size += part.nbytes
            if size >= _PIECE_BYTES:
                table = pa.Table.from_batches(held)
                yield _travelling(table, at if numbered else None)
                at, held, size = at + table.num_rows, [], 0
    if held:
        yield _travelling(pa.Table.from_batches(held), at if numbered else None)


def _travelling(table: pa.Table, first: int | None) -> pa.Table:
    columns = [travelling(table.column(place), name) for place, name in enumerate(table.column_names)]
    names = list(table.column_names)
    if first is not None:
        columns.append(pa.chunked_array([pa.array(range(first, first + table.num_rows), pa.int64())]))
        names.append(ROW)
    return pa.Table.from_arrays(columns, names=names)


@contextmanager
def reading(server: SparkServer, what: str, *, user_sql: bool = False) -> Iterator[SparkRead]:
    """A read, with a session of its own.

    Args:
        what: what is read, for messages.
        user_sql: whether the SQL is the user's, so that errors in it are reported as theirs.
    """
    with server.pool.session(what, user_sql=user_sql) as session:
        opened = SparkRead(session, server, what)
        try:
            with opened.snapshots:
                yield opened
        finally:
            opened.close()


__all__ = ["Given", "SparkRead", "reading"]
