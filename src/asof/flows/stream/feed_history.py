"""Bring online rows up to date with history that was loaded into the archive after they were built."""

from __future__ import annotations

from asof.definitions import FeatureView, LogSource
from asof.errors import StorageError
from asof.flows.generations.progress import TableProgress, progress_of, write_progress
from asof.flows.generations.recompute import recompute_rows
from asof.flows.generations.writer import GenerationWriter
from asof.flows.rows.archive import archived_after, archived_rows
from asof.flows.rows.batch import batch_of_archive, counted
from asof.flows.stores import Progress, Stores, current_generation, silent, table_of
from asof.sql.partitions import HISTORY


def feed_history(stores: Stores, view: FeatureView, *, progress: Progress = silent) -> int | None:
    """Merge the history that the view's online rows lack; workers and pushes go on.

    Can be stopped anywhere: each row ignores history that it has seen, and the next call goes on.

    Returns:
        Number of rows written; None if the rows must be rebuilt: they have no history yet, are lost, or a late event
        needs more than they hold.
    """
    written = 0
    while True:
        generation = current_generation(stores.registry.load(stores.project), view)
        if generation is None:
            return written
        try:
            fed = _feed(stores, view, generation, progress)
        except StorageError:
            if current_generation(stores.registry.load(stores.project), view) == generation:
                raise
            continue  # readers were switched to another generation, and this one was dropped
        if fed is None:
            return None
        written += fed
        if current_generation(stores.registry.load(stores.project), view) == generation:
            return written


def _feed(stores: Stores, view: FeatureView, generation: str, progress: Progress) -> int | None:
    source = view.source
    assert isinstance(source, LogSource)
    table = table_of(stores.project, view, generation)
    loaded = stores.offline.offsets(stores.archive_of(source), [HISTORY])[HISTORY]
    known = progress_of(stores.online, table)
    reached = known.offset_of(HISTORY)
    if reached >= loaded and not known.is_incomplete(HISTORY):
        return 0
    if not known.is_built or reached < 0:
        return None
    writer = GenerationWriter(stores, view, generation)
    if view.is_aggregated and known.is_incomplete(HISTORY):
        writer.find_incomplete(HISTORY)
    written = done = 0
    # Offsets are in blocks with gaps: only a count says how many rows are left.
    total = None if progress is silent else archived_rows(stores, source, HISTORY, after=reached, through=loaded)
    for rows in archived_after(stores, source, HISTORY, after=reached, through=loaded):
        written += writer.apply(counted(source, batch_of_archive(source, rows)), clock=stores.clock())
        reached = int(rows["offset"][-1].as_py())
        write_progress(stores.online, table, TableProgress(reached={HISTORY: reached}), within=writer.incarnation)
        done += rows.num_rows
        progress(f"feed {view.name}", done, total)
    write_progress(stores.online, table, TableProgress(reached={HISTORY: loaded}), within=writer.incarnation)
    if writer.incomplete:
        writer.completed(recompute_rows(stores, source, writer, sorted(writer.incomplete)))
    return None if writer.incomplete else written


__all__ = ["feed_history"]
