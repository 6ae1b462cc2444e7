"""The bytes of an online row: keys, and the values of a latest-value view.

A packed row is one MessagePack array. With n values it is, for a view fed by a batch source,

    position   0        1            2 … n+1        n+2
             +--------+------------+--------------+------------+
    value    | FORMAT | event time | plain values |            |
    deleted  | FORMAT | null       | null …       | event time |    the tombstone's time
             +--------+------------+--------------+------------+

and for a view fed by a log,

    position   0        1            2 … n+1        n+2                                     n+3
             +--------+------------+--------------+---------------------------------------+---------+
    value    | FORMAT | event time | plain values | [created, offset, partition]          | pending |
    deleted  | FORMAT | null       | null …       | [created, offset, partition, event t] | pending |
    waiting  | FORMAT | null       | null …       | null                                  | pending |
             +--------+------------+--------------+---------------------------------------+---------+

`pending` holds the versions that are ahead of the clock: `[event time, created, offset, partition, values or null]`
each. Readers need only positions 0 to n+1, which are the same in all of these layouts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from decimal import Context, Decimal
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from asof.dtypes import DType
from asof.sql.arrival import Arrival
from asof.timing import EPOCH_DAY, micros, moment

FORMAT, ARRIVAL_FORMAT = 1, 2
"""The version of a packed latest-value row, its first element; the second is of log-fed rows that keep their arrival.

In the first, which earlier versions of Asof wrote, log-fed rows are ordered by offset and partition. A table of it
stays in it until the view is rebuilt, since processes of those versions may read and write it, too."""

FORMATS = frozenset((FORMAT, ARRIVAL_FORMAT))

_encode = msgspec.msgpack.Encoder(decimal_format="string").encode
_decode = msgspec.msgpack.Decoder(list).decode
_WIDE = Context(prec=80)
_SINGLE = struct.Struct("f")


def key_bytes(values: Sequence[Any]) -> bytes:
    """Pack one key's plain values (see `plain_values`) into the bytes that are its key in the online store."""
    return _encode(tuple(values))


def pack_keys(columns: Sequence[Sequence[Any]]) -> list[bytes]:
    """`key_bytes` of many keys, from one column of plain values per join key."""
    # Tuples pack like lists, and `zip` makes them without a step of Python per row.
    return list(map(_encode, zip(*columns)))


def pack_values(*columns: Iterable[Any]) -> list[bytes]:
    """One packed array per row, from one iterable per position; at least one of them must be finite."""
    return list(map(_encode, zip(*columns)))


def key_values(key: bytes) -> list[Any]:
    """The plain values that `key_bytes` packed."""
    return _decode(key)


def plain_values(column: pa.Array | pa.ChunkedArray, dtype: DType) -> list[Any]:
    """A fitted column as plain values: times as microseconds, dates as days, decimals as text.

    Plain values pack to the same bytes wherever they come from.
    """
    # Integers pack smaller than times, and no packed byte depends on how a library writes a time.
    if dtype.name == "Timestamp":
        return column.cast(pa.int64()).to_pylist()
    if dtype.name == "Date":
        return column.cast(pa.int32()).to_pylist()
    if dtype.name == "Decimal":
        return [None if value is None else str(value) for value in column.to_pylist()]
    if dtype.name == "Array" and dtype.inner is not None and dtype.innermost.name in ("Timestamp", "Date", "Decimal"):
        inner = dtype.inner
        return [
            None if row is None else plain_values(pa.array(row, inner.arrow()), inner) for row in column.to_pylist()
        ]
    return column.to_pylist()


def plainer(dtype: DType) -> Callable[[Any], Any] | None:
    """A function from one fitted value to its plain value, as `plain_values`; None where no conversion is needed."""
    if dtype.name == "Timestamp":
        return micros
    if dtype.name == "Date":
        return lambda day: (day - EPOCH_DAY).days
    if dtype.name == "Decimal":
        # With the scale of its type, as Arrow has it: 1.5 and 1.50 must give the same key bytes.
        # The sum with 0 makes the key of -0.00 that of 0.00.
        digits = Decimal(1).scaleb(-dtype.scale)
        return lambda number: str(_WIDE.add(_WIDE.quantize(Decimal(number), digits), 0))
    if dtype.name == "Float32":
        # Rounded to a single as in a column: as a double, 0.1 is another number and another key.
        return lambda number: _SINGLE.unpack(_SINGLE.pack(number))[0]
    return None


def restorer(dtype: DType) -> Callable[[Any], Any] | None:
    """A function from a plain value to the Python value of `dtype`; None where no conversion is needed."""
    if dtype.name == "Timestamp":
        return moment
    if dtype.name == "Date":
        return lambda days: EPOCH_DAY + timedelta(days=days)
    if dtype.name == "Decimal":
        return Decimal
    if dtype.name == "Array" and dtype.inner is not None:
        inner = restorer(dtype.inner)
        if inner is not None:
            return lambda row: [None if value is None else inner(value) for value in row]
    return None


def pack_rows(
    event_times: Sequence[int], columns: Sequence[Sequence[Any]], gone: Sequence[bool] | None = None
) -> list[bytes]:
    """Packed rows of a latest-value view that is fed by a batch source.

    Args:
        gone: which rows are tombstones.
    """
    if gone is not None and any(gone):
        # Tombstones are few: all rows are packed at once as if there were none, and theirs replaced.
        nothing = [None] * (len(columns) + 1)
        rows = pack_rows(event_times, columns)
        return [
            _encode([FORMAT, *nothing, time]) if is_gone else row
            for row, time, is_gone in zip(rows, event_times, gone, strict=True)
        ]
    if not columns:
        return [_encode([FORMAT, time]) for time in event_times]
    return [_encode([FORMAT, *row]) for row in zip(event_times, *columns, strict=True)]


unpack_row: Callable[[bytes], list[Any]] = _decode
"""The elements of a packed row, as drawn above."""


class Version(NamedTuple):
    """One row of a key: its place in the order of rows, then its plain values; None says that the key is no more.

    Args:
        arrived, within: in `ARRIVAL_FORMAT` the era, and `[first, second]` of `asof.sql.arrival` (behind them the
            partition and offset through which a replayed dead letter came); in `FORMAT` offset and partition.
    """

    event_time: int
    created: int
    arrived: int
    within: int | list[int]
    values: list[Any] | None

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset, numbered as in the archive."""
        if isinstance(self.within, int):
            return self.within, self.arrived
        if len(self.within) > 2:
            return self.within[2], self.within[3]
        return Arrival(self.arrived, *self.within).place


def merge_versions(
    stored: bytes | None, news: Sequence[Version], *, width: int, clock: int, format: int = ARRIVAL_FORMAT
) -> bytes | None:
    """A log-fed latest-value row after some rows of its key; None where they change nothing.

    The packed row is `[format, event time, value …, [created, arrived, within], pending]`: the newest row that is due
    at `clock`, and the later ones in order, so that a read never sees the future and nothing is lost. Where the newest
    row says that the key is no more, it is `[format, null, null …, [created, arrived, within, event time], pending]`.

    Args:
        width: how many values a row has.
        format: of the table, and of `news`; a process of an earlier version may have written `stored`.
    """
    row = None if stored is None else _decode(stored)
    if row is not None and row[0] != format:
        row = _with_arrival(row, width)
    # The most frequent case by far: one event of the key, and none that waits.
    is_alone = len(news) == 1 and news[0].event_time <= clock and news[0].values is not None
    if is_alone and (row is None or not row[width + 3] and row[1] is not None and row[1] <= clock):
        return _after_one(row, news[0], width, format)
    versions = versions_of(row, width) if row is not None else []
    # Values are no part of the order: they may not compare with one another (nulls, lists).
    # Sorting is stable and the news come last: of rows that are equal in order, the later write wins.
    ordered = sorted([*versions, *news], key=lambda each: each[:4])
    due = [each for each in ordered if each.event_time <= clock]
    kept = [*due[-1:], *_without_repeats([each for each in ordered if each.event_time > clock])]
    if kept == versions:
        return None
    return _pack_versions(kept, clock=clock, width=width, format=format)


def _with_arrival(row: list[Any], width: int) -> list[Any]:
    """An unpacked row of `FORMAT` as one of `ARRIVAL_FORMAT`."""

    def arrival(created: int, offset: int, partition: int | list[int], *time: int) -> list[Any]:
        if isinstance(partition, list):
            # A process of an earlier version has read a row with its arrival, and written it back.
            return [created, offset, partition, *time]
        era, *within = Arrival.of(partition, offset)
        return [created, era, within, *time]

    place = row[width + 2]
    pending = [[time, *arrival(*rest), values] for time, *rest, values in row[width + 3]]
    return [ARRIVAL_FORMAT, *row[1 : width + 2], place and arrival(*place), pending]


def _after_one(row: list[Any] | None, new: Version, width: int, format: int) -> bytes | None:
    """The row after one version that is due, where nothing is pending and the key was not gone."""
    if row is not None:
        before, place = [row[1], *row[width + 2]], list(new[:4])
        # The same place with other values is a correction of the row, and the same values are nothing new.
        if place < before or (place == before and new.values == row[2 : width + 2]):
            return None
    values: Any = new.values  # a version that is due has some: `merge_versions` looked
    return _encode([format, new.event_time, *values, list(new[1:4]), ()])


def _without_repeats(ordered: Sequence[Version]) -> list[Version]:
    """The last version of each sort key."""
    return [each for i, each in enumerate(ordered) if i + 1 == len(ordered) or each[:4] != ordered[i + 1][:4]]


def _pack_versions(kept: Sequence[Version], *, clock: int, width: int, format: int) -> bytes:
    head, pending = (kept[0], kept[1:]) if kept[0].event_time <= clock else (None, kept)
    # As drawn above: readers find value i at i + 2, whether the row has a value, is deleted, or waits.
    current: list[Any]
    if head is None:
        current = [None] * (width + 2)
    elif head.values is None:
        current = [*[None] * (width + 1), [*head[1:4], head.event_time]]
    else:
        current = [head.event_time, *head.values, list(head[1:4])]
    return _encode([format, *current, [[*each[:4], each.values] for each in pending]])


def versions_of(stored: bytes | list[Any], width: int) -> list[Version]:
    """All versions of a log-fed row (packed or unpacked): the due one, then the pending ones in order."""
    row = _decode(stored) if isinstance(stored, bytes) else stored
    versions = [Version(*each) for each in row[width + 3]]
    if row[1] is not None:
        created, arrived, within = row[width + 2]
        versions.insert(0, Version(row[1], created, arrived, within, row[2 : width + 2]))
    elif row[width + 2] is not None:
        created, arrived, within, time = row[width + 2]
        versions.insert(0, Version(time, created, arrived, within, None))
    return versions


def newest_time(stored: bytes, width: int) -> int:
    """The latest event time of all versions of a packed log-fed row, including pending ones."""
    return max(each.event_time for each in versions_of(stored, width))


def gone_at(row: Sequence[Any], width: int) -> int | None:
    """Deletion time of a tombstone row, else None."""
    if row[1] is not None or len(row) < width + 3:
        return None
    # A batch-fed tombstone has the time itself there, a log-fed one ends its list with it; a waiting row has null.
    deleted = row[width + 2]
    return deleted[-1] if isinstance(deleted, list) else deleted
