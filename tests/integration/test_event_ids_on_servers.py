"""Event ids over Kafka, claimed in Redis and in PostgreSQL: duplicates count once whoever dies."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asof.flows.stream.event_ids import EVENTS
from asof.log.kafka.log import KafkaLog
from asof.testing.clock import MicrosClock
from asof.testing.streams import live_through, visit
from tests.embedded.test_event_ids import Run, source, views
from tests.embedded_stores import close, embedded_stores
from tests.services import Kafka

pytestmark = pytest.mark.integration


@pytest.fixture(params=["redis", "postgres"])
def run(
    request: pytest.FixtureRequest, tmp_path: Path, kafka: Kafka, topic_prefix: str, key_prefix: str
) -> Iterator[Run]:
    clock = MicrosClock()
    # Groups are named by projects: the members of other tests are none of this one's.
    stores = embedded_stores(tmp_path, clock=clock, project=key_prefix.replace("-", "_"))
    stores.log.close()
    stores.online.close()
    log = KafkaLog(
        kafka.bootstrap, clock=clock, topic_prefix=topic_prefix, session_timeout_s=3,
        settings={"heartbeat.interval.ms": 300},
    )  # fmt: skip
    online: Any
    if request.param == "redis":
        from asof.online.redis.store import RedisOnlineStore

        online = RedisOnlineStore(request.getfixturevalue("redis").url, clock=clock, key_prefix=f"{key_prefix}:")
    else:
        from asof.online.postgres.store import PostgresOnlineStore

        online = PostgresOnlineStore(request.getfixturevalue("postgres_url"))
    stores = stores.replaced(log=log, online=online)
    run = Run(stores, clock, partitions=2, definitions=views(source()))
    yield run
    for number in list(run.workers):
        run.kill(number)
    online.drop_project(stores.project)
    close(stores)


def test_whatever_happens_each_event_counts_once(run: Run) -> None:
    live_through(run, random.Random(4), 30)
    run.send_again(5)
    run.finish()

    assert run.ids() == run.expected_ids() and len(run.ids()) < len(run.sent) - len(run.dead_letters())
    run.assert_online_is_history()


def test_a_duplicate_in_another_partition_counts_once_though_its_worker_and_the_ids_are_gone(run: Run) -> None:
    run.send(visit(1), visit(1), visit(2))
    run.step()
    run.send_again(3)
    run.finish()
    assert run.served("activity")["ever"] == [2, 1, 0]

    for table in run.stores.online.tables(run.stores.project):
        if table.view.endswith(EVENTS):
            run.stores.online.drop(table)
    run.send_again(3)
    run.finish()

    assert run.served("activity")["ever"] == [2, 1, 0] and run.ids() == ["e0", "e1", "e2"]
    run.assert_online_is_history()
