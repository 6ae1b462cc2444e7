"""Reads of an archive as 300 flushes left it, and after `compact`: a key, a day, all, in partitions; what it costs.

`python -m benchmarks.bench_archives [--quick] [--runs 5] [--flushes 300] [--rows 20000]`
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from functools import cache, partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, LogSource, Sliding
from asof.flows.rows.archive import archive_schema, with_arrival
from asof.offline.duckdb import DuckDBOffline
from asof.offline.protocol import Archive
from asof.timing import DAY, HOUR, micros, moment
from asof.types import Float64, Int64, String, Timestamp
from benchmarks.harness import compare, judge

PROJECT, START, DAYS = "archives", micros("2026-01-01"), 3
EVENTS = Archive(PROJECT, "events")

BOUNDED, MEMORY_LIMIT = "bounded.yaml", "100MB"
"""The configuration of a store whose reads of everything take several partitions."""


def source() -> LogSource:
    fields = [Field("user", Int64), Field("at", Timestamp), Field("price", Float64), Field("page", String)]
    return LogSource("events", schema=fields, timestamp_field="at")


def definitions() -> list[object]:
    user = Entity(name="user", join_keys=["user"])
    latest = [Field("price", Float64), Field("page", String)]
    hour = Sliding("1h")
    aggregations = [
        Aggregation(function="count", window=hour, name="events_1h"),
        Aggregation(column="price", function="sum", window=hour, name="spent_1h"),
    ]
    return [
        FeatureView(name="latest", entities=[user], source=source(), schema=latest),
        FeatureView(name="recent", entities=[user], source=source(), aggregations=aggregations),
    ]


def write(folder: Path, *, flushes: int, rows: int) -> None:
    """Events of rows * flushes / 60 users, as a stream brings them, flush by flush."""
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(f"project: {PROJECT}\n")
    (folder / BOUNDED).write_text(f"project: {PROJECT}\noffline_store:\n  memory_limit: {MEMORY_LIMIT}\n")
    with FeatureStore(folder, clock=lambda: moment(START + DAYS * DAY)) as store:
        store.apply(definitions())
    archives = archives_of(folder)
    archives.create(EVENTS, archive_schema(source()))
    random = np.random.default_rng(7)
    span = DAYS * DAY // flushes
    for flush in range(flushes):
        begin = START + flush * span
        made = pa.table(
            {
                "user": random.integers(0, flushes * rows // 60, rows),
                "at": pa.array(np.sort(random.integers(begin, begin + span, rows))).cast(Timestamp.arrow()),
                "price": random.random(rows), "page": [f"page {n}" for n in random.integers(0, 1000, rows)],
            }
        )  # fmt: skip
        offset = np.arange(flush * rows, (flush + 1) * rows)
        made = with_arrival(
            made, partition=np.zeros(rows, np.int32), offset=offset, ingested_at=begin + span - 1, source=source()
        )
        archives.append(EVENTS, made, {0: int(offset[-1])})
    archives.close()


def archives_of(folder: Path) -> DuckDBOffline:
    return DuckDBOffline(folder / "data" / "offline")


@cache
def opened(folder: Path, file: str = "feature_store.yaml") -> FeatureStore:
    """One store for all reads: what is measured is the read."""
    return FeatureStore(folder, fs_yaml_file=folder / file, clock=lambda: moment(START + DAYS * DAY))


def explain(folder: Path) -> int:
    """What made one key's value in the middle of the time."""
    return len(opened(folder).explain("recent:spent_1h", {"user": 4711}, at=moment(START + DAYS * DAY // 2)))


def few_keys(folder: Path, users: int) -> float:
    """The latest value of 10 users, which may be of any day."""
    return _read(folder, users, 10, last=DAY, feature="latest:price")


def one_day(folder: Path, users: int) -> float:
    """Windows of 1,000 users at moments of the last day."""
    return _read(folder, users, 1000, last=DAY, feature="recent:events_1h")


def everything(folder: Path, users: int) -> float:
    """Windows of all users at moments of the whole time."""
    return _read(folder, users, 200_000, last=DAYS * DAY, feature="recent:events_1h")


def bounded(folder: Path, users: int) -> float:
    """The same in partitions that fit into little memory, as of an archive that is larger than the machine's."""
    return _read(folder, users, 200_000, last=DAYS * DAY, feature="recent:events_1h", file=BOUNDED)


def _read(folder: Path, users: int, rows: int, *, last: int, feature: str, file: str = "feature_store.yaml") -> float:
    random = np.random.default_rng(11)
    at = random.integers(START + DAYS * DAY - last + 2 * HOUR, START + DAYS * DAY, rows)
    frame = pa.table({"user": random.integers(0, users, rows), "event_timestamp": pa.array(at).cast(Timestamp.arrow())})
    table = opened(folder, file).get_historical_features(frame, [feature]).to_arrow()
    return round(sum(each or 0 for each in table[feature.partition(":")[2]].to_pylist()), 3)


def compacted(folder: Path) -> int:
    with FeatureStore(folder, clock=lambda: moment(START + DAYS * DAY)) as store:
        store.compact()
    return 0


def copied(folder: Path) -> int:
    """The same rows read and written by hand, unsorted, date by date."""
    with tempfile.TemporaryDirectory() as made, duckdb.connect() as connection:
        for date in sorted((folder / "data/offline" / PROJECT / "events/events").glob("ingest_date=*")):
            connection.execute(
                f"COPY (SELECT * FROM read_parquet('{date}/*.parquet')) TO '{made}/{date.name}.parquet' "
                "(FORMAT parquet, COMPRESSION zstd)"
            )
    return 0


def row_groups(folder: Path) -> str:
    """How many files and row groups hold the rows of one key, as DuckDB skips them."""
    archives = archives_of(folder)
    rows = archives.rows(EVENTS)
    assert rows is not None
    archives.close()
    with duckdb.connect() as connection:
        found = connection.execute(
            f"EXPLAIN ANALYZE SELECT * FROM read_parquet({list(rows.paths)!r}) WHERE user = 4711"
        )
        text = found.fetchall()[0][1]
    scanned = re.search(r"Row Groups Scanned: (\d+) / (\d+)", text)
    groups = f"{scanned[1]} of {scanned[2]} row groups" if scanned else "unknown row groups"
    return f"{len(rows.paths)} files; one key is in {groups}"


def main(argv: list[str] | None = None) -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--flushes", type=int, default=300)
    parser.add_argument("--rows", type=int, default=0, help="of one flush")
    options = parser.parse_args(argv)
    rows = options.rows or (2000 if options.quick else 20_000)
    runs = options.runs or (3 if options.quick else 5)
    users = options.flushes * rows // 60
    kept = True
    with tempfile.TemporaryDirectory() as temporary:
        before, after = Path(temporary) / "as flushed", Path(temporary) / "compacted"
        write(before, flushes=options.flushes, rows=rows)
        costs = {}
        for run in range(runs):
            copy = Path(temporary) / f"copy{run}"
            shutil.copytree(before, copy)
            costs[copy] = None
        shutil.copytree(before, after)
        compacted(after)
        note = f"{options.flushes} flushes of {rows:,} rows, {users:,} users, {DAYS} days"
        print(f"as flushed: {row_groups(before)}\ncompacted: {row_groups(after)}")
        for name, work, limit in (
            ("explain", explain, 0.7), ("few-keys", partial(few_keys, users=users), 0.6),
            ("one-day", partial(one_day, users=users), 0.8), ("everything", partial(everything, users=users), 1.1),
            ("bounded", partial(bounded, users=users), 1.0),
        ):  # fmt: skip
            found = compare(
                f"archives/{name}", {"as flushed": partial(work, before), "compacted": partial(work, after)},
                runs=runs, fresh=False, note=note,
            )  # fmt: skip
            kept &= judge(f"{name}, CPU against as flushed", found["compacted"].cpu_ratio or 0, limit)
        made = iter(costs)
        found = compare(
            "archives/compact",
            {"read and written by hand": partial(copied, before), "compact": lambda: compacted(next(made))},
            runs=runs - 1, fresh=False, items=options.flushes * rows, unit="rows", note=note,
        )  # fmt: skip
        kept &= judge("compaction, CPU against reading and writing by hand", found["compact"].cpu_ratio or 0, 3)
        for folder, file in (
            (before, "feature_store.yaml"),
            (after, "feature_store.yaml"),
            (before, BOUNDED),
            (after, BOUNDED),
        ):
            opened(folder, file).close()
    return kept


if __name__ == "__main__":
    main()
