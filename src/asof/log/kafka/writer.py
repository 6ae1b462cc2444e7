"""Writes to Kafka: one idempotent producer for all sends, and a transactional one per owned partition."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from asof.log.kafka.cluster import Broker
from asof.log.protocol import Headers, OwnershipLost

_PRESET: dict[str, Any] = {
    # The partitioner of Kafka's Java clients, so that all producers send a key to the same partition.
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 262_144,
    # The topic's own limit applies to the size of messages.
    "message.max.bytes": 100_000_000,
    "linger.ms": 5,
}

NEWS_S = 5.0
"""How long a producer may take to see a new partition."""

_FENCED = {
    KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING, KafkaError.TRANSACTION_COORDINATOR_FENCED,
}  # fmt: skip


@contextmanager
def _raised_plainly() -> Iterator[None]:
    """Raise a fatal client error as itself if it occurred between two callbacks."""
    try:
        yield
    except SystemError as error:
        if isinstance(error.__cause__, KafkaException):
            raise error.__cause__ from None
        raise


class ProducerBatch:
    """Records being sent, and the partition and offset of each."""

    def __init__(self, topic: str, size: int) -> None:
        self.topic = topic
        self.positions: list[tuple[int, int] | None] = [None] * size
        self.error: KafkaError | None = None
        self.left = size

    def send(
        self,
        producer: Producer,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None,
        partitions: Sequence[int],
        times_ms: Sequence[int] | None,
        headers: Sequence[Headers] | None,
    ) -> None:
        """Give all records to the producer; with partition -1, the key selects the partition."""
        deadline = time.monotonic() + NEWS_S
        for i, value in enumerate(values):
            more: dict[str, Any] = {}
            if keys is not None:
                more["key"] = keys[i]
            if headers is not None and headers[i]:
                more["headers"] = list(headers[i])
            if times_ms is not None:
                more["timestamp"] = times_ms[i]
            while True:
                try:
                    producer.produce(
                        self.topic, value, partition=partitions[i], on_delivery=partial(self._arrived, i), **more
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError._UNKNOWN_PARTITION or time.monotonic() > deadline:
                        raise
                    # A new partition that this producer has not seen yet.
                    producer.list_topics(self.topic, timeout=NEWS_S)

    def _arrived(self, index: int, error: KafkaError | None, message: Any) -> None:
        self.left -= 1
        if error is not None:
            self.error = self.error or error
        else:
            self.positions[index] = (message.partition(), message.offset())

    @property
    def arrived(self) -> list[tuple[int, int]]:
        """Partition and offset of each record."""
        return [place for place in self.positions if place is not None]


class SharedWriter:
    """Sends to any partition, idempotently: retries write no duplicates. Thread-safe."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._lock = threading.Lock()
        self._producer: Any = None

    def send(self, batch: ProducerBatch, shown: str, **records: Any) -> list[tuple[int, int]]:
        """Send a batch, and wait until all in-sync replicas have it.

        Args:
            shown: the topic's name in error messages.

        Raises:
            LogError: nothing was written, or it is unknown whether.
        """
        with self._lock:
            if self._producer is None:
                self._producer = self._broker.made(
                    Producer, enable_idempotence=True, acks="all",
                    preset={**_PRESET, "message.timeout.ms": int(self._broker.timeout_s * 1000)},
                )  # fmt: skip
            producer = self._producer
        doing = f"send to topic {shown!r}"
        deadline = time.monotonic() + self._broker.timeout_s + 5
        try:
            with _raised_plainly():
                batch.send(producer, **records)
                while batch.left and time.monotonic() < deadline:
                    producer.flush(0.2)
        except KafkaException as error:
            self._drop(producer, error.args[0])
            raise self._broker.translated(error.args[0], doing, topic=shown) from error
        if batch.error is not None:
            self._drop(producer, batch.error)
            raise self._broker.translated(batch.error, doing, topic=shown)
        if batch.left:
            raise self._broker.unreachable(doing)
        return batch.arrived

    def _drop(self, producer: Any, error: KafkaError) -> None:
        """Drop a producer after a fatal error."""
        if error.fatal() or error.code() == KafkaError._FATAL:
            with self._lock:
                if self._producer is producer:
                    self._producer = None

    def close(self) -> None:
        """Flush records that are being sent."""
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            producer.flush(self._broker.timeout_s)

    def forget(self) -> list[Any]:
        """Drop the producer without closing it: for a forked child."""
        producer, self._producer, self._lock = self._producer, None, threading.Lock()
        return [producer]


class OwnWriter:
    """Sends batches to an owned partition, each as a transaction; the next owner fences this writer.

    Args:
        identity: the transactional ID, the same for all owners of the partition.
        is_owner: called before a send that follows a failed one: it would fence a process that has taken over the
            partition meanwhile.
    """

    def __init__(self, broker: Broker, identity: str, *, topic: str, number: int, is_owner: Callable[[], bool]) -> None:
        self._broker, self._identity, self._is_owner = broker, identity, is_owner
        self._topic, self._number = topic, number
        self._producer: Any = None
        self._begin()

    def _begin(self) -> None:
        """Fence earlier owners, and abort their open transactions."""
        producer = self._broker.made(
            Producer, transactional_id=self._identity, enable_idempotence=True, acks="all",
            preset={**_PRESET, "transaction.timeout.ms": 60_000},
        )  # fmt: skip
        deadline = time.monotonic() + self._broker.timeout_s
        while True:
            try:
                producer.init_transactions(max(deadline - time.monotonic(), 1.0))
                break
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise self._broker.translated(error.args[0], f"write to topic {self._topic!r}") from error
        self._producer = producer

    def send(self, batch: ProducerBatch, **records: Any) -> list[tuple[int, int]]:
        """Send a batch as one transaction.

        Raises:
            OwnershipLost: another process owns the partition; nothing was written.
            LogError: nothing was written, or it is unknown whether.
        """
        doing = f"send to topic {self._topic!r}"
        if self._producer is None:
            if not self._is_owner():
                raise OwnershipLost(self._topic, self._number)
            self._begin()
        producer = self._producer
        timeout_s = self._broker.timeout_s
        try:
            with _raised_plainly():
                producer.begin_transaction()
                batch.send(producer, **records)
                producer.flush(timeout_s)
                if batch.error is not None or batch.left:
                    raise KafkaException(batch.error or KafkaError(KafkaError._TIMED_OUT))
                self._commit(producer, timeout_s)
        except KafkaException as error:
            self._give_up(producer, error.args[0])
            if error.args[0].code() in _FENCED:
                raise OwnershipLost(self._topic, self._number) from error
            raise self._broker.translated(error.args[0], doing, topic=self._topic) from error
        return batch.arrived

    def _commit(self, producer: Any, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                producer.commit_transaction(max(deadline - time.monotonic(), 0.1))
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise

    def _give_up(self, producer: Any, error: KafkaError) -> None:
        """Abort if possible; the next send starts a new transaction, which ends an open one."""
        self._producer = None
        if error.code() not in _FENCED and not error.fatal():
            with suppress(KafkaException):
                producer.abort_transaction(2.0)

    def close(self) -> None:
        """Close the producer; every batch is complete already."""
        self._producer = None

    def forget(self) -> list[Any]:
        """Drop the producer without closing it: for a forked child."""
        producer, self._producer = self._producer, None
        return [producer]
