"""Compiles a selection's views and a spine into the steps of a point-in-time read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from asof.definitions import Aggregation, Sliding, Source
from asof.definitions.sources import TOMBSTONE
from asof.expressions import parse
from asof.selection import FeatureOut, ViewRead
from asof.sql.duckdb.dialect import literal, quote
from asof.sql.duckdb.latest import find_outdone, find_rows, gather, tie_columns
from asof.sql.duckdb.positions import answer, find_positions, find_sessions, sort_rows
from asof.sql.duckdb.windows import Windows, over_pairs, plan_values
from asof.sql.source_rows import Cut, Rows, SpineTable, Table
from asof.timing import Micros


class Reads(Protocol):
    """What reads views: of a request, all that says which columns it touches."""

    @property
    def reads(self) -> tuple[ViewRead, ...]: ...


@dataclass(frozen=True)
class PointInTime:
    """A historical read: which views, for which spine.

    Args:
        time: the spine's column of times.
        known_at: True: only rows written down by each spine row's own time; a moment: by then; None: all rows.
        seen: source name → partition → the last archived offset that counts; for audits.
        start, end: without an entity frame: all keys and event times of the views' sources in [start, end).
    """

    reads: tuple[ViewRead, ...]
    time: str = "event_timestamp"
    known_at: bool | Micros | None = None
    seen: Mapping[str, Mapping[int, int]] | None = None
    start: Micros | None = None
    end: Micros | None = None

    @property
    def outputs(self) -> tuple[FeatureOut, ...]:
        """The features in the order of their columns, after the spine's."""
        return tuple(feature for read in self.reads for feature in read.features)


@dataclass(frozen=True)
class Step:
    """A table to make, and tables that are not needed after it."""

    table: str
    select: str
    drop: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        drops = "".join(f";\nDROP TABLE {name}" for name in self.drop)
        return f"CREATE TEMP TABLE {self.table} AS\n{self.select}{drops}"


@dataclass(frozen=True)
class Program:
    """Steps that run one after the other, then one SELECT: the spine's columns (if asked for) and the outputs.

    The tables that it reads have the spine's rows in the spine's order, so they are put side by side: nothing is
    sorted or joined at the end, and rows can be streamed.
    """

    steps: tuple[Step, ...]
    final: str

    @property
    def text(self) -> str:
        """All of it as SQL text."""
        return ";\n\n".join([*(step.text for step in self.steps), self.final])


def compile_program(
    request: PointInTime, tables: Mapping[str, Table], spine: SpineTable, *, with_spine: bool = True
) -> Program:
    """The steps for one spine.

    Args:
        tables: source name → the source as the engine sees it.
        with_spine: whether the last SELECT begins with the spine's columns.
    """
    steps: list[Step] = []
    columns: dict[str, str] = {}
    parts: list[str] = []
    for index, read in enumerate(each for each in request.reads if not each.view.is_aggregated):
        steps += _latest_steps(request, tables, spine, read, index)
        parts.append(f"asof_latest_{index}")
        columns |= {feature.output: f"{parts[-1]}.{quote(feature.output)}" for feature in read.features}
    for index, group in enumerate(grouped(request.reads)):
        parts.append(f"asof_windows_{index}")
        steps += _windows_steps(request, tables, spine, group, index)
        for read in group:
            columns |= {feature.output: f"{parts[-1]}.{quote(feature.output)}" for feature in read.features}
    selected = [f"{spine.relation}.{quote(column)}" for column in spine.sql_types] if with_spine else []
    selected += [
        f"{_with_default(feature, columns[feature.output])} AS {quote(feature.output)}" for feature in request.outputs
    ]
    # The spine's table stands first even where its columns are not asked for: it fixes the number of rows.
    final = f"SELECT {', '.join(selected)}\nFROM {spine.relation}" + "".join(
        f"\nPOSITIONAL JOIN {part}" for part in parts
    )
    return Program(tuple(steps), final)


def range_spine(request: PointInTime, tables: Mapping[str, Table]) -> str:
    """SELECT of the spine of a read without an entity frame: every key and event time in the range, once."""
    keys = list(dict.fromkeys(key for read in request.reads for key in read.keys))
    selects = []
    for read in request.reads:
        seen = (request.seen or {}).get(read.view.source.name)
        rows = rows_of(request, tables, read, Cut(seen=seen, earliest=request.start, latest=request.end), whole=True)
        own = {key: f"k{index}" for index, key in enumerate(read.keys)}
        columns = [f"{own.get(key, 'NULL')} AS {quote(key)}" for key in keys]
        bounds = [
            *([f"ts >= {request.start}"] if request.start is not None else []),
            *([f"ts < {request.end}"] if request.end is not None else []),
        ]
        where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
        columns.append(f"make_timestamptz(ts) AS {quote(request.time)}")
        selects.append(f"SELECT DISTINCT {', '.join(columns)} FROM (\n{rows.select()}\n){where}")
    order = ", ".join([quote(request.time), *(f"{quote(key)} NULLS FIRST" for key in keys)])
    return "\nUNION\n".join(selects) + f"\nORDER BY {order}"


def columns_of(request: Reads, source: str) -> set[str]:
    """The source's columns that the read touches, under their names in the source."""
    needed: set[str] = set()
    for read in request.reads:
        if read.view.source.name != source:
            continue
        view = read.view
        own = {view.source.timestamp_field, *(view.source.raw(key) for key in view.join_keys)}
        own |= {view.source.created_timestamp_column} - {""}
        own |= _of_deletions(view.source)
        own |= {view.source.raw(field.name) for field in view.features} if not view.is_aggregated else set()
        for each in view.aggregations:
            for text in filter(None, (each.column, each.where)):
                own |= {view.source.raw(name) for name in parse(text).columns}
        needed |= own
    return needed


def reach_of(request: PointInTime, source: str) -> Micros | None:
    """How far before a spine row's time a row of the source can matter to any of the reads; None is without end."""
    reach = 0
    for read in request.reads:
        view = read.view
        if view.source.name != source:
            continue
        if not view.is_aggregated:
            if not view.ttl:
                return None
            reach = max(reach, view.ttl + view.delay)
            continue
        asked = {feature.name for feature in read.features}
        for each in view.aggregations:
            if each.name in asked:
                if not isinstance(each.window, Sliding):
                    return None
                reach = max(reach, each.window.length + each.window.hop + view.delay + 1)
    return reach


def _of_deletions(source: Source) -> set[str]:
    """The columns that say whether a row says that its key is no more."""
    own = {TOMBSTONE} if source.has_tombstones else set()
    return own | {source.raw(name) for name in (parse(source.delete_when).columns if source.delete_when else ())}


def _latest_steps(
    request: PointInTime, tables: Mapping[str, Table], spine: SpineTable, read: ViewRead, index: int
) -> list[Step]:
    view = read.view
    reach = view.ttl + view.delay if view.ttl else None
    rows = rows_of(request, tables, read, cut_of(request, read, spine, reach))
    found, made = f"asof_found_{index}", f"asof_latest_{index}"
    features = [(rows.feature(feature.name, feature.dtype), feature.output) for feature in read.features]
    if rows.table.arrival == "columns" and request.known_at is not True:
        outdone = f"asof_outdone_{index}"
        return [
            Step(outdone, find_outdone(rows)),
            Step(found, find_rows(rows, read, spine, as_known=False, outdone=outdone), drop=(outdone,)),
            Step(made, gather(rows, found, features), drop=(found,)),
        ]
    return [
        Step(found, find_rows(rows, read, spine, as_known=request.known_at is True)),
        Step(made, gather(rows, found, features), drop=(found,)),
    ]


def _windows_steps(
    request: PointInTime, tables: Mapping[str, Table], spine: SpineTable, group: Sequence[ViewRead], index: int
) -> list[Step]:
    first = group[0]
    rows = rows_of(request, tables, first, Cut())
    values, wanted = plan_values(rows, wanted_of(group))
    # The rows are cut once it is known how far the windows reach back.
    windows = Windows(rows, first, tuple(wanted))
    reach = windows.longest()
    cut = cut_of(request, first, spine, reach + first.view.delay + 1 if reach is not None else None)
    windows = replace(windows, rows=replace(rows, values=values, cut=cut))
    made = f"asof_windows_{index}"
    if request.known_at is True:
        return [Step(made, over_pairs(windows, spine))]
    ordered, positions, sessions = f"asof_ordered_{index}", f"asof_positions_{index}", f"asof_sessions_{index}"
    steps = [Step(ordered, sort_rows(windows, spine)), Step(positions, find_positions(windows, ordered))]
    if windows.gaps:
        steps.append(Step(sessions, find_sessions(windows, ordered, positions)))
    drop = tuple(step.table for step in steps)
    return [*steps, Step(made, answer(windows, ordered, positions, sessions), drop)]


def wanted_of(group: Sequence[ViewRead]) -> list[tuple[Aggregation, str]]:
    """The aggregations that a group's reads ask for, with the names of their outputs."""
    reads = []
    for read in group:
        by_name = {each.name: each for each in read.view.aggregations}
        reads += [(by_name[feature.name], feature.output) for feature in read.features]
    return reads


def rows_of(
    request: PointInTime, tables: Mapping[str, Table], read: ViewRead, cut: Cut, *, whole: bool = False
) -> Rows:
    """A read's rows.

    Args:
        whole: rows that are equal in key and time are one, so that no order between them is needed.
    """
    view = read.view
    ties = () if view.is_aggregated or whole else tie_columns(view.features)
    if view.is_aggregated and not whole:
        table = tables[view.source.name]
        used = columns_of(request, view.source.name)
        ties = tuple(view.source.renamed(column) for column in table.sql_types if column in used)
    return Rows(view, tables[view.source.name], view.join_keys, cut=cut, tie_columns=ties)


def cut_of(request: PointInTime, read: ViewRead, spine: SpineTable, reach: Micros | None) -> Cut:
    """What can be left out of a read's rows, whatever the plan.

    Args:
        reach: how far before the spine's first moment a row can matter; None is without end.
    """
    known_at = request.known_at if not isinstance(request.known_at, bool) else None
    seen = (request.seen or {}).get(read.view.source.name)
    earliest = spine.first - reach if spine.first is not None and reach is not None else None
    return Cut(
        known_at=known_at, seen=seen, earliest=earliest, latest=spine.last,
        spine=spine if spine.is_small else None, spine_keys=read.keys,
    )  # fmt: skip


def grouped(reads: Sequence[ViewRead]) -> list[list[ViewRead]]:
    """Aggregated views that one sort can serve: the same rows, spine keys, delay and boundary."""
    groups: dict[tuple[object, ...], list[ViewRead]] = {}
    for read in reads:
        if read.view.is_aggregated:
            view = read.view
            groups.setdefault((view.source.name, view.join_keys, read.keys, view.delay, view.boundary), []).append(read)
    return list(groups.values())


def _with_default(feature: FeatureOut, column: str) -> str:
    if feature.default is None:
        return column
    return f"coalesce({column}, {literal(feature.default, feature.dtype)})"
