"""What a source of rows can do: say which columns it has, and hand its rows to an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import pyarrow as pa

from asof.definitions import Source
from asof.dtypes import DType
from asof.timing import Micros


@dataclass(frozen=True)
class Column:
    """A column that a source really has.

    Args:
        dtype: our type for it; None where we have none.
        arrow: its Arrow type, as text for messages.
    """

    name: str
    dtype: DType | None
    arrow: str


@dataclass(frozen=True)
class Need:
    """What an engine needs of a source, so that no more is fetched.

    Args:
        columns: names in the source.
        start, end: event times, both inclusive; None is open.
        keys: values that the key columns take, where they are few: column → values.
    """

    columns: Sequence[str] = ()
    start: Micros | None = None
    end: Micros | None = None
    keys: dict[str, pa.Array] | None = None


@dataclass(frozen=True)
class Files:
    """Rows in files that the engine reads natively; arrival is (file, row number), in the order of the paths.

    Args:
        format: `parquet` or `csv`.
    """

    paths: tuple[str, ...]
    format: str = "parquet"


@dataclass(frozen=True)
class Batches:
    """Rows that are fetched as Arrow; they have no arrival."""

    schema: pa.Schema
    open: Callable[[Need], pa.RecordBatchReader]


@dataclass(frozen=True)
class Relation:
    """Rows that stand in the engine's own database, under a quoted name; they have no arrival."""

    name: str


Input: TypeAlias = Files | Batches | Relation


class SourceReader(Protocol):
    """Reads one kind of source."""

    def describe(self, source: Source) -> list[Column]:
        """The columns that the source really has.

        Raises:
            SourceError: it cannot be reached, or is not there.
        """
        ...

    def scan(self, source: Source, need: Need) -> Input:
        """The source's rows, in the form that engines take.

        Raises:
            SourceError: it cannot be reached, or is not there.
        """
        ...
