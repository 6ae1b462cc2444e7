"""The verbs of `FeatureStore` that report: what values look like, how they are used, what ran, what depends on what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from asof.applied_objects import AppliedObjects
from asof.defaults import PROFILE_ROWS, RUNS, SEED, USE_DAYS
from asof.flows.stores import Progress, silent
from asof.results import Records
from asof.store_admin import StoreAdmin
from asof.timing import moment_given

if TYPE_CHECKING:
    from asof.flows.admin.history import VersionChanges
    from asof.flows.admin.profile import ProfileReport
    from asof.flows.admin.schedule import ScheduledJobStatus
    from asof.flows.admin.source_schema import SchemaColumn
    from asof.flows.runs import Run
    from asof.flows.use import FeatureUse
    from asof.lineage import LineageGraph
    from asof.profiles.expectations import ExpectationResult
    from asof.profiles.summary import ViewProfile


class StoreReports(AppliedObjects):
    """Measures values, and says what is known of what is applied."""

    def profile(
        self,
        views: Sequence[str] | None = None,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        n: int = PROFILE_ROWS,
        seed: int = SEED,
        compare: str | None = None,
        keep: bool = True,
        progress: Progress = silent,
    ) -> ProfileReport:
        """Measure the values of views, and keep the summaries in the registry.

        Rows that this process pushed are archived first.

        Args:
            views: their names; all that need no request values where not given.
            start, end: event times `[start, end)` of the source's rows; without an end, until now. All of them are
                measured for a latest-value view; for an aggregated or on-demand view n of them are drawn, and its
                features measured as of their times.
            seed: the same seed draws the same rows.
            compare: measure drift from `previous`, a date or time, `training-set:NAME`, `served` or `served:SERVICE`.
            keep: keep them, so that a later profile can be compared with them.

        Returns:
            A report with a row per feature.

        Raises:
            NotFound: there is no such view, training set or feature log.
            RequestError: a view needs request values, or an argument does not fit.
        """
        from asof.flows.admin.profile import profile

        self._applied.pushers.flush()
        return profile(
            self._applied.stores, self._applied.snapshot(), views, start=moment_given(start, "start"),
            end=moment_given(end, "end"), n=n, seed=seed, compare=compare, keep=keep,
            functions=self._applied.repository.with_functions, progress=progress,
        )  # fmt: skip

    def check_expectations(
        self,
        views: Sequence[str] | None = None,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        n: int = PROFILE_ROWS,
        seed: int = SEED,
        keep: bool = True,
        progress: Progress = silent,
    ) -> Records[ExpectationResult]:
        """Check the expectations of views over the rows that `profile` would measure, and measure nothing else.

        Args:
            keep: keep the results in the registry, from where servers and pages read them.
        """
        from asof.flows.admin.profile import check

        self._applied.pushers.flush()
        return check(
            self._applied.stores, self._applied.snapshot(), views, start=moment_given(start, "start"),
            end=moment_given(end, "end"), n=n, seed=seed, keep=keep,
            functions=self._applied.repository.with_functions, progress=progress,
        )  # fmt: skip

    def kept_expectations(self, view: str | None = None) -> Records[ExpectationResult]:
        """The newest kept results of the expectations of a view, or of all views; nothing is computed."""
        from asof.flows.admin.expectations import kept_results

        return kept_results(self._applied.stores, self._applied.snapshot(), view)

    def kept_profiles(self, view: str | None = None, *, limit: int = 1) -> Records[ViewProfile]:
        """The newest kept profiles of a view, or of each view, newest first.

        What is tagged `pii` by now is hidden in them.
        """
        from asof.flows.admin.profile import kept_profiles
        from asof.profiles.summary import ViewProfile

        return Records(ViewProfile, kept_profiles(self._applied.stores, self._applied.snapshot(), view, limit=limit))

    def lineage(self) -> LineageGraph:
        """What is made of what in all that is applied: from sources and their columns to services and training sets."""
        return StoreAdmin(self._applied).lineage()

    def runs(self, kind: str | None = None, limit: int = RUNS) -> Records[Run]:
        """What was done to the store and how it ended, newest first; of each kind the registry keeps the last hundred.

        Args:
            kind: `materialize`, `backfill`, `load-history`, `rebuild`, `compact`, `audit`, `profile`, `stream`
                or `training-set`. What was applied is in `history`.
        """
        return StoreAdmin(self._applied).runs(kind, limit)

    def schedule_status(self) -> Records[ScheduledJobStatus]:
        """How each job of the configuration's schedule stands, and which process works through them."""
        return StoreAdmin(self._applied).schedule_status()

    def use(self, days: int = USE_DAYS) -> Records[FeatureUse]:
        """How often each feature was served, and how many training sets were saved with it: a row per feature and day.

        Servers count requests, not rows, with the inputs of on-demand views; they write their counts every half minute
        and when they stop. Reads of this object are not counted.

        Args:
            days: today and the days before; up to 100 are kept.
        """
        return StoreAdmin(self._applied).use(days)

    def version_changes(self, version: int) -> VersionChanges:
        """What one version of `history` changed, line by line."""
        return StoreAdmin(self._applied).version_changes(version)

    def source_schema(self, name: str) -> Records[SchemaColumn]:
        """The columns of a batch source: as they are declared, and as the source has them now."""
        return StoreAdmin(self._applied).source_schema(name)

    def training_set_changes(self, name: str) -> list[str]:
        """What has changed since a training set was saved, by which its values may differ; it is not made again."""
        return StoreAdmin(self._applied).training_set_changes(name)


__all__ = ["StoreReports"]
