"""Compiles a selection's views and a spine into one SELECT for Postgres, and the tables that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from asof.selection import ViewRead
from asof.sql import postgres, postgres_windows
from asof.sql.dialect import quote
from asof.sql.point_in_time import PointInTime, cut_of, grouped, rows_of, wanted_of
from asof.sql.postgres_latest import AT, N, Part, S, by_events, by_index, by_merge, has_index
from asof.sql.rows import Cut, SpineTable, Table
from asof.sql.windows import Windows, plan_values


@dataclass(frozen=True)
class Statements:
    """Statements that make temporary tables, then one SELECT: each spine row's number, its own columns if they are
    asked for, and the outputs as `f0`, `f1`, … The rows come in the order of the spine's keys, not of its numbers.
    """

    steps: tuple[str, ...]
    final: str

    @property
    def text(self) -> str:
        """All of it as SQL text."""
        return ";\n\n".join([*self.steps, self.final])


def compile_statements(
    request: PointInTime, tables: Mapping[str, Table], spine: SpineTable, *, with_spine: bool = False
) -> Statements:
    """The statements for one spine.

    Args:
        tables: source name → the source as the engine sees it.
        spine: has the columns `asof_n`, `asof_at` and `asof_us` beside those of the frame.
        with_spine: whether the frame's columns are answered, as `s0`, `s1`, …
    """
    as_known = request.known_at is True
    parts: list[Part] = []
    columns: dict[str, str] = {}
    for number, read in enumerate(each for each in request.reads if not each.view.is_aggregated):
        part = _latest(request, tables, spine, read, as_known=as_known, number=number)
        parts.append(part)
        columns |= {feature.output: sql for feature, sql in zip(read.features, part.columns, strict=True)}
    for number, group in enumerate(grouped(request.reads)):
        part = _windows(request, tables, spine, group, as_known=as_known, number=number)
        parts.append(part)
        outputs = [feature.output for read in group for feature in read.features]
        columns |= dict(zip(outputs, part.columns, strict=True))
    selected = [f"{S}.{N}"]
    if with_spine:
        selected += [f"{S}.{quote(name)} AS s{i}" for i, name in enumerate(spine.sql_types)]
    for i, feature in enumerate(request.outputs):
        value = columns[feature.output]
        if feature.default is not None:
            value = f"coalesce({value}, {postgres.literal(feature.default, feature.dtype)})"
        selected.append(f"{postgres.out(value, feature.dtype)} AS f{i}")
    # Neighbours in this order look at the same pages of an index.
    near = dict.fromkeys(key for read in request.reads[:1] for key in read.keys)
    order = ", ".join([*(postgres.sortable(quote(key), spine.sql_types[key]) for key in near), AT])
    tables_sql = [f"{name} AS MATERIALIZED (\n{sql}\n)" for part in parts for name, sql in part.tables]
    head = f"WITH {', '.join(tables_sql)}\n" if tables_sql else ""
    joins = "".join(f"\n{part.joins}" for part in parts if part.joins)
    final = (
        f"{head}SELECT {', '.join(selected)}\n"
        f"FROM (SELECT * FROM {spine.relation} ORDER BY {order}) AS {S}{joins}"
    )
    return Statements(tuple(step for part in parts for step in part.steps), final)


def range_spine(request: PointInTime, tables: Mapping[str, Table]) -> str:
    """SELECT of the spine of a read without an entity frame: every key and event time in the range, once."""
    keys = list(dict.fromkeys(key for read in request.reads for key in read.keys))
    dtypes = {
        key: field.dtype
        for read in request.reads
        for key, field in zip(read.keys, read.view.key_fields, strict=True)
    }
    selects = []
    for read in request.reads:
        seen = (request.seen or {}).get(read.view.source.name)
        cut = Cut(seen=seen, earliest=request.start, latest=request.end)
        rows = rows_of(request, tables, read, cut, whole=True)
        own = {key: f"k{index}" for index, key in enumerate(read.keys)}
        columns = [
            f"{own.get(key) or postgres.literal(None, dtypes[key])} AS {quote(key)}" for key in keys
        ]  # fmt: skip
        bounds = [
            *([f"ts >= {postgres.instant(request.start)}"] if request.start is not None else []),
            *([f"ts < {postgres.instant(request.end)}"] if request.end is not None else []),
        ]
        where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
        columns.append(f"ts AS {quote(request.time)}")
        selects.append(f"SELECT DISTINCT {', '.join(columns)} FROM (\n{rows.select()}\n) AS asof_q{where}")
    order = [quote(request.time), *(f"{postgres.collated(quote(key), dtypes[key])} NULLS FIRST" for key in keys)]
    union = "\nUNION\n".join(selects)
    return f"SELECT * FROM (\n{union}\n) AS asof_q\nORDER BY {', '.join(order)}"


def _latest(
    request: PointInTime, tables: Mapping[str, Table], spine: SpineTable, read: ViewRead, *, as_known: bool, number: int
) -> Part:
    view = read.view
    reach = view.ttl + view.delay if view.ttl else None
    rows = rows_of(request, tables, read, cut_of(request, read, spine, reach))
    if has_index(rows):
        return by_index(rows, read, spine, as_known=as_known, number=number)
    if as_known:
        return by_events(rows, read, spine, number=number)
    return by_merge(rows, read, spine, number=number)


def _windows(
    request: PointInTime,
    tables: Mapping[str, Table],
    spine: SpineTable,
    group: list[ViewRead],
    *,
    as_known: bool,
    number: int,
) -> Part:
    first = group[0]
    rows = rows_of(request, tables, first, Cut())
    values, wanted = plan_values(rows, wanted_of(group))
    # The rows are cut once it is known how far the windows reach back.
    windows = Windows(rows, first, tuple(wanted))
    reach = windows.longest()
    cut = cut_of(request, first, spine, reach + first.view.delay + 1 if reach is not None else None)
    windows = replace(windows, rows=replace(rows, values=values, cut=cut))
    return postgres_windows.by_events(windows, spine, known=as_known, number=number)
