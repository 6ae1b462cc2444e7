"""Bounds on messages, schemas and types hold before native code follows them, and are settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

from asof.decoding import DecodedMessages, MessageBatch, MessageBounds, WriterSchema, check_format, decode_messages
from asof.definitions import AvroFormat, Field, LogSource, ProtoFormat
from asof.errors import DefinitionError
from asof.timing import micros
from asof.types import Array, Bytes, Decimal, Int64, Json, String
from tests.unit.test_decoding_avro import framed, written
from tests.unit.test_poisonous_messages import BESIDE, JSON, TYPES, in_json, nested, with_inner, zigzag

NOW = micros("2026-11-23T12:00:00Z")


def decode(source: LogSource, values: list[bytes | None], bounds: MessageBounds, **batch: Any) -> DecodedMessages:
    schemas = batch.pop("schemas", None)
    return decode_messages(
        source, MessageBatch(values, **batch), keys=["user_id"], clock=NOW, bounds=bounds, schemas=schemas
    )


def reasons(decoded: DecodedMessages) -> dict[int, str]:
    return {dead_letter.index: dead_letter.reason for dead_letter in decoded.dead_letters}


# ---- size ----


def test_a_message_that_is_too_large_is_a_letter_by_the_size_of_value_key_and_headers() -> None:
    value = json.dumps({"price": "1.00"}).encode()
    bounds = MessageBounds(max_bytes=len(value) + 3)
    times = [NOW] * 5
    headers = [(), (), (("ab", b"12"),), (("a", None),), ()]

    decoded = decode(
        BESIDE, [value, value + b" " * 4, value, value, None], bounds, keys=[b"1", b"", b"1", b"11", b"1" * 100],
        timestamps_us=times, headers=headers,
    )  # fmt: skip

    assert decoded.index.tolist() == [0, 3]
    assert reasons(decoded) == {
        1: f"the message has {len(value) + 4} bytes; the most are {bounds.max_bytes}",
        2: f"the message has {len(value) + 5} bytes; the most are {bounds.max_bytes}",
        4: f"the message has 100 bytes; the most are {bounds.max_bytes}",
    }


def test_messages_that_asof_wrote_have_no_bound_in_bytes() -> None:
    values = in_json("s", b'"%b"' % (b"x" * (9 << 20)))

    assert list(reasons(decode(JSON, values, MessageBounds()))) == [1]
    assert not decode(JSON, values, MessageBounds(max_bytes=None)).dead_letters


# ---- depth ----


@pytest.mark.parametrize("depth", [3, 20])
def test_the_depth_of_json_is_a_setting(depth: int) -> None:
    bounds = MessageBounds(max_depth=depth)
    # The message's own object is the first level.
    assert not decode(JSON, in_json("doc", nested(depth - 1)), bounds).dead_letters
    assert reasons(decode(JSON, in_json("doc", nested(depth)), bounds)) == {
        1: f"not a JSON object: it is nested too deeply; the most are {depth} levels"
    }
    key = decode(BESIDE, [b"{}"], bounds, keys=[nested(depth + 1)], timestamps_us=[NOW])
    assert reasons(key) == {0: f"key: is nested too deeply; the most are {depth} levels"}


def avro_source(kind: Any, dtype: Any = Json, *, registry: bool = False) -> tuple[dict[str, Any], LogSource]:
    schema = {"type": "record", "name": "R", "fields": [
        {"name": "user_id", "type": "long"}, {"name": "ts", "type": "long"}, {"name": "x", "type": kind},
    ]}  # fmt: skip
    return schema, LogSource(
        "x", schema=[Field("user_id", Int64), Field("ts", Int64), Field("x", dtype)], timestamp_field="ts",
        timestamp_unit="us",
        message_format=AvroFormat(registry=True) if registry else AvroFormat(json.dumps(schema)),
    )  # fmt: skip


NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}


def test_the_depth_of_avro_is_a_setting() -> None:
    _, source = avro_source(NODE)
    head = zigzag(2) + zigzag(NOW)

    decoded = decode(source, [head + b"\2" * 8 + b"\0", head + b"\2" * 9 + b"\0"], MessageBounds(max_depth=10))

    assert decoded.index.tolist() == [0]
    assert "nested too deeply; the most are 10 levels" in reasons(decoded)[1]


@pytest.mark.parametrize("syntax", ["proto2", "proto3"])
def test_the_depth_of_protobuf_is_a_setting_and_bounded_by_its_library(syntax: str) -> None:
    descriptor_set, kind = TYPES[syntax]
    source = LogSource(
        "x", schema=[Field("user_id", Int64), Field("ts", Int64), Field("text", String)], timestamp_field="ts",
        timestamp_unit="us", message_format=ProtoFormat(descriptor_set=descriptor_set, message_type="x.M"),
    )  # fmt: skip
    good = kind(user_id=1, ts=NOW, text="a").SerializeToString()
    values: list[bytes | None] = [good + with_inner(levels) for levels in (9, 10, 90, 150)]

    decoded = decode(source, values, MessageBounds(max_depth=10))
    assert decoded.index.tolist() == [0]
    assert reasons(decoded)[1] == "not a x.M: it is nested too deeply; the most are 10 levels"
    assert decode(source, values, MessageBounds()).index.tolist() == [0, 1, 2]

    groups = good + b"\xa3\x06" * 10 + b"\xa4\x06" * 10
    assert list(reasons(decode(source, [groups], MessageBounds(max_depth=10)))) == [0]
    assert not decode(source, [groups], MessageBounds(max_depth=11)).dead_letters


# ---- values without bytes, and decimals ----


def record(number: int, *kinds: Any) -> dict[str, Any]:
    fields = [{"name": f"f{i}", "type": kind} for i, kind in enumerate(kinds)]
    return {"type": "record", "name": f"R{number}", "fields": fields}


def doubled(levels: int) -> Any:
    """A record of two records of two records …: 2 to the power of the levels many nulls, and no byte."""
    kind: Any = record(0, "null", "null")
    for number in range(1, levels):
        kind = record(number, kind, f"R{number - 1}")
    return kind


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ({"type": "array", "items": "null"}, zigzag(2**62) + b"\0"),
        ({"type": "array", "items": "null"}, (zigzag(1500) + b"\0") * 2),
        ({"type": "array", "items": {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}},
         zigzag(1) + zigzag(2**40) + b"\0\0"),
        (doubled(40), b""),
        ({"type": "array", "items": record(100, "boolean", doubled(30))}, zigzag(1) + b"\1" + b"\0"),
    ],
    ids=["array", "array of 1500", "array of arrays", "doubled", "doubled in an array"],
)  # fmt: skip
def test_values_that_take_no_bytes_are_bounded_by_a_setting(kind: Any, bad: bytes) -> None:
    _, source = avro_source(kind)
    bounds = MessageBounds(max_empty_values=1000)

    decoded = decode(source, [zigzag(2) + zigzag(NOW) + bad], bounds)

    assert reasons(decoded) == {0: "not an Avro record of its schema: it has more than 1000 values that take no bytes"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"", "is shorter than the schema says"),
        (b"\x80", "is shorter than the schema says"),
        (zigzag(1) + zigzag(-1), "names branch -1 of a union that has 2"),
        (zigzag(1) + zigzag(2), "names branch 2 of a union that has 2"),
        (b"\xff" * 11 + b"\1", "has a number of more than 64 bits"),
        (b"\0\0", "is longer than the schema says"),
    ],
)
def test_a_broken_message_is_not_followed_to_where_a_count_without_end_may_be(broken: bytes, reason: str) -> None:
    """Behind a message's end fastavro would read the guard as a count of nulls, and with index -1 the last branch."""
    _, source = avro_source({"type": "array", "items": ["null", {"type": "array", "items": "null"}]})

    for _ in range(20):  # the guard is random
        fresh = LogSource("x", schema=source.schema, timestamp_field="ts", timestamp_unit="us",
                          message_format=source.message_format)  # fmt: skip
        decoded = decode(fresh, [zigzag(2) + zigzag(NOW) + broken], MessageBounds())
        assert reasons(decoded) == {0: f"not an Avro record of its schema: it {reason}"}


@pytest.mark.parametrize(
    "items",
    ["boolean", "float", "double", {"type": "fixed", "name": "F", "size": 2}, record(1, "float", record(2, "boolean"))],
    ids=["boolean", "float", "double", "fixed", "record"],
)  # fmt: skip
def test_a_count_of_numbers_that_the_reader_leaves_out_is_bounded(items: Any) -> None:
    """fastavro skips each of them, and does not see that the message is over."""
    schema, source = avro_source({"type": "array", "items": items}, registry=True)
    own = {**schema, "fields": schema["fields"][:2]}
    resolved = LogSource(
        "x", schema=source.schema[:2], timestamp_field="ts", timestamp_unit="us",
        message_format=AvroFormat(json.dumps(own), registry=True),
    )  # fmt: skip
    head = zigzag(2) + zigzag(NOW)
    values: list[bytes | None] = [*framed(7, [head + zigzag(2**62), head + b"\0"])]

    decoded = decode(resolved, values, MessageBounds(), schemas=lambda _: WriterSchema("AVRO", json.dumps(schema)))

    assert decoded.index.tolist() == [1]
    assert reasons(decoded) == {0: "not an Avro record of its schema: it is shorter than the schema says"}


def test_a_record_with_many_nulls_within_the_bound_is_read() -> None:
    schema, source = avro_source(record(0, *["null"] * 30))
    (message,) = written(schema, {"user_id": 1, "ts": NOW, "x": dict.fromkeys([f"f{i}" for i in range(30)])})

    assert decode(source, [message], MessageBounds()).rows["x"].to_pylist() == [
        json.dumps(dict.fromkeys([f"f{i}" for i in range(30)]), separators=(",", ":"))
    ]


def test_the_bytes_of_an_avro_decimal_are_a_setting() -> None:
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 0}
    _, source = avro_source(kind, Decimal(30, 0))
    head = zigzag(2) + zigzag(NOW)
    values: list[bytes | None] = [head + zigzag(size) + b"\0" * (size - 1) + b"\1" for size in (4, 5, 64, 65)]

    assert decode(source, values, MessageBounds(max_decimal_bytes=4)).index.tolist() == [0]
    decoded = decode(source, values, MessageBounds())
    assert decoded.index.tolist() == [0, 1, 2]
    assert "a decimal has 65 bytes; the most are 64" in reasons(decoded)[3]


# ---- schemas and types ----


def in_a_chain(length: int) -> tuple[str, ...]:
    """Schemas, each a record of the one before: no text is deep, but a value is."""
    texts = [json.dumps(record(0, "long"))]
    texts += [json.dumps(record(number, f"R{number - 1}")) for number in range(1, length)]
    return tuple(texts)


def refused_in_registry(schema: WriterSchema) -> str:
    _, source = avro_source("long", registry=True)
    decoded = decode(source, framed(7, [b"\2\2\2"] * 2), MessageBounds(), schemas=lambda _: schema)
    assert [dead_letter.index for dead_letter in decoded.dead_letters] == [0, 1]
    return decoded.dead_letters[0].reason


DEEP = "[" * 10_000 + "]" * 10_000
SELF = record(1, "R1")


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (WriterSchema("AVRO", json.dumps(SELF)), "record 'R1' contains itself"),
        (WriterSchema("AVRO", json.dumps(record(1, record(2, "R1")))), "contains itself"),
        (WriterSchema("AVRO", json.dumps(record(1, ["null", record(2, record(3, "R2"))]))), "contains itself"),
        (WriterSchema("AVRO", DEEP), "its text is nested too deeply"),
        (WriterSchema("AVRO", json.dumps(record(1, "long")), (DEEP,)), "its text is nested too deeply"),
        (WriterSchema("AVRO", json.dumps(record(-1, "R9999")), in_a_chain(10_000)), "is nested too deeply"),
        (WriterSchema("AVRO", json.dumps(record(-1, ["null", "R9999"])), in_a_chain(10_000)), "is nested too deeply"),
        (WriterSchema("AVRO", json.dumps(record(1, {"type": "fixed", "name": "F", "size": -1}))), "has size -1"),
        (WriterSchema("AVRO", json.dumps(record(1, {"type": "fixed", "name": "F", "size": 1.5}))), "has size 1.5"),
    ],
    ids=["itself", "through another", "behind a null", "text", "text of a reference", "chain", "chain of nullables",
         "negative size", "broken size"],
)  # fmt: skip
def test_a_schema_of_the_registry_that_would_end_the_process_makes_letters(schema: WriterSchema, reason: str) -> None:
    found = refused_in_registry(schema)

    assert found.startswith("names schema 7, which cannot be used: ") and reason in found


def types_in_a_chain(length: int) -> bytes:
    """Message types, each with a field of the one before."""
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", package="x", syntax="proto3")
    for number in range(length):
        field = file.message_type.add(name=f"M{number}").field.add(name="a", number=1, label=1, type=3)
        if number:
            field.type, field.type_name = 11, f".x.M{number - 1}"
    return descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()


def types_in_a_circle(length: int) -> bytes:
    files = descriptor_pb2.FileDescriptorSet.FromString(types_in_a_chain(length))
    field = files.file[0].message_type[0].field.add(name="b", number=2, label=1, type=11)
    field.type_name = f".x.M{length - 1}"
    return files.SerializeToString()


def nested_types(levels: int) -> bytes:
    data = b"\n\1M"
    for _ in range(levels):
        data = b"\n\1M" + b"\x1a" + unsigned(len(data)) + data
    file = b"\n\x07x.proto" + b"\x22" + unsigned(len(data)) + data
    return b"\n" + unsigned(len(file)) + file


def unsigned(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def proto_source(descriptor_set: bytes, message_type: str) -> LogSource:
    return LogSource(
        "x", schema=[Field("user_id", Int64), Field("ts", Int64)], timestamp_field="ts", timestamp_unit="us",
        message_format=ProtoFormat(descriptor_set=descriptor_set, message_type=message_type),
    )  # fmt: skip


def avro_of(schema: Any) -> LogSource:
    return LogSource(
        "x", schema=[Field("user_id", Int64), Field("ts", Int64), Field("x", Bytes)], timestamp_field="ts",
        timestamp_unit="us", message_format=AvroFormat(json.dumps(schema)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (avro_of(SELF), "record 'R1' contains itself"),
        (avro_of(record(1, json.loads("[" * 300 + "]" * 300))), "nested too deeply"),
        (avro_of(record(1, "none")), "schema_json is not an Avro schema that can be used"),
        (proto_source(types_in_a_chain(201), "x.M200"), "'x.M200' cannot be used: it is nested too deeply"),
        (proto_source(types_in_a_chain(5000), "x.M4999"), "'x.M4999' cannot be used: it is nested too deeply"),
        (proto_source(types_in_a_circle(5000), "x.M4999"), "'x.M4999' cannot be used: its types are in a chain"),
        (proto_source(nested_types(5000), "M"), "'M' is not in its descriptor set"),
    ],
    ids=["itself", "text", "no schema", "chain", "long chain", "circle", "nested"],
)  # fmt: skip
def test_a_schema_or_type_of_a_definition_is_refused_at_plan_and_at_decode(source: LogSource, reason: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        check_format(source, MessageBounds())
    assert reason in refused.value.message
    with pytest.raises(DefinitionError) as again:
        decode(source, [b"x"], MessageBounds())
    assert again.value.message == refused.value.message


def test_types_within_the_bounds_are_used() -> None:
    for descriptor_set, name in ((types_in_a_chain(200), "x.M199"), (types_in_a_circle(150), "x.M149")):
        check_format(proto_source(descriptor_set, name), MessageBounds())
    with pytest.raises(DefinitionError, match="the most are 10 levels"):
        check_format(proto_source(types_in_a_chain(200), "x.M199"), MessageBounds(max_depth=10))


@pytest.mark.parametrize("registry", [False, True])
def test_a_schema_that_python_itself_cannot_read_is_refused(registry: bool) -> None:
    with pytest.raises(DefinitionError, match="schema_json is nested too deeply"):
        AvroFormat('{"type": "record", "name": "R", "fields": %s}' % ("[" * 100_000 + "]" * 100_000), registry=registry)


def any_source() -> tuple[Any, LogSource]:
    """A message class with a field of any type, and the source of its messages."""
    file = descriptor_pb2.FileDescriptorProto(
        name="any_levels.proto", package="levels", syntax="proto3", dependency=["google/protobuf/any.proto"]
    )
    kind = file.message_type.add(name="M")
    kind.field.add(name="user_id", number=1, label=1, type=3)
    kind.field.add(name="ts", number=2, label=1, type=3)
    for name, number in (("doc", 3), ("docs", 4)):
        kind.field.add(name=name, number=number, label=1, type=11, type_name=".google.protobuf.Any")
    kind.field[3].label = 3
    any_file = descriptor_pb2.FileDescriptorProto()
    any_pb2.DESCRIPTOR.CopyToProto(any_file)
    files = descriptor_pb2.FileDescriptorSet(file=[any_file, file])
    pool = descriptor_pool.DescriptorPool()
    for each in files.file:
        pool.Add(each)
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("levels.M"))
    source = LogSource(
        "s", schema=[Field("user_id", Int64), Field("ts", Int64), Field("doc", Json), Field("docs", Array(Json))],
        timestamp_field="ts", timestamp_unit="us",
        message_format=ProtoFormat(descriptor_set=files.SerializeToString(), message_type="levels.M"),
    )  # fmt: skip
    return made, source


@pytest.mark.parametrize("field", ["doc", "docs"])
def test_the_depth_of_messages_in_any_is_a_setting(field: str) -> None:
    made, source = any_source()

    def nested(levels: int) -> bytes:
        held = made(user_id=5)
        for _ in range(levels):
            outer = made(user_id=1, ts=NOW)
            place = outer.docs.add() if field == "docs" else outer.doc
            place.Pack(held)
            held = outer
        return bytes(held.SerializeToString())

    values: list[bytes | None] = [nested(levels) for levels in (1, 3, 4, 9)]
    decoded = decode(source, values, MessageBounds(max_depth=4))
    assert decoded.index.tolist() == [0, 1]
    assert all("it is nested too deeply; the most are 4 levels" in reason for reason in reasons(decoded).values())
    read = decode(source, values, MessageBounds()).rows[field][1].as_py()
    assert "5" in str(read) and str(read).count("@type") == 3
