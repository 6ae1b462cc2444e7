"""The plan that makes all pairs of spine rows and the events of their windows: for aggregates without a difference.

An engine joins by equal keys alone, so that a long history would meet every spine row of its key. Where windows have a
length, time is cut into spans of it, and a spine row meets the events of the two spans that its window can touch.
"""

from __future__ import annotations

from collections.abc import Sequence

from asof.definitions import Session, Sliding
from asof.sql.source_rows import SpineTable
from asof.sql.spark.aggregates import aggregate
from asof.sql.spark.dialect import SPARK
from asof.sql.spark.latest import spine_rows
from asof.sql.spark.types import floor_divide, floor_to, type_name
from asof.sql.windows import WindowAggregate, WindowGroup


def aggregate_pairs(windows: WindowGroup, wanted: Sequence[WindowAggregate], spine: SpineTable, *, known: bool) -> str:
    """SELECT of n and the aggregates as p0, p1, …, one row per spine row with an event.

    Args:
        known: each spine row sees only the events that were written down by its own time.
    """
    rows, read = windows.rows, windows.read
    reach = _reach(wanted)
    join = [f"asof_s.{name} = asof_e.{name}" for name in rows.key_columns]
    join += ["asof_s.span = asof_e.span", f"asof_e.ts >= asof_s.ts - {reach}"] if reach is not None else []
    join += ["asof_e.ts <= asof_s.ts", *(["asof_e.known <= asof_s.t"] if known else [])]
    moments, events = spine_rows(rows, read, spine), rows.select(known=known)
    if reach is not None:
        # The span of a window's end, and the one before, which its start is in at the earliest.
        span = floor_divide("ts", reach + 1)
        spans = " UNION ALL ".join(f"SELECT *, {span} - {back} AS span FROM (\n{moments}\n)" for back in (0, 1))
        moments, events = spans, f"SELECT *, {span} AS span FROM (\n{events}\n)"
    values = [name for name in rows.values if name in {each.value for each in wanted}]
    gaps = sorted({each.aggregation.window.gap for each in wanted if isinstance(each.aggregation.window, Session)})
    needs_order = bool(gaps) or any(_is_ordered(each) for each in wanted)
    ties = rows.ties if needs_order else ()
    columns = ["asof_s.n AS n", "asof_s.ts AS moment", "asof_e.ts AS ts"]
    columns += [f"asof_e.{name} AS {name}" for name in (*ties, *values)]
    pairs = f"""\
SELECT {", ".join(columns)}
FROM (
{moments}
) AS asof_s
JOIN (
{events}
) AS asof_e ON {" AND ".join(join)}"""
    if needs_order:
        order = f"PARTITION BY n ORDER BY {rows.order('ts')}"
        marks = [f"row_number() OVER ({order}) AS place"]
        marks += [
            f"CASE WHEN ts - lag(ts) OVER ({order}) <= {gap} THEN NULL ELSE ts END AS begin_{gap}" for gap in gaps
        ]
        pairs = f"SELECT *, {', '.join(marks)}\nFROM (\n{pairs}\n)"
    if gaps:
        starts = ", ".join(f"max(begin_{gap}) OVER (PARTITION BY n) AS start_{gap}" for gap in gaps)
        pairs = f"SELECT *, {starts}, max(ts) OVER (PARTITION BY n) AS latest\nFROM (\n{pairs}\n)"
    moment = "moment + 1" if windows.exclusive else "moment"
    outputs = []
    for number, each in enumerate(wanted):
        condition = _in_window(each.aggregation.window, moment)
        value = f"CASE WHEN {condition} THEN {each.value} END" if condition else each.value
        outputs.append(f"{_value(each, value)} AS p{number}")
    return f"SELECT n, {', '.join(outputs)}\nFROM (\n{pairs}\n)\nGROUP BY n"


def _value(each: WindowAggregate, value: str) -> str:
    made = each.aggregation
    return aggregate(made.function, value, each.dtype, wrap=str, order="place", n=made.n or 0)


def declared(each: WindowAggregate, value: str) -> str:
    """A value of the aggregate's own type in the type that the view declares."""
    made = each.aggregation
    if made.dtype is None:
        return value
    own = made.output_dtype(each.dtype)
    return value if own == made.dtype else SPARK.cast(value, type_name(own), made.dtype, made.name)


def _reach(wanted: Sequence[WindowAggregate]) -> int | None:
    """How far before its end a window begins at the earliest; None is without end."""
    found = 0
    for each in wanted:
        window = each.aggregation.window
        if not isinstance(window, Sliding):
            return None
        # `ts` is one less than the moment where the moment itself does not count.
        found = max(found, window.length + window.hop)
    return found


def _is_ordered(each: WindowAggregate) -> bool:
    return each.aggregation.function in ("first", "last", "last_n")


def _in_window(window: Sliding | Session | None, moment: str) -> str:
    if window is None:
        return ""
    if isinstance(window, Session):
        return f"ts >= start_{window.gap} AND {moment} - latest <= {window.gap}"
    return f"ts >= {floor_to(f'{moment} - {window.length}', window.hop)}"


__all__ = ["aggregate_pairs", "declared"]
