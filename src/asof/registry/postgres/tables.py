"""The registry's tables in a database: made by the first write, empty to a reader until then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg

from asof.connections.postgres.database import Postgres
from asof.connections.postgres.schema import format_of, migrate, refuse_newer, schema_of

WHAT = "registry"


class PostgresTables:
    """Tables that are migrated together.

    Args:
        part: their name in the table of formats.
        steps: migration from each format of the tables to the next; `{schema}` is replaced.
    """

    def __init__(self, database: Postgres, *, part: str, steps: Sequence[str]) -> None:
        self._database = database
        self._part = part
        self._steps = steps

    @property
    def schema(self) -> str:
        """The schema of the tables, quoted."""
        return schema_of(self._database)

    def migrate(self, connection: psycopg.Connection[Any]) -> None:
        """Migrate to the newest format, in the connection's transaction."""
        migrate(self._database, connection, part=self._part, steps=self._steps, what=WHAT)

    def exist(self, connection: psycopg.Connection[Any]) -> bool:
        """Whether the tables were made."""
        return format_of(self._database, connection, part=self._part) > 0

    @contextmanager
    def reading(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to read with."""
        with self._database.connection(WHAT) as connection:
            yield connection

    def rows(self, connection: psycopg.Connection[Any], query: str, arguments: Sequence[Any]) -> list[Any]:
        """The rows of a query; none if the tables do not exist."""
        try:
            # With settings per transaction, the transaction must survive the error.
            with connection.transaction() if self._database.pgbouncer else nullcontext():
                return connection.execute(query, arguments).fetchall()
        except psycopg.errors.UndefinedTable:
            return []
        except psycopg.errors.UndefinedColumn:
            found = format_of(self._database, connection, part=self._part)
            refuse_newer(self._database, found, newest=len(self._steps), what=WHAT)
            raise
