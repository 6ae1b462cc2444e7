"""The plan for windows in Postgres: events in their order with running totals, looked up by key and time.

The events that can matter are a table with an index on (key, time, place). Every total since a key's first event, or
since its session began, runs along with them, so that one descent gives it as of any time; counts and integer sums
of sliding windows are exact differences of two. All other aggregates of sliding windows read the window's own events.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from asof.definitions import Session, Sliding
from asof.definitions.windows import ORDERED
from asof.errors import UnsupportedByDialect
from asof.sql.postgres import dialect as postgres
from asof.sql.postgres.casts import cast
from asof.sql.postgres.dialect import floor_to, shifted, span
from asof.sql.postgres.latest import AT, FeatureQuery, S, made_with_index, spine_keys
from asof.sql.postgres.types import type_name
from asof.sql.source_rows import SpineTable
from asof.sql.windows import WindowAggregate, WindowGroup

L = "asof_e"
"""What the lookup of a spine row's latest event is called, with the group's number behind it."""

_RUNNING = "ROWS UNBOUNDED PRECEDING"


@dataclass
class _OutputGroup:
    """What is gathered while the outputs of one group are written.

    Args:
        running: the SQL of a running total → its column in the table of events.
        latest: whether the latest event is looked up.
        before: sliding window → the running totals that are read before its start.
        over: window → the SQL of an aggregate over its events → its column.
    """

    windows: WindowGroup
    spine: SpineTable
    number: int
    known: bool
    running: dict[str, str] = field(default_factory=dict)
    latest: bool = False
    before: dict[Sliding, list[str]] = field(default_factory=dict)
    over: dict[Sliding | Session | None, dict[str, str]] = field(default_factory=dict)

    @property
    def table(self) -> str:
        return f"asof_events_{self.number}"

    @property
    def alias(self) -> str:
        return f"{L}{self.number}"

    @property
    def end(self) -> str:
        """The moment at which the windows end."""
        return shifted(f"{S}.{AT}", -self.windows.read.view.delay)

    def within(self, window: Sliding | Session | None, *, keys_only: bool = False) -> list[str]:
        """What holds for the events of a spine row's window; of a session, where one is open."""
        names, mine = self.windows.rows.key_columns, spine_keys(self.windows.read, self.spine)
        where = [f"{name} = {value}" for name, value in zip(names, mine)]
        if keys_only:
            return where
        where.append(f"ts {'<' if self.windows.exclusive else '<='} {self.end}")
        if self.known:
            where.append(f"known <= {S}.{AT}")
        if isinstance(window, Sliding):
            where.append(f"ts >= {self.start(window)}")
        elif isinstance(window, Session):
            where.append(f"ts >= {self.alias}.start_{window.gap}")
        return where

    def start(self, window: Sliding) -> str:
        return floor_to(shifted(self.end, -window.length), window.hop)

    def is_open(self, window: Session) -> str:
        return f"{self.alias}.ts >= {self.end} - {span(window.gap)}"


def by_events(windows: WindowGroup, spine: SpineTable, *, known: bool, number: int) -> FeatureQuery:
    """One part for all aggregations of a group.

    Args:
        known: each spine row sees only the events that were written down by its own time, so no total can run along.
    """
    group = _OutputGroup(windows, spine, number, known)
    framed = {each.aggregation.window for each in windows.wanted if _reads_events(each, known)}
    outputs = tuple(_output(group, each, framed) for each in windows.wanted)
    keys = windows.rows.key_columns
    steps = made_with_index(group.table, _events(group), [*keys, "ts", "place"], measured=[*keys, "ts"])
    return FeatureQuery("\n".join(_joins(group)), outputs, steps=steps)


def _reads_events(each: WindowAggregate, known: bool) -> bool:
    """Whether an aggregate is made from the events of its window, one by one."""
    made = each.aggregation
    if made.function in ORDERED:
        return False
    if known or made.function == "count_distinct":
        return True
    return isinstance(made.window, Sliding) and not _is_difference(each)


def _is_difference(each: WindowAggregate) -> bool:
    """Whether it may be the difference of two running totals: exact for whole numbers, and never done with floats."""
    return each.aggregation.function == "count" or (each.aggregation.function == "sum" and each.dtype.is_integer)


def _output(group: _OutputGroup, each: WindowAggregate, framed: set[Sliding | Session | None]) -> str:
    made, window = each.aggregation, each.aggregation.window
    if isinstance(window, Session):
        group.latest = True
    if made.function in ORDERED:
        value = _looked_up(group, each)
    elif window in framed and (isinstance(window, Sliding) or _reads_events(each, group.known)):
        calls = group.over.setdefault(window, {})
        alias = f"asof_w{group.number}_{_named(window)}"
        call = postgres.aggregate(
            made.function, each.value, each.dtype,
            wrap=lambda sql: f"{alias}.{calls.setdefault(sql, f'a{len(calls)}')}",
        )  # fmt: skip
        value = postgres.finished(made.function, call, each.dtype)
    elif isinstance(window, Sliding):
        value = _difference(group, each, window)
    else:
        group.latest = True
        over = "asof_ever" if window is None else f"asof_session_{window.gap}"
        call = postgres.aggregate(
            made.function, each.value, each.dtype,
            wrap=lambda sql: f"{group.alias}.{_running(group, f'{sql} OVER {over}')}",
        )  # fmt: skip
        value = postgres.finished(made.function, call, each.dtype)
    if made.dtype is not None:
        own = made.output_dtype(each.dtype)
        if own != made.dtype:
            value = cast(value, type_name(own), made.dtype, made.name)
    counts = made.function in ("count", "count_distinct")
    if isinstance(window, Session):
        value = f"CASE WHEN {group.is_open(window)} THEN {value} END"
    if counts:
        keys = [*spine_keys(group.windows.read, group.spine), f"{S}.{AT}"]
        known = " AND ".join(f"{key} IS NOT NULL" for key in keys)
        value = f"CASE WHEN {known} THEN coalesce({value}, 0) END"
    return value


def _running(group: _OutputGroup, sql: str) -> str:
    return group.running.setdefault(sql, f"total{len(group.running)}")


def _difference(group: _OutputGroup, each: WindowAggregate, window: Sliding) -> str:
    group.latest = True
    before = group.before.setdefault(window, [])

    def total(call: str) -> str:
        name = _running(group, f"{call} OVER asof_ever")
        if name not in before:
            before.append(name)
        return f"(coalesce({group.alias}.{name}, 0) - coalesce(asof_b{group.number}_{_named(window)}.{name}, 0))"

    count = total(f"count({each.value})")
    if each.aggregation.function == "count":
        return count
    value = postgres.finished("sum", total(f"sum({each.value})"), each.dtype)
    return f"CASE WHEN {count} > 0 THEN {value} END"


def _looked_up(group: _OutputGroup, each: WindowAggregate) -> str:
    """The first, the last or the last n of a window's values: found by the index, without reading all."""
    made = each.aggregation
    where = " AND ".join([*group.within(made.window), f"{each.value} IS NOT NULL"])
    direction = "ASC" if made.function == "first" else "DESC"
    found = f"FROM {group.table} WHERE {where} ORDER BY ts {direction}, place {direction} LIMIT {made.n or 1}"
    if made.function != "last_n":
        return f"(SELECT {each.value} {found})"
    if each.dtype.name in ("Array", "Embedding"):
        raise UnsupportedByDialect(
            f"aggregation {made.name!r}: last_n of arrays cannot be computed in Postgres",
            hint="use last, or the DuckDB offline store",
        )
    last = f"SELECT {each.value}, ts, place {found}"
    return f"(SELECT array_agg({each.value} ORDER BY ts, place) FROM ({last}) AS asof_q)"


def _events(group: _OutputGroup) -> str:
    """SELECT of the events in their order, with what runs along."""
    windows = group.windows
    rows, keys = windows.rows, windows.rows.key_columns
    ties = rows.ties if windows.needs_order else ()
    order = ", ".join(["ts", *(f"{tie} NULLS FIRST" for tie in ties)])
    by_key = f"PARTITION BY {', '.join(keys)} " if keys else ""
    in_order = f"WINDOW asof_ever AS ({by_key}ORDER BY {order} {_RUNNING})"
    gaps = windows.gaps if not group.known else []
    begins = [
        f"CASE WHEN ts <= lag(ts) OVER asof_ever + {span(gap)} THEN NULL ELSE row_number() OVER asof_ever END "
        f"AS begin_{gap}"
        for gap in gaps
    ]
    inner = ["*", "row_number() OVER asof_ever AS place", *begins]
    select = f"SELECT {', '.join(inner)}\nFROM (\n{rows.select(known=group.known)}\n) AS asof_q\n{in_order}"
    if gaps:
        starts = [f"max(begin_{gap}) OVER asof_ever AS first_{gap}" for gap in gaps]
        starts += [f"max(CASE WHEN begin_{gap} > 0 THEN ts END) OVER asof_ever AS start_{gap}" for gap in gaps]
        select = f"SELECT *, {', '.join(starts)}\nFROM (\n{select}\n) AS asof_q\n{in_order}"
    kept = [*keys, "ts", "place", *(["known"] if group.known else []), *(f"start_{gap}" for gap in gaps)]
    kept += [value for value in rows.values if value in _values_kept(group)]
    totals = [f"{sql} AS {name}" for sql, name in group.running.items()]
    frames = ", ".join(
        f"asof_session_{gap} AS (PARTITION BY {', '.join([*keys, f'first_{gap}'])} ORDER BY {order} {_RUNNING})"
        for gap in gaps
    )
    more = f", {frames}" if frames else ""
    window = f"\n{in_order}{more}" if totals else ""
    return f"SELECT {', '.join([*kept, *totals])}\nFROM (\n{select}\n) AS asof_q{window}"


def _values_kept(group: _OutputGroup) -> set[str]:
    """The values that are read one by one; of the others only totals are kept."""
    framed = set(group.over)
    return {
        each.value for each in group.windows.wanted
        if each.aggregation.function in ORDERED or each.aggregation.window in framed
    }  # fmt: skip


def _joins(group: _OutputGroup) -> list[str]:
    """The lookups: the latest event, the one before each window, and each window's own events."""
    joins = []
    if group.latest:
        joins.append(_known_session(group) if group.known else _latest_event(group))
    for window, names in group.before.items():
        where = [*group.within(None, keys_only=True), f"ts < {group.start(window)}"]
        joins.append(
            f"LEFT JOIN LATERAL (\nSELECT {', '.join(names)}\nFROM {group.table}\nWHERE {' AND '.join(where)}\n"
            f"ORDER BY ts DESC, place DESC\nLIMIT 1\n) AS asof_b{group.number}_{_named(window)} ON TRUE"
        )
    for over, calls in group.over.items():
        columns = ", ".join(f"{sql} AS {name}" for sql, name in calls.items())
        joins.append(
            f"LEFT JOIN LATERAL (\nSELECT {columns}\nFROM {group.table}\n"
            f"WHERE {' AND '.join(group.within(over)) or 'TRUE'}\n) AS asof_w{group.number}_{_named(over)} ON TRUE"
        )
    return joins


def _latest_event(group: _OutputGroup) -> str:
    names = ["ts", *(f"start_{gap}" for gap in group.windows.gaps), *group.running.values()]
    return (
        f"LEFT JOIN LATERAL (\nSELECT {', '.join(names)}\nFROM {group.table}\n"
        f"WHERE {' AND '.join(group.within(None))}\nORDER BY ts DESC, place DESC\nLIMIT 1\n) AS {group.alias} ON TRUE"
    )


def _known_session(group: _OutputGroup) -> str:
    """The latest known event and where its session begins, among the events that this spine row knows."""
    gaps = group.windows.gaps
    begins = ", ".join(
        f"CASE WHEN ts <= lag(ts) OVER asof_ever + {span(gap)} THEN NULL ELSE ts END AS begin_{gap}" for gap in gaps
    )
    starts = ", ".join(f"max(begin_{gap}) AS start_{gap}" for gap in gaps)
    return (
        f"LEFT JOIN LATERAL (\nSELECT max(ts) AS ts, {starts}\nFROM (\nSELECT ts, {begins}\nFROM {group.table}\n"
        f"WHERE {' AND '.join(group.within(None))}\nWINDOW asof_ever AS (ORDER BY ts, place)\n) AS asof_q\n"
        f") AS {group.alias} ON TRUE"
    )


def _named(window: Sliding | Session | None) -> str:
    if window is None:
        return "ever"
    return f"session_{window.gap}" if isinstance(window, Session) else f"{window.length}_{window.hop}"
