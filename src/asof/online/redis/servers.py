"""Servers of the Redis online store: their addresses, connections, and retries during a fail-over."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from asof.errors import StorageError
from asof.online.redis.connection import ConnectionLost, ErrorReply, RedisConnection, ReplyError
from asof.online.redis.errors import failure, too_old
from asof.online.redis.keys import ANCHORS, SLOTS, anchors, slot_of
from asof.online.redis.masters import SlotRange, locate
from asof.online.redis.settings import SECTION, Address, RedisSettings

T = TypeVar("T")

OLDEST = 7
"""The oldest supported version of Redis; all versions of Valkey are newer."""

PASSING = (
    "LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK", "UNBLOCKED", "BUSY", "NOREPLICAS",
    "NOSCRIPT",
)  # fmt: skip
"""Error codes during a fail-over, a restart or a move of slots: the call is retried."""

_PAUSES_S = (0.0, 0.02, 0.05, 0.1, 0.2)
"""Pause before each retry; the last one is for all later retries."""


class RedisConnectionPool:
    """A process's connections, by address; a forked child starts without any."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.idle: dict[tuple[Address, bool], deque[RedisConnection]] = {}
        self.opened = 0
        # Notified when a connection is returned or closed; waited for only if none is free.
        self.changed = threading.Condition()
        self.waiting = 0
        self.closed = False

    def let_go(self) -> None:
        """Count a closed connection: another may be opened."""
        with self.changed:
            self.opened -= 1
            self.changed.notify()


class RedisServers:
    """Connections to masters (or replicas, if requested), which follows changes of masters.

    Args:
        settings: connection settings.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self._connections = RedisConnectionPool()
        self._parents: list[RedisConnectionPool] = []
        self._locating = threading.Lock()
        self._ranges: list[SlotRange] | None = None
        self._before: list[SlotRange] = []
        self._by_slot: list[SlotRange] = []
        self._was_reached = False

    # Masters and slots

    @property
    def is_cluster(self) -> bool:
        return self.settings.kind == "cluster"

    def anchors(self) -> list[bytes]:
        """Hash tags of the hashes for tables and facts; a single empty one for a single master."""
        return list(anchors()) if self.is_cluster else [b""]

    def ranges(self) -> list[SlotRange]:
        """The slot ranges, as last located."""
        known = self._ranges
        if known is None:
            with self._locating:
                known = self._ranges
                if known is None:
                    known = locate(self.settings, before=self._before)
                    by_slot = [known[0]] * SLOTS
                    for each in known if len(known) > 1 else ():
                        by_slot[each.first : each.last + 1] = [each] * (each.last + 1 - each.first)
                    self._by_slot = by_slot
                    self._ranges = self._before = known
        return known

    def masters(self) -> list[Address]:
        """The masters, each once."""
        return list(dict.fromkeys(each.master for each in self.ranges()))

    def master_of(self, slot: int) -> Address:
        """The master that has the slot."""
        self.ranges()
        return self._by_slot[slot].master

    def master_of_anchor(self, anchor: bytes) -> Address:
        return self.master_of(slot_of(anchor)) if anchor else self.ranges()[0].master

    def anchor_at(self, address: Address) -> bytes | None:
        """An anchor whose slot this master has."""
        return next((each for each in self.anchors() if self.master_of_anchor(each) == address), None)

    def reader_of(self, slot: int) -> Address:
        """A replica of the slot's master, or the master if it has none."""
        self.ranges()
        chosen = self._by_slot[slot]
        return random.choice(chosen.replicas) if chosen.replicas else chosen.master

    def forget_locations(self) -> None:
        """Locate the masters again before the next call."""
        self._ranges = None

    # Connections

    def take(self, address: Address, *, readonly: bool = False) -> RedisConnection:
        """A connection for this thread only, until it is given back or closed."""
        connections = self._connections
        if connections.pid != os.getpid():
            connections = self._begin_in_child()
        if connections.closed:
            raise StorageError(f"the online store {self.settings.place} was closed", hint="create a new one")
        try:
            return connections.idle[address, readonly].pop()
        except (KeyError, IndexError):
            pass
        idle = connections.idle.setdefault((address, readonly), deque())
        waited = self._wait_for_room(connections, idle)
        if waited is not None:
            return waited
        try:
            return self._connect(address, readonly=readonly)
        except BaseException as error:
            connections.let_go()
            if isinstance(error, ConnectionLost):
                self._close_idle(connections, address)
            raise

    def _wait_for_room(self, connections: RedisConnectionPool, idle: deque[RedisConnection]) -> RedisConnection | None:
        """A connection that was returned meanwhile, or None if one more may be opened."""
        deadline = time.monotonic() + self.settings.timeout_s
        with connections.changed:
            connections.waiting += 1
            try:
                while True:
                    try:
                        if idle:
                            return idle.pop()
                        if connections.opened < self.settings.max_connections:
                            connections.opened += 1
                            return None
                        if other := next((each for each in list(connections.idle.values()) if each), None):
                            other.pop().close()  # of another server
                            return None
                    except IndexError:
                        continue  # a thread that was not waiting was faster
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        break
                    connections.changed.wait(left_s)
            finally:
                connections.waiting -= 1
        raise StorageError(
            f"all {self.settings.max_connections} connections to the online store {self.settings.place} were in "
            f"use for {self.settings.timeout_s:g} s",
            hint=f"raise `{SECTION}.max_connections`",
        )

    def give_back(self, connection: RedisConnection, *, readonly: bool = False) -> None:
        """Return the connection to the pool; no reply may be pending."""
        connections = self._connections
        if connections.closed:
            connection.close()
            connections.let_go()
            return
        connections.idle[connection.address, readonly].append(connection)
        if connections.waiting:
            with connections.changed:
                connections.changed.notify()

    def throw_away(self, connection: RedisConnection, error: BaseException) -> None:
        """Close a connection after an error: a late reply would be taken for that of the next command."""
        connection.close()
        self._connections.let_go()
        if isinstance(error, ConnectionLost):
            self._close_idle(self._connections, connection.address)

    @contextmanager
    def connection(self, address: Address) -> Iterator[RedisConnection]:
        """A connection to a master, for this thread only."""
        connection = self.take(address)
        try:
            yield connection
        except BaseException as error:
            self.throw_away(connection, error)
            raise
        self.give_back(connection)

    @contextmanager
    def several(
        self, addresses: Iterable[Address], *, readonly: bool = False
    ) -> Iterator[dict[Address, RedisConnection]]:
        """A connection to each of these servers."""
        taken: dict[Address, RedisConnection] = {}
        try:
            for address in addresses:
                taken[address] = self.take(address, readonly=readonly)
            yield taken
        except BaseException as error:
            for connection in taken.values():
                self.throw_away(connection, error)
            raise
        for connection in taken.values():
            self.give_back(connection, readonly=readonly)

    def _connect(self, address: Address, *, readonly: bool) -> RedisConnection:
        connection = RedisConnection(address, self.settings, readonly=readonly and self.is_cluster)
        try:
            self.check(address, connection.info, readonly=readonly)
        except BaseException:
            connection.close()
            raise
        return connection

    def check(self, address: Address, info: Mapping[str, str], *, readonly: bool) -> None:
        """Refuse an unsuitable server, by its INFO.

        Raises:
            ErrorReply: it is loading, a replica, or of another kind.
            StorageError: its version is too old.
        """
        if info.get("loading") == "1":
            raise ErrorReply(address, "LOADING the server reads its data from disk")
        version = info.get("redis_version", "0")
        if int(version.partition(".")[0]) < OLDEST:
            raise too_old(self.settings, version)
        # Valkey calls it `server_mode`.
        mode = info.get("redis_mode", info.get("server_mode"))
        if (mode == "cluster") != self.is_cluster:
            code = "CLUSTERMODE" if mode == "cluster" else "NOCLUSTER"
            raise ErrorReply(address, f"{code} the server is another kind")
        if info.get("role") == "slave" and not readonly:
            raise ErrorReply(address, "READONLY the server is a replica")
        self._was_reached = True

    def _begin_in_child(self) -> RedisConnectionPool:
        """Connections of a forked child. It must not use its parent's sockets, and keeps them referenced, unclosed."""
        self._parents.append(self._connections)
        closed = self._connections.closed
        self._connections = RedisConnectionPool()
        self._connections.closed = closed
        self._locating = threading.Lock()
        return self._connections

    @staticmethod
    def _close_idle(connections: RedisConnectionPool, address: Address) -> None:
        for readonly in (False, True):
            idle = connections.idle.get((address, readonly))
            while idle:
                try:
                    idle.pop().close()
                except IndexError:
                    break
                connections.let_go()

    def close(self) -> None:
        """Close idle connections; those in use are closed when they are returned."""
        connections = self._connections
        connections.closed = True
        if connections.pid == os.getpid():
            for address, _ in list(connections.idle):
                self._close_idle(connections, address)

    # Attempts

    def attempt(self, work: Callable[[], T]) -> T:
        """Run `work`, with retries while servers restart, fail over or move slots.

        Raises:
            StorageError: a permanent error, or no success within `retry_s`.
        """
        deadline = 0.0
        tries = 0
        while True:
            try:
                return work()
            except (ConnectionLost, ErrorReply) as error:
                deadline = deadline or time.monotonic() + self.settings.retry_s
                pause_s = self.pause(error, tries, deadline=deadline)
                tries += 1
                if pause_s:
                    time.sleep(pause_s)

    def pause(self, error: ConnectionLost | ErrorReply, tries: int, *, deadline: float) -> float:
        """Seconds to wait before the next attempt, after a failed one.

        Raises:
            StorageError: the error is permanent, or `retry_s` is over.
        """
        pause_s = _PAUSES_S[min(tries, len(_PAUSES_S) - 1)]
        passes = self._passes(error)
        if not passes or time.monotonic() + pause_s >= deadline:
            raise failure(self.settings, error, waited_s=self.settings.retry_s if passes else 0.0) from error
        self.forget_locations()
        return pause_s

    def _passes(self, error: ConnectionLost | ErrorReply) -> bool:
        """Whether the error is temporary. A server that has never responded is a wrong setting."""
        if isinstance(error, ConnectionLost):
            return self._was_reached
        if error.code == "READONLY" and self.settings.kind == "single":
            return self._was_reached
        return error.code in PASSING


def refused(address: Address, reply: Any) -> Any:
    """The reply, unless it is an error.

    Raises:
        ErrorReply: it is an error.
    """
    if isinstance(reply, ReplyError):
        raise ErrorReply(address, str(reply))
    return reply


__all__ = ["ANCHORS", "RedisServers", "refused"]
