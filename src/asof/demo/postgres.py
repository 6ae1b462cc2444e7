"""The shop's database: a schema that the demo creates, marks as its own, and replaces when it runs again."""

from __future__ import annotations

import pyarrow as pa
from psycopg import sql

from asof.connections.postgres.database import Postgres
from asof.demo.manifest import MARK, DemoManifest, NameTaken

_TABLES = {
    "users": "user_id bigint PRIMARY KEY, registered_at timestamptz NOT NULL, country text, platform text",
    "orders": "order_id bigint PRIMARY KEY, user_id bigint NOT NULL, ordered_at timestamptz NOT NULL",
}


class ShopDatabase:
    """The shop's tables, in their own schema."""

    def __init__(self, url: str, schema: str) -> None:
        self.schema = schema
        # Names are qualified with the schema: tables of the same name in the search path must not be found.
        self.postgres = Postgres(url, label="--postgres")

    @property
    def place(self) -> str:
        """The server and database, without a secret."""
        return self.postgres.place.address

    def made_earlier(self) -> DemoManifest | None:
        """The record of an earlier demo with this name; None if there is no schema.

        Raises:
            NameTaken: the schema was not created by the demo.
        """
        with self.postgres.connection(f"schema {self.schema!r}") as connection:
            found = connection.execute(
                "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = %s", [self.schema]
            ).fetchone()
            if found is None:
                return None
            if found[0] != MARK:
                raise NameTaken(f"schema {self.schema!r}", self.place)
            row = connection.execute(self._named("SELECT topic, topic_id FROM {schema}.demo_made")).fetchone()
        return DemoManifest(*row) if row else DemoManifest("", "")

    def drop(self) -> None:
        """Drop the schema with all of its tables."""
        with self.postgres.transaction(f"schema {self.schema!r}") as connection:
            connection.execute(self._named("DROP SCHEMA IF EXISTS {schema} CASCADE"))

    def fill(self, tables: dict[str, pa.Table]) -> None:
        """Create the schema with its mark, and the shop's tables with their rows."""
        with self.postgres.transaction(f"schema {self.schema!r}") as connection:
            connection.execute(self._named("CREATE SCHEMA {schema}"))
            connection.execute(self._named("COMMENT ON SCHEMA {schema} IS {mark}", mark=sql.Literal(MARK)))
            connection.execute(self._named("CREATE TABLE {schema}.demo_made (topic text, topic_id text)"))
            for name, columns in _TABLES.items():
                table = sql.Identifier(name)
                create = self._named("CREATE TABLE {schema}.{table} ({columns})", table=table, columns=sql.SQL(columns))
                connection.execute(create)
                names = sql.SQL(", ").join(map(sql.Identifier, tables[name].column_names))
                copy = self._named("COPY {schema}.{table} ({names}) FROM STDIN", table=table, names=names)
                with connection.cursor() as cursor, cursor.copy(copy) as rows:
                    for row in zip(*tables[name].to_pydict().values(), strict=True):
                        rows.write_row(row)
        with self.postgres.connection(f"schema {self.schema!r}") as connection:
            for name in _TABLES:
                # Plans before the first automatic ANALYZE would lack statistics.
                connection.execute(self._named("ANALYZE {schema}.{table}", table=sql.Identifier(name)))

    def remember(self, made: DemoManifest) -> None:
        """Record the topic that the demo created, so that the next run knows what it may delete."""
        with self.postgres.connection(f"schema {self.schema!r}") as connection:
            insert = self._named("INSERT INTO {schema}.demo_made VALUES (%s, %s)")
            connection.execute(insert, [made.topic, made.topic_id])

    def close(self) -> None:
        self.postgres.close()

    def _named(self, statement: str, **parts: sql.Composable) -> sql.Composed:
        return sql.SQL(statement).format(schema=sql.Identifier(self.schema), **parts)
