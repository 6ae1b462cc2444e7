"""The plan for windows: rows and marks are sorted once, and every window becomes two positions in that order.

Each spine row puts a mark where each of its windows starts, and one where all of them end. Running totals over the
sorted rows, read at these marks, give counts and integer sums as exact differences; all other aggregates are framed by
a number of rows that is then known. The sorted rows are a table, and what runs over it without ORDER BY runs in its
order.
"""

from __future__ import annotations

from asof.definitions import Session, Sliding
from asof.sql.duckdb.dialect import floor_to
from asof.sql.duckdb.hash_partition import WHOLE, HashPartition, SortedRow, row_size
from asof.sql.duckdb.sessions import begins
from asof.sql.duckdb.windows import declared, framed_value, spine_rows
from asof.sql.source_rows import SpineTable
from asof.sql.windows import WindowAggregate, WindowGroup

EVENT, END = 0, 1
"""Marks that are not the start of a window; starts are -1, -2, …: before the events of their moment, as the end is
after them."""

_RUNNING = "OVER (ROWS UNBOUNDED PRECEDING)"
_BEFORE_ALL = -(2**63)

_NEEDED_OF_SORTED = 2.1
"""Memory that the sorted rows, and what sorts them or runs over them, need against the rows' bytes."""


def size_of(windows: WindowGroup) -> SortedRow:
    """The size of the rows that the plan sorts."""
    ties = windows.rows.ties if windows.needs_order else ()
    dtypes = {each.value: each.dtype for each in windows.wanted}
    values = {name: dtypes[name] for name in _stored(windows)}
    return row_size(windows.rows, ties, values, others=len(("ts", "mark", "n")), needed=_NEEDED_OF_SORTED)


def sort_rows(windows: WindowGroup, spine: SpineTable, partition: HashPartition = WHOLE) -> str:
    """SELECT of events and marks, in their order; `n` is the spine row's number, and null for events.

    Args:
        windows: over the rows of the partition.
    """
    rows = windows.rows
    names = _stored(windows)
    # Ties are sorted only where their order matters.
    ties = rows.ties if windows.needs_order else ()
    order = ", ".join([*rows.key_columns, "ts", "mark", *(f"{tie} NULLS FIRST" for tie in ties)])
    of_event = ", ".join([*rows.key_columns, "ts", f"{EVENT}::SMALLINT AS mark", "NULL AS n", *ties, *names])
    of_mark = "".join(f", NULL AS {name}" for name in (*ties, *names))
    starts = [(f"{_start_of(windows, window)} AS ts", -number) for number, window in enumerate(_frames(windows), 1)]
    marks = "".join(
        f"\nUNION ALL\nSELECT {', '.join([*rows.key_columns, ts, f'{mark} AS mark', 'n'])}{of_mark} FROM moments"
        for ts, mark in [("ts", END), *starts]
    )
    return f"""\
WITH moments AS (
{partition.moments(spine_rows(windows, spine), rows)}
)
SELECT {of_event} FROM (
{rows.select()}
){marks}
ORDER BY {order}"""


def find_positions(windows: WindowGroup, ordered: str) -> str:
    """SELECT of one row per spine row: its keys and time, and the running totals at its marks.

    Args:
        ordered: the table that `sort_rows` made.
    """
    rows = windows.rows
    totals = _totals(windows)
    running = ", ".join(f"{sql} {_RUNNING} AS {name}" for name, sql in totals.items())
    columns = ["n", *(f"any_value({key}) AS {key}" for key in rows.key_columns)]
    columns += [f"max({name}) FILTER (WHERE mark = {END}) AS {name}" for name in ("ts", "place", *totals)]
    for number, window in enumerate(_frames(windows), 1):
        columns += [
            f"max({name}) FILTER (WHERE mark = {-number}) AS {_at_start(name, window)}"
            for name in _totals_at_start(windows, window)
        ]
    names = ", ".join([*rows.key_columns, "ts", "mark", "n", "rowid AS place"])
    return f"""\
SELECT {", ".join(columns)}
FROM (
SELECT {names}{", " if running else ""}{running}
FROM {ordered}
)
WHERE mark <> {EVENT}
GROUP BY n"""


def find_sessions(windows: WindowGroup, ordered: str, positions: str) -> str:
    """SELECT of n, the time of the latest event and, for each gap, the totals before its session began.

    A running total never falls, so its greatest value at a beginning so far is the one at the latest beginning.
    """
    rows = windows.rows
    before = {
        (name, gap): f"max(CASE WHEN begins_{gap} THEN {name} - {own} END) {_RUNNING} AS {_before(name, gap)}"
        for name, own, gap in _session_totals(windows)
    }
    totals = _totals(windows)
    running = {"events": totals["events"], **{name: totals[name] for name, _ in before}}
    inner = [*rows.key_columns, "ts", "mark", *_stored(windows)]
    inner += [f"{sql} {_RUNNING} AS {name}" for name, sql in running.items()]
    marked = ", ".join(f"{begins(gap, rows.key_columns)} AS begins_{gap}" for gap in windows.gaps)
    join = " AND ".join(f"latest.{name} = positions.{name}" for name in ("events", *rows.key_columns))
    columns = [*rows.key_columns, "ts AS happened", "events", *before.values()]
    return f"""\
SELECT n, happened{"".join(f", {_before(*pair)}" for pair in before)}
FROM {positions} positions
JOIN (
SELECT {", ".join(columns)}
FROM (
SELECT *, {marked}
FROM (
SELECT {", ".join(inner)}
FROM {ordered}
)
WHERE mark = {EVENT}
)
) latest ON {join}"""


def answer(windows: WindowGroup, ordered: str, positions: str, sessions: str, *, numbered: bool = False) -> str:
    """SELECT of the outputs as o0, o1, …, one row per spine row, in the spine's order.

    Args:
        numbered: in no order, and with the spine row's number as n.
    """
    calls: dict[str, str] = {}
    outputs = [f"{_output(windows, each, calls)} AS o{index}" for index, each in enumerate(windows.wanted)]
    with_sessions = f" LEFT JOIN {sessions} sessions ON sessions.n = positions.n" if windows.gaps else ""
    found = f"{positions} positions{with_sessions}"
    framed = ""
    if calls:
        framed = f"\nJOIN (\n{_framed(windows, ordered, found, calls)}\n) framed ON framed.n = positions.n"
    if numbered:
        return f"SELECT positions.n AS n, {', '.join(outputs)}\nFROM {found}{framed}"
    return f"""\
SELECT {", ".join(outputs)}
FROM {found}{framed}
ORDER BY positions.n"""


def _framed(windows: WindowGroup, ordered: str, found: str, calls: dict[str, str]) -> str:
    """SELECT of n and the calls: a spine row's frame is as many rows as its window holds, an event's is itself."""
    rows = windows.rows
    frames = _framed_windows(windows)
    used = {each.value for each in windows.wanted if not _is_difference(each)}
    names = [name for name in _stored(windows) if name in used]
    of_event = [
        *rows.key_columns,
        "rowid AS place",
        "NULL AS n",
        *names,
        *(f"0::UINTEGER AS {_reach(each)}" for each in frames),
    ]
    of_spine = [f"positions.{name}" for name in (*rows.key_columns, "place", "n")] + [
        f"NULL AS {name}" for name in names
    ]
    of_spine += [f"{_reach_of(each)} AS {_reach(each)}" for each in frames]
    by_key = f"PARTITION BY {', '.join(rows.key_columns)} " if rows.keys else ""
    clauses = ", ".join(
        f"{_name(each)} AS ({by_key}ORDER BY place ROWS BETWEEN {_reach(each)} PRECEDING AND CURRENT ROW)"
        for each in frames
    )
    return f"""\
SELECT n, {", ".join(f"{call} AS {name}" for call, name in calls.items())}
FROM (
SELECT {", ".join(of_event)} FROM {ordered} WHERE mark = {EVENT}
UNION ALL
SELECT {", ".join(of_spine)} FROM {found}
)
WINDOW {clauses}
QUALIFY n IS NOT NULL"""


def _output(windows: WindowGroup, each: WindowAggregate, calls: dict[str, str]) -> str:
    """The output for a spine row.

    Args:
        calls: the SQL of each framed call → its column; new ones are added.
    """
    window, function = each.aggregation.window, each.aggregation.function
    if not _is_difference(each):
        frame = _name(window)
        value = framed_value(each, lambda call: calls.setdefault(f"{call} OVER {frame}", f"w{len(calls)}"))
    elif function == "count":
        value = declared(each, _difference(_count_of(each), window))
    else:
        total = f"TRY_CAST({_difference(_sum_of(each), window)} AS BIGINT)"
        value = declared(each, f"CASE WHEN {_difference(_count_of(each), window)} > 0 THEN {total} END")
    if isinstance(window, Session):
        counts = function in ("count", "count_distinct")
        open_now = f"positions.{windows.moment} - happened <= {window.gap}"
        value = f"CASE WHEN {open_now} THEN {value}{' ELSE 0' if counts else ''} END"
    # A spine row without a key or a time has null outputs, even for counts.
    known = [f"positions.{name} IS NOT NULL" for name in (*windows.rows.key_columns, "ts")]
    return f"CASE WHEN {' AND '.join(known)} THEN {value} END"


def _is_difference(each: WindowAggregate) -> bool:
    """Whether it is the difference of two running totals: exact for whole numbers, and never done with floats.

    The sum of a session is not: sums may decrease, so the total at the latest beginning is not the greatest one.
    """
    if each.aggregation.function == "count":
        return True
    is_session = isinstance(each.aggregation.window, Session)
    return each.aggregation.function == "sum" and each.dtype.is_integer and not is_session


def _difference(total: str, window: Sliding | Session | None) -> str:
    start = _before(total, window.gap) if isinstance(window, Session) else _at_start(total, window)
    if total.startswith("sum_"):
        # A running sum is null until the first value.
        return f"coalesce({total}, 0) - coalesce({start}, 0)"
    return f"({total} - {start})"


def _totals(windows: WindowGroup) -> dict[str, str]:
    """The running totals that are needed: name → the SQL of the aggregate."""
    totals = {}
    # DuckDB runs `count(*) FILTER` several times as fast as `count(column)`.
    for each in windows.wanted:
        if _is_difference(each):
            totals[_count_of(each)] = f"count(*) FILTER (WHERE {each.value} IS NOT NULL)"
            if each.aggregation.function == "sum":
                totals[_sum_of(each)] = f"sum({each.value}) FILTER (WHERE {each.value} IS NOT NULL)"
    if windows.gaps or "events" in totals:
        totals["events"] = f"count(*) FILTER (WHERE mark = {EVENT})"
    if _framed_windows(windows):
        # The rows that framed calls run over: events and ends.
        totals["rows"] = f"count(*) FILTER (WHERE mark >= {EVENT})"
    return totals


def _totals_at_start(windows: WindowGroup, window: Sliding | None) -> list[str]:
    names = []
    for each in windows.wanted:
        if each.aggregation.window == window:
            if _is_difference(each):
                names += [_count_of(each), *([_sum_of(each)] if each.aggregation.function == "sum" else [])]
            else:
                names.append("rows")
    return list(dict.fromkeys(names))


def _session_totals(windows: WindowGroup) -> list[tuple[str, str, int]]:
    """(total, what the event that begins a session adds to it itself, gap)."""
    found = []
    for each in windows.wanted:
        window = each.aggregation.window
        if isinstance(window, Session):
            name = _count_of(each) if _is_difference(each) else "rows"
            found.append(
                (name, f"({each.value} IS NOT NULL)::INT" if name not in ("events", "rows") else "1", window.gap)
            )
    return list(dict.fromkeys(found))


def _framed_windows(windows: WindowGroup) -> list[Sliding | Session | None]:
    return list(dict.fromkeys(each.aggregation.window for each in windows.wanted if not _is_difference(each)))


def _frames(windows: WindowGroup) -> list[Sliding | None]:
    """The windows that begin at a moment which is known beforehand; sessions' beginnings are found in the rows."""
    found = dict.fromkeys(each.aggregation.window for each in windows.wanted)
    return [window for window in found if not isinstance(window, Session)]


def _start_of(windows: WindowGroup, window: Sliding | None) -> str:
    if window is None:
        return str(_BEFORE_ALL)
    return floor_to(f"{windows.moment} - {window.length}", window.hop)


def _stored(windows: WindowGroup) -> list[str]:
    """The values that are sorted along; events themselves need none to be counted."""
    counted = {each.value for each in windows.wanted if _counts_rows(each)}
    return [name for name in windows.rows.values if name not in counted]


def _counts_rows(each: WindowAggregate) -> bool:
    return each.aggregation.function == "count" and not each.aggregation.column and not each.aggregation.where


def _count_of(each: WindowAggregate) -> str:
    return "events" if _counts_rows(each) else f"count_{each.value}"


def _sum_of(each: WindowAggregate) -> str:
    return f"sum_{each.value}"


def _name(window: Sliding | Session | None) -> str:
    if window is None:
        return "ever"
    return f"session_{window.gap}" if isinstance(window, Session) else f"sliding_{window.length}_{window.hop}"


def _at_start(total: str, window: Sliding | None) -> str:
    return f"{total}_{_name(window)}"


def _before(total: str, gap: int) -> str:
    return f"{total}_{_name(Session.of_micros(gap))}"


def _reach(window: Sliding | Session | None) -> str:
    return f"reach_{_name(window)}"


def _reach_of(window: Sliding | Session | None) -> str:
    """How many rows before its own a spine row's frame begins; the row itself is one of the rows so far.

    Four bytes, as there is one of them for each window in each sorted row.
    """
    start = _before("rows", window.gap) if isinstance(window, Session) else _at_start("rows", window)
    return f"coalesce(rows - {start} - 1, 0)::UINTEGER"
