"""How views and sources are: how fresh, how far behind, when audited, how much used, and what needs attention.

It is made of four inputs: runs, audits, use, and the status of streams; `health_index` reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from asof.catalog.entries import CatalogEntry
from asof.defaults import USE_DAYS
from asof.definitions import FeatureView, OnDemandFeatureView, Projection, Snapshot
from asof.display import counted
from asof.timing import SECOND, moment, span_text

if TYPE_CHECKING:
    from asof.flows.runs import Run
    from asof.flows.stream.status import PartitionStatus
    from asof.flows.use import UseSums

STALE_AFTER = timedelta(days=7)
"""A batch-fed view without a ttl is stale if it was materialized longer ago."""

BEHIND_S = 900.0
"""A source is behind if its oldest message that is not archived is older, which no restart of a worker explains."""


_RANKS, _UNKNOWN = 6, 1
"""Number of ranks that the views of an entry may have, and the rank of one of which nothing is known."""


@dataclass(frozen=True)
class ViewAudit:
    """The last audit of a view.

    Args:
        keys: number of keys compared; differences: number of values that differed, by kind of cause in `causes`.
    """

    when: datetime
    keys: int
    differences: int
    causes: Mapping[str, int]


@dataclass(frozen=True)
class ViewHealth:
    """How a feature view, or an on-demand view, is.

    Args:
        source: its source; empty for an on-demand view.
        last_run: the newest run that wrote its rows: of the view, or of the worker on its source.
        served_until: rows up to this event time are served; None where that is not known, or nothing is.
        age_s: seconds from there to now.
        requests, training_sets: use of its features in the last `USE_DAYS` days; a request for two counts once for
            each.
        is_stale: what is served is older than it should be.
        attention: what needs attention, a sentence each; empty if all is well.
    """

    name: str
    source: str = ""
    last_run: Run | None = None
    served_until: datetime | None = None
    age_s: float | None = None
    audit: ViewAudit | None = None
    requests: int = 0
    training_sets: int = 0
    is_stale: bool = False
    attention: tuple[str, ...] = ()

    @property
    def requests_per_day(self) -> float:
        return self.requests / USE_DAYS

    @cached_property
    def rank(self) -> int:
        """Its share of a rank, without its use: the stale come last, those audited without a difference first."""
        audit = _UNKNOWN if self.audit is None else 2 if self.audit.differences else 0
        return self.is_stale * 3 + audit


@dataclass(frozen=True)
class SourceHealth:
    """How a source is.

    Args:
        views: the feature views that are made of it.
        is_log: it is a log or push source; `lag`, `behind_s`, `newest_message` and `dead_letters` are None for others.
        lag: number of messages that are not archived; behind_s: age of the oldest of them.
        newest_message: time of the newest message of the log.
        dead_letters: number of its dead letters.
        last_run: the newest run that read it.
    """

    name: str
    views: tuple[str, ...] = ()
    is_log: bool = False
    lag: int | None = None
    behind_s: float | None = None
    newest_message: datetime | None = None
    dead_letters: int | None = None
    last_run: Run | None = None
    attention: tuple[str, ...] = ()


@dataclass(frozen=True)
class HealthInputs:
    """What health is made of: the newest runs, the last audit of each view, the use of each feature, and streams."""

    runs: Sequence[Run] = ()
    audits: Mapping[str, ViewAudit] = field(default_factory=dict)
    use: Mapping[str, UseSums] = field(default_factory=dict)
    streams: Mapping[str, Sequence[PartitionStatus]] = field(default_factory=dict)


NONE = HealthInputs()
"""Nothing is known of anything."""


@dataclass(frozen=True)
class Health:
    """How all views and sources are.

    Args:
        at: the store's time of it.
        use: `view:feature` → its use in the last `USE_DAYS` days; features without any are left out.
        late: inputs that are missing or older than they should be, a sentence each.
    """

    at: datetime
    views: Mapping[str, ViewHealth]
    sources: Mapping[str, SourceHealth]
    use: Mapping[str, UseSums]
    late: tuple[str, ...] = ()

    def is_stale(self, entry: CatalogEntry) -> bool:
        """Whether what an entry is about is stale: a view, a feature of one, a service with one, a source of one."""
        return any(view.is_stale for view in self._views_of(entry))

    def is_unused(self, entry: CatalogEntry) -> bool:
        """Whether no feature of an entry was used in the last `USE_DAYS` days. Of an entity nothing is said."""
        return entry.kind != "entity" and not self._use_of(entry)

    def requests_of(self, entry: CatalogEntry) -> int:
        """Requests of the last `USE_DAYS` days for the features of an entry."""
        if entry.kind in ("feature", "service"):
            return sum(each.requests for each in self._use_sums(entry))
        return sum(view.requests for view in self._views_of(entry))

    def attention_of(self, entry: CatalogEntry) -> tuple[str, ...]:
        """What needs attention of the views of an entry, or of the source itself."""
        if entry.kind == "source":
            source = self.sources.get(entry.name)
            return source.attention if source is not None else ()
        return tuple(dict.fromkeys(reason for view in self._views_of(entry) for reason in view.attention))

    def rank(self, entry: CatalogEntry) -> int:
        """Of entries that match equally well the one with the lowest rank comes first: the most used, the fresh, the
        audited. Use counts by its magnitude, so that freshness decides between alike ones."""
        below = max((view.rank for view in self._views_of(entry)), default=_UNKNOWN)
        return below - self._use_of(entry).bit_length() * _RANKS

    def _views_of(self, entry: CatalogEntry) -> Iterator[ViewHealth]:
        names: Sequence[str]
        if entry.kind == "service":
            names = [reference.partition(":")[0] for reference in entry.expressions]
        elif entry.kind == "source":
            source = self.sources.get(entry.name)
            names = source.views if source is not None else ()
        else:
            # Most entries are features: of them this is asked thousands of times.
            view = self.views.get(entry.name.partition(":")[0])
            return iter(() if view is None else (view,))
        return (self.views[name] for name in dict.fromkeys(names) if name in self.views)

    def _use_sums(self, entry: CatalogEntry) -> list[UseSums]:
        references = [entry.name] if entry.kind == "feature" else entry.expressions
        return [self.use[each] for each in references if each in self.use]

    def _use_of(self, entry: CatalogEntry) -> int:
        """Requests and training sets."""
        if entry.kind in ("feature", "service"):
            return sum(each.requests + each.training_sets for each in self._use_sums(entry))
        return sum(view.requests + view.training_sets for view in self._views_of(entry))


def health_of(snapshot: Snapshot, inputs: HealthInputs, *, at: datetime, late: Sequence[str] = ()) -> Health:
    """The health of all views and sources, from its inputs."""
    project = snapshot.project
    by_view, by_source = _newest_runs(inputs.runs)
    made_of: dict[str, list[str]] = defaultdict(list)
    for view in project.views.values():
        made_of[view.source.name].append(view.name)
    sources = {
        name: _source_health(
            SourceHealth(name, tuple(made_of.get(name, ())), source.is_log, last_run=by_source.get(name)),
            inputs.streams.get(name),
        )
        for name, source in project.sources.items()
    }
    requests: dict[str, int] = defaultdict(int)
    training_sets: dict[str, int] = defaultdict(int)
    for feature, sums in inputs.use.items():
        requests[feature.partition(":")[0]] += sums.requests
        training_sets[feature.partition(":")[0]] += sums.training_sets
    views: dict[str, ViewHealth] = {}
    for name, view in project.views.items():
        source = sources[view.source.name]
        run = by_view.get(name) or (source.last_run if source.is_log else None)
        until = _served_until(snapshot, view, source, at)
        audit = inputs.audits.get(name)
        stale = _stale_reason(view, source, until, at)
        reasons = [*_run_reasons(run, at), *([stale] if stale else []), *_audit_reasons(audit, at), *source.attention]
        views[name] = ViewHealth(
            name, view.source.name, run, until, None if until is None else (at - until).total_seconds(), audit,
            requests[name], training_sets[name], bool(stale), tuple(dict.fromkeys(reasons)),
        )  # fmt: skip
    for derived in project.on_demand_views.values():
        below = [views[each] for each in _inputs_of(derived) if each in views]
        reasons = [f"view {each.name!r}: {reason}" for each in below for reason in each.attention]
        views[derived.name] = ViewHealth(
            derived.name, requests=requests[derived.name], training_sets=training_sets[derived.name],
            is_stale=any(each.is_stale for each in below), attention=tuple(dict.fromkeys(reasons)),
        )  # fmt: skip
    return Health(at, views, sources, inputs.use, tuple(late))


def _newest_runs(runs: Sequence[Run]) -> tuple[dict[str, Run], dict[str, Run]]:
    """The newest run that wrote rows of each view, and that read each source; audits and compactions do neither."""
    by_view: dict[str, Run] = {}
    by_source: dict[str, Run] = {}
    for run in runs:
        if run.kind not in ("audit", "compact", "profile", "training-set"):
            for view in run.views:
                by_view.setdefault(view, run)
            for source in run.sources:
                by_source.setdefault(source, run)
    return by_view, by_source


def _source_health(source: SourceHealth, partitions: Sequence[PartitionStatus] | None) -> SourceHealth:
    """A source with the numbers of its partitions."""
    if not source.is_log or partitions is None:
        return source
    name = source.name
    lag = sum(each.lag for each in partitions)
    behind_s = max((each.behind_s for each in partitions), default=0.0)
    newest = max((each.last_message for each in partitions if each.last_message is not None), default=None)
    dead_letters = sum(each.dead_letters for each in partitions)
    reasons = []
    if behind_s > BEHIND_S:
        what = f"{counted(lag, 'message')} of source {name!r} are not archived, the oldest for {span_of(behind_s)}"
        reasons.append(f"{what}: run `asof stream run`")
    if dead_letters:
        reasons.append(f"source {name!r} has {counted(dead_letters, 'dead letter')}: see `asof dead-letters list`")
    gaps = dict.fromkeys(gap for each in partitions for gap in each.gaps)
    reasons += [f"source {name!r}: events were lost: {gap}" for gap in gaps]
    return replace(
        source, lag=lag, behind_s=behind_s, newest_message=newest, dead_letters=dead_letters, attention=tuple(reasons)
    )


def _served_until(snapshot: Snapshot, view: FeatureView, source: SourceHealth, at: datetime) -> datetime | None:
    if not source.is_log:
        run = snapshot.facts.materialized.get(view.name)
        return None if run is None or run.until is None else moment(run.until)
    if source.lag is None or source.newest_message is None:
        return None
    return source.newest_message if not source.lag else at - timedelta(seconds=source.behind_s or 0.0)


def _stale_reason(view: FeatureView, source: SourceHealth, until: datetime | None, at: datetime) -> str:
    """Why what is served is older than it should be; empty if it is not. A log in which nothing comes is not stale."""
    if not view.online:
        return ""
    if source.is_log:
        behind_s = source.behind_s or 0.0
        return f"it is {span_of(behind_s)} behind its source" if behind_s > BEHIND_S else ""
    if until is None:
        return "it was never materialized up to now: run `asof materialize`"
    age = at - until
    if view.ttl and age > timedelta(microseconds=view.ttl):
        return f"it was materialized {_ago(age)}, longer than its ttl: reads return null; run `asof materialize`"
    if not view.ttl and age > STALE_AFTER:
        return f"it was materialized {_ago(age)}: run `asof materialize`"
    return ""


def _run_reasons(run: Run | None, at: datetime) -> list[str]:
    if run is None or run.outcome != "failed":
        return []
    return [f"its last run ({run.kind}, {_ago(at - run.started)}) failed: {run.error}"]


def _audit_reasons(audit: ViewAudit | None, at: datetime) -> list[str]:
    if audit is None or not audit.differences:
        return []
    cause = max(audit.causes, key=lambda each: audit.causes[each], default="")
    found = f"its last audit ({_ago(at - audit.when)}) found {counted(audit.differences, 'difference')}"
    return [f"{found}: {cause}" if cause else found]


def _inputs_of(view: OnDemandFeatureView) -> list[str]:
    """The feature views that an on-demand view is made of, at any depth."""
    found: list[str] = []
    for each in view.sources:
        if isinstance(each, Projection):
            below = each.view
            found += _inputs_of(below) if isinstance(below, OnDemandFeatureView) else [below.name]
    return found


def _ago(age: timedelta) -> str:
    return f"{span_of(max(age.total_seconds(), 0.0))} ago"


def span_of(seconds: float) -> str:
    """A duration in its largest two units: `3d4h`, `20m`."""
    whole = round(seconds)
    for unit in (86_400, 3_600, 60):
        if whole >= unit:
            smaller = {86_400: 3_600, 3_600: 60, 60: 60}[unit]
            whole -= whole % smaller
            break
    return span_text(whole * SECOND)


__all__ = ["Health", "HealthInputs", "SourceHealth", "ViewAudit", "ViewHealth", "health_of"]
