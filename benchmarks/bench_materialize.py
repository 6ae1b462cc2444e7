"""How fast a batch source is materialized into SQLite, beside packing and inserting the same bytes by hand."""

from __future__ import annotations

import argparse
import gc
import sqlite3
import struct
import tempfile
from functools import partial
from itertools import repeat
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, Sliding, Snapshot, project_of
from asof.flows.batch.materialize import materialize
from asof.flows.stores import Stores
from asof.log.file.log import FileLog
from asof.offline.duckdb.engine import DuckDBOffline
from asof.online.sqlite.store import SqliteOnlineStore
from asof.registry.sqlite import SqliteRegistry
from asof.sources.file import FileReader
from asof.timing import DAY, micros
from asof.types import Float64, Int64
from benchmarks.harness import Candidate, compare, judge

LIMIT = 2.0
"""At least half the rate of doing it by hand."""

FEATURES = 10
SIGN = 1 << 63
NOW = micros("2026-01-01T00:00:00+00:00")


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figure keeps its limit."""
    parser = argparse.ArgumentParser(prog="bench_materialize")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, help="rows of the source, each of a key of its own")
    options, _ = parser.parse_known_args(argv)
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder, rows=rows)
        candidates: dict[str, Candidate] = {
            "pack and insert by hand": partial(by_hand, folder),
            "materialize": partial(by_asof, folder, "profile"),
            "materialize twice": partial(by_asof, folder, "profile", times=2),
            "materialize windows": partial(by_asof, folder, "activity"),
        }
        figures = compare(
            "materialize", candidates, runs=3 if options.quick else 5, items=rows,
            note=f"{rows:,} rows × {FEATURES} features in Parquet, one per key; windows: a count and sums over 1 d "
            "and 7 d; "
            "'twice' is a second run after the first, over the same rows",
        )  # fmt: skip
    ratio = figures["materialize"].wall_ratio
    assert ratio is not None
    return judge("materialize / by hand, wall", ratio, LIMIT, unit="×")


def write_source(folder: Path, *, rows: int) -> None:
    """Rows in a random order of keys, as a table is that was written by time."""
    random = np.random.default_rng(1)
    columns = {
        "user_id": random.permutation(rows),
        "at": pa.array(NOW - random.integers(0, DAY, rows), pa.timestamp("us", "UTC")),
        **{f"f{i}": random.random(rows) for i in range(FEATURES)},
    }  # fmt: skip
    pq.write_table(pa.table(columns), folder / "rows.parquet")


def by_hand(folder: Path) -> int:
    """The least that has to be done: columns to Python values, all packed, one transaction in the order of keys."""
    gc.disable()  # it would look at millions of tuples again and again
    with tempfile.TemporaryDirectory(dir=folder) as name:
        table = pq.read_table(folder / "rows.parquet")
        keys = table["user_id"].to_numpy().tolist()
        times = table["at"].cast(pa.int64()).to_numpy().tolist()
        columns = [table[f"f{i}"].to_numpy().tolist() for i in range(FEATURES)]
        encode = msgspec.msgpack.Encoder().encode
        signed = [time + SIGN for time in times]
        versions = map(struct.Struct(">4Q").pack, signed, repeat(SIGN), range(SIGN, SIGN + len(times)), repeat(SIGN))
        rows = list(zip(map(encode, zip(keys)), versions, repeat(None), map(encode, zip(repeat(1), times, *columns))))
        rows.sort()
        db = sqlite3.connect(Path(name) / "rows.db")
        # The same settings as the store's, so that they are not what is compared.
        for pragma in ("page_size=8192", "journal_mode=WAL", "synchronous=NORMAL", "cache_size=-16384",
                       "wal_autocheckpoint=4000"):  # fmt: skip
            db.execute(f"PRAGMA {pragma}")
        db.execute(
            "CREATE TABLE rows (key BLOB NOT NULL PRIMARY KEY, version NOT NULL, expires_at INTEGER, "
            "value BLOB NOT NULL) WITHOUT ROWID"
        )
        with db:
            db.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", rows)
        db.close()
        return len(rows)


def by_asof(folder: Path, view: str, *, times: int = 1) -> int:
    """A first materialize into an empty store (and the same again)."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        stores = applied(folder, Path(name))
        for _ in range(times):
            (done,) = materialize(stores, views=[view])
        stores.online.close()
        return done.rows


def applied(folder: Path, store: Path) -> Stores:
    """The embedded parts, with a view of plain fields and one of windows over the same rows."""
    stores = Stores(
        "bench", SqliteRegistry(store / "registry.db"), DuckDBOffline(store / "archive"),
        SqliteOnlineStore(store / "online.db"), FileLog(store / "log", clock=lambda: NOW),
        {"file": FileReader(folder)}, lambda: NOW,
    )  # fmt: skip
    user, rows = Entity("user", ["user_id"]), FileSource("rows.parquet", timestamp_field="at")
    schema = [Field("user_id", Int64), *(Field(f"f{i}", Float64) for i in range(FEATURES))]
    profile = FeatureView("profile", source=rows, entities=user, schema=schema)
    activity = FeatureView(
        "activity", source=rows, entities=user, schema=schema, aggregations=[
            Aggregation("", "count", window=Sliding("1d"), name="n_1d", dtype=Int64),
            Aggregation("f0", "sum", window=Sliding("1d"), name="f0_1d", dtype=Float64),
            Aggregation("f0", "sum", window=Sliding("7d"), name="f0_7d", dtype=Float64),
        ],
    )  # fmt: skip
    stores.registry.commit(Snapshot(0, "bench", project_of([profile, activity])), expected=0, who="bench", when=NOW)
    return stores
