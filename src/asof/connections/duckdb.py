"""DuckDB in this process for expressions over Arrow batches: every offline store evaluates them with it."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import duckdb
import pyarrow as pa

from asof.errors import StorageError
from asof.sql.dialect import quote


class Evaluator:
    """Evaluates SQL expressions over batches; each thread has a connection of its own.

    Args:
        threads: DuckDB's default is one per core.
    """

    def __init__(self, *, threads: int = 0) -> None:
        # Nothing may be fetched from the internet behind the user's back.
        self._config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": False, "autoload_known_extensions": False,
        }  # fmt: skip
        if threads:
            self._config["threads"] = threads
        self._lock = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
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
        """Give the memory back."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                self._connection = duckdb.connect(":memory:", config=self._config)
            cursor = self._connection.cursor()
        # Per connection: comparisons of naive and aware times follow the session's zone.
        cursor.execute("SET TimeZone = 'UTC'")
        cursor.execute("SET enable_progress_bar = false")
        return cursor


__all__ = ["Evaluator"]
