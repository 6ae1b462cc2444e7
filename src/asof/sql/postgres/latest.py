"""The plan for the latest value in Postgres: each spine row looks its row up, by an index on key and time.

Where the relation has no such index, the rows that can matter are put into a table that has one, in their order. The
spine is read in the order of the keys, so that neighbours look at the same pages; that halves the time. Each view is a
SELECT of its own: its rows are matched to the others by their numbers, which no join does as quickly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.dtypes import DType
from asof.selection import ViewRead
from asof.sql.postgres import dialect as postgres
from asof.sql.postgres.casts import cast
from asof.sql.postgres.dialect import collated, shifted, span
from asof.sql.quoting import quote
from asof.sql.source_rows import RowCutoff, SourceRows, SpineTable
from asof.timing import EARLIEST

S = "asof_s"
"""The spine's alias in the SELECT of all."""

N, AT, US = "asof_n", "asof_at", "asof_us"
"""The columns that every spine table has in addition to its own: number, time, and time in microseconds."""


_LONGEST_KEY = 500
"""Characters of a key's texts in an index, which takes no row of a third of a page or more."""


@dataclass(frozen=True)
class FeatureQuery:
    """The statements for one view, or one group of them, and the SQL of each of the features.

    Args:
        source: what is joined to the spine.
        steps: statements that run before it.
        again: for a view on its own: the same for spine rows with more than one result from `source`, since several
            rows have the same time; empty if each has one.
    """

    source: str
    columns: tuple[str, ...]
    steps: tuple[str, ...] = ()
    again: str = ""


def spine_keys(read: ViewRead, spine: SpineTable, alias: str = S) -> list[str]:
    """The spine's values of the view's join keys, in their declared types, so that an index may serve."""
    dtypes = {field.name: field.dtype for field in read.view.key_fields}
    keys = []
    for own, key in zip(read.view.join_keys, read.keys, strict=True):
        value, sql_type = f"{alias}.{spine.column(key)}" if alias else spine.column(key), spine.sql_types[key]
        as_it_is = postgres.compares_as_it_is(sql_type, dtypes[own])
        what = f"column {key!r} of the entity frame"
        keys.append(value if as_it_is else cast(value, sql_type, dtypes[own], what))
    return keys


def index_of(rows: SourceRows) -> tuple[str, ...] | None:
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


def by_index(
    rows: SourceRows, read: ViewRead, spine: SpineTable, *, index: Sequence[str], as_known: bool, number: int
) -> FeatureQuery:
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
    if unit != "ns":
        where.append(f"{time} >= {postgres.from_micros(EARLIEST, sql_type, unit)}")
    # What only lets a scan skip rows would be checked once for every spine row.
    plain = SourceRows(view, rows.table, rows.keys, cut=RowCutoff(known_at=rows.cut.known_at, seen=rows.cut.seen))
    where += plain.restrictions()
    if as_known:
        where.append(f"{rows.known()} <= {S}.{AT}")
    columns = [f"{rows.feature(each.name, each.dtype)} AS asof_f{i}" for i, each in enumerate(read.features)]
    alias = f"asof_l{number}"

    def joined(found: str) -> str:
        return f"LEFT JOIN LATERAL (\n{found}\n) AS {alias} ON TRUE"

    outputs = tuple(f"{alias}.asof_f{i}" for i in range(len(columns)))
    select = f"SELECT {', '.join(columns)}"
    found = f"FROM {rows.table.relation} AS asof_r\nWHERE {' AND '.join(where)}\nORDER BY {time} DESC"
    order = _order_of_index(rows, index)
    if order:
        return FeatureQuery(joined(f"{select}\n{found}{order}\nLIMIT 1"), outputs)
    # Of the rows of a moment the ties decide; but mostly there is one, and to sort it takes as long as to find it.
    moment = f"{select}\nFROM (\nSELECT *\n{found}\nFETCH FIRST 1 ROW WITH TIES\n) AS asof_r"
    ties = ", ".join(f"{sql} DESC NULLS LAST" for sql in rows.tie_terms().values())
    return FeatureQuery(joined(f"{moment}\nLIMIT 2"), outputs, again=joined(f"{moment}\nORDER BY {ties}\nLIMIT 1"))


def _order_of_index(rows: SourceRows, index: Sequence[str]) -> str:
    """What follows the time in an ORDER BY that the index gives whole; empty where it does not know the whole order."""
    keys = len(rows.keys)
    if (
        rows.table.arrival == "offsets"
        and not rows.has_created
        and index[keys + 1 : keys + 3] == ("offset", "partition")
    ):
        return ', "offset" DESC, "partition" DESC'
    return ""


def by_events(rows: SourceRows, read: ViewRead, spine: SpineTable, *, as_known: bool, number: int) -> FeatureQuery:
    """Without an index: the rows that can matter are put into a table in their order, which is quick to be indexed.

    Args:
        as_known: only rows that were written down by the spine row's own time.
    """
    view = read.view
    table, alias = f"asof_events_l{number}", f"asof_l{number}"
    features = [f"asof_f{i}" for i in range(len(read.features))]
    values = {f: rows.feature(each.name, each.dtype) for f, each in zip(features, read.features)}
    rows = SourceRows(view, rows.table, rows.keys, values, rows.cut, rows.tie_columns)
    keys, order = rows.key_columns, key_order(rows)
    # A feature that decides between equal rows is sorted by as it is, and not carried along twice.
    again = {} if rows.gone() else {each.name: collated(f, each.dtype) for f, each in zip(features, read.features)}
    shared = {f"tie{i}": again[name] for i, name in enumerate(rows.tie_columns) if name in again}
    ties = [shared.get(tie, tie) for tie in rows.ties]
    if as_known:
        # Which is the last that is known differs from one spine row to another.
        place = ["place"]
        in_order = ", ".join([*order, "ts", *(f"{tie} NULLS FIRST" for tie in ties)])
        columns = [*keys, "ts", "known", *features, f"row_number() OVER (ORDER BY {in_order}) AS place"]
        select, sort = f"SELECT {', '.join(columns)}", ""
    else:
        # Of the rows of a moment only the last is ever looked up.
        place = []
        select = f"SELECT DISTINCT ON ({', '.join([*order, 'ts'])}) {', '.join([*keys, 'ts', *features])}"
        sort = f"\nORDER BY {', '.join([*order, 'ts', *(f'{tie} DESC NULLS LAST' for tie in ties)])}"
    select = f"{select}\nFROM (\n{rows.select(known=as_known, without=shared)}\n) AS asof_q{sort}"
    at = shifted(f"{S}.{AT}", -view.delay)
    where: list[str] = []
    dtypes = [field.dtype for field in view.key_fields]
    for key, mine, dtype in zip(order, spine_keys(read, spine), dtypes):
        where += dict.fromkeys((f"{_short(key, dtype)} = {_short(mine, dtype)}", f"{key} = {mine}"))
    where.append(f"ts <= {at}")
    if as_known:
        where.append(f"known <= {S}.{AT}")
    if view.ttl:
        where.append(f"ts >= {at} - {span(view.ttl)}")
    joins = f"""\
LEFT JOIN LATERAL (
SELECT {", ".join(features)}
FROM {table}
WHERE {" AND ".join(where)}
ORDER BY {", ".join(f"{each} DESC" for each in ("ts", *place))}
LIMIT 1
) AS {alias} ON TRUE"""
    short = [_short(key, dtype) for key, dtype in zip(order, dtypes)]
    steps = made_with_index(table, select, [*short, "ts", *place], measured=[*keys, "ts"])
    return FeatureQuery(joins, tuple(f"{alias}.{each}" for each in features), steps=steps)


def _short(value: str, dtype: DType) -> str:
    """A key as it is indexed."""
    if dtype.is_text:
        return f"left({value}, {_LONGEST_KEY})"
    return f"substr({value}, 1, {_LONGEST_KEY})" if dtype.name == "Bytes" else value


def made_with_index(table: str, select: str, indexed: Sequence[str], *, measured: Sequence[str]) -> tuple[str, ...]:
    """Statements that make a temporary table of events, to be looked up by what is indexed.

    Args:
        measured: the columns that the planner is to know of.
    """
    return (
        f"CREATE TEMP TABLE {table} ON COMMIT DROP AS\n{select}",
        f"CREATE INDEX ON {table} ({', '.join(indexed)})",
        f"ANALYZE {table} ({', '.join(measured)})",
    )


def key_order(rows: SourceRows) -> list[str]:
    """The keys to be sorted by: by code point, which is the quickest."""
    dtypes = {field.name: field.dtype for field in rows.view.key_fields}
    return [collated(name, dtypes[key]) for name, key in zip(rows.key_columns, rows.keys)]
