"""Queries over one view's own rows in Postgres: the newest per key, the touched keys, all rows of some keys.

Times go out as microseconds, and every column in the type that `shape` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from asof.definitions import FeatureView
from asof.dtypes import DType, Int64
from asof.sql.postgres.dialect import collated, micros_of, out
from asof.sql.postgres.latest import key_names
from asof.sql.source_rows import Rows, Table

Shape = list[tuple[str, DType | None]]
"""The columns of an answer in their order: name, and type where it has one of ours."""


class Query(Protocol):
    """What is asked of a view's rows (`asof.sql.view_rows.ViewRows`)."""

    @property
    def view(self) -> FeatureView: ...

    def rows(self, table: Table, values: Mapping[str, str] | None = None) -> Rows: ...


def newest(query: Query, table: Table, conditions: Sequence[str]) -> str:
    """Per key its last row: k0…, ts, created, arrived, f0…; near keys together."""
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
WHERE {" AND ".join(conditions)}
) AS asof_q
WHERE asof_place = 1{_near(rows)}"""


def touched(query: Query, table: Table, conditions: Sequence[str]) -> str:
    """The keys of the chosen rows, each once; one row for a view without entities, if there is a chosen row."""
    rows = query.rows(table)
    keys = _keys(rows) or ["0 AS k0"]
    return f"""\
SELECT {", ".join(keys)}
FROM (
SELECT DISTINCT {", ".join(key_names(rows)) or "0"}
FROM (
{rows.select(known=True)}
) AS asof_q
WHERE {" AND ".join(conditions)}
) AS asof_q{_near(rows)}"""


def of_keys(query: Query, table: Table, conditions: Sequence[str], *, names: Sequence[str], wanted: str) -> str:
    """Every chosen row of the wanted keys: k0…, ts, created, arrived, then the columns as c0, c1, …

    Args:
        names: the columns that the view reads, as Asof calls them.
    """
    plain = query.rows(table)
    columns = {f"c{i}": plain.declared(name) for i, name in enumerate(names)}
    rows = query.rows(table, columns)
    numbered = f"row_number() OVER ({rows.partition()}ORDER BY {rows.order('ts')})"
    arrived = "arrived" if "arrived" in rows.ties else numbered
    created = micros_of("created" if rows.has_created else "ts")
    shown = [*_keys(rows), f"{micros_of('ts')} AS ts", f"{created} AS created", f"{arrived} AS arrived"]
    for alias, name in zip(columns, names):
        dtype = plain.dtype(name)
        shown.append(f"{out(alias, dtype) if dtype is not None else f'CAST({alias} AS text)'} AS {alias}")
    keys = key_names(rows)
    mine = [f"({', '.join(keys)}) IN (SELECT {', '.join(keys)} FROM {wanted})"] if keys else []
    return f"""\
SELECT {", ".join(shown)}
FROM (
{rows.select()}
) AS asof_q
WHERE {" AND ".join([*conditions, *mine])}
ORDER BY {", ".join([*_order(rows), "asof_q.ts", "arrived"])}"""


def shape_of(rows: Rows, more: Shape, *, place: bool = True) -> Shape:
    """The keys, the place in the order of rows, and what follows."""
    keys: Shape = [(name, field.dtype) for name, field in zip(key_names(rows), rows.view.key_fields)]
    places: Shape = [("ts", Int64), ("created", Int64), ("arrived", Int64)] if place else []
    return [*(keys or ([] if place else [("k0", Int64)])), *places, *more]


def _place(rows: Rows, nothing: str) -> list[str]:
    created = micros_of("created") if rows.has_created else nothing
    arrived = "arrived" if "arrived" in rows.ties else nothing
    return [f"{micros_of('ts')} AS ts", f"{created} AS created", f"{arrived} AS arrived"]


def _keys(rows: Rows) -> list[str]:
    return [f"{out(name, each.dtype)} AS {name}" for name, each in zip(key_names(rows), rows.view.key_fields)]


def _order(rows: Rows) -> list[str]:
    return [
        collated(f"asof_q.{name}", field.dtype) for name, field in zip(key_names(rows), rows.view.key_fields)
    ]  # fmt: skip


def _near(rows: Rows) -> str:
    """ORDER BY that puts keys near each other which are near each other as packed bytes: by length, then by value."""
    terms = []
    for name, order, each in zip(key_names(rows), _order(rows), rows.view.key_fields):
        if each.dtype.is_text:
            terms.append(f"octet_length(asof_q.{name})")
        elif each.dtype.is_integer:
            terms.append(f"(asof_q.{name} < 0)")
        terms.append(order)
    return f"\nORDER BY {', '.join(terms)}" if terms else ""
