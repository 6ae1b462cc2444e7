"""SQL expressions over Arrow batches, evaluated by an isolated DuckDB in this process, and its spill folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from asof.connections.duckdb.row_select import FUNCTIONS, SelectReader
from asof.connections.private_files import make_folder
from asof.errors import StorageError
from asof.forks import ForkListener, leave_to_parent, listen_to_forks
from asof.sql.quoting import quote
from asof.sql.row_select import RowSelect


class SpillFolder:
    """The spill folder of one DuckDB, removed when it is closed or the process ends.

    It has a random name and is private to its owner: rows are written there, and another user could have prepared a
    folder with a known name to read them. It is not shared: two DuckDBs would write files of the same names.

    Args:
        below: the folder to make it in; the system's own for temporary files where empty.

    Attributes:
        path: empty where the system has no writable folder: then nothing is spilled.

    Raises:
        StorageError: nothing can be written to `below`.
    """

    def __init__(self, below: str = "") -> None:
        try:
            if below:
                make_folder(Path(below))
            self.path = tempfile.mkdtemp(prefix="asof-duckdb-", dir=below or None)
        except OSError as error:
            if not below:
                self.path = ""
                return
            raise StorageError(
                f"nothing can be written to temp_directory {below}: {error.strerror or error}",
                hint="name a folder that this process may write to",
            ) from error
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def close(self) -> None:
        """Remove it with its contents. Calling it again changes nothing."""
        if self.path:
            self._remove()


def _remove(path: str, owner: int) -> None:
    # A forked child runs the parent's finalizers, but the folder is the parent's.
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)


class Evaluator(ForkListener):
    """Evaluates SQL expressions over batches, with one connection per thread.

    Expressions come from definitions, perhaps by way of a registry, so they are isolated: no file, no network, no
    extension, and no statement can enable them again.

    Args:
        threads: DuckDB's default is one per core.
    """

    def __init__(self, *, threads: int = 0) -> None:
        # Nothing may be downloaded without the user knowing, nor read or written on this machine, except in its own
        # spill folder.
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False, "autoload_known_extensions": False, "enable_external_access": False,
        }  # fmt: skip
        if threads:
            self._config["threads"] = threads
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._spill: SpillFolder | None = None
        self._own = threading.local()
        self._reader: SelectReader | None = None
        self._read: dict[tuple[str, str, tuple[str, ...]], RowSelect] = {}
        listen_to_forks(self)

    def after_fork_in_child(self) -> None:
        """See `ForkListener`: the engine's threads are missing in a child, so it opens an engine of its own."""
        leave_to_parent(self._connection, self._spill, self._own)
        self._lock = threading.Lock()
        self._connection, self._spill, self._own = None, None, threading.local()

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        """One column per expression's name, rows in the batch's order."""
        cursor = self._cursor_of_thread()
        columns = ", ".join(f"{sql} AS {quote(name)}" for name, sql in expressions.items())
        try:
            cursor.register("asof_batch", batch)
            try:
                return cursor.sql(f"SELECT {columns} FROM asof_batch").to_arrow_table()
            finally:
                cursor.unregister("asof_batch")
        except duckdb.Error as error:
            problem = str(error).splitlines()[0]
            raise StorageError(f"an expression cannot be evaluated: {problem}", hint="run `asof plan`") from error

    def read_select(self, sql: str, *, table: str, columns: Sequence[str]) -> RowSelect:
        """Parse a SELECT into expressions for `evaluate`.

        Raises:
            ValueError: it is more than expressions over single rows of the table, or not known to be harmless.
        """
        key = (sql, table, tuple(columns))
        if key not in self._read:  # a worker calls this before each batch
            if self._reader is None:
                self._reader = SelectReader(self._ask, self._cursor_of_thread().execute(FUNCTIONS).fetchall())
            self._read[key] = self._reader.read(sql, table=table, columns=columns)
        return self._read[key]

    def _ask(self, statement: str, value: str) -> str:
        return str(self._cursor_of_thread().execute(statement, [value]).fetchall()[0][0])

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._spill is not None:
                self._spill.close()
                self._spill = None

    def _cursor_of_thread(self) -> duckdb.DuckDBPyConnection:
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._own, "cursor", None)
        if cursor is None:
            cursor = self._own.cursor = self._cursor()
        return cursor

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                # DuckDB's default is a folder in the working directory.
                self._spill = SpillFolder()
                config = {**self._config, "temp_directory": self._spill.path}
                self._connection = duckdb.connect(":memory:", config=config)
                # Comparisons of naive and aware times follow the zone.
                self._connection.execute("SET GLOBAL TimeZone = 'UTC'")
                # The last: from here on nothing is set any more.
                self._connection.execute("SET GLOBAL lock_configuration = true")
            return self._connection.cursor()


__all__ = ["Evaluator", "SpillFolder"]
