"""Messages that are applied but not archived yet, and their writes to the archive."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import LogSource
from asof.flows.rows.archive import DEAD_LETTERS_SCHEMA, archive_schema, send_dead_letters
from asof.flows.rows.pushed import AppendedRows, archived_rows
from asof.flows.stores import Stores

LOOSE_ROWS, LOOSE_PUSHES = 20_000, 1000
"""Pushed rows are combined into an Arrow table at this number of rows, or of pushes."""


@dataclass
class Buffer:
    """Rows and dead letters that are not archived yet.

    Args:
        loose: pushed rows after `rows`, not yet in an Arrow table: building one per push would dominate a small push.
    """

    rows: list[pa.Table] = field(default_factory=list)
    dead_letters: list[pa.Table] = field(default_factory=list)
    through: dict[int, int] = field(default_factory=dict)
    size: int = 0
    loose: list[AppendedRows] = field(default_factory=list)
    loose_rows: int = 0

    def add(self, arrived: AppendedRows) -> None:
        """Append pushed rows; their offsets follow all that are buffered."""
        self.loose.append(arrived)
        self.loose_rows += arrived.rows.count
        self.size += arrived.rows.count
        self.through[arrived.partition] = arrived.first + arrived.rows.count - 1
        if self.loose_rows >= LOOSE_ROWS or len(self.loose) >= LOOSE_PUSHES:
            self.settle()

    def settle(self) -> None:
        """Combine loose rows into a table."""
        for _, pieces in groupby(self.loose, key=lambda each: id(each.rows.source)):
            self.rows.append(archived_rows(list(pieces)))
        self.loose, self.loose_rows = [], 0

    def followed_by(self, later: Buffer) -> Buffer:
        if later.rows:
            self.settle()
        return Buffer(
            self.rows + later.rows, self.dead_letters + later.dead_letters, {**self.through, **later.through},
            self.size + later.size, self.loose + later.loose, self.loose_rows + later.loose_rows,
        )  # fmt: skip

    def without(self, partitions: set[int]) -> Buffer:
        def left(table: pa.Table) -> pa.Table:
            return table.filter(pc.invert(pc.is_in(table["partition"], pa.array(sorted(partitions), pa.int32()))))

        self.settle()
        rows, dead_letters = [left(each) for each in self.rows], [left(each) for each in self.dead_letters]
        through = {each: offset for each, offset in self.through.items() if each not in partitions}
        return Buffer(rows, dead_letters, through, sum(each.num_rows for each in rows + dead_letters))


class ArchiveWriter:
    """Writes one source's buffer to its archive, in a thread while the next messages are applied.

    Attributes:
        source: its current definition; to be set only while no write is running.
        last_write: number of messages and seconds of the last write that `finish` returned.
    """

    def __init__(self, stores: Stores, source: LogSource) -> None:
        self.stores = stores
        self.source = source
        self.waiting = Buffer()
        self.last_write = 0, 0.0
        self._writing: tuple[Buffer, Future[float]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"archive-{source.name}")

    @property
    def is_idle(self) -> bool:
        """Whether no write is running."""
        return self._writing is None or self._writing[1].done()

    def keep(self, later: Buffer) -> None:
        """Append to the buffer."""
        self.waiting = self.waiting.followed_by(later)

    def begin(self) -> None:
        """Start to write the buffer in a thread; no write may be running."""
        if self.waiting.through:
            buffer, self.waiting = self.waiting, Buffer()
            self._writing = (buffer, self._thread.submit(self._timed_write, buffer))

    def finish(self) -> dict[int, int]:
        """Wait for the running write; returns partition → last archived offset.

        Raises:
            StorageError: the archive cannot be written; the rows stay in the buffer for the next write.
        """
        if self._writing is None:
            return {}
        buffer, future = self._writing
        self._writing = None
        try:
            self.last_write = buffer.size, future.result()
        except BaseException:
            # Rows that were not archived go back to the front of the buffer.
            self.waiting = buffer.followed_by(self.waiting)
            raise
        return buffer.through

    def _timed_write(self, buffer: Buffer) -> float:
        """Write a buffer; returns the seconds that it took."""
        began = time.monotonic()
        self.write(buffer)
        return time.monotonic() - began

    def write(self, buffer: Buffer) -> None:
        """Write a buffer now: dead letters first, then rows."""
        schema = archive_schema(self.source)
        rows = schema.empty_table()
        buffer.settle()
        if buffer.rows:
            rows = pa.concat_tables(buffer.rows).select(schema.names).cast(schema)
        # Dead letters first: once the rows' offsets are committed, these messages are not read again.
        self._write_dead_letters(buffer.dead_letters, buffer.through)
        self.stores.offline.append(self.stores.archive_of(self.source), rows, buffer.through)

    def write_dead_letters(self, dead_letters: pa.Table | None, through: Mapping[int, int]) -> None:
        """Write these and the buffered dead letters now; no write may be running."""
        waiting = [*self.waiting.dead_letters, *([dead_letters] if dead_letters is not None else [])]
        self._write_dead_letters(waiting, {**self.waiting.through, **through})
        self.waiting.dead_letters.clear()

    def _write_dead_letters(self, dead_letters: Sequence[pa.Table], through: Mapping[int, int]) -> None:
        if not dead_letters:
            return
        rows = pa.concat_tables(dead_letters).cast(DEAD_LETTERS_SCHEMA)
        self.stores.offline.append(self.stores.dead_letters_of(self.source), rows, through)
        if self.source.dead_letter_topic:
            # After the table, before the rows' offsets: a crash in between sends them twice, and loses none.
            send_dead_letters(self.stores, self.source, rows)

    def discard(self, partitions: set[int]) -> None:
        """Drop the buffered rows of these partitions."""
        self.waiting = self.waiting.without(partitions)

    def close(self) -> None:
        """Wait for the running write; the buffer is not written."""
        self._thread.shutdown(wait=True)
