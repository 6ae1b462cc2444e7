"""In how many partitions a read's rows are read, so that each fits the memory limit."""

from __future__ import annotations

import re
from math import ceil

import duckdb

from asof.sql.source_rows import SourceRows

_SHARE = 0.85
"""Share of the memory limit for the rows of one partition; results and batches take the rest."""

_MOST = 64
"""Each partition scans the source's key columns again; beyond so many, spilling costs less."""

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}


class SizePartitioner:
    """See `asof.sql.duckdb.hash_partition.Partitioner`: as many as it takes for each to fit in memory.

    Args:
        forced: that many, whatever the sizes; 0 for by the sizes.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, *, forced: int = 0) -> None:
        self._cursor, self._forced = cursor, forced
        self._limit = memory_limit(cursor)
        self._counts: dict[str, int] = {}

    def __call__(self, rows: SourceRows, peak_bytes: int) -> int:
        if self._forced:
            return self._forced
        room = self._limit * _SHARE
        count = self._count(rows.table.relation)
        if count * peak_bytes > room and _is_cut(rows):
            # Metadata has the number of all rows; how many the read needs takes a scan of keys and times.
            count = self._count(f"(\n{rows.select(without=rows.ties)}\n)")
        return max(1, min(_MOST, ceil(count * peak_bytes / room)))

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


__all__ = ["SizePartitioner", "memory_limit"]
