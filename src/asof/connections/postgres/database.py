"""One PostgreSQL database: its address, pooled connections that open on first use, and Arrow streams."""

from __future__ import annotations

import logging
import re
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import psycopg_pool
from adbc_driver_postgresql import dbapi as adbc
from psycopg import conninfo

from asof.connections.postgres.errors import ConnectionTarget, translate, translated
from asof.defaults import POSTGRES_CONNECT_S, POSTGRES_CONNECTIONS, POSTGRES_IDLE_S, POSTGRES_LOCK_S, POSTGRES_NAME
from asof.errors import AsofError, ConfigError, StorageError
from asof.forks import ForkListener, leave_to_parent, listen_to_forks
from asof.sql.quoting import quote, text

if TYPE_CHECKING:
    from psycopg.abc import PQGen

Waited = TypeVar("Waited")

OLDEST_SERVER = 140000

_KEPT = 4
"""Maximum idle connections for Arrow."""

_SQLALCHEMY = re.compile(r"^(postgres(?:ql)?)\+\w+://")
_DRIVER_LOG = logging.getLogger("psycopg.pool")
# The pool would print each failed attempt to stderr; failures that matter become Asof's errors.
_DRIVER_LOG.addHandler(logging.NullHandler())


class Postgres(ForkListener):
    """A database, by URL or by fields; nothing is opened before it is needed.

    Args:
        url: `postgresql://user:password@host:port/database?…` with any of libpq's parameters; fields override it.
        schema: the schema searched first for unqualified names; if empty, the server's search path.
        sslmode: libpq's, with libpq's default (`prefer`); `verify-full` checks the server's certificate and name.
        max_connections: maximum connections of this process.
        statement_timeout_s: time limit of a statement, enforced by the server; if the server does not respond, this
            process gives up `connect_timeout_s` later. None: the server's own setting.
        lock_timeout_s: how long a statement waits for a lock.
        replicas: hosts (`host` or `host:port`) for reads that may be a little stale; the primary if none responds.
        pgbouncer: sessions are shared (transaction pooling): no prepared statements, settings per transaction.
        label: the setting that names this database, for messages.
        kind: the class of its errors.
        where: `file:line` of the definition that holds the settings.
    """

    def __init__(
        self,
        url: str = "",
        *,
        host: str = "",
        port: int = 0,
        database: str = "",
        user: str = "",
        password: str = "",
        schema: str = "",
        sslmode: str = "",
        sslrootcert: str = "",
        sslcert: str = "",
        sslkey: str = "",
        min_connections: int = 0,
        max_connections: int = POSTGRES_CONNECTIONS,
        keepalives_idle_s: int = POSTGRES_IDLE_S,
        connect_timeout_s: float = POSTGRES_CONNECT_S,
        statement_timeout_s: float | None = None,
        lock_timeout_s: float = POSTGRES_LOCK_S,
        replicas: Sequence[str] = (),
        application_name: str = POSTGRES_NAME,
        pgbouncer: bool = False,
        label: str = "connection",
        kind: type[AsofError] = StorageError,
        where: str = "",
    ) -> None:
        given = {
            "host": host, "port": port, "dbname": database, "user": user, "password": password, "sslmode": sslmode,
            "sslrootcert": sslrootcert, "sslcert": sslcert, "sslkey": sslkey,
        }  # fmt: skip
        self._parameters = {**_parsed(url, label, where), **{name: value for name, value in given.items() if value}}
        if not {"host", "hostaddr", "dbname", "service"} & self._parameters.keys():
            raise ConfigError(f"{label} does not say where PostgreSQL is", hint="give url, or host and database")
        self.schema = schema
        self.pgbouncer = pgbouncer
        self._settings = {"TimeZone": "UTC", "lock_timeout": f"{int(lock_timeout_s * 1000)}ms"}
        if statement_timeout_s is not None:
            self._settings["statement_timeout"] = f"{int(statement_timeout_s * 1000)}ms"
        if schema:
            self._settings["search_path"] = f"{quote(schema)}, public" if schema != "public" else "public"
        defaults = {
            "connect_timeout": max(int(connect_timeout_s), 2), "application_name": application_name,
            "client_encoding": "UTF8", "keepalives_idle": keepalives_idle_s, "keepalives_interval": 10,
            "keepalives_count": 3, "tcp_user_timeout": 60_000,
        }  # fmt: skip
        self._parameters = {**defaults, **self._parameters}
        if not pgbouncer:
            own = " ".join(f"-c {name}={_escaped(value)}" for name, value in self._settings.items())
            self._parameters["options"] = f"{own} {self._parameters.get('options', '')}".strip()
        self._replicas = tuple(replicas)
        self._wait_s = connect_timeout_s
        self._answer_s = statement_timeout_s + connect_timeout_s if statement_timeout_s is not None else None
        self._size = (min_connections, max(max_connections, 1, min_connections))
        self._pools: dict[bool, psycopg_pool.ConnectionPool] = {}
        self._kept: dict[bool, list[adbc.Connection]] = {}
        self._lock = threading.Lock()
        listen_to_forks(self)
        self.place = ConnectionTarget(label, self._address(), str(self._parameters.get("user") or ""), kind, where)

    @property
    def identity(self) -> tuple[Any, ...]:
        """A key that is equal for the same database and user, so that one transaction may serve both."""
        ignored = ("options", "application_name", "password", "connect_timeout")
        return tuple(sorted((name, str(value)) for name, value in self._parameters.items() if name not in ignored))

    def conninfo(self, *, stale: bool = False) -> str:
        """The connection string for libpq; contains the password.

        Args:
            stale: try replicas first, if any.
        """
        parameters = dict(self._parameters)
        if stale and self._replicas:
            hosts = [each.rpartition(":") if ":" in each else (each, "", "") for each in self._replicas]
            port = str(parameters.get("port") or 5432)
            parameters["host"] = ",".join([*(host for host, _, _ in hosts), str(parameters.get("host", ""))])
            parameters["port"] = ",".join([*(own or port for _, _, own in hosts), port])
        return conninfo.make_conninfo("", **parameters)

    @contextmanager
    def connection(self, what: str, *, stale: bool = False) -> Iterator[psycopg.Connection[Any]]:
        """A pooled connection in autocommit: each statement is a transaction of its own.

        Args:
            what: the object that is read or written, for messages.
            stale: a replica may be used.
        """
        with translated(what, self.place), self._pooled(what, stale and bool(self._replicas)) as connection:
            if self.pgbouncer:
                with connection.transaction():
                    self._set(connection)
                    yield connection
            else:
                yield connection

    @contextmanager
    def transaction(
        self, what: str, *, stale: bool = False, repeatable: bool = False
    ) -> Iterator[psycopg.Connection[Any]]:
        """A pooled connection in a transaction, committed at the end or, after an exception, rolled back.

        Args:
            repeatable: all reads see one snapshot.
        """
        pooled = self._pooled(what, stale and bool(self._replicas))
        with translated(what, self.place), pooled as connection, connection.transaction():
            if repeatable:
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            if self.pgbouncer:
                self._set(connection)
            yield connection

    @contextmanager
    def arrow(self, what: str, *, stale: bool = False, repeatable: bool = False) -> Iterator[adbc.Connection]:
        """An ADBC connection in a transaction, for Arrow in bulk; an exception rolls back.

        Args:
            repeatable: all reads see one snapshot, and nothing can be written.
        """
        with translated(what, self.place):
            connection = self._arrow_connection(what, stale)
            try:
                with connection.cursor() as cursor:
                    if repeatable:
                        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                    for statement in self._statements() if self.pgbouncer else ():
                        cursor.execute(statement)
                yield connection
                connection.commit()
            except BaseException:
                connection.close()
                raise
            self._keep(connection, stale)

    def _arrow_connection(self, what: str, stale: bool) -> adbc.Connection:
        """An idle connection that still works, else a new one, which takes as long as a hundred small queries."""
        while True:
            with self._lock:
                kept = self._kept.get(stale)
                connection = kept.pop() if kept else None
            if connection is None:
                self._probe(what, stale=stale)
                return adbc.connect(self.conninfo(stale=stale))
            try:
                connection.adbc_connection.set_autocommit(False)
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL TimeZone = 'UTC'")
                return connection
            except adbc.Error:
                connection.close()

    def _keep(self, connection: adbc.Connection, stale: bool) -> None:
        try:
            # An idle connection must not keep a transaction open.
            connection.adbc_connection.set_autocommit(True)
        except adbc.Error:
            connection.close()
            return
        with self._lock:
            kept = self._kept.setdefault(stale, [])
            if len(kept) < _KEPT:
                kept.append(connection)
                return
        connection.close()

    def after_fork_in_child(self) -> None:
        """See `ForkListener`: the sockets belong to the parent, and are neither used nor closed."""
        leave_to_parent(self._pools, self._kept)
        self._lock = threading.Lock()
        self._pools, self._kept = {}, {}

    def close(self) -> None:
        """Close the connections; they open again when needed."""
        with self._lock:
            pools, self._pools = self._pools, {}
            kept, self._kept = self._kept, {}
        for connection in [each for those in kept.values() for each in those]:
            connection.close()
        for pool in pools.values():
            pool.close(timeout=2)

    @contextmanager
    def _pooled(self, what: str, stale: bool) -> Iterator[psycopg.Connection[Any]]:
        pool = self._pool(what, stale)
        try:
            connection = pool.getconn()
        except psycopg_pool.PoolTimeout as error:
            # The pool does not report the cause; a direct connection does.
            self._probe(what, stale=stale, again=True)
            raise self.place.error(
                what, f"all {self._size[1]} connections to {self.place.address} were in use for {self._wait_s:g} s",
                hint=f"raise max_connections of {self.place.label}", cause=error,
            ) from error  # fmt: skip
        try:
            yield connection
        finally:
            pool.putconn(connection)

    def _pool(self, what: str, stale: bool) -> psycopg_pool.ConnectionPool:
        with self._lock:
            pool = self._pools.get(stale)
            if pool is None:
                self._probe(what, stale=stale, again=True)
                threshold = None if self.pgbouncer else 5
                pool = psycopg_pool.ConnectionPool(
                    self.conninfo(stale=stale), connection_class=_bounded_connection(self._answer_s),
                    min_size=self._size[0], max_size=self._size[1], open=True,
                    kwargs={"autocommit": True, "prepare_threshold": threshold}, timeout=self._wait_s,
                    max_idle=300, reconnect_timeout=self._wait_s, num_workers=1, check=_check_alive,
                )  # fmt: skip
                self._pools[stale] = pool
            return pool

    def _probe(self, what: str, *, stale: bool, again: bool = False) -> None:
        """Connect once, so that errors are reported immediately and in full.

        Args:
            again: also if a pool is open, so that the server was reached before.
        """
        if self._pools and not again:
            return
        with translated(what, self.place), psycopg.connect(self.conninfo(stale=stale), autocommit=True) as connection:
            version = connection.info.server_version
            # PgBouncer responds for servers that it may not have reached.
            if self.pgbouncer:
                connection.execute("SELECT 1")
        if version < OLDEST_SERVER:
            raise self.place.error(
                what, f"{self.place.address} is PostgreSQL {version // 10000}; Asof needs 14 or later",
                hint=f"upgrade it, or give another host in {self.place.label}",
            )  # fmt: skip

    def _statements(self) -> list[str]:
        return [
            f"SET LOCAL {quote(name.lower())} = {text(value)}"
            if name != "search_path" else f"SET LOCAL search_path = {value}"
            for name, value in self._settings.items()
        ]  # fmt: skip

    def _set(self, connection: psycopg.Connection[Any]) -> None:
        connection.execute("; ".join(self._statements()))

    def _address(self) -> str:
        parameters = self._parameters
        host = str(parameters.get("host") or parameters.get("hostaddr") or "the local socket")
        port = parameters.get("port")
        database = parameters.get("dbname")
        return f"PostgreSQL at {host}" + (f":{port}" if port else "") + (f", database {database!r}" if database else "")


def _bounded_connection(answer_s: float | None) -> type[psycopg.Connection[Any]]:
    """A connection class with a time limit for every response: a stopped server keeps its sockets open."""
    if answer_s is None:
        return psycopg.Connection

    bound_s = answer_s

    class BoundedConnection(psycopg.Connection[Any]):
        def wait(self, gen: PQGen[Waited], interval: float = 0.1, timeout: float | None = None) -> Waited:
            bounded = self._within(gen, time.monotonic() + bound_s)
            if timeout is None:
                return super().wait(bounded, interval=interval)
            return super().wait(bounded, interval=interval, timeout=timeout)

        def _within(self, gen: PQGen[Waited], deadline: float) -> PQGen[Waited]:
            try:
                waited_for = next(gen)
                while True:
                    ready = yield waited_for
                    if not ready and time.monotonic() > deadline:
                        gen.close()
                        self.pgconn.finish()
                        raise psycopg.OperationalError(f"no response for {bound_s:g} s")
                    waited_for = gen.send(ready)
            except StopIteration as end:
                return end.value

    return BoundedConnection


def only_row(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    """The row of a statement that always returns one."""
    row: tuple[Any, ...] | None = cursor.fetchone()
    assert row is not None
    return row


def _parsed(url: str, label: str, where: str) -> dict[str, Any]:
    """Parse the parameters of a URL or a `key=value` text."""
    try:
        parameters = dict(conninfo.conninfo_to_dict(_SQLALCHEMY.sub(r"\1://", url))) if url else {}
        # For libpq a `/` in a password ends the host, and an `@` begins it: the rest would appear in messages as the
        # database or the host. (One that begins with `@` is a socket.)
        if not any("@" in str(parameters.get(each, ""))[1:] for each in ("dbname", "host")):
            return parameters
    except psycopg.Error:
        # libpq's message (and the exception) repeats pieces of the text, perhaps the password.
        pass
    raise ConfigError(
        f"the url of {label} is not well formed",
        hint="write postgresql://user:password@host:port/database; special characters of a password as %40 and so on",
        where=where,
    )


def _escaped(value: str) -> str:
    """Escape a value for libpq's `options`, where a space ends it."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


def _check_alive(connection: psycopg.Connection[Any]) -> None:
    """Refuse a connection that the server has closed. Costs no round trip: only a closed one has data to read."""
    if select.select([connection.fileno()], [], [], 0)[0]:
        connection.execute("SELECT 1")


__all__ = ["OLDEST_SERVER", "ConnectionTarget", "Postgres", "only_row", "translate", "translated"]
