"""The arrival of a log's rows: of many at once, and as messages carry it: stamps of pushes, origins of dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.log.protocol import Headers
from asof.sql.arrival import TOPIC, is_stamp
from asof.sql.partitions import TOPIC_PARTITIONS, ArchivePartition
from asof.timing import Micros

Ints = npt.NDArray[np.int64]

STAMP = "asof.pushed_at"
"""The header of a pushed message with its stamp: digits. Earlier versions pass it over."""

ORIGIN = "asof.origin"
"""The header of a replayed message: its place as a dead letter, `[partition, offset]`, behind the message's own."""

_ORIGINS = (ORIGIN, "origin")
"""It was called `origin` once, which a message's own header may be called, too."""

_DIGITS = 16
"""As many as a stamp can have."""

Place = tuple[int, int]
"""A partition and an offset, numbered as in the archive."""


@dataclass(frozen=True)
class Arrivals:
    """The arrival of n rows; see `asof.sql.arrival`, which a test holds them to.

    Args:
        era, first, second: n of each.
    """

    era: Ints
    first: Ints
    second: Ints

    @classmethod
    def of(cls, partition: npt.NDArray[Any], offset: Ints, pushed_at: Ints | None = None) -> Arrivals:
        """The arrivals of n messages.

        Args:
            partition, offset: n of each, numbered as in the archive.
            pushed_at: n stamps, 0 where a row has none; None where no row has one.
        """
        number, offset = partition.astype(np.int64), np.asarray(offset, dtype=np.int64)
        epoch = number // TOPIC_PARTITIONS
        era = np.where(number < 0, TOPIC, (epoch + 2) * TOPIC)
        if pushed_at is None or not pushed_at.any():
            return cls(era, offset, number)
        stamped = pushed_at > 0
        return cls(era + pushed_at, np.where(stamped, number, offset), np.where(stamped, offset, number))

    def take(self, index: npt.NDArray[Any]) -> Arrivals:
        """Those at these indexes, or where a mask is true."""
        return Arrivals(self.era[index], self.first[index], self.second[index])

    @property
    def columns(self) -> tuple[Ints, Ints, Ints]:
        """The three, in the order in which they are compared."""
        return self.era, self.first, self.second


def numbers(rows: pa.Table, name: str, *, default: Ints | None = None) -> Ints:
    """A column of whole numbers.

    Args:
        default: what stands for its nulls, row by row.
    """
    column = rows[name].combine_chunks()
    if not column.null_count:
        return column.to_numpy(zero_copy_only=False).astype(np.int64)
    assert default is not None
    known = column.is_valid().to_numpy(zero_copy_only=False)
    return np.where(known, column.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64), default)


def stamp_header(stamp: Micros) -> Headers:
    """The header that carries a stamp."""
    return ((STAMP, b"%d" % stamp),)


def stamps_of(headers: Sequence[Headers] | None) -> Ints | None:
    """The stamps of n pushed messages, 0 where one has none; None where no message has one."""
    if headers is None:
        return None
    stamps = np.fromiter(map(_stamp_of, headers), dtype=np.int64, count=len(headers))
    return stamps if stamps.any() else None


def _stamp_of(headers: Headers) -> Micros:
    for name, value in headers:
        # Other producers may have a header of that name, with anything in it.
        if name == STAMP and value is not None and value.isdigit() and len(value) <= _DIGITS:
            stamp = int(value)
            return stamp if is_stamp(stamp) else 0
    return 0


def origin_header(place: Place) -> tuple[str, bytes]:
    """The header with a dead letter's partition and offset; it goes after the headers of its message."""
    return ORIGIN, msgspec.json.encode(place)


def origin(headers: Headers) -> Place | None:
    """Partition and offset of the dead letter that a replayed message is; None of any other message."""
    return next(_origins(headers), None)


def first_origin(headers: Headers) -> Place | None:
    """Partition and offset of the original message: a replayed message may become a dead letter once more."""
    for place in _origins(headers):
        if not ArchivePartition(place[0]).is_replayed:
            return place
    return None


def _origins(headers: Headers) -> Iterator[Place]:
    for name, value in reversed(headers):
        if name in _ORIGINS and value is not None:
            try:
                yield msgspec.json.decode(value, type=Place)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue  # a header of the message's own


def origins_of(headers: Sequence[Headers] | None, partition: Ints, offset: Ints) -> tuple[Ints, Ints] | None:
    """Partitions and offsets of the original messages of n replayed ones; None where no header has them.

    Args:
        partition, offset: their own, for those without such a header.
    """
    if headers is None:
        return None
    positions = list(map(first_origin, headers))
    if not any(positions):
        return None
    known = np.array([place is not None for place in positions])
    first = np.array([place or (0, 0) for place in positions], dtype=np.int64)
    return np.where(known, first[:, 0], partition), np.where(known, first[:, 1], offset)


__all__ = [
    "ORIGIN", "STAMP", "Arrivals", "Place", "first_origin", "numbers", "origin", "origin_header",
    "origins_of", "stamp_header", "stamps_of",
]  # fmt: skip
