"""Messages become typed rows; what does not fit becomes a letter with its reason, and the others go on."""

import json

import pytest

from asof.decoding import MessageBatch, decode_messages
from asof.definitions import Field, LogSource
from asof.timing import micros
from asof.types import Int64, String, Timestamp

NOW = micros("2026-11-23T12:00:00Z")
SOURCE = LogSource(
    "clicks", schema=[Field("user_id", Int64), Field("page", String), Field("ts", Int64)], timestamp_field="ts",
    timestamp_unit="ms",
)  # fmt: skip
GOOD = {"user_id": 7, "page": "home", "ts": NOW // 1000}


def decode(*messages, source=SOURCE):
    values = [each if isinstance(each, bytes | None) else json.dumps(each).encode() for each in messages]
    return decode_messages(source, MessageBatch(values), keys=["user_id"], clock=NOW)


def test_good_messages_become_rows_in_order():
    decoded = decode(GOOD, {**GOOD, "user_id": 8, "page": None})

    assert decoded.rows.to_pylist() == [GOOD, {**GOOD, "user_id": 8, "page": None}]
    assert decoded.event_time.tolist() == [NOW, NOW]
    assert decoded.index.tolist() == [0, 1]


def test_an_absent_field_is_null():
    assert decode({"user_id": 7, "ts": 5}).rows.to_pylist() == [{"user_id": 7, "page": None, "ts": 5}]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"\xff\x00garbage", "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"", "not a JSON object"),
        (None, "the message is empty (a tombstone)"),
        ({**GOOD, "user_id": 3.7}, "column 'user_id': 3.7 is not a whole number (Int64)"),
        ({**GOOD, "page": 12}, "column 'page': 12 is not text (String)"),
        ({**GOOD, "user_id": 2**63}, "column 'user_id': 9223372036854775808 is outside Int64"),
        ({**GOOD, "user_id": None}, "key 'user_id' is null"),
        ({"user_id": 7}, "event time 'ts' is null"),
        ({**GOOD, "ts": NOW // 1000 + 3_600_000}, "is 1h after the clock (2026-11-23T12:00:00Z); max_future is 5m"),
        ({**GOOD, "ts": 2**62}, "is beyond the calendar"),
        ({**GOOD, "ts": 10**15}, "is beyond the calendar"),
    ],
)
def test_a_message_that_does_not_fit_is_a_letter_and_the_others_go_on(message, reason):
    decoded = decode(GOOD, message, GOOD)

    assert decoded.index.tolist() == [0, 2]
    assert [dead_letter.index for dead_letter in decoded.dead_letters] == [1]
    assert reason in decoded.dead_letters[0].reason


def test_undeclared_fields_are_counted_by_name():
    decoded = decode({**GOOD, "ip": "::1"}, {**GOOD, "ip": 1, "agent": ""})

    assert dict(decoded.undeclared) == {"ip": 2, "agent": 1}
    assert len(decoded.rows) == 2


def test_a_whole_float_is_an_integer():
    assert decode({**GOOD, "user_id": 3.0}).rows["user_id"].to_pylist() == [3]


def test_times_may_be_iso_text_and_are_floored():
    source = LogSource("t", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")

    decoded = decode(
        {"user_id": 1, "at": "2020-01-01T00:00:00.1234567+01:00"}, {"user_id": 1, "at": "soon"}, source=source
    )

    assert decoded.event_time.tolist() == [micros("2019-12-31T23:00:00.123456Z")]
    assert "'soon' is not an ISO 8601 time" in decoded.dead_letters[0].reason


def test_an_event_slightly_ahead_of_the_clock_is_a_row():
    assert len(decode({**GOOD, "ts": NOW // 1000 + 300_000}).rows) == 1


def test_no_messages_are_no_rows():
    assert len(decode().rows) == 0
