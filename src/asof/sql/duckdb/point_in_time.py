"""Compiles a selection's views and a spine into the steps of a point-in-time read in DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from asof.selection import FeatureOut, ViewRead
from asof.sql.duckdb import latest, positions
from asof.sql.duckdb.dialect import literal
from asof.sql.duckdb.hash_partition import HashPartition, InOneGo, Partitioner, of_spine, partitions
from asof.sql.duckdb.latest import find_outdone, find_rows, gather
from asof.sql.duckdb.positions import answer, find_positions, find_sessions, sort_rows
from asof.sql.duckdb.windows import aggregate_pairs, answer_pairs, over_pairs
from asof.sql.query import PointInTime, Program, QueryStep, grouped, latest_rows, range_rows
from asof.sql.quoting import quote
from asof.sql.source_rows import SourceTable, SpineTable
from asof.sql.windows import WindowGroup, windows_of


def compile_program(
    request: PointInTime,
    tables: Mapping[str, SourceTable],
    spine: SpineTable,
    *,
    with_spine: bool = True,
    partitioner: Partitioner | None = None,
) -> Program:
    """The steps for one spine.

    Args:
        tables: source name → the source as the engine sees it.
        with_spine: whether the last SELECT begins with the spine's columns.
        partitioner: in how many hash partitions of its keys each view's rows are read; in one by default.
    """
    partitioner = partitioner or InOneGo()
    steps: list[QueryStep] = []
    columns: dict[str, str] = {}
    parts: list[str] = []
    for index, read in enumerate(each for each in request.reads if not each.view.is_aggregated):
        steps += _latest_steps(request, tables, spine, read, index, partitioner)
        parts.append(f"asof__latest_{index}")
        columns |= {feature.output: f"{parts[-1]}.o{place}" for place, feature in enumerate(read.features)}
    for index, group in enumerate(grouped(request.reads, tables)):
        parts.append(f"asof__windows_{index}")
        steps += _windows_steps(request, tables, spine, group, index, partitioner)
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
    request: PointInTime,
    tables: Mapping[str, SourceTable],
    spine: SpineTable,
    read: ViewRead,
    index: int,
    partitioner: Partitioner,
) -> list[QueryStep]:
    rows = latest_rows(request, tables, read, spine)
    found, made, outdone = f"asof__found_{index}", f"asof__latest_{index}", f"asof__outdone_{index}"
    features = [rows.feature(feature.name, feature.dtype) for feature in read.features]
    as_known = request.known_at is True
    steps = []
    sorted_rows = of_spine(rows, spine, read.keys, partitioner)
    for each in partitions(sorted_rows, latest.size_of(sorted_rows), partitioner, spine, read.keys):
        adds, mine = each.number > 0, each.rows(sorted_rows)
        if rows.table.arrival == "columns" and not as_known:
            steps.append(QueryStep(outdone, find_outdone(mine)))
            select = find_rows(mine, read, spine, as_known=False, outdone=outdone, partition=each)
            steps.append(QueryStep(found, select, drop=(outdone,), adds=adds))
        else:
            steps.append(QueryStep(found, find_rows(mine, read, spine, as_known=as_known, partition=each), adds=adds))
    # The columns are fetched once, for all partitions: the source's rows stream past the spine's.
    return [*steps, QueryStep(made, gather(rows, found, features), drop=(found,))]


def _windows_steps(
    request: PointInTime,
    tables: Mapping[str, SourceTable],
    spine: SpineTable,
    group: Sequence[ViewRead],
    index: int,
    partitioner: Partitioner,
) -> list[QueryStep]:
    windows = windows_of(request, tables, spine, group)
    windows = replace(windows, rows=of_spine(windows.rows, spine, group[0].keys, partitioner))
    made, numbered = f"asof__windows_{index}", f"asof__numbered_{index}"
    cut = partitions(windows.rows, positions.size_of(windows), partitioner, spine, group[0].keys)
    if request.known_at is True:
        if len(cut) == 1:
            return [QueryStep(made, over_pairs(windows, spine))]
        steps = [
            QueryStep(numbered, aggregate_pairs(_part(windows, each), spine, each), adds=each.number > 0)
            for each in cut
        ]
        return [*steps, QueryStep(made, answer_pairs(windows, spine, numbered), drop=(numbered,))]
    if len(cut) == 1:
        return _position_steps(windows, spine, index, cut[0], made)
    steps = [step for each in cut for step in _position_steps(windows, spine, index, each, numbered)]
    outputs = ", ".join(f"o{place}" for place in range(len(windows.wanted)))
    return [*steps, QueryStep(made, f"SELECT {outputs}\nFROM {numbered}\nORDER BY n", drop=(numbered,))]


def _part(windows: WindowGroup, partition: HashPartition) -> WindowGroup:
    return replace(windows, rows=partition.rows(windows.rows))


def _position_steps(
    windows: WindowGroup, spine: SpineTable, index: int, partition: HashPartition, made: str
) -> list[QueryStep]:
    """The steps for one partition.

    Args:
        made: the table for the outputs, to which all partitions but the first add theirs.
    """
    ordered, totals, sessions = f"asof__ordered_{index}", f"asof__positions_{index}", f"asof__sessions_{index}"
    windows = _part(windows, partition)
    steps = [
        QueryStep(ordered, sort_rows(windows, spine, partition)),
        QueryStep(totals, find_positions(windows, ordered)),
    ]
    if windows.gaps:
        steps.append(QueryStep(sessions, find_sessions(windows, ordered, totals)))
    drop = tuple(step.table for step in steps)
    select = answer(windows, ordered, totals, sessions, numbered=partition.of > 1)
    return [*steps, QueryStep(made, select, drop, adds=partition.number > 0)]


def _with_default(feature: FeatureOut, column: str) -> str:
    if feature.default is None:
        return column
    return f"coalesce({column}, {literal(feature.default, feature.dtype)})"
