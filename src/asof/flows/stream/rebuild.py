"""Rebuild a view: fold its archive into a new generation of online rows, then switch readers to it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from asof.definitions import FeatureView, LogSource
from asof.flows.generations.progress import TableProgress, progress_of, write_progress
from asof.flows.generations.switch import announce, drop_generations, flip
from asof.flows.generations.writer import GenerationWriter
from asof.flows.rows.archive import archive_schema
from asof.flows.rows.counts import count
from asof.flows.rows.whole_keys import READ_ROWS
from asof.flows.stores import Progress, Stores, current_generation, silent, table_of
from asof.flows.stream.bulk_rebuild import ArchiveFold, apply_by_key, fold_archive, order_of_fold
from asof.flows.stream.feed_history import feed_history
from asof.flows.stream.ingest import Ingest
from asof.flows.stream.numbering import log_partitions, partitions_of
from asof.flows.stream.take_in import take_in
from asof.offline.protocol import LATER_COLUMNS, DistributedResult
from asof.sql import archive as statements
from asof.sql.query import columns_of_view

WAIT_S = 15.0
"""How long to wait for workers to catch up with a new generation; they flush every few seconds."""

STILL_S = 7.0
"""A worker without progress for this long counts as stopped; workers flush every few seconds."""


_ARRIVAL_COLUMNS = {"partition", "offset", *LATER_COLUMNS}


def rebuild(stores: Stores, view: FeatureView, *, progress: Progress = silent, wait_s: float = WAIT_S) -> int:
    """Build a new generation of a view with a log source, and switch readers to it.

    Workers continue: from their next flush they write to both generations. Readers use the old one until the new one
    has caught up.

    Returns:
        Number of rows in the new generation.
    """
    generation = announce(stores, view)
    rows = fill(stores, view, generation, progress=progress)
    wait_for_workers(stores, view, generation, seconds=wait_s)
    before = stores.registry.load(stores.project)
    drop_generations(stores, before, flip(stores, view, generation))
    # What was loaded while it was built, by a run that saw the rows of before.
    feed_history(stores, view, progress=progress)
    return rows


def fill(stores: Stores, view: FeatureView, generation: str, *, progress: Progress = silent) -> int:
    """Fold the archive into an announced generation; after that, workers write to it."""
    source = view.source
    assert isinstance(source, LogSource)
    # An archive that an earlier version made gets the columns by which rows are ordered from now on.
    stores.offline.create(stores.archive_of(source), archive_schema(source))
    feeder = GenerationWriter(stores, view, generation)
    stores.online.drop(feeder.table)
    stores.online.prepare(feeder.table)
    epoch = stores.registry.load(stores.project).facts.epoch_of(source.name)
    base = stores.offline.offsets(stores.archive_of(source), partitions_of(stores, source, epoch=epoch))
    rows = _fold_archive(stores, source, feeder, base, progress)
    reached = {each: offset for each, offset in base.items() if offset >= 0}
    built = TableProgress(reached=reached, built=stores.clock())
    write_progress(stores.online, feeder.table, built, within=feeder.incarnation)
    stores.online.mark(feeder.table, within=feeder.incarnation)
    return rows


def wait_for_workers(stores: Stores, view: FeatureView, generation: str, *, seconds: float = WAIT_S) -> None:
    """Wait until workers have caught up with the new generation; they start to write to it at their next flush.

    If no worker runs, readers switch to the state of the archive, and events that only the old rows have are replayed
    when a worker starts. Pushed rows need no worker: those that are only in the log are applied here.
    """
    source = view.source
    current = current_generation(stores.registry.load(stores.project), view)
    if current is None or not isinstance(source, LogSource):
        return
    if source.type == "push":
        ingest = Ingest(stores, source.name, seconds=time.monotonic)
        try:
            take_in(stores, ingest)
        finally:
            ingest.close()
    new, old = table_of(stores.project, view, generation), table_of(stores.project, view, current)
    until = still_until = time.monotonic() + seconds
    before: Any = None
    while True:
        reached, wanted = progress_of(stores.online, new), progress_of(stores.online, old)
        if not _is_behind(stores, source, reached, wanted):
            return
        now = time.monotonic()
        if before != (before := (reached, wanted)):
            still_until = now + STILL_S
        if now >= min(until, still_until):
            return
        time.sleep(0.05)


def _is_behind(stores: Stores, source: LogSource, reached: TableProgress, wanted: TableProgress) -> bool:
    """Whether old rows may have events that the new rows lack and will not get soon."""
    ends = dict(wanted.reached)
    epoch = stores.registry.load(stores.project).facts.epoch_of(source.name)
    for each in log_partitions(stores, source, epoch=epoch):
        partition = each.archived_as
        if not reached.is_live(partition):
            if wanted.is_live(partition):
                return True
            ends[partition] = max(wanted.offset_of(partition), each.after - 1)
    return any(reached.offset_of(partition) < offset for partition, offset in ends.items())


def _fold_archive(
    stores: Stores, source: LogSource, feeder: GenerationWriter, base: Mapping[int, int], progress: Progress
) -> int:
    """Fold all archived rows up to the base offsets, sorted by key, a few keys at a time."""
    rows = stores.offline.rows(stores.archive_of(source))
    if rows is None:
        return 0
    total = count(stores, rows)
    used = columns_of_view(feeder.view, feeder.view.feature_names)
    columns = [name for name in archive_schema(source).names if name in used or name in _ARRIVAL_COLUMNS]
    remote = stores.remote
    if remote is not None:
        # The engine puts the rows of a key together when it gives them to its executors.
        whole = stores.offline.sql(statements.rows_to_fold(columns, base), {"archive": rows})
        if isinstance(whole, DistributedResult) and whole.refusal() is None:
            fold = ArchiveFold(
                remote, stores.clock(), stores.max_row_bytes, source, feeder.view, feeder.table.generation
            )  # fmt: skip
            return fold_archive(whole, fold, total=total, progress=progress)
    text = statements.rows_to_fold(columns, base, order=order_of_fold(source, feeder.view))
    batches = stores.offline.sql(text, {"archive": rows}).reader(READ_ROWS)
    done = written = 0
    for kept, folded in apply_by_key(feeder, source, batches, clock=stores.clock()):
        written, done = written + kept, done + folded
        progress(f"build {feeder.view.name}", done, total)
    return written


__all__ = ["fill", "rebuild", "wait_for_workers"]
