"""Prometheus metrics, in its text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from asof.definitions import Snapshot
from asof.errors import AsofError
from asof.flows.admin.schedule import ScheduledJobStatus
from asof.flows.stream.status import PartitionStatus
from asof.profiles.expectations import ExpectationResult
from asof.server.telemetry.request_counts import BUCKETS, LatencyHistogram, RequestCounts
from asof.store import FeatureStore
from asof.timing import SECOND


class _CollectedMetrics:
    """Adapter: metrics that already exist, as a collector of the Prometheus library."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def exposed(metrics: Iterable[Metric]) -> bytes:
    """Metrics in the Prometheus text format."""
    registry = CollectorRegistry()
    registry.register(_CollectedMetrics(metrics))
    return generate_latest(registry)


def server_metrics(
    counts: RequestCounts,
    snapshot: Snapshot | None,
    *,
    now: int,
    lost: Collection[str] = (),
    results: Collection[ExpectationResult] = (),
    jobs: Collection[ScheduledJobStatus] = (),
) -> Iterator[Metric]:
    """Request counts of a server, the freshness of what it serves, and the newest results of expectations."""
    requests = CounterMetricFamily(
        "asof_requests", "Requests with a response.", labels=["route", "service", "status"]
    )  # fmt: skip
    for (route, service, status), n in counts.requests.items():
        requests.add_metric([route, service, str(status)], n)
    yield requests
    seconds = HistogramMetricFamily(
        "asof_request_seconds", "Time from a request's first byte to its response.", labels=["route", "service"]
    )
    for (route, service), histogram in counts.seconds.items():
        seconds.add_metric([route, service], *_buckets(histogram))
    yield seconds
    rows = CounterMetricFamily("asof_rows", "Entity rows read and rows written.", labels=["route", "service"])
    for (route, service), n in counts.rows.items():
        rows.add_metric([route, service], n)
    yield rows
    errors = CounterMetricFamily("asof_errors", "Failed requests, by error class.", labels=["kind"])
    for kind, n in counts.errors.items():
        errors.add_metric([kind], n)
    yield errors
    store = HistogramMetricFamily("asof_online_store_seconds", "Duration of reads of the online store.")
    store.add_metric([], *_buckets(counts.store))
    yield store
    lookups = CounterMetricFamily("asof_view_rows", "Rows looked up, by view and outcome.", labels=["view", "outcome"])
    newest = GaugeMetricFamily(
        "asof_view_newest_event_timestamp_seconds", "Newest event time among served rows.", labels=["view"]
    )
    for view, (found, missing, expired, time) in counts.views.items():
        for outcome, n in (("found", found), ("missing", missing), ("expired", expired)):
            lookups.add_metric([view, outcome], n)
        if time:
            newest.add_metric([view], time / SECOND)
    yield lookups
    yield newest
    others = CounterMetricFamily(
        "asof_served_rows_logged", "Served rows written to the feature log, or dropped.", labels=["outcome"]
    )
    for name, n in counts.others.items():
        others.add_metric([name], n)
    yield others
    failed = GaugeMetricFamily(
        "asof_expectation_failed", "1 where the newest check of an expectation failed.",
        labels=["view", "feature", "expectation"],
    )  # fmt: skip
    checked = GaugeMetricFamily(
        "asof_expectations_checked_timestamp_seconds", "When a view's expectations were checked last.", labels=["view"]
    )
    for each in results:
        failed.add_metric([each.view, each.feature, each.expectation], float(not each.ok))
    for name, when in {each.view: each.when for each in results}.items():
        checked.add_metric([name], when / SECOND)
    yield failed
    yield checked
    if jobs:
        yield from schedule_metrics(jobs)
    if snapshot is not None:
        yield from _facts(snapshot, now, lost)


def _facts(snapshot: Snapshot, now: int, lost: Collection[str]) -> Iterator[Metric]:
    yield GaugeMetricFamily("asof_registry_version", "Version of the registry that is served.", snapshot.version)
    until = GaugeMetricFamily(
        "asof_view_materialized_until_timestamp_seconds", "Event time up to which a view is materialized.",
        labels=["view"],
    )  # fmt: skip
    age = GaugeMetricFamily("asof_view_age_seconds", "Time since a view was last materialized.", labels=["view"])
    for view, known in snapshot.facts.materialized.items():
        if known.until is not None:
            until.add_metric([view], known.until / SECOND)
        if known.started is not None:
            age.add_metric([view], (now - known.started) / SECOND)
    yield until
    yield age
    gone = GaugeMetricFamily(
        "asof_view_rows_lost", "1 where the online store has lost a view's rows, so that reads of it fail.",
        labels=["view"],
    )  # fmt: skip
    for name in [name for name, each in snapshot.project.views.items() if each.online]:
        gone.add_metric([name], float(name in lost))
    yield gone


def stream_metrics(partitions: Iterable[PartitionStatus]) -> Iterator[Metric]:
    """Progress of a worker: its reads of each log, and its archives."""
    labels = ["source", "partition"]
    lag = GaugeMetricFamily("asof_stream_lag", "Events in the log that are not archived yet.", labels=labels)
    archived = GaugeMetricFamily("asof_stream_archived_offset", "Last archived offset.", labels=labels)
    behind = GaugeMetricFamily(
        "asof_stream_behind_seconds", "Age of the oldest event that is not archived.", labels=labels
    )
    freshness = GaugeMetricFamily(
        "asof_stream_freshness_seconds", "Time from the newest message's timestamp until it is served.", labels=labels
    )
    dead_letters = GaugeMetricFamily(
        "asof_stream_dead_letters", "Dead letters of a source, of all its partitions.", labels=["source"]
    )
    refused: Counter[str] = Counter()
    for each in partitions:
        place = [each.source, str(each.partition)]
        for family, value in (
            (lag, each.lag), (archived, each.archived), (behind, each.behind_s), (freshness, each.freshness_s),
        ):  # fmt: skip
            if value is not None:
                family.add_metric(place, value)
        refused[each.source] += each.dead_letters
    for source, number in refused.items():
        dead_letters.add_metric([source], number)
    yield from (lag, archived, behind, freshness, dead_letters)


def scheduled_jobs(store: FeatureStore) -> list[ScheduledJobStatus]:
    """How the jobs of the schedule stand; none without a schedule, or where the registry cannot be read."""
    try:
        return list(store.schedule_status()) if store.config.schedule else []
    except AsofError:
        return []  # a scrape of all other metrics does not fail for it


def schedule_metrics(jobs: Iterable[ScheduledJobStatus]) -> Iterator[Metric]:
    """How the jobs of the schedule stand."""
    labels = ["job"]
    ended = GaugeMetricFamily(
        "asof_schedule_last_end_timestamp_seconds", "When the last run of a job ended.", labels=labels
    )
    failed = GaugeMetricFamily("asof_schedule_failed", "1 where the last run of a job failed.", labels=labels)
    found = GaugeMetricFamily(
        "asof_schedule_found", "1 where the last run of a job found what needs attention.", labels=labels
    )
    late = GaugeMetricFamily(
        "asof_schedule_late_seconds", "Time since a job was due that was not begun; 0 if it was.", labels=labels
    )
    led = GaugeMetricFamily("asof_schedule_led", "1 where a process works through the schedule.")
    leader = ""
    for each in jobs:
        leader = each.leader
        if each.ended is not None:
            ended.add_metric([each.name], each.ended.timestamp())
        failed.add_metric([each.name], float(each.outcome == "failed"))
        found.add_metric([each.name], float(each.outcome == "found"))
        late.add_metric([each.name], each.late_s)
    led.add_metric([], float(bool(leader)))
    yield from (ended, failed, found, late, led)


def _buckets(histogram: LatencyHistogram) -> tuple[list[tuple[str, float]], float]:
    total, buckets = 0, []
    for bound, n in zip([*map(str, BUCKETS), "+Inf"], histogram.buckets, strict=True):
        total += n
        buckets.append((bound, float(total)))
    return buckets, histogram.total
