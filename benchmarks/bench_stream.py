"""The stream worker: events per CPU second from a log into online store and archive, bytes written, freshness.

    python -m benchmarks.bench_stream [ten | mixed | one | freshness …] [--quick] [--events N] [--rate N] [--profile]
                                      [--kafka HOST:PORT] [--redis URL]

Without servers the log is the file log and the online store SQLite.

`ten`: 100,000 keys of which 5,000 are active at a time, so that a batch has about ten events per touched row;
`mixed`: half of the events over 50,000 keys uniformly, half over the others by a power law; `one`: each event of a poll
has a key of its own. Windows of 1 h, 1 d, 7 d, a session of 30 min, and ever; the events span seven days.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from asof.definitions import Aggregation, Entity, FeatureView, Field, LogSource, Session, Sliding, project_of
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.stores import Stores
from asof.flows.stream.run import run_stream
from asof.log.file.log import FileLog
from asof.offline.duckdb.engine import DuckDBOffline
from asof.online.protocol import Lookup
from asof.online.sqlite.store import SqliteOnlineStore
from asof.registry.sqlite import SqliteRegistry
from asof.timing import DAY, SECOND
from asof.types import Int64, String
from asof.values.packing import key_bytes
from benchmarks.harness import RESULTS

KEYS = 100_000
ACTIVE = 5_000
POLL = 50_000
NOW = 1_800_000_000 * SECOND


def wall_clock() -> int:
    return int(time.time() * 1_000_000)


def parts_in(path: Path, clock: Any = lambda: NOW) -> Stores:
    """The parts over a folder; on servers, what belongs to the folder is found by its name."""
    log: Any
    online: Any
    if servers := option("--kafka"):
        from asof.log.kafka.log import KafkaLog

        # The benchmark's clock is ahead of the broker's.
        ahead = {"message.timestamp.after.max.ms": 2**62}
        prefix = f"{path.name}."
        log = KafkaLog(servers, clock=clock, topic_prefix=prefix, replication_factor=1, topic_settings=ahead)
    else:
        log = FileLog(path / "log", clock=clock)
    if url := option("--redis"):
        from asof.online.redis.store import RedisOnlineStore

        online = RedisOnlineStore(url, key_prefix=f"{path.name}:")
    else:
        online = SqliteOnlineStore(path / "online.db")
    return Stores(
        project="bench", registry=SqliteRegistry(path / "registry.db"),
        offline=DuckDBOffline(path / "archive", threads=1), online=online, log=log, readers={}, clock=clock,
        who="bench",
    )  # fmt: skip


def option(name: str) -> str:
    """What follows an option on the command line; empty where it is not there."""
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else ""


def let_go(stores: Stores) -> None:
    """Remove what stands on servers."""
    stores.online.drop_project("bench")
    stores.log.delete("visits")
    for part in (stores.log, stores.online):
        part.close()  # type: ignore[attr-defined]


def applied(stores: Stores) -> None:
    source = LogSource(
        "visits", schema=[Field(n, Int64) for n in ("user_id", "amount", "at")] + [Field("page", String)],
        timestamp_field="at", timestamp_unit="us",
    )  # fmt: skip
    windows = {"1h": Sliding("1h"), "1d": Sliding("1d"), "7d": Sliding("7d"), "session": Session("30m"), "ever": None}
    aggregations = [Aggregation("", "count", window=window, name=f"n_{name}") for name, window in windows.items()]
    aggregations += [Aggregation("amount", "sum", window=windows["7d"], name="sum_7d"),
                     Aggregation("", "count", window=windows["1d"], name="photos", where="page = 'photo'")]  # fmt: skip
    user = Entity("user", ["user_id"])
    view = FeatureView("activity", entities=[user], source=source, aggregations=aggregations)
    apply_plan(stores, make_plan(stores, project_of([source, user, view])))


def keys_of(kind: str, events: int, rng: np.random.Generator) -> np.ndarray:
    if kind == "one":
        rounds = [rng.permutation(KEYS) for _ in range(-(-events // KEYS))]
        return np.concatenate(rounds)[:events]
    half = KEYS // 2
    uniform = rng.integers(0, half, events)
    power = half + np.minimum(rng.zipf(1.3, events) - 1, half - 1)
    mixed = np.where(rng.random(events) < 0.5, uniform, power)
    if kind == "mixed":
        return mixed
    crowds = [rng.choice(KEYS, ACTIVE, replace=False) for _ in range(-(-events // POLL))]
    return np.concatenate([crowd[rng.integers(0, ACTIVE, POLL)] for crowd in crowds])[:events]


def filled(stores: Stores, kind: str, events: int) -> None:
    rng = np.random.default_rng(7)
    keys = keys_of(kind, events, rng).tolist()
    times = (NOW - 7 * DAY + np.sort(rng.integers(0, 7 * DAY, events))).tolist()
    pages = rng.choice(["listing", "product", "photo"], events).tolist()
    for start in range(0, events, 100_000):
        part = slice(start, start + 100_000)
        values = [
            b'{"user_id":%d,"amount":%d,"at":%d,"page":"%s"}' % (key, key % 97, at, page.encode())
            for key, at, page in zip(keys[part], times[part], pages[part], strict=True)
        ]
        stores.log.send("visits", values, partition=0, durable=False)


def written_bytes() -> int:
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if "wchar" in line).split()[1])


def throughput(kind: str, events: int, *, profile: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        stores = parts_in(Path(folder))
        applied(stores)
        filled(stores, kind, events)
        # The first half grows the rows; the second meets rows of the size that they have for good.
        profiler = cProfile.Profile() if profile else None
        before, cpu, wall = written_bytes(), time.process_time(), time.perf_counter()
        if profiler:
            profiler.enable()
        run_stream(stores, until_caught_up=True)
        if profiler:
            profiler.disable()
            pstats.Stats(profiler).sort_stats("tottime").print_stats(28)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        table = stores.online.tables("bench")[0]
        page = stores.online.scan(table, limit=5000)
        sizes = [len(row[1]) for row in page]
        let_go(stores)
        archive = sum(each.stat().st_size for each in (Path(folder) / "archive").rglob("*.parquet"))
        return {
            "kind": kind, "events": events, "per_cpu_s": round(events / cpu), "per_wall_s": round(events / wall),
            "written_bytes_per_event": round((written_bytes() - before) / events),
            "archive_bytes_per_event": round(archive / events, 1), "row_bytes_mean": round(float(np.mean(sizes))),
        }  # fmt: skip


def freshness(seconds: float = 20.0, rate: int = 20_000) -> dict[str, object]:
    """How long after its send returned a probe is readable, while others send `rate` events a second, in ms."""
    with tempfile.TemporaryDirectory() as folder:
        stores = parts_in(Path(folder), wall_clock)
        applied(stores)
        stop = threading.Event()
        servers = [each for name in ("--kafka", "--redis") if option(name) for each in (name, option(name))]
        arguments = [*servers, "--worker", folder, str(seconds + 2)]
        command = [sys.executable, "-m", "benchmarks.bench_stream", *arguments]
        worker = subprocess.Popen(command)
        time.sleep(2)
        table = stores.online.tables("bench")[0]

        def load() -> None:
            rng = np.random.default_rng(1)
            while not stop.is_set():
                begun = time.perf_counter()
                now = wall_clock()
                keys = keys_of("mixed", rate // 20, rng).tolist()
                values = [b'{"user_id":%d,"amount":1,"at":%d,"page":"photo"}' % (key, now) for key in keys]
                stores.log.send("visits", values, partition=0, durable=False)
                time.sleep(max(0.0, 0.05 - (time.perf_counter() - begun)))

        loader = threading.Thread(target=load)
        loader.start()
        waits = []
        until = time.perf_counter() + seconds
        probe = 10_000_000
        while time.perf_counter() < until:
            probe += 1
            key = key_bytes((probe,))
            value = b'{"user_id":%d,"amount":1,"at":%d,"page":"x"}' % (probe, wall_clock())
            stores.log.send("visits", [value], durable=False)
            sent = time.perf_counter()
            while stores.online.read([Lookup(table, [key])])[0][0] is None:
                time.sleep(0.001)
            waits.append((time.perf_counter() - sent) * 1000)
            time.sleep(0.01)
        stop.set()
        loader.join()
        worker.wait()
        let_go(stores)
        p50, p99 = np.percentile(waits[10:], [50, 99])
        return {"kind": "freshness", "events_per_s": rate, "probes": len(waits), "p50_ms": round(p50, 1),
                "p99_ms": round(p99, 1), "max_ms": round(max(waits[10:]), 1)}  # fmt: skip


def work(folder: str, seconds: float) -> None:
    halt = threading.Event()
    threading.Timer(seconds, halt.set).start()
    run_stream(parts_in(Path(folder), wall_clock), stop=halt, flush_every_s=1.0)


def main(argv: list[str]) -> None:
    """Print the figures; what the servers' options say is asked for where they are needed."""
    kinds = ("ten", "mixed", "one", "freshness")
    parser = argparse.ArgumentParser(prog="bench_stream")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"all by default: {', '.join(kinds)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--events", type=int)
    parser.add_argument("--rate", type=int, default=20_000, help="events a second beside the probes of freshness")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="the log; a file log by default")
    parser.add_argument("--redis", metavar="URL", help="the online store; SQLite by default")
    parser.add_argument("--worker", nargs=2, metavar=("FOLDER", "SECONDS"), help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args(argv)
    if options.worker:
        work(options.worker[0], float(options.worker[1]))
        return
    events = options.events or (50_000 if options.quick else 1_000_000)
    for kind in [each for each in options.kinds if each in kinds] or kinds:
        if kind == "freshness":
            result = freshness(5.0 if options.quick else 20.0, options.rate)
        else:
            result = throughput(kind, events, profile=options.profile)
        result["log"] = "kafka" if option("--kafka") else "file"
        result["online"] = "redis" if option("--redis") else "sqlite"
        print(json.dumps(result))
        RESULTS.mkdir(exist_ok=True)
        with (RESULTS / f"{datetime.now(UTC):%Y-%m-%d}.jsonl").open("a") as file:
            file.write(json.dumps({"name": f"stream/{kind}", **result}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
