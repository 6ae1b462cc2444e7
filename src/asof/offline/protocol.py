"""What an offline store can do: run compiled queries over sources and archives, and keep archives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import pyarrow as pa

from asof.defaults import BATCH_ROWS, KEEP_HOURS
from asof.expressions.dialects import SqlForms
from asof.sources.protocol import Files, Input
from asof.sql.arrival import ORIGIN_OFFSET, ORIGIN_PARTITION, PUSHED_AT
from asof.sql.dialect import Dialect
from asof.sql.query import PointInTime, ViewRows
from asof.sql.row_select import RowSelect

Spine: TypeAlias = pa.Table | Files | str
"""The entity frame of a point-in-time read: a table, files, or a SELECT over the inputs by name."""


@dataclass(frozen=True)
class Archive:
    """A table of what a log delivered.

    Args:
        project: compared exactly, so `prod` has nothing to do with `prod2`.
        name: the source's name.
        kind: `events`, or `letters` for the messages that could not be used.
    """

    project: str
    name: str
    kind: Literal["events", "letters"] = "events"


ARRIVAL_COLUMNS = ("partition", "offset", "ingested_at", "ingest_date")
"""The columns that every archive has beside its source's; no source may have columns of these names."""

LATER_COLUMNS = (PUSHED_AT, ORIGIN_PARTITION, ORIGIN_OFFSET)
"""Columns for arrival that archives of earlier versions lack; they are nullable, and no source may have them either."""


class QueryResult(Protocol):
    """Rows that are computed when `reader` is read, and not before."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def text(self) -> str:
        """The SQL that a read would run now."""
        ...

    def reader(self, batch_rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """The rows in batches, in bounded memory. Each call runs the query again."""
        ...


class Engine(Protocol):
    """Runs queries over named inputs."""

    @property
    def dialect(self) -> Dialect:
        """Of the statements that `sql` takes."""
        ...

    @property
    def batch_dialect(self) -> SqlForms:
        """Of the expressions that `evaluate` takes."""
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

    def tables_in(self, sql: str) -> set[str]:
        """The tables that a SELECT names."""
        ...

    def bucket(self, columns: Sequence[str], buckets: int) -> str:
        """SQL of a number below `buckets`, the same for rows that are equal in the columns."""
        ...

    def reaches(self, given: Input | None) -> bool:
        """Whether reads can compute over these rows as they are."""
        ...

    @property
    def reach_hint(self) -> str:
        """The next step for a user whose source this engine does not reach; empty where it reaches every source."""
        ...

    def close(self) -> None:
        """Give back what is held. Calling it again changes nothing."""
        ...


class Archives(Protocol):
    """Keeps every row that a log delivered, and tables under names."""

    @property
    def keeps_nul(self) -> bool:
        """Whether text with a NUL character is kept; where not, such rows never come here."""
        ...

    def create(self, archive: Archive, schema: pa.Schema, *, lookups: Sequence[Sequence[str]] = ()) -> None:
        """Make the archive, or add its new columns; older rows have nulls there.

        Args:
            schema: the rows' columns, `ARRIVAL_COLUMNS` among them.
            lookups: the columns by which rows will be looked up, each a view's keys and then the event time; stores
                that have indexes make them.
        """
        ...

    def append(self, archive: Archive, rows: pa.Table, through: Mapping[int, int]) -> int:
        """Append the rows that are not yet there, and move each partition's archived offset, all or nothing.

        Rows at or below their partition's archived offset are dropped, so appending again changes nothing, whoever
        appends and however late.

        Args:
            rows: of `LATER_COLUMNS` they may have some that the archive lacks: it gets them. Where this process may
                read and write, and not change what there is, the rows are kept without.
            through: partition → the last offset that these rows cover, also where no row of it is left.

        Returns:
            How many rows were new.
        """
        ...

    def offsets(self, archive: Archive, partitions: Sequence[int]) -> dict[int, int]:
        """Each partition's last archived offset; -1 where nothing was."""
        ...

    def rows(self, archive: Archive, *, version: int | None = None) -> Input | None:
        """The archive's rows as of now, or of a version; None where there are none."""
        ...

    def version(self, archive: Archive) -> int:
        """A number that grows with each change; -1 where there is no archive."""
        ...

    def compact(self, archive: Archive, *, keep_hours: int = KEEP_HOURS) -> dict[str, int]:
        """Make the archive quicker to read, its rows unchanged; files that readers may still hold stay `keep_hours`."""
        ...

    def forget(self, archive: Archive, columns: Mapping[str, object]) -> int:
        """Destroy the rows where every column has the given value, or one of a list; how many there were."""
        ...

    def save_table(self, project: str, name: str, rows: pa.RecordBatchReader) -> None:
        """Keep rows under a name, unchanged; all of them or, after an error, none. A former one is replaced."""
        ...

    def load_table(self, project: str, name: str) -> pa.RecordBatchReader | None:
        """The rows that `save_table` kept, in their order; None where there are none of that name."""
        ...

    def drop_table(self, project: str, name: str) -> None:
        """Delete the rows that `save_table` kept; nothing happens where there are none."""
        ...

    def names(self, project: str, kind: str) -> list[str]:
        """The names of the archives of one kind that exactly this project has, sorted."""
        ...

    def drop_project(self, project: str) -> None:
        """Delete all archives and tables of exactly this project."""
        ...


class OfflineStoreDefaults:
    """What a store may do without; `OfflineStore` says what it means."""

    reach_hint = "load its rows into that database and declare a source there"

    def close(self) -> None:
        return None


class OfflineStore(Engine, Archives, Protocol):
    """An engine, and archives that it reads as they are."""
