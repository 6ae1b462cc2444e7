"""History on Spark Connect servers: latest values and windows beside the best plans by hand on the same server.

`python -m benchmarks.bench_spark [--quick] [--engine sail] [--engine spark] [--rows 2000000] [--runs 3]`
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asof import Aggregation, Entity, FeatureView, Field, FileSource, Sliding
from asof.connections.spark.client import SparkSession
from asof.offline.spark.engine import SparkOffline
from asof.selection import FeatureOut, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime
from asof.sql.spark.dialect import SESSION
from asof.timing import DAY, HOUR
from asof.types import Float64, Int64
from benchmarks.harness import compare, judge
from tests.services import Sail, ServiceUnavailable, Spark, private

LATEST_LIMIT, WINDOWS_LIMIT = 1.3, 1.3
"""Times the processor time of the best plan by hand."""

FIXED_COST_LIMIT_S = 2.0
"""A read of ten rows on Sail, after the first."""

SETTINGS = {"spark.sql.shuffle.partitions": "4"}
ENGINES: dict[str, tuple[Any, dict[str, Any]]] = {"sail": (Sail, {}), "spark": (Spark, {"heap_mb": 4096})}
VALUES = ("a", "b", "c")


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_spark")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--engine", action="append", choices=ENGINES, help="both by default")
    parser.add_argument("--rows", type=int, help="of the source; the entity frame has 15 %% of them")
    parser.add_argument("--runs", type=int)
    options, _ = parser.parse_known_args(argv)
    rows = options.rows or (20_000 if options.quick else 2_000_000)
    runs = options.runs or (1 if options.quick else 3)
    kept = []
    for name in options.engine or ENGINES:
        kind, settings = ENGINES[name]
        with tempfile.TemporaryDirectory() as folder:
            try:
                with private(kind, **settings) as server, Case.made(Path(folder), rows, server.url) as case:
                    kept.append(measure(name, case, server.pid, runs))
            except ServiceUnavailable as error:
                print(f"  SKIPPED: {error}")
    return all(kept)


@dataclass(frozen=True)
class Case:
    """Files, and the two ways to ask a server over them."""

    folder: Path
    rows: int
    asked: int
    store: SparkOffline
    session: SparkSession

    @classmethod
    @contextmanager
    def made(cls, folder: Path, rows: int, remote: str) -> Iterator[Case]:
        """Rows of rows/100 keys in 90 days, half of them of few keys: the hottest has an eighth of all."""
        rng = np.random.default_rng(14)
        keys, asked = max(1, rows // 100), rows * 15 // 100

        def chosen(count: int) -> Any:
            hot = (keys * rng.random(count) ** 4).astype(np.int64)
            hot[rng.random(count) < 0.12] = 0
            return np.where(rng.random(count) < 0.5, rng.integers(0, keys, count), hot)

        def times(count: int) -> Any:
            return 1_767_225_600_000_000 + rng.integers(0, 90 * 86_400_000, count) * 1000

        kind = pa.timestamp("us", "UTC")
        at = times(rows)
        source = {"k": chosen(rows), "at": pa.array(at, kind), "written": pa.array(at + rng.integers(0, 9, rows), kind)}
        source |= {name: rng.integers(-1000, 1000, rows) for name in VALUES[:2]} | {"c": rng.random(rows)}
        frame = {"k": chosen(asked), "event_timestamp": pa.array(times(asked), kind), "n": np.arange(asked)}
        pq.write_table(pa.table(source), folder / "rows.parquet")
        pq.write_table(pa.table(frame), folder / "frame.parquet")
        session = SparkSession.builder.remote(remote).create()
        for name, value in {**SESSION, **SETTINGS}.items():
            session.conf.set(name, value)
        for name in ("rows", "frame"):
            session.read.parquet(str(folder / f"{name}.parquet")).createOrReplaceTempView(name)
        store = SparkOffline(folder / "offline", remote=remote, settings=SETTINGS)
        yield cls(folder, rows, asked, store, session)
        store.close()
        session.stop()


def measure(engine: str, case: Case, pid: int, runs: int) -> bool:
    """Latest values, windows, and what a read costs at the least."""
    note = f"{case.rows:,} rows, {case.asked:,} of the entity frame"
    ways: dict[str, dict[str, Any]] = {
        "latest": {
            "by hand, carried along": partial(by_hand, case, CARRIED, VALUES),
            "by hand, fetched by number": partial(by_hand, case, FETCHED, VALUES),
            "asof": partial(by_asof, case, latest_view(), VALUES),
        },
        "windows": {
            "by hand, sums at markers": partial(by_hand, case, MARKERS, WINDOWED),
            "asof": partial(by_asof, case, windowed_view(), WINDOWED),
        },
    }
    kept = []
    for what, limit in (("latest", LATEST_LIMIT), ("windows", WINDOWS_LIMIT)):
        found = compare(
            f"spark/{engine}/{what}", ways[what], runs=runs, fresh=False, items=case.asked, note=note, servers=[pid]
        )
        best = min(each.cpu_s for name, each in found.items() if name != "asof")
        kept.append(judge(f"{engine}, {what}: asof / the best by hand, CPU", found["asof"].cpu_s / best, limit))
    fixed = compare(
        f"spark/{engine}/fixed cost", {"asof": partial(by_asof, case, latest_view(), VALUES, 10)},
        runs=max(3, runs), fresh=False, note="10 rows of the entity frame, one file", servers=[pid],
    )  # fmt: skip
    if engine == "sail":
        kept.append(judge("sail, a read of ten rows", fixed["asof"].wall_s, FIXED_COST_LIMIT_S, unit=" s"))
    return all(kept)


USER = Entity("user", ["k"])
SOURCE = FileSource("rows.parquet", name="rows", timestamp_field="at", created_timestamp_column="written")
FIELDS = [Field("k", Int64), Field("a", Int64), Field("b", Int64), Field("c", Float64)]
WINDOWED = ("n_1d", "n_7d", "a_7d")


def latest_view() -> FeatureView:
    return FeatureView("latest", source=SOURCE, entities=[USER], schema=FIELDS)


def windowed_view() -> FeatureView:
    made = [
        Aggregation("", "count", name="n_1d", window=Sliding("1d"), dtype=Int64),
        Aggregation("", "count", name="n_7d", window=Sliding("7d"), dtype=Int64),
        Aggregation("a", "sum", name="a_7d", window=Sliding("7d"), dtype=Int64),
    ]
    view = FeatureView("windows", source=SOURCE, entities=[USER], schema=FIELDS, aggregations=made)
    return view.resolved(schema=FIELDS, aggregations=made)


def by_asof(case: Case, view: FeatureView, names: tuple[str, ...], asked: int = 0) -> list[float]:
    frame = pq.read_table(case.folder / "frame.parquet", columns=["k", "event_timestamp"])
    read = ViewRead(view, ("k",), tuple(FeatureOut(each.name, each.name, each.dtype) for each in view.features))
    path = case.folder / "rows.parquet"
    given = Files((str(path),), pq.read_schema(path), is_ordered=False)
    result = case.store.run(PointInTime((read,)), {"rows": given}, spine=frame.slice(0, asked) if asked else frame)
    return summed(result.to_arrow(), names)


def by_hand(case: Case, statement: str, names: tuple[str, ...]) -> list[float]:
    return summed(case.session.sql(statement).toArrow(), names)


def summed(found: pa.Table, names: tuple[str, ...]) -> list[float]:
    """What all ways must agree on: the rows, then per column its nulls and the sum of the others, rounded."""
    columns = [found[name] for name in names if name in found.column_names]
    sums = [round(float(np.nansum(each.to_numpy(zero_copy_only=False).astype(float))), 3) for each in columns]
    return [found.num_rows, *(each.null_count for each in columns), *sums]


CARRIED = """
SELECT n, found.a, found.b, found.c FROM (
SELECT n, last(CASE WHEN side = 0 THEN named_struct('a', a, 'b', b, 'c', c) END) IGNORE NULLS OVER (
  PARTITION BY k ORDER BY at, side, written ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS found
FROM (SELECT k, at, 0 AS side, written, a, b, c, CAST(NULL AS bigint) AS n FROM rows UNION ALL
SELECT k, event_timestamp, 1, NULL, NULL, NULL, NULL, n FROM frame))
WHERE n IS NOT NULL ORDER BY n
"""

FETCHED = """
WITH numbered AS (
SELECT k, a, b, c, row_number() OVER (PARTITION BY k ORDER BY at, written) AS place FROM rows), counted AS (
SELECT k, n, place FROM (SELECT k, n, count(CASE WHEN side = 0 THEN 1 END) OVER (
  PARTITION BY k ORDER BY at, side ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS place
FROM (SELECT k, at, 0 AS side, CAST(NULL AS bigint) AS n FROM rows UNION ALL
SELECT k, event_timestamp, 1, n FROM frame)) WHERE n IS NOT NULL)
SELECT c.n, r.a, r.b, r.c FROM counted c LEFT JOIN numbered r ON r.k = c.k AND r.place = c.place ORDER BY c.n
"""


def _start(window: int) -> str:
    """The first moment of a window that ends at a row's time, in µs: windows begin at whole hours."""
    micros = f"unix_micros(event_timestamp) - {window}"
    return f"({micros}) - pmod({micros}, {HOUR})"


MARKERS = f"""
WITH marked AS (
SELECT k, unix_micros(at) AS ts, 0 AS side, 1 AS one, a, CAST(NULL AS bigint) AS n FROM rows
UNION ALL SELECT k, unix_micros(event_timestamp), 1, 0, 0, n FROM frame
UNION ALL SELECT k, {_start(DAY)}, -1, 0, 0, n FROM frame
UNION ALL SELECT k, {_start(7 * DAY)}, -2, 0, 0, n FROM frame), summed AS (
SELECT n, side, sum(one) OVER w AS ones, sum(a) OVER w AS total FROM marked
WINDOW w AS (PARTITION BY k ORDER BY ts, side ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW))
SELECT n, max(CASE WHEN side = 1 THEN ones END) - max(CASE WHEN side = -1 THEN ones END) AS n_1d,
  max(CASE WHEN side = 1 THEN ones END) - max(CASE WHEN side = -2 THEN ones END) AS n_7d,
  CASE WHEN max(CASE WHEN side = 1 THEN ones END) > max(CASE WHEN side = -2 THEN ones END)
    THEN max(CASE WHEN side = 1 THEN total END) - max(CASE WHEN side = -2 THEN total END) END AS a_7d
FROM summed WHERE n IS NOT NULL GROUP BY n ORDER BY n
"""
"""A window's sum is the sum until its end less the sum until its start."""


if __name__ == "__main__":
    main(sys.argv[1:])
