"""The conformance suite of logs: a product's tests inherit `LogSuite` and give it `open_log`.

Over 400 lines: a suite is one class, which a product subclasses as a whole.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import pytest

from asof.errors import LogError
from asof.log.protocol import (
    Consumer,
    Log,
    Messages,
    OffsetOutOfRange,
    Partition,
    PartitionNotOwned,
    TopicReplaced,
    UnknownTopic,
)

OpenLog = Callable[[], Log]


class Member:
    """A consumer that records its assignments and what it received."""

    def __init__(self, log: Log, topic: str, group: str = "workers") -> None:
        self.calls: list[tuple[str, list[int]]] = []
        self.got: list[tuple[int, int, bytes | None]] = []
        self.at_revoke: Callable[[Consumer, list[int]], None] | None = None
        self.at_assign: Callable[[Consumer, list[int]], None] | None = None
        self.consumer = log.subscribe(
            topic, group, assigned=self._note("assigned"), revoked=self._note("revoked"), lost=self._note("lost")
        )

    def _note(self, what: str) -> Callable[[Sequence[Partition]], None]:
        def note(partitions: Sequence[Partition]) -> None:
            numbers = [partition.number for partition in partitions]
            self.calls.append((what, numbers))
            hook = {"revoked": self.at_revoke, "assigned": self.at_assign}.get(what)
            if hook is not None:
                hook(self.consumer, numbers)

        return note

    @property
    def holds(self) -> set[int]:
        """The partitions that it is assigned."""
        return {partition.number for partition in self.consumer.assignment()}

    def poll(self, max_messages: int = 1000, timeout_s: float = 0.0) -> Messages:
        """Poll, and remember what came."""
        messages = self.consumer.poll(max_messages, timeout_s)
        self.got += zip(messages.partitions.tolist(), messages.offsets.tolist(), messages.values, strict=True)
        return messages


class LogSuite:
    """What every log must do.

    A subclass gives the fixture `open_log`: a callable that opens another, independent log object (as another process
    would) on the same storage, empty at the test's start. Its segments should be cut at 4 KiB or so, for retention.

    Attributes:
        unsupported: the verbs that the product refuses with a `LogError`, and `epoch` where a record cannot have the
            time 0; a test holds it to that.
        patience_s: how long a rebalance or a delivery may take before the test gives up.
    """

    unsupported: ClassVar[frozenset[str]] = frozenset()
    patience_s: ClassVar[float] = 30.0

    @pytest.fixture
    def log(self, open_log: OpenLog) -> Log:
        """The log under test."""
        return open_log()

    @pytest.fixture
    def topic(self) -> str:
        """A name that no other test uses."""
        return f"topic-{uuid.uuid4().hex[:12]}"

    @pytest.fixture
    def join(self) -> Iterator[Callable[..., Member]]:
        """Makes members, and closes them at the end."""
        members: list[Member] = []

        def make(log: Log, topic: str, group: str = "workers") -> Member:
            members.append(Member(log, topic, group))
            return members[-1]

        yield make
        for member in members:
            member.consumer.close()

    def until(self, members: Sequence[Member], reached: Callable[[], bool]) -> None:
        """Let the members poll in turn until something holds."""
        deadline = time.monotonic() + self.patience_s
        while not reached():
            assert time.monotonic() < deadline, f"not reached; members: {[(m.holds, m.calls) for m in members]}"
            for member in members:
                member.poll(timeout_s=0.01)

    def refuses(self, verb: str, call: Callable[[], object]) -> bool:
        """Whether the product does not support this verb; then it must refuse it."""
        if verb not in self.unsupported:
            return False
        with pytest.raises(LogError):
            call()
        return True

    # ---- topics

    def test_creating_a_topic_again_changes_nothing(self, log: Log, topic: str) -> None:
        log.create(topic, 3)
        log.send(topic, [b"kept"], partition=0, durable=False)
        first_id = log.topic_id(topic)

        log.create(topic, 3)

        assert (log.topic_id(topic), log.partitions(topic)) == (first_id, 3)
        assert log.bounds(topic) == {0: (0, 1), 1: (0, 0), 2: (0, 0)}
        assert topic in log.topics()

    def test_a_topic_that_was_made_again_has_another_id_and_starts_empty(self, log: Log, topic: str) -> None:
        log.create(topic)
        log.send(topic, [b"old"], durable=False)
        old_id = log.topic_id(topic)

        log.delete(topic)
        assert topic not in log.topics()
        log.delete(topic)
        log.create(topic)

        assert log.topic_id(topic) != old_id
        assert log.bounds(topic) == {0: (0, 0)}
        log.send(topic, [b"new"], durable=False)
        assert log.read(topic, 0, 0).values == [b"new"]

    def test_an_unknown_topic_is_an_error_that_names_it(self, log: Log, topic: str) -> None:
        calls: list[Callable[[], object]] = [
            lambda: log.topic_id(topic),
            lambda: log.bounds(topic),
            lambda: log.send(topic, [b"x"], durable=False),
            lambda: log.read(topic, 0, 0),
            lambda: log.subscribe(topic, "g"),
        ]
        for call in calls:
            with pytest.raises(UnknownTopic, match=topic):
                call()

    def test_a_consumer_of_a_topic_that_was_made_again_is_told(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic)
        old_id = log.topic_id(topic)
        member = join(log, topic)
        self.until([member], lambda: member.holds == {0})

        other = open_log()
        other.delete(topic)
        other.create(topic)

        with pytest.raises(TopicReplaced) as raised:
            self.until([member], lambda: False)
        assert raised.value.known == old_id

    # ---- sending and reading

    def test_records_of_a_partition_keep_their_order_and_have_dense_offsets(self, log: Log, topic: str) -> None:
        log.create(topic, 2)
        sent = [b"%d" % i for i in range(500)]
        positions: list[tuple[int, int]] = []
        for i in range(0, 500, 50):
            positions += log.send(topic, sent[i : i + 50], partition=1, durable=False)

        assert positions == [(1, offset) for offset in range(500)]
        messages = log.read(topic, 1, 0, max_messages=1000)
        assert messages.values == sent
        assert messages.offsets.tolist() == list(range(500))
        assert messages.partitions.tolist() == [1] * 500
        assert (messages.partitions.dtype, messages.offsets.dtype) == (np.dtype(np.int32), np.dtype(np.int64))
        assert log.bounds(topic) == {0: (0, 0), 1: (0, 500)}

    def test_a_key_stays_in_its_partition_and_keys_spread(self, log: Log, open_log: OpenLog, topic: str) -> None:
        log.create(topic, 4)
        keys = [b"key-%d" % (i % 40) for i in range(400)]
        values = [b"%d" % i for i in range(400)]
        positions = log.send(topic, values[:200], keys=keys[:200], durable=False)
        positions += open_log().send(topic, values[200:], keys=keys[200:], durable=False)

        seen: dict[bytes, set[int]] = {}
        for key, (number, _) in zip(keys, positions, strict=True):
            seen.setdefault(key, set()).add(number)
        assert all(len(numbers) == 1 for numbers in seen.values())
        assert len(set().union(*seen.values())) == 4
        for number in range(4):
            expected = [(k, v) for k, v, (n, _) in zip(keys, values, positions, strict=True) if n == number]
            messages = log.read(topic, number, 0)
            assert list(zip(messages.keys, messages.values, strict=True)) == expected

    def test_records_without_a_key_reach_all_partitions_in_the_end(self, log: Log, topic: str) -> None:
        log.create(topic, 3)
        for _ in range(60):
            log.send(topic, [b"x"], durable=False)
        assert all(stop > 0 for _, stop in log.bounds(topic).values())

    def test_nulls_empty_bytes_headers_and_times_come_back_as_they_were_sent(self, log: Log, topic: str) -> None:
        log.create(topic)
        values = [b"v", None, b"", b"\x00" * 9, None]
        keys = [None, b"k", b"", b"k2", b"gone"]
        headers = [(), (("a", b"1"), ("a", b"2")), (("é", b"\xff"),), (), (("none", None),)]
        times = [1_700_000_000_000_000, 1_700_000_000_001_000, 1_000, 1_699_999_999_999_000, 5_000]
        log.send(topic, values, keys=keys, headers=headers, timestamps_us=times, partition=0, durable=True)

        messages = log.read(topic, 0, 0)
        assert messages.values == values
        assert messages.keys == keys
        assert messages.headers == headers
        assert messages.timestamps_us.tolist() == times

    def test_a_record_may_be_of_the_epoch_itself(self, log: Log, topic: str) -> None:
        log.create(topic)
        log.send(topic, [b"first of all"], timestamps_us=[0], durable=False)
        # Strict: a product that learns it fails here until it takes the name off its list.
        assert (log.read(topic, 0, 0).timestamps_us.tolist() == [0]) == ("epoch" not in self.unsupported)

    def test_records_without_headers_keep_their_rows_beside_those_with_some(self, log: Log, topic: str) -> None:
        log.create(topic)
        log.send(topic, [b"a", b"b"], durable=False)
        log.send(topic, [b"c"], headers=[(("h", b"1"),)], durable=False)
        log.send(topic, [b"d"], durable=False)

        messages = log.read(topic, 0, 0, max_messages=100)
        while len(messages) < 4:
            messages = Messages.concat([messages, log.read(topic, 0, len(messages), max_messages=100)])
        assert messages.values == [b"a", b"b", b"c", b"d"]
        assert messages.headers == [(), (), (("h", b"1"),), ()]

    def test_columns_of_different_lengths_are_refused(self, log: Log, topic: str) -> None:
        log.create(topic)
        with pytest.raises(LogError, match="2 values, but 1 keys"):
            log.send(topic, [b"a", b"b"], keys=[b"k"], durable=False)
        assert log.send(topic, [], durable=False) == []
        assert log.bounds(topic) == {0: (0, 0)}

    def test_a_range_is_read_in_pieces_of_any_size_from_any_offset(self, log: Log, topic: str) -> None:
        log.create(topic)
        for i in range(0, 900, 9):
            log.send(topic, [b"%d" % j for j in range(i, i + 9)], durable=False)

        for start, stop, step in [(0, 900, 1000), (0, 900, 7), (123, 456, 10), (450, 451, 1), (899, 900, 5)]:
            got: list[bytes | None] = []
            while len(piece := log.read(topic, 0, start + len(got), stop=stop, max_messages=step)):
                assert len(piece) <= step
                assert piece.offsets.tolist() == list(range(start + len(got), start + len(got) + len(piece)))
                got += piece.values
            assert got == [b"%d" % j for j in range(start, stop)]
        assert len(log.read(topic, 0, 900)) == 0

    def test_reading_outside_the_partition_is_an_error_with_its_bounds(self, log: Log, topic: str) -> None:
        log.create(topic)
        log.send(topic, [b"a", b"b"], durable=False)
        with pytest.raises(OffsetOutOfRange) as raised:
            log.read(topic, 0, 3)
        assert (raised.value.wanted, raised.value.first, raised.value.next) == (3, 0, 2)

    def test_a_large_record_passes_whole(self, log: Log, topic: str) -> None:
        log.create(topic)
        large = bytes(range(256)) * 3600
        log.send(topic, [b"before", large, b"after"], durable=False)
        got: list[bytes | None] = []
        while len(piece := log.read(topic, 0, len(got))):
            got += piece.values
        assert got == [b"before", large, b"after"]

    def test_the_first_record_of_a_moment_or_later_is_found(self, log: Log, topic: str) -> None:
        log.create(topic, 3)
        times = [1_700_000_000_000_000 + i * 1_000_000 for i in range(10)]
        log.send(topic, [b"v"] * 10, timestamps_us=times, partition=0, durable=False)
        log.send(topic, [b"v"], timestamps_us=[times[5]], partition=1, durable=False)

        assert log.offsets_at(topic, times[3]) == {0: 3, 1: 0, 2: 0}
        assert log.offsets_at(topic, times[3] + 1) == {0: 4, 1: 0, 2: 0}
        assert log.offsets_at(topic, times[9] + 1) == {0: 10, 1: 1, 2: 0}
        assert log.offsets_at(topic, 1_000) == {0: 0, 1: 0, 2: 0}

    # ---- groups

    def test_a_member_alone_gets_all_partitions_and_all_records(
        self, log: Log, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 3)
        keys = [b"%d" % (i % 10) for i in range(100)]
        positions = log.send(topic, [b"v%d" % i for i in range(100)], keys=keys, durable=False)
        member = join(log, topic)

        self.until([member], lambda: len(member.got) >= 100)

        assert sorted((n, o) for n, o, _ in member.got) == sorted(positions)
        assert {n for what, numbers in member.calls if what == "assigned" for n in numbers} == {0, 1, 2}
        assert [p.topic_id for p in member.consumer.assignment()] == [log.topic_id(topic)] * 3

    def test_members_share_the_partitions_evenly_and_each_record_reaches_one(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 5)
        one, two = join(log, topic), join(open_log(), topic)
        self.until([one, two], lambda: sorted([len(one.holds), len(two.holds)]) == [2, 3])
        assert one.holds | two.holds == set(range(5))

        positions = log.send(topic, [b"v"] * 100, keys=[b"%d" % i for i in range(100)], durable=False)
        self.until([one, two], lambda: len(one.got) + len(two.got) >= 100)

        assert sorted((n, o) for n, o, _ in one.got + two.got) == sorted(positions)
        assert {n for n, _, _ in one.got} <= one.holds

    def test_a_member_that_joins_makes_others_give_up_after_they_have_committed(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 4)
        log.send(topic, [b"v"] * 80, keys=[b"%d" % i for i in range(80)], durable=False)
        first = join(log, topic)
        self.until([first], lambda: len(first.got) == 80)
        # Nothing was committed so far: only what the revoked callback commits keeps the second from reading again.
        first.at_revoke = lambda consumer, numbers: consumer.commit({n: consumer.position(n) for n in numbers})

        second = join(open_log(), topic)
        self.until([first, second], lambda: len(first.holds) == 2 and len(second.holds) == 2)

        revoked = {n for what, numbers in first.calls if what == "revoked" for n in numbers}
        assert second.holds <= revoked
        assert [what for what, _ in first.calls].count("lost") == 0
        log.send(topic, [b"w"] * 80, keys=[b"%d" % i for i in range(80)], durable=False)
        self.until([first, second], lambda: len(first.got) + len(second.got) >= 160)
        assert all(value == b"w" for _, _, value in second.got)

    def test_a_member_that_leaves_hands_its_partitions_to_the_others(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 4)
        one, two = join(log, topic), join(open_log(), topic)
        self.until([one, two], lambda: len(one.holds) == 2 and len(two.holds) == 2)
        held = two.holds

        two.consumer.close()
        two.consumer.close()

        assert {n for what, numbers in two.calls if what == "revoked" for n in numbers} >= held
        self.until([one], lambda: one.holds == {0, 1, 2, 3})

    def test_more_members_than_partitions_leaves_some_without(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 1)
        members = [join(log, topic), join(open_log(), topic)]
        self.until(members, lambda: any(member.holds for member in members))
        for _ in range(3):
            for member in members:
                member.poll(timeout_s=0.02)
            assert sorted(len(member.holds) for member in members) == [0, 1]

    def test_groups_do_not_disturb_each_other(self, log: Log, topic: str, join: Callable[..., Member]) -> None:
        log.create(topic, 2)
        log.send(topic, [b"v"] * 20, keys=[b"%d" % i for i in range(20)], durable=False)
        one, two = join(log, topic, "one"), join(log, topic, "two/with ünusual name")
        self.until([one, two], lambda: len(one.got) == 20 and len(two.got) == 20)
        one.consumer.commit({0: 1})
        assert (one.consumer.committed(), two.consumer.committed()) == ({0: 1}, {})

    def test_a_commit_is_where_a_new_member_begins(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic)
        log.send(topic, [b"%d" % i for i in range(10)], durable=False)
        first = join(log, topic)
        self.until([first], lambda: len(first.got) == 10)
        first.consumer.commit({0: 6})
        first.consumer.close()

        other = open_log()
        assert other.committed(topic, "workers") == {0: 6}
        second = join(other, topic)
        self.until([second], lambda: len(second.got) == 4)
        assert [offset for _, offset, _ in second.got] == [6, 7, 8, 9]

    def test_a_commit_for_a_partition_that_is_not_held_is_refused_whole(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 2)
        one, two = join(log, topic), join(open_log(), topic)
        self.until([one, two], lambda: len(one.holds) == 1 and len(two.holds) == 1)
        (mine,), (foreign,) = one.holds, two.holds

        with pytest.raises(PartitionNotOwned):
            one.consumer.commit({mine: 0, foreign: 0})
        with pytest.raises(PartitionNotOwned):
            one.consumer.seek(foreign, 0)
        with pytest.raises(PartitionNotOwned):
            one.consumer.position(foreign)
        assert one.consumer.committed() == {}

    def test_seek_moves_the_place_back_forward_and_from_within_assigned(
        self, log: Log, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic)
        log.send(topic, [b"%d" % i for i in range(50)], durable=False)
        member = join(log, topic)
        member.at_assign = lambda consumer, numbers: consumer.seek(0, 30)

        self.until([member], lambda: len(member.got) >= 20)
        assert [offset for _, offset, _ in member.got] == list(range(30, 50))
        assert member.consumer.position(0) == 50

        member.consumer.seek(0, 3)
        assert member.consumer.position(0) == 3
        member.got.clear()
        self.until([member], lambda: len(member.got) >= 47)
        assert [offset for _, offset, _ in member.got] == list(range(3, 50))

    def test_poll_answers_no_more_than_asked_and_goes_on_where_it_stopped(
        self, log: Log, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic)
        log.send(topic, [b"%d" % i for i in range(25)], durable=False)
        member = join(log, topic)
        sizes: list[int] = []
        deadline = time.monotonic() + self.patience_s
        while len(member.got) < 25 and time.monotonic() < deadline:
            sizes.append(len(member.poll(10, 0.05)))
            assert member.consumer.assignment() == [] or member.consumer.position(0) == len(member.got)
        assert [offset for _, offset, _ in member.got] == list(range(25))
        assert max(sizes) <= 10

    def test_a_waiting_poll_sees_what_another_process_sends(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic)
        member = join(log, topic)
        self.until([member], lambda: member.holds == {0})
        open_log().send(topic, [b"late"], durable=False)
        assert member.poll(timeout_s=self.patience_s).values == [b"late"]

    def test_a_place_outside_the_partition_stops_that_partition_alone(
        self, log: Log, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 2)
        for number in (0, 1):
            log.send(topic, [b"a", b"b"], partition=number, durable=False)
        member = join(log, topic)

        def out_of_range(consumer: Consumer, numbers: list[int]) -> None:
            if 0 in numbers:
                consumer.seek(0, 7)

        member.at_assign = out_of_range
        with pytest.raises(OffsetOutOfRange) as raised:
            self.until([member], lambda: False)
        assert (raised.value.partition.number, raised.value.wanted, raised.value.next) == (0, 7, 2)

        self.until([member], lambda: len(member.got) >= 2)
        assert {number for number, _, _ in member.got} == {1}
        member.consumer.seek(0, 1)
        self.until([member], lambda: len(member.got) >= 3)
        assert member.got[-1] == (0, 1, b"b")

    # ---- retention, erasing, own partitions

    def test_retention_raises_the_start_and_tells_who_was_below_it(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic)
        if self.refuses("retain", lambda: log.retain(topic, max_bytes=1)):
            return
        for i in range(40):
            log.send(topic, [b"%d" % i, bytes(500)], partition=0, durable=False)
        member = join(open_log(), topic)
        member.at_assign = lambda consumer, numbers: consumer.seek(0, 0)
        self.until([member], lambda: bool(member.holds))

        log.retain(topic, max_bytes=10_000)
        # Only now: what a member has fetched already, retention does not take away from it.
        member.consumer.seek(0, 1)

        start, stop = log.bounds(topic)[0]
        assert 1 < start < stop == 80
        assert open_log().bounds(topic) == {0: (start, 80)}
        messages = log.read(topic, 0, start, max_messages=100)
        assert messages.offsets.tolist()[0] == start
        with pytest.raises(OffsetOutOfRange) as raised:
            log.read(topic, 0, start - 1)
        assert (raised.value.first, raised.value.wanted) == (start, start - 1)
        with pytest.raises(OffsetOutOfRange) as raised:
            self.until([member], lambda: False)
        assert raised.value.first == start
        member.consumer.seek(0, start)
        member.got.clear()
        self.until([member], lambda: len(member.got) >= stop - start)
        assert [offset for _, offset, _ in member.got] == list(range(start, stop))

    def test_erased_records_are_passed_over_and_the_others_stay_where_they_were(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 2)
        if self.refuses("erase", lambda: log.erase(topic, lambda key, value: False)):
            return
        keys = [b"user-%d" % (i % 5) for i in range(200)]
        values: list[bytes | None] = [b"%d" % i for i in range(200)]
        headers = [(("who", key),) for key in keys]
        positions = log.send(topic, values, keys=keys, headers=headers, durable=False)
        reader = open_log()
        member = join(reader, topic)
        self.until([member], lambda: len(member.got) == 200)
        assert len(reader.read(topic, positions[0][0], 0, max_messages=3)) == 3

        assert log.erase(topic, lambda key, value: key == b"user-3") == 40
        assert log.erase(topic, lambda key, value: key == b"user-3") == 0

        left = [(n, o, v) for (n, o), k, v in zip(positions, keys, values, strict=True) if k != b"user-3"]
        member.got.clear()
        for number in (0, 1):
            member.consumer.seek(number, 0)
        self.until([member], lambda: len(member.got) >= 160)
        assert sorted(member.got) == sorted(left)
        ends = {number: stop for number, (_, stop) in log.bounds(topic).items()}
        assert {n: member.consumer.position(n) for n in (0, 1)} == ends
        log.send(topic, [b"after"], partition=1, durable=False)
        assert reader.read(topic, 1, ends[1]).values == [b"after"]

    def test_erasing_the_last_records_lets_readers_reach_the_end(self, log: Log, topic: str) -> None:
        log.create(topic)
        if self.refuses("erase", lambda: log.erase(topic, lambda key, value: False)):
            return
        log.send(topic, [b"a", b"b", b"c"], durable=False)
        log.send(topic, [b"secret"], durable=False)
        log.erase(topic, lambda key, value: value in (b"secret", b"b"))
        assert log.read(topic, 0, 0).values == [b"a", b"c"]
        assert len(log.read(topic, 0, 3)) == 0
        assert log.bounds(topic) == {0: (0, 4)}

    def test_each_log_object_has_its_own_partition_and_a_free_one_is_taken_over(
        self, log: Log, open_log: OpenLog, topic: str
    ) -> None:
        log.create(topic, 1)
        if self.refuses("own_partition", lambda: log.own_partition(topic)):
            return
        second, third = open_log(), open_log()

        assert log.own_partition(topic) == log.own_partition(topic) == 0
        assert second.own_partition(topic) == 1
        assert log.partitions(topic) == 2
        second.send(topic, [b"from the second"], partition=1, durable=True)
        second.close()

        assert third.own_partition(topic) == 1
        # A log may keep marks of its own between records.
        [(number, offset)] = third.send(topic, [b"from the third"], partition=1, durable=True)
        assert (number, offset > 0) == (1, True)
        assert log.read(topic, 1, 0).values == [b"from the second", b"from the third"]
        assert log.partitions(topic) == 2

    def test_a_new_partition_is_assigned_to_a_member(
        self, log: Log, open_log: OpenLog, topic: str, join: Callable[..., Member]
    ) -> None:
        log.create(topic, 1)
        if self.refuses("own_partition", lambda: log.own_partition(topic)):
            return
        member = join(open_log(), topic)
        self.until([member], lambda: member.holds == {0})
        log.own_partition(topic)
        pusher = open_log()
        number = pusher.own_partition(topic)
        pusher.send(topic, [b"pushed"], partition=number, durable=False)
        self.until([member], lambda: bool(member.got))
        assert member.got == [(1, 0, b"pushed")]
