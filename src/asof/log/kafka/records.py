"""librdkafka's messages as columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
from confluent_kafka import Message

from asof.decoding.metadata import UNREADABLE
from asof.dtypes import GREATEST_INT64
from asof.log.protocol import Headers, Messages

AT_ONCE = 500
"""So many messages are taken from librdkafka at once where more wait: the garbage collector begins to look through
all objects at 700 new ones, and those that are columns by then are none."""

_MILLISECONDS = itemgetter(1)
_MOST = GREATEST_INT64 // 1000


def columns_of(records: Sequence[Any]) -> Messages:
    """Messages without errors, as columns in their order."""
    if not records:
        return Messages.empty()
    count = len(records)
    headers: list[Headers] | None = None
    # Methods by their class: this is done for every message, and a call on each object takes twice as long.
    found: list[Any] = _headers(records)
    if any(found):
        headers = [tuple((name, value) for name, value in each) if each else () for each in found]
    return Messages(
        np.fromiter(map(Message.partition, records), np.int32, count),
        np.fromiter(map(Message.offset, records), np.int64, count),
        microseconds(np.fromiter(map(_MILLISECONDS, map(Message.timestamp, records)), np.int64, count)),
        list(map(Message.key, records)),
        list(map(Message.value, records)),
        headers,
    )


def _headers(records: Sequence[Any]) -> list[Any]:
    """The records' headers. The client fails on a name that is no UTF-8, and must not be asked for it twice."""
    found: list[Any] = []
    rest = map(Message.headers, records)
    while True:
        try:
            found.extend(rest)
        except Exception:
            found.append(((UNREADABLE, None),))
        else:
            return found


def microseconds(milliseconds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A producer may set any time; one that has no microseconds stays beyond every calendar."""
    return np.clip(milliseconds, -_MOST, _MOST) * 1000


def numbers_in(messages: Messages) -> list[int]:
    """The partitions that messages are of, ascending."""
    return np.flatnonzero(np.bincount(messages.partitions)).tolist() if len(messages) else []


def of_partitions(messages: Messages, numbers: Collection[int]) -> Messages:
    """Those that are of these partitions."""
    if all(number in numbers for number in numbers_in(messages)):
        return messages
    return messages.select(np.isin(messages.partitions, list(numbers)))
