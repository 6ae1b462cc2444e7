"""The registry's SQLite file: opened for reading or for writing, in WAL, with its errors in the user's terms."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asof.connections.private_files import make_file, make_folder
from asof.connections.sqlite import Stamp, address, copied, is_unchanged, unchanging
from asof.errors import RegistryError
from asof.forks import FORK_WAIT_S, ForkListener, leave_to_parent, listen_to_forks

FORMAT = 1
"""Format version of the tables, in `PRAGMA user_version`; newer ones are refused."""

_TABLES = """
CREATE TABLE IF NOT EXISTS snapshots (
    project TEXT NOT NULL,
    version INTEGER NOT NULL,
    who TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    note TEXT NOT NULL,
    summary TEXT NOT NULL,
    facts_only INTEGER NOT NULL,
    checksum TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (project, version)
) STRICT
"""
_READS = 100
"""How often a file that may only be read is read again while it changes."""


class RegistryFile(ForkListener):
    """A SQLite file with the tables of a registry. Safe between threads and processes of one machine.

    Args:
        path: the file; the first write creates it and its folder, a read never does.
        busy_timeout_s: how long a write waits for other writers.
    """

    def __init__(self, path: str | Path, *, busy_timeout_s: float) -> None:
        self.path = Path(path)
        self.busy_timeout_s = busy_timeout_s
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        # Of a file that this process may only read and no process is writing: the connection is to a copy of it.
        self._stamp: Stamp | None = None
        self._is_held_for_fork = False
        self._was_busy_at_fork = False
        listen_to_forks(self)

    def before_fork(self) -> None:
        """See `ForkListener`: no connection may be open in both processes.

        SQLite knows by process which locks it has: a child would rely on those of its parent, and write into a log
        that the parent deletes when it closes the file.
        """
        self._is_held_for_fork = self._lock.acquire(timeout=FORK_WAIT_S)
        connection = self._connection
        self._was_busy_at_fork = connection is not None and (not self._is_held_for_fork or connection.in_transaction)
        if connection is not None and not self._was_busy_at_fork:
            self.close()

    def after_fork_in_parent(self) -> None:
        """See `ForkListener`."""
        self._was_busy_at_fork = False
        if self._is_held_for_fork:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """See `ForkListener`."""
        leave_to_parent(self._connection)
        self._lock = threading.RLock()
        self._connection = None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection in a read transaction, so that all reads see one version; None without a file."""
        with self._lock, self._wrapped():
            connection = self._open() if self.path.exists() else None
            if connection is None:
                yield None
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection with the write lock; commits at the end, or rolls back on an error."""
        with self._lock, self._wrapped():
            make_folder(self.path.parent)
            make_file(self.path)
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A full disk may have caused a rollback already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        """The open connection, or a new one if the file was replaced."""
        if self._was_busy_at_fork:
            raise self.error(
                "this process was forked while another thread used it", hint="create a new FeatureStore in a process "
                'of its own (multiprocessing.get_context("spawn")), or fork while no other thread uses the store',
            )  # fmt: skip
        if self._stamp is not None and self._connection is not None and is_unchanged(self.path, self._stamp):
            return self._connection
        identity = self._identify()
        if self._stamp is None and self._connection is not None and identity is not None and identity == self._identity:
            return self._connection
        self.close()
        connection = self._connected()
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, self._identify()
        return connection

    def _connected(self) -> sqlite3.Connection:
        for _ in range(_READS):
            self._stamp = unchanging(self.path)
            if self._stamp is None:
                return sqlite3.connect(
                    address(self.path, None), uri=True, timeout=self.busy_timeout_s, isolation_level=None,
                    check_same_thread=False,
                )  # fmt: skip
            copy = copied(self.path, self._stamp)
            if copy is not None:
                return copy
        raise self.error(
            "it may only be read by this process, and others write it all the time", hint="run the command again"
        )

    def _identify(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _prepare(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > FORMAT:
            raise self.error(f"its format is {found}; this Asof reads up to {FORMAT}", hint="upgrade asof")
        connection.execute("PRAGMA synchronous = FULL")
        if found == FORMAT:
            return
        others = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        ]
        if others and "snapshots" not in others:
            raise self.error(
                f"the file is a SQLite database of something else (it has {', '.join(sorted(others)[:3])})",
                hint="give registry.path in feature_store.yaml a file of its own",
            )
        self._switch_to_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_TABLES)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        # SQLite ignores its busy timeout here, so two first writers would both fail.
        deadline = time.monotonic() + self.busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    @contextmanager
    def _wrapped(self) -> Iterator[None]:
        """Convert exceptions of the driver and the file system to errors with the file and the next step."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            problem, hint = next(
                (meaning for sign, meaning in _MEANINGS.items() if sign in text),
                (text, "check the file, or restore it from a backup"),
            )
            raise self.error(problem, hint=hint) from error
        except (UnicodeDecodeError, OSError) as error:
            raise self.error(
                f"{type(error).__name__}: {error}", hint="check the file and its folder's permissions"
            ) from error

    def error(self, problem: str, *, hint: str) -> RegistryError:
        """An error that names the file."""
        return RegistryError(f"registry {self.path}: {problem}", hint=hint)


_DAMAGED = (
    "the file is damaged, or is not a registry of Asof",
    "restore it from a backup, or name another file as registry.path in feature_store.yaml",
)
_MEANINGS = {
    "not a database": _DAMAGED,
    "malformed": _DAMAGED,
    "no such table": _DAMAGED,
    "no such column": _DAMAGED,
    "Could not decode": _DAMAGED,
    # Opening a file on a full disk: there is no space for its shared memory.
    "disk I/O error": (
        "disk I/O error: the disk is full, or it fails",
        "free some space, or check the disk, then run the command again",
    ),
    "is full": ("the disk is full; nothing was written", "free some space, then run the command again"),
    "locked": (
        "another process holds its write lock",
        "wait until that process has finished, then run the command again",
    ),
    "readonly": ("the file cannot be written", "check the permissions of the file and of its folder"),
    "unable to open": ("the file cannot be opened", "check that the path is a file in a folder that may be written"),
}
"""Text in SQLite's message → problem and next step."""
