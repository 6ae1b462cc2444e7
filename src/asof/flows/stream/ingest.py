"""Ingestion of a log: messages are decoded, applied to the online rows at once, and archived every few seconds.

The order of writes, for each source:

    per batch   1  dead letters     only if a verdict depends on the clock ("too far in the future")
      (take)    2  online rows      each row records the offsets that it has seen
                   buffer           in memory
    per flush   3  dead letters     table, then dead-letter topic
      (flush)   4  archive          rows and offsets in one commit
                5  progress         in the online store: all rows have the events up to these offsets
                6  group's offsets  for lag monitoring only

A worker starts from the archive's offsets (4). So after a crash at any point it reads again what is not archived, and
nothing is lost or counted twice: a row ignores offsets that it has seen (2), and the archive ignores offsets up to its
own (4). Dead letters are written before the offsets that skip their messages (1 and 3 before 4), and progress after the
rows and the archive that it promises (5). Verdicts on the clock come first (1), because a replay could decide otherwise
when its key's row is already past the event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.decoding import UnusableMessage
from asof.definitions import FeatureView, Snapshot
from asof.errors import LogError, StorageError
from asof.flows.facts import record_gap
from asof.flows.generations.live import LiveGenerations, PendingPush
from asof.flows.generations.names import Name
from asof.flows.generations.recompute import recompute_rows
from asof.flows.generations.writer import GenerationWriter
from asof.flows.rows.archive import dead_letter_rows, with_arrival
from asof.flows.rows.arrival import Ints, origins_of, stamps_of
from asof.flows.rows.batch import batch_of
from asof.flows.rows.pushed import AppendedRows, PushedRows
from asof.flows.stores import Stores, log_source_named
from asof.flows.stream.buffer import ArchiveWriter, Buffer
from asof.flows.stream.dead_letter_limit import RecentVerdicts
from asof.flows.stream.sums import SourceSums
from asof.flows.stream.suspects import Suspects
from asof.flows.stream.verdicts import Verdicts
from asof.flows.stream.worker_log import WorkerLog
from asof.log.protocol import Messages
from asof.sql.partitions import ArchivePartition
from asof.timing import Micros

MOST_RECOMPUTED = 2000
"""So many rows of a generation are recomputed at a flush; the others wait for the next one, and history has them."""


class Ingest:
    """Applies and archives one source's messages, for the partitions that are assigned to this process.

    Args:
        source: its name; the definition is read from the registry, again when the registry changes.
        seconds: a monotonic clock, for the dead-letter limit; `log` is the worker's.

    Attributes:
        archived: assigned partition (in the archive's numbering) → last archived offset.
        greatest_stamp: of all pushed messages taken so far; 0 if none had one.
    """

    def __init__(
        self, stores: Stores, source: str, *, seconds: Callable[[], float], log: WorkerLog | None = None
    ) -> None:
        self._log = log or WorkerLog()
        self.stores, self.name = stores, source
        self.counts: Counter[str] = Counter()
        self.undeclared: Counter[str] = Counter()
        self.sums = SourceSums()
        self.archived: dict[int, int] = {}
        self.greatest_stamp: Micros = 0
        self.snapshot: Snapshot = stores.registry.load(stores.project)
        self.source = log_source_named(self.snapshot, source)
        # Constant for this object: a topic that is recreated has other offsets, and another epoch.
        self.epoch = self.snapshot.facts.epoch_of(source)
        self.generations = LiveGenerations(stores, source)
        self._taken: dict[int, int] = {}
        self._done: dict[int, int] = {}
        self._verdicts = Verdicts(stores, self.source, counts=self.counts)
        self._recent = RecentVerdicts(seconds)
        self._writer = ArchiveWriter(stores, self.source)
        self._suspects = Suspects(stores, self.source, counts=self.counts)
        self.generations.read_registry(self.snapshot)
        self.generations.take_up(self.source, self.archived)

    @property
    def feeders(self) -> dict[Name, GenerationWriter]:
        """Generation → the feeder that writes its online rows."""
        return self.generations.feeders

    @property
    def buffered(self) -> int:
        """Number of messages that are applied but not in a running or completed archive write."""
        return self._writer.waiting.size

    def base(self, topic: str) -> int:
        """Offset of the archive's partition numbers from a topic's ones."""
        return int(ArchivePartition.of(0, epoch=self.epoch, is_replayed=topic == self.source.replay_topic))

    def begin(self, topic: str, number: int, *, first: int, accept_gap: bool = False) -> int:
        """Start a partition: replay the archive to generations that lag; returns the offset to read from.

        Args:
            first: the log's first offset.

        Raises:
            LogError: the log deleted events that were never archived.
        """
        partition = number + self.base(topic)
        archived = self.stores.offline.offsets(self.stores.archive_of(self.source), [partition])[partition]
        if first > archived + 1:
            gap = f"offsets {archived + 1} to {first - 1} of partition {number} of topic {topic!r}"
            if not accept_gap:
                raise LogError(
                    f"{gap} are lost: the log deleted them before they were archived",
                    hint="accept the loss with `asof stream run --accept-gap`, which records it",
                )
            self._writer.write(Buffer(through={partition: first - 1}))
            record_gap(self.stores, self.name, gap)
            self._log.gap(self.name, gap)
            archived = first - 1
        self._verdicts.begin(self.source, partition, archived=archived)
        self.archived[partition] = self._taken[partition] = archived
        self.generations.begin(self.source, partition, archived)
        return archived + 1

    def watch_for_deaths(self, topic: str, number: int, *, position: int, after: int) -> None:
        """Find out whether owners of a partition died at this offset, and note that this process owns it now.

        Args:
            after: the log's end.
        """
        self._suspects.begin(number + self.base(topic), position=position, after=after)

    def take(self, topic: str, messages: Messages) -> None:
        """Apply a batch to the online rows, and buffer it for the archive. Offsets ascend within each partition.

        Raises:
            StorageError: the rows could not be written; nothing was buffered, so the batch must be read again.
            DeadLetterLimit: too many messages are dead letters.
        """
        base = self.base(topic)
        messages = self._news(messages, base)
        if not len(messages):
            return
        source, now = self.source, self.stores.clock()
        known = self._verdicts.fatal(messages, base=base)
        fatal = self._suspects.fatal(source, messages, base=base, now=now, known=known)
        decoded = self._verdicts.decode(source, self.snapshot, messages, base=base, now=now, fatal=fatal)
        dead_letters = self._dead_letters_of(topic, messages, decoded.dead_letters, base, now)
        through = _last_offsets(messages, base)
        # What depends on the clock, and what took processes to find out, is written down before anything else happens.
        if any(dead_letter.is_early for dead_letter in decoded.dead_letters) or fatal.keys() - known.keys():
            self._write_down(dead_letters, through)
            dead_letters = None
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
            Buffer(
                [raw] if len(offset) else [], [dead_letters] if dead_letters is not None else [], through, len(messages)
            )
        )
        self._taken |= through
        self.counts.update({"events": len(messages), "dead letters": len(decoded.dead_letters)})
        self.sums.count(len(messages), len(offset), (dead_letter.reason for dead_letter in decoded.dead_letters))
        if decoded.left_out:
            self.counts["left out by the transform"] += decoded.left_out
        self.undeclared.update(decoded.undeclared)
        self._log.dead_letters(self.name, topic, messages, decoded.dead_letters)
        self._recompute_marked()
        self._watch(len(messages), {dead_letter.index for dead_letter in decoded.dead_letters})

    def _came(
        self, topic: str, messages: Messages, index: npt.NDArray[np.int64], partition: npt.NDArray[np.int32]
    ) -> tuple[Ints | None, tuple[Ints, Ints] | None]:
        """Stamps of pushes, and original partitions and offsets of replayed dead letters, at these indexes."""
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
        """Whether `take_pushed` may be called: no definition changed, and the source has no event ID."""
        return not self._verdicts.depend_on_others and not self.has_news()

    def look_ahead(self, rows: PushedRows, number: int, first: int, pushed_at: Micros) -> PendingPush | None:
        """Prepare to apply rows before they are written to the log: all steps that need no message of it.

        Args:
            first: expected offset of the first row, if no other message is written before; the others follow.
            pushed_at: their stamp.

        Returns:
            The input of `take_pushed`, or None if the rows must be read from the log.
        """
        if self._verdicts.depend_on_others or rows.source is not self.source or not rows.count:
            return None
        arrived = AppendedRows(rows, number + self.base(self.source.topic), first, self.stores.clock(), pushed_at)
        return self.generations.look_ahead(self.source, arrived)

    def take_pushed(self, ahead: PendingPush) -> None:
        """Apply rows that were checked and written to the log, like `take`. All messages before them must be applied.

        Raises:
            StorageError: as in `take`.
        """
        arrived = ahead.arrived
        rows, partition = arrived.rows, arrived.partition
        arrived.ingested_at = self.stores.clock()
        if self.feeders:
            self.generations.feed_pushed(self.source, ahead)
        self._writer.waiting.add(arrived)
        self._taken[partition] = arrived.first + rows.count - 1
        self.counts["events"] += rows.count
        self._recompute_marked()
        self._watch(rows.count, set())

    def passed(self, topic: str, positions: Mapping[int, int]) -> None:
        """All messages below these positions are applied; the last offsets may have no message."""
        for number, position in positions.items():
            partition = number + self.base(topic)
            if position - 1 > self._taken.get(partition, position):
                self._taken[partition] = self._writer.waiting.through[partition] = position - 1

    def _news(self, messages: Messages, base: int) -> Messages:
        """Drop messages that were applied before."""
        taken = {number - base: offset for number, offset in self._taken.items()}
        fresh = np.ones(len(messages), dtype=bool)
        for number in np.unique(messages.partitions).tolist():
            if number in taken:
                fresh &= (messages.partitions != number) | (messages.offsets > taken[number])
        return messages if fresh.all() else messages.select(fresh)

    def _dead_letters_of(
        self, topic: str, messages: Messages, dead_letters: Sequence[UnusableMessage], base: int, now: int
    ) -> pa.Table | None:
        reasons = {dead_letter.index: dead_letter.reason for dead_letter in dead_letters}
        return dead_letter_rows(self.source, topic, messages, reasons, base=base, at=now) if reasons else None

    def _watch(self, count: int, dead: set[int]) -> None:
        """Check the limit of dead letters; if it is reached, flush, then raise."""
        self._recent.add(count, dead)
        if self._recent.pass_the_limit:
            self.flush()
            raise self._recent.error(self.source, self.sums.dead_letters)

    def _write_down(self, dead_letters: pa.Table | None, through: Mapping[int, int]) -> None:
        """Write these and the buffered dead letters now.

        They must be durable before rows are: the verdict on an event too far in the future depends on the clock. On a
        replay after a crash it might be accepted, although its key's row is already past it.
        """
        self._finish()
        self._writer.write_dead_letters(dead_letters, through)

    def flush(self, *, wait: bool = True) -> dict[int, int]:
        """Archive all applied messages, then write progress.

        Args:
            wait: until it is done; else it continues in a thread during the next `take`.

        Returns:
            Partition → last offset that is archived, with its progress written.

        Raises:
            StorageError: the archive cannot be written; the messages stay buffered for the next flush.
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
        """Whether no flush is running."""
        return self._writer.is_idle

    def _finish(self) -> None:
        """Wait for the running flush, and write progress."""
        through = self._writer.finish()
        if through:
            self.archived |= {each: offset for each, offset in through.items() if each in self.archived}
            self._done |= through
            self.generations.write_progress(through)
            self._log.flushed(self.name, *self._writer.last_write)

    def release(self, topic: str, numbers: Sequence[int], *, in_order: bool = True) -> None:
        """Stop working on partitions; their messages must have been flushed, or dropped by `discard`.

        Args:
            in_order: they are still assigned to this process.
        """
        gone = {number + self.base(topic) for number in numbers}
        for partition in gone:
            self.archived.pop(partition, None)
            self._taken.pop(partition, None)
            self._verdicts.release(partition)
            self._suspects.release(partition)
        self.generations.release(gone, in_order=in_order)

    def discard(self, topic: str, numbers: Sequence[int]) -> None:
        """Drop buffered messages of partitions that another process reads again now."""
        gone = {number + self.base(topic) for number in numbers}
        self._suspects.lose(gone)
        try:
            self._finish()
        finally:
            self._writer.discard(gone)
            self.release(topic, numbers, in_order=False)

    def close(self) -> None:
        """Wait for the running flush; buffered messages stay in the log."""
        self._suspects.close()
        self._writer.close()

    def has_news(self) -> bool:
        """Whether the registry changed, or a new generation is ready: the next flush must be waited for."""
        is_new = self.stores.registry.version(self.stores.project) != self.snapshot.version
        return is_new or not self.generations.are_settled

    def lost(self) -> list[FeatureView]:
        """Views whose current generation is missing in the online store."""
        return self.generations.lost()

    def _refresh(self) -> None:
        """Read the registry if it changed, and write to all of its generations whose base is complete.

        Only called while nothing is buffered: every applied message is in the archive.
        """
        if self.stores.registry.version(self.stores.project) != self.snapshot.version:
            self.snapshot = self.stores.registry.load(self.stores.project)
            if self.name in self.snapshot.project.sources:
                # A removed source keeps its last definition and its archive.
                self.source = self._writer.source = log_source_named(self.snapshot, self.name)
            self.generations.read_registry(self.snapshot)
        self._verdicts.follow(self.source)
        self.generations.take_up(self.source, self.archived)

    def _recompute_marked(self) -> None:
        """Flush and recompute at once what the last events made incomplete: until then no read has its value."""
        marking = [feeder for feeder in self.feeders.values() if feeder.has_marked]
        for feeder in marking:
            feeder.has_marked = False
        if marking:
            try:
                # What is done by that is said to the next caller of `flush`, too: the group's offsets follow it.
                self._done = self.flush()
                self.counts["flushes for incomplete rows"] += 1
            except StorageError:
                # What was taken stands; the next flush that is due says it, if the archive still fails then.
                self.counts["archive writes that failed"] += 1

    def _complete(self) -> None:
        """Recompute rows that are incomplete after a late event, from the archive."""
        for name, feeder in list(self.feeders.items()):
            if feeder.incomplete:
                with self.generations.while_there(name):
                    keys = feeder.next_incomplete(MOST_RECOMPUTED)
                    done = recompute_rows(self.stores, self.source, feeder, keys)
                    feeder.completed(done)
                    self.counts["rows recomputed"] += len(done)


def _last_offsets(messages: Messages, base: int) -> dict[int, int]:
    """Partition (in the archive's numbering) → the greatest offset of these messages."""
    numbers = np.unique(messages.partitions).tolist()
    if len(numbers) == 1:
        return {numbers[0] + base: int(messages.offsets[-1])}
    return {number + base: int(messages.offsets[messages.partitions == number].max()) for number in numbers}
