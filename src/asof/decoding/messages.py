"""Decode messages of a log into typed rows, in bulk; unusable messages become dead letters with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.decoding.bounds import DEFAULT_BOUNDS, MessageBounds, too_large
from asof.decoding.codecs import codec_of
from asof.decoding.columns import joined
from asof.decoding.metadata import Headers, header_column, key_columns, record_times
from asof.decoding.schemas import Schemas
from asof.decoding.transforming import Transform, transformed
from asof.definitions import LogSource
from asof.definitions.logs import TOMBSTONE
from asof.dtypes import GREATEST_INT64, LEAST_INT64
from asof.errors import AsofError
from asof.timing import EARLIEST, LATEST, UNITS, Micros, iso, span_text
from asof.values.fit import event_micros
from asof.values.legible import legible, why


class EncodedMessages(Protocol):
    """Messages as columns: n values, keys, record times in microseconds, and headers."""

    @property
    def values(self) -> Sequence[bytes | None]: ...
    @property
    def keys(self) -> Sequence[bytes | None] | None: ...
    @property
    def timestamps_us(self) -> Sequence[Micros] | npt.NDArray[np.int64]: ...
    @property
    def headers(self) -> Sequence[Headers] | None: ...


@dataclass(frozen=True)
class UnusableMessage:
    """A dead letter: the message's index in the batch, and the reason.

    Args:
        is_early: its event time is too far in the future; decoded again later, it may be accepted.
    """

    index: int
    reason: str
    is_early: bool = False


@dataclass(frozen=True)
class DecodedMessages:
    """A decoded batch of messages.

    Args:
        rows: the n usable rows, the source's declared columns under their own names and types.
        index: n indexes into the batch, ascending.
        event_time: n event times in microseconds.
        dead_letters: the dead letters.
        undeclared: undeclared field → number of messages with it.
        left_out: number of messages that the transform dropped.
    """

    rows: pa.Table
    index: npt.NDArray[np.int64]
    event_time: npt.NDArray[np.int64]
    dead_letters: list[UnusableMessage]
    undeclared: Counter[str] = field(default_factory=Counter)
    left_out: int = 0


def decode_messages(
    source: LogSource,
    messages: EncodedMessages,
    *,
    keys: Sequence[str],
    clock: Micros,
    schemas: Schemas | None = None,
    transform: Transform | None = None,
    bounds: MessageBounds = DEFAULT_BOUNDS,
) -> DecodedMessages:
    """Decode messages column by column; where that fails, message by message: an error is the dead letter's reason.

    If the source reads the key columns from messages' keys, a message without a value is a tombstone: a row with the
    key, the record's time, and nulls.

    Args:
        keys: columns (names in the source) that must not be null: the join keys of every view of the source.
        clock: now; an event later than this by more than the source's `max_future` is a dead letter.
        schemas: the schema registry, for messages that name their schema.
        transform: the source's transform, if any.
        bounds: what one message may be; it holds before a message is read.

    Raises:
        DerivationError: the transform does not work message by message.
        StorageError: the schema registry cannot be reached; no message becomes a dead letter.
    """
    count = len(messages.values)
    try:
        return decode_in_bulk(
            source, messages, keys=keys, clock=clock, schemas=schemas, transform=transform, bounds=bounds
        )
    except AsofError:
        raise
    except Exception as error:
        if not count:
            raise
        if count == 1:
            return DecodedMessages(
                _empty(source), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64),
                [UnusableMessage(0, legible(f"cannot be decoded: {type(error).__name__}: {why(error)}"))],
            )  # fmt: skip
    middle = count // 2
    first, second = (
        decode_messages(source, half, keys=keys, clock=clock, schemas=schemas, transform=transform, bounds=bounds)
        for half in (_part(messages, 0, middle), _part(messages, middle, count))
    )
    return DecodedMessages(
        pa.concat_tables([first.rows, second.rows]).combine_chunks(),
        np.concatenate([first.index, second.index + middle]),
        np.concatenate([first.event_time, second.event_time]),
        [*first.dead_letters, *(replace(each, index=each.index + middle) for each in second.dead_letters)],
        first.undeclared + second.undeclared,
        first.left_out + second.left_out,
    )


def _part(messages: EncodedMessages, begin: int, end: int) -> MessageBatch:
    keys, headers, times = messages.keys, messages.headers, messages.timestamps_us
    return MessageBatch(
        messages.values[begin:end], None if keys is None else keys[begin:end], times[begin:end],
        None if headers is None else headers[begin:end],
    )  # fmt: skip


def _empty(source: LogSource) -> pa.Table:
    kinds = {field.name: field.dtype.arrow() for field in source.schema}
    return pa.table({name: pa.nulls(0, kinds.get(name, pa.bool_())) for name in _names(source)})


def decode_in_bulk(
    source: LogSource,
    messages: EncodedMessages,
    *,
    keys: Sequence[str],
    clock: Micros,
    schemas: Schemas | None,
    transform: Transform | None,
    bounds: MessageBounds,
) -> DecodedMessages:
    undeclared: Counter[str] = Counter()
    left_out = 0
    values = messages.values
    dead_letters = too_large(values, messages.keys, messages.headers, bounds.max_bytes)
    indexes = [place for place in range(len(values)) if place not in dead_letters]
    tombstones: list[int] = []
    if None in values:
        tombstones = [place for place in indexes if values[place] is None]
        indexes = [place for place in indexes if values[place] is not None]
        if not source.has_tombstones:
            reason = "the message is empty (a tombstone), but the source has no key_fields= to find its key"
            dead_letters |= dict.fromkeys(tombstones, reason)
            tombstones = []
    present: list[Any] = [values[place] for place in indexes] if len(indexes) < len(values) else list(values)
    # From here on there are two counts: `index` are positions among the messages, and columns have a row for each of
    # them. Reasons are kept by message, since rows come and go (transforms, tombstones).
    index, columns = codec_of(source, bounds).decode(
        indexes, present, dead_letters=dead_letters, undeclared=undeclared, schemas=schemas,
    )  # fmt: skip
    if source.has_metadata:
        other_columns = metadata_columns(
            source, messages, index, dead_letters=dead_letters, schemas=schemas, bounds=bounds
        )
        columns = {each.name: (other_columns | columns)[each.name] for each in source.message_fields}
    if source.transform is not None:
        assert transform is not None
        before = len(index) + len(dead_letters)
        index, columns = transformed(source, index, columns, transform, dead_letters=dead_letters)
        left_out = before - len(index) - len(dead_letters)
    if source.has_tombstones:
        index, columns = _with_tombstones(
            source, messages, (index, columns), tombstones, dead_letters=dead_letters, schemas=schemas, bounds=bounds
        )
    rows = pa.table({name: columns[name] for name in _names(source)})
    positions = np.asarray(index, dtype=np.int64)
    event_time = columns[source.timestamp_field]
    good = np.ones(len(positions), dtype=bool)
    if dead_letters:
        good &= ~np.isin(positions, np.fromiter(dead_letters, dtype=np.int64))
    # Nulls first, then times: a null has no time to check, and each message gets the first reason only.
    for name in dict.fromkeys((source.timestamp_field, *keys)):
        nulls = columns[name].is_null().to_numpy(zero_copy_only=False)
        what = "event time" if name == source.timestamp_field else "key"
        for place in np.flatnonzero(nulls & good):
            dead_letters[int(positions[place])] = f"{what} {name!r} is null"
        good &= ~nulls
    times = np.zeros(len(positions), dtype=np.int64)
    if good.any():
        times[good] = _times(event_time, source.timestamp_unit, good, positions, dead_letters)
        if (created := source.created_timestamp_column) and created != source.timestamp_field:
            given = good & columns[created].is_valid().to_numpy(zero_copy_only=False)
            _times(columns[created], source.timestamp_unit or "us", given, positions, dead_letters, what="created time")
        good &= ~np.isin(positions, np.fromiter(dead_letters, dtype=np.int64, count=len(dead_letters)))
    # Only of messages that are good otherwise: these may be replayed once the clock has reached them.
    early = good & (times > clock + source.max_future)
    for place in np.flatnonzero(early):
        dead_letters[int(positions[place])] = _early(source, int(times[place]), clock)
    early_index = positions[early].tolist()
    good &= ~early
    if not good.all():
        rows, positions, times = rows.filter(pa.array(good)), positions[good], times[good]
    too_early = set(early_index)
    found = [UnusableMessage(i, legible(dead_letters[i]), i in too_early) for i in sorted(dead_letters)]
    return DecodedMessages(rows, positions, times, found, undeclared, left_out)


def _names(source: LogSource) -> list[str]:
    return [*(each.name for each in source.schema), *([TOMBSTONE] if source.has_tombstones else [])]


def metadata_columns(
    source: LogSource, messages: EncodedMessages, indexes: list[int], *,
    dead_letters: dict[int, str], schemas: Schemas | None, bounds: MessageBounds,
) -> dict[str, pa.Array]:  # fmt: skip
    """The columns from keys, headers and record times of the messages at these positions."""
    made: dict[str, pa.Array] = {}
    if source.key_fields:
        keys = messages.keys if messages.keys is not None else [None] * len(messages.values)
        made |= key_columns(
            source, [keys[i] for i in indexes], indexes, dead_letters=dead_letters, schemas=schemas, bounds=bounds
        )
    headers = None if messages.headers is None else [messages.headers[i] for i in indexes]
    for each in source.message_fields:
        if each.name in source.header_fields:
            made[each.name] = header_column(source.header_fields[each.name], each, headers, indexes, dead_letters)
        elif each.name == source.record_time_field:
            times = _record_times(messages, indexes)
            made[each.name] = record_times(
                times, each.dtype, source.timestamp_unit, indexes=indexes, dead_letters=dead_letters
            )
    return made


def _record_times(messages: EncodedMessages, indexes: list[int]) -> npt.NDArray[np.int64]:
    return np.asarray(messages.timestamps_us, dtype=np.int64)[np.asarray(indexes, dtype=np.int64)]


def _with_tombstones(
    source: LogSource,
    messages: EncodedMessages,
    rows: tuple[list[int], dict[str, pa.Array]],
    tombstones: list[int],
    *,
    dead_letters: dict[int, str],
    schemas: Schemas | None,
    bounds: MessageBounds,
) -> tuple[list[int], dict[str, pa.Array]]:
    """Append the tombstones' rows, with their record's time, and a column that marks them."""
    index, columns = rows
    columns = {**columns, TOMBSTONE: pa.array(np.zeros(len(index), dtype=bool))}
    if not tombstones:
        return index, columns
    other_columns = metadata_columns(
        source, messages, tombstones, dead_letters=dead_letters, schemas=schemas, bounds=bounds
    )
    ends = {}
    for each in source.schema:
        ends[each.name] = pa.nulls(len(tombstones), each.dtype.arrow())
        if each.name == source.timestamp_field:
            times = _record_times(messages, tombstones)
            ends[each.name] = record_times(
                times, each.dtype, source.timestamp_unit, indexes=tombstones, dead_letters=dead_letters
            )
        elif each.name in other_columns and other_columns[each.name].type == each.dtype.arrow():
            ends[each.name] = other_columns[each.name]
    ends[TOMBSTONE] = pa.array(np.ones(len(tombstones), dtype=bool))
    return joined([(index, columns), (tombstones, ends)])


def unusable_times(source: LogSource, column: pa.Array, *, clock: Micros) -> dict[int, str]:
    """Event times (without nulls) that make dead letters: row → reason."""
    reasons: dict[int, str] = {}
    rows = np.arange(len(column), dtype=np.int64)
    times = _times(column, source.timestamp_unit, np.ones(len(column), dtype=bool), rows, reasons)
    for row in np.flatnonzero(times > clock + source.max_future):
        if int(row) not in reasons:
            reasons[int(row)] = _early(source, int(times[row]), clock)
    return reasons


def unusable_created(source: LogSource, column: pa.Array) -> dict[int, str]:
    """Created times that make dead letters: row → reason."""
    reasons: dict[int, str] = {}
    rows = np.arange(len(column), dtype=np.int64)
    given = column.is_valid().to_numpy(zero_copy_only=False)
    _times(column, source.timestamp_unit or "us", given, rows, reasons, what="created time")
    return reasons


def _early(source: LogSource, time: Micros, clock: Micros) -> str:
    return (
        f"event time {iso(time)} is {span_text(time - clock)} after the clock "
        f"({iso(clock)}); max_future is {span_text(source.max_future)}"
    )


def _times(
    column: pa.Array,
    unit: str,
    good: npt.NDArray[np.bool_],
    positions: npt.NDArray[np.int64],
    dead_letters: dict[int, str],
    *,
    what: str = "event time",
) -> npt.NDArray[np.int64]:
    """Times of the good rows; times outside the calendar make dead letters."""
    picked = column.filter(pa.array(good))
    try:
        times = event_micros(picked, unit).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        # Too far from the epoch for microseconds in 64 bits, so outside the calendar.
        scale, _ = UNITS[unit]
        whole = picked.cast(pa.int64()).to_pylist()
        times = np.array([max(LEAST_INT64, min(value * scale, GREATEST_INT64)) for value in whole], dtype=np.int64)
    indexes = positions[good]
    for row in np.flatnonzero((times < EARLIEST) | (times > LATEST)):
        shown = f"{_shown_time(picked[int(row)])} {unit}".rstrip()
        dead_letters.setdefault(int(indexes[row]), f"{what} {shown} is beyond the calendar")
    return times


def _shown_time(scalar: pa.Scalar) -> str:
    # Python cannot represent times outside its calendar.
    return str(scalar.value if isinstance(scalar, pa.TimestampScalar | pa.Date32Scalar) else scalar.as_py())


@dataclass(frozen=True)
class MessageBatch:
    """Messages as columns, for callers without a log (a log's own batch type works as well)."""

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None] | None = None
    timestamps_us: Sequence[Micros] | npt.NDArray[np.int64] = ()
    headers: Sequence[Headers] | None = None


__all__ = [
    "DecodedMessages",
    "EncodedMessages",
    "MessageBatch",
    "UnusableMessage",
    "decode_messages",
    "unusable_created",
    "unusable_times",
]
