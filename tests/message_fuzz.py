"""Fuzzers of messages and schemas, one per format: odd types, odd schemas, and messages damaged byte by byte.

Whatever comes in, each message is a row, left out by nothing, or a dead letter with a reason; the same alone as among
others. Where a definition's own schema cannot be used, that is a DefinitionError.
"""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastavro import parse_schema, schemaless_writer
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

from asof.decoding import MessageBatch, MessageBounds, Schemas, WriterSchema, check_format, decode_messages
from asof.definitions import AvroFormat, Field, JsonFormat, LogSource, ProtoFormat
from asof.dtypes import DType
from asof.errors import DefinitionError
from asof.timing import micros
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

NOW = micros("2026-11-23T12:00:00Z")
TYPES: tuple[DType, ...] = (
    Bool, Bytes, Date, Decimal(10, 2), Decimal(38, 0), Embedding(2), Float32, Float64, Int32, Int64, Json, String,
    Timestamp, Array(Int64), Array(String), Array(Json), Array(Decimal(5, 2)), Array(Timestamp), Array(Bytes),
    Array(Float64), Array(Bool), Array(Date),
)  # fmt: skip
BOUNDS = MessageBounds(max_bytes=100_000, max_empty_values=2_000)


@dataclass
class Case:
    """A source, its schema registry, and messages that fit its schema as far as anything does."""

    source: LogSource
    messages: list[bytes]
    schemas: Schemas | None = None


def source_of(rng: random.Random, names: Sequence[str], **options: Any) -> LogSource:
    kinds = {"user_id": Int64, "ts": rng.choice((Int64, Timestamp))}
    fields = [Field(name, kinds.get(name, rng.choice((*TYPES, *[Json] * 12)))) for name in names]
    unit = rng.choice(("us", "ms", "s", "ns")) if kinds["ts"] == Int64 else None
    return LogSource("x", schema=fields, timestamp_field="ts", timestamp_unit=unit, **options)


# ---- damage ----

EXTREMES = (
    b"\0", b"\xff", b"\x80", b"\xff" * 9 + b"\x01", b"\xfe" * 9 + b"\x01", b"\x80" * 12, b"\x01", b"\x7f" * 8,
    b"[", b"{", b'"', b"\\ud800", b"1e999999999", b"-0", b"9" * 30, b"NaN", b"Infinity", b"null", b"\xed\xa0\x80",
    b"\x0b\x0c", b"\x1f", b"[" * 300, b'{"a":' * 300, b"\x0b" * 200, b"\xf8\xff\xff\xff\x0f",
)  # fmt: skip


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The data with up to four of its parts changed."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(out))
        match rng.randrange(9):
            case 0 if out:
                out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
            case 1:
                del out[at:]
            case 2:
                out[at:at] = rng.choice(EXTREMES)
            case 3:
                out[at : at + rng.randint(1, 8)] = rng.choice(EXTREMES)
            case 4:
                out[at:at] = rng.randbytes(rng.randint(1, 12))
            case 5:
                out[at:at] = out[rng.randint(0, at) : at] * rng.randint(1, 20)
            case 6:
                del out[at : at + rng.randint(1, 6)]
            case 7:
                out = bytearray(rng.randbytes(rng.randint(0, 60)))
            case _:
                out += rng.choice(EXTREMES)
    return bytes(out[:50_000])


# ---- JSON ----


def json_value(rng: random.Random, depth: int = 0) -> Any:
    simple: list[Callable[[], Any]] = [
        lambda: None, lambda: rng.choice((True, False)), lambda: rng.choice((0, 1, -1, 2**31, 2**53 + 1, 2**63, -(2**70))),
        lambda: rng.choice((0.5, -0.0, 1e308, 5e-324, 1e22)), lambda: "".join(chr(rng.randrange(1, 0xD800)) for _ in range(3)),
        lambda: rng.choice(("", "12.50", "2026-01-01", "2026-01-01T00:00:00Z", "NaN", "1e400", "AQI=", "\0", "\ud800")),
    ]  # fmt: skip
    if depth > 4 or rng.random() < 0.6:
        return rng.choice(simple)()
    inner = [json_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    return inner if rng.random() < 0.5 else {rng.choice(("a", "b", "user_id", "", "é")): each for each in inner}


def json_case(rng: random.Random) -> Case:
    names = ["user_id", "ts", *(f"c{i}" for i in range(rng.randint(0, 5)))]
    if rng.random() < 0.1:
        names.append('with "quotes" \\ and \n more')
    source = source_of(rng, names, message_format=JsonFormat())
    messages = []
    for number in range(4):
        row: dict[str, Any] = {"user_id": number, "ts": "2026-01-01T00:00:00Z"}
        if source.timestamp_unit:
            row["ts"] = rng.choice((1_700_000_000, 1_700_000_000_000))
        row |= {name: json_value(rng) for name in names[2:] if rng.random() < 0.8}
        if rng.random() < 0.2:
            row["undeclared"] = json_value(rng)
        messages.append(json.dumps(row, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass"))
    return Case(source, messages)


# ---- Avro ----

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
LOGICAL = (
    ("int", "date"), ("int", "time-millis"), ("long", "time-micros"), ("long", "timestamp-millis"),
    ("long", "timestamp-micros"), ("long", "timestamp-nanos"), ("long", "local-timestamp-millis"),
    ("long", "local-timestamp-micros"), ("string", "uuid"), ("bytes", "decimal"), ("int", "decimal"),
    ("string", "no-such-type"), ("bytes", "big-decimal"), ("bytes", "date"), ("string", "timestamp-millis"),
)  # fmt: skip
JUNK: tuple[Any, ...] = (
    None, 5, "nosuch", {}, [], {"type": None}, {"type": "array"}, {"type": "map"}, {"type": "record"}, "array",
    {"type": "record", "name": "J"}, {"type": "record", "name": "J", "fields": [{"name": "a"}]},
    {"type": "record", "name": "J", "fields": {"a": 1}}, {"type": "enum", "name": "J"}, {"type": "fixed", "name": "J"},
    {"type": "enum", "name": "J", "symbols": []}, {"type": "enum", "name": "J", "symbols": [1, None]},
    {"type": "fixed", "name": "J", "size": -1}, {"type": "fixed", "name": "J", "size": 2**40},
    {"type": "fixed", "name": "J", "size": "4"}, {"type": "fixed", "name": "J", "size": True}, [["null"]],
    {"type": {"type": {"type": "long"}}}, ["null", "null"], {"type": "array", "items": "null"},
    {"type": "record", "name": "J", "fields": [{"name": "a", "type": "J"}]}, True, "", "R1", "x.y.z",
    {"type": "bytes", "logicalType": "decimal", "precision": -1, "scale": 10**9},
    {"type": "bytes", "logicalType": "decimal", "scale": -(10**9)}, {"type": "bytes", "logicalType": "decimal", "scale": "2"},
    {"type": "fixed", "name": "J", "size": 200, "logicalType": "decimal", "precision": 4}, {"type": "bytes", "logicalType": 5},
    {"type": "long", "logicalType": ["x"]}, {"type": "fixed", "name": "J", "size": 12, "logicalType": "duration"},
    {"type": "record", "name": "asof_guard", "fields": []}, {"type": "fixed", "name": "asof_guard_bytes", "size": 3},
)  # fmt: skip


def avro_type(rng: random.Random, names: list[str], depth: int = 0) -> Any:
    chance = rng.random()
    if names and chance < 0.1:
        return rng.choice(names)
    if depth > 5 or chance < 0.35:
        return rng.choice(PRIMITIVES)
    if chance < 0.5:
        base, logical = rng.choice(LOGICAL)
        extra = (
            {"precision": rng.choice((1, 4, 38, 50)), "scale": rng.choice((0, 2, 60))} if logical == "decimal" else {}
        )
        return {"type": base, "logicalType": logical, **extra}
    name = f"N{len(names)}"
    if chance < 0.56:
        names.append(name)
        return {"type": "enum", "name": name, "symbols": ["A", "B"][: rng.randint(1, 2)]}
    if chance < 0.62:
        names.append(name)
        logical = {"logicalType": "decimal", "precision": 5, "scale": 2} if rng.random() < 0.3 else {}
        return {"type": "fixed", "name": name, "size": rng.choice((0, 1, 16)), **logical}
    if chance < 0.72:
        return {"type": "array", "items": avro_type(rng, names, depth + 1)}
    if chance < 0.8:
        return {"type": "map", "values": avro_type(rng, names, depth + 1)}
    if chance < 0.9:
        branches = [avro_type(rng, names, depth + 1) for _ in range(rng.randint(1, 3))]
        return [each for each in ["null", *branches] if not isinstance(each, list)]
    names.append(name)
    fields = [{"name": f"f{i}", "type": avro_type(rng, names, depth + 1)} for i in range(rng.randint(0, 3))]
    return {"type": "record", "name": name, "fields": fields}


def avro_schema(rng: random.Random) -> tuple[list[str], dict[str, Any]]:
    """A record with the columns of an event and others; now and then part of it is junk."""
    names: list[str] = []
    columns = ["user_id", "ts", *(f"c{i}" for i in range(rng.randint(0, 4)))]
    kinds: dict[str, Any] = {
        "user_id": "long",
        "ts": rng.choice(("long", {"type": "long", "logicalType": "timestamp-millis"})),
    }
    fields = [{"name": name, "type": kinds.get(name) or avro_type(rng, names)} for name in columns]
    schema: dict[str, Any] = {"type": "record", "name": "Event", "fields": fields}
    if rng.random() < 0.25:
        spoil(rng, schema)
    return columns, schema


def spoil(rng: random.Random, schema: dict[str, Any]) -> None:
    """Replace one node below a schema by junk."""
    positions: list[tuple[Any, Any]] = []
    todo: list[Any] = [schema]
    while todo:
        each = todo.pop()
        items = each.items() if isinstance(each, dict) else enumerate(each)
        for key, inner in items:
            positions.append((each, key))
            if isinstance(inner, dict | list):
                todo.append(inner)
    where, key = rng.choice(positions[1:] or positions)
    where[key] = json.loads(json.dumps(rng.choice(JUNK)))


def avro_datum(rng: random.Random, kind: Any, named: dict[str, Any], depth: int = 0) -> Any:
    """A value of a schema as fastavro writes it; raises where the schema is too odd for one."""
    if depth > 40:
        raise ValueError("too deep")
    if isinstance(kind, list):
        return avro_datum(rng, rng.choice(kind if depth < 8 else kind[:1]), named, depth + 1)
    if isinstance(kind, str) and kind in named:
        return avro_datum(rng, named[kind], named, depth + 1)
    base = kind["type"] if isinstance(kind, dict) else kind
    if isinstance(base, dict | list):
        return avro_datum(rng, base, named, depth + 1)
    if isinstance(kind, dict) and "name" in kind:
        named[kind["name"]] = kind
    match base:
        case "null":
            return None
        case "boolean":
            return rng.random() < 0.5
        case "int":
            return rng.choice((0, 1, -1, 2**31 - 1, -(2**31), 20_000))
        case "long":
            return rng.choice((0, 1, 1_700_000_000_000, -(2**63), 2**63 - 1))
        case "float" | "double":
            return rng.choice((0.0, 1.5, float("nan"), float("inf"), -1e30))
        case "bytes":
            return rng.randbytes(rng.choice((0, 1, 4, 17, 70)))
        case "string":
            return rng.choice(("", "a", "é", "2026-01-01", "{}", "\0", "12345678-1234-5678-1234-567812345678"))
        case "fixed":
            return rng.randbytes(kind["size"])
        case "enum":
            return rng.choice(kind["symbols"])
        case "array":
            return [
                avro_datum(rng, kind["items"], named, depth + 1) for _ in range(rng.randint(0, 3 if depth < 8 else 0))
            ]
        case "map":
            count = rng.randint(0, 2 if depth < 8 else 0)
            return {f"k{i}": avro_datum(rng, kind["values"], named, depth + 1) for i in range(count)}
        case _:
            return {each["name"]: avro_datum(rng, each["type"], named, depth + 1) for each in kind["fields"]}


def raw(schema: Any) -> Any:
    """A schema without logical types: values are written as their base types."""
    if isinstance(schema, list):
        return list(map(raw, schema))
    if isinstance(schema, dict):
        return {key: raw(each) for key, each in schema.items() if key != "logicalType"}
    return schema


def avro_messages(rng: random.Random, schema: dict[str, Any]) -> list[bytes]:
    messages = []
    for _ in range(4):
        try:
            record = avro_datum(rng, schema, {})
            record |= {"user_id": 1, "ts": 1_700_000_000_000}
            stream = io.BytesIO()
            schemaless_writer(stream, parse_schema(raw(schema)), record)
            messages.append(stream.getvalue())
        except Exception:  # the schema is junk, or has no finite value
            messages.append(b"\2" + rng.randbytes(rng.randint(0, 30)))
    return messages


def avro_case(rng: random.Random) -> Case:
    columns, schema = avro_schema(rng)
    try:
        source = source_of(rng, columns, message_format=AvroFormat(json.dumps(schema)))
    except DefinitionError:  # the junk made it no record
        return json_case(rng)
    return Case(source, avro_messages(rng, schema))


# ---- Protobuf ----

WELL_KNOWN = (struct_pb2, any_pb2, duration_pb2, timestamp_pb2, wrappers_pb2)
KNOWN_NAMES = ("Struct", "Value", "Any", "Duration", "Timestamp", "DoubleValue", "BytesValue", "Int64Value")


def proto_set(rng: random.Random) -> tuple[list[str], descriptor_pb2.FileDescriptorSet]:
    syntax = rng.choice(("proto2", "proto3"))
    file = descriptor_pb2.FileDescriptorProto(
        name="x.proto", package="x", syntax=syntax, dependency=[each.DESCRIPTOR.name for each in WELL_KNOWN]
    )
    kinds = file.enum_type.add(name="Kind")
    kinds.value.add(name="A", number=0)
    kinds.value.add(name="B", number=1)
    count = rng.randint(1, 4)
    names = ["user_id", "ts"]
    for number in range(count):
        message = file.message_type.add(name=f"M{number}")
        if number == 0:
            message.field.add(name="user_id", number=1, label=1, type=3)
            message.field.add(name="ts", number=2, label=1, type=3)
        for place in range(3, 3 + rng.randint(0, 5)):
            field = message.field.add(name=f"c{place}", number=place, label=rng.choice((1, 1, 3)))
            field.type = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 11, 11, 12, 13, 14, 15, 16, 17, 18))
            if field.type == 11:
                known = rng.random() < 0.4
                field.type_name = (
                    f".google.protobuf.{rng.choice(KNOWN_NAMES)}" if known else f".x.M{rng.randrange(count)}"
                )
            elif field.type == 14:
                field.type_name = ".x.Kind"
            if number == 0:
                names.append(field.name)
    files = descriptor_pb2.FileDescriptorSet()
    for each in WELL_KNOWN:
        each.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(file)
    return names, files


def proto_datum(rng: random.Random, message: Any, depth: int = 0) -> None:
    for field in message.DESCRIPTOR.fields:
        if rng.random() < 0.3 or field.message_type is None and depth > 6:
            continue
        is_one = not field.is_repeated
        if field.message_type is not None:
            if depth < 6 and not field.message_type.GetOptions().map_entry:
                proto_datum(
                    rng, getattr(message, field.name) if is_one else getattr(message, field.name).add(), depth + 1
                )
            continue
        value: Any = {
            "CPPTYPE_STRING": b"\xc3\xa9" if field.type == 12 else "é",
            "CPPTYPE_BOOL": True,
            "CPPTYPE_ENUM": 1 if field.enum_type is None else field.enum_type.values[0].number,
            "CPPTYPE_DOUBLE": rng.choice((0.5, float("nan"), float("inf"))),
            "CPPTYPE_FLOAT": rng.choice((0.5, float("nan"))),
            "CPPTYPE_INT32": rng.choice((0, -1, 2**31 - 1)),
            "CPPTYPE_INT64": rng.choice((0, -1, 2**63 - 1, -(2**63), 1_700_000_000)),
            "CPPTYPE_UINT32": 2**32 - 1,
            "CPPTYPE_UINT64": 2**64 - 1,
        }[
            {1: "CPPTYPE_INT32", 2: "CPPTYPE_INT64", 3: "CPPTYPE_UINT32", 4: "CPPTYPE_UINT64", 5: "CPPTYPE_DOUBLE",
             6: "CPPTYPE_FLOAT", 7: "CPPTYPE_BOOL", 8: "CPPTYPE_ENUM", 9: "CPPTYPE_STRING"}[field.cpp_type]
        ]  # fmt: skip
        if is_one:
            setattr(message, field.name, value)
        else:
            getattr(message, field.name).extend([value] * rng.randint(0, 3))


def protobuf_case(rng: random.Random) -> Case:
    names, files = proto_set(rng)
    pool = descriptor_pool.DescriptorPool()
    for each in files.file:
        pool.Add(each)
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("x.M0"))
    messages = []
    for number in range(4):
        message = kind()
        proto_datum(rng, message)
        message.user_id, message.ts = number + 1, 1_700_000_000
        messages.append(message.SerializeToString())
    data = files.SerializeToString()
    if rng.random() < 0.25:
        data = damaged(rng, data)
    made = ProtoFormat(
        descriptor_set=data or b"\0",
        message_type=rng.choice(("x.M0",) * 9 + ("x.None", "", "google.protobuf.Any")) or "M",
    )
    return Case(source_of(rng, names, message_format=made), messages)


# ---- the frame of a schema registry ----


def framed_case(rng: random.Random) -> Case:
    """Messages with a frame, in all three formats, and a registry that returns odd schemas."""
    kind = rng.choice(("avro", "avro", "protobuf", "json"))
    texts: dict[int, WriterSchema | None] = {}
    messages: list[bytes] = []
    if kind == "avro":
        columns, schema = avro_schema(rng)
        own = json.loads(json.dumps(schema))
        if rng.random() < 0.5:
            spoil(rng, own)
        try:
            made = AvroFormat(json.dumps(own) if rng.random() < 0.4 else "", registry=True)
        except DefinitionError:
            made = AvroFormat(registry=True)
        source = source_of(rng, columns, message_format=made)
        bodies = avro_messages(rng, schema)
        texts[1] = WriterSchema("AVRO", json.dumps(schema))
        texts[2] = WriterSchema("AVRO", json.dumps(avro_schema(rng)[1]), (json.dumps(rng.choice(JUNK)), "{"))
    elif kind == "protobuf":
        case = protobuf_case(rng)
        form = case.source.message_format
        assert isinstance(form, ProtoFormat)
        made_again = ProtoFormat(descriptor_set=form.descriptor_set, message_type=form.message_type, registry=True)
        source = source_of(rng, [field.name for field in case.source.schema], message_format=made_again)
        bodies = [rng.choice((b"\0", b"\2\0", b"\4\0\2", b"\2\2", b"\x40" * 3)) + each for each in case.messages]
        texts[1] = WriterSchema("PROTOBUF", "package x; message M0 { int64 user_id = 1; message In {} } message M1 {}")
        text = damaged(rng, texts[1].text.encode()).decode("utf-8", "replace")
        texts[2] = WriterSchema("PROTOBUF", text)
    else:
        case = json_case(rng)
        source = source_of(rng, [field.name for field in case.source.schema], message_format=JsonFormat(registry=True))
        bodies = case.messages
    texts[3] = WriterSchema(
        rng.choice(("JSON", "", "AVRO", "PROTOBUF")), damaged(rng, b'{"type": "record"}').decode("utf-8", "replace")
    )
    for body in bodies:
        messages.append(b"\0" + rng.choice((1, 1, 1, 1, 2, 3, 4, 2**32 - 1)).to_bytes(4, "big") + body)
    return Case(source, messages, texts.get)


# ---- what holds for each ----

FORMATS: dict[str, Callable[[random.Random], Case]] = {
    "json": json_case, "avro": avro_case, "protobuf": protobuf_case, "framed": framed_case,
}  # fmt: skip


def check_case(case: Case, rng: random.Random, counts: Counter[str]) -> None:
    """Decode a case's messages, whole and damaged, together and alone."""
    try:
        check_format(case.source, BOUNDS)
    except DefinitionError as error:
        assert error.message and "Traceback" not in error.message
        counts["definitions refused"] += 1
        return
    values: list[bytes] = [*case.messages, *(damaged(rng, rng.choice(case.messages)) for _ in range(8))]
    rng.shuffle(values)
    together = verdicts(case, values)
    counts["messages"] += len(values)
    counts["rows"] += sum(verdict[0] == "row" for verdict in together)
    for value, verdict in zip(values, together, strict=True):
        assert verdicts(case, [value]) == [verdict], f"alone and among others differ: {value!r}"


def verdicts(case: Case, values: Sequence[bytes]) -> list[tuple[str, str]]:
    """Of each message: its row, or the reason why it is a dead letter."""
    decoded = decode_messages(
        case.source, MessageBatch(list(values)), keys=["user_id"], clock=NOW, schemas=case.schemas, bounds=BOUNDS
    )  # fmt: skip
    decoded.rows.validate(full=True)
    found: dict[int, tuple[str, str]] = {}
    for index, row in zip(decoded.index.tolist(), decoded.rows.to_pylist(), strict=True):
        found[index] = "row", repr(row)
    for dead_letter in decoded.dead_letters:
        assert dead_letter.index not in found, "both a row and a dead letter"
        assert dead_letter.reason and "\0" not in dead_letter.reason
        dead_letter.reason.encode()
        found[dead_letter.index] = "letter", dead_letter.reason
    assert sorted(found) == list(range(len(values))), "a message is neither"
    return [found[i] for i in range(len(values))]


def fuzz(name: str, seeds: Sequence[int] | Callable[[], int | None]) -> Counter[str]:
    """Check a case of each seed; where one fails, its error names the seed."""
    counts: Counter[str] = Counter()
    taken = iter(seeds) if isinstance(seeds, Sequence) else iter(seeds, None)
    for seed in taken:
        rng = random.Random(f"{name} {seed}")
        try:
            check_case(FORMATS[name](rng), rng, counts)
        except BaseException as error:
            error.add_note(f"fuzz({name!r}, [{seed}])")
            raise
        counts["cases"] += 1
    return counts
