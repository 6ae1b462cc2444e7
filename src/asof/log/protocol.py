"""Protocols of logs: append to topics, share partitions in a consumer group, read from any offset.

Over 400 lines: the promises of one protocol, with its values and errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import numpy.typing as npt

from asof.errors import LogError
from asof.timing import Micros

Headers = tuple[tuple[str, bytes | None], ...]
"""A record's headers, in order; names may repeat."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One ordered sequence of records.

    Args:
        topic: the topic's name.
        number: from 0.
        topic_id: changes when the topic is recreated, so that (topic_id, number) identifies one history.
    """

    topic: str
    number: int
    topic_id: str


PartitionsCallback = Callable[[Sequence[Partition]], None]
"""Called inside `poll` (or `close`) with the partitions that were assigned, revoked or lost."""


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """A batch of n records as columns, ascending by offset within each partition.

    Args:
        partitions: n partition numbers, int32.
        offsets: n offsets, int64.
        timestamps_us: n record times in microseconds, int64.
        keys: n keys.
        values: n values; None is a tombstone.
        headers: n header tuples, or None if no record has any.
    """

    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    timestamps_us: npt.NDArray[np.int64]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> Messages:
        return Messages(
            self.partitions[rows],
            self.offsets[rows],
            self.timestamps_us[rows],
            self.keys[rows],
            self.values[rows],
            None if self.headers is None else self.headers[rows],
        )

    def select(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.integer] | Sequence[int]) -> Messages:
        """The rows where a mask of n booleans is true, or those at the given indexes, in their order."""
        index = np.asarray(rows)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)
        at = index.tolist()
        return Messages(
            self.partitions[index],
            self.offsets[index],
            self.timestamps_us[index],
            [self.keys[i] for i in at],
            [self.values[i] for i in at],
            None if self.headers is None else [self.headers[i] for i in at],
        )

    @classmethod
    def empty(cls) -> Messages:
        """No records."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64), [], [])

    @classmethod
    def concat(cls, parts: Sequence[Messages]) -> Messages:
        """All records, concatenated."""
        parts = [part for part in parts if len(part)]
        if len(parts) < 2:
            return parts[0] if parts else cls.empty()
        headers: list[Headers] | None = None
        if any(part.headers is not None for part in parts):
            headers = [header for part in parts for header in (part.headers or [()] * len(part))]
        return cls(
            np.concatenate([part.partitions for part in parts]),
            np.concatenate([part.offsets for part in parts]),
            np.concatenate([part.timestamps_us for part in parts]),
            list(chain.from_iterable(part.keys for part in parts)),
            list(chain.from_iterable(part.values for part in parts)),
            headers,
        )


class LogUnreachable(LogError):
    """The log is unreachable. Nothing was lost, and the call can be repeated."""

    may_pass = True


class OwnershipLost(LogError):
    """Another process has taken over the own partition, because this one seemed dead; nothing was written."""

    def __init__(self, topic: str, number: int) -> None:
        super().__init__(
            f"another process has taken over partition {number} of topic {topic!r}, because this one sent no heartbeat "
            "for too long; nothing was written",
            hint="call own_partition again, and send again",
        )
        self.topic, self.number = topic, number


class UnknownTopic(LogError):
    """No topic has this name."""

    def __init__(self, topic: str, where: str) -> None:
        super().__init__(f"no topic {topic!r} in {where}", hint="create it first, or check its name")
        self.topic = topic


class TopicReplaced(LogError):
    """A consumer's topic was deleted or recreated: its offsets are invalid."""

    def __init__(self, topic: str, *, known: str, found: str | None) -> None:
        what = f"recreated (its ID was {known}, now it is {found})" if found else f"deleted (its ID was {known})"
        super().__init__(f"topic {topic!r} was {what}", hint="accept the gap and subscribe again, or restore the topic")
        self.topic, self.known, self.found = topic, known, found


class OffsetOutOfRange(LogError):
    """A position is below the log's first offset, or above the next one to be written."""

    def __init__(self, partition: Partition, *, wanted: int, first: int, next: int) -> None:
        lost = f"offsets {wanted} to {first - 1} are deleted" if wanted < first else "the partition ends before it"
        super().__init__(
            f"partition {partition.number} of topic {partition.topic!r} has offsets {first} to {next - 1}, "
            f"but offset {wanted} was requested: {lost}",
            hint=f"seek to {first if wanted < first else next} if the gap can be accepted",
        )
        self.partition, self.wanted, self.first, self.next = partition, wanted, first, next


class PartitionNotOwned(LogError):
    """A consumer used a partition that is not, or no longer, assigned to it."""

    def __init__(self, topic: str, numbers: Sequence[int], group: str) -> None:
        super().__init__(
            f"partitions {list(numbers)} of topic {topic!r} are not assigned to this member of group {group!r}: "
            "they were revoked, or lost because it did not poll in time; nothing was committed",
            hint="poll again; the partition's new member continues",
        )
        self.topic, self.numbers, self.group = topic, list(numbers), group


class Consumer(Protocol):
    """One member of a group on one topic. Not for use from several threads at once."""

    def poll(self, max_messages: int, timeout_s: float) -> Messages:
        """Wait for records, at most `timeout_s`; may return fewer records than there are.

        Assignments change only here: `lost`, `revoked` and `assigned` are called inside, in this order. A partition
        starts at its committed offset, else at its first; `assigned` may `seek`. While `revoked` runs, the partitions
        are still assigned to this member, so it can flush and commit. A member that does not poll within the session
        timeout loses its partitions; `lost` is called at its next poll.

        Raises:
            OffsetOutOfRange: a position is outside the partition. That partition pauses until `seek`; others continue.
            TopicReplaced: the topic was deleted or recreated.
            LogUnreachable: the log is unreachable; poll again, the member recovers by itself.
            LogError: the log is damaged.
        """
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Continue from `offset` in an assigned partition.

        Raises:
            PartitionNotOwned: it is not assigned.
        """
        ...

    def position(self, partition: int) -> int:
        """The offset that `poll` reads next in an assigned partition.

        Raises:
            PartitionNotOwned: it is not assigned.
        """
        ...

    def assignment(self) -> list[Partition]:
        """The assigned partitions, ordered by number."""
        ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit, per partition, the next offset to read, for the next member that is assigned it.

        Raises:
            PartitionNotOwned: a partition is not assigned any more; nothing was committed.
        """
        ...

    def committed(self) -> dict[int, int]:
        """The group's committed offset of each partition that has one."""
        ...

    def close(self) -> None:
        """Call `revoked` for the assigned partitions, and leave the group. Idempotent."""
        ...


@dataclass(frozen=True)
class LogUser:
    """A project of a registry that uses a topic. Text: as messages name it.

    Args:
        registry: where the registry is; "" for this store's own.
    """

    project: str
    registry: str = ""

    def __str__(self) -> str:
        return f"project {self.project!r} of {f'the registry {self.registry}' if self.registry else 'this registry'}"


class SharedLog(Protocol):
    """A log that several projects and stores may share, which knows its users."""

    def old_topics(self) -> dict[str, str]:
        """Topics (name → ID) of any project from before topic names had a project prefix."""
        ...

    def other_users(self, topic: str) -> list[LogUser]:
        """The other stores that use one of this project's topics.

        Raises:
            UnknownTopic: it does not exist.
        """
        ...

    def leave(self, topic: str) -> None:
        """Remove this store from the topic's users.

        Raises:
            UnknownTopic: it does not exist.
        """
        ...


class LogDefaults:
    """Defaults for optional members of `Log`, to inherit."""

    @property
    def shared(self) -> SharedLog | None:
        return None

    def may_write(self) -> bool:
        return True


class Log(Protocol):
    """Topics, each with a fixed or growing number of partitions of ordered records.

    One object per broker or directory, not per topic: it has the connections, credentials and locks, and a worker reads
    several topics. Thread-safe. It is created with `clock=`, which gives the time of records that are sent without one,
    and the current time for retention. Optional members have defaults in `LogDefaults`, to inherit.
    """

    @property
    def shared(self) -> SharedLog | None:
        """The view of this log as a shared one; None if it cannot be shared or does not know its users."""
        ...

    def may_write(self) -> bool:
        """Whether this process may write to the log, as far as that is known without writing."""
        ...

    def create(self, topic: str, partitions: int = 1) -> None:
        """Create `topic`. An existing one is left unchanged, whatever its number of partitions."""
        ...

    def delete(self, topic: str) -> None:
        """Delete `topic` with its records and its groups' offsets; ignored if it does not exist."""
        ...

    def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        ...

    def topic_id(self, topic: str) -> str:
        """The topic's ID; a recreated topic has another one."""
        ...

    def partitions(self, topic: str) -> int:
        """The current number of partitions."""
        ...

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Partition → its first offset, and the next to be written. Equal: no records."""
        ...

    def offsets_at(self, topic: str, moment_us: Micros) -> dict[int, int]:
        """Partition → offset of the first record at or after `moment_us`; without one, the next to be written."""
        ...

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
        """Append n records. In an own partition they become visible to readers together.

        Args:
            keys: n keys. Without `partition`, the hash of a key selects its partition; all records of a call without a
                key go to one partition, a different one at each call.
            timestamps_us: n record times; default: the log's clock.
            durable: return only once the records survive a power cut.

        Returns:
            Partition and offset of each record, in order.

        Raises:
            OwnershipLost: the partition was owned by this log object, and another one has taken it over.
            LogError: nothing was written, or it is unknown whether; send again.
        """
        ...

    def read(
        self, topic: str, partition: int, start: int, *, stop: int | None = None, max_messages: int = 10_000
    ) -> Messages:
        """Records from offset `start` on, without a group, up to `stop` (exclusive; default: the current end).

        May return fewer than there are; an empty result means that nothing is left before `stop`.

        Raises:
            OffsetOutOfRange: `start` is outside the partition.
        """
        ...

    def subscribe(
        self,
        topic: str,
        group: str,
        *,
        assigned: PartitionsCallback | None = None,
        revoked: PartitionsCallback | None = None,
        lost: PartitionsCallback | None = None,
    ) -> Consumer:
        """Become a member of `group`, whose members share the topic's partitions evenly. Joins at the first `poll`."""
        ...

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """A group's committed offset per partition, without joining it (to compute lag)."""
        ...

    def own_partition(self, topic: str) -> int:
        """A partition that only this log object writes to until it is closed or its process dies.

        A partition without a living owner is taken over before a new one is created; later calls return the same one.
        """
        ...

    def retain(self, topic: str, *, max_age_us: Micros | None = None, max_bytes: int | None = None) -> None:
        """Delete whole segments of old records: beyond the age, or beyond the size per partition.

        The first offset in `bounds` rises. Up to one segment more than `max_bytes` may stay; by age, no record younger
        than `max_age_us` is deleted.
        """
        ...

    def erase(self, topic: str, match: Callable[[bytes | None, bytes | None], bool]) -> int:
        """Destroy key, value and headers of the records for which `match(key, value)` holds.

        Their offsets stay, and readers skip them. Safe during writes and reads.

        Returns:
            Number of erased records.

        Raises:
            LogError: the product cannot rewrite records.
        """
        ...

    def close(self) -> None:
        """Close files and connections, and release owned partitions."""
        ...
