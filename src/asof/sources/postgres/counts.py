"""Counts of rows and nulls in PostgreSQL, made by the server, and bounded in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from asof.definitions import Source
from asof.display import counted
from asof.sql.postgres.dialect import POSTGRES
from asof.sql.quoting import quote
from asof.sql.undated import undated
from asof.timing import Micros

_ESTIMATE = "SELECT reltuples FROM pg_catalog.pg_class WHERE oid = to_regclass(%s)"
_NOT_NULL = "SELECT attnotnull FROM pg_catalog.pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s"
_LARGE_TABLE = 1_000_000
_SHOWN_NULLS = 1_000
_TIMEOUT_MS = 5_000
# A shorter timeout of the connection stays: its client waits no longer than that.
_BOUNDED = f"""
SELECT set_config('statement_timeout', least({_TIMEOUT_MS}, nullif(setting::bigint, 0))::text, true)
FROM pg_catalog.pg_settings WHERE name = 'statement_timeout'
"""


def nulls_in(
    connection: psycopg.Connection[Any], relation: str, columns: Sequence[str], *, is_table: bool
) -> dict[str, str]:
    """Column → number of its nulls, as text; columns without nulls, or that take too long to count, are omitted."""
    found = {}
    for column in columns:
        row = connection.execute(_NOT_NULL, [relation, column]).fetchone() if is_table else None
        if row and row[0]:
            continue
        nulls = _count(connection, f"{relation} WHERE {quote(column)} IS NULL LIMIT {_SHOWN_NULLS}")
        if nulls:
            found[column] = counted(nulls, "row") if nulls < _SHOWN_NULLS else f"{counted(nulls, 'row')} or more"
    return found


def undated_in(
    connection: psycopg.Connection[Any],
    relation: str,
    source: Source,
    types: Mapping[str, str],
    *,
    since: Micros | None = None,
) -> int | None:
    """Number of rows without an event time of the years 1 to 9999; None if counting takes too long.

    Args:
        types: column → its type on the server.
        since: only those that were written since then.
    """
    terms = undated(POSTGRES, source, types, quote, since=since)
    return _count(connection, f"{relation} WHERE {' AND '.join(terms)}")


def rows_in(connection: psycopg.Connection[Any], relation: str, *, is_table: bool) -> str:
    """Number of rows, as text."""
    row = connection.execute(_ESTIMATE, [relation]).fetchone() if is_table else None
    if row and row[0] and row[0] > _LARGE_TABLE:
        return f"about {counted(int(row[0]), 'row')}"
    rows = _count(connection, relation)
    return counted(rows, "row") if rows is not None else "too many rows to count quickly"


def _count(connection: psycopg.Connection[Any], rows: str) -> int | None:
    """The number of rows of a FROM clause; None if counting takes too long."""
    try:
        with connection.transaction():
            connection.execute(_BOUNDED)
            found = connection.execute(f"SELECT count(*) FROM (SELECT FROM {rows}) AS counted").fetchone()
    except psycopg.errors.QueryCanceled:
        return None
    assert found is not None
    return int(found[0])
