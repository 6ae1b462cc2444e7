"""A member of a Kafka consumer group, on one topic.

Partitions are assigned by the cooperative sticky assignor: members keep reading partitions that do not move.

Over 400 lines: one member with its callbacks, which share the state of an assignment.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from asof.errors import LogError
from asof.log.kafka.cluster import Broker
from asof.log.kafka.records import AT_ONCE, columns_of, numbers_in, of_partitions
from asof.log.kafka.topic import KafkaTopic
from asof.log.kafka.watch import TopicWatch
from asof.log.protocol import (
    Messages,
    OffsetOutOfRange,
    Partition,
    PartitionNotOwned,
    PartitionsCallback,
)

MANY = 2000
GATHER_S = 0.01
"""A batch of this size means that the member lags; then it waits this long for a larger batch."""

_NOT_OURS = {
    KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST, KafkaError._NO_OFFSET, KafkaError._STATE, KafkaError.STALE_MEMBER_EPOCH,
}  # fmt: skip


class Offsets(Protocol):
    """The methods of the log that a member uses."""

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """See `Log.bounds`."""

    def committed_by(self, topic: KafkaTopic, group: str) -> dict[int, int]:
        """See `Log.committed`, for a described topic."""


class KafkaConsumer:
    """See `asof.log.protocol.Consumer`.

    Args:
        offsets: bounds of partitions, and committed offsets of the group.
        group: its full name in Kafka.
        session_timeout_s: without a heartbeat for this long, its partitions are reassigned.
    """

    def __init__(
        self,
        broker: Broker,
        offsets: Offsets,
        topic: KafkaTopic,
        group: str,
        *,
        assigned: PartitionsCallback | None,
        revoked: PartitionsCallback | None,
        lost: PartitionsCallback | None,
        session_timeout_s: float,
    ) -> None:
        self._broker, self._offsets, self._group = broker, offsets, group
        self._watch = TopicWatch(broker, topic, refresh=self._look_at_metadata)
        self._tell = {"assigned": assigned, "revoked": revoked, "lost": lost}
        self._session_timeout_s = session_timeout_s
        # Partition → offset of the next record to return; None while `assigned` runs and has not set it.
        self._positions: dict[int, int | None] = {}
        self._is_assigning = False
        self._resting: set[int] = set()
        self._waiting: list[Messages] = []
        # Partition → position that is reached once the buffered records are returned.
        self._ends: dict[int, int] = {}
        self._raised: BaseException | None = None
        self._has_to_rejoin = False
        self._consumer: Any = None
        self._join()

    def _join(self) -> None:
        self._consumer = self._broker.made(
            Consumer,
            group_id=self._group,
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            enable_partition_eof=True,
            auto_offset_reset="error",
            isolation_level="read_committed",
            partition_assignment_strategy="cooperative-sticky",
            session_timeout_ms=int(self._session_timeout_s * 1000),
            preset={
                "heartbeat.interval.ms": min(3000, int(self._session_timeout_s * 1000 / 3)),
                "max.poll.interval.ms": max(300_000, int(self._session_timeout_s * 1000)),
                # Refill a full local queue soon; the default of a second starves a fast reader.
                "fetch.queue.backoff.ms": 20,
                "topic.metadata.refresh.interval.ms": 5000,
            },
        )
        self._consumer.subscribe(
            [self._watch.topic.full_name], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    # ---- reading

    def poll(self, max_messages: int, timeout_s: float) -> Messages:
        """See `Consumer.poll`."""
        if self._has_to_rejoin:
            self._rejoin()
        deadline = time.monotonic() + timeout_s
        while True:
            self._watch.look()
            self._fetch(max_messages, max(deadline - time.monotonic(), 0.0))
            messages = self._usable()
            self._raise_what_was_raised()
            if len(messages) and self._watch.is_same():
                self._waiting = []
                return self._handed_over(messages)
            if len(messages) or time.monotonic() >= deadline:
                if self._watch.silence is not None:
                    raise self._watch.silence
                return Messages.empty()

    def _fetch(self, max_messages: int, timeout_s: float) -> None:
        """Wait for the first record, at most `timeout_s`, and buffer it with all that are available."""
        room = max_messages - sum(map(len, self._waiting))
        if room < 1:
            return
        try:
            first = self._consumer.poll(timeout_s)
            if first is None:
                return
            self._keep([first])
            left, patience_s = room - 1, min(timeout_s, GATHER_S)
            while left:
                wanted = min(left, AT_ONCE)
                came = self._consumer.consume(wanted, 0)
                if len(came) < wanted and patience_s and room - left + len(came) >= MANY:
                    # It lags: larger batches cost less per event, and more records are on their way.
                    came += self._consumer.consume(wanted - len(came), patience_s)
                    patience_s = 0.0
                self._keep(came)
                left -= len(came)
                if len(came) < wanted:
                    return
        except KafkaException as error:
            raise self._broker.translated(error.args[0], f"read topic {self._watch.topic.name!r}") from error

    def _keep(self, came: list[Any]) -> None:
        """Buffer records; process other events."""
        events = [each for each in came if each.error() is not None] if any(map(Message.error, came)) else []
        if len(events) < len(came):
            self._waiting.append(columns_of([each for each in came if each.error() is None] if events else came))
        for each in events:
            self._take_event(each)

    def _usable(self) -> Messages:
        """The buffered records of assigned partitions."""
        messages = of_partitions(Messages.concat(self._waiting), self._positions)
        self._waiting = [messages]
        if not len(messages):
            self._reach_ends()
        return messages

    def _take_event(self, event: Any) -> None:
        code, number = event.error().code(), event.partition()
        if code == KafkaError._PARTITION_EOF:
            # After the last record there may be transaction marks, which are not records.
            self._ends[number] = event.offset()
        elif code in _OUT_OF_RANGE:
            if number in self._positions:
                self._resting.add(number)
                self._raised = self._raised or self._out_of_range(number)
        elif code in _TOPIC_GONE:
            # The next check detects whether it was recreated.
            self._watch.check_now()
        elif code not in _PASSING:
            self._raised = self._raised or self._broker.translated(
                event.error(), f"read topic {self._watch.topic.name!r}", topic=self._watch.topic.name
            )

    def _reach_ends(self) -> None:
        for number, end in self._ends.items():
            if number in self._positions and number not in self._resting:
                self._positions[number] = max(self._positions[number] or 0, end)
        self._ends.clear()

    def _out_of_range(self, number: int) -> LogError:
        try:
            first, after = self._offsets.bounds(self._watch.topic.name)[number]
        except LogError as error:
            return error
        wanted = self._positions[number] or 0
        return OffsetOutOfRange(self._name_of(number), wanted=wanted, first=first, next=after)

    def _handed_over(self, messages: Messages) -> Messages:
        for number in numbers_in(messages):
            of_it = messages.offsets[messages.partitions == number]
            self._positions[number] = int(of_it[-1]) + 1
        self._reach_ends()
        return messages

    def _raise_what_was_raised(self) -> None:
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised

    def _look_at_metadata(self, full_name: str) -> None:
        self._consumer.list_topics(full_name, timeout=self._broker.timeout_s)

    # ---- positions

    def seek(self, partition: int, offset: int) -> None:
        """See `Consumer.seek`."""
        self._hold(partition)
        self._positions[partition] = offset
        self._resting.discard(partition)
        self._ends.pop(partition, None)
        self._waiting = [each.select(each.partitions != partition) for each in self._waiting]
        if not self._is_assigning:
            # A plain seek fails for a paused or newly assigned partition.
            place = [self._place(partition, offset)]
            try:
                self._consumer.incremental_unassign(place)
                self._consumer.incremental_assign(place)
            except KafkaException as error:
                raise self._refused(error.args[0], [partition], f"seek in topic {self._watch.topic.name!r}") from error

    def position(self, partition: int) -> int:
        """See `Consumer.position`."""
        self._hold(partition)
        if self._positions[partition] is None:
            self._settle_starts()
        return self._positions[partition] or 0

    def assignment(self) -> list[Partition]:
        """See `Consumer.assignment`."""
        return self._names(self._positions)

    def commit(self, offsets: Mapping[int, int]) -> None:
        """See `Consumer.commit`."""
        foreign = sorted(set(offsets) - set(self._positions))
        if foreign:
            raise PartitionNotOwned(self._watch.topic.name, foreign, self._group)
        if not offsets:
            return
        if self._watch.silence is not None:
            raise self._watch.silence
        doing = f"commit offsets of group {self._group!r}"
        try:
            positions = [self._place(number, offset) for number, offset in offsets.items()]
            done = self._consumer.commit(offsets=positions, asynchronous=False)
        except KafkaException as error:
            raise self._refused(error.args[0], sorted(offsets), doing) from error
        for each in done:
            if each.error is not None:
                raise self._refused(each.error, sorted(offsets), doing)

    def _refused(self, error: KafkaError, numbers: Sequence[int], doing: str) -> LogError:
        if error.code() in _NOT_OURS:
            return PartitionNotOwned(self._watch.topic.name, numbers, self._group)
        return self._broker.translated(error, doing)

    def committed(self) -> dict[int, int]:
        """See `Consumer.committed`."""
        return self._offsets.committed_by(self._watch.topic, self._group)

    def close(self) -> None:
        """See `Consumer.close`."""
        if self._consumer is None:
            return
        try:
            if self._positions and self._tell["revoked"] is not None:
                self._tell["revoked"](self._names(self._positions))
        finally:
            self._leave()

    def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._positions.clear()
        self._ends.clear()
        self._waiting = []
        self._resting.clear()
        if consumer is not None:
            _end_membership(consumer)
            consumer.close()

    def forget(self) -> list[Any]:
        """Drop the client without leaving the group: for a forked child."""
        consumer, self._consumer = self._consumer, None
        return [consumer]

    # ---- membership, from inside `poll`

    def _on_assign(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        if self._consumer is None:  # it is leaving: librdkafka assigns them by itself, and revokes them at once
            return
        numbers = sorted(each.partition for each in partitions)
        self._positions.update(dict.fromkeys(numbers))
        self._is_assigning = True
        try:
            self._call("assigned", numbers)
            self._settle_starts()
            consumer.incremental_assign([self._place(number, self._positions[number] or 0) for number in numbers])
        except BaseException as error:  # raised later by `poll`: an exception cannot pass through librdkafka's frames
            # Nothing is read before a position is set; the next member to be assigned them sets its own.
            self._raised = self._raised or error
            self._has_to_rejoin = True
            for number in numbers:
                self._positions.pop(number, None)
        finally:
            self._is_assigning = False

    def _on_revoke(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self._give_up("revoked", consumer, partitions)

    def _on_lost(self, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        self._give_up("lost", consumer, partitions)

    def _give_up(self, what: str, consumer: Any, partitions: Sequence[TopicPartition]) -> None:
        numbers = sorted(each.partition for each in partitions if each.partition in self._positions)
        try:
            if numbers:
                self._call(what, numbers)
        except BaseException as error:  # raised by `poll`, as above
            self._raised = self._raised or error
        finally:
            for number in numbers:
                del self._positions[number]
                self._resting.discard(number)
                self._ends.pop(number, None)
            self._waiting = [of_partitions(each, self._positions) for each in self._waiting]
            if self._consumer is not None:
                consumer.incremental_unassign(list(partitions))

    def _call(self, what: str, numbers: Iterable[int]) -> None:
        callback = self._tell[what]
        if callback is not None:
            callback(self._names(numbers))

    def _settle_starts(self) -> None:
        """Start partitions without a `seek` at the group's committed offset, else at the first offset."""
        unset = [number for number, position in self._positions.items() if position is None]
        if unset:
            committed = self.committed()
            bounds = self._offsets.bounds(self._watch.topic.name)
            for number in unset:
                self._positions[number] = committed.get(number, bounds[number][0])

    def _rejoin(self) -> None:
        """Rejoin as a new member: the group's assignment differs from what this one holds."""
        self.close()
        self._has_to_rejoin = False
        self._join()

    # ---- names

    def _hold(self, number: int) -> None:
        if number not in self._positions:
            raise PartitionNotOwned(self._watch.topic.name, [number], self._group)

    def _place(self, number: int, offset: int) -> TopicPartition:
        return TopicPartition(self._watch.topic.full_name, number, offset)

    def _name_of(self, number: int) -> Partition:
        return Partition(self._watch.topic.name, number, self._watch.topic.id)

    def _names(self, numbers: Iterable[int]) -> list[Partition]:
        return [self._name_of(number) for number in sorted(numbers)]


def _end_membership(consumer: Any) -> None:
    """Leave the group, and wait until no rebalance is under way.

    An assignment that is delivered inside librdkafka's `close` blocks it forever (librdkafka's issue 4527).
    """
    try:
        consumer.unsubscribe()
        deadline = time.monotonic() + _LEAVE_S
        while time.monotonic() < deadline:
            if consumer.poll(0.01) is None and not consumer.assignment():
                return
    except (KafkaException, RuntimeError):  # a client with a fatal error is only closed
        return


_LEAVE_S = 10.0

_OUT_OF_RANGE = {
    KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION,
}  # fmt: skip

_TOPIC_GONE = {
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_ID, KafkaError.INCONSISTENT_TOPIC_ID,
}  # fmt: skip

_PASSING = {
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE,
    KafkaError._MAX_POLL_EXCEEDED, KafkaError._WAIT_COORD, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH,
}  # fmt: skip
"""Errors that librdkafka recovers from by itself, or that the group handles by a new assignment."""
