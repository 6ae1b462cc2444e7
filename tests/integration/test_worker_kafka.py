"""The stream worker on a real Kafka broker: lives with crashes anywhere, and processes that are killed and stopped."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asof import KafkaSource
from asof.testing.streams import VISITS, Clock, StreamRun, definitions_on, live_through, visit
from asof.timing import MINUTE
from tests.services import Kafka
from tests.worker_processes import (
    WorkerProcesses,
    archived_through,
    is_archived,
    opened_at,
    oracle,
    plain_parts,
    until,
)

pytestmark = pytest.mark.integration

SESSION_TIMEOUT_S = 3


def write_store(folder: Path, bootstrap: str) -> None:
    (folder / "feature_store.yaml").write_text(
        f"""
        project: shop
        log:
          type: kafka
          bootstrap_servers: {bootstrap}
          topic_prefix: ""
          replication_factor: 1
          session_timeout_s: {SESSION_TIMEOUT_S}
          settings: {{heartbeat.interval.ms: 300}}
        """
    )


def run_at(folder: Path, topic: str, *, partitions: int) -> StreamRun:
    """A run on a topic of its own, which a `KafkaSource` reads."""
    source = KafkaSource(
        "visits", topic=topic, schema=VISITS.schema, timestamp_field="at", timestamp_unit="us",
        allowed_lateness="10m", max_future="5m",
    )  # fmt: skip
    opened = opened_at(folder)
    opened.log.create(topic, partitions)
    clock = opened.clock
    assert isinstance(clock, Clock)
    return StreamRun(plain_parts(opened), clock, partitions=partitions, definitions=definitions_on(source), topic=topic)


@pytest.fixture
def run(tmp_path: Path, kafka: Kafka, topic_prefix: str) -> Iterator[StreamRun]:
    write_store(tmp_path, kafka.bootstrap)
    run = run_at(tmp_path, f"{topic_prefix}visits", partitions=3)
    yield run
    for part in (run.parts.log, run.parts.online, run.parts.offline, run.parts.registry):
        part.close()  # type: ignore[attr-defined]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[WorkerProcesses]:
    workers = WorkerProcesses(tmp_path)
    yield workers
    workers.close()


def random_visits(rng: random.Random, count: int, *, users: int) -> list[Any]:
    """Events out of order over three hours, some of them none."""
    return [
        b"no event" if rng.random() < 0.01 else visit(
            rng.randint(1, users), -rng.randrange(180 * MINUTE), page=rng.choice("abc"),
            amount=rng.choice([None, 1.0, 2.0]),
        )
        for _ in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_online_equals_history_in_the_end(run: StreamRun, seed: int) -> None:
    live_through(run, random.Random(seed), 40)
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run))


def test_workers_killed_at_random_moments_lose_and_double_nothing(run: StreamRun, workers: WorkerProcesses) -> None:
    rng = random.Random(11)
    living = [workers.start(), workers.start()]
    for turn in range(30):
        for partition in range(3):
            run.send(*random_visits(rng, 100, users=60), partition=partition)
        if turn % 6 == 5:
            victim = rng.randrange(2)
            living[victim] = workers.replace(living[victim])
    until(lambda: is_archived(run))
    workers.finish()
    run.finish()

    assert len(run.sent) == 30 * 3 * 100
    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(users=list(range(1, 61)))
    run.assert_online_is_history(oracle(run), users=rng.sample(range(1, 61), 4), later=[0, 20 * MINUTE])
    # Brute force over what was sent, which no part of the product has touched.
    ever = Counter(event["user_id"] for event in run.sent.values() if event is not None and event["page"] != "a")
    assert run.served("activity", list(range(1, 61)))["ever"] == [ever[user] for user in range(1, 61)]


def test_a_worker_that_slept_beyond_its_session_changes_nothing_when_it_wakes(
    run: StreamRun, workers: WorkerProcesses
) -> None:
    rng = random.Random(5)
    first = workers.start()
    for partition in range(3):
        run.send(*random_visits(rng, 300, users=9), partition=partition)
    until(lambda: is_archived(run))
    run.send(*random_visits(rng, 300, users=9), partition=0)
    first.send_signal(signal.SIGSTOP)
    workers.start()
    run.send(*random_visits(rng, 300, users=9), partition=1)
    until(lambda: is_archived(run))
    first.send_signal(signal.SIGCONT)
    run.send(*random_visits(rng, 300, users=9), partition=2)
    until(lambda: is_archived(run))
    workers.finish()
    run.finish()

    assert sum(archived_through(run).values()) == len(run.sent) == 1800
    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run), users=range(1, 10))
