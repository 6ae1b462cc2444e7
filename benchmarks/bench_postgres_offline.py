"""Historical reads of tables in Postgres: computed there, and federated in DuckDB, beside the same joins by hand.

`python -m benchmarks.bench_postgres_offline [--quick] [--rows 1000000] [--runs 3]`
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from adbc_driver_postgresql import dbapi as adbc

from asof import Entity, FeatureView, Field, PostgresSource
from asof.offline.duckdb.engine import DuckDBEngine
from asof.offline.postgres.engine import PostgresOffline
from asof.opening.servers import SourceConnection
from asof.selection import FeatureOut, ViewRead
from asof.sources.postgres.reader import PostgresReader
from asof.sources.protocol import ScanRequest
from asof.sql.query import PointInTime
from asof.types import Float64, Int64
from benchmarks.harness import compare, judge
from tests.services import Postgres, private

VIEWS, FEATURES = 5, 10
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "autovacuum": "off"}
IN_SESSION = ("SET LOCAL work_mem = '256MB'", "SET LOCAL jit = off", "SET LOCAL max_parallel_workers_per_gather = 0")
NAMES = [[f"f{view}_{index}" for index in range(FEATURES)] for view in range(VIEWS)]
FEDERATED_LIMIT = 0.5
"""Times the join by hand in the database."""


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_postgres_offline")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, help="of the spine, and of each view")
    parser.add_argument("--runs", type=int)
    options, _ = parser.parse_known_args(argv)
    rows = options.rows or (50_000 if options.quick else 1_000_000)
    runs = options.runs or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory() as folder, private(Postgres, settings=SETTINGS) as server:
        url = server.create_database("bench")
        spine = Path(folder) / "spine.parquet"
        fill(url, spine, rows)
        kept = [
            measure("with an index", by_lateral, url, spine, rows, runs, index=True, pid=server.pid),
            measure("without an index", by_merge, url, spine, rows, runs, index=False, pid=server.pid),
        ]
    return all(kept)


def measure(name: str, by_hand: Any, url: str, spine: Path, rows: int, runs: int, *, index: bool, pid: int) -> bool:
    """One comparison, with an index on (key, time) of each table or without."""
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        for view in range(VIEWS):
            cursor.execute(f"DROP INDEX IF EXISTS i{view}")
            if index:
                cursor.execute(f"CREATE INDEX i{view} ON view{view} (user_id, ts DESC, created DESC)")
            cursor.execute(f"ANALYZE view{view}")
        connection.commit()
    found = compare(
        f"postgres/{name}",
        {
            "by hand, in the database": partial(by_hand, url, str(spine)),
            "asof in the database": partial(in_postgres, url, str(spine)),
            "asof federated in DuckDB": partial(federated, url, str(spine)),
        },
        runs=runs, items=rows, note=f"{rows:,} spine rows × {VIEWS} views of {rows:,} × {FEATURES}", servers=[pid],
    )  # fmt: skip
    kept = []
    for candidate, limit in (("asof in the database", 1.0), ("asof federated in DuckDB", FEDERATED_LIMIT)):
        for figure in ("wall", "cpu"):
            ratio = getattr(found[candidate], f"{figure}_ratio") or 0
            kept.append(judge(f"{candidate} / by hand, {figure}", ratio, limit, unit="×"))
    return all(kept)


def fill(url: str, spine: Path, rows: int) -> None:
    """Views over rows/10 users, half of the keys uniform and half power-law, in 90 days; 1 % corrections of a row."""
    rng = np.random.default_rng(5)
    users = max(1, rows // 10)

    def keys(count: int) -> Any:
        uniform = rng.random(count) < 0.5
        return np.where(uniform, rng.integers(0, users, count), (users * rng.random(count) ** 4).astype(np.int64))

    def times(count: int) -> Any:
        return 1_767_225_600_000_000 + rng.integers(0, 90 * 86_400_000, count) * 1000

    kind = pa.timestamp("us", "UTC")
    frame = {"user_id": keys(rows), "event_timestamp": pa.array(times(rows), kind), "label": np.arange(rows)}
    pq.write_table(pa.table(frame), spine)
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        for view in range(VIEWS):
            user, at = keys(rows), times(rows)
            again = rng.integers(0, rows, rows // 100)
            user[: len(again)], at[: len(again)] = user[again], at[again]
            values = {name: rng.random(rows) for name in NAMES[view]}
            written = pa.array(at + rng.integers(0, 1000, rows), kind)
            table = pa.table({"user_id": user, "ts": pa.array(at, kind), "created": written, **values})
            cursor.adbc_ingest(f"view{view}", table, mode="create")
        connection.commit()


def by_lateral(url: str, spine: str) -> list[int]:
    joins = "".join(
        f" LEFT JOIN LATERAL (SELECT {', '.join(NAMES[view])} FROM view{view} WHERE user_id = s.user_id "
        f"AND ts <= s.event_timestamp ORDER BY ts DESC, created DESC LIMIT 1) v{view} ON TRUE"
        for view in range(VIEWS)
    )
    return in_session(url, spine, f"SELECT s.n, {', '.join(sum(NAMES, []))} FROM s{joins} ORDER BY s.n")


def by_merge(url: str, spine: str) -> list[int]:
    parts, joins = [], []
    for view in range(VIEWS):
        names = ", ".join(NAMES[view])
        order = "PARTITION BY user_id ORDER BY ts, n NULLS FIRST ROWS UNBOUNDED PRECEDING"
        both = (
            f"SELECT user_id, ts, place, NULL::bigint AS n FROM r{view} "
            "UNION ALL SELECT user_id, event_timestamp, NULL, n FROM s"
        )
        parts.append(
            f"r{view} AS MATERIALIZED (SELECT row_number() OVER (ORDER BY user_id, ts, created) AS place, user_id, ts, "
            f"{names} FROM view{view}), m{view} AS (SELECT n, user_id, max(place) OVER ({order}) AS place "
            f"FROM ({both}) u), j{view} AS (SELECT m.n, {names} FROM m{view} m LEFT JOIN r{view} r USING (place) "
            "WHERE m.n IS NOT NULL)"
        )
        joins.append(f" LEFT JOIN j{view} USING (n)")
    select = f"SELECT s.n, {', '.join(sum(NAMES, []))} FROM s{''.join(joins)} ORDER BY s.n"
    return in_session(url, spine, f"WITH {', '.join(parts)} {select}")


def in_session(url: str, spine: str, select: str) -> list[int]:
    """The spine by COPY, one SELECT, the answer as Arrow."""
    frame = pq.read_table(spine)
    sent = frame.select(["user_id", "event_timestamp"]).append_column("n", pa.array(np.arange(frame.num_rows)))
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        for setting in IN_SESSION:
            cursor.execute(setting)
        cursor.execute("CREATE TEMP TABLE s (user_id bigint, event_timestamp timestamptz, n bigint) ON COMMIT DROP")
        cursor.adbc_ingest("s", sent, mode="append", temporary=True)
        cursor.execute("ANALYZE s")
        cursor.execute(select)
        return consumed(cursor.fetch_record_batch())


def in_postgres(url: str, spine: str) -> list[int]:
    store = PostgresOffline(url=url)
    query, inputs = request(url)
    return consumed(store.run(query, inputs, spine=pq.read_table(spine)).reader())


def federated(url: str, spine: str) -> list[int]:
    query, inputs = request(url)
    return consumed(DuckDBEngine().run(query, inputs, spine=pq.read_table(spine)).reader())


class OneServer:
    """Every source is on the same server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def of(self, source: Any, kind: str) -> SourceConnection:
        return SourceConnection("connections.bench", {"url": self._url})


def request(url: str) -> tuple[PointInTime, dict[str, Any]]:
    reader = PostgresReader(".", connections=OneServer(url))
    reads, inputs = [], {}
    for number, names in enumerate(NAMES):
        source = PostgresSource(
            f"source{number}", table=f"view{number}", timestamp_field="ts", created_timestamp_column="created"
        )
        fields = [Field(name, Float64) for name in names]
        view = FeatureView(
            f"view{number}", source=source, entities=[Entity("user", ["user_id"])],
            schema=[Field("user_id", Int64), *fields],
        )  # fmt: skip
        features = tuple(FeatureOut(each.name, each.name, each.dtype) for each in fields)
        reads.append(ViewRead(view, ("user_id",), features))
        inputs[source.name] = reader.scan(source, ScanRequest())
    return PointInTime(tuple(reads)), inputs


def consumed(batches: Any) -> list[int]:
    """Rows, then per view the number of rows without a value: what all ways must agree on."""
    rows, nulls = 0, [0] * VIEWS
    for batch in batches:
        rows += batch.num_rows
        for view in range(VIEWS):
            nulls[view] += batch.column(NAMES[view][0]).null_count
    return [rows, *nulls]


if __name__ == "__main__":
    import sys

    sys.exit(0 if main(sys.argv[1:]) else 1)
