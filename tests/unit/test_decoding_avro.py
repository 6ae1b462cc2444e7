"""Avro messages become typed rows in bulk; logical types keep their meaning, and bad bytes are told apart."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from uuid import UUID

import pytest
from fastavro import parse_schema, schemaless_writer

from asof.decoding import MessageBatch, WriterSchema, decode_messages
from asof.definitions import AvroFormat, Field, LogSource
from asof.errors import DefinitionError, SourceError
from asof.timing import micros
from asof.types import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)

NOW = micros("2026-11-23T12:00:00Z")
CLICK = {
    "type": "record", "name": "Click", "fields": [
        {"name": "user_id", "type": "long"},
        {"name": "page", "type": ["null", "string"], "default": None},
        {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}  # fmt: skip
FIELDS = [Field("user_id", Int64), Field("page", String), Field("ts", Timestamp)]
GOOD = {"user_id": 7, "page": "home", "ts": NOW // 1000}


def written(schema, *records):
    parsed = parse_schema(json.loads(json.dumps(schema)))
    messages = []
    for record in records:
        stream = io.BytesIO()
        schemaless_writer(stream, parsed, record)
        messages.append(stream.getvalue())
    return messages


def framed(schema_id, messages):
    return [b"\0" + schema_id.to_bytes(4, "big") + each for each in messages]


def source_of(schema=CLICK, fields=FIELDS, **options):
    text = json.dumps(schema) if schema else ""
    return LogSource(
        "clicks", schema=fields, timestamp_field="ts", message_format=AvroFormat(text, **options),
        timestamp_unit=None if fields[-1].dtype == Timestamp else "ms",
    )  # fmt: skip


def decode(source, messages, schemas=None):
    return decode_messages(source, MessageBatch(messages), keys=["user_id"], clock=NOW, schemas=schemas)


def reasons(decoded):
    return {dead_letter.index: dead_letter.reason for dead_letter in decoded.dead_letters}


def test_good_messages_become_rows_in_order():
    decoded = decode(source_of(), written(CLICK, GOOD, {**GOOD, "user_id": 8, "page": None}))

    assert decoded.rows.select(["user_id", "page"]).to_pylist() == [
        {"user_id": 7, "page": "home"}, {"user_id": 8, "page": None},
    ]  # fmt: skip
    assert decoded.event_time.tolist() == [NOW, NOW]
    assert not decoded.dead_letters


def test_a_time_may_be_declared_as_its_number():
    fields = [*FIELDS[:2], Field("ts", Int64)]

    decoded = decode(source_of(fields=fields), written(CLICK, GOOD))

    assert decoded.rows["ts"].to_pylist() == [NOW // 1000]
    assert decoded.event_time.tolist() == [NOW]


def test_every_type_keeps_its_value():
    schema = {
        "type": "record", "name": "All", "namespace": "shop", "fields": [
            {"name": "user_id", "type": "int"},
            {"name": "flag", "type": "boolean"},
            {"name": "small", "type": "float"},
            {"name": "great", "type": "double"},
            {"name": "raw", "type": "bytes"},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
            {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}},
            {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
            {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "us", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "items", "type": {"type": "array", "items": "long"}},
            {"name": "times", "type": {"type": "array", "items": {"type": "long", "logicalType": "timestamp-millis"}}},
            {"name": "nested", "type": {"type": "record", "name": "Inner", "fields": [
                {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                {"name": "kind", "type": "Kind"},
            ]}},
            {"name": "either", "type": ["null", "long", "string"]},
            {"name": "pairs", "type": {"type": "map", "values": "long"}},
            {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        ],
    }  # fmt: skip
    fields = [
        Field("user_id", Int64), Field("flag", Bool), Field("small", Float32), Field("great", Float64),
        Field("raw", Bytes), Field("kind", String), Field("price", Decimal(12, 2)), Field("day", Date),
        Field("id", String), Field("us", Timestamp), Field("items", Array(Int32)), Field("times", Array(Timestamp)),
        Field("nested", Json), Field("either", Json), Field("pairs", Json), Field("ts", Timestamp),
    ]  # fmt: skip
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    record = {
        "user_id": 7, "flag": True, "small": 0.5, "great": 0.1, "raw": b"\x00\xff", "kind": "B",
        "price": Number("12.34"), "day": date(2026, 1, 2), "id": UUID(int=5), "us": at, "items": [1, 2],
        "times": [at], "nested": {"at": at, "kind": "A"}, "either": 5, "pairs": {"a": 1}, "ts": at,
    }  # fmt: skip

    decoded = decode(source_of(schema, fields), written(schema, record, {**record, "day": None, "either": None}))

    first, second = decoded.rows.to_pylist()
    assert first == {
        **record, "id": str(UUID(int=5)), "nested": '{"at":"2026-01-02T03:04:05.678000+00:00","kind":"A"}',
        "either": "5", "pairs": '{"a":1}',
    }  # fmt: skip
    assert (second["day"], second["either"]) == (None, None)


def test_nanoseconds_are_floored():
    schema = {**CLICK, "fields": [*CLICK["fields"][:2], {"name": "ts", "type": {"type": "long", "logicalType": "timestamp-nanos"}}]}  # fmt: skip

    decoded = decode(source_of(schema), written(schema, {**GOOD, "ts": -1}))

    assert decoded.event_time.tolist() == [-1]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"", "not an Avro record of its schema"),
        (b'{"user_id": 7}', "not an Avro record of its schema"),
        (b"\xff" * 40, "not an Avro record of its schema"),
        (written(CLICK, GOOD)[0][:-1], "not an Avro record of its schema"),
        (written(CLICK, GOOD)[0] + b"\x05", "longer than the schema says"),
        (written(CLICK, {**GOOD, "ts": 10**15})[0], "is beyond the calendar"),
        (written(CLICK, {**GOOD, "ts": NOW // 1000 + 3_600_000})[0], "is 1h after the clock"),
        (None, "the message is empty (a tombstone)"),
    ],
)
def test_a_message_that_does_not_fit_is_a_letter_and_the_others_go_on(bad, reason):
    good = written(CLICK, GOOD)[0]

    decoded = decode(source_of(), [good, bad, good])

    assert decoded.index.tolist() == [0, 2]
    assert decoded.rows["user_id"].to_pylist() == [7, 7]
    assert reason in reasons(decoded)[1]


def test_a_short_message_never_borrows_from_the_next_one():
    schema = {"type": "record", "name": "N", "fields": [{"name": n, "type": "long"} for n in ("user_id", "ts")]}
    fields = [Field("user_id", Int64), Field("ts", Int64)]

    # Together they have as many bytes as three good messages.
    decoded = decode(source_of(schema, fields), [b"\x02\x02", b"\x04", b"\x06\x06\x08"])

    assert decoded.rows.to_pylist() == [{"user_id": 1, "ts": 1}]
    assert sorted(reasons(decoded)) == [1, 2]


def test_a_value_of_another_type_is_a_letter():
    fields = [Field("user_id", Int32), Field("page", Int64), Field("ts", Timestamp)]

    decoded = decode(source_of(fields=fields), written(CLICK, {**GOOD, "page": None}, GOOD, {**GOOD, "user_id": 2**40}))

    assert decoded.index.tolist() == [0]
    assert "column 'page': 'home' is not Int64" in reasons(decoded)[1]
    assert "is not" in reasons(decoded)[2] or "outside Int32" in reasons(decoded)[2]


def test_undeclared_fields_are_counted_by_name():
    decoded = decode(source_of(fields=[FIELDS[0], FIELDS[2]]), written(CLICK, GOOD, GOOD))

    assert dict(decoded.undeclared) == {"page": 2}


class Registry:
    """Schemas by id, and how often each was asked for."""

    def __init__(self, schemas):
        self.schemas, self.asked = schemas, []

    def __call__(self, schema_id):
        self.asked.append(schema_id)
        return self.schemas.get(schema_id)


def test_a_writers_schema_is_asked_for_once_and_resolved_against_the_readers():
    old = {**CLICK, "fields": [{"name": "user_id", "type": "int"}, CLICK["fields"][2]]}
    renamed = {**CLICK, "fields": [*CLICK["fields"], {"name": "agent", "type": "string"}]}
    registry = Registry({1: WriterSchema("AVRO", json.dumps(old)), 2: WriterSchema("AVRO", json.dumps(renamed))})
    reader = {**CLICK, "fields": [CLICK["fields"][0], {"name": "page", "type": "string", "default": "?"}, CLICK["fields"][2]]}  # fmt: skip
    source = source_of(reader, registry=True)
    messages = [
        *framed(1, written(old, {"user_id": 1, "ts": 5})),
        *framed(2, written(renamed, {**GOOD, "agent": "x"})),
        *framed(1, written(old, {"user_id": 3, "ts": 5})),
    ]

    decoded = decode(source, messages, registry)
    again = decode(source, messages[:1], registry)

    assert decoded.index.tolist() == [0, 1, 2]
    assert decoded.rows["user_id"].to_pylist() == [1, 7, 3]
    assert decoded.rows["page"].to_pylist() == ["?", "home", "?"]
    assert dict(decoded.undeclared) == {"agent": 1}
    assert len(again.rows) == 1
    assert registry.asked == [1, 2]


def test_without_a_readers_schema_fields_are_taken_by_name():
    registry = Registry({9: WriterSchema("AVRO", json.dumps(CLICK))})

    decoded = decode(source_of(None, registry=True), framed(9, written(CLICK, GOOD)), registry)

    assert decoded.rows["page"].to_pylist() == ["home"]


def test_a_schema_may_name_others():
    place = {"type": "record", "name": "Place", "namespace": "shop", "fields": [{"name": "city", "type": "string"}]}
    schema = {**CLICK, "namespace": "shop", "fields": [*CLICK["fields"], {"name": "at", "type": "shop.Place"}]}
    named: dict = {}
    parse_schema(place, named_schemas=named)
    parsed = parse_schema(json.loads(json.dumps(schema)), named_schemas=named)
    stream = io.BytesIO()
    schemaless_writer(stream, parsed, {**GOOD, "at": {"city": "Ghent"}})
    registry = Registry({3: WriterSchema("AVRO", json.dumps(schema), (json.dumps(place),))})
    source = source_of(None, [FIELDS[0], Field("at", Json), FIELDS[2]], registry=True)

    decoded = decode(source, framed(3, [stream.getvalue()]), registry)

    assert decoded.rows["at"].to_pylist() == ['{"city":"Ghent"}']


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"{}", "no schema registry frame"),
        (b"\x01\x00\x00\x00\x01abc", "no schema registry frame"),
        (b"\x00\x00\x00\x00\x63abc", "names schema 99, which the schema registry does not have"),
        (b"\x00\x00\x00\x00\x05abc", "names schema 5, which is PROTOBUF and not AVRO"),
        (b"\x00\x00\x00\x00\x06abc", "names schema 6, which cannot be used: it is not a record"),
    ],
)
def test_a_message_whose_schema_cannot_be_used_is_a_letter(message, reason):
    registry = Registry({
        1: WriterSchema("AVRO", json.dumps(CLICK)), 5: WriterSchema("PROTOBUF", "message A {}"),
        6: WriterSchema("AVRO", '"string"'),
    })  # fmt: skip
    good = framed(1, written(CLICK, GOOD))

    decoded = decode(source_of(None, registry=True), [*good, message, *good], registry)

    assert decoded.index.tolist() == [0, 2]
    assert reason in reasons(decoded)[1]


def test_a_registry_that_is_down_is_not_the_messages_fault():
    def down(schema_id):
        raise SourceError("the schema registry cannot be reached")

    with pytest.raises(SourceError, match="cannot be reached"):
        decode(source_of(None, registry=True), framed(1, written(CLICK, GOOD)), down)
    with pytest.raises(SourceError, match="none is configured"):
        decode(source_of(None, registry=True), framed(1, written(CLICK, GOOD)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AvroFormat(), "has no schema"),
        (lambda: AvroFormat("{"), "schema_json is not JSON"),
        (lambda: AvroFormat('"string"'), "schema_json is not a record"),
        (lambda: AvroFormat(registry="http://me:secret@host"), "holds a password"),
    ],
)
def test_a_format_that_says_too_little_is_refused(make, message):
    with pytest.raises(DefinitionError, match=message):
        make()


def test_a_schema_that_is_none_is_refused_by_name():
    broken = {"type": "record", "name": "X", "fields": [{"name": "user_id", "type": "lnog"}]}

    with pytest.raises(DefinitionError, match="schema_json is not an Avro schema"):
        decode(source_of(broken), [b""])


def test_a_password_from_the_environment_is_kept_unexpanded():
    made = AvroFormat(registry="https://me:${REGISTRY_PASSWORD}@host:8081")

    assert made.content()["registry"] == "https://me:${REGISTRY_PASSWORD}@host:8081"
