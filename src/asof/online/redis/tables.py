"""Tables on Redis, recorded on every master; a dropped table's rows are removed before it can be recreated."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial

from asof.errors import StorageError
from asof.online.protocol import OnlineTable
from asof.online.redis.commands import NoSuchTable, RedisCommands, call
from asof.online.redis.connection import Argument
from asof.online.redis.scripts import DROP, DROPPED, MARK, PREPARE, REMOVE


class RedisTables:
    """Creates, lists and drops tables. See `OnlineStore` for the four methods."""

    def __init__(self, commands: RedisCommands) -> None:
        self._commands, self._servers, self._names = commands, commands.servers, commands.names

    def prepare(self, table: OnlineTable) -> None:
        """See `OnlineStore.prepare`."""
        field, kind = self._names.field(table), table.kind.encode()

        def command(anchor: bytes) -> tuple[Argument, ...]:
            tables, dropping = (each(table.project, anchor) for each in (self._names.tables, self._names.dropping))
            return call(PREPARE, [tables, dropping], field, kind)

        while True:
            found = set(self._commands.on_anchors(command, PREPARE))
            if found == {kind}:
                return
            if b"" not in found:
                other = (found - {kind}).pop().decode()
                raise StorageError(
                    f"online table {table} exists with kind {other!r}, not {table.kind!r}, in {self._commands.place}",
                    hint="use a new generation for the new kind, or drop the table first",
                )
            # A drop is running, or was killed: its old rows must not reappear.
            self._finish_drop(table, secrets.token_bytes(8))

    def tables(self, project: str) -> list[OnlineTable]:
        """See `OnlineStore.tables`. Tables that a master has lost are not included."""
        return sorted(set.intersection(*self._tables(project)))

    def drop(self, table: OnlineTable) -> None:
        """See `OnlineStore.drop`. Scans all names of the server, in short steps."""
        mark = secrets.token_bytes(8)
        if self.mark_dropping(table, mark):
            self._finish_drop(table, mark)

    def drop_project(self, project: str) -> None:
        """See `OnlineStore.drop_project`. One scan of all names, which also finds the rest of an interrupted drop."""
        mark = secrets.token_bytes(8)
        dropped = sorted(set.union(*self._tables(project)))
        for table in dropped:
            self.mark_dropping(table, mark)
        self._servers.attempt(lambda: self._remove_all(project, self._names.project_pattern(project)))
        for table in dropped:
            self._end_dropping(table, mark)

    def mark(self, table: OnlineTable, *, within: str) -> None:
        """See `OnlineStore.mark`: on every master."""

        def command(anchor: bytes) -> tuple[Argument, ...]:
            keys = [self._names.tables(table.project, anchor), self._names.marker(table, anchor)]
            return call(MARK, keys, self._names.field(table), table.kind.encode())

        try:
            self._commands.on_anchors(command, MARK, within=within)
        except NoSuchTable as error:
            raise self._commands.gone(table) from error

    def unmarked(self, tables: Sequence[OnlineTable]) -> list[OnlineTable]:
        """See `OnlineStore.unmarked`."""
        if not tables:
            return []
        markers = self._commands.on_anchors(
            lambda anchor: ("MGET", *(self._names.marker(table, anchor) for table in tables))
        )
        return [table for table, *found in zip(tables, *markers, strict=True) if None in found]

    def _tables(self, project: str) -> list[set[OnlineTable]]:
        """The existing tables, per anchor."""
        found = self._commands.on_anchors(lambda anchor: ("HGETALL", self._names.tables(project, anchor)))
        return [
            {self._names.table(project, name, kind) for name, kind in zip(each[::2], each[1::2], strict=True)}
            for each in found
        ]

    def mark_dropping(self, table: OnlineTable, mark: bytes) -> bool:
        """Stop all writes to the table; returns whether it may have rows."""

        def command(anchor: bytes) -> tuple[Argument, ...]:
            names = self._names
            keys = [names.tables(table.project, anchor), names.dropping(table.project, anchor)]
            keys += [names.facts(table, anchor), names.marker(table, anchor)]
            return call(DROP, keys, names.field(table), table.kind.encode(), mark)

        return any(self._commands.on_anchors(command, DROP))

    def _finish_drop(self, table: OnlineTable, mark: bytes) -> None:
        """Remove the rows of a marked table."""
        if not self.mark_dropping(table, mark):
            return
        self._servers.attempt(lambda: self._remove_all(table.project, self._names.row_pattern(table)))
        self._end_dropping(table, mark)

    def _end_dropping(self, table: OnlineTable, mark: bytes) -> None:
        field = self._names.field(table)
        self._commands.on_anchors(
            lambda anchor: call(DROPPED, [self._names.dropping(table.project, anchor)], field, mark), DROPPED
        )

    def _remove_all(self, project: str, pattern: bytes) -> None:
        """Remove matching rows and facts whose table does not exist."""
        made_again: set[bytes] = set()
        for address, names in self._commands.pages(pattern):
            by_table: dict[bytes, list[bytes]] = {}
            for name in self._names.own(project, names):
                by_table.setdefault(self._names.field_of(project, name), []).append(name)
            for table, mine in by_table.items():
                if table in made_again:
                    continue
                if not self._servers.is_cluster:
                    key = self._names.tables(project, b"")
                    replies = self._commands.in_slots(mine, partial(_removal, table, key), REMOVE)
                    is_there = -1 in replies
                else:
                    anchor = self._servers.anchor_at(address) or self._servers.anchors()[0]
                    at = self._servers.master_of_anchor(anchor)
                    is_there = bool(self._commands.ask(at, ("HEXISTS", self._names.tables(project, anchor), table)))
                    if not is_there:
                        self._commands.in_slots(mine, lambda each: ("UNLINK", *each))
                if is_there:
                    made_again.add(table)


def _removal(table: bytes, key: bytes, names: list[bytes]) -> tuple[Argument, ...]:
    return call(REMOVE, [key, *names], table)
