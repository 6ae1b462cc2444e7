"""Backfill: load what the archive of a log source lacks of its batch source, and bring its views up to date."""

from __future__ import annotations

from asof.definitions import FeatureView, LogSource
from asof.errors import RequestError
from asof.flows.batch.load_history import HistoryLoad
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Progress, Stores, log_source_named, online_views, silent
from asof.flows.stream.feed_history import feed_history
from asof.flows.stream.rebuild import rebuild
from asof.timing import Micros


def backfill(stores: Stores, source_name: str, *, progress: Progress = silent) -> int:
    """Load the rows of a source's batch source that its archive lacks, then bring the online rows up to date.

    A second run loads only what was written to the batch source since; a run that was killed is continued.

    Returns:
        Number of rows loaded.

    Raises:
        RequestError: the source has no batch source.
        RowsRefused: a row does not fit the source's schema; nothing was loaded.
    """
    snapshot = stores.registry.load(stores.project)
    source = log_source_named(snapshot, source_name)
    if source.batch_source is None:
        raise RequestError(
            f"source {source.name!r} has no batch source, so there is no history to load",
            hint="give it batch_source=",
        )
    loaded = load_history(stores, source, progress=progress)
    for view in online_views(snapshot, source):
        with_history(stores, view, progress=progress)
    return loaded


def load_history(
    stores: Stores, source: LogSource, *, start: Micros | None = None, end: Micros | None = None,
    progress: Progress = silent,
) -> int:  # fmt: skip
    """Load what the archive lacks, all of it or nothing; online rows are left as they are. Returns the number of rows.

    Args:
        start, end: only rows with `start <= event time < end`.

    Raises:
        RowsRefused: a row does not fit the source's schema; nothing was loaded.
    """
    # What an earlier version of the source or of Asof archived gets the columns of this one.
    stores.offline.create(stores.archive_of(source), archive_schema(source))
    load = HistoryLoad(stores, source, start=start, end=end, progress=progress)
    load.check()
    return load.load()


def with_history(stores: Stores, view: FeatureView, *, progress: Progress = silent) -> int:
    """Bring a view's online rows up to date with loaded history; returns the number of rows written."""
    written = feed_history(stores, view, progress=progress)
    return rebuild(stores, view, progress=progress) if written is None else written


__all__ = ["backfill", "load_history", "with_history"]
