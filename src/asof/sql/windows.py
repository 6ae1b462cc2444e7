"""The plan for windows: all aggregations of one source and key in one sort of events and spine rows together.

A spine row's frame begins where its window does, row by row; the frame of an event's own row is its moment alone, so
that next to nothing is computed for the rows that nobody asked for. Spine rows hold nulls, so no aggregate sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.definitions import Aggregation, Session, Sliding
from asof.dtypes import DType, Int64
from asof.selection import ViewRead
from asof.sql.dialect import aggregate, cast, floor_to, quote, type_name
from asof.sql.rows import Rows, SpineTable
from asof.sql.sessions import carry_starts, is_open, mark_begins, start
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
            sql, dtype = rows.expression(each.column) if each.column else ("1", Int64)
            if each.where:
                sql = f"CASE WHEN {rows.expression(each.where)[0]} THEN {sql} END"
            alias = value_alias(len(aliases))
            aliases[pair] = (alias, dtype)
            values[alias] = sql
        alias, dtype = aliases[pair]
        wanted.append(Wanted(each, alias, dtype, output))
    return values, wanted


def over_frames(windows: Windows, spine: SpineTable) -> str:
    """SELECT of the outputs, one row per spine row, in the spine's order: by frames over one sort."""
    rows, view = windows.rows, windows.read.view
    keys = rows.key_names() + ", " if rows.keys else ""
    values = "".join(f", {alias}" for alias in rows.values)
    blanks = "".join(f", NULL AS {alias}" for alias in rows.values)
    gaps = windows.gaps
    events = rows.select()
    extra = ""
    marks = []
    if windows.needs_order:
        marks.append("row_number() OVER inorder AS place")
    if gaps:
        marks.append(mark_begins(gaps, "inorder"))
        marks.append("ts AS happened")
    if marks:
        events = f"""\
SELECT *, {', '.join(marks)}
FROM (
{events}
)
WINDOW inorder AS ({rows.partition()}ORDER BY {rows.order('ts')})"""
        added = (["place"] if windows.needs_order else []) + [f"begin_{gap}" for gap in gaps]
        added += ["happened"] if gaps else []
        extra = "".join(f", {name}" for name in added)
        blanks += "".join(f", NULL AS {name}" for name in added)
    shift = view.delay + windows.exclusive
    union = f"""\
SELECT {keys}ts, NULL AS n{values}{extra} FROM (
{events}
)
UNION ALL
SELECT {''.join(f'{quote(key)} AS k{index}, ' for index, key in enumerate(windows.read.keys))}\
{spine.moment()}{f' - {shift}' if shift else ''} AS ts, rowid AS n{blanks}
FROM {spine.relation}"""
    if gaps:
        union = f"""\
SELECT *, {carry_starts(gaps, 'until')}
FROM (
{union}
)
WINDOW until AS ({rows.partition()}ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"""
    outputs = [f"{_over_frame(windows, each)} AS {quote(each.output)}" for each in windows.wanted]
    frames = {_frame_name(each.aggregation.window): each.aggregation.window for each in windows.wanted}
    clauses = [
        f"{name} AS ({rows.partition()}ORDER BY ts RANGE BETWEEN {_preceding(windows, window)} AND CURRENT ROW)"
        for name, window in frames.items()
    ]
    picked = ", ".join(quote(each.output) for each in windows.wanted)
    return f"""\
SELECT {picked}
FROM (
SELECT n, {', '.join(outputs)}
FROM (
{union}
)
WINDOW {', '.join(clauses)}
)
WHERE n IS NOT NULL
ORDER BY n"""


def over_pairs(windows: Windows, spine: SpineTable) -> str:
    """The same with `known_at=True`: each spine row has its own set of known events, so all pairs are made.

    Slower by the number of events that a window holds.
    """
    rows, view = windows.rows, windows.read.view
    gaps = windows.gaps
    shift = view.delay + windows.exclusive
    join = " AND ".join([*(f"spine.k{index} = events.k{index}" for index in range(len(rows.keys))), "events.ts <= spine.ts"])
    reach = windows.longest()
    if reach is not None:
        join += f" AND events.ts >= spine.ts - {reach}"
    pairs = f"""\
SELECT spine.n, spine.ts AS moment, events.*
FROM (
  SELECT {''.join(f'{quote(key)} AS k{index}, ' for index, key in enumerate(windows.read.keys))}\
{spine.moment()} AS t, t{f' - {shift}' if shift else ''} AS ts, rowid AS n
  FROM {spine.relation}
) spine
JOIN (
{rows.select(known=True)}
) events ON {join} AND events.known <= spine.t"""
    marks = []
    if windows.needs_order:
        marks.append("row_number() OVER inorder AS place")
    if gaps:
        marks.append(mark_begins(gaps, "inorder"))
    if marks:
        pairs = f"""\
SELECT *, {', '.join(marks)}
FROM (
{pairs}
)
WINDOW inorder AS (PARTITION BY n ORDER BY {rows.order('ts')})"""
    if gaps:
        starts = ", ".join(f"max(begin_{gap}) OVER every AS {start(gap)}" for gap in gaps)
        pairs = f"SELECT *, {starts}, max(ts) OVER every AS latest\nFROM (\n{pairs}\n)\nWINDOW every AS (PARTITION BY n)"
    moment = "moment + 1" if windows.exclusive else "moment"
    outputs = []
    for each in windows.wanted:
        condition = _in_window(each.aggregation.window, moment)
        over = f" FILTER (WHERE {condition})" if condition else ""
        outputs.append(f"{_call(each, over)} AS {quote(each.output)}")
    picked = []
    for each in windows.wanted:
        name = quote(each.output)
        if each.aggregation.function in ("count", "count_distinct"):
            known = [f"{quote(key)} IS NOT NULL" for key in (*windows.read.keys, spine.time)]
            name = f"CASE WHEN {' AND '.join(known)} THEN coalesce(answers.{name}, 0) END AS {name}"
        picked.append(name)
    return f"""\
SELECT {', '.join(picked)}
FROM {spine.relation} spine
LEFT JOIN (
SELECT n, {', '.join(outputs)}
FROM (
{pairs}
)
GROUP BY n
) answers ON answers.n = spine.rowid
ORDER BY spine.rowid"""


def _call(each: Wanted, over: str) -> str:
    aggregation = each.aggregation
    value = aggregate(aggregation.function, each.value, each.dtype, order="place", n=aggregation.n, over=over)
    if aggregation.dtype is None:
        return value
    own = aggregation.output_dtype(each.dtype)
    return value if own == aggregation.dtype else cast(value, type_name(own), aggregation.dtype, aggregation.name)


def _over_frame(windows: Windows, each: Wanted) -> str:
    window = each.aggregation.window
    value = _call(each, f" OVER {_frame_name(window)}")
    counts = each.aggregation.function in ("count", "count_distinct")
    if isinstance(window, Session):
        value = f"CASE WHEN {is_open(window.gap, windows.moment)} THEN {value}{' ELSE 0' if counts else ''} END"
    # A spine row without a key or a time has no answer, not even a count.
    known = [f"k{index} IS NOT NULL" for index in range(len(windows.rows.keys))] + ["ts IS NOT NULL"]
    return f"CASE WHEN {' AND '.join(known)} THEN {value} END"


def _frame_name(window: Sliding | Session | None) -> str:
    if window is None:
        return "ever"
    if isinstance(window, Session):
        return f"session_{window.gap}"
    return f"sliding_{window.length}_{window.hop}"


def _preceding(windows: Windows, window: Sliding | Session | None) -> str:
    if window is None:
        return "UNBOUNDED PRECEDING"
    if isinstance(window, Session):
        reach = f"ts - {start(window.gap)}"
    else:
        reach = f"ts - ({floor_to(f'{windows.moment} - {window.length}', window.hop)})"
    return f"coalesce(CASE WHEN n IS NULL THEN 0 ELSE {reach} END, 0) PRECEDING"


def _in_window(window: Sliding | Session | None, moment: str) -> str:
    if window is None:
        return ""
    if isinstance(window, Session):
        return f"ts >= {start(window.gap)} AND {is_open(window.gap, moment)}"
    return f"ts >= {floor_to(f'{moment} - {window.length}', window.hop)}"
