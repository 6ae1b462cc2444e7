"""Queries over one view's own rows in Spark: the newest per key, the touched keys, all rows of some keys.

Times go out as microseconds, and every column in the type that `shape` says.
"""

from __future__ import annotations

from collections.abc import Mapping

from asof.sql.query import OWN, WANTED, NewestRows, RowFilter, RowsOfKeys, TouchedKeys, UndatedRows, ViewRows
from asof.sql.source_rows import SourceRows, SourceTable


def compile_rows(query: ViewRows, tables: Mapping[str, SourceTable]) -> str:
    """The query's text, given the view's source as the engine sees it."""
    table = tables[query.view.source.name]
    if isinstance(query, NewestRows):
        return _newest(query, table)
    if isinstance(query, TouchedKeys):
        return _touched(query, table)
    if isinstance(query, UndatedRows):
        return query.text(table.dialect, table)
    assert isinstance(query, RowsOfKeys)
    return _of_keys(query, table)


def _newest(query: NewestRows, table: SourceTable) -> str:
    plain = query.rows(table)
    features = {f"f{i}": plain.feature(field.name, field.dtype) for i, field in enumerate(query.view.features)}
    if gone := plain.gone():
        features["gone"] = gone
    rows = query.rows(table, features)
    created = "created" if rows.has_created else "CAST(0 AS bigint)"
    arrived = "CAST(arrived AS bigint)" if "arrived" in rows.ties else "CAST(0 AS bigint)"
    last = ", ".join(f"{column} DESC NULLS LAST" for column in ("ts", *rows.ties))
    columns = [*_keys(rows), "ts", f"{created} AS created", f"{arrived} AS arrived", *features]
    return f"""\
SELECT {", ".join(columns)}
FROM (
SELECT *, row_number() OVER ({rows.partition()}ORDER BY {last}) AS asof_place
FROM (
{rows.select(known=True)}
)
WHERE {_chosen(query.chosen, table)}
)
WHERE asof_place = 1{_near(rows)}"""


def _touched(query: TouchedKeys, table: SourceTable) -> str:
    rows = query.rows(table)
    return f"""\
SELECT DISTINCT {", ".join(_keys(rows)) or "CAST(0 AS bigint) AS k0"}
FROM (
{rows.select(known=True)}
)
WHERE {_chosen(query.chosen, table)}{_near(rows)}"""


def _of_keys(query: RowsOfKeys, table: SourceTable) -> str:
    plain = query.rows(table)
    names = query.read_columns(table)
    columns = {f"c{i}": plain.declared(name) for i, name in enumerate(names)}
    rows = query.rows(table, columns)
    created = "created" if rows.has_created else "ts"
    numbered = f"row_number() OVER ({rows.partition()}ORDER BY {rows.order('ts')})"
    arrived = "arrived" if rows.table.arrival == "row" else numbered
    quote = rows.dialect.forms.quote
    shown = [*_keys(rows), "ts", f"{created} AS created", f"CAST({arrived} AS bigint) AS arrived"]
    shown += [f"c{i} AS {quote(OWN + name)}" for i, name in enumerate(names)]
    wanted = [rows.dialect.is_among(rows.key_names(), rows.key_names(), WANTED)] if rows.keys else []
    order = ", ".join([*rows.key_columns, "ts", "arrived"])
    return f"""\
SELECT {", ".join(shown)}
FROM (
{rows.select()}
)
WHERE {" AND ".join([*query.until.conditions(rows.dialect), *wanted])}
ORDER BY {order}"""


def _keys(rows: SourceRows) -> list[str]:
    """The keys in their declared types: a narrower integer of the source compares as it is."""
    names = zip(rows.key_columns, rows.view.key_fields)
    return [f"CAST({name} AS {rows.dialect.type_name(each.dtype)}) AS {name}" for name, each in names]


def _chosen(chosen: RowFilter, table: SourceTable) -> str:
    return " AND ".join(chosen.conditions(table.dialect))


def _near(rows: SourceRows) -> str:
    """ORDER BY that puts keys near each other which are near each other as packed bytes: by length, then by value."""
    terms = []
    for name, field in zip(rows.key_columns, rows.view.key_fields):
        if field.dtype.is_text:
            terms.append(f"octet_length({name})")
        elif field.dtype.is_integer:
            terms.append(f"{name} < 0")
        terms.append(name)
    return f"\nORDER BY {', '.join(terms)}" if terms else ""


__all__ = ["compile_rows"]
