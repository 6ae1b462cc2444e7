"""Pushes: rows are written to the push log, then applied to online rows at once, then archived in batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from asof.definitions import Snapshot
from asof.errors import Argument, PushNotApplied, RequestError, RowsRefused, StorageError
from asof.flows.generations.live import PendingPush
from asof.flows.rows.arrival import stamp_header, stamps_of
from asof.flows.rows.pushed import PushedRows, pushed_rows
from asof.flows.stores import Stores, log_source_named, raw_keys
from asof.flows.stream.ingest import Ingest
from asof.flows.stream.numbering import check_topic
from asof.flows.stream.take_in import take_in
from asof.log.protocol import Messages, OwnershipLost
from asof.sql.arrival import TOPIC
from asof.timing import Micros
from asof.values.fit import nul_in_text

BATCH = "batch"
"""Header with the batch ID."""

MAX_BATCH_ID = 256
"""Longest batch ID: each row has it in the log, and a pusher keeps all IDs in memory."""

FLUSH_ROWS = 100_000
FLUSH_EVERY_S = 5.0
_STAMPS_READ_BACK = 100
"""Of each partition so many of its last messages are read for their stamps, which grow within one."""

MOST_ROWS = 1_000_000
"""Most buffered rows while the archive cannot be written; beyond, a push is refused."""


class Pusher:
    """Pushes rows of one source; this process reads its own pushes at once.

    Rows that an earlier process wrote to the log but did not archive are applied and archived first.
    """

    def __init__(self, stores: Stores, source: str) -> None:
        self.stores = stores
        self.name = source
        check_topic(stores, log_source_named(stores.registry.load(stores.project), source))
        self.ingest = Ingest(stores, source, seconds=time.monotonic)
        self.topic = self.ingest.source.topic
        self.partition = stores.log.own_partition(self.topic)
        # Offsets of the own partition below this are applied; later ones may be of a push that failed half way.
        self._position = 0
        self._lock = Lock()
        self._stamp: Micros = 0
        self._batches: set[str] = set()
        self._batches_read: dict[int, int] = {}
        self._required_by: tuple[Snapshot, list[str]] | None = None
        self._flushed_at = time.monotonic()
        self.take_over()

    def take_over(self) -> int:
        """Apply and archive all rows of the log that are not archived, of any process; returns their number."""
        with self._lock:
            return self._take_over()

    def _take_over(self) -> int:
        after = self.stores.log.bounds(self.topic)[self.partition][1]
        taken = take_in(self.stores, self.ingest)
        self._read_stamps_back()
        self._position = max(self._position, after)
        self._flushed_at = time.monotonic()
        return taken

    def _read_stamps_back(self) -> None:
        """Look at the last stamps of each partition: what is pushed from now on comes after them."""
        for number, (first, after) in self.stores.log.bounds(self.topic).items():
            start = max(first, after - _STAMPS_READ_BACK)
            while start < after:
                messages = self.stores.log.read(self.topic, number, start, stop=after)
                if not len(messages):
                    break
                self._look_at_stamps(messages)
                start = int(messages.offsets[-1]) + 1

    def _look_at_stamps(self, messages: Messages) -> None:
        stamps = stamps_of(messages.headers)
        if stamps is not None:
            self._stamp = max(self._stamp, int(stamps.max()))

    def _next_stamp(self) -> Micros:
        """The stamp of a push: the system's time, later than each that this process has given or read in this log."""
        self._stamp = max(self.stores.system_clock(), self._stamp + 1, self.ingest.greatest_stamp + 1)
        return min(self._stamp, TOPIC - 1)

    def push(self, rows: Any, *, batch_id: str | None = None) -> int:
        """Write rows durably to the push log, and apply them to the online rows.

        Args:
            rows: dicts, a dict of columns, or a pandas, Polars or Arrow table, with exactly the source's columns.
            batch_id: an ID for these rows, for retries: a push with an ID that the log has writes nothing. Concurrent
                pushes of one batch from two processes are not detected.

        Returns:
            Number of rows pushed; 0 if the batch was pushed before.

        Raises:
            RequestError: `batch_id` is too long.
            RowsRefused: rows do not fit the source's schema; nothing was written.
            LogError: the log cannot be written; nothing was written.
            PushNotApplied: the rows are durable in the log, but not applied to the online store yet.
        """
        if batch_id is not None and len(batch_id) > MAX_BATCH_ID:
            name = Argument("batch_id")
            raise RequestError(
                f"{name} has {len(batch_id)} characters; the limit is {MAX_BATCH_ID}",
                hint="use a short ID, such as a UUID: it is stored with every row", arguments=[name],
            )  # fmt: skip
        made = self._checked(rows)
        messages = made.messages()
        self._refuse_unkept(made, messages)
        with self._lock:
            if batch_id is not None and self._is_known(batch_id):
                # Its first push may have reached the log, but not the online store.
                self._apply()
                return 0
            if not messages:
                return 0
            if self.ingest.buffered >= MOST_ROWS:
                self.ingest.flush()
            following = self.partition, self._position
            stamp = self._next_stamp()
            ahead = self.ingest.look_ahead(made, *following, stamp)
            try:
                positions = self._send(messages, batch_id, stamp)
                if batch_id is not None:
                    self._batches.add(batch_id)
                if ahead is not None and _follow(positions, following) and self.ingest.takes_pushes:
                    self._apply_rows(ahead, positions)
                else:
                    self._apply()
            finally:
                if ahead is not None:
                    ahead.drop()
            self._archive_if_due()
        return len(messages)

    def _checked(self, rows: Any) -> PushedRows:
        """The rows as messages; what does not fit is compared once more with what is applied by now."""
        clock = self.stores.clock()
        try:
            return pushed_rows(self.ingest.source, rows, required=self._required(), clock=clock)
        except RowsRefused:
            # Another process may just have applied the column that they have.
            if not self.ingest.has_news():
                raise
        with self._lock:
            self.ingest.flush()
        return pushed_rows(self.ingest.source, rows, required=self._required(), clock=clock)

    def _refuse_unkept(self, made: PushedRows, messages: Sequence[bytes]) -> None:
        """Refuse rows that are too large, or that the archive cannot store: the caller can fix it."""
        most = self.stores.bounds.max_bytes
        if most is not None and max(map(len, messages), default=0) > most:
            raise RowsRefused(
                f"rows pushed to source {self.name!r} are too large; nothing was written:",
                [
                    f"row {row}: its message has {len(each)} bytes; the most are {most}"
                    for row, each in enumerate(messages) if len(each) > most
                ],
                hint="push less in a row, or raise messages.max_bytes in feature_store.yaml", where=made.source.where,
            )  # fmt: skip
        if self.stores.offline.keeps_nul or not any(b"\\u0000" in each for each in messages):
            return
        if reasons := nul_in_text(made.table):
            raise RowsRefused(
                f"rows pushed to source {self.name!r} cannot be stored in the archive; nothing was written:",
                [f"row {row}: {reason}" for row, reason in sorted(reasons.items())],
                hint="remove NUL characters from strings", where=made.source.where,
            )  # fmt: skip

    def _required(self) -> list[str]:
        """The columns that must not be null: the event time, and the keys of all views."""
        snapshot = self.ingest.snapshot
        if self._required_by is None or self._required_by[0] is not snapshot:
            source = self.ingest.source
            columns = [source.timestamp_field, *raw_keys(source, snapshot.project.views_of(self.name))]
            self._required_by = (snapshot, columns)
        return self._required_by[1]

    def _send(self, messages: Sequence[bytes], batch_id: str | None, stamp: Micros) -> list[tuple[int, int]]:
        try:
            return self._append(messages, batch_id, stamp)
        except OwnershipLost:
            # This process paused for so long that another one has taken over its partition and the messages in it.
            self.partition, self._position = self.stores.log.own_partition(self.topic), 0
            self._take_over()
            return self._append(messages, batch_id, self._next_stamp())

    def _append(self, messages: Sequence[bytes], batch_id: str | None, stamp: Micros) -> list[tuple[int, int]]:
        headers = stamp_header(stamp)
        if batch_id is not None:
            headers = (*headers, (BATCH, batch_id.encode()))
        return self.stores.log.send(
            self.topic, messages, partition=self.partition, headers=[headers] * len(messages), durable=True
        )

    def _apply_rows(self, ahead: PendingPush, positions: Sequence[tuple[int, int]]) -> None:
        """Apply rows that were just written. They had the same checks as messages, so they are not read back."""
        with self._telling_that_it_is_kept():
            self.ingest.take_pushed(ahead)
            self._position = positions[-1][1] + 1
            if self.ingest.generations.are_replaced:
                # So that this push is visible at once, too.
                self.ingest.flush()

    def _apply(self) -> None:
        """Apply the messages of the own partition that are not applied yet, in order and without gaps."""
        after = self.stores.log.bounds(self.topic)[self.partition][1]
        with self._telling_that_it_is_kept():
            if self._position < after and self.ingest.has_news():
                # Definitions changed: from here on the current generations are written.
                self.ingest.flush()
            while self._position < after:
                part = self.stores.log.read(self.topic, self.partition, self._position, stop=after)
                self.ingest.take(self.topic, part)
                self._position = int(part.offsets[-1]) + 1 if len(part) else after
            if self.ingest.generations.are_replaced:
                # So that this push is visible at once, too.
                self.ingest.flush()

    @contextmanager
    def _telling_that_it_is_kept(self) -> Iterator[None]:
        try:
            yield
        except StorageError as error:
            raise PushNotApplied(
                f"rows pushed to source {self.name!r} are durable in its log, but not applied yet: {error.message}",
                hint=f"do not push them again: the next push or `asof stream run` applies them; {error.hint}",
            ) from error

    def _archive_if_due(self) -> None:
        due = time.monotonic() - self._flushed_at >= FLUSH_EVERY_S or self.ingest.buffered >= FLUSH_ROWS
        if not due or not self.ingest.flush_is_done:
            return
        self._flushed_at = time.monotonic()
        try:
            self.ingest.flush(wait=False)
        except StorageError:
            # The push itself succeeded, in log and online store; `flush` and `close` raise if the archive still fails.
            self.ingest.counts["failed archive writes"] += 1

    def flush(self) -> None:
        """Archive all pushed rows."""
        with self._lock:
            self.ingest.flush()
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Archive all pushed rows, and release the partition."""
        try:
            self.flush()
        finally:
            self.ingest.close()

    def _is_known(self, batch_id: str) -> bool:
        """Whether any process has pushed this batch, according to the log's headers."""
        for number, (first, after) in self.stores.log.bounds(self.topic).items():
            position = max(self._batches_read.get(number, 0), first)
            while position < after:
                messages = self.stores.log.read(self.topic, number, position, stop=after)
                if not len(messages):
                    break
                for headers in messages.headers or ():
                    # Another producer may use the same header name with any value.
                    known = [value for name, value in headers if name == BATCH and value is not None]
                    self._batches |= {value.decode("utf-8", "replace") for value in known}
                self._look_at_stamps(messages)
                position = int(messages.offsets[-1]) + 1
            self._batches_read[number] = max(position, after)
        return batch_id in self._batches


def _follow(positions: Sequence[tuple[int, int]], following: tuple[int, int]) -> bool:
    """Whether these (partition, offset) pairs are consecutive and start at `following`."""
    first, last = positions[0], positions[-1]
    return first == following and last[1] - first[1] == len(positions) - 1
