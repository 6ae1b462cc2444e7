"""Leaves out the files of an archive that cannot have a row that is asked for, by the bounds that its log knows.

Engines skip row groups by themselves, for which they open every file. What is left out here is not opened.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa

from asof.definitions import Source
from asof.sources.protocol import Files, Input, ScanRequest
from asof.timing import UNITS, Micros

Bounds: TypeAlias = tuple[int | str | None, int | str | None]
"""The least and the greatest value; None where it is not known, or there is none. Times are microseconds."""

ROUNDED_US = 1000
"""Some writers of Delta tables round the times in a log to milliseconds."""

_LONG_TEXT = 32
"""Some writers cut the texts in a log after so many characters: a greatest one of this length is none."""


Rows = TypeVar("Rows", bound=Input | pa.Table | None)


def rows_needed(rows: Rows, source: Source, need: ScanRequest) -> Rows:
    """The rows without files that can have none with the keys and event times that are needed."""
    ranges: dict[str, Bounds] = {}
    if need.start is not None or need.end is not None:
        ranges[source.timestamp_field] = _raw_times(source, need.start, need.end)
    return rows_within(rows, ranges, need.keys)


def rows_within(
    rows: Rows, ranges: Mapping[str, Bounds] | None = None, keys: Mapping[str, pa.Array] | None = None
) -> Rows:
    """The rows without files that can have none with values in these ranges and among these values.

    Rows that are in no files, or whose bounds are not known, are returned as they are. One file is always left.

    Args:
        ranges: column → bounds, both inclusive.
        keys: column → values; of other types than integers and texts they leave nothing out.
    """
    if not isinstance(rows, Files) or rows.bounds is None or len(rows.paths) < 2:
        return rows
    kept = set(range(len(rows.paths)))
    for column, wanted in (ranges or {}).items():
        kept &= {index for index, each in _bounds_of(rows.bounds, column) if _overlap(each, wanted)}
    for column, values in (keys or {}).items():
        ascending = _sorted(values)
        if ascending is not None:
            kept &= {index for index, each in _bounds_of(rows.bounds, column) if _has_one_of(each, ascending)}
    if len(kept) == len(rows.paths):
        return rows
    # Without any file there are no columns, either.
    chosen = sorted(kept) or [0]
    return replace(
        rows, paths=tuple(rows.paths[index] for index in chosen), bounds=rows.bounds.take(pa.array(chosen)),
        partitions=None if rows.partitions is None else rows.partitions.take(pa.array(chosen)),
    )  # fmt: skip


def _bounds_of(table: pa.Table, column: str) -> Iterator[tuple[int, Bounds]]:
    """Each file's number and its bounds of a column; not known where it has none, or they are of another type."""
    ends: list[Sequence[Any]] = []
    for name in (f"min.{column}", f"max.{column}"):
        values = table[name] if name in table.column_names else pa.nulls(table.num_rows)
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.timestamp("us", values.type.tz)).cast(pa.int64())
        is_usable = pa.types.is_integer(values.type) or pa.types.is_string(values.type)
        ends.append(values.to_pylist() if is_usable else [None] * table.num_rows)
    for index, (least, greatest) in enumerate(zip(*ends, strict=True)):
        is_cut = isinstance(greatest, str) and len(greatest) >= _LONG_TEXT
        yield index, (least, None if is_cut else greatest)


def _overlap(bounds: Bounds, wanted: Bounds) -> bool:
    return not (_is_before(bounds[1], wanted[0]) or _is_before(wanted[1], bounds[0]))


def _is_before(value: Any, other: Any) -> bool:
    return value is not None and other is not None and type(value) is type(other) and value < other


def _has_one_of(bounds: Bounds, values: Sequence[Any]) -> bool:
    """Whether one of the values, which ascend, is within the bounds."""
    least, greatest = bounds
    if not values or any(each is not None and type(each) is not type(values[0]) for each in bounds):
        return True
    first = 0 if least is None else bisect_left(values, least)
    return first < len(values) and not _is_before(greatest, values[first])


def _sorted(values: pa.Array | pa.ChunkedArray) -> list[Any] | None:
    """The values, ascending; None for other types than integers and texts."""
    is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
    if not (pa.types.is_integer(values.type) or is_text):
        return None
    return sorted(values.drop_null().to_pylist())


def _raw_times(source: Source, start: Micros | None, end: Micros | None) -> Bounds:
    """Event times as the source's column has them, a little more on both sides."""
    multiplier, divisor = UNITS[source.timestamp_unit] if source.timestamp_unit else (1, 1)
    slack = ROUNDED_US + divisor
    return (
        None if start is None else start * divisor // multiplier - slack,
        None if end is None else end * divisor // multiplier + slack,
    )


__all__ = ["ROUNDED_US", "Bounds", "rows_needed", "rows_within"]
