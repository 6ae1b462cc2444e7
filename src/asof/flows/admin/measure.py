"""Which rows of a view are measured, and the measuring of them in the offline store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from asof.definitions import FeatureView, OnDemandFeatureView, Project, Snapshot
from asof.flows.admin.sample import spine_of_rows
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.read import read_history
from asof.flows.stores import Stores
from asof.planning import users_of
from asof.profiles.summary import MeasuredRows
from asof.selection import Selection, select
from asof.sql.profile import ProfiledColumn, ProfiledRows, ProfiledTable
from asof.sql.query import RowFilter
from asof.sql.query import columns_of as source_columns_of
from asof.timing import Micros

Functions = Callable[[Selection], Selection]
Step = Callable[[int, int], None]


class RowChoice(NamedTuple):
    """Which rows: event times in `[start, end)`; of views that are not read row by row, n of them by this seed."""

    start: Micros | None
    end: Micros
    n: int
    seed: int


def is_sampled(view: FeatureView | OnDemandFeatureView) -> bool:
    """Whether a view is measured as of the times of drawn rows, as its values are in no row."""
    return isinstance(view, OnDemandFeatureView) or view.is_aggregated


def measure_view(
    stores: Stores,
    snapshot: Snapshot,
    view: FeatureView | OnDemandFeatureView,
    columns: Sequence[ProfiledColumn],
    *,
    chosen: RowChoice,
    functions: Functions,
    progress: Step,
) -> MeasuredRows:
    """Measure columns of a view: its fields in all rows, or its features as of the times of drawn ones."""
    if isinstance(view, FeatureView) and not view.is_aggregated:
        return _of_source(stores, snapshot.project, view, columns, chosen, progress)
    newest = None
    if isinstance(view, FeatureView):
        newest = _of_source(stores, snapshot.project, view, (), chosen, progress).newest
    selection = functions(select(snapshot, view.name))
    spine = spine_of_rows(stores, selection, n=chosen.n, seed=chosen.seed, start=chosen.start, end=chosen.end)
    table = read_history(stores, snapshot, selection, spine).table().select([each.name for each in columns])
    found = stores.offline.profile(ProfiledTable(view.name, tuple(columns)), table.to_reader(), progress=progress)
    return MeasuredRows(rows=found.rows, newest=newest, features=found.features, misses=found.misses)


def _of_source(
    stores: Stores,
    project: Project,
    view: FeatureView,
    columns: Sequence[ProfiledColumn],
    chosen: RowChoice,
    progress: Step,
) -> MeasuredRows:
    query = ProfiledRows(view, RowFilter(chosen.end - 1, chosen.start), tuple(columns))
    source = view.source
    read = sorted(source_columns_of(query, source.name))
    rows = rows_of(stores, source, users_of(project, source.name), columns=read)
    return stores.offline.profile(query, rows, progress=progress)


__all__ = ["Functions", "RowChoice", "Step", "is_sampled", "measure_view"]
