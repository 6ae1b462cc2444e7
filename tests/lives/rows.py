"""Keys and values of every type, and rows of them full of ties, nulls, late and early moments."""

from __future__ import annotations

import base64
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from typing import Any

import pyarrow as pa

from asof.definitions import Field
from asof.dtypes import DType
from asof.timing import DAY, HOUR, MINUTE, SECOND, Micros, moment
from asof.types import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)

Values = dict[str, Any]

KEYS: dict[str, tuple[DType, list[Any]]] = {
    "text": (String, ["", "a", "ab", 'O\'Brien \\ "é" 100%', "Ab"]),
    "raw": (Bytes, [b"", b"\x00\xff'", b"a"]),
    "small": (Int32, [-(2**31), 0, 2**31 - 1]),
    "big": (Int64, [-(2**63), 1, 2**53 + 1, 2**53, 2**63 - 1]),
    "flag": (Bool, [True, False]),
    "day": (Date, [date(1, 1, 1), date(1969, 12, 31), date(9999, 12, 31)]),
    "moment": (Timestamp, [datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), datetime(1, 1, 1, tzinfo=UTC)]),
    "price": (Decimal(12, 2), [Number("0.00"), Number("-1234567890.50"), Number("1.10")]),
}
"""Join key → its type, and its values."""

_TIMES = [datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 1, UTC)]
VALUES: dict[str, tuple[DType, list[Any]]] = {
    "n": (Int64, [0, 1, -3, 2**53 + 1, 2**62, 2**62, -(2**63), 2**63 - 1]),
    "i": (Int32, [0, 7, -(2**31), 2**31 - 1]),
    "x": (Float64, [0.0, 0.5, -2.25, 1024.0, math.nan, math.inf, -math.inf]),
    "h": (Float32, [0.5, -0.25, 3.0, math.nan]),
    "d": (Decimal(12, 2), [Number("0.00"), Number("-1.50"), Number("9999999999.99")]),
    "dd": (Decimal(38, 9), [Number("12345678901234567890123456789.123456789"), Number("-0.000000001")]),
    "s": (String, ["", "x", "żółw", "Z", "gone", "NaN"]),
    "b": (Bool, [True, False]),
    "r": (Bytes, [b"", b"\x00\xff", b"NaN"]),
    "c": (Date, [date(1, 1, 1), date(2026, 1, 1), date(9999, 12, 31)]),
    "m": (Timestamp, _TIMES),
    "j": (Json, ['{"a":[1,null]}', "null", '"NaN"', "1.50"]),
    "a": (Array(Int64), [[], [2**53 + 1, None], [1, 2]]),
    "aa": (Array(Array(String)), [[], [["x", None], None, []]]),
    "ad": (Array(Decimal(38, 2)), [[Number("9" * 36 + ".99"), None], []]),
    "am": (Array(Timestamp), [_TIMES, [None]]),
    "ax": (Array(Float64), [[math.nan, math.inf, None, 0.1]]),
    "ar": (Array(Bytes), [[b"\xff", None], []]),
    "e": (Embedding(2), [[0.5, math.nan], [-math.inf, 1.0]]),
}
"""Column → its type, and its values."""

NOT_IN_TABLES = ("aa", "ad")
"""Columns that Postgres has no type for: its arrays are rectangles, and do not keep the scale of decimals."""

AGES = [
    0,
    0,
    SECOND,
    10 * SECOND,
    *(each * MINUTE for each in (1, 5, 29, 30, 31, 59, 60)),
    2 * HOUR,
    26 * HOUR,
    40 * DAY,
]
"""How old rows are when they come."""


@dataclass(frozen=True)
class Columns:
    """The join keys and the other columns of a source, but for its times."""

    keys: list[str]
    values: list[str]

    @property
    def fields(self) -> list[Field]:
        return [
            *(Field(name, KEYS[name][0]) for name in self.keys), *(Field(name, VALUES[name][0]) for name in self.values)
        ]  # fmt: skip


def random_keys(rng: random.Random, names: list[str], count: int) -> list[Values]:
    """Different values of the join keys."""
    found = {}
    for _ in range(count):
        key = {name: rng.choice(KEYS[name][1]) for name in names}
        found[repr(key)] = key
    return list(found.values())


def random_row(rng: random.Random, key: Values, now: Micros, *, ahead: bool = True) -> Values:
    """A row of a key near the clock, mostly late; now and then ahead of it."""
    at = now - rng.choice(AGES) + rng.choice((0, 0, 0, 1, -1))
    if ahead and rng.random() < 0.08:
        at = now + rng.choice((1, SECOND, 4 * MINUTE))
    row = {name: None if rng.random() < 0.15 else rng.choice(values) for name, (_, values) in VALUES.items()}
    return {**key, **row, "event_time": at}


def random_created(rng: random.Random, row: Values, now: Micros) -> Micros:
    return rng.choice((now, now, now - SECOND, now - MINUTE))


def table_of(rows: list[Values], of: Columns) -> pa.Table:
    """Rows as a source has them: `at` is the event time, `written` the created time."""
    columns = {field.name: pa.array([row[field.name] for row in rows], field.dtype.arrow()) for field in of.fields}
    times = pa.timestamp("us", "UTC")
    columns["at"] = pa.array([row["event_time"] for row in rows], times)
    columns["written"] = pa.array([row.get("created") for row in rows], times)
    return pa.table(columns)


def dicts_of(rows: list[Values], of: Columns) -> list[Values]:
    """The same rows as dicts of Python's values."""
    return [
        {
            **{field.name: row[field.name] for field in of.fields}, "at": moment(row["event_time"]),
            "written": None if row.get("created") is None else moment(row["created"]),
        }
        for row in rows
    ]  # fmt: skip


def message_of(row: Values, of: Columns) -> bytes:
    """A row as a JSON message, as any producer writes it: nulls are left out."""
    (made,) = dicts_of([row], of)
    return json.dumps({name: _as_json(value) for name, value in made.items() if value is not None}).encode()


def _as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return list(map(_as_json, value)) if isinstance(value, list) else value


def rank(value: Any) -> tuple[Any, ...]:
    """Where a value stands among those of its column: nulls lowest, NaN greatest, text by code point."""
    if value is None:
        return (0,)
    if isinstance(value, list):
        return (1, *map(rank, value))
    if isinstance(value, float):
        return (1, 1, 0.0) if math.isnan(value) else (1, 0, value)
    return (1, value)


def key_of(row: Mapping[str, Any], names: tuple[str, ...] | list[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in names)
