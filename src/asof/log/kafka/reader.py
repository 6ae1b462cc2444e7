"""Reads partitions without a group: a few clients, kept at the positions where their last reads stopped."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from asof.log.kafka.cluster import Broker
from asof.log.kafka.records import columns_of
from asof.log.protocol import Messages

KEPT = 4
"""Number of clients kept; each has a few MB of the next records prefetched."""

_STEP_S = 0.2


class OutOfRange(Exception):
    """The position is outside the partition; the log knows its bounds."""


class KafkaReader:
    """A client at one position of one partition.

    Attributes:
        place: its topic, partition and offset; prefetched records follow from there.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.place: tuple[str, int, int] | None = None
        # No record is between the position and this offset.
        self._passed = 0
        self._held: list[Any] = []
        self._consumer = broker.made(
            Consumer,
            group_id="asof.reader",
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            auto_offset_reset="error",
            isolation_level="read_committed",
            preset={"queued.max.messages.kbytes": 16384, "fetch.queue.backoff.ms": 20},
        )

    def read(self, topic: str, partition: int, start: int, *, stop: int, max_messages: int) -> Messages:
        """Records from `start` on, below `stop`; the partition must have reached `stop`.

        Raises:
            OutOfRange: `start` is outside the partition.
            LogUnreachable: the broker does not respond.
        """
        if self.place != (topic, partition, start):
            self._held, self._passed = [], start
            self._consumer.assign([TopicPartition(topic, partition, start)])
        self.place = None
        deadline = time.monotonic() + self._broker.timeout_s
        records: list[Any] = []
        while not records and self._passed < stop:
            came, self._held = self._held or self._came(max_messages, topic), []
            if not came and time.monotonic() > deadline:
                raise self._broker.unreachable(f"read topic {topic!r}")
            for i, each in enumerate(came):
                if each.error() is not None:
                    self._passed = max(self._passed, self._end_of(each, topic))
                elif each.offset() >= stop or len(records) == max_messages:
                    self._held, self._passed = came[i:], each.offset()
                    break
                elif each.offset() >= start:
                    records.append(each)
                    self._passed = each.offset() + 1
        # The next read continues at the offset after the last record, whatever was skipped after it.
        self.place = (topic, partition, records[-1].offset() + 1 if records else start)
        return columns_of(records)

    def _came(self, max_messages: int, topic: str) -> list[Any]:
        try:
            first = self._consumer.poll(_STEP_S)
            more = self._consumer.consume(max_messages - 1, 0) if first is not None and max_messages > 1 else []
        except KafkaException as error:
            raise self._broker.translated(error.args[0], f"read topic {topic!r}", topic=topic) from error
        return [first, *more] if first is not None else []

    def _end_of(self, event: Any, topic: str) -> int:
        """The offset of an end-of-partition event."""
        code = event.error().code()
        if code == KafkaError._PARTITION_EOF:
            return int(event.offset())
        if code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION):
            raise OutOfRange
        if code in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT):
            return -1
        raise self._broker.translated(event.error(), f"read topic {topic!r}", topic=topic)

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()


class KafkaReaders:
    """The readers of one log object. Thread-safe."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int, int], KafkaReader] = OrderedDict()

    def read(self, topic_id: str, topic: str, partition: int, start: int, *, stop: int, max_messages: int) -> Messages:
        """See `KafkaReader.read`."""
        with self._lock:
            reader = self._kept.pop((topic_id, partition, start), None)
            if reader is None and len(self._kept) >= KEPT:
                reader = self._kept.popitem(last=False)[1]
        reader = reader or KafkaReader(self._broker)
        try:
            messages = reader.read(topic, partition, start, stop=stop, max_messages=max_messages)
        except BaseException:
            reader.close()
            raise
        following = int(messages.offsets[-1]) + 1 if len(messages) else start
        with self._lock:
            replaced = self._kept.pop((topic_id, partition, following), None)
            self._kept[topic_id, partition, following] = reader
        if replaced is not None:
            replaced.close()
        return messages

    def close(self) -> None:
        """Close all clients."""
        with self._lock:
            kept, self._kept = self._kept, OrderedDict()
        for reader in kept.values():
            reader.close()

    def forget(self) -> list[Any]:
        """Drop the clients without closing them: for a forked child."""
        kept, self._kept, self._lock = self._kept, OrderedDict(), threading.Lock()
        return [reader._consumer for reader in kept.values()]
