"""Postgres as the online store beside the same bytes by hand, and as a source for DuckDB beside LATERAL joins in it."""

from __future__ import annotations

import argparse
import random
import tempfile
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from adbc_driver_postgresql import dbapi as adbc

from asof import Entity, FeatureStore, FeatureView, Field, PostgresSource
from asof.flows.stores import current_generation, table_of
from asof.store import open_store_of
from asof.timing import DAY
from asof.types import Float64, Int64
from asof.values.packing import key_bytes
from benchmarks.bench_online import FEATURES, REQUESTS, ROWS, UNPACK, VIEWS, WINDOWS, filled_store
from benchmarks.harness import compare, judge
from tests.services import Postgres, private

LATEST_LIMIT, WINDOWS_LIMIT = 2.0, 4.0
"""Times a raw read and unpack of the same packed bytes on one connection."""
FEDERATED_LIMIT = 0.5
"""Times hand-written LATERAL joins with an index on (key, time)."""
START_S = 1_767_225_600
"""2026-01-01."""


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_postgres")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--users", type=int, help="keys of each online view")
    parser.add_argument("--rows", type=int, help="rows of the entity frame and of each of the 5 tables")
    parser.add_argument("--runs", type=int, help="runs of the federated read")
    parser.add_argument("--only", choices=["read", "federated"])
    options, _ = parser.parse_known_args(argv)
    kept = []
    with tempfile.TemporaryDirectory() as name, private(Postgres, fsync=True, settings=SETTINGS) as server:
        if options.only in (None, "read"):
            kept += read(Path(name) / "read", server.create_database("online"), options)
        if options.only in (None, "federated"):
            kept.append(federated(Path(name) / "federated", server.create_database("shop"), server.pid, options))
    return all(kept)


SETTINGS = {"shared_buffers": "1GB", "work_mem": "256MB", "jit": "off"}


# Online reads


def read(folder: Path, url: str, options: argparse.Namespace) -> list[bool]:
    """`get_online_features` beside one statement for the same packed bytes, and their unpacking."""
    users = options.users or (2_000 if options.quick else 20_000)
    folder.mkdir()
    store = filled_store(folder, users=users, settings=f"online_store: {{type: postgres, url: '{url}'}}\n")
    kept = []
    with psycopg.connect(url, autocommit=True) as connection:
        for kind, limit in (("latest", LATEST_LIMIT), ("windows", WINDOWS_LIMIT)):
            for rows in ROWS:
                kept.append(measure(store, connection, kind, rows=rows, users=users, limit=limit, options=options))
    store.close()
    return kept


def measure(
    store: FeatureStore, connection: psycopg.Connection[Any], kind: str, *, rows: int, users: int, limit: float,
    options: argparse.Namespace,
) -> bool:  # fmt: skip
    rng = random.Random(rows)
    requests = [rng.sample(range(users), rows) for _ in range(REQUESTS)]
    views = [f"{kind}{i}" for i in range(VIEWS)]
    names = FEATURES if kind == "latest" else [each.name for each in WINDOWS]
    references = [f"{view}:{name}" for view in views for name in names]
    packed = cycle([[key_bytes((user,)) for user in chosen] for chosen in requests])
    entity_rows = cycle([[{"user_id": user} for user in chosen] for chosen in requests])
    query = " UNION ALL ".join(
        f"SELECT {place}, key, value FROM {table} WHERE key = ANY(%s)"
        for place, table in enumerate(tables(store, connection, views))
    )
    unpack = UNPACK[kind]

    def by_hand() -> int:
        keys = next(packed)
        found: list[dict[bytes, bytes]] = [{} for _ in views]
        for place, key, value in connection.cursor(binary=True).execute(query, [keys] * VIEWS):
            found[place][key] = value
        for each in found:
            unpack([each[key] for key in keys])
        return len(names) * VIEWS

    def asof() -> int:
        answer = store.get_online_features(references, next(entity_rows), full_feature_names=True).to_dict()
        return len(answer) - 1

    figures = compare(
        f"postgres/{kind}-{rows}", {"by hand": by_hand, "asof": asof}, fresh=False,
        calls=max(REQUESTS // 4, (200 if options.quick else 1_000) // rows), runs=3 if options.quick else 7, items=rows,
        note=f"{VIEWS} views × {len(names)} features of {rows} of {users:,} keys, other ones in each call",
    )  # fmt: skip
    ratio = figures["asof"].wall_ratio
    assert ratio is not None
    return judge(f"{kind}, {rows} rows: asof / by hand, wall", ratio, limit, unit="×")


def tables(store: FeatureStore, connection: psycopg.Connection[Any], views: list[str]) -> list[str]:
    """The tables that hold the views' online rows."""
    found = []
    for view in map(store.get_feature_view, views):
        table = table_of("bench", view, str(current_generation(open_store_of(store).snapshot(), view)))
        query = "SELECT id FROM asof.online_tables WHERE project = %s AND view = %s AND generation = %s"
        (id,) = connection.execute(query, table[:3]).fetchone()  # type: ignore[misc]
        found.append(f"asof.online_{id}")
    return found


# The federated read


def federated(folder: Path, url: str, pid: int, options: argparse.Namespace) -> bool:
    """A historical read that DuckDB joins from five tables, beside LATERAL … LIMIT 1 in the database."""
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    folder.mkdir()
    fill(url, rows)
    (folder / "feature_store.yaml").write_text(
        f"project: bench\nconnections: {{shop: {{type: postgres, url: '{url}'}}}}\n"
    )
    with FeatureStore(folder) as store:
        store.apply(list(definitions()))
    figures = compare(
        "postgres/federated",
        {"LATERAL": partial(lateral, url, rows), "asof": partial(asof_federated, str(folder), rows)},
        runs=options.runs or 1, items=rows, unit="rows",
        note=f"{rows:,} rows of the entity frame, 5 tables of {rows:,} rows × 10 features, index on (key, time)",
        servers=[pid],
    )  # fmt: skip
    ratios = {"wall": figures["asof"].wall_ratio or 0, "CPU": figures["asof"].cpu_ratio or 0}
    kept = [judge(f"federated / LATERAL, {name}", each, FEDERATED_LIMIT, unit="×") for name, each in ratios.items()]
    # What a connection and a description cost does not grow with the rows, so the limit is one of many rows.
    return all(kept) or rows < 1_000_000


def fill(url: str, rows: int) -> None:
    columns = ", ".join(f"f{i} {'float8' if i % 2 else 'int8'}" for i in range(10))
    values = ", ".join("random()" if i % 2 else "(random() * 1e6)::int8" for i in range(10))
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(5):
            connection.execute(f"CREATE TABLE rows{number} (user_id int8, at timestamptz, {columns})")
            connection.execute(
                f"INSERT INTO rows{number} SELECT (random() * {rows // 10})::int8, to_timestamp({START_S}) "
                f"+ random() * interval '30 days', {values} FROM generate_series(1, {rows})"
            )
            connection.execute(f"CREATE INDEX ON rows{number} (user_id, at)")
            connection.execute(f"VACUUM ANALYZE rows{number}")


def definitions() -> Any:
    user = Entity("user", join_keys=["user_id"])
    schema = [Field(f"f{i}", Float64 if i % 2 else Int64) for i in range(10)]
    for number in range(5):
        source = PostgresSource(table=f"rows{number}", timestamp_field="at")
        yield FeatureView(
            f"view{number}", source=source, entities=[user], schema=[Field("user_id", Int64), *schema], online=False
        )


def spine(rows: int) -> pa.Table:
    rng = np.random.default_rng(1)
    times = START_S * 1_000_000 + rng.integers(0, 30 * DAY, rows)
    return pa.table(
        {
            "user_id": pa.array(rng.integers(0, rows // 10, rows)),
            "event_timestamp": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )


def asof_federated(folder: str, rows: int) -> int:
    """How many values were found."""
    references = [f"view{number}:f{i}" for number in range(5) for i in range(10)]
    with FeatureStore(folder) as store:
        result = store.get_historical_features(spine(rows), references, full_feature_names=True)
        return sum(batch.num_rows * 50 - sum(c.null_count for c in batch.columns) for batch in result.to_batches())


def lateral(url: str, rows: int) -> int:
    """How many values were found."""
    joins = " ".join(
        f"LEFT JOIN LATERAL (SELECT {', '.join(f'f{i} AS v{number}_f{i}' for i in range(10))} FROM rows{number} r "
        f"WHERE r.user_id = s.user_id AND r.at <= s.event_timestamp ORDER BY r.at DESC LIMIT 1) l{number} ON true"
        for number in range(5)
    )
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("spine", spine(rows), mode="create", temporary=True)
        cursor.execute("ANALYZE spine")
        cursor.execute(f"SELECT s.*, {', '.join(f'l{number}.*' for number in range(5))} FROM spine s {joins}")
        return sum(
            batch.num_rows * 50 - sum(c.null_count for c in batch.columns) for batch in cursor.fetch_record_batch()
        )
