"""One transaction in Postgres for one read: inputs by name, temporary tables, results as a stream of Arrow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import pyarrow as pa
from adbc_driver_manager import dbapi as adbc

from asof.connections.postgres.database import Postgres, translate
from asof.connections.postgres.errors import is_driver_error, own_message, sqlstate
from asof.dtypes import from_arrow
from asof.errors import AsofError, EntityFrameError, Interrupted, SourceError
from asof.offline.files import read_files
from asof.offline.postgres.arrow import (
    checked_column,
    columns_sql,
    lacks_digits,
    plain_field,
    sql_type_of,
    travelling,
    with_digits_of,
)
from asof.offline.protocol import ARRIVAL_COLUMNS, LATER_COLUMNS
from asof.sources.protocol import Batches, Files, Input, Relation, ScanRequest, is_ordered
from asof.sql.names import safe_names
from asof.sql.postgres.casts import cast
from asof.sql.postgres.types import base_type, digits_of, type_name
from asof.sql.quoting import quote, text
from asof.sql.source_rows import ROW

_INDEXES = """
SELECT array_agg(a.attname::text ORDER BY k.place)
FROM pg_catalog.pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, place)
JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am m ON m.oid = c.relam
WHERE i.indrelid = to_regclass({}) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND m.amname = 'btree' AND k.place <= i.indnkeyatts
GROUP BY i.indexrelid
"""

ARRIVAL = (*ARRIVAL_COLUMNS, *LATER_COLUMNS)

Given: TypeAlias = Input | pa.Table | None


class PostgresSession:
    """A transaction with one snapshot, which leaves nothing behind.

    Args:
        settings: server settings for this transaction.
    """

    def __init__(self, database: Postgres, cursor: adbc.Cursor, settings: Mapping[str, str]) -> None:
        self._database = database
        self._cursor = cursor
        self._exposed: dict[str, str] = {}
        self._columns: dict[str, str] = {}
        self._typed: dict[str, pa.Schema] = {}
        self._has_lists = False
        self._names: dict[str, dict[str, str]] = {}
        self._views: dict[tuple[str, str], str] = {}
        self._shipped = 0
        self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # An index scan per row is planned once and runs a million times: JIT compilation and parallel workers cost more
        # than they save, and so do statistics of a temporary table beyond its size.
        values = {"jit": "off", "max_parallel_workers_per_gather": "0", "enable_memoize": "off",
                  "join_collapse_limit": "1", "synchronize_seqscans": "off",
                  "default_statistics_target": "10", **settings}  # fmt: skip
        self.execute(f"SELECT {', '.join(f'set_config({text(k)}, {text(v)}, true)' for k, v in values.items())}")

    # -- statements ---------------------------------------------------------------------------------------------------

    def execute(self, statement: str) -> None:
        self._cursor.execute(statement)

    def values(self, statement: str) -> list[Any]:
        """All values of the result, column by column."""
        self._cursor.execute(statement)
        rows = self._cursor.fetch_arrow_table()
        return [value for column in rows.columns for value in column.to_pylist()]

    def described(self, select: str) -> pa.Schema:
        """The columns of a SELECT, with the driver's names of their types; nothing runs."""
        schema: pa.Schema = self._cursor.adbc_execute_schema(select)
        return self._with_digits_of_lists(select, schema)

    def _with_digits_of_lists(self, select: str, schema: pa.Schema) -> pa.Schema:
        """The columns, those with lists of numerics with the digits that these have: the driver drops them."""
        lists = [i for i, field in enumerate(schema) if lacks_digits(field)]
        if not lists:
            return schema
        names = ", ".join(f"c{i}" for i in range(len(schema)))
        elements = ", ".join(f"c{i}[1] AS e{i}" for i in lists)
        described = self._cursor.adbc_execute_schema(f"SELECT {elements} FROM (\n{select}\n) AS asof_lists ({names})")
        for i, element in zip(lists, described, strict=True):
            schema = schema.set(i, with_digits_of(schema.field(i), element))
        return schema

    def stream(self, select: str, *, is_users: bool = False) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The result in batches, in Arrow's own types.

        Args:
            is_users: nothing has checked its times.
        """
        # Before it runs: what fails then ends the transaction.
        known = self.described(select) if self._has_lists else None
        self._cursor.execute(select)
        reader = self._cursor.fetch_record_batch()
        schema = pa.schema([plain_field(each) for each in known or reader.schema])

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in reader:
                columns = [checked_column(each, field, is_users=is_users) for each, field in zip(batch.columns, schema)]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

        return schema, batches()

    def table(self, select: str, *, is_users: bool = False) -> pa.Table:
        """The whole result, in Arrow's own types; see `stream`."""
        schema, batches = self.stream(select, is_users=is_users)
        return pa.Table.from_batches(batches, schema)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Context in which permanent tables cannot be written, whatever functions the SQL calls."""
        self.execute("SAVEPOINT asof_user")
        self.execute("SET TRANSACTION READ ONLY")
        yield
        self.execute("RELEASE SAVEPOINT asof_user")

    # -- inputs -------------------------------------------------------------------------------------------------------

    def expose(self, name: str, given: Given, *, columns: Sequence[str] = (), describe_only: bool = False) -> str:
        """Register an input under its name, for SQL; returns its term for a FROM clause.

        Args:
            columns: the columns to send; all if empty.
            describe_only: send no rows, since only types are needed.
        """
        known = self.relation(given)
        if known and isinstance(given, Batches):
            self._typed[known] = given.schema
        self._has_lists |= _may_have_lists(given)
        if not known:
            assert given is not None
            known = self.ship(rows_of(given, columns), describe_only=describe_only, numbered=is_ordered(given))
        self._exposed[name] = known
        return known

    def relation(self, given: Given) -> str:
        """The input's own term for a FROM clause, if it is in this database; else empty."""
        term = relation_in(self._database, given)
        if not isinstance(given, Batches) or not term or not given.search_path:
            return term
        if (term, given.search_path) not in self._views:
            self._views[term, given.search_path] = self._bound(term, given.search_path)
        return self._views[term, given.search_path]

    def _bound(self, term: str, search_path: str) -> str:
        """The term itself, or a view of it, where its names mean other tables in this session."""
        (own,) = self.values("SELECT current_setting('search_path')")
        if own == search_path:
            return term
        # A view keeps the tables that its names meant when it was made.
        name = f"asof__query_{len(self._views)}"
        self.execute(f"SET LOCAL search_path = {search_path}")
        self.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM {term}")
        self.execute(f"SET LOCAL search_path = {own}")
        return name

    def drop_views(self) -> None:
        """Remove the views of the transaction, which has no way to end them by itself."""
        for (term, _), name in self._views.items():
            if name != term:
                self.execute(f"DROP VIEW pg_temp.{name}")

    def ship(self, rows: pa.RecordBatchReader, *, describe_only: bool = False, numbered: bool = False) -> str:
        """Copy rows into a temporary table; returns its name."""
        self._shipped += 1
        name = f"asof__input_{self._shipped}"
        empty = rows.schema.empty_table()
        names = safe_names(empty.column_names, kept=ARRIVAL)
        columns = [(names[each], travelling(empty[each], each)[1]) for each in empty.column_names]
        number = [(ROW, "bigint")] if numbered else []
        # Users' SQL sees only the rows' own columns, under their own names.
        self._columns[name] = ", ".join(f"{quote(own)} AS {quote(each)}" for each, own in names.items())
        self._names[name] = names
        self.execute(f"CREATE TEMP TABLE {name} ({columns_sql([*columns, *number])}) ON COMMIT DROP")
        if not describe_only:
            self.copy(name, rows, numbered=numbered, names=names)
            self.execute(f"ANALYZE {name}")
        return name

    def names(self, term: str) -> dict[str, str]:
        """Column → its name in the table that was made of an input; empty for other FROM terms."""
        return self._names.get(term, {})

    def copy(
        self,
        name: str,
        rows: pa.RecordBatchReader | pa.Table,
        *,
        numbered: bool = False,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Append rows to a temporary table, binary and columnar.

        Args:
            names: column → its name in the table; as it is where None.
        """
        names = names or {}
        reader = rows.to_reader() if isinstance(rows, pa.Table) else rows

        def pieces() -> Iterator[pa.RecordBatch]:
            at = 0
            for batch in reader:
                yield from _travelling(pa.Table.from_batches([batch]), names, at if numbered else None).to_batches()
                at += batch.num_rows

        empty = _travelling(reader.schema.empty_table(), names, 0 if numbered else None)
        stream = pa.RecordBatchReader.from_batches(empty.schema, pieces())
        self._cursor.adbc_ingest(name, stream, mode="append", temporary=True)

    def with_inputs(self, select: str, *, whole: bool = True) -> str:
        """The SQL with the inputs as CTEs; they hide tables with the same names."""
        names = ", ".join(
            f"{quote(name)} AS NOT MATERIALIZED (SELECT {self._selected(name, term)} FROM {aliased(term)})"
            for name, term in self._exposed.items()
        )
        inner = f"SELECT * FROM (\n{select}\n) AS asof_q" if whole else select
        return f"WITH {names}\n{inner}" if names else inner

    def _selected(self, name: str, term: str) -> str:
        """The columns of an input for SQL: numbers of any digits are of the types that its schema has."""
        schema = self._typed.get(term)
        if schema is None or not any(pa.types.is_list(each.type) or _may_be_numeric(each.type) for each in schema):
            return self._columns.get(term, "*")
        selected = []
        for column, sql_type in self.sql_types(term).items():
            value = quote(column)
            dtype = from_arrow(schema.field(column).type) if column in schema.names else None
            is_bare = base_type(sql_type).removesuffix("[]") == "numeric" and not _is_decimal(sql_type)
            if dtype is not None and (is_bare or sql_type.endswith("[]")):
                what = f"column {column!r} of " + (f"source {name!r}" if name != "source" else "the source")
                # The result of a CASE has no digits of its own.
                value = f"CAST({cast(value, sql_type, dtype, what)} AS {type_name(dtype)}) AS {value}"
            selected.append(value)
        return ", ".join(selected)

    def indexes(self, term: str) -> tuple[tuple[str, ...], ...]:
        """The columns of each index of a table; empty for a query."""
        if term.lstrip().startswith("("):
            return ()
        return tuple(tuple(each) for each in self.values(_INDEXES.format(text(term))) if each)

    def sql_types(self, term: str) -> dict[str, str]:
        """The columns of a FROM term, and the catalog's names of their types."""
        schema = self.described(f"SELECT * FROM {aliased(term)} LIMIT 0")
        return {field.name: sql_type_of(field) for field in schema}


def _may_have_lists(given: Given) -> bool:
    """Whether an input may have lists of numerics."""
    if not isinstance(given, pa.Table | Batches):
        return True
    return given.schema is None or any(
        pa.types.is_list(each.type) and _may_be_numeric(each.type) for each in given.schema
    )


def _is_decimal(sql_type: str) -> bool:
    """Whether a numeric has the digits of one of our decimals."""
    digits = digits_of(sql_type.removesuffix("[]"))
    return digits is not None and 0 <= digits[1] <= digits[0] <= 38


def _may_be_numeric(kind: pa.DataType) -> bool:
    leaf = kind.value_type if pa.types.is_list(kind) else kind
    return bool(pa.types.is_decimal(leaf) or pa.types.is_floating(leaf) or pa.types.is_integer(leaf))


def relation_in(database: Postgres, given: Given) -> str:
    """The FROM term of an input that is in this database; else empty."""
    if isinstance(given, Relation):
        return given.name
    if not isinstance(given, Batches) or given.database is None:
        return ""
    return given.relation if given.database.server == database.identity else ""


def aliased(term: str) -> str:
    """A FROM term with an alias, which a query needs."""
    return term if re.search(r"\bAS \w+$", term) else f"{term} AS asof_r"


def rows_of(given: Given, columns: Sequence[str] = ()) -> pa.RecordBatchReader:
    """The rows of an input from elsewhere, to be sent."""
    if isinstance(given, pa.Table):
        rows = given
        return (rows.select([name for name in rows.column_names if name in columns]) if columns else rows).to_reader()
    if isinstance(given, Batches):
        return given.open(ScanRequest([name for name in given.schema.names if not columns or name in columns]))
    assert isinstance(given, Files)
    return read_files(given, columns)


def _travelling(table: pa.Table, names: Mapping[str, str], first: int | None) -> pa.Table:
    """Rows in their transfer form.

    Args:
        names: column → its name in the table that they go to.
        first: the number of the first row, if rows are numbered.
    """
    made = {names.get(name, name): travelling(table[name], name)[0] for name in table.column_names}
    if first is not None:
        made[ROW] = pa.chunked_array([pa.array(range(first, first + table.num_rows), pa.int64())])
    return pa.table(made)


@contextmanager
def session(
    database: Postgres, what: str, settings: Mapping[str, str], *, user_sql: bool = False
) -> Iterator[PostgresSession]:
    """A transaction of its own.

    Args:
        what: what is being done, for messages.
        user_sql: whether the SQL is the user's, so that errors in it are reported as theirs.
    """
    with database.arrow(what) as connection, connection.cursor() as cursor:
        try:
            opened = PostgresSession(database, cursor, settings)
            yield opened
            if user_sql:
                # What it may have set for the session goes with the transaction; the connection is used again.
                connection.rollback()
            else:
                opened.drop_views()
        except (adbc.Error, OSError) as error:
            if not is_driver_error(error):
                raise
            raise _ours(error, database, what, user_sql=user_sql) from error


def _ours(error: Exception, database: Postgres, what: str, *, user_sql: bool) -> AsofError:
    said, state = str(error), sqlstate(error)
    if "canceling statement due to user request" in said:
        return Interrupted("the query was interrupted")
    own = own_message(error)
    if own:
        return SourceError(own, hint="declare the column's actual type, or fix the value")
    if user_sql and 'encoding "UTF8": 0x00' in said:
        return EntityFrameError(
            "the entity frame has text with a NUL character, which PostgreSQL does not support",
            hint="remove NUL characters from its texts",
        )
    if user_sql and state.startswith(("0A", "21", "22", "25", "42")):
        hint = _hint(said) or "check the names of tables and columns"
        return EntityFrameError(f"{what}: {_pointed(said)}", hint=hint)
    if state.startswith("22"):
        problem = _pointed(said).splitlines()[0]
        return SourceError(
            f"{what}: a value cannot be converted: {problem}",
            hint="declare the column's actual type, or fix the value",
        )
    return translate(error, what, database.place)


def _pointed(said: str) -> str:
    """The server's message with its line of the text and the caret below the place."""
    after = said.partition("ERROR:")[2] or said
    lines = [line.rstrip() for line in after.split(". SQLSTATE")[0].splitlines() if line.strip()]
    kept = [lines[0].strip()]
    for at, line in enumerate(lines):
        if line.startswith("LINE ") and at + 1 < len(lines):
            kept += [f"    {line}", f"    {lines[at + 1]}"]
    return "\n".join(kept)


def _hint(said: str) -> str:
    found = re.search(r"HINT:\s+(.*)", said)
    return found.group(1).strip() if found else ""


__all__ = ["Given", "PostgresSession", "aliased", "relation_in", "rows_of", "session"]
