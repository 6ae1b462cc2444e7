"""Historical reads beyond the memory limit, in hash partitions, against the same read without a limit and ASOF JOIN.

`python -m benchmarks.bench_bounded [--quick] [--scale 0.1] [--runs 1] [--linear] [--hot]`
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import duckdb
import pyarrow.compute as pc

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, Session, Sliding
from asof.dtypes import Float64, Int64
from asof.offline.duckdb.engine import DuckDBEngine
from asof.selection import FeatureOut, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime
from benchmarks.harness import compare, judge

EVENTS = 100_000_000
LIMIT_BYTES = 3_000_000_000
"""Of the whole size; smaller ones have their share of it."""
KEY = Field("user_id", Int64)


def generate(folder: Path, rows: int, name: str, *, hot: bool = False) -> None:
    """`rows` events and rows/100 spine rows over rows/100 users, in 90 days.

    Half of the users are uniform and half power-law; or, where `hot`, one key has a tenth of all.
    """
    users = max(1, rows // 100)
    skewed = (
        f"CASE WHEN random() < 0.5 THEN (random() * {users})::BIGINT ELSE floor({users} * pow(random(), 4))::BIGINT END"
    )
    one = f"CASE WHEN random() < 0.1 THEN 7 ELSE (random() * {users})::BIGINT END"
    key = one if hot else skewed
    time = "TIMESTAMP '2026-01-01' + to_microseconds((random() * 90 * 86400 * 1000)::BIGINT * 1000)"
    con = duckdb.connect(config={"temp_directory": str(folder)})
    con.execute("SELECT setseed(0.5)")
    con.execute(
        f"COPY (SELECT user_id, ts, ts + to_microseconds((random() * 1000)::BIGINT) AS created, "
        f"(random() * 1000)::BIGINT AS amount, random() AS price, random() AS f1, random() AS f2 "
        f"FROM (SELECT {key} AS user_id, {time} AS ts FROM range({rows}))) TO '{folder}/events-{name}.parquet'"
    )
    con.execute(
        f"COPY (SELECT {key} AS user_id, {time} AS event_timestamp FROM range({rows // 100})) "
        f"TO '{folder}/spine-{name}.parquet'"
    )
    con.close()


def windows() -> FeatureView:
    """A count, a sum, a maximum over 30 days, and a session."""
    made = [
        Aggregation("", "count", name="count_1d", window=Sliding("1d")),
        Aggregation("amount", "sum", name="sum_7d", window=Sliding("7d")),
        Aggregation("price", "max", name="max_30d", window=Sliding("30d")),
        Aggregation("", "count", name="session", window=Session("1h")),
    ]
    typed = [each.with_dtype(each.output_dtype(Float64 if each.column == "price" else Int64)) for each in made]
    source = FileSource("events.parquet", name="events", timestamp_field="ts")
    view = FeatureView("w", source=source, entities=[Entity("user", ["user_id"])], schema=[KEY], aggregations=typed)
    return view.resolved(schema=[KEY], aggregations=typed)


def latest() -> FeatureView:
    """Four columns of the last row by event time and created time."""
    source = FileSource("events.parquet", name="events", timestamp_field="ts", created_timestamp_column="created")
    fields = [Field("amount", Int64), *(Field(name, Float64) for name in ("price", "f1", "f2"))]
    return FeatureView("l", source=source, entities=[Entity("user", ["user_id"])], schema=[KEY, *fields])


def by_asof(folder: str, name: str, kind: str, limit_bytes: int) -> list[float]:
    view = {"windows": windows, "latest": latest}[kind]()
    features = tuple(FeatureOut(each.name, each.name, each.dtype) for each in view.features if each.name != "user_id")
    limit = f"{limit_bytes // 1_000_000}MB" if limit_bytes else ""
    engine = DuckDBEngine(memory_limit=limit, temp_directory=folder)
    result = engine.run(
        PointInTime((ViewRead(view, ("user_id",), features),)),
        {"events": Files((f"{folder}/events-{name}.parquet",))},
        spine=Files((f"{folder}/spine-{name}.parquet",)),
    )
    found = _sums(result.reader(100_000), [each.name for each in features])
    engine.close()
    return found


def by_hand(folder: str, name: str) -> list[float]:
    """ASOF JOIN whose key is (time, created), so that ties are exact."""
    con = duckdb.connect(config={"temp_directory": folder})
    con.execute("SET enable_progress_bar = false")
    reader = con.sql(
        f"SELECT v.amount, v.price, v.f1, v.f2 FROM '{folder}/spine-{name}.parquet' s "
        f"ASOF LEFT JOIN '{folder}/events-{name}.parquet' v ON s.user_id = v.user_id "
        f"AND row(s.event_timestamp, TIMESTAMP '9999-01-01') >= row(v.ts, v.created)"
    ).to_arrow_reader(100_000)
    return _sums(reader, ["amount", "price", "f1", "f2"])


def _sums(batches: object, names: list[str]) -> list[float]:
    """Rows, then the sum of each column: what all ways must agree on."""
    rows, totals = 0, [0.0] * len(names)
    for batch in batches:  # type: ignore[attr-defined]
        rows += batch.num_rows
        for index, name in enumerate(names):
            totals[index] += pc.sum(batch.column(batch.schema.get_field_index(name))).as_py() or 0
    return [rows, *(float(f"{total:.9g}") for total in totals)]


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_bounded")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scale", type=float, help="of the 100,000,000 events, 1,000,000 spine rows and 3 GB")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--linear", action="store_true", help="also a tenth of the events, with the same limit")
    parser.add_argument("--hot", action="store_true", help="one key has a tenth of all events")
    options, _ = parser.parse_known_args(argv)
    scale = options.scale or (0.01 if options.quick else 1)
    rows, limit = int(EVENTS * scale), max(100_000_000, int(LIMIT_BYTES * scale))
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), rows, "full", hot=options.hot)
        note = f"{rows:,} events, {rows // 100:,} spine rows, memory_limit {limit // 1_000_000} MB"
        note += ", a tenth of them of one key" if options.hot else ""
        work = {
            "without a limit": partial(by_asof, folder, "full", "windows", 0),
            "bounded": partial(by_asof, folder, "full", "windows", limit),
        }
        found = compare("bounded/windows", work, runs=options.runs, items=rows, unit="events", note=note)["bounded"]
        kept.append(judge("windows: CPU against no limit", found.cpu_ratio or 0, 1.3, unit="×"))
        # Of a small size, the interpreter and the imports would be most of it.
        if scale >= 1:
            kept.append(judge("windows: peak", found.peak_mb, limit / 2**20, unit=" MiB"))
        work = {
            "ASOF JOIN": partial(by_hand, folder, "full"),
            "bounded": partial(by_asof, folder, "full", "latest", limit),
        }
        found = compare("bounded/latest", work, runs=options.runs, items=rows, unit="events", note=note)["bounded"]
        kept.append(judge("latest: CPU against ASOF JOIN", found.cpu_ratio or 0, 1.1, unit="×"))
        if scale >= 1:
            kept.append(judge("latest: peak against ASOF JOIN", found.peak_ratio or 0, 0.4, unit="×"))
        if options.linear:
            generate(Path(folder), rows // 10, "tenth", hot=options.hot)
            for kind in ("windows", "latest"):
                pair = {
                    "tenth": partial(_timed, folder, "tenth", kind, limit),
                    "full": partial(_timed, folder, "full", kind, limit),
                }
                grown = compare(f"bounded/linear-{kind}", pair, runs=options.runs, note=note)["full"]
                kept.append(
                    judge(f"{kind}: CPU per event of ten times the events", (grown.cpu_ratio or 0) / 10, 1.1, unit="×")
                )
    return all(kept)


def _timed(folder: str, name: str, kind: str, limit_bytes: int) -> None:
    by_asof(folder, name, kind, limit_bytes)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
