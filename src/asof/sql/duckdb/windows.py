"""The plan for windows where each spine row has its own set of known events, and the values that all plans share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from asof.definitions import Session, Sliding
from asof.sql.duckdb.dialect import DUCKDB, aggregate, cast, floor_to, type_name
from asof.sql.duckdb.hash_partition import WHOLE, HashPartition
from asof.sql.duckdb.sessions import begin, is_open, mark_begin, start
from asof.sql.source_rows import SpineTable
from asof.sql.windows import WindowAggregate, WindowGroup


def over_pairs(windows: WindowGroup, spine: SpineTable) -> str:
    """The same with `known_at=True`: each spine row has its own set of known events, so all pairs are made.

    Slower by the number of events that a window holds.
    """
    return answer_pairs(windows, spine, f"(\n{aggregate_pairs(windows, spine)}\n)")


def aggregate_pairs(windows: WindowGroup, spine: SpineTable, partition: HashPartition = WHOLE) -> str:
    """SELECT of n and the outputs as o0, o1, …, one row per spine row with an event.

    Args:
        windows: over the rows of the partition.
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
{partition.moments(spine_rows(windows, spine), rows)}
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
    return f"""\
SELECT n, {", ".join(outputs)}
FROM (
{pairs}
)
GROUP BY n"""


def answer_pairs(windows: WindowGroup, spine: SpineTable, answers: str) -> str:
    """SELECT of the outputs as o0, o1, …, one row per spine row, in the spine's order.

    Args:
        answers: FROM term of what `aggregate_pairs` selects.
    """
    picked = []
    for index, each in enumerate(windows.wanted):
        value = f"answers.o{index}"
        if each.aggregation.function in ("count", "count_distinct"):
            known = [f"spine.{spine.column(key)} IS NOT NULL" for key in (*windows.read.keys, spine.time)]
            value = f"CASE WHEN {' AND '.join(known)} THEN coalesce({value}, 0) END"
        picked.append(f"{value} AS o{index}")
    return f"""\
SELECT {", ".join(picked)}
FROM {spine.relation} spine
LEFT JOIN {answers} answers ON answers.n = spine.rowid
ORDER BY spine.rowid"""


def _followed(end: str, call: str) -> str:
    return call + end


def framed_value(each: WindowAggregate, wrap: Callable[[str], str]) -> str:
    """The aggregate in the type that the view declares.

    Args:
        wrap: completes each call of an SQL aggregate.
    """
    aggregation = each.aggregation
    value = aggregate(aggregation.function, each.value, each.dtype, wrap=wrap, order="place", n=aggregation.n)
    return declared(each, value)


def declared(each: WindowAggregate, value: str) -> str:
    """A value of the aggregate's own type in the type that the view declares."""
    aggregation = each.aggregation
    if aggregation.dtype is None:
        return value
    own = aggregation.output_dtype(each.dtype)
    return value if own == aggregation.dtype else cast(value, type_name(own), aggregation.dtype, aggregation.name)


def spine_rows(windows: WindowGroup, spine: SpineTable) -> str:
    """SELECT of the spine's keys, times (`t` its own, `ts` the last moment that counts) and numbers."""
    keys = "".join(
        f"{windows.rows.spine_key(spine, index, key)} AS k{index}, " for index, key in enumerate(windows.read.keys)
    )
    shift = windows.read.view.delay + windows.exclusive
    minus = f" - {shift}" if shift else ""
    time = spine.moment(DUCKDB)
    return f"SELECT {keys}{time} AS t, {time}{minus} AS ts, rowid AS n\nFROM {spine.relation}"


def _in_window(window: Sliding | Session | None, moment: str) -> str:
    if window is None:
        return ""
    if isinstance(window, Session):
        return f"ts >= {start(window.gap)} AND {is_open(window.gap, moment)}"
    return f"ts >= {floor_to(f'{moment} - {window.length}', window.hop)}"
