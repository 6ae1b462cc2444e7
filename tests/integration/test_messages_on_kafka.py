"""Framed messages on a real broker with a real schema registry: evolved schemas, references, passwords, tombstones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from asof.connections.schema_registry import SchemaRegistry
from asof.errors import SourceError
from asof.store import FeatureStore, open_store_of
from asof.timing import iso, micros
from tests.unit.test_decoding_avro import framed, written

pytestmark = pytest.mark.integration

NOW = micros("2026-01-01T12:00:00+00:00")
OLD = {
    "type": "record", "name": "Profile", "namespace": "shop", "fields": [
        {"name": "city", "type": "string"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}  # fmt: skip
NEW = {**OLD, "fields": [*OLD["fields"], {"name": "plan", "type": ["null", "string"], "default": None}]}
FEATURES = """
from asof import AvroFormat, Entity, FeatureView, Field, KafkaSource
from asof.types import Int64, String, Timestamp

profiles = KafkaSource(
    "profiles", topic="{topic}", message_format=AvroFormat(registry=True), key_fields="user_id",
    header_fields={{"trace": "trace-id"}}, dead_letter_topic="{topic}.dead", timestamp_field="at",
    schema=[Field("user_id", Int64), Field("city", String), Field("plan", String), Field("trace", String),
            Field("at", Timestamp)],
)
profile = FeatureView("profile", entities=[Entity("user", join_keys=["user_id"])], source=profiles)
"""


def register(registry: Any, subject: str, schema: str, **more: Any) -> int:
    body = json.dumps({"schema": schema, **more}).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    with urlopen(Request(f"{registry.url}/subjects/{subject}/versions", body, headers), timeout=10) as answer:
        return json.load(answer)["id"]


def test_a_real_registry_answers_schemas_with_their_references(schema_registry: Any, topic_prefix: str) -> None:
    place = {"type": "record", "name": "Place", "namespace": "shop", "fields": [{"name": "city", "type": "string"}]}
    visit = {"type": "record", "name": "Visit", "namespace": "shop", "fields": [{"name": "at", "type": "shop.Place"}]}
    register(schema_registry, f"{topic_prefix}place", json.dumps(place))
    reference = {"name": "shop.Place", "subject": f"{topic_prefix}place", "version": 1}
    number = register(schema_registry, f"{topic_prefix}visit", json.dumps(visit), references=[reference])
    protobuf = register(schema_registry, f"{topic_prefix}click", "syntax = \"proto3\"; package shop; message Click {}",
                        schemaType="PROTOBUF")  # fmt: skip
    registry = SchemaRegistry(schema_registry.url)

    found = registry(number)

    assert found is not None and found.kind == "AVRO" and json.loads(found.text) == visit
    assert [json.loads(each) for each in found.references] == [place]
    assert registry(protobuf).kind == "PROTOBUF"  # type: ignore[union-attr]
    assert registry(2_000_000_000) is None


def test_a_real_registry_that_wants_a_password(schema_registry: Any, topic_prefix: str) -> None:
    number = register(schema_registry, f"{topic_prefix}plain", '"string"')

    with schema_registry.behind_password("reader", "s3cret") as url:
        assert SchemaRegistry(url, user="reader", password="s3cret")(number) is not None
        with pytest.raises(SourceError, match="refuses this user") as refused:
            SchemaRegistry(url, user="reader", password="wr0ng", timeout_s=1)(number)
    assert "wr0ng" not in str(refused.value)


def test_profiles_on_a_compacted_topic_are_served_until_they_end(
    kafka: Any, schema_registry: Any, topic_prefix: str, tmp_path: Path
) -> None:
    topic = f"{topic_prefix}profiles"
    old, new = (register(schema_registry, f"{topic}-value", json.dumps(each)) for each in (OLD, NEW))
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\nclock: {iso(NOW)}\nconnections:\n"
        f"  broker: {{type: kafka, bootstrap_servers: '{kafka.bootstrap}'}}\n"
        f"  schemas: {{type: schema_registry, url: '{schema_registry.url}'}}\n",
        encoding="utf-8",
    )
    (tmp_path / "features.py").write_text(FEATURES.format(topic=topic), encoding="utf-8")
    ms = NOW // 1000
    values = [
        *framed(old, written(OLD, {"city": "Ghent", "at": ms - 9}, {"city": "Rome", "at": ms - 9})),
        *framed(new, written(NEW, {"city": "Oslo", "at": ms - 8, "plan": "team"})),
        None, b"no frame",
    ]  # fmt: skip
    with FeatureStore(tmp_path) as store:
        log = open_store_of(store).stores.log_of(open_store_of(store).definitions().sources["profiles"])
        log.create(topic, 1)
        store.apply()
        log.send(
            topic, values, keys=[b"1", b"2", b"3", b"2", b"4"], timestamps_us=[NOW] * 5, partition=0, durable=True,
            headers=[(("trace-id", b"t1"),), (), (), (), (("trace-id", b"t5"),)],
        )  # fmt: skip

        store.stream_run(until_caught_up=True)

        answer = store.get_online_features(
            ["profile:city", "profile:plan", "profile:trace"], [{"user_id": user} for user in (1, 2, 3)]
        )
        assert answer.to_dict() == {
            "user_id": [1, 2, 3], "city": ["Ghent", None, "Oslo"], "plan": [None, None, "team"],
            "trace": ["t1", None, None],
        }  # fmt: skip
        assert answer.statuses["city"] == ["PRESENT", "NOT_FOUND", "PRESENT"]
        assert store.audit().ok
        dead = log.read(f"{topic}.dead", 0, 0)
        assert dead.values == [b"no frame"] and dead.keys == [b"4"]
        assert dict(dead.headers[0])["trace-id"] == b"t5" and b"frame" in dict(dead.headers[0])["asof.reason"]
