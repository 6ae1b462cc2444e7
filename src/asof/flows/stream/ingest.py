"""A log's messages on their way: decoded, applied to the online rows at once, archived every few seconds.

The order of writes makes a crash anywhere a replay that changes nothing: rows first, then the archive with its offsets,
then progress in the online store, and only then the group's offsets. Verdicts that depend on the clock go before all.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import repeat

import numpy as np
import pyarrow as pa

from asof.decoding import Decoded, Letter, decode_messages
from asof.definitions import FeatureView, Snapshot
from asof.errors import DeadLetterLimit, LogError
from asof.flows.facts import record_gap
from asof.flows.generations.live import Ahead, Generations
from asof.flows.generations.names import Name
from asof.flows.generations.recompute import recompute_rows
from asof.flows.generations.writer import Feeder
from asof.flows.rows.archive import (
    LETTERS_SCHEMA,
    archive_schema,
    letter_rows,
    letters_after,
    replay_topic,
    send_letters,
    with_arrival,
)
from asof.flows.rows.batch import batch_of
from asof.flows.rows.pushed import Arrived, Pushed
from asof.flows.stores import Parts, log_source_named, raw_keys
from asof.flows.stream.buffer import Buffer
from asof.flows.stream.event_ids import Claims
from asof.flows.stream.transforms import transform_of
from asof.log.protocol import Messages
from asof.sql.partitions import ArchivePartition
from asof.values.fit import nul_in_text

LIMIT_WINDOW = 1000
LIMIT_SHARE = 0.5
LIMIT_AFTER_S = 10.0
"""Half of the last 1000 messages dead, for at least 10 s: something is wrong with the source, not with a message."""


class Ingest:
    """One source's messages, for the partitions that this process has.

    Args:
        source: its name; the definition is read from the registry, and read again when the registry changes.
        seconds: a monotonic clock, for the dead-letter limit.

    Attributes:
        archived: this process's partitions (numbered as in the archive) → the last offset that is archived.
    """

    def __init__(self, parts: Parts, source: str, *, seconds: Callable[[], float]) -> None:
        self.parts = parts
        self.name = source
        self.seconds = seconds
        self.counts: Counter[str] = Counter()
        self.undeclared: Counter[str] = Counter()
        self.archived: dict[int, int] = {}
        self.snapshot: Snapshot = parts.registry.load(parts.project)
        self.source = log_source_named(self.snapshot, source)
        # Fixed for good: it belongs to the topic that is read, and one that is made again has other offsets.
        self.epoch = int(self.snapshot.facts.get("epochs", {}).get(source, 0))
        self.generations = Generations(parts, source)
        self._taken: dict[int, int] = {}
        self._verdicts_known: dict[int, dict[int, str]] = {}
        self._buffer = Buffer()
        self._flushing: tuple[Buffer, Future[None]] | None = None
        self._done: dict[int, int] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"archive-{source}")
        self._verdicts: deque[bool] = deque(maxlen=LIMIT_WINDOW)
        self._verdicts_are_mixed = False
        self._bad_since: float | None = None
        self.claims = Claims(parts, self.source) if self.source.event_id else None
        self.generations.read_registry(self.snapshot)
        self.generations.take_up(self.source, self.archived)

    @property
    def feeders(self) -> dict[Name, Feeder]:
        """What feeds each generation."""
        return self.generations.feeders

    @property
    def buffered(self) -> int:
        """Messages that are applied and not archived, nor on their way there."""
        return self._buffer.size

    def base(self, topic: str) -> int:
        """What is added to a topic's partition numbers in the archive."""
        return int(ArchivePartition.of(0, epoch=self.epoch, is_replayed=topic == replay_topic(self.source)))

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
            self._append(Buffer(through={partition: first - 1}))
            record_gap(self.parts, self.name, gap)
            archived = first - 1
        self._verdicts_known[partition] = letters_after(self.parts, self.source, partition, after=archived)
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
        keys = raw_keys(source, self.snapshot.project.views_of(source.name))
        found = decode_messages(
            source, messages, keys=keys, clock=now, schemas=self.parts.schemas_of(source),
            transform=transform_of(self.parts, source),
        )  # fmt: skip
        decoded = self._as_judged_before(self._without_unkept(found), messages, base)
        decoded = self._without_duplicates(decoded, messages, base, now)
        letters = self._letters_of(topic, messages, decoded.letters, base, now)
        through = _last_offsets(messages, base)
        if any(letter.is_early for letter in decoded.letters):
            self._write_down(letters, through)
            letters = None
        partition = (messages.partitions[decoded.index] + base).astype(np.int32)
        offset = messages.offsets[decoded.index]
        raw = with_arrival(decoded.rows, partition=partition, offset=offset, ingested_at=now)
        if self.feeders and len(offset):
            batch = batch_of(source, decoded.rows, event_time=decoded.event_time, partition=partition, offset=offset)
            self.generations.feed(source, batch, raw)
        self._buffer = self._buffer.followed_by(
            Buffer([raw] if len(offset) else [], [letters] if letters is not None else [], through, len(messages))
        )
        self._taken |= through
        self.counts["events"] += len(messages)
        self.counts["dead letters"] += len(decoded.letters)
        if decoded.left_out:
            self.counts["left out by the transform"] += decoded.left_out
        self.undeclared.update(decoded.undeclared)
        self._watch_letters(len(messages), {letter.index for letter in decoded.letters})

    @property
    def takes_pushes(self) -> bool:
        """Whether `take_pushed` may be called: no definition changed, and no message may turn out to be a duplicate."""
        return self.claims is None and not self.has_news()

    def look_ahead(self, rows: Pushed, number: int, first: int) -> Ahead | None:
        """Begin to apply rows that are to be written to a partition of the topic: what needs no look at the log.

        Args:
            first: the first row's offset, if nothing comes in between; those of the others follow.

        Returns:
            What `take_pushed` goes on with, or else is dropped; None where the log has to be read.
        """
        if self.claims is not None or rows.source is not self.source or not rows.count:
            return None
        arrived = Arrived(rows, number + self.base(self.source.topic), first, self.parts.clock())
        return self.generations.look_ahead(self.source, arrived)

    def take_pushed(self, ahead: Ahead) -> None:
        """Apply rows that were checked and then written, as `take` would apply them. All before them were taken.

        Raises:
            StorageError: as in `take`.
        """
        arrived = ahead.arrived
        rows, partition = arrived.rows, arrived.partition
        arrived.ingested_at = self.parts.clock()
        if self.feeders:
            self.generations.feed_pushed(self.source, ahead)
        self._buffer.add(arrived)
        self._taken[partition] = arrived.first + rows.count - 1
        self.counts["events"] += rows.count
        if self._verdicts_are_mixed:
            self._watch_letters(rows.count, set())
        else:
            self._verdicts.extend(repeat(False, min(rows.count, LIMIT_WINDOW)))

    def passed(self, topic: str, positions: Mapping[int, int]) -> None:
        """All that the log has below these positions was taken; the last offsets may be of no message any more."""
        for number, position in positions.items():
            partition = number + self.base(topic)
            if position - 1 > self._taken.get(partition, position):
                self._taken[partition] = self._buffer.through[partition] = position - 1

    def _news(self, messages: Messages, base: int) -> Messages:
        """Without messages that were taken before."""
        taken = {number - base: offset for number, offset in self._taken.items()}
        fresh = np.ones(len(messages), dtype=bool)
        for number in np.unique(messages.partitions).tolist():
            if number in taken:
                fresh &= (messages.partitions != number) | (messages.offsets > taken[number])
        return messages if fresh.all() else messages.select(fresh)

    def _without_unkept(self, decoded: Decoded) -> Decoded:
        """Without rows that the archive could not keep: one of them would stop all others for good."""
        if self.parts.offline.keeps_nul:
            return decoded
        return _with_letters(decoded, nul_in_text(decoded.rows))

    def _as_judged_before(self, decoded: Decoded, messages: Messages, base: int) -> Decoded:
        """A message that was found dead before its batch was archived stays dead, whatever the clock says now."""
        if not any(self._verdicts_known.values()):
            return decoded
        reasons = {}
        for place, i in enumerate(decoded.index.tolist()):
            known = self._verdicts_known.get(int(messages.partitions[i]) + base, {})
            if (reason := known.get(int(messages.offsets[i]))) is not None:
                reasons[place] = reason
        return _with_letters(decoded, reasons)

    def _without_duplicates(self, decoded: Decoded, messages: Messages, base: int, now: int) -> Decoded:
        """Without messages whose event another message has brought."""
        if self.claims is None or not len(decoded.index):
            return decoded
        firsts = self.claims.first(
            decoded.rows, partition=(messages.partitions[decoded.index] + base).astype(np.int32),
            offset=messages.offsets[decoded.index], now=now,
        )  # fmt: skip
        if firsts.all():
            return decoded
        self.counts["duplicates left out"] += int((~firsts).sum())
        return replace(
            decoded, rows=decoded.rows.filter(pa.array(firsts)), index=decoded.index[firsts],
            event_time=decoded.event_time[firsts],
        )  # fmt: skip

    def _letters_of(
        self, topic: str, messages: Messages, letters: Sequence[Letter], base: int, now: int
    ) -> pa.Table | None:
        reasons = {letter.index: letter.reason for letter in letters}
        return letter_rows(self.source, topic, messages, reasons, base=base, at=now) if reasons else None

    def _write_down(self, letters: pa.Table | None, through: Mapping[int, int]) -> None:
        """Write these letters and those that wait, at once.

        If rows were written first and this process died, its successor could find an early event usable by then,
        while its key's row had gone beyond it.
        """
        self._finish()
        waiting = [*self._buffer.letters, letters]
        self._append_letters(waiting, {**self._buffer.through, **through})
        self._buffer.letters.clear()

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
        if self._buffer.through:
            buffer, self._buffer = self._buffer, Buffer()
            self._flushing = (buffer, self._thread.submit(self._append, buffer))
        if wait:
            self._finish()
            self._refresh()
            self._complete()
        done, self._done = self._done, {}
        return done

    @property
    def flush_is_done(self) -> bool:
        """Whether no flush goes on beside."""
        return self._flushing is None or self._flushing[1].done()

    def _finish(self) -> None:
        """Wait for the flush that goes on, and write progress."""
        if self._flushing is None:
            return
        buffer, future = self._flushing
        self._flushing = None
        try:
            future.result()
        except BaseException:
            # Nothing is lost: what was not archived is put back, before what came since.
            self._buffer = buffer.followed_by(self._buffer)
            raise
        self.archived |= {each: offset for each, offset in buffer.through.items() if each in self.archived}
        self._done |= buffer.through
        self.generations.write_progress(buffer.through)

    def _append(self, buffer: Buffer) -> None:
        schema = archive_schema(self.source)
        rows = schema.empty_table()
        buffer.settle()
        if buffer.rows:
            rows = pa.concat_tables(buffer.rows).select(schema.names).cast(schema)
        # Letters go first: once the events' offsets have moved, no one looks at these messages again.
        self._append_letters(buffer.letters, buffer.through)
        self.parts.offline.append(self.parts.archive_of(self.source), rows, buffer.through)

    def _append_letters(self, letters: Sequence[pa.Table | None], through: Mapping[int, int]) -> None:
        tables = [each for each in letters if each is not None]
        if tables:
            rows = pa.concat_tables(tables).cast(LETTERS_SCHEMA)
            self.parts.offline.append(self.parts.letters_of(self.source), rows, through)
            if self.source.dead_letter_topic:
                # After the table and before the events' offsets: a crash in between sends them again, and loses none.
                send_letters(self.parts, self.source, rows)

    def release(self, topic: str, numbers: Sequence[int], *, in_order: bool = True) -> None:
        """Give partitions up; what was taken of them must have been flushed, or is thrown away with `discard`.

        Args:
            in_order: they are still this process's.
        """
        gone = {number + self.base(topic) for number in numbers}
        for partition in gone:
            for held in (self.archived, self._taken, self._verdicts_known):
                held.pop(partition, None)
        self.generations.release(gone, in_order=in_order)

    def discard(self, topic: str, numbers: Sequence[int]) -> None:
        """Throw away what was taken of partitions that are someone else's now, who reads it again."""
        gone = {number + self.base(topic) for number in numbers}
        try:
            self._finish()
        finally:
            self._buffer = self._buffer.without(gone)
            self.release(topic, numbers, in_order=False)

    def close(self) -> None:
        """Wait for the flush that goes on; what is buffered stays in the log."""
        self._thread.shutdown(wait=True)

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
                self.source = log_source_named(self.snapshot, self.name)
            self.generations.read_registry(self.snapshot)
        if self.source.event_id:
            if self.claims is None or self.claims.source is not self.source:
                self.claims = Claims(self.parts, self.source)
            self.claims.restore()
        else:
            self.claims = None
        self.generations.take_up(self.source, self.archived)

    def _complete(self) -> None:
        """Recompute rows that a late event made incomplete, from the archive."""
        for name, feeder in list(self.feeders.items()):
            if feeder.incomplete:
                with self.generations.while_there(name):
                    done = recompute_rows(self.parts, self.source, feeder, sorted(feeder.incomplete))
                    feeder.completed(done)
                    self.counts["rows recomputed"] += len(done)

    def _watch_letters(self, count: int, dead: set[int]) -> None:
        self._verdicts_are_mixed |= bool(dead)
        self._verdicts.extend(i in dead for i in range(max(0, count - LIMIT_WINDOW), count))
        share = sum(self._verdicts) / max(len(self._verdicts), 1)
        if len(self._verdicts) < LIMIT_WINDOW or share < LIMIT_SHARE:
            self._bad_since = None
            return
        now = self.seconds()
        self._bad_since = self._bad_since if self._bad_since is not None else now
        if now - self._bad_since >= LIMIT_AFTER_S:
            self.flush()
            raise DeadLetterLimit(
                f"source {self.name!r}: {share:.0%} of the last {len(self._verdicts)} messages could not be used; "
                "they are kept as dead letters, and the worker stopped",
                hint=f"look at them with `asof dead-letters list --source {self.name}`, mend the schema, replay them",
                where=self.source.where,
            )


def _with_letters(decoded: Decoded, reasons: Mapping[int, str]) -> Decoded:
    """The batch without the rows at these places, whose messages become dead letters for these reasons."""
    if not reasons:
        return decoded
    stays = np.ones(len(decoded.index), dtype=bool)
    stays[list(reasons)] = False
    more = [Letter(int(decoded.index[place]), reason) for place, reason in reasons.items()]
    return replace(
        decoded, rows=decoded.rows.filter(pa.array(stays)), index=decoded.index[stays],
        event_time=decoded.event_time[stays],
        letters=sorted([*decoded.letters, *more], key=lambda letter: letter.index),
    )  # fmt: skip


def _last_offsets(messages: Messages, base: int) -> dict[int, int]:
    """Partition as in the archive → the greatest offset of these messages."""
    numbers = np.unique(messages.partitions).tolist()
    if len(numbers) == 1:
        return {numbers[0] + base: int(messages.offsets[-1])}
    return {number + base: int(messages.offsets[messages.partitions == number].max()) for number in numbers}
