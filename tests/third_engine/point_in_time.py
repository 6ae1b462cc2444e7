"""Plans in SQLite: each feature of a spine row is a subquery over the rows of its view."""

from __future__ import annotations

from collections.abc import Mapping

from asof.definitions import Sliding
from asof.errors import UnsupportedByDialect
from asof.selection import ViewRead
from asof.sql.query import PointInTime, Program, QueryStep, grouped, latest_rows, range_rows
from asof.sql.quoting import quote
from asof.sql.source_rows import SourceRows, SourceTable, SpineTable
from asof.sql.windows import WindowAggregate, WindowGroup, windows_of
from tests.third_engine.dialect import THIRD

S = "asof_s"
_AGGREGATES = {
    "count": "count(",
    "count_distinct": "count(DISTINCT ",
    "sum": "sum(",
    "min": "min(",
    "max": "max(",
    "mean": "avg(",
}


def compile_program(request: PointInTime, tables: Mapping[str, SourceTable], spine: SpineTable) -> Program:
    """A table of each view's rows, then one SELECT of the outputs in the spine's order."""
    steps: list[QueryStep] = []
    columns: dict[str, str] = {}
    at = f"{S}.{spine.moment(THIRD)}"
    for number, read in enumerate(each for each in request.reads if not each.view.is_aggregated):
        rows = latest_rows(request, tables, read, spine)
        features = {f"f{i}": rows.feature(each.name, each.dtype) for i, each in enumerate(read.features)}
        rows = SourceRows(rows.view, rows.table, rows.keys, features, rows.cut, rows.tie_columns)
        steps.append(QueryStep(f"asof_latest_{number}", rows.select(known=True)))
        for alias, feature in zip(features, read.features, strict=True):
            columns[feature.output] = _latest(request, rows, read, alias, at, f"asof_latest_{number}")
    for number, group in enumerate(grouped(request.reads, tables)):
        windows = windows_of(request, tables, spine, group)
        steps.append(QueryStep(f"asof_windows_{number}", windows.rows.select(known=True)))
        for each in windows.wanted:
            columns[each.output] = _windowed(request, windows, each, at, f"asof_windows_{number}")
    selected = []
    for feature in request.outputs:
        value = columns[feature.output]
        if feature.default is not None:
            value = f"coalesce({value}, {THIRD.literal(feature.default, feature.dtype)})"
        selected.append(f"{value} AS {quote(feature.output)}")
    return Program(
        tuple(steps), f"SELECT {', '.join(selected) or '0'}\nFROM {spine.relation} AS {S}\nORDER BY {S}.rowid"
    )


def range_spine(request: PointInTime, tables: Mapping[str, SourceTable]) -> str:
    """SELECT of every key and event time in the range, once."""
    keys = list(dict.fromkeys(key for read in request.reads for key in read.keys))
    selects = []
    for read in request.reads:
        own = dict(zip(read.keys, range_rows(request, tables, read).key_columns, strict=True))
        columns = [f"{own.get(key, 'NULL')} AS {quote(key)}" for key in keys]
        bounds = [f"ts >= {request.start}"] if request.start is not None else []
        bounds += [f"ts < {request.end}"] if request.end is not None else []
        selects.append(
            f"SELECT DISTINCT {', '.join([*columns, f'ts AS {quote(request.time)}'])}\n"
            f"FROM ({range_rows(request, tables, read).select()})\nWHERE {' AND '.join(bounds) or 'TRUE'}"
        )
    return "\nUNION\n".join(selects) + f"\nORDER BY {', '.join(map(quote, (request.time, *keys)))}"


def _latest(request: PointInTime, rows: SourceRows, read: ViewRead, column: str, at: str, table: str) -> str:
    view = read.view
    where = [
        *_same_key(rows, read),
        f"ts <= {at} - {view.delay}",
        *([f"known <= {at}"] if request.known_at is True else []),
    ]
    where += [f"ts >= {at} - {view.delay + view.ttl}"] if view.ttl else []
    order = ", ".join(f"{each} DESC" for each in ("ts", *rows.ties))
    return f"(SELECT {column} FROM {table} WHERE {' AND '.join(where)} ORDER BY {order} LIMIT 1)"


def _windowed(request: PointInTime, windows: WindowGroup, each: WindowAggregate, at: str, table: str) -> str:
    made, read, rows = each.aggregation, windows.read, windows.rows
    end = f"{at} - {read.view.delay}"
    where = [*_same_key(rows, read), f"ts {'<' if windows.exclusive else '<='} {end}", f"{each.value} IS NOT NULL"]
    where += [f"known <= {at}"] if request.known_at is True else []
    if isinstance(made.window, Sliding):
        start, hop = f"({end} - {made.window.length})", made.window.hop
        where.append(f"ts >= {start} - ({start} % {hop} + {hop}) % {hop}")
    elif made.window is not None:
        raise UnsupportedByDialect(
            f"aggregation {made.name!r}: no sessions in SQLite", hint="use another offline store"
        )
    found = f"FROM {table} WHERE {' AND '.join(where)}"
    if made.function in ("first", "last"):
        way = "DESC" if made.function == "last" else "ASC"
        return (
            f"(SELECT {each.value} {found} ORDER BY {', '.join(f'{tie} {way}' for tie in ('ts', *rows.ties))} LIMIT 1)"
        )
    if made.function not in _AGGREGATES or (made.function == "sum" and each.dtype.name == "Decimal"):
        raise UnsupportedByDialect(
            f"aggregation {made.name!r}: no {made.function} of {each.dtype} in SQLite", hint="use another"
        )
    value = f"(SELECT {_AGGREGATES[made.function]}{each.value}) {found})"
    if not made.function.startswith("count"):
        return value
    known = " AND ".join(f"{key} IS NOT NULL" for key in (at, *(f"{S}.{quote(key)}" for key in read.keys)))
    return f"CASE WHEN {known} THEN {value} END"


def _same_key(rows: SourceRows, read: ViewRead) -> list[str]:
    return [f"{name} = {S}.{quote(key)}" for name, key in zip(rows.key_columns, read.keys, strict=True)]
