"""Rows made visible to one connection of DuckDB: files as views, everything else as temporary tables."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import duckdb
import pyarrow as pa

from asof.dtypes import from_arrow
from asof.errors import EntityFrameError
from asof.offline.duckdb.errors import late_errors
from asof.sources.protocol import Files
from asof.sql.duckdb.dialect import literal, type_name
from asof.sql.quoting import quote, text

_MAGIC = re.compile(r"[\[*?]")


def view_files(cursor: duckdb.DuckDBPyConnection, name: str, files: Files, more: str = "") -> None:
    """A view of the files' rows, with nulls in the columns that no file has yet, and the values of their folders.

    Args:
        more: further columns, as SQL.
    """
    more += _of_folders(files)
    reach(cursor, files)
    cursor.execute(f"CREATE TEMP VIEW {name} AS SELECT *{more} FROM {files_sql(files)}")
    if files.schema is None:
        return
    known = {column.lower() for column, *_ in cursor.execute(f"DESCRIBE {name}").fetchall()}
    missing = [(field.name, from_arrow(field.type)) for field in files.schema if field.name.lower() not in known]
    nulls = [f"CAST(NULL AS {type_name(dtype)}) AS {quote(each)}" for each, dtype in missing if dtype is not None]
    if nulls:
        columns = ", ".join([f"*{more}", *nulls])
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT {columns} FROM {files_sql(files)}")


def reach(cursor: duckdb.DuckDBPyConnection, files: Files) -> None:
    """Let DuckDB read files in object storage, through Python: its own extension for that is not installed.

    It asks for the columns and row groups that a query needs, as of local files.
    """
    if files.storage is not None:
        try:
            cursor.register_filesystem(files.storage.files)
        except duckdb.InvalidInputException:
            pass  # it is registered


def files_sql(files: Files) -> str:
    """Files as a FROM term."""
    # Hive partitions are off: a folder's name would add or replace columns that the source does not declare.
    # To find the columns of all, DuckDB opens all, each time that it is asked for the columns.
    union = "" if len(files.paths) == 1 or files.are_alike else ", union_by_name = true"
    return f"read_parquet({_paths(files)}, hive_partitioning = false{union})"


def metadata_sql(files: Files) -> str:
    """The footers of files, a row for each column of each row group, as a FROM term."""
    return f"parquet_metadata({_paths(files)})"


def _paths(files: Files) -> str:
    return f"[{', '.join(text(_literal_path(path)) for path in files.paths)}]"


def _of_folders(files: Files) -> str:
    """The columns that have one value per file, as SQL to be added to the files' own."""
    if files.partitions is None:
        return ""
    columns = []
    for name in files.partitions.column_names:
        dtype = from_arrow(files.partitions.schema.field(name).type)
        if dtype is not None:
            values = files.partitions[name].cast(dtype.arrow()).to_pylist()
            listed = ", ".join(literal(value, dtype) for value in values)
            columns.append(f", [{listed}][CAST(file_index AS BIGINT) + 1] AS {quote(name)}")
    return "".join(columns)


def _literal_path(path: str) -> str:
    """The path as a pattern that matches only it: DuckDB treats every path as a pattern, so `a[1]` would read `a1`."""
    return path if "://" in path else _MAGIC.sub(r"[\g<0>]", path)


def copy(
    cursor: duckdb.DuckDBPyConnection,
    name: str,
    rows: pa.Table | pa.RecordBatchReader,
    *,
    names: Mapping[str, str] | None = None,
) -> None:
    """Copy rows into a temporary table of this name.

    Args:
        names: column → its name in that table; as it is where None.
    """
    caught: list[BaseException] = []
    columns = [names.get(each, each) if names else each for each in rows.schema.names]
    if isinstance(rows, pa.RecordBatchReader):
        schema = pa.schema([field.with_name(each) for field, each in zip(rows.schema, columns)])
        rows = pa.RecordBatchReader.from_batches(schema, _watched(rows, schema, caught))
    else:
        rows = rows.rename_columns(columns)
    cursor.register("asof_copied", rows)
    try:
        cursor.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM asof_copied")
    except duckdb.Error as error:
        if caught:
            # DuckDB wraps the source's error in its own; the source's error is better.
            raise caught[0] from error
        raise
    finally:
        cursor.unregister("asof_copied")


def _watched(rows: pa.RecordBatchReader, schema: pa.Schema, caught: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """The batches in the schema's names; an exception of their source is kept: it does not pass DuckDB."""
    try:
        for batch in rows:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
    except Exception as error:
        caught.append(error)
        raise


def drop(cursor: duckdb.DuckDBPyConnection, name: str) -> None:
    """Drop a table if it exists."""
    cursor.execute(f"DROP TABLE IF EXISTS {name}")


def stream(cursor: duckdb.DuckDBPyConnection, sql: str, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of a SELECT in batches."""
    relation = cursor.sql(sql)
    if relation is None:
        raise EntityFrameError("the SQL text is not a SELECT", hint="write SELECT … FROM a source")
    reader = (
        relation.to_arrow_reader(batch_rows)
        if hasattr(relation, "to_arrow_reader")
        else relation.fetch_arrow_reader(batch_rows)
    )
    yield from late_errors(reader)


def _table(relation: duckdb.DuckDBPyRelation) -> pa.Table:
    return relation.to_arrow_table()


def schema_of(cursor: duckdb.DuckDBPyConnection, sql: str) -> pa.Schema:
    """The columns of a SELECT, under the names that it gives them; nothing runs."""
    # What is wrong with the SQL, this says with the near names.
    fields = _table(cursor.sql(f"SELECT * FROM ({sql}) LIMIT 0")).schema
    # As a subquery, and in Arrow, DuckDB gives equal columns other names.
    names = [name for name, *_ in cursor.execute(f"DESCRIBE {sql}").fetchall()]
    return pa.schema([field.with_name(name) for field, name in zip(fields, names, strict=True)])


__all__ = ["copy", "drop", "files_sql", "metadata_sql", "reach", "schema_of", "stream", "view_files"]
