"""Point-in-time joins of latest values, against the same joins hand-written with DuckDB's ASOF JOIN, exact on ties.

`python -m benchmarks.bench_historical [--quick] [--scale 0.1] [--runs 5] [--linear]`
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import duckdb

from asof.definitions import Entity, FeatureView, Field, FileSource
from asof.dtypes import Float64, Int64
from asof.offline.duckdb.engine import DuckDBEngine
from asof.selection import FeatureOut, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime
from benchmarks.harness import compare, judge

VIEWS, FEATURES = 5, 10


def generate(folder: Path, rows: int, spines: dict[str, int]) -> None:
    """Views of `rows` rows over rows/10 users, half of them uniform and half power-law, in 90 days."""
    users = max(1, rows // 10)
    key = (
        f"CASE WHEN random() < 0.5 THEN (random() * {users})::BIGINT ELSE floor({users} * pow(random(), 4))::BIGINT END"
    )
    time = "TIMESTAMP '2026-01-01' + to_microseconds((random() * 90 * 86400 * 1000)::BIGINT * 1000)"
    con = duckdb.connect()
    con.execute("SELECT setseed(0.5)")
    for name, count in spines.items():
        con.execute(
            f"COPY (SELECT {key} AS user_id, {time} AS event_timestamp, range AS label FROM range({count})) "
            f"TO '{folder}/{name}.parquet'"
        )
    for view in range(VIEWS):
        values = ", ".join(f"random() AS f{view}_{index}" for index in range(FEATURES))
        con.execute(
            f"COPY (SELECT user_id, ts, ts + to_microseconds((random() * 1000)::BIGINT) AS created, {values} "
            f"FROM (SELECT {key} AS user_id, {time} AS ts FROM range({rows}))) TO '{folder}/view{view}.parquet'"
        )
    con.close()


def by_hand(folder: str, spine: str, ttl_hours: int) -> list[int]:
    """Five ASOF joins whose key is (time, created), so that ties are exact."""
    names = [(view, f"f{view}_{index}") for view in range(VIEWS) for index in range(FEATURES)]
    guard = "CASE WHEN v{view}.ts >= s.event_timestamp - INTERVAL {hours} HOURS THEN {name} END AS {name}"
    columns = [guard.format(view=view, hours=ttl_hours, name=name) if ttl_hours else name for view, name in names]
    joins = "".join(
        f" ASOF LEFT JOIN '{folder}/view{view}.parquet' v{view} ON s.user_id = v{view}.user_id "
        f"AND row(s.event_timestamp, TIMESTAMP '9999-01-01') >= row(v{view}.ts, v{view}.created)"
        for view in range(VIEWS)
    )
    con = duckdb.connect()
    text = (
        f"SELECT s.user_id, s.event_timestamp, s.label, {', '.join(columns)} FROM '{folder}/{spine}.parquet' s{joins}"
    )
    return _consume(con.sql(text).to_arrow_reader(100_000))


def by_asof(folder: str, spine: str, ttl_hours: int) -> list[int]:
    reads, inputs = [], {}
    for number in range(VIEWS):
        source = FileSource(
            f"view{number}.parquet", name=f"source{number}", timestamp_field="ts", created_timestamp_column="created"
        )
        fields = [Field(f"f{number}_{index}", Float64) for index in range(FEATURES)]
        view = FeatureView(
            f"view{number}", source=source, entities=[Entity("user", ["user_id"])],
            schema=[Field("user_id", Int64), *fields], ttl=f"{ttl_hours}h" if ttl_hours else None,
        )  # fmt: skip
        reads.append(
            ViewRead(view, ("user_id",), tuple(FeatureOut(each.name, each.name, each.dtype) for each in fields))
        )
        inputs[source.name] = Files((f"{folder}/view{number}.parquet",))
    result = DuckDBEngine().run(PointInTime(tuple(reads)), inputs, spine=Files((f"{folder}/{spine}.parquet",)))
    return _consume(result.reader(100_000))


def _consume(batches: object) -> list[int]:
    """Rows, then per view the number of rows without a value: what both ways must agree on."""
    rows, nulls = 0, [0] * VIEWS
    for batch in batches:  # type: ignore[attr-defined]
        rows += batch.num_rows
        for view in range(VIEWS):
            nulls[view] += batch.column(3 + view * FEATURES).null_count
    return [rows, *nulls]


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_historical")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scale", type=float, help="of the 1,000,000 rows of the spine and of each view")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--linear", action="store_true", help="also ten times the spine rows")
    options, _ = parser.parse_known_args(argv)
    rows = int(1_000_000 * (options.scale or (0.1 if options.quick else 1)))
    runs = options.runs or (1 if options.quick else 5)
    kept = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        spines = {"spine": rows, "small": rows // 10, **({"large": rows * 10} if options.linear else {})}
        generate(folder, rows, spines)
        for name, spine, ttl_hours in (("ttl-1d", "spine", 24), ("no-ttl-small", "small", 0), ("no-ttl", "spine", 0)):
            found = compare(
                f"historical/{name}",
                {
                    "asof join by hand": partial(by_hand, made, spine, ttl_hours),
                    "asof": partial(by_asof, made, spine, ttl_hours),
                },
                runs=runs, items=spines[spine], note=f"{spines[spine]:,} spine rows × 5 views of {rows:,} × 10",
            )["asof"]  # fmt: skip
            kept.append(judge("CPU against by hand", found.cpu_ratio or 0, 1.1, unit="×"))
            kept.append(judge("wall against by hand", found.wall_ratio or 0, 1.1, unit="×"))
            if name == "ttl-1d":
                kept.append(judge("peak memory against by hand", found.peak_ratio or 0, 0.5, unit="×"))
        if options.linear:
            found = compare(
                "historical/linear",
                {"1×": partial(_timed, made, "spine"), "10×": partial(_timed, made, "large")},
                runs=1, note=f"{rows:,} and {rows * 10:,} spine rows, no ttl",
            )["10×"]  # fmt: skip
            kept.append(judge("time of ten times the spine rows", found.wall_ratio or 0, 11, unit="×"))
            kept.append(judge("peak memory of 10×", found.peak_mb, 4000, unit=" MiB"))
    return all(kept)


def _timed(folder: str, spine: str) -> None:
    by_asof(folder, spine, 0)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
