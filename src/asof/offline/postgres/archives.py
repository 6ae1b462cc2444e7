"""Archives as tables: every event that a log delivered, appended exactly once.

An append is one transaction: it locks the archive's row in `asof_archives`, reads each partition's offset, drops rows
at or below it, copies the rest and advances the offsets. A second writer waits, then sees the first one's rows; a
writer that dies leaves nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import dbapi as adbc

from asof.connections.postgres.database import Postgres
from asof.connections.postgres.errors import sqlstate
from asof.defaults import KEEP_HOURS
from asof.errors import StorageError
from asof.offline.postgres.arrow import columns_sql, stored_as, travelling
from asof.offline.postgres.saved_tables import SavedTables
from asof.offline.postgres.schema import LONGEST, ArchiveSchema, check_types, plain, relation_name
from asof.offline.protocol import COMPACTED, LATER_COLUMNS, Archive, Archives
from asof.sources.protocol import ArchiveOrder, Relation
from asof.sql.arrival import PUSHED_AT, order_of
from asof.sql.quoting import quote, text

_TOO_LONG = "54000"
"""Postgres' error code for a value that is too long for an index."""

log = logging.getLogger("asof.archives")


class PostgresArchives(SavedTables, Archives):
    """The archives of all projects in one schema of a database.

    Args:
        schema: created with the first archive.
    """

    keeps_nul = False

    def __init__(self, database: Postgres, schema: str) -> None:
        super().__init__(ArchiveSchema(database, schema))
        self._whole: set[Archive] = set()
        self._warned: set[Archive] = set()

    # -- archives -----------------------------------------------------------------------------------------------------

    def check(self, archive: Archive, schema: pa.Schema) -> None:
        """Check that Postgres has types for these columns, and that the archive, if there is one, has the same."""
        what = f"archive {archive.name!r}"
        columns = [(each.name, _column_type(each, what)) for each in schema]
        if not self.schema.is_made():
            return
        with self.database.connection(what) as connection:
            check_types(archive.name, columns, _columns_of(connection, self._table(archive)))

    def create(self, archive: Archive, schema: pa.Schema, *, lookups: Sequence[Sequence[str]] = ()) -> None:
        """Create the archive, or add its new columns.

        Args:
            schema: the rows' columns; `partition`, `offset`, `ingested_at` and `ingest_date` among them.
            lookups: the columns of lookups: join keys, then the event time.
        """
        what = f"archive {archive.name!r}"
        columns = [(each.name, _column_type(each, what)) for each in schema]
        self.schema.make()
        with self.database.transaction(what) as connection:
            connection.execute(
                self.schema.sql(
                    "INSERT INTO {schema}.asof_archives (project, kind, name, relation) VALUES (%s, %s, %s, %s) "
                    "ON CONFLICT (project, kind, name) DO NOTHING"
                ),
                [*_key(archive), relation_name(*_key(archive))],
            )
            self._lock(connection, archive)
            table = self._table(archive)
            known = _columns_of(connection, table)
            check_types(archive.name, columns, known)
            if not known:
                connection.execute(plain(f"CREATE TABLE {table} ({columns_sql(columns)})"))
                connection.execute(plain(f'CREATE INDEX ON {table} ("partition", "offset")'))
            if added := [column for column in columns if known and column[0] not in known]:
                self.schema.add_columns(connection, what, table, added)
        self._index(archive, table, lookups)

    def append(self, archive: Archive, rows: pa.Table, through: Mapping[int, int]) -> int:
        """Append the rows that are new and advance each partition's archived offset, in one transaction.

        Args:
            rows: with `partition`, `offset`, `ingested_at` (timestamp) and `ingest_date`.
            through: partition → the last offset that these rows cover, even if its row was dropped.

        Returns:
            Number of new rows.
        """
        what = f"archive {archive.name!r}"
        if not self._exists(archive):
            self.create(archive, rows.schema)
        rows = self._with_later_columns(archive, rows)
        try:
            with self.database.arrow(what) as connection, connection.cursor() as cursor:
                return self._append(cursor, archive, rows, through)
        except StorageError as error:
            if sqlstate(error.__cause__ or error) != _TOO_LONG:
                raise
            # A key too long for an index must not stop the log: drop the index, and reads of this archive become
            # slower.
            self._drop_lookups(archive)
        with self.database.arrow(what) as connection, connection.cursor() as cursor:
            return self._append(cursor, archive, rows, through)

    def _with_later_columns(self, archive: Archive, rows: pa.Table) -> pa.Table:
        """The rows, whose columns the archive gets that an earlier version made; without them, where it cannot."""
        later = [name for name in rows.column_names if name in LATER_COLUMNS]
        if not rows.num_rows or not later or archive in self._whole:
            return rows

        def missing() -> list[str]:
            with self.database.connection(f"archive {archive.name!r}") as connection:
                known = _columns_of(connection, self._table(archive))
            return [name for name in later if name not in known]

        if missing():
            try:
                self.create(archive, rows.schema)
            except StorageError as error:
                if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
                    raise
                if archive not in self._warned:
                    self._warned.add(archive)
                    log.warning("%s; rows are archived without them (%s)", error.message, error.hint)
                return rows.drop_columns(missing())
        self._whole.add(archive)
        return rows

    def _append(self, cursor: adbc.Cursor, archive: Archive, rows: pa.Table, through: Mapping[int, int]) -> int:
        where = self._where(archive)
        cursor.execute(f"SELECT relation FROM {self.schema.own('asof_archives')} WHERE {where} FOR UPDATE")
        (relation,) = cursor.fetch_arrow_table()["relation"].to_pylist()
        cursor.execute(f'SELECT "partition", last FROM {self.schema.own("asof_offsets")} WHERE {where}')
        known = cursor.fetch_arrow_table()
        done = dict(zip(known["partition"].to_pylist(), known["last"].to_pylist()))
        news = {each: offset for each, offset in through.items() if offset > done.get(each, -1)}
        if not news:
            return 0
        fresh = _beyond(rows, done)
        if fresh.num_rows:
            sent = pa.table({name: travelling(fresh[name], name)[0] for name in fresh.column_names})
            cursor.adbc_ingest(relation, sent, mode="append", db_schema_name=self.schema.name)
        values = ", ".join(f"({_literals(archive)}, {each}, {offset})" for each, offset in sorted(news.items()))
        cursor.execute(
            f"INSERT INTO {self.schema.own('asof_offsets')} AS o VALUES {values} "
            "ON CONFLICT (project, kind, name, partition) DO UPDATE SET last = greatest(o.last, excluded.last)"
        )
        cursor.execute(self._next_version(archive))
        return fresh.num_rows

    def offsets(self, archive: Archive, partitions: Sequence[int]) -> dict[int, int]:
        """Each partition's last archived offset, else -1."""
        found: dict[int, int] = {}
        if self.schema.is_made():
            with self.database.connection(f"archive {archive.name!r}") as connection:
                rows = connection.execute(
                    plain(
                        f'SELECT "partition", last FROM {self.schema.own("asof_offsets")} WHERE {self._where(archive)}'
                    )
                )
                found = dict(rows.fetchall())
        return {partition: found.get(partition, -1) for partition in partitions}

    def rows(self, archive: Archive, *, version: int | None = None) -> Relation | None:
        """The archive's table, or its rows as of a version; None if it has no rows."""
        if not self._exists(archive) or (version is not None and version < 1):
            return None
        table = self._table(archive)
        with self.database.connection(f"archive {archive.name!r}") as connection:
            if not connection.execute(plain(f"SELECT 1 FROM {table} LIMIT 1")).fetchone():
                return None
            order = self._order(connection, archive, table)
            if version is None:
                return Relation(table, order)
            # Also for the newest version: rows appended before the read runs do not belong to it.
            found = connection.execute(
                plain(
                    f"SELECT offsets FROM {self.schema.own('asof_versions')} WHERE {self._where(archive)} "
                    f"AND version = {int(version)}"
                )
            ).fetchone()
        if found is None:
            raise StorageError(f"version {version} of archive {archive.name!r} no longer exists")
        cases = " ".join(f"WHEN {int(each)} THEN {int(offset)}" for each, offset in found[0].items())
        through = f'CASE "partition" {cases} ELSE -1 END' if cases else "-1"
        return Relation(f'(SELECT * FROM {table} WHERE "offset" <= {through}) AS asof_rows', order)

    def _order(self, connection: psycopg.Connection[Any], archive: Archive, table: str) -> ArchiveOrder:
        """How the rows can be ordered, as far as it is known without looking at them."""
        if PUSHED_AT in _columns_of(connection, table):
            return ""
        partitions = connection.execute(
            plain(f'SELECT "partition" FROM {self.schema.own("asof_offsets")} WHERE {self._where(archive)}')
        ).fetchall()
        return order_of((number for (number,) in partitions), rows=1, unstamped=1)

    def version(self, archive: Archive) -> int:
        """The archive's version, else -1."""
        if not self.schema.is_made():
            return -1
        with self.database.connection(f"archive {archive.name!r}") as connection:
            found = connection.execute(
                plain(f"SELECT version FROM {self.schema.own('asof_archives')} WHERE {self._where(archive)}")
            ).fetchone()
        return -1 if found is None else int(found[0])

    def compact(
        self, archive: Archive, *, order: Sequence[str] = (), time: str = "", keep_hours: int = KEEP_HOURS,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, int]:  # fmt: skip
        """Vacuum and analyze the table; forget versions older than `keep_hours`.

        Indexes keep the order, so that no row is rewritten: `vacuumed` is the number of forgotten versions, all else 0.
        """
        if not self._exists(archive):
            return dict.fromkeys(COMPACTED, 0)
        with self.database.connection(f"archive {archive.name!r}") as connection:
            gone = connection.execute(
                plain(
                    f"DELETE FROM {self.schema.own('asof_versions')} WHERE {self._where(archive)} "
                    f"AND made < now() - interval '{int(keep_hours)} hours' AND version < (SELECT version FROM "
                    f"{self.schema.own('asof_archives')} WHERE {self._where(archive)})"
                )
            ).rowcount
            self._vacuum(connection, archive, "(ANALYZE)")
        return dict.fromkeys(COMPACTED, 0) | {"vacuumed": gone}

    def forget(self, archive: Archive, columns: Mapping[str, Any]) -> int:
        """Delete the rows where every column has the given value, or one of a list, and free their space."""
        if not self._exists(archive):
            return 0
        terms = [
            f"{_escaped(quote(name))} = {'ANY(%s)' if isinstance(value, list) else '%s'}"
            for name, value in columns.items()
        ]
        where = " AND ".join(terms)
        with self.database.transaction(f"archive {archive.name!r}") as connection:
            self._lock(connection, archive)
            gone = connection.execute(
                plain(f"DELETE FROM {_escaped(self._table(archive))} WHERE {where}"), list(columns.values())
            ).rowcount
            if gone:
                connection.execute(plain(self._next_version(archive)))
        if gone:
            with self.database.connection(f"archive {archive.name!r}") as connection:
                self._vacuum(connection, archive, "")
        return gone

    def names(self, project: str, kind: str) -> list[str]:
        """The archives of one kind that exactly this project has."""
        if not self.schema.is_made():
            return []
        with self.database.connection(f"archives of project {project!r}") as connection:
            found = connection.execute(
                self.schema.sql(
                    "SELECT name FROM {schema}.asof_archives WHERE project = %s AND kind = %s ORDER BY name"
                ),
                [project, kind],
            )
            return [name for (name,) in found]

    def drop_project(self, project: str) -> None:
        """Delete all archives and tables of exactly this project."""
        if not self.schema.is_made():
            return
        with self.database.transaction(f"archives of project {project!r}") as connection:
            found = connection.execute(
                self.schema.sql(
                    "SELECT relation FROM {schema}.asof_archives WHERE project = %s "
                    "UNION ALL SELECT relation FROM {schema}.asof_tables WHERE project = %s"
                ),
                [project, project],
            ).fetchall()
            for (relation,) in found:
                connection.execute(plain(f"DROP TABLE IF EXISTS {self.schema.own(relation)}"))
            for table in ("asof_archives", "asof_offsets", "asof_versions", "asof_tables"):
                connection.execute(self.schema.sql(f"DELETE FROM {{schema}}.{table} WHERE project = %s"), [project])

    def _exists(self, archive: Archive) -> bool:
        return self.version(archive) >= 0

    def _lock(self, connection: psycopg.Connection[Any], archive: Archive) -> None:
        connection.execute(
            plain(f"SELECT 1 FROM {self.schema.own('asof_archives')} WHERE {self._where(archive)} FOR UPDATE")
        )

    def _index(self, archive: Archive, table: str, lookups: Sequence[Sequence[str]]) -> None:
        """Create an index for each kind of lookup, without blocking appends."""
        for columns in dict.fromkeys(tuple(each) for each in lookups):
            whole = list(dict.fromkeys([*columns, "offset", "partition"]))
            name = relation_name(*_key(archive), *columns, "index")
            with self.database.connection(f"archive {archive.name!r}") as connection:
                state = connection.execute(
                    "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass(%s)",
                    [self.schema.own(name)],
                ).fetchone()
                if state is not None and state[0]:
                    continue
                if state is not None:
                    connection.execute(plain(f"DROP INDEX IF EXISTS {self.schema.own(name)}"))
                when = "" if self.database.pgbouncer else "CONCURRENTLY "
                names = ", ".join(map(quote, whole))
                try:
                    connection.execute(plain(f"CREATE INDEX {when}IF NOT EXISTS {quote(name)} ON {table} ({names})"))
                except psycopg.Error as error:
                    if error.sqlstate != _TOO_LONG:
                        raise
                    connection.execute(plain(f"DROP INDEX IF EXISTS {self.schema.own(name)}"))

    def _drop_lookups(self, archive: Archive) -> None:
        with self.database.transaction(f"archive {archive.name!r}") as connection:
            found = connection.execute(
                "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = to_regclass(%s) "
                "AND indexrelid::regclass::text LIKE '%%index%%' AND indnatts > 2",
                [self._table(archive)],
            ).fetchall()
            for (name,) in found:
                connection.execute(plain(f"DROP INDEX IF EXISTS {name}"))

    def _vacuum(self, connection: psycopg.Connection[Any], archive: Archive, options: str) -> None:
        if self.database.pgbouncer:
            return  # not possible in a transaction; autovacuum will run
        connection.execute(plain(f"VACUUM {options} {self._table(archive)}"))

    def _next_version(self, archive: Archive) -> str:
        where = self._where(archive)
        archives, versions, offsets = map(self.schema.own, ("asof_archives", "asof_versions", "asof_offsets"))
        return (
            f"WITH moved AS (UPDATE {archives} SET version = version + 1 WHERE {where} RETURNING version) "
            f"INSERT INTO {versions} SELECT {_literals(archive)}, moved.version, "
            f'now(), coalesce((SELECT jsonb_object_agg("partition", last) FROM {offsets} '
            f"WHERE {where}), '{{}}') FROM moved"
        )

    def _table(self, archive: Archive) -> str:
        return self.schema.own(relation_name(*_key(archive)))

    def _where(self, archive: Archive) -> str:
        names = ("project", "kind", "name")
        return " AND ".join(f"{name} = {text(value)}" for name, value in zip(names, _key(archive)))


def _key(archive: Archive) -> tuple[str, str, str]:
    return archive.project, archive.kind, archive.name


def _literals(archive: Archive) -> str:
    return ", ".join(text(value) for value in _key(archive))


def _column_type(field: pa.Field, what: str) -> str:
    found = stored_as(field.type)
    if found is None:
        raise StorageError(
            f"{what}: column {field.name!r} is {field.type}, which no type of Postgres can hold",
            hint="declare it as Json, or keep the archives in Delta tables (offline_store of type duckdb)",
        )
    if len(field.name.encode()) > LONGEST:
        raise StorageError(
            f"{what}: column {field.name!r} has a name of more than {LONGEST} bytes, which Postgres would cut off",
            hint="give it a shorter name in the messages, or keep the archives in Delta tables",
        )
    return found[1]


def _columns_of(connection: psycopg.Connection[Any], table: str) -> dict[str, str]:
    found = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [table],
    )
    return dict(found.fetchall())


def _beyond(rows: pa.Table, done: Mapping[int, int]) -> pa.Table:
    keep = pa.repeat(pa.scalar(True), rows.num_rows)
    for partition, offset in done.items():
        seen = pc.and_(pc.equal(rows["partition"], partition), pc.less_equal(rows["offset"], offset))
        keep = pc.and_not(keep, seen)
    return rows.filter(keep) if rows.num_rows else rows


def _escaped(name: str) -> str:
    """A name in a statement with parameters, where `%` is escaped."""
    return name.replace("%", "%%")


__all__ = ["PostgresArchives"]
