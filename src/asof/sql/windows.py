"""The plan for windows: all aggregations of one source and key in one sort of events and spine rows together.

A spine row's frame begins where its window does, row by row; the frame of an event's own row is its moment alone, so
that next to nothing is computed for the rows that nobody asked for. Spine rows hold nulls, so no aggregate sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asof.definitions import Aggregation, Session, Sliding
from asof.dtypes import DType, Int64
from asof.selection import ViewRead
from asof.sql.dialect import aggregate, cast, floor_to, quote, type_name
from asof.sql.rows import Rows, SpineTable
from asof.sql.sessions import begin, is_open, mark_begin, start
from asof.timing import Micros

NEED_ORDER = ("first", "last", "last_n")
_UNTIL = "ORDER BY ts RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


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


def over_frames(windows: Windows, spine: SpineTable) -> str:
    """SELECT of the outputs, one row per spine row, in the spine's order: by frames over one sort."""
    rows = windows.rows
    counted = _counted_sessions(windows)
    # Session counts are read off running counts; other aggregates of sessions need the session's start as a frame.
    framed_gaps = sorted({_gap(each) for each in windows.wanted if _gap(each) and each not in counted})
    union = _union(windows, spine, counted, framed_gaps)
    if framed_gaps:
        reaches = ", ".join(
            f"CASE WHEN n IS NULL THEN 0 ELSE coalesce(ts - max({begin(gap)}) OVER until, 0) END "
            f"AS {_reach(Session(gap))}"
            for gap in framed_gaps
        )
        union = f"SELECT *, {reaches}\nFROM (\n{union}\n)\nWINDOW until AS ({rows.partition()}{_UNTIL})"
    clauses = [f"until AS ({rows.partition()}{_UNTIL})"]
    for window in _frames(windows):
        if window is not None and (not isinstance(window, Session) or window.gap in framed_gaps):
            frame = f"RANGE BETWEEN {_reach(window)} PRECEDING AND CURRENT ROW"
            clauses.append(f"{_frame_name(window)} AS ({rows.partition()}ORDER BY ts {frame})")
    # Each call is made once, and what is made of it is computed for spine rows alone.
    calls: dict[str, str] = {}
    outputs = [
        f"{_over_frame(windows, each, calls, counted=each in counted)} AS {quote(each.output)}"
        for each in windows.wanted
    ]
    return f"""\
SELECT {", ".join(outputs)}
FROM (
SELECT {_keys(rows)}ts, n, {", ".join(f"{call} AS {name}" for call, name in calls.items())}
FROM (
{union}
)
WINDOW {", ".join(clauses)}
) answers
WHERE answers.n IS NOT NULL
ORDER BY answers.n"""


def _union(windows: Windows, spine: SpineTable, counted: Sequence[Wanted], framed_gaps: Sequence[Micros]) -> str:
    """SELECT of events (n is null) and spine rows (all else is null), with how far each row's frames reach back."""
    rows = windows.rows
    marks = _marks(windows, counted, framed_gaps)
    events = rows.select()
    if marks:
        # Where the order of ties decides nothing, it is not sorted by.
        order = rows.order("ts") if windows.needs_order else "ts"
        marked = ", ".join(f"{sql} AS {name}" for name, sql in marks.items())
        events = f"SELECT *, {marked}\nFROM (\n{events}\n)\nWINDOW inorder AS ({rows.partition()}ORDER BY {order})"
    if counted:
        events = _with_counts_before(counted, events)
    sliding = [each for each in _frames(windows) if isinstance(each, Sliding)]
    own = [*rows.values, *marks, *dict.fromkeys(_before(each) for each in counted)]
    of_event = [f"{_keys(rows)}ts", "NULL AS n", *own, *(f"0 AS {_reach(each)}" for each in sliding)]
    of_spine = [f"{_keys(rows)}ts", "n", *(f"NULL AS {name}" for name in own)]
    of_spine += [f"coalesce({_reach_of(windows, each)}, 0) AS {_reach(each)}" for each in sliding]
    return f"""\
SELECT {", ".join(of_event)} FROM (
{events}
)
UNION ALL
SELECT {", ".join(of_spine)} FROM (
{_spine_rows(windows, spine)}
)"""


def _keys(rows: Rows) -> str:
    return rows.key_names() + ", " if rows.keys else ""


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
{_spine_rows(windows, spine)}
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
        outputs.append(f"{_value(each, lambda call, over=over: call + over)} AS o{index}")
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


def _value(each: Wanted, wrap: Callable[[str], str]) -> str:
    """The aggregate in the type that the view declares."""
    aggregation = each.aggregation
    value = aggregate(aggregation.function, each.value, each.dtype, wrap=wrap, order="place", n=aggregation.n)
    if aggregation.dtype is None:
        return value
    own = aggregation.output_dtype(each.dtype)
    return value if own == aggregation.dtype else cast(value, type_name(own), aggregation.dtype, aggregation.name)


def _over_frame(windows: Windows, each: Wanted, calls: dict[str, str], *, counted: bool) -> str:
    """The answer for a spine row, over columns that hold the calls.

    Args:
        calls: the SQL of each call → its column; new ones are added.
    """
    window = each.aggregation.window

    def over(frame: str) -> Callable[[str], str]:
        return lambda call: calls.setdefault(f"{call} OVER {frame}", f"w{len(calls)}")

    until = over("until")
    if counted:
        value = f"{until(f'max({_so_far(each)})')} - {until(f'max({_before(each)})')}"
    else:
        value = _value(each, over(_frame_name(window)))
    if isinstance(window, Session):
        counts = each.aggregation.function in ("count", "count_distinct")
        open_now = f"{windows.moment} - {until('max(happened)')} <= {window.gap}"
        value = f"CASE WHEN {open_now} THEN {value}{' ELSE 0' if counts else ''} END"
    # A spine row without a key or a time has no answer, not even a count.
    known = [f"k{index} IS NOT NULL" for index in range(len(windows.rows.keys))] + ["ts IS NOT NULL"]
    return f"CASE WHEN {' AND '.join(known)} THEN {value} END"


def _gap(each: Wanted) -> Micros:
    return each.aggregation.window.gap if isinstance(each.aggregation.window, Session) else 0


def _counted_sessions(windows: Windows) -> list[Wanted]:
    return [each for each in windows.wanted if _gap(each) and each.aggregation.function == "count"]


def _marks(windows: Windows, counted: Sequence[Wanted], framed_gaps: Sequence[Micros]) -> dict[str, str]:
    """Columns that need the events in their order: name → SQL."""
    marks = {}
    if windows.needs_order:
        marks["place"] = "row_number() OVER inorder"
    for gap in sorted({*framed_gaps, *map(_gap, counted)}):
        marks[begin(gap)] = mark_begin(gap, "inorder")
    if windows.gaps:
        marks["happened"] = "ts"
    for each in counted:
        marks[_so_far(each)] = f"count({each.value}) OVER (inorder ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    return marks


def _with_counts_before(counted: Sequence[Wanted], events: str) -> str:
    """At each event that begins a session: how many values came before it."""
    columns = {
        _before(
            each
        ): f"CASE WHEN {begin(_gap(each))} IS NOT NULL THEN {_so_far(each)} - ({each.value} IS NOT NULL)::INT END"
        for each in counted
    }
    return f"SELECT *, {', '.join(f'{sql} AS {name}' for name, sql in columns.items())}\nFROM (\n{events}\n)"


def _so_far(each: Wanted) -> str:
    return f"sofar_{each.value}"


def _before(each: Wanted) -> str:
    return f"before_{each.value}_{_gap(each)}"


def _spine_rows(windows: Windows, spine: SpineTable) -> str:
    """SELECT of the spine's keys, times (`t` its own, `ts` the last moment that counts) and numbers."""
    keys = "".join(f"{quote(key)} AS k{index}, " for index, key in enumerate(windows.read.keys))
    shift = windows.read.view.delay + windows.exclusive
    minus = f" - {shift}" if shift else ""
    return f"SELECT {keys}{spine.moment()} AS t, {spine.moment()}{minus} AS ts, rowid AS n\nFROM {spine.relation}"


def _frames(windows: Windows) -> list[Sliding | Session | None]:
    return list(dict.fromkeys(each.aggregation.window for each in windows.wanted))


def _frame_name(window: Sliding | Session | None) -> str:
    if window is None:
        return "until"
    if isinstance(window, Session):
        return f"session_{window.gap}"
    return f"sliding_{window.length}_{window.hop}"


def _reach(window: Sliding | Session) -> str:
    """The column that says how far back a row's frame reaches: 0 for events, whose frames nobody asks for."""
    return f"reach_{_frame_name(window)}"


def _reach_of(windows: Windows, window: Sliding) -> str:
    return f"ts - ({floor_to(f'{windows.moment} - {window.length}', window.hop)})"


def _in_window(window: Sliding | Session | None, moment: str) -> str:
    if window is None:
        return ""
    if isinstance(window, Session):
        return f"ts >= {start(window.gap)} AND {is_open(window.gap, moment)}"
    return f"ts >= {floor_to(f'{moment} - {window.length}', window.hop)}"
