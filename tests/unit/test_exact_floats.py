"""Numbers in JSON are taken as their text says, not as the float nearest to it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asof.decoding import MessageBatch, decode_messages
from asof.definitions import Field, JsonFormat, LogSource
from asof.testing.clock import NOW
from asof.types import Array, Float32, Float64, Int32, Int64, Json, Timestamp
from asof.values.check import checker
from asof.values.exact_floats import exact_decoder, exact_float, may_be_inexact
from asof.values.fit import fit
from asof.values.json import request_reader

REFUSED = "refused"
TEXTS: list[tuple[str, int | str, float | str]] = [
    ("1.0", 1, 1.0), ("-0.0", 0, 0.0), ("1e3", 1000, 1000.0), ("9007199254740992.0", 2**53, 2.0**53),
    ("9007199254740993.0", REFUSED, 2.0**53), ("-9007199254740993.0", REFUSED, -(2.0**53)),
    ("9007199254740993e0", REFUSED, 2.0**53), ("90071992547409930e-1", REFUSED, 2.0**53),
    ("1e18", REFUSED, 1e18), ("9223372036854775807.0", REFUSED, 2.0**63), ("9223372036854775808.0", REFUSED, 2.0**63),
    ("1.5", REFUSED, 1.5), ("1.00000000000000001", REFUSED, 1.0), ("9007199254740992.4", REFUSED, 2.0**53),
    ("12345678.000000000001", REFUSED, 12345678.0), ("1e400", REFUSED, REFUSED), ("1e-400", REFUSED, 0.0),
    ("1e300", REFUSED, 1e300),
]  # fmt: skip


def taken(text: str, kind: Any) -> Any:
    source = LogSource(
        "s", schema=[Field("user_id", Int64), Field("at", Int64), Field("x", kind)], timestamp_field="at",
        timestamp_unit="us", message_format=JsonFormat(),
    )  # fmt: skip
    message = f'{{"user_id": 1, "at": {NOW}, "x": {text}}}'.encode()
    decoded = decode_messages(source, MessageBatch([message]), keys=["user_id"], clock=NOW)
    return decoded.rows["x"][0].as_py() if decoded.rows.num_rows else REFUSED


@pytest.mark.parametrize(("text", "integer", "number"), TEXTS)
def test_a_message_is_taken_as_its_text_says(text: str, integer: int | str, number: float | str) -> None:
    assert taken(text, Int64) == integer
    assert taken(text, Float64) == number
    assert taken(f"[{text}, null]", Array(Int64)) == (REFUSED if integer == REFUSED else [integer, None])
    assert taken(f"[[{text}]]", Array(Array(Int64))) == (REFUSED if integer == REFUSED else [[integer]])


@pytest.mark.parametrize(("text", "integer", "number"), TEXTS)
def test_a_request_is_taken_as_its_text_says(text: str, integer: int | str, number: float | str) -> None:
    body = f'{{"user_id": [{text}]}}'.encode()
    try:
        (read,) = exact_decoder(dict[str, Any]).decode(body)["user_id"]
        found = checker(Int64)(read)
    except ValueError:
        found = REFUSED
    assert found == integer
    if number != REFUSED:
        assert checker(Float64)(read) == number
        # The faster decoder takes only bodies that have no such number.
        is_plain = json.loads(body)["user_id"] == [read] and type(read) is float
        assert may_be_inexact(body) or is_plain or number in (10**18, 1e300, 0.0), text


def test_a_number_beyond_all_floats_is_none() -> None:
    with pytest.raises(ValueError, match="beyond all floats"):
        exact_float("9" * 2000 + ".0")
    with pytest.raises(ValueError, match="'1.00000000000000001' is not a whole number"):
        checker(Int32)(exact_float("1.00000000000000001"))


IN_JSON = [
    ('{"a":9007199254740993}', '{"a":9007199254740993}'), ('{"a": 0.1000000000000000055}', '{"a":0.1000000000000000055}'),
    ("0.1000000000000000055", "0.1000000000000000055"), ("[1, [0.30000000000000001]]", "[1,[0.30000000000000001]]"),
    ('{"é": [123456789012345678901234567890.5, 0.5]}', '{"é":[123456789012345678901234567890.5,0.5]}'),
    ("[9007199254740993.0]", "[9007199254740993.0]"), ("[4.9e-324]", "[4.9E-324]"), ("[1e-400]", "[1E-400]"),
    ("[1.5, 0.1, 13.404954012345678]", "[1.5,0.1,13.404954012345678]"), ("[1e400]", REFUSED),
    ("[1e-99999999999999999999]", REFUSED),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), IN_JSON)
def test_numbers_in_json_stay_as_they_were_written(text: str, expected: str) -> None:
    assert taken(text, Json) == expected
    assert taken(f"[{text}, null]", Array(Json)) == (REFUSED if expected == REFUSED else [expected, None])
    body = f'{{"doc": [{text}]}}'.encode()
    decoder = exact_decoder(dict[str, Any]) if may_be_inexact(body) else msgspec.json.Decoder(dict[str, Any])
    try:
        found = checker(Json)(decoder.decode(body)["doc"][0])
    except ValueError:
        found = REFUSED
    assert found == expected


@pytest.mark.parametrize("number", ["0.1000000000000000055", "1700000000.12345678901"])
def test_a_number_of_many_digits_is_the_nearest_float_where_a_float_is_wanted(number: str) -> None:
    read = exact_float(number)

    assert checker(Float64)(read) == float(number)
    assert checker(Float32)(read) == float(number)
    assert request_reader(Timestamp)(read) == request_reader(Timestamp)(float(number)) != read


@pytest.mark.parametrize("value", [{"a": Decimal("1.1")}, {"a": b"x"}, {(1, 2): 3}, {"a": {1}}, [float("inf")]])
def test_what_json_does_not_have_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="is not JSON"):
        checker(Json)(value)


def test_a_map_that_no_json_object_can_be_is_a_misfit_of_its_row() -> None:
    rows = pa.array([[("a", 1)], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))
    nested = pa.array([[({"x": 1}, 1)]], pa.map_(pa.struct([("x", pa.int64())]), pa.int64()))

    fitted, misfits = fit(rows, Json)

    assert fitted.to_pylist() == ['{"a":1}', None]
    assert [row for row, _ in misfits] == [1]
    assert [row for row, _ in fit(nested, Json)[1]] == [0]


@given(st.text(alphabet="0159.eE-+,[ x", max_size=60), st.integers(0, 5000))
def test_no_number_that_may_be_inexact_is_missed(text: str, before: int) -> None:
    body = b" " * before + text.encode()
    if re.search(rb"[0-9][0-9.]{15}|[eE]-[0-9]{3}", body):
        assert may_be_inexact(body)
