"""HTTP over one connection: uvicorn's protocol, with bounds on what a client may send, and on how slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from asof.server.failures import HttpError, phrase, plain_body
from asof.server.security.tls import peer_certificate

MAX_HEAD_BYTES = 64 << 10
"""How large a request's line and headers may be together."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol; what of a request comes before its body is bounded in size, and by `sweep` in time."""

    head_bytes = 0
    idle_since: float | None = None
    # The request that was last seen complete while nothing was worked on.
    idle_after: Any = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_idle:
            self.head_bytes += len(data)
            if self.head_bytes > MAX_HEAD_BYTES:
                self.refuse(HttpError(431, "the request's headers are too large", hint="send fewer"))
        else:
            self.head_bytes = 0

    def send_400_response(self, msg: str) -> None:
        """What the parser does not understand is refused in JSON, too."""
        self.refuse(HttpError(400, "the request is no HTTP that this server understands", hint="send HTTP/1.1"))

    @property
    def is_idle(self) -> bool:
        """Whether no request is being worked on."""
        return self.cycle is None or self.cycle.response_complete

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

    certificate: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
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
        if not each.is_idle or each.timeout_keep_alive_task is not None:
            each.idle_since = None
        elif each.idle_since is None or each.idle_after is not each.cycle:
            each.idle_since, each.idle_after = now, each.cycle
        elif now - each.idle_since > receive_timeout_s:
            each.refuse(
                HttpError(408, f"the request did not arrive within {receive_timeout_s:g} s", hint="send it faster")
            )
