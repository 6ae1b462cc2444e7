"""Windowed aggregates as of each spine row, against one sort of events and spine together and the naive range join.

`python -m benchmarks.bench_windows [--quick] [--scale 0.1] [--runs 5] [--column amount|price] [--no-naive] [--linear]`
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

HOUR = 3_600_000_000
SLIDING = {"1h": (HOUR, HOUR // 12), "1d": (24 * HOUR, HOUR), "30d": (720 * HOUR, 24 * HOUR)}


def generate(folder: Path, rows: int, name: str) -> None:
    """`rows` events and rows/10 spine rows over rows/100 users, half uniform and half power-law, in 90 days."""
    users = max(1, rows // 100)
    key = (
        f"CASE WHEN random() < 0.5 THEN (random() * {users})::BIGINT ELSE floor({users} * pow(random(), 4))::BIGINT END"
    )
    time = "TIMESTAMP '2026-01-01' + to_microseconds((random() * 90 * 86400 * 1000)::BIGINT * 1000)"
    con = duckdb.connect()
    con.execute("SELECT setseed(0.5)")
    con.execute(
        f"COPY (SELECT {key} AS user_id, {time} AS ts, (random() * 1000)::BIGINT AS amount, random() AS price "
        f"FROM range({rows})) TO '{folder}/events-{name}.parquet'"
    )
    con.execute(
        f"COPY (SELECT {key} AS user_id, {time} AS event_timestamp FROM range({rows // 10})) "
        f"TO '{folder}/spine-{name}.parquet'"
    )
    con.close()


def one_sort(folder: str, name: str, column: str) -> None:
    con = duckdb.connect()
    con.execute(
        f"CREATE TEMP TABLE sorted AS SELECT user_id, epoch_us(ts) AS ts, {column}, NULL::BIGINT AS n "
        f"FROM '{folder}/events-{name}.parquet' "
        f"UNION ALL SELECT user_id, epoch_us(event_timestamp), NULL, file_row_number "
        f"FROM read_parquet('{folder}/spine-{name}.parquet', file_row_number = true) ORDER BY user_id, ts"
    )


def naive(folder: str, name: str, column: str) -> list[int]:
    """The join of each spine row with every event of its longest window, without the session count."""
    con = duckdb.connect()
    start = {each: f"t - {length} - ((t - {length}) % {hop})" for each, (length, hop) in SLIDING.items()}
    values = ", ".join(
        f"{call} FILTER (WHERE e.ts >= {start[each]}) AS {label}_{each}"
        for each in SLIDING
        for label, call in (("count", "count(e.ts)"), ("sum", f"sum(e.{column})"), ("max", f"max(e.{column})"))
    )
    reader = con.sql(
        f"SELECT s.n, {values} FROM (SELECT user_id, epoch_us(event_timestamp) AS t, file_row_number AS n "
        f"FROM read_parquet('{folder}/spine-{name}.parquet', file_row_number = true)) s "
        f"LEFT JOIN (SELECT user_id, epoch_us(ts) AS ts, {column} FROM '{folder}/events-{name}.parquet') e "
        f"ON s.user_id = e.user_id AND e.ts <= t AND e.ts >= {start['30d']} GROUP BY ALL"
    ).to_arrow_reader(100_000)
    return _consume(reader, names=[f"count_{each}" for each in SLIDING])


def by_asof(folder: str, name: str, column: str) -> list[int]:
    kind = Int64 if column == "amount" else Float64
    made = []
    for each, (length, hop) in SLIDING.items():
        for function, of in (("count", ""), ("sum", column), ("max", column)):
            plain = Aggregation(of, function, name=f"{function}_{each}", window=Sliding.of_micros(length, hop))
            made.append(plain.with_dtype(plain.output_dtype(kind)))
    made.append(Aggregation("", "count", name="session", window=Session("1h"), dtype=Int64))
    key = [Field("user_id", Int64)]
    source = FileSource("events.parquet", name="events", timestamp_field="ts")
    view = FeatureView("w", source=source, entities=[Entity("user", ["user_id"])], schema=key, aggregations=made)
    view = view.resolved(schema=key, aggregations=made)
    features = tuple(FeatureOut(each.name, each.name, each.dtype) for each in view.features)
    result = DuckDBEngine().run(
        PointInTime((ViewRead(view, ("user_id",), features),)),
        {"events": Files((f"{folder}/events-{name}.parquet",))},
        spine=Files((f"{folder}/spine-{name}.parquet",)),
    )
    return _consume(result.reader(100_000), names=[f"count_{each}" for each in SLIDING])


def _consume(batches: object, *, names: list[str]) -> list[int]:
    """Rows, then the sum of each count: what all ways must agree on."""
    rows, totals = 0, [0] * len(names)
    for batch in batches:  # type: ignore[attr-defined]
        rows += batch.num_rows
        for index, name in enumerate(names):
            totals[index] += pc.sum(batch.column(batch.schema.get_field_index(name))).as_py() or 0
    return [rows, *totals]


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_windows")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scale", type=float, help="of the 10,000,000 events and 1,000,000 spine rows")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--column", default="amount", choices=["amount", "price"])
    parser.add_argument("--no-naive", action="store_true")
    parser.add_argument("--linear", action="store_true", help="also a tenth of the events")
    options, _ = parser.parse_known_args(argv)
    rows = int(10_000_000 * (options.scale or (0.05 if options.quick else 1)))
    runs = options.runs or (1 if options.quick else 5)
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), rows, "full")
        work = {
            "one sort": partial(one_sort, folder, "full", options.column),
            "asof": partial(by_asof, folder, "full", options.column),
        }
        note = f"{rows:,} events, {rows // 10:,} spine rows, "
        note += f"count/sum/max({options.column}) × 1 h, 1 d, 30 d + session count"
        found = compare(f"windows/{options.column}", work, runs=runs, items=rows, unit="events", note=note)["asof"]
        kept.append(judge("CPU against one sort", found.cpu_ratio or 0, 8, unit="×"))
        kept.append(judge("wall against one sort", found.wall_ratio or 0, 8, unit="×"))
        if not options.no_naive:
            pair = {"asof": work["asof"], "naive range join": partial(naive, folder, "full", options.column)}
            slow = compare(f"windows/naive-{options.column}", pair, runs=1, items=rows, unit="events", note=note)[
                "naive range join"
            ]
            ratio = slow.wall_ratio or 0
            kept.append(judge("naive range join against asof, wall", ratio, 4, unit="×", at_least=True))
        if options.linear:
            generate(Path(folder), rows // 10, "tenth")
            pair = {
                "tenth": partial(_timed, folder, "tenth", options.column),
                "full": partial(_timed, folder, "full", options.column),
            }
            grown = compare("windows/linear", pair, runs=max(1, runs // 2), note=f"{rows // 10:,} and {rows:,} events")[
                "full"
            ]
            kept.append(judge("CPU of ten times the events", grown.cpu_ratio or 0, 13, unit="×"))
    return all(kept)


def _timed(folder: str, name: str, column: str) -> None:
    by_asof(folder, name, column)


if __name__ == "__main__":
    sys.exit(0 if main(sys.argv[1:]) else 1)
