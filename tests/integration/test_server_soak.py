"""The server under load, for minutes in `make soak`, with writes, runs, applies, a restart of its store and a reload going on beside."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from tests.embedded.test_server import DEFINITIONS, NOW, rows_of_profile, write_sources
from tests.integration.test_server_processes import HEADERS, Server, serving, wait_until

pytestmark = pytest.mark.integration

USERS = (1, 2)
DUTY = 0.7
"""The part of the time in which each caller waits for an answer."""

LEAST_SAMPLES = 40
"""So many sizes of a worker are compared, and so many turns taken after the reload, however busy the machine is."""


class Facts:
    """What has been written: what is certain to be served, and what may be."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pushed = dict.fromkeys(USERS, (0, 0))
        self.age = (30, 30)
        self.is_down = False
        self.up_since = 0.0


class Reader(threading.Thread):
    """Asks, compares with the facts, and remembers what was wrong."""

    def __init__(self, server: Server, facts: Facts, stop: threading.Event) -> None:
        super().__init__()
        self.server, self.facts, self.stop_asking = server, facts, stop
        self.answered = self.refused = 0
        self.wrong: list[Any] = []

    def run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        turn = 0
        while not self.stop_asking.is_set():
            turn += 1
            user = USERS[turn % 2]
            body = json.dumps(
                {"features": ["activity:n_1h", "profile:age"], "entities": {"user_id": [user, 9]}}
            ).encode()
            with self.facts.lock:
                least, age = self.facts.pushed[user][0], self.facts.age[0]
                is_down = self.facts.is_down or time.monotonic() - self.facts.up_since < 5
            began = time.monotonic()
            try:
                connection = connection or self.server.connect()
                connection.request("POST", "/get-online-features", body, HEADERS)
                response = connection.getresponse()
                content = response.read()
                if response.headers.get("connection") == "close":
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(("lost", repr(error)))
                connection = None
                continue
            with self.facts.lock:
                most, newest = self.facts.pushed[user][1], self.facts.age[1]
                is_down = is_down or self.facts.is_down
            if response.status == 200:
                self.answered += 1
                _, count, ages = (each["values"] for each in json.loads(content)["results"])
                known = ages[0] is None if user == 2 else age <= ages[0] <= newest
                if not (least <= count[0] <= most and known and ages[1] is None and count[1] == 0):
                    self.wrong.append((user, count, ages, (least, most), (age, newest)))
            elif response.status == 503 and is_down:
                self.refused += 1
                assert response.headers["retry-after"]
            else:
                self.wrong.append((response.status, content[:300]))
            time.sleep((time.monotonic() - began) * (1 / DUTY - 1))


def memory_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


def write(server: Server, facts: Facts, turn: int) -> None:
    """One push, which is tried until it is kept; its name makes a second one no push."""
    user = USERS[turn % 2]
    rows = {"user_id": [user], "page": ["a"], "amount": [1.0], "at": ["2026-01-01T11:59:00Z"]}
    body = json.dumps({"push_source_name": "clicks", "df": rows, "batch_id": f"b{turn}"}).encode()
    with facts.lock:
        done, begun = facts.pushed[user]
        facts.pushed[user] = (done, begun + 1)
    while True:
        response = server.ask("POST", "/push", body)
        if response.status == 200:
            break
        assert response.status in (202, 503) and (facts.is_down or time.monotonic() - facts.up_since < 15), (
            response.content
        )
        time.sleep(0.2)
    with facts.lock:
        done, begun = facts.pushed[user]
        facts.pushed[user] = (done + 1, begun)


def materialize(server: Server, facts: Facts, folder: Path) -> None:
    """The source has another age by now; a run brings it online."""
    with facts.lock:
        facts.age = (facts.age[0], facts.age[1] + 1)
    ages = pa.array([facts.age[1], None, 50])
    new = folder / "profile.parquet.new"
    pq.write_table(rows_of_profile().set_column(1, "age", ages), new)
    new.rename(folder / "profile.parquet")
    response = server.ask("POST", "/materialize", json.dumps({"feature_views": ["profile"]}).encode())
    assert response.status == 200, response.content
    with facts.lock:
        facts.age = (facts.age[1], facts.age[1])


def apply(folder: Path, turn: int) -> None:
    """One more view, and another description of one that is read."""
    text = DEFINITIONS.replace('"profile", entities', f'"profile", description="version {turn}", entities')
    text += f'\nmore = FeatureView("more_{turn}", entities=[user], source=clicks, schema=[Field("page", String)])\n'
    (folder / "features.py").write_text(text)
    with FeatureStore(folder) as store:
        store.apply()


def soak(server: Server, folder: Path, restart: Any, *, seconds: float) -> None:
    facts, stop = Facts(), threading.Event()
    readers = [Reader(server, facts, stop) for _ in range(3)]
    for each in readers:
        each.start()
    began, turn = time.monotonic(), 0
    done: set[str] = set()
    memory: list[tuple[float, float]] = []
    samples: list[float] = []
    try:
        while (now := (time.monotonic() - began) / seconds) < 1 or not memory or len(samples) < LEAST_SAMPLES:
            turn += 1
            write(server, facts, turn)
            if turn % 15 == 0:
                materialize(server, facts, folder)
            if turn % 40 == 20:
                apply(folder, turn)
            if now > 0.35 and restart is not None and "restart" not in done:
                done.add("restart")
                with facts.lock:
                    facts.is_down = True
                restart()
                with facts.lock:
                    facts.is_down, facts.up_since = False, time.monotonic()
            if now > 0.6 and "reload" not in done:
                done.add("reload")
                memory.append((samples[len(samples) // 2], samples[-1]))
                samples.clear()
                before = set(server.workers())
                server.send(signal.SIGHUP)
                wait_until(lambda: before.isdisjoint(server.workers()), seconds=90)  # noqa: B023
            workers = server.workers()
            if len(workers) == 1:
                samples.append(memory_mb(workers[0]))
            time.sleep(seconds / 600)
    finally:
        stop.set()
        for each in readers:
            each.join(timeout=60)
    memory.append((samples[len(samples) // 2], samples[-1]))
    print(f"{sum(each.answered for each in readers)} answers, {turn} pushes, memory {memory}")

    assert [wrong for each in readers for wrong in each.wrong][:5] == []
    assert sum(each.answered for each in readers) > 10 * seconds
    assert turn > 20 and facts.age[0] > 30
    for middle, end in memory:
        assert end < middle + 25, memory


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "features.py").write_text(DEFINITIONS)
    write_sources(folder)
    return folder


def begun(folder: Path, more: str = "") -> Path:
    (folder / "feature_store.yaml").write_text(f"project: shop\nclock: {NOW.isoformat()}\n{more}")
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
    return folder


def on_redis(redis: Any) -> str:
    return f"online_store:\n  type: redis\n  url: {redis.url}\n"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_load_with_all_that_goes_on_beside(repository, private_redis):
    with serving(begun(repository, on_redis(private_redis))) as server:
        soak(server, repository, private_redis.restart, seconds=35)


@pytest.mark.soak
@pytest.mark.timeout(4000)
def test_half_an_hour_of_load_on_redis(repository, private_redis):
    with serving(begun(repository, on_redis(private_redis))) as server:
        soak(server, repository, private_redis.restart, seconds=1800)


@pytest.mark.soak
@pytest.mark.timeout(2000)
def test_ten_minutes_of_load_on_sqlite(repository):
    with serving(begun(repository)) as server:
        soak(server, repository, None, seconds=600)
