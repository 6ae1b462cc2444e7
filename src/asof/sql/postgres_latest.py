"""The plans for the latest value in Postgres: by the index of its rows where there is one, else by one merge.

An index on (key, time) answers each spine row with one descent, for all such views in one SELECT. Without one, the rows
are numbered in their order and sorted together with the spine; the greatest number so far at a spine row is its row's.
That is a SELECT of its own: its rows are put beside the others by their numbers, which no join does as quickly.
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
    """What answers one view, or one group of them, and the SQL of each of the features.

    Args:
        source: what is joined to the spine; of a part that is `alone`, a whole FROM clause with the spine's numbers.
        steps: statements that run before it.
        tables: common table expressions that it reads: name → SELECT.
        number: the SQL of the spine row's number, where it is alone.
    """

    source: str
    columns: tuple[str, ...]
    steps: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    number: str = ""


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


def index_of(rows: Rows) -> tuple[str, ...] | None:
    """An index of the relation that begins with the keys, in any order, and goes on with the time; None without one."""
    source, types = rows.source, rows.table.sql_types
    dtypes = {field.name: field.dtype for field in rows.view.key_fields}
    time, keys = source.timestamp_field, [source.raw(key) for key in rows.keys]
    fits = all(
        raw in types and postgres.compares_as_it_is(types[raw], dtypes[key]) for key, raw in zip(rows.keys, keys)
    )
    if not fits or time not in types or not postgres.bound("t", "u", types[time], unit=source.timestamp_unit):
        return None
    found = [
        index
        for index in rows.table.indexes
        if set(index[: len(keys)]) == set(keys) and index[len(keys) : len(keys) + 1] == (time,)
    ]
    # The longer, the more of the order of rows it knows.
    return max(found, key=len, default=None)


def distinguishing(rows: Rows, index: Sequence[str]) -> tuple[str, ...]:
    """The index's columns that would tell rows apart in their order, if no two rows were equal in them."""
    keys = len(rows.keys)
    created = rows.source.created_timestamp_column
    return tuple(index[: keys + 1 + (rows.has_created and index[keys + 1 : keys + 2] == (created,))])


def by_index(
    rows: Rows, read: ViewRead, spine: SpineTable, *, index: Sequence[str], as_known: bool, number: int
) -> Part:
    """Each spine row looks for its row from its time backwards, and never further than that row's moment.

    Args:
        index: what `index_of` found.
        as_known: only rows that were written down by the spine row's own time.
    """
    view, source = read.view, rows.source
    time = quote(source.timestamp_field)
    sql_type, unit = rows.table.sql_types[source.timestamp_field], source.timestamp_unit
    where = [f"{quote(source.raw(key))} = {mine}" for key, mine in zip(rows.keys, spine_keys(read, spine))]
    at, us = f"{S}.{AT}", f"{S}.{US}"
    where.append(f"{time} <= {postgres.bound(at, us, sql_type, unit=unit, shift=-view.delay)}")
    if view.ttl:
        least = postgres.bound(at, us, sql_type, unit=unit, shift=-view.delay - view.ttl, upper=False)
        where.append(f"{time} >= {least}")
    elif not unit:
        where.append(f"{time} > '-infinity'")
    # What only lets a scan skip rows would be checked once for every spine row.
    plain = Rows(view, rows.table, rows.keys, cut=Cut(known_at=rows.cut.known_at, seen=rows.cut.seen))
    where += plain.restrictions()
    if as_known:
        where.append(f"{rows.known()} <= {S}.{AT}")
    columns = [f"{rows.feature(each.name, each.dtype)} AS asof_f{i}" for i, each in enumerate(read.features)]
    found = f"FROM {rows.table.relation} AS asof_r\nWHERE {' AND '.join(where)}\nORDER BY {time} DESC"
    order = _order_of_index(rows, index)
    if order is None:
        # Sorting all of a key's rows by their ties would take as long as its history is; so first the moment's alone.
        ties = ", ".join(f"{sql} DESC NULLS LAST" for sql in rows.tie_terms().values())
        found = f"FROM (\nSELECT *\n{found}\nFETCH FIRST 1 ROW WITH TIES\n) AS asof_r\nORDER BY {ties}"
    else:
        found += order
    alias = f"asof_l{number}"
    joins = f"LEFT JOIN LATERAL (\nSELECT {', '.join(columns)}\n{found}\nLIMIT 1\n) AS {alias} ON TRUE"
    return Part(joins, tuple(f"{alias}.asof_f{i}" for i in range(len(columns))))


def _order_of_index(rows: Rows, index: Sequence[str]) -> str | None:
    """What follows the time in an ORDER BY that the index gives whole; None where it does not know the whole order."""
    keys = len(rows.keys)
    if rows.table.arrival == "log" and not rows.has_created and index[keys + 1 : keys + 3] == ("offset", "partition"):
        return ', "offset" DESC, "partition" DESC'
    alone = distinguishing(rows, index)
    if alone in rows.table.unique:
        return "".join(f", {quote(column)} DESC" for column in alone[keys + 1 :])
    return None


def by_merge(rows: Rows, read: ViewRead, spine: SpineTable, *, number: int) -> Part:
    """Rows and spine are sorted together, once and narrow; then the rows' columns are joined back by their numbers."""
    view = read.view
    ordered, found = f"asof_ordered{number}", f"asof_found{number}"
    features = [f"asof_f{i}" for i in range(len(read.features))]
    values = {f: rows.feature(each.name, each.dtype) for f, each in zip(features, read.features)}
    rows = Rows(view, rows.table, rows.keys, values, rows.cut, rows.tie_columns)
    keys, order = key_names(rows), key_order(rows)
    # A feature that decides between equal rows is sorted by as it is, and not carried along twice.
    again = {} if rows.gone() else {each.name: collated(f, each.dtype) for f, each in zip(features, read.features)}
    shared = {f"tie{i}": again[name] for i, name in enumerate(rows.tie_columns) if name in again}
    ties = ", ".join([*order, "ts", *(f"{shared.get(tie, tie)} NULLS FIRST" for tie in rows.ties)])
    numbered = f"""\
SELECT row_number() OVER (ORDER BY {ties}) AS place, {", ".join([*keys, "ts", *features])}
FROM (
{rows.select(without=shared)}
) AS asof_q"""
    mine = spine_keys(read, spine, "")
    moment = shifted(AT, -view.delay)
    by_key = f"PARTITION BY {', '.join(order)} " if keys else ""
    sought = f"""\
SELECT ts, n, max(place) OVER ({by_key}ORDER BY ts, n NULLS FIRST ROWS UNBOUNDED PRECEDING) AS place
FROM (
SELECT {", ".join([*keys, "ts", "place"])}, NULL::bigint AS n FROM {ordered}
UNION ALL
SELECT {", ".join([*mine, moment])}, NULL::bigint, {N} FROM {spine.relation}
) AS asof_q"""
    # A row without a time comes after all others of its key.
    same = ["asof_r.place = asof_m.place", "asof_m.ts IS NOT NULL"]
    if view.ttl:
        same.append(f"asof_r.ts >= asof_m.ts - {span(view.ttl)}")
    source = f"""\
FROM {found} AS asof_m
LEFT JOIN {ordered} AS asof_r ON {" AND ".join(same)}
WHERE asof_m.n IS NOT NULL"""
    columns = tuple(f"asof_r.{each}" for each in features)
    return Part(source, columns, tables=((ordered, numbered), (found, sought)), number="asof_m.n")


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

