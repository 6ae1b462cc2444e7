"""Records and counts in the registry's SQLite file: tables that the first of them creates."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from asof.registry.records import KEPT_COUNT_DAYS, RECORDS, DayCounts, RegistryRecord, decode_record, encode_body
from asof.registry.sqlite.file import RegistryFile
from asof.timing import Micros

_TABLES = (
    """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY,
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT
""",
    "CREATE INDEX IF NOT EXISTS records_by_time ON records (project, kind, at_us)",
    "CREATE INDEX IF NOT EXISTS records_by_subject ON records (project, kind, subject, at_us)",
    """
CREATE TABLE IF NOT EXISTS counts (
    project TEXT NOT NULL,
    kind TEXT NOT NULL,
    day TEXT NOT NULL,
    subject TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (project, kind, day, subject)
) STRICT, WITHOUT ROWID
""",
)
"""Files of before gain them, and an older Asof reads such a file as before: it looks at its own tables only."""

_NUMBERED = (
    "SELECT id, kind, subject, at_us, row_number() OVER (PARTITION BY subject ORDER BY at_us DESC, id DESC) AS number "
    "FROM records WHERE project = ? AND kind = ?"
)
"""The records of a kind; the newest of each subject has number 1."""

_ADD = (
    "INSERT INTO counts VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (project, kind, day, subject) DO UPDATE SET amount = amount + excluded.amount"
)


class SqliteRecords:
    """The records and counts of a registry's file; see `Registry` for the verbs."""

    def __init__(self, file: RegistryFile) -> None:
        self._file = file

    def append_records(self, project: str, records: Sequence[RegistryRecord]) -> None:
        rows = [(project, each.kind, each.subject, each.when, encode_body(each.body)) for each in records]
        with self._file.writing() as connection:
            _create_tables(connection)
            connection.executemany(
                "INSERT INTO records (project, kind, subject, at_us, body) VALUES (?, ?, ?, ?, ?)", rows
            )

    def records(
        self, project: str, kind: str, subject: str | None = None, *, since: Micros | None = None,
        limit: int = RECORDS, per_subject: int | None = None,
    ) -> list[RegistryRecord]:  # fmt: skip
        conditions = ["project = ? AND kind = ?"]
        arguments: list[object] = [project, kind]
        if subject is not None:
            conditions.append("subject = ?")
            arguments.append(subject)
        if since is not None:
            conditions.append("at_us >= ?")
            arguments.append(since)
        if per_subject is not None:
            conditions.append(f"id IN (SELECT id FROM ({_NUMBERED}) WHERE number <= ?)")
            arguments += [project, kind, per_subject]
        query = (
            f"SELECT kind, subject, at_us, body FROM records WHERE {' AND '.join(conditions)} "
            "ORDER BY at_us DESC, id DESC LIMIT ?"
        )
        with self._file.reading() as connection:
            if connection is None or not _has_tables(connection):
                return []
            found = [decode_record(*row) for row in connection.execute(query, (*arguments, limit))]
        return [each for each in found if each is not None]

    def prune_records(self, project: str, kind: str, *, keep: int | None = None, before: Micros | None = None) -> None:
        if not self._file.path.exists():
            return
        with self._file.writing() as connection:
            if not _has_tables(connection):
                return
            if keep is not None:
                query = f"DELETE FROM records WHERE id IN (SELECT id FROM ({_NUMBERED}) WHERE number > ?)"
                connection.execute(query, (project, kind, keep))
            if before is not None:
                query = "DELETE FROM records WHERE project = ? AND kind = ? AND at_us < ?"
                connection.execute(query, (project, kind, before))

    def add_counts(self, project: str, kind: str, day: date, counts: Mapping[str, int]) -> None:
        rows = [(project, kind, day.isoformat(), subject, amount) for subject, amount in sorted(counts.items())]
        oldest = day - timedelta(days=KEPT_COUNT_DAYS)
        with self._file.writing() as connection:
            _create_tables(connection)
            connection.executemany(_ADD, rows)
            connection.execute(
                "DELETE FROM counts WHERE project = ? AND kind = ? AND day < ?", (project, kind, oldest.isoformat())
            )

    def counts(self, project: str, kind: str, *, since: date | None = None) -> DayCounts:
        query = "SELECT day, subject, amount FROM counts WHERE project = ? AND kind = ? AND day >= ? ORDER BY day"
        found: dict[date, dict[str, int]] = {}
        with self._file.reading() as connection:
            if connection is None or not _has_tables(connection):
                return found
            for day, subject, amount in connection.execute(query, (project, kind, since.isoformat() if since else "")):
                found.setdefault(date.fromisoformat(day), {})[subject] = amount
        return found


def drop_records(connection: sqlite3.Connection, project: str) -> None:
    """Delete all records and counts of a project, in the connection's transaction."""
    if _has_tables(connection):
        for table in ("records", "counts"):
            connection.execute(f"DELETE FROM {table} WHERE project = ?", (project,))


def _create_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES:
        connection.execute(statement)


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'counts'").fetchone() is not None
