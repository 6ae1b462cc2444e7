"""The online store in PostgreSQL: a table per view generation, set-based conditional writes, reads in one statement.

Written rows are as durable as the server's commits; `synchronous_commit` is switched on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import psycopg

from asof.connections.postgres.database import Postgres, only_row
from asof.connections.postgres.schema import lock, migrate, schema_of
from asof.defaults import ONLINE_STATEMENT_S, SCAN_ROWS
from asof.display import counted
from asof.errors import StorageError
from asof.online.postgres import statements
from asof.online.postgres.drops import drop_table
from asof.online.postgres.pieces import ROWS_PER_STATEMENT, Piece, fresh_tokens, pieces_of
from asof.online.postgres.statements import ByteaArray, Int8Array
from asof.online.protocol import (
    NO_ROW,
    Condition,
    Facts,
    Lookup,
    MarkedRows,
    Newest,
    OnlineStoreDefaults,
    OnlineTable,
    Row,
    ScannedRow,
    StoreReplaced,
    check_write,
)
from asof.timing import Micros

WHAT = "online store"

T = TypeVar("T")


class PostgresOnlineStore(OnlineStoreDefaults):
    """An `OnlineStore` in a PostgreSQL database, shared by any number of projects, threads, processes and machines.

    All reads are from the primary: a replica that lags would return stale rows.

    Args:
        statement_timeout_s: time limit of a statement; all are short.
        options: connection options (`asof.connections.postgres.database.Postgres`).
    """

    has_markers = True

    def __init__(self, url: str = "", *, statement_timeout_s: float = ONLINE_STATEMENT_S, **options: Any) -> None:
        self._database = Postgres(
            url, **options, statement_timeout_s=statement_timeout_s, label="online_store", kind=StorageError
        )
        self._schema = schema_of(self._database)
        # Cached numbers of tables. Numbers are never reused, so a stale one is detected.
        self._ids: dict[OnlineTable, int] = {}
        self._incarnations: WeakKeyDictionary[psycopg.Connection[Any], str] = WeakKeyDictionary()

    # Tables

    def prepare(self, table: OnlineTable) -> None:
        """See `OnlineStore.prepare`."""
        with self._database.transaction(WHAT) as connection:
            migrate(self._database, connection, part="online", steps=statements.STEPS, what=WHAT)
            lock(connection, f"{self._schema}.online_tables")
            found = connection.execute(self._text(statements.FIND), table[:3]).fetchone()
            if found is None:
                (id,) = only_row(connection.execute(self._text(statements.ADD), table))
                mark = statements.MARKS[table.kind]
                connection.execute(statements.ROWS.format(rows=self._rows(id), mark=mark))
            elif found[1] != table.kind:
                raise StorageError(
                    f"online table {table} exists with kind {found[1]!r}, not {table.kind!r}, in "
                    f"{self._database.place.address}",
                    hint="use a new generation for the new kind, or drop the table first",
                )

    def tables(self, project: str) -> list[OnlineTable]:
        """See `OnlineStore.tables`."""
        none: list[Any] = []
        rows = self._look(lambda db: db.execute(self._text(statements.ALL), (project,)).fetchall(), absent=none)
        return [OnlineTable(*row) for row in rows]

    def drop(self, table: OnlineTable) -> None:
        """See `OnlineStore.drop`. Rows in a table that another user owns stay: nothing lists or marks them any more."""

        def work(db: psycopg.Connection[Any]) -> None:
            with db.transaction():
                lock(db, f"{self._schema}.online_tables")
                found = db.execute(self._text(statements.FIND), table[:3]).fetchone()
                if found is not None:
                    drop_table(db, self._schema, found[0], table=table, address=self._database.place.address)

        self._look(work, absent=None)
        self._ids.pop(table, None)

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
        """See `OnlineStore.write`. Rows become visible in chunks of `ROWS_PER_STATEMENT`."""
        check_write(table, keys, values, condition, expires_at)
        expiry = statements.expiries(expires_at, len(keys))
        kept = [False] * len(keys)
        for positions in pieces_of(keys, values):
            piece = Piece(
                [keys[at] for at in positions], [values[at] for at in positions], [expiry[at] for at in positions]
            )
            if isinstance(condition, Newest):
                versions = [condition.versions[at] for at in positions]
                keep = partial(self._keep_newest, piece=piece, versions=versions)
            else:
                tokens = [condition.tokens[at] for at in positions]
                keep = partial(self._keep_unchanged, piece=piece, tokens=tokens, within=condition.within)
            done = self._change(table, keep)
            for at, key in zip(positions, piece.keys, strict=True):
                kept[at] = key in done
        return kept

    def read(self, lookups: Sequence[Lookup]) -> list[list[Row | None]]:
        """See `OnlineStore.read`. One statement, so all lookups read one snapshot."""
        return self._rows_and_marked(lookups, {})[0]

    def read_marked(self, lookups: Sequence[Lookup]) -> list[MarkedRows]:
        """See `OnlineStore.read_marked`: one statement, too."""
        rows, marked = self._rows_and_marked(lookups, {table: place for place, (table, _) in enumerate(lookups)})
        return [found if table in marked else None for (table, _), found in zip(lookups, rows, strict=True)]

    def _rows_and_marked(
        self, lookups: Sequence[Lookup], markers: Mapping[OnlineTable, int]
    ) -> tuple[list[list[Row | None]], set[OnlineTable]]:
        """The rows, and which tables have their marker; it is looked for in `markers`, each with a lookup's place."""
        rows: list[list[Row | None]] = [[None] * len(keys) for _, keys in lookups]
        marked = set()
        none: list[Any] = []
        for place, at, value, version, token in self._look(lambda db: self._read(db, lookups, markers), absent=none):
            if at:
                rows[place][at - 1] = (value, version if token is None else token)
            else:
                marked.add(lookups[place].table)
        return rows, marked

    def _read(
        self, db: psycopg.Connection[Any], lookups: Sequence[Lookup], markers: Mapping[OnlineTable, int]
    ) -> list[Any]:
        shape, parameters, marked = [], list[ByteaArray | str](), []
        ids = [self._ids.get(table) or self._learn(db, table) for table, _ in lookups]
        for place, ((table, keys), id) in enumerate(zip(lookups, ids, strict=True)):
            if id is not None and len(keys):
                shape.append((place, id, table.kind))
                parameters.append(ByteaArray.of(keys))
        for table, place in markers.items():
            if (id := ids[place]) is not None:
                marked.append((place, id))
                parameters.append(str(table))
        if not parameters:
            return []
        text = statements.select(self._schema, tuple(shape), tuple(marked))
        return db.cursor(binary=True).execute(text, parameters).fetchall()

    def scan(self, table: OnlineTable, *, after: bytes | None = None, limit: int = SCAN_ROWS) -> list[ScannedRow]:
        """See `OnlineStore.scan`."""
        mark = "version" if table.kind == "latest" else "token"

        def work(db: psycopg.Connection[Any], id: int) -> list[ScannedRow]:
            text = statements.SCAN_FIRST if after is None else statements.SCAN
            arguments = (limit,) if after is None else (after, limit)
            query = text.format(rows=self._rows(id), mark=mark)
            return db.cursor(binary=True).execute(query, arguments).fetchall()

        return self._look_at(table, work, absent=[])

    def delete(self, table: OnlineTable, keys: Sequence[bytes]) -> int:
        """See `OnlineStore.delete`."""
        deleted = 0
        for start in range(0, len(keys), ROWS_PER_STATEMENT):
            piece = ByteaArray.of(keys[start : start + ROWS_PER_STATEMENT])
            deleted += self._look_at(table, partial(self._delete, piece=piece), absent=0)
        return deleted

    def delete_expired(self, project: str, now_us: Micros) -> int:
        """See `OnlineStore.delete_expired`. Scans all rows in key order, in short statements."""
        deleted = 0
        for table in self.tables(project):
            after: bytes | None = b""
            while after is not None:
                work = partial(self._delete_expired, after=after, now_us=now_us)
                nothing: tuple[int, bytes | None] = (0, None)
                done, after = self._look_at(table, work, absent=nothing)
                deleted += done
        return deleted

    def _delete_expired(
        self, db: psycopg.Connection[Any], id: int, *, after: bytes, now_us: Micros
    ) -> tuple[int, bytes | None]:
        """Delete expired rows among the next keys; returns the last of these keys, or None at the end."""
        row = db.execute(self._for(statements.PAGE_END, id), (after, ROWS_PER_STATEMENT - 1), binary=True).fetchone()
        end = row[0] if row else None
        text = self._for(statements.DELETE_EXPIRED, id).replace("{end}", "AND key <= %(end)s" if row else "")
        return db.execute(text, {"after": after, "end": end, "now": now_us}).rowcount, end

    def _delete(self, db: psycopg.Connection[Any], id: int, *, piece: ByteaArray) -> int:
        return db.execute(self._for(statements.DELETE, id), (piece,)).rowcount

    # Markers and progress

    def mark(self, table: OnlineTable, *, within: str = "") -> None:
        """See `OnlineStore.mark`."""
        self.write_progress(table, {statements.MARKER: str(table)}, within=within)

    def unmarked(self, tables: Sequence[OnlineTable]) -> list[OnlineTable]:
        """See `OnlineStore.unmarked`."""
        projects = sorted({table.project for table in tables})
        none: list[Any] = []
        rows = self._look(lambda db: db.execute(self._text(statements.MARKED), (projects,)).fetchall(), absent=none)
        marked = {OnlineTable(*row) for row in rows}
        return [table for table in tables if table not in marked]

    def write_progress(self, table: OnlineTable, facts: Facts, *, within: str = "") -> None:
        """See `OnlineStore.write_progress`."""
        names = sorted(facts)
        numbers = [value if isinstance(value, int) else None for value in (facts[name] for name in names)]
        texts = [value if isinstance(value, str) else None for value in (facts[name] for name in names)]

        def work(db: psycopg.Connection[Any], id: int) -> None:
            self._refuse_replaced(db, within)
            try:
                db.execute(self._text(statements.WRITE_PROGRESS), (id, names, numbers, texts))
            except psycopg.errors.ForeignKeyViolation as error:
                raise psycopg.errors.UndefinedTable(str(error)) from error

        self._change(table, work)

    def progress(self, table: OnlineTable) -> dict[str, str | int]:
        """See `OnlineStore.progress`."""

        def work(db: psycopg.Connection[Any], id: int) -> list[Any]:
            return db.execute(self._text(statements.PROGRESS), (id,)).fetchall()

        # Looked up by name each time: a recreated table has a new number.
        self._ids.pop(table, None)
        none: list[Any] = []
        rows = self._look_at(table, work, absent=none)
        return {name: texts if number is None else number for name, number, texts in rows}

    # The server

    def incarnation(self) -> str:
        """See `OnlineStore.incarnation`. It changes when a standby is promoted."""
        with self._database.connection(WHAT) as db:
            return self._incarnation(db)

    def warnings(self) -> list[str]:
        """See `OnlineStore.warnings`."""
        with self._database.connection(WHAT) as db:
            fsync, pages, is_standby = only_row(db.execute(statements.WARNINGS))
        found = []
        if fsync == "off":
            found.append("fsync is off: a crash of the machine may lose written rows")
        if pages == "off":
            found.append("full_page_writes is off: a crash of the machine may damage rows")
        if is_standby:
            found.append("the server is a standby: nothing can be written to it")
        return found

    def ping(self) -> str:
        """See `OnlineStore.ping`."""

        query = f"SELECT count(*) FROM {self._schema}.online_tables"
        with self._database.connection(WHAT) as db:
            version = db.info.parameter_status("server_version") or ""
        tables = counted(self._look(lambda db: int(only_row(db.execute(query))[0]), absent=0), "table")
        return f"{self._database.place.address}, version {version.split()[0]}, {tables}"

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._database.close()

    # One piece of a write

    def _keep_newest(
        self, db: psycopg.Connection[Any], id: int, *, piece: Piece, versions: Sequence[bytes]
    ) -> set[bytes]:
        query = self._for(statements.KEEP_NEWEST, id)
        columns = (piece.key_array, ByteaArray.of(versions), piece.expiry_array, piece.value_array)
        return {key for (key,) in db.cursor(binary=True).execute(query, columns)}

    def _keep_unchanged(
        self, db: psycopg.Connection[Any], id: int, *, piece: Piece, tokens: Sequence[int], within: str
    ) -> set[bytes]:
        self._refuse_replaced(db, within)
        new = [at for at, token in enumerate(tokens) if token == NO_ROW]
        old = [at for at, token in enumerate(tokens) if token != NO_ROW]
        kept: set[bytes] = set()
        for positions, text in ((new, statements.KEEP_NEW), (old, statements.KEEP_UNCHANGED)):
            if not positions:
                continue
            part = piece if len(positions) == len(tokens) else piece.take(positions)
            columns = [part.key_array, Int8Array.of(fresh_tokens(len(positions))), part.expiry_array, part.value_array]
            if text is statements.KEEP_UNCHANGED:
                columns.append(Int8Array.of([tokens[at] for at in positions]))
            kept.update(key for (key,) in db.cursor(binary=True).execute(self._for(text, id), columns))
        return kept

    def _refuse_replaced(self, db: psycopg.Connection[Any], within: str) -> None:
        if within and self._incarnation(db) != within:
            raise StoreReplaced(
                f"online store: a standby has taken over {self._database.place.address}, and may lack the last writes",
                hint="run it again; a worker recovers by itself",
            )  # fmt: skip

    def _incarnation(self, db: psycopg.Connection[Any]) -> str:
        # Without a pooler, a session that can write stays with its server: it is checked once.
        known = None if self._database.pgbouncer else self._incarnations.get(db)
        if known is None:
            (known,) = only_row(db.execute(statements.INCARNATION))
            self._incarnations[db] = known
        return known

    # Tables by their numbers

    def _text(self, text: str) -> str:
        return text.replace("{schema}", self._schema)

    def _rows(self, id: int) -> str:
        return f"{self._schema}.online_{id}"

    def _for(self, text: str, id: int) -> str:
        return text.replace("{rows}", self._rows(id))

    def _learn(self, db: psycopg.Connection[Any], table: OnlineTable) -> int | None:
        found = db.execute(self._text(statements.FIND), table[:3]).fetchone()
        if found is None or found[1] != table.kind:
            return None
        self._ids[table] = found[0]
        return int(found[0])

    def _change(self, table: OnlineTable, work: Callable[[psycopg.Connection[Any], int], T]) -> T:
        """Run `work` with the table's number, in its own statement.

        Raises:
            StorageError: the table is not prepared, or was dropped.
        """

        def refuse() -> T:
            raise StorageError(
                f"online table {table} was never prepared, or was dropped, in {self._database.place.address}",
                hint="run `asof apply`",
            )

        return self._with_id(table, work, refuse)

    def _look_at(self, table: OnlineTable, work: Callable[[psycopg.Connection[Any], int], T], *, absent: T) -> T:
        return self._with_id(table, work, lambda: absent)

    def _with_id(
        self, table: OnlineTable, work: Callable[[psycopg.Connection[Any], int], T], otherwise: Callable[[], T]
    ) -> T:
        missing = object()

        def known(db: psycopg.Connection[Any]) -> Any:
            id = self._ids.get(table) or self._learn(db, table)
            return missing if id is None else work(db, id)

        found: Any = self._look(known, absent=missing)
        return otherwise() if found is missing else found

    def _look(self, work: Callable[[psycopg.Connection[Any]], T], *, absent: T) -> T:
        """Run `work`; again if a table was dropped (and perhaps recreated) since its number was cached."""
        for _ in range(3):
            try:
                with self._database.connection(WHAT) as db:
                    return work(db)
            except StorageError as error:
                if not isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                    raise
                if not self._ids:
                    return absent
                self._ids.clear()
        return absent
