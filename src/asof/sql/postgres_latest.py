"""The plans for the latest value in Postgres: by the index of its rows where there is one, else by one merge.

An index on (key, time) answers each spine row with one descent. Without one, the rows are numbered in their order and
sorted together with the spine; the greatest number so far at a spine row is its row's. Both are one part of one SELECT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.selection import ViewRead
from asof.sql import postgres
from asof.sql.dialect import quote
from asof.sql.postgres import collated, shifted, span
from asof.sql.rows import Cut, Rows, SpineTable

S = "asof_s"
"""The spine's alias in the SELECT of all."""

N, AT, US = "asof_n", "asof_at", "asof_us"
"""The columns that every spine table has beside its own: number, time, and time in microseconds."""


@dataclass(frozen=True)
class Part:
    """One view's part of the SELECT: what is joined to the spine, and the SQL of each of its features.

    Args:
        steps: statements that run before it.
        tables: common table expressions that it reads: name → SELECT.
    """

    joins: str
    columns: tuple[str, ...]
    steps: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()


def spine_keys(read: ViewRead, spine: SpineTable, alias: str = S) -> list[str]:
    """The spine's values of the view's join keys, in their declared types, so that an index may serve."""
    dtypes = {field.name: field.dtype for field in read.view.key_fields}
    keys = []
    for own, key in zip(read.view.join_keys, read.keys, strict=True):
        value, sql_type = f"{alias}.{quote(key)}" if alias else quote(key), spine.sql_types[key]
        as_it_is = postgres.compares_as_it_is(sql_type, dtypes[own])
        what = f"column {key!r} of the entity frame"
        keys.append(value if as_it_is else postgres.cast(value, sql_type, dtypes[own], what))
    return keys


def has_index(rows: Rows) -> bool:
    """Whether an index of the relation begins with the keys, in any order, and goes on with the time."""
    source, types = rows.source, rows.table.sql_types
    dtypes = {field.name: field.dtype for field in rows.view.key_fields}
    time, keys = source.timestamp_field, [source.raw(key) for key in rows.keys]
    fits = all(
        raw in types and postgres.compares_as_it_is(types[raw], dtypes[key]) for key, raw in zip(rows.keys, keys)
    )
    if not fits or time not in types or not postgres.bound("t", "u", types[time], unit=source.timestamp_unit):
        return False
    return any(
        set(index[: len(keys)]) == set(keys) and index[len(keys) : len(keys) + 1] == (time,)
        for index in rows.table.indexes
    )


def by_index(rows: Rows, read: ViewRead, spine: SpineTable, *, as_known: bool, number: int) -> Part:
    """Each spine row looks for its row from its time backwards.

    Args:
        as_known: only rows that were written down by the spine row's own time.
    """
    view, source = read.view, rows.source
    time = quote(source.timestamp_field)
    sql_type, unit = rows.table.sql_types[source.timestamp_field], source.timestamp_unit
    # What only lets a scan skip rows would be checked once for every spine row.
    plain = Rows(view, rows.table, rows.keys, cut=Cut(known_at=rows.cut.known_at, seen=rows.cut.seen))
    where = [f"{quote(source.raw(key))} = {mine}" for key, mine in zip(rows.keys, spine_keys(read, spine))]
    at, us = f"{S}.{AT}", f"{S}.{US}"
    where.append(f"{time} <= {postgres.bound(at, us, sql_type, unit=unit, shift=-view.delay)}")
    if view.ttl:
        least = postgres.bound(at, us, sql_type, unit=unit, shift=-view.delay - view.ttl, upper=False)
        where.append(f"{time} >= {least}")
    where += plain.conditions()
    if as_known:
        where.append(f"{rows.known()} <= {S}.{AT}")
    columns = [f"{rows.feature(each.name, each.dtype)} AS asof_f{i}" for i, each in enumerate(read.features)]
    order = ", ".join([f"{time} DESC", *_descending(rows)])
    alias = f"asof_l{number}"
    joins = f"""\
LEFT JOIN LATERAL (
SELECT {", ".join(columns)}
FROM {rows.table.relation} AS asof_r
WHERE {" AND ".join(where)}
ORDER BY {order}
LIMIT 1
) AS {alias} ON TRUE"""
    return Part(joins, tuple(f"{alias}.asof_f{i}" for i in range(len(columns))))


def by_merge(rows: Rows, read: ViewRead, spine: SpineTable, *, number: int) -> Part:
    """Rows and spine are sorted together, once and narrow; then the rows' columns are joined back by their numbers."""
    view = read.view
    ordered, found, alias = f"asof_ordered{number}", f"asof_found{number}", f"asof_l{number}"
    features = [f"asof_f{i}" for i in range(len(read.features))]
    values = {f: rows.feature(each.name, each.dtype) for f, each in zip(features, read.features)}
    rows = Rows(view, rows.table, rows.keys, values, rows.cut, rows.tie_columns)
    keys, order = key_names(rows), key_order(rows)
    numbered = f"""\
SELECT row_number() OVER (ORDER BY {rows.order(*order, "ts")}) AS place, {", ".join([*keys, "ts", *features])}
FROM (
{rows.select()}
) AS asof_q"""
    mine = spine_keys(read, spine, "")
    moment = shifted(AT, -view.delay)
    known = " AND ".join(f"{each} IS NOT NULL" for each in [*mine, AT])
    sought = f"""\
SELECT {", ".join([*keys, "ts", "n"])}, max(place) OVER (ORDER BY {", ".join([*order, "ts"])}, n NULLS FIRST
  ROWS UNBOUNDED PRECEDING) AS place
FROM (
SELECT {", ".join([*keys, "ts", "place"])}, NULL::bigint AS n FROM {ordered}
UNION ALL
SELECT {", ".join([*mine, moment])}, NULL::bigint, {N} FROM {spine.relation} WHERE {known}
) AS asof_q"""
    same = [f"asof_r.{each} = asof_m.{each}" for each in ("place", *keys)]
    if view.ttl:
        same.append(f"asof_r.ts >= asof_m.ts - {span(view.ttl)}")
    joins = f"""\
LEFT JOIN (
SELECT asof_m.n, {", ".join(f"asof_r.{each}" for each in features)}
FROM {found} AS asof_m
JOIN {ordered} AS asof_r ON {" AND ".join(same)}
WHERE asof_m.n IS NOT NULL
) AS {alias} ON {alias}.n = {S}.{N}"""
    return Part(
        joins, tuple(f"{alias}.{each}" for each in features), tables=((ordered, numbered), (found, sought))
    )  # fmt: skip


def by_events(rows: Rows, read: ViewRead, spine: SpineTable, *, number: int) -> Part:
    """With `known_at=True` and without an index: the rows that can matter are put into a table that has one."""
    view = read.view
    table, alias = f"asof_events_l{number}", f"asof_l{number}"
    features = [f"asof_f{i}" for i in range(len(read.features))]
    values = {f: rows.feature(each.name, each.dtype) for f, each in zip(features, read.features)}
    rows = Rows(view, rows.table, rows.keys, values, rows.cut, rows.tie_columns)
    keys = key_names(rows)
    select = f"""\
SELECT {", ".join([*keys, "ts", "known", *features])}, row_number() OVER (ORDER BY {rows.order("ts")}) AS place
FROM (
{rows.select(known=True)}
) AS asof_q"""
    at = shifted(f"{S}.{AT}", -view.delay)
    where = [f"{key} = {mine}" for key, mine in zip(keys, spine_keys(read, spine))]
    where += [f"ts <= {at}", f"known <= {S}.{AT}"]
    if view.ttl:
        where.append(f"ts >= {at} - {span(view.ttl)}")
    joins = f"""\
LEFT JOIN LATERAL (
SELECT {", ".join(features)}
FROM {table}
WHERE {" AND ".join(where)}
ORDER BY ts DESC, place DESC
LIMIT 1
) AS {alias} ON TRUE"""
    return Part(joins, tuple(f"{alias}.{each}" for each in features), steps=made_with_index(table, select, keys))


def made_with_index(table: str, select: str, keys: Sequence[str]) -> tuple[str, ...]:
    """Statements that make a temporary table of events, to be looked up by key, time and place."""
    return (
        f"CREATE TEMP TABLE {table} ON COMMIT DROP AS\n{select}",
        f"CREATE INDEX ON {table} ({', '.join([*keys, 'ts', 'place'])})",
        f"ANALYZE {table}",
    )


def key_names(rows: Rows) -> list[str]:
    """The aliases of a source's keys."""
    return [f"k{index}" for index in range(len(rows.keys))]


def key_order(rows: Rows) -> list[str]:
    """The same to be sorted by: by code point, which is the quickest."""
    dtypes = {field.name: field.dtype for field in rows.view.key_fields}
    return [collated(name, dtypes[key]) for name, key in zip(key_names(rows), rows.keys)]


def _descending(rows: Rows) -> list[str]:
    """The ties, the last first. Offsets are never null, so that an index that goes on with them gives the order."""
    nulls = {"arrived": "", "part": ""}
    return [f"{sql} DESC{nulls.get(tie, ' NULLS LAST')}" for tie, sql in rows.tie_terms().items()]
