"""The plan for windows in Spark: events and marks are sorted once, and windows are differences of running totals.

    k  ts   mark  events  sum          mark 0: an event; 1: where the windows of a spine row end; -1, -2, …: where one
    7  10   0     1       5            begins, before the events of its moment
    7  12   -1    1       5
    7  12   0     2       9
    7  15   1     2       9       → in the window: 2 - 1 = 1 event, sum 9 - 5 = 4

Counts and exact sums are such differences. Of all other aggregates those over everything so far, and over a session,
run along with the events, and are fetched by the number of the last event (`events`); the first and last values of a
window are fetched by their numbers among the values; and what merges is made of two states (`asof.sql.spark.blocks`).
What is left is made of pairs (`asof.sql.spark.pairs`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from asof.definitions import Session, Sliding
from asof.definitions.windows import ORDERED
from asof.sql.source_rows import SourceRows, SpineTable
from asof.sql.spark.aggregates import aggregate, as_bigint, is_exact_sum, mean_of
from asof.sql.spark.blocks import BlockStates, block_states, fits_blocks
from asof.sql.spark.dialect import normal
from asof.sql.spark.latest import SO_FAR, same_key, spine_rows
from asof.sql.spark.pairs import aggregate_pairs, declared
from asof.sql.spark.types import floor_divide, floor_to
from asof.sql.windows import WindowAggregate, WindowGroup
from asof.timing import DAY

END = 1


@dataclass
class _WindowOutputs:
    """What is gathered while the outputs of one group are written.

    Args:
        by_day: running totals are cut by day.
        totals: running total over events and marks → its SQL over an event's values.
        summed: the values that the totals are of.
        starts: sliding window → the totals that are read where it begins.
        running: the SQL of an aggregate that runs along with the events → its column.
        firsts: value and session, if any → the column that marks the first event of each value.
        fetched: the joins of values that are fetched by their number.
        blocks: the states of sliding windows that are merged, and of which values they are.
        paired: aggregates that are made of pairs.
    """

    windows: WindowGroup
    spine: SpineTable
    by_day: bool
    totals: dict[str, str] = field(default_factory=dict)
    summed: dict[str, None] = field(default_factory=dict)
    starts: dict[Sliding, list[str]] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    firsts: dict[tuple[str, Session | None], str] = field(default_factory=dict)
    fetched: dict[str, str] = field(default_factory=dict)
    blocks: dict[Sliding, tuple[BlockStates, dict[str, None]]] = field(default_factory=dict)
    paired: list[WindowAggregate] = field(default_factory=list)

    @property
    def rows(self) -> SourceRows:
        return self.windows.rows

    @property
    def moment(self) -> str:
        """The spine row's time in the windows' terms."""
        return "asof_m.ts + 1" if self.windows.exclusive else "asof_m.ts"

    def total(self, name: str, sql: str, window: Sliding | None = None) -> str:
        """A running total at a spine row's end, or at the start of a window."""
        self.totals.setdefault(name, sql)
        if window is None:
            return f"asof_m.{name}"
        names = self.starts.setdefault(window, [])
        if name not in names:
            names.append(name)
        return f"asof_m.{name}_{named(window)}"

    def count(self, each: WindowAggregate, window: Sliding | None = None) -> str:
        self.summed[each.value] = None
        return self.total(f"count_{each.value}", f"count({each.value})", window)

    def along(self, sql: str) -> str:
        """What runs along with the events, as of the last one."""
        self.total("events", "count(CASE WHEN mark = 0 THEN 1 END)")
        return f"asof_r.{self.running.setdefault(sql, f'r{len(self.running)}')}"


def windowed(windows: WindowGroup, spine: SpineTable, *, known: bool, by_day: bool) -> str:
    """SELECT of n and the outputs as o0, o1, …, one row per spine row, in any order.

    Args:
        known: each spine row sees only the events that were written down by its own time.
        by_day: running totals are cut by day, so that no window of theirs holds more than a day of a key.
    """
    plan = _WindowOutputs(windows, spine, by_day)
    outputs = []
    for number, each in enumerate(windows.wanted):
        value = _paired(plan, each) if known else _output(plan, each)
        outputs.append(f"{_guarded(plan, each, value)} AS o{number}")
    joins = []
    if plan.running:
        join = [*same_key(plan.rows, "asof_m", "asof_r"), "asof_m.events = asof_r.place"]
        joins.append(f"LEFT JOIN (\n{_events(plan)}\n) AS asof_r ON {' AND '.join(join)}")
    joins += plan.fetched.values()
    joins += [_in_blocks(plan, *each) for each in plan.blocks.values()]
    if plan.paired:
        pairs = aggregate_pairs(windows, plan.paired, spine, known=known)
        joins.append(f"LEFT JOIN (\n{pairs}\n) AS asof_p ON asof_p.n = asof_m.n")
    base = _totals(plan) if plan.totals else spine_rows(plan.rows, windows.read, spine)
    return "\n".join([f"SELECT asof_m.n AS n, {', '.join(outputs)}\nFROM (\n{base}\n) AS asof_m", *joins])


def named(window: Sliding | Session | None) -> str:
    """A window as part of a name."""
    if window is None:
        return "ever"
    return f"session_{window.gap}" if isinstance(window, Session) else f"{window.length}_{window.hop}"


# -- outputs


def _guarded(plan: _WindowOutputs, each: WindowAggregate, value: str) -> str:
    """The output in its declared type: null without a key or a time, and a count of no events is 0."""
    value = declared(each, value)
    if each.aggregation.function not in ("count", "count_distinct"):
        return value
    known = " AND ".join(f"asof_m.{name} IS NOT NULL" for name in (*plan.rows.key_columns, "ts"))
    return f"CASE WHEN {known} THEN coalesce({value}, 0) END"


def _output(plan: _WindowOutputs, each: WindowAggregate) -> str:
    made, window = each.aggregation, each.aggregation.window
    if made.function in ORDERED:
        return _by_number(plan, each)
    if isinstance(window, Session):
        latest = plan.along("ts")
        return f"CASE WHEN {plan.moment} - {latest} <= {window.gap} THEN {_along(plan, each, window)} END"
    if _is_difference(each):
        return _difference(plan, each, window)
    if window is None:
        return _along(plan, each, None)
    return (
        _merged(plan, each, window)
        if made.function != "count_distinct" and fits_blocks(window)
        else _paired(plan, each)
    )


def _is_difference(each: WindowAggregate) -> bool:
    """Whether it is made of differences of running totals: exact for whole numbers, and never done with floats."""
    function = each.aggregation.function
    return function == "count" or (function in ("sum", "mean") and is_exact_sum(each.dtype))


def _difference(plan: _WindowOutputs, each: WindowAggregate, window: Sliding | None) -> str:
    def difference(name: str, sql: str) -> str:
        end = plan.total(name, sql)
        return f"coalesce({end}, 0) - coalesce({plan.total(name, sql, window)}, 0)" if window else f"coalesce({end}, 0)"

    value, function = each.value, each.aggregation.function
    plan.summed[value] = None
    count = f"({difference(f'count_{value}', f'count({value})')})"
    if function == "count":
        return count
    wide = f"decimal(38,{each.dtype.scale if each.dtype.name == 'Decimal' else 0})"
    total = f"({difference(f'sum_{value}', f'sum(CAST({value} AS {wide}))')})"
    if function == "mean":
        return mean_of(total, count)
    total = as_bigint(total) if each.dtype.is_integer else f"CAST({total} AS {wide})"
    return f"CASE WHEN {count} > 0 THEN {total} END"


def _along(plan: _WindowOutputs, each: WindowAggregate, window: Session | None) -> str:
    """An aggregate over all events so far, or over those of a session: it runs along with them."""
    made, parts = each.aggregation, list(plan.rows.key_columns)
    parts += [f"start_{window.gap}"] if window is not None else []
    by = f"PARTITION BY {', '.join(parts)} " if parts else ""
    over = f"OVER ({by}ORDER BY place {SO_FAR})"
    if made.function == "count_distinct":
        # The first of each value counts.
        first = plan.firsts.setdefault((each.value, window), f"first_{len(plan.firsts)}")
        return plan.along(f"count({first}) {over}")
    return aggregate(made.function, each.value, each.dtype, wrap=lambda call: plan.along(f"{call} {over}"))


def _by_number(plan: _WindowOutputs, each: WindowAggregate) -> str:
    """The first, the last or the last n of a window's values: fetched by their numbers among the key's values."""
    made, window, alias = each.aggregation, each.aggregation.window, f"asof_v{len(plan.fetched)}"
    end = plan.count(each)
    start = "0"
    if isinstance(window, Sliding):
        start = plan.count(each, window)
    elif isinstance(window, Session):
        parts = ", ".join([*plan.rows.key_columns, f"start_{window.gap}"])
        start = f"{end} - {plan.along(f'count({each.value}) OVER (PARTITION BY {parts} ORDER BY place {SO_FAR})')}"
    number = f"{start} + 1" if made.function == "first" else end
    join = " AND ".join([*same_key(plan.rows, "asof_m", alias), f"{alias}.number = {number}"])
    plan.fetched[alias] = f"LEFT JOIN (\n{_numbered(plan, each)}\n) AS {alias} ON {join}"
    found = f"{alias}.value"
    if made.function == "last_n":
        # The value is a list of the last n so far; those before the window's start are left out.
        count = f"CAST(least({end} - ({start}), {made.n}) AS int)"
        found = f"slice({alias}.value, -{count}, {count})"
    is_any = f"{end} > {start}"
    if isinstance(window, Session):
        is_any += f" AND {plan.moment} - {plan.along('ts')} <= {window.gap}"
    return f"CASE WHEN {is_any} THEN {found} END"


def _merged(plan: _WindowOutputs, each: WindowAggregate, window: Sliding) -> str:
    """An aggregate of two partial states."""
    made = each.aggregation
    blocks, values = plan.blocks.setdefault(window, (BlockStates(window, f"asof_b{len(plan.blocks)}"), {}))
    values[each.value] = None
    return aggregate(made.function, each.value, each.dtype, wrap=blocks.merged)


def _paired(plan: _WindowOutputs, each: WindowAggregate) -> str:
    plan.paired.append(each)
    return f"asof_p.p{len(plan.paired) - 1}"


# -- relations


def _totals(plan: _WindowOutputs) -> str:
    """SELECT of each spine row's n, keys, ts, and the running totals at its marks."""
    keys = plan.rows.key_columns
    marks = [("ts", END)] + [(_start(plan, window), -number) for number, window in enumerate(plan.starts, 1)]
    values = list(plan.summed)
    columns = [*keys, "ts", "mark", "n"]
    moments = spine_rows(plan.rows, plan.windows.read, plan.spine)
    of_mark = ""
    for ts, mark in marks:
        shown = [*keys, f"{ts} AS ts", f"{mark} AS mark", "n", *(f"NULL AS {name}" for name in values)]
        of_mark += f"\nUNION ALL\nSELECT {', '.join(shown)} FROM (\n{moments}\n)"
    events = ", ".join([*keys, "ts", "0 AS mark", "CAST(NULL AS bigint) AS n", *values])
    union = f"SELECT {events} FROM (\n{plan.rows.select(without=plan.rows.ties)}\n){of_mark}"
    running = _running_by_day(plan, union, columns) if plan.by_day else _running(plan, union, columns)
    shown = ["n", *keys, f"max(CASE WHEN mark = {END} THEN ts END) AS ts"]
    shown += [f"max(CASE WHEN mark = {END} THEN {name} END) AS {name}" for name in plan.totals]
    for number, (window, names) in enumerate(plan.starts.items(), 1):
        shown += [f"max(CASE WHEN mark = {-number} THEN {name} END) AS {name}_{named(window)}" for name in names]
    return f"SELECT {', '.join(shown)}\nFROM (\n{running}\n)\nWHERE mark <> 0\nGROUP BY {', '.join(['n', *keys])}"


def _running(plan: _WindowOutputs, union: str, columns: list[str]) -> str:
    over = f"OVER ({plan.rows.partition()}ORDER BY ts, mark {SO_FAR})"
    totals = [f"{sql} {over} AS {name}" for name, sql in plan.totals.items()]
    return f"SELECT {', '.join([*columns, *totals])}\nFROM (\n{union}\n)"


def _running_by_day(plan: _WindowOutputs, union: str, columns: list[str]) -> str:
    """The totals of the day so far, and of all days before it: the same as those of all so far."""
    keys, names = plan.rows.key_columns, list(plan.totals)
    union = f"SELECT *, {floor_divide('ts', DAY)} AS day FROM (\n{union}\n)"
    by_day = ", ".join([*keys, "day"])
    over = f"OVER (PARTITION BY {by_day} ORDER BY ts, mark {SO_FAR})"
    within = [f"{sql} {over} AS {name}" for name, sql in plan.totals.items()]
    sums = ", ".join(f"{sql} AS {name}" for name, sql in plan.totals.items())
    before = ", ".join(
        f"sum({name}) OVER ({plan.rows.partition()}ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) "
        f"AS {name}" for name in names
    )  # fmt: skip
    join = " AND ".join([*same_key(plan.rows, "asof_c", "asof_d"), "asof_c.day = asof_d.day"])
    shown = [f"asof_c.{name} AS {name}" for name in columns]
    shown += [f"coalesce(asof_c.{name}, 0) + coalesce(asof_d.{name}, 0) AS {name}" for name in names]
    return f"""\
SELECT {", ".join(shown)}
FROM (
SELECT {", ".join([*columns, "day", *within])}
FROM (
{union}
)
) AS asof_c
LEFT JOIN (
SELECT {by_day}, {before}
FROM (
SELECT {by_day}, {sums}
FROM (
{union}
)
GROUP BY {by_day}
)
) AS asof_d ON {join}"""


def _in_blocks(plan: _WindowOutputs, blocks: BlockStates, values: dict[str, None]) -> str:
    """The joins of a window's states."""
    states = block_states(
        blocks, plan.rows.select(without=plan.rows.ties), spine_rows(plan.rows, plan.windows.read, plan.spine),
        keys=plan.rows.key_columns, values=list(values), exclusive=bool(plan.windows.exclusive),
    )  # fmt: skip
    return "\n".join(f"LEFT JOIN (\n{select}\n) AS {alias} ON {alias}.n = asof_m.n" for alias, select in states.items())


def _start(plan: _WindowOutputs, window: Sliding) -> str:
    return floor_to(f"{plan.windows.moment} - {window.length}", window.hop)


def _events(plan: _WindowOutputs) -> str:
    """SELECT of the events' keys, their numbers in their key's order, and what runs along with them."""
    rows, gaps = plan.rows, plan.windows.gaps
    ties = rows.ties if plan.windows.needs_order else ()
    in_order = f"({rows.partition()}ORDER BY {', '.join(['ts', *(f'{tie} NULLS FIRST' for tie in ties)])})"
    marks = [f"row_number() OVER {in_order} AS place"]
    marks += [f"CASE WHEN ts - lag(ts) OVER {in_order} <= {gap} THEN NULL ELSE ts END AS begin_{gap}" for gap in gaps]
    select = f"SELECT *, {', '.join(marks)}\nFROM (\n{rows.select(without=set(rows.ties) - set(ties))}\n)"
    if gaps:
        so_far = f"OVER ({rows.partition()}ORDER BY place {SO_FAR})"
        starts = ", ".join(f"max(begin_{gap}) {so_far} AS start_{gap}" for gap in gaps)
        select = f"SELECT *, {starts}\nFROM (\n{select}\n)"
    if plan.firsts:
        firsts = ", ".join(_first(plan, value, window, name) for (value, window), name in plan.firsts.items())
        select = f"SELECT *, {firsts}\nFROM (\n{select}\n)"
    columns = ", ".join([*rows.key_columns, "place", *(f"{sql} AS {name}" for sql, name in plan.running.items())])
    return f"SELECT {columns}\nFROM (\n{select}\n)"


def _first(plan: _WindowOutputs, value: str, window: Session | None, name: str) -> str:
    """1 where an event's value is the first of its kind in the key, or in the session; else null."""
    dtype = next(each.dtype for each in plan.windows.wanted if each.value == value)
    parts = [*plan.rows.key_columns, *([f"start_{window.gap}"] if window is not None else []), normal(value, dtype)]
    number = f"row_number() OVER (PARTITION BY {', '.join(parts)} ORDER BY place)"
    return f"CASE WHEN {value} IS NOT NULL AND {number} = 1 THEN 1 END AS {name}"


def _numbered(plan: _WindowOutputs, each: WindowAggregate) -> str:
    """SELECT of the keys, a value, or a list of the last n so far, and its number among the key's values."""
    rows, made = plan.rows, each.aggregation
    order = f"{rows.partition()}ORDER BY {rows.order('ts')}"
    value = each.value
    if made.function == "last_n":
        value = f"collect_list({value}) OVER ({order} ROWS BETWEEN {(made.n or 1) - 1} PRECEDING AND CURRENT ROW)"
    columns = [*rows.key_columns, f"row_number() OVER ({order}) AS number", f"{value} AS value"]
    return f"SELECT {', '.join(columns)}\nFROM (\n{rows.select()}\n)\nWHERE {each.value} IS NOT NULL"


__all__ = ["windowed"]
