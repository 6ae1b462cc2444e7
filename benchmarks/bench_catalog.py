"""The catalog's pages over 10,000 features in 1,000 views: time per page, search, start, memory.

Pages are made in the process, without HTTP. Each is asked for many times, of other objects in turn: the first look at
an object waits for its live values, within their budgets, as a first look of a reader does. They are timed once the
home page has all of its values: its checks of the store take a second or more of processor time, every ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from asof import Aggregation, Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, Sliding
from asof.catalog.urls import page_url
from asof.definitions import Snapshot, project_of
from asof.store import open_store_of
from asof.types import Float64, Int64, Timestamp

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
FEATURES = 10
"""Features of each view."""

PAGE_MS, SEARCH_MS, START_S, MEMORY_MB = 100, 50, 1.0, 200


def names_of(view: int) -> list[str]:
    """The features of a view, with names as people write them."""
    what = ("orders", "refunds", "sessions", "clicks", "payments", "reviews", "visits", "messages")
    how = ("count", "sum", "mean", "last", "max")
    return [f"{what[(view + i) % 8]}_{how[i % 5]}_{i + 1}d" for i in range(FEATURES)]


def fill(folder: Path, views: int) -> None:
    """Apply a project with so many views: nine of ten from files, one from a push log."""
    (folder / "feature_store.yaml").write_text("project: big\n")
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    with FeatureStore(folder, clock=lambda: NOW) as store:
        entities = [Entity(f"entity_{i}", join_keys=[f"entity_{i}_id"]) for i in range(20)]
        made: list[Any] = []
        sources: dict[int, Any] = {}
        for n in range(views):
            entity, number = entities[n % 20], n // 10
            key = Field(entity.join_keys[0], Int64)
            names = names_of(n)
            if n % 10 == 9:
                schema = [Field(f"entity_{i}_id", Int64) for i in range(20)] + [Field("at", Timestamp)]
                source = PushSource(f"events_{number}", schema=schema, timestamp_field="at")
                counts = [
                    Aggregation("", "count", window=Sliding(f"{i + 1}d"), name=name) for i, name in enumerate(names)
                ]
                fields = [key, *(Field(name, Int64) for name in names)]
                made.append(
                    FeatureView(f"activity_{n}", entities=[entity], source=source, aggregations=counts, schema=fields,
                                description=f"What entity {n % 20} did lately", owner=f"team-{n % 7}@example.com")
                )  # fmt: skip
                continue
            if number not in sources:
                sources[number] = FileSource(f"table_{number}.parquet", name=f"table_{number}", timestamp_field="at")
                columns = {f"entity_{i}_id": [1] for i in range(20)} | {
                    name: [1.5] for m in range(number * 10, number * 10 + 9) for name in names_of(m)
                }
                pq.write_table(pa.table({**columns, "at": at}), folder / f"table_{number}.parquet")
            fields = [key, *(Field(name, Float64, description=f"{name} of view {n}") for name in names)]
            made.append(
                FeatureView(f"profile_{n}", entities=[entity], source=sources[number], schema=fields,
                            description=f"Numbers of table {number}", owner=f"team-{n % 7}@example.com",
                            tags={"team": f"team-{n % 7}"})
            )  # fmt: skip
        services = [FeatureService(f"model_{i}", features=made[i * 10 : i * 10 + 10]) for i in range(views // 10)]
        stores = open_store_of(store).stores
        snapshot = Snapshot(0, "big", project_of([*made, *services]))
        stores.registry.commit(snapshot, expected=0, who="bench", when=stores.clock(), note="")


def typo(name: str, chance: random.Random) -> str:
    """The name with one letter left out, or two swapped."""
    place = chance.randrange(1, len(name) - 2)
    if chance.random() < 0.5:
        return name[:place] + name[place + 1 :]
    return name[:place] + name[place + 1] + name[place] + name[place + 2 :]


def requests(views: int) -> dict[str, Iterator[tuple[str, dict[str, str]]]]:
    """Kind of page → paths and queries without end."""
    chance = random.Random(7)

    def any_view() -> tuple[int, str]:
        n = chance.randrange(views)
        return n, f"activity_{n}" if n % 10 == 9 else f"profile_{n}"

    def any_feature() -> tuple[str, str]:
        n, view = any_view()
        return view, chance.choice(names_of(n))

    def endless(make: Callable[[], tuple[str, dict[str, str]]]) -> Iterator[tuple[str, dict[str, str]]]:
        while True:
            yield make()

    number = lambda: chance.randrange(views // 10)  # noqa: E731 - drawn anew each time
    made: dict[str, Callable[[], tuple[str, dict[str, str]]]] = {
        "home": lambda: (page_url(), {}),
        "view": lambda: (page_url("view", any_view()[1]), {}),
        "feature": lambda: (page_url("feature", *any_feature()), {}),
        "source of rows": lambda: (page_url("source", f"table_{number()}"), {}),
        "source with a log": lambda: (page_url("source", f"events_{number()}"), {}),
        "entity": lambda: (page_url("entity", f"entity_{chance.randrange(20)}"), {}),
        "service": lambda: (page_url("service", f"model_{number()}"), {}),
        "runs": lambda: (page_url("runs"), {}),
        "training sets": lambda: (page_url("training-sets"), {}),
        "list of features": lambda: (page_url("search"), {"kind": "feature"}),
        "search": lambda: (page_url("search"), {"q": ":".join(any_feature()), "part": "results", "limit": "8"}),
        "search with a typo": lambda: (
            page_url("search"), {"q": typo(":".join(any_feature()), chance), "part": "results", "limit": "8"},
        ),
    }  # fmt: skip
    return {name: endless(make) for name, make in made.items()}


def measure(folder: Path, views: int, calls: int) -> dict[str, Any]:
    """Open the catalog in this process, and measure it: runs in a fresh one."""
    from asof.catalog.pages import PAGES
    from asof.catalog.site import Site
    from asof.catalog.viewer import Owner

    store = FeatureStore(folder, clock=lambda: NOW)
    snapshot = open_store_of(store).snapshot()
    before_mb = _resident_mb()
    began = time.perf_counter()
    site = Site(store, snapshot=lambda: snapshot)
    site.respond(page_url(), {}, Owner())
    first_page_s = time.perf_counter() - began
    site.respond(page_url("search"), {"q": "orders", "part": "results"}, Owner())
    first_search_s = time.perf_counter() - began
    while _is_late(json.loads(site.respond(page_url() + "home.json", {}, Owner()).body)):
        time.sleep(0.05)
    complete_s = time.perf_counter() - began
    times: dict[str, list[float]] = {}
    cpu: dict[str, float] = {}
    for name, paths in requests(views).items():
        path, query = next(paths)
        if path.split("/")[2] not in {"", *PAGES}:
            continue
        times[name] = []
        cpu_before = time.process_time()
        for _ in range(calls):
            path, query = next(paths)
            began = time.perf_counter()
            found = site.respond(path, query, Owner())
            times[name].append((time.perf_counter() - began) * 1e3)
            assert found.status == 200, (path, found.status)
        # Of all threads: what is asked of the live store counts, too.
        cpu[name] = (time.process_time() - cpu_before) / calls * 1e3
    memory_mb = _resident_mb() - before_mb
    site.close()
    store.close()
    return {
        "pages": {name: [_share(found, 0.5), _share(found, 0.95), cpu[name]] for name, found in times.items()},
        "first_page_s": first_page_s, "first_search_s": first_search_s, "complete_s": complete_s,
        "memory_mb": memory_mb,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def _is_late(page: dict[str, Any]) -> bool:
    values = [page[name] for name in ("checks", "expectations", "changes", "runs")]
    return bool(page["late"]) or any(each["is_late"] for each in values)


def _share(found: list[float], share: float) -> float:
    return sorted(found)[min(int(len(found) * share), len(found) - 1)]


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main(argv: list[str]) -> bool:
    """Print p50, p95 and mean CPU of each page; False where a limit is missed."""
    parser = argparse.ArgumentParser(prog="bench_catalog")
    parser.add_argument("--views", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=200, help="of each page")
    parser.add_argument("--quick", action="store_true", help="100 views, 20 calls")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args(argv)
    views, calls = (100, 20) if options.quick else (options.views, options.calls)
    if options.measure:
        print(json.dumps(measure(options.measure, views, calls)))
        return True
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), views)
        command = [sys.executable, "-m", "benchmarks.bench_catalog", "--measure", folder]
        sizes = ["--views", str(views), "--calls", str(calls)]
        run = subprocess.run([*command, *sizes], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(run.stdout.splitlines()[-1])
    missed = []
    print(f"{views * FEATURES:,} features in {views:,} views, {calls} calls of each page; ms")
    print(f"{'page':20} {'p50':>8} {'p95':>8} {'CPU':>8}")
    for name, (half, most, cpu) in found["pages"].items():
        limit = SEARCH_MS if name.startswith("search") else PAGE_MS
        missed += [name] if most > limit else []
        print(f"{name:20} {half:8.1f} {most:8.1f} {cpu:8.1f}{' missed: ' + str(limit) if most > limit else ''}")
    print(
        f"first page after {found['first_page_s']:.2f} s, first search after {found['first_search_s']:.2f} s, "
        f"the home page with all of its values after {found['complete_s']:.2f} s"
    )
    print(f"memory of the catalog {found['memory_mb']:.0f} MB; of the process at most {found['peak_mb']:.0f} MB")
    missed += ["start"] if found["first_page_s"] > START_S else []
    missed += ["memory"] if found["memory_mb"] > MEMORY_MB else []
    return not missed


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
