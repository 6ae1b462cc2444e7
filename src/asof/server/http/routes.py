"""The handlers of all routes, called once a request is authenticated and decoded; and the table of routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from time import time_ns
from typing import Any

import orjson

from asof.definitions import FeatureView, LogSource
from asof.display import counted
from asof.errors import NotFound, PushNotApplied, RequestError, nearest, some
from asof.flows.stores import view_named
from asof.server.http import requests
from asof.server.http.errors import JSON, error_of_object
from asof.server.http.limits import above, refuse_wide
from asof.server.http.read_handlers import get_features, get_online_features, refuse_repeated_names
from asof.server.http.route import HttpRequest, HttpResponse, Route
from asof.server.http.visible import refuse_hidden_views, shows_job, writable_sources
from asof.server.http.write_rows import rows_of_source, rows_of_view
from asof.server.jobs.processes import no_job
from asof.server.process.service import Service
from asof.timing import micros


async def push(service: Service, request: HttpRequest) -> HttpResponse:
    """Push rows into a push source; they are durable and served when this returns."""
    content: requests.Push = request.content
    await _refuse_rows(service, request, content.df, "push_source_name")
    project = service.reading.snapshot.project
    source = project.sources.get(content.push_source_name)
    principal = request.principal
    if not isinstance(source, LogSource) or source.type != "push":
        known = writable_sources(principal, project)
        if not principal.may("read"):
            raise principal.hidden("write", "push source", [content.push_source_name], known)
        hint = nearest(content.push_source_name, known) or (f"push sources: {some(known)}" if known else "")
        nothing = "no push source is applied yet: define a PushSource, and run `asof apply`"
        if not principal.may("write"):
            nothing = "there is no push source that you may write to"
        if source is not None:
            hint = f"source {source.name!r} is of type {source.type}, so rows are not pushed to it; {hint or nothing}"
        raise NotFound(f"no push source {content.push_source_name!r} is applied", hint=hint or nothing)
    changed = project.views_changed_by(source)
    if not principal.may("read") and not principal.may("write", changed):
        raise principal.hidden("write", "push source", [source.name], writable_sources(principal, project))
    principal.require("write", changed)
    request.rows = len(next(iter(content.df.values()), ()))
    return await _pushed(service, source.name, partial(rows_of_source, source, content.df), content.batch_id)


async def _refuse_rows(service: Service, request: HttpRequest, columns: Mapping[str, list[Any]], name: str) -> None:
    """Refuse rows to write that are too many or too wide, or that have a name twice, before they are converted."""
    settings = service.settings
    refuse_wide(columns, "columns", settings.max_features)
    rows = max(map(len, columns.values()), default=0)
    if rows > settings.max_push_rows:
        raise above(f"the request writes {counted(rows, 'row')}", settings.max_push_rows, "max_push_rows")
    await refuse_repeated_names(service, request, columns, "df", name)


async def _pushed(service: Service, source: str, rows: Callable[[], Any], batch_id: str | None) -> HttpResponse:
    def work() -> int:
        return service.store.push(source, rows(), batch_id=batch_id)

    try:
        pushed = await service.in_writer(work)
    except PushNotApplied as error:
        service.catch_up(source)
        return HttpResponse(orjson.dumps({"status": "accepted", "message": error.message}), status=202)
    return HttpResponse(b"", headers=[rows_header(pushed)])


def rows_header(rows: int) -> tuple[bytes, bytes]:
    """Header with the number of rows written: Feast's client expects the body to be empty."""
    return (b"asof-rows", b"%d" % rows)


async def write_to_online_store(service: Service, request: HttpRequest) -> HttpResponse:
    """Write rows of a view: through its push log if it has a push source, else to the online store alone."""
    content: requests.WriteToOnlineStore = request.content
    await _refuse_rows(service, request, content.df, "feature_view_name")
    project = service.reading.snapshot.project

    def changed(view: FeatureView) -> list[FeatureView]:
        # Rows of a view with a push source go to that source, and so to all of its views.
        source = pushed_to(view)
        return [view] if source is None else project.views_changed_by(source)

    refuse_hidden_views(request.principal, project, [content.feature_view_name], "write", changed)
    view = view_named(service.reading.snapshot, content.feature_view_name)
    request.principal.require("write", changed(view))
    source, pushed = view.source, pushed_to(view)
    request.rows = len(next(iter(content.df.values()), ()))
    rows = partial(rows_of_view, view, content.df)
    if pushed is not None:
        answer = await _pushed(service, source.name, rows, None)
        return answer if answer.status != 200 else HttpResponse(b"null", headers=[JSON, *answer.headers])
    written = await service.in_writer(lambda: service.store.write_to_online_store(view.name, rows()))
    return HttpResponse(b"null", headers=[JSON, rows_header(written)])


def pushed_to(view: FeatureView) -> LogSource | None:
    """The push source of a view, if it has one."""
    source = view.source
    return source if isinstance(source, LogSource) and source.type == "push" else None


async def materialize(service: Service, request: HttpRequest) -> HttpResponse:
    """Materialize an interval of event times, or what is new; with `?async=true`, in a background job."""
    content: requests.Materialize = request.content
    refuse_wide(content.feature_views or (), "feature views", service.settings.max_features)
    requests.refuse_repeated_names(request.body, (), "start_ts", "end_ts", "feature_views")
    if content.disable_event_timestamp:
        raise RequestError(
            "`disable_event_timestamp` is not supported: rows would look newer than they are", hint="leave it out"
        )
    return await _materialized(
        service, request, content.feature_views, content.start_ts, content.end_ts, content.version
    )


async def materialize_incremental(service: Service, request: HttpRequest) -> HttpResponse:
    """Materialize what is new since the last run."""
    content: requests.MaterializeIncremental = request.content
    refuse_wide(content.feature_views or (), "feature views", service.settings.max_features)
    requests.refuse_repeated_names(request.body, (), "end_ts", "feature_views")
    return await _materialized(service, request, content.feature_views, None, content.end_ts, content.version)


async def _materialized(
    service: Service,
    request: HttpRequest,
    names: list[str] | None,
    start: str | None,
    end: str | None,
    version: str | None,
) -> HttpResponse:
    if version is not None:
        raise RequestError("`version` is not supported: a view has one version", hint="leave out `version`")
    for name, text in (("start_ts", start), ("end_ts", end)):
        try:
            micros(text or 0)
        except ValueError as error:
            raise RequestError(
                f"{name}: {text!r} is not a time", hint="write ISO 8601, like 2026-11-23T12:00:00Z"
            ) from error
    if start is not None and end is not None and micros(end) <= micros(start):
        raise RequestError(f"materialize: end_ts {end} is not after start_ts {start}", hint="swap them")
    principal, project = request.principal, service.reading.snapshot.project
    if names:
        refuse_hidden_views(principal, project, names, "admin")
    views = service.views_to_materialize(names)
    if not principal.may("admin", views):
        # Without a view it names none: the whole project is what was asked for.
        principal.require("admin", views if names and principal.may("read") else ())
    names = [view.name for view in views]
    force = _flag(request, "force")
    is_async = _flag(request, "async")
    jobs = service.jobs
    start_job = partial(
        jobs.start, names, start=start, end=end, force=force, caller=request.principal.name,
        most=service.settings.max_jobs,
    )  # fmt: skip
    id = await service.in_writer(start_job)
    request.job = id
    headers = [JSON, (b"location", b"/jobs/" + id.encode())]
    if is_async:
        accepted = {"status": "accepted", "feature_views": names, "job": id}
        return HttpResponse(orjson.dumps(accepted), status=202, headers=headers)
    job = await service.in_waiter(jobs.wait, id)
    if job["state"] != "done":
        raise error_of_object(job["error"])
    return HttpResponse(b"null", headers=headers)


def _flag(request: HttpRequest, name: str) -> bool:
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise RequestError(f"?{name}={text}: expected true or false", hint=f"write ?{name}=true")
    return text == "true"


async def list_jobs(service: Service, request: HttpRequest) -> HttpResponse:
    """The jobs of this server."""
    project = service.reading.snapshot.project
    jobs = await service.in_writer(service.jobs.all)
    shown = [each for each in jobs if shows_job(request.principal, project, each["feature_views"])]
    return HttpResponse(orjson.dumps({"jobs": shown}))


async def get_job(service: Service, request: HttpRequest) -> HttpResponse:
    """One job, with its progress."""
    id = request.place["id"]
    job = await service.in_writer(service.jobs.get, id)
    if not shows_job(request.principal, service.reading.snapshot.project, job["feature_views"]):
        raise no_job(id)
    return HttpResponse(orjson.dumps(job))


async def health(service: Service, request: HttpRequest) -> HttpResponse:
    """Live: the event loop responds."""
    return HttpResponse(b"", headers=[])


async def ready(service: Service, request: HttpRequest) -> HttpResponse:
    """Ready: definitions are loaded, the online store has their rows, and the process is not shutting down."""
    state = service.state()
    if request.principal is None or not request.principal.may("read"):
        # All else names what is applied, or where it is kept.
        state = {"status": state["status"]}
    return HttpResponse(orjson.dumps(state), status=200 if state["status"] == "ready" else 503)


MATERIALIZE_QUERY = {
    "async": "Return at once, with the ID of a job.",
    "force": "Run even if one of the views is being materialized.",
}
MATERIALIZE_ANSWERS = {
    202: "Started; the body has the job's ID.",
    409: "One of the views is already being materialized.",
}


async def metrics(service: Service, request: HttpRequest) -> HttpResponse:
    """Prometheus metrics of all workers."""
    request.principal.require("read")

    def work() -> bytes:
        from asof.server.telemetry.metrics import exposed, scheduled_jobs, server_metrics

        counts = service.shared_counts.all()
        lost = [view.name for view in service.reading.lost]
        snapshot, results = service.reading.snapshot, service.expectation_results()
        jobs = scheduled_jobs(service.store)
        return exposed(server_metrics(counts, snapshot, now=time_ns() // 1000, lost=lost, results=results, jobs=jobs))

    body = await service.in_writer(work)
    return HttpResponse(body, headers=[(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")])


async def openapi(service: Service, request: HttpRequest) -> HttpResponse:
    """The OpenAPI document."""
    return HttpResponse(_document())


@cache
def _document() -> bytes:
    from asof.server.http.openapi import document

    return orjson.dumps(document(ROUTES))


ROUTES: tuple[Route[Service], ...] = (
    Route(
        "POST", "/get-online-features", get_online_features,
        "Current feature values, column by column, in Feast's format.",
        action="read", content=requests.GetOnlineFeatures,
    ),
    Route(
        "POST", "/v1/features", get_features, "Current feature values, row by row, or as an Arrow stream.",
        action="read", content=requests.Features, is_feast=False,
    ),
    Route(
        "POST", "/push", push, "Push rows; they are durable and served when it returns.", action="write",
        content=requests.Push, waits="write",
        answers={202: "The rows are durable and will be applied; do not push them again."},
    ),
    Route(
        "POST", "/write-to-online-store", write_to_online_store, "Write rows of a view.", action="write",
        content=requests.WriteToOnlineStore, waits="write",
        answers={202: "The rows are durable and will be applied; do not write them again."},
    ),
    Route(
        "POST", "/materialize", materialize, "Materialize an interval, or what is new since the last run.",
        action="admin", content=requests.Materialize, waits="job", query=MATERIALIZE_QUERY, answers=MATERIALIZE_ANSWERS,
    ),
    Route(
        "POST", "/materialize-incremental", materialize_incremental, "Materialize what is new since the last run.",
        action="admin", content=requests.MaterializeIncremental, waits="job", query=MATERIALIZE_QUERY,
        answers=MATERIALIZE_ANSWERS,
    ),
    Route(
        "GET", "/jobs", list_jobs, "The materialize runs of this server.",
        action="admin", is_feast=False, concerns="visible",
    ),
    Route(
        "GET", "/jobs/{id}", get_job, "One materialize run, with its progress.",
        action="admin", is_feast=False, concerns="visible",
    ),
    Route(
        "GET", "/metrics", metrics, "Prometheus metrics of all workers.",
        action="read", is_feast=False, concerns="project",
    ),
    Route("GET", "/openapi.json", openapi, "This document.", is_feast=False),
    Route("GET", "/health", health, "Liveness of the process.", is_feast=False),
    Route(
        "GET", "/ready", ready, "Readiness of the process for requests.", is_feast=False,
        knows_caller=True, answers={503: "Starting, or shutting down."},
    ),
)  # fmt: skip
