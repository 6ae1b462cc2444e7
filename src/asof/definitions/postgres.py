"""Sources in PostgreSQL: a table, a view or a query."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from urllib.parse import unquote

from asof.definitions.entities import Field
from asof.definitions.source_types import SOURCE_TYPES
from asof.definitions.sources import Source


class PostgresSource(Source):
    """Rows of a PostgreSQL table, view or query; append-only. Feast's `PostgreSQLSource` is the same.

    Without `url` and `connection_ref` it is read from the offline store's database, if that is PostgreSQL, else from
    the only connection of that type in feature_store.yaml.

    Args:
        query: a SELECT, instead of a table.
        table: its name, with its schema where that is not the connection's: `sales.orders`.
        connection_ref: the name of a connection of feature_store.yaml.
        url: `postgresql://…`; secrets as `${VAR}`, which is read when the connection is opened.
        schema: the columns and their types, where they should differ from the database's.
        lag: how late rows may be written; materialize reads back by it.
        delete_when: an expression; a row for which it is true deletes its key from then on.
    """

    type = "postgres"
    accepted = frozenset({"date_partition_column"})

    query: str
    table: str

    def __init__(
        self,
        name: str = "",
        query: str = "",
        table: str = "",
        timestamp_field: str | None = "",
        created_timestamp_column: str | None = "",
        field_mapping: Mapping[str, str] | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        *,
        timestamp_unit: str | None = None,
        schema: Sequence[Field] | None = None,
        lag: timedelta | str | None = None,
        delete_when: str | None = None,
        connection_ref: str | None = "",
        url: str = "",
        **ignored: object,
    ) -> None:
        named = name or table.replace('"', "").rpartition(".")[2] or "postgres"
        self._begin(named, description=description, tags=tags, owner=owner, ignored=ignored)
        query = (query or "").strip().rstrip(";").rstrip()
        if bool(query) == bool(table):
            raise self.refuse("needs either a table or a query", hint="give table= or query=, and not both")
        self.refuse_odd_text("query=", query)
        if query and not name:
            raise self.refuse("has query= but no name", hint="give name=")
        self._begin_source(
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            timestamp_unit=timestamp_unit,
            field_mapping=field_mapping,
            schema=schema,
            lag=lag,
            delete_when=delete_when,
        )
        self._begin_connection(connection_ref, {"url": url})
        for parameter in _unusual(url):
            raise self.refuse(
                f"url has the parameter {parameter!r}, which definitions may not have: some load a library, "
                "or read and write files",
                hint="keep the url in a connection of feature_store.yaml, and name that by connection_ref=",
            )
        self._set(query=query, table=table)

    def content(self) -> dict[str, object]:
        content = {**self._source_content(), **self._connection_content()}
        for key in ("query", "table"):
            if getattr(self, key):
                content[key] = getattr(self, key)
        return content


PostgreSQLSource = PostgresSource
"""Feast's name for it."""

_USUAL = frozenset(
    "host hostaddr port dbname user password require_auth channel_binding connect_timeout client_encoding options "
    "application_name fallback_application_name keepalives keepalives_idle keepalives_interval keepalives_count "
    "tcp_user_timeout sslmode sslnegotiation sslcompression sslcert sslkey sslpassword sslrootcert sslcrl sslcrldir "
    "sslsni ssl_min_protocol_version ssl_max_protocol_version target_session_attrs load_balance_hosts".split()
)
"""libpq's parameters that say where a database is, and who asks.

Source: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
"""


def _unusual(url: str) -> Iterator[str]:
    """The other parameters of a url or a `key=value` text, and a key that is in an engine, which is a library."""
    for name, value in re.findall(r"(?:^|[?&\s])([A-Za-z_]+)\s*=\s*('?[^\s&]*)", unquote(url)):
        if name.lower() not in _USUAL or (name.lower() == "sslkey" and ":" in value):
            yield name


SOURCE_TYPES["postgres"] = PostgresSource
