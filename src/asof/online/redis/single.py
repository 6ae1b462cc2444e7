"""Rows on a single master: one command for many keys; script calls are pipelined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from asof.errors import StorageError
from asof.online.protocol import Lookup, Row
from asof.online.redis.commands import RedisCommands
from asof.online.redis.connection import ConnectionLost, ErrorReply, RedisConnection, ReplyError, pack_command
from asof.online.redis.rows import KEYS_PER_READ, rows_of
from asof.online.redis.scripts import GONE
from asof.online.redis.servers import RedisServers, refused
from asof.online.redis.write import RowWrite, packed_call

CALLS_IN_FLIGHT = 4

Read = Callable[[Sequence[Lookup]], list[list[Row | None]]]


class SingleRows:
    """Reads and writes rows on a single master; `ClusterRows` is the counterpart for a cluster."""

    def __init__(self, commands: RedisCommands) -> None:
        self._commands, self._servers, self._names = commands, commands.servers, commands.names

    def read(self, names: list[bytes], *, stale: bool) -> list[bytes | None]:
        """The values of these names; `stale`: may be read from a replica."""
        if len(names) <= KEYS_PER_READ:
            return self._servers.attempt(lambda: self._read_at_once(names, stale=stale))
        values: list[bytes | None] = []
        for start in range(0, len(names), KEYS_PER_READ):
            piece = names[start : start + KEYS_PER_READ]
            values += self._servers.attempt(partial(self._read_at_once, piece, stale=stale))
        return values

    def read_marked(
        self, lookups: Sequence[Lookup], *, stale: bool
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """The values of all keys of the lookups, and perhaps more behind; then the marker of each lookup's table."""
        names = self._names.marked(lookups)
        if not names:
            return [], [b""] * len(lookups)
        values = self.read(names, stale=stale)
        return values, values[-len(lookups) :]

    def write(self, write: RowWrite) -> None:
        """Write the rows, and record in `write` which were written."""
        self._servers.attempt(lambda: self._write(write))

    def _read_at_once(self, names: list[bytes], *, stale: bool) -> list[bytes | None]:
        servers = self._servers
        address = servers.reader_of(0) if stale else servers.ranges()[0].master
        connection = servers.take(address, readonly=stale)
        try:
            connection.send(pack_command((b"MGET", *names)))
            reply = connection.receive()
            if reply.__class__ is not list:
                refused(address, reply)
        except BaseException as error:
            servers.throw_away(connection, error)
            raise
        servers.give_back(connection, readonly=stale)
        return reply

    def _write(self, write: RowWrite) -> None:
        """Calls to one server, several in flight. A retry starts after the last reply."""
        table, names = write.table, self._names
        head = [names.tables(table.project, b"")]
        field, kind = names.field(table), table.kind.encode()
        before = names.rows(table)
        (address,) = self._servers.masters()
        with self._servers.connection(address) as connection:
            self._commands.require(connection, write.within)
            self._commands.teach(connection, write.script)
            waiting: list[tuple[int, int]] = []
            for start, end in write.pieces():
                keys = [before + key + b"}" for key in write.keys[start:end]]
                if len(waiting) == CALLS_IN_FLIGHT:
                    self._take_answer(connection, write, *waiting.pop(0))
                connection.send(packed_call(write, [*head, *keys], field, kind, range(start, end)))
                waiting.append((start, end))
            for start, end in waiting:
                self._take_answer(connection, write, start, end)

    def _take_answer(self, connection: RedisConnection, write: RowWrite, start: int, end: int) -> None:
        reply = connection.receive()
        if isinstance(reply, ReplyError) and GONE in str(reply):
            raise self._commands.gone(write.table)
        for place in refused(connection.address, reply):
            write.kept[start + place] = False
        write.done = end


class RedisPendingRead:
    """A pending read, which holds a connection until `rows` or `drop` is called.

    Args:
        read: reads the same rows again after an error of the connection or the server.
        connection: the read was sent on it; None if it was not sent.
    """

    def __init__(
        self, read: Read, lookups: Sequence[Lookup], servers: RedisServers, connection: RedisConnection | None
    ) -> None:
        self._read, self._lookups, self._servers, self._connection = read, lookups, servers, connection

    def rows(self) -> list[list[Row | None]]:
        """The rows, as `OnlineStore.read` returns them."""
        connection, self._connection = self._connection, None
        if connection is None:
            return self._read(self._lookups)
        try:
            reply = refused(connection.address, connection.receive())
        except BaseException as error:
            self._servers.throw_away(connection, error)
            if isinstance(error, ConnectionLost | ErrorReply):
                return self._read(self._lookups)
            raise
        self._servers.give_back(connection)
        return rows_of(self._lookups, reply)

    def drop(self) -> None:
        """Cancel the read, if its rows were not read."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._servers.throw_away(connection, StorageError("not read"))
