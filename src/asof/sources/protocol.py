"""The protocol of source readers: describe a source's columns, and pass its rows to an engine."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import pyarrow as pa

from asof.connections.object_storage import ObjectStorage
from asof.definitions import Source
from asof.dtypes import DType
from asof.timing import Micros


@dataclass(frozen=True)
class SourceColumn:
    """An actual column of a source.

    Args:
        dtype: Asof's type for it, or None.
        arrow: its Arrow type, as text for messages.
        is_text: its values are text, or numbers of any digits, which are fitted to the type that it is declared with.
    """

    name: str
    dtype: DType | None
    arrow: str
    is_text: bool = False


@dataclass(frozen=True)
class ScanRequest:
    """What an engine needs from a source, so that nothing else is fetched.

    Args:
        columns: names in the source.
        start, end: event times, both inclusive; None is open.
        keys: column → values of a key column, if they are few.
        news: only rows written since the first time (or without a created time), or that happened since the second;
            None is all rows.
        lenient: columns that only order rows: of these a value that does not fit may be null, and is no error.
        within: the result of `snapshot` of the rows' database, so that several sources are read in one snapshot.
    """

    columns: Sequence[str] = ()
    start: Micros | None = None
    end: Micros | None = None
    keys: dict[str, pa.Array] | None = None
    news: tuple[Micros, Micros | None] | None = None
    lenient: frozenset[str] = frozenset()
    within: object = None


ArchiveOrder: TypeAlias = Literal["", "offsets", "stamps"]
"""What the arrival of an archive's rows (`asof.sql.arrival`) comes to where all are of one topic and none came again.

`offsets`: none has a stamp, so it is offset and partition. `stamps`: all have one. Empty: nothing is known.
"""


@dataclass(frozen=True)
class Files:
    """Rows in Parquet files, which the engine reads natively.

    Args:
        schema: the columns of the rows; columns that a file lacks are null. None is the files' own.
        partitions: columns that no file has, with one value per file, in the order of the paths.
        order: of an archive's rows, the short way in which they can be ordered.
        is_ordered: whether their arrival is (file, row number), in the order of the paths; else they have none.
        storage: how paths that are addresses in object storage (`s3://…`) are read; None where they are local.
        bounds: a row per path with the least and greatest value of columns, as far as it is known without opening
            files: `min.<column>` and `max.<column>`, and the file's `bytes`. NaN is in no bounds.
        are_alike: whether each file is known to have all columns of the schema, so that one says it for all.
    """

    paths: tuple[str, ...]
    schema: pa.Schema | None = None
    partitions: pa.Table | None = None
    order: ArchiveOrder = ""
    is_ordered: bool = True
    storage: ObjectStorage | None = None
    bounds: pa.Table | None = None
    are_alike: bool = False


class Database(Protocol):
    """A database with one or more sources, which one read sees in one snapshot."""

    @property
    def server(self) -> Hashable:
        """A key that is equal where a table's qualified name means the same table."""
        ...

    @property
    def identity(self) -> Hashable:
        """A key that is equal where one snapshot serves both, and an unqualified table name means the same table."""
        ...

    def snapshot(self) -> AbstractContextManager[object]:
        """Hold one snapshot; pass the result as `ScanRequest.within`."""
        ...


@dataclass(frozen=True)
class Batches:
    """Rows that are fetched as Arrow.

    Args:
        open: fetches them; the reader ends before the next one of the same snapshot is opened.
        database: their database, if it may have other sources.
        relation: their FROM term in that database.
        search_path: where that term's unqualified names are looked for; empty if it has none.
        is_ordered: whether the order in which they come is their arrival; else they have none.
        paths: the files that they are read from, if they are.
        storage: how paths that are addresses in object storage are read.
    """

    schema: pa.Schema
    open: Callable[[ScanRequest], pa.RecordBatchReader]
    database: Database | None = None
    relation: str = ""
    search_path: str = ""
    is_ordered: bool = False
    paths: tuple[str, ...] = ()
    storage: ObjectStorage | None = None


@dataclass(frozen=True)
class Relation:
    """Rows in the engine's own database, under a quoted name; they have no arrival order.

    Args:
        order: of an archive's rows, the short way in which they can be ordered.
    """

    name: str
    order: ArchiveOrder = ""


Input: TypeAlias = Files | Batches | Relation


def is_ordered(given: object) -> bool:
    """Whether the order of the rows is their arrival."""
    return isinstance(given, Files | Batches) and given.is_ordered


class CountsInPlace(Protocol):
    """Counts rows on the server, so that a check does not fetch them."""

    def nulls(self, source: Source, columns: Sequence[str]) -> dict[str, str]:
        """Columns with nulls, and their number as text; columns that would take too long are omitted.

        Raises:
            SourceError: the source cannot be reached or does not exist.
        """
        ...

    def undated(self, source: Source, since: Micros | None = None) -> int | None:
        """Number of rows without an event time of the years 1 to 9999; None where counting would take too long.

        Args:
            since: only those that were written since then, by their created time.

        Raises:
            SourceError: the source cannot be reached or does not exist.
        """
        ...

    def count(self, source: Source) -> str:
        """Number of rows as text; an estimate where counting would take long.

        Raises:
            SourceError: the source cannot be reached or does not exist.
        """
        ...


class SourceReaderDefaults:
    """Defaults for optional members; see `SourceReader` for their meaning."""

    on_server: ClassVar[bool] = False

    @property
    def counts(self) -> CountsInPlace | None:
        return None

    def close(self) -> None:
        return None


class SourceReader(Protocol):
    """Reads one kind of source. It is made with the repository's folder.

    Inherit the optional members from `SourceReaderDefaults`.
    """

    @property
    def on_server(self) -> bool:
        """Class attribute: whether the constructor takes `connections=`, which finds the server of each source."""
        ...

    @property
    def counts(self) -> CountsInPlace | None:
        """Counts rows on the server; None if rows must be fetched for that."""
        ...

    def close(self) -> None:
        """Close connections; the reader may be used again afterwards."""
        ...

    def describe(self, source: Source) -> list[SourceColumn]:
        """The source's actual columns.

        Raises:
            SourceError: it cannot be reached or does not exist.
        """
        ...

    def scan(self, source: Source, need: ScanRequest) -> Input:
        """The source's rows, in a form that engines accept.

        Raises:
            SourceError: it cannot be reached or does not exist.
        """
        ...
