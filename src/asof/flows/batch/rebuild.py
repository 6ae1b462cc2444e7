"""Rebuild online rows: from the archive for log sources, from the source for batch sources."""

from __future__ import annotations

from collections.abc import Iterable

from asof.definitions import Snapshot
from asof.flows.batch.materialize import materialize
from asof.flows.stores import Progress, Stores, silent, view_named
from asof.flows.stream.rebuild import rebuild


def rebuild_views(
    stores: Stores, snapshot: Snapshot, names: Iterable[str] | None = None, *, progress: Progress = silent
) -> dict[str, int]:
    """Rebuild views; returns view → number of rows. Views that are not online are skipped.

    Raises:
        NotFound: a view is not applied; nothing was built.
    """
    views = [view for view in (view_named(snapshot, name) for name in names or snapshot.project.views) if view.online]
    batch_fed = [view.name for view in views if not view.source.is_log]
    done = materialize(stores, views=batch_fed, full=True, progress=progress) if batch_fed else []
    rows = {each.view: each.rows for each in done}
    for view in views:
        if view.source.is_log:
            rows[view.name] = rebuild(stores, view, progress=progress)
    return {view.name: rows[view.name] for view in views}
