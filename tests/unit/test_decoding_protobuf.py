"""Protobuf messages become typed rows in bulk; presence, enums and nested messages keep their meaning."""

from datetime import UTC, datetime

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2

from asof.decoding import MessageBatch, WriterSchema, decode_messages
from asof.decoding.protobuf import message_types
from asof.definitions import Field, LogSource, ProtoFormat
from asof.definitions.formats import message_format_of
from asof.errors import DefinitionError
from asof.timing import micros
from asof.types import Array, Bytes, Float64, Int64, Json, String, Timestamp

NOW = micros("2026-11-23T12:00:00Z")
Proto = descriptor_pb2.FieldDescriptorProto

TEXT = """
syntax = "proto3";
package shop;  // message NotOne {
import "google/protobuf/timestamp.proto";
/* message NorThis { } */
message Other { string message = 1 [(note) = "message Fake {"]; }
message Click {
  enum Kind { VIEW = 0; BUY = 1; }
  message Place { string city = 1; message Deep { } }
  oneof either { string a = 1; string b = 2; }
}
"""


def descriptor_set():
    """What `protoc --include_imports` writes for the type that these tests use."""
    file = descriptor_pb2.FileDescriptorProto(
        name="shop.proto", package="shop", syntax="proto3",
        dependency=["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"],
    )  # fmt: skip
    click = file.message_type.add(name="Click")
    kind = click.enum_type.add(name="Kind")
    kind.value.add(name="VIEW", number=0)
    kind.value.add(name="BUY", number=1)
    place = click.nested_type.add(name="Place")
    place.field.add(name="city", number=1, type=Proto.TYPE_STRING, label=Proto.LABEL_OPTIONAL)
    entry = click.nested_type.add(name="PairsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=Proto.TYPE_STRING, label=Proto.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=Proto.TYPE_INT64, label=Proto.LABEL_OPTIONAL)
    for number, (name, kind_of, more) in enumerate(
        [
            ("user_id", Proto.TYPE_INT64, {}),
            ("page", Proto.TYPE_STRING, {"proto3_optional": True}),
            ("ts", Proto.TYPE_MESSAGE, {"type_name": ".google.protobuf.Timestamp"}),
            ("kind", Proto.TYPE_ENUM, {"type_name": ".shop.Click.Kind"}),
            ("amount", Proto.TYPE_MESSAGE, {"type_name": ".google.protobuf.DoubleValue"}),
            ("place", Proto.TYPE_MESSAGE, {"type_name": ".shop.Click.Place"}),
            ("items", Proto.TYPE_INT64, {"label": Proto.LABEL_REPEATED}),
            ("pairs", Proto.TYPE_MESSAGE, {"label": Proto.LABEL_REPEATED, "type_name": ".shop.Click.PairsEntry"}),
            ("great", Proto.TYPE_UINT64, {}),
            ("raw", Proto.TYPE_BYTES, {}),
        ],
        start=1,
    ):
        field = click.field.add(name=name, number=number, type=kind_of, label=Proto.LABEL_OPTIONAL)
        for key, value in more.items():
            setattr(field, key, value)
        if more.get("proto3_optional"):
            field.oneof_index = len(click.oneof_decl)
            click.oneof_decl.add(name=f"_{name}")
    files = descriptor_pb2.FileDescriptorSet()
    for each in (timestamp_pb2, wrappers_pb2):
        each.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.append(file)
    return files.SerializeToString()


def click_class():
    pool = descriptor_pool.DescriptorPool()
    for each in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set()).file:
        pool.Add(each)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Click"))


Click = click_class()
FIELDS = [Field("user_id", Int64), Field("page", String), Field("ts", Timestamp)]


def source_of(fields=FIELDS, **options):
    made = ProtoFormat(descriptor_set=descriptor_set(), message_type="shop.Click", **options)
    return LogSource("clicks", schema=fields, timestamp_field="ts", message_format=made)


def click(**values):
    message = Click(**{"user_id": 7, **values})
    message.ts.FromMicroseconds(NOW)
    return message.SerializeToString()


def decode(source, messages, schemas=None):
    return decode_messages(source, MessageBatch(messages), keys=["user_id"], clock=NOW, schemas=schemas)


def reasons(decoded):
    return {dead_letter.index: dead_letter.reason for dead_letter in decoded.dead_letters}


def test_good_messages_become_rows_and_an_absent_optional_field_is_null():
    decoded = decode(source_of(), [click(page="home"), click(user_id=8), click(page="")])

    assert decoded.rows.select(["user_id", "page"]).to_pylist() == [
        {"user_id": 7, "page": "home"}, {"user_id": 8, "page": None}, {"user_id": 7, "page": ""},
    ]  # fmt: skip
    assert decoded.event_time.tolist() == [NOW] * 3


def test_every_type_keeps_its_value():
    fields = [
        Field("user_id", Int64), Field("kind", String), Field("amount", Float64), Field("place", Json),
        Field("items", Array(Int64)), Field("pairs", Json), Field("great", Int64), Field("raw", Bytes),
        Field("missing", String), Field("ts", Timestamp),
    ]  # fmt: skip
    full = Click(user_id=7, kind=1, items=[1, 2], great=5, raw=b"\x00\xff", pairs={"a": 1})
    full.amount.value = 0.5
    full.place.city = "Ghent"
    full.ts.FromMicroseconds(NOW)

    decoded = decode(source_of(fields), [full.SerializeToString(), click()])

    first, second = decoded.rows.to_pylist()
    assert first == {
        "user_id": 7, "kind": "BUY", "amount": 0.5, "place": '{"city":"Ghent"}', "items": [1, 2],
        "pairs": '{"a":"1"}', "great": 5, "raw": b"\x00\xff", "missing": None,
        "ts": datetime(2026, 11, 23, 12, tzinfo=UTC),
    }  # fmt: skip
    assert (second["kind"], second["amount"], second["place"], second["items"]) == ("VIEW", None, None, [])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"\xff\xff\xff", "not a shop.Click"),
        (b'{"user_id": 7}', "not a shop.Click"),
        (click(page="home")[:-1], "not a shop.Click"),
        (b"", "has no field of shop.Click"),
        (b"\xa2\x06\x03abc", "has no field of shop.Click"),
        (Click(user_id=7).SerializeToString(), "event time 'ts' is null"),
        (click(great=2**63), "column 'great': 9223372036854775808 is outside Int64"),
    ],
)
def test_a_message_that_does_not_fit_is_a_letter_and_the_others_go_on(bad, reason):
    decoded = decode(source_of([*FIELDS, Field("great", Int64)]), [click(), bad, click()])

    assert decoded.index.tolist() == [0, 2]
    assert reason in reasons(decoded)[1]


def test_undeclared_fields_are_counted_where_they_are_set():
    decoded = decode(source_of(), [click(raw=b"1"), click(items=[1]), click(raw=b"2")])

    assert dict(decoded.undeclared) == {"raw": 2, "items": 1}


def test_a_class_is_found_by_its_path():
    source = LogSource(
        "spans", schema=[Field("seconds", Int64), Field("nanos", Int64)], timestamp_field="seconds",
        timestamp_unit="s", message_format=ProtoFormat("google.protobuf.duration_pb2.Duration"),
    )  # fmt: skip

    decoded = decode_messages(source, MessageBatch([b"\x08\x05\x10\x07"]), keys=["nanos"], clock=NOW)

    assert decoded.rows.to_pylist() == [{"seconds": 5, "nanos": 7}]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (ProtoFormat("nowhere.at_all_pb2.Message"), "'nowhere.at_all_pb2.Message' cannot be imported"),
        (ProtoFormat("asof.timing.iso"), "is not a generated message class"),
        (ProtoFormat(descriptor_set=descriptor_set(), message_type="shop.Clack"), "'shop.Clack' is not in its"),
    ],
)
def test_a_type_that_is_not_there_is_refused_by_name(made, message):
    source = LogSource("clicks", schema=FIELDS, timestamp_field="ts", message_format=made)

    with pytest.raises(DefinitionError, match=message):
        decode(source, [b""])


@pytest.mark.parametrize("options", [{}, {"class_path": "a.B", "descriptor_set": b"x"}, {"descriptor_set": b"x"}])
def test_a_format_that_says_too_little_is_refused(options):
    with pytest.raises(DefinitionError, match="ProtoFormat"):
        ProtoFormat(**options)


def test_a_format_comes_back_from_its_content():
    made = ProtoFormat(descriptor_set=descriptor_set(), message_type="shop.Click", registry=True)

    assert message_format_of(made.content()) == made


def test_the_types_of_a_proto_file_are_found_by_their_indexes():
    assert message_types(TEXT) == {
        (0,): "shop.Other", (1,): "shop.Click", (1, 0): "shop.Click.Place", (1, 0, 0): "shop.Click.Place.Deep",
    }  # fmt: skip


def test_framed_messages_name_their_type():
    schemas = {1: WriterSchema("PROTOBUF", TEXT), 2: WriterSchema("PROTOBUF", "package shop; message Click { }")}
    frame = b"\0\0\0\0"
    messages = [
        frame + b"\x01" + b"\x02\x02" + click(page="second of its file"),
        frame + b"\x02" + b"\x00" + click(page="alone in its file"),
        frame + b"\x01" + b"\x00" + click(),
        frame + b"\x01" + b"\x02\x0a" + click(),
        frame + b"\x01",
        frame + b"\x07" + b"\x00" + click(),
        click(),
    ]

    decoded = decode(source_of(registry=True), messages, schemas.get)

    assert decoded.index.tolist() == [0, 1]
    assert decoded.rows["page"].to_pylist() == ["second of its file", "alone in its file"]
    assert list(reasons(decoded).values()) == [
        "is a shop.Other, not shop.Click", "is a message [5] of schema 1, not shop.Click",
        "has no message indexes behind its schema id",
        "names schema 7, which the schema registry does not have",
        "has no schema registry frame (a zero byte and a schema id)",
    ]  # fmt: skip
