"""The embedded online store: one SQLite file in WAL mode, a `WITHOUT ROWID` table per view generation.

A write survives a crash of any process once `write` returns. A power cut may lose the newest commits, because SQLite
runs with `synchronous=NORMAL`; it never damages the file, and never loses an earlier commit but not a later one. That
suffices: progress is committed after its rows in the same write-ahead log, so the surviving progress matches the
surviving rows, and everything later is replayed from the archive.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import Any, TypeVar

from asof.defaults import BUSY_TIMEOUT_S, SCAN_ROWS
from asof.display import counted
from asof.errors import StorageError
from asof.online.protocol import (
    Condition,
    Facts,
    Lookup,
    MarkedRows,
    Newest,
    OnlineStoreDefaults,
    OnlineTable,
    Row,
    ScannedRow,
    check_write,
)
from asof.online.sqlite.file import FORMAT, SqliteConnection, SqliteFile
from asof.online.sqlite.rows import (
    KEYS_PER_STATEMENT,
    ROWS,
    ROWS_PER_TRANSACTION,
    SIZES,
    Version,
    expired_keys,
    keep_newest,
    keep_unchanged,
    pieces_of,
    select_rows,
    split_rows,
)
from asof.timing import Micros

T = TypeVar("T")

MARKER = "!marker"
"""The name of the marker among a table's progress."""


class SqliteOnlineStore(OnlineStoreDefaults):
    """An `OnlineStore` in one SQLite file, which several projects, threads and processes may share.

    Readers never wait for writers; writers wait for each other, at most for `busy_timeout_s`.

    Args:
        path: the file; it and its directory are created at the first use. It must be on a local disk.
        busy_timeout_s: how long a write waits for other processes' writes before it fails.
    """

    is_local = True
    """A read takes microseconds and never waits."""
    has_markers = True
    """A file that is deleted or replaced has lost its tables and their markers, which are kept with the progress."""

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        self._file = SqliteFile(path, busy_timeout_s=busy_timeout_s)
        self.path = self._file.path

    # Tables

    def prepare(self, table: OnlineTable) -> None:
        """See `OnlineStore.prepare`."""

        def work(db: sqlite3.Connection) -> None:
            found = db.execute(
                "SELECT kind FROM tables WHERE project = ? AND view = ? AND generation = ?", table[:3]
            ).fetchone()
            if found is None:
                id = db.execute(
                    "INSERT INTO tables (project, view, generation, kind) VALUES (?, ?, ?, ?)", table
                ).lastrowid
                db.execute(ROWS.format(id=id))
            elif found[0] != table.kind:
                raise StorageError(
                    f"online table {table} exists with kind {found[0]!r}, not {table.kind!r}, in {self.path}",
                    hint="use a new generation for the new kind, or drop the table first",
                )

        self._file.change(work)

    def tables(self, project: str) -> list[OnlineTable]:
        """See `OnlineStore.tables`."""
        query = "SELECT project, view, generation, kind FROM tables WHERE project = ? ORDER BY 1, 2, 3"
        return [OnlineTable(*row) for row in self._file.look(lambda db: db.execute(query, (project,)).fetchall())]

    def drop(self, table: OnlineTable) -> None:
        """See `OnlineStore.drop`."""

        def work(db: sqlite3.Connection) -> None:
            id = _find(db, table)
            if id is not None:
                db.execute("DELETE FROM progress WHERE table_id = ?", (id,))
                db.execute("DELETE FROM tables WHERE id = ?", (id,))
                db.execute(f"DROP TABLE rows_{id}")

        self._file.change(work)

    def drop_project(self, project: str) -> None:
        """See `OnlineStore.drop_project`."""
        for table in self.tables(project):
            self.drop(table)

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
        """See `OnlineStore.write`. Rows become visible in chunks of `ROWS_PER_TRANSACTION`."""
        check_write(table, keys, values, condition, expires_at)
        kept: list[bool] = []
        for start, end in pieces_of(values):
            piece = slice(start, end)
            expiry = expires_at[piece] if expires_at is not None else [None] * (end - start)
            if isinstance(condition, Newest):
                marks: Sequence[Version] = condition.versions[piece]
                keep: Callable[..., list[bool]] = keep_newest
            else:
                marks, keep = condition.tokens[piece], keep_unchanged
            columns = (keys[piece], marks, expiry, values[piece])

            def work(
                db: sqlite3.Connection, id: int, columns: tuple[Any, ...] = columns,
                keep: Callable[..., list[bool]] = keep,
            ) -> list[bool]:  # fmt: skip
                return keep(db, id, *columns)

            kept += self._change_table(table, work)
        return kept

    def read(self, lookups: Sequence[Lookup]) -> list[list[Row | None]]:
        """See `OnlineStore.read`. All lookups read one snapshot of the file."""
        return self._read_again(lookups, self._read)

    def read_marked(self, lookups: Sequence[Lookup]) -> list[MarkedRows]:
        """See `OnlineStore.read_marked`. A marker that was seen is not looked for again in the same file."""
        return self._read_again(lookups, self._read_marked)

    def _read_again(
        self, lookups: Sequence[Lookup], read: Callable[[SqliteConnection, Sequence[Lookup]], list[T]]
    ) -> list[T]:
        def work(db: SqliteConnection) -> list[T]:
            for _ in range(3):
                try:
                    return read(db, lookups)
                except sqlite3.OperationalError as error:
                    if not str(error).startswith("no such table: rows_"):
                        raise
                    # Another process has dropped (and perhaps recreated) the table since its number was cached.
                    db.known.forget()
            raise StorageError(
                f"online tables in {self.path} are being dropped and recreated continuously", hint="run it again"
            )

        return self._file.read(work)

    def scan(self, table: OnlineTable, *, after: bytes | None = None, limit: int = SCAN_ROWS) -> list[ScannedRow]:
        """See `OnlineStore.scan`."""

        def work(db: sqlite3.Connection, id: int) -> list[ScannedRow]:
            where, arguments = ("", (limit,)) if after is None else ("WHERE key > ?", (after, limit))
            return db.execute(
                f"SELECT key, value, version FROM rows_{id} {where} ORDER BY key LIMIT ?", arguments
            ).fetchall()

        return self._look_at_table(table, work, absent=[])

    def delete(self, table: OnlineTable, keys: Sequence[bytes]) -> int:
        """See `OnlineStore.delete`."""
        deleted = 0
        for start in range(0, len(keys), ROWS_PER_TRANSACTION):
            piece = [(key,) for key in keys[start : start + ROWS_PER_TRANSACTION]]
            deleted += self._delete(table, "key = ?", piece)
        return deleted

    def delete_expired(self, project: str, now_us: Micros) -> int:
        """See `OnlineStore.delete_expired`. Scans all rows of the project, but writes in short transactions."""
        deleted = 0
        for table in self.tables(project):
            after: bytes | None = b""
            while after is not None:
                none: list[bytes] = []
                expired = self._look_at_table(table, partial(expired_keys, after=after, now_us=now_us), absent=none)
                # Found outside the write lock, so checked again: a row may have been renewed meanwhile.
                deleted += self._delete(table, "key = ? AND expires_at <= ?", [(key, now_us) for key in expired])
                after = expired[-1] if len(expired) == ROWS_PER_TRANSACTION else None
        return deleted

    # Markers and progress

    def mark(self, table: OnlineTable, *, within: str = "") -> None:
        """See `OnlineStore.mark`."""
        self.write_progress(table, {MARKER: str(table)})

    def unmarked(self, tables: Sequence[OnlineTable]) -> list[OnlineTable]:
        """See `OnlineStore.unmarked`."""
        return self._file.look(lambda db: [table for table in tables if not _is_marked(db, table)])

    def write_progress(self, table: OnlineTable, facts: Facts, *, within: str = "") -> None:
        """See `OnlineStore.write_progress`."""
        self._change_table(
            table,
            lambda db, id: db.executemany(
                "INSERT OR REPLACE INTO progress (table_id, name, value) VALUES (?, ?, ?)",
                [(id, name, value) for name, value in facts.items()],
            ),
        )

    def progress(self, table: OnlineTable) -> dict[str, str | int]:
        """See `OnlineStore.progress`."""
        query = "SELECT name, value FROM progress WHERE table_id = ? AND name <> ? ORDER BY name"
        return dict(self._look_at_table(table, lambda db, id: db.execute(query, (id, MARKER)).fetchall(), absent=[]))

    # The file

    def incarnation(self) -> str:
        """See `OnlineStore.incarnation`. Constant: a lost file has lost its tables, too."""
        return ""

    def check(self) -> None:
        """See `OnlineStore.check`."""
        if self._file.path.exists():
            self.ping()
        else:
            self._file.check_place()

    def warnings(self) -> list[str]:
        """See `OnlineStore.warnings`."""
        return []

    def ping(self) -> str:
        """See `OnlineStore.ping`."""

        def work(db: sqlite3.Connection) -> str:
            (tables,) = db.execute("SELECT count(*) FROM tables").fetchone()
            (pages,), (page_bytes,) = (
                db.execute("PRAGMA page_count").fetchone(),
                db.execute("PRAGMA page_size").fetchone(),
            )
            size = f"{counted(tables, 'table')}, {pages * page_bytes / (1 << 20):.1f} MiB"
            return f"SQLite {sqlite3.sqlite_version}, file {self.path}, format {FORMAT}, {size}"

        return self._file.look(work)

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._file.close()

    def _read_marked(self, db: SqliteConnection, lookups: Sequence[Lookup]) -> list[MarkedRows]:
        rows: list[MarkedRows] = list(self._read(db, lookups))
        marked = db.known.marked
        for place, (table, _) in enumerate(lookups):
            if table not in marked:
                if _is_marked(db, table):
                    marked.add(table)
                else:
                    rows[place] = None
        return rows

    def _read(self, db: SqliteConnection, lookups: Sequence[Lookup]) -> list[list[Row | None]]:
        """All rows from one snapshot: in one statement if all keys fit, else in one read transaction."""
        ids = []
        known = db.known.ids
        for lookup in lookups:
            id = known.get(lookup[0])
            ids.append(id if id is not None else self._learn(db, lookup[0]))
        shape = []
        parameters: list[bytes | None] = []
        for (_, keys), id in zip(lookups, ids, strict=True):
            n = len(keys)
            if n > KEYS_PER_STATEMENT:
                break
            if id is not None and n:
                size = n if n <= 4 else SIZES[n]
                shape.append((id, size))
                parameters += keys
                if size > n:
                    # Pad with nulls, which never match: few sizes keep all statements in the connection's cache.
                    parameters += repeat(None, size - n)
        else:
            if not shape:
                return [[None] * len(keys) for _, keys in lookups]
            if len(parameters) <= 4 * KEYS_PER_STATEMENT:
                found = db.execute(select_rows(tuple(shape)), parameters).fetchall()
                return split_rows(found, lookups, ids)
        db.execute("BEGIN")
        try:
            return [self._read_pieces(db, id, lookup.keys) for id, lookup in zip(ids, lookups, strict=True)]
        finally:
            db.execute("COMMIT")

    @staticmethod
    def _read_pieces(db: sqlite3.Connection, id: int | None, keys: Sequence[bytes]) -> list[Row | None]:
        if id is None:
            return [None] * len(keys)
        rows: list[Row | None] = []
        for start in range(0, len(keys), KEYS_PER_STATEMENT):
            piece = list(keys[start : start + KEYS_PER_STATEMENT])
            size = SIZES[len(piece)]
            found = db.execute(select_rows(((id, size),)), piece + [None] * (size - len(piece))).fetchall()
            del found[len(piece) :]
            rows += [row if row[0] is not None else None for row in found]
        return rows

    def _delete(self, table: OnlineTable, where: str, parameters: Sequence[tuple[Any, ...]]) -> int:
        if not parameters:
            return 0
        statement = f"DELETE FROM rows_{{id}} WHERE {where}"
        return self._change_table(
            table, lambda db, id: db.executemany(statement.format(id=id), parameters).rowcount, absent=0
        )

    @staticmethod
    def _learn(db: SqliteConnection, table: OnlineTable) -> int | None:
        id = _find(db, table)
        if id is not None:
            db.known.ids[table] = id
        return id

    def _change_table(
        self, table: OnlineTable, work: Callable[[sqlite3.Connection, int], T], *, absent: T | None = None
    ) -> T:
        """Run `work` with the table's number under the write lock; without a table, return `absent` if given."""

        def with_id(db: sqlite3.Connection) -> T:
            # Looked up under the lock each time: a write to a table that another process dropped must fail.
            id = _find(db, table)
            if id is not None:
                return work(db, id)
            if absent is not None:
                return absent
            raise StorageError(
                f"online table {table} of kind {table.kind!r} was never prepared in {self.path}, or was dropped",
                hint="run `asof apply`",
            )

        return self._file.change(with_id)

    def _look_at_table(self, table: OnlineTable, work: Callable[[sqlite3.Connection, int], T], *, absent: T) -> T:
        def with_id(db: sqlite3.Connection) -> T:
            id = _find(db, table)
            return absent if id is None else work(db, id)

        return self._file.look(with_id)


def _is_marked(db: sqlite3.Connection, table: OnlineTable) -> bool:
    id = _find(db, table)
    query = "SELECT 1 FROM progress WHERE table_id = ? AND name = ?"
    return id is not None and db.execute(query, (id, MARKER)).fetchone() is not None


def _find(db: sqlite3.Connection, table: OnlineTable) -> int | None:
    query = "SELECT id FROM tables WHERE project = ? AND view = ? AND generation = ? AND kind = ?"
    found = db.execute(query, table).fetchall()
    return found[0][0] if found else None
