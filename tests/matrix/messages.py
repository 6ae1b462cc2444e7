"""What comes in messages, as JSON, Avro and Protobuf have it, and what has to come out of each declared type."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from typing import Any

from fastavro import parse_schema, schemaless_writer
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from asof import AvroFormat, JsonFormat, ProtoFormat
from asof.definitions.formats import MessageFormat
from asof.dtypes import DType
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
from tests.matrix.cases import GREATEST, LEAST, NOON, REFUSED

NAN, INF = math.nan, math.inf
HALF_UP = 0.10000000149011612
"""The Float32 nearest to 0.1."""


@dataclass(frozen=True)
class MessageCase:
    """One value in a message.

    Args:
        kind: the type of its field, as the format's schema has it; empty in JSON.
        given: the value: JSON text, or as the format's library takes it.
        expected: what comes out, or `REFUSED`.
    """

    name: str
    dtype: DType
    kind: Any
    given: Any
    expected: Any


def _named(prefix: str, rows: Sequence[tuple[DType, Any, Any, Any]]) -> dict[str, MessageCase]:
    cases = {}
    for dtype, kind, given, expected in rows:
        of = json.dumps(kind) if isinstance(kind, dict | list) else kind
        name = f"{prefix}{of and ' '}{of} {given!r:.60} as {dtype}"
        assert name not in cases, name
        cases[name] = MessageCase(name, dtype, kind, given, expected)
    return cases


MICRO = datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=UTC)
_JSON: list[tuple[DType, str, Any]] = [
    (Bool, "true", True), (Bool, "null", None), (Bool, '"true"', REFUSED), (Bool, "1", REFUSED),
    (Int32, "-2147483648", -(2**31)), (Int32, "2147483648", REFUSED),
    (Int64, "9007199254740993", 2**53 + 1), (Int64, "-9223372036854775808", -(2**63)), (Int64, "9223372036854775808", REFUSED),
    (Int64, "3.7", REFUSED), (Int64, '"12"', REFUSED), (Int64, "true", REFUSED), (Int64, "7.0", 7), (Int64, "1e2", 100),
    (Int64, "9007199254740994.0", REFUSED), (Int64, "1e400", REFUSED), (Int64, "[1]", REFUSED),
    (Float32, "0.1", HALF_UP), (Float32, "16777217", REFUSED), (Float32, "16777216", 2.0**24), (Float32, "1e39", REFUSED),
    (Float32, '"NaN"', NAN), (Float64, "0.1", 0.1), (Float64, "1", 1.0), (Float64, "-0.0", -0.0), (Float64, "5e-324", 5e-324),
    (Float64, "9007199254740993", REFUSED), (Float64, "1152921504606846977", REFUSED), (Float64, "1e400", REFUSED),
    (Float64, '"-Infinity"', -INF), (Float64, '"1.5"', REFUSED), (Float64, "NaN", REFUSED), (Float64, "true", REFUSED),
    (Decimal(10, 2), '"1.50"', Number("1.50")), (Decimal(10, 2), "1.5", REFUSED), (Decimal(10, 2), "1.505", REFUSED),
    (Decimal(10, 2), '"1.505"', REFUSED), (Decimal(10, 2), '"NaN"', REFUSED), (Decimal(10, 2), "123456789", REFUSED),
    (Decimal(38, 0), "9" * 38, Number("9" * 38)), (Decimal(38, 0), f'"{"9" * 38}"', Number("9" * 38)),
    (Decimal(38, 2), f'"{"9" * 36}.99"', Number("9" * 36 + ".99")), (Decimal(10, 2), "true", REFUSED),
    (String, '"Zoë \\ud83d\\ude42"', "Zoë 🙂"), (String, '""', ""), (String, "12", REFUSED), (String, '"01234"', "01234"),
    (String, "true", REFUSED), (Bytes, '"AP8="', b"\x00\xff"), (Bytes, '""', b""), (Bytes, '"no base64!"', REFUSED),
    (Bytes, "5", REFUSED), (Date, '"0001-01-01"', date(1, 1, 1)), (Date, '"9999-12-31"', date(9999, 12, 31)),
    (Date, '"10000-01-01"', REFUSED), (Date, '"31/12/2026"', REFUSED), (Date, "5", REFUSED),
    (Date, '"2026-01-01T12:00:00Z"', REFUSED), (Timestamp, '"2026-01-01T12:00:00.000001Z"', MICRO),
    (Timestamp, '"2026-01-01T14:00:00+02:00"', NOON), (Timestamp, '"2026-01-01T12:00:00"', NOON),
    (Timestamp, '"2026-01-01T12:00:00.000001999Z"', MICRO), (Timestamp, '"0001-01-01T00:00:00Z"', LEAST),
    (Timestamp, '"9999-12-31T23:59:59.999999Z"', GREATEST), (Timestamp, '"10000-01-01T00:00:00Z"', REFUSED),
    (Timestamp, '"0000-12-31T00:00:00Z"', REFUSED), (Timestamp, '"noon"', REFUSED), (Timestamp, "true", REFUSED),
    (Json, '{"a":[1,null]}', '{"a":[1,null]}'), (Json, "[1]", "[1]"), (Json, "null", None), (Json, '{"a":NaN}', REFUSED),
    (Array(Int64), "[9007199254740993,null,-9223372036854775808]", [2**53 + 1, None, -(2**63)]), (Array(Int64), "[]", []),
    (Array(Int64), "[1.5]", REFUSED), (Array(Int64), "[[1]]", REFUSED), (Array(Int64), "5", REFUSED), (Array(Int64), "null", None),
    (Array(Float64), '["NaN",null,0.1,"-Infinity"]', [NAN, None, 0.1, -INF]), (Array(Float64), "[9007199254740993]", REFUSED),
    (Array(String), '["a",null,""]', ["a", None, ""]), (Array(String), "[1]", REFUSED), (Array(Bool), "[true,null]", [True, None]),
    (Array(Decimal(38, 2)), f'["{"9" * 36}.99",null]', [Number("9" * 36 + ".99"), None]), (Array(Decimal(38, 2)), '["1.505"]', REFUSED),
    (Array(Bytes), '["/w==",null]', [b"\xff", None]), (Array(Date), '["2026-01-01",null]', [date(2026, 1, 1), None]),
    (Array(Timestamp), '["2026-01-01T12:00:00.000001Z",null]', [MICRO, None]), (Array(Timestamp), '["10000-01-01T00:00:00Z"]', REFUSED),
    (Array(Array(Int32)), "[[1],null,[]]", [[1], None, []]), (Array(Array(Int32)), "[1]", REFUSED),
    (Embedding(2), "[0.1,1]", [HALF_UP, 1.0]), (Embedding(2), '["NaN",-0.0]', [NAN, -0.0]), (Embedding(2), "[1]", REFUSED),
    (Embedding(2), "[1,null]", REFUSED), (Embedding(2), "[1,1e39]", REFUSED), (Embedding(2), "null", None),
]  # fmt: skip
JSON_CASES = _named("json", [(dtype, "", given, expected) for dtype, given, expected in _JSON])


def _logical(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": name, **more}


_AMOUNT = _logical("bytes", "decimal", precision=10, scale=2)
AVRO_CASES = _named("avro", [
    (Bool, "boolean", True, True), (Bool, "boolean", None, None), (Int32, "int", -(2**31), -(2**31)), (Int64, "int", 7, 7),
    (Int64, "long", 2**53 + 1, 2**53 + 1), (Int64, "long", -(2**63), -(2**63)), (Int32, "long", 5, 5), (Int32, "long", 2**31, REFUSED),
    (Float32, "float", 0.5, 0.5), (Float64, "float", 0.5, 0.5), (Float64, "double", 0.1, 0.1), (Float64, "double", NAN, NAN),
    (Float64, "double", -INF, -INF), (Float64, "double", -0.0, -0.0), (Float32, "double", 0.1, HALF_UP), (Float32, "double", 1e39, REFUSED),
    (Float64, "long", 2**53, 2.0**53), (Float64, "long", 2**53 + 1, REFUSED), (Int64, "double", 7.0, 7), (Int64, "double", 3.7, REFUSED),
    (Int64, "double", 2.0**53 + 2, REFUSED), (Int64, "double", INF, REFUSED), (Int64, "float", 2.0**24 + 2, REFUSED),
    (Decimal(10, 2), _AMOUNT, Number("-1.50"), Number("-1.50")), (Decimal(10, 2), _AMOUNT, None, None),
    (Decimal(38, 2), _AMOUNT, Number("1.50"), Number("1.50")), (Decimal(4, 2), _AMOUNT, Number("123.45"), REFUSED),
    (Decimal(38, 0), _logical("bytes", "decimal", precision=38, scale=0), Number("9" * 38), Number("9" * 38)),
    (Float64, _AMOUNT, Number("0.10"), 0.1), (String, "string", "Zoë 🙂", "Zoë 🙂"), (String, "string", "", ""), (String, "long", 12, REFUSED),
    (String, {"type": "enum", "name": "Kind", "symbols": ["VIEW", "BUY"]}, "BUY", "BUY"),
    (String, _logical("string", "uuid"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    (Bytes, "bytes", b"\x00\xff", b"\x00\xff"), (Bytes, {"type": "fixed", "name": "Four", "size": 4}, b"\x00abc", b"\x00abc"),
    (Date, _logical("int", "date"), date(1, 1, 1), date(1, 1, 1)), (Date, _logical("int", "date"), date(9999, 12, 31), date(9999, 12, 31)),
    (Timestamp, _logical("long", "timestamp-micros"), MICRO, MICRO), (Timestamp, _logical("long", "timestamp-millis"), NOON, NOON),
    (Timestamp, _logical("long", "timestamp-micros"), LEAST, LEAST), (Timestamp, _logical("long", "timestamp-micros"), GREATEST, GREATEST),
    (Int64, _logical("int", "time-millis"), 5, 5), (Json, {"type": "map", "values": "long"}, {"a": 2**53 + 1}, '{"a":9007199254740993}'),
    (Json, {"type": "record", "name": "Place", "fields": [{"name": "city", "type": ["null", "string"]}]}, {"city": None}, '{"city":null}'),
    (Json, "string", '{"a":1}', '{"a":1}'), (Json, "string", "{bad", REFUSED),
    (Array(Int64), {"type": "array", "items": ["null", "long"]}, [2**53 + 1, None], [2**53 + 1, None]),
    (Array(String), {"type": "array", "items": "string"}, [], []), (Array(Int64), {"type": "array", "items": "double"}, [1.5], REFUSED),
    (Array(Float64), {"type": "array", "items": ["null", "double"]}, [NAN, None, INF], [NAN, None, INF]),
    (Array(Decimal(10, 2)), {"type": "array", "items": _AMOUNT}, [Number("1.50")], [Number("1.50")]),
    (Array(Bytes), {"type": "array", "items": "bytes"}, [b"\xff"], [b"\xff"]),
    (Array(Timestamp), {"type": "array", "items": _logical("long", "timestamp-micros")}, [MICRO], [MICRO]),
    (Array(Array(Int32)), {"type": "array", "items": {"type": "array", "items": "int"}}, [[1], []], [[1], []]),
    (Embedding(2), {"type": "array", "items": "float"}, [0.5, NAN], [0.5, NAN]), (Embedding(2), {"type": "array", "items": "float"}, [0.5], REFUSED),
    (Embedding(2), {"type": "array", "items": "double"}, [0.1, 1.0], [HALF_UP, 1.0]),
    (Int64, "string", "12", REFUSED), (Timestamp, "string", "noon", REFUSED), (Bool, "int", 1, REFUSED),
])  # fmt: skip

_T = descriptor_pb2.FieldDescriptorProto
PROTO_CASES = _named("protobuf", [
    (Bool, "bool", True, True), (Bool, "bool", None, None), (Int32, "int32", -(2**31), -(2**31)), (Int64, "int64", 2**53 + 1, 2**53 + 1),
    (Int64, "sint64", -(2**63), -(2**63)), (Int64, "uint64", 2**63 - 1, 2**63 - 1), (Int64, "uint64", 2**63, REFUSED),
    (Int64, "fixed64", 7, 7), (Int32, "int64", 2**31, REFUSED), (Float32, "float", 0.5, 0.5), (Float64, "double", 0.1, 0.1),
    (Float64, "double", NAN, NAN), (Float64, "double", -INF, -INF), (Float64, "double", -0.0, -0.0), (Float32, "double", 1e39, REFUSED),
    (Float64, "int64", 2**53 + 1, REFUSED), (Int64, "double", 7.0, 7), (Int64, "double", 3.7, REFUSED), (String, "string", "Zoë 🙂", "Zoë 🙂"),
    (String, "string", "", ""), (String, "int64", 12, REFUSED), (Bytes, "bytes", b"\x00\xff", b"\x00\xff"), (Bytes, "bytes", b"", b""),
    (Json, "string", '{"a":1}', '{"a":1}'), (Json, "string", "{bad", REFUSED), (Array(Int64), "repeated int64", [2**53 + 1], [2**53 + 1]),
    (Array(Float64), "repeated double", [NAN, 0.1], [NAN, 0.1]), (Array(String), "repeated string", ["a", ""], ["a", ""]),
    (Array(Bytes), "repeated bytes", [b"\xff"], [b"\xff"]), (Array(Int64), "repeated double", [1.5], REFUSED),
    (Embedding(2), "repeated float", [0.5, NAN], [0.5, NAN]), (Embedding(2), "repeated float", [0.5], REFUSED),
    (Int64, "string", "12", REFUSED), (Bool, "int32", 1, REFUSED), (Timestamp, "string", "noon", REFUSED),
])  # fmt: skip


@dataclass
class Written:
    """Messages, one per case, that set no field but `user`, `at` and the case's own, and their format.

    Args:
        values: in the order of the cases; `user` is the place, from 1 on.
    """

    message_format: MessageFormat
    values: list[bytes]


def columns_of(cases: dict[str, MessageCase]) -> dict[str, str]:
    """Case → its column."""
    return {name: f"c{place}" for place, name in enumerate(cases)}


def json_messages(cases: dict[str, MessageCase]) -> Written:
    at = NOON.isoformat()
    return Written(JsonFormat(), [
        f'{{"user": {place}, "at": "{at}", "{column}": {cases[name].given}}}'.encode()
        for place, (name, column) in enumerate(columns_of(cases).items(), 1)
    ])  # fmt: skip


def avro_messages(cases: dict[str, MessageCase]) -> Written:
    columns = columns_of(cases)
    fields: list[dict[str, Any]] = [
        {"name": "user", "type": "long"}, {"name": "at", "type": _logical("long", "timestamp-micros")},
        {"name": "always", "type": ["null", "string"], "default": None},
    ]  # fmt: skip
    for name, column in columns.items():
        kind = cases[name].kind
        if isinstance(kind, dict) and "name" in kind:
            kind = {**kind, "name": f"{kind['name']}_{column}"}
        fields.append({"name": column, "type": ["null", kind], "default": None})
    schema = {"type": "record", "name": "Row", "fields": fields}
    parsed = parse_schema(json.loads(json.dumps(schema)))
    values = []
    for place, (name, column) in enumerate(columns.items(), 1):
        stream = io.BytesIO()
        schemaless_writer(stream, parsed, {"user": place, "at": NOON, column: cases[name].given})
        values.append(stream.getvalue())
    return Written(AvroFormat(json.dumps(schema)), values)


def protobuf_messages(cases: dict[str, MessageCase]) -> Written:
    columns = columns_of(cases)
    file = descriptor_pb2.FileDescriptorProto(name="matrix.proto", package="matrix", syntax="proto3")
    row = file.message_type.add(name="Row")
    for number, (column, kind) in enumerate(
        [("user", "int64"), ("at", "int64"), *((column, cases[name].kind) for name, column in columns.items())], 1
    ):
        repeated, _, of = kind.rpartition(" ")
        field = row.field.add(name=column, number=number, type=getattr(_T, f"TYPE_{of.upper()}"))
        field.label = _T.LABEL_REPEATED if repeated else _T.LABEL_OPTIONAL
        if not repeated and column not in ("user", "at"):
            field.proto3_optional = True
            field.oneof_index = len(row.oneof_decl)
            row.oneof_decl.add(name=f"_{column}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind_of = message_factory.GetMessageClass(pool.FindMessageTypeByName("matrix.Row"))
    values = []
    for place, (name, column) in enumerate(columns.items(), 1):
        # What is repeated has no null: a row without an embedding is none, so every row has one.
        given = {columns[each]: [0.0, 0.0] for each, case in cases.items() if case.dtype.name == "Embedding"}
        if cases[name].given is not None:
            given[column] = cases[name].given
        values.append(kind_of(user=place, at=int(NOON.timestamp() * 1_000_000), **given).SerializeToString())
    descriptors = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    return Written(ProtoFormat(descriptor_set=descriptors, message_type="matrix.Row"), values)


FORMATS = {
    "json": (JSON_CASES, json_messages), "avro": (AVRO_CASES, avro_messages), "protobuf": (PROTO_CASES, protobuf_messages)
}  # fmt: skip
