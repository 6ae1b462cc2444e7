"""The log on Apache Kafka (brokers 2.8 and later, with librdkafka): topics and groups are Kafka's.

Offsets may have gaps, at transaction marks. A key's partition is that of Kafka's Java clients (murmur2). Record times
are milliseconds, from 1 ms after the epoch on.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    TopicPartition,
)
from confluent_kafka.admin import OffsetSpec

from asof.defaults import KAFKA_TIMEOUT_S
from asof.display import counted
from asof.errors import LogError
from asof.forks import ForkListener, leave_to_parent, listen_to_forks
from asof.log.kafka.cluster import Broker
from asof.log.kafka.consumer import KafkaConsumer
from asof.log.kafka.owner import PartitionOwnership, living_owners
from asof.log.kafka.reader import KafkaReaders, OutOfRange
from asof.log.kafka.topic import KafkaTopic, KafkaTopics
from asof.log.kafka.writer import ProducerBatch, SharedWriter
from asof.log.protocol import (
    Headers,
    LogDefaults,
    Messages,
    OffsetOutOfRange,
    OwnershipLost,
    Partition,
    PartitionsCallback,
)
from asof.timing import Clock, Micros

KNOWN_S = 1.0
"""How long a topic's description is cached for sends."""


class KafkaLog(LogDefaults, ForkListener):
    """Topics of a Kafka cluster. See `asof.log.protocol.Log`.

    Args:
        bootstrap_servers: `host:port`; several as a list, or separated by commas.
        clock: current time for retention, and the time of records that are sent without one.
        settings: librdkafka's settings (`security.protocol`, `sasl.*`, `ssl.*`, …), passed through.
        topic_prefix: of each topic's name in Kafka, so that projects can share a cluster.
        replication_factor: of new topics; None for the broker's default.
        topic_settings: Kafka's settings of new topics. By default they keep records permanently: replayed dead letters
            may be old, and the log's record of them prevents a second replay.
        session_timeout_s: a group's member without a heartbeat for this long loses its partitions; an owner, its own.
        timeout_s: time limit of a call.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] = "",
        *,
        clock: Clock,
        settings: Mapping[str, Any] | None = None,
        topic_prefix: str = "",
        replication_factor: int | None = None,
        topic_settings: Mapping[str, Any] | None = None,
        session_timeout_s: float | None = None,
        timeout_s: float = KAFKA_TIMEOUT_S,
    ) -> None:
        servers = bootstrap_servers if isinstance(bootstrap_servers, str) else ",".join(bootstrap_servers)
        self.broker = Broker(servers, settings=settings or {}, timeout_s=timeout_s)
        self._clock = clock
        self._topics = KafkaTopics(
            self.broker,
            prefix=topic_prefix,
            replication_factor=-1 if replication_factor is None else replication_factor,
            settings={"retention.ms": -1, "retention.bytes": -1, **(topic_settings or {})},
        )
        self._session_timeout_s = session_timeout_s
        self._turns = count(int.from_bytes(os.urandom(2), "little"))
        self._consumers: weakref.WeakSet[KafkaConsumer] = weakref.WeakSet()
        self._begin_empty()
        listen_to_forks(self)

    def _begin_empty(self) -> None:
        self._lock = threading.RLock()
        self._topics.begin_empty()
        self._owned: dict[str, PartitionOwnership] = {}
        self._readers = KafkaReaders(self.broker)
        self._writer = SharedWriter(self.broker)

    # ---- topics

    def create(self, topic: str, partitions: int = 1) -> None:
        """See `Log.create`."""
        self._topics.create(topic, partitions)

    def delete(self, topic: str) -> None:
        """See `Log.delete`."""
        with self._lock:
            owned = self._owned.pop(topic, None)
        if owned is not None:
            owned.close()
        self._topics.delete(topic)

    def topics(self) -> list[str]:
        """See `Log.topics`. Without Kafka's internal topics, and those without the prefix."""
        return self._topics.names()

    def topic_id(self, topic: str) -> str:
        """See `Log.topic_id`: the topic's UUID in Kafka."""
        return self.topic(topic).id

    def partitions(self, topic: str) -> int:
        """See `Log.partitions`."""
        return self.topic(topic).partitions

    def topic(self, name: str, *, max_age_s: float = 0.0) -> KafkaTopic:
        """The topic's description from Kafka, at most `max_age_s` old."""
        return self._topics.find(name, max_age_s=max_age_s)

    # ---- records

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """See `Log.bounds`. Records of open transactions are not included."""
        return self._topics.all_bounds(topic)

    def offsets_at(self, topic: str, moment_us: Micros) -> dict[int, int]:
        """See `Log.offsets_at`."""
        found = self.topic(topic)
        # Kafka's times are milliseconds: round up, to the first one that is not before `moment_us`.
        spec = OffsetSpec.for_timestamp(-(-moment_us // 1000))
        (offsets,) = self._topics.offsets(found, dict.fromkeys(range(found.partitions), spec))
        if all(offset >= 0 for offset in offsets.values()):
            return offsets
        bounds = self._topics.bounds(found, offsets)
        return {number: offset if offset >= 0 else bounds[number][1] for number, offset in offsets.items()}

    def send(
        self,
        topic: str,
        values: Sequence[bytes | None],
        *,
        keys: Sequence[bytes | None] | None = None,
        partition: int | None = None,
        timestamps_us: Sequence[Micros] | None = None,
        headers: Sequence[Headers] | None = None,
        durable: bool,
    ) -> list[tuple[int, int]]:
        """See `Log.send`. Always waits for all in-sync replicas; whether they sync to disk is up to the brokers."""
        size = len(values)
        for column, cells in (("keys", keys), ("timestamps_us", timestamps_us), ("headers", headers)):
            if cells is not None and len(cells) != size:
                raise LogError(f"a send to topic {topic!r} has {counted(size, 'value')}, but {len(cells)} {column}")
        found = self.topic(topic, max_age_s=KNOWN_S)
        if not size:
            return []
        if partition is not None and partition >= found.partitions:
            raise LogError(f"topic {topic!r} has no partition {partition}; it has 0 to {found.partitions - 1}")
        turn = next(self._turns) % found.partitions
        records = {
            "values": values,
            "keys": keys,
            "partitions": [partition] * size if partition is not None else
            [turn] * size if keys is None else [turn if key is None else -1 for key in keys],
            # librdkafka interprets 0 as the current time.
            "times_ms": [self._clock() // 1000] * size if timestamps_us is None else
            [max(time_us // 1000, 1) for time_us in timestamps_us],
            "headers": headers,
        }  # fmt: skip
        owned = self._owned.get(topic)
        if owned is not None and partition == owned.number:
            return self._send_to_own(owned, records)
        return self._writer.send(ProducerBatch(found.full_name, size), topic, **records)

    def _send_to_own(self, owned: PartitionOwnership, records: dict[str, Any]) -> list[tuple[int, int]]:
        topic = owned.topic
        with owned.lock:
            assert owned.writer is not None
            try:
                positions = owned.writer.send(ProducerBatch(topic.full_name, len(records["values"])), **records)
            except OwnershipLost:
                with self._lock:
                    self._owned.pop(topic.name, None)
                owned.close()
                raise
        # Records are visible only shortly after the commit returns; wait, so that the sender can read its own.
        last = max(offset for _, offset in positions)
        self._topics.until(
            lambda: self._topics.bounds(topic, [owned.number])[owned.number][1] > last, f"send to topic {topic.name!r}"
        )
        return positions

    def read(
        self, topic: str, partition: int, start: int, *, stop: int | None = None, max_messages: int = 10_000
    ) -> Messages:
        """See `Log.read`."""
        found = self.topic(topic, max_age_s=KNOWN_S)
        known = self._topics.next_of(found, partition)
        if stop is None or stop > known or start > known:
            first, after = self._topics.bounds(found, [partition])[partition]
            if not first <= start <= after:
                raise OffsetOutOfRange(Partition(topic, partition, found.id), wanted=start, first=first, next=after)
            stop = after if stop is None else min(stop, after)
        try:
            return self._readers.read(found.id, found.full_name, partition, start, stop=stop, max_messages=max_messages)
        except OutOfRange:
            first, after = self._topics.bounds(found, [partition])[partition]
            raise OffsetOutOfRange(
                Partition(topic, partition, found.id), wanted=start, first=first, next=after
            ) from None

    # ---- groups

    def subscribe(
        self,
        topic: str,
        group: str,
        *,
        assigned: PartitionsCallback | None = None,
        revoked: PartitionsCallback | None = None,
        lost: PartitionsCallback | None = None,
    ) -> KafkaConsumer:
        """See `Log.subscribe`."""
        consumer = KafkaConsumer(
            self.broker,
            self,
            self.topic(topic),
            group,
            assigned=assigned,
            revoked=revoked,
            lost=lost,
            session_timeout_s=self._session_timeout_s or 45.0,
        )
        self._consumers.add(consumer)
        return consumer

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """See `Log.committed`."""
        return self.committed_by(self.topic(topic), group)

    def committed_by(self, topic: KafkaTopic, group: str) -> dict[int, int]:
        """The same, for a described topic."""
        wanted = [TopicPartition(topic.full_name, number) for number in range(topic.partitions)]

        def ask() -> Any:
            request = [ConsumerGroupTopicPartitions(group, wanted)]
            return self.broker.admin.list_consumer_group_offsets(request, request_timeout=self.broker.timeout_s)[group]

        found = self.broker.ask_again(ask, f"read the offsets of group {group!r}", topic=topic.name)
        return {each.partition: each.offset for each in found.topic_partitions if each.offset >= 0}

    # ---- own partitions

    def own_partition(self, topic: str) -> int:
        """See `Log.own_partition`."""
        with self._lock:
            if topic in self._owned:
                return self._owned[topic].number
            found = self.topic(topic)
            while True:
                living = living_owners(self.broker, found, list(range(found.partitions)))
                for number in [number for number, owners in sorted(living.items()) if not owners]:
                    owned = self._claimed(found, number)
                    if owned is not None:
                        self._owned[topic] = owned
                        return number
                found = self._topics.grown(found)

    def _claimed(self, topic: KafkaTopic, number: int) -> PartitionOwnership | None:
        owned = PartitionOwnership(
            self.broker, topic, number, session_timeout_s=self._session_timeout_s or OWNER_TIMEOUT_S
        )
        try:
            if owned.is_mine():
                owned.begin()
                return owned
        except BaseException:
            owned.close()
            raise
        owned.close()
        return None

    # ---- upkeep

    def retain(self, topic: str, *, max_age_us: Micros | None = None, max_bytes: int | None = None) -> None:
        """See `Log.retain`. A single deletion; for permanent retention set the topic's settings in Kafka.

        With `max_bytes` it reads each partition to measure its size.
        """
        found = self.topic(topic)
        bounds = self._topics.bounds(found, range(found.partitions))
        before = {number: first for number, (first, _) in bounds.items()}
        if max_age_us is not None:
            for number, offset in self.offsets_at(topic, self._clock() - max_age_us).items():
                before[number] = max(before[number], offset)
        if max_bytes is not None:
            for number, (first, after) in bounds.items():
                before[number] = max(before[number], self._beyond(topic, number, first, after, max_bytes))
        positions = [TopicPartition(found.full_name, number, offset) for number, offset in before.items()]
        pending = self.broker.admin.delete_records(positions, request_timeout=self.broker.timeout_s)
        for future in pending.values():
            self.broker.ask(future, f"drop old records of topic {topic!r}", topic=topic)

    def _beyond(self, topic: str, number: int, first: int, after: int, max_bytes: int) -> int:
        """The first offset after which a partition has at most `max_bytes`."""
        sizes: list[tuple[int, int]] = []
        at = first
        while len(messages := self.read(topic, number, at, stop=after)):
            for offset, key, value in zip(messages.offsets.tolist(), messages.keys, messages.values, strict=True):
                sizes.append((offset, len(key or b"") + len(value or b"")))
            at = int(messages.offsets[-1]) + 1
        left = sum(size for _, size in sizes)
        for offset, size in sizes:
            if left <= max_bytes:
                return offset
            left -= size
        return after

    def erase(self, topic: str, match: Callable[[bytes | None, bytes | None], bool]) -> int:
        """Refused: Kafka's records cannot be rewritten.

        Raises:
            LogError: always.
        """
        raise LogError(
            f"topic {topic!r} is on Kafka, which cannot delete single records",
            hint="they are deleted by the topic's retention (retention.ms) or, on a compacted topic, after a tombstone "
            "for their key from the producer",
        )

    # ---- the end

    def close(self) -> None:
        """See `Log.close`. Consumers are closed by their creators."""
        with self._lock:
            owned, readers, writer = list(self._owned.values()), self._readers, self._writer
            self._begin_empty()
        for each in owned:
            each.close()
        writer.close()
        readers.close()

    def after_fork_in_child(self) -> None:
        """See `ForkListener`: librdkafka's threads are missing in a child, and closing its clients would hang."""
        leave_to_parent(*self.broker.forget())
        for consumer in list(self._consumers):
            leave_to_parent(*consumer.forget())
        for owned in self._owned.values():
            leave_to_parent(*owned.forget())
        leave_to_parent(*self._readers.forget(), *self._writer.forget())
        self._begin_empty()


OWNER_TIMEOUT_S = 10.0
"""How long after its owner's death a partition can be taken over."""
