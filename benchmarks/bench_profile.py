"""How long a profile of a wide file takes, beside DuckDB's SUMMARIZE of the same columns."""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import duckdb

from asof.definitions import FeatureView, Field, FileSource
from asof.dtypes import Bool, Float64, Int64, String, Timestamp
from asof.offline.duckdb.engine import DuckDBEngine
from asof.sources.file import FileReader
from asof.sources.protocol import ScanRequest
from asof.sql.profile import ProfiledColumn, ProfiledRows
from asof.sql.query import RowFilter
from asof.timing import LATEST
from benchmarks.harness import Candidate, compare, judge

LIMIT = 1.0
"""No more time than SUMMARIZE, which counts distinct values approximately, too."""

FLOATS, WHOLES, TEXTS = 8, 6, 4


def main(argv: list[str]) -> bool:
    """Measure; return whether the figure keeps its limit."""
    parser = argparse.ArgumentParser(prog="bench_profile")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--runs", type=int)
    options, _ = parser.parse_known_args(argv)
    rows = options.rows or (1_200_000 if options.quick else 10_000_000)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.parquet"
        write_source(path, rows=rows)
        candidates: dict[str, Candidate] = {
            "SUMMARIZE": partial(by_summarize, path),
            "profile": partial(by_asof, path),
        }
        figures = compare(
            "profile", candidates, runs=options.runs or (1 if options.quick else 3), items=rows,
            note=f"{rows:,} rows × {len(columns())} features in Parquet: floats, integers, text, a boolean, a time; a "
            "profile has 17 quantiles, a histogram, bins for drift and the 20 most frequent values in addition",
        )  # fmt: skip
    ratio = figures["profile"].wall_ratio
    assert ratio is not None
    return judge("profile / SUMMARIZE, wall", ratio, LIMIT, unit="×")


def columns() -> dict[str, str]:
    """Column → its values as DuckDB's SQL; 2 % of them are null."""
    made = {f"f{i}": f"random() * {10 ** (i % 4)}" for i in range(FLOATS)}
    made |= {f"i{i}": f"CAST(random() * random() * {10 ** (i + 1)} AS BIGINT)" for i in range(WHOLES)}
    made |= {f"s{i}": f"'v' || CAST(floor(random() * random() * {10 ** (i + 1)}) AS INT)" for i in range(TEXTS)}
    made |= {"b0": "random() < 0.3", "t0": "TIMESTAMP '2026-01-01' + to_seconds(CAST(random() * 8640000 AS INT))"}
    return {name: f"CASE WHEN random() >= 0.02 THEN {value} END" for name, value in made.items()}


def write_source(path: Path, *, rows: int) -> None:
    """Rows of one key each, in the order of their times."""
    values = ", ".join(f"{value} AS {name}" for name, value in columns().items())
    at = "TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_seconds(i) AS at"
    with duckdb.connect() as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(f"COPY (SELECT i AS k, {at}, {values} FROM range({rows}) AS r (i)) TO '{path}'")


def by_summarize(path: Path) -> int:
    """DuckDB's own summary of the features' columns."""
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        return len(connection.execute(f"SUMMARIZE SELECT {', '.join(columns())} FROM '{path}'").fetchall())


def by_asof(path: Path) -> int:
    """The profile of a view over the file."""
    kinds = {"f": Float64, "i": Int64, "s": String, "b": Bool, "t": Timestamp}
    fields = [Field(name, kinds[name[0]]) for name in columns()]
    source = FileSource(str(path), name="rows", timestamp_field="at")
    view = FeatureView("wide", source=source, schema=fields)
    measured = tuple(ProfiledColumn(each.name, each.dtype, f"c{place}") for place, each in enumerate(fields))
    engine = DuckDBEngine()
    rows = FileReader(path.parent).scan(source, ScanRequest([each.name for each in fields] + ["at"]))
    found = engine.profile(ProfiledRows(view, RowFilter(LATEST), measured), rows)
    engine.close()
    return len(found.features)
