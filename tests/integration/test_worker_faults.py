"""Workers that are killed, stopped and robbed of their store, as processes; and random lives with crashes anywhere."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asof.errors import OnlineRowsLost, StorageError
from asof.flows.stores import Stores, view_named
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.log.file.log import FileLog
from asof.offline.duckdb.engine import DuckDBOffline
from asof.online.sqlite.store import SqliteOnlineStore
from asof.testing.clock import NOW, MicrosClock
from asof.testing.streams import DEFINITIONS, MORTALS, StreamRun, live_through, visit
from asof.timing import MINUTE, SECOND
from tests.embedded_stores import close, embedded_stores
from tests.worker_processes import keep_sigterm, oracle

pytestmark = pytest.mark.integration

WORKER = """
import signal, sys, threading
from pathlib import Path
from tests.integration.test_worker_faults import parts_at
from asof.flows.stream.run import run_stream
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
run_stream(parts_at(Path(sys.argv[1])), stop=stop, flush_every_s=0.3)
"""
SESSION_TIMEOUT_S = 1.5


def parts_at(path: Path) -> Stores:
    clock = MicrosClock()
    stores = embedded_stores(path, clock=clock)
    stores.log.close()
    return stores.replaced(log=FileLog(path / "log", clock=clock, session_timeout_s=SESSION_TIMEOUT_S))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[StreamRun]:
    stores = parts_at(tmp_path)
    yield StreamRun(stores, stores.clock, partitions=3)  # type: ignore[arg-type]
    close(stores)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a worker as a process of its own; all end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    root = Path(__file__).parents[2]

    def start_one() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WORKER, str(tmp_path)]
        started.append(
            subprocess.Popen(command, cwd=root, env={"PYTHONPATH": f"{root / 'src'}:{root}", "PATH": ""},
                             stderr=subprocess.PIPE, preexec_fn=keep_sigterm)
        )  # fmt: skip
        return started[-1]

    yield start_one
    for each in started:
        if each.poll() is None:
            each.kill()
        each.wait()
        assert each.stderr is not None
        errors = each.stderr.read().decode()
        each.stderr.close()
        assert "Traceback" not in errors, errors


def until(condition: Callable[[], bool], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def archived_events(run: StreamRun) -> int:
    source = run.stores.registry.load(run.stores.project).project.sources["visits"]
    return sum(each + 1 for each in run.stores.offline.offsets(run.stores.archive_of(source), [0, 1, 2]).values())


def random_visits(rng: random.Random, count: int, *, users: int) -> list[Any]:
    """Events out of order over three hours, some of them none."""
    return [
        b"no event" if rng.random() < 0.01 else visit(
            rng.randint(1, users), -rng.randrange(180 * MINUTE), page=rng.choice("abc"), amount=rng.choice([None, 1.0, 2.0])
        )
        for _ in range(count)
    ]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), steps=st.integers(20, 80), partitions=st.integers(1, 3), mortal=st.booleans())
def test_whatever_happens_online_equals_history_in_the_end(
    tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int, partitions: int, mortal: bool
) -> None:
    stores = embedded_stores(tmp_path_factory.mktemp("life"), clock=MicrosClock())
    definitions = MORTALS if mortal else DEFINITIONS
    run = StreamRun(stores, stores.clock, partitions=partitions, definitions=definitions)  # type: ignore[arg-type]
    live_through(run, random.Random(seed), steps)
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run))
    close(stores)


@pytest.mark.soak
def test_workers_killed_at_random_moments_lose_and_double_nothing(run: StreamRun, start: Any) -> None:
    rng = random.Random(11)
    workers = [start(), start()]
    for turn in range(40):
        for partition in range(3):
            run.send(*random_visits(rng, 167, users=60), partition=partition)
        time.sleep(rng.uniform(0.1, 0.6))
        if turn % 4 == 3:
            victim = rng.randrange(2)
            workers[victim].kill()
            workers[victim].wait()
            workers[victim] = start()
        if turn == 20:
            rebuild(run.stores, view_named(run.stores.registry.load(run.stores.project), "activity"), wait_s=5)
    for worker in workers:
        worker.terminate()
        worker.wait(timeout=60)
    run.finish()

    assert len(run.sent) == 40 * 3 * 167
    run.assert_nothing_lost_or_doubled()
    users = list(range(1, 61))
    run.assert_online_is_history(users=users)
    run.assert_online_is_history(oracle(run), users=rng.sample(users, 4), later=[0, 20 * MINUTE])
    # Brute force over what was sent, which no part of the product has touched.
    ever = Counter(event["user_id"] for event in run.sent.values() if event is not None and event["page"] != "a")
    assert run.served("activity", users)["ever"] == [ever[user] for user in users]


def test_a_worker_that_slept_beyond_its_session_changes_nothing_when_it_wakes(run: StreamRun, start: Any) -> None:
    rng = random.Random(5)
    first = start()
    for partition in range(3):
        run.send(*random_visits(rng, 300, users=9), partition=partition)
    until(lambda: archived_events(run) == 900)
    run.send(*random_visits(rng, 300, users=9), partition=0)
    first.send_signal(signal.SIGSTOP)
    second = start()
    run.send(*random_visits(rng, 300, users=9), partition=1)
    until(lambda: archived_events(run) == 1500)
    first.send_signal(signal.SIGCONT)
    run.send(*random_visits(rng, 300, users=9), partition=2)
    until(lambda: archived_events(run) == 1800)
    for worker in (first, second):
        worker.terminate()
        assert worker.wait(timeout=30) == 0
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run), users=range(1, 10))


def test_a_worker_whose_online_store_is_deleted_fills_it_again(run: StreamRun, start: Any, tmp_path: Path) -> None:
    rng = random.Random(3)
    worker = start()
    for partition in range(3):
        run.send(*random_visits(rng, 200, users=9), partition=partition)
    until(lambda: archived_events(run) == 600)
    for name in ("online.db", "online.db-wal", "online.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    run.send(*random_visits(rng, 200, users=9), partition=0)

    def is_filled() -> bool:
        try:
            return len(run.stores.online.tables("shop")) == 2 and run.served("newest", [1])["page"] != [None]
        except OnlineRowsLost:  # until the build has finished
            return False

    until(is_filled)
    worker.terminate()
    assert worker.wait(timeout=30) == 0
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(oracle(run), users=range(1, 10))


def test_one_hot_key_with_very_many_events_is_counted_to_the_last(run: StreamRun) -> None:
    events = [visit(1, -i * SECOND // 20, page="b", amount=float(i % 7)) for i in range(200_000)]
    for start_at in range(0, len(events), 20_000):
        run.send(*events[start_at : start_at + 20_000], partition=start_at // 20_000 % 3)
    run_stream(run.stores, until_caught_up=True)

    served = run.served("activity", [1])
    inside = sum(event["at"] >= NOW - 60 * MINUTE for event in events)
    assert served["ever"] == [200_000] and served["hour"] == [inside] and served["session"] == [200_000]
    run.assert_online_is_history(users=[1], later=[0, 20 * MINUTE])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, which can grow."""
    path = tmp_path / "small"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting a small disk needs more rights")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("part", ["online", "archive"])
def test_a_full_disk_stops_the_worker_clearly_and_loses_nothing(tmp_path: Path, small_disk: Path, part: str) -> None:
    clock = MicrosClock()
    stores = embedded_stores(tmp_path, clock=clock)
    if part == "online":
        stores = stores.replaced(online=SqliteOnlineStore(small_disk / "online.db"))
    else:
        stores = stores.replaced(offline=DuckDBOffline(small_disk / "archive", threads=1))
    run = StreamRun(stores, clock, partitions=1)
    rng = random.Random(1)
    failed = None
    for _ in range(40):
        pages = ["".join(rng.choices("abcdefghij", k=400)) for _ in range(200)]
        run.send(*(visit(rng.randint(1, 900), -rng.randrange(60 * MINUTE), page=page) for page in pages))
        try:
            run_stream(stores, until_caught_up=True)
        except StorageError as error:
            failed = error
            break
    assert failed is not None and "disk is full" in failed.message and failed.hint, failed
    subprocess.run(["mount", "-o", "remount,size=256m", str(small_disk)], check=True)
    run.finish()

    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history(users=range(1, 30), later=[0, MINUTE])
    close(stores)


def test_readers_never_see_less_while_a_view_is_rebuilt_under_a_living_worker(run: StreamRun, start: Any) -> None:
    worker = start()
    halt = threading.Event()
    went_back: list[tuple[int, int]] = []

    def load() -> None:
        while not halt.is_set():
            run.send(*[visit(1)] * 20, partition=0)
            time.sleep(0.01)

    def read() -> None:
        most = 0
        while not halt.is_set():
            version = run.stores.registry.version("shop")
            try:
                count = run.served("activity", [1])["ever"][0]
            except OnlineRowsLost:
                count = -1
            # A table that is dropped between the look at the registry and the read is asked for again, as stores do.
            if version == run.stores.registry.version("shop"):
                if count < most:
                    went_back.append((most, count))
                most = max(most, count)

    threads = [threading.Thread(target=load), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    until(lambda: archived_events(run) > 0)
    for _ in range(3):
        rebuild(run.stores, view_named(run.stores.registry.load("shop"), "activity"))
    halt.set()
    for thread in threads:
        thread.join()
    worker.terminate()
    worker.wait(timeout=30)
    run.finish()

    assert went_back == []
    assert run.served("activity", [1])["ever"] == [len(run.sent)]
