"""The online store on Redis or Valkey: single, under Sentinel, or a Cluster; one packed value per table and key.

A row's value is its version (32 bytes) or token (8 bytes), then the packed bytes. Writes are scripts, so that reading
the stored version, deciding and writing are one step. Progress follows the rows through the same replication stream, in
a cluster once on every master, so what a replica takes over with is a state that some moment really had.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from asof.errors import ConfigError, StorageError
from asof.online.protocol import (
    Condition,
    Facts,
    Lookup,
    OnlineStoreDefaults,
    Row,
    ScannedRow,
    StoreReplaced,
    Table,
    Unchanged,
    check_write,
)
from asof.online.redis.aio import AsyncReader
from asof.online.redis.connection import Argument, Connection, Lost, Refused, ReplyError, pack_command
from asof.online.redis.keys import Names, slot_of
from asof.online.redis.rows import KEYS_PER_READ, rows_of
from asof.online.redis.scripts import DROP, DROPPED, EXPIRE, GONE, LATER_MS, PREPARE, REMOVE, WRITE_PROGRESS, Script
from asof.online.redis.servers import Servers, refused
from asof.online.redis.settings import SECTION, Address, settings_of
from asof.online.redis.write import ROWS_PER_CALL, Write
from asof.timing import DAY, Clock, Micros

CALLS_IN_FLIGHT = 4
NAMES_PER_PAGE = 1000
KEYS_IN_WINDOW = 500_000
WINDOW_S = 60.0
"""A scan sorts so many keys at once, and uses them for its next pages for so long."""


class RedisOnlineStore(OnlineStoreDefaults):
    """An `OnlineStore` on one or more Redis servers, which any number of projects, threads and processes may share.

    Args:
        url: `redis://user:password@host:port/db`, with TLS `rediss://…`; `unix:///path?db=0`.
        connection_string: instead, as Feast writes it: `host:port,db=0,ssl=true,password=…`.
        redis_type: `redis`, `redis_sentinel` (the addresses are sentinels) or `redis_cluster`.
        username, password, db: where the address does not say them.
        tls_ca, tls_cert, tls_key: files in PEM; tls_verify: check the server's certificate.
        sentinel_master: what the sentinels call it; sentinel_username, sentinel_password: the sentinels' own.
        key_prefix: what all names begin with.
        timeout_s: how long an answer may take; connect_timeout_s: how long a connection.
        retry_s: how long a call is tried again while servers restart or fail over.
        max_connections: of this process.
        replica_reads: read from replicas, which may be behind.
        clock: the store's now. Where it is not the servers' time, these must not remove rows by themselves.
    """

    takes_clock = True

    def __init__(
        self,
        url: str = "",
        *,
        key_prefix: str = "asof:",
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        if any(each in key_prefix for each in "{}!") or not key_prefix.isascii():
            raise ConfigError(f"{SECTION}.key_prefix: found {key_prefix!r}", hint="use letters, digits, ':', '-', '_'")
        self.settings = settings_of(url=url, **options)
        self._names = Names(key_prefix)
        self._servers = Servers(self.settings)
        self._clock = clock
        self._later_ms: int | None = None
        # A table that this process writes after reading must be read where it is written.
        self._merged: set[Table] = set()
        self._windows: dict[tuple[Table, bytes], _Window] = {}

    # Tables

    def prepare(self, table: Table) -> None:
        """See `OnlineStore.prepare`."""
        field, kind = self._names.field(table), table.kind.encode()

        def command(anchor: bytes) -> tuple[Argument, ...]:
            tables, dropping = (each(table.project, anchor) for each in (self._names.tables, self._names.dropping))
            return _call(PREPARE, [tables, dropping], field, kind)

        while True:
            found = set(self._on_anchors(command, PREPARE))
            if found == {kind}:
                return
            if b"" not in found:
                other = (found - {kind}).pop().decode()
                raise StorageError(
                    f"online table {table} exists with kind {other!r}, not {table.kind!r}, in {self.settings.place}",
                    hint="give the new kind a new generation, or drop the table first",
                )
            # Somebody drops it, or was killed while dropping it: its old rows must not come back.
            self._finish_drop(table, secrets.token_bytes(8))

    def tables(self, project: str) -> list[Table]:
        """See `OnlineStore.tables`: those that no master has lost."""
        return sorted(set.intersection(*self._tables(project)))

    def drop(self, table: Table) -> None:
        """See `OnlineStore.drop`. Takes a look at all names of the server, in short steps."""
        mark = secrets.token_bytes(8)
        if self._mark_dropping(table, mark):
            self._finish_drop(table, mark)

    def drop_project(self, project: str) -> None:
        """See `OnlineStore.drop_project`. One look at all names, which finds what an interrupted drop left, too."""
        mark = secrets.token_bytes(8)
        dropped = sorted(set.union(*self._tables(project)))
        for table in dropped:
            self._mark_dropping(table, mark)
        self._servers.attempt(lambda: self._remove_all(project, self._names.project_pattern(project)))
        for table in dropped:
            self._end_dropping(table, mark)

    def _tables(self, project: str) -> list[set[Table]]:
        """Per anchor the tables that are there."""
        found = self._on_anchors(lambda anchor: ("HGETALL", self._names.tables(project, anchor)))
        return [
            {self._names.table(project, name, kind) for name, kind in zip(each[::2], each[1::2], strict=True)}
            for each in found
        ]

    def _mark_dropping(self, table: Table, mark: bytes) -> bool:
        """From here on nothing is written to it, anywhere; whether it may have rows."""

        def command(anchor: bytes) -> tuple[Argument, ...]:
            names = self._names
            keys = [names.tables(table.project, anchor), names.dropping(table.project, anchor)]
            return _call(DROP, [*keys, names.facts(table, anchor)], names.field(table), table.kind.encode(), mark)

        return any(self._on_anchors(command, DROP))

    def _finish_drop(self, table: Table, mark: bytes) -> None:
        """Remove the rows of a table that is marked."""
        if not self._mark_dropping(table, mark):
            return
        self._servers.attempt(lambda: self._remove_all(table.project, self._names.row_pattern(table)))
        self._end_dropping(table, mark)

    def _end_dropping(self, table: Table, mark: bytes) -> None:
        field = self._names.field(table)
        self._on_anchors(
            lambda anchor: _call(DROPPED, [self._names.dropping(table.project, anchor)], field, mark), DROPPED
        )

    # Rows

    def write(
        self,
        table: Table,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        *,
        condition: Condition,
        expires_at: Sequence[Micros | None] | None = None,
    ) -> list[bool]:
        """See `OnlineStore.write`. Rows become visible in pieces; each row is whole."""
        check_write(table, keys, values, condition, expires_at)
        write = Write.of(table, keys, values, condition)
        if isinstance(condition, Unchanged):
            self._merged.add(table)
        if expires_at is not None and any(each is not None for each in expires_at):
            later_ms = self._not_by_itself_ms()
            # Redis refuses a time before 1970; what is due by then is due at its first millisecond, too.
            write.tills = [b"" if at is None else b"%d" % max(-(-at // 1000) + later_ms, 1) for at in expires_at]
        if keys:
            apply = self._write_spread if self._servers.is_cluster else self._write
            self._servers.attempt(lambda: apply(write))
        elif self._kind_of(table) != table.kind:
            raise self._gone(table)
        return write.kept

    def read(self, lookups: Sequence[Lookup]) -> list[list[Row | None]]:
        """See `OnlineStore.read`: one command for all lookups, in a cluster one per slot, sent to all nodes at once."""
        names = self._names.of(lookups)
        if not names:
            return [[] for _ in lookups]
        stale = self.settings.replica_reads and not any(table in self._merged for table, _ in lookups)
        return rows_of(lookups, self._fetch(names, stale=stale))

    def ask(self, lookups: Sequence[Lookup]) -> Asked:
        """Like `read`, for rows that are written afterwards; the answer comes while the asker does something else."""
        self._merged.update(table for table, _ in lookups)
        names = self._names.of(lookups)
        connection = None
        if names and len(names) <= KEYS_PER_READ and not self._servers.is_cluster:
            try:
                connection = self._servers.take(self._servers.ranges()[0].master)
            except (Lost, Refused, StorageError):
                pass  # whoever reads the answer has the patience, and is told
        if connection is not None:
            try:
                connection.send(pack_command((b"MGET", *names)))
            except Lost as error:
                self._servers.throw_away(connection, error)
                connection = None
        return Asked(self, lookups, self._servers, connection)

    def scan(self, table: Table, *, after: bytes | None = None, limit: int = 1000) -> list[ScannedRow]:
        """See `OnlineStore.scan`. Redis has no order of keys: they are gathered, sorted, kept for the next pages."""
        if self._kind_of(table) != table.kind:
            return []
        window = self._windows.pop((table, after), None) if after is not None else None
        if window is not None and time.monotonic() - window.made > WINDOW_S:
            window = None
        found: list[ScannedRow] = []
        last = after
        while len(found) < limit:
            if window is None or (window.is_used_up and not window.is_last):
                window = self._servers.attempt(partial(self._gather, table, last))
            piece = window.next(limit - len(found))
            if not piece:
                break
            (rows,) = self._read_from_masters(table, piece)
            found += [(key, *row) for key, row in zip(piece, rows, strict=True) if row is not None]
            last = piece[-1]
        if window is not None and len(found) == limit:
            while len(self._windows) >= 8:
                self._windows.pop(next(iter(self._windows)), None)
            self._windows[table, found[-1][0]] = window
        return found

    def delete(self, table: Table, keys: Sequence[bytes]) -> int:
        """See `OnlineStore.delete`."""
        before = self._names.rows(table)
        names = [before + key + b"}" for key in keys]
        if not names or self._kind_of(table) != table.kind:
            return 0
        return sum(self._servers.attempt(lambda: self._in_slots(names, lambda each: ("UNLINK", *each))))

    def delete_expired(self, project: str, now_us: Micros) -> int:
        """See `OnlineStore.delete_expired`. Redis removes by itself, too, where its clock is the store's."""
        now_ms = now_us // 1000

        def work() -> int:
            removed = 0
            for _, names in self._pages(self._names.project_pattern(project)):
                removed += sum(self._in_slots(names, lambda each: _call(EXPIRE, each, now_ms, LATER_MS), EXPIRE))
            return removed

        return self._servers.attempt(work)

    # Progress

    def write_progress(self, table: Table, facts: Facts, *, within: str = "") -> None:
        """See `OnlineStore.write_progress`: to every master, each after its rows."""
        field, kind = self._names.field(table), table.kind.encode()
        pairs = [part for name, value in facts.items() for part in (name.encode(), _packed(value))]

        def command(anchor: bytes) -> tuple[Argument, ...]:
            keys = [self._names.tables(table.project, anchor), self._names.facts(table, anchor)]
            return _call(WRITE_PROGRESS, keys, field, kind, *pairs)

        try:
            self._on_anchors(command, WRITE_PROGRESS, within=within)
        except _Gone as error:
            raise self._gone(table) from error

    def progress(self, table: Table) -> dict[str, str | int]:
        """See `OnlineStore.progress`: what every master has; of numbers the least."""
        field, kind = self._names.field(table), table.kind.encode()
        kinds = self._on_anchors(lambda anchor: ("HGET", self._names.tables(table.project, anchor), field))
        if any(each != kind for each in kinds):
            return {}
        found = self._on_anchors(lambda anchor: ("HGETALL", self._names.facts(table, anchor)))
        each_has = [dict(zip(each[::2], map(_unpacked, each[1::2]), strict=True)) for each in found]
        common: dict[str, str | int] = {}
        for name in sorted(set.intersection(*(set(each) for each in each_has))):
            values = [each[name] for each in each_has]
            if len(set(values)) == 1 or all(isinstance(value, int) for value in values):
                common[name.decode()] = min(values)
        return common

    # The servers

    def async_reader(self) -> AsyncReader | None:
        """What reads the same rows without blocking, for one event loop; None for a Cluster, which has none."""
        return None if self._servers.is_cluster else AsyncReader(self._servers, self._names)

    def incarnation(self) -> str:
        """See `OnlineStore.incarnation`: the masters' processes and histories."""

        def work() -> str:
            self._servers.forget_places()
            found = []
            for address in self._servers.masters():
                with self._servers.connection(address) as connection:
                    connection.look_again()
                    found.append(connection.incarnation)
            return ",".join(sorted(found))

        return self._servers.attempt(work)

    def ping(self) -> str:
        """See `OnlineStore.ping`."""
        infos = self._servers.attempt(lambda: [self._info(each) for each in self._servers.masters()])
        first = infos[0]
        product = "Valkey" if "valkey_version" in first else "Redis"
        version = first.get("valkey_version", first.get("redis_version", ""))
        replicas = sum(int(each.get("connected_slaves", 0)) for each in infos)
        size = sum(int(each.get("used_memory", 0)) for each in infos) / (1 << 20)
        masters = f"{len(infos)} masters, " if len(infos) > 1 else ""
        return f"{product} {version}, {self.settings.place}, {masters}{replicas} replicas, {size:.1f} MiB"

    def warnings(self) -> list[str]:
        """See `OnlineStore.warnings`."""
        found: dict[str, None] = {}
        for address in self._servers.attempt(self._servers.masters):
            info = self._servers.attempt(partial(self._info, address))
            policy = info.get("maxmemory_policy", "noeviction")
            if policy != "noeviction" and info.get("maxmemory", "0") != "0":
                found[f"maxmemory-policy {policy} removes rows when memory is full; set it to noeviction"] = None
            if info.get("aof_enabled") == "0" and self._saves(address) == "":
                found["the server keeps nothing on disk, so a restart loses every row; set appendonly yes"] = None
        return list(found)

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._servers.close()

    def _info(self, address: Address) -> dict[str, str]:
        with self._servers.connection(address) as connection:
            return connection.look_around()

    def _saves(self, address: Address) -> str | None:
        """When the server saves its data; None where it does not say."""
        with self._servers.connection(address) as connection:
            (reply,) = connection.ask_all([("CONFIG", "GET", "save")])
            return None if isinstance(reply, ReplyError) or len(reply) < 2 else reply[1].decode()

    def _not_by_itself_ms(self) -> int:
        """What is added to expiries: 0 where Redis may remove by its own clock, since it is the store's."""
        if self._later_ms is None:
            if self._clock is None:
                self._later_ms = 0
            else:
                seconds = self._servers.attempt(lambda: self._ask(self._servers.masters()[0], ("TIME",)))
                servers_now = int(seconds[0]) * 1_000_000
                self._later_ms = 0 if abs(self._clock() - servers_now) < DAY else LATER_MS
        return self._later_ms

    def _gone(self, table: Table) -> StorageError:
        return StorageError(
            f"online table {table} of kind {table.kind!r} was never prepared in {self.settings.place}, or was dropped",
            hint="run `asof apply`",
        )

    # Writing

    def _write(self, write: Write) -> None:
        """Call after call to one server, some under way at once. A further attempt begins where none answered."""
        table, names = write.table, self._names
        head = [names.tables(table.project, b"")]
        field, kind = names.field(table), table.kind.encode()
        before = names.rows(table)
        (address,) = self._servers.masters()
        with self._servers.connection(address) as connection:
            self._require(connection, write.within)
            self._teach(connection, write.script)
            waiting: list[tuple[int, int]] = []
            for start, end in write.pieces():
                keys = [before + key + b"}" for key in write.keys[start:end]]
                if len(waiting) == CALLS_IN_FLIGHT:
                    self._take_answer(connection, write, *waiting.pop(0))
                connection.send(_packed_call(write, [*head, *keys], field, kind, range(start, end)))
                waiting.append((start, end))
            for start, end in waiting:
                self._take_answer(connection, write, start, end)

    def _take_answer(self, connection: Connection, write: Write, start: int, end: int) -> None:
        reply = connection.receive()
        if isinstance(reply, ReplyError) and GONE in str(reply):
            raise self._gone(write.table)
        for place in refused(connection.address, reply):
            write.kept[start + place] = False
        write.done = end

    def _write_spread(self, write: Write) -> None:
        """To a cluster: a call per slot, all nodes at once.

        Whether the table exists lies in other slots, so each node is asked after its rows: had it been dropped before
        then, what was written is taken back; is it dropped later, the drop finds what was written.
        """
        servers, table = self._servers, write.table
        if not write.was_checked and self._kind_of(table) != table.kind:
            raise self._gone(table)
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
                    self._require(connection, write.within)
                    self._teach(connection, write.script)
                    calls = [
                        _packed_call(write, [before + write.keys[each] + b"}" for each in places], b"", b"", places)
                        for places in slots.values()
                    ]
                    anchor = servers.anchor_at(address) or servers.anchors()[0]
                    calls.append(pack_command(("HGET", self._names.tables(table.project, anchor), field)))
                    connection.send(b"".join(calls))
                for address, slots in by_node.items():
                    replies = [connections[address].receive() for _ in slots]
                    is_gone |= connections[address].receive() != kind
                    for reply, places in zip(replies, slots.values(), strict=True):
                        if isinstance(reply, ReplyError) and str(reply).startswith(("ASK", "TRYAGAIN")):
                            reply = self._move_along(write, str(reply), places)
                        for i in refused(address, reply):
                            write.kept[places[i]] = False
            if is_gone and self._kind_of(table) != table.kind:
                names = [before + key + b"}" for key in write.keys[start:end]]
                self._in_slots(names, lambda each: ("UNLINK", *each))
                raise self._gone(table)
            write.done = end

    def _move_along(self, write: Write, reply: str, places: list[int]) -> list[int]:
        """Write rows of a slot that is on its way to another node: each key is at one of the two."""
        before = self._names.rows(write.table)
        refused_places = []
        for i, place in enumerate(places):
            name = before + write.keys[place] + b"}"
            command = ("EVAL", write.script.text, 1, name, b"", b"", *write.arguments([place]))
            if self._ask_for(name, command):
                refused_places.append(i)
        return refused_places

    def _require(self, connection: Connection, within: str) -> None:
        """Refuse to write to a server that may lack what the writer has built upon."""
        if within and connection.incarnation not in within:
            connection.look_again()
            if connection.incarnation not in within:
                raise StoreReplaced(
                    f"the online store {self.settings.place} was restarted or failed over since its progress was read",
                    hint="run it again",
                )

    @staticmethod
    def _teach(connection: Connection, script: Script | None) -> None:
        if script is not None and script.hash not in connection.scripts:
            connection.ask("SCRIPT", "LOAD", script.text)
            connection.scripts.add(script.hash)

    # Reading

    def _read_from_masters(self, table: Table, keys: Sequence[bytes]) -> list[list[Row | None]]:
        self._merged.add(table)
        return self.read([Lookup(table, keys)])

    def _fetch(self, names: list[bytes], *, stale: bool) -> list[bytes | None]:
        if self._servers.is_cluster:
            return self._servers.attempt(lambda: self._fetch_spread(names, stale=stale))
        if len(names) <= KEYS_PER_READ:
            return self._servers.attempt(lambda: self._fetch_at_once(names, stale=stale))
        values: list[bytes | None] = []
        for start in range(0, len(names), KEYS_PER_READ):
            piece = names[start : start + KEYS_PER_READ]
            values += self._servers.attempt(partial(self._fetch_at_once, piece, stale=stale))
        return values

    def _fetch_at_once(self, names: list[bytes], *, stale: bool) -> list[bytes | None]:
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

    def _fetch_spread(self, names: list[bytes], *, stale: bool) -> list[bytes | None]:
        servers = self._servers
        find = servers.reader_of if stale else servers.master_of
        slots: dict[int, list[int]] = {}
        for place, name in enumerate(names):
            slots.setdefault(slot_of(name), []).append(place)
        by_node: dict[Address, list[list[int]]] = {}
        for slot, places in slots.items():
            by_node.setdefault(find(slot), []).append(places)
        values: list[bytes | None] = [None] * len(names)
        moving: list[int] = []
        with servers.several(by_node, readonly=stale) as connections:
            for address, groups in by_node.items():
                connections[address].send(
                    b"".join([pack_command((b"MGET", *[names[place] for place in group])) for group in groups])
                )
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
        for place in moving:
            values[place] = self._ask_for(names[place], ("GET", names[place]))
        return values

    def _ask_for(self, name: bytes, command: tuple[Argument, ...]) -> Any:
        """One command about one name, which may be on its way to another node."""
        address = self._servers.master_of(slot_of(name))
        with self._servers.connection(address) as connection:
            (reply,) = connection.ask_all([command])
        if isinstance(reply, ReplyError) and str(reply).startswith("ASK "):
            host, _, port = str(reply).split()[2].rpartition(":")
            address = (host or address[0], int(port))
            with self._servers.connection(address) as connection:
                _, reply = connection.ask_all([("ASKING",), command])
        return refused(address, reply)

    # All names, and all anchors

    def _ask(self, address: Address, command: tuple[Argument, ...]) -> Any:
        with self._servers.connection(address) as connection:
            return connection.ask(*command)

    def _kind_of(self, table: Table) -> str | None:
        """The kind that the table has; None where there is none."""
        anchor = self._servers.anchors()[0]
        command = ("HGET", self._names.tables(table.project, anchor), self._names.field(table))
        found = self._servers.attempt(lambda: self._ask(self._servers.master_of_anchor(anchor), command))
        return found.decode() if found is not None else None

    def _on_anchors(
        self, make: Callable[[bytes], tuple[Argument, ...]], script: Script | None = None, *, within: str = ""
    ) -> list[Any]:
        """The replies to a command about each anchor, in order, all nodes at once."""

        def work() -> list[Any]:
            anchors = self._servers.anchors()
            nodes: dict[Address, list[bytes]] = {}
            for anchor in anchors:
                nodes.setdefault(self._servers.master_of_anchor(anchor), []).append(anchor)
            replies: dict[bytes, Any] = {}
            with self._servers.several(nodes) as connections:
                for address, mine in nodes.items():
                    self._require(connections[address], within)
                    self._teach(connections[address], script)
                    connections[address].send(b"".join([pack_command(make(anchor)) for anchor in mine]))
                for address, mine in nodes.items():
                    for anchor in mine:
                        replies[anchor] = connections[address].receive()
            for address, mine in nodes.items():
                for anchor in mine:
                    if isinstance(replies[anchor], ReplyError) and GONE in str(replies[anchor]):
                        raise _Gone
                    refused(address, replies[anchor])
            return [replies[anchor] for anchor in anchors]

        return self._servers.attempt(work)

    def _in_slots(
        self, names: Sequence[bytes], make: Callable[[list[bytes]], tuple[Argument, ...]], script: Script | None = None
    ) -> list[Any]:
        """The replies to a command about names: one command for all of them, in a cluster one per slot."""
        nodes: dict[Address, list[list[bytes]]] = {}
        if self._servers.is_cluster:
            slots: dict[int, list[bytes]] = {}
            for name in names:
                slots.setdefault(slot_of(name), []).append(name)
            for slot, mine in slots.items():
                nodes.setdefault(self._servers.master_of(slot), []).append(mine)
        else:
            pieces = [list(names[i : i + NAMES_PER_PAGE]) for i in range(0, len(names), NAMES_PER_PAGE)]
            nodes[self._servers.masters()[0]] = pieces
        replies = []
        with self._servers.several(nodes) as connections:
            for address, groups in nodes.items():
                self._teach(connections[address], script)
                connections[address].send(b"".join([pack_command(make(group)) for group in groups]))
            for address, groups in nodes.items():
                replies += [refused(address, connections[address].receive()) for _ in groups]
        return replies

    def _pages(self, pattern: bytes) -> Iterator[tuple[Address, list[bytes]]]:
        """All names that match, node by node, some of them perhaps twice."""
        for address in self._servers.masters():
            cursor: Any = 0
            while True:
                cursor, names = self._ask(address, ("SCAN", cursor, "MATCH", pattern, "COUNT", NAMES_PER_PAGE))
                if names:
                    yield address, names
                if int(cursor) == 0:
                    break

    def _remove_all(self, project: str, pattern: bytes) -> None:
        """Remove matching rows, and facts, whose table does not exist."""
        made_again: set[bytes] = set()
        for address, names in self._pages(pattern):
            by_table: dict[bytes, list[bytes]] = {}
            for name in names:
                by_table.setdefault(self._names.field_of(project, name), []).append(name)
            for table, mine in by_table.items():
                if table in made_again:
                    continue
                if not self._servers.is_cluster:
                    key = self._names.tables(project, b"")
                    replies = self._in_slots(mine, partial(_removal, table, key), REMOVE)
                    is_there = -1 in replies
                else:
                    anchor = self._servers.anchor_at(address) or self._servers.anchors()[0]
                    at = self._servers.master_of_anchor(anchor)
                    is_there = bool(self._ask(at, ("HEXISTS", self._names.tables(project, anchor), table)))
                    if not is_there:
                        self._in_slots(mine, lambda each: ("UNLINK", *each))
                if is_there:
                    made_again.add(table)

    def _gather(self, table: Table, after: bytes | None) -> _Window:
        """The least keys greater than `after`, sorted, as many as are kept at once."""
        before = self._names.rows(table)
        keys: list[bytes] = []
        bound: bytes | None = None
        for _, names in self._pages(self._names.row_pattern(table)):
            cut = [name[len(before) : -1] for name in names]
            keys += [key for key in cut if (after is None or key > after) and (bound is None or key <= bound)]
            if len(keys) > 2 * KEYS_IN_WINDOW:
                keys = sorted(set(keys))[:KEYS_IN_WINDOW]
                bound = keys[-1]
        keys = sorted(set(keys))
        is_last = bound is None and len(keys) <= KEYS_IN_WINDOW
        return _Window(keys[:KEYS_IN_WINDOW], is_last=is_last, made=time.monotonic())


class Asked:
    """A read on its way. Either its rows are read or it is dropped; until then it holds a connection."""

    def __init__(
        self, store: RedisOnlineStore, lookups: Sequence[Lookup], servers: Servers, connection: Connection | None
    ) -> None:
        self._store, self._lookups, self._servers, self._connection = store, lookups, servers, connection

    def rows(self) -> list[list[Row | None]]:
        """The answer, as `OnlineStore.read` gives it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return self._store.read(self._lookups)
        try:
            reply = refused(connection.address, connection.receive())
        except BaseException as error:
            self._servers.throw_away(connection, error)
            if isinstance(error, Lost | Refused):
                return self._store.read(self._lookups)
            raise
        self._servers.give_back(connection)
        return rows_of(self._lookups, reply)

    def drop(self) -> None:
        """Let go of it, if nobody has read it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._servers.throw_away(connection, StorageError("not read"))


class _Gone(Exception):
    """A script found no such table."""


@dataclass
class _Window:
    """Sorted keys that a scan has gathered and not handed out yet."""

    keys: list[bytes]
    is_last: bool
    made: float
    at: int = 0

    @property
    def is_used_up(self) -> bool:
        return self.at >= len(self.keys)

    def next(self, count: int) -> list[bytes]:
        piece = self.keys[self.at : self.at + count]
        self.at += len(piece)
        return piece


def _call(script: Script, keys: Sequence[bytes], *arguments: Argument) -> tuple[Argument, ...]:
    return ("EVALSHA", script.hash, len(keys), *keys, *arguments)


def _removal(table: bytes, key: bytes, names: list[bytes]) -> tuple[Argument, ...]:
    return _call(REMOVE, [key, *names], table)


def _packed_call(write: Write, keys: list[bytes], field: bytes, kind: bytes, places: Sequence[int]) -> bytes:
    """The call of a write's script about some of its rows."""
    return pack_command(("EVALSHA", write.script.hash, len(keys), *keys, field, kind, *write.arguments(places)))


def _packed(value: str | int) -> bytes:
    return b"i%d" % value if isinstance(value, int) else b"s" + value.encode()


def _unpacked(value: bytes) -> str | int:
    return int(value[1:]) if value[:1] == b"i" else value[1:].decode()
