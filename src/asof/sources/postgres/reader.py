"""Sources in PostgreSQL: tables, views and queries, described by the server and fetched as Arrow in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from asof.connections.postgres.database import Postgres, only_row
from asof.connections.postgres.errors import is_driver_error, own_message, translate
from asof.connections.postgres.types import PostgresColumn, columns_of, fitted
from asof.definitions import PostgresSource, Source
from asof.dtypes import GREATEST_INT64, LEAST_INT64
from asof.errors import AsofError, SourceError, nearest, some
from asof.sources.postgres.counts import nulls_in, rows_in, undated_in
from asof.sources.protocol import Batches, CountsInPlace, ScanRequest, SourceColumn, SourceReaderDefaults
from asof.sql.quoting import quote
from asof.timing import EARLIEST, EPOCH, UNITS, Micros

_RELATIONS = """
SELECT CASE WHEN n.nspname = ANY(current_schemas(false)) THEN c.relname ELSE n.nspname || '.' || c.relname END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') LIMIT 2000
"""
_HOME = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%s)
"""
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ServerFinder(Protocol):
    """Finds the server of a source (`asof.opening.servers.SourceConnections`)."""

    def of(self, source: Source, kind: str) -> Any: ...


class PostgresReader(SourceReaderDefaults):
    """Reads `PostgresSource`s.

    Args:
        connections: finds the server of each source.
    """

    on_server = True

    def __init__(self, root: Path | str, *, connections: ServerFinder) -> None:
        self._connections = connections
        self._opened: dict[str, Postgres] = {}

    def describe(self, source: Source) -> list[SourceColumn]:
        """The columns of the table or query, from the server; no row is read."""
        assert isinstance(source, PostgresSource)
        columns, _, _ = self._described(source, self.database(source))
        return [SourceColumn(each.name, each.dtype, each.shown, is_text=each.is_fitted) for each in columns]

    def scan(self, source: Source, need: ScanRequest) -> Batches:
        """The source's rows; each opening fetches the columns, times and keys that are needed."""
        assert isinstance(source, PostgresSource)
        database = self.database(source)
        found, relation, search_path = self._described(source, database)
        columns = [each for each in found if each.dtype is not None]
        scanned = Scan(source, database, tuple(columns), need)
        return Batches(scanned.schema(columns), scanned.open, scanned, relation, search_path)

    @property
    def counts(self) -> CountsInPlace:
        """See `SourceReader.counts`: this reader itself."""
        return self

    def nulls(self, source: Source, columns: Sequence[str]) -> dict[str, str]:
        """Columns with nulls; columns with a NOT NULL constraint are not scanned."""
        assert isinstance(source, PostgresSource)
        with self.database(source).transaction(f"source {source.name!r}", stale=True) as connection:
            return nulls_in(connection, relation_of(source), columns, is_table=bool(source.table))

    def undated(self, source: Source, since: Micros | None = None) -> int | None:
        """Number of rows without an event time of the years 1 to 9999; None if counting takes too long."""
        assert isinstance(source, PostgresSource)
        columns, relation, _ = self._described(source, self.database(source))
        types = {each.name: each.shown for each in columns}
        with self.database(source).transaction(f"source {source.name!r}", stale=True) as connection:
            return undated_in(connection, relation, source, types, since=since)

    def count(self, source: Source) -> str:
        """Number of rows; for a large table, the estimate of the server's statistics."""
        assert isinstance(source, PostgresSource)
        with self.database(source).transaction(f"source {source.name!r}", stale=True) as connection:
            return rows_in(connection, relation_of(source), is_table=bool(source.table))

    def close(self) -> None:
        """Close all connections."""
        for database in self._opened.values():
            database.close()

    def database(self, source: PostgresSource) -> Postgres:
        """The database that a source is in."""
        found = self._connections.of(source, "postgres")
        key = repr((found.label, sorted(found.options.items())))
        if key not in self._opened:
            self._opened[key] = Postgres(**found.options, label=found.label, kind=SourceError, where=found.where)
        return self._opened[key]

    def _described(self, source: PostgresSource, database: Postgres) -> tuple[list[PostgresColumn], str, str]:
        """The columns, a FROM term for the source, and the search path of the term; empty if it works with any."""
        what = f"source {source.name!r}"
        declared = {field.name: field.dtype for field in source.schema}
        try:
            with database.connection(what, stale=True) as connection:
                try:
                    columns = columns_of(connection, relation_of(source), declared)
                    if source.query:
                        (path,) = only_row(connection.execute("SELECT current_setting('search_path')"))
                        return columns, relation_of(source), path
                    return columns, _qualified(connection, source), ""
                except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
                    if not source.table:
                        raise
                    raise self._no_table(source, connection) from error
        except AsofError as error:
            error.where = error.where or source.where
            raise

    def _no_table(self, source: PostgresSource, connection: psycopg.Connection[Any]) -> SourceError:
        names = [name for (name,) in connection.execute(_RELATIONS)]
        path = connection.execute("SELECT array_to_string(current_schemas(false), ', ')").fetchone()
        # A name with a schema is looked for in that schema alone.
        searched = "" if "." in source.table else f" (schemas searched: {path[0] if path else ''})"
        return SourceError(
            f"source {source.name!r}: there is no table {source.table!r} in database {connection.info.dbname!r}"
            f"{searched}",
            hint=_in_quotes(source.table, names)
            or nearest(source.table, names)
            or (f"there are {some(sorted(names))}" if names else "check the database and the user's rights"),
            where=source.where,
        )


def _in_quotes(table: str, names: Collection[str]) -> str:
    """A hint for a table with upper case in its name: without double quotes they are read as lower case."""
    for name in (table, *(each for each in names if each.lower() == table.lower())):
        parts = [part if re.fullmatch(r"[a-z_][a-z0-9_]*", part) else quote(part) for part in name.split(".")]
        quoted = ".".join(parts)
        if name in names and quoted != table:
            return f"write table={quoted!r}: PostgreSQL reads names without double quotes as lower case"
    return ""


def _qualified(connection: psycopg.Connection[Any], source: PostgresSource) -> str:
    """A table as a FROM term that does not depend on the search path."""
    schema, name = only_row(connection.execute(_HOME, [relation_of(source)]))
    return f"{quote(schema)}.{quote(name)}"


def relation_of(source: PostgresSource) -> str:
    """The source as a term of a FROM clause."""
    if source.query:
        # A comment at the query's end must not swallow the bracket.
        return f"(\n{source.query}\n) AS asof_rows"
    return ".".join(quote(part) for part in _parts(source.table))


def _parts(table: str) -> list[str]:
    """Split `sales."Orders"` into names; unquoted plain names are lower case, as in SQL."""
    parts = re.findall(r'"((?:[^"]|"")+)"|([^."]+)', table)
    return [
        written.replace('""', '"') if written else plain.lower() if re.fullmatch(r"[A-Za-z_]\w*", plain) else plain
        for written, plain in parts
    ]  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """A source's rows, fetched on use; as a database, it gives all scans of a read one snapshot."""

    source: PostgresSource
    database: Postgres
    columns: tuple[PostgresColumn, ...]
    base: ScanRequest = ScanRequest()

    @property
    def server(self) -> Hashable:
        return self.database.identity

    @property
    def identity(self) -> Hashable:
        # Names resolve in a session's search path: another search path would read other tables.
        return (self.database.identity, self.database.schema)

    def schema(self, columns: Sequence[PostgresColumn]) -> pa.Schema:
        return pa.schema([pa.field(each.name, each.arrow()) for each in columns])

    def snapshot(self) -> AbstractContextManager[Any]:
        """One transaction with one snapshot, for this scan and others of the same database."""
        return self.database.arrow(f"source {self.source.name!r}", stale=True, repeatable=True)

    def open(self, need: ScanRequest) -> pa.RecordBatchReader:
        """The rows as a stream; the connection returns to the pool at its end."""
        need = _both(self.base, need)
        wanted = set(need.columns)
        columns = [each for each in self.columns if not wanted or each.name in wanted]
        schema = self.schema(columns)
        return pa.RecordBatchReader.from_batches(schema, self._batches(need, columns, schema))

    def _batches(
        self, need: ScanRequest, columns: Sequence[PostgresColumn], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        if need.within is not None:
            yield from self.fetched(need.within, need, columns, schema)
        else:
            with self.snapshot() as connection:
                yield from self.fetched(connection, need, columns, schema)

    def fetched(
        self, connection: Any, need: ScanRequest, columns: Sequence[PostgresColumn], schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        what = f"source {self.source.name!r}"
        try:
            with connection.cursor() as cursor:
                cursor.execute(self.text(need, columns))
                for batch in cursor.fetch_record_batch():
                    if batch.num_rows:
                        yield fitted(batch, columns, schema)
        except pa.ArrowInvalid as error:
            raise self._refused(str(error).splitlines()[0]) from error
        except Exception as error:
            if not is_driver_error(error):
                raise
            own = own_message(error)
            raise self._refused(own) if own else translate(error, what, self.database.place) from error

    def _refused(self, problem: str) -> SourceError:
        return SourceError(
            f"source {self.source.name!r}: {problem}",
            hint="fix the value, or convert the column by query=, or by its type in schema=",
            where=self.source.where,
        )

    def text(self, need: ScanRequest, columns: Sequence[PostgresColumn]) -> str:
        """The SELECT for the needed rows and columns."""
        time = next((each for each in self.columns if each.name == self.source.timestamp_field), None)
        conditions, bounded = _range(time, need, self.source.timestamp_unit) if time else ([], False)
        conditions += self._news(need, time)
        conditions += [
            condition
            for each in self.columns
            if need.keys and each.name in need.keys and (condition := _among(each, need.keys[each.name]))
        ]
        selected = [
            each.select(
                bounded=bounded and each is time,
                lenient=each.name in need.lenient,
                beyond=each is time or each.name == self.source.created_timestamp_column,
            )
            for each in columns
        ]
        where = f"\nWHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT {', '.join(selected) or 1}\nFROM {relation_of(self.source)}{where}"

    def _news(self, need: ScanRequest, time: PostgresColumn | None) -> list[str]:
        """Condition for rows that were written or happened since a time; empty if a column has no literal for it."""
        name = self.source.created_timestamp_column or self.source.timestamp_field
        created = next((each for each in self.columns if each.name == name), None)
        if need.news is None or created is None or time is None:
            return []
        written, happened = need.news
        unit = self.source.timestamp_unit
        bounds = [(created, _bound(created, written, unit, up=False))]
        bounds += [(time, _bound(time, happened, unit, up=False))] if happened is not None else []
        if not all(bound for _, bound in bounds):
            return []
        terms = [f"{quote(column.name)} >= {bound}" for column, bound in bounds]
        # A created time outside Asof's years is none.
        least = _bound(created, EARLIEST, unit, up=False)
        terms += [f"{quote(created.name)} < {least}"] if least else []
        return [f"({' OR '.join([*terms, f'{quote(created.name)} IS NULL'])})"]


def _both(first: ScanRequest, second: ScanRequest) -> ScanRequest:
    """Combine two filters: a row must pass both."""
    starts = [each for each in (first.start, second.start) if each is not None]
    ends = [each for each in (first.end, second.end) if each is not None]
    return replace(
        second,
        columns=second.columns or first.columns,
        start=max(starts, default=None),
        end=min(ends, default=None),
        keys={**(first.keys or {}), **(second.keys or {})} or None,
        news=second.news or first.news,
    )


def _range(time: PostgresColumn, need: ScanRequest, unit: str) -> tuple[list[str], bool]:
    """Conditions on the event time, and whether they exclude all times outside Asof's range."""
    conditions = []
    for moment, sign in ((need.start, ">="), (need.end, "<=")):
        bound = _bound(time, moment, unit, up=sign == "<=") if moment is not None else ""
        if bound:
            conditions.append(f"{quote(time.name)} {sign} {bound}")
    return conditions, len(conditions) == 2


def _bound(time: PostgresColumn, moment: Micros, unit: str, *, up: bool) -> str:
    """A time as a literal of the column's type; empty if there is none."""
    if time.is_array:
        return ""
    if time.is_integer and unit:
        multiplier, divisor = UNITS[unit]
        whole = moment // multiplier * divisor + (divisor if up else 0)
        return f"{whole}::int8" if LEAST_INT64 <= whole <= GREATEST_INT64 else ""
    try:
        at = EPOCH + timedelta(microseconds=moment)
    except OverflowError:
        return ""
    if time.type == "timestamptz":
        return f"TIMESTAMPTZ '{at.isoformat()}'"
    if time.type == "timestamp":
        return f"TIMESTAMP '{at.replace(tzinfo=None).isoformat()}'"
    return f"DATE '{at.date().isoformat()}'" if time.type == "date" else ""


def _among(column: PostgresColumn, values: pa.Array) -> str:
    """A condition for rows with one of the values; empty if it could miss rows that are equal to one."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if column.is_integer and pa.types.is_integer(values.type):
        if pa.types.is_uint64(values.type):
            values = values.filter(pc.less_equal(values, GREATEST_INT64))
        return f"{quote(column.name)} = ANY({_array(values.to_pylist(), 'int8')})"
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        # Text of the server has no NUL, so nothing equals a value with one.
        texts = [value for value in values.to_pylist() if value is not None and "\0" not in value]
        if column.is_text:
            return f"{quote(column.name)} = ANY({_array(texts, 'text')})"
        if column.type == "uuid" and not column.is_array:
            return f"{quote(column.name)} = ANY({_array([each for each in texts if _UUID.fullmatch(each)], 'uuid')})"
    return ""


def _array(values: Sequence[Any], type_: str) -> str:
    listed = sql.Literal([each for each in values if each is not None]).as_string(None)
    return f"{listed}::{type_}[]"
