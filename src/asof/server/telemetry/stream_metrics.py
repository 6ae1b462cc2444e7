"""Prometheus metrics of a stream worker, or of the schedule, on their own port."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from asof.errors import AsofError, ConfigError, MissingExtra
from asof.flows.admin.schedule import ScheduledJobStatus
from asof.flows.stream.status import PartitionStatus


def serve_stream_metrics(
    status: Callable[[], Iterable[PartitionStatus]], port: int, *, host: str = "127.0.0.1"
) -> Callable[[], None]:
    """Serve the metrics of each partition at `GET /metrics`; returns a function that stops it.

    Args:
        status: called at each scrape, from another thread.

    Raises:
        ConfigError: the port cannot be opened.
        MissingExtra: the packages are not installed.
    """

    def collected() -> Iterable[Any]:
        from asof.server.telemetry.metrics import stream_metrics

        return stream_metrics(status())

    return _serve(
        collected, port, host=host, known="asof_stream_status_known", meaning="1 if the logs could be read, else 0."
    )


def serve_schedule_metrics(
    status: Callable[[], Iterable[ScheduledJobStatus]], port: int, *, host: str = "127.0.0.1"
) -> Callable[[], None]:
    """Serve the metrics of each job of the schedule, as `serve_stream_metrics` does those of partitions."""

    def collected() -> Iterable[Any]:
        from asof.server.telemetry.metrics import schedule_metrics

        return schedule_metrics(status())

    return _serve(
        collected, port, host=host, known="asof_schedule_known", meaning="1 if the registry could be read, else 0."
    )


def _serve(
    collected: Callable[[], Iterable[Any]], port: int, *, host: str, known: str, meaning: str
) -> Callable[[], None]:
    """Serve these metrics, and one that says whether they could be collected."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.core import GaugeMetricFamily
    except ImportError as error:
        raise MissingExtra("--metrics-port", "server") from error

    class ScrapedMetrics:
        def collect(self) -> Iterator[Any]:
            try:
                found = list(collected())
            except AsofError:
                found = None
            family = GaugeMetricFamily(known, meaning)
            family.add_metric([], found is not None)
            yield family
            yield from found or ()

    registry = CollectorRegistry()
    registry.register(ScrapedMetrics())
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} for metrics: {error.strerror}", hint="choose another --metrics-port"
        ) from error

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)

    return stop
