"""uvicorn's HTTP protocol, with limits on the size and duration of what a client sends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, Protocol

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asof.server.http.errors import HttpError, asof_body, phrase
from asof.server.security.tls import peer_certificate

MAX_HEAD_BYTES = 64 << 10
"""Most bytes of a request's line and headers, or of its trailers."""

PARSED_BYTES = 8 << 10
"""Bytes given to the parser at once; limits the pipelined requests behind the one that is handled."""

LINGER_S = 1.0
"""How long a connection that was closed to make room may take to close."""

ONCE = frozenset((b"host", b"authorization", b"x-api-key"))
"""Headers that a request has at most once: of two, a proxy and this server could go by different ones."""

HEAD_ONLY = ONCE | {b"cookie", b"origin", b"content-length", b"transfer-encoding", b"content-encoding", b"expect"}
"""Headers that are refused in trailers: they decide what a request may do, and how it is read."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_LAST_HEAD = _HEAD[:-2] + b"connection: close\r\n\r\n"


class FastPath(Protocol):
    """Serves some requests from the connection itself, without the parser and uvicorn."""

    url: bytes

    def learn(self, connection: BoundedProtocol, head: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember the head of a request that the parser has read, if the fast path can serve such requests."""

    def take(self, connection: BoundedProtocol, data: bytes) -> int:
        """Start a request; returns the number of missing bytes, 0 if it was taken, -1 if it is for the parser."""


class _Flow(FlowControl):
    """uvicorn's flow control, which resumes reading only once all received bytes are parsed."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()

    def hold(self) -> None:
        """Pause reading until `let_go`."""
        self.is_held = True
        self.pause_reading()

    def let_go(self) -> None:
        """Resume reading."""
        self.is_held = False
        self.resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a limit on the size of headers and trailers; `sweep` limits their time.

    Requests that the shortcut takes reach neither the parser nor uvicorn. If a response is sent before the whole
    request has arrived, the connection is closed and the rest is not read.
    """

    flow: _Flow
    head_bytes = 0
    idle_since: float | None = None
    # The last request that was complete while none was being handled.
    idle_after: Any = None
    # Unsent response bytes at the last sweep, and since when the client has read nothing.
    unread: tuple[int, float] = (0, 0.0)
    # Number of responses, and the time of the last one (or of the connection).
    answered = 0
    since = 0.0
    certificate: Any = None

    def __init__(self, config: Any, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self.shortcut: FastPath | None = getattr(config, "shortcut", None)
        # Whether the next byte starts a request; the bytes so far of one that may take the shortcut.
        self._is_between = True
        self._began = b""
        # Whether the shortcut is handling a request, how many it has handled, and the bytes behind the current one.
        self._is_short = False
        self._is_leaving = False
        self._shortened = 0
        self._later: list[bytes] = []
        # For a request that goes to the parser: the bytes that may be its head.
        self._head = b""
        # Whether headers belong to the head (not trailers); whether the last parse gave a body or its end.
        self._is_in_head = False
        self._has_moved = False
        # Keep-alive of the request that is being received, to apply once it has arrived completely.
        self._stays_open = False
        # What is wrong with the request that a callback of the parser has refused.
        self._problem = ""
        # The oldest request that is being handled, and the refusal that follows the responses of all of them.
        self._handled: Any = None
        self._last: HttpError | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn gives it a TCP transport
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self.since = monotonic()
        if self.client is None and transport.get_extra_info("socket") is not None:
            # The peer has reset the connection already. What it may have sent before is not handled: no response would
            # arrive, and the audit log would not know who it was.
            transport.abort()
            return
        most = getattr(self.config, "max_connections", 0)
        if most and len(self.connections) > most and not make_room(self.connections, most, newest=self):
            self.refuse(_crowded())

    def data_received(self, data: bytes) -> None:
        if self._last is not None:
            return
        if self._is_short or self.pipeline or self._later:
            self._later.append(data)
            self.flow.hold()
            return
        if self._is_between and self.shortcut is not None and self.has_answered:
            data = self._began + data
            missing = self.shortcut.take(self, data)
            if missing >= 0:
                self._unset_keepalive_if_required()
                self._is_short = not missing
                self._began = data if missing else b""
                return
            self._began = b""
            self._head = data[: data.find(b"\r\n\r\n") + 4]
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        if len(data) <= PARSED_BYTES:
            self._feed(data)
        else:
            view = memoryview(data)
            for start in range(0, len(data), PARSED_BYTES):
                self._feed(view[start : start + PARSED_BYTES])
                if self.transport.is_closing() or self._last is not None:
                    break
                if self.pipeline and start + PARSED_BYTES < len(data):
                    self._later.insert(0, data[start + PARSED_BYTES :])
                    self.flow.hold()
                    break
        self._head = b""

    def _feed(self, data: bytes | memoryview) -> None:
        self._has_moved = False
        super().data_received(data)  # type: ignore[arg-type]  # uvicorn declares a wider type
        if self._has_moved:
            self.head_bytes = 0
            return
        self.head_bytes += len(data)
        if self.head_bytes > MAX_HEAD_BYTES:
            self.refuse_next(
                HttpError(431, "the request's headers or trailers are too large", hint="send fewer or shorter headers")
            )

    def on_message_begin(self) -> None:
        self._is_between = False
        self._is_in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_in_head:
            super().on_header(name, value)
        elif name.lower() in HEAD_ONLY:
            raise self._invalid(f"has {name.lower().decode('latin-1')} in its trailer")
        # Other trailers are ignored: one must not be taken for a header.

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._refuse_ambiguous()
        super().on_headers_complete()
        if self.cycle is not None:
            # Until the whole request has arrived: an earlier response says `connection: close`, and closes.
            self._stays_open, self.cycle.keep_alive = self.cycle.keep_alive, False
        if self._head and self.shortcut is not None:
            scope = self.scope
            if (
                self.url == self.shortcut.url and scope["method"] == "POST" and scope["http_version"] == "1.1"
                and self._stays_open
            ):  # fmt: skip
                self.shortcut.learn(self, self._head, list(scope["headers"]))
            self._head = b""

    def _refuse_ambiguous(self) -> None:
        names = [name for name, _ in self.headers]
        if len(set(names)) < len(names):
            for name in ONCE:
                if names.count(name) > 1:
                    raise self._invalid(f"has {name.decode('latin-1')} more than once")
        if b"host" not in names and self.parser.get_http_version() == "1.1":
            raise self._invalid("has no Host header")

    def _invalid(self, problem: str) -> ValueError:
        """An exception for the parser, which refuses the request as it refuses all that is not valid."""
        self._problem = problem
        return ValueError(problem)

    def on_body(self, body: bytes) -> None:
        self._has_moved = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._is_between = True
        self._has_moved = True
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = self._stays_open
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.answered += 1
        self.since = monotonic()
        super().on_response_complete()
        if self._last is not None:
            if self.has_answered:
                self.refuse(self._last)
        elif self._later:
            self.loop.call_soon(self._take_up)

    def eof_received(self) -> None:
        """The client sends no more: the connection is closed, and uvicorn drops the response that it works on."""
        if not self.has_answered:
            self.cycle.disconnected = True

    def answer(self, body: bytes, *, closes: bool) -> None:
        """Send a response of the shortcut; `closes`: it is the last one on this connection."""
        self._is_short = False
        self._shortened += 1
        if not self.transport.is_closing():
            self.transport.write((_LAST_HEAD if closes or self._is_leaving else _HEAD) % len(body) + body)
            if closes or self._is_leaving:
                self.transport.close()
        self.on_response_complete()
        self._take_up()

    def go_on(self, data: bytes) -> None:
        """Pass a request that the shortcut has started to the general path."""
        self._is_short = False
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._parse(data)
            self._take_up()

    def _take_up(self) -> None:
        """Process the bytes received meanwhile, unless another request has to be completed first."""
        if self._later and not self._is_short and not self.pipeline and not self.transport.is_closing():
            data = b"".join(self._later)
            self._later.clear()
            self.flow.let_go()
            self.data_received(data)

    def shutdown(self) -> None:
        """Close the connection, after the response that the shortcut is working on."""
        if self._is_short:
            self._is_leaving = True
        else:
            self._stays_open = False
            super().shutdown()

    @property
    def has_answered(self) -> bool:
        """Whether no request is being handled, except by the shortcut."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_idle(self) -> bool:
        """Whether no request is being handled or received."""
        return self.has_answered and not self._is_short and not self._began

    @property
    def is_silent(self) -> bool:
        """Whether the connection waits for a request, or the rest of one, without uvicorn's timer."""
        return self.has_answered and not self._is_short and self.timeout_keep_alive_task is None

    @property
    def is_waiting_for_client(self) -> bool:
        """Whether only the client can make progress, by sending or reading."""
        if self._is_short:
            return False
        return self.has_answered or self.flow.write_paused or (self.cycle.more_body and not self.pipeline)

    @property
    def place(self) -> tuple[Any, int]:
        """An identity of the current request: it differs after each one."""
        return self.cycle, self._shortened

    def send_400_response(self, msg: str) -> None:
        """Response to bytes that the parser rejects: JSON, too."""
        problem = f": it {self._problem}" if self._problem else ""
        self.refuse_next(HttpError(400, f"the request is not valid HTTP/1.1{problem}", hint="send HTTP/1.1"))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._handled = cycle
        super()._start_asgi_task(cycle, app)

    def refuse_next(self, error: HttpError) -> None:
        """Refuse the request that is being received; those before it on the connection get their responses first."""
        if self.transport is None or self.transport.is_closing():
            return
        if self.pipeline and self.cycle.more_body:
            # Not handled yet, and now it never is.
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._handled
        if self.has_answered or self.cycle.more_body:
            self.refuse(error)
            return
        self._last = error
        self._later.clear()
        self.flow.hold()

    def refuse(self, error: HttpError) -> None:
        """Send an error outside of a request, and close the connection."""
        if self.transport is None or self.transport.is_closing():
            return
        if not self.has_answered and (self.pipeline or self.cycle.response_started or not self.cycle.more_body):
            # The client would take it for the response to another request, or for more of one.
            self.transport.close()
            return
        body = asof_body(error)
        head = (
            f"HTTP/1.1 {error.status} {phrase(error.status)}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


class TlsProtocol(BoundedProtocol):
    """The same over TLS; requests carry the client's certificate."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.certificate = peer_certificate(transport)

    def on_headers_complete(self) -> None:
        if self.certificate is not None:
            self.scope["extensions"] = {"tls": {"client_cert": self.certificate}}
        super().on_headers_complete()


def make_room(connections: set[Any], most: int, *, newest: BoundedProtocol) -> bool:
    """Close the connections that have waited longest for their client, those without a response first.

    Several are closed at once, so that this seldom runs. Returns whether any was closed.
    """
    waiting: list[BoundedProtocol] = [each for each in connections if each is not newest and each.is_waiting_for_client]
    waiting.sort(key=lambda each: (each.answered > 0, each.since))
    for each in waiting[: max(1, most // 16)]:
        if each.is_silent or not each.has_answered:
            each.refuse(_crowded())
        else:
            each.transport.close()
        # It is not counted any more, whether the client reads the response or not.
        connections.discard(each)
        each.loop.call_later(LINGER_S, each.transport.abort)
    return bool(waiting)


def _crowded() -> HttpError:
    return HttpError(503, "the server has too many connections", hint="retry later")


def sweep(connections: Iterable[Any], *, now: float, receive_timeout_s: float) -> None:
    """Close connections whose headers take too long, that send nothing, or that do not read a response.

    Connections between two requests have uvicorn's keep-alive timer.
    """
    for each in list(connections):
        if not isinstance(each, BoundedProtocol):
            continue
        size = each.transport.get_write_buffer_size()
        if size != each.unread[0] or not (each.flow.write_paused or each.transport.is_closing()):
            each.unread = (size, now)
        elif size and now - each.unread[1] > receive_timeout_s:
            each.transport.abort()
            continue
        if not each.is_silent:
            each.idle_since = None
        elif each.idle_since is None or each.idle_after != each.place:
            each.idle_since, each.idle_after = now, each.place
        elif now - each.idle_since > receive_timeout_s:
            each.refuse(
                HttpError(408, f"the request did not arrive within {receive_timeout_s:g} s", hint="send it faster")
            )
