"""Who asks, and what they may do: the words between the routes and the guard."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

Action = Literal["read", "write", "admin"]
"""`read`: features. `write`: pushes and online rows. `admin`: materialize, jobs, metrics."""


class Caller(NamedTuple):
    """What is known of a request before it is read.

    Args:
        headers: lower-case names and values, as they came.
        peer_certificate: the client's certificate (as `ssl` decodes it) where mutual TLS is on.
        address: host of the other side.
    """

    headers: Sequence[tuple[bytes, bytes]]
    peer_certificate: Any
    address: str
    method: str
    path: str


class RequestPrincipal(Protocol):
    """Somebody whose request was recognized."""

    name: str

    def require_any(self, action: Action) -> None:
        """Refuse who may do nothing here: asked before the rest of a request is received.

        Args:
            action: what is asked for, to name it.

        Raises:
            NotAllowed: with what is missing.
        """
        ...

    def require(self, action: Action, views: Iterable[Any] = ()) -> None:
        """Refuse what they may not do.

        Args:
            views: the feature views (definitions, with their tags) that are read or written; none for what concerns
                the whole project.

        Raises:
            NotAllowed: with what is missing.
        """
        ...


class IdentityLookupNeeded(Exception):
    """Who this is can be told only after another was asked, such as the issuer of a token: `identify` does."""


class Security(Protocol):
    """Recognizes callers."""

    def authenticate(self, caller: Caller) -> RequestPrincipal:
        """Who this is. Called on the event loop for each request: it must not wait.

        Raises:
            NotAuthenticated: nobody that is known here.
            IdentityLookupNeeded: it would have to wait.
        """
        ...

    async def identify(self, caller: Caller) -> RequestPrincipal:
        """The same, waiting where that is needed."""
        ...

    def close(self) -> None:
        """Nobody will call any more."""
        ...
