"""Non-blocking reads of Redis: one connection, on which concurrent reads are pipelined.

Only the server's hot path uses it. Sentinels are queried in a thread: that happens once per fail-over.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from ssl import SSLError
from typing import Any

from hiredis import Reader, ReplyError

from asof.errors import StorageError
from asof.online.protocol import Lookup, MarkedRows, OnlineTable, Reply
from asof.online.redis.connection import ConnectionLost, ErrorReply, info_of, introduction, pack_command
from asof.online.redis.keys import RedisNames
from asof.online.redis.rows import KEYS_PER_READ, TOKEN_BYTES, VERSION_BYTES, marked_rows_of
from asof.online.redis.servers import RedisServers
from asof.online.redis.settings import Address

_LOOKS_PER_TIMEOUT = 4


class AsyncReader:
    """A `NonBlockingReader` for one event loop. Create it with `RedisOnlineStore.async_reader`.

    Args:
        servers: a single server, or Sentinels.
    """

    def __init__(self, servers: RedisServers, names: RedisNames) -> None:
        self._servers = servers
        self._settings = servers.settings
        self._names = names
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None
        self._closed = False

    async def read(self, lookups: Sequence[Lookup]) -> list[MarkedRows]:
        """See `OnlineStore.read_marked`. Waits for a fail-over or a restart at most for `retry_s`.

        Raises:
            StorageError: the server cannot be read.
        """
        names = self._names.marked(lookups)
        if not names:
            return [[] for _ in lookups]
        values = await self._values(names)
        return marked_rows_of(lookups, values, values[-len(lookups) :])

    def asker(self, tables: Sequence[OnlineTable]) -> Callable[[Sequence[bytes], Reply], bool]:
        """See `NonBlockingReader.asker`."""
        before = [self._names.rows(table) for table in tables]
        markers = [self._names.marker(table, b"") for table in tables]

        def ask(keys: Sequence[bytes], reply: Reply) -> bool:
            wire = self._wire
            if wire is None or wire.is_lost:
                return False
            wire.send(
                pack_command((b"MGET", *[start + key + b"}" for start, key in zip(before, keys)], *markers)), reply
            )
            return True

        return ask

    @staticmethod
    def packed(tables: Sequence[OnlineTable], values: Sequence[bytes | None]) -> list[bytes | None]:
        """See `NonBlockingReader.packed`."""
        n = len(values) // 2
        if None in values[n:]:
            return [None] * n
        return [
            None if value is None else value[VERSION_BYTES if table.kind == "latest" else TOKEN_BYTES :]
            for table, value in zip(tables, values)
        ]

    async def _values(self, names: list[bytes]) -> list[bytes | None]:
        """The values of these names, at least one."""
        deadline = 0.0
        tries = 0
        while True:
            try:
                wire = self._wire
                if wire is None or wire.is_lost:
                    wire = await self._connect()
                if len(names) <= KEYS_PER_READ:
                    return await wire.ask(pack_command((b"MGET", *names)))
                pieces = [names[start : start + KEYS_PER_READ] for start in range(0, len(names), KEYS_PER_READ)]
                parts = await asyncio.gather(*(wire.ask(pack_command((b"MGET", *piece))) for piece in pieces))
                return [value for part in parts for value in part]
            except (ConnectionLost, ErrorReply) as error:
                if isinstance(error, ErrorReply) and wire is not None:
                    wire.close()
                deadline = deadline or time.monotonic() + self._settings.retry_s
                pause_s = self._servers.pause(error, tries, deadline=deadline)
                tries += 1
                await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Close the connection; pending reads fail."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._wire is not None:
            self._wire.close()

    async def _connect(self) -> _Wire:
        """The connection, opened once for all waiting reads."""
        if self._closed:
            raise StorageError(
                f"the reader of the online store {self._settings.place} was closed", hint="create a new one"
            )
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._open())
        # A cancelled read must not cancel the connection for the others.
        self._wire = await asyncio.shield(self._connecting)
        return self._wire

    async def _open(self) -> _Wire:
        settings = self._settings
        loop = asyncio.get_running_loop()
        ranges = await loop.run_in_executor(None, self._servers.ranges)
        stale = settings.replica_reads
        address = self._servers.reader_of(0) if stale else ranges[0].master
        host, port = address
        context = settings.tls_context()
        name = host if context is not None else None

        def make() -> _Wire:
            return _Wire(address, settings.timeout_s)

        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                if port:
                    _, wire = await loop.create_connection(make, host, port, ssl=context, server_hostname=name)
                else:
                    _, wire = await loop.create_unix_connection(make, host)
        except OSError as error:
            raise ConnectionLost(
                address, error, when="handshaking" if isinstance(error, SSLError) else "connecting"
            ) from error
        try:
            replies = await asyncio.gather(*(wire.ask(pack_command(each)) for each in introduction(settings)))
            self._servers.check(address, info_of(replies[-1]), readonly=stale)
        except BaseException:
            wire.close()
            raise
        return wire


class _Wire(asyncio.Protocol):
    """A connection: commands of one event loop iteration are sent in one write; replies come in the same order.

    Args:
        timeout_s: without a reply for this long the connection is closed, and all pending reads fail.
    """

    def __init__(self, address: Address, timeout_s: float) -> None:
        self.address = address
        self.is_lost = False
        self._timeout_s = timeout_s
        self._reader = Reader()
        self._waiting: deque[tuple[Reply, float]] = deque()
        self._outgoing: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport, which can be written to
        self._watch = self._loop.call_later(self._timeout_s / _LOOKS_PER_TIMEOUT, self._look)

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """The future reply to a packed command."""
        if self.is_lost:
            raise ConnectionLost(self.address, None, when="answering")
        future = self._loop.create_future()
        self.send(packed, future)
        return future

    def send(self, packed: bytes, reply: Reply) -> None:
        """Send a packed command, whose outcome goes to `reply`. Only while connected."""
        self._waiting.append((reply, self._loop.time()))
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packed)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None and not self.is_lost:
            self._transport.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        waiting = self._waiting
        while (reply := reader.gets()) is not False:
            future, _ = waiting.popleft()
            if future.done():  # the caller was cancelled
                continue
            if isinstance(reply, ReplyError):
                future.set_exception(ErrorReply(self.address, str(reply)))
            else:
                future.set_result(reply)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)

    def _look(self) -> None:
        """Close the connection if the server does not respond. One timer for all reads: one each would be slow."""
        if self.is_lost:
            return
        if self._waiting and self._loop.time() - self._waiting[0][1] > self._timeout_s:
            self._end(TimeoutError(f"no response within {self._timeout_s:g} s"))
            return
        self._watch = self._loop.call_later(self._timeout_s / _LOOKS_PER_TIMEOUT, self._look)

    def close(self) -> None:
        self._end(None)

    def _end(self, error: BaseException | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        if not self.is_lost:
            self.is_lost = True
            if self._transport is not None:
                self._transport.abort()
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                lost = ConnectionLost(self.address, error, when="answering")
                lost.__cause__ = error
                future.set_exception(lost)


__all__ = ["AsyncReader"]
