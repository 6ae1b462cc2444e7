"""One message in a hundred is bad, in ten ways, in each format: the others are served, and mended ones come in later."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asof.decoding import WriterSchema
from asof.definitions import (
    Aggregation,
    AvroFormat,
    Entity,
    FeatureView,
    Field,
    JsonFormat,
    LogSource,
    MessageFormat,
    ProtoFormat,
    project_of,
)
from asof.flows.apply import apply_plan, make_plan
from asof.flows.historical import view_as_of
from asof.flows.letters import list_letters, replay_letters
from asof.flows.parts import Parts
from asof.flows.stream import run_stream
from asof.selection import select
from asof.testing.streams import Clock
from asof.timing import HOUR, MINUTE, iso, micros
from asof.types import Int32, Int64, Timestamp
from tests.parts import close, embedded_parts, read_online
from tests.unit.test_decoding_avro import framed, written
from tests.unit.test_decoding_protobuf import Click, descriptor_set

NOW = micros("2026-11-23T12:00:00Z")
USER = Entity("user", ["user_id"])
GOOD, BAD_OF_EACH, USERS = 1980, 2, 50
FAR = 10**15
"""A time in milliseconds beyond the year 9999."""


@dataclass(frozen=True)
class Kind:
    """A format, how a good message of it looks, and ten that are bad: (what to send, part of the reason).

    The last of them has a `great` that does not fit Int32; without that column it is good.
    """

    format: MessageFormat
    message: Callable[..., bytes]
    bad: tuple[tuple[bytes | None, str], ...]


def json_message(user: Any, at: Any, great: Any = 1, **more: Any) -> bytes:
    return json.dumps({"user_id": user, "ts": at, "great": great, **more}).encode()


TIME = "2026-11-23T11:00:00Z"
JSON = Kind(
    JsonFormat(),
    lambda user, at: json_message(user, iso(at)),
    (
        (b"\xff\xfegarbage", "not a JSON object"),
        (json_message(1, TIME)[:-3], "not a JSON object: Input data was truncated"),
        (b"[1, 2]", "not a JSON object: Expected `object`, got `array`"),
        (json_message("seven", TIME), "column 'user_id': 'seven' is not Int64"),
        (json_message(1.5, TIME), "column 'user_id': 1.5 is not a whole number"),
        (json_message(None, TIME), "key 'user_id' is null"),
        (json_message(1, None), "event time 'ts' is null"),
        (json_message(1, "soon"), "column 'ts': 'soon' is not an ISO 8601 time"),
        (None, "the message is empty (a tombstone)"),
        (json_message(1, TIME, 2**40), "column 'great': 1099511627776 is outside Int32"),
    ),
)


AVRO_SCHEMA = {
    "type": "record", "name": "Click", "fields": [
        {"name": "user_id", "type": ["null", "long"]},
        {"name": "ts", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
        {"name": "great", "type": "long"},
    ],
}  # fmt: skip
OTHER_SCHEMA = {**AVRO_SCHEMA, "fields": [*AVRO_SCHEMA["fields"][1:], {"name": "user_id", "type": "string"}]}


def avro_message(user: int | None, at: int | None, great: int = 1) -> bytes:
    record = {"user_id": user, "ts": None if at is None else at // 1000, "great": great}
    return framed(1, written(AVRO_SCHEMA, record))[0]


AVRO = Kind(
    AvroFormat(registry=True),
    avro_message,
    (
        (b"{}", "has no schema registry frame"),
        (framed(9, [b"abc"])[0], "names schema 9, which the schema registry does not have"),
        (avro_message(1, NOW)[:-1], "not an Avro record of its schema"),
        (avro_message(1, NOW) + b"\1", "longer than the schema says"),
        (framed(2, written(OTHER_SCHEMA, {"user_id": "seven", "ts": NOW // 1000, "great": 1}))[0],
         "column 'user_id': 'seven' is not Int64"),
        (avro_message(None, NOW), "key 'user_id' is null"),
        (avro_message(1, None), "event time 'ts' is null"),
        (avro_message(1, FAR * 1000), "is beyond the calendar"),
        (None, "the message is empty (a tombstone)"),
        (avro_message(1, NOW - HOUR, 2**40), "column 'great': 1099511627776"),
    ),
)  # fmt: skip


def proto_message(user: int | None, at: int | None, great: int = 1, **more: Any) -> bytes:
    message = Click(great=great, **more)
    if user is not None:
        message.amount.value = user
    if at is not None:
        message.ts.FromMicroseconds(at)
    return message.SerializeToString()


PROTO = Kind(
    ProtoFormat(descriptor_set=descriptor_set(), message_type="shop.Click"),
    proto_message,
    (
        (b"\xff\xff\xff", "not a shop.Click"),
        (b'{"user_id": 7}', "not a shop.Click"),
        (proto_message(1, NOW)[:-1], "not a shop.Click"),
        (b"", "has no field of shop.Click"),
        (b"\xa2\x06\x03abc", "has no field of shop.Click"),
        (proto_message(None, NOW), "key 'amount' is null"),
        (proto_message(1, None), "event time 'ts' is null"),
        (proto_message(1, NOW + HOUR), "is 1h after the clock"),
        (None, "the message is empty (a tombstone)"),
        (proto_message(1, NOW - HOUR, 2**40), "column 'great': 1099511627776"),
    ),
)
KINDS = {"json": JSON, "avro": AVRO, "protobuf": PROTO}


@dataclass(frozen=True)
class WithSchemas(Parts):
    """Parts with the schemas that these messages name."""

    def schemas_of(self, source: LogSource) -> Any:
        known = {1: WriterSchema("AVRO", json.dumps(AVRO_SCHEMA)), 2: WriterSchema("AVRO", json.dumps(OTHER_SCHEMA))}
        return known.get


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = embedded_parts(tmp_path, clock=Clock(NOW))
    yield WithSchemas(**{name: getattr(parts, name) for name in parts.__dataclass_fields__})
    close(parts)


def apply(parts: Parts, kind: Kind, *more: Field) -> None:
    # Protobuf's field for the user is a wrapper, so that it can be missing.
    user = "amount" if isinstance(kind.format, ProtoFormat) else "user_id"
    source = LogSource(
        "clicks", schema=[Field(user, Int64), Field("ts", Timestamp), *more], timestamp_field="ts",
        message_format=kind.format, field_mapping={} if user == "user_id" else {user: "user_id"},
    )  # fmt: skip
    counts = FeatureView("counts", entities=[USER], source=source, aggregations=[Aggregation("", "count", name="ever")])
    apply_plan(parts, make_plan(parts, project_of([USER, source, counts])))


@pytest.mark.parametrize("name", KINDS)
def test_all_others_are_served_and_each_bad_one_is_kept_with_its_reason(parts: Parts, name: str) -> None:
    kind, rng = KINDS[name], random.Random(3)
    users = [rng.randint(1, USERS) for _ in range(GOOD)]
    messages = [(kind.message(user, NOW - rng.randrange(30) * MINUTE), "") for user in users]
    messages += [each for each in kind.bad for _ in range(BAD_OF_EACH)]
    rng.shuffle(messages)
    apply(parts, kind, Field("great", Int32))
    parts.log.send("clicks", [value for value, _ in messages], partition=0, durable=False)

    counts = run_stream(parts, until_caught_up=True)

    assert counts["events"] == len(messages) and counts["dead letters"] == BAD_OF_EACH * 10
    letters = list_letters(parts, "clicks").to_pylist()
    reasons = {letter["offset"]: letter["reason"] for letter in letters}
    expected = {offset: reason for offset, (_, reason) in enumerate(messages) if reason}
    assert reasons.keys() == expected.keys()
    assert all(reason in reasons[offset] for offset, reason in expected.items()), reasons
    keys = {"user_id": list(range(1, USERS + 1))}
    assert read_online(parts, "counts", keys)["ever"] == [Counter(users)[user] for user in keys["user_id"]]

    # The schema is mended, by leaving the column out: those of one kind fit now, and count at their own time.
    before = _ever(parts, NOW - HOUR - 1), _ever(parts, NOW - HOUR)
    apply(parts, kind)
    replayed = replay_letters(parts, "clicks")
    run_stream(parts, until_caught_up=True)

    assert replayed["sent"] == BAD_OF_EACH and len(replayed["still_unfit"]) == BAD_OF_EACH * 9
    assert read_online(parts, "counts", keys)["ever"][0] == Counter(users)[1] + BAD_OF_EACH
    assert (_ever(parts, NOW - HOUR - 1), _ever(parts, NOW - HOUR)) == (before[0], before[1] + BAD_OF_EACH)
    assert replay_letters(parts, "clicks")["sent"] == 0


def _ever(parts: Parts, at: int) -> int:
    """How many clicks of user 1 history has up to a moment."""
    snapshot = parts.registry.load(parts.project)
    (read,) = select(snapshot, "counts").reads
    return view_as_of(parts, snapshot, read, {"user_id": [1]}, at)[read.features[0].output][0]
