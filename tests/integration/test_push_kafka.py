"""Own partitions and pushes on a real Kafka broker, by processes that are killed and stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, PushSource, Sliding
from asof.log.kafka.log import KafkaLog
from asof.log.protocol import OwnershipLost
from asof.types import Float64, Int64, Timestamp
from tests.services import Kafka

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SESSION_TIMEOUT_S = 2

OWNER = """
import sys, time
from asof.log.kafka.log import KafkaLog
log = KafkaLog(sys.argv[1], clock=lambda: int(time.time() * 1e6), session_timeout_s=float(sys.argv[3]))
number = log.own_partition(sys.argv[2])
for line in sys.stdin:
    try:
        print(log.send(sys.argv[2], [line.strip().encode()] * 3, partition=number, durable=True), flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
        number = log.own_partition(sys.argv[2])
"""


class Owner:
    """A process with a partition of its own, which sends what it is told."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", OWNER, bootstrap, topic, str(SESSION_TIMEOUT_S)], cwd=ROOT, text=True,
            env={"PYTHONPATH": str(ROOT / "src")}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def send(self, text: str) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def open_log(kafka: Kafka) -> Iterator[Callable[[], KafkaLog]]:
    opened: list[KafkaLog] = []

    def make() -> KafkaLog:
        opened.append(
            KafkaLog(kafka.bootstrap, clock=lambda: int(time.time() * 1e6), session_timeout_s=SESSION_TIMEOUT_S)
        )
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def own(kafka: Kafka) -> Iterator[Callable[[str], Owner]]:
    started: list[Owner] = []

    def start(topic: str) -> Owner:
        started.append(Owner(kafka.bootstrap, topic))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        for pipe in (each.process.stdin, each.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def values(log: KafkaLog, topic: str, number: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    at = 0
    while len(messages := log.read(topic, number, at)):
        found += messages.values
        at = int(messages.offsets[-1]) + 1
    return found


def taken_over(log: KafkaLog, topic: str, number: int) -> bool:
    """Whether the partition is free by now, and this log has it."""
    from asof.log.kafka.owner import living_owners

    if living_owners(log.broker, log.topic(topic), [number])[number]:
        return False
    return log.own_partition(topic) == number


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_the_partition_of_a_killed_process_is_taken_over_before_a_new_one_is_made(
    open_log: Callable[[], KafkaLog], own: Callable[[str], Owner], topic_prefix: str
) -> None:
    topic = f"{topic_prefix}pushes"
    log = open_log()
    log.create(topic)
    first = own(topic)
    assert first.send("a").startswith("[(0, 0)")
    second = own(topic)
    assert second.send("b").startswith("[(1, 0)")
    assert log.partitions(topic) == 2

    first.process.kill()
    first.process.wait()
    until(lambda: taken_over(log, topic, 0))
    log.send(topic, [b"c"], partition=0, durable=True)

    assert values(log, topic, 0) == [b"a"] * 3 + [b"c"]
    assert log.partitions(topic) == 2


def test_a_process_that_wakes_up_too_late_writes_nothing_into_what_was_its_own(
    open_log: Callable[[], KafkaLog], own: Callable[[str], Owner], topic_prefix: str
) -> None:
    topic = f"{topic_prefix}pushes"
    log = open_log()
    log.create(topic)
    zombie = own(topic)
    assert zombie.send("a").startswith("[(0, 0)")

    zombie.process.send_signal(signal.SIGSTOP)
    until(lambda: taken_over(log, topic, 0))
    log.send(topic, [b"c"], partition=0, durable=True)
    zombie.process.send_signal(signal.SIGCONT)

    assert zombie.send("never") == OwnershipLost.__name__
    assert zombie.send("again").startswith("[(1, 0)")
    assert values(log, topic, 0) == [b"a"] * 3 + [b"c"]
    log.send(topic, [b"d"], partition=0, durable=True)
    assert values(log, topic, 0)[-1] == b"d"


def test_a_send_that_failed_is_not_followed_by_one_that_fences_the_next_owner(
    open_log: Callable[[], KafkaLog], topic_prefix: str
) -> None:
    topic = f"{topic_prefix}pushes"
    late, log = open_log(), open_log()
    late.create(topic)
    assert late.own_partition(topic) == 0
    # Its connections break: the send fails, and its membership ends while nobody hears it.
    owned = late._owned[topic]
    owned.writer._give_up(owned.writer._producer, KafkaError(KafkaError._TRANSPORT))
    owned._stop.set()
    owned._thread.join()
    owned._consumer.unsubscribe()
    until(lambda: taken_over(log, topic, 0))
    log.send(topic, [b"a"], partition=0, durable=True)

    with pytest.raises(OwnershipLost):
        late.send(topic, [b"never"], partition=0, durable=True)

    log.send(topic, [b"b"], partition=0, durable=True)
    assert values(log, topic, 0) == [b"a", b"b"]


def test_a_process_killed_in_the_middle_of_a_send_leaves_all_of_it_or_nothing(
    open_log: Callable[[], KafkaLog], own: Callable[[str], Owner], topic_prefix: str
) -> None:
    topic = f"{topic_prefix}pushes"
    log = open_log()
    log.create(topic)
    owner = own(topic)
    owner.send("ready")
    assert owner.process.stdin is not None
    for i in range(300):
        owner.process.stdin.write(f"{i}\n")
    owner.process.stdin.flush()
    until(lambda: log.bounds(topic)[0][1] > 20)
    owner.process.kill()
    owner.process.wait()

    until(lambda: taken_over(log, topic, 0))
    log.send(topic, [b"end"], partition=0, durable=True)

    found = values(log, topic, 0)
    assert found[-1] == b"end" and len(found) % 3 == 1
    whole = [str(i).encode() for i in range((len(found) - 4) // 3)]
    assert found[3:-1] == [value for value in whole for _ in range(3)]


CLICKS = PushSource(
    "clicks", schema=[Field("user_id", Int64), Field("amount", Float64), Field("at", Timestamp)], timestamp_field="at"
)
CLICKS_1D = FeatureView(
    "clicks_1d", entities=[Entity("user", ["user_id"])], source=CLICKS,
    aggregations=[
        Aggregation("", "count", window=Sliding("1d"), name="n"),
        Aggregation("amount", "sum", window=Sliding("1d"), name="total"),
    ],
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, kafka: Kafka, topic_prefix: str) -> Iterator[Callable[[], FeatureStore]]:
    (tmp_path / "feature_store.yaml").write_text(
        f"""
        project: shop
        clock: "2026-01-01T12:00:00Z"
        log:
          type: kafka
          bootstrap_servers: {kafka.bootstrap}
          topic_prefix: {topic_prefix}
          session_timeout_s: {SESSION_TIMEOUT_S}
        """
    )
    opened: list[FeatureStore] = []

    def make() -> FeatureStore:
        opened.append(FeatureStore(tmp_path))
        return opened[-1]

    make().apply([CLICKS_1D])
    yield make
    for each in opened:
        each.close()


def rows(*users: int) -> list[dict[str, Any]]:
    return [{"user_id": user, "amount": 1.5, "at": "2026-01-01T11:00:00Z"} for user in users]


def served(store: FeatureStore, user: int) -> tuple[int, float | None]:
    answer = store.get_online_features(["clicks_1d:n", "clicks_1d:total"], [{"user_id": user}]).to_dict()
    return answer["n"][0], answer["total"][0]


def test_a_process_reads_its_own_pushes_and_history_holds_those_of_all(store: Callable[[], FeatureStore]) -> None:
    one, two = store(), store()
    for i in range(5):
        one.push("clicks", rows(1, 2))
        assert served(one, 1) == (i + 1, 1.5 * (i + 1))
    two.push("clicks", rows(1))
    assert served(two, 1) == served(one, 1) == (6, 9.0)
    # The same batch again is no push, whichever process sends it.
    assert one.push("clicks", rows(2), batch_id="b1") == 1
    assert two.push("clicks", rows(2), batch_id="b1") == 0

    frame = {"event_timestamp": [datetime(2026, 1, 1, 12, tzinfo=UTC)] * 2, "user_id": [1, 2]}
    history = two.get_historical_features(frame, ["clicks_1d:n"]).to_arrow()
    assert history["n"].to_pylist() == [6, 6] == [served(one, 1)[0], served(one, 2)[0]]
    numbers = {(each["topic"], each["partition"]): each["lag"] for each in two.stream_status()}
    assert numbers == {("push.clicks", 0): 0, ("push.clicks", 1): 0}


def test_a_worker_brings_in_what_a_killed_pusher_left(store: Callable[[], FeatureStore], tmp_path: Path) -> None:
    pusher = """
import json, os, signal, sys
from asof import FeatureStore
store = FeatureStore(sys.argv[1])
store.push("clicks", json.loads(sys.argv[2]))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", pusher, str(tmp_path), json.dumps(rows(7, 7, 8))], cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()

    worker = store()
    assert worker.stream_status()[0]["lag"] > 0
    worker.stream_run(until_caught_up=True)

    assert served(worker, 7) == (2, 3.0)
    (status,) = worker.stream_status()
    assert (status["lag"], status["behind_s"], status["dead_letters"]) == (0, 0.0, 0)
    assert status["late_p50_s"] is not None and status["last_message"] is not None
