"""The steps of a request on a route: authenticate, read, decode, handle, respond, log; each has a limit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl

from asof.errors import AsofError, Overloaded
from asof.server.http.bodies import PARSED_ON_LOOP, BodyDecoder
from asof.server.http.errors import JSON, HttpError, asof_body, feast_body, headers_of, status_of
from asof.server.http.limits import may_have_more_values, refuse_many_values
from asof.server.http.route import ActiveRequest, HttpRequest, HttpResponse, Route
from asof.server.process.service import Service
from asof.server.security.binding import refuse_foreign_host
from asof.server.security.callers import Caller, IdentityLookupNeeded, RequestPrincipal

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

DRAIN_BYTES = 1 << 30
DRAIN_S = 10.0
"""Bytes and seconds of a refused body that are read and discarded, so that its sender gets to read the response. Only
for authenticated callers, because it occupies a connection; others find the connection closed."""

BODIES = 16
"""Limit of all bodies that a worker is receiving, in multiples of the largest allowed body."""

AUDITED = ("write", "admin")
"""Roles whose requests are in the audit log."""

log = logging.getLogger("asof.server")


class _ClientDisconnected(Exception):
    """The client closed the connection before its request was complete."""


class Endpoint:
    """An ASGI application for one route."""

    def __init__(self, service: Service, route: Route[Service]) -> None:
        self.service = service
        self.route = route
        self._decoder = BodyDecoder(route.content) if route.content not in (None, bytes) else None
        self._has_body = route.content is not None
        self._most = service.settings.max_body_bytes
        self._body_of = feast_body if route.is_feast else asof_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tracing = self.service.tracing
        if tracing is None:
            await self._answer(scope, receive, send)
            return
        with tracing.request(self.route.method, self.route.path, scope["headers"]):
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, route = self.service, self.route
        began = perf_counter()
        running = ActiveRequest(began, asyncio.current_task())
        service.running[running] = route
        request: HttpRequest | None = None
        principal: RequestPrincipal | None = None
        error: BaseException | None = None
        try:
            if service.is_for_this_machine:
                refuse_foreign_host(scope["headers"], service.settings.allowed_hosts or ())
            caller = Caller(scope["headers"], _certificate(scope), _address(scope), route.method, route.path)
            if route.knows_caller:
                with suppress(AsofError, IdentityLookupNeeded):
                    principal = service.security.authenticate(caller)
            elif route.action is not None:
                try:
                    principal = service.security.authenticate(caller)
                except IdentityLookupNeeded:
                    principal = await service.security.identify(caller)
                principal.require_any(route.action)
                if service.waiting() > service.settings.max_waiting:
                    raise _overloaded()
            body = await self._body(running, scope["headers"], receive)
            running.reads_body = False
            request = HttpRequest(principal, body, None)
            answer = await self._handled(request, scope)
        except asyncio.CancelledError:
            if not running.expired:
                raise
            running.task.uncancel()
            error = self._too_late(running)
            answer = self._failed(error, scope)
        except Exception as caught:
            if isinstance(caught, _ClientDisconnected):
                return
            error = caught
            answer = self._failed(error, scope)
        finally:
            # From here on only the client is waited for.
            service.body_bytes -= running.body_bytes
            del service.running[running]
        headers = answer.headers
        if service.is_draining:
            headers = [*headers, (b"connection", b"close")]
        is_unread = running.reads_body and principal is not None and not running.expired
        try:
            await self._send(answer, headers, send, receive if is_unread else None)
            service.note(route, request, answer.status, perf_counter() - began, error)
            if route.action in AUDITED:
                service.write_down(
                    route, request, principal, address=_address(scope), status=answer.status, error=error
                )
        finally:
            # A reference cycle with this frame would keep the request in memory until the garbage collector runs.
            del error

    async def _handled(self, request: HttpRequest, scope: Scope) -> HttpResponse:
        """Handle a request that has arrived completely."""
        service, route = self.service, self.route
        if route.action is None:
            _describe(request, scope)
            return await route.handler(service, request)
        service.working += 1
        try:
            if service.waiting() > service.settings.max_waiting:
                raise _overloaded()
            if self._decoder is not None:
                for name, value in scope["headers"]:
                    if name == b"accept":
                        request.accept = value
                        break
                body, most = request.body, service.settings.max_values
                if may_have_more_values(body, most):
                    await refuse_many_values(body, most)
                if len(body) <= PARSED_ON_LOOP:
                    request.content = self._decoder.decode(body)
                else:
                    request.content = await service.in_reader(self._decoder.decode_large, body)
            if not request.principal.may_anywhere(route.action):
                # After the body is decoded, so that the audit log has what was asked for.
                request.principal.require(route.action)
            _describe(request, scope)
            return await route.handler(service, request)
        finally:
            service.working -= 1

    async def _body(self, running: ActiveRequest, headers: Any, receive: Receive) -> bytes:
        if not self._has_body:
            return b""
        message = await receive()
        if message["type"] != "http.request":
            raise _ClientDisconnected
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(body) > self._most:
                raise self._too_large()
            return body
        for name, value in headers:
            if name == b"content-length" and value.isdigit() and int(value) > self._most:
                raise self._too_large()
        parts = bytearray()
        try:
            while True:
                parts += body
                if len(parts) > self._most:
                    raise self._too_large()
                self._count(running, len(body))
                if not message.get("more_body", False):
                    return bytes(parts)
                message = await receive()
                if message["type"] != "http.request":
                    raise _ClientDisconnected
                body = message.get("body", b"")
        finally:
            # The error's traceback keeps this frame's variables until the response is sent.
            parts.clear()

    def _count(self, running: ActiveRequest, size: int) -> None:
        """Limit the sum of all bodies being received: a request above its share is refused."""
        service = self.service
        running.body_bytes += size
        service.body_bytes += size
        most = BODIES * self._most
        if service.body_bytes > most and running.body_bytes * len(service.running) > most:
            raise _overloaded()

    def _too_large(self) -> HttpError:
        return HttpError(
            413, f"the request's body is larger than {self._most} bytes",
            hint="split it into several requests, or raise server.max_body_bytes", closes=True,
        )  # fmt: skip

    def _too_late(self, running: ActiveRequest) -> HttpError:
        settings = self.service.settings
        if running.reads_body:
            return HttpError(
                408, f"the request did not arrive within {settings.receive_timeout_s:g} s", hint="send it faster",
                closes=True,
            )  # fmt: skip
        outcome = "" if self.route.waits == "read" else "; the write may have been done"
        return HttpError(
            503, f"the request timed out after {settings.request_timeout_s:g} s{outcome}",
            hint="retry later, or raise server.request_timeout_s",
        )  # fmt: skip

    def _failed(self, error: BaseException, scope: Scope) -> HttpResponse:
        if not isinstance(error, AsofError):
            log.error("%s %s failed", self.route.method, self.route.path, exc_info=error)
        return HttpResponse(self._body_of(error), status_of(error), [JSON, *headers_of(error)])

    async def _send(self, answer: HttpResponse, headers: Any, send: Send, unread: Receive | None) -> None:
        body = answer.body
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [*headers, (b"content-length", b"%d" % len(body))],
            }
        )
        if unread is None:
            await send({"type": "http.response.body", "body": body})
            return
        # A client that is still sending would see a broken connection instead of the response.
        await send({"type": "http.response.body", "body": body, "more_body": True})
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_S):
                while left > 0:
                    message = await unread()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


def _describe(request: HttpRequest, scope: Scope) -> None:
    """Add what the request's first lines say."""
    if scope["query_string"]:
        request.query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    if "path_params" in scope:
        request.place = scope["path_params"]
    request.path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    request.headers = scope["headers"]
    request.is_tls = scope.get("scheme") == "https"


def _overloaded() -> Overloaded:
    return Overloaded("the server has too many requests in progress", hint="retry later")


def _certificate(scope: Scope) -> Any:
    return scope.get("extensions", {}).get("tls", {}).get("client_cert")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
