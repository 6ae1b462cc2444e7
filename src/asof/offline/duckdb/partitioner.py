"""In how many partitions a read's rows are read, and which, so that each fits the memory limit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import ceil

import duckdb

from asof.offline.duckdb.key_ranges import RowGroup, are_even, cuts
from asof.sql.duckdb.hash_partition import SortedRow
from asof.sql.quoting import text
from asof.sql.source_rows import ROW, SourceRows, SpineTable

_SHARE = 0.85
"""Share of the memory limit for the rows of one partition; results and batches take the rest."""

_MOST = 64
"""Each partition scans the source's key columns again; beyond so many, spilling costs less."""

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}


_SAMPLES = 8
"""Number of ranges of a source that are sampled, spread evenly over it."""

_ROWS_OF_SAMPLE = 122_880
"""Of each range: a row group of DuckDB, which reads only those, of files, too, with the row numbers asked for."""

_LONGEST_TEXT = 4096
"""Rows whose texts fit the memory limit at so many bytes each are not sampled for their length."""


_RANGED = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "VARCHAR"}
"""Types of which DuckDB compares a literal with the bounds of row groups."""


class ByMemory:
    """See `asof.sql.duckdb.hash_partition.Partitioner`: as many as it takes for each to fit in memory.

    Args:
        forced: that many, whatever the sizes; 0 for by the sizes.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, *, forced: int = 0) -> None:
        self._cursor, self._forced = cursor, forced
        self._room = memory_limit(cursor) * _SHARE
        self._counts: dict[str, int] = {}

    def count(self, rows: SourceRows) -> int:
        return self._count(rows.table.relation)

    def partitions(self, rows: SourceRows, size: SortedRow) -> int:
        if self._forced:
            return self._forced
        count, width = self.count(rows), float(size.bytes)
        if size.lengths and count * size.needed * (width + _LONGEST_TEXT) > self._room:
            width += self._length(rows, size)
        if count * width * size.needed > self._room and _is_cut(rows):
            # Metadata has the number of all rows only.
            count = self._cut_count(rows)
        return max(1, min(_MOST, ceil(count * width * size.needed / self._room)))

    def cuts(self, rows: SourceRows, spine: SpineTable, keys: Sequence[str], of: int) -> tuple[str, ...]:
        """See `Partitioner.cuts`: ranges where files are sorted by the key, and the rows even."""
        literals = self._literals(rows, of)
        if not literals:
            return ()
        # Those of the files are even; what of them the read needs, and asks for, may be of few ranges.
        theirs = rows.spine_key(spine, 0, keys[0])
        if not self._are_even(theirs, spine.relation, literals):
            return ()
        if _is_cut(rows) and not self._are_even("k0", f"(\n{rows.select(without=rows.ties)}\n)", literals):
            return ()
        return literals

    def _literals(self, rows: SourceRows, of: int) -> tuple[str, ...]:
        """The cuts of the row groups by the first key; none where it is of another type than the column."""
        table, column = rows.table, rows.source.raw(rows.keys[0])
        dtype = table.dtypes.get(column)
        is_integer = dtype is not None and dtype.is_integer
        is_plain = rows.key(rows.keys[0]) == table.column(column) and table.sql_types.get(column) in _RANGED
        if not (table.metadata and is_plain and (is_integer or (dtype is not None and dtype.is_text))):
            return ()
        found = self._cursor.execute(
            f"SELECT stats_min_value, stats_max_value, row_group_num_rows FROM {table.metadata} "
            "WHERE path_in_schema = ?", [column],
        ).fetchall()  # fmt: skip
        if not found or any(least is None or greatest is None for least, greatest, _ in found):
            return ()
        if is_integer:
            return tuple(map(str, cuts([(int(least), int(greatest), count) for least, greatest, count in found], of)))
        groups: list[RowGroup[str]] = [(str(least), str(greatest), int(count)) for least, greatest, count in found]
        return tuple(map(text, cuts(groups, of)))

    def _are_even(self, key: str, relation: str, literals: Sequence[str]) -> bool:
        """Whether the rows of a relation lie evenly in the ranges of a key."""
        below = ", ".join(f"count(*) FILTER ({key} < {each})" for each in literals)
        found = self._cursor.execute(f"SELECT {below}, count({key}) FROM {relation}").fetchone()
        assert found is not None
        return are_even([each - before for before, each in pairwise((0, *map(int, found)))])

    def _cut_count(self, rows: SourceRows) -> int:
        """About how many rows the read needs: by a sample where row numbers are dense, and else by a scan."""
        sample, sampled = self._sample(rows.table.relation)
        if not sampled:
            return self._count(f"(\n{rows.select(without=rows.ties)}\n)")
        cut = replace(rows, table=replace(rows.table, relation=sample))
        kept = self._count(f"(\n{cut.select(without=rows.ties)}\n)")
        return ceil(kept / sampled * self.count(rows))

    def _length(self, rows: SourceRows, size: SortedRow) -> float:
        """The mean bytes of a row's texts and lists."""
        sample, sampled = self._sample(rows.table.relation)
        if not sampled:
            sample = f"(SELECT * FROM {rows.table.relation} LIMIT {_ROWS_OF_SAMPLE})"
        chosen = replace(rows, table=replace(rows.table, relation=sample))
        total = " + ".join(f"coalesce({length}, 0)" for length in size.lengths)
        found = self._cursor.execute(f"SELECT avg({total}) FROM (\n{chosen.select()}\n)").fetchone()
        assert found is not None
        return float(found[0] or 0)

    def _sample(self, relation: str) -> tuple[str, int]:
        """A FROM term of a sample, and how many rows it has; none where the row numbers are not dense."""
        count = self._count(relation)
        starts = [count * (2 * place + 1) // (2 * _SAMPLES) for place in range(_SAMPLES)]
        sample = "\nUNION ALL\n".join(
            f"SELECT * FROM {relation} WHERE {ROW} BETWEEN {start} AND {start + _ROWS_OF_SAMPLE - 1}"
            for start in starts
        )
        sample = f"(\n{sample}\n)"
        expected = len(starts) * _ROWS_OF_SAMPLE
        return (sample, expected) if count > 2 * expected and self._count(sample) == expected else ("", 0)

    def _count(self, relation: str) -> int:
        if relation not in self._counts:
            found = self._cursor.execute(f"SELECT count(*) FROM {relation}").fetchone()
            assert found is not None
            self._counts[relation] = int(found[0])
        return self._counts[relation]


def memory_limit(cursor: duckdb.DuckDBPyConnection) -> int:
    """The connection's memory limit in bytes."""
    found = cursor.execute("SELECT current_setting('memory_limit')").fetchone()
    assert found is not None
    read = re.fullmatch(r"([0-9.]+) (\w+)", found[0])
    assert read is not None, found[0]
    return int(float(read[1]) * _UNITS[read[2]])


def _is_cut(rows: SourceRows) -> bool:
    """Whether many of the source's rows may not matter to the read."""
    cut = rows.cut
    return cut.spine is not None or cut.earliest is not None or cut.seen is not None or cut.known_at is not None


__all__ = ["ByMemory", "memory_limit"]
