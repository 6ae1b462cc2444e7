"""The embedded offline store: DuckDB computes, over files, Arrow batches and the Delta archives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa

from asof.connections.duckdb import Evaluator, SpillFolder
from asof.connections.object_storage import ObjectStorage
from asof.defaults import SQL_READS
from asof.errors import EntityFrameError, StorageError
from asof.forks import ForkListener, leave_to_parent, listen_to_forks
from asof.offline.delta.archives import DeltaArchives
from asof.offline.duckdb.errors import wrapping
from asof.offline.duckdb.frame_sql import tables_in
from asof.offline.duckdb.profile import profile
from asof.offline.duckdb.results import DuckDBPointInTimeResult, DuckDBSqlResult, DuckDBViewRowsResult
from asof.offline.protocol import Engine, Spine
from asof.profiles.summary import MeasuredRows
from asof.sources.protocol import Input
from asof.sql.duckdb.dialect import DUCKDB
from asof.sql.profile import ProfiledRows, ProfiledTable
from asof.sql.query import PointInTime, ViewRows
from asof.sql.row_select import RowSelect

CLOSE_S = 30.0
"""How long an interrupted read may take to end, when the engine is closed."""

_CLOSE_AGAIN_S = 0.02


class DuckDBEngine(Engine, ForkListener):
    """Runs point-in-time reads and SQL on an in-memory DuckDB; nothing is kept between two reads.

    Args:
        memory_limit: text like `4GB`; DuckDB's default is 80 % of the machine's memory, or of the control group's.
        threads: DuckDB's default is one per core.
        temp_directory: where sorts and joins spill, in a subfolder per engine; default: the system's folder for
            temporary files.
        partitions: in how many hash partitions of its keys each view is read, whatever its size; 0 chooses by the
            number of rows and the memory limit. For tests.
        sql_reads: what SQL entity frames may read: applied `sources`, or `anything` that DuckDB reaches.
    """

    dialect = DUCKDB
    batch_dialect = DUCKDB.forms
    reach_hint = ""

    def __init__(
        self,
        *,
        memory_limit: str = "",
        threads: int = 0,
        temp_directory: str = "",
        partitions: int = 0,
        sql_reads: str = SQL_READS,
    ) -> None:
        # Extensions must not be downloaded without the user knowing.
        config: dict[str, Any] = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        if memory_limit:
            config["memory_limit"] = memory_limit
        if threads:
            config["threads"] = threads
        self._config, self._temp_directory, self._partitions = config, temp_directory, partitions
        self.frames_read_anything = sql_reads == "anything"
        self._opening = Lock()
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._database: tuple[duckdb.DuckDBPyConnection, SpillFolder] | None = self._opened()
        self._evaluator = Evaluator(threads=threads)
        listen_to_forks(self)

    def _opened(self) -> tuple[duckdb.DuckDBPyConnection, SpillFolder]:
        # DuckDB's default is a folder in the working directory.
        spill = SpillFolder(self._temp_directory)
        try:
            return duckdb.connect(":memory:", config={**self._config, "temp_directory": spill.path}), spill
        except duckdb.Error as error:
            spill.close()
            raise StorageError(f"DuckDB does not start: {error}", hint="check the offline store's options") from error

    def after_fork_in_child(self) -> None:
        """See `ForkListener`: DuckDB's threads are missing in a child, so it opens a database of its own."""
        leave_to_parent(self._database)
        self._opening = Lock()
        self._cursors = []
        self._database = None

    def run(
        self,
        query: PointInTime | ViewRows,
        inputs: Mapping[str, Input | pa.Table | None],
        *,
        spine: Spine | None = None,
    ) -> DuckDBPointInTimeResult | DuckDBViewRowsResult:
        """A point-in-time read, or (without a spine) a read of one view's own rows.

        Args:
            inputs: source name → its rows; None where there are none. An SQL spine sees all of them by name.
            spine: the entity frame; None reads the query's time range.
        """
        if isinstance(query, ViewRows):
            return DuckDBViewRowsResult(self.session, query, dict(inputs))
        return DuckDBPointInTimeResult(query, dict(inputs), spine, open=self.session, partitions=self._partitions)

    def sql(self, text: str, inputs: Mapping[str, Input | pa.Table | None]) -> DuckDBSqlResult:
        """SQL text over named inputs."""
        return DuckDBSqlResult(self.session, text, dict(inputs))

    def profile(
        self,
        query: ProfiledRows | ProfiledTable,
        given: Input | pa.RecordBatchReader | None,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> MeasuredRows:
        """Measure the columns of a view's source, or of a table, in bounded memory."""
        with self.session() as cursor:
            return profile(cursor, query, given, progress)

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        """Evaluate SQL expressions over a batch: one column per name, rows in the batch's order."""
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
        with wrapping("SQL entity frame", user_sql=True):
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise EntityFrameError("the SQL entity frame is not one SELECT", hint="write SELECT … FROM a source")
            with self.session() as cursor:
                return tables_in(cursor, sql, anything=self.frames_read_anything)

    def reaches(self, given: Input | None) -> bool:
        """Whether reads can compute over these rows directly: DuckDB can over all."""
        return True

    def close(self) -> None:
        """Close the database; reads of other threads are interrupted.

        Raises:
            StorageError: one of them does not end.
        """
        self._evaluator.close()
        if self._database is None:
            return
        connection, spill = self._database
        until = time.monotonic() + CLOSE_S
        try:
            while not self._closed(connection):
                if time.monotonic() >= until:
                    raise StorageError(
                        f"DuckDB still runs a read, {CLOSE_S:g} s after it was interrupted",
                        hint="end the threads that read before the store is closed",
                    )
                time.sleep(_CLOSE_AGAIN_S)
        finally:
            spill.close()

    def _closed(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Interrupt what runs, and close; whether nothing ran any more."""
        for cursor in list(self._cursors):
            with suppress(duckdb.Error):
                cursor.interrupt()
        try:
            connection.close()
        except duckdb.Error:
            return False
        return True

    @contextmanager
    def session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A separate connection, whose temporary tables are private and dropped at the end."""
        with self._opening:
            self._database = self._database or self._opened()
        cursor = self._database[0].cursor()
        try:
            # Per connection: comparisons of naive and aware times follow the session's zone.
            cursor.execute("SET TimeZone = 'UTC'")
            # The engine's progress bar would be printed among results; flows report progress.
            cursor.execute("SET enable_progress_bar = false")
            self._cursors.append(cursor)
            yield cursor
        finally:
            with suppress(ValueError):  # the process was forked in between
                self._cursors.remove(cursor)
            cursor.close()


class DuckDBOffline(DuckDBEngine, DeltaArchives):
    """DuckDB over Delta archives.

    Args:
        path: the folder of the archives, or their address in object storage.
        storage: how that is reached.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        memory_limit: str = "",
        threads: int = 0,
        temp_directory: str = "",
        sql_reads: str = SQL_READS,
        storage: ObjectStorage | None = None,
    ) -> None:
        DuckDBEngine.__init__(
            self, memory_limit=memory_limit, threads=threads, temp_directory=temp_directory, sql_reads=sql_reads
        )
        DeltaArchives.__init__(self, path, engine=self, storage=storage)


__all__ = ["DuckDBEngine", "DuckDBOffline"]
