"""Values survive the way through JSON, each in its own type, in every shape that it has there."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof.dtypes import (
    Array,
    Bool,
    Bytes,
    Date,
    DType,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)
from asof.dtypes import Decimal as DecimalType
from asof.timing import SECOND, micros, moment
from asof.values.fit import fit_values
from asof.values.json import (
    all_finite,
    bytes_or_same,
    column_writer,
    feast_column_writer,
    read_columns,
    reader,
    request_reader,
    write_floats,
    write_value,
    writer,
)

MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(fold=0))
DEPTH = 3
"""So deep are lists in lists."""


EDGES = [
    datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]  # fmt: skip
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


def digits(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    """Decimals with up to all of the digits that their type has."""
    most = 10**precision - 1
    whole = st.integers(-most, most) | st.sampled_from([most, -most, 0, 1, -1])
    return whole.map(lambda number: Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -scale)))


def scalars() -> list[tuple[DType, st.SearchStrategy[Any]]]:
    return [
        (Bool, st.booleans()), (Int32, st.integers(-(2**31), 2**31 - 1)), (Int64, st.integers(-(2**63), 2**63 - 1)),
        (Float32, st.floats(width=32)), (Float64, st.floats()), (DecimalType(38, 9), digits(38, 9)),
        (DecimalType(38, 0), digits(38, 0)), (DecimalType(38, 38), digits(38, 38)), (String, st.text()),
        (Json, DOCUMENTS.map(json.dumps) | DOCUMENTS.map(lambda each: json.dumps(each, ensure_ascii=False, indent=1))),
        (Bytes, st.binary()), (Date, st.dates() | st.sampled_from([date(1, 1, 1), date(9999, 12, 31)])),
        (Timestamp, MOMENTS | st.sampled_from(EDGES)),
        (Embedding(2), st.lists(st.floats(width=32), min_size=2, max_size=2)),
    ]  # fmt: skip


def to_depth(depth: int) -> list[tuple[DType, st.SearchStrategy[Any]]]:
    """Every type, and lists of it, of these, and so on, nulls among them."""
    deeper = found = scalars()
    for _ in range(depth):
        deeper = [(Array(dtype), st.lists(st.none() | values, max_size=3)) for dtype, values in deeper]
        found = [*found, *deeper]
    return found


VALUES = to_depth(DEPTH)
of_every_type = pytest.mark.parametrize(("dtype", "values"), VALUES, ids=[str(dtype) for dtype, _ in VALUES])
quick = settings(max_examples=10, deadline=None)


def through_json(value: Any, dtype: DType) -> Any:
    write, read = writer(dtype), reader(dtype)
    text = json.dumps(write(value) if write else value, allow_nan=False)
    found = json.loads(text)
    return read(found) if read else found


@of_every_type
def test_a_value_comes_back_as_it_was(dtype: DType, values: st.SearchStrategy[Any]) -> None:
    @quick
    @given(values)
    def check(value: Any) -> None:
        back = through_json(value, dtype)
        assert repr(back) == repr(value)

    check()


@of_every_type
def test_what_a_client_writes_without_knowing_the_type_is_what_the_type_writes(
    dtype: DType, values: st.SearchStrategy[Any]
) -> None:
    @quick
    @given(values)
    def check(value: Any) -> None:
        write = writer(dtype)
        assert write_value(value) == (write(value) if write else value)

    check()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.float64("nan"), "NaN"),
        (np.array([1, 2]), [1, 2]),
        (np.array(7), 7),
        (np.datetime64("2026-01-01T00:00:00"), "2026-01-01T00:00:00Z"),
        (pd.Timestamp("2026-01-01T01:00:00+01:00"), "2026-01-01T00:00:00Z"),
        (pd.NaT, None),
        (pd.NA, None),
        (datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), "2026-01-01T00:00:00Z"),
        (datetime(2026, 1, 1), "2026-01-01T00:00:00Z"),
        ({"a": date(2026, 1, 1)}, {"a": "2026-01-01"}),
    ],
)
def test_what_data_frames_hold_can_be_sent(value: Any, written: Any) -> None:
    assert write_value(value) == written


def test_numbers_that_are_none_are_named_in_floats() -> None:
    assert math.isnan(through_json(math.nan, Float32))
    assert through_json(-math.inf, Float64) == -math.inf


@pytest.mark.parametrize(
    ("dtype", "value"), [(Bytes, "no base64!"), (Date, "yesterday"), (Timestamp, "now"), (Float64, "many")]
)
def test_a_value_of_another_form_is_refused(dtype: DType, value: Any) -> None:
    read = reader(dtype)
    assert read is not None

    with pytest.raises(ValueError):
        read(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20), MOMENTS)
def test_the_server_fits_what_a_client_writes(number: Decimal, time: datetime) -> None:
    assert fit_values([write_value(number)], DecimalType(38, 9))[1] == []
    assert fit_values([write_value(time)], Timestamp)[0].to_pylist() == [time]


def in_json(values: Any) -> Any:
    """As it is after a way through text; refuses what JSON has not."""
    return json.loads(json.dumps(values, allow_nan=False))


def as_feast_has(value: Any) -> Any:
    """What Feast's server says of a value, written down plainly."""
    if isinstance(value, list):
        return [as_feast_has(each) for each in value]
    return micros(value) // SECOND if isinstance(value, datetime) else write_value(value)


@of_every_type
def test_a_column_is_written_as_its_values_are(dtype: DType, values: st.SearchStrategy[Any]) -> None:
    @quick
    @given(st.lists(st.none() | values, max_size=4))
    def check(column: list[Any]) -> None:
        write, write_column, feast = writer(dtype), column_writer(dtype), feast_column_writer(dtype)
        expected = [None if value is None or write is None else write(value) for value in column]
        if write is None:
            expected = column
        assert in_json(write_column(column) if write_column else column) == in_json(expected)
        assert in_json(feast(column) if feast else column) == in_json([as_feast_has(value) for value in column])

    check()


@of_every_type
def test_a_request_is_read_as_what_its_sender_wrote(dtype: DType, values: st.SearchStrategy[Any]) -> None:
    @quick
    @given(st.lists(st.none() | values, min_size=1, max_size=3))
    def check(column: list[Any]) -> None:
        found = read_columns({"a": in_json(write_value(column)), "b": ["NaN"]}, {"a": dtype})
        fitted, misfits = fit_values(found["a"], dtype)
        expected, _ = fit_values(column, dtype)
        assert misfits == []
        assert repr(fitted.to_pylist()) == repr(expected.to_pylist())
        # A column that nobody declared is left alone.
        assert found["b"] == ["NaN"]

    check()


@of_every_type
def test_what_a_request_should_not_hold_is_handed_on_for_the_check_of_types(
    dtype: DType, values: st.SearchStrategy[Any]
) -> None:
    read: Callable[[Any], Any] = request_reader(dtype) or (lambda value: value)

    for odd in ("no such thing!", {"a": 1}, True, [[["?"]]], 10**30):
        assert read(odd) == odd


def test_feasts_clients_send_times_in_seconds() -> None:
    read = request_reader(Array(Timestamp))
    assert read is not None

    assert read([0, 1.5, None, "2026-01-01T00:00:00Z"]) == [
        moment(0), moment(1_500_000), None, "2026-01-01T00:00:00Z"
    ]  # fmt: skip


@given(st.lists(st.lists(st.none() | st.floats(), max_size=3), max_size=3))
def test_columns_that_are_called_finite_need_no_words(columns: list[list[Any]]) -> None:
    is_plain = all(value is not None and math.isfinite(value) for column in columns for value in column)

    assert not all_finite(columns) or is_plain
    for column in columns:
        assert write_floats(column) == [None if value is None else write_value(value) for value in column]


@given(st.binary() | st.text() | st.integers())
def test_bytes_are_found_behind_base64_and_nothing_else(value: Any) -> None:
    if isinstance(value, bytes):
        assert bytes_or_same(write_value(value)) == value
    assert type(bytes_or_same(value)) in (type(value), bytes)
    assert bytes_or_same("no base64!") == "no base64!"
