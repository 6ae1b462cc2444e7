"""Asof's own tables in a database: a schema, and numbered migration steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

from asof.connections.postgres.database import Postgres, only_row
from asof.sql.quoting import quote

SCHEMA = "asof"
"""Default schema of the stores' tables."""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('asof ' || %s, 0))"


def schema_of(database: Postgres) -> str:
    """The schema of a store's tables, quoted."""
    return quote(database.schema or SCHEMA)


def lock(connection: psycopg.Connection[Any], name: str) -> None:
    """Take a lock of this name until the end of the transaction."""
    connection.execute(_LOCK, [name])


def migrate(
    database: Postgres, connection: psycopg.Connection[Any], *, part: str, steps: Sequence[str], what: str
) -> None:
    """Migrate the tables of one store to the newest format, in the connection's transaction. Safe to run concurrently.

    Args:
        part: the store that owns the tables, such as `registry`.
        steps: SQL from each format to the next, starting with no tables; `{schema}` is replaced. A released step is
            never changed.

    Raises:
        AsofError: the user may not make tables in the schema; those of an older format stay as they are.
    """
    schema = schema_of(database)
    lock(connection, f"formats {schema}")
    name = database.schema or SCHEMA
    # Not CREATE … IF NOT EXISTS: that requires the right to create even if the schema exists.
    if not connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [name]).fetchone():
        connection.execute(f"CREATE SCHEMA {schema}")
    if not only_row(connection.execute("SELECT to_regclass(%s)", [f"{schema}.formats"]))[0]:
        with _making(database, what):
            connection.execute(f"CREATE TABLE {schema}.formats (part text PRIMARY KEY, format int NOT NULL)")
    found = format_of(database, connection, part=part)
    refuse_newer(database, found, newest=len(steps), what=what)
    for step in steps[found:]:
        with _making(database, what):
            connection.execute(step.replace("{schema}", schema))
    if found < len(steps):
        connection.execute(
            f"INSERT INTO {schema}.formats VALUES (%s, %s) ON CONFLICT (part) DO UPDATE SET format = excluded.format",
            [part, len(steps)],
        )


@contextmanager
def _making(database: Postgres, what: str) -> Iterator[None]:
    """Say what a user needs who may use the schema, and not make tables in it."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        said = error.diag.message_primary or ""
        if not said.startswith("permission denied for schema"):
            raise
        user = database.place.user
        raise database.place.error(
            what, f"user {user!r} of {database.place.address} may not make its tables: {said}",
            hint=f"run `GRANT CREATE ON SCHEMA {schema_of(database)} TO {quote(user)}`; or do it once as a user who "
            f"may, and grant {user!r} SELECT, INSERT, UPDATE and DELETE on the tables that it made",
            cause=error,
        ) from error  # fmt: skip


def format_of(database: Postgres, connection: psycopg.Connection[Any], *, part: str) -> int:
    """The format of a store's tables; 0 if there are none."""
    schema = schema_of(database)
    if not only_row(connection.execute("SELECT to_regclass(%s)", [f"{schema}.formats"]))[0]:
        return 0
    row = connection.execute(f"SELECT format FROM {schema}.formats WHERE part = %s", [part]).fetchone()
    return int(row[0]) if row else 0


def refuse_newer(database: Postgres, found: int, *, newest: int, what: str) -> None:
    """Refuse tables in the format of a newer Asof."""
    if found > newest:
        raise database.place.error(
            what, f"the format of its tables in {database.place.address} is {found}; this Asof reads up to {newest}",
            hint="upgrade asof",
        )  # fmt: skip


__all__ = ["SCHEMA", "format_of", "lock", "migrate", "refuse_newer", "schema_of"]
