"""The file of the SQLite online store: opening and checking it, connections, transactions, errors."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from asof.connections.private_files import make_file, make_folder
from asof.connections.sqlite import Stamp, address, is_unchanged, unchanging
from asof.errors import StorageError
from asof.forks import FORK_WAIT_S, ForkListener, leave_to_parent, listen_to_forks
from asof.online.protocol import OnlineTable
from asof.online.sqlite.errors import SETTING, failure_of

FORMAT = 1
"""The layout of the file, in `PRAGMA user_version`."""
APPLICATION_ID = 0x41736F66
"""`Asof`, in `PRAGMA application_id`, to recognize Asof's files."""

# Measured on 100 k rows of 2 KB, upserted at random by 1000, in us and KiB written per row: pages of 4 KiB 61 and 15
# (a row of 2 KB overflows), of 8 KiB 39 and 15, of 16 KiB 48 and 30, of 32 KiB 66 and 58. A cache of 64 MiB changed
# nothing (the pages are mapped), nor did `secure_delete`; a checkpoint per 8 MiB instead of 32 cost 40 % more time.
_PAGE_BYTES = 8192
_ON_CONNECT = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -16384",
    "PRAGMA mmap_size = 2147418112",
    "PRAGMA wal_autocheckpoint = 4000",
    "PRAGMA secure_delete = OFF",
    "PRAGMA foreign_keys = OFF",
)

_LAYOUT = (
    # AUTOINCREMENT: the number of a dropped table never comes back, so a stale one meets no table.
    """CREATE TABLE tables (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project TEXT NOT NULL, view TEXT NOT NULL, generation TEXT NOT NULL, kind TEXT NOT NULL,
        UNIQUE (project, view, generation)
    )""",
    """CREATE TABLE progress (
        table_id INTEGER NOT NULL, name TEXT NOT NULL, value NOT NULL, PRIMARY KEY (table_id, name)
    ) WITHOUT ROWID""",
    "CREATE TABLE tokens (last INTEGER NOT NULL)",
)


T = TypeVar("T")

_READS = 100
"""How often a read is done again while a file that may only be read changes."""


class KnownTables:
    """What is known of the tables in one file: another file in its place has other tables under the same numbers.

    Attributes:
        ids: numbers of tables that exist or have existed; never used again in a file, so a stale one is noticed.
        marked: those of them that were seen with their marker, which only goes with its table.
    """

    def __init__(self) -> None:
        self.ids: dict[OnlineTable, int] = {}
        self.marked: set[OnlineTable] = set()

    def forget(self) -> None:
        """Ask the file again."""
        self.ids.clear()
        self.marked.clear()


class SqliteConnection(sqlite3.Connection):
    """A connection, and what is known of the file that it has open.

    Attributes:
        stamp: of a file that this process may only read, and no process is writing; it tells whether reads are valid.
    """

    known: KnownTables
    stamp: Stamp | None


class SqliteConnectionPool:
    """A process's connections: each used by one thread at a time; opened as needed."""

    def __init__(self) -> None:
        # Device and inode of the open file, to detect that it was replaced.
        self.file: tuple[int, int] | None = None
        self.idle: deque[SqliteConnection] = deque()
        self.known = KnownTables()
        self.all: list[SqliteConnection] = []
        # Threads of one process queue here, because SQLite's own waiting is polling.
        self.writing = threading.Lock()
        self.closed = False


class SqliteFile(ForkListener):
    """A file shared by any number of threads and processes: reads never wait, writes wait for each other.

    Args:
        path: the file; it and its directory are created at the first use.
        busy_timeout_s: how long a write waits for other processes' writes before it fails.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout_s: float) -> None:
        self.path = Path(path).absolute()
        self._busy_timeout_s = busy_timeout_s
        self._connections = SqliteConnectionPool()
        # An entry per connection in use: appending and popping need no lock.
        self._in_use: deque[None] = deque()
        self._is_forking = False
        self._was_busy_at_fork = False
        self._forked = threading.Event()
        listen_to_forks(self)

    def before_fork(self) -> None:
        """See `ForkListener`: no connection may be open in both processes.

        SQLite knows by process which locks it has: a child would rely on those of its parent, and write into a log
        that the parent deletes when it closes the file.
        """
        self._forked.clear()
        self._is_forking = True
        deadline = time.monotonic() + FORK_WAIT_S
        while self._in_use and time.monotonic() < deadline:
            time.sleep(0.001)
        self._was_busy_at_fork = bool(self._in_use)
        if not self._was_busy_at_fork:
            self._close_idle(self._connections)

    def after_fork_in_parent(self) -> None:
        """See `ForkListener`."""
        self._was_busy_at_fork = self._is_forking = False
        self._forked.set()

    def after_fork_in_child(self) -> None:
        """See `ForkListener`."""
        leave_to_parent(self._connections)
        closed = self._connections.closed
        self._connections = SqliteConnectionPool()
        self._connections.closed = closed
        self._in_use = deque()
        self._is_forking, self._forked = False, threading.Event()

    def take(self) -> SqliteConnection:
        """A connection for this thread only, until it is given back."""
        while True:
            self._in_use.append(None)
            if not self._is_forking:
                break
            self._in_use.pop()
            self._forked.wait(FORK_WAIT_S)
        try:
            return self._taken()
        except BaseException:
            self._in_use.pop()
            raise

    def _taken(self) -> SqliteConnection:
        connections = self._connections
        if self._was_busy_at_fork:
            raise StorageError(
                f"the online store {self.path} cannot be used in this process: it was forked while another thread "
                f"used the store ({SETTING})",
                hint='start processes with multiprocessing.get_context("spawn"), or fork while no other thread uses '
                "the store",
            )
        if connections.file is not None and connections.file != self._identity():
            connections = self._begin_again()
        try:
            db = connections.idle.pop()
        except IndexError:
            return self._connect(connections)
        if self._is_valid(db):
            return db
        db.close()
        return self._taken()

    def _is_valid(self, db: SqliteConnection) -> bool:
        return db.stamp is None or is_unchanged(self.path, db.stamp)

    def give_back(self, db: SqliteConnection) -> None:
        """Return the connection to the pool."""
        connections = self._connections
        if connections.closed or not any(db is each for each in connections.all):
            db.close()
        else:
            connections.idle.append(db)
        if self._in_use:  # not where the process was forked in between
            self._in_use.pop()

    def look(self, work: Callable[[SqliteConnection], T]) -> T:
        """Run `work` in a read transaction: it reads one snapshot of the file."""

        def transaction(db: SqliteConnection) -> T:
            db.execute("BEGIN")
            try:
                return work(db)
            finally:
                db.execute("ROLLBACK")

        return self.read(transaction)

    def read(self, work: Callable[[SqliteConnection], T]) -> T:
        """Run `work`, which reads only: again where the file may only be read, and another process wrote it."""
        for _ in range(_READS):
            db = self.take()
            try:
                try:
                    found = work(db)
                except sqlite3.Error as error:
                    if self._is_valid(db):
                        raise self.failure(error) from error
                else:
                    if self._is_valid(db):
                        return found
            finally:
                self.give_back(db)
        raise StorageError(
            f"the online store {self.path} may only be read by this process, and others open and close it all the time "
            f"({SETTING})",
            hint="run it again, or keep a process running that writes it, such as `asof stream run`",
        )

    def change(self, work: Callable[[SqliteConnection], T]) -> T:
        """Run `work` in a transaction with the write lock from its start, so that what it reads cannot change."""
        db = self.take()
        try:
            with self._connections.writing:
                db.execute("BEGIN IMMEDIATE")
                try:
                    result = work(db)
                    db.execute("COMMIT")
                    return result
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self.failure(error) from error
        finally:
            self.give_back(db)

    def check_place(self) -> None:
        """Check that the file can be created.

        Raises:
            StorageError: what shall be its directory is a file, or may not be written.
        """
        near = next(each for each in self.path.parents if each.exists() or each.is_symlink())
        if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
            what = "may not be written" if near.is_dir() else "is not a directory"
            raise StorageError(
                f"the online store {self.path} cannot be created: {near} {what} ({SETTING})",
                hint=f"set `{SETTING}` to a file in a writable directory",
            )

    def close(self) -> None:
        """Close idle connections; those in use by other threads are closed when they are returned."""
        connections = self._connections
        connections.closed = True
        self._close_idle(connections)

    @staticmethod
    def _close_idle(connections: SqliteConnectionPool) -> None:
        while connections.idle:
            closing = connections.idle.pop()
            connections.all = [each for each in connections.all if each is not closing]
            closing.close()

    def failure(self, error: sqlite3.Error) -> StorageError:
        """The error for an error of SQLite, with the next step."""
        return failure_of(error, self.path, busy_timeout_s=self._busy_timeout_s)

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _begin_again(self) -> SqliteConnectionPool:
        """New connections after the file was deleted or replaced: other processes do not see the old file."""
        before, self._connections = self._connections, SqliteConnectionPool()
        self._connections.closed = before.closed
        while before.idle:
            before.idle.pop().close()
        return self._connections

    def _connect(self, connections: SqliteConnectionPool) -> SqliteConnection:
        if connections.closed:
            raise StorageError(f"the online store {self.path} was closed", hint="create a new one")
        try:
            make_folder(self.path.parent)
        except OSError as error:
            raise StorageError(
                f"the online store's directory {self.path.parent} cannot be created: {error.strerror} ({SETTING})",
                hint=f"set `{SETTING}` to a file in a writable directory",
            ) from error
        if not self.path.exists():
            make_file(self.path)
        try:
            stamp = unchanging(self.path)
            db = sqlite3.connect(
                address(self.path, stamp),
                uri=True,
                factory=SqliteConnection,
                timeout=self._busy_timeout_s,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            try:
                self._open(db)
            except BaseException:
                db.close()
                raise
        except sqlite3.Error as error:
            raise self.failure(error) from error
        db.known, db.stamp = connections.known, stamp
        connections.all.append(db)
        connections.file = self._identity()
        return db

    def _open(self, db: sqlite3.Connection) -> None:
        """Check that the file is Asof's with a known format; initialize an empty one."""
        if not self._is_ours(db):
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            self._switch_to_wal(db)
            db.execute("BEGIN IMMEDIATE")
            try:
                if not self._is_ours(db):  # another process may have been faster
                    for statement in _LAYOUT:
                        db.execute(statement)
                    # A random start, so that a lost and recreated file does not repeat tokens. Below 2**53.
                    db.execute("INSERT INTO tokens VALUES (?)", (secrets.randbits(48),))
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {FORMAT}")
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        for pragma in _ON_CONNECT:
            db.execute(pragma)

    def _is_ours(self, db: sqlite3.Connection) -> bool:
        """Whether the file is an Asof online store; False if it is empty.

        Raises:
            StorageError: the file is not Asof's, or has a newer format.
        """
        # One statement, so one state of the file: read one by one, what another process creates meanwhile
        # shows its tables without the number that marks them as Asof's.
        application, found, objects = db.execute(_WHOSE).fetchone()
        if application == APPLICATION_ID:
            if found > FORMAT:
                raise StorageError(
                    f"the online store {self.path} has format {found}; expected {FORMAT} ({SETTING})",
                    hint="upgrade asof, or set another file and run `asof rebuild`",
                )
            return True
        if objects or application or found:
            raise StorageError(
                f"{self.path} is an SQLite file, but not an Asof online store ({SETTING})",
                hint=f"set `{SETTING}` to another file",
            )
        return False

    def _switch_to_wal(self, db: sqlite3.Connection) -> None:
        """Switch the file to write-ahead logging. SQLite does not wait for the lock here, so this retries."""
        deadline = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if (error.sqlite_errorcode & 0xFF) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
                continue
            if mode != "wal":
                raise StorageError(
                    f"the online store {self.path} cannot use write-ahead logging on its file system ({SETTING})",
                    hint=f"set `{SETTING}` to a file on a local disk",
                )
            return


_WHOSE = """
    SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
           count(*)
    FROM sqlite_master"""
"""The number of whose file it is, the format, and how many tables and indexes it has."""
