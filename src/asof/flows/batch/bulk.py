"""Bulk builds: online rows are packed and written where the engine has the source's rows, by the code of a run here.

What is written there is run once per part of the rows, and again where its process ended: newest rows win over older
ones, and recomputed rows are replaced, so that writing them twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeGuard

import pyarrow as pa

from asof.definitions import FeatureView
from asof.flows.batch.write_view import (
    ROWS_AT_ONCE,
    StoredRow,
    ViewRun,
    WriteCounts,
    key_columns,
)
from asof.flows.rows.whole_keys import in_tables
from asof.flows.stores import Progress, RemoteStores, Stores, table_of
from asof.offline.protocol import DistributedResult, QueryResult
from asof.online.protocol import OnlineTable
from asof.sql.query import RowFilter
from asof.timing import Micros

COUNTS = pa.schema(
    [("rows", pa.int64()), ("overflowed", pa.int64()), ("expired", pa.int64()), ("seen", pa.int64()),
     ("lost", pa.list_(pa.binary()))]
)  # fmt: skip
"""What a build returns for each batch that it wrote: numbers as of `WriteCounts`, the rows read, and the keys that
another writer has changed meanwhile."""


def write_chosen(
    stores: Stores, view: FeatureView, generation: str, chosen: RowFilter, *, as_of: Micros, progress: Progress
) -> WriteCounts:
    """Update the online rows of all keys with a selected row: by the executors of the engine if it has some, else here.

    Idempotent; may be interrupted anywhere, and run concurrently.

    Args:
        as_of: windows are computed as of this time, not before `chosen.latest`. A row that has a later event is
            computed as of that event, so that no row goes back in time.
    """
    table = table_of(stores.project, view, generation)
    remote = stores.remote
    executors = BulkBuilds(remote) if remote is not None else None
    run = ViewRun(stores, view, table, chosen, as_of, progress, executors)
    return run.windows() if view.is_aggregated else run.newest()


@dataclass(frozen=True)
class BulkBuilds:
    """Builds by the executors of an engine, which write to the online store themselves.

    Args:
        remote: opens it there.
    """

    remote: RemoteStores

    def take(self, result: QueryResult) -> TypeGuard[DistributedResult]:
        """See `BuildDelegate.take`."""
        return isinstance(result, DistributedResult) and result.refusal() is None

    def newest(self, run: ViewRun, result: DistributedResult) -> WriteCounts:
        """See `BuildDelegate.newest`."""
        done, seen = WriteCounts(), 0
        for batch in result.mapped(NewestBuild(*self._parts(run)), COUNTS):
            for each in batch.to_pylist():
                done += _counts(each)
                seen += each["seen"]
                run.report(seen)
        return done

    def windows(
        self, run: ViewRun, result: DistributedResult, stored: Mapping[bytes, StoredRow], lost: set[bytes]
    ) -> Iterator[WriteCounts]:
        """See `BuildDelegate.windows`."""
        keys = key_columns(run.view)
        build = WindowsBuild(*self._parts(run), dict(stored))
        for batch in result.mapped(build, COUNTS, keys=keys, order=[*keys, "ts", "created", "arrived"]):
            for each in batch.to_pylist():
                lost.update(each["lost"])
                yield _counts(each)

    def _parts(self, run: ViewRun) -> tuple[RemoteStores, Micros, int, FeatureView, OnlineTable, RowFilter, Micros]:
        stores = run.stores
        return self.remote, stores.clock(), stores.max_row_bytes, run.view, run.table, run.chosen, run.as_of


@dataclass(frozen=True)
class _Build:
    """What runs over one part of the rows, where it is; picklable.

    Args:
        now: the clock of the run.
    """

    remote: RemoteStores
    now: Micros
    max_row_bytes: int
    view: FeatureView
    table: OnlineTable
    chosen: RowFilter
    as_of: Micros

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with closing(self.remote.open(now=self.now, max_row_bytes=self.max_row_bytes)) as stores:
            run = ViewRun(stores, self.view, self.table, self.chosen, self.as_of)
            for written, seen, lost in self.write(run, batches):
                counts = {"rows": written.rows, "overflowed": written.overflowed, "expired": written.expired}
                yield pa.RecordBatch.from_pylist([{**counts, "seen": seen, "lost": sorted(lost)}], schema=COUNTS)

    def write(self, run: ViewRun, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[WriteCounts, int, set[bytes]]]:
        raise NotImplementedError


@dataclass(frozen=True)
class NewestBuild(_Build):
    """Writes the newest row of each key."""

    def write(self, run: ViewRun, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[WriteCounts, int, set[bytes]]]:
        for rows in in_tables(batches, ROWS_AT_ONCE):
            yield run.write_batch(rows), rows.num_rows, set()


@dataclass(frozen=True)
class WindowsBuild(_Build):
    """Folds each key from all of its rows, and replaces its online row.

    Args:
        stored: the rows of before, read before the source was: what another writer has changed since is lost.
    """

    stored: Mapping[bytes, StoredRow]

    def write(self, run: ViewRun, batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[WriteCounts, int, set[bytes]]]:
        lost: set[bytes] = set()
        for written, folded in run.fold(batches, self.stored, lost):
            yield written, folded, set(lost)
            lost.clear()


def _counts(each: Mapping[str, Any]) -> WriteCounts:
    return WriteCounts(each["rows"], each["overflowed"], each["expired"])


__all__ = ["BulkBuilds", "NewestBuild", "WindowsBuild", "write_chosen"]
