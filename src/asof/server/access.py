"""Who asks, and what they may do: what the routes need of a security, and the one that lets everybody do everything."""

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


class Principal(Protocol):
    """Somebody whose request was recognized."""

    name: str

    def require(self, action: Action, views: Iterable[Any] = ()) -> None:
        """Refuse what they may not do.

        Args:
            views: the feature views (definitions, with their tags) that are read or written; none for what concerns
                the whole project.

        Raises:
            NotPermitted: with what is missing.
        """
        ...


class Security(Protocol):
    """Recognizes callers. Called on the event loop for each request: it must not wait."""

    def authenticate(self, caller: Caller) -> Principal:
        """Who this is.

        Raises:
            NotAuthenticated: nobody that is known here.
        """
        ...


class Everybody:
    """The principal of a server without security."""

    name = ""

    def require(self, action: Action, views: Iterable[Any] = ()) -> None:
        """Everything is allowed."""


class OpenSecurity:
    """Recognizes everybody, without a look."""

    def __init__(self) -> None:
        self._everybody = Everybody()

    def authenticate(self, caller: Caller) -> Principal:
        """The same principal for all."""
        return self._everybody
