"""A log's messages on their way: decoded, applied to the online rows at once, archived every few seconds.

The order of writes makes a crash anywhere a replay that changes nothing: rows first, then the archive with its offsets,
then progress in the online store, and only then the group's offsets.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from asof.decoding import decode_messages
from asof.definitions import FeatureView, LogSource, Snapshot
from asof.errors import DeadLetterLimit, LogError, StorageError
from asof.flows.archiving import (
    EPOCH,
    LETTERS_SCHEMA,
    REPLAYED,
    archive_schema,
    archived_after,
    letter_rows,
    replay_topic,
    with_arrival,
)
from asof.flows.batches import batch_of, batch_of_archive
from asof.flows.feeding import Feeder
from asof.flows.parts import (
    Parts,
    building_generation,
    current_generation,
    log_source_named,
    online_views,
    raw_keys,
    staged_project,
)
from asof.log.protocol import Messages
from asof.timing import iso

BUILT = "built"
"""Progress fact of a generation whose base has been written, so that events may follow."""

LIMIT_WINDOW = 1000
LIMIT_SHARE = 0.5
LIMIT_AFTER_S = 10.0
"""Half of the last 1000 messages dead, for at least 10 s: something is wrong with the source, not with a message."""


def progress_name(partition: int) -> str:
    """The name of a partition's offset among a generation's facts."""
    return f"partition {partition}"


@dataclass
class _Buffer:
    """What is not archived yet."""

    rows: list[pa.Table] = field(default_factory=list)
    letters: list[pa.Table] = field(default_factory=list)
    through: dict[int, int] = field(default_factory=dict)
    size: int = 0


class Ingest:
    """One source's messages, for the partitions that this process has.

    Args:
        source: its name; the definition is read from the registry, and read again when the registry changes.
        seconds: a monotonic clock, for the dead-letter limit.
    """

    def __init__(self, parts: Parts, source: str, *, seconds: Callable[[], float]) -> None:
        self.parts = parts
        self.name = source
        self.seconds = seconds
        self.counts: Counter[str] = Counter()
        self.undeclared: Counter[str] = Counter()
        self.snapshot: Snapshot | None = None
        self.source = log_source_named(parts.registry.load(parts.project), source)
        self.archived: dict[int, int] = {}
        self.feeders: dict[tuple[str, str], Feeder] = {}
        self.fed: dict[tuple[str, str], set[int]] = {}
        self._buffer = _Buffer()
        self._flushing: tuple[_Buffer, Future[None]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"archive-{source}")
        self._verdicts: deque[bool] = deque(maxlen=LIMIT_WINDOW)
        self._bad_since: float | None = None
        self.epoch = 0
        self._wanted: dict[tuple[str, str], FeatureView] = {}
        self._refresh()

    @property
    def buffered(self) -> int:
        """Messages that are applied but not on their way into the archive."""
        return self._buffer.size

    def base(self, topic: str) -> int:
        """What is added to a topic's partition numbers in the archive."""
        return self.epoch * EPOCH + (REPLAYED if topic == replay_topic(self.source) else 0)

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
            self._append(_Buffer(through={partition: first - 1}))
            self._record_gap(gap)
            archived = first - 1
        self.archived[partition] = archived
        for name in self.feeders:
            self._catch_up(name, partition)
        return archived + 1

    def take(self, topic: str, messages: Messages) -> None:
        """Apply a batch to the online rows, and keep it for the archive. Offsets ascend within each partition."""
        if not len(messages):
            return
        source, base, now = self.source, self.base(topic), self.parts.clock()
        views = online_views(self.snapshot, source) if self.snapshot else []
        all_views = self.snapshot.project.views_of(source.name) if self.snapshot else []
        decoded = decode_messages(source, messages.values, keys=raw_keys(source, all_views), clock=now)
        partition = (messages.partitions[decoded.index] + base).astype(np.int32)
        offset = messages.offsets[decoded.index]
        rows, event_time = decoded.rows, decoded.event_time
        if source.stream_from is not None and source.batch_source is not None:
            early = event_time < source.stream_from
            if early.any():
                self.counts["before stream_from"] += int(early.sum())
        batch = batch_of(source, rows, event_time=event_time, partition=partition, offset=offset)
        if source.stream_from is not None and source.batch_source is not None:
            batch = batch.take(np.flatnonzero(event_time >= source.stream_from))
        if views and len(batch):
            self._feed(batch, now)
        self._keep(topic, messages, decoded.letters, with_arrival(rows, partition=partition, offset=offset, ingested_at=now), base)
        self.counts["events"] += len(messages)
        self.undeclared.update(decoded.undeclared)
        self._watch_letters(len(messages), {letter.index for letter in decoded.letters})

    def _feed(self, batch: object, now: int) -> None:
        for name, feeder in list(self.feeders.items()):
            live = self.fed[name]
            part = batch
            if not live.issuperset(np.unique(batch.partition).tolist()):  # type: ignore[attr-defined]
                part = batch.take(np.flatnonzero(np.isin(batch.partition, list(live))))  # type: ignore[attr-defined]
            try:
                feeder.apply(part, clock=now)  # type: ignore[arg-type]
            except StorageError:
                self._drop_if_gone(name)

    def _keep(self, topic: str, messages: Messages, letters: list, rows: pa.Table, base: int) -> None:
        buffer = self._buffer
        if rows.num_rows:
            buffer.rows.append(rows)
        if letters:
            reasons = {letter.index: letter.reason for letter in letters}
            now = self.parts.clock()
            buffer.letters.append(letter_rows(self.source, topic, messages, reasons, base=base, at=now))
            self.counts["dead letters"] += len(letters)
        for number in np.unique(messages.partitions).tolist():
            last = int(messages.offsets[messages.partitions == number].max())
            buffer.through[number + base] = max(last, buffer.through.get(number + base, -1))
        buffer.size += len(messages)

    def flush(self, *, wait: bool = True) -> dict[int, int]:
        """Archive what was taken so far, then write progress.

        Args:
            wait: until it is done; else it goes on beside the next `take`.

        Returns:
            Per partition the last offset that is archived and whose progress is written.
        """
        done = self._finish()
        wait = wait or self.has_news()
        if self._buffer.through:
            buffer, self._buffer = self._buffer, _Buffer()
            self._flushing = (buffer, self._thread.submit(self._append, buffer))
            if wait:
                done |= self._finish()
        if wait:
            self._refresh()
            self._complete()
        return done

    @property
    def flush_is_done(self) -> bool:
        return self._flushing is None or self._flushing[1].done()

    def _finish(self) -> dict[int, int]:
        if self._flushing is None:
            return {}
        buffer, future = self._flushing
        self._flushing = None
        try:
            future.result()
        except BaseException:
            # Nothing is lost: what was not archived is put back, before what came since.
            buffer.rows += self._buffer.rows
            buffer.letters += self._buffer.letters
            buffer.through = {**buffer.through, **self._buffer.through}
            buffer.size += self._buffer.size
            self._buffer = buffer
            raise
        self.archived |= buffer.through
        for name, feeder in list(self.feeders.items()):
            facts = {progress_name(each): offset for each, offset in buffer.through.items() if each in self.fed[name]}
            if facts:
                try:
                    self.parts.online.write_progress(feeder.table, facts)
                except StorageError:
                    self._drop_if_gone(name)
        return dict(buffer.through)

    def _append(self, buffer: _Buffer) -> None:
        source = self.source
        schema = archive_schema(source)
        rows = pa.concat_tables(buffer.rows).select(schema.names).cast(schema) if buffer.rows else schema.empty_table()
        if buffer.letters:
            # Letters go first: once the events' offsets have moved, no one looks at these messages again.
            self.parts.offline.append(
                self.parts.letters_of(source), pa.concat_tables(buffer.letters).cast(LETTERS_SCHEMA), buffer.through
            )
        self.parts.offline.append(self.parts.archive_of(source), rows, buffer.through)

    def release(self, topic: str, numbers: list[int]) -> None:
        """Give partitions up; what was taken of them must have been flushed, or is thrown away with `discard`."""
        for number in numbers:
            partition = number + self.base(topic)
            self.archived.pop(partition, None)
            for live in self.fed.values():
                live.discard(partition)

    def discard(self) -> None:
        """Throw away what was taken and not archived: its partitions are someone else's now, who reads it again."""
        self._finish()
        self._buffer = _Buffer()

    def close(self) -> None:
        self._thread.shutdown(wait=True)

    def has_news(self) -> bool:
        """Whether the registry changed, or a generation is being built: then the next flush is waited for."""
        assert self.snapshot is not None
        is_new = self.parts.registry.version(self.parts.project) != self.snapshot.version
        return is_new or self._wanted.keys() != self.feeders.keys()

    def _refresh(self) -> None:
        """Read the registry if it changed, and feed the generations that it names and whose base stands."""
        if self.snapshot is None or self.parts.registry.version(self.parts.project) != self.snapshot.version:
            self.snapshot = self.parts.registry.load(self.parts.project)
            self.epoch = self.snapshot.facts.get("epochs", {}).get(self.name, 0)
            if self.name in self.snapshot.project.sources:
                # A source that is no longer applied keeps its last definition, and its archive.
                self.source = log_source_named(self.snapshot, self.name)
            self._wanted = self._generations(self.snapshot)
        for name in self.feeders.keys() - self._wanted.keys():
            self._drop(name)
        for name in self._wanted.keys() - self.feeders.keys():
            feeder = Feeder(self.parts, self._wanted[name], name[1])
            if BUILT in self.parts.online.progress(feeder.table):
                self.feeders[name], self.fed[name] = feeder, set()
                for partition in self.archived:
                    self._catch_up(name, partition)

    def _generations(self, snapshot: Snapshot) -> dict[tuple[str, str], FeatureView]:
        """The generations that rows of this source belong into: those that are read, and those being built."""
        wanted: dict[tuple[str, str], FeatureView] = {}
        if self.name not in snapshot.project.sources:
            return wanted
        for view in online_views(snapshot, self.source):
            if generation := current_generation(snapshot, view):
                wanted[view.name, generation] = view
        # What is being built follows the definitions that an apply has staged, else the applied ones.
        staged = staged_project(snapshot) or snapshot.project
        for view in staged.views_of(self.name):
            if view.online and (generation := building_generation(snapshot, view)):
                wanted[view.name, generation] = view
        return wanted

    def _drop_if_gone(self, name: tuple[str, str]) -> None:
        """Stop feeding a generation that readers have left, whose table is dropped; any other failure is raised.

        What has come in its place is taken up at the next flush, where no event lies between archive and live feed.
        """
        if name in self._generations(self.parts.registry.load(self.parts.project)):
            raise  # noqa: PLE0704 - called while the store's error is handled
        self._drop(name)

    def _drop(self, name: tuple[str, str]) -> None:
        self.counts.update(self.feeders.pop(name).counts)
        del self.fed[name]

    def _catch_up(self, name: tuple[str, str], partition: int) -> None:
        """Bring one generation up to the archive for one partition; from then on it is fed live."""
        feeder = self.feeders[name]
        reached = int(self.parts.online.progress(feeder.table).get(progress_name(partition), -1))
        archived = self.archived[partition]
        for rows in archived_after(self.parts, self.source, partition, after=reached, through=archived):
            batch = batch_of_archive(self.source, rows)
            if self.source.stream_from is not None:
                batch = batch.take(np.flatnonzero(batch.event_time >= self.source.stream_from))
            feeder.apply(batch, clock=self.parts.clock())
        if archived > reached:
            self.parts.online.write_progress(feeder.table, {progress_name(partition): archived})
        self.fed[name].add(partition)

    def _complete(self) -> None:
        """Recompute rows that a late event made incomplete, from the archive."""
        from asof.flows.build import recompute_rows  # noqa: PLC0415 - build reads ingest's words

        for feeder in self.feeders.values():
            if feeder.incomplete:
                done = recompute_rows(self.parts, self.source, feeder, sorted(feeder.incomplete))
                feeder.incomplete.difference_update(done)
                self.counts["rows recomputed"] += len(done)

    def _watch_letters(self, count: int, dead: set[int]) -> None:
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
                hint=f"look at them with `asof dead-letters list --source {self.name}`, mend the schema, then replay them",
                where=self.source.where,
            )

    def _record_gap(self, gap: str) -> None:
        note = f"{iso(self.parts.clock())} {gap} accepted as lost"

        def with_gap(facts: Mapping[str, object]) -> dict[str, object]:
            gaps = dict(facts.get("gaps", {}))  # type: ignore[call-overload]
            return {"gaps": {**gaps, self.name: [*gaps.get(self.name, []), note]}}

        from asof.flows.facts import change_facts  # noqa: PLC0415

        change_facts(self.parts, with_gap, note=note)
