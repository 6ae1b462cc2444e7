"""The registry in PostgreSQL: a row per version, commits against an expected version under a lock per project."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import psycopg

from asof.connections.postgres.database import Postgres
from asof.connections.postgres.schema import lock
from asof.defaults import HISTORY_COMMITS, REGISTRY_STATEMENT_S
from asof.definitions.project import Snapshot
from asof.errors import RegistryError
from asof.registry.postgres.records import PostgresRecords
from asof.registry.postgres.tables import WHAT, PostgresTables
from asof.registry.protocol import (
    KEPT_FACT_COMMITS,
    Commit,
    RegistryDefaults,
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
from asof.timing import Micros, iso

_STEPS = (
    """
CREATE TABLE {schema}.snapshots (
    project text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    who text NOT NULL,
    at_us bigint NOT NULL,
    note text NOT NULL,
    summary text NOT NULL,
    facts_only boolean NOT NULL,
    checksum text NOT NULL,
    content text NOT NULL,
    PRIMARY KEY (project, version)
)
""",
)
"""Migration from each format of the tables to the next."""

_COMMIT = "version, who, at_us, note, summary"


class PostgresRegistry(PostgresRecords, RegistryDefaults):
    """Snapshots in a PostgreSQL database. Safe between any threads, processes and machines.

    Its tables are in a schema of their own, created by the first commit. Reads never wait for a writer; writers of one
    project wait for each other.

    Args:
        statement_timeout_s: time limit of a statement; all are short, but may wait for another writer.
        options: the connection (`asof.connections.postgres.database.Postgres`).
    """

    def __init__(self, url: str = "", *, statement_timeout_s: float = REGISTRY_STATEMENT_S, **options: Any) -> None:
        super().__init__(
            Postgres(url, **options, statement_timeout_s=statement_timeout_s, label=WHAT, kind=RegistryError)
        )
        self._tables = PostgresTables(self._database, part="registry", steps=_STEPS)
        self._table = f"{self._tables.schema}.snapshots"

    def load(self, project: str) -> Snapshot:
        with self._tables.reading() as connection:
            row = self._one(connection, "version, checksum, content", "ORDER BY version DESC LIMIT 1", project)
            return self._snapshot(connection, project, *row) if row else empty(project)

    def version(self, project: str) -> int:
        with self._tables.reading() as connection:
            row = self._one(connection, "max(version)", "", project)
            return row[0] or 0 if row else 0

    def commit(self, snapshot: Snapshot, *, expected: int, who: str, when: Micros, note: str = "") -> Snapshot:
        with self._database.transaction(WHAT) as connection:
            self._tables.migrate(connection)
            lock(connection, f"{self._table} {snapshot.name}")
            newest = self._commits(connection, snapshot.name, limit=1)
            if (newest[0].version if newest else 0) != expected:
                raise conflict(snapshot.name, expected=expected, newest=newest[0] if newest else None)
            after = replace(snapshot, version=expected + 1)
            before, facts_only = empty(snapshot.name), False
            try:
                before = self._decode(connection, snapshot.name, expected) if newest else before
                facts_only = not changes_definitions(before, after)
            except UnreadableVersion:
                # A good version replaces a damaged one.
                pass
            commit = Commit(after.version, who, when, note, summarize(before, after))
            self._insert(connection, commit, after, facts_only)
            connection.execute(
                f"DELETE FROM {self._table} WHERE project = %s AND facts_only AND version <= %s",
                (after.name, after.version - KEPT_FACT_COMMITS),
            )
            return after

    def history(self, project: str, limit: int = HISTORY_COMMITS, *, facts: bool = True) -> list[Commit]:
        with self._tables.reading() as connection:
            return self._commits(connection, project, limit=limit, facts=facts)

    def load_version(self, project: str, version: int) -> Snapshot:
        with self._tables.reading() as connection:
            row = self._one(connection, "version, checksum, content", "AND version = %s", project, version)
            if row is None:
                kept = [each.version for each in self._commits(connection, project, limit=None)]
                raise no_version(project, version, kept=kept)
            return self._snapshot(connection, project, *row)

    def projects(self) -> list[str]:
        with self._tables.reading() as connection:
            rows = self._tables.rows(connection, f"SELECT DISTINCT project FROM {self._table} ORDER BY project", ())
            return [name for (name,) in rows]

    def drop(self, project: str) -> None:
        with self._database.transaction(WHAT) as connection:
            if self._tables.exist(connection):
                lock(connection, f"{self._table} {project}")
                connection.execute(f"DELETE FROM {self._table} WHERE project = %s", (project,))
            self._drop_records(connection, project)

    def restore(self, project: str, versions: Iterable[tuple[Commit, Snapshot]]) -> None:
        with self._database.transaction(WHAT) as connection:
            self._tables.migrate(connection)
            lock(connection, f"{self._table} {project}")
            if there := self._commits(connection, project, limit=1):
                raise conflict(project, expected=0, newest=there[0])
            for commit, snapshot, facts_only in marked(versions):
                self._insert(connection, commit, snapshot, facts_only)

    def close(self) -> None:
        self._database.close()

    def _insert(
        self, connection: psycopg.Connection[Any], commit: Commit, snapshot: Snapshot, facts_only: bool
    ) -> None:
        content = snapshot.encode()
        connection.execute(
            f"INSERT INTO {self._table} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (snapshot.name, commit.version, commit.who, commit.when, commit.note, commit.summary, facts_only,
             checksum(content), content),
        )  # fmt: skip

    def _one(self, connection: psycopg.Connection[Any], columns: str, rest: str, project: str, *more: Any) -> Any:
        found = self._tables.rows(
            connection, f"SELECT {columns} FROM {self._table} WHERE project = %s {rest}", (project, *more)
        )
        return found[0] if found else None

    def _commits(
        self, connection: psycopg.Connection[Any], project: str, *, limit: int | None, facts: bool = True
    ) -> list[Commit]:
        which = "" if facts else "AND NOT facts_only"
        query = f"SELECT {_COMMIT} FROM {self._table} WHERE project = %s {which} ORDER BY version DESC LIMIT %s"
        commits = [Commit(*row) for row in self._tables.rows(connection, query, (project, limit))]
        return commits if facts else changed_definitions(commits, lambda: self._has_definitions(connection, project, 1))

    def _decode(self, connection: psycopg.Connection[Any], project: str, version: int) -> Snapshot:
        kept, content = self._one(connection, "checksum, content", "AND version = %s", project, version)
        return decode(content, kept=kept)

    def _has_definitions(self, connection: psycopg.Connection[Any], project: str, version: int) -> bool:
        kept, content = self._one(connection, "checksum, content", "AND version = %s", project, version)
        return has_definitions(content, kept=kept)

    def _snapshot(
        self, connection: psycopg.Connection[Any], project: str, version: int, kept: str, content: str
    ) -> Snapshot:
        try:
            return decode(content, kept=kept)
        except UnreadableVersion as error:
            what = f"version {version} of project {project!r} in {self._database.place.address}"
            if error.newer:
                raise RegistryError(f"registry: {what}: {error}", hint="upgrade asof") from error
            good = self._last_good(connection, project, before=version)
            found = f"version {good.version} by {good.who or 'somebody'} at {iso(good.when)}" if good else "none there"
            raise RegistryError(
                f"registry: {what} is damaged: {error}",
                hint=f"restore the database from a backup; the last good version is {found}",
            ) from error

    def _last_good(self, connection: psycopg.Connection[Any], project: str, *, before: int) -> Commit | None:
        for commit in self._commits(connection, project, limit=None):
            if commit.version < before:
                try:
                    self._decode(connection, project, commit.version)
                    return commit
                except UnreadableVersion:
                    continue
        return None
