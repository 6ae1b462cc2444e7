"""Topics of a Kafka cluster: create, delete, describe, and the bounds of their partitions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import NewPartitions, NewTopic, OffsetSpec

from asof.errors import LogError
from asof.log.kafka.cluster import Broker, is_kafka
from asof.log.protocol import LogUnreachable, UnknownTopic


@dataclass(frozen=True, slots=True)
class KafkaTopic:
    """A topic's description from Kafka.

    Args:
        name: its name without the prefix.
        full_name: its name in Kafka.
        id: its ID in Kafka; a recreated topic has another one.
    """

    name: str
    full_name: str
    id: str
    partitions: int

    def grown(self, partitions: int) -> KafkaTopic:
        """A copy with more partitions."""
        return replace(self, partitions=partitions)


class KafkaTopics:
    """The topics with this log's prefix, with a cache of their descriptions.

    Args:
        prefix: of each topic's name in Kafka.
        replication_factor: of new topics; -1 for the broker's default.
        settings: Kafka's settings of new topics.
    """

    def __init__(self, broker: Broker, *, prefix: str, replication_factor: int, settings: Mapping[str, Any]) -> None:
        self._broker, self._prefix = broker, prefix
        self._replication_factor, self._topic_settings = replication_factor, settings
        self.begin_empty()

    def next_of(self, topic: KafkaTopic, partition: int) -> int:
        """The next offset to be written, as last seen; -1 if unknown."""
        return self._nexts.get((topic.id, partition), -1)

    def begin_empty(self) -> None:
        """Clear the cache: at the start, and in a forked child."""
        self._lock = threading.RLock()
        self._known: dict[str, tuple[float, KafkaTopic]] = {}
        self._nexts: dict[tuple[str, int], int] = {}

    def create(self, topic: str, partitions: int = 1) -> None:
        """See `Log.create`."""
        name = self._prefix + topic
        config = {setting: str(value) for setting, value in self._topic_settings.items()}
        new = NewTopic(name, partitions, self._replication_factor, config=config)
        pending = self._broker.admin.create_topics([new], request_timeout=self._broker.timeout_s)[name]
        try:
            self._broker.ask(pending, f"create topic {topic!r}")
        except LogError as error:
            if not is_kafka(error, "TOPIC_ALREADY_EXISTS"):
                raise
        self.until(lambda: self._is_ready(topic), f"create topic {topic!r}")

    def _is_ready(self, topic: str) -> bool:
        """Whether every partition has a leader."""
        try:
            return bool(self.all_bounds(topic))
        except (UnknownTopic, LogUnreachable):
            return False

    def delete(self, topic: str) -> None:
        """See `Log.delete`."""
        name = self._prefix + topic
        with self._lock:
            self._known.pop(topic, None)
        pending = self._broker.admin.delete_topics([name], request_timeout=self._broker.timeout_s)[name]
        try:
            self._broker.ask(pending, f"delete topic {topic!r}", topic=topic)
        except UnknownTopic:
            return
        self.until(lambda: not self._exists(topic), f"delete topic {topic!r}")

    def _exists(self, topic: str) -> bool:
        try:
            self.find(topic)
        except UnknownTopic:
            return False
        return True

    def names(self) -> list[str]:
        """See `Log.topics`. Without Kafka's internal topics, and those without the prefix."""
        try:
            found = self._broker.admin.list_topics(timeout=self._broker.timeout_s).topics
        except KafkaException as error:
            raise self._broker.translated(error.args[0], "list topics") from error
        return sorted(
            name.removeprefix(self._prefix)
            for name in found
            if name.startswith(self._prefix) and not name.startswith("__")
        )

    def find(self, name: str, *, max_age_s: float = 0.0) -> KafkaTopic:
        """The topic's description from Kafka, at most `max_age_s` old."""
        with self._lock:
            known = self._known.get(name)
        if known is not None and time.monotonic() - known[0] < max_age_s:
            return known[1]
        full_name = self._prefix + name
        requested_at = time.monotonic()
        pending = self._broker.admin.describe_topics(
            TopicCollection([full_name]), request_timeout=self._broker.timeout_s
        )[full_name]
        found = self._broker.ask(pending, f"describe topic {name!r}", topic=name)
        topic = KafkaTopic(name, full_name, str(found.topic_id), len(found.partitions))
        with self._lock:
            self._known[name] = (requested_at, topic)
        return topic

    def until(self, reached: Callable[[], bool], doing: str) -> None:
        """Wait until a change is visible.

        Raises:
            LogUnreachable: it was not visible within the time limit of a call.
        """
        deadline = time.monotonic() + self._broker.timeout_s
        while not reached():
            if time.monotonic() > deadline:
                raise self._broker.unreachable(doing)
            time.sleep(0.02)

    def all_bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """See `Log.bounds`. Records of open transactions are not included."""
        found = self.find(topic)
        return self.bounds(found, range(found.partitions))

    def bounds(self, topic: KafkaTopic, numbers: Iterable[int]) -> dict[int, tuple[int, int]]:
        """Bounds of some partitions of a described topic."""
        first, after = self.offsets(
            topic, dict.fromkeys(numbers, OffsetSpec.earliest()), dict.fromkeys(numbers, OffsetSpec.latest())
        )
        with self._lock:
            self._nexts.update({(topic.id, number): offset for number, offset in after.items()})
        return {number: (first[number], after[number]) for number in sorted(first)}

    def _request_offsets(self, topic: KafkaTopic, wanted: Mapping[int, OffsetSpec]) -> dict[TopicPartition, Any]:
        positions = {TopicPartition(topic.full_name, number): spec for number, spec in wanted.items()}
        return self._broker.admin.list_offsets(
            positions, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=self._broker.timeout_s
        )

    def offsets(self, topic: KafkaTopic, *wanted: Mapping[int, OffsetSpec]) -> list[dict[int, int]]:
        """Offsets for several sets of specs, requested together; retried while a partition's leader changes."""
        doing = f"read the offsets of topic {topic.name!r}"
        pending = [self._request_offsets(topic, each) for each in wanted]
        found_in_groups: list[dict[int, int]] = []
        for specs, futures in zip(wanted, pending, strict=True):
            found = {}
            for place, future in futures.items():
                first = iter([future])

                def ask(first: Iterator[Any] = first, number: int = place.partition, specs: Any = specs) -> Any:
                    again = next(first, None)
                    return again or next(iter(self._request_offsets(topic, {number: specs[number]}).values()))

                found[place.partition] = self._broker.ask_again(ask, doing, topic=topic.name).offset
            found_in_groups.append(found)
        return found_in_groups

    def grown(self, topic: KafkaTopic) -> KafkaTopic:
        """Add a partition to the topic; another process may have added it at the same time."""
        wanted = topic.partitions + 1
        pending = self._broker.admin.create_partitions(
            [NewPartitions(topic.full_name, wanted)], request_timeout=self._broker.timeout_s
        )[topic.full_name]
        try:
            self._broker.ask(pending, f"add a partition to topic {topic.name!r}", topic=topic.name)
        except LogError as error:
            if not is_kafka(error, "INVALID_PARTITIONS"):
                raise
        self.until(
            lambda: self.find(topic.name).partitions >= wanted and self._is_ready(topic.name),
            f"add a partition to topic {topic.name!r}",
        )
        return self.find(topic.name)
