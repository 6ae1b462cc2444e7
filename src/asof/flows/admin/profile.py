"""Profiles of views: measured in the offline store, compared with a baseline, and kept as records of the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from asof.defaults import PROFILE_ROWS, SEED
from asof.definitions import FeatureView, OnDemandFeatureView, Project, Snapshot
from asof.errors import Argument, NotFound, RequestError, nearest
from asof.flows.admin.baselines import RECORD_KIND, Baseline, baseline_of, check_baseline
from asof.flows.admin.expectations import check_view, expectations_of, keep_results, results_of
from asof.flows.admin.measure import Functions, RowChoice, is_sampled, measure_view
from asof.flows.runs import PROFILE, RunNotes, recorded_run
from asof.flows.stores import Progress, Stores, silent
from asof.lineage import hides_values
from asof.profiles.expectations import ExpectationResult
from asof.profiles.summary import FeatureProfile, ViewProfile
from asof.registry.records import RegistryRecord
from asof.results import Records, Result, arrow_of, columns_of
from asof.sql.profile import ProfiledColumn
from asof.timing import Micros, iso

if TYPE_CHECKING:
    import pyarrow as pa

KEPT_PROFILES = 60
"""How many profiles of a view are kept: two months of daily ones."""


@dataclass(repr=False, eq=False)
class ProfileReport(Result[FeatureProfile]):
    """The profiles of some views at one moment; its rows are those of the features.

    Attributes:
        views: per view its rows, features and expectations.
        baseline: what they were compared with, as it was asked for; None: with nothing.
    """

    views: list[ViewProfile] = field(default_factory=list)
    baseline: str | None = None

    @property
    def features(self) -> list[FeatureProfile]:
        """The features of all views."""
        return [each for view in self.views for each in view.features]

    @property
    def ok(self) -> bool:
        """Whether all expectations hold, and no feature's drift raises an alarm."""
        return not any(view.failed for view in self.views) and not self.alarms

    @property
    def alarms(self) -> list[FeatureProfile]:
        """The features whose drift raises an alarm."""
        return [each for each in self.features if each.drift is not None and each.drift.alarm]

    def to_dict(self) -> dict[str, object]:
        """The report as JSON-ready data."""
        return {"ok": self.ok, "baseline": self.baseline, "views": [each.to_dict() for each in self.views]}

    def __len__(self) -> int:
        return len(self.features)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[FeatureProfile]:
        return iter(self.features)

    def to_arrow(self) -> pa.Table:
        """The features as an Arrow table; histograms and frequent values as JSON text."""
        return arrow_of(FeatureProfile, self.features)

    def _columns(self) -> list[str]:
        return columns_of(FeatureProfile)

    def _first(self, n: int) -> Sequence[FeatureProfile]:
        return self.features[:n]


def profile(
    stores: Stores,
    snapshot: Snapshot,
    names: Sequence[str] | None = None,
    *,
    start: Micros | None = None,
    end: Micros | None = None,
    n: int = PROFILE_ROWS,
    seed: int = SEED,
    compare: str | None = None,
    keep: bool = True,
    functions: Functions = lambda selection: selection,
    progress: Progress = silent,
) -> ProfileReport:
    """Measure the values of views.

    Of a latest-value view they are the fields of all rows of its source with `start <= event time < end`. Of an
    aggregated or on-demand view they are the features as of the event times of n sampled rows of its source in that
    time (`sample` draws them alike): values as a training set of its events would have them.

    Args:
        names: views; all that need no request values where None.
        end: the store's now where None.
        compare: the baseline, see `asof.flows.admin.baselines`.
        keep: keep the profiles as records of the registry.

    Raises:
        NotFound: no such view, or no such baseline.
        RequestError: a view needs request values.
    """
    if n < 1:
        raise RequestError(
            f"{Argument('n', n)}: expected at least 1", hint="ask for 1 or more", arguments=[Argument("n", n)]
        )
    if compare is not None:
        check_baseline(compare)
    views = views_to_measure(snapshot.project, names)
    now = stores.clock()
    upto = now + 1 if end is None else end
    if start is not None and start >= upto:
        given = [Argument("start", iso(start)), Argument("end", iso(upto))]
        raise RequestError(f"{given[0]} is not before {given[1]}", hint="give an earlier start", arguments=given)
    report = ProfileReport(baseline=compare)
    chosen = RowChoice(start, upto, n, seed)
    # What is not kept leaves no trace of its run either.
    with recorded_run(stores, PROFILE) if keep else nullcontext(RunNotes()) as notes:
        for view in views:
            report.views.append(
                _measured(
                    stores, snapshot, view, compare, chosen, now=now, end=end, functions=functions, progress=progress
                )
            )
            notes.add_views({view.name: report.views[-1].rows})
        if keep:
            keep_profiles(stores, report.views)
    return report


def _measured(
    stores: Stores,
    snapshot: Snapshot,
    view: FeatureView | OnDemandFeatureView,
    compare: str | None,
    chosen: RowChoice,
    *,
    now: Micros,
    end: Micros | None,
    functions: Functions,
    progress: Progress,
) -> ViewProfile:
    """The profile of one view."""

    def step(done: int, total: int) -> None:
        progress(f"profile {view.name}", done, total)

    baseline = baseline_of(stores, snapshot, view, compare, progress=step) if compare is not None else None
    columns = columns_to_measure(view, baseline)
    found = measure_view(stores, snapshot, view, columns, chosen=chosen, functions=functions, progress=step)
    return ViewProfile(
        view=view.name, when=now, rows=found.rows, newest=found.newest, start=chosen.start, end=end,
        sampled=found.rows if is_sampled(view) else None, features=found.features,
        expectations=results_of(view, found, when=now),
    )  # fmt: skip


def check(
    stores: Stores,
    snapshot: Snapshot,
    names: Sequence[str] | None = None,
    *,
    start: Micros | None = None,
    end: Micros | None = None,
    n: int = PROFILE_ROWS,
    seed: int = SEED,
    keep: bool = True,
    functions: Functions,
    progress: Progress = silent,
) -> Records[ExpectationResult]:
    """Check the expectations of views, over the rows that `profile` measures, and measure nothing else.

    Raises:
        NotFound: no such view.
    """
    upto = stores.clock() + 1 if end is None else end
    chosen = RowChoice(start, upto, n, seed)
    found = {
        view.name: check_view(stores, snapshot, view, chosen=chosen, functions=functions, progress=progress)
        for view in views_to_measure(snapshot.project, names)
        if view.expectations
    }
    if keep:
        keep_results(stores, found)
    return Records(ExpectationResult, [each for results in found.values() for each in results])


def columns_to_measure(view: FeatureView | OnDemandFeatureView, baseline: Baseline | None) -> list[ProfiledColumn]:
    """A view's features, those with personal data as hidden."""
    columns = []
    for place, each in enumerate(view.features):
        cells = baseline.cells.get(each.name) if baseline is not None else None
        columns.append(
            ProfiledColumn(
                each.name, each.dtype, f"f{place}", is_hidden=hides_values(view, each.name), baseline=cells,
                baseline_name=baseline.name if baseline is not None else "",
                expectations=expectations_of(view, each.name),
            )
        )  # fmt: skip
    return columns


def keep_profiles(stores: Stores, profiles: Sequence[ViewProfile]) -> None:
    """Append profiles to the registry's records; of each view the newest `KEPT_PROFILES` stay."""
    if not profiles:
        return
    records = [RegistryRecord(RECORD_KIND, each.view, each.when, each.content()) for each in profiles]
    stores.registry.append_records(stores.project, records)
    stores.registry.prune_records(stores.project, RECORD_KIND, keep=KEPT_PROFILES)
    keep_results(stores, {each.view: each.expectations for each in profiles})


def kept_profiles(
    stores: Stores, snapshot: Snapshot, name: str | None = None, *, since: Micros | None = None, limit: int = 1
) -> list[ViewProfile]:
    """The newest kept profiles of a view, or of each view, newest first.

    What is personal data by the applied definitions is hidden, whatever it was then.

    Args:
        limit: so many of each view.
    """
    found = []
    records = stores.registry.records(
        stores.project, RECORD_KIND, name, since=since, limit=limit * (1 if name else 1_000_000), per_subject=limit
    )
    for record in records:
        try:
            kept = ViewProfile.of(record.body)
        except msgspec.ValidationError:
            continue  # damaged, or of a version whose fields had other types: the others are as good as before
        found.append(_hidden(snapshot.project, kept))
    return found


def _hidden(project: Project, kept: ViewProfile) -> ViewProfile:
    view = project.view(kept.view)
    if view is None:
        return kept
    features = [
        each.without_values() if each.feature in view.feature_names and hides_values(view, each.feature) else each
        for each in kept.features
    ]
    return msgspec.structs.replace(kept, features=features)


def views_to_measure(project: Project, names: Sequence[str] | None) -> list[FeatureView | OnDemandFeatureView]:
    if names is None:
        on_demand = [view for view in project.on_demand_views.values() if not view.request_fields]
        return [*project.views.values(), *on_demand]
    views = []
    for name in dict.fromkeys(names):
        view = project.view(name)
        if view is None:
            known = [*project.views, *project.on_demand_views]
            raise NotFound(
                f"no feature view {name!r} is applied",
                hint=nearest(name, known) or "run `asof list views` to see what there is",
            )
        if isinstance(view, OnDemandFeatureView) and view.request_fields:
            needed = [each.name for each in view.request_fields]
            raise RequestError(
                f"{name!r} needs the request values {needed}, which profiles do not have",
                hint="profile the views it reads",
            )
        views.append(view)
    return views


__all__ = [
    "ProfileReport", "check", "columns_to_measure", "keep_profiles", "kept_profiles", "profile",
]  # fmt: skip
