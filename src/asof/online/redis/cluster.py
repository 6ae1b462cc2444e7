"""Rows in a Redis Cluster: one command per slot, all nodes in parallel; follows slots that move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asof.online.protocol import Lookup, OnlineTable
from asof.online.redis.commands import RedisCommands
from asof.online.redis.connection import Argument, ReplyError, pack_command
from asof.online.redis.keys import anchor_near, slot_of
from asof.online.redis.servers import refused
from asof.online.redis.settings import Address
from asof.online.redis.write import ROWS_PER_CALL, RowWrite, packed_call


class ClusterRows:
    """Reads and writes rows in a cluster; `SingleRows` is the counterpart for a single master."""

    def __init__(self, commands: RedisCommands) -> None:
        self._commands, self._servers, self._names = commands, commands.servers, commands.names

    def read(self, names: list[bytes], *, stale: bool) -> list[bytes | None]:
        """The values of these names; `stale`: may be read from replicas."""
        return self._servers.attempt(lambda: self._read(names, (), stale=stale))[0]

    def read_marked(
        self, lookups: Sequence[Lookup], *, stale: bool
    ) -> tuple[Sequence[bytes | None], Sequence[bytes | None]]:
        """The values of all keys of the lookups, then the marker of each lookup's table.

        A marker is None if a node that was read lacks it.
        """
        names = self._names.of(lookups)
        if not names:
            return [], [b""] * len(lookups)
        tables = [table for table, _ in lookups]
        return self._servers.attempt(lambda: self._read(names, tables, stale=stale))

    def write(self, write: RowWrite) -> None:
        """Write the rows, and record in `write` which were written."""
        self._servers.attempt(lambda: self._write(write))

    def _read(
        self, names: list[bytes], tables: Sequence[OnlineTable], *, stale: bool
    ) -> tuple[list[bytes | None], list[bytes | None]]:
        servers = self._servers
        find = servers.reader_of if stale else servers.master_of
        slots: dict[int, list[int]] = {}
        for place, name in enumerate(names):
            slots.setdefault(slot_of(name), []).append(place)
        by_node: dict[Address, list[list[int]]] = {}
        for slot, positions in slots.items():
            by_node.setdefault(find(slot), []).append(positions)
        values: list[bytes | None] = [None] * len(names)
        markers: list[bytes | None] = [b""] * len(tables)
        anchors: dict[Address, bytes] = {}
        elsewhere: list[Address] = []
        moving: list[int] = []
        with servers.several(by_node, readonly=stale) as connections:
            for address, groups in by_node.items():
                commands = [pack_command((b"MGET", *[names[place] for place in group])) for group in groups]
                if tables:
                    # Near a row that was read here: the node that has the one has the other, mostly.
                    anchor, slot = anchor_near(slot_of(names[groups[0][0]]))
                    if find(slot) != address:
                        anchor = servers.anchor_at(address) or anchor
                    anchors[address] = anchor
                    commands.append(pack_command((b"MGET", *self._markers(tables, anchor))))
                connections[address].send(b"".join(commands))
            for address, groups in by_node.items():
                for group in groups:
                    reply = connections[address].receive()
                    if reply.__class__ is list:
                        for place, value in zip(group, reply, strict=True):
                            values[place] = value
                    elif str(reply).startswith(("ASK", "TRYAGAIN")):
                        moving += group
                    else:
                        refused(address, reply)
                if tables:
                    reply = connections[address].receive()
                    if reply.__class__ is not list:
                        elsewhere.append(address)
                    elif None in reply:
                        markers = [None if new is None else known for new, known in zip(reply, markers, strict=True)]
        for place in moving:
            values[place] = self._ask_for(names[place], ("GET", names[place]))
        for address in elsewhere:
            for place, name in enumerate(self._markers(tables, anchors[address])):
                if self._ask_for(name, ("GET", name)) is None:
                    markers[place] = None
        return values, markers

    def _markers(self, tables: Sequence[OnlineTable], anchor: bytes) -> list[bytes]:
        return [self._names.marker(table, anchor) for table in tables]

    def _write(self, write: RowWrite) -> None:
        """One call per slot, all nodes in parallel.

        The record of the table's existence is in other slots, so each node is asked after its rows are written. If the
        table was dropped before that, the rows are removed; if it is dropped later, the drop finds the rows.
        """
        servers, table = self._servers, write.table
        if not write.was_checked and self._commands.kind_of(table) != table.kind:
            raise self._commands.gone(table)
        write.was_checked = True
        before, field, kind = self._names.rows(table), self._names.field(table), table.kind.encode()
        for start, end in write.pieces(rows=ROWS_PER_CALL * 8):
            by_node: dict[Address, dict[int, list[int]]] = {}
            for place in range(start, end):
                slot = slot_of(before + write.keys[place] + b"}")
                by_node.setdefault(servers.master_of(slot), {}).setdefault(slot, []).append(place)
            is_gone = False
            with servers.several(by_node) as connections:
                for address, slots in by_node.items():
                    connection = connections[address]
                    self._commands.require(connection, write.within)
                    self._commands.teach(connection, write.script)
                    calls = [
                        packed_call(
                            write, [before + write.keys[each] + b"}" for each in positions], b"", b"", positions
                        )
                        for positions in slots.values()
                    ]
                    anchor = servers.anchor_at(address) or servers.anchors()[0]
                    calls.append(pack_command(("HGET", self._names.tables(table.project, anchor), field)))
                    connection.send(b"".join(calls))
                for address, slots in by_node.items():
                    replies = [connections[address].receive() for _ in slots]
                    is_gone |= connections[address].receive() != kind
                    for reply, positions in zip(replies, slots.values(), strict=True):
                        if isinstance(reply, ReplyError) and str(reply).startswith(("ASK", "TRYAGAIN")):
                            reply = self._move_along(write, str(reply), positions)
                        for i in refused(address, reply):
                            write.kept[positions[i]] = False
            if is_gone and self._commands.kind_of(table) != table.kind:
                names = [before + key + b"}" for key in write.keys[start:end]]
                self._commands.in_slots(names, lambda each: ("UNLINK", *each))
                raise self._commands.gone(table)
            write.done = end

    def _move_along(self, write: RowWrite, reply: str, positions: list[int]) -> list[int]:
        """Write rows of a slot that is being moved to another node: each key is on one of the two nodes."""
        before = self._names.rows(write.table)
        refused_positions = []
        for i, place in enumerate(positions):
            name = before + write.keys[place] + b"}"
            command = ("EVAL", write.script.text, 1, name, b"", b"", *write.arguments([place]))
            if self._ask_for(name, command):
                refused_positions.append(i)
        return refused_positions

    def _ask_for(self, name: bytes, command: tuple[Argument, ...]) -> Any:
        """One command about one name, which may be being moved to another node."""
        address = self._servers.master_of(slot_of(name))
        with self._servers.connection(address) as connection:
            (reply,) = connection.ask_all([command])
        if isinstance(reply, ReplyError) and str(reply).startswith("ASK "):
            host, _, port = str(reply).split()[2].rpartition(":")
            address = (host or address[0], int(port))
            with self._servers.connection(address) as connection:
                _, reply = connection.ask_all([("ASKING",), command])
        return refused(address, reply)
