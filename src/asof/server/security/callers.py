"""Interface between the routes and the guard: caller, principal, security."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from asof.errors import NotAllowed

Action = Literal["read", "write", "admin"]
"""`read`: features. `write`: pushes and online rows. `admin`: materialize, jobs, metrics."""


class Caller(NamedTuple):
    """What is known of a request before its body is read.

    Args:
        headers: names in lower case, and values.
        peer_certificate: the client's certificate as `ssl` decodes it, with mutual TLS.
        address: the client's host.
    """

    headers: Sequence[tuple[bytes, bytes]]
    peer_certificate: Any
    address: str
    method: str
    path: str


class RequestPrincipal(Protocol):
    """An authenticated caller."""

    name: str

    def may(self, action: Action, views: Sequence[Any] = ()) -> bool:
        """Whether the caller has the role for each of these views; for the whole project if there are none."""
        ...

    def may_anywhere(self, action: Action) -> bool:
        """Whether the caller has the role for any part of the project."""
        ...

    def hidden(self, action: Action, what: str, names: Sequence[str], known: Collection[str]) -> NotAllowed:
        """The error for objects that the caller may not know of, and for ones that do not exist.

        Args:
            what: their kind; `names`: as the request has them; `known`: names of those that the caller may know of.
        """
        ...

    def require_any(self, action: Action) -> None:
        """Refuse a caller without any role, before the request's body is received.

        Args:
            action: the requested role, for the message.

        Raises:
            NotAllowed: names the missing role.
        """
        ...

    def require(self, action: Action, views: Iterable[Any] = ()) -> None:
        """Refuse a caller without the role.

        Args:
            views: the feature views (definitions, with their tags) that are read or written; none for an action on
                the whole project.

        Raises:
            NotAllowed: names the missing role.
        """
        ...


class IdentityLookupNeeded(Exception):
    """Authentication must wait for another server, such as the issuer of a token: call `identify`."""


class Security(Protocol):
    """Authenticates callers."""

    def authenticate(self, caller: Caller) -> RequestPrincipal:
        """Authenticate a caller. Called on the event loop for each request: must not block.

        Raises:
            NotAuthenticated: no or invalid credentials.
            IdentityLookupNeeded: it would have to wait.
        """
        ...

    async def identify(self, caller: Caller) -> RequestPrincipal:
        """The same; may wait."""
        ...

    def close(self) -> None:
        """Release resources; called last."""
        ...
