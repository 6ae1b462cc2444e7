"""HTTP over one connection: uvicorn's protocol, with bounds on what a client may send, and on how slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asof.server.failures import HttpError, phrase, plain_body
from asof.server.security.tls import peer_certificate

MAX_HEAD_BYTES = 64 << 10
"""How large a request's line and headers may be together."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_LAST_HEAD = _HEAD[:-2] + b"connection: close\r\n\r\n"


class FastPath(Protocol):
    """A way from the connection to the store and back for some requests, past the parser and uvicorn."""

    url: bytes

    def learn(self, head: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Remember the head of a request for `url` that the parser has read, if it is an ordinary one."""

    def take(self, connection: BoundedProtocol, data: bytes) -> int:
        """Begin with a request: how many of its bytes are missing, none if it was taken, -1 if it is for the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol; what of a request comes before its body is bounded in size, and by `sweep` in time.

    What the shortcut takes never reaches the parser, nor uvicorn.
    """

    head_bytes = 0
    idle_since: float | None = None
    # The request that was last seen complete while nothing was worked on.
    idle_after: Any = None
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

    def data_received(self, data: bytes) -> None:
        if self._is_short:
            self._later.append(data)
            self.flow.pause_reading()
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
        super().data_received(data)
        self._head = b""
        if self.is_idle:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES:
                self.refuse(HttpError(431, "the request's headers are too large", hint="send fewer"))
        else:
            self.head_bytes = 0

    def on_message_begin(self) -> None:
        self._is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._head and self.shortcut is not None:
            scope = self.scope
            if (
                self.url == self.shortcut.url and scope["method"] == "POST" and scope["http_version"] == "1.1"
                and self.cycle is not None and self.cycle.keep_alive
            ):  # fmt: skip
                self.shortcut.learn(self._head, list(scope["headers"]))
            self._head = b""

    def on_message_complete(self) -> None:
        self._is_between = True
        super().on_message_complete()

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
        """Read what came in the meantime."""
        if self._later and not self.transport.is_closing():
            data = b"".join(self._later)
            self._later.clear()
            self.data_received(data)

    def shutdown(self) -> None:
        """Close the connection, or end with the answer that the shortcut works on."""
        if self._is_short:
            self._is_leaving = True
        else:
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
        body = plain_body(error)
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


def sweep(connections: Iterable[Any], *, now: float, receive_timeout_s: float) -> None:
    """Close connections whose request's headers take too long to come, or that never say anything.

    Those that wait between two requests have uvicorn's own timer.
    """
    for each in list(connections):
        if not isinstance(each, BoundedProtocol):
            continue
        if not each.is_silent:
            each.idle_since = None
        elif each.idle_since is None or each.idle_after != each.place:
            each.idle_since, each.idle_after = now, each.place
        elif now - each.idle_since > receive_timeout_s:
            each.refuse(
                HttpError(408, f"the request did not arrive within {receive_timeout_s:g} s", hint="send it faster")
            )
