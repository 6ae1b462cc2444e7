"""Packed rows to one columnar state and back, for many rows at once, without a loop over records.

`asof.aggregation.layout` has a drawing of a packed row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from asof.aggregation.earlier import converted, is_earlier, with_arrival
from asof.aggregation.layout import RowLayout
from asof.aggregation.objects import LENGTH_BITS, LENGTH_MASK, NONE, ObjectPool, PackedObjects
from asof.aggregation.segments import ranges
from asof.aggregation.states import Ints
from asof.errors import StorageError

NEVER = -(2**62)
"""The horizon of a row without events, and the dropped time of a session gap that has dropped nothing."""

INCOMPLETE, OVERFLOW = 1, 2
_OF_LAYOUT = ~0xFFFF_FFFF_FF00
"""The bits of a row's first word that are equal in all rows of a layout: version and mark."""
MAX_ROW_BYTES = 256 * 1024


@dataclass(frozen=True)
class StateRows:
    """The states of n rows, as columns.

    Attributes:
        records: int64 matrix; row i's records are consecutive from `starts[i]`, family after family; rows ascend.
        counts: int64[n, families], records per family.
        horizon: int64[n]; every event up to it is merged, every later one is a fresh record. `NEVER` without events.
        dropped: int64[n, session gaps]; the greatest event time that was dropped from the session records.
        flags: int64[n] of `INCOMPLETE` and `OVERFLOW`.
        offset_rows, partitions, offsets: int64 columns, one entry per (row, partition), sorted by both.
        pool: the objects that records refer to.
        spare: int64[n], free records before each row's own, as space for its header; None if there are none.
    """

    records: Ints
    starts: Ints
    counts: Ints
    horizon: Ints
    dropped: Ints
    flags: Ints
    offset_rows: Ints
    partitions: Ints
    offsets: Ints
    pool: ObjectPool
    spare: Ints | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def incomplete(self) -> NDArray[np.bool_]:
        """Rows whose sessions must be recomputed from the archive."""
        return (self.flags & INCOMPLETE) != 0

    @property
    def overflow(self) -> NDArray[np.bool_]:
        """Rows that exceeded the size limit; their values are null until they are recomputed."""
        return (self.flags & OVERFLOW) != 0

    def offsets_of(self, row: int) -> dict[int, int]:
        """Partition → greatest offset that the row has seen."""
        low, high = np.searchsorted(self.offset_rows, [row, row + 1])
        return dict(zip(self.partitions[low:high].tolist(), self.offsets[low:high].tolist()))

    def newest(self, layout: RowLayout) -> Ints:
        """int64[n], the latest event time of each row, merged or fresh; `NEVER` without events."""
        newest = np.where(self.horizon == NEVER, NEVER, self.horizon + layout.margin)
        waiting = np.flatnonzero(self.counts[:, layout.fresh])
        # The fresh records are a row's last ones, and ascend.
        ends = self.starts[waiting] + self.counts[waiting].sum(axis=1)
        newest[waiting] = np.maximum(newest[waiting], self.records[ends - 1, 0])
        return newest


def decode(layout: RowLayout, blobs: Sequence[bytes | None]) -> StateRows:
    """Decode rows to a state; None is a row without events.

    Raises:
        StorageError: a blob was not written by this layout and format version.
    """
    if not any(blobs):
        return _without_events(layout, len(blobs))
    # A missing row gets the bytes of one without events, so that nothing below has a special case for it.
    width, nothing = layout.width, _row_without_events(layout)
    present = [blob or nothing for blob in blobs]
    sizes = np.fromiter(map(len, present), dtype=np.int64, count=len(present))
    # A bytearray is writable, so that object names can be rewritten in place below.
    joined = bytearray().join(present)
    if (sizes % (8 * width)).any():
        if layout.keeps_arrival and any(map(is_earlier, blobs)):
            return decode(layout, converted(blobs, partial(in_format_of, layout)))
        raise foreign_row("its length is not a multiple of a record")
    words = np.frombuffer(joined, dtype=np.int64)
    # The first word of each row: what the rows before it take, from bytes to words.
    heads = sizes.cumsum()
    heads -= sizes
    heads >>= 3
    # One gather for all headers: a line per row, whose columns are the header's fields.
    # mode="clip": a row of another layout may be shorter than a header.
    headers = words.take(heads[:, None] + layout.header, mode="clip")
    first = headers[:, 0]
    # Version and mark say whose row it is: all rows are compared at once, and which one differs is found for the error.
    if (first & _OF_LAYOUT != layout.format | layout.mark << 48).any():
        if layout.keeps_arrival and any(map(is_earlier, blobs)):
            return decode(layout, converted(blobs, partial(in_format_of, layout)))
        raise _foreign_header(layout, first)
    starts, counts = heads // width + (first >> 16 & 0xFFFF), headers[:, layout.counts_at : layout.dropped_at]
    numbers = partitions = offsets = np.zeros(0, dtype=np.int64)
    known = first >> 32 & 0xFFFF
    if known.any():
        # Behind the fixed fields stand the pairs, as many as the row says: two words each.
        pairs = ranges(heads + layout.offsets_at, known * 2).reshape(-1, 2)
        numbers, partitions, offsets = np.repeat(np.arange(len(blobs)), known), words[pairs[:, 0]], words[pairs[:, 1]]

    records = words.reshape(-1, width)
    pool = ObjectPool()
    if layout.object_words:
        pool = ObjectPool(words)
        # A packed name counts words from the start of its own row, and the rows are joined now. The position is in a
        # name's upper bits, so the sum moves it and leaves the length in the lower ones.
        lines, per_row = _object_lines(layout, starts, counts)
        lifts = np.repeat(heads << LENGTH_BITS, per_row)
        for word in layout.object_words:
            names = records[lines, word]
            records[lines, word] = np.where(names == NONE, NONE, names + lifts)
    return StateRows(
        records, starts, counts, headers[:, 1], headers[:, layout.dropped_at :], first >> 8 & 0xFF,
        numbers, partitions, offsets, pool,
    )  # fmt: skip


def in_format_of(layout: RowLayout, blobs: Sequence[bytes | None]) -> list[bytes]:
    """Rows of the earlier format in that of the layout."""
    earlier = layout.earlier
    return encode(layout, with_arrival(layout, decode(earlier, blobs), earlier))


def _without_events(layout: RowLayout, n: int) -> StateRows:
    none = np.zeros(0, dtype=np.int64)
    zeros = np.zeros(n, dtype=np.int64)
    counts = np.zeros((n, len(layout.families)), dtype=np.int64)
    dropped = np.full((n, len(layout.sessions)), NEVER, dtype=np.int64)
    horizon = np.full(n, NEVER, dtype=np.int64)
    return StateRows(
        none.reshape(0, layout.width), zeros, counts, horizon, dropped, zeros, none, none, none, ObjectPool()
    )


@lru_cache(maxsize=512)
def _row_without_events(layout: RowLayout) -> bytes:
    """The bytes of a row without events, in place of a missing row."""
    size = int(header_records(layout, np.zeros(1, dtype=np.int64))[0])
    words = np.zeros(size * layout.width, dtype=np.int64)
    words[0] = layout.format | size << 16 | layout.mark << 48
    words[1] = words[layout.dropped_at : layout.offsets_at] = NEVER
    return words.tobytes()


def _foreign_header(layout: RowLayout, first: Ints) -> StorageError:
    formats = set((first & 0xFF).tolist()) - {layout.format}
    if formats:
        return foreign_row(f"format version {max(formats)}, this program reads {layout.format}")
    return foreign_row("it was written for other aggregations")


def header_records(layout: RowLayout, partitions: Ints) -> Ints:
    """Size in records of a header with this many partitions, rounded up."""
    return -(-(layout.offsets_at + 2 * partitions) // layout.width)


def encode(layout: RowLayout, state: StateRows, max_row_bytes: int = MAX_ROW_BYTES) -> list[bytes]:
    """Encode each row. A row beyond the size limit keeps only its header, marked as overflow."""
    n, width = len(state), layout.width
    partitions = np.bincount(state.offset_rows, minlength=n)
    headers = header_records(layout, partitions)
    totals = state.counts.sum(axis=1)
    objects = _Objects.of(layout, state) if layout.object_words else None
    pool_words = objects.words_per_row if objects is not None else np.zeros(n, dtype=np.int64)
    tails = -(-pool_words // width)
    sizes = headers + totals + tails
    # A name has 24 bits for an object's length, so no row may be longer, whatever the limit is.
    over = ((sizes * (8 * width)) > min(max_row_bytes, LENGTH_MASK)) | state.overflow
    if over.any():
        empty = replace(
            state, counts=np.where(over[:, None], 0, state.counts), flags=state.flags | np.where(over, OVERFLOW, 0),
            spare=None,
        )  # fmt: skip
        # Without records a row has no objects either: all sizes are others, so they are computed once more, under a
        # limit that no bare header exceeds.
        if not np.array_equal(empty.counts, state.counts):
            return encode(layout, empty, max(max_row_bytes, int((headers.max()) * 8 * width)))
        state = empty

    if state.spare is not None and objects is None and np.array_equal(state.spare, headers):
        out = state.records  # the fold left space for the headers, so nothing is copied
        begins = state.starts - headers
    else:
        begins = np.cumsum(sizes) - sizes
        out = np.zeros((int(sizes.sum()), width), dtype=np.int64)
        positions = ranges(begins + headers, totals)
        out[positions] = state.records[ranges(state.starts, totals)]
        if objects is not None:
            # How far the records of each row are from where they were in the state.
            moved = np.repeat(begins + headers - state.starts, objects.lines_per_row)
            objects.write(layout, out, objects.lines + moved, (headers + totals) * width, begins * width)
    # Field by field, one assignment for the headers of all rows.
    words = out.reshape(-1)
    heads = begins * width
    words[heads] = layout.format | (state.flags << 8) | (headers << 16) | (partitions << 32) | (layout.mark << 48)
    words[heads + 1] = state.horizon
    words[heads + 2] = pool_words
    for family in range(state.counts.shape[1]):
        words[heads + (layout.counts_at + family)] = state.counts[:, family]
    for gap in range(state.dropped.shape[1]):
        words[heads + (layout.dropped_at + gap)] = state.dropped[:, gap]
    pairs = ranges(heads + layout.offsets_at, partitions * 2).reshape(-1, 2)
    words[pairs[:, 0]], words[pairs[:, 1]] = state.partitions, state.offsets
    # Equal states have equal bytes: the space for a header may hold anything until here.
    padding = headers * width - layout.offsets_at - 2 * partitions
    words[ranges(heads + layout.offsets_at + 2 * partitions, padding)] = 0

    # Copies: a slice of the view would keep the matrix of all rows alive as long as any one row.
    view = words.data.cast("B")
    record_bytes = width * 8
    cuts = zip((begins * record_bytes).tolist(), ((begins + sizes) * record_bytes).tolist())
    return [bytes(view[begin:end]) for begin, end in cuts]


def _object_lines(layout: RowLayout, starts: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """The records of families that use objects, row by row, and their number per row."""
    begins = starts[:, None] + np.cumsum(counts, axis=1) - counts
    # Families without objects count as empty here: their records are skipped.
    lengths = counts * layout.object_families
    return ranges(begins.reshape(-1), lengths.reshape(-1)), lengths.sum(axis=1)


@dataclass(frozen=True)
class _Objects:
    """The objects of a state, ready to be written after the records of their rows.

    Attributes:
        lines: the records that may refer to objects, row by row; `lines_per_row`: their number.
        used: bool[lines, object words], where a record refers to an object.
        packed: these objects, in the order of rows and records.
        rows: int64, each object's row.
        words_per_row: int64[n].
    """

    lines: Ints
    lines_per_row: Ints
    used: NDArray[np.bool_]
    packed: PackedObjects
    rows: Ints
    words_per_row: Ints

    @classmethod
    def of(cls, layout: RowLayout, state: StateRows) -> _Objects:
        lines, totals = _object_lines(layout, state.starts, state.counts)
        names = np.stack([state.records[lines, word] for word in layout.object_words], axis=1)
        used = names != NONE
        packed = state.pool.packed(names[used])
        # `running[i]` is how many objects the first i lines have: between two of its entries lie those of one row.
        # `bounds` is where each object begins, so the same two entries give the words that they take.
        ends = np.cumsum(totals)
        running = np.concatenate([[0], np.cumsum(used.sum(axis=1))])
        per_row = running[ends] - running[ends - totals]
        bounds = np.append(packed.positions, len(packed.words))
        words_per_row = bounds[running[ends]] - bounds[running[ends - totals]]
        return cls(lines, totals, used, packed, np.repeat(np.arange(len(totals)), per_row), words_per_row)

    def write(self, layout: RowLayout, out: Ints, positions: Ints, pool_at: Ints, row_at: Ints) -> None:
        """Write the objects, and their names in the records, into the matrix of rows.

        Args:
            positions: position in `out` of each of the lines.
            pool_at: per row, the pool's offset in words from the row's start; `row_at`: the row's start.
        """
        # `packed` counts words over all rows: less what the rows before take, it counts within the row's own pool.
        before = np.cumsum(self.words_per_row) - self.words_per_row
        local = self.packed.positions - before[self.rows] + pool_at[self.rows]
        names = np.full(self.used.shape, NONE, dtype=np.int64)
        names[self.used] = (local << LENGTH_BITS) | self.packed.lengths
        for column, word in enumerate(layout.object_words):
            out[positions, word] = names[:, column]
        # A row's objects are consecutive both in `packed` and in the row's pool.
        out.reshape(-1)[ranges(row_at + pool_at, self.words_per_row)] = self.packed.words


def foreign_row(found: str) -> StorageError:
    """The error for a row that cannot be read."""
    return StorageError(
        f"a row of an aggregated view cannot be read: {found}", hint="run `asof rebuild` for the view, or update asof"
    )
