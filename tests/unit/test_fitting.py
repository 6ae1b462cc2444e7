"""Values meet their declared types, and none is bent on the way."""

import decimal
from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof.dtypes import from_arrow
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
from asof.values.fit import event_micros, fit, fit_values, nul_in_text


@pytest.mark.parametrize(
    ("value", "dtype", "reason"),
    [
        (3.7, Int64, "3.7 is not a whole number (Int64)"),
        (12, String, "12 is not text (String)"),
        (2**63, Int64, "9223372036854775808 is outside Int64"),
        (-(2**63) - 1, Int64, "is outside Int64"),
        (1e39, Float32, "1e+39 is outside Float32"),
        (2**31, Int32, "2147483648 is outside Int32"),
        (True, Int64, "True is not Int64"),
        (np.float32(1.5), Int64, "1.5 is not a whole number (Int64)"),
        (np.float32(2**24 + 2), Int64, "is a Float32 beyond 2**24"),
        (np.datetime64("NaT"), Timestamp, "is not a time (Timestamp)"),
        ("7", Int64, "'7' is not Int64"),
        (1, Bool, "1 is not true or false (Bool)"),
        ("x", Float64, "'x' is not a number"),
        (True, Float64, "True is not a number"),
        (1.5, Timestamp, "1.5 is not a time (Timestamp)"),
        ("yesterday", Timestamp, "'yesterday' is not an ISO 8601 time"),
        ("abc", Bytes, "'abc' is not bytes"),
        ("{", Json, "'{' is not JSON text"),
        (1.5, Decimal, "1.5 is not Decimal(38,9)"),
        (decimal.Decimal("1.234"), Decimal(5, 2), "is not Decimal(5,2)"),
        ([1, "a"], Array(Int64), "'a' is not Int64"),
        ("ab", Array(String), "'ab' is not Array(String)"),
        ([1.0], Embedding(2), "has 1 numbers, not 2"),
        (datetime(2020, 1, 1), Date, "is not a date (Date)"),
    ],
)
def test_a_misfit_is_named_and_its_place_is_null(value, dtype, reason):
    fitted, misfits = fit_values([None, value], dtype)

    assert fitted.to_pylist() == [None, None]
    assert [row for row, _ in misfits] == [1]
    assert reason in misfits[0][1]


@pytest.mark.parametrize(
    ("value", "dtype", "fitted"),
    [
        (np.float32(7), Int64, 7),
        (np.float16(7), Int32, 7),
        (np.datetime64("1969-12-31T23:59:59.999999999"), Timestamp, datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)),
        (np.datetime64("2026-01-01T12"), Timestamp, datetime(2026, 1, 1, 12, tzinfo=UTC)),
        (UUID(int=1), String, "00000000-0000-0000-0000-000000000001"),
        ([UUID(int=1)], Array(String), ["00000000-0000-0000-0000-000000000001"]),
        (3.0, Int64, 3), (float("nan"), Int64, None), (2**63 - 1, Int64, 2**63 - 1), (7, Float64, 7.0),
        (True, Bool, True),
        ("2026-11-23", Date, date(2026, 11, 23)),
        ("2026-11-23T10:00:00.1234567Z", Timestamp, datetime(2026, 11, 23, 10, 0, 0, 123456, UTC)),
        (datetime(2026, 11, 23), Timestamp, datetime(2026, 11, 23, tzinfo=UTC)),
        ({"a": 1}, Json, '{"a":1}'), (5, Decimal(5, 2), decimal.Decimal("5.00")),
        ([1, None], Array(Int64), [1, None]), ((1, 2), Embedding(2), [1, 2]),
    ],
)  # fmt: skip
def test_a_value_that_fits_is_kept(value, dtype, fitted):
    array, misfits = fit_values([value], dtype)

    assert (array.to_pylist(), misfits, array.type) == ([fitted], [], dtype.arrow())


def test_a_float_column_of_whole_values_fits_an_integer_type():
    array, misfits = fit(pa.array([1.0, float("nan"), None, 4.0]), Int64)

    assert (array.to_pylist(), misfits) == ([1, None, None, 4], [])


def test_in_a_float_column_the_broken_value_is_found():
    _, misfits = fit(pa.array([1.0, 3.7]), Int64)

    assert misfits == [(1, "3.7 is not a whole number (Int64)")]


def test_an_arrow_column_of_another_type_is_refused_row_by_row():
    assert len(fit(pa.array([1, 2]), String)[1]) == 2
    assert len(fit(pa.array(["1"]), Int64)[1]) == 1
    assert len(fit(pa.array([2**40]), Int32)[1]) == 1


def test_nanoseconds_are_floored_also_before_1970():
    array, _ = fit(pa.array([1999, -1, None], pa.timestamp("ns")), Timestamp)

    assert array.cast(pa.int64()).to_pylist() == [1, -1, None]


def test_dictionary_and_large_strings_are_text():
    assert fit(pa.array(["a", None]).dictionary_encode(), String)[0].to_pylist() == ["a", None]
    assert fit(pa.array(["a"], pa.large_string()), String)[0].type == pa.string()


def test_floats_become_float32_and_integers_only_where_exact():
    assert fit(pa.array([0.1]), Float32)[0].type == pa.float32()
    assert fit(pa.array([2**53]), Float64)[0].to_pylist() == [float(2**53)]
    assert fit(pa.array([2**53 + 1]), Float64)[1] == [(0, "9007199254740993 has no exact float")]


def test_integers_are_time_only_with_a_unit():
    assert event_micros(pa.array([1]), "ms").to_pylist() == [1000]
    assert event_micros(pa.array([1500, -1]), "ns").to_pylist() == [1, -1]
    with pytest.raises(ValueError, match="without a unit"):
        event_micros(pa.array([1]))
    with pytest.raises(ValueError, match="string is not a time"):
        event_micros(pa.array(["x"]))


@settings(deadline=None)
@given(
    st.lists(
        st.none()
        | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-11))])).map(datetime.isoformat)
        | st.sampled_from(
            ["2026-01-01", "2026-01-01T24:00Z", "9999-12-31T23:59-23:59", "2026-01-01T00:00:00.1234567Z", "x"]
        )
    )
)
def test_times_as_text_are_the_same_at_once_and_one_by_one(values: list[str | None]) -> None:
    at_once, misfits = fit_values(values, Timestamp)
    one_by_one = [fit_values([value], Timestamp) for value in values]

    assert at_once.to_pylist() == [array[0].as_py() for array, _ in one_by_one]
    assert misfits == [(i, each[0][1]) for i, (_, each) in enumerate(one_by_one) if each]
    for value, (array, _) in zip(values, one_by_one):
        # Beside a value of another type each is looked at by itself.
        assert fit_values([value, 1], Timestamp)[0][0] == array[0]


def test_rows_with_a_nul_in_any_text_are_found():
    rows = pa.table(
        {
            "n": [1, 2, 3, 4, 5],
            "page": pa.chunked_array([["a", None], ["b\0", "", "\0"]]),
            "tags": pa.array([["x", "\0y"], None, [], [None, "z"], ["\0", "\0"]], pa.list_(pa.string())),
            "raw": [b"\0"] * 5,
        }
    )

    assert set(nul_in_text(rows)) == {0, 2, 4}
    assert "'tags'" in nul_in_text(rows)[0] and "'page'" in nul_in_text(rows)[4]
    assert nul_in_text(rows.slice(1, 1)) == {} and set(nul_in_text(rows.slice(2))) == {0, 2}


def test_a_struct_whose_fields_differ_by_case_alone_has_no_type():
    alike = pa.struct([("a", pa.int8()), ("A", pa.int8())])

    assert from_arrow(alike) is None
    assert from_arrow(pa.list_(pa.struct([("s", alike)]))) is None
    assert from_arrow(pa.map_(pa.string(), alike)) is None
    assert from_arrow(pa.struct([("a", pa.struct([("A", pa.int8())]))])) == Json
