"""Columns of text as values of declared types, none of them bent; the narrowest type that keeps all of the text."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from asof.dtypes import GREATEST_EXACT, Bool, DType, Float64, Int64, String, Timestamp
from asof.values.check import checker
from asof.values.fit import Misfit, fit, salvaged
from asof.values.legible import shown
from asof.values.legible import why as reason_of

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]([0-9]{2}(?::[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?) ?"
    r"(Z|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?)?"
)
_MOST_DIGITS = 400
"""The longest text that is read as a number: every Float64 and Decimal has a shorter one."""

# Forms of whole columns.
_WHOLE_FLOAT = r"^-?[0-9]{1,15}\.0+$"
_FINE = r"(\.[0-9]{6})[0-9]+"
_CANONICAL_WHOLE = r"^(0|-?[1-9][0-9]{0,18})$"
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?$"
_ZONES = ("Z", "+00:00", "+00", "")


def fit_text(column: pa.Array, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """A column of text in the declared type; a misfit's place is null.

    Numbers are decimal, with a point and perhaps an exponent; whole ones such as `3.0` fit integers. Bool is `true` or
    `false` in any case; Timestamp is ISO 8601, naive ones are taken as UTC; Date is `YYYY-MM-DD`; lists are JSON. Only
    String, Json and Bytes keep the spaces around a value.
    """
    if dtype.name == "String":
        return column, []
    if dtype.name == "Bytes":
        return column.cast(pa.binary()), []
    if dtype.name == "Json":
        return fit(column, dtype)
    fast = _fit_at_once(column, dtype)
    return (fast, []) if fast is not None else _fit_each(column, dtype)


def _fit_at_once(column: pa.Array, dtype: DType) -> pa.Array | None:
    """The column where Arrow reads all of it as `_fit_each` does, which this must equal; None: each needs a look."""
    try:
        if dtype.is_integer:
            try:
                whole = column.cast(dtype.arrow())
            except pa.ArrowInvalid:
                if _any(pc.invert(pc.match_substring_regex(column, _WHOLE_FLOAT))):
                    return None
                # As pandas writes whole numbers with gaps.
                return column.cast(pa.float64()).cast(dtype.arrow())
            # Arrow takes hexadecimal digits.
            return None if _any(pc.match_substring(column, "x", ignore_case=True)) else whole
        if dtype.is_float:
            numbers = column.cast(pa.float64())
            # Infinities may be overflows, and integers beyond 2**53 inexact: both are seen in the text alone.
            if not _any(pc.greater_equal(pc.abs(numbers), GREATEST_EXACT if dtype == Float64 else 2**24)):
                return numbers if dtype == Float64 else numbers.cast(pa.float32())
        if dtype.name == "Bool":
            lower = pc.utf8_lower(column)
            is_true = pc.equal(lower, "true")
            return is_true if not _any(pc.invert(pc.or_(is_true, pc.equal(lower, "false")))) else None
        if dtype.name == "Timestamp":
            return _moments_at_once(column, dtype.arrow())
        if dtype.name == "Date":
            return _in_years(column.cast(pa.date32()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    return None


def _moments_at_once(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    for cut in (False, True):
        # Nanoseconds are floored, as on every way in.
        texts = pc.replace_substring_regex(column, _FINE, r"\1") if cut else column
        for through in (kind, pa.timestamp("us")):
            try:
                return _in_years(texts.cast(through).cast(kind))
            except pa.ArrowInvalid:
                continue
    return None


def _in_years(times: pa.Array) -> pa.Array | None:
    """The times where none is before the year 1, which Arrow reads and Python has not."""
    first = pc.min(times.cast(pa.int64() if pa.types.is_timestamp(times.type) else pa.int32())).as_py()
    least = -62_135_596_800_000_000 if pa.types.is_timestamp(times.type) else -719_162
    return times if first is None or first >= least else None


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())


def _fit_each(column: pa.Array, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    """The column, each of its distinct texts read by itself."""
    encoded = column.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    read, check = _reader(dtype), checker(dtype)
    values: list[Any] = []
    reasons: dict[int, str] = {}
    for at, text in enumerate(texts):
        value = None
        try:
            value = check(read(text))
        except Exception as error:
            reasons[at] = reason_of(error)
        values.append(value)
    kind = dtype.arrow()
    array, refused = salvaged(lambda some: (pa.array(some, kind), []), values, dtype)
    reasons.update(refused)
    misfits: list[Misfit] = []
    if reasons:
        positions = encoded.indices.to_pylist()
        misfits = [(row, reasons[at]) for row, at in enumerate(positions) if at is not None and at in reasons]
    return array.take(encoded.indices), misfits


def _reader(dtype: DType) -> Callable[[str], Any]:
    """Text as the Python value that `checker` takes for the type; raises ValueError with the reason."""
    if dtype.is_integer:
        return lambda text: _whole(text.strip(), dtype)
    if dtype.is_float:
        return lambda text: _float(text.strip(), dtype)
    if dtype.name in ("Array", "Embedding"):
        return lambda text: _list(text, dtype)
    return {"Decimal": _decimal, "Bool": _bool, "Timestamp": _moment, "Date": _day}[dtype.name]


def _refused(text: str, expected: str) -> ValueError:
    return ValueError(f"{shown(text)} is not {expected}")


def _whole(text: str, dtype: DType) -> int:
    expected = f"a whole number ({dtype})"
    if len(text) > _MOST_DIGITS:
        raise _refused(text, expected)
    if _WHOLE.fullmatch(text):
        return int(text)
    if not _NUMBER.fullmatch(text):
        raise _refused(text, expected)
    number = Decimal(text)
    # An exponent is looked at before it is followed: 1e999999999 would be a number of a billion digits.
    if number.adjusted() > 20 or number != number.to_integral_value():
        raise _refused(text, expected)
    return int(number)


def _float(text: str, dtype: DType) -> float:
    if _SPECIAL.fullmatch(text):
        return float(text)
    if len(text) > _MOST_DIGITS or not _NUMBER.fullmatch(text):
        raise _refused(text, f"a number ({dtype})")
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{shown(text)} is outside {dtype}")
    exact = GREATEST_EXACT if dtype == Float64 else 2**24
    if abs(number) >= exact and _WHOLE.fullmatch(text):
        near = number if dtype == Float64 else pa.scalar(number).cast(pa.float32(), safe=False).as_py()
        if near in (float("inf"), float("-inf")) or int(near) != int(text):
            raise ValueError(f"{shown(text)} is an integer that has no exact {dtype}")
    return number


def _decimal(text: str) -> Decimal:
    if len(text) <= _MOST_DIGITS and _NUMBER.fullmatch(text.strip()):
        try:
            return Decimal(text.strip())
        except InvalidOperation:
            pass
    raise _refused(text, "a decimal number")


def _bool(text: str) -> bool:
    lower = text.strip().lower()
    if lower in ("true", "false"):
        return lower == "true"
    raise _refused(text, "true or false (Bool)")


def _moment(text: str) -> datetime:
    found = _TIME.fullmatch(text.strip())
    try:
        if found is not None:
            day, clock, zone = found.groups()
            # Digits finer than microseconds are cut off, as on every way in.
            clock = re.sub(_FINE, r"\1", clock or "00:00")
            moment = datetime.fromisoformat(f"{day}T{clock}{(zone or '').replace('UTC', 'Z')}")
            return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise _refused(text, "a time in ISO 8601, such as 2026-11-30T12:00:00Z (Timestamp)")


def _day(text: str) -> date:
    try:
        if _DATE.fullmatch(text.strip()):
            return date.fromisoformat(text.strip())
    except ValueError:
        pass
    raise _refused(text, "a date such as 2026-11-30 (Date)")


def _list(text: str, dtype: DType) -> list[Any]:
    try:
        values = json.loads(text, parse_float=lambda digits: _float(digits, Float64))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list):
        raise _refused(text, f"a list in JSON ({dtype})")
    return values


class Narrowest:
    """Finds the narrowest of Int64, Float64, Bool and Timestamp in which every value writes back as the same text.

    Whole floats may be written with `.0` or without it, times with `T` or a space and with any name of UTC, as long
    as one column does it in one way. What fits none is String; so is a column without any value.
    """

    def __init__(self) -> None:
        self._seen = False
        self._whole = self._bool = True
        self._floats = {"", ".0"}
        self._times = {(separator, zone) for separator in "T " for zone in _ZONES}

    @property
    def dtype(self) -> DType:
        if not self._seen:
            return String
        if self._whole:
            return Int64
        if self._floats:
            return Float64
        if self._bool:
            return Bool
        return Timestamp if self._times else String

    @property
    def is_settled(self) -> bool:
        """No further value can change the result: it is String."""
        return not (self._whole or self._floats or self._bool or self._times)

    def look(self, column: pa.Array) -> None:
        """Take in more values of the column, as text."""
        column = column.drop_null()
        if not len(column) or self.is_settled:
            return
        self._seen = True
        if self._whole or self._floats:
            self._look_at_numbers(column)
        if self._bool:
            self._bool = not _any(pc.invert(pc.is_in(column, pa.array(["true", "false"]))))
        self._times = {form for form in self._times if _are_moments(column, *form)}

    def _look_at_numbers(self, column: pa.Array) -> None:
        whole = None
        if not _any(pc.invert(pc.match_substring_regex(column, _CANONICAL_WHOLE))):
            try:
                whole = column.cast(pa.int64())
            except pa.ArrowInvalid:
                self._whole = False
        else:
            self._whole = False
        if whole is not None:
            ends = pc.min_max(whole).as_py()
            exact = ends["min"] >= -GREATEST_EXACT and ends["max"] <= GREATEST_EXACT
            self._floats &= {""} if exact else set()
        elif self._floats:
            self._floats &= _float_forms(column)


def _float_forms(column: pa.Array) -> set[str]:
    """The ways of writing whole floats in which all of the column would be written as it is: without and with `.0`."""
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowInvalid:
        return set()
    short = numbers.cast(pa.string())
    same = pc.equal(short, column)
    forms = {""} if not _any(pc.invert(same)) else set()
    dotted = pc.binary_join_element_wise(
        short, pc.if_else(pc.match_substring_regex(short, r"^-?[0-9]+$"), ".0", ""), ""
    )
    if not _any(pc.invert(pc.equal(dotted, column))):
        forms.add(".0")
    if forms:
        return forms
    # What Arrow writes in another way than others do: exponents, `nan`, large numbers.
    is_odd = pc.invert(pc.or_(same, pc.equal(dotted, column)))
    odd = column.filter(is_odd).unique().to_pylist()
    if not odd or not all(_writes_back(text) for text in odd):
        return set()
    plain = column.filter(pc.invert(is_odd))
    return _float_forms(plain) if len(plain) else {"", ".0"}


def _writes_back(text: str) -> bool:
    """Whether Python or JSON writes the number that the text is in just this way."""
    try:
        number = float(text)
    except ValueError:
        return False
    if number != number or number in (float("inf"), float("-inf")):
        return text in ("nan", "NaN", "inf", "-inf", "Infinity", "-Infinity")
    written = repr(number)
    if "e" not in written:
        return text == written or text == written.removesuffix(".0") and abs(number) <= GREATEST_EXACT
    return text in (written, written.replace("e-0", "e-"), written.replace("e", "E"))


def _are_moments(column: pa.Array, separator: str, zone: str) -> bool:
    """Whether all texts are times, with this separator and this name of UTC."""
    if zone:
        if _any(pc.invert(pc.ends_with(column, zone))):
            return False
        column = pc.utf8_slice_codeunits(column, 0, -len(zone))
    if separator == " ":
        column = pc.replace_substring(column, " ", "T", max_replacements=1)
    if _any(pc.invert(pc.match_substring_regex(column, _MOMENT))):
        return False
    try:
        return _in_years(column.cast(pa.timestamp("us"))) is not None
    except pa.ArrowInvalid:
        return False


__all__ = ["Narrowest", "fit_text"]
