"""Whatever one message makes a library do becomes its dead letter: the others go on, and the process lives."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal as Number
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

from asof.decoding import DecodedMessages, MessageBatch, decode_messages
from asof.definitions import AvroFormat, Field, LogSource, ProtoFormat
from asof.flows.stream.dead_letters import origin
from asof.log.kafka.records import microseconds
from asof.timing import micros
from asof.types import (
    Array,
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
from asof.values.nesting import MOST_DEPTH
from tests.unit.test_decoding_avro import written

NOW = micros("2026-11-23T12:00:00Z")


def decode(source: LogSource, values: list[bytes], **batch: Any) -> DecodedMessages:
    return decode_messages(source, MessageBatch(values, **batch), keys=["user_id"], clock=NOW)


def the_one_letter(decoded: DecodedMessages) -> str:
    """The reason of the middle message of three, which is the only letter; rows and reason are fit to be kept."""
    assert decoded.index.tolist() == [0, 2]
    assert [dead_letter.index for dead_letter in decoded.dead_letters] == [1]
    decoded.rows.validate(full=True)
    reason = decoded.dead_letters[0].reason
    assert 0 < len(reason.encode()) < 4000 and "\0" not in reason
    return reason


# ---- JSON ----

COLUMNS = {
    "n": Int64, "small": Int32, "f": Float64, "half": Float32, "price": Decimal(10, 2), "wide": Decimal(38, 2),
    "s": String, "b": Bytes, "day": Date, "seen": Timestamp, "doc": Json, "docs": Array(Json),
    "prices": Array(Decimal(5, 2)), "vector": Embedding(2), "written": Int64,
}  # fmt: skip
JSON = LogSource(
    "x", schema=[Field("user_id", Int64), Field("ts", Int64), *(Field(*each) for each in COLUMNS.items())],
    timestamp_field="ts", timestamp_unit="ms", created_timestamp_column="written",
)  # fmt: skip


def in_json(name: str, value: bytes) -> list[bytes]:
    good = b'{"user_id": 1, "ts": %d}' % (NOW // 1000)
    return [good, good[:-1] + b', "%b": %b}' % (name.encode(), value), good]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("exponent", ["1e999999999", "0e999999999", "1e-999999999", "0e-999999999", "-1e-5000"])
@pytest.mark.parametrize("name", ["price", "wide", "prices"])
def test_a_decimal_with_a_great_exponent_is_a_letter(name: str, exponent: str) -> None:
    text = b'"%b"' % exponent.encode()

    assert "is not Decimal" in the_one_letter(decode(JSON, in_json(name, b"[%b]" % text if name == "prices" else text)))


def test_a_decimal_with_more_digits_than_its_type_is_a_letter_and_its_last_ones_are_not_cut() -> None:
    assert "is not Decimal" in the_one_letter(decode(JSON, in_json("wide", b'"1234567890123456789012345678.123"')))
    assert "is not Decimal" in the_one_letter(decode(JSON, in_json("wide", b'"%b"' % (b"9" * 5000))))

    kept = decode(JSON, in_json("wide", b'"123456789012345678901234567890123456.78000"'))
    assert str(kept.rows["wide"][1].as_py()) == "123456789012345678901234567890123456.78"


@pytest.mark.parametrize("levels", [MOST_DEPTH, 1000, 100_000])
@pytest.mark.parametrize("name", ["doc", "docs", "s", "n", "undeclared"])
def test_what_lies_too_deep_is_a_letter_declared_or_not(name: str, levels: int) -> None:
    reason = the_one_letter(decode(JSON, in_json(name, nested(levels))))

    assert f"nested too deeply; the most are {MOST_DEPTH} levels" in reason


def test_brackets_in_text_and_beside_each_other_are_not_depth() -> None:
    wide = b"[" + b",".join([b"[{}]"] * 5000) + b"]"

    for value in (wide, rb'"\"' + b"[" * 5000 + b'"', nested(MOST_DEPTH - 1)):
        decoded = decode(JSON, in_json("undeclared", value))
        assert decoded.index.tolist() == [0, 1, 2] and dict(decoded.undeclared) == {"undeclared": 1}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("doc", b'"NaN"', "is not JSON text"),
        ("doc", b'"{\\"a\\": Infinity}"', "is not JSON text"),
        ("doc", b'"%b"' % nested(1000), "nested too deeply"),
        ("s", rb'"\ud800"', "not a JSON object"),
        ("doc", rb'{"\udfff": 1}', "not a JSON object"),
        ("s", b'"\xff"', "not a JSON object"),
        ("undeclared", b'"\xff"', "not a JSON object"),
        ("n", b"9" * 4000, "is outside Int64"),
        ("n", b"9" * 5000, "not a JSON object"),
        ("half", b"1e308", "is outside Float32"),
        ("vector", b"[1e308, 1]", "is outside Float32"),
        ("day", b'"10000-01-01"', "is not a date"),
        ("seen", b'"0001-01-01T00:00:00+14:00"', "is not a time of the years 1 to 9999"),
        ("written", b"9223372036854775807", "created time 9223372036854775807 ms is beyond the calendar"),
        ("written", b"-9223372036854775808", "created time -9223372036854775808 ms is beyond the calendar"),
    ],
)
def test_a_value_that_nothing_can_hold_is_a_letter(name: str, value: bytes, reason: str) -> None:
    assert reason in the_one_letter(decode(JSON, in_json(name, value)))


def test_two_times_beyond_the_calendar_are_two_letters_though_one_has_no_microseconds() -> None:
    good = json.dumps({"user_id": 1, "ts": NOW // 1000})

    values = [good, *(json.dumps({"user_id": 1, "ts": ts}) for ts in (2**62, -(10**15), 10**15)), good]
    decoded = decode(JSON, [each.encode() for each in values])

    assert decoded.index.tolist() == [0, 4]
    assert all("is beyond the calendar" in dead_letter.reason for dead_letter in decoded.dead_letters)


# ---- Keys, headers, the time of the record, transforms ----

BESIDE = LogSource(
    "x", schema=[Field("user_id", Int64), Field("price", Decimal(5, 2)), Field("doc", Json), Field("ts", Timestamp)],
    timestamp_field="ts", key_fields=["user_id"], key_format="json", header_fields={"price": "p", "doc": "d"},
    record_time_field="ts",
)  # fmt: skip


@pytest.mark.parametrize(
    "key", [nested(1000), b'{"user_id": %b}' % nested(300), b"\xff", rb'"\ud800"', b"9" * 5000, b"1e999"]
)
def test_a_key_of_any_bytes_is_a_letter(key: bytes) -> None:
    the_one_letter(decode(BESIDE, [b"{}"] * 3, keys=[b"1", key, b"2"], timestamps_us=[NOW] * 3))


@pytest.mark.parametrize(
    "header", [("p", b"1e-999999999"), ("p", b"0e999999999"), ("p", b"\xff"), ("d", nested(1000)), ("d", b"NaN")]
)
def test_a_header_of_any_bytes_is_a_letter(header: tuple[str, bytes]) -> None:
    batch = {"keys": [b"1"] * 3, "timestamps_us": [NOW] * 3, "headers": [(), (header,), ()]}

    assert the_one_letter(decode(BESIDE, [b"{}"] * 3, **batch)).startswith("header")


@pytest.mark.parametrize("milliseconds", [2**63 - 1, -(2**63), 10**15])
def test_a_record_time_that_a_producer_made_up_is_a_letter(milliseconds: int) -> None:
    import numpy as np

    times = microseconds(np.array([NOW // 1000, milliseconds, NOW // 1000]))

    assert "the record's time" in the_one_letter(decode(BESIDE, [b"{}"] * 3, keys=[b"1"] * 3, timestamps_us=times))


def test_an_error_of_any_kind_in_the_bulk_way_is_one_messages_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    from asof.decoding import messages

    bulk = messages.decode_in_bulk

    def failing(source: LogSource, batch: MessageBatch, **options: Any) -> DecodedMessages:
        if any(b"poison" in each for each in batch.values if each is not None):
            raise MemoryError("half \ud800 and \0")
        return bulk(source, batch, **options)

    monkeypatch.setattr(messages, "decode_in_bulk", failing)
    good = json.dumps({"user_id": 1, "ts": NOW // 1000, "more": 1}).encode()

    decoded = decode(JSON, [good] * 40 + [b"poison"] + [good] * 24)

    assert decoded.index.tolist() == [*range(40), *range(41, 65)]
    assert [dead_letter.index for dead_letter in decoded.dead_letters] == [40]
    assert decoded.dead_letters[0].reason == "cannot be decoded: MemoryError: half \\ud800 and \\x00"
    assert decoded.undeclared["more"] == 64 and decoded.event_time.tolist() == [NOW] * 64


def test_a_messages_own_header_is_not_taken_for_its_place_as_a_letter() -> None:
    assert origin([("origin", b"web"), ("origin", b"\xff"), ("asof.origin", b"[3,7]")]) == (3, 7)
    assert origin([("origin", b"web")]) is None
    assert origin([("origin", nested(5000))]) is None


# ---- Avro ----

NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
TREE = {"type": "record", "name": "Tree", "fields": [{"name": "of", "type": {"type": "array", "items": "Tree"}}]}
NAMES = {"type": "record", "name": "Names", "fields": [{"name": "of", "type": {"type": "map", "values": "Names"}}]}
PAIR = {"type": "record", "name": "A", "fields": [{"name": "b", "type": ["null", {
    "type": "record", "name": "B", "fields": [{"name": "a", "type": "A"}]}]}]}  # fmt: skip
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}


def zigzag(number: int) -> bytes:
    number = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def in_avro(kind: Any, good: Any, bad: bytes, dtype: Any) -> DecodedMessages:
    schema = {"type": "record", "name": "R", "fields": [
        {"name": "user_id", "type": "long"}, {"name": "ts", "type": "long"}, {"name": "x", "type": kind},
    ]}  # fmt: skip
    fields = [Field("user_id", Int64), Field("ts", Int64), *([Field("x", dtype)] if dtype is not None else [])]
    source = LogSource("x", schema=fields, timestamp_field="ts", timestamp_unit="us",
                       message_format=AvroFormat(schema_json=json.dumps(schema)))  # fmt: skip
    first, last = written(schema, {"user_id": 1, "ts": NOW, "x": good}, {"user_id": 3, "ts": NOW, "x": good})
    return decode(source, [first, zigzag(2) + zigzag(NOW) + bad, last])


@pytest.mark.parametrize("dtype", [Json, None], ids=["declared", "undeclared"])
@pytest.mark.parametrize(
    ("kind", "good", "once", "end"),
    [
        (NODE, {"next": None}, b"\x02", b"\0"),
        (TREE, {"of": []}, b"\x02", b"\0"),
        (NAMES, {"of": {}}, b"\x02\x02a", b"\0"),
        (PAIR, {"b": None}, b"\x02", b"\0"),
    ],
    ids=["list", "tree", "map", "pair"],
)
def test_data_of_a_schema_that_names_itself_is_bounded_before_it_is_followed(
    kind: Any, good: Any, once: bytes, end: bytes, dtype: Any
) -> None:
    assert len(in_avro(kind, good, once * 40 + end * 41 if kind in (TREE, NAMES) else once * 40 + end, dtype).rows) == 3

    for times in (300, 100_000):
        assert "nested too deeply" in the_one_letter(in_avro(kind, good, once * times + end, dtype))


@pytest.mark.parametrize(
    "items",
    ["null", {"type": "record", "name": "E", "fields": []}, {"type": "fixed", "name": "F", "size": 0}],
    ids=["null", "record", "fixed"],
)
@pytest.mark.parametrize("count", [zigzag(10**12), zigzag(-(10**12)) + zigzag(0)], ids=["count", "block"])
def test_a_count_of_values_without_bytes_is_bounded_before_it_is_followed(items: Any, count: bytes) -> None:
    kind = {"type": "array", "items": items}

    assert "values that take no bytes" in the_one_letter(in_avro(kind, [], count + b"\0", None))


@pytest.mark.parametrize(
    ("kind", "dtype", "bad"),
    [
        ({"type": "int", "logicalType": "date"}, Date, zigzag(2**31 - 1)),
        ({"type": "int", "logicalType": "date"}, Date, zigzag(2**40)),
        ({"type": "int", "logicalType": "date"}, Timestamp, zigzag(-(2**60))),
        ({"type": "int", "logicalType": "date"}, Json, zigzag(2**40)),
        ({"type": "array", "items": {"type": "int", "logicalType": "date"}}, Array(Date), zigzag(1) + zigzag(2**40) + b"\0"),
        ({"type": "array", "items": {"type": "long", "logicalType": "timestamp-micros"}}, Array(Timestamp),
         zigzag(1) + zigzag(2**62) + b"\0"),
        (DECIMAL, Decimal(10, 2), zigzag(1_000_000) + b"\x7f" * 1_000_000),
        (DECIMAL, Decimal(10, 2), zigzag(5) + b"\x7f" * 5),
        (DECIMAL, None, zigzag(1_000_000) + b"\x7f" * 1_000_000),
        ("string", String, zigzag(2) + b"\xff\xfe"),
        ("string", Decimal(5, 2), zigzag(12) + b"1e-999999999"),
        ("string", Json, zigzag(2000) + nested(1000)),
        ({"type": "map", "values": "double"}, Json, zigzag(1) + zigzag(1) + b"a" + b"\0\0\0\0\0\0\xf8\x7f\0"),
        ("bytes", Bytes, zigzag(2**62)),
        ({"type": "enum", "name": "K", "symbols": ["A"]}, String, zigzag(77)),
    ],
)  # fmt: skip
def test_an_avro_value_that_nothing_can_hold_is_a_letter(kind: Any, dtype: Any, bad: bytes) -> None:
    the_one_letter(in_avro(["null", kind], None, b"\x02" + bad, dtype))


def test_an_avro_decimal_keeps_digits_beyond_the_precision_of_its_schema() -> None:
    # fastavro would round it to ten digits.
    unscaled = 123456789012345
    value = zigzag(8) + unscaled.to_bytes(8, "big")

    assert in_avro(DECIMAL, Number(0), value, Json).rows["x"].to_pylist()[1] == "1234567890123.45"
    assert "is not Decimal(10,2)" in the_one_letter(in_avro(DECIMAL, Number(0), value, Decimal(10, 2)))


# ---- Protobuf ----

Proto = descriptor_pb2.FieldDescriptorProto
WELL_KNOWN = (struct_pb2, any_pb2, duration_pb2, timestamp_pb2, wrappers_pb2)


def proto_type(syntax: str) -> tuple[bytes, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="x.proto", package="x", syntax=syntax, dependency=[each.DESCRIPTOR.name for each in WELL_KNOWN]
    )
    message = file.message_type.add(name="M")
    kinds = {
        "user_id": Proto.TYPE_INT64, "ts": Proto.TYPE_INT64, "text": Proto.TYPE_STRING, "struct": "Struct", "any": "Any",
        "span": "Duration", "time": "Timestamp", "times": "Timestamp", "spans": "Duration", "value": "Value",
        "number": "DoubleValue",
    }  # fmt: skip
    for number, (name, kind) in enumerate(kinds.items(), 1):
        label = Proto.LABEL_REPEATED if name in ("times", "spans") else Proto.LABEL_OPTIONAL
        field = message.field.add(name=name, number=number, label=label)
        field.type = kind if isinstance(kind, int) else Proto.TYPE_MESSAGE
        if isinstance(kind, str):
            field.type_name = f".google.protobuf.{kind}"
    inner = message.field.add(name="inner", number=20, label=Proto.LABEL_OPTIONAL, type=Proto.TYPE_MESSAGE)
    inner.type_name = ".x.M"
    files = descriptor_pb2.FileDescriptorSet()
    for each in WELL_KNOWN:
        each.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(file)
    pool = descriptor_pool.DescriptorPool()
    for each in files.file:
        pool.Add(each)
    return files.SerializeToString(), message_factory.GetMessageClass(pool.FindMessageTypeByName("x.M"))


TYPES = {syntax: proto_type(syntax) for syntax in ("proto2", "proto3")}


def nested_any(levels: int) -> bytes:
    packed = any_pb2.Any()
    for _ in range(levels):
        outer = any_pb2.Any()
        outer.Pack(packed)
        packed = outer
    return packed.SerializeToString()


def with_inner(levels: int) -> bytes:
    made = b"\x08\x01"
    for _ in range(levels):
        size = len(made)
        made = b"\xa2\x01" + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + made
    return made


def set_nan(message: Any) -> None:
    message.struct["a"] = float("nan")


POISONS: list[tuple[str, str, Any, Callable[[Any], Any]]] = [
    ("nan in a Struct", "struct", Json, set_nan),
    ("infinity in a Struct", "struct", Json, lambda m: m.struct.update({"a": [1, float("inf")]})),
    ("nan in a Value", "value", Json, lambda m: setattr(m.value, "number_value", float("nan"))),
    ("nan in a wrapper", "number", Json, lambda m: setattr(m.number, "value", float("nan"))),
    ("an Any of unknown type", "any", Json, lambda m: setattr(m.any, "type_url", "type.googleapis.com/no.Such")),
    ("an Any without type", "any", Json, lambda m: setattr(m.any, "value", b"x")),
    ("Any in Any", "any", Json, lambda m: m.any.ParseFromString(nested_any(400))),
    ("an invalid Duration", "span", Json, lambda m: setattr(m.span, "seconds", 2**62)),
    ("an invalid Duration as text", "span", String, lambda m: setattr(m.span, "nanos", -(2**31))),
    ("invalid Durations", "spans", Array(Json), lambda m: m.spans.add(seconds=2**62)),
    ("a Timestamp", "time", Timestamp, lambda m: setattr(m.time, "seconds", 2**62)),
    ("a Timestamp as text", "time", String, lambda m: setattr(m.time, "seconds", -(2**62))),
    ("a Timestamp as JSON", "time", Json, lambda m: setattr(m.time, "seconds", 2**62)),
    ("Timestamps", "times", Array(Timestamp), lambda m: m.times.add(seconds=2**62)),
    ("Timestamps as JSON", "times", Json, lambda m: m.times.add(seconds=-(2**62), nanos=-5)),
    ("bad UTF-8", "text", String, lambda _: b"\x1a\x02\xff\xfe"),
    ("a deep message", "inner", Json, lambda _: with_inner(150)),
    ("open groups", "text", String, lambda _: b"\xa3\x06" * 100_000),
    ("cut short", "text", String, lambda _: b"\x1a\x7f"),
]  # fmt: skip


@pytest.mark.parametrize("syntax", ["proto2", "proto3"])
@pytest.mark.parametrize(("name", "dtype", "spoil"), [each[1:] for each in POISONS], ids=[each[0] for each in POISONS])
def test_a_protobuf_value_that_nothing_can_hold_is_a_letter(
    syntax: str, name: str, dtype: Any, spoil: Callable[[Any], Any]
) -> None:
    descriptor_set, kind = TYPES[syntax]
    source = LogSource(
        "x", schema=[Field("user_id", Int64), Field("ts", Int64), Field(name, dtype)], timestamp_field="ts",
        timestamp_unit="us", message_format=ProtoFormat(descriptor_set=descriptor_set, message_type="x.M"),
    )  # fmt: skip
    good, bad = kind(user_id=1, ts=NOW), kind(user_id=2, ts=NOW)
    tail = spoil(bad)

    value = bad.SerializeToString() + (tail if isinstance(tail, bytes) else b"")
    reason = the_one_letter(decode(source, [good.SerializeToString(), value, good.SerializeToString()]))

    assert name in reason or "not a x.M" in reason
