"""DuckDB in this process: its spill folder, and expressions over Arrow batches, for every offline store."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from asof.errors import StorageError
from asof.sql.quoting import quote


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
                Path(below).mkdir(parents=True, exist_ok=True)
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


class Evaluator:
    """Evaluates SQL expressions over batches, with one connection per thread.

    Args:
        threads: DuckDB's default is one per core.
    """

    def __init__(self, *, threads: int = 0) -> None:
        # Extensions must not be downloaded without the user knowing.
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False, "autoload_known_extensions": False,
        }  # fmt: skip
        if threads:
            self._config["threads"] = threads
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._spill: SpillFolder | None = None
        self._own = threading.local()

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        """One column per expression's name, rows in the batch's order."""
        cursor = getattr(self._own, "cursor", None)
        if cursor is None:
            cursor = self._own.cursor = self._cursor()
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

    def close(self) -> None:
        """Free the memory."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if self._spill is not None:
                self._spill.close()
                self._spill = None

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                # DuckDB's default is a folder in the working directory.
                self._spill = SpillFolder()
                config = {**self._config, "temp_directory": self._spill.path}
                self._connection = duckdb.connect(":memory:", config=config)
            cursor = self._connection.cursor()
        # Per connection: comparisons of naive and aware times follow the session's zone.
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.execute("SET enable_progress_bar = false")
        return cursor


__all__ = ["Evaluator", "SpillFolder"]
