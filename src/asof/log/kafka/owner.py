"""Ownership of a partition: the owner is the only member of a consumer group, and is fenced by a transactional ID.

The group detects death: the membership of a dead owner ends with its session, and the partition is free. The
transactional ID fences writes: the first transaction of a new owner ends all writes of the old one, even if it was only
slow. So a partition never has two writers, without a clock or a lock file.
"""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

from confluent_kafka import Consumer, KafkaException

from asof.errors import LogError
from asof.log.kafka.cluster import Broker, is_kafka
from asof.log.kafka.topic import KafkaTopic
from asof.log.kafka.writer import OwnWriter

_BEAT_S = 0.2


def owners_group(topic: str, number: int) -> str:
    """The consumer group and transactional ID of a partition's owner."""
    return f"asof.owner.{topic}.{number}"


class PartitionOwnership:
    """Ownership of one partition, until `close` or until the process sends no heartbeat within the session timeout."""

    def __init__(self, broker: Broker, topic: KafkaTopic, number: int, *, session_timeout_s: float) -> None:
        self._broker = broker
        self.topic, self.number = topic, number
        self.lock = threading.Lock()
        self.writer: OwnWriter | None = None
        # Members are distinguished by their client ID.
        self._me = f"asof-owner-{uuid.uuid4().hex}"
        self._stop = threading.Event()
        self._consumer = broker.made(
            Consumer,
            group_id=owners_group(topic.full_name, number),
            client_id=self._me,
            enable_auto_commit=False,
            auto_offset_reset="error",
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=int(session_timeout_s * 1000),
            heartbeat_interval_ms=max(100, min(2000, int(session_timeout_s * 1000 / 4))),
        )
        self._consumer.subscribe(
            [topic.full_name], on_assign=_hold_nothing, on_revoke=_give_nothing_up, on_lost=_give_nothing_up
        )
        self._thread = threading.Thread(target=self._live, name=f"owner-{topic.name}-{number}", daemon=True)
        self._thread.start()

    def _live(self) -> None:
        """Poll to send heartbeats to the group; nothing is read."""
        while not self._stop.is_set():
            try:
                self._consumer.poll(_BEAT_S)
            except (KafkaException, RuntimeError):
                self._stop.wait(_BEAT_S)

    def is_mine(self) -> bool:
        """Join the group, and check that it has no other member.

        If two processes claim at once, both may see each other, and neither gets the partition.
        """
        deadline = time.monotonic() + self._broker.timeout_s
        while True:
            members = living_owners(self._broker, self.topic, [self.number])[self.number]
            if self._me in members:
                return members == {self._me}
            if members:
                return False
            if time.monotonic() > deadline:
                raise self._broker.unreachable(f"own a partition of topic {self.topic.name!r}")
            time.sleep(0.02)

    def begin(self) -> None:
        """Fence earlier owners: become the only writer."""
        identity = owners_group(self.topic.full_name, self.number)
        self.writer = OwnWriter(
            self._broker, identity, topic=self.topic.name, number=self.number, is_owner=self.is_mine
        )

    def close(self) -> None:
        """Release the partition."""
        self._stop.set()
        self._thread.join()
        if self.writer is not None:
            self.writer.close()
        self._consumer.close()

    def forget(self) -> list[Any]:
        """Drop the clients without closing them: for a forked child, whose parent stays the owner."""
        return [self._consumer, *(self.writer.forget() if self.writer is not None else [])]


def living_owners(broker: Broker, topic: KafkaTopic, numbers: list[int]) -> dict[int, set[str]]:
    """Partition → client IDs of living members of its owners' group."""
    found: dict[int, set[str]] = {}
    groups = {number: owners_group(topic.full_name, number) for number in numbers}
    pending = broker.admin.describe_consumer_groups(list(groups.values()), request_timeout=broker.timeout_s)
    for number, group in groups.items():
        first = [pending[group]]

        def ask(group: str = group, first: list[Any] = first) -> Any:
            if first:
                return first.pop()
            return broker.admin.describe_consumer_groups([group], request_timeout=broker.timeout_s)[group]

        try:
            members = broker.ask_again(ask, f"describe group {group!r}").members
        except LogError as error:
            if not is_kafka(error, "GROUP_ID_NOT_FOUND"):
                raise
            members = []
        found[number] = {each.client_id for each in members}
    return found


def _hold_nothing(consumer: Any, partitions: Any) -> None:
    """Assign nothing: the group is used for its membership only."""
    consumer.incremental_assign([])


def _give_nothing_up(consumer: Any, partitions: Any) -> None:
    consumer.incremental_unassign([])
