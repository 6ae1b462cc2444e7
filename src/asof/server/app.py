"""The ASGI application: hot routes go directly to their endpoints, all others through Starlette."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from asof.errors import AsofError
from asof.server.http.endpoint import Endpoint, Receive, Scope, Send
from asof.server.http.errors import HttpError, asof_body, feast_body
from asof.server.http.routes import ROUTES
from asof.server.pages.routes import PAGE_ROUTES, PageEndpoint
from asof.server.process.service import Service

HOT = {"/get-online-features", "/v1/features"}
"""Paths that skip Starlette's router, which costs microseconds per request."""

OWN = {route.path for route in ROUTES if not route.is_feast}


class App:
    """The application of one process."""

    def __init__(self, service: Service) -> None:
        self.service = service
        endpoints = [Endpoint(service, route) for route in ROUTES]
        if service.settings.catalog:
            endpoints += [PageEndpoint(service, route) for route in PAGE_ROUTES]
        self._hot = {(each.route.method, each.route.path): each for each in endpoints if each.route.path in HOT}
        self.starlette = Starlette(
            routes=[StarletteRoute(each.route.path, each, methods=[each.route.method]) for each in endpoints],
            exception_handlers={HTTPException: _refuse},
        )
        # Its redirects would lead to whatever host the Host header names.
        self.starlette.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            endpoint = self._hot.get((scope["method"], scope["path"]))
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        await self.starlette(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Start and stop with the server. Starlette itself would report a failure with its traceback."""
        await receive()
        try:
            await self.service.start()
        except AsofError as error:
            self.service.failure = error
            await send({"type": "lifespan.startup.failed", "message": ""})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.service.stop()
        await send({"type": "lifespan.shutdown.complete"})


async def _refuse(request: Request, error: Exception) -> Response:
    """The response where Starlette finds no route: an unknown path, a wrong method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        refused = HttpError(404, f"there is no route {request.url.path}", hint="see /openapi.json")
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        refused = HttpError(405, f"route {request.url.path} has no method {request.method}", hint=f"use {allowed}")
    else:
        refused = HttpError(error.status_code, str(error.detail))
    path = request.url.path
    body = asof_body(refused) if path in OWN or path.startswith(("/v1/", "/jobs/")) else feast_body(refused)
    return Response(body, error.status_code, error.headers, "application/json")
