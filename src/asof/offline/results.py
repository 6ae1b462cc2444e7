"""Results of reads on every engine: lazy rows, computed on each use, in bounded memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from asof.defaults import BATCH_ROWS
from asof.definitions import Source
from asof.offline.protocol import Spine
from asof.selection import FeatureOut
from asof.sources.protocol import Files, Input, Relation, is_ordered
from asof.sql.query import PointInTime
from asof.sql.source_rows import ArrivalKind

SPINE, WHOLE = "asof__spine", "asof__spine_whole"
"""The tables with the spine rows of one pass, and of all passes. No source's name has two underscores in a row."""

_CHUNK_VALUES = 64_000_000
"""Maximum values of one pass; bigger spines are read in several passes to bound memory."""
_FEWEST_ROWS, _MOST_ROWS = 250_000, 5_000_000


class LazyResult(ABC):
    """Rows of a query; each `reader` runs it again."""

    @abstractmethod
    def schema(self) -> pa.Schema: ...

    @abstractmethod
    def text(self) -> str:
        """The SQL that a read would run now."""

    @abstractmethod
    def schema_and_batches(self, batch_rows: int) -> Iterator[Any]:
        """The schema, then batches of at most `batch_rows`."""

    def reader(self, batch_rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """The rows in batches of at most `batch_rows`."""
        parts = self.schema_and_batches(batch_rows)
        return pa.RecordBatchReader.from_batches(next(parts), parts)

    def to_arrow(self) -> pa.Table:
        return self.reader().read_all()


@dataclass(frozen=True)
class PointInTimeResult(LazyResult):
    """A point-in-time read: rows are the spine's, in its order, then the outputs.

    Args:
        chunk_rows: spine rows of one pass; 0 chooses by the number of features.
    """

    query: PointInTime
    inputs: Mapping[str, Input | pa.Table | None]
    spine: Spine | None
    chunk_rows: int = 0

    @property
    def chunk(self) -> int:
        """Number of spine rows of one pass."""
        if self.chunk_rows:
            return self.chunk_rows
        return max(_FEWEST_ROWS, min(_MOST_ROWS, _CHUNK_VALUES // max(1, len(self.query.outputs))))

    @property
    def spine_keys(self) -> list[str]:
        """The spine's columns that the read uses, each once."""
        return list(dict.fromkeys(key for read in self.query.reads for key in read.keys))

    def with_outputs(self, spine: pa.Schema) -> pa.Schema:
        """The spine's columns, then the outputs."""
        return with_outputs(spine, self.query.outputs)


def with_outputs(schema: pa.Schema, outputs: tuple[FeatureOut, ...]) -> pa.Schema:
    """The columns, then those of the features in their declared types."""
    return pa.schema([*schema, *(pa.field(feature.output, feature.dtype.arrow()) for feature in outputs)])


def cut(batches: Iterator[pa.RecordBatch], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of at most `batch_rows`."""
    for batch in batches:
        for at in range(0, batch.num_rows, batch_rows):
            yield batch.slice(at, batch_rows)


def in_types(columns: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    """A batch of the schema from columns, cast to its types.

    Args:
        columns: arrays, or chunked ones of one chunk at most.
    """
    made = []
    for column, field in zip(columns, schema, strict=True):
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        made.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(made, schema=schema)


def empty_rows(source: Source) -> pa.Table:
    """An empty result with the columns that the source declares."""
    fields = [pa.field(field.name, field.dtype.arrow()) for field in source.schema]
    if source.is_log:
        fields += [
            pa.field("partition", pa.int32()), pa.field("offset", pa.int64()),
            pa.field("ingested_at", pa.timestamp("us", "UTC")),
        ]  # fmt: skip
    return pa.schema(fields).empty_table()


def arrival_of(source: Source, given: Input | pa.Table | None, columns: Mapping[str, str]) -> ArrivalKind:
    """The columns that order rows with equal key and time.

    Args:
        columns: the actual columns of the rows.
    """
    if source.is_log and {"partition", "offset"} <= columns.keys():
        order = given.order if isinstance(given, Files | Relation) else ""
        return order or "log"
    return "row" if is_ordered(given) else "columns"


__all__ = [
    "SPINE", "WHOLE", "LazyResult", "PointInTimeResult", "arrival_of", "cut", "empty_rows", "in_types", "with_outputs",
]  # fmt: skip
