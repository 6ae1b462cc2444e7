"""Numbers in JSON are taken as their text says, not as the float nearest to it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asof.decoding import MessageBatch, decode_messages
from asof.definitions import Field, JsonFormat, LogSource
from asof.testing.clock import NOW
from asof.types import Array, Float64, Int32, Int64
from asof.values.check import checker
from asof.values.exact_floats import exact_decoder, exact_float, may_be_inexact

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
