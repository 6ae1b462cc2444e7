"""Prometheus metrics of a stream worker, on their own port."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from asof.errors import AsofError, ConfigError, MissingExtra
from asof.flows.stream.status import PartitionStatus

Status = Callable[[], Iterable[PartitionStatus]]


def serve_stream_metrics(status: Status, port: int, *, host: str = "127.0.0.1") -> Callable[[], None]:
    """Serve the metrics of each partition at `GET /metrics`; returns a function that stops it.

    Args:
        status: called at each scrape, from another thread.

    Raises:
        ConfigError: the port cannot be opened.
        MissingExtra: the packages are not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
        from prometheus_client.core import GaugeMetricFamily

        from asof.server.telemetry.metrics import stream_metrics
    except ImportError as error:
        raise MissingExtra("--metrics-port", "server") from error

    class ScrapedMetrics:
        def collect(self) -> Iterator[Any]:
            try:
                partitions = status()
            except AsofError:
                partitions = None
            known = GaugeMetricFamily("asof_stream_status_known", "1 if the logs could be read, else 0.")
            known.add_metric([], partitions is not None)
            yield known
            if partitions is not None:
                yield from stream_metrics(partitions)

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
