"""Queries over one view's own rows in Postgres: the newest per key, the touched keys, all rows of some keys.

Times go out as microseconds, and every column in the type that `shape` says.
"""

from __future__ import annotations

from collections.abc import Mapping

from asof.sql.postgres.dialect import POSTGRES, collated, micros_of, out
from asof.sql.query import WANTED, NewestRows, RowsOfKeys, TouchedKeys, UndatedRows, ViewRows
from asof.sql.source_rows import SourceRows, SourceTable


def compile_rows(query: ViewRows, tables: Mapping[str, SourceTable]) -> str:
    """The query's text, given the view's source as the engine sees it."""
    table = tables[query.view.source.name]
    if isinstance(query, NewestRows):
        return _newest(query, table)
    if isinstance(query, TouchedKeys):
        return _touched(query, table)
    if isinstance(query, UndatedRows):
        return query.text(POSTGRES, table)
    assert isinstance(query, RowsOfKeys)
    return _of_keys(query, table)


def _newest(query: NewestRows, table: SourceTable) -> str:
    plain = query.rows(table)
    features = {f"f{i}": plain.feature(each.name, each.dtype) for i, each in enumerate(query.view.features)}
    gone = {"gone": plain.gone()} if plain.gone() else {}
    rows = query.rows(table, {**features, **gone})
    last = ", ".join(["ts DESC", *(f"{tie} DESC NULLS LAST" for tie in rows.ties)])
    columns = [*_keys(rows), *_place(rows, "0")]
    columns += [f"{out(f, each.dtype)} AS {f}" for f, each in zip(features, query.view.features)]
    columns += gone
    return f"""\
SELECT {", ".join(columns)}
FROM (
SELECT *, row_number() OVER ({rows.partition()}ORDER BY {last}) AS asof_place
FROM (
{rows.select(known=True)}
) AS asof_q
WHERE {" AND ".join(query.chosen.conditions(POSTGRES))}
) AS asof_q
WHERE asof_place = 1{_near(rows)}"""


def _touched(query: TouchedKeys, table: SourceTable) -> str:
    rows = query.rows(table)
    keys = _keys(rows) or ["0 AS k0"]
    return f"""\
SELECT {", ".join(keys)}
FROM (
SELECT DISTINCT {", ".join(rows.key_columns) or "0"}
FROM (
{rows.select(known=True)}
) AS asof_q
WHERE {" AND ".join(query.chosen.conditions(POSTGRES))}
) AS asof_q{_near(rows)}"""


def _of_keys(query: RowsOfKeys, table: SourceTable) -> str:
    plain = query.rows(table)
    names = query.read_columns(table)
    columns = {f"c{i}": plain.declared(name) for i, name in enumerate(names)}
    rows = query.rows(table, columns)
    numbered = f"row_number() OVER ({rows.partition()}ORDER BY {rows.order('ts')})"
    arrived = "arrived" if rows.table.arrival == "row" else numbered
    created = micros_of("created" if rows.has_created else "ts")
    shown = [*_keys(rows), f"{micros_of('ts')} AS ts", f"{created} AS created", f"{arrived} AS arrived"]
    for alias, name in zip(columns, names):
        dtype = plain.dtype(name)
        shown.append(f"{out(alias, dtype) if dtype is not None else f'CAST({alias} AS text)'} AS {alias}")
    keys = rows.key_columns
    mine = [f"({', '.join(keys)}) IN (SELECT {', '.join(keys)} FROM {WANTED})"] if keys else []
    return f"""\
SELECT {", ".join(shown)}
FROM (
{rows.select()}
) AS asof_q
WHERE {" AND ".join([*query.until.conditions(POSTGRES), *mine])}
ORDER BY {", ".join([*_order(rows), "asof_q.ts", "arrived"])}"""


def _place(rows: SourceRows, nothing: str) -> list[str]:
    created = micros_of("created") if rows.has_created else nothing
    arrived = "arrived" if "arrived" in rows.ties else nothing
    return [f"{micros_of('ts')} AS ts", f"{created} AS created", f"{arrived} AS arrived"]


def _keys(rows: SourceRows) -> list[str]:
    return [f"{out(name, each.dtype)} AS {name}" for name, each in zip(rows.key_columns, rows.view.key_fields)]


def _order(rows: SourceRows) -> list[str]:
    return [
        collated(f"asof_q.{name}", field.dtype) for name, field in zip(rows.key_columns, rows.view.key_fields)
    ]  # fmt: skip


def _near(rows: SourceRows) -> str:
    """ORDER BY that puts keys near each other which are near each other as packed bytes: by length, then by value."""
    terms = []
    for name, order, each in zip(rows.key_columns, _order(rows), rows.view.key_fields):
        if each.dtype.is_text:
            terms.append(f"octet_length(asof_q.{name})")
        elif each.dtype.is_integer:
            terms.append(f"(asof_q.{name} < 0)")
        terms.append(order)
    return f"\nORDER BY {', '.join(terms)}" if terms else ""


__all__ = ["compile_rows"]
