"""The jobs of a feature store, by Asof and by Feast: historical and online reads, materialize, import, install.

Feast runs in an environment of its own, which is made on first use (`--venv PATH`, else `benchmarks/peer/.venv`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.harness import Candidate, Program, compare
from benchmarks.peer import environment
from benchmarks.peer.jobs import FEATURES, HISTORICAL_VIEWS, ONLINE_VIEWS

ROOT = Path(__file__).parents[1]
JOBS = ("historical", "historical-no-ttl", "online", "materialize", "import", "install")


def main(argv: list[str]) -> bool:
    """Measure both; ratios are of Feast to Asof. There is no limit to keep: a peer is not a goal."""
    parser = argparse.ArgumentParser(prog="bench_peer")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--venv", type=Path, default=environment.VENV, help="Feast's environment; made if missing")
    parser.add_argument("--only", action="append", choices=JOBS, help="this job; may be given more than once")
    parser.add_argument(
        "--rows", type=int, help="rows of each historical view; of the entity frame as many, without ttl a tenth"
    )
    parser.add_argument("--keys", type=int, help="keys in each view of the online store")
    parser.add_argument("--materialize-rows", type=int)
    parser.add_argument("--runs", type=int)
    options, _ = parser.parse_known_args(argv)
    try:
        version = environment.make(options.venv)
    except environment.PeerUnavailable as error:
        print(f"  SKIPPED: Feast cannot be installed here: {error}")
        return True
    print(f"  feast {version} in {options.venv}")

    quick = options.quick
    runs = options.runs or (1 if quick else 5)
    rows = options.rows or (100_000 if quick else 1_000_000)
    keys = options.keys or (10_000 if quick else 100_000)
    peers = Peers(options.venv)
    measures = {
        "historical": partial(measure_historical, peers, rows=rows, spine_rows=rows, ttl_hours=24, runs=runs),
        "historical-no-ttl": partial(
            measure_historical, peers, rows=rows, spine_rows=rows // 10, ttl_hours=0, runs=runs
        ),
        "online": partial(measure_online, peers, keys=keys, runs=runs),
        "materialize": partial(
            measure_materialize, peers, rows=options.materialize_rows or (10_000 if quick else 1_000_000), runs=runs
        ),
        "import": partial(measure_import, peers, runs=3 if quick else 9),
        "install": measure_installs,
    }
    failed = []
    for job in options.only or [job for job in JOBS if job != "install" or not quick]:
        try:
            measures[job]()
        except RuntimeError as error:
            # One side may need more memory than there is; the other jobs can be measured nevertheless.
            print(f"  {job} FAILED: {error}", flush=True)
            failed.append(job)
    return not failed


class Peers:
    """How to run a job on each side, as a process in its environment."""

    def __init__(self, venv: Path) -> None:
        self.venv = venv
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        self._environ = (("PYTHONPATH", path),)
        self._pythons = {"asof": sys.executable, "feast": str(environment.python_of(venv))}

    def candidates(self, *arguments: object) -> dict[str, Candidate]:
        """The job on both sides, for `compare`."""
        return {side: self._program(side, *arguments) for side in self._pythons}

    def prepare(self, *arguments: object) -> None:
        """Do the job on both sides, one after the other, not measured."""
        for side in self._pythons:
            program = self._program(side, *arguments)
            done = subprocess.run(
                program.command, env=os.environ | dict(program.environ), capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise RuntimeError(
                    f"{' '.join(program.command)} ended with code {done.returncode}: {done.stderr[-2000:]}"
                )

    def _program(self, side: str, *arguments: object) -> Program:
        command = (self._pythons[side], "-m", f"benchmarks.peer.{side}_jobs", *map(str, arguments))
        return Program(command, self._environ)


def measure_historical(peers: Peers, *, rows: int, spine_rows: int, ttl_hours: int, runs: int) -> None:
    """A training set, from files to an Arrow table."""
    from benchmarks.bench_historical import generate

    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), rows, {"spine": spine_rows})
        peers.prepare("prepare-historical", folder, ttl_hours)
        compare(
            f"peer/historical/{f'ttl-{ttl_hours}h' if ttl_hours else 'no-ttl'}",
            peers.candidates("historical", folder, "spine"), runs=runs, items=spine_rows,
            note=f"{spine_rows:,} entity rows × {HISTORICAL_VIEWS} views of {rows:,} rows × {FEATURES}",
        )  # fmt: skip


def measure_online(peers: Peers, *, keys: int, runs: int) -> None:
    """Warm reads from SQLite, through `get_online_features(...).to_dict()`."""
    with tempfile.TemporaryDirectory() as folder:
        write_online_sources(Path(folder), keys)
        peers.prepare("prepare-online", folder)
        for rows, calls in ((1, 200), (10, 100), (100, 40), (1000, 10)):
            compare(
                f"peer/online/{rows}", peers.candidates("online", folder, keys, rows, calls),
                runs=max(runs, 3), items=rows,
                note=f"{rows:,} entity rows × {ONLINE_VIEWS} views × {FEATURES}; {keys:,} keys per view; per call",
            )  # fmt: skip


def measure_materialize(peers: Peers, *, rows: int, runs: int) -> None:
    """The first materialize into an empty SQLite store."""
    with tempfile.TemporaryDirectory() as folder:
        write_online_sources(Path(folder), rows, views=1)
        compare(
            "peer/materialize", peers.candidates("materialize", folder), runs=runs, items=rows,
            note=f"{rows:,} rows × {FEATURES} features in Parquet, one per key",
        )  # fmt: skip


def measure_import(peers: Peers, *, runs: int) -> None:
    """Whole processes, the interpreter's start included."""
    python, feast_python = sys.executable, environment.python_of(peers.venv)
    compare(
        "peer/import",
        {"import asof": [python, "-c", "import asof"], "import feast": [str(feast_python), "-c", "import feast"]},
        runs=runs,
    )
    name = "import FeatureStore"
    compare(
        "peer/import-store",
        {
            f"from asof {name}": [python, "-c", f"from asof {name}"],
            f"from feast {name}": [str(feast_python), "-c", f"from feast {name}"],
        },
        runs=runs,
    )
    asof, feast = Path(python).with_name("asof"), feast_python.with_name("feast")
    if asof.exists():
        compare("peer/help", {"asof --help": [str(asof), "--help"], "feast --help": [str(feast), "--help"]}, runs=runs)


def measure_installs() -> None:
    """What `pip install` of each brings, without extras."""
    from benchmarks.bench_import import measure_install

    plain = environment.REQUIREMENT.replace("[duckdb]", "")
    for name, requirements in (("asof", ()), (plain, (plain,)), (environment.REQUIREMENT, (environment.REQUIREMENT,))):
        packages, size_mb = measure_install(*requirements)
        print(f"  base install of {name}: {packages} packages, {size_mb:,.0f} MB (pip itself not counted)", flush=True)


def write_online_sources(folder: Path, rows: int, *, views: int = ONLINE_VIEWS) -> None:
    """One row per key and view, in a random order of keys."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    day_us, start_us = 86_400_000_000, 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
    random = np.random.default_rng(1)
    for view in range(views):
        columns = {
            "user_id": random.permutation(rows),
            "ts": pa.array(start_us - random.integers(0, day_us, rows), pa.timestamp("us", "UTC")),
            **{f"o{view}_{index}": random.random(rows) for index in range(FEATURES)},
        }
        pq.write_table(pa.table(columns), folder / f"online{view}.parquet")
