"""Saved tables, mainly training sets: written atomically, with their order and types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from asof.errors import StorageError
from asof.offline.postgres.arrow import columns_sql, travelling
from asof.offline.postgres.schema import ArchiveSchema, plain, relation_name
from asof.offline.postgres.session import PostgresSession
from asof.sql.quoting import quote, text

_NUMBER = "asof_row"
"""The column with the order of a saved table's rows."""


class SavedTables:
    """The tables of all projects in one schema of a database."""

    def __init__(self, schema: ArchiveSchema) -> None:
        self.database = schema.database
        self.schema = schema

    def save_table(self, project: str, name: str, rows: pa.RecordBatchReader) -> None:
        """Save rows as a table with the same columns, which appears once complete."""
        what = f"table {name!r}"
        columns = _saved_columns(rows.schema)
        relation = relation_name(project, "table", name)
        table = self.schema.own(relation)
        self.schema.make()
        reader = _WatchedRows(rows)
        try:
            with self.database.arrow(what) as connection, connection.cursor() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
                types = [
                    (column, travelling(pa.chunked_array([], each.type), each.name, exactly=True)[1])
                    for column, each in zip(columns, rows.schema)
                ]
                cursor.execute(f"CREATE TABLE {table} ({columns_sql([*types, (_NUMBER, 'bigint')])})")
                cursor.adbc_ingest(relation, reader.numbered(columns), mode="append", db_schema_name=self.schema.name)
                cursor.execute(f"CREATE UNIQUE INDEX ON {table} ({_NUMBER})")
                packed = rows.schema.serialize().to_pybytes().hex()
                cursor.execute(
                    f"INSERT INTO {self.schema.own('asof_tables')} VALUES ({text(project)}, {text(name)}, "
                    f"{text(relation)}, '\\x{packed}'::bytea) "
                    "ON CONFLICT (project, name) DO UPDATE SET arrow = excluded.arrow"
                )
        except StorageError:
            # An exception of the rows comes back as an error of the copy.
            if reader.error is not None:
                raise reader.error from None
            raise

    def load_table(self, project: str, name: str) -> pa.RecordBatchReader | None:
        """The rows saved by `save_table`, in order and in bounded memory."""
        if not self.schema.is_made():
            return None
        with self.database.connection(f"table {name!r}") as connection:
            found = connection.execute(
                self.schema.sql("SELECT relation, arrow FROM {schema}.asof_tables WHERE project = %s AND name = %s"),
                [project, name],
            ).fetchone()
        if found is None:
            return None
        relation, packed = found
        schema = pa.ipc.read_schema(pa.py_buffer(packed))
        columns = ", ".join(map(quote, _saved_columns(schema))) or "NULL AS nothing"

        def batches() -> Iterator[pa.RecordBatch]:
            what = f"table {name!r}"
            with self.database.arrow(what) as connection, connection.cursor() as cursor:
                opened = PostgresSession(self.database, cursor, {})
                _, found = opened.stream(f"SELECT {columns} FROM {self.schema.own(relation)} ORDER BY {_NUMBER}")
                for batch in found:
                    restored = [_restored(column, field.type) for column, field in zip(batch.columns, schema)]
                    yield pa.RecordBatch.from_arrays(restored, schema=schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def drop_table(self, project: str, name: str) -> None:
        """Delete the rows saved by `save_table`."""
        if not self.schema.is_made():
            return
        with self.database.transaction(f"table {name!r}") as connection:
            relation = self.schema.own(relation_name(project, "table", name))
            connection.execute(plain(f"DROP TABLE IF EXISTS {relation}"))
            connection.execute(
                self.schema.sql("DELETE FROM {schema}.asof_tables WHERE project = %s AND name = %s"),
                [project, name],
            )


class _WatchedRows:
    """Rows to copy; keeps their exception, of which the driver knows only that there was one."""

    def __init__(self, rows: pa.RecordBatchReader) -> None:
        self._rows = rows
        self.error: BaseException | None = None

    def numbered(self, columns: Sequence[str]) -> pa.RecordBatchReader:
        empty = self._sent(self._rows.schema.empty_table(), columns, 0)

        def batches() -> Iterator[pa.RecordBatch]:
            at = 0
            try:
                for batch in self._rows:
                    yield from self._sent(pa.Table.from_batches([batch]), columns, at).to_batches()
                    at += batch.num_rows
            except BaseException as error:
                self.error = error
                raise

        return pa.RecordBatchReader.from_batches(empty.schema, batches())

    def _sent(self, rows: pa.Table, columns: Sequence[str], first: int) -> pa.Table:
        sent = [travelling(rows.column(i), name, exactly=True)[0] for i, name in enumerate(rows.column_names)]
        number = pa.array(range(first, first + rows.num_rows), pa.int64())
        return pa.table([*sent, number], names=[*columns, _NUMBER])


def _saved_columns(schema: pa.Schema) -> list[str]:
    """The names of a saved table's columns: the rows' own, if short enough and unique."""
    names: list[str] = []
    for each in schema.names:
        name = relation_name(each) or "asof_empty"
        while name in names or name == _NUMBER:
            name = relation_name(name, str(len(names)))
        names.append(name)
    return names


def _restored(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """A stored column in its original Arrow type."""
    if column.type == kind:
        return column
    if pa.types.is_null(kind):
        return pa.nulls(len(column))
    if pa.types.is_dictionary(kind):
        return _restored(column, kind.value_type).dictionary_encode().cast(kind)
    if pa.types.is_duration(kind) or (pa.types.is_timestamp(kind) and pa.types.is_integer(column.type)):
        return column.cast(pa.int64()).view(kind)
    return column.cast(kind)


__all__ = ["SavedTables"]
