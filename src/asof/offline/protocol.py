"""The protocol of offline stores: run compiled queries over sources and archives, and keep archives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import pyarrow as pa

from asof.defaults import BATCH_ROWS, KEEP_HOURS
from asof.errors import AsofError, UnsupportedByDialect
from asof.expressions.dialects import SqlForms
from asof.profiles.summary import MeasuredRows
from asof.sources.protocol import Files, Input
from asof.sql.arrival import ORIGIN_OFFSET, ORIGIN_PARTITION, PUSHED_AT
from asof.sql.dialect import Dialect
from asof.sql.profile import ProfiledRows, ProfiledTable
from asof.sql.query import PointInTime, ViewRows
from asof.sql.row_select import RowSelect

Spine: TypeAlias = pa.Table | Files | str
"""The entity frame of a point-in-time read: a table, files, or a SELECT over the inputs by name."""


@dataclass(frozen=True)
class Archive:
    """A table of the events or dead letters of a log.

    Args:
        project: compared exactly: `prod` does not match `prod2`.
        name: the source's name.
        kind: `events`, or `dead_letters` for dead letters.
    """

    project: str
    name: str
    kind: Literal["events", "letters"] = "events"


ARRIVAL_COLUMNS = ("partition", "offset", "ingested_at", "ingest_date")
"""The columns that every archive has in addition to its source's; no source may have columns of these names."""

LATER_COLUMNS = (PUSHED_AT, ORIGIN_PARTITION, ORIGIN_OFFSET)
"""Columns for arrival that archives of earlier versions lack; they are nullable, and no source may have them either."""


COMPACTED = (
    "added", "removed", "vacuumed", "files_before", "files_after", "bytes_before", "bytes_after", "busy",
)  # fmt: skip
"""What `Archives.compact` returns: numbers of files written, replaced and deleted; files and bytes that a reader of all
rows opens; and whether another process was at it (1), so that nothing was done. A store without files has zeros."""


class QueryResult(Protocol):
    """Lazy rows, computed when `reader` is read."""

    def schema(self) -> pa.Schema: ...

    def text(self) -> str:
        """The SQL that a read would run now."""
        ...

    def reader(self, batch_rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """The rows in batches, in bounded memory. Each call runs the query again."""
        ...


@runtime_checkable
class ReportingResult(Protocol):
    """A result that can say how far a read is before its first row comes; optional."""

    def reporting(self, progress: Callable[[int, int], None]) -> QueryResult:
        """The same rows; `progress` is given how many of the read's steps are done, and of how many."""
        ...


BatchFunction: TypeAlias = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]
"""What is run over one part of a result's rows, perhaps in another process: a picklable object of this package."""


@runtime_checkable
class DistributedResult(Protocol):
    """A result whose rows functions can take where they are computed; optional."""

    def refusal(self) -> AsofError | None:
        """Why no function can be run there, with the next step; None where one can."""
        ...

    def mapped(
        self, function: BatchFunction, schema: pa.Schema, *, keys: Sequence[str] = (), order: Sequence[str] = ()
    ) -> Iterator[pa.RecordBatch]:
        """Run a function over the rows, part by part, and return its rows in any order.

        A part whose process ends is run again: what the function does must be the same when done twice.

        Args:
            schema: of the function's rows.
            keys: all rows with equal values in these columns are in one part.
            order: columns by which each part's rows come sorted.

        Raises:
            AsofError: what the function raised, or that the work did not end.
        """
        ...


@runtime_checkable
class FinishingResult(Protocol):
    """A point-in-time read that functions can finish where it is computed; optional."""

    def takes(self, function: BatchFunction, packages: Mapping[str, str], inputs: Sequence[str]) -> bool:
        """Whether the function would do there what it does here.

        Args:
            packages: what it imports → its version here.
            inputs: the entity frame's columns that it takes.
        """
        ...

    def finished(
        self, function: BatchFunction, schema: pa.Schema, *, inputs: Sequence[str],
        check: Callable[[pa.Table], None],
    ) -> QueryResult:  # fmt: skip
        """The entity frame's columns, then those that the function makes.

        Args:
            function: has the inputs and the features, in batches; its rows are as many, in their order.
            schema: of its rows.
            check: is given the entity frame's rows beforehand, and refuses them.
        """
        ...


@runtime_checkable
class ResultSaver(Protocol):
    """A store whose engine writes the rows of a result itself; optional."""

    def save_result(
        self, project: str, name: str, result: QueryResult, schema: pa.Schema, *, columns: Sequence[int],
        check_frame: Callable[[pa.Table], None], check: Callable[[pa.RecordBatch], object],
        progress: Callable[[int], None],
    ) -> bool:  # fmt: skip
        """Save the rows of a result under a name, as `Archives.save_table` does; False where this process must.

        Args:
            schema: of the table.
            columns: of each of its columns the number of the result's column.
            check_frame: is given the entity frame's rows beforehand, and refuses them.
            check: is given all rows, in their order, as they were written and before they are saved.
            progress: given the number of rows written.
        """
        ...


class Engine(Protocol):
    """Runs queries over named inputs."""

    @property
    def dialect(self) -> Dialect:
        """SQL dialect of the statements for `sql`."""
        ...

    @property
    def batch_dialect(self) -> SqlForms:
        """SQL dialect of the expressions for `evaluate`."""
        ...

    def run(
        self,
        query: PointInTime | ViewRows,
        inputs: Mapping[str, Input | pa.Table | None],
        *,
        spine: Spine | None = None,
    ) -> QueryResult:
        """Run a compiled query (`asof.sql.query`) over named inputs.

        Args:
            spine: the entity frame of a point-in-time read; None reads the query's time range.
        """
        ...

    def sql(self, text: str, inputs: Mapping[str, Input | pa.Table]) -> QueryResult:
        """Run SQL text over named inputs."""
        ...

    def profile(
        self,
        query: ProfiledRows | ProfiledTable,
        given: Input | pa.RecordBatchReader | None,
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> MeasuredRows:
        """Measure the columns of a view's source, or of a table, in bounded memory.

        Args:
            given: the source's rows (None: there are none), or the table's.
            progress: given how many of the steps are done.

        Raises:
            UnsupportedByDialect: the engine measures no profiles.
        """
        raise UnsupportedByDialect(
            f"an offline store of type {self.dialect.name} measures no profiles", hint="use duckdb or postgres"
        )

    def evaluate(self, batch: pa.Table, expressions: Mapping[str, str]) -> pa.Table:
        """Evaluate SQL expressions over a batch: one column per name, rows in the batch's order."""
        ...

    def read_select(self, sql: str, *, table: str, columns: Sequence[str]) -> RowSelect:
        """Take a SELECT over single rows of a table apart, into expressions that `evaluate` takes.

        Args:
            columns: the table's.

        Raises:
            ValueError: it is more than that, or holds what is not known to be harmless; with what is in the way.
        """
        ...

    frames_read_anything: bool = False
    """Whether SQL entity frames may read more than applied sources, such as files."""

    def tables_in(self, sql: str) -> set[str]:
        """The tables that a SELECT names, decided on the parsed statement.

        Raises:
            EntityFrameError: it is not one SELECT, reads more than tables by their mere names without
                `frames_read_anything`, or changes what outlasts the read.
        """
        ...

    def reaches(self, given: Input | None) -> bool:
        """Whether reads can compute over these rows as they are."""
        ...

    def server_problems(self, packages: Mapping[str, str], *, runs_functions: bool) -> list[AsofError]:
        """What the engine's server cannot do, though all can be read without it; none of an engine without a server.

        Args:
            packages: what users' functions import → its version here.
            runs_functions: whether there is anything to be run by its executors.

        Raises:
            StorageError: it does not respond.
        """
        return []

    @property
    def reach_hint(self) -> str:
        """Hint for users whose source this engine cannot read; empty if it reads every source."""
        ...

    def close(self) -> None:
        """Release resources. Calling it again changes nothing."""
        ...


class Archives(Protocol):
    """Keeps every row that a log delivered, and saved tables by name."""

    @property
    def keeps_nul(self) -> bool:
        """Whether text with a NUL character can be stored; if not, such rows are never passed."""
        ...

    def check(self, archive: Archive, schema: pa.Schema) -> None:
        """Check that `create` would not refuse these columns; nothing is changed.

        Raises:
            StorageError: the store has no type for a column, or the archive holds it as another type.
        """
        ...

    def create(self, archive: Archive, schema: pa.Schema, *, lookups: Sequence[Sequence[str]] = ()) -> None:
        """Make the archive, or add its new columns; older rows have nulls there.

        Args:
            schema: the rows' columns, `ARRIVAL_COLUMNS` among them.
            lookups: the columns of lookups, each a view's keys and then the event time; stores with indexes create
                them.
        """
        ...

    def append(self, archive: Archive, rows: pa.Table, through: Mapping[int, int]) -> int:
        """Atomically append the rows that are new, and advance each partition's archived offset.

        Rows at or below their partition's archived offset are dropped, so appending again changes nothing, for any
        writer and at any time.

        Args:
            rows: may have columns of `LATER_COLUMNS` that the archive lacks: they are added to it. Where this process
                may write rows and not change the table, the rows are kept without them.
            through: partition → the last offset that these rows cover, even if its row was dropped.

        Returns:
            Number of new rows.
        """
        ...

    def offsets(self, archive: Archive, partitions: Sequence[int]) -> dict[int, int]:
        """Each partition's last archived offset, else -1."""
        ...

    def rows(self, archive: Archive, *, version: int | None = None) -> Input | None:
        """The archive's rows now or as of a version; None if there are none."""
        ...

    def version(self, archive: Archive) -> int:
        """A number that grows with each change; -1 if there is no archive."""
        ...

    def compact(
        self, archive: Archive, *, order: Sequence[str] = (), time: str = "", keep_hours: int = KEEP_HOURS,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, int]:  # fmt: skip
        """Optimize the archive's storage for reading; what readers may still use is kept for `keep_hours`.

        It may run while others append, compact and forget rows, in other processes, and may be killed at any time: no
        row is lost or doubled, and no offset changes. What was optimized before is not written again each time.

        Args:
            order: the columns that most reads look rows up by, the first one first; a store may sort by them.
            time: the one of them with the event times; empty if there is none.
            progress: given the number of rows rewritten so far, and of all to be rewritten.

        Returns:
            The numbers of `COMPACTED`.
        """
        ...

    def forget(self, archive: Archive, columns: Mapping[str, object]) -> int:
        """Delete the rows where every column has the given value, or one of a list; returns their number."""
        ...

    def save_table(self, project: str, name: str, rows: pa.RecordBatchReader) -> None:
        """Save rows under a name, unchanged and atomically. An existing table is replaced."""
        ...

    def load_table(self, project: str, name: str) -> pa.RecordBatchReader | None:
        """The rows saved by `save_table`, in their order, else None."""
        ...

    def drop_table(self, project: str, name: str) -> None:
        """Delete the rows saved by `save_table`, if any."""
        ...

    def names(self, project: str, kind: str) -> list[str]:
        """The names of the archives of one kind that exactly this project has, sorted."""
        ...

    def drop_project(self, project: str) -> None:
        """Delete all archives and tables of exactly this project."""
        ...


class OfflineStoreDefaults:
    """Defaults for optional members; see `OfflineStore` for their meaning."""

    reach_hint = "load its rows into that database and declare a source there"

    def close(self) -> None:
        return None


class OfflineStore(Engine, Archives, Protocol):
    """An engine, and archives that it reads directly."""
