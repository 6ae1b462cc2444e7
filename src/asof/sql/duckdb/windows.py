"""What is wanted of windows, and their plan where each spine row has its own set of known events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from asof.definitions import Aggregation, Session, Sliding
from asof.dtypes import DType, Int64
from asof.selection import ViewRead
from asof.sql.duckdb.dialect import aggregate, cast, floor_to, quote, type_name
from asof.sql.duckdb.sessions import begin, is_open, mark_begin, start
from asof.sql.source_rows import Rows, SpineTable
from asof.timing import Micros

NEED_ORDER = ("first", "last", "last_n")


@dataclass(frozen=True)
class Wanted:
    """One aggregation to compute.

    Args:
        value: the alias of its values among the rows' values; null where `where` does not hold.
        dtype: the type of the values.
        output: the name of the answer's column.
    """

    aggregation: Aggregation
    value: str
    dtype: DType
    output: str


@dataclass(frozen=True)
class Windows:
    """What one sort computes: aggregations that share rows, spine keys, delay and boundary."""

    rows: Rows
    read: ViewRead
    wanted: tuple[Wanted, ...]

    @property
    def gaps(self) -> list[Micros]:
        found = {each.aggregation.window.gap for each in self.wanted if isinstance(each.aggregation.window, Session)}
        return sorted(found)

    @property
    def needs_order(self) -> bool:
        return any(each.aggregation.function in NEED_ORDER for each in self.wanted)

    @property
    def exclusive(self) -> int:
        """1 where the events of the moment itself do not count: `< t` is `<= t - 1` in whole microseconds."""
        return int(self.read.view.boundary == "exclusive")

    @property
    def moment(self) -> str:
        """The spine row's time in the windows' terms; `ts` is the last moment that counts."""
        return "ts + 1" if self.exclusive else "ts"

    def longest(self) -> Micros | None:
        """How far before the spine's first moment an event can matter; None is without end."""
        reach = 0
        for each in self.wanted:
            if not isinstance(each.aggregation.window, Sliding):
                return None
            reach = max(reach, each.aggregation.window.length + each.aggregation.window.hop)
        return reach


def value_alias(index: int) -> str:
    return f"v{index}"


def plan_values(rows: Rows, reads: Sequence[tuple[Aggregation, str]]) -> tuple[dict[str, str], list[Wanted]]:
    """The distinct (column, where) pairs as values of the rows, and what is wanted of them.

    Args:
        reads: aggregations with the names of their outputs.
    """
    aliases: dict[tuple[str, str], tuple[str, DType]] = {}
    values: dict[str, str] = {}
    wanted = []
    for each, output in reads:
        pair = (each.column, each.where)
        if pair not in aliases:
            sql, dtype = rows.expression(each.column) if each.column else ("TRUE", Int64)
            if each.where:
                sql = f"CASE WHEN {rows.expression(each.where)[0]} THEN {sql} END"
            alias = value_alias(len(aliases))
            aliases[pair] = (alias, dtype)
            values[alias] = sql
        alias, dtype = aliases[pair]
        wanted.append(Wanted(each, alias, dtype, output))
    return values, wanted


def over_pairs(windows: Windows, spine: SpineTable) -> str:
    """The same with `known_at=True`: each spine row has its own set of known events, so all pairs are made.

    Slower by the number of events that a window holds.
    """
    rows, gaps = windows.rows, windows.gaps
    join = " AND ".join(
        [*(f"spine.k{index} = events.k{index}" for index in range(len(rows.keys))), "events.ts <= spine.ts"]
    )
    reach = windows.longest()
    if reach is not None:
        join += f" AND events.ts >= spine.ts - {reach}"
    pairs = f"""\
SELECT spine.n, spine.ts AS moment, events.*
FROM (
{spine_rows(windows, spine)}
) spine
JOIN (
{rows.select(known=True)}
) events ON {join} AND events.known <= spine.t"""
    marks = []
    if windows.needs_order:
        marks.append("row_number() OVER inorder AS place")
    if gaps:
        marks += [f"{mark_begin(gap, 'inorder')} AS {begin(gap)}" for gap in gaps]
    if marks:
        pairs = f"""\
SELECT *, {", ".join(marks)}
FROM (
{pairs}
)
WINDOW inorder AS (PARTITION BY n ORDER BY {rows.order("ts")})"""
    if gaps:
        starts = ", ".join(f"max(begin_{gap}) OVER every AS {start(gap)}" for gap in gaps)
        pairs = (
            f"SELECT *, {starts}, max(ts) OVER every AS latest\nFROM (\n{pairs}\n)\nWINDOW every AS (PARTITION BY n)"
        )
    moment = "moment + 1" if windows.exclusive else "moment"
    outputs = []
    for index, each in enumerate(windows.wanted):
        condition = _in_window(each.aggregation.window, moment)
        over = f" FILTER (WHERE {condition})" if condition else ""
        outputs.append(f"{framed_value(each, partial(_followed, over))} AS o{index}")
    picked = []
    for index, each in enumerate(windows.wanted):
        value = f"answers.o{index}"
        if each.aggregation.function in ("count", "count_distinct"):
            known = [f"spine.{quote(key)} IS NOT NULL" for key in (*windows.read.keys, spine.time)]
            value = f"CASE WHEN {' AND '.join(known)} THEN coalesce({value}, 0) END"
        picked.append(f"{value} AS {quote(each.output)}")
    return f"""\
SELECT {", ".join(picked)}
FROM {spine.relation} spine
LEFT JOIN (
SELECT n, {", ".join(outputs)}
FROM (
{pairs}
)
GROUP BY n
) answers ON answers.n = spine.rowid
ORDER BY spine.rowid"""


def _followed(end: str, call: str) -> str:
    return call + end


def framed_value(each: Wanted, wrap: Callable[[str], str]) -> str:
    """The aggregate in the type that the view declares.

    Args:
        wrap: completes each call of an SQL aggregate.
    """
    aggregation = each.aggregation
    value = aggregate(aggregation.function, each.value, each.dtype, wrap=wrap, order="place", n=aggregation.n)
    return declared(each, value)


def declared(each: Wanted, value: str) -> str:
    """A value of the aggregate's own type in the type that the view declares."""
    aggregation = each.aggregation
    if aggregation.dtype is None:
        return value
    own = aggregation.output_dtype(each.dtype)
    return value if own == aggregation.dtype else cast(value, type_name(own), aggregation.dtype, aggregation.name)


def spine_rows(windows: Windows, spine: SpineTable) -> str:
    """SELECT of the spine's keys, times (`t` its own, `ts` the last moment that counts) and numbers."""
    keys = "".join(f"{quote(key)} AS k{index}, " for index, key in enumerate(windows.read.keys))
    shift = windows.read.view.delay + windows.exclusive
    minus = f" - {shift}" if shift else ""
    return f"SELECT {keys}{spine.moment()} AS t, {spine.moment()}{minus} AS ts, rowid AS n\nFROM {spine.relation}"


def _in_window(window: Sliding | Session | None, moment: str) -> str:
    if window is None:
        return ""
    if isinstance(window, Session):
        return f"ts >= {start(window.gap)} AND {is_open(window.gap, moment)}"
    return f"ts >= {floor_to(f'{moment} - {window.length}', window.hop)}"
