"""Forgetting a key whose messages are Avro or Protobuf, or made by a transform: gone, or named as left."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from asof import AvroFormat, Entity, FeatureStore, FeatureView, Field, LogSource, ProtoFormat
from asof.types import Int32, Int64

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = int(NOON.timestamp() * 1_000_000)
USER = Entity("user", join_keys=["user_id"])
FIELDS = ("user_id", "n", "at")


def avro() -> tuple[AvroFormat, Callable[..., bytes]]:
    fields = ", ".join(f'{{"name": "{name}", "type": "long"}}' for name in FIELDS)
    schema = f'{{"type": "record", "name": "Row", "fields": [{fields}]}}'
    parsed = parse_schema({"type": "record", "name": "Row", "fields": [{"name": n, "type": "long"} for n in FIELDS]})

    def encode(**values: int) -> bytes:
        stream = io.BytesIO()
        schemaless_writer(stream, parsed, values)
        return stream.getvalue()

    return AvroFormat(schema_json=schema), encode


def protobuf() -> tuple[ProtoFormat, Callable[..., bytes]]:
    file = descriptor_pb2.FileDescriptorProto(name="row.proto", package="test", syntax="proto3")
    row = file.message_type.add(name="Row")
    for number, name in enumerate(FIELDS, 1):
        row.field.add(
            name=name, number=number, type=descriptor_pb2.FieldDescriptorProto.TYPE_INT64,
            label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    kind: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Row"))
    descriptors = descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()
    return ProtoFormat(descriptor_set=descriptors, message_type="test.Row"), lambda **v: kind(**v).SerializeToString()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    with FeatureStore(tmp_path, clock=lambda: NOON) as store:
        yield store


@pytest.mark.parametrize("kind", [avro, protobuf])
def test_messages_of_a_forgotten_key_go_whatever_their_format(
    kind: Callable[[], tuple[Any, Callable[..., bytes]]], store: FeatureStore, tmp_path: Path
) -> None:
    message_format, encode = kind()
    schema = [Field("user_id", Int64), Field("n", Int32), Field("at", Int64)]
    source = LogSource("rows", schema=schema, timestamp_field="at", timestamp_unit="us", message_format=message_format)
    store.apply([FeatureView("latest", entities=[USER], source=source, schema=[Field("n", Int32)])])
    marked = 7_123_456_789_012
    good = [encode(user_id=user, n=1, at=AT) for user in (marked, 8, marked)]
    # Dead letters: the number does not fit Int32.
    bad = [encode(user_id=user, n=2**40, at=AT) for user in (marked, 8)]
    store.send("rows", [*good, *bad, b"\xff"])
    store.stream_run(until_caught_up=True)

    done = store.forget("user", marked)

    assert sum(done.log.values()) == 3 and done.archive == {"rows": 2}
    assert done.dead_letters == {"rows": 1}
    assert len(done.undecided_dead_letters) == 1  # what cannot be read may be about anyone
    key = encode(user_id=marked, n=1, at=AT)[:7]
    files = [path for path in tmp_path.rglob("*") if path.is_file() and "log" in path.parts]
    assert files and not any(key in path.read_bytes() for path in files)
    assert store.get_online_features(["latest:n"], [{"user_id": marked}, {"user_id": 8}]).to_dict()["n"] == [None, 1]


def test_messages_whose_key_a_transform_makes_are_named_as_left(store: FeatureStore) -> None:
    source = LogSource(
        "rows", message_schema=[Field("raw", Int64), Field("seen", Int64)], timestamp_field="seen", timestamp_unit="us",
        schema=[Field("user_id", Int64), Field("n", Int64), Field("seen", Int64)],
        transform="SELECT raw + 1 AS user_id, raw AS n, seen FROM message",
    )  # fmt: skip
    store.apply([FeatureView("latest", entities=[USER], source=source, schema=[Field("n", Int64)])])
    store.send("rows", [b'{"raw": 7, "seen": %d}' % AT])
    store.stream_run(until_caught_up=True)

    notes = store.forget("user", 8).notes

    assert any("its transform makes column 'user_id'" in each for each in notes)
