"""Batches of the file log as bytes. A segment is a sequence of batches:

    ┌──────────────── header, 48 bytes, little-endian ────────────────┐┌────────────── body ──────────────┐
    magic  crc of   bytes    crc of  first   first  greatest  n  flags   [times]  lengths  cells
    "ASF1" the rest of body  body    offset  time   time
    u32    u32      u32      u32     i64     i64    i64       u32 u32

    times     n × i64, only with the flag TIMES; else all records have the header's first time
    lengths   n × i32 per column, for the columns [keys], [headers], values, in this order
                -1: null;  -2 - m: erased, with m zero bytes as its cell
    cells     the bytes of all keys, then of all headers (msgpack), then of all values, without separators

Columns, and one header per batch instead of per record, make reading cheap: all lengths are one array, their running
sum gives the cells' positions, and a record costs one slice per column. An erased cell keeps its size, so that no
position in the segment or its index changes. Offsets of a batch are consecutive: first offset + row.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from struct import Struct
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

from asof.errors import LogError
from asof.log.protocol import Headers, Messages
from asof.timing import Micros

MAGIC = int.from_bytes(b"ASF1", "little")
"""Start of every batch; the last character is the format's version."""

HEADER = Struct("<IIIIqqqII")
"""Magic, crc of the rest of the header, bytes of the body, crc of the body, first offset, first time, greatest time,
Magic, crc of the rest of the header, bytes of the body, crc of the body, first offset, first time, greatest time,"""

KEYS, HEADERS, TIMES = 1, 2, 4
"""Flags: columns of the body in addition to the values."""

BATCH_RECORDS = 4096
BATCH_BYTES = 1 << 20
RECORD_BYTES = 1 << 28

NULL = -1
"""Length of a null. An erased cell of n bytes has the length -2 - n; its bytes are zeros."""

_CHECKED = 8
_PAIR = Struct("<ii")
_ONE = Struct("<i")
_encode_headers = msgspec.msgpack.Encoder().encode
_decode_headers = msgspec.msgpack.Decoder(Headers).decode


class DamagedBatch(Exception):
    """The bytes at position `at` are not a batch."""

    def __init__(self, at: int, reason: str) -> None:
        super().__init__(reason)
        self.at, self.reason = at, reason


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A complete batch, except for its first offset."""

    body: bytes
    body_crc: int
    count: int
    flags: int
    first_time: Micros
    max_time: Micros

    def sealed(self, first_offset: int) -> bytes:
        """Header and body as bytes."""
        header = HEADER.pack(
            MAGIC,
            0,
            len(self.body),
            self.body_crc,
            first_offset,
            self.first_time,
            self.max_time,
            self.count,
            self.flags,
        )
        checked = header[_CHECKED:]
        return header[:4] + crc32(checked).to_bytes(4, "little") + checked + self.body


@dataclass(frozen=True, slots=True)
class BatchHeader:
    """A batch's header with a valid checksum."""

    size: int
    first_offset: int
    count: int
    max_time: Micros


def pack(
    values: Sequence[bytes | None],
    *,
    keys: Sequence[bytes | None] | None,
    headers: Sequence[Headers] | None,
    times: Sequence[Micros] | Micros,
) -> Iterator[PackedBatch]:
    """Split n records into batches of at most `BATCH_RECORDS`, and of about `BATCH_BYTES` unless one record is larger.

    Args:
        times: n record times, or one for all.

    Raises:
        LogError: a record is larger than `RECORD_BYTES`.
    """
    for start in range(0, len(values), BATCH_RECORDS):
        rows = slice(start, start + BATCH_RECORDS)
        yield from _pack(
            values[rows],
            None if keys is None else keys[rows],
            None if headers is None else [_encode_headers(header) for header in headers[rows]],
            times if isinstance(times, int) else times[rows],
        )


def _pack(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None] | None,
    headers: Sequence[bytes] | None,
    times: Sequence[Micros] | Micros,
) -> Iterator[PackedBatch]:
    count = len(values)
    columns = [column for column in (keys, headers, values) if column is not None]
    lengths = [[NULL if cell is None else len(cell) for cell in column] for column in columns]
    size = sum(map(sum, lengths))
    if size > BATCH_BYTES and count > 1:
        half = count // 2
        for rows in (slice(0, half), slice(half, count)):
            yield from _pack(
                values[rows],
                None if keys is None else keys[rows],
                None if headers is None else headers[rows],
                times if isinstance(times, int) else times[rows],
            )
        return
    if size > RECORD_BYTES:
        raise LogError(
            f"a record has {size} bytes; the limit is {RECORD_BYTES}",
            hint="store large objects elsewhere, and send a reference",
        )
    if isinstance(times, int):
        first_time = max_time = times
    else:
        first_time, max_time = int(times[0]), int(max(times))
    varied = not isinstance(times, int) and (first_time != max_time or int(min(times)) != first_time)
    body = b"".join(
        chain(
            [array("q", times).tobytes()] if varied and not isinstance(times, int) else [],
            [array("i", column).tobytes() for column in lengths],
            *([cell for cell in column if cell] for column in columns),
        )
    )
    flags = (KEYS if keys is not None else 0) | (HEADERS if headers is not None else 0) | (TIMES if varied else 0)
    yield PackedBatch(body, crc32(body), count, flags, first_time, max_time)


def head_at(data: bytes, at: int = 0) -> BatchHeader:
    """The header at `at`.

    Raises:
        DamagedBatch: there is no valid header.
    """
    if len(data) - at < HEADER.size:
        raise DamagedBatch(at, "it ends in the middle of a batch's header")
    magic, crc, length, _, first, _, max_time, count, _ = HEADER.unpack_from(data, at)
    if magic != MAGIC or crc32(data[at + _CHECKED : at + HEADER.size]) != crc:
        raise DamagedBatch(at, "there is no batch header, or its checksum is wrong")
    return BatchHeader(HEADER.size + length, first, count, max_time)


def check(data: bytes, at: int = 0) -> BatchHeader:
    """The header at `at`, after checking that the batch is complete and its checksums are right.

    Raises:
        DamagedBatch: it is incomplete, or a checksum is wrong.
    """
    head = head_at(data, at)
    if at + head.size > len(data):
        raise DamagedBatch(at, "it ends in the middle of a batch")
    if crc32(memoryview(data)[at + HEADER.size : at + head.size]) != HEADER.unpack_from(data, at)[3]:
        raise DamagedBatch(at, "a batch's checksum is wrong")
    return head


@dataclass(frozen=True, slots=True)
class UnpackedRecords:
    """The records of the complete batches in a chunk of a segment.

    Args:
        messages: the records, without erased ones.
        size: total bytes of these batches.
        first_offset: of the first batch; None without a complete batch.
        next_offset: one above the last record, erased or not; None without a complete batch.
        needed: bytes of the incomplete batch at the end; 0 if even its header is incomplete.
    """

    messages: Messages
    size: int
    first_offset: int | None
    next_offset: int | None
    needed: int


def unpack(data: bytes, number: int) -> UnpackedRecords:
    """Decode the complete batches at the start of `data`, a chunk of partition `number`.

    Raises:
        DamagedBatch: a header or a checksum is wrong, or offsets between two batches are missing.
    """
    view = memoryview(data)
    available = len(data)
    at = needed = following = 0
    firsts: list[int] = []
    counts: list[int] = []
    times: list[bytes] = []
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    headers: list[Headers] | None = None
    erased: list[int] = []
    while available - at >= HEADER.size:
        magic, header_crc, length, body_crc, first, _, _, count, flags = HEADER.unpack_from(data, at)
        body = at + HEADER.size
        if magic != MAGIC or crc32(view[at + _CHECKED : body]) != header_crc:
            raise DamagedBatch(at, "there is no batch header, or its checksum is wrong")
        end = body + length
        if end > available:
            needed = end - at
            break
        if crc32(view[body:end]) != body_crc:
            raise DamagedBatch(at, "a batch's checksum is wrong")
        if firsts and first != following:
            raise DamagedBatch(at, f"offsets {following} to {first - 1} are missing")
        following = first + count
        firsts.append(first)
        counts.append(count)
        if flags <= KEYS and count == 1:
            # A batch of one record, as pushes often are: decoding it without NumPy takes a fifth of the time.
            times.append(data[at + 24 : at + 32])
            key_length, length = _PAIR.unpack_from(data, body) if flags else (NULL, _ONE.unpack_from(data, body)[0])
            start = body + (8 if flags else 4)
            if key_length >= 0:
                keys.append(data[start : start + key_length])
                start += key_length
            else:
                keys.append(None)
            if length <= -2:
                erased.append(len(values))
            values.append(data[start : start + length] if length >= 0 else None)
            if headers is not None:
                headers.append(())
            at = end
            continue
        if flags & TIMES:
            times.append(data[body : body + 8 * count])
            body += 8 * count
        else:
            times.append(data[at + 24 : at + 32] * count)
        cells = body + 4 * count * (1 + bool(flags & KEYS) + bool(flags & HEADERS))
        if flags & KEYS:
            column, cells, _ = _column(data, body, cells, count)
            keys += column
            body += 4 * count
        else:
            keys += [None] * count
        if flags & HEADERS:
            column, cells, _ = _column(data, body, cells, count)
            headers = [()] * len(values) if headers is None else headers
            headers += [_decode_headers(cell) if cell else () for cell in column]
            body += 4 * count
        elif headers is not None:
            headers += [()] * count
        column, _, gone = _column(data, body, cells, count)
        if gone is not None:
            erased += (len(values) + gone).tolist()
        values += column
        at = end
    count_array = np.array(counts, np.int64)
    starts = np.cumsum(count_array) - count_array
    total = len(values)
    messages = Messages(
        np.full(total, number, np.int32),
        np.repeat(np.array(firsts, np.int64) - starts, count_array) + np.arange(total, dtype=np.int64),
        np.frombuffer(b"".join(times), np.int64),
        keys,
        values,
        headers,
    )
    if erased:
        mask = np.ones(total, bool)
        mask[erased] = False
        messages = messages.select(mask)
    return UnpackedRecords(messages, at, firsts[0] if firsts else None, following if firsts else None, needed)


def _column(
    data: bytes, lengths_at: int, cells_at: int, count: int
) -> tuple[list[bytes | None], int, npt.NDArray[np.int64] | None]:
    """A column's cells, the start of the next column's cells, and the mask of erased rows."""
    lengths = np.frombuffer(data, "<i4", count, lengths_at)
    holes = bool(lengths.min() < 0)
    sizes = np.where(lengths >= NULL, np.maximum(lengths, 0), -2 - lengths) if holes else lengths
    ends = (cells_at + np.cumsum(sizes, dtype=np.int64)).tolist()
    cells: list[bytes | None] = [data[a:b] for a, b in zip([cells_at, *ends[:-1]], ends, strict=True)]
    if not holes:
        return cells, ends[-1], None
    for row in np.flatnonzero(lengths < 0).tolist():
        cells[row] = None
    return cells, ends[-1], np.flatnonzero(lengths <= -2)


def filler(count: int) -> Iterator[PackedBatch]:
    """Batches of erased records, which only occupy `count` offsets."""
    for start in range(0, count, BATCH_RECORDS):
        size = min(BATCH_RECORDS, count - start)
        body = array("i", [-2]).tobytes() * size
        yield PackedBatch(body, crc32(body), size, 0, 0, 0)


def blank(batch: bytes, offsets: set[int]) -> bytes:
    """A batch with the records at `offsets` erased: the same size, with zeros in place of their bytes."""
    _, _, _, _, first, first_time, max_time, count, flags = HEADER.unpack_from(batch)
    body = bytearray(batch[HEADER.size :])
    lengths_at = 8 * count if flags & TIMES else 0
    columns = 1 + bool(flags & KEYS) + bool(flags & HEADERS)
    cells_at = lengths_at + 4 * count * columns
    for _ in range(columns):
        for row in range(count):
            (length,) = _ONE.unpack_from(body, lengths_at + 4 * row)
            size = length if length >= 0 else max(0, -2 - length)
            if first + row in offsets:
                body[cells_at : cells_at + size] = bytes(size)
                _ONE.pack_into(body, lengths_at + 4 * row, -2 - size)
            cells_at += size
        lengths_at += 4 * count
    return PackedBatch(bytes(body), crc32(body), count, flags, first_time, max_time).sealed(first)
