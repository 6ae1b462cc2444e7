"""On-demand functions in threads of the server against a process pool: what a call costs with each."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from asof.definitions import Snapshot
from asof.derive import derive_values
from asof.repository import collect
from asof.selection import Derivation, select
from asof.server.read.functions import FunctionThreads
from asof.timing import micros

NOW = micros("2026-01-01T12:00:00Z")
THREADS = 4
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
fields = [Field("user_id", Int64), *(Field(f"f{i}", Float64) for i in range(10))]
view = FeatureView("view", entities=[user], schema=fields, source=FileSource("rows.parquet", timestamp_field="at"))

@on_demand_feature_view(sources=[view], schema=[Field("ratio", Float64)], mode="python")
def one_by_one(row):
    return {"ratio": row["f0"] / (1 + row["f1"])}

@on_demand_feature_view(sources=[view], schema=[Field("share", Float64)], mode="pandas")
def whole(frame):
    import pandas as pd
    return pd.DataFrame({"share": frame["f0"] / (1 + frame["f1"])})
"""
CASES = {"python, 1 row": ("one_by_one:ratio", 1), "python, 100 rows": ("one_by_one:ratio", 100),
         "pandas, 100 rows": ("whole:share", 100)}  # fmt: skip

_derivations: dict[str, tuple[Derivation, ...]] = {}


def load(repo: str) -> None:
    """Import the repository's functions, as each process of the pool has to."""
    project = collect(repo)
    for reference, _ in CASES.values():
        _derivations[reference] = select(Snapshot(1, "bench", project), [reference]).derivations


def derived(reference: str, columns: dict[str, list[Any]], n: int) -> dict[str, list[Any]]:
    return derive_values(columns, n, _derivations[reference], NOW)


def own_memory_mb(_: int) -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def per_call(call: Callable[[], Awaitable[Any]], *, seconds: float, at_once: int) -> tuple[float, float]:
    """Median seconds until a call is done, and calls per second."""
    took: list[float] = []
    until = perf_counter() + seconds

    async def caller() -> None:
        while perf_counter() < until:
            began = perf_counter()
            await call()
            took.append(perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return statistics.median(took), len(took) / seconds


def cpu_s(pids: list[int]) -> float:
    """CPU seconds of these processes so far."""
    ticks = os.sysconf("SC_CLK_TCK")
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(each[11]) + int(each[12]) for each in stats) / ticks


async def measure(repo: str, *, pairs: int, seconds: float) -> None:
    threads = FunctionThreads(THREADS, timeout_s=30)
    pool = ProcessPoolExecutor(THREADS, multiprocessing.get_context("spawn"), initializer=load, initargs=(repo,))
    loop = asyncio.get_running_loop()
    memory = max(await asyncio.gather(*(loop.run_in_executor(pool, own_memory_mb, i) for i in range(THREADS))))
    pids = [os.getpid(), *pool._processes]
    print(f"  memory of each process of the pool: {memory:.0f} MB")
    for case, (reference, n) in CASES.items():
        needed = _derivations[reference]
        columns = {column: [float(i) for i in range(n)] for each in needed for _, column in each.inputs}
        ways: dict[str, Callable[[], Awaitable[Any]]] = {
            "threads": partial(threads.run, partial(derived, reference, columns, n), needed),
            "pool": partial(loop.run_in_executor, pool, derived, reference, columns, n),
        }
        for at_once in (1, 8):
            print(f"  {case}, {at_once} at once: {await compared(ways, pids, pairs, seconds=seconds, at_once=at_once)}")
    threads.close()
    pool.shutdown()


async def compared(
    ways: dict[str, Callable[[], Awaitable[Any]]], pids: list[int], pairs: int, *, seconds: float, at_once: int
) -> str:
    """What the pool costs beside the threads, by turns."""
    ratios, cpu_ratios, shown = [], [], {}
    for _ in range(pairs):
        for name, call in ways.items():
            await call()
            before = cpu_s(pids)
            median_s, rate = await per_call(call, seconds=seconds, at_once=at_once)
            shown[name] = median_s, (cpu_s(pids) - before) / (rate * seconds)
        ratios.append(shown["pool"][0] / shown["threads"][0])
        cpu_ratios.append(shown["pool"][1] / shown["threads"][1])
    return (
        f"pool / threads, median of {pairs}: time {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}), CPU {statistics.median(cpu_ratios):.2f}; last "
        + ", ".join(f"{name} {s * 1e6:.0f} µs, CPU {c * 1e6:.0f} µs" for name, (s, c) in shown.items())
    )


def main(argv: list[str]) -> None:
    """Print the figures; there is no limit to keep."""
    parser = argparse.ArgumentParser(prog="bench_functions")
    parser.add_argument("--quick", action="store_true")
    options, _ = parser.parse_known_args(argv)
    quick = options.quick
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "features.py").write_text(DEFINITIONS)
        load(folder)
        asyncio.run(measure(folder, pairs=3 if quick else 7, seconds=0.5 if quick else 1))


if __name__ == "__main__":
    main(sys.argv[1:])
