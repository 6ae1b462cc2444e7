"""The schedule: one process of several runs each job once, also when one dies in the middle of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.config.cron import Cron
from asof.config.schedule import ScheduledJob
from asof.errors import ConfigError, SourceError
from asof.flows.admin.schedule import MOST_ATTEMPTS, run_schedule, schedule_problem, schedule_status
from asof.flows.schedule_state import JobState, change_state, read_state, take_lead
from asof.flows.stores import Progress, Stores, silent
from asof.server.telemetry.metrics import exposed, schedule_metrics
from asof.store import open_store_of
from asof.timing import HOUR, SECOND, Micros, micros
from asof.types import Int64

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LEASE_S = 20.0
"""Of the tests' processes: long enough for a machine on which much else runs."""

PROCESS = """
import os, sys, threading, time
from pathlib import Path
from asof import FeatureStore
from asof.flows.admin.schedule import run_schedule
from asof.flows.stores import silent
from asof.store import open_store_of

folder, must_hang = Path(sys.argv[1]), sys.argv[2] == "hang"
store = FeatureStore(folder)
def note(line):
    with open(folder / "runs", "a") as file:
        file.write(f"{line} {os.getpid()}\\n")
def job(name):
    def work(views, progress):
        note(f"begin {name}")
        while must_hang and name == "audit":
            time.sleep(0.05)
        note(f"end {name}")
    return work
jobs = {name: job(name) for name in ("materialize", "compact", "audit", "profile")}
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
run_schedule(open_store_of(store).stores, store.config.schedule, jobs, stop=stop, lease_s=float(sys.argv[3]), progress=silent)
store.close()
"""


class Clock:
    """The system's time, as the test sets it."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[FeatureStore]:
    names = ("materialize", "compact", "audit", "profile")
    schedule = "".join(f"  {name}: '0 0 1 1 *'\n" for name in names)
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nschedule:\n{schedule}")
    at = pa.array([NOON - timedelta(hours=1)] * 2, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user": [1, 2], "price": [7, 8], "at": at}), tmp_path / "sales.parquet")
    sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
    store = FeatureStore(tmp_path, system_clock=clock)
    store.apply([FeatureView("latest", entities=[Entity("user")], source=sales, schema=[Field("price", Int64)])])
    yield store
    store.close()


def hourly(*names: str) -> list[ScheduledJob]:
    return [ScheduledJob(name, "audit", Cron("0 * * * *")) for name in names]


class Jobs:
    """Jobs that note their runs; each can be given something to do."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.does: dict[str, Callable[[Progress], str | None]] = {}

    def work(self, views: object, progress: Progress) -> str | None:
        self.ran.append("audit")
        return self.does["audit"](progress) if "audit" in self.does else None

    def run(self, stores: Stores, *names: str) -> dict[str, int]:
        return run_schedule(
            stores, hourly(*names or ("audit",)), {"audit": self.work}, stop=threading.Event(), once=True,
            progress=silent,
        )  # fmt: skip


def test_a_job_runs_from_its_next_time_on_and_what_was_missed_runs_once(store: FeatureStore, clock: Clock) -> None:
    stores, jobs = open_store_of(store).stores, Jobs()

    assert jobs.run(stores) == {}
    clock.now += timedelta(minutes=59)
    assert jobs.run(stores) == {}
    clock.now += timedelta(hours=7)
    assert jobs.run(stores) == {"done": 1}
    assert jobs.run(stores) == {}
    (status,) = schedule_status(stores, hourly("audit"))
    assert (status.outcome, status.due, status.late_s) == ("done", NOON + timedelta(hours=7), 0)
    assert status.next == NOON + timedelta(hours=8) and status.leader == ""
    clock.now += timedelta(hours=2)
    assert schedule_status(stores, hourly("audit"))[0].late_s == 59 * 60


def test_a_failed_job_stops_no_other_and_is_said(store: FeatureStore, clock: Clock) -> None:
    stores, jobs = open_store_of(store).stores, Jobs()
    jobs.run(stores, "first", "second")
    clock.now += timedelta(hours=1)

    def fail(progress: Progress) -> None:
        if len(jobs.ran) == 1:
            raise SourceError("sales is away\nuser 7", hint="start it")

    jobs.does["audit"] = fail
    assert jobs.run(stores, "first", "second") == {"failed": 1, "done": 1}
    status = schedule_status(stores, hourly("first", "second"))
    assert [each.error for each in status] == ["SourceError: sales is away; next: start it", None]
    ok, text, hint = schedule_problem(status)
    assert not ok and "first: SourceError: sales is away" in text and hint
    metrics = exposed(schedule_metrics(status)).decode()
    assert 'asof_schedule_failed{job="first"} 1.0' in metrics and 'asof_schedule_failed{job="second"} 0.0' in metrics
    assert "asof_schedule_led 0.0" in metrics and 'asof_schedule_late_seconds{job="first"} 0.0' in metrics


def test_a_stopped_job_goes_on_at_the_next_start(store: FeatureStore, clock: Clock) -> None:
    stores, jobs, stop = open_store_of(store).stores, Jobs(), threading.Event()
    jobs.run(stores)
    clock.now += timedelta(hours=1)

    def stopped(progress: Progress) -> None:
        stop.set()
        progress("rows", 1, 2)

    jobs.does["audit"] = stopped
    run = {"stop": stop, "once": True, "progress": silent}
    assert run_schedule(stores, hourly("audit"), {"audit": jobs.work}, **run) == {"stopped": 1}  # type: ignore[arg-type]
    assert read_state(stores).leader == "", "another process may lead at once"
    jobs.does.clear()
    assert jobs.run(stores) == {"done": 1}
    assert jobs.run(stores) == {}


def test_who_does_not_lead_runs_nothing_until_the_lease_ends(store: FeatureStore, clock: Clock) -> None:
    stores, jobs = open_store_of(store).stores, Jobs()
    jobs.run(stores)
    clock.now += timedelta(hours=1)
    now = micros(clock.now)

    assert take_lead(stores, "other", "bob@there", now=now, lease=60 * SECOND) is not None
    assert take_lead(stores, "third", "eve@there", now=now + 59 * SECOND, lease=60 * SECOND) is None
    assert jobs.run(stores) == {}
    assert schedule_status(stores, hourly("audit"))[0].leader == "bob@there"
    clock.now += timedelta(seconds=60)
    assert jobs.run(stores) == {"done": 1}


def test_a_job_in_which_every_process_dies_is_given_up_until_its_next_time(store: FeatureStore, clock: Clock) -> None:
    stores, jobs, due = open_store_of(store).stores, Jobs(), micros(NOON) + HOUR
    clock.now += timedelta(hours=1)
    broken_off = JobState(due=due, outcome="running", attempts=MOST_ATTEMPTS, started=due)
    change_state(stores, lambda state: state.with_job("audit", broken_off), when=due, note="test")

    assert jobs.run(stores) == {} and jobs.ran == []
    (status,) = schedule_status(stores, hourly("audit"))
    assert (status.outcome, status.error) == ("failed", f"{MOST_ATTEMPTS} processes died during it")
    clock.now += timedelta(hours=1)
    assert jobs.run(stores) == {"done": 1}


def missed(store: FeatureStore, now: Micros) -> None:
    """Have each job of the schedule be due since its last time."""
    stores = open_store_of(store).stores
    for each in store.config.schedule:
        done = JobState(due=each.cron.latest(now) - 1, outcome="done", attempts=1, started=1, ended=2)
        name = each.name
        change_state(stores, lambda state, name=name, done=done: state.with_job(name, done), when=now, note="test")  # type: ignore[misc]


def begun(folder: Path, *, hangs: bool = False) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", PROCESS, str(folder), "hang" if hangs else "go", str(LEASE_S)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})


def lines_of(folder: Path) -> Counter[str]:
    file = folder / "runs"
    return Counter(line.rsplit(" ", 1)[0] for line in file.read_text().splitlines()) if file.exists() else Counter()


def wait_for(done: Callable[[], bool], processes: list[subprocess.Popen[bytes]], limit_s: float = 240) -> None:
    until = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < until, "not done in time"
        assert any(each.poll() is None for each in processes), "every process ended"
        time.sleep(0.1)


def ended(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    for each in processes:
        if each.stdin is not None:
            each.stdin.close()
    return [each.wait(120) for each in processes]


def test_of_two_processes_one_runs_each_job(store: FeatureStore, tmp_path: Path) -> None:
    missed(store, time.time_ns() // 1000)
    processes = [begun(tmp_path), begun(tmp_path)]
    try:
        wait_for(lambda: sum(n for line, n in lines_of(tmp_path).items() if line.startswith("end")) >= 4, processes)
        assert ended(processes) == [0, 0]
    finally:
        for each in processes:
            each.kill()

    names = [each.name for each in store.config.schedule]
    assert lines_of(tmp_path) == {f"{verb} {name}": 1 for name in names for verb in ("begin", "end")}
    assert {each.outcome for each in store.schedule_status()} == {"done"}


def test_a_job_whose_process_is_killed_is_run_again_by_the_other(store: FeatureStore, tmp_path: Path) -> None:
    missed(store, time.time_ns() // 1000)
    first = begun(tmp_path, hangs=True)
    processes = [first]
    try:
        wait_for(lambda: lines_of(tmp_path)["begin audit"] == 1, processes)
        second = begun(tmp_path)
        processes.append(second)
        first.send_signal(signal.SIGKILL)
        wait_for(lambda: lines_of(tmp_path)["end profile"] == 1, [second])
        assert ended([second]) == [0]
    finally:
        for each in processes:
            each.kill()
            each.wait()

    ran = lines_of(tmp_path)
    assert {line: n for line, n in ran.items() if line.startswith("end")} == {
        f"end {each.name}": 1 for each in store.config.schedule
    }
    assert {line for line, n in ran.items() if n > 1} == {"begin audit"} and ran["begin audit"] == 2


def test_the_command_runs_the_jobs_of_the_configuration(store: FeatureStore, clock: Clock, tmp_path: Path) -> None:
    missed(store, time.time_ns() // 1000)
    command = ["-C", str(tmp_path), "--output", "json", "run", "--once"]
    ran = CliRunner().invoke(cli, command, obj=CliContext())

    assert ran.exit_code == 0, ran.output
    assert '"done": 4' in ran.stdout
    assert all(f"job {name}: done" in ran.stderr for name in ("materialize", "compact", "audit", "profile"))
    assert [run.kind for run in store.runs()] == ["profile", "audit", "compact", "materialize"]
    clock.now = datetime.now(UTC)
    (check,) = [each for each in store.doctor() if each.part == "schedule"]
    assert not check.ok and check.hint == "run `asof run`" and "no process works through it" in check.text
    store.teardown()
    assert read_state(open_store_of(store).stores).jobs == {}


def test_without_a_schedule_there_is_nothing_to_work_through(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    with FeatureStore(tmp_path) as store, pytest.raises(ConfigError, match="has no schedule"):
        store.run_schedule(once=True)
