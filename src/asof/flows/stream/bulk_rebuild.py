"""Fold an archive into online rows where the engine has its rows, by the code of a rebuild here.

A part whose process ended is run again: rows ignore events that they have seen, so that this changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pyarrow as pa

from asof.definitions import FeatureView, LogSource
from asof.flows.generations.writer import GenerationWriter
from asof.flows.rows.batch import batch_of_archive, counted
from asof.flows.rows.whole_keys import by_key
from asof.flows.stores import Progress, RemoteStores
from asof.offline.protocol import DistributedResult
from asof.timing import Micros

_EVENTS_AT_ONCE = 200_000
_COUNTS = pa.schema([("rows", pa.int64()), ("events", pa.int64())])


@dataclass(frozen=True)
class ArchiveFold:
    """Folds one part of an archive's rows, with all rows of its keys; picklable.

    Args:
        now: the clock of the rebuild.
    """

    remote: RemoteStores
    now: Micros
    max_row_bytes: int
    source: LogSource
    view: FeatureView
    generation: str
    keys: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with closing(self.remote.open(now=self.now, max_row_bytes=self.max_row_bytes)) as stores:
            writer = GenerationWriter(stores, self.view, self.generation)
            for rows in by_key(batches, self.keys, _EVENTS_AT_ONCE):
                batch = counted(self.source, batch_of_archive(self.source, rows.combine_chunks()))
                written = writer.apply(batch, clock=self.now)
                yield pa.RecordBatch.from_arrays([pa.array([written]), pa.array([rows.num_rows])], schema=_COUNTS)


def fold_archive(result: DistributedResult, fold: ArchiveFold, *, total: int, progress: Progress) -> int:
    """Fold all rows of a result; returns the number of online rows written."""
    written = events = 0
    for batch in result.mapped(fold, _COUNTS, keys=fold.keys, order=fold.keys):
        written += sum(batch.column("rows").to_pylist())
        events += sum(batch.column("events").to_pylist())
        progress(f"build {fold.view.name}", events, total)
    return written


__all__ = ["ArchiveFold", "fold_archive"]
