"""One request from the connection to the store and back; it must equal the response of the routes, byte for byte.

For the most frequent request, without a task, ASGI or waiting: a read of one entity row of plain views on Feast's
route, from a store with a non-blocking reader. It is taken only if its head is byte for byte one that the HTTP parser
has accepted before. Everything else, and any request that meets a missing row, an error or an unreachable store, takes
the general path from its start.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from asof.errors import AsofError
from asof.server.fast_path.short_requests import ShortRequest, ShortRequests
from asof.server.http.errors import HttpError
from asof.server.http.read_handlers import get_online_features
from asof.server.http.requests import Columns, refuse_repeated_names
from asof.server.http.route import HttpRequest
from asof.server.http.routes import ROUTES
from asof.server.security.binding import refuse_foreign_host
from asof.server.security.callers import Caller, IdentityLookupNeeded, RequestPrincipal

if TYPE_CHECKING:
    from asof.server.http.connection import BoundedProtocol
    from asof.server.process.service import Service

HEADS, MOST_HEAD_BYTES, MOST_BODY_BYTES = 256, 4096, 16 << 10
"""Most remembered heads, and the largest head and body."""

ODD = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"origin"))
"""Headers that only the general path handles."""

Headers = Sequence[tuple[bytes, bytes]]

log = logging.getLogger("asof.server")


class ShortRequestBody(msgspec.Struct):
    """`GetOnlineFeatures` with undecoded features: their bytes are the key of a request that was planned before."""

    entities: Columns
    features: msgspec.Raw = msgspec.Raw(b"")
    feature_service: str | None = None
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


class Shortcut:
    """The shortcut of one process.

    Attributes:
        in_flight: number of requests that wait for the store.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.in_flight = 0
        self.route = next(each for each in ROUTES if each.handler is get_online_features)
        self.url = self.route.path.encode()
        self._requests = ShortRequests(service.reading)
        self._decode = msgspec.json.Decoder(ShortRequestBody).decode
        # Head (raw bytes) → its headers, and the total size with the body.
        self.heads: dict[bytes, tuple[Headers, int]] = {}

    def learn(self, connection: BoundedProtocol, head: bytes, headers: Headers) -> None:
        """Remember the head of a request that the parser has read, if it is plain enough for this path, and its caller
        is known: else those who are not would fill the memory, and drop the heads of others from it."""
        if len(head) > MOST_HEAD_BYTES or not head.startswith(b"POST "):
            return
        # With other line ends or folded lines, the parser might see another end of the head than this code.
        if not head.count(b"\n") == head.count(b"\r\n") == len(headers) + 2:
            return
        names = [name for name, _ in headers]
        sizes = [value for name, value in headers if name == b"content-length"]
        if ODD.intersection(names) or len(sizes) != 1 or not sizes[0].isdigit():
            return
        size, settings = int(sizes[0]), self.service.settings
        # A body has fewer values than bytes.
        if 0 < size <= min(MOST_BODY_BYTES, settings.max_body_bytes, settings.max_values):
            try:
                if self.service.is_for_this_machine:
                    refuse_foreign_host(headers, settings.allowed_hosts or ())
                self._principal(connection, headers)
            except (AsofError, IdentityLookupNeeded):
                return
            if len(self.heads) >= HEADS:
                self.heads.clear()
            self.heads[head] = (headers, len(head) + size)

    def _principal(self, connection: BoundedProtocol, headers: Headers) -> RequestPrincipal:
        address = connection.client[0] if connection.client else ""
        return self.service.security.authenticate(
            Caller(headers, connection.certificate, address, "POST", self.route.path)
        )

    def take(self, connection: BoundedProtocol, data: bytes) -> int:
        """Start the request in these bytes.

        Returns:
            The number of missing bytes; 0 if it was taken, -1 if it has to take the general path.
        """
        end = data.find(b"\r\n\r\n") + 4
        ordinary = self.heads.get(data[:end])
        if ordinary is None:
            return -1
        headers, size = ordinary
        service = self.service
        try:
            # First: the rest of a request is waited for only if its caller is authenticated.
            principal = self._principal(connection, headers)
        except (AsofError, IdentityLookupNeeded):
            return -1
        if len(data) != size:
            return max(size - len(data), -1)
        if service.is_draining or service.waiting() > service.settings.max_waiting or connection.flow.write_paused:
            return -1
        began = perf_counter()
        body = data[end:]
        try:
            content = self._decode(body)
            entities = content.entities
            if any(len(values) != 1 for values in entities.values()):
                return -1
            refuse_repeated_names(body, entities, "entities", "features", "feature_service")
            known = self._requests.get(bytes(content.features), content.feature_service, content.full_feature_names)
            if known is None or content.include_feature_view_version_metadata:
                return -1
            principal.require("read", known.prepared.views)
        except (AsofError, HttpError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return -1
        except Exception:
            log.exception("the fast path failed; the general path continues")
            return -1
        keys = known.one_row.keys(entities)
        if keys is None:
            return -1
        reply = PendingResponse(self, connection, data, began, HttpRequest(principal, body, content), known)
        if not known.ask(keys, reply):
            return -1
        known.prepared.used += 1
        self.in_flight += 1
        return 0


class PendingResponse:
    """A request that waits for the store: like a future, without another turn of the event loop."""

    __slots__ = ("_read_began", "_began", "_connection", "_data", "_known", "_request", "_shortcut")

    def __init__(
        self, shortcut: Shortcut, connection: BoundedProtocol, data: bytes, began: float, request: HttpRequest,
        known: ShortRequest,
    ) -> None:  # fmt: skip
        self._shortcut = shortcut
        self._connection = connection
        self._data = data
        self._began = began
        self._request = request
        self._known = known
        self._read_began = perf_counter()

    def done(self) -> bool:
        """False: it is never cancelled."""
        return False

    def set_result(self, values: Sequence[bytes | None]) -> None:
        """Called with the store's rows: send the response."""
        shortcut, request, known = self._shortcut, self._request, self._known
        shortcut.in_flight -= 1
        service = shortcut.service
        try:
            body = known.answer(
                request.content.entities, values, reads=service.reading, counts=service.counts, since=self._read_began
            )
        except Exception:
            log.exception("the fast path failed; the general path continues")
            body = None
        if body is None:
            self._connection.go_on(self._data)
            return
        self._connection.answer(body, closes=service.is_draining)
        request.rows, request.service, request.use = 1, known.prepared.service, known.prepared.use
        service.note(shortcut.route, request, 200, perf_counter() - self._began, None)

    def set_exception(self, error: BaseException) -> None:
        """Called when the store is unreachable: the general path retries."""
        self._shortcut.in_flight -= 1
        self._connection.go_on(self._data)
