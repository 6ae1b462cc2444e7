"""The plans for the latest value in Spark: rows and spine are put together and sorted by key, time and ties.

    k  ts   side  place            side 0: a row of the source; 1: a row of the spine, after the rows of its moment
    7  10   0     1                place: how many rows of the source there are so far
    7  12   0     2
    7  12   1     2     → its row is number 2 of key 7

Either the last row is carried along, or the spine's rows fetch it by its number: the results are the same, and which is
quick depends on the engine (`Capabilities.carries_last`). A key with very many rows is cut by day: rows are numbered
within a day, and a spine row without one on its own day takes the last of the day before that has any.
"""

from __future__ import annotations

from collections.abc import Sequence

from asof.selection import ViewRead
from asof.sql.quoting import text_spark
from asof.sql.source_rows import SourceRows, SpineTable
from asof.sql.spark.dialect import N, shifted
from asof.sql.spark.types import floor_divide
from asof.timing import DAY

SO_FAR = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"


def latest(
    rows: SourceRows, read: ViewRead, spine: SpineTable, *, as_known: bool, carries_last: bool, by_day: bool
) -> str:
    """SELECT of n and the features as o0, o1, …, one row per spine row, in any order.

    Args:
        rows: with the features as their values o0, o1, ….
        as_known: only rows that were written down by the spine row's own time.
        carries_last: the last row is carried along, and not fetched by its number.
        by_day: no window holds more than a day of a key.
    """
    if as_known:
        return _known(rows, read, spine)
    if by_day:
        return _by_day(rows, read, spine)
    return _carried(rows, read, spine) if carries_last else _fetched(rows, read, spine)


def spine_rows(rows: SourceRows, read: ViewRead, spine: SpineTable, *, columns: Sequence[str] = ()) -> str:
    """SELECT of the spine's keys, `t` (a row's time), `ts` (the last moment that counts for it) and `n`."""
    keys = [f"{rows.spine_key(spine, place, key)} AS k{place}" for place, key in enumerate(read.keys)]
    time = spine.moment(rows.dialect)
    shift = read.view.delay + int(read.view.is_aggregated and read.view.boundary == "exclusive")
    shown = [*keys, f"{time} AS t", f"{shifted(time, -shift)} AS ts", f"{N} AS n", *columns]
    return f"SELECT {', '.join(shown)}\nFROM {spine.relation}"


def same_key(rows: SourceRows, left: str, right: str) -> list[str]:
    """That both relations' rows have one key."""
    return [f"{left}.{name} = {right}.{name}" for name in rows.key_columns]


def _outputs(rows: SourceRows) -> list[str]:
    return list(rows.values)


def _carried(rows: SourceRows, read: ViewRead, spine: SpineTable) -> str:
    outputs, ties = _outputs(rows), rows.ties
    row = [f"{text_spark(name)}, {name}" for name in ("ts", *outputs)]
    order = ", ".join(["ts", "side", *(f"{tie} NULLS FIRST" for tie in ties)])
    blank = [f"NULL AS {name}" for name in (*ties, *outputs)]
    guard = f"found.ts >= ts - {read.view.ttl}" if read.view.ttl else "found.ts IS NOT NULL"
    shown = [f"CASE WHEN {guard} THEN found.{name} END AS {name}" for name in outputs]
    return f"""\
SELECT {", ".join(["n", *shown])}
FROM (
SELECT ts, n, last(CASE WHEN side = 0 THEN named_struct({", ".join(row)}) END) IGNORE NULLS
  OVER ({rows.partition()}ORDER BY {order} {SO_FAR}) AS found
FROM (
SELECT {", ".join([*rows.key_columns, "ts", "0 AS side", "CAST(NULL AS bigint) AS n", *ties, *outputs])} FROM (
{rows.select()}
)
UNION ALL
SELECT {", ".join([*rows.key_columns, "ts", "1 AS side", "n", *blank])} FROM (
{spine_rows(rows, read, spine)}
)
)
)
WHERE n IS NOT NULL"""


def _fetched(rows: SourceRows, read: ViewRead, spine: SpineTable) -> str:
    numbered = numbered_rows(rows, ["ts", *rows.ties], shown=["ts", *_outputs(rows)])
    return _joined(rows, read, counted_spine(rows, read, spine, by="ts"), numbered)


def numbered_rows(rows: SourceRows, order: Sequence[str], *, shown: Sequence[str], by: Sequence[str] = ()) -> str:
    """SELECT of the rows' keys, what is shown, and `place`, which numbers a key's rows in their order.

    Args:
        by: columns by which they are numbered separately, too.
    """
    parts = [*rows.key_columns, *by]
    partition = f"PARTITION BY {', '.join(parts)} " if parts else ""
    in_order = ", ".join(f"{name} NULLS FIRST" for name in order)
    place = f"row_number() OVER ({partition}ORDER BY {in_order}) AS place"
    return f"SELECT {', '.join([*parts, *shown, place])} FROM (\n{rows.select()}\n)"


def counted_spine(rows: SourceRows, read: ViewRead, spine: SpineTable, *, by: str) -> str:
    """SELECT of the spine's keys, ts and n, and `place`: how many rows its key has until then.

    Args:
        by: the column of both by which they are sorted; rows come before the spine's of the same value.
    """
    keys = rows.key_columns
    return f"""\
SELECT {", ".join([*keys, "ts", "n", "place"])}
FROM (
SELECT {", ".join([*keys, "ts", "n"])}, count(CASE WHEN side = 0 THEN 1 END)
  OVER ({rows.partition()}ORDER BY {by}, side {SO_FAR}) AS place
FROM (
SELECT {", ".join([*keys, "ts", "0 AS side", "CAST(NULL AS bigint) AS n"])} FROM (
{rows_without_values(rows)}
)
UNION ALL
SELECT {", ".join([*keys, "ts", "1 AS side", "n"])} FROM (
{spine_rows(rows, read, spine)}
)
)
)
WHERE n IS NOT NULL"""


def rows_without_values(rows: SourceRows) -> str:
    """SELECT of the rows' keys and times alone."""
    return SourceRows(rows.view, rows.table, rows.keys, {}, rows.cut, rows.tie_columns).select(without=rows.ties)


def _joined(rows: SourceRows, read: ViewRead, spine: str, numbered: str, *, by: Sequence[str] = ()) -> str:
    """SELECT of n and the features of the row with a spine row's number."""
    join = [*same_key(rows, "asof_s", "asof_r"), *(f"asof_s.{name} = asof_r.{name}" for name in by)]
    join.append("asof_s.place = asof_r.place")
    found = f"asof_r.ts >= asof_s.ts - {read.view.ttl}" if read.view.ttl else ""
    shown = [f"CASE WHEN {found} THEN asof_r.{o} END AS {o}" if found else f"asof_r.{o} AS {o}" for o in _outputs(rows)]
    return f"""\
SELECT {", ".join(["asof_s.n AS n", *shown])}
FROM (
{spine}
) AS asof_s
LEFT JOIN (
{numbered}
) AS asof_r ON {" AND ".join(join)}"""


def _by_day(rows: SourceRows, read: ViewRead, spine: SpineTable) -> str:
    """Numbers within a day; where a spine row's is 0, the last row of the last day before its own that has rows."""
    keys, day = rows.key_columns, f"{floor_divide('ts', DAY)} AS day"
    by_key_and_day = f"PARTITION BY {', '.join([*keys, 'day'])} "
    rows_of_day = f"SELECT *, {day} FROM (\n{rows_without_values(rows)}\n)"
    spine_of_day = f"SELECT *, {day} FROM (\n{spine_rows(rows, read, spine)}\n)"
    in_order = ", ".join(f"{name} NULLS FIRST" for name in ("ts", *rows.ties))
    numbered = f"""\
SELECT {", ".join([*keys, "day", "ts", *_outputs(rows)])},
  row_number() OVER ({by_key_and_day}ORDER BY {in_order}) AS place
FROM (
SELECT *, {day} FROM (
{rows.select()}
)
)"""
    counted = f"""\
SELECT {", ".join([*keys, "day", "ts", "n"])}, count(CASE WHEN side = 0 THEN 1 END)
  OVER ({by_key_and_day}ORDER BY ts, side {SO_FAR}) AS own
FROM (
SELECT {", ".join([*keys, "day", "ts", "0 AS side", "CAST(NULL AS bigint) AS n"])} FROM (
{rows_of_day}
)
UNION ALL
SELECT {", ".join([*keys, "day", "ts", "1 AS side", "n"])} FROM (
{spine_of_day}
)
)"""
    # One row per key and day: few, so that they are carried in one window.
    days = f"""\
SELECT {", ".join([*keys, "day"])}, max(CASE WHEN rows > 0 THEN struct(day, rows) END)
  OVER ({rows.partition()}ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
FROM (
SELECT {", ".join([*keys, "day"])}, sum(own) AS rows
FROM (
SELECT {", ".join([*keys, "day", "1 AS own"])} FROM (
{rows_of_day}
)
UNION ALL
SELECT {", ".join([*keys, "day", "0 AS own"])} FROM (
{spine_of_day}
)
)
GROUP BY {", ".join([*keys, "day"])}
)"""
    join = " AND ".join([*same_key(rows, "asof_c", "asof_d"), "asof_c.day = asof_d.day"])
    own = [f"asof_c.{name} AS {name}" for name in (*keys, "ts", "n")]
    placed = f"""\
SELECT {", ".join(own)},
  CASE WHEN asof_c.own > 0 THEN asof_c.day ELSE asof_d.before.day END AS day,
  CASE WHEN asof_c.own > 0 THEN asof_c.own ELSE asof_d.before.rows END AS place
FROM (
SELECT * FROM (
{counted}
) WHERE n IS NOT NULL
) AS asof_c
LEFT JOIN (
{days}
) AS asof_d ON {join}"""
    return _joined(rows, read, placed, numbered, by=("day",))


def _known(rows: SourceRows, read: ViewRead, spine: SpineTable) -> str:
    """With `known_at=True`: a row counts from the moment when it has both happened and been written down.

    Rows are numbered in their order first; sorted by the moment from which they count, the greatest number so far is
    the last row that a spine row may see.
    """
    keys = rows.key_columns
    order = ", ".join(f"{name} NULLS FIRST" for name in ("ts", *rows.ties))
    plain = SourceRows(rows.view, rows.table, rows.keys, {}, rows.cut, rows.tie_columns)
    since = f"greatest({shifted('ts', read.view.delay)}, known)"
    placed = f"""\
SELECT {", ".join([*keys, "ts", "n", "place"])}
FROM (
SELECT {", ".join([*keys, "ts", "n"])}, max(row_place) OVER ({rows.partition()}ORDER BY t, side {SO_FAR}) AS place
FROM (
SELECT {", ".join([*keys, "ts", f"{since} AS t", "0 AS side", "CAST(NULL AS bigint) AS n"])},
  row_number() OVER ({rows.partition()}ORDER BY {order}) AS row_place
FROM (
{plain.select(known=True)}
)
UNION ALL
SELECT {", ".join([*keys, "ts", "t", "1 AS side", "n", "NULL AS row_place"])} FROM (
{spine_rows(rows, read, spine)}
)
)
)
WHERE n IS NOT NULL"""
    return _joined(rows, read, placed, numbered_rows(rows, ["ts", *rows.ties], shown=["ts", *_outputs(rows)]))


__all__ = ["SO_FAR", "latest", "numbered_rows", "rows_without_values", "same_key", "spine_rows"]
