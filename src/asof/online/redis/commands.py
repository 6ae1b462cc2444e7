"""Commands to one server, or to all masters of a cluster in parallel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from asof.errors import StorageError
from asof.online.protocol import OnlineTable, StoreReplaced
from asof.online.redis.connection import Argument, RedisConnection, ReplyError, pack_command
from asof.online.redis.keys import RedisNames, slot_of
from asof.online.redis.scripts import GONE, Script
from asof.online.redis.servers import RedisServers, refused
from asof.online.redis.settings import Address

NAMES_PER_PAGE = 1000


class NoSuchTable(Exception):
    """A script found no such table."""


class RedisCommands:
    """All commands except those on single rows.

    Args:
        servers: their connections.
        names: names of tables and rows.
    """

    def __init__(self, servers: RedisServers, names: RedisNames) -> None:
        self.servers, self.names, self.place = servers, names, servers.settings.place

    def ask(self, address: Address, command: tuple[Argument, ...]) -> Any:
        """The reply of one server."""
        with self.servers.connection(address) as connection:
            return connection.ask(*command)

    def kind_of(self, table: OnlineTable) -> str | None:
        """The table's kind; None if it does not exist."""
        anchor = self.servers.anchors()[0]
        command = ("HGET", self.names.tables(table.project, anchor), self.names.field(table))
        found = self.servers.attempt(lambda: self.ask(self.servers.master_of_anchor(anchor), command))
        return found.decode() if found is not None else None

    def on_anchors(
        self, make: Callable[[bytes], tuple[Argument, ...]], script: Script | None = None, *, within: str = ""
    ) -> list[Any]:
        """The replies to a command about each anchor, in order; all nodes in parallel."""

        def work() -> list[Any]:
            anchors = self.servers.anchors()
            nodes: dict[Address, list[bytes]] = {}
            for anchor in anchors:
                nodes.setdefault(self.servers.master_of_anchor(anchor), []).append(anchor)
            replies: dict[bytes, Any] = {}
            with self.servers.several(nodes) as connections:
                for address, mine in nodes.items():
                    self.require(connections[address], within)
                    self.teach(connections[address], script)
                    connections[address].send(b"".join([pack_command(make(anchor)) for anchor in mine]))
                for address, mine in nodes.items():
                    for anchor in mine:
                        replies[anchor] = connections[address].receive()
            for address, mine in nodes.items():
                for anchor in mine:
                    if isinstance(replies[anchor], ReplyError) and GONE in str(replies[anchor]):
                        raise NoSuchTable
                    refused(address, replies[anchor])
            return [replies[anchor] for anchor in anchors]

        return self.servers.attempt(work)

    def in_slots(
        self, names: Sequence[bytes], make: Callable[[list[bytes]], tuple[Argument, ...]], script: Script | None = None
    ) -> list[Any]:
        """The replies to a command about names: one command for all of them, in a cluster one per slot."""
        nodes: dict[Address, list[list[bytes]]] = {}
        if self.servers.is_cluster:
            slots: dict[int, list[bytes]] = {}
            for name in names:
                slots.setdefault(slot_of(name), []).append(name)
            for slot, mine in slots.items():
                nodes.setdefault(self.servers.master_of(slot), []).append(mine)
        else:
            pieces = [list(names[i : i + NAMES_PER_PAGE]) for i in range(0, len(names), NAMES_PER_PAGE)]
            nodes[self.servers.masters()[0]] = pieces
        replies = []
        with self.servers.several(nodes) as connections:
            for address, groups in nodes.items():
                self.teach(connections[address], script)
                connections[address].send(b"".join([pack_command(make(group)) for group in groups]))
            for address, groups in nodes.items():
                replies += [refused(address, connections[address].receive()) for _ in groups]
        return replies

    def pages(self, pattern: bytes) -> Iterator[tuple[Address, list[bytes]]]:
        """All matching names, node by node; some may be repeated."""
        for address in self.servers.masters():
            cursor: Any = 0
            while True:
                cursor, names = self.ask(address, ("SCAN", cursor, "MATCH", pattern, "COUNT", NAMES_PER_PAGE))
                if names:
                    yield address, names
                if int(cursor) == 0:
                    break

    def require(self, connection: RedisConnection, within: str) -> None:
        """Refuse a write to a server that may have lost earlier writes."""
        if within and connection.incarnation not in within:
            connection.look_again()
            if connection.incarnation not in within:
                raise StoreReplaced(
                    f"the online store {self.place} was restarted or failed over since its progress was read",
                    hint="run it again",
                )

    @staticmethod
    def teach(connection: RedisConnection, script: Script | None) -> None:
        """Load the script on the server, to call it by its hash."""
        if script is not None and script.hash not in connection.scripts:
            connection.ask("SCRIPT", "LOAD", script.text)
            connection.scripts.add(script.hash)

    def gone(self, table: OnlineTable) -> StorageError:
        """The error of a write to a table that does not exist."""
        return StorageError(
            f"online table {table} of kind {table.kind!r} was never prepared in {self.place}, or was dropped",
            hint="run `asof apply`",
        )


def call(script: Script, keys: Sequence[bytes], *arguments: Argument) -> tuple[Argument, ...]:
    """The command that runs a script."""
    return ("EVALSHA", script.hash, len(keys), *keys, *arguments)
