"""A log's messages on their way: decoded, applied to the online rows at once, archived every few seconds.

The order of writes makes a crash anywhere a replay that changes nothing: rows first, then the archive with its offsets,
then progress in the online store, and only then the group's offsets. Verdicts that depend on the clock go before all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.decoding import UnusableMessage
from asof.definitions import FeatureView, Snapshot
from asof.errors import LogError
from asof.flows.facts import record_gap
from asof.flows.generations.live import LiveGenerations, PendingPush
from asof.flows.generations.names import Name
from asof.flows.generations.recompute import recompute_rows
from asof.flows.generations.writer import GenerationWriter
from asof.flows.rows.archive import letter_rows, with_arrival
from asof.flows.rows.arrival import Ints, origins_of, stamps_of
from asof.flows.rows.batch import batch_of
from asof.flows.rows.pushed import AppendedRows, PushedRows
from asof.flows.stores import Parts, log_source_named
from asof.flows.stream.buffer import ArchiveWriter, Buffer
from asof.flows.stream.dead_letter_limit import RecentVerdicts
from asof.flows.stream.verdicts import Verdicts
from asof.log.protocol import Messages
from asof.sql.partitions import ArchivePartition
from asof.timing import Micros


class Ingest:
    """One source's messages, for the partitions that this process has.

    Args:
        source: its name; the definition is read from the registry, and read again when the registry changes.
        seconds: a monotonic clock, for the dead-letter limit.

    Attributes:
        archived: this process's partitions (numbered as in the archive) → the last offset that is archived.
        greatest_stamp: of all pushed messages that were taken; 0 where none had one.
    """

    def __init__(self, parts: Parts, source: str, *, seconds: Callable[[], float]) -> None:
        self.parts = parts
        self.name = source
        self.counts: Counter[str] = Counter()
        self.undeclared: Counter[str] = Counter()
        self.archived: dict[int, int] = {}
        self.greatest_stamp: Micros = 0
        self.snapshot: Snapshot = parts.registry.load(parts.project)
        self.source = log_source_named(self.snapshot, source)
        # Fixed for good: it belongs to the topic that is read, and one that is made again has other offsets.
        self.epoch = self.snapshot.facts.epoch_of(source)
        self.generations = LiveGenerations(parts, source)
        self._taken: dict[int, int] = {}
        self._done: dict[int, int] = {}
        self._verdicts = Verdicts(parts, self.source, counts=self.counts)
        self._recent = RecentVerdicts(seconds)
        self._writer = ArchiveWriter(parts, self.source)
        self.generations.read_registry(self.snapshot)
        self.generations.take_up(self.source, self.archived)

    @property
    def feeders(self) -> dict[Name, GenerationWriter]:
        """What feeds each generation."""
        return self.generations.feeders

    @property
    def buffered(self) -> int:
        """Messages that are applied and not archived, nor on their way there."""
        return self._writer.waiting.size

    def base(self, topic: str) -> int:
        """What is added to a topic's partition numbers in the archive."""
        return int(ArchivePartition.of(0, epoch=self.epoch, is_replayed=topic == self.source.replay_topic))

    def begin(self, topic: str, number: int, *, first: int, accept_gap: bool = False) -> int:
        """Take over a partition: bring every generation up to the archive, and say where to read on.

        Args:
            first: the first offset that the log still has.

        Raises:
            LogError: the log dropped events that were never archived.
        """
        partition = number + self.base(topic)
        archived = self.parts.offline.offsets(self.parts.archive_of(self.source), [partition])[partition]
        if first > archived + 1:
            gap = f"offsets {archived + 1} to {first - 1} of partition {number} of topic {topic!r}"
            if not accept_gap:
                raise LogError(
                    f"{gap} are gone from the log and were never archived",
                    hint="accept the loss with `asof stream run --accept-gap`, which records it",
                )
            self._writer.write(Buffer(through={partition: first - 1}))
            record_gap(self.parts, self.name, gap)
            archived = first - 1
        self._verdicts.begin(self.source, partition, archived=archived)
        self.archived[partition] = self._taken[partition] = archived
        self.generations.begin(self.source, partition, archived)
        return archived + 1

    def take(self, topic: str, messages: Messages) -> None:
        """Apply a batch to the online rows, and keep it for the archive. Offsets ascend within each partition.

        Raises:
            StorageError: the rows could not be written; nothing of the batch was kept, so it has to be read again.
            DeadLetterLimit: too many messages cannot be used.
        """
        base = self.base(topic)
        messages = self._news(messages, base)
        if not len(messages):
            return
        source, now = self.source, self.parts.clock()
        decoded = self._verdicts.decode(source, self.snapshot, messages, base=base, now=now)
        letters = self._letters_of(topic, messages, decoded.letters, base, now)
        through = _last_offsets(messages, base)
        if any(letter.is_early for letter in decoded.letters):
            self._write_down(letters, through)
            letters = None
        partition = (messages.partitions[decoded.index] + base).astype(np.int32)
        offset = messages.offsets[decoded.index]
        pushed_at, origin = self._came(topic, messages, decoded.index, partition)
        raw = with_arrival(
            decoded.rows, partition=partition, offset=offset, ingested_at=now, source=source, pushed_at=pushed_at,
            origin=origin,
        )  # fmt: skip
        if self.feeders and len(offset):
            batch = batch_of(
                source, decoded.rows, event_time=decoded.event_time, partition=partition, offset=offset,
                pushed_at=pushed_at, origin=origin,
            )  # fmt: skip
            self.generations.feed(source, batch, raw)
        self._writer.keep(
            Buffer([raw] if len(offset) else [], [letters] if letters is not None else [], through, len(messages))
        )
        self._taken |= through
        self.counts["events"] += len(messages)
        self.counts["dead letters"] += len(decoded.letters)
        if decoded.left_out:
            self.counts["left out by the transform"] += decoded.left_out
        self.undeclared.update(decoded.undeclared)
        self._watch(len(messages), {letter.index for letter in decoded.letters})

    def _came(
        self, topic: str, messages: Messages, index: npt.NDArray[np.int64], partition: npt.NDArray[np.int32]
    ) -> tuple[Ints | None, tuple[Ints, Ints] | None]:
        """Stamps of pushes, and the first places of replayed dead letters, of the messages at these indexes."""
        if messages.headers is None:
            return None, None
        pushed_at = origin = None
        if self.source.type == "push" and (stamps := stamps_of(messages.headers)) is not None:
            self.greatest_stamp = max(self.greatest_stamp, int(stamps.max()))
            pushed_at = stamps[index]
        if topic == self.source.replay_topic:
            headers = [messages.headers[i] for i in index.tolist()]
            origin = origins_of(headers, partition.astype(np.int64), messages.offsets[index])
        return pushed_at, origin

    @property
    def takes_pushes(self) -> bool:
        """Whether `take_pushed` may be called: no definition changed, and no message may turn out to be a duplicate."""
        return not self._verdicts.depend_on_others and not self.has_news()

    def look_ahead(self, rows: PushedRows, number: int, first: int, pushed_at: Micros) -> PendingPush | None:
        """Begin to apply rows that are to be written to a partition of the topic: what needs no look at the log.

        Args:
            first: the first row's offset, if nothing comes in between; those of the others follow.
            pushed_at: their stamp.

        Returns:
            What `take_pushed` goes on with, or else is dropped; None where the log has to be read.
        """
        if self._verdicts.depend_on_others or rows.source is not self.source or not rows.count:
            return None
        arrived = AppendedRows(rows, number + self.base(self.source.topic), first, self.parts.clock(), pushed_at)
        return self.generations.look_ahead(self.source, arrived)

    def take_pushed(self, ahead: PendingPush) -> None:
        """Apply rows that were checked and then written, as `take` would apply them. All before them were taken.

        Raises:
            StorageError: as in `take`.
        """
        arrived = ahead.arrived
        rows, partition = arrived.rows, arrived.partition
        arrived.ingested_at = self.parts.clock()
        if self.feeders:
            self.generations.feed_pushed(self.source, ahead)
        self._writer.waiting.add(arrived)
        self._taken[partition] = arrived.first + rows.count - 1
        self.counts["events"] += rows.count
        self._watch(rows.count, set())

    def passed(self, topic: str, positions: Mapping[int, int]) -> None:
        """All that the log has below these positions was taken; the last offsets may be of no message any more."""
        for number, position in positions.items():
            partition = number + self.base(topic)
            if position - 1 > self._taken.get(partition, position):
                self._taken[partition] = self._writer.waiting.through[partition] = position - 1

    def _news(self, messages: Messages, base: int) -> Messages:
        """Without messages that were taken before."""
        taken = {number - base: offset for number, offset in self._taken.items()}
        fresh = np.ones(len(messages), dtype=bool)
        for number in np.unique(messages.partitions).tolist():
            if number in taken:
                fresh &= (messages.partitions != number) | (messages.offsets > taken[number])
        return messages if fresh.all() else messages.select(fresh)

    def _letters_of(
        self, topic: str, messages: Messages, letters: Sequence[UnusableMessage], base: int, now: int
    ) -> pa.Table | None:
        reasons = {letter.index: letter.reason for letter in letters}
        return letter_rows(self.source, topic, messages, reasons, base=base, at=now) if reasons else None

    def _watch(self, count: int, dead: set[int]) -> None:
        """Stop where too many messages are dead; what was taken is archived first."""
        self._recent.add(count, dead)
        if self._recent.pass_the_limit:
            self.flush()
            raise self._recent.error(self.source)

    def _write_down(self, letters: pa.Table | None, through: Mapping[int, int]) -> None:
        """Write these letters and those that wait, at once.

        If rows were written first and this process died, its successor could find an early event usable by then,
        while its key's row had gone beyond it.
        """
        self._finish()
        self._writer.write_letters(letters, through)

    def flush(self, *, wait: bool = True) -> dict[int, int]:
        """Archive what was taken so far, then write progress.

        Args:
            wait: until it is done; else it goes on beside the next `take`.

        Returns:
            Per partition the last offset that is archived and whose progress is written.

        Raises:
            StorageError: the archive cannot be written; what was taken is kept, and goes with the next flush.
        """
        if wait:
            self.generations.look_at_store()
        self._finish()
        wait = wait or self.has_news() or any(feeder.incomplete for feeder in self.feeders.values())
        self._writer.begin()
        if wait:
            self._finish()
            self._refresh()
            self._complete()
        done, self._done = self._done, {}
        return done

    @property
    def flush_is_done(self) -> bool:
        """Whether no flush goes on beside."""
        return self._writer.is_idle

    def _finish(self) -> None:
        """Wait for the flush that goes on, and write progress."""
        through = self._writer.finish()
        if through:
            self.archived |= {each: offset for each, offset in through.items() if each in self.archived}
            self._done |= through
            self.generations.write_progress(through)

    def release(self, topic: str, numbers: Sequence[int], *, in_order: bool = True) -> None:
        """Give partitions up; what was taken of them must have been flushed, or is thrown away with `discard`.

        Args:
            in_order: they are still this process's.
        """
        gone = {number + self.base(topic) for number in numbers}
        for partition in gone:
            self.archived.pop(partition, None)
            self._taken.pop(partition, None)
            self._verdicts.release(partition)
        self.generations.release(gone, in_order=in_order)

    def discard(self, topic: str, numbers: Sequence[int]) -> None:
        """Throw away what was taken of partitions that are someone else's now, who reads it again."""
        gone = {number + self.base(topic) for number in numbers}
        try:
            self._finish()
        finally:
            self._writer.discard(gone)
            self.release(topic, numbers, in_order=False)

    def close(self) -> None:
        """Wait for the flush that goes on; what is buffered stays in the log."""
        self._writer.close()

    def has_news(self) -> bool:
        """Whether the registry changed, or a generation waits to be taken up: then the next flush is waited for."""
        is_new = self.parts.registry.version(self.parts.project) != self.snapshot.version
        return is_new or not self.generations.are_settled

    def lost(self) -> list[FeatureView]:
        """The views whose online rows are gone from the store, though readers should find them."""
        return self.generations.lost()

    def _refresh(self) -> None:
        """Read the registry if it changed, and feed the generations that it names and whose base stands.

        Only called while nothing is buffered, so that all that was taken is in the archive.
        """
        if self.parts.registry.version(self.parts.project) != self.snapshot.version:
            self.snapshot = self.parts.registry.load(self.parts.project)
            if self.name in self.snapshot.project.sources:
                # A source that is no longer applied keeps its last definition, and its archive.
                self.source = self._writer.source = log_source_named(self.snapshot, self.name)
            self.generations.read_registry(self.snapshot)
        self._verdicts.follow(self.source)
        self.generations.take_up(self.source, self.archived)

    def _complete(self) -> None:
        """Recompute rows that a late event made incomplete, from the archive."""
        for name, feeder in list(self.feeders.items()):
            if feeder.incomplete:
                with self.generations.while_there(name):
                    done = recompute_rows(self.parts, self.source, feeder, sorted(feeder.incomplete))
                    feeder.completed(done)
                    self.counts["rows recomputed"] += len(done)


def _last_offsets(messages: Messages, base: int) -> dict[int, int]:
    """Partition as in the archive → the greatest offset of these messages."""
    numbers = np.unique(messages.partitions).tolist()
    if len(numbers) == 1:
        return {numbers[0] + base: int(messages.offsets[-1])}
    return {number + base: int(messages.offsets[messages.partitions == number].max()) for number in numbers}
