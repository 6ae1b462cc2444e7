"""The online store on Redis or Valkey: single, under Sentinel, or a Cluster; one packed value per table and key.

A row's value is its version (32 bytes) or token (8 bytes), then the packed row. Writes are scripts, so that reading the
stored version, deciding and writing are one atomic step. Progress is written after the rows, in the same replication
stream (in a cluster, on every master), so a replica takes over with progress that its rows have really reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from asof.defaults import REDIS_PREFIX, SCAN_ROWS
from asof.display import counted
from asof.errors import ConfigError, StorageError
from asof.online.protocol import (
    Condition,
    Facts,
    Lookup,
    MarkedRows,
    OnlineStoreDefaults,
    OnlineTable,
    Row,
    ScannedRow,
    Unchanged,
    check_write,
)
from asof.online.redis.aio import AsyncReader
from asof.online.redis.cluster import ClusterRows
from asof.online.redis.commands import NoSuchTable, RedisCommands, call
from asof.online.redis.connection import Argument, ConnectionLost, ErrorReply, ReplyError, pack_command
from asof.online.redis.keys import RedisNames
from asof.online.redis.rows import KEYS_PER_READ, marked_rows_of, rows_of
from asof.online.redis.scan import Scanner
from asof.online.redis.scripts import EXPIRE, LATER_MS, WRITE_PROGRESS
from asof.online.redis.servers import RedisServers
from asof.online.redis.settings import SECTION, Address, settings_of
from asof.online.redis.single import RedisPendingRead, SingleRows
from asof.online.redis.tables import RedisTables
from asof.online.redis.write import RowWrite
from asof.timing import DAY, Clock, Micros


class RedisOnlineStore(OnlineStoreDefaults):
    """An `OnlineStore` on one or more Redis servers, which any number of projects, threads and processes may share.

    Args:
        url: `redis://user:password@host:port/db`, with TLS `rediss://…`; `unix:///path?db=0`.
        connection_string: instead, as Feast writes it: `host:port,db=0,ssl=true,password=…`.
        redis_type: `redis`, `redis_sentinel` (addresses of sentinels) or `redis_cluster`.
        username, password, db: if the address does not have them.
        tls_ca, tls_cert, tls_key: PEM files; tls_verify: check the server's certificate.
        sentinel_master: the master's name; sentinel_username, sentinel_password: for the sentinels.
        key_prefix: prefix of all names.
        timeout_s: time limit for a reply; connect_timeout_s: for a connection.
        retry_s: how long a call is retried while servers restart or fail over.
        max_connections: per process.
        replica_reads: read from replicas, which may return stale rows.
        clock: the store's current time. If it is not the servers' time, they must not expire rows by themselves.
    """

    takes_clock = True
    has_markers = True

    def __init__(
        self,
        url: str = "",
        *,
        key_prefix: str = REDIS_PREFIX,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        if any(each in key_prefix for each in "{}!") or not key_prefix.isascii():
            raise ConfigError(
                f"{SECTION}.key_prefix: found {key_prefix!r}", hint="use only letters, digits, ':', '-' and '_'"
            )
        self.settings = settings_of(url=url, **options)
        self._names = RedisNames(key_prefix)
        self._servers = RedisServers(self.settings)
        self._clock = clock
        self._later_ms: int | None = None
        # State tables are read from masters: this process writes what it has read.
        self._merged: set[OnlineTable] = set()
        self._commands = RedisCommands(self._servers, self._names)
        self._tables = RedisTables(self._commands)
        self._rows = ClusterRows(self._commands) if self._servers.is_cluster else SingleRows(self._commands)
        self._scanner = Scanner(self._commands, self._read_from_masters)

    # Tables

    def prepare(self, table: OnlineTable) -> None:
        """See `OnlineStore.prepare`."""
        self._tables.prepare(table)

    def tables(self, project: str) -> list[OnlineTable]:
        """See `OnlineStore.tables`. Tables that a master has lost are not included."""
        return self._tables.tables(project)

    def drop(self, table: OnlineTable) -> None:
        """See `OnlineStore.drop`. Scans all names of the server, in short steps."""
        self._tables.drop(table)

    def drop_project(self, project: str) -> None:
        """See `OnlineStore.drop_project`."""
        self._tables.drop_project(project)

    # Rows

    def write(
        self,
        table: OnlineTable,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        *,
        condition: Condition,
        expires_at: Sequence[Micros | None] | None = None,
    ) -> list[bool]:
        """See `OnlineStore.write`. Rows become visible in chunks; each row is atomic."""
        check_write(table, keys, values, condition, expires_at)
        write = RowWrite.of(table, keys, values, condition)
        if isinstance(condition, Unchanged):
            self._merged.add(table)
        if expires_at is not None and any(each is not None for each in expires_at):
            later_ms = self._not_by_itself_ms()
            # Redis refuses expiries before 1970: they become the first millisecond.
            write.tills = [b"" if at is None else b"%d" % max(-(-at // 1000) + later_ms, 1) for at in expires_at]
        if keys:
            self._rows.write(write)
        elif self._commands.kind_of(table) != table.kind:
            raise self._commands.gone(table)
        return write.kept

    def read(self, lookups: Sequence[Lookup]) -> list[list[Row | None]]:
        """See `OnlineStore.read`. One command for all lookups; in a cluster one per slot, in parallel."""
        names = self._names.of(lookups)
        if not names:
            return [[] for _ in lookups]
        stale = self.settings.replica_reads and not any(table in self._merged for table, _ in lookups)
        return rows_of(lookups, self._rows.read(names, stale=stale))

    def read_marked(self, lookups: Sequence[Lookup]) -> list[MarkedRows]:
        """See `OnlineStore.read_marked`: a replica that lacks a marker may be behind, so its master is asked then."""
        stale = self.settings.replica_reads and not any(table in self._merged for table, _ in lookups)
        values, markers = self._rows.read_marked(lookups, stale=stale)
        if stale and None in markers:
            values, markers = self._rows.read_marked(lookups, stale=False)
        return marked_rows_of(lookups, values, markers)

    def ask(self, lookups: Sequence[Lookup]) -> RedisPendingRead:
        """See `OnlineStore.ask`: the reply arrives while the caller does other work."""
        self._merged.update(table for table, _ in lookups)
        names = self._names.of(lookups)
        connection = None
        if names and len(names) <= KEYS_PER_READ and not self._servers.is_cluster:
            try:
                connection = self._servers.take(self._servers.ranges()[0].master)
            except (ConnectionLost, ErrorReply, StorageError):
                pass  # reading the rows retries, and raises
        if connection is not None:
            try:
                connection.send(pack_command((b"MGET", *names)))
            except ConnectionLost as error:
                self._servers.throw_away(connection, error)
                connection = None
        return RedisPendingRead(self.read, lookups, self._servers, connection)

    def scan(self, table: OnlineTable, *, after: bytes | None = None, limit: int = SCAN_ROWS) -> list[ScannedRow]:
        """See `OnlineStore.scan`. Redis does not order keys: they are collected, sorted and cached."""
        return self._scanner.scan(table, after=after, limit=limit)

    def delete(self, table: OnlineTable, keys: Sequence[bytes]) -> int:
        """See `OnlineStore.delete`."""
        before = self._names.rows(table)
        names = [before + key + b"}" for key in keys]
        if not names or self._commands.kind_of(table) != table.kind:
            return 0
        return sum(self._servers.attempt(lambda: self._commands.in_slots(names, lambda each: ("UNLINK", *each))))

    def delete_expired(self, project: str, now_us: Micros) -> int:
        """See `OnlineStore.delete_expired`. Redis also expires rows by itself, if its clock is the store's."""
        now_ms = now_us // 1000

        def work() -> int:
            removed = 0
            for _, names in self._commands.pages(self._names.project_pattern(project)):
                mine = self._names.own(project, names)
                gone = self._commands.in_slots(mine, lambda each: call(EXPIRE, each, now_ms, LATER_MS), EXPIRE)
                removed += sum(gone)
            return removed

        return self._servers.attempt(work)

    # Markers and progress

    def mark(self, table: OnlineTable, *, within: str = "") -> None:
        """See `OnlineStore.mark`."""
        self._tables.mark(table, within=within)

    def unmarked(self, tables: Sequence[OnlineTable]) -> list[OnlineTable]:
        """See `OnlineStore.unmarked`."""
        return self._tables.unmarked(tables)

    def write_progress(self, table: OnlineTable, facts: Facts, *, within: str = "") -> None:
        """See `OnlineStore.write_progress`. Written to every master, after its rows."""
        field, kind = self._names.field(table), table.kind.encode()
        pairs = [part for name, value in facts.items() for part in (name.encode(), _packed(value))]

        def command(anchor: bytes) -> tuple[Argument, ...]:
            keys = [self._names.tables(table.project, anchor), self._names.facts(table, anchor)]
            return call(WRITE_PROGRESS, keys, field, kind, *pairs)

        try:
            self._commands.on_anchors(command, WRITE_PROGRESS, within=within)
        except NoSuchTable as error:
            raise self._commands.gone(table) from error

    def progress(self, table: OnlineTable) -> dict[str, str | int]:
        """See `OnlineStore.progress`. Facts that every master has; the smallest of different numbers."""
        field, kind = self._names.field(table), table.kind.encode()
        kinds = self._commands.on_anchors(lambda anchor: ("HGET", self._names.tables(table.project, anchor), field))
        if any(each != kind for each in kinds):
            return {}
        found = self._commands.on_anchors(lambda anchor: ("HGETALL", self._names.facts(table, anchor)))
        each_has = [dict(zip(each[::2], map(_unpacked, each[1::2]), strict=True)) for each in found]
        common: dict[str, str | int] = {}
        for name in sorted(set.intersection(*(set(each) for each in each_has))):
            values = [each[name] for each in each_has]
            if len(set(values)) == 1 or all(isinstance(value, int) for value in values):
                common[name.decode()] = min(values)
        return common

    # The servers

    def async_reader(self) -> AsyncReader | None:
        """A non-blocking reader of the same rows, for one event loop; None for a Cluster."""
        return None if self._servers.is_cluster else AsyncReader(self._servers, self._names)

    def incarnation(self) -> str:
        """See `OnlineStore.incarnation`: IDs of the masters' processes and replication histories."""

        def work() -> str:
            self._servers.forget_locations()
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
        masters = f"{counted(len(infos), 'master')}, " if len(infos) > 1 else ""
        servers = f"{masters}{counted(replicas, 'replica')}"
        return f"{product} {version}, {self.settings.place}, {servers}, {size:.1f} MiB"

    def warnings(self) -> list[str]:
        """See `OnlineStore.warnings`."""
        found: dict[str, None] = {}
        if evicts := self.evicts():
            found[f"{evicts} removes rows when memory is full; set it to noeviction"] = None
        for address in self._servers.attempt(self._servers.masters):
            info = self._servers.attempt(partial(self._info, address))
            if info.get("aof_enabled") == "0" and self._saves(address) == "":
                found["the server keeps nothing on disk, so a restart loses every row; set appendonly yes"] = None
        return list(found)

    def evicts(self) -> str:
        """See `OnlineStore.evicts`. A policy without a `maxmemory` removes nothing until there is one."""
        for address in self._servers.attempt(self._servers.masters):
            info = self._servers.attempt(partial(self._info, address))
            policy = info.get("maxmemory_policy", "noeviction")
            if policy != "noeviction" and info.get("maxmemory", "0") != "0":
                return f"maxmemory-policy {policy}"
        return ""

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._servers.close()

    def _info(self, address: Address) -> dict[str, str]:
        with self._servers.connection(address) as connection:
            return connection.look_around()

    def _saves(self, address: Address) -> str | None:
        """The server's `save` setting; None if it is not readable."""
        with self._servers.connection(address) as connection:
            (reply,) = connection.ask_all([("CONFIG", "GET", "save")])
            return None if isinstance(reply, ReplyError) or len(reply) < 2 else reply[1].decode()

    def _not_by_itself_ms(self) -> int:
        """Added to expiries: 0 if Redis may expire rows by its own clock, because it is the store's."""
        if self._later_ms is None:
            if self._clock is None:
                self._later_ms = 0
            else:
                seconds = self._servers.attempt(lambda: self._commands.ask(self._servers.masters()[0], ("TIME",)))
                servers_now = int(seconds[0]) * 1_000_000
                self._later_ms = 0 if abs(self._clock() - servers_now) < DAY else LATER_MS
        return self._later_ms

    def _read_from_masters(self, table: OnlineTable, keys: Sequence[bytes]) -> list[list[Row | None]]:
        self._merged.add(table)
        return self.read([Lookup(table, keys)])


def _packed(value: str | int) -> bytes:
    return b"i%d" % value if isinstance(value, int) else b"s" + value.encode()


def _unpacked(value: bytes) -> str | int:
    return int(value[1:]) if value[:1] == b"i" else value[1:].decode()
