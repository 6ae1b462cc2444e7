"""Pushed rows are checked, written and archived as the slow and general ways do it, whatever they are."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal as Number
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof.decoding import MessageBatch, decode_messages
from asof.definitions import Field, LogSource, PushSource
from asof.errors import RowsRefused
from asof.flows.rows.archive import archive_schema
from asof.flows.rows.pushed import AppendedRows, archived_rows, fitted_rows, pushed_rows
from asof.timing import micros, moment
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
from asof.values.fit import event_micros, fit_values
from asof.values.packing import plain_values
from asof.values.python_columns import VECTOR, own_column
from tests.unit.test_values_json import of_every_type

NOW = micros("2026-01-01T12:00:00+00:00")
SCHEMA = [
    Field("user", Int64), Field("i32", Int32), Field("f64", Float64), Field("f32", Float32), Field("flag", Bool),
    Field("text", String), Field("raw", Bytes), Field("at", Timestamp), Field("seen", Timestamp), Field("day", Date),
    Field("price", Decimal(12, 2)), Field("doc", Json), Field("list", Array(Int64)), Field("vector", Embedding(2)),
]  # fmt: skip
ROWS = PushSource("rows", SCHEMA, "at", created_timestamp_column="seen")
REQUIRED = ["at", "user"]

past = st.datetimes(datetime(1969, 12, 31), datetime(2026, 1, 1, 12)).map(lambda at: at.replace(tzinfo=UTC))
whole_seconds = past.map(lambda at: at.replace(microsecond=0))
doubles = st.floats(width=64, allow_nan=False, allow_infinity=False)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "user": st.integers(-(2**63), 2**63 - 1), "i32": st.integers(-(2**31), 2**31 - 1), "f64": doubles,
    "f32": st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats(-1e30, 1e30), "flag": st.booleans(),
    "text": st.text(max_size=4), "raw": st.binary(max_size=4), "at": past, "seen": past | whole_seconds,
    "day": st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    "price": st.decimals(-1000, 1000, places=2), "doc": st.sampled_from(['{"a":1}', "[]", "3"]),
    "list": st.lists(st.integers(-5, 5), max_size=2),
    "vector": st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2, max_size=2),
}  # fmt: skip
ODD = st.sampled_from(
    [
        None, True, 3, 2**53 + 1, 2**63, -(2**70), 2.0, 2.5, 1e39, -3.4028235e38, 3.4028234663852888e38, math.nan, math.inf,
        -math.inf, -0.0, "x", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.1234567+02:00", "\ud800", b"x", b"\xff",
        np.float64(1.5), np.float32(0.1), np.int64(7), np.bool_(True), Number("1.5"), Number("1.234"), date(2026, 1, 1),
        datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))), datetime(1, 1, 1, tzinfo=UTC),
        moment(NOW + 10**9), {"a": 1}, [1, None], [1.0, 2.0], "{",
    ]
)  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows as they should be, but for a few cells; enough of them for the ways of many."""
    count = draw(st.sampled_from([1, 2, 3, VECTOR - 1, VECTOR, VECTOR + 8]))
    made = []
    base = {name: draw(st.lists(values, min_size=1, max_size=3)) for name, values in GOOD.items()}
    for i in range(count):
        made.append({name: values[i % len(values)] for name, values in base.items()})
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        made[draw(st.integers(0, count - 1))][draw(st.sampled_from(sorted(GOOD)))] = draw(ODD)
    return made


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal, NaN and the sign of zero included."""
    return one.schema.equals(other.schema) and repr(one.to_pydict()) == repr(other.to_pydict())


@settings(max_examples=30, deadline=None)
@given(given_rows=rows())
def test_rows_are_fitted_or_refused_as_one_by_one(given_rows: list[dict[str, Any]]) -> None:
    try:
        expected = fitted_rows(ROWS, given_rows, required=REQUIRED)
    except (RowsRefused, UnicodeEncodeError) as refused:
        with pytest.raises(type(refused)) as found:
            pushed_rows(ROWS, given_rows, required=REQUIRED, clock=NOW)
        assert str(found.value) == str(refused)
        return
    times = event_micros(expected["at"].combine_chunks()).to_pylist()
    if max(times) > NOW + ROWS.max_future:
        with pytest.raises(RowsRefused, match="after the clock"):
            pushed_rows(ROWS, given_rows, required=REQUIRED, clock=NOW)
        return

    made = pushed_rows(ROWS, given_rows, required=REQUIRED, clock=NOW)

    assert same(made.table, expected)
    assert made.event_time == times
    for field in SCHEMA:
        assert repr(made.columns[field.name].plain) == repr(plain_values(expected[field.name], field.dtype))
    # And what the log's readers make of the messages is the same again.
    decoded = decode_messages(ROWS, MessageBatch(made.messages()), keys=["user"], clock=NOW)
    assert decoded.dead_letters == [] and same(decoded.rows, expected)
    assert decoded.event_time.tolist() == times


@of_every_type
def test_the_logs_readers_find_what_was_pushed(dtype: Any, values: st.SearchStrategy[Any]) -> None:
    source = PushSource("rows", [Field("at", Timestamp), Field("value", dtype)], "at")

    @settings(max_examples=10, deadline=None)
    @given(st.lists(st.none() | values, min_size=1, max_size=4))
    def check(column: list[Any]) -> None:
        given_rows = [{"at": moment(NOW), "value": value} for value in column]
        made = pushed_rows(source, given_rows, required=["at"], clock=NOW)
        framed = pushed_rows(source, made.table, required=["at"], clock=NOW)
        assert framed.messages() == made.messages() and same(framed.table, made.table)

        decoded = decode_messages(source, MessageBatch(made.messages()), keys=[], clock=NOW)

        assert decoded.dead_letters == [] and same(decoded.rows, made.table)

    check()


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        (Array(Float64), '["NaN", "Infinity", 1]'), (Array(Array(Float32)), '[["-Infinity"], null]'),
        (Embedding(2), '["NaN", 1]'), (Array(Bytes), '["eA==", null]'), (Array(Array(Bytes)), '[["eA=="]]'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", ["", ', "other": 1'])
def test_messages_write_what_json_has_not_in_lists_as_outside_of_them(dtype: Any, text: str, more: str) -> None:
    source = PushSource("rows", [Field("at", Timestamp), Field("value", dtype)], "at")
    messages = [f'{{"at": "2026-01-01T00:00:00Z", "value": {value}{more}}}'.encode() for value in (text, "null")]

    decoded = decode_messages(source, MessageBatch(messages), keys=[], clock=NOW)

    assert decoded.dead_letters == [] and decoded.rows["value"].null_count == 1
    for odd in ('["nan!"]', '[["no base64!"]]', '["x"]', '[{"a": 1}]'):
        message = f'{{"at": "2026-01-01T00:00:00Z", "value": {odd}{more}}}'.encode()
        assert len(decode_messages(source, MessageBatch([message]), keys=[], clock=NOW).dead_letters) == 1


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        (Array(Float64), "[null,1.5]", [None, 1.5]), (Float64, '"NaN"', math.nan), (Array(Bytes), '["eA==",null]', [b"x", None]),
        (Array(Decimal(12, 2)), '["1.50"]', [Number("1.50")]), (Array(Date), '["2026-01-01"]', [date(2026, 1, 1)]),
        (Array(Timestamp), '["2026-01-01T00:00:00Z"]', [datetime(2026, 1, 1, tzinfo=UTC)]), (Embedding(1), "[0.5]", [0.5]),
    ],
)  # fmt: skip
def test_what_an_older_version_wrote_to_the_log_stays_readable(dtype: Any, text: str, value: Any) -> None:
    source = PushSource("rows", [Field("at", Timestamp), Field("value", dtype)], "at")
    message = f'{{"at":"2026-01-01T00:00:00Z","value":{text}}}'.encode()

    decoded = decode_messages(source, MessageBatch([message]), keys=[], clock=NOW)

    expected, _ = fit_values([value], dtype)
    assert decoded.dead_letters == [] and repr(decoded.rows["value"].to_pylist()) == repr(expected.to_pylist())


ODD_NAMES = ['a"b', "a\\b", "a\nb", "\0", '"', "é"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_with_quotes_and_backslashes_is_one_as_any_other(name: str) -> None:
    """The encoder of messages, and their decoder, take no such names in structs."""
    source = LogSource(
        "rows", schema=[Field("at", Timestamp), Field(name, Array(Bytes)), Field("n", Int64)], timestamp_field="at"
    )
    made = pushed_rows(source, [{"at": moment(NOW), name: [b"x", None], "n": 2**60}], required=["at"], clock=NOW)
    foreign = json.dumps({"at": "2026-01-01T00:00:00Z", name: ["eA=="], "other": 1}).encode()
    bad = json.dumps({"at": "2026-01-01T00:00:00Z", name: 7}).encode()

    decoded = decode_messages(source, MessageBatch([*made.messages(), foreign, bad]), keys=[], clock=NOW)

    assert decoded.rows[name].to_pylist() == [[b"x", None], [b"x"]] and decoded.rows["n"].to_pylist() == [2**60, None]
    assert [each.index for each in decoded.dead_letters] == [2] and repr(name) in decoded.dead_letters[0].reason
    assert dict(decoded.undeclared) == {"other": 1}


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_key_field_may_have_any_name_too(name: str) -> None:
    source = LogSource(
        "rows",
        schema=[Field(name, Int64), Field("at", Timestamp)],
        timestamp_field="at",
        key_fields=[name],
        key_format="json",
    )
    message = json.dumps({"at": "2026-01-01T00:00:00Z", name: 9}).encode()

    decoded = decode_messages(
        source,
        MessageBatch([message], keys=[json.dumps({name: 7}).encode()], timestamps_us=[NOW]),
        keys=[name],
        clock=NOW,
    )

    assert decoded.rows[name].to_pylist() == [7] and not decoded.dead_letters


@settings(max_examples=8, deadline=None)
@given(pushes=st.lists(rows(), min_size=2, max_size=3))
def test_pushes_that_are_archived_together_are_what_they_are_one_by_one(pushes: list[list[dict[str, Any]]]) -> None:
    pieces = []
    for i, each in enumerate(pushes):
        try:
            made = pushed_rows(ROWS, each, required=REQUIRED, clock=NOW)
        except (RowsRefused, UnicodeEncodeError):
            continue
        pieces.append(AppendedRows(made, 3, 100 * i, NOW - i, NOW + i))
    if not pieces:
        return

    together = archived_rows(pieces)

    assert together.schema.equals(archive_schema(ROWS))
    assert same(together, pa.concat_tables([archived_rows([each]) for each in pieces]))
    first = together.slice(0, 1).to_pylist()[0]
    assert (first["partition"], first["offset"]) == (3, pieces[0].first)
    assert (micros(first["ingested_at"]), first["ingest_date"]) == (
        pieces[0].ingested_at, moment(pieces[0].ingested_at).date()
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, VECTOR])
@pytest.mark.parametrize(
    ("dtype", "value", "plain"),
    [
        (Float64, 0.1, 0.1), (Float64, 3, 3.0), (Float32, 0.1, 0.10000000149011612), (Int64, 7, 7), (String, "é", "é"),
        (Bool, True, True), (Bytes, b"x", b"x"), (Timestamp, moment(NOW), NOW), (Timestamp, moment(NOW + 1), NOW + 1),
        (Timestamp, moment(-1), -1), (Float64, None, None), (Timestamp, None, None),
    ],
)  # fmt: skip
def test_a_column_of_the_types_own_values_takes_no_look_at_each(dtype: Any, value: Any, plain: Any, count: int) -> None:
    column = own_column([value] * count, dtype)

    assert column is not None
    assert column.plain == [plain] * count
    assert column.array.equals(fit_values([value] * count, dtype)[0])


@pytest.mark.parametrize("count", [1, VECTOR])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (Float64, True), (Float64, math.nan), (Float64, 2**53 + 1), (Float64, "1"), (Float32, 3.4028234663852888e38),
        (Int64, 2**63), (Int64, True), (Int32, 2**31), (Int64, 1.0), (String, "\ud800"), (String, 1), (Bytes, bytearray()),
        (Timestamp, datetime(2026, 1, 1)), (Timestamp, datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        (Timestamp, "2026-01-01T00:00:00Z"), (Date, date(2026, 1, 1)), (Float64, np.float64(1.0)),
    ],
)  # fmt: skip
def test_anything_else_is_left_to_those_who_look(dtype: Any, value: Any, count: int) -> None:
    good = {Float64: 1.0, Float32: 1.0, Int64: 1, Int32: 1, String: "x", Bytes: b"x", Timestamp: moment(NOW)}
    values = [*[good.get(dtype)] * (count - 1), value]

    assert own_column(values, dtype) is None


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_in_integers_are_the_log_readers(unit: str) -> None:
    source = PushSource("counted", [Field("at", Int64)], "at", timestamp_unit=unit)
    per = {"s": 1e-6, "ms": 1e-3, "us": 1, "ns": 1000}[unit]
    given_rows = [{"at": int(at * per) - 1} for at in (-NOW, 0, NOW)]

    made = pushed_rows(source, given_rows, required=["at"], clock=NOW)

    assert (
        made.event_time
        == decode_messages(source, MessageBatch(made.messages()), keys=[], clock=NOW).event_time.tolist()
    )
    for beyond in (2**63 - 1, -(2**63)):
        if unit != "ns":
            with pytest.raises(RowsRefused, match="beyond the calendar"):
                pushed_rows(source, [{"at": 0}, {"at": beyond}], required=["at"], clock=NOW)
