"""Fold an archive into online rows where the engine has its rows, by the code of a rebuild here.

A part whose process ended is run again: rows ignore events that they have seen, so that this changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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

EVENTS_AT_ONCE = 200_000
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

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with closing(self.remote.open(now=self.now, max_row_bytes=self.max_row_bytes)) as stores:
            writer = GenerationWriter(stores, self.view, self.generation)
            for each in apply_by_key(writer, self.source, batches, clock=self.now):
                yield pa.RecordBatch.from_arrays([pa.array([number]) for number in each], schema=_COUNTS)


def apply_by_key(
    writer: GenerationWriter, source: LogSource, batches: Iterable[pa.RecordBatch], *, clock: Micros
) -> Iterator[tuple[int, int]]:
    """Fold archived rows, a few keys at a time; returns each time the numbers of rows written and of rows folded.

    Args:
        batches: in the order of `order_of_fold`.
    """
    for rows, goes_on in by_key(batches, archived_keys(source, writer.view), EVENTS_AT_ONCE):
        batch = counted(source, batch_of_archive(source, rows.combine_chunks()))
        yield writer.apply_of_key(batch, clock=clock, goes_on=goes_on), rows.num_rows


def archived_keys(source: LogSource, view: FeatureView) -> list[str]:
    """The archive's columns of a view's keys."""
    return [source.raw(key) for key in view.join_keys]


def order_of_fold(source: LogSource, view: FeatureView) -> list[str]:
    """By which columns an archive's rows are sorted to be folded: a key's in the order of their times."""
    return list(dict.fromkeys([*archived_keys(source, view), source.timestamp_field, "partition", "offset"]))


def fold_archive(result: DistributedResult, fold: ArchiveFold, *, total: int, progress: Progress) -> int:
    """Fold all rows of a result; returns the number of online rows written."""
    written = events = 0
    keys, order = archived_keys(fold.source, fold.view), order_of_fold(fold.source, fold.view)
    for batch in result.mapped(fold, _COUNTS, keys=keys, order=order):
        written += sum(batch.column("rows").to_pylist())
        events += sum(batch.column("events").to_pylist())
        progress(f"build {fold.view.name}", events, total)
    return written


__all__ = ["EVENTS_AT_ONCE", "ArchiveFold", "apply_by_key", "fold_archive", "order_of_fold"]
