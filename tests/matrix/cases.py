"""What comes in, of which physical type, and what has to come out of each declared type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal as Number
from typing import Any

import pyarrow as pa

from asof.dtypes import DType
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

REFUSED = "refused"
"""What is expected where a value does not fit: an error of ours that names the column, view or source."""
US, NS = pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEAST, GREATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
NAN, INF = math.nan, math.inf


class Impossible(Exception):
    """A way has no form for a value: there is no such cell."""


@dataclass(frozen=True)
class Case:
    """One value on its way.

    Args:
        kind: the physical type that it comes in.
        given: the value, as Arrow takes it for that type.
        expected: what comes out, or `REFUSED`.
    """

    name: str
    dtype: DType
    kind: pa.DataType
    given: Any
    expected: Any

    @property
    def array(self) -> pa.Array:
        return pa.array([self.given], self.kind)


def _same(name: str, dtype: DType, value: Any) -> Case:
    return Case(name, dtype, dtype.arrow(), value, value)


def _cases() -> dict[str, Case]:
    amount, whole = Decimal(38, 9), Decimal(38, 0)
    i64, f64, f32, text = pa.int64(), pa.float64(), pa.float32(), pa.string()
    cases = [
        # ordinary, extreme and null values in their own types
        _same("bool", Bool, True), _same("bool null", Bool, None),
        _same("int32 least", Int32, -(2**31)), _same("int32 greatest", Int32, 2**31 - 1),
        _same("int64 least", Int64, -(2**63)), _same("int64 greatest", Int64, 2**63 - 1),
        _same("int64 beyond 2**53", Int64, 2**53 + 1), _same("int64 null", Int64, None),
        _same("float32", Float32, 0.5), _same("float64 subnormal", Float64, 5e-324), _same("float64", Float64, 0.1),
        _same("float64 greatest", Float64, 1.7976931348623157e308), _same("float64 nan", Float64, NAN),
        _same("float64 inf", Float64, -INF), _same("float64 negative zero", Float64, -0.0),
        _same("decimal", Decimal(10, 2), Number("-1.50")), _same("decimal of 38 digits", whole, Number("9" * 38)),
        _same("decimal of 38 places", Decimal(38, 38), Number("0." + "9" * 38)),
        _same("decimal null", amount, None),
        _same("string", String, "Zoë 🙂"), _same("string empty", String, ""), _same("string null", String, None),
        _same("string of digits", String, "01234"), _same("string long", String, "x" * 300_000),
        _same("bytes", Bytes, b"\x00\xff"), _same("bytes empty", Bytes, b""),
        _same("date least", Date, date(1, 1, 1)), _same("date greatest", Date, date(9999, 12, 31)),
        _same("time", Timestamp, NOON + timedelta(microseconds=1)), _same("time least", Timestamp, LEAST),
        _same("time greatest", Timestamp, GREATEST), _same("time null", Timestamp, None),
        _same("json", Json, '{"a":[1,null]}'), _same("json number", Json, "1e400"),
        _same("embedding", Embedding(3), [0.5, -1.0, 2.0]),
        _same("embedding null", Embedding(3), None),
        # nested
        _same("array of int64", Array(Int64), [2**53 + 1, None, -(2**63)]), _same("array empty", Array(String), []),
        _same("array of floats", Array(Float64), [NAN, INF, None, 0.1]),
        _same("array of decimals", Array(Decimal(38, 2)), [Number("9" * 36 + ".99"), None]),
        _same("array of times", Array(Timestamp), [NOON, None]), _same("array of bytes", Array(Bytes), [b"\xff", None]),
        _same("array of dates", Array(Date), [date(2026, 1, 1)]), _same("array of bools", Array(Bool), [True, None]),
        _same("array of arrays", Array(Array(Int32)), [[1], None, []]),
        # another physical type, whose values fit
        Case("whole float into int64", Int64, f64, 7.0, 7), Case("nan into int64", Int64, f64, NAN, None),
        Case("int64 into int32", Int32, i64, 5, 5), Case("uint64 into int64", Int64, pa.uint64(), 2**63 - 1, 2**63 - 1),
        Case("int8 into int64", Int64, pa.int8(), -7, -7), Case("uint32 into int64", Int64, pa.uint32(), 2**32 - 1, 2**32 - 1),
        Case("int32 into float64", Float64, pa.int32(), 2**31 - 1, 2.0**31 - 1),
        Case("int64 into float64", Float64, i64, 2**53, 2.0**53), Case("int32 into float32", Float32, pa.int32(), 2**24, 2.0**24),
        Case("float64 into float32", Float32, f64, 0.1, 0.10000000149011612),
        Case("decimal into float64", Float64, pa.decimal128(10, 2), Number("0.10"), 0.1),
        Case("decimal of less scale", amount, pa.decimal128(10, 2), Number("1.50"), Number("1.500000000")),
        Case("int64 into decimal", whole, i64, 2**63 - 1, Number(2**63 - 1)),
        Case("nanoseconds are floored", Timestamp, NS, 1_999, datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        Case("nanoseconds before 1970", Timestamp, NS, -1, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        Case("array of nanoseconds", Array(Timestamp), pa.list_(NS), [1_999, None],
             [datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC), None]),
        Case("naive time", Timestamp, pa.timestamp("us"), NOON.replace(tzinfo=None), NOON),
        Case("seconds", Timestamp, pa.timestamp("s"), NOON.replace(tzinfo=None), NOON),
        Case("date into time", Timestamp, pa.date32(), date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)),
        Case("large string", String, pa.large_string(), "a", "a"), Case("dictionary", String, pa.dictionary(pa.int32(), text), "a", "a"),
        Case("large list", Array(Int64), pa.large_list(i64), [1], [1]),
        Case("list of fixed size into array", Array(Float32), pa.list_(f32, 2), [1.0, 2.0], [1.0, 2.0]),
        Case("list of fixed size into embedding", Embedding(2), pa.list_(f32, 2), [1.0, 2.0], [1.0, 2.0]),
        Case("float64 embedding", Embedding(2), pa.list_(f64), [0.1, 1.0], [0.10000000149011612, 1.0]),
        Case("array of int32 into int64", Array(Int64), pa.list_(pa.int32()), [1, None], [1, None]),
        Case("array of whole floats into ints", Array(Int64), pa.list_(f64), [7.0, None], [7, None]),
        Case("struct into json", Json, pa.struct([("a", i64)]), {"a": 1}, '{"a":1}'),
        Case("map into json", Json, pa.map_(text, i64), [("a", 1)], '{"a":1}'),
        Case("struct into string", String, pa.struct([("a", i64)]), {"a": 1}, '{"a":1}'),
        Case("struct with nulls into json", Json, pa.struct([("a", pa.struct([("b", i64)])), ("c", f64)]),
             {"a": {"b": None}, "c": None}, '{"a":{"b":null},"c":null}'),
        Case("uuid into string", String, pa.uuid(), b"0123456789abcdef", "30313233-3435-3637-3839-616263646566"),
        Case("decimal of 32 bits", Decimal(5, 2), pa.decimal32(5, 2), Number("1.50"), Number("1.50")),
        Case("date in milliseconds", Date, pa.date64(), date(2026, 1, 1), date(2026, 1, 1)),
        Case("array of texts of a dictionary", Array(String), pa.list_(pa.dictionary(pa.int8(), text)), ["a", None], ["a", None]),
        # what does not fit
        Case("fraction into int64", Int64, f64, 3.7, REFUSED), Case("inf into int64", Int64, f64, INF, REFUSED),
        Case("float beyond 2**53 into int64", Int64, f64, 2.0**53 + 2, REFUSED),
        Case("float32 beyond 2**24 into int64", Int64, f32, 2.0**24 + 2, REFUSED),
        Case("float 2**63 into int64", Int64, f64, 2.0**63, REFUSED),
        Case("2**63 into int64", Int64, pa.uint64(), 2**63, REFUSED),
        Case("int64 beyond int32", Int32, i64, 2**31, REFUSED),
        Case("number into string", String, i64, 12, REFUSED), Case("number into bool", Bool, i64, 1, REFUSED),
        Case("text into int64", Int64, text, "12", REFUSED), Case("bool into int64", Int64, pa.bool_(), True, REFUSED),
        Case("2**53 + 1 into float64", Float64, i64, 2**53 + 1, REFUSED),
        Case("2**60 + 1 into float64", Float64, i64, 2**60 + 1, REFUSED),
        Case("2**24 + 1 into float32", Float32, pa.int32(), 2**24 + 1, REFUSED),
        Case("float64 beyond float32", Float32, f64, 1e39, REFUSED),
        Case("decimal cut", Decimal(10, 2), pa.decimal128(10, 3), Number("1.505"), REFUSED),
        Case("decimal too long", Decimal(4, 2), pa.decimal128(10, 2), Number("123.45"), REFUSED),
        Case("fraction into decimal", Decimal(10, 2), f64, 1.005, REFUSED),
        Case("text into time", Timestamp, text, "2026-01-01", REFUSED),
        Case("year 10000", Timestamp, US, 253_402_300_800_000_000, REFUSED),
        Case("year 0", Timestamp, US, -62_135_596_800_000_001, REFUSED),
        Case("year 10000 in an array", Array(Timestamp), pa.list_(US), [253_402_300_800_000_000], REFUSED),
        Case("date of year 10000", Date, pa.date32(), 2_932_897, REFUSED),
        Case("time into date", Date, US, NOON, REFUSED),
        Case("broken json", Json, text, "{bad", REFUSED), Case("json nan", Json, text, "NaN", REFUSED),
        Case("json deep nan", Json, text, '{"a":NaN}', REFUSED), Case("json empty", Json, text, "", REFUSED),
        Case("embedding of two", Embedding(3), pa.list_(f32), [1.0, 2.0], REFUSED),
        Case("embedding with null", Embedding(2), pa.list_(f32), [1.0, None], REFUSED),
        Case("embedding beyond float32", Embedding(2), pa.list_(f64), [1.0, 1e39], REFUSED),
        Case("fraction in an array of ints", Array(Int64), pa.list_(f64), [1.5], REFUSED),
        Case("beyond 2**53 in an array of floats", Array(Float64), pa.list_(i64), [2**53 + 1], REFUSED),
        Case("numbers into array of strings", Array(String), pa.list_(i64), [1], REFUSED),
        Case("nested list flattened", Array(Int64), pa.list_(pa.list_(i64)), [[1], [2]], REFUSED),
    ]  # fmt: skip
    return {case.name: case for case in cases}


CASES = _cases()

_INSIDE_PANDAS = "pandas has no null beside numbers in a list"
OTHERWISE: dict[tuple[str, str], Any] = {
    ("push of dicts", "struct into string"): REFUSED, ("push of pandas", "struct into string"): REFUSED,
    ("push of arrow", "struct into string"): REFUSED, ("push of polars", "struct into string"): REFUSED,
    ("push of dicts", "text into time"): datetime(2026, 1, 1, tzinfo=UTC),
    ("push of arrow", "text into time"): datetime(2026, 1, 1, tzinfo=UTC),
    ("push of polars", "text into time"): datetime(2026, 1, 1, tzinfo=UTC),
    ("push of pandas", "text into time"): datetime(2026, 1, 1, tzinfo=UTC),
    ("push of polars", "uuid into string"): REFUSED,  # there these are bytes
    ("push of polars", "date in milliseconds"): REFUSED,  # there these are times
    ("push of dicts", "float32 beyond 2**24 into int64"): 2**24 + 2,
    ("push of dicts", "map into json"): '[["a",1]]', ("push of pandas", "map into json"): '[["a",1]]',
    ("push of pandas", "float64 nan"): None,
    ("push of pandas", "array of int64"): Impossible(_INSIDE_PANDAS),
    ("push of pandas", "array of floats"): Impossible(_INSIDE_PANDAS),
}  # fmt: skip
"""(way in, case) → what comes out there, where it is not the same as by other ways: the value is another one there."""


def expected(way: str, case: str, cases: Mapping[str, Any] = CASES) -> Any:
    """What has to come out of a way, `<way in>, <side>, …`."""
    return OTHERWISE.get((way.partition(",")[0], case), cases[case].expected)
