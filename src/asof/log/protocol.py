"""What every log can do: append to topics, share their partitions in a group, read them again from any offset."""

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
"""A record's headers, in order; a name may come more than once."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One ordered sequence of records.

    Args:
        topic: the topic's name.
        number: from 0.
        topic_id: changes when the topic is deleted and made again, so (topic_id, number) never names two histories.
    """

    topic: str
    number: int
    topic_id: str


PartitionsCallback = Callable[[Sequence[Partition]], None]
"""Told, from inside `poll` (or `close`), which partitions came or went."""


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """A batch of n records as columns, ascending by offset within each partition.

    Args:
        partitions: n partition numbers, int32.
        offsets: n offsets, int64.
        timestamps_us: n record times in microseconds, int64.
        keys: n keys.
        values: n values; None is a tombstone.
        headers: n header tuples, or None where no record has any.
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
        """The parts' records one after the other."""
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
    """The log does not answer now, and may later: nothing was lost, and the same call can be made again."""

    may_pass = True


class OwnershipLost(LogError):
    """Another log object took this one's own partition over, as its process seemed dead; nothing was written."""

    def __init__(self, topic: str, number: int) -> None:
        super().__init__(
            f"partition {number} of topic {topic!r} is another process's now: this one was silent for too long; "
            "nothing was written",
            hint="ask for an own partition again, and send again",
        )
        self.topic, self.number = topic, number


class UnknownTopic(LogError):
    """No topic has this name."""

    def __init__(self, topic: str, where: str) -> None:
        super().__init__(f"no topic {topic!r} in {where}", hint="create it first, or check its name")
        self.topic = topic


class TopicReplaced(LogError):
    """The topic under a consumer was deleted, or deleted and made again: its offsets mean nothing any more."""

    def __init__(self, topic: str, *, known: str, found: str | None) -> None:
        what = f"made again (its id was {known}, now it is {found})" if found else f"deleted (its id was {known})"
        super().__init__(f"topic {topic!r} was {what}", hint="accept the gap and subscribe anew, or restore the topic")
        self.topic, self.known, self.found = topic, known, found


class OffsetOutOfRange(LogError):
    """A position lies below the first record that is still there, or above the next one to be written."""

    def __init__(self, partition: Partition, *, wanted: int, first: int, next: int) -> None:
        lost = f"offsets {wanted} to {first - 1} are gone" if wanted < first else "nothing was ever written there"
        super().__init__(
            f"partition {partition.number} of topic {partition.topic!r} has offsets {first} to {next - 1}, "
            f"asked for was {wanted}: {lost}",
            hint=f"seek to {first if wanted < first else next} if the gap can be accepted",
        )
        self.partition, self.wanted, self.first, self.next = partition, wanted, first, next


class PartitionNotOwned(LogError):
    """A consumer spoke for a partition that is not, or no longer, its own."""

    def __init__(self, topic: str, numbers: Sequence[int], group: str) -> None:
        super().__init__(
            f"partitions {list(numbers)} of topic {topic!r} are not assigned to this member of group {group!r}: "
            "they were revoked, or lost because it did not poll in time; nothing was committed",
            hint="poll, and let the partition's new owner go on",
        )
        self.topic, self.numbers, self.group = topic, list(numbers), group


class Consumer(Protocol):
    """One member of a group on one topic. Not for use from several threads at once."""

    def poll(self, max_messages: int, timeout_s: float) -> Messages:
        """Wait until there is something to read, at most `timeout_s`; may answer fewer records than there are.

        Membership moves only in here: `lost`, `revoked` and `assigned` are called from inside, in this order. A
        partition starts at its committed offset, else at its first; `assigned` may `seek` elsewhere. While `revoked`
        runs, the partitions are still this member's, so it can finish, flush and commit. Poll more often
        than the session timeout: a member that does not loses its partitions and learns `lost` when it polls again.

        Raises:
            OffsetOutOfRange: a position is outside the partition. That partition rests until `seek`; others go on.
            TopicReplaced: the topic was deleted, or made again.
            LogUnreachable: it does not answer; the member goes on by itself when it does, so poll again.
            LogError: the log is damaged.
        """
        ...

    def seek(self, partition: int, offset: int) -> None:
        """Go on from `offset` in an assigned partition.

        Raises:
            PartitionNotOwned: it is not assigned.
        """
        ...

    def position(self, partition: int) -> int:
        """The offset that `poll` would look at next in an assigned partition.

        Raises:
            PartitionNotOwned: it is not assigned.
        """
        ...

    def assignment(self) -> list[Partition]:
        """The partitions that this member holds, by number."""
        ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Keep, per partition, the next offset to be read, for whoever is assigned it next.

        Raises:
            PartitionNotOwned: one of them is no longer this member's; none was committed.
        """
        ...

    def committed(self) -> dict[int, int]:
        """The group's committed offset of each partition that has one."""
        ...

    def close(self) -> None:
        """Call `revoked` for what is held, and leave the group. Again: nothing happens."""
        ...


class SharedLog(Protocol):
    """A log whose place several projects and stores may share, which says who else is there."""

    def old_topics(self) -> dict[str, str]:
        """Topics, name → id, that were made before projects were kept apart, by whichever project."""
        ...

    def other_users(self, topic: str) -> list[str]:
        """The other stores that use one of this project's topics, in words.

        Raises:
            UnknownTopic: it is not there.
        """
        ...

    def leave(self, topic: str) -> None:
        """Use the topic no more, and leave it to the others.

        Raises:
            UnknownTopic: it is not there.
        """
        ...


class LogDefaults:
    """What a log may do without; `Log` says what it means."""

    @property
    def shared(self) -> SharedLog | None:
        return None


class Log(Protocol):
    """Keeps topics, each a fixed or growing number of partitions of ordered records.

    One object per broker or directory, not per topic: connections, credentials and locks belong there, and a worker
    reads several topics. Safe to use from several threads. It is made with `clock=`: the time of records that are sent
    without one, and the now of retention. What a log may do without is in `LogDefaults`, to inherit.
    """

    @property
    def shared(self) -> SharedLog | None:
        """Who else uses its place; None where no one can, or where it cannot tell."""
        ...

    def create(self, topic: str, partitions: int = 1) -> None:
        """Make `topic`. One that exists is left as it is, whatever its number of partitions."""
        ...

    def delete(self, topic: str) -> None:
        """Remove `topic` with its records and its groups' offsets; unknown: nothing happens."""
        ...

    def topics(self) -> list[str]:
        """The names of all topics, sorted."""
        ...

    def topic_id(self, topic: str) -> str:
        """The topic's identity; another one after it was deleted and made again."""
        ...

    def partitions(self, topic: str) -> int:
        """How many partitions it has now."""
        ...

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Per partition: the first offset that is there, and the next to be written. Equal: no records."""
        ...

    def offsets_at(self, topic: str, moment_us: Micros) -> dict[int, int]:
        """Per partition: the offset of the first record whose time is `moment_us` or later; without one, the next."""
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
            keys: n keys. Without `partition`, a key's hash names its partition; records without a key go together
                to one partition, another one at each call.
            timestamps_us: n record times; default: the log's clock.
            durable: return only when they outlive a power cut.

        Returns:
            Per record, in order, its partition and offset.

        Raises:
            OwnershipLost: the partition was this log object's own, and is another's now.
            LogError: nothing was written, or it is not known what; send again.
        """
        ...

    def read(
        self, topic: str, partition: int, start: int, *, stop: int | None = None, max_messages: int = 10_000
    ) -> Messages:
        """Records from offset `start` on, without a group, up to `stop` (exclusive; default: what is there now).

        May answer fewer than there are; an empty answer means that nothing is left before `stop`.

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
        """A group's committed offset per partition, without joining it (for lag)."""
        ...

    def own_partition(self, topic: str) -> int:
        """A partition that only this log object writes to until it is closed or its process dies.

        A partition without a living owner is taken over before a new one is made; asking again gives the same one.
        """
        ...

    def retain(self, topic: str, *, max_age_us: Micros | None = None, max_bytes: int | None = None) -> None:
        """Drop old records: those that are older, or beyond the size per partition, as far as whole segments are.

        Bounds' start rises. `max_bytes` may be exceeded by a segment; nothing younger than `max_age_us` goes by age.
        """
        ...

    def erase(self, topic: str, match: Callable[[bytes | None, bytes | None], bool]) -> int:
        """Destroy key, value and headers of the records for which `match(key, value)` holds.

        Their offsets stay, and readers pass over them; safe beside writers and readers.

        Returns:
            How many records were erased.

        Raises:
            LogError: the product cannot rewrite its records.
        """
        ...

    def close(self) -> None:
        """Let go of files, connections and the owned partitions."""
        ...
