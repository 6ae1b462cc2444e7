"""Queries over one view's own rows in DuckDB: the newest per key, the touched keys, all rows of some keys."""

from __future__ import annotations

from collections.abc import Mapping

from asof.sql.duckdb.dialect import DUCKDB
from asof.sql.query import OWN, WANTED, NewestRows, RowFilter, RowsOfKeys, TouchedKeys, UndatedRows, ViewRows
from asof.sql.quoting import quote
from asof.sql.source_rows import SourceRows, SourceTable


def compile_rows(query: ViewRows, tables: Mapping[str, SourceTable]) -> str:
    """The query's text, given the view's source as the engine sees it."""
    table = tables[query.view.source.name]
    if isinstance(query, NewestRows):
        return _newest(query, table)
    if isinstance(query, TouchedKeys):
        return _touched(query, table)
    if isinstance(query, UndatedRows):
        return query.text(DUCKDB, table)
    assert isinstance(query, RowsOfKeys)
    return _of_keys(query, table)


def _newest(query: NewestRows, table: SourceTable) -> str:
    plain = query.rows(table)
    features = {f"f{i}": plain.feature(field.name, field.dtype) for i, field in enumerate(query.view.features)}
    if gone := plain.gone():
        features["gone"] = gone
    rows = query.rows(table, features)
    created = "created" if rows.has_created else "0"
    arrived = "arrived" if "arrived" in rows.ties else "0"
    last = ", ".join(f"{column} DESC NULLS LAST" for column in ("ts", *rows.ties))
    columns = [*rows.key_columns, "ts", f"{created} AS created", f"{arrived} AS arrived", *features]
    return f"""\
SELECT {", ".join(columns)}
FROM (
{rows.select(known=True)}
)
WHERE {_chosen(query.chosen)}
QUALIFY row_number() OVER ({rows.partition()}ORDER BY {last}) = 1{_near(rows)}"""


def _touched(query: TouchedKeys, table: SourceTable) -> str:
    rows = query.rows(table)
    return f"""\
SELECT DISTINCT {rows.key_names() or "0 AS k0"}
FROM (
{rows.select(known=True)}
)
WHERE {_chosen(query.chosen)}{_near(rows)}"""


def _of_keys(query: RowsOfKeys, table: SourceTable) -> str:
    plain = query.rows(table)
    names = query.read_columns(table)
    columns = {f"c{i}": plain.declared(name) for i, name in enumerate(names)}
    rows = query.rows(table, columns)
    created = "created" if rows.has_created else "ts"
    numbered = f"row_number() OVER ({rows.partition()}ORDER BY {rows.order('ts')})"
    arrived = "arrived" if rows.table.arrival == "row" else numbered
    shown = [*rows.key_columns, "ts", f"{created} AS created", f"{arrived} AS arrived"]
    shown += [f"c{i} AS {quote(OWN + name)}" for i, name in enumerate(names)]
    wanted = f" AND ({rows.key_names()}) IN (SELECT ({rows.key_names()}) FROM {WANTED})" if rows.keys else ""
    order = ", ".join([*rows.key_columns, "ts", "arrived"])
    return f"""\
SELECT {", ".join(shown)}
FROM (
{rows.select()}
)
WHERE {_chosen(query.until)}{wanted}
ORDER BY {order}"""


def _chosen(chosen: RowFilter) -> str:
    return " AND ".join(chosen.conditions(DUCKDB))


def _near(rows: SourceRows) -> str:
    """ORDER BY that puts keys near each other which are near each other as packed bytes: by length, then by value."""
    terms = []
    for name, key in zip(rows.key_columns, rows.keys):
        sql_type = rows.table.sql_types[rows.source.raw(key)]
        if sql_type == "VARCHAR":
            terms.append(f"strlen({name})")
        elif sql_type.endswith("INT") or sql_type == "INTEGER":
            terms.append(f"{name} < 0")
        terms.append(name)
    return f"\nORDER BY {', '.join(terms)}" if terms else ""


__all__ = ["compile_rows"]
