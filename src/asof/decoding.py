"""Messages of a log into typed rows, in bulk; what cannot be used is told apart, with the reason."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.definitions import LogSource
from asof.dtypes import DType
from asof.fitting import checker, event_micros, fit_values
from asof.timing import EARLIEST, LATEST, Micros, iso, span_text


@dataclass(frozen=True)
class Letter:
    """A message that could not be used: its index in the batch, and why.

    Args:
        is_early: it lies too far in the future, which depends on the clock: a later look may judge it otherwise.
    """

    index: int
    reason: str
    is_early: bool = False


@dataclass(frozen=True)
class Decoded:
    """A batch of messages, decoded.

    Args:
        rows: the n usable rows, the source's declared columns under their own names and types.
        index: n indexes into the batch, ascending.
        event_time: n event times in microseconds.
        letters: the messages that could not be used.
        undeclared: names of fields that no one declared → how many messages had them.
    """

    rows: pa.Table
    index: npt.NDArray[np.int64]
    event_time: npt.NDArray[np.int64]
    letters: list[Letter]
    undeclared: Counter[str] = field(default_factory=Counter)


def decode_messages(
    source: LogSource, values: Sequence[bytes | None], *, keys: Sequence[str], clock: Micros
) -> Decoded:
    """Decode JSON messages column by column.

    Args:
        keys: columns (names in the source) that must not be null: the join keys of every view of the source.
        clock: now; an event later than this by more than the source's `max_future` is a letter.
    """
    codec = _codec(source)
    letters: dict[int, str] = {}
    undeclared: Counter[str] = Counter()
    decoded, index = codec.structs(values, letters, undeclared)
    columns: dict[str, pa.Array] = {}
    for each in source.schema:
        column = list(map(attrgetter(codec.attribute[each.name]), decoded))
        columns[each.name] = codec.column(each.dtype, column, each.name, index, letters)
    rows = pa.table(columns)
    positions = np.asarray(index, dtype=np.int64)
    event_time = columns[source.timestamp_field]
    good = np.ones(len(positions), dtype=bool)
    if letters:
        good &= ~np.isin(positions, np.fromiter(letters, dtype=np.int64))
    for name in dict.fromkeys((source.timestamp_field, *keys)):
        nulls = columns[name].is_null().to_numpy(zero_copy_only=False)
        what = "event time" if name == source.timestamp_field else "key"
        for place in np.flatnonzero(nulls & good):
            letters[int(positions[place])] = f"{what} {name!r} is null"
        good &= ~nulls
    times = np.zeros(len(positions), dtype=np.int64)
    if good.any():
        times[good] = _times(event_time, source, good, positions, letters)
        good &= ~np.isin(positions, np.fromiter(letters, dtype=np.int64, count=len(letters)))
    early = good & (times > clock + source.max_future)
    for place in np.flatnonzero(early):
        letters[int(positions[place])] = _early(source, int(times[place]), clock)
    early_index = positions[early].tolist()
    good &= ~early
    if not good.all():
        rows, positions, times = rows.filter(pa.array(good)), positions[good], times[good]
    too_early = set(early_index)
    found = [Letter(i, letters[i], i in too_early) for i in sorted(letters)]
    return Decoded(rows, positions, times, found, undeclared)


def unusable_times(source: LogSource, column: pa.Array, *, clock: Micros) -> dict[int, str]:
    """Which event times of a column of the declared type, without nulls, would make letters: row → why."""
    reasons: dict[int, str] = {}
    rows = np.arange(len(column), dtype=np.int64)
    times = _times(column, source, np.ones(len(column), dtype=bool), rows, reasons)
    for row in np.flatnonzero(times > clock + source.max_future):
        reasons.setdefault(int(row), _early(source, int(times[row]), clock))
    return reasons


def _early(source: LogSource, time: Micros, clock: Micros) -> str:
    return (
        f"event time {iso(time)} is {span_text(time - clock)} after the clock "
        f"({iso(clock)}); max_future is {span_text(source.max_future)}"
    )


def _times(
    column: pa.Array,
    source: LogSource,
    good: npt.NDArray[np.bool_],
    positions: npt.NDArray[np.int64],
    letters: dict[int, str],
) -> npt.NDArray[np.int64]:
    """Event times of the good rows; one that the calendar does not hold becomes a letter."""
    picked = column.filter(pa.array(good))
    try:
        times = event_micros(picked, source.timestamp_unit)
    except pa.ArrowInvalid:
        times = None
    places = positions[good]
    values = picked.cast(pa.int64()).to_pylist() if times is None else None
    if values is not None:
        scale = {"s": 1_000_000, "ms": 1000}[source.timestamp_unit]
        limit = (2**63 - 1) // scale
        for place, value in zip(places, values, strict=True):
            if abs(value) > limit:
                letters[int(place)] = f"event time {value} {source.timestamp_unit} is beyond the calendar"
        return np.array([value * scale if abs(value) <= limit else 0 for value in values], dtype=np.int64)
    assert times is not None
    array = times.to_numpy(zero_copy_only=False)
    for row in np.flatnonzero((array < EARLIEST) | (array > LATEST)):
        letters[int(places[row])] = (
            f"event time {picked[int(row)].as_py()} {source.timestamp_unit} is beyond the calendar"
        )
    return array


_NOT_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
"""JSON has no such numbers; these texts stand for them in float columns."""


class _Codec:
    """What one source's messages are decoded with."""

    def __init__(self, source: LogSource) -> None:
        self.source = source
        # Field names need not be Python names, so attributes are numbered.
        self.attribute = {each.name: f"f{i}" for i, each in enumerate(source.schema)}
        fields = [(f"f{i}", _wire_type(each.dtype), None) for i, each in enumerate(source.schema)]
        rename = {f"f{i}": each.name for i, each in enumerate(source.schema)}
        options: dict[str, Any] = {"rename": rename, "gc": False}
        strict = msgspec.defstruct("Message", fields, forbid_unknown_fields=True, **options)
        self.lenient_type = msgspec.defstruct("Message", fields, **options)
        self.strict = msgspec.json.Decoder(strict).decode
        self.lenient = msgspec.json.Decoder(self.lenient_type).decode
        self.plain = msgspec.json.Decoder(dict[str, Any]).decode
        self.dtypes = {each.name: each.dtype for each in source.schema}
        self.checks = {each.name: checker(each.dtype) for each in source.schema}

    def structs(
        self, values: Sequence[bytes | None], letters: dict[int, str], undeclared: Counter[str]
    ) -> tuple[list[Any], list[int]]:
        """The decodable messages as structs, and their indexes."""
        strict = self.strict
        try:
            return [strict(value) for value in values], list(range(len(values)))  # type: ignore[arg-type]
        except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
            pass
        structs: list[Any] = []
        index: list[int] = []
        for i, value in enumerate(values):
            try:
                struct = strict(value)  # type: ignore[arg-type]
            except (msgspec.MsgspecError, TypeError, UnicodeDecodeError):
                struct = self._second_look(i, value, letters, undeclared)
                if struct is None:
                    continue
            structs.append(struct)
            index.append(i)
        return structs, index

    def _second_look(self, i: int, value: bytes | None, letters: dict[int, str], undeclared: Counter[str]) -> Any:
        """One message that is not plainly what was declared: undeclared fields are counted, a misfit is named."""
        if value is None:
            letters[i] = "the message is empty (a tombstone), and the source says no meaning for it"
            return None
        try:
            fields = self.plain(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            letters[i] = f"not a JSON object: {error}"
            return None
        undeclared.update(name for name in fields if name not in self.attribute)
        fitted: dict[str, Any] = {}
        for name, attribute in self.attribute.items():
            found = fields.get(name)
            if found is None:
                continue
            if isinstance(found, str) and found in _NOT_FINITE and self._is_float(name):
                fitted[attribute] = _NOT_FINITE[found]
                continue
            if isinstance(found, str) and self._is_bytes(name):
                found = _from_base64(found)
            try:
                # The check refuses what would be bent; the wire's own spelling is kept for the column's conversion.
                self.checks[name](found)
                fitted[attribute] = int(found) if isinstance(found, float) and self._is_integer(name) else found
            except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
                letters[i] = f"column {name!r}: {error}"
                return None
        return self.lenient_type(**fitted)

    def _is_integer(self, name: str) -> bool:
        return self.dtypes[name].is_integer

    def _is_float(self, name: str) -> bool:
        return self.dtypes[name].is_float

    def _is_bytes(self, name: str) -> bool:
        return self.dtypes[name].name == "Bytes"

    def column(self, dtype: DType, values: list[Any], name: str, index: list[int], letters: dict[int, str]) -> pa.Array:
        """A column of decoded values in its Arrow type; values that do not fit become letters."""
        if dtype.name in ("Bool", "Int32", "Int64", "Float32", "Float64", "String"):
            try:
                return pa.array(values, dtype.arrow())
            except (OverflowError, pa.ArrowInvalid, pa.ArrowTypeError):
                pass  # 2**63 in Int64 and the like: the slow way says which row
        array, misfits = fit_values(values, dtype)
        for row, reason in misfits:
            letters.setdefault(index[row], f"column {name!r}: {reason}")
        return array


def _from_base64(text: str) -> Any:
    """The bytes behind base64 text; text that is none stays text, so that the check names it."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text


def _wire_type(dtype: DType) -> Any:
    """What msgspec should expect in JSON; types without a form of their own are checked afterwards."""
    plain: dict[str, Any] = {
        "Bool": bool, "Int32": int, "Int64": int, "Float32": float, "Float64": float, "String": str, "Bytes": bytes,
        "Date": str, "Timestamp": str,
    }  # fmt: skip
    return plain.get(dtype.name, Any) | None if dtype.name in plain else Any


def _codec(source: LogSource) -> _Codec:
    codec = source.__dict__.get("_codec")
    if codec is None:
        # Built once per definition; it holds nothing but what the definition says.
        codec = _Codec(source)
        object.__setattr__(source, "_codec", codec)
    return codec
