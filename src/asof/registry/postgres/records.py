"""Records and counts in the registry's database: tables of their own, made by the first of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import psycopg

from asof.connections.postgres.database import Postgres
from asof.registry.postgres.tables import WHAT, PostgresTables
from asof.registry.records import KEPT_COUNT_DAYS, RECORDS, DayCounts, RegistryRecord, decode_record, encode_body
from asof.timing import Micros

_STEPS = (
    """
CREATE TABLE {schema}.records (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    at_us bigint NOT NULL,
    body text NOT NULL
);
CREATE INDEX records_by_time ON {schema}.records (project, kind, at_us);
CREATE INDEX records_by_subject ON {schema}.records (project, kind, subject, at_us);
CREATE TABLE {schema}.counts (
    project text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    day date NOT NULL,
    subject text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (project, kind, day, subject)
)
""",
)
"""Migration from each format of the tables to the next. Not steps of the snapshots' tables: an older Asof, which knows
no records, goes on to read and write those."""


class PostgresRecords:
    """The records and counts of a registry in a database; see `Registry` for the verbs."""

    def __init__(self, database: Postgres) -> None:
        self._database = database
        self._record_tables = PostgresTables(database, part="registry records", steps=_STEPS)
        self._records = f"{self._record_tables.schema}.records"
        self._counts = f"{self._record_tables.schema}.counts"

    def append_records(self, project: str, records: Sequence[RegistryRecord]) -> None:
        rows = [(project, each.kind, each.subject, each.when, encode_body(each.body)) for each in records]
        query = f"INSERT INTO {self._records} (project, kind, subject, at_us, body) VALUES (%s, %s, %s, %s, %s)"
        with self._database.transaction(WHAT) as connection:
            self._record_tables.migrate(connection)
            with connection.cursor() as cursor:
                cursor.executemany(query, rows)

    def records(
        self, project: str, kind: str, subject: str | None = None, *, since: Micros | None = None,
        limit: int = RECORDS, per_subject: int | None = None,
    ) -> list[RegistryRecord]:  # fmt: skip
        conditions = ["project = %s AND kind = %s"]
        arguments: list[object] = [project, kind]
        if subject is not None:
            conditions.append("subject = %s")
            arguments.append(subject)
        if since is not None:
            conditions.append("at_us >= %s")
            arguments.append(since)
        if per_subject is not None:
            conditions.append(f"id IN ({self._numbered('<= %s')})")
            arguments += [project, kind, per_subject]
        query = (
            f"SELECT kind, subject, at_us, body FROM {self._records} WHERE {' AND '.join(conditions)} "
            "ORDER BY at_us DESC, id DESC LIMIT %s"
        )
        with self._record_tables.reading() as connection:
            rows = self._record_tables.rows(connection, query, (*arguments, limit))
        return [record for record in (decode_record(*row) for row in rows) if record is not None]

    def prune_records(self, project: str, kind: str, *, keep: int | None = None, before: Micros | None = None) -> None:
        with self._database.transaction(WHAT) as connection:
            if not self._record_tables.exist(connection):
                return
            if keep is not None:
                query = f"DELETE FROM {self._records} WHERE id IN ({self._numbered('> %s')})"
                connection.execute(query, (project, kind, keep))
            if before is not None:
                query = f"DELETE FROM {self._records} WHERE project = %s AND kind = %s AND at_us < %s"
                connection.execute(query, (project, kind, before))

    def add_counts(self, project: str, kind: str, day: date, counts: Mapping[str, int]) -> None:
        # In one order: two writers that held each other's rows would wait for each other.
        rows = sorted(counts.items())
        query = (
            f"INSERT INTO {self._counts} AS kept (project, kind, day, subject, amount) "
            "SELECT %s, %s, %s, subject, amount FROM unnest(%s::text[], %s::bigint[]) AS added (subject, amount) "
            "ON CONFLICT (project, kind, day, subject) DO UPDATE SET amount = kept.amount + excluded.amount"
        )
        with self._database.transaction(WHAT) as connection:
            self._record_tables.migrate(connection)
            connection.execute(
                query, (project, kind, day, [subject for subject, _ in rows], [amount for _, amount in rows])
            )
            connection.execute(
                f"DELETE FROM {self._counts} WHERE project = %s AND kind = %s AND day < %s",
                (project, kind, day - timedelta(days=KEPT_COUNT_DAYS)),
            )

    def counts(self, project: str, kind: str, *, since: date | None = None) -> DayCounts:
        query = (
            f"SELECT day, subject, amount FROM {self._counts} WHERE project = %s AND kind = %s AND day >= %s "
            "ORDER BY day"
        )
        found: dict[date, dict[str, int]] = {}
        with self._record_tables.reading() as connection:
            for day, subject, amount in self._record_tables.rows(connection, query, (project, kind, since or date.min)):
                found.setdefault(day, {})[subject] = amount
        return found

    def _numbered(self, condition: str) -> str:
        """The records of a kind whose number has this condition; the newest of each subject has number 1."""
        return (
            "SELECT id FROM ("
            "SELECT id, row_number() OVER (PARTITION BY subject ORDER BY at_us DESC, id DESC) AS number "
            f"FROM {self._records} WHERE project = %s AND kind = %s) AS numbered WHERE number {condition}"
        )

    def _drop_records(self, connection: psycopg.Connection[Any], project: str) -> None:
        if self._record_tables.exist(connection):
            for table in (self._records, self._counts):
                connection.execute(f"DELETE FROM {table} WHERE project = %s", (project,))
