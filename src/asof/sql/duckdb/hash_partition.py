"""Partitions of a read's keys: one is read after the other, so that memory does not grow with the source.

They are of keys whose hashes are alike; or, where the source's files are sorted by the first key, ranges of it, so that
each partition reads only the row groups of its range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from asof.dtypes import DType
from asof.sql.source_rows import SourceRows, SpineTable

_BITS_IN_USE = 24
"""Low bits of a hash, which DuckDB's own hash tables use: if a partition's were alike, its entries would collide."""

_IN_ROW = 12
"""DuckDB keeps texts of so many bytes in the row's 16, and longer ones elsewhere."""

_FEW_FOR_SOURCE = 20
"""So many source rows for each spine row: looking up all of their keys costs less than sorting those of other keys."""


class Partitioner(Protocol):
    """Says in how many partitions a view's rows are read."""

    def count(self, rows: SourceRows) -> int:
        """Number of rows of the source; 0 where it is not known."""
        ...

    def partitions(self, rows: SourceRows, size: SortedRow) -> int:
        """Number of partitions for a plan that sorts these rows."""
        ...

    def cuts(self, rows: SourceRows, spine: SpineTable, keys: Sequence[str], of: int) -> tuple[str, ...]:
        """Where all ranges of the first key but the first begin, as literals; none for partitions by hash.

        Args:
            keys: the spine's key columns, in the order of the view's.
        """
        ...


class InOneGo:
    """A `Partitioner` for reads that need none."""

    def count(self, rows: SourceRows) -> int:
        return 0

    def partitions(self, rows: SourceRows, size: SortedRow) -> int:
        return 1

    def cuts(self, rows: SourceRows, spine: SpineTable, keys: Sequence[str], of: int) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class SortedRow:
    """Size of the rows that a plan sorts.

    Args:
        bytes: of a row without what `lengths` measure.
        lengths: SQL over the rows of the bytes that texts and lists take elsewhere; null where there is no value.
        needed: memory that the plan needs against the bytes of its rows.
    """

    bytes: int
    lengths: tuple[str, ...]
    needed: float


@dataclass(frozen=True)
class HashPartition:
    """The keys whose hash has one remainder, or whose first is in one range; all keys where `of` is 1.

    Rows and spine are cut alike, so that a key's rows are all in the partition of its spine rows.

        cuts '300', '600':   number 0 | null, … 299      number 1 | 300 … 599      number 2 | 600 …

    Args:
        cuts: see `Partitioner.cuts`.
    """

    number: int = 0
    of: int = 1
    cuts: tuple[str, ...] = ()

    def rows(self, rows: SourceRows) -> SourceRows:
        """The partition's rows; where they are looked up among the spine's keys, only among the partition's.

        The source is cut before anything else: a filter above the lookup would let each partition look up all rows.
        """
        if self.of == 1:
            return rows
        mine = self._is_in([rows.key(key) for key in rows.keys], rows, has_nulls=False)
        table = replace(rows.table, relation=f"(SELECT * FROM {rows.table.relation} WHERE {mine})")
        cut, spine = rows.cut, rows.cut.spine
        if spine is not None:
            theirs = [rows.spine_key(spine, place, key) for place, key in enumerate(cut.spine_keys)]
            relation = f"(SELECT * FROM {spine.relation} WHERE {self._is_in(theirs, rows)})"
            cut = replace(cut, spine=replace(spine, relation=relation))
        return replace(rows, table=table, cut=cut)

    def moments(self, select: str, rows: SourceRows) -> str:
        """SELECT of the partition's rows among those of a SELECT over the spine with the keys k0, k1, …"""
        if self.of == 1:
            return select
        return f"SELECT * FROM (\n{select}\n) WHERE {self._is_in(rows.key_columns, rows)}"

    def _is_in(self, keys: Sequence[str], rows: SourceRows, *, has_nulls: bool = True) -> str:
        """The SQL of whether a key is in the partition.

        Args:
            has_nulls: whether keys may be null; a row with such a key is of no use, but every spine row has a result.
        """
        if self.cuts:
            ends = [f"{keys[0]} >= {self.cuts[self.number - 1]}"] if self.number else []
            ends += [f"{keys[0]} < {self.cuts[self.number]}"] if self.number < len(self.cuts) else []
            within = " AND ".join(ends)
            return f"({within}) IS NOT FALSE" if has_nulls and not self.number else within
        hashed = ", ".join(_hashed(rows, place, sql) for place, sql in enumerate(keys))
        return f"(hash({hashed}) >> {_BITS_IN_USE}) % {self.of} = {self.number}"


WHOLE = HashPartition()
"""All keys."""


def of_spine(rows: SourceRows, spine: SpineTable, keys: Sequence[str], partitioner: Partitioner) -> SourceRows:
    """The rows of the spine's keys alone, where the source has so many more rows that it pays to look all of them up.

    Args:
        keys: the spine's key columns, in the order of the view's.
    """
    if rows.cut.spine is not None or not rows.keys or spine.rows is None:
        return rows
    if spine.rows * _FEW_FOR_SOURCE > partitioner.count(rows):
        return rows
    return replace(rows, cut=replace(rows.cut, spine=spine, spine_keys=tuple(keys)))


def partitions(
    rows: SourceRows, size: SortedRow, partitioner: Partitioner, spine: SpineTable, keys: Sequence[str]
) -> list[HashPartition]:
    """The partitions to read one after the other; a view without keys has one.

    Args:
        keys: the spine's key columns, in the order of the view's.
    """
    of = partitioner.partitions(rows, size) if rows.keys else 1
    cuts = partitioner.cuts(rows, spine, keys, of) if of > 1 else ()
    return [HashPartition(number, of, cuts) for number in range(of)]


def row_size(
    rows: SourceRows, ties: Sequence[str], values: Mapping[str, DType], *, others: int, needed: float
) -> SortedRow:
    """The size of a sorted row with the keys, some ties and values, and so many other columns of 8 bytes."""
    typed: dict[str, DType | None] = {
        **{name: rows.view.key_fields[place].dtype for place, name in enumerate(rows.key_columns)},
        **dict.fromkeys(ties),
        **{f"tie{place}": rows.dtype(name) for place, name in enumerate(rows.tie_columns) if f"tie{place}" in ties},
        **values,
    }
    lengths = {name: _length(name, dtype) for name, dtype in typed.items() if dtype is not None}
    texts = tuple(length for length in lengths.values() if length)
    return SortedRow(8 * (len(typed) + others + len(texts)), texts, needed)


def _length(name: str, dtype: DType) -> str:
    """The SQL of the bytes that a value takes outside of its row; empty where it takes none."""
    if dtype.is_text or dtype.name == "Bytes":
        length = f"octet_length({name}{'::BLOB' if dtype.is_text else ''})"
        return f"CASE WHEN {length} > {_IN_ROW} THEN {length} ELSE 0 END"
    if dtype.inner is not None or dtype.name == "Embedding":
        return f"8 * len({name})"
    return ""


def _hashed(rows: SourceRows, place: int, sql: str) -> str:
    """A key as it is hashed. Integers of different widths compare as equal, but their hashes differ."""
    key = next(field for field in rows.view.key_fields if field.name == rows.keys[place])
    # A spine's integer beyond Int64 is no key of any row, so it does not matter where it goes.
    return f"TRY_CAST({sql} AS BIGINT)" if key.dtype.is_integer else sql


__all__ = ["WHOLE", "HashPartition", "InOneGo", "Partitioner", "SortedRow", "of_spine", "partitions", "row_size"]
