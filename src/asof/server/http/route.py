"""A route, and what goes through it: a request, its answer, and the work on it in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from asof.online_response import OnlineResponse
from asof.server.http.errors import JSON
from asof.server.security.callers import Action

S = TypeVar("S")
"""What the handlers of a route work with: the service, which knows of routes."""


@dataclass(slots=True)
class Request:
    """A request on its way through a route.

    Args:
        principal: who asks; nobody where the route has no action.
        body: the bytes; `content`: what they say, as the route's type.
        accept: the header of that name.
        query: the parameters behind the path; `place`: those in it.
    """

    principal: Any
    body: bytes
    content: Any
    accept: bytes = b""
    query: Mapping[str, str] = field(default_factory=dict)
    place: Mapping[str, str] = field(default_factory=dict)
    # For metrics and logs.
    service: str = ""
    rows: int = 0
    job: str = ""
    response: OnlineResponse | None = None


@dataclass(slots=True)
class Answer:
    """What goes back."""

    body: bytes = b""
    status: int = 200
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [JSON])


class Running:
    """A request that is received or worked on: what the sweep needs to end one that takes too long."""

    __slots__ = ("body_bytes", "expired", "reads_body", "since", "task")

    def __init__(self, since: float, task: Any) -> None:
        self.since = since
        self.task = task
        self.reads_body = True
        self.body_bytes = 0
        self.expired = False


@dataclass(frozen=True)
class Route(Generic[S]):
    """A route: the app, the API's document and its page all read this table.

    Args:
        action: what its caller must be allowed to do; empty for what everybody may.
        content: the type of its body; None where it has none.
        answers: status → what it means; of errors only those that are the route's own.
        is_feast: errors are written as Feast's client reads them.
        waits: how its time is bounded: `read` and `write` by `request_timeout_s`, `job` not at all.
    """

    method: str
    path: str
    handler: Callable[[S, Request], Awaitable[Answer]]
    summary: str
    action: Action | None = None
    content: type | None = None
    answers: Mapping[int, str] = field(default_factory=dict)
    is_feast: bool = True
    waits: str = "read"
    query: Mapping[str, str] = field(default_factory=dict)
