"""Values survive the way through JSON, each in its own type."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
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
    Int64,
    Json,
    String,
    Timestamp,
)
from asof.dtypes import Decimal as DecimalType
from asof.values.fit import fit_values
from asof.values.json import reader, write_value, writer

MOMENTS = st.datetimes(timezones=st.just(UTC)).map(lambda time: time.replace(fold=0))
VALUES: list[tuple[DType, st.SearchStrategy[Any]]] = [
    (Bool, st.booleans()),
    (Int64, st.integers(-(2**63), 2**63 - 1)),
    (Float64, st.floats()),
    (
        DecimalType(38, 9),
        st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**20), max_value=10**20),
    ),
    (String, st.text()),
    (Json, st.just('{"a": [1, null]}')),
    (Bytes, st.binary()),
    (Date, st.dates()),
    (Timestamp, MOMENTS),
    (Array(Timestamp), st.lists(st.none() | MOMENTS)),
    (Array(Int64), st.lists(st.none() | st.integers(-(2**63), 2**63 - 1))),
    (Embedding(2), st.lists(st.floats(width=32), min_size=2, max_size=2)),
]


def through_json(value: Any, dtype: DType) -> Any:
    write, read = writer(dtype), reader(dtype)
    text = json.dumps(write(value) if write else value, allow_nan=False)
    found = json.loads(text)
    return read(found) if read else found


@pytest.mark.parametrize(("dtype", "values"), VALUES, ids=[str(dtype) for dtype, _ in VALUES])
def test_a_value_comes_back_as_it_was(dtype: DType, values: st.SearchStrategy[Any]) -> None:
    @given(values)
    def check(value: Any) -> None:
        back = through_json(value, dtype)
        assert repr(back) == repr(value)

    check()


@pytest.mark.parametrize(("dtype", "values"), VALUES, ids=[str(dtype) for dtype, _ in VALUES])
def test_what_a_client_writes_without_knowing_the_type_is_what_the_type_writes(
    dtype: DType, values: st.SearchStrategy[Any]
) -> None:
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
