"""Kafka, Redis and Postgres under everything that goes wrong at random moments: in the end nothing is lost or doubled.

Two workers, six partitions, keyed and unkeyed messages out of order over three hours, one per cent of them none. While
they come in at full rate, workers are killed, paused beyond their session and joined by others, and each server is
killed, stopped, emptied or fails over. Then, for every key: what is served = history = brute force over what was sent.
"""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from asof import KafkaSource
from asof.errors import AsofError, StorageError
from asof.flows.generations.progress import progress_of
from asof.flows.stores import current_generation, table_of
from asof.testing.clock import MicrosClock
from asof.testing.streams import VISITS, StreamRun, definitions_on, visit
from asof.timing import MINUTE
from tests.services import Kafka, Postgres, Redis, RedisSentinel
from tests.worker_processes import (
    WorkerProcesses,
    archived_through,
    brute_force,
    is_archived,
    opened_at,
    plain_stores,
    until,
)

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PARTITIONS, USERS = 6, 300
SESSION_TIMEOUT_S = 3
TOPIC = "traffic"

Online = Redis | RedisSentinel | Postgres
"""The server of the online store; PostgreSQL is the one that has the registry, too."""


class Traffic:
    """A producer at full rate, which is not the product's; it knows where each message came to stand."""

    def __init__(self, run: StreamRun, bootstrap: str, *, seed: int) -> None:
        self._run = run
        self._random = random.Random(seed)
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5,
                "message.timeout.ms": 180_000, "log_level": 0, "queue.buffering.max.messages": 2_000_000,
            }
        )  # fmt: skip

    def send(self, count: int) -> None:
        """Hand messages over to be sent, half of them with their user as key; a user's others lie anywhere."""
        for _ in range(count):
            event = self._event()
            value = event if isinstance(event, bytes) else json.dumps(event).encode()
            keyed = not isinstance(event, bytes) and event["user_id"] % 2 == 0
            place = {"key": str(event["user_id"])} if keyed else {"partition": self._random.randrange(PARTITIONS)}
            self._producer.produce(TOPIC, value, on_delivery=self._delivered(event), **place)
        self._producer.poll(0)

    def _event(self) -> Mapping[str, Any] | bytes:
        rng = self._random
        if rng.random() < 0.01:
            return rng.choice([b"no event", b'{"user_id": "x", "at": 1}', b'{"user_id": 1}', b"\xff", b"[]"])
        return visit(
            rng.randint(1, USERS), -rng.randrange(180 * MINUTE), page=rng.choice("abc"),
            amount=rng.choice([None, 1.0, 2.0]),
        )  # fmt: skip

    def _delivered(self, event: Mapping[str, Any] | bytes) -> Callable[[Any, Any], None]:
        def note(error: Any, message: Any) -> None:
            if error is not None:
                self._failed.append(str(error))
            else:
                self._run.sent[message.partition(), message.offset()] = None if isinstance(event, bytes) else event

        return note

    def finish(self) -> None:
        """Wait until all stand in the log."""
        assert self._producer.flush(180) == 0
        assert not self._failed, self._failed[:3]


class Stack:
    """The servers, the workers and the traffic of one test, and what can happen to them."""

    def __init__(
        self, folder: Path, *, kafka: Kafka, online: Online, postgres: Postgres, offline: str, seed: int
    ) -> None:
        self.kafka, self.online, self.postgres = kafka, online, postgres
        self.random = random.Random(seed)
        database = postgres.create_database("shop")
        (folder / "feature_store.yaml").write_text(_configuration(kafka, online, database, offline))
        source = KafkaSource(
            "visits", topic=TOPIC, schema=VISITS.schema, timestamp_field="at", timestamp_unit="us",
            allowed_lateness="10m", max_future="5m",
        )  # fmt: skip
        opened = opened_at(folder)
        opened.log.create(TOPIC, PARTITIONS)
        clock = opened.clock
        assert isinstance(clock, MicrosClock)
        self.run = StreamRun(
            plain_stores(opened), clock, partitions=PARTITIONS, definitions=definitions_on(source), topic=TOPIC
        )
        self.workers = WorkerProcesses(folder)
        self.living = [self.workers.start(), self.workers.start()]
        self.traffic = Traffic(self.run, kafka.bootstrap, seed=seed)
        self.happened: list[str] = []

    def live(self, actions: list[Callable[[], None]], *, messages: int) -> None:
        """Let each of the actions happen while messages come in, in a random order, at random moments."""
        self.random.shuffle(actions)
        share = messages // (len(actions) + 1)
        for act in actions:
            feeding = threading.Thread(target=self.traffic.send, args=(share,))
            feeding.start()
            time.sleep(self.random.uniform(0.3, 2.0))
            self.happened.append(act.__name__)
            act()
            feeding.join()
            self.replace_those_that_ended()
        self.traffic.send(messages - share * len(actions))
        self.traffic.finish()
        until(self._all_is_archived, 180)
        until(self._all_is_online, 180)
        self.workers.finish(seconds=120)
        self.run.finish()

    def _all_is_archived(self) -> bool:
        self.replace_those_that_ended()
        return is_archived(self.run)

    def _all_is_online(self) -> bool:
        """Whether the workers say that every row has what was archived; not so while the store is away."""
        self.replace_those_that_ended()
        reached = archived_through(self.run)
        try:
            snapshot = self.run.stores.registry.load(self.run.stores.project)
            for view in snapshot.project.views.values():
                generation = current_generation(snapshot, view) or ""
                known = progress_of(self.run.stores.online, table_of(self.run.stores.project, view, generation))
                if any(known.offset_of(number) + 1 < after for number, after in reached.items()):
                    return False
        except AsofError as error:
            assert error.may_pass, error
            return False
        return True

    def replace_those_that_ended(self) -> None:
        """As a supervisor does: a worker that was begun while a server was away has ended with an error."""
        for at, worker in enumerate(self.living):
            if worker.poll() is not None:
                assert worker.returncode == StorageError.exit_code, self.workers.errors()
                self.living[at] = self.workers.start()

    # What can happen.

    def kill_a_worker(self) -> None:
        at = self.random.randrange(2)
        self.living[at] = self.workers.replace(self.living[at])

    def pause_a_worker_beyond_its_session(self) -> None:
        paused = self.random.choice(self.living)
        paused.send_signal(signal.SIGSTOP)
        time.sleep(SESSION_TIMEOUT_S + 2)
        paused.send_signal(signal.SIGCONT)

    def force_rebalances(self) -> None:
        third = self.workers.start()
        time.sleep(3)
        third.terminate()
        third.wait(60)

    def kill_and_restart_redis(self) -> None:
        assert isinstance(self.online, Redis)
        self.online.restart(kill=True)

    def empty_redis(self) -> None:
        assert isinstance(self.online, Redis)
        with self.online.client() as client:
            client.flushall()

    def fail_over_to_a_replica_that_lacks_seconds(self) -> None:
        assert isinstance(self.online, RedisSentinel)
        master, replica = self.online.master, self.online.replica
        replica.pause()
        time.sleep(3)
        master.kill()
        replica.resume()
        self.online.wait_for_master(replica)
        time.sleep(1)
        master.start()

    def kill_and_restart_postgres(self) -> None:
        self.postgres.kill()
        time.sleep(self.random.uniform(0, 2))
        self.postgres.start()

    def stop_and_start_kafka(self) -> None:
        self.kafka.stop()
        time.sleep(self.random.uniform(0, 2))
        self.kafka.start()

    # What must be true in the end.

    def check(self) -> None:
        """Every message is in one place, and for every key online = history = brute force over what was sent."""
        run = self.run
        run.assert_nothing_lost_or_doubled()
        run.assert_online_is_history(brute_force(events_sent(run)), users=range(1, USERS + 1), later=[0, 20 * MINUTE])

    def close(self) -> None:
        self.workers.close()
        stores = self.run.stores
        for part in (stores.log, stores.online, stores.offline, stores.registry):
            part.close()  # type: ignore[attr-defined]


def _configuration(kafka: Kafka, online: Online, database: str, offline: str) -> str:
    if isinstance(online, RedisSentinel):
        hosts = ",".join(f"{host}:{port}" for host, port in online.sentinels)
        store = {
            "type": "redis", "redis_type": "redis_sentinel", "sentinel_master": online.group,
            "connection_string": hosts, "sentinel_password": online.sentinel_password,
            "username": "asof", "password": "asof-secret",
        }  # fmt: skip
    elif isinstance(online, Redis):
        store = {"type": "redis", "url": online.url}
    else:
        store = {"type": "postgres", "url": database}
    return json.dumps(
        {
            "project": "shop",
            "registry": {"type": "postgres", "url": database},
            "offline_store": {"type": offline} | ({"url": database} if offline == "postgres" else {}),
            "online_store": store,
            "log": {
                "type": "kafka", "bootstrap_servers": kafka.bootstrap, "topic_prefix": "", "replication_factor": 1,
                "session_timeout_s": SESSION_TIMEOUT_S, "settings": {"heartbeat.interval.ms": 300},
            },
        }
    )  # fmt: skip


def events_sent(run: StreamRun) -> Iterator[dict[str, Any]]:
    """What was sent, as rows of history."""
    for (partition, offset), event in run.sent.items():
        if event is not None:
            yield {**event, "event_time": event["at"], "created": event["at"], "arrival": (offset, partition)}


@pytest.fixture
def stack(tmp_path: Path, private_service: Any) -> Iterator[Callable[..., Stack]]:
    made: list[Stack] = []

    def make(offline: str, online: type[Online], *, seed: int) -> Stack:
        kafka, postgres = private_service(Kafka), private_service(Postgres, fsync=True)
        store = postgres if online is Postgres else private_service(online)
        made.append(Stack(tmp_path, kafka=kafka, online=store, postgres=postgres, offline=offline, seed=seed))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("offline", [pytest.param("duckdb", marks=pytest.mark.soak), "postgres"])
def test_whatever_dies_nothing_is_lost_or_doubled(stack: Callable[..., Stack], offline: str) -> None:
    stack = stack(offline, Redis, seed=7)
    stack.live(
        [
            stack.kill_a_worker, stack.kill_a_worker, stack.pause_a_worker_beyond_its_session, stack.force_rebalances,
            stack.kill_and_restart_redis, stack.empty_redis, stack.kill_and_restart_postgres,
            stack.stop_and_start_kafka,
        ],
        messages=100_000,
    )  # fmt: skip

    assert len(stack.run.sent) == 100_000
    stack.check()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_fail_over_that_forgets_seconds_loses_and_doubles_nothing(stack: Callable[..., Stack]) -> None:
    stack = stack("duckdb", RedisSentinel, seed=3)
    stack.live(
        [
            stack.fail_over_to_a_replica_that_lacks_seconds, stack.kill_a_worker,
            stack.fail_over_to_a_replica_that_lacks_seconds,
        ],
        messages=50_000,
    )  # fmt: skip

    assert len(stack.run.sent) == 50_000
    stack.check()


@pytest.mark.timeout(300)
def test_rows_that_are_served_from_postgres_outlive_its_crashes(stack: Callable[..., Stack]) -> None:
    stack = stack("postgres", Postgres, seed=5)
    stack.live([stack.kill_a_worker, stack.kill_and_restart_postgres, stack.kill_and_restart_postgres], messages=20_000)

    assert len(stack.run.sent) == 20_000
    stack.check()


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("offline", "seed"), [("duckdb", 1), ("postgres", 2)])
def test_a_million_messages_while_everything_dies_again_and_again(
    stack: Callable[..., Stack], offline: str, seed: int
) -> None:
    stack = stack(offline, Redis, seed=seed)
    stack.live(
        5 * [
            stack.kill_a_worker, stack.kill_a_worker, stack.pause_a_worker_beyond_its_session, stack.force_rebalances,
            stack.kill_and_restart_redis, stack.empty_redis, stack.kill_and_restart_postgres,
            stack.stop_and_start_kafka,
        ],
        messages=1_000_000,
    )  # fmt: skip

    assert len(stack.run.sent) == 1_000_000
    stack.check()
