"""What a source of rows can do: say which columns it has, and hand its rows to an engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import pyarrow as pa

from asof.definitions import Source
from asof.dtypes import DType
from asof.timing import Micros


@dataclass(frozen=True)
class SourceColumn:
    """A column that a source really has.

    Args:
        dtype: our type for it; None where we have none.
        arrow: its Arrow type, as text for messages.
    """

    name: str
    dtype: DType | None
    arrow: str


@dataclass(frozen=True)
class ScanRequest:
    """What an engine needs of a source, so that no more is fetched.

    Args:
        columns: names in the source.
        start, end: event times, both inclusive; None is open.
        keys: values that the key columns take, where they are few: column → values.
        news: only rows that were written down from the first moment on (or do not say when), or that happened from the
            second on; None is all rows.
        within: what the `snapshot` of the rows' database answered, so that several sources are read as of one moment.
    """

    columns: Sequence[str] = ()
    start: Micros | None = None
    end: Micros | None = None
    keys: dict[str, pa.Array] | None = None
    news: tuple[Micros, Micros | None] | None = None
    within: object = None


ArchiveOrder: TypeAlias = Literal["", "offsets", "stamps"]
"""What the arrival of an archive's rows (`asof.sql.arrival`) comes to where all are of one topic and none came again.

`offsets`: none has a stamp, so it is offset and partition. `stamps`: all have one. Empty: nothing is known.
"""


@dataclass(frozen=True)
class Files:
    """Rows in files that the engine reads natively; arrival is (file, row number), in the order of the paths.

    Args:
        format: `parquet` or `csv`.
        schema: columns that rows have though a file lacks them: its rows have nulls there. None is the files' own.
        order: of an archive's rows, in what short way they can be ordered.
    """

    paths: tuple[str, ...]
    format: str = "parquet"
    schema: pa.Schema | None = None
    order: ArchiveOrder = ""


class Database(Protocol):
    """What several sources may be in, so that one read sees all of them as of one moment."""

    @property
    def server(self) -> Hashable:
        """Equal where a table's whole name means the same table."""
        ...

    @property
    def identity(self) -> Hashable:
        """Equal where one snapshot serves both, and a table's short name means the same table, too."""
        ...

    def snapshot(self) -> AbstractContextManager[object]:
        """Hold one moment; what it answers goes into `ScanRequest.within`."""
        ...


@dataclass(frozen=True)
class Batches:
    """Rows that are fetched as Arrow; they have no arrival.

    Args:
        open: fetches them; the reader ends before the next one of the same snapshot is opened.
        database: where they are, if others may be there as well.
        relation: what stands for them in a FROM clause of that database.
    """

    schema: pa.Schema
    open: Callable[[ScanRequest], pa.RecordBatchReader]
    database: Database | None = None
    relation: str = ""


@dataclass(frozen=True)
class Relation:
    """Rows that stand in the engine's own database, under a quoted name; they have no arrival.

    Args:
        order: of an archive's rows, in what short way they can be ordered.
    """

    name: str
    order: ArchiveOrder = ""


Input: TypeAlias = Files | Batches | Relation


class CountsInPlace(Protocol):
    """Counts rows where they are, so that a check does not fetch them."""

    def nulls(self, source: Source, columns: Sequence[str]) -> dict[str, str]:
        """Columns that hold nulls, and how many in words; what takes too long to find out is left out.

        Raises:
            SourceError: the source cannot be reached, or is not there.
        """
        ...

    def count(self, source: Source) -> str:
        """How many rows there are, in words; an estimate where counting would take long.

        Raises:
            SourceError: the source cannot be reached, or is not there.
        """
        ...


class SourceReaderDefaults:
    """What a reader may do without; `SourceReader` says what each means."""

    on_server: ClassVar[bool] = False

    @property
    def counts(self) -> CountsInPlace | None:
        return None

    def close(self) -> None:
        return None


class SourceReader(Protocol):
    """Reads one kind of source. It is made with the repository's folder.

    What a reader may do without is in `SourceReaderDefaults`, to inherit.
    """

    @property
    def on_server(self) -> bool:
        """Of the class: whether it is also made with `connections=`, which find the server of each source."""
        ...

    @property
    def counts(self) -> CountsInPlace | None:
        """Counts rows where they are; None: they have to be fetched for that."""
        ...

    def close(self) -> None:
        """Give back connections; the reader may be used again afterwards."""
        ...

    def describe(self, source: Source) -> list[SourceColumn]:
        """The columns that the source really has.

        Raises:
            SourceError: it cannot be reached, or is not there.
        """
        ...

    def scan(self, source: Source, need: ScanRequest) -> Input:
        """The source's rows, in the form that engines take.

        Raises:
            SourceError: it cannot be reached, or is not there.
        """
        ...
