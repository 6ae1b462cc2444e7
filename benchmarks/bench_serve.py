"""How fast the server answers, beside an empty handler that reads and answers as many bytes, and beside Feast's."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench_online import FEATURES, NOW, VIEWS, filled_store
from benchmarks.harness import judge
from benchmarks.peer import environment

LATEST = [f"latest{i}:{name}" for i in range(VIEWS) for name in FEATURES]
WINDOWS = [f"windows0:{name}" for name in ("n_1h", "x_1d", "x_7d", "n_session")]
CASES = {
    "latest-1": (LATEST, 1), "latest-100": (LATEST, 100), "windows-100": (WINDOWS, 100),
}  # fmt: skip
PATH = "/get-online-features"
HERE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Measured:
    """One run of load on one server."""

    rate: float
    p50_s: float
    p99_s: float
    cpu_s: float
    bytes: int
    late_s: float
    """At a rate: how late the client itself was, p99."""

    @property
    def tail(self) -> float:
        """p99 as a multiple of p50."""
        return self.p99_s / self.p50_s


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_serve")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--store", choices=["sqlite", "redis"], action="append", help="which online stores")
    parser.add_argument("--feast", action="store_true", help="measure Feast's server, too")
    parser.add_argument("--seconds", type=float, help="of each run")
    options, _ = parser.parse_known_args(argv)
    users = 2_000 if options.quick else 20_000
    seconds = options.seconds or (1 if options.quick else 3)
    runs = 1 if options.quick else 3
    kept = []
    with tempfile.TemporaryDirectory() as name:
        for store in options.store or ["sqlite", "redis"]:
            folder = Path(name) / store
            folder.mkdir()
            with online_store(store, folder) as config:
                if config is None:
                    print(f"\nserve/{store}: not measured, there is no redis-server here")
                    continue
                with filled_store(folder, users=users, settings=config):
                    pass
                kept += measure_store(store, folder, users=users, seconds=seconds, runs=runs)
                if store == "redis":
                    kept.append(
                        measure_fast_path(folder, users=users, seconds=seconds, pairs=3 if options.quick else 7)
                    )
        if options.feast:
            measure_feast(Path(name) / "sqlite", seconds=seconds)
    return all(kept)


@contextmanager
def online_store(kind: str, folder: Path) -> Iterator[str | None]:
    """The configuration of an online store; Redis is started for it."""
    clock = f"clock: {NOW_TEXT}\n"
    if kind == "sqlite":
        yield clock
        return
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    port = free_port()
    process = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), "--daemonize", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(port)
        yield clock + f"online_store:\n  type: redis\n  connection_string: 127.0.0.1:{port}\n"
    finally:
        process.terminate()
        process.wait()


NOW_TEXT = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW / 1e6))


def measure_store(kind: str, folder: Path, *, users: int, seconds: float, runs: int) -> list[bool]:
    kept: list[bool] = []
    print(f"\nserve/{kind}: one worker, {users:,} keys, 16 connections, median of {runs} × {seconds:g} s")
    print(f"  {'':14}{'req/s':>9}{'p50':>10}{'p99':>10}{'CPU/req':>10}{'req/CPU s':>11}{'of empty':>10}{'memory':>9}")
    began = time.monotonic()
    with asof_server(folder) as (port, pid):
        ready_s = time.monotonic() - began
        start_mb = memory_mb(pid)
        for name, (features, rows) in CASES.items():
            bodies = folder / f"{name}.jsonl"
            write_bodies(bodies, features, rows=rows, users=users)
            ask_once(port, bodies)
            size = load(port, bodies, seconds=0.3, pid=pid).bytes
            measured: dict[str, list[Measured]] = {"empty": [], "asof": []}
            with empty_server(size) as (empty_port, empty_pid):
                for _ in range(runs):
                    # One after the other, so that a change of the machine's load meets both.
                    measured["empty"].append(load(empty_port, bodies, seconds=seconds, pid=empty_pid))
                    measured["asof"].append(load(port, bodies, seconds=seconds, pid=pid))
                if name == "latest-1":
                    half = half_load(measured["asof"], port, pid, empty_port, empty_pid, bodies, seconds=seconds)
            empty, asof = median(measured["empty"]), median(measured["asof"])
            share = empty.cpu_s / asof.cpu_s
            for who, each in (("empty", empty), (name, asof)):
                print(
                    f"  {who:14}{each.rate:9,.0f}{each.p50_s * 1e3:8.2f}ms{each.p99_s * 1e3:8.2f}ms"
                    f"{each.cpu_s * 1e6:8.0f}µs{1 / each.cpu_s:11,.0f}{empty.cpu_s / each.cpu_s:10.2f}"
                    f"{memory_mb(pid if who == name else empty_pid) if who == name else 0:7.0f}MB"
                )
            if name == "latest-1":
                kept.append(judge("1 row: requests per CPU second / an empty handler's", share, 1 / 3, at_least=True))
                kept.append(judge("1 row: p99 / p50 at half load", tell_half_load(half), 3, unit="×"))
            limit = {"latest-1": 8000, "latest-100": 1000, "windows-100": 300}[name]
            kept.append(judge(f"{name}: requests per CPU second", 1 / asof.cpu_s, limit, at_least=True))
        kept.append(judge("ready after the command's start", ready_s, 1, unit=" s"))
        kept.append(judge("memory of a worker, online reading alone", start_mb, 120, unit=" MB"))
        print(f"  memory after the load: {memory_mb(pid):.0f} MB")
    return kept


def measure_fast_path(folder: Path, *, users: int, seconds: float, pairs: int) -> bool:
    """The server with its fast path beside one without, by turns, on the request that the fast path is for."""
    (folder / "feature_store.general.yaml").write_text("server:\n  fast_path: false\n")
    bodies = folder / "fast.jsonl"
    write_bodies(bodies, LATEST, rows=1, users=users)
    ratios, rates = [], []
    with asof_server(folder) as fast, asof_server(folder, env="general") as general:
        for port, pid in (fast, general):
            ask_once(port, bodies)
            load(port, bodies, seconds=0.3, pid=pid)
        for _ in range(pairs):
            with_it, without = (load(port, bodies, seconds=seconds, pid=pid) for port, pid in (fast, general))
            ratios.append(without.cpu_s / with_it.cpu_s)
            rates.append(with_it.rate / without.rate)
    print(
        f"  fast path / general way, median of {pairs} pairs: requests per CPU second {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}), observed requests/s {statistics.median(rates):.2f}"
    )
    return judge(
        "fast path: requests per CPU second / the general way's", statistics.median(ratios), 1.3, at_least=True
    )


def half_load(
    full: list[Measured], port: int, pid: int, empty_port: int, empty_pid: int, bodies: Path, *, seconds: float
) -> dict[str, list[Measured]]:
    """Five runs at half of the rate that was reached, and five of the empty handler at the same pace.

    A pause of the machine of 3 ms is more than a hundredth of a short run: several show which tails are ours.
    """
    rate = statistics.median(each.rate for each in full) / 2
    measured: dict[str, list[Measured]] = {"empty": [], "asof": []}
    for _ in range(5):
        measured["empty"].append(load(empty_port, bodies, seconds=seconds, pid=empty_pid, rate=rate))
        measured["asof"].append(load(port, bodies, seconds=seconds, pid=pid, rate=rate))
    return measured


def tell_half_load(measured: dict[str, list[Measured]]) -> float:
    """Print the runs with the middle tails; ours."""
    middle = {who: sorted(runs, key=lambda each: each.tail)[len(runs) // 2] for who, runs in measured.items()}
    for who, each in middle.items():
        tails = ", ".join(f"{run.tail:.1f}" for run in measured[who])
        print(
            f"  half: {who:8}{each.rate:9,.0f}{each.p50_s * 1e3:8.2f}ms{each.p99_s * 1e3:8.2f}ms"
            f"{each.cpu_s * 1e6:8.0f}µs  p99/p50 {tails}; the client was {each.late_s * 1e3:.2f} ms late (p99)"
        )
    return middle["asof"].tail


@contextmanager
def asof_server(folder: Path, *, env: str = "") -> Iterator[tuple[int, int]]:
    """`asof serve` with one worker: its port, and the worker's process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "asof", "--repo", str(folder), "--env", env, "serve", "--port", "0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        while "Serving on" not in line:
            if not line:
                raise RuntimeError("asof serve ended")
            line = process.stderr.readline()
        port = int(line.split(" with ")[0].rpartition(":")[2])
        wait_for(port, path="/ready")
        yield port, child_of(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def empty_server(size: int) -> Iterator[tuple[int, int]]:
    """The same HTTP server with a handler that reads the body and answers so many bytes."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(EMPTY), str(port), str(size)])
    try:
        wait_for(port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()


EMPTY = """
    import sys
    import uvicorn
    from asof.server.http.connection import BoundedProtocol

    port, size = int(sys.argv[1]), int(sys.argv[2])
    body = b"x" * size
    start = {
        "type": "http.response.start", "status": 200,
        "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)],
    }
    rest = {"type": "http.response.body", "body": body}

    async def app(scope, receive, send):
        while (await receive()).get("more_body"):
            pass
        await send(start)
        await send(rest)

    uvicorn.run(
        app, port=port, loop="uvloop", http=BoundedProtocol, ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, date_header=False, proxy_headers=False,
    )
"""


def measure_feast(folder: Path, *, seconds: float) -> None:
    """Feast's own server over its SQLite store with the same rows."""
    try:
        environment.make()
    except environment.PeerUnavailable as error:
        print(f"\nserve/feast: not measured: {error}")
        return
    python = environment.python_of(environment.VENV)
    made = subprocess.run(
        [str(python), "-c", textwrap.dedent(FEAST), str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        print(f"\nserve/feast: not measured: {made.stderr.strip().splitlines()[-1]}")
        return
    port = free_port()
    process = subprocess.Popen(
        [str(python.with_name("feast")), "-c", str(folder / "feast"), "serve", "--port", str(port), "--no-access-log"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    print(f"\nserve/feast: one worker, SQLite, the same rows, 16 connections, {seconds:g} s")
    try:
        wait_for(port, path="/health", seconds=120)
        pid = child_of(process.pid) or process.pid
        for name in ("latest-1", "latest-100"):
            each = load(port, folder / f"{name}.jsonl", seconds=seconds, pid=pid)
            print(
                f"  {name:14}{each.rate:9,.1f}{each.p50_s * 1e3:8.2f}ms{each.p99_s * 1e3:8.2f}ms"
                f"{each.cpu_s * 1e6:8.0f}µs{1 / each.cpu_s:11,.1f}{'':10}{memory_mb(pid):7.0f}MB"
            )
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


FEAST = """
    import sys
    from datetime import datetime, timedelta, timezone
    from pathlib import Path
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.types import Bool, Float64, Int64, String

    folder = Path(sys.argv[1])
    there = folder / "feast"
    there.mkdir()
    (there / "feature_store.yaml").write_text(
        "project: bench\\nprovider: local\\nregistry: registry.db\\nonline_store: {type: sqlite, path: online.db}\\n"
        "entity_key_serialization_version: 3\\n"
    )
    store = FeatureStore(str(there))
    names = [f"f{i}" for i in range(6)] + ["i0", "i1", "b", "s"]
    types = dict.fromkeys(names, Float64) | {"i0": Int64, "i1": Int64, "b": Bool, "s": String}
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    views = [
        FeatureView(
            name=f"latest{i}", entities=[user], ttl=timedelta(0),
            schema=[Field(name="user_id", dtype=Int64)] + [Field(name=n, dtype=types[n]) for n in names],
            source=FileSource(path=str(folder / f"latest{i}.parquet"), timestamp_field="at"),
        )
        for i in range(3)
    ]
    store.apply([user, *views])
    now = datetime(2026, 1, 1, tzinfo=timezone.utc)
    store.materialize(now - timedelta(days=2), now)
"""


def write_bodies(path: Path, features: list[str], *, rows: int, users: int) -> None:
    """Requests for other keys each."""
    numbers = random.Random(rows)
    lines = [
        json.dumps(
            {
                "features": features,
                "full_feature_names": True,
                "entities": {"user_id": numbers.sample(range(users), rows)},
            }
        )  # fmt: skip
        for _ in range(200)
    ]
    path.write_text("\n".join(lines) + "\n")


def ask_once(port: int, bodies: Path) -> None:
    """The first request, whose answer has to be whole."""
    from http.client import HTTPConnection

    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    body = bodies.read_bytes().splitlines()[0]
    connection.request("POST", PATH, body, {"content-type": "application/json"})
    response = connection.getresponse()
    words = json.loads(response.read())
    assert response.status == 200, words
    assert all(status == "PRESENT" for each in words["results"][:8] for status in each["statuses"]), words
    connection.close()


def load(port: int, bodies: Path, *, seconds: float, pid: int, rate: float | None = None) -> Measured:
    """Ask from another process, and say what it cost the server's."""
    before = cpu_s(pid)
    command = [sys.executable, "-m", "benchmarks.load", str(port), PATH, str(bodies), "--seconds", str(seconds)]
    command += ["--rate", str(rate)] if rate else []
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE)
    words: dict[str, Any] = json.loads(done.stdout)
    if set(words["statuses"]) != {"200"}:
        raise RuntimeError(f"not every request was answered: {words}")
    return Measured(
        words["rate"], words["p50_s"], words["p99_s"], (cpu_s(pid) - before) / words["requests"], words["bytes"],
        words["late_p99_s"],
    )  # fmt: skip


def median(measured: list[Measured]) -> Measured:
    return Measured(*(statistics.median(getattr(each, name) for each in measured) for name in Measured.__annotations__))


def cpu_s(pid: int) -> float:
    """User and system seconds of a process, all of its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def child_of(pid: int) -> int:
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                if (each / "stat").read_text().rpartition(")")[2].split()[1] == str(pid):
                    return int(each.name)
            except OSError:
                continue
    return 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as made:
        return made.getsockname()[1]


def wait_for(port: int, *, path: str = "", seconds: float = 60) -> None:
    from http.client import HTTPConnection

    deadline = time.monotonic() + seconds
    while True:
        try:
            if not path:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            connection = HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise RuntimeError(f"nothing answers on port {port}")
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
