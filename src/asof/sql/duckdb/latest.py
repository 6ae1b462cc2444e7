"""The plan for the latest value: one sort finds the row of each spine row, then its columns are gathered.

Rows and spine are put together and sorted by key, time and ties; the last row number seen at a spine row is its row. So
only narrow columns are sorted, ties are exact, and n spine rows stay n rows. Where the values decide between equal
rows, all but the last are left out before: few rows are equal, and a sort by all the values would take twice as long.
"""

from __future__ import annotations

from collections.abc import Sequence

from asof.selection import ViewRead
from asof.sql.duckdb.dialect import DUCKDB, LAST_OF_ALL
from asof.sql.duckdb.hash_partition import WHOLE, HashPartition, SortedRow, row_size
from asof.sql.source_rows import SourceRows, SpineTable

_NEEDED_OF_SORTED = 0.5
"""Memory that the sorted rows need against their bytes.

DuckDB's window sorts one group of keys after the other and keeps the others on disk: with a quarter of the rows' bytes
it took as much CPU as with all of them, and never more memory than the limit.
"""


def size_of(rows: SourceRows) -> SortedRow:
    """The size of the rows that `find_rows` sorts; `gather` streams the source past the spine's rows."""
    return row_size(rows, rows.ties, {}, others=len(("ts", "source_row", "n")), needed=_NEEDED_OF_SORTED)


def find_outdone(rows: SourceRows) -> str:
    """SELECT of `outdone`, the numbers of rows that another one of the same key and time comes after."""
    same = ", ".join([*([rows.key_names()] if rows.keys else []), "ts"])
    ties = ", ".join(f"{tie} DESC NULLS LAST" for tie in rows.ties)
    return f"""\
SELECT source_row AS outdone
FROM (
  SELECT source_row, row_number() OVER (PARTITION BY {same} ORDER BY {ties}) AS place
  FROM (
{rows.select()}
  )
  SEMI JOIN (
    SELECT {same} FROM (
{rows.select(without=rows.ties)}
    )
    GROUP BY {same} HAVING count(*) > 1
  ) USING ({same})
)
WHERE place > 1"""


def find_rows(
    rows: SourceRows,
    read: ViewRead,
    spine: SpineTable,
    *,
    as_known: bool,
    outdone: str = "",
    partition: HashPartition = WHOLE,
) -> str:
    """SELECT of n (the spine row's number) and `row` (the number of the source's row, or null), one per spine row.

    Args:
        rows: those of the partition.
        as_known: only rows that were written down by the spine row's own time.
        outdone: the table of `find_outdone`, if there is one: without its rows none are equal in key and time.
    """
    view = read.view
    found = "source_row"
    guards = ["ts IS NOT NULL"]
    if view.ttl:
        guards = [f"found_ts >= ts - {view.ttl}"]
    if as_known:
        return _find_known_rows(rows, read, spine, partition)
    if outdone:
        # One moment has one row at most, so it does not matter whether that or the spine's rows of it are sorted first.
        own = blank = ""
        order, frame = "ts", "RANGE"
        kept = rows.select(without=rows.ties)
        chosen = f"SELECT * FROM (\n{kept}\n) ANTI JOIN {outdone} ON outdone = source_row"
    else:
        own = "".join(f"{tie}, " for tie in rows.ties)
        # A spine row has no source row, and its first tie is greater than any: it comes last in its moment.
        blank = "".join([f"{LAST_OF_ALL} AS {rows.ties[0]}, ", *(f"NULL AS {tie}, " for tie in rows.ties[1:])])
        order, frame, chosen = rows.order("ts"), "ROWS", rows.select()
    mine, theirs = _columns(rows), _spine_keys(rows, read, spine)
    moments = f"""\
SELECT {theirs}{spine.moment(DUCKDB)}{_minus(view.delay)} AS ts, {blank}NULL AS source_row, rowid AS n
    FROM {spine.relation}"""
    latest = "last_value(source_row IGNORE NULLS) OVER w AS source_row"
    if view.ttl:
        latest += ", last_value(CASE WHEN n IS NULL THEN ts END IGNORE NULLS) OVER w AS found_ts"
    return f"""\
SELECT n, CASE WHEN {" AND ".join(guards)} THEN {found} END AS source_row
FROM (
  SELECT n, ts, {latest}
  FROM (
    SELECT {mine}ts, {own}source_row, NULL AS n FROM (
{chosen}
    )
    UNION ALL
    {partition.moments(moments, rows)}
  )
  WINDOW w AS ({rows.partition()}ORDER BY {order} {frame} BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WHERE n IS NOT NULL"""


def gather(rows: SourceRows, found: str, features: Sequence[str]) -> str:
    """SELECT of the features as o0, o1, …, one row per spine row, in the spine's order.

    Args:
        found: the table that `find_rows` made.
        features: the SQL of each over the source.
    """
    inner = ", ".join(f"{sql} AS o{index}" for index, sql in enumerate(features))
    outer = ", ".join(f"o{index}" for index in range(len(features)))
    # The rows that were found fulfil it. Archives are sorted by key, so that many row groups are not read again.
    where = " AND ".join(rows.skipping()) if rows.table.is_archive else ""
    source = f"{rows.table.relation} WHERE {where}" if where else rows.table.relation
    return f"""\
SELECT {outer}
FROM {found} found
LEFT JOIN (SELECT asof_row, {inner} FROM {source}) features ON features.asof_row = found.source_row
ORDER BY found.n"""


def _find_known_rows(rows: SourceRows, read: ViewRead, spine: SpineTable, partition: HashPartition) -> str:
    """The same with `known_at=True`: a row counts from the moment when it has both happened and been written down.

    Rows are numbered in their order first; sorted by the moment from which they count, the greatest number so far is
    the last row that a spine row may see.
    """
    view = read.view
    mine, theirs = _columns(rows), _spine_keys(rows, read, spine)
    guard = f"found_ts >= t - {view.delay + view.ttl}" if view.ttl else "t IS NOT NULL"
    moments = f"""\
SELECT {theirs}{spine.moment(DUCKDB)} AS t, NULL AS ts, NULL AS source_row, rowid AS n, NULL AS place
    FROM {spine.relation}"""
    return f"""\
SELECT n, CASE WHEN {guard} THEN source_row END AS source_row
FROM (
  SELECT n, t, arg_max(source_row, place) OVER w AS source_row, arg_max(ts, place) OVER w AS found_ts
  FROM (
    SELECT {mine}greatest(ts{_plus(view.delay)}, known) AS t, ts, source_row, NULL AS n,
      row_number() OVER ({rows.partition()}ORDER BY {rows.order("ts")}) AS place
    FROM (
{rows.select(known=True)}
    )
    UNION ALL
    {partition.moments(moments, rows)}
  )
  WINDOW w AS ({rows.partition()}ORDER BY t, n NULLS FIRST ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WHERE n IS NOT NULL"""


def _columns(rows: SourceRows) -> str:
    return rows.key_names() + ", " if rows.keys else ""


def _spine_keys(rows: SourceRows, read: ViewRead, spine: SpineTable) -> str:
    return "".join(f"{rows.spine_key(spine, index, key)} AS k{index}, " for index, key in enumerate(read.keys))


def _minus(delay: int) -> str:
    return f" - {delay}" if delay else ""


def _plus(delay: int) -> str:
    return f" + {delay}" if delay else ""
