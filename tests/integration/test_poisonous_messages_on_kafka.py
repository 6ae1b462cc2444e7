"""What stops no stream on the file log stops none on a real broker either, whatever a producer writes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest

from asof import FeatureStore
from asof.store import open_store_of
from asof.timing import iso, micros
from tests.embedded.test_poisonous_values import POISONS, visit

pytestmark = pytest.mark.integration

NOW = micros("2026-01-02T00:00:00+00:00")
FEATURES = """
from asof import Aggregation, Entity, FeatureView, Field, KafkaSource, Sliding
from asof.types import Decimal, Int64, Json, String, Timestamp

visits = KafkaSource("visits", topic="{topic}", timestamp_field="at", header_fields={{"trace": "trace"}}, schema=[
    Field("user_id", Int64), Field("price", Decimal(10, 2)), Field("name", String), Field("doc", Json),
    Field("trace", String), Field("at", Timestamp)])
counted = FeatureView("counted", entities=[Entity("user", join_keys=["user_id"])], source=visits, aggregations=[
    Aggregation("", "count", window=Sliding("1h"), name="n")])
"""


@pytest.fixture
def opened(kafka: Any, topic_prefix: str, tmp_path: Path) -> Callable[[], FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\nclock: {iso(NOW)}\n"
        f"connections:\n  broker: {{type: kafka, bootstrap_servers: '{kafka.bootstrap}'}}\n",
        encoding="utf-8",
    )
    (tmp_path / "features.py").write_text(FEATURES.format(topic=f"{topic_prefix}visits"), encoding="utf-8")
    return lambda: FeatureStore(tmp_path)


def test_each_poison_on_a_broker_is_a_letter_and_the_stream_goes_on(
    opened: Callable[[], FeatureStore], topic_prefix: str
) -> None:
    topic = f"{topic_prefix}visits"
    with opened() as store:
        log = open_store_of(store).stores.log_of(open_store_of(store).definitions().sources["visits"])
        log.create(topic, 1)
        store.apply()
        values = [each for poison in POISONS.values() for each in (poison, visit())]
        log.send(topic, values, partition=0, timestamps_us=[NOW] * len(values), durable=True)

        counts = store.stream_run(until_caught_up=True)

        assert (counts["events"], counts["dead letters"]) == (len(values), len(POISONS))
        assert store.get_online_features(["counted:n"], [{"user_id": 1}]).to_dict()["n"] == [len(POISONS)]
        reasons = [each["reason"] for each in store.dead_letters().to_dicts()]
        still = store.replay_dead_letters("visits")["still_unfit"]
        assert sorted(still.values()) == sorted(reasons)


def test_headers_with_names_that_are_no_text_stop_nothing(
    opened: Callable[[], FeatureStore], kafka: Any, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}visits"
    with opened() as store:
        log = open_store_of(store).stores.log_of(open_store_of(store).definitions().sources["visits"])
        log.create(topic, 1)
        store.apply()
        log.send(topic, [visit()], partition=0, headers=[(("trace", b"t"),)], durable=True)
        produce(kafka.bootstrap, topic, visit(), {b"\xff\xfe": b"x", b"trace": b"u"})
        log.send(topic, [visit()], partition=0, durable=True)

        counts = store.stream_run(until_caught_up=True)

        assert (counts["events"], counts["dead letters"]) == (3, 1)
        assert store.get_online_features(["counted:n"], [{"user_id": 1}]).to_dict()["n"] == [2]
        (dead_letter,) = store.dead_letters().to_dicts()
        assert dead_letter["reason"] == "header 'trace': the message's headers have a name that is not text in UTF-8"
        assert store.replay_dead_letters("visits")["still_unfit"] == {dead_letter["id"]: dead_letter["reason"]}


def produce(bootstrap: str, topic: str, value: bytes, headers: dict[bytes, bytes]) -> None:
    """Send a message with headers of any name, which the Python client would refuse to."""
    folder = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka*"))
    if not found:
        pytest.skip("librdkafka is not beside its Python client here")
    lib = ctypes.CDLL(str(found[0]))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_topic_new", "rd_kafka_headers_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    conf = ctypes.c_void_p(lib.rd_kafka_conf_new())
    text = ctypes.create_string_buffer(512)
    lib.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), text, 512)
    producer = ctypes.c_void_p(lib.rd_kafka_new(0, conf, text, 512))
    made = ctypes.c_void_p(lib.rd_kafka_headers_new(8))
    for name, cell in headers.items():
        lib.rd_kafka_header_add(made, name, ctypes.c_ssize_t(len(name)), cell, ctypes.c_ssize_t(len(cell)))
    topic_name, number, payload, with_headers, end = 1, 3, 4, 10, 0
    code = lib.rd_kafka_producev(
        producer, ctypes.c_int(topic_name), ctypes.c_char_p(topic.encode()), ctypes.c_int(number), ctypes.c_int32(0),
        ctypes.c_int(payload), ctypes.c_char_p(value), ctypes.c_size_t(len(value)), ctypes.c_int(with_headers), made,
        ctypes.c_int(end),
    )  # fmt: skip
    assert code == 0
    assert lib.rd_kafka_flush(producer, 20_000) == 0
    lib.rd_kafka_destroy(producer)
