"""HTTP over one connection: uvicorn's protocol, with bounds on what a client may send, and on how slowly."""

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
"""How much may come at a stretch without a byte of a body: a request's line and headers, or its trailers."""

PARSED_BYTES = 8 << 10
"""How much is given to the parser at once: no more than that may become requests behind one that is worked on."""

LINGER_S = 1.0
"""How long a connection that had to make room may take to close."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_LAST_HEAD = _HEAD[:-2] + b"connection: close\r\n\r\n"


class FastPath(Protocol):
    """A way from the connection to the store and back for some requests, past the parser and uvicorn."""

    url: bytes

    def learn(self, head: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember the head of a request for `url` that the parser has read, if it is an ordinary one."""

    def take(self, connection: BoundedProtocol, data: bytes) -> int:
        """Begin with a request: how many of its bytes are missing, none if it was taken, -1 if it is for the parser."""


class _Flow(FlowControl):
    """uvicorn's flow control, which reads on only when what was read before has been parsed."""

    is_held = False

    def resume_reading(self) -> None:
        if not self.is_held:
            super().resume_reading()

    def hold(self) -> None:
        """Read no more until `let_go`."""
        self.is_held = True
        self.pause_reading()

    def let_go(self) -> None:
        """Read on."""
        self.is_held = False
        self.resume_reading()


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol; what of a request is not its body is bounded in size, and by `sweep` in time.

    What the shortcut takes never reaches the parser, nor uvicorn. A request that is answered before all of it has come
    ends its connection: the rest is not read.
    """

    flow: _Flow
    head_bytes = 0
    idle_since: float | None = None
    # The request that was last seen complete while nothing was worked on.
    idle_after: Any = None
    # How much of an answer the client had still to read when it was last looked at, and since when it reads nothing.
    unread: tuple[int, float] = (0, 0.0)
    # How many answers it had, and when it was opened or had the last one.
    answered = 0
    since = 0.0
    certificate: Any = None

    def __init__(self, config: Any, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self.shortcut: FastPath | None = getattr(config, "shortcut", None)
        # Whether the next byte begins a request; what came of one that may take the shortcut and is not whole.
        self._is_between = True
        self._began = b""
        # Whether the shortcut works on one, how many it has answered, and what came behind the one.
        self._is_short = False
        self._is_leaving = False
        self._shortened = 0
        self._later: list[bytes] = []
        # Of a request that the parser gets: what may be its head.
        self._head = b""
        # Whether headers are of the head, and not trailers; whether a body, or its end, came of what was parsed last.
        self._is_in_head = False
        self._has_moved = False
        # Whether the connection stays open after the request that is being received, once all of it has come.
        self._stays_open = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn gives it a TCP transport
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self.since = monotonic()
        most = getattr(self.config, "max_connections", 0)
        if most and len(self.connections) > most and not make_room(self.connections, most, newest=self):
            self.refuse(_crowded())

    def data_received(self, data: bytes) -> None:
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
                if self.transport.is_closing():
                    break
                if self.pipeline and start + PARSED_BYTES < len(data):
                    self._later.insert(0, data[start + PARSED_BYTES :])
                    self.flow.hold()
                    break
        self._head = b""

    def _feed(self, data: bytes | memoryview) -> None:
        self._has_moved = False
        super().data_received(data)  # type: ignore[arg-type]  # a tighter class than uvicorn has
        if self._has_moved:
            self.head_bytes = 0
            return
        self.head_bytes += len(data)
        if self.head_bytes > MAX_HEAD_BYTES:
            self.refuse(HttpError(431, "the request's headers or trailers are too large", hint="send fewer"))

    def on_message_begin(self) -> None:
        self._is_between = False
        self._is_in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer says nothing that is known here, and must not pass for a header.
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()
        if self.cycle is not None:
            # Until all of the request is there: what is answered before says that it closes the connection, and does.
            self._stays_open, self.cycle.keep_alive = self.cycle.keep_alive, False
        if self._head and self.shortcut is not None:
            scope = self.scope
            if (
                self.url == self.shortcut.url and scope["method"] == "POST" and scope["http_version"] == "1.1"
                and self._stays_open
            ):  # fmt: skip
                self.shortcut.learn(self._head, list(scope["headers"]))
            self._head = b""

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
        if self._later:
            self.loop.call_soon(self._take_up)

    def answer(self, body: bytes, *, closes: bool) -> None:
        """Send what the shortcut has found, as the last answer on this connection or not."""
        self._is_short = False
        self._shortened += 1
        if not self.transport.is_closing():
            self.transport.write((_LAST_HEAD if closes or self._is_leaving else _HEAD) % len(body) + body)
            if closes or self._is_leaving:
                self.transport.close()
        self.on_response_complete()
        self._take_up()

    def go_on(self, data: bytes) -> None:
        """Have a request that the shortcut had begun with answered in the general way."""
        self._is_short = False
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._parse(data)
            self._take_up()

    def _take_up(self) -> None:
        """Read what came in the meantime, unless another request has to be answered before."""
        if self._later and not self._is_short and not self.pipeline and not self.transport.is_closing():
            data = b"".join(self._later)
            self._later.clear()
            self.flow.let_go()
            self.data_received(data)

    def shutdown(self) -> None:
        """Close the connection, or end with the answer that the shortcut works on."""
        if self._is_short:
            self._is_leaving = True
        else:
            self._stays_open = False
            super().shutdown()

    @property
    def has_answered(self) -> bool:
        """Whether no request is being worked on, but that of the shortcut."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_idle(self) -> bool:
        """Whether no request is being worked on, nor waits for the rest of its body."""
        return self.has_answered and not self._is_short and not self._began

    @property
    def is_silent(self) -> bool:
        """Whether a request, or the rest of one, is waited for and uvicorn's timer does not run."""
        return self.has_answered and not self._is_short and self.timeout_keep_alive_task is None

    @property
    def is_waiting_for_client(self) -> bool:
        """Whether nothing goes on but that the client is to send, or to read."""
        if self._is_short:
            return False
        return self.has_answered or self.flow.write_paused or (self.cycle.more_body and not self.pipeline)

    @property
    def place(self) -> tuple[Any, int]:
        """Another one after each request."""
        return self.cycle, self._shortened

    def send_400_response(self, msg: str) -> None:
        """What the parser does not understand is refused in JSON, too."""
        self.refuse(HttpError(400, "the request is no HTTP that this server understands", hint="send HTTP/1.1"))

    def refuse(self, error: HttpError) -> None:
        """Answer outside of a request, and close the connection."""
        if self.transport is None or self.transport.is_closing():
            return
        if not self.has_answered and (self.pipeline or self.cycle.response_started or not self.cycle.more_body):
            # It would be read as the answer to another request, or as more of one.
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
    """The same over TLS: requests carry the certificate that the client showed."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.certificate = peer_certificate(transport)

    def on_headers_complete(self) -> None:
        if self.certificate is not None:
            self.scope["extensions"] = {"tls": {"client_cert": self.certificate}}
        super().on_headers_complete()


def make_room(connections: set[Any], most: int, *, newest: BoundedProtocol) -> bool:
    """Close those that have waited longest for their client, first such that never had an answer; whether any did.

    Some more than one are closed, so that it is seldom necessary to look for them.
    """
    waiting: list[BoundedProtocol] = [each for each in connections if each is not newest and each.is_waiting_for_client]
    waiting.sort(key=lambda each: (each.answered > 0, each.since))
    for each in waiting[: max(1, most // 16)]:
        if each.is_silent or not each.has_answered:
            each.refuse(_crowded())
        else:
            each.transport.close()
        # It need not read that, and counts no more.
        connections.discard(each)
        each.loop.call_later(LINGER_S, each.transport.abort)
    return bool(waiting)


def _crowded() -> HttpError:
    return HttpError(503, "the server has more connections than it can take on", hint="ask again later")


def sweep(connections: Iterable[Any], *, now: float, receive_timeout_s: float) -> None:
    """Close connections whose request's headers take too long to come, that never say anything, or read no answer.

    Those that wait between two requests have uvicorn's own timer.
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
