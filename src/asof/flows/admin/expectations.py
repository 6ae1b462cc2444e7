"""Expectations of views: checked against their rows, and the results kept as records of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from asof.definitions import Expectation, FeatureView, OnDemandFeatureView, Snapshot
from asof.flows.admin.measure import Functions, RowChoice, measure_view
from asof.flows.stores import Progress, Stores, silent
from asof.profiles.expectations import ExpectationResult, result_of_age, result_of_rows
from asof.profiles.summary import MeasuredRows
from asof.registry.records import RegistryRecord
from asof.results import Records
from asof.sql.profile import ProfiledColumn
from asof.timing import Micros

RESULT_KIND = "expectations"
"""The kind of the registry's records of results; their subject is the view."""

KEPT_RESULTS = 60
"""How many results of a view are kept."""


def check_view(
    stores: Stores,
    snapshot: Snapshot,
    view: FeatureView | OnDemandFeatureView,
    *,
    chosen: RowChoice,
    functions: Functions,
    progress: Progress = silent,
) -> list[ExpectationResult]:
    """Check a view's expectations, and measure nothing else."""
    about = {each.feature for each in view.expectations}
    columns = [
        ProfiledColumn(
            each.name, each.dtype, f"f{place}", is_hidden=True, expectations=expectations_of(view, each.name)
        )
        for place, each in enumerate(view.features) if each.name in about
    ]  # fmt: skip
    found = measure_view(
        stores, snapshot, view, columns, chosen=chosen, functions=functions,
        progress=lambda done, total: progress(f"check {view.name}", done, total),
    )  # fmt: skip
    return results_of(view, found, when=stores.clock())


def expectations_of(view: FeatureView | OnDemandFeatureView, feature: str) -> tuple[Expectation, ...]:
    """The expectations about one feature."""
    return tuple(each for each in view.expectations if each.feature == feature)


def results_of(
    view: FeatureView | OnDemandFeatureView, found: MeasuredRows, *, when: Micros
) -> list[ExpectationResult]:
    """The results of a view's expectations in what was measured, in the order of the expectations."""
    values = {each.feature: each.rows - each.nulls for each in found.features}
    seen: dict[str, int] = {}
    results = []
    for each in view.expectations:
        if not each.feature:
            results.append(result_of_age(each, view=view.name, newest=found.newest, when=when))
            continue
        place = seen.get(each.feature, 0)
        seen[each.feature] = place + 1
        results.append(
            result_of_rows(
                each, view=view.name, misses=found.misses[each.feature][place], values=values[each.feature],
                rows=found.rows, when=when,
            )
        )  # fmt: skip
    return results


def keep_results(stores: Stores, results: Mapping[str, Sequence[ExpectationResult]]) -> None:
    """Append the results of each view to the registry's records; of each view the newest `KEPT_RESULTS` stay."""
    records = [
        RegistryRecord(RESULT_KIND, view, each[0].when, {"results": [result.to_dict() for result in each]})
        for view, each in results.items() if each
    ]  # fmt: skip
    if records:
        stores.registry.append_records(stores.project, records)
        stores.registry.prune_records(stores.project, RESULT_KIND, keep=KEPT_RESULTS)


def kept_results(stores: Stores, snapshot: Snapshot, name: str | None = None) -> Records[ExpectationResult]:
    """The newest kept results of a view, or of all views; only of expectations that it still has."""
    found = []
    for record in stores.registry.records(stores.project, RESULT_KIND, name, limit=1_000_000, per_subject=1):
        view = snapshot.project.view(record.subject)
        current = {each.name for each in view.expectations} if view is not None else set()
        results = record.body.get("results")
        for each in results if isinstance(results, list) else ():
            try:
                result = ExpectationResult.of(each)
            except msgspec.ValidationError:
                continue
            if result.expectation in current:
                found.append(result)
    return Records(ExpectationResult, found)


__all__ = ["RESULT_KIND", "check_view", "expectations_of", "keep_results", "kept_results", "results_of"]
