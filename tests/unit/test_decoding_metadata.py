"""Keys, headers and record times become columns; a message without a value becomes the row that ends its key."""

import io
import json

import pytest
from fastavro import parse_schema, schemaless_writer

from asof.decoding import MessageBatch, WriterSchema, decode_messages
from asof.definitions import AvroFormat, Field, LogSource, PushSource
from asof.definitions.source_types import source_of
from asof.errors import DefinitionError
from asof.timing import SECOND, micros, moment
from asof.types import Bool, Bytes, Float64, Int64, String, Timestamp

NOW = micros("2026-11-23T12:00:00Z")
PLAIN = [Field("user_id", Int64), Field("page", String), Field("ts", Int64)]
VALUE = json.dumps({"page": "home", "ts": NOW // 1000}).encode()


def source(fields=PLAIN, **options):
    options.setdefault("timestamp_unit", "ms")
    return LogSource("clicks", schema=fields, timestamp_field="ts", **options)


def decode(source, values, *, keys=None, times=None, headers=None, join_keys=("user_id",), schemas=None):
    batch = MessageBatch(values, keys, times if times is not None else [NOW] * len(values), headers)
    return decode_messages(source, batch, keys=join_keys, clock=NOW, schemas=schemas)


def reasons(decoded):
    return {dead_letter.index: dead_letter.reason for dead_letter in decoded.dead_letters}


@pytest.mark.parametrize(
    ("key_format", "good", "bad", "reason"),
    [
        ("text", b"7", b"seven", "key: 'seven' is not a whole number (Int64)"),
        ("text", b"7", b"\xff", "key: 'utf-8' codec"),
        ("text", b"7", b"99999999999999999999", "key column 'user_id': 99999999999999999999 is outside Int64"),
        ("int", b"\0\0\0\7", b"\7", "key: has 1 bytes; a whole number has 4 or 8"),
        ("int", b"\0\0\0\0\0\0\0\7", b"", "key: has 0 bytes"),
        ("json", b"7", b"{", "key: Input data was truncated"),
        ("json", b'{"user_id": 7, "more": 1}', b'"x"', "key column 'user_id': 'x' is not Int64"),
        ("json", b"7", b"7.5", "key column 'user_id': 7.5 is not a whole number"),
        ("text", b"7", None, "key 'user_id' is null"),
        ("json", b"7", b"{}", "key 'user_id' is null"),
    ],
)
def test_a_key_is_a_column(key_format, good, bad, reason):
    decoded = decode(source(key_fields="user_id", key_format=key_format), [VALUE, VALUE, VALUE], keys=[good, bad, good])

    assert decoded.rows.select(["user_id", "page"]).to_pylist() == [{"user_id": 7, "page": "home"}] * 2
    assert decoded.index.tolist() == [0, 2]
    assert reason in reasons(decoded)[1]


def test_a_key_of_several_columns_is_an_object():
    fields = [Field("user_id", Int64), Field("shop", String), Field("ts", Int64)]
    wanted = source(fields, key_fields=["user_id", "shop"], key_format="json")

    decoded = decode(wanted, [VALUE, VALUE], keys=[b'{"user_id": 7, "shop": "a"}', b"7"], join_keys=["user_id", "shop"])

    assert decoded.rows.select(["user_id", "shop"]).to_pylist() == [{"user_id": 7, "shop": "a"}]
    assert "is not a JSON object with 'user_id', 'shop'" in reasons(decoded)[1]


def avro(schema, value):
    stream = io.BytesIO()
    schemaless_writer(stream, parse_schema(schema), value)
    return stream.getvalue()


def test_a_key_may_be_an_avro_record_or_a_framed_value():
    record = {"type": "record", "name": "Key", "fields": [{"name": "user_id", "type": "long"}]}
    by_record = source(key_fields="user_id", key_format=AvroFormat(json.dumps(record)))
    framed = source(key_fields="user_id", key_format=AvroFormat(registry=True))
    schemas = {1: WriterSchema("AVRO", '"long"')}.get

    decoded = decode(by_record, [VALUE, VALUE, VALUE], keys=[avro(record, {"user_id": 7}), None, b"\x0e\x0e"])
    again = decode(framed, [VALUE], keys=[b"\0\0\0\0\1" + avro("long", 7)], schemas=schemas)

    assert decoded.rows["user_id"].to_pylist() == again.rows["user_id"].to_pylist() == [7]
    assert "key: not an Avro record" in reasons(decoded)[2]
    assert "key 'user_id' is null" in reasons(decoded)[1]


def test_a_value_that_repeats_the_key_is_no_surprise():
    value = json.dumps({"user_id": 9, "page": "home", "ts": NOW // 1000}).encode()

    decoded = decode(source(key_fields="user_id"), [value], keys=[b"7"])

    assert decoded.rows["user_id"].to_pylist() == [7]
    assert not decoded.undeclared


def test_headers_are_columns_and_the_last_of_a_name_counts():
    fields = [*PLAIN, Field("trace", String), Field("tries", Int64), Field("rate", Float64), Field("test", Bool),
              Field("raw", Bytes)]  # fmt: skip
    named = {"trace": "trace-id", "tries": "tries", "rate": "rate", "test": "test", "raw": "raw"}
    value = json.dumps({"user_id": 7, "ts": NOW // 1000}).encode()
    headers = [
        (("trace-id", b"old"), ("trace-id", "żółw".encode()), ("tries", b"3"), ("rate", b"0.5"), ("test", b"true"),
         ("raw", b"\xff")),
        (),
        (("tries", b"three"),),
        (("trace-id", b"\xff"),),
        (("test", b"1"),),
    ]  # fmt: skip

    decoded = decode(source(fields, header_fields=named), [value] * 5, headers=headers)

    first, second = decoded.rows.select(list(named)).to_pylist()
    assert first == {"trace": "żółw", "tries": 3, "rate": 0.5, "test": True, "raw": b"\xff"}
    assert set(second.values()) == {None}
    assert list(reasons(decoded)) == [2, 3, 4]
    assert reasons(decoded)[2] == "header 'tries': 'three' is not a whole number (Int64)"


@pytest.mark.parametrize(
    ("dtype", "unit", "expected"),
    [
        (Timestamp, None, moment(NOW + 1500)), (Int64, "ms", NOW // 1000 + 1), (Int64, "s", NOW // SECOND),
        (Int64, "us", NOW + 1500), (Int64, "ns", NOW * 1000 + 1_500_000),
    ],
)  # fmt: skip
def test_the_time_of_the_record_may_be_the_event_time(dtype, unit, expected):
    fields = [Field("user_id", Int64), Field("ts", dtype)]

    decoded = decode(
        source(fields, record_time_field="ts", timestamp_unit=unit), [b'{"user_id": 7}'], times=[NOW + 1500]
    )

    assert decoded.rows["ts"].to_pylist() == [expected]


def test_a_message_without_a_value_ends_its_key_at_the_time_of_its_record():
    decoded = decode(
        source(key_fields="user_id"), [VALUE, None, VALUE, None], keys=[b"1", b"2", b"3", None],
        times=[NOW, NOW - SECOND, NOW, NOW],
    )  # fmt: skip

    assert decoded.rows.to_pylist() == [
        {"user_id": 1, "page": "home", "ts": NOW // 1000, "tombstone": False},
        {"user_id": 2, "page": None, "ts": NOW // 1000 - 1000, "tombstone": True},
        {"user_id": 3, "page": "home", "ts": NOW // 1000, "tombstone": False},
    ]
    assert decoded.event_time.tolist() == [NOW, NOW - SECOND, NOW]
    assert reasons(decoded) == {3: "key 'user_id' is null"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"key_fields": "usr_id"}, "did you mean 'user_id'"),
        ({"key_fields": ["user_id", "page"]}, "holds one column"),
        ({"key_fields": "user_id", "key_format": "xml"}, "key_format 'xml'"),
        ({"key_fields": "page", "key_format": "int"}, "'page' is String"),
        ({"key_fields": "user_id", "header_fields": {"user_id": "u"}}, "named twice in key_fields"),
        ({"record_time_field": "page"}, "record_time_field 'page' is String"),
        ({"header_fields": {"trace": "t"}}, "'trace', taken from a message's metadata, is not in schema="),
    ],
)
def test_columns_that_cannot_be_had_are_refused(options, reason):
    with pytest.raises(DefinitionError, match=reason):
        source(**options)


def test_a_push_has_no_messages_to_speak_of():
    with pytest.raises(DefinitionError, match="key_fields= does not apply"):
        PushSource("p", PLAIN, "ts", timestamp_unit="ms", key_fields="user_id")


def test_all_of_it_comes_back_from_its_content():
    key = AvroFormat('{"type": "record", "name": "K", "fields": []}')
    fields = [*PLAIN, Field("trace", String), Field("at", Int64)]
    made = source(
        fields, key_fields=["user_id"], key_format=key, header_fields={"trace": "trace-id"}, record_time_field="at",
        delete_when="page = 'x'", message_format=AvroFormat(registry="schemas"),
    )  # fmt: skip

    again = source_of(json.loads(json.dumps(made.content())))

    assert again == made and again.key_format == key and again.has_tombstones
