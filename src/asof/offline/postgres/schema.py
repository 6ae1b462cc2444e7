"""The schema of archives and saved tables: its creation, and the names in it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from asof.connections.postgres.database import Postgres, only_row
from asof.errors import StorageError, some
from asof.sql.quoting import quote

LONGEST = 63
"""Maximum bytes of a name; Postgres truncates longer ones silently."""

_TABLES = """
CREATE TABLE IF NOT EXISTS {schema}.asof_archives (
  project text COLLATE "C", kind text COLLATE "C", name text COLLATE "C", relation text NOT NULL UNIQUE,
  version bigint NOT NULL DEFAULT 0, PRIMARY KEY (project, kind, name));
CREATE TABLE IF NOT EXISTS {schema}.asof_offsets (
  project text COLLATE "C", kind text COLLATE "C", name text COLLATE "C", partition integer, last bigint NOT NULL,
  PRIMARY KEY (project, kind, name, partition));
CREATE TABLE IF NOT EXISTS {schema}.asof_versions (
  project text COLLATE "C", kind text COLLATE "C", name text COLLATE "C", version bigint, made timestamptz NOT NULL,
  offsets jsonb NOT NULL, PRIMARY KEY (project, kind, name, version));
CREATE TABLE IF NOT EXISTS {schema}.asof_tables (
  project text COLLATE "C", name text COLLATE "C", relation text NOT NULL UNIQUE, arrow bytea NOT NULL,
  PRIMARY KEY (project, name));
"""


class ArchiveSchema:
    """One schema of a database, with the tables that list its archives and saved tables.

    Args:
        name: created with the first archive.
    """

    def __init__(self, database: Postgres, name: str) -> None:
        self.database = database
        self.name = name
        self._made = False
        self._making = threading.Lock()

    def is_made(self) -> bool:
        """Whether its own tables exist."""
        if not self._made:
            with self.database.connection("the archives' schema") as connection:
                found = connection.execute("SELECT to_regclass(%s)", [self.own("asof_tables")]).fetchone()
            self._made = found is not None and found[0] is not None
        return self._made

    def make(self) -> None:
        """Create the schema and its own tables; concurrent calls wait for each other."""
        with self._making:
            if self.is_made():
                return
            with self.database.transaction(f"schema {self.name!r}") as connection:
                lock = "SELECT pg_advisory_xact_lock(hashtext('asof'), hashtext(%s))"
                connection.execute(lock, [self.name])
                known = connection.execute("SELECT to_regnamespace(%s)", [quote(self.name)]).fetchone()
                # IF NOT EXISTS requires the right to create schemas even if the schema exists.
                if known is None or known[0] is None:
                    connection.execute(self.sql("CREATE SCHEMA {schema}"))
                connection.execute(self.sql(_TABLES))
            self._made = True

    def add_columns(
        self, connection: psycopg.Connection[Any], what: str, table: str, columns: Sequence[tuple[str, str]]
    ) -> None:
        """Add columns to a table in it, in the connection's transaction.

        Args:
            columns: name and SQL type of each.

        Raises:
            StorageError: the user does not own the table, which no grant replaces.
        """
        added = ", ".join(f"ADD COLUMN {quote(name)} {sql_type}" for name, sql_type in columns)
        change = f"ALTER TABLE {table} {added}"
        try:
            with connection.transaction():
                connection.execute(plain(change))
        except psycopg.errors.InsufficientPrivilege as error:
            query = "SELECT relowner::regrole::text FROM pg_class WHERE oid = to_regclass(%s)"
            (owner,) = only_row(connection.execute(query, [table]))
            one = len(columns) == 1
            raise StorageError(
                f"{what} lacks {'column' if one else 'columns'} {some([name for name, _ in columns])} in "
                f"{self.database.place.address}, and only the owner of its table, {owner}, may add "
                f"{'it' if one else 'them'}",
                hint=f"as {owner}, run `{change}`; or let {self.database.place.user!r} act as the owner: "
                f"`GRANT {owner} TO {quote(self.database.place.user)}`",
            ) from error

    def own(self, relation: str) -> str:
        """The qualified name of a relation in it."""
        return f"{quote(self.name)}.{quote(relation)}"

    def sql(self, statement: str) -> sql.Composed:
        """A statement with `{schema}` replaced."""
        return sql.SQL(statement).format(schema=plain(quote(self.name)))


def relation_name(*parts: str) -> str:
    """A readable table name from its content; if too long, the end is replaced by a hash."""
    whole = "__".join(parts)
    if len(whole.encode()) <= LONGEST:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:12]
    return whole.encode()[: LONGEST - 13].decode("utf-8", "ignore") + "_" + digest


def check_types(archive: str, columns: Sequence[tuple[str, str]], known: Mapping[str, str]) -> None:
    """Check that an archive has columns as these types, as far as it has them.

    Args:
        columns: name and SQL type of each.
        known: column of the archive → its SQL type.

    Raises:
        StorageError: one is of another type.
    """
    for name, sql_type in columns:
        if known.get(name, sql_type) != sql_type:
            raise StorageError(
                f"archive {archive!r} holds column {name!r} as {known[name]}; the source now declares "
                f"{sql_type}, and archived events keep their type",
                hint="restore the column's type, or declare a new column or source for the new one",
            )


def plain(statement: str) -> sql.SQL:
    """A statement whose names are quoted already."""
    return sql.SQL(statement)


__all__ = ["LONGEST", "ArchiveSchema", "check_types", "plain", "relation_name"]
