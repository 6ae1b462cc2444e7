"""The way of a request through a route: let in, read, recognized, handled, answered, noted; each step bounded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from asof.errors import AsofError, Overloaded
from asof.server import failures
from asof.server.access import AskFirst, Caller, Principal
from asof.server.failures import JSON, HttpError
from asof.server.route import Answer, Request, Route, Running
from asof.server.service import Service

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

DRAIN_BYTES = 1 << 30
DRAIN_S = 10.0
"""How much of a refused body is read and thrown away, so that its sender comes to read the answer."""

AUDITED = ("write", "admin")
"""What the audit log is about."""

log = logging.getLogger("asof.server")


class _Gone(Exception):
    """The other side hung up before its request was whole."""


class Endpoint:
    """An ASGI application for one route."""

    def __init__(self, service: Service, route: Route[Service]) -> None:
        self.service = service
        self.route = route
        self._decoder: msgspec.json.Decoder[Any] | None = (
            msgspec.json.Decoder(route.content) if route.content is not None else None
        )
        self._most = service.settings.max_body_bytes
        self._body_of = failures.feast_body if route.is_feast else failures.plain_body

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
        running = Running(began, asyncio.current_task())
        service.running[running] = route
        request: Request | None = None
        principal: Principal | None = None
        error: BaseException | None = None
        unread = False
        try:
            try:
                if service.waiting() > service.settings.max_waiting and route.action is not None:
                    raise Overloaded("the server has more requests than it can take on", hint="ask again later")
                headers = scope["headers"]
                if route.action is not None:
                    caller = Caller(headers, _certificate(scope), _address(scope), route.method, route.path)
                    try:
                        principal = service.security.authenticate(caller)
                    except AskFirst:
                        principal = await service.security.identify(caller)
                body = await self._body(headers, receive)
                running.reads_body = False
                request = Request(principal, body, None)
                if self._decoder is not None:
                    for name, value in headers:
                        if name == b"accept":
                            request.accept = value
                            break
                    request.content = failures.decoded(self._decoder, body)
                if scope["query_string"]:
                    request.query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
                if "path_params" in scope:
                    request.place = scope["path_params"]
                answer = await route.handler(service, request)
            except asyncio.CancelledError:
                if not running.expired:
                    raise
                running.task.uncancel()
                error = self._too_late(running)
                unread = running.reads_body
                answer = self._failed(error)
            except Exception as caught:
                if isinstance(caught, _Gone):
                    return
                error = caught
                unread = running.reads_body
                answer = self._failed(error)
            headers = answer.headers
            if service.is_draining:
                headers = [*headers, (b"connection", b"close")]
            await self._send(answer, headers, send, receive if unread else None)
            service.note(route, request, answer.status, perf_counter() - began, error)
            if route.action in AUDITED:
                service.write_down(
                    route, request, principal, address=_address(scope), status=answer.status, error=error
                )
        finally:
            del service.running[running]

    async def _body(self, headers: Any, receive: Receive) -> bytes:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            if len(body) > self._most:
                raise self._too_large()
            return body
        for name, value in headers:
            if name == b"content-length" and value.isdigit() and int(value) > self._most:
                raise self._too_large()
        parts, size = [body], len(body)
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise _Gone
            part = message.get("body", b"")
            size += len(part)
            if size > self._most:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> HttpError:
        return HttpError(
            413, f"the request's body is larger than {self._most} bytes",
            hint="send it in several requests, or raise server.max_body_bytes", closes=True,
        )  # fmt: skip

    def _too_late(self, running: Running) -> HttpError:
        settings = self.service.settings
        if running.reads_body:
            return HttpError(
                408, f"the request did not arrive within {settings.receive_timeout_s:g} s", hint="send it faster",
                closes=True,
            )  # fmt: skip
        outcome = "" if self.route.waits == "read" else "; it may have been done all the same"
        return HttpError(
            503, f"the request was not answered within {settings.request_timeout_s:g} s{outcome}",
            hint="ask again later",
        )  # fmt: skip

    def _failed(self, error: BaseException) -> Answer:
        if not isinstance(error, AsofError):
            log.error("%s %s failed", self.route.method, self.route.path, exc_info=error)
        return Answer(self._body_of(error), failures.status_of(error), [JSON, *failures.headers_of(error)])

    async def _send(self, answer: Answer, headers: Any, send: Send, unread: Receive | None) -> None:
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
        # A sender that is still busy sending would see a broken connection in place of the answer.
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


def _certificate(scope: Scope) -> Any:
    return scope.get("extensions", {}).get("tls", {}).get("client_cert")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""
