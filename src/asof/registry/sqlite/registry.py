"""The registry in one SQLite file: a checksum per version, commits against an expected version."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from asof.defaults import BUSY_TIMEOUT_S, HISTORY_COMMITS
from asof.definitions.project import Snapshot
from asof.registry.protocol import (
    KEPT_FACT_COMMITS,
    Commit,
    UnreadableVersion,
    changed_definitions,
    changes_definitions,
    checksum,
    conflict,
    decode,
    empty,
    has_definitions,
    marked,
    no_version,
    summarize,
)
from asof.registry.sqlite.file import RegistryFile
from asof.registry.sqlite.records import SqliteRecords, drop_records
from asof.timing import Micros, iso

_NEWEST = "SELECT max(version) FROM snapshots WHERE project = ?"
_CONTENT = "SELECT checksum, content FROM snapshots WHERE project = ? AND version = ?"
_COMMITS = (
    "SELECT version, who, at_us, note, summary FROM snapshots WHERE project = ? {which} ORDER BY version DESC LIMIT ?"
)


class SqliteRegistry(SqliteRecords):
    """Snapshots in a SQLite file. Safe between threads and processes of one machine.

    Args:
        path: the file; the first commit creates it and its folder, a read never does.
        busy_timeout_s: how long a commit waits for other writers.
    """

    def __init__(self, path: str | Path, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        super().__init__(RegistryFile(path, busy_timeout_s=busy_timeout_s))

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def place(self) -> str:
        """See `Registry.place`."""
        return str(self._file.path)

    def load(self, project: str) -> Snapshot:
        with self._file.reading() as connection:
            newest = self._newest(connection, project)
            return self._snapshot(connection, project, newest) if connection and newest else empty(project)

    def version(self, project: str) -> int:
        with self._file.reading() as connection:
            return self._newest(connection, project)

    def commit(self, snapshot: Snapshot, *, expected: int, who: str, when: Micros, note: str = "") -> Snapshot:
        with self._file.writing() as connection:
            newest = self._newest(connection, snapshot.name)
            if newest != expected:
                commits = self._commits(connection, snapshot.name, limit=1)
                raise conflict(snapshot.name, expected=expected, newest=commits[0] if commits else None)
            after = replace(snapshot, version=expected + 1)
            before, facts_only = empty(snapshot.name), False
            try:
                before = self._decode(connection, snapshot.name, newest) if newest else before
                facts_only = not changes_definitions(before, after)
            except UnreadableVersion:
                # A good version replaces a damaged one.
                pass
            commit = Commit(after.version, who, when, note, summarize(before, after))
            self._insert(connection, commit, after, facts_only)
            connection.execute(
                "DELETE FROM snapshots WHERE project = ? AND facts_only AND version <= ?",
                (after.name, after.version - KEPT_FACT_COMMITS),
            )
            return after

    def history(self, project: str, limit: int = HISTORY_COMMITS, *, facts: bool = True) -> list[Commit]:
        with self._file.reading() as connection:
            return self._commits(connection, project, limit=limit, facts=facts) if connection else []

    def load_version(self, project: str, version: int) -> Snapshot:
        with self._file.reading() as connection:
            kept = self._versions(connection, project) if connection else []
            if connection is None or version not in kept:
                raise no_version(project, version, kept=kept)
            return self._snapshot(connection, project, version)

    def projects(self) -> list[str]:
        with self._file.reading() as connection:
            rows = (
                connection.execute("SELECT DISTINCT project FROM snapshots ORDER BY 1").fetchall() if connection else []
            )
            return [name for (name,) in rows]

    def drop(self, project: str) -> None:
        if not self.path.exists():
            return
        with self._file.writing() as connection:
            connection.execute("DELETE FROM snapshots WHERE project = ?", (project,))
            drop_records(connection, project)

    def restore(self, project: str, versions: Iterable[tuple[Commit, Snapshot]]) -> None:
        with self._file.writing() as connection:
            if there := self._commits(connection, project, limit=1):
                raise conflict(project, expected=0, newest=there[0])
            for commit, snapshot, facts_only in marked(versions):
                self._insert(connection, commit, snapshot, facts_only)

    def close(self) -> None:
        self._file.close()

    def _insert(self, connection: sqlite3.Connection, commit: Commit, snapshot: Snapshot, facts_only: bool) -> None:
        content = snapshot.encode()
        connection.execute(
            "INSERT INTO snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (snapshot.name, commit.version, commit.who, commit.when, commit.note, commit.summary, facts_only,
             checksum(content), content),
        )  # fmt: skip

    def _newest(self, connection: sqlite3.Connection | None, project: str) -> int:
        return connection.execute(_NEWEST, (project,)).fetchone()[0] or 0 if connection else 0

    def _commits(self, connection: sqlite3.Connection, project: str, *, limit: int, facts: bool = True) -> list[Commit]:
        query = _COMMITS.format(which="" if facts else "AND NOT facts_only")
        commits = [Commit(*row) for row in connection.execute(query, (project, limit))]
        return commits if facts else changed_definitions(commits, lambda: self._has_definitions(connection, project, 1))

    def _versions(self, connection: sqlite3.Connection, project: str) -> list[int]:
        rows = connection.execute("SELECT version FROM snapshots WHERE project = ? ORDER BY version", (project,))
        return [version for (version,) in rows]

    def _snapshot(self, connection: sqlite3.Connection, project: str, version: int) -> Snapshot:
        try:
            return self._decode(connection, project, version)
        except UnreadableVersion as error:
            if error.newer:
                raise self._file.error(
                    f"version {version} of project {project!r}: {error}", hint="upgrade asof"
                ) from error
            good = self._last_good(connection, project, before=version)
            kept = (
                f"version {good.version} by {good.who or 'somebody'} at {iso(good.when)}"
                if good
                else "none in this file"
            )
            raise self._file.error(
                f"version {version} of project {project!r} is damaged: {error}",
                hint=f"restore the file from a backup; the last good version is {kept}",
            ) from error

    def _decode(self, connection: sqlite3.Connection, project: str, version: int) -> Snapshot:
        kept, content = connection.execute(_CONTENT, (project, version)).fetchone()
        return decode(content, kept=kept)

    def _has_definitions(self, connection: sqlite3.Connection, project: str, version: int) -> bool:
        kept, content = connection.execute(_CONTENT, (project, version)).fetchone()
        return has_definitions(content, kept=kept)

    def _last_good(self, connection: sqlite3.Connection, project: str, *, before: int) -> Commit | None:
        for commit in self._commits(connection, project, limit=-1):
            if commit.version < before:
                try:
                    self._decode(connection, project, commit.version)
                    return commit
                except UnreadableVersion:
                    continue
        return None
