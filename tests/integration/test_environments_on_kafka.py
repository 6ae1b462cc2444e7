"""Two environments of one project that read one topic of Kafka: each gets all of its events."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from asof import Entity, FeatureStore, FeatureView, Field, KafkaSource
from asof.log.kafka.log import KafkaLog
from asof.store import open_store_of
from asof.types import Int64

pytestmark = pytest.mark.integration

AT = 1_760_000_000_000_000


def archived(store: FeatureStore) -> int:
    stores = open_store_of(store).stores
    source = store.get_data_source("visits")
    return sum(1 + each for each in stores.offline.offsets(stores.archive_of(source), range(4)).values())


def test_each_environment_of_a_project_gets_all_events(tmp_path: Path, kafka: Any, topic_prefix: str) -> None:
    topic = f"{topic_prefix}visits"
    log = KafkaLog(kafka.bootstrap, clock=lambda: AT, topic_prefix="")
    log.create(topic, 4)
    source = KafkaSource(
        "visits", topic=topic, bootstrap_servers=kafka.bootstrap, message_format="json",
        schema=[Field("user_id", Int64), Field("n", Int64), Field("at", Int64)], timestamp_field="at",
        timestamp_unit="us", start="earliest",
    )  # fmt: skip
    view = FeatureView("latest", entities=[Entity("user", join_keys=["user_id"])], source=source,
                       schema=[Field("n", Int64)])  # fmt: skip

    def send(count: int) -> None:
        for number in range(4):
            rows = [json.dumps({"user_id": i, "n": number, "at": AT + i}).encode() for i in range(count)]
            log.send(topic, rows, partition=number, durable=True)

    def environment(name: str) -> FeatureStore:
        (tmp_path / name).mkdir()
        (tmp_path / name / "feature_store.yaml").write_text("project: shop\n")
        store = FeatureStore(tmp_path / name)
        store.apply([view])
        return store

    send(5)
    with environment("mine") as mine, environment("production") as production:
        stop = Event()
        worker = Thread(target=lambda: production.stream_run(stop=stop), daemon=True)
        worker.start()
        try:
            while archived(production) < 20 and worker.is_alive():
                time.sleep(0.1)  # then its worker owns all partitions
            send(7)
            mine.stream_run(until_caught_up=True)
            assert archived(mine) == 48
            while archived(production) < 48 and worker.is_alive():
                time.sleep(0.1)
        finally:
            stop.set()
            worker.join()
        assert archived(production) == 48
    log.close()
