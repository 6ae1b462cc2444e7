"""The sessions of one engine on a Spark Connect server: each read has one to itself, and leaves it for the next."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock
from urllib.parse import urlsplit

from asof.connections.spark.errors import DRIVER_ERRORS, SessionLost, SparkAddress, status_of, translated
from asof.connections.spark.session import ServerSession
from asof.errors import ConfigError, Interrupted, StorageError
from asof.forks import ForkListener, leave_to_parent, listen_to_forks

_IDLE = 4
"""How many unused sessions are kept."""

_OLDEST_MAJOR = 4
"""Earlier servers do not know all of the SQL."""

_CHECK_AFTER_S = 30.0
"""An unused session is asked for whether it is still there, if it was used longer ago."""


class SessionPool(ForkListener):
    """Opens sessions on first use, and closes them all at the end.

    Args:
        remote: `sc://host:port`, with parameters of Spark Connect behind `/;`.
        token: a bearer token; empty for none.
        settings: of every session.
        retry_s: about how long a call is repeated while the server does not respond.
        where: `file:line` of the settings.
    """

    def __init__(
        self, remote: str, *, token: str = "", settings: Mapping[str, str], retry_s: float, where: str = ""
    ) -> None:
        self.target = SparkAddress(_address(remote), where=where)
        self._open: Callable[[], ServerSession] = lambda: ServerSession(
            remote, token=token, settings=settings, retry_s=retry_s
        )
        self._begin()
        listen_to_forks(self)

    def _begin(self) -> None:
        self._lock = Lock()
        self._idle: list[tuple[ServerSession, float]] = []
        self._used: list[ServerSession] = []
        self._is_closed = False
        self._has_fitting_version = False

    def after_fork_in_child(self) -> None:
        """See `ForkListener`: the connection's threads are missing in a child, which opens sessions of its own."""
        leave_to_parent(self._idle, self._used)
        self._begin()

    @contextmanager
    def session(self, what: str, *, user_sql: bool = False) -> Iterator[ServerSession]:
        """A session that no other read uses; its views are dropped at the end.

        Args:
            what: what is done, for messages.
            user_sql: whether the SQL is the user's, so that errors in it are reported as theirs.

        Raises:
            StorageError: the server does not respond, or has lost the session during the read.
        """
        opened: ServerSession | None = None
        is_whole = False
        try:
            with translated(what, self.target, user_sql=user_sql):
                opened = self._taken()
                try:
                    yield opened
                    opened.drop_views()
                except DRIVER_ERRORS as error:
                    if self._is_closed:
                        raise Interrupted("the query was interrupted") from error
                    # What a new session lacks looks like an error of the SQL: no such view.
                    if status_of(error) == "UNAVAILABLE" or not opened.is_alive:
                        raise self.lost(what) from error
                    raise
            is_whole = True
        finally:
            if opened is not None:
                self._returned(opened, is_whole=is_whole)

    def lost(self, what: str) -> SessionLost:
        """The error of a session that the server no longer has."""
        return SessionLost(
            f"{what}: Spark at {self.target.address} has lost the session: it was restarted, does not respond, or "
            "closed the session",
            hint="run it again, when the server responds", where=self.target.where,
        )  # fmt: skip

    def _taken(self) -> ServerSession:
        while True:
            with self._lock:
                if self._is_closed:
                    raise StorageError("the offline store is closed", hint="open the feature store again")
                found, since = self._idle.pop() if self._idle else (None, 0.0)
            if found is None:
                break
            if time.monotonic() - since < _CHECK_AFTER_S or found.is_alive:
                with self._lock:
                    self._used.append(found)
                return found
            with suppress(*DRIVER_ERRORS):
                found.close()
        made = self._open()
        if not self._has_fitting_version:
            self._check_version(made)
            self._has_fitting_version = True
        with self._lock:
            self._used.append(made)
        return made

    def _check_version(self, session: ServerSession) -> None:
        version = session.version
        major = version.partition(".")[0]
        if major.isdecimal() and int(major) < _OLDEST_MAJOR:
            session.close()
            raise StorageError(
                f"Spark at {self.target.address} has version {version}, and Asof needs {_OLDEST_MAJOR}.0 or later",
                hint=f"use a server of Spark {_OLDEST_MAJOR}, or another that takes its SQL", where=self.target.where,
            )  # fmt: skip

    def _returned(self, session: ServerSession, *, is_whole: bool) -> None:
        with self._lock:
            # A fork, or `close`, may have forgotten it.
            is_ours = session in self._used
            if is_ours:
                self._used.remove(session)
            if is_ours and is_whole and not self._is_closed and len(self._idle) < _IDLE:
                self._idle.append((session, time.monotonic()))
                return
        if is_ours:
            with suppress(*DRIVER_ERRORS):
                session.close()

    def close(self) -> None:
        """Interrupt what runs, and close all sessions. Calling it again changes nothing."""
        with self._lock:
            self._is_closed = True
            idle, used = [each for each, _ in self._idle], list(self._used)
            self._idle.clear()
        for each in used:
            with suppress(*DRIVER_ERRORS):
                each.interrupt()
        for each in idle:
            with suppress(*DRIVER_ERRORS):
                each.close()


def _address(remote: str) -> str:
    """Host and port of a remote, for messages.

    Raises:
        ConfigError: it is none.
    """
    hint = "write sc://host:port; parameters follow behind /; such as sc://host:443/;use_ssl=true"
    shown = re.sub(r"(token=)[^;]*", r"\1…", remote)
    try:
        parts = urlsplit(remote.replace("/;", "/?", 1).partition("?")[0])
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"offline_store.remote {shown!r} is no address: {error}", hint=hint) from error
    if parts.scheme != "sc" or not host or parts.path not in ("", "/"):
        raise ConfigError(f"offline_store.remote {shown!r} is no address of Spark Connect", hint=hint)
    for each in filter(None, remote.partition("/;")[2].split(";")):
        if "=" not in each:
            raise ConfigError(f"offline_store.remote: the parameter {each!r} has no value", hint=hint)
    return f"{host}:{port or 15002}"


__all__ = ["SessionPool"]
