"""Compiles a selection's views and a spine into the steps of a point-in-time read in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asof.selection import FeatureOut, ViewRead
from asof.sql.duckdb.dialect import literal
from asof.sql.duckdb.latest import find_outdone, find_rows, gather
from asof.sql.duckdb.positions import answer, find_positions, find_sessions, sort_rows
from asof.sql.duckdb.windows import over_pairs
from asof.sql.query import PointInTime, Program, QueryStep, grouped, latest_rows, range_rows
from asof.sql.quoting import quote
from asof.sql.source_rows import SourceTable, SpineTable
from asof.sql.windows import windows_of


def compile_program(
    request: PointInTime, tables: Mapping[str, SourceTable], spine: SpineTable, *, with_spine: bool = True
) -> Program:
    """The steps for one spine.

    Args:
        tables: source name → the source as the engine sees it.
        with_spine: whether the last SELECT begins with the spine's columns.
    """
    steps: list[QueryStep] = []
    columns: dict[str, str] = {}
    parts: list[str] = []
    for index, read in enumerate(each for each in request.reads if not each.view.is_aggregated):
        steps += _latest_steps(request, tables, spine, read, index)
        parts.append(f"asof__latest_{index}")
        columns |= {feature.output: f"{parts[-1]}.o{place}" for place, feature in enumerate(read.features)}
    for index, group in enumerate(grouped(request.reads, tables)):
        parts.append(f"asof__windows_{index}")
        steps += _windows_steps(request, tables, spine, group, index)
        features = [feature for read in group for feature in read.features]
        columns |= {feature.output: f"{parts[-1]}.o{place}" for place, feature in enumerate(features)}
    selected = [f"{spine.relation}.{spine.column(column)}" for column in spine.sql_types] if with_spine else []
    selected += [
        f"{_with_default(feature, columns[feature.output])} AS {quote(feature.output)}" for feature in request.outputs
    ]
    # The spine's table stands first even where its columns are not asked for: it fixes the number of rows.
    final = f"SELECT {', '.join(selected)}\nFROM {spine.relation}" + "".join(
        f"\nPOSITIONAL JOIN {part}" for part in parts
    )
    return Program(tuple(steps), final)


def range_spine(request: PointInTime, tables: Mapping[str, SourceTable]) -> str:
    """SELECT of the spine of a read without an entity frame: every key and event time in the range, once."""
    keys = list(dict.fromkeys(key for read in request.reads for key in read.keys))
    selects = []
    for read in request.reads:
        rows = range_rows(request, tables, read)
        own = {key: f"k{index}" for index, key in enumerate(read.keys)}
        columns = [f"{own.get(key, 'NULL')} AS {quote(key)}" for key in keys]
        bounds = [
            *([f"ts >= {request.start}"] if request.start is not None else []),
            *([f"ts < {request.end}"] if request.end is not None else []),
        ]
        where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
        columns.append(f"make_timestamptz(ts) AS {quote(request.time)}")
        selects.append(f"SELECT DISTINCT {', '.join(columns)} FROM (\n{rows.select()}\n){where}")
    # By place: names may differ by case alone.
    order = ", ".join([str(len(keys) + 1), *(f"{place} NULLS FIRST" for place in range(1, len(keys) + 1))])
    return "\nUNION\n".join(selects) + f"\nORDER BY {order}"


def _latest_steps(
    request: PointInTime, tables: Mapping[str, SourceTable], spine: SpineTable, read: ViewRead, index: int
) -> list[QueryStep]:
    rows = latest_rows(request, tables, read, spine)
    found, made = f"asof__found_{index}", f"asof__latest_{index}"
    features = [rows.feature(feature.name, feature.dtype) for feature in read.features]
    if rows.table.arrival == "columns" and request.known_at is not True:
        outdone = f"asof__outdone_{index}"
        return [
            QueryStep(outdone, find_outdone(rows)),
            QueryStep(found, find_rows(rows, read, spine, as_known=False, outdone=outdone), drop=(outdone,)),
            QueryStep(made, gather(rows, found, features), drop=(found,)),
        ]
    return [
        QueryStep(found, find_rows(rows, read, spine, as_known=request.known_at is True)),
        QueryStep(made, gather(rows, found, features), drop=(found,)),
    ]


def _windows_steps(
    request: PointInTime, tables: Mapping[str, SourceTable], spine: SpineTable, group: Sequence[ViewRead], index: int
) -> list[QueryStep]:
    windows = windows_of(request, tables, spine, group)
    made = f"asof__windows_{index}"
    if request.known_at is True:
        return [QueryStep(made, over_pairs(windows, spine))]
    ordered, positions, sessions = f"asof__ordered_{index}", f"asof__positions_{index}", f"asof__sessions_{index}"
    steps = [QueryStep(ordered, sort_rows(windows, spine)), QueryStep(positions, find_positions(windows, ordered))]
    if windows.gaps:
        steps.append(QueryStep(sessions, find_sessions(windows, ordered, positions)))
    drop = tuple(step.table for step in steps)
    return [*steps, QueryStep(made, answer(windows, ordered, positions, sessions), drop)]


def _with_default(feature: FeatureOut, column: str) -> str:
    if feature.default is None:
        return column
    return f"coalesce({column}, {literal(feature.default, feature.dtype)})"
