"""Hash partitions of a read's keys: one is read after the other, so that memory does not grow with the source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from asof.sql.source_rows import SourceRows

Partitioner: TypeAlias = Callable[[SourceRows, int], int]
"""Number of partitions for a plan over these rows, given the bytes that it holds per row at its peak."""

_BITS_IN_USE = 24
"""Low bits of a hash, which DuckDB's own hash tables use: if a partition's were alike, its entries would collide."""


@dataclass(frozen=True)
class HashPartition:
    """The keys whose hash has one remainder; all keys where `of` is 1.

    Rows and spine are cut alike, so that a key's rows are all in the partition of its spine rows.
    """

    number: int = 0
    of: int = 1

    def keep(self, select: str, rows: SourceRows) -> str:
        """SELECT of the partition's rows among those of a SELECT with the keys k0, k1, …"""
        if self.of == 1:
            return select
        keys = (_hashed(rows, index) for index in range(len(rows.keys)))
        bucket = f"(hash({', '.join(keys)}) >> {_BITS_IN_USE}) % {self.of}"
        return f"SELECT * FROM (\n{select}\n) WHERE {bucket} = {self.number}"


WHOLE = HashPartition()
"""All keys."""


def partitions(rows: SourceRows, peak_bytes: int, partitioner: Partitioner) -> list[HashPartition]:
    """The partitions to read one after the other; a view without keys has one.

    Args:
        peak_bytes: what the plan holds per row at its peak.
    """
    of = partitioner(rows, peak_bytes) if rows.keys else 1
    return [HashPartition(number, of) for number in range(of)]


def in_one_go(rows: SourceRows, peak_bytes: int) -> int:
    """A `Partitioner` for reads that need none."""
    return 1


def width(rows: SourceRows, columns: int) -> int:
    """Bytes of a sorted row with the keys and so many other columns.

    A text counts as 32 bytes: DuckDB keeps 16 in the row, and the characters of longer ones elsewhere.
    """
    texts = sum(field.dtype.is_text for field in rows.view.key_fields if field.name in rows.keys)
    return 8 * (len(rows.keys) + columns) + 24 * texts


def _hashed(rows: SourceRows, index: int) -> str:
    """A key as it is hashed. Integers of different widths compare as equal, but their hashes differ."""
    name = f"k{index}"
    key = next(field for field in rows.view.key_fields if field.name == rows.keys[index])
    # A spine's integer beyond Int64 is no key of any row, so it does not matter where it goes.
    return f"TRY_CAST({name} AS BIGINT)" if key.dtype.is_integer else name


__all__ = ["WHOLE", "HashPartition", "Partitioner", "in_one_go", "partitions", "width"]
