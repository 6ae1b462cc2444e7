"""The stream worker on a real Kafka broker: lives with crashes anywhere, and processes that are killed and stopped."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from asof import FeatureStore, KafkaSource
from asof.errors import CheckFailed, LogError
from asof.flows.stream.run import run_stream
from asof.log.kafka.log import KafkaLog
from asof.log.protocol import TopicReplaced
from asof.testing.clock import MicrosClock
from asof.testing.streams import VISITS, StreamRun, definitions_on, live_through, visit
from asof.timing import MINUTE
from tests.services import Kafka
from tests.worker_processes import (
    ROOT,
    WorkerProcesses,
    archived_through,
    is_archived,
    opened_at,
    oracle,
    plain_stores,
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
    assert isinstance(clock, MicrosClock)
    return StreamRun(
        plain_stores(opened), clock, partitions=partitions, definitions=definitions_on(source), topic=topic
    )


@pytest.fixture
def run(tmp_path: Path, kafka: Kafka, topic_prefix: str) -> Iterator[StreamRun]:
    write_store(tmp_path, kafka.bootstrap)
    run = run_at(tmp_path, f"{topic_prefix}visits", partitions=3)
    yield run
    for number in list(run.workers):
        # All tests' workers are of one group: one that stays in it and does not poll would keep the next from joining.
        run.kill(number)
    for part in (run.stores.log, run.stores.online, run.stores.offline, run.stores.registry):
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


def test_a_broker_that_is_killed_and_comes_back_is_waited_for(
    tmp_path: Path, private_kafka: Kafka, workers: WorkerProcesses
) -> None:
    rng = random.Random(7)
    write_store(tmp_path, private_kafka.bootstrap)
    run = run_at(tmp_path, "visits", partitions=3)
    workers.start()
    for partition in range(3):
        run.send(*random_visits(rng, 300, users=9), partition=partition)
    until(lambda: is_archived(run))
    for end in ("kill", "stop"):
        getattr(private_kafka, end)()
        private_kafka.start()
        for partition in range(3):
            until(lambda: sent(run, random_visits(rng, 100, users=9), partition))  # noqa: B023
        until(lambda: is_archived(run))
    workers.finish()
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run), users=range(1, 10))
    run.stores.log.close()


def sent(run: StreamRun, events: list[Any], partition: int) -> bool:
    """Whether the events are sent; a broker that is not there yet takes none."""
    try:
        run.send(*events, partition=partition)
    except LogError:
        return False
    return True


def test_retention_that_overran_a_stopped_worker_is_told_with_the_lost_range(run: StreamRun) -> None:
    run.send(*[visit(1)] * 10, partition=0)
    run.step()
    run.finish()
    run.send(*[visit(1)] * 20, partition=0)
    log = run.stores.log
    assert isinstance(log, KafkaLog)
    log.retain(run.topic, max_bytes=300)
    first = log.bounds(run.topic)[0][0]
    assert first > 10

    with pytest.raises(
        LogError, match=f"offsets 10 to {first - 1} of partition 0.*before they were archived"
    ) as raised:
        run_stream(run.stores, until_caught_up=True)
    assert "--accept-gap" in raised.value.hint
    run_stream(run.stores, until_caught_up=True, accept_gap=True)

    assert run.served("activity", [1])["ever"] == [10 + 30 - first]
    gaps = run.stores.registry.load("shop").facts.gaps["visits"]
    assert f"offsets 10 to {first - 1} of partition 0" in gaps[0]


def test_retention_that_overtakes_a_living_worker_stops_it(run: StreamRun) -> None:
    run.send(*[visit(1)] * 10, partition=0)
    until(lambda: run.step() and run.served("activity", [1])["ever"] == [10])
    run.flush()
    member = next(iter(run.workers[0].members.values()))
    log = run.stores.log
    assert isinstance(log, KafkaLog)
    log.send(run.topic, [b"{}"] * 50, partition=0, durable=True)
    log.retain(run.topic, max_bytes=20)
    first = log.bounds(run.topic)[0][0]
    member.consumer.seek(0, 10)

    with pytest.raises(LogError, match=f"offsets 10 to {first - 1} of partition 0"):
        for _ in range(500):
            run.step()


def test_what_a_producer_takes_back_is_never_seen(run: StreamRun, kafka: Kafka) -> None:
    settings = {"bootstrap.servers": kafka.bootstrap, "transactional.id": run.topic, "log_level": 0}
    producer = Producer(settings)
    producer.init_transactions(10)

    def write(count: int, user: int) -> None:
        producer.begin_transaction()
        for _ in range(count):
            producer.produce(run.topic, json.dumps(visit(user)).encode(), partition=0)
        assert producer.flush(10) == 0

    def seen() -> list[int]:
        return run.served("activity", [1, 2])["ever"]

    write(5, user=1)
    producer.commit_transaction(10)
    write(7, user=2)
    producer.abort_transaction(10)
    write(3, user=1)
    producer.commit_transaction(10)
    until(lambda: run.step() and seen() == [8, 0])
    # Written, and neither kept nor taken back: the partition ends before it for now.
    write(4, user=2)
    run.finish()
    assert (seen(), archived_through(run)[0]) == ([8, 0], 18)
    producer.abort_transaction(10)
    # 19 messages and 4 marks; the last ones are of no message that counts, and a worker comes to their end.
    until(lambda: run.stores.log.bounds(run.topic)[0] == (0, 23))
    run.finish()

    assert (seen(), archived_through(run)[0]) == ([8, 0], 23)
    assert sorted(row["offset"] for row in run.archived()) == [0, 1, 2, 3, 4, 14, 15, 16]
    assert run.dead_letters() == []
    run.assert_online_is_history(oracle(run), users=[1, 2])


def test_a_topic_that_is_deleted_and_made_again_stops_the_worker(run: StreamRun) -> None:
    run.send(*[visit(1)] * 10, partition=0)
    until(lambda: run.step() and run.served("activity", [1])["ever"] == [10])
    run.flush()
    log = run.stores.log
    log.delete(run.topic)
    log.create(run.topic, 3)
    # Fewer, then more than the old one had: nothing of the new one may count as the old one's.
    event = b'{"user_id": 1, "page": "b", "at": 1767268800000000}'
    log.send(run.topic, [event] * 30, partition=0, durable=True)

    with pytest.raises(TopicReplaced, match="recreated"):
        for _ in range(1000):
            run.step()
    assert run.served("activity", [1])["ever"] == [10]
    run.kill()
    with pytest.raises(LogError, match="deleted and recreated") as raised:
        run_stream(run.stores, until_caught_up=True)
    assert "--accept-gap" in raised.value.hint
    run_stream(run.stores, until_caught_up=True, accept_gap=True)
    assert run.served("activity", [1])["ever"] == [40]


def test_partitions_that_are_added_while_a_worker_runs_are_read(run: StreamRun, kafka: Kafka) -> None:
    from confluent_kafka.admin import NewPartitions

    run.send(visit(1), partition=0)
    until(lambda: run.step() and run.served("activity", [1])["ever"] == [1])
    admin = kafka.admin()
    admin.create_partitions([NewPartitions(run.topic, 5)])[run.topic].result(10)
    until(lambda: run.stores.log.partitions(run.topic) == 5)
    run.send(visit(1), partition=4)
    until(lambda: run.step() and run.served("activity", [1])["ever"] == [2])
    run.finish()
    run.partitions = 5
    run.assert_nothing_lost_or_doubled()


@pytest.mark.parametrize(
    ("start", "counted"),
    [("earliest", 20), ("latest", 5), ("2025-12-31T00:00:00Z", 15), ("2027-01-01T00:00:00Z", 5)],
)
def test_the_first_run_begins_where_the_source_says_and_later_ones_where_the_archive_ends(
    tmp_path: Path, kafka: Kafka, topic_prefix: str, start: str, counted: int
) -> None:
    topic = f"{topic_prefix}visits"
    write_store(tmp_path, kafka.bootstrap)
    source = KafkaSource(
        "visits", topic=topic, schema=VISITS.schema, timestamp_field="at", timestamp_unit="us", start=start,
        bootstrap_servers=kafka.bootstrap,
    )  # fmt: skip
    opened = opened_at(tmp_path)
    opened.log.create(topic, 2)
    log = opened.log_of(source)
    message = b'{"user_id": 1, "page": "b", "amount": 1.0, "at": 1767268800000000}'
    for days, count in ((-3, 5), (-1, 10)):
        time_us = 1767268800000000 + days * 86_400_000_000
        log.send(topic, [message] * count, partition=0, timestamps_us=[time_us] * count, durable=True)
    store = FeatureStore(tmp_path)
    store.apply(list(definitions_on(source)))
    store.stream_run(until_caught_up=True)
    before = store.get_online_features(["activity:ever"], [{"user_id": 1}]).to_dict()["ever"]
    log.send(topic, [message] * 5, partition=1, durable=True)
    store.stream_run(until_caught_up=True)

    after = store.get_online_features(["activity:ever"], [{"user_id": 1}]).to_dict()["ever"]
    assert (before, after) == ([counted - 5], [counted])
    assert [each["lag"] for each in store.stream_status()] == [0, 0]
    store.close()
    opened.close()


def test_plan_finds_a_topic_that_is_not_there_and_a_cluster_that_does_not_answer(
    tmp_path: Path, kafka: Kafka, topic_prefix: str
) -> None:
    write_store(tmp_path, kafka.bootstrap)
    store = FeatureStore(tmp_path)
    missing = KafkaSource(
        "visits", topic=f"{topic_prefix}none", schema=VISITS.schema, timestamp_field="at", timestamp_unit="us"
    )
    with pytest.raises(CheckFailed, match=f"no topic '{topic_prefix}none'.*check topic= and bootstrap_servers="):
        store.apply(list(definitions_on(missing)))
    store.close()
    with (tmp_path / "feature_store.yaml").open("a") as file:
        file.write("\n        connections: {away: {type: kafka, bootstrap_servers: '127.0.0.1:1', timeout_s: 1}}\n")
    store = FeatureStore(tmp_path)
    away = KafkaSource(
        "visits", topic="x", schema=VISITS.schema, timestamp_field="at", timestamp_unit="us", connection_ref="away"
    )
    with pytest.raises(CheckFailed, match=r"127\.0\.0\.1:1 does not respond"):
        store.apply(list(definitions_on(away)))
    assert store.list_sources() == []
    store.close()


def test_history_before_the_stream_comes_from_a_batch_source(tmp_path: Path, kafka: Kafka, topic_prefix: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from asof import FileSource

    topic = f"{topic_prefix}visits"
    write_store(tmp_path, kafka.bootstrap)
    log = opened_at(tmp_path).log
    log.create(topic, 2)
    at = 1767268800000000  # 2026-01-01T12:00:00Z
    hour = 3_600_000_000
    years = {"user_id": [1, 1, 2], "page": ["b"] * 3, "amount": [1.0, 2.0, 3.0], "at": [at - 5 * hour, at - hour, at]}
    pq.write_table(pa.table(years), tmp_path / "visits.parquet")
    batch = FileSource("visits.parquet", name="old_visits", timestamp_field="at", timestamp_unit="us")
    source = KafkaSource(
        "visits", topic=topic, schema=VISITS.schema, timestamp_field="at", timestamp_unit="us",
        batch_source=batch, stream_from="2026-01-01T11:30:00Z",
    )  # fmt: skip
    store = FeatureStore(tmp_path)
    # Of the file the two rows before that moment count, of the topic the two events after it.
    store.apply(list(definitions_on(source)))
    assert store.backfill("visits") == 0, "apply has loaded them"
    for user, time_us in ((1, at - hour), (1, at), (2, at)):
        value = f'{{"user_id": {user}, "page": "b", "amount": 9.0, "at": {time_us}}}'
        log.send(topic, [value.encode()], partition=user % 2, durable=True)
    store.stream_run(until_caught_up=True)

    ever = store.get_online_features(["activity:ever"], [{"user_id": 1}, {"user_id": 2}]).to_dict()["ever"]
    assert ever == [3, 1]
    from datetime import UTC, datetime

    frame = {"event_timestamp": [datetime(2026, 1, 1, 12, tzinfo=UTC)] * 2, "user_id": [1, 2]}
    history = store.get_historical_features(frame, ["activity:ever"]).to_arrow()
    assert history["ever"].to_pylist() == ever
    store.close()
    log.close()


def test_the_command_ends_in_order_on_sigterm_and_its_status_tells_the_rest(run: StreamRun, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT / "src"), "HOME": str(tmp_path), "PATH": "", "COLUMNS": "80"}
    asof = [sys.executable, "-m", "asof"]
    events = random_visits(random.Random(3), 400, users=9)
    run.send(*events[:200], partition=0)
    worker = subprocess.Popen([*asof, "stream", "run"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    until(lambda: run.served("activity", [1])["ever"] != [0])
    run.send(*events[200:], partition=1)
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0 and b"Traceback" not in said, said
    # What it had taken is archived, though no flush was due; the rest waits for the next one.
    assert archived_through(run)[0] == 200
    status = subprocess.run([*asof, "stream", "status"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "freshness s" in status.stdout and max(map(len, status.stdout.splitlines())) <= 80, status
    run.finish()
    told = json.loads(
        subprocess.run(
            [*asof, "stream", "status", "--output", "json"], cwd=tmp_path, env=environment, capture_output=True
        ).stdout
    )["partitions"]
    dead_letters = sum(event is None for event in run.sent.values())
    assert [each["lag"] for each in told] == [0, 0, 0] and sum(each["dead_letters"] for each in told) == dead_letters
    assert told[0]["late_max_s"] >= told[0]["late_p50_s"] > 0 and told[0]["freshness_s"] is not None
    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run), users=range(1, 10))
