"""How fresh a view is: what of its source is archived and served, and when it was last run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asof.catalog.health import ViewAudit
from asof.catalog.live import LiveValue
from asof.catalog.pages.page import PageRequest
from asof.catalog.pages.sections.examples import ServedKeys, served_keys
from asof.catalog.urls import url_of
from asof.definitions import FeatureView, LogSource
from asof.flows.stream.status import PartitionStatus
from asof.timing import moment


@dataclass(frozen=True)
class LogState:
    """The log of a source, over all of its partitions.

    Args:
        newest: the time of its newest message.
        archived: how many messages are archived, `lag` how many are not yet.
        behind_s: the age of the oldest message that is not archived.
        freshness_s: from the newest archived message's time to its archiving, of the slowest partition.
        dead_letters: messages that could not be used.
    """

    topic: str
    partitions: int
    newest: datetime | None
    archived: int
    lag: int
    behind_s: float
    freshness_s: float | None
    events_per_s: float
    dead_letters: int
    gaps: Sequence[str]


@dataclass(frozen=True)
class MaterializeState:
    """The last materialize run of a view, from the registry.

    Args:
        as_of: the latest time as of which its rows were computed.
        until: rows of the source with an event time before it have been read.
    """

    started: datetime | None
    as_of: datetime | None
    until: datetime | None
    rows: int


@dataclass(frozen=True)
class NewestRun:
    """The newest run that wrote rows of a view."""

    kind: str
    outcome: str
    started: datetime
    rows: int


@dataclass(frozen=True)
class ViewFreshness:
    """How fresh the values of one view are, and what its last audit found.

    Args:
        log: the state of the log that it is fed by; None for a view that is materialized.
        materialized: its last run; None if there was none, or it is fed by a log.
        served: some keys that are served.
        last_run: None where no record is kept of one.
        audit: the last one; None if it was never audited, or no record is kept.
    """

    view: str
    url: str
    source: str
    source_url: str
    is_online: bool
    log: LiveValue[LogState] | None
    materialized: MaterializeState | None
    served: LiveValue[ServedKeys]
    last_run: NewestRun | None
    audit: ViewAudit | None


def view_freshness(request: PageRequest, view: FeatureView) -> ViewFreshness:
    """How fresh the values of a view are, and what its last audit found."""
    health = request.current_health(with_streams=False).views.get(view.name)
    run = health.last_run if health is not None else None
    return ViewFreshness(
        view.name, url_of("view", view.name), view.source.name, url_of("source", view.source.name), view.online,
        log_state(request, view.source.name) if view.source.is_log else None, _materialize_state(request, view),
        served_keys(request, view),
        None if run is None else NewestRun(run.kind, run.outcome, run.started, run.views.get(view.name, run.rows)),
        health.audit if health is not None else None,
    )  # fmt: skip


def log_state(request: PageRequest, source: str) -> LiveValue[LogState]:
    """The state of the log of a source."""
    return request.live.get(("log-state", source), lambda: _state(list(request.store.stream_status(source))))


def _materialize_state(request: PageRequest, view: FeatureView) -> MaterializeState | None:
    """The last materialize run of the rows that are served; None if there was none, or the view is fed by a log."""
    facts = request.index.snapshot.facts
    current = facts.generations_of(view.name).current
    run = facts.last_run(view.name, current) if current is not None and not isinstance(view.source, LogSource) else None
    if run is None:
        return None
    started, as_of, until = (None if at is None else moment(at) for at in (run.started, run.as_of, run.until))
    return MaterializeState(started, as_of, until, run.rows)


def _state(partitions: Sequence[PartitionStatus]) -> LogState:
    delays = [each.freshness_s for each in partitions if each.freshness_s is not None]
    times = [each.last_message for each in partitions if each.last_message is not None]
    return LogState(
        topic=partitions[0].topic if partitions else "", partitions=len(partitions), newest=max(times, default=None),
        archived=sum(each.archived + 1 for each in partitions), lag=sum(each.lag for each in partitions),
        behind_s=max((each.behind_s for each in partitions), default=0.0), freshness_s=max(delays, default=None),
        events_per_s=sum(each.events_per_s for each in partitions),
        dead_letters=sum(each.dead_letters for each in partitions),
        gaps=list(dict.fromkeys(gap for each in partitions for gap in each.gaps)),
    )  # fmt: skip


__all__ = ["LogState", "MaterializeState", "ViewFreshness", "log_state", "view_freshness"]
