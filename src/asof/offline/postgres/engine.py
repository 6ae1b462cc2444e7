"""The offline store that computes inside a Postgres database: the entity frame is sent there, the result comes back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from asof.connections.duckdb import Evaluator
from asof.connections.postgres.database import Postgres
from asof.defaults import SQL_READS, WORK_MEM
from asof.errors import StorageError
from asof.expressions.dialects import DUCKDB
from asof.offline.postgres.archives import PostgresArchives
from asof.offline.postgres.frame_sql import tables_in
from asof.offline.postgres.profile import profile
from asof.offline.postgres.results import (
    PostgresPointInTimeResult,
    PostgresServer,
    PostgresSqlResult,
    PostgresViewRowsResult,
)
from asof.offline.postgres.session import Given, relation_in, rows_of
from asof.offline.protocol import Engine, Spine
from asof.profiles.summary import MeasuredRows
from asof.sources.protocol import Files, Input
from asof.sql.postgres.dialect import POSTGRES
from asof.sql.profile import ProfiledRows, ProfiledTable
from asof.sql.query import PointInTime, ViewRows
from asof.sql.row_select import RowSelect

_OWN_FUNCTIONS = """
SELECT DISTINCT proname::text FROM pg_catalog.pg_proc
WHERE proname = ANY (%s) AND pronamespace = 'pg_catalog'::regnamespace
"""


class PostgresEngine(Engine):
    """Runs point-in-time reads and SQL in the database, and leaves nothing there between two reads.

    Args:
        settings: server settings for each read.
        sql_reads: what SQL entity frames may read: applied `sources`, or `anything` that the database's user may.
    """

    dialect = POSTGRES
    batch_dialect = DUCKDB
    reach_hint = (
        "load its rows into that database and declare a PostgresSource, or use an offline store of type duckdb, which "
        "reads from everywhere"
    )

    def __init__(self, database: Postgres, settings: Mapping[str, str], *, sql_reads: str = SQL_READS) -> None:
        self.database = database
        self.frames_read_anything = sql_reads == "anything"
        self._server = PostgresServer(database, dict(settings))
        self._evaluator = Evaluator(threads=1)

    def run(
        self, query: PointInTime | ViewRows, inputs: Mapping[str, Given], *, spine: Spine | None = None
    ) -> PostgresPointInTimeResult | PostgresViewRowsResult:
        """A point-in-time read, or (without a spine) a read of one view's own rows.

        Args:
            inputs: source name → its rows; None where there are none. An SQL spine sees all of them by name.
            spine: the entity frame; None reads the query's time range.
        """
        if isinstance(query, ViewRows):
            return PostgresViewRowsResult(self._server, query, dict(inputs))
        if isinstance(spine, Files):
            spine = rows_of(spine).read_all()
        return PostgresPointInTimeResult(query, dict(inputs), spine, server=self._server)

    def sql(self, text: str, inputs: Mapping[str, Given]) -> PostgresSqlResult:
        """SQL text over named inputs."""
        return PostgresSqlResult(self._server, text, dict(inputs))

    def profile(
        self,
        query: ProfiledRows | ProfiledTable,
        given: Given | pa.RecordBatchReader,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> MeasuredRows:
        """Measure the columns of a view's source, or of a table, in the database."""
        name = query.view.name if isinstance(query, ProfiledRows) else query.name
        with self._server.session(f"profile of {name!r}") as opened:
            return profile(opened, query, given, progress)

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        """Evaluate expressions over a batch in this process: a round trip would cost more than the work."""
        return self._evaluator.evaluate(batch, expressions)

    def read_select(self, sql: str, *, table: str, columns: Sequence[str]) -> RowSelect:
        """Take a SELECT over single rows of a table apart, into expressions that `evaluate` takes.

        Raises:
            ValueError: it is more than that, or holds what is not known to be harmless.
        """
        return self._evaluator.read_select(sql, table=table, columns=columns)

    def tables_in(self, sql: str) -> set[str]:
        """The tables that a SELECT names.

        Raises:
            EntityFrameError: it is not one SELECT.
        """
        return tables_in(sql, anything=self.frames_read_anything, foreign=self._foreign)

    def _foreign(self, names: Collection[str]) -> Collection[str]:
        """Of the names of functions, those that are not PostgreSQL's own."""
        with self.database.connection("SQL entity frame") as connection:
            own = connection.execute(_OWN_FUNCTIONS, (list(names),)).fetchall()
        return set(names) - {name for (name,) in own}

    def reaches(self, given: Input | None) -> bool:
        """Whether rows are in this database; other rows would have to be sent for every read."""
        return given is None or bool(relation_in(self.database, given))

    def close(self) -> None:
        self._evaluator.close()
        self.database.close()


class PostgresOffline(PostgresEngine, PostgresArchives):
    """An offline store in a database: it joins there, and keeps archives and training sets as tables.

    Args:
        schema: the schema of these tables; created if missing.
        work_mem: memory of one sort or hash of a read on the server, such as `256MB`.
        sql_reads: see `PostgresEngine`.
        connection: the connection (`asof.connections.postgres.database.Postgres`).
    """

    def __init__(
        self, *, schema: str = "", work_mem: str = WORK_MEM, sql_reads: str = SQL_READS, **connection: Any
    ) -> None:
        database = Postgres(**{"label": "offline_store", "kind": StorageError, "schema": schema, **connection})
        settings = {"work_mem": work_mem.replace(" ", ""), "maintenance_work_mem": work_mem.replace(" ", "")}
        PostgresEngine.__init__(self, database, settings, sql_reads=sql_reads)
        PostgresArchives.__init__(self, database, schema or "asof")


__all__ = ["PostgresEngine", "PostgresOffline"]
