"""Where to cut a sorted source into ranges of its key, by the bounds that its row groups have in their files."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

Value = TypeVar("Value", int, str)

RowGroup: TypeAlias = tuple[Value, Value, int]
"""Its least and greatest value, and its number of rows."""

_WIDEST = 0.25
"""A row group in whose bounds more than this share of the others' least values are is not sorted."""

_PAYS = 0.7
"""Ranges pay where their scans read less than this share of what as many scans of everything would."""

_MOST_UNEVEN = 1.25
"""The largest partition against the mean; those by hash are even."""


def cuts(groups: Sequence[RowGroup[Value]], of: int) -> list[Value]:
    """Where all ranges but the first begin, of ranges with about as many rows each; none where they would not pay.

    row groups of two sorted files and a flush   a–c  c–f  f–k        a–d  d–h  h–k        a–k
    of = 3                                       cuts: c or d, f or h
    """
    begins = sorted({least for least, _, _ in groups})
    narrow = sorted(
        (least, greatest, rows)
        for least, greatest, rows in groups
        if bisect_right(begins, greatest) - bisect_left(begins, least) <= max(1, _WIDEST * len(begins))
    )
    total, sorted_rows = sum(rows for _, _, rows in groups), sum(rows for _, _, rows in narrow)
    if len(narrow) < 2 * of or 2 * sorted_rows < total:
        return []
    found: list[Value] = []
    before = 0
    for least, _, rows in narrow:
        if before * of >= (len(found) + 1) * sorted_rows and len(found) < of - 1:
            found.append(least)
        before += rows
    if len(set(found)) < of - 1:
        return []
    scanned = sum(
        rows * (bisect_right(found, greatest) - bisect_right(found, least) + 1) for least, greatest, rows in groups
    )
    return found if scanned <= _PAYS * of * total else []


def are_even(counts: Sequence[int]) -> bool:
    """Whether ranges with so many rows each may stand for partitions by hash."""
    return max(counts) * len(counts) <= _MOST_UNEVEN * sum(counts) + len(counts)


__all__ = ["RowGroup", "are_even", "cuts"]
