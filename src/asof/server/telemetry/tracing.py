"""OpenTelemetry traces, if enabled: one span per request, and one per read of the online store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from asof.errors import MissingExtra


class Tracing:
    """Records spans and exports them in batches from a background thread.

    Args:
        exporter: destination of spans; by default OTLP over HTTP, configured by the `OTEL_*` variables.
    """

    def __init__(self, *, exporter: Any = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            if exporter is None:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

                exporter = OTLPSpanExporter()
        except ImportError as error:
            raise MissingExtra("server.tracing", "otel") from error
        self._trace = trace
        # `service.name` of OTEL_RESOURCE_ATTRIBUTES or OTEL_SERVICE_NAME wins, if set.
        self._provider = TracerProvider(resource=Resource.create({"service.name": "asof"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("asof.server")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, route: str, headers: Sequence[tuple[bytes, bytes]]) -> Iterator[None]:
        """The span of a request, a child of its caller's span if the headers name one."""
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in (b"traceparent", b"tracestate")
        }
        context = self._propagator.extract(carrier) if carrier else None
        with self._tracer.start_as_current_span(
            f"{method} {route}", context=context, kind=self._trace.SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
        ):  # fmt: skip
            yield

    def note(self, *, status: int, service: str, rows: int, error: BaseException | None, message: str) -> None:
        """Set the outcome of the request on the current span."""
        span = self._trace.get_current_span()
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("asof.rows", rows)
        if service:
            span.set_attribute("asof.service", service)
        if error is not None:
            span.set_attribute("error.type", type(error).__name__)
        if status >= 500:
            span.set_status(self._trace.StatusCode.ERROR, message)

    def span(self, name: str) -> Any:
        """A child of the current span, as a context manager."""
        return self._tracer.start_as_current_span(name)

    def close(self) -> None:
        """Export the remaining spans."""
        self._provider.shutdown()
