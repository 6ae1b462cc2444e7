"""The offline store that computes on a Spark Connect server: few rows are sent there, files are read there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from asof.connections.object_storage import ObjectStorage
from asof.connections.spark import SessionPool
from asof.defaults import SPARK_RETRY_S
from asof.display import counted
from asof.errors import AsofError, ConfigError, StorageError
from asof.expressions.dialects import DUCKDB
from asof.offline.delta.archives import DeltaArchives
from asof.offline.delta.pieces import first_error, index_of, pieces_address, rows_of, written_pieces
from asof.offline.protocol import Engine, QueryResult, Spine
from asof.offline.spark.executors import raise_refusal
from asof.offline.spark.files import rows_in
from asof.offline.spark.frame_sql import tables_in
from asof.offline.spark.point_in_time import SparkPointInTimeResult
from asof.offline.spark.profile import profile
from asof.offline.spark.read import Given, reading
from asof.offline.spark.results import SparkSqlResult, SparkViewRowsResult
from asof.offline.spark.server import SparkServer
from asof.offline.spark.staging import StagingFolder
from asof.profiles.summary import MeasuredRows
from asof.sources.protocol import Files, Input
from asof.sql.profile import ProfiledRows, ProfiledTable
from asof.sql.query import PointInTime, ViewRows
from asof.sql.row_select import RowSelect
from asof.sql.spark.capabilities import HOT_KEY_ROWS
from asof.sql.spark.dialect import SESSION, SPARK

_SETTINGS = {
    # A file that is gone is an error, and never no rows.
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    # Schemas are given; this is for those that are not.
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.execution.arrow.useLargeVarTypes": "false",
    # Of tables that the server writes.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}

UPLOAD_BYTES = 64 << 20
"""So many bytes of an input are sent in messages; larger inputs go through a file next to the archives."""

PIECE_ROWS = 250_000
"""So many rows are in one file of a saved table, and are sorted in memory when it is read."""


class SparkEngine(Engine):
    """Runs point-in-time reads and SQL on a Spark Connect server, and leaves nothing there between two reads."""

    dialect = SPARK
    batch_dialect = DUCKDB
    reach_hint = (
        "put the files into a folder that the Spark server and its executors see under the same path, or into object "
        "storage"
    )

    def __init__(self, server: SparkServer) -> None:
        self.server = server
        self._evaluator = server.evaluator

    def run(
        self, query: PointInTime | ViewRows, inputs: Mapping[str, Given], *, spine: Spine | None = None
    ) -> SparkPointInTimeResult | SparkViewRowsResult:
        """A point-in-time read, or (without a spine) a read of one view's own rows.

        Args:
            inputs: source name → its rows; None where there are none. An SQL spine sees all of them by name.
            spine: the entity frame; None reads the query's time range.
        """
        if isinstance(query, ViewRows):
            return SparkViewRowsResult(self.server, query, dict(inputs))
        return SparkPointInTimeResult(query, dict(inputs), spine, server=self.server)

    def sql(self, text: str, inputs: Mapping[str, Given]) -> SparkSqlResult:
        """SQL text over named inputs."""
        return SparkSqlResult(self.server, text, dict(inputs))

    def profile(
        self,
        query: ProfiledRows | ProfiledTable,
        given: Given | pa.RecordBatchReader,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> MeasuredRows:
        """Measure the columns of a view's source, or of a table, on the server."""
        name = query.view.name if isinstance(query, ProfiledRows) else query.name
        with reading(self.server, f"profile of {name!r}") as read:
            return profile(read, query, given, progress)

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
        """See `tables_in` of `frame_sql`."""
        return tables_in(sql)

    def server_problems(self, packages: Mapping[str, str], *, runs_functions: bool) -> list[AsofError]:
        """See `Engine.server_problems`."""
        with reading(self.server, "checking the server") as read:
            self.server.capabilities(read.session)
            if not runs_functions:
                return []
            refusal = self.server.executors.trial(read.session).refusal
            return [refusal] if refusal is not None else [*self.server.executors.differences(read.session, packages)]

    def reaches(self, given: Input | None) -> bool:
        """Whether the server sees these files; other rows are sent to it."""
        if not isinstance(given, Files):
            return True
        first = Files(given.paths[:1], storage=given.storage)
        with reading(self.server, f"file {given.paths[0]}") as read:
            return read.sees(first, rows_in(first))

    def close(self) -> None:
        """Close the sessions; reads of other threads are interrupted."""
        self._evaluator.close()
        self.server.pool.close()


class SparkOffline(SparkEngine, DeltaArchives):
    """Spark over Delta archives, in a folder that it sees under the same path, or in object storage.

    Args:
        path: of the archives.
        remote: the server, `sc://host:port`.
        token: a bearer token; empty for none.
        settings: of its sessions (`spark.sql.…`).
        retry_s: about how long a call is repeated while the server does not respond.
        storage: how this process reaches object storage; the server has its own settings for that.
        hot_key_rows: a key with fewer rows is not cut by day.
        piece_rows: of a piece of a saved table that the server writes (0: `PIECE_ROWS`); this process
            writes smaller tables.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        remote: str,
        token: str | None = None,
        settings: Mapping[str, Any] | None = None,
        retry_s: float = SPARK_RETRY_S,
        storage: ObjectStorage | None = None,
        upload_bytes: int = UPLOAD_BYTES,
        hot_key_rows: int = HOT_KEY_ROWS,
        piece_rows: int = 0,
    ) -> None:
        DeltaArchives.__init__(self, path, engine=self, storage=storage)
        given = {name: str(value).lower() if isinstance(value, bool) else str(value)
                 for name, value in (settings or {}).items()}  # fmt: skip
        if own := sorted(given.keys() & SESSION.keys()):
            raise ConfigError(
                f"offline_store.settings sets {own[0]}, which has one value in Asof ({SESSION[own[0]]})",
                hint="leave it out",
            )
        pool = SessionPool(remote, token=token or "", settings={**_SETTINGS, **given, **SESSION}, retry_s=retry_s)
        staging = StagingFolder(self._folder)
        server = SparkServer(
            pool, staging, upload_bytes=upload_bytes, hot_key_rows=hot_key_rows, piece_rows=piece_rows or PIECE_ROWS
        )  # fmt: skip
        SparkEngine.__init__(self, server)

    def save_result(
        self, project: str, name: str, result: QueryResult, schema: pa.Schema, *, columns: Sequence[int],
        check_frame: Callable[[pa.Table], None], check: Callable[[pa.RecordBatch], object],
        progress: Callable[[int], None],
    ) -> bool:  # fmt: skip
        """See `ResultSaver.save_result`: the server writes the rows, in pieces, next to its other tables."""
        if not isinstance(result, SparkPointInTimeResult) or not result.can_be_written():
            return False
        if isinstance(result.spine, pa.Table) and result.spine.num_rows < self.server.piece_rows:
            return False
        path = self._table_path(project, name)
        address = pieces_address(path)
        try:
            written = result.write_pieces(
                address, rows=self.server.piece_rows, check=check_frame, progress=progress
            )  # fmt: skip
            pieces = written_pieces(self._folder, address, columns)
            if (refused := first_error(self._folder, pieces)) is not None:
                raise_refusal(refused)
            found = 0
            for batch in rows_of(self._folder, pieces, schema):
                check(batch)
                found += batch.num_rows
            if found != written:
                raise StorageError(
                    f"training set: {counted(found, 'row')} of {written} were written below {address}",
                    hint="save it again; if it recurs, look at the executors' logs",
                )
            self._folder.save(path, index_of(pieces, schema))
        except BaseException:
            self._folder.drop(address)
            raise
        return True


__all__ = ["SparkEngine", "SparkOffline"]
