"""`Route`, and what passes through one: `HttpRequest`, `HttpResponse` (the response), `ActiveRequest`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from asof.config.auth import ACTIONS
from asof.online_response import OnlineResponse
from asof.server.http.errors import JSON
from asof.server.security.callers import Action
from asof.server.telemetry.use_counts import RequestUse

S = TypeVar("S")
"""The service that handlers are called with; a type variable, because the service imports this module."""


@dataclass(slots=True)
class HttpRequest:
    """A request, as handlers get it.

    Args:
        principal: the authenticated caller; None if the route has no action and knows none.
        body: the raw body; `content` is the same, decoded as the route's type.
        accept: the header of that name.
        query: query parameters; `place`: path parameters.
        path: the raw path, still quoted.
        headers: names in lower case, and values.
    """

    principal: Any
    body: bytes
    content: Any
    accept: bytes = b""
    query: Mapping[str, str] = field(default_factory=dict)
    place: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    headers: Sequence[tuple[bytes, bytes]] = ()
    is_tls: bool = False
    # For metrics and logs.
    service: str = ""
    rows: int = 0
    job: str = ""
    response: OnlineResponse | None = None
    use: RequestUse | None = None


@dataclass(slots=True)
class HttpResponse:
    """A response."""

    body: bytes = b""
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [JSON])


class ActiveRequest:
    """A request in progress, with what is needed to cancel it at its timeout."""

    __slots__ = ("body_bytes", "expired", "reads_body", "since", "task")

    def __init__(self, since: float, task: Any) -> None:
        self.since = since
        self.task = task
        self.reads_body = True
        self.body_bytes = 0
        self.expired = False


@dataclass(frozen=True)
class Route(Generic[S]):
    """A route. The app, the OpenAPI document and docs/reference/http.md are all generated from these.

    Args:
        action: the role that callers need; None for a public route.
        concerns: what the role is needed for: `views`, those that the request names; `project`, all of it; `visible`,
            what of it is shown.
        knows_caller: a public route that shows more to a caller whose credentials are good.
        content: type of the request body; None if there is none, `bytes` for one that is not JSON.
        answers: status → meaning, for statuses that only this route returns.
        is_feast: errors have the shape that Feast's client parses.
        waits: the timeout: `read` and `write` have `request_timeout_s`, `job` has none.
    """

    method: str
    path: str
    handler: Callable[[S, HttpRequest], Awaitable[HttpResponse]]
    summary: str
    action: Action | None = None
    content: type | None = None
    answers: Mapping[int, str] = field(default_factory=dict)
    is_feast: bool = True
    waits: str = "read"
    concerns: Literal["views", "project", "visible"] = "views"
    knows_caller: bool = False
    query: Mapping[str, str] = field(default_factory=dict)

    def access(self, allow: Action | None, *, is_narrow: bool = False) -> Literal["yes", "its own", "no"]:
        """What of the route is for a caller: all, what its role is narrowed to, or nothing.

        Args:
            allow: the action that the caller's role allows; None without credentials, where the server needs them.
            is_narrow: whether the role has tags.
        """
        if self.action is None:
            return "yes"
        if allow is None or ACTIONS.index(allow) < ACTIONS.index(self.action):
            return "no"
        if not is_narrow:
            return "yes"
        return "no" if self.concerns == "project" else "its own"
