"""Messages of librdkafka as columns."""

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
"""Messages taken from librdkafka at once. Python's garbage collector runs after 700 new objects; smaller chunks are
columns, and no objects any more, before that."""

_MILLISECONDS = itemgetter(1)
_MOST = GREATEST_INT64 // 1000


def columns_of(records: Sequence[Any]) -> Messages:
    """Messages without errors, as columns in their order."""
    if not records:
        return Messages.empty()
    count = len(records)
    headers: list[Headers] | None = None
    # `map` over the class's methods: called for every message, and twice as fast as method calls on each object.
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
    """The records' headers. The client fails on a name that is not UTF-8, and must not be called twice for it."""
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
    """Milliseconds as microseconds. A producer may set any time; one that overflows stays out of range."""
    return np.clip(milliseconds, -_MOST, _MOST) * 1000


def numbers_in(messages: Messages) -> list[int]:
    """The partition numbers of messages, ascending."""
    return np.flatnonzero(np.bincount(messages.partitions)).tolist() if len(messages) else []


def of_partitions(messages: Messages, numbers: Collection[int]) -> Messages:
    """The messages of these partitions."""
    if all(number in numbers for number in numbers_in(messages)):
        return messages
    return messages.select(np.isin(messages.partitions, list(numbers)))
