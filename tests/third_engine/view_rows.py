"""Queries over one view's own rows in SQLite."""

from __future__ import annotations

from collections.abc import Mapping

from asof.sql.query import OWN, WANTED, NewestRows, RowsOfKeys, TouchedKeys, UndatedRows, ViewRows
from asof.sql.quoting import quote
from asof.sql.source_rows import SourceTable
from tests.third_engine.dialect import THIRD


def compile_rows(query: ViewRows, tables: Mapping[str, SourceTable]) -> str:
    table = tables[query.view.source.name]
    if isinstance(query, UndatedRows):
        return query.text(THIRD, table)
    plain = query.rows(table)
    keys = ", ".join(plain.key_columns)
    if isinstance(query, TouchedKeys):
        where = " AND ".join(query.chosen.conditions(THIRD))
        return f"SELECT DISTINCT {keys or '0 AS k0'} FROM ({plain.select(known=True)}) WHERE {where}"
    created = "created" if plain.has_created else "0"
    arrived = "arrived" if "arrived" in plain.ties else "0"
    if isinstance(query, NewestRows):
        features = {f"f{i}": plain.feature(each.name, each.dtype) for i, each in enumerate(query.view.features)}
        rows = query.rows(table, {**features, **({"gone": plain.gone()} if plain.gone() else {})})
        order = ", ".join(f"{each} DESC" for each in ("ts", *rows.ties))
        shown = ", ".join([*rows.key_columns, "ts", f"{created} AS created", f"{arrived} AS arrived", *rows.values])
        where = " AND ".join(query.chosen.conditions(THIRD))
        return (
            f"SELECT {shown} FROM (SELECT *, row_number() OVER ({rows.partition()}ORDER BY {order}) AS place "
            f"FROM ({rows.select(known=True)}) WHERE {where}) WHERE place = 1"
        )
    assert isinstance(query, RowsOfKeys)
    names = query.read_columns(table)
    rows = query.rows(table, {f"c{i}": plain.declared(name) for i, name in enumerate(names)})
    if arrived == "0":
        arrived = f"row_number() OVER ({rows.partition()}ORDER BY {rows.order('ts')})"
    shown = ", ".join([
        *rows.key_columns, "ts", f"{created if rows.has_created else 'ts'} AS created", f"{arrived} AS arrived",
        *(f"c{i} AS {quote(OWN + name)}" for i, name in enumerate(names)),
    ])  # fmt: skip
    where = query.until.conditions(THIRD) + ([f"({keys}) IN (SELECT {keys} FROM {WANTED})"] if keys else [])
    order = ", ".join([*rows.key_columns, "ts", "arrived"])
    return f"SELECT {shown} FROM ({rows.select()}) WHERE {' AND '.join(where)} ORDER BY {order}"
