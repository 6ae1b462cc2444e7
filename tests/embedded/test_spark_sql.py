"""Every kind of query in Spark's SQL on Sail, against DuckDB's results over the same random history."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import count
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from asof.definitions import Aggregation, FeatureView, Field, Session, Sliding
from asof.dtypes import Bool, Float32, Float64, Int64, String, from_arrow
from asof.dtypes import Decimal as DecimalType
from asof.offline.duckdb.engine import DuckDBEngine
from asof.sql.query import WANTED, NewestRows, PointInTime, RowFilter, RowsOfKeys, TouchedKeys, ViewRows
from asof.sql.quoting import quote_spark
from asof.sql.source_rows import SourceTable, SpineTable
from asof.sql.spark.capabilities import DECIMALS, WINDOWS, Capabilities
from asof.sql.spark.dialect import SESSION
from asof.sql.spark.point_in_time import compile_select, key_counts, range_spine
from asof.sql.spark.view_rows import compile_rows
from asof.testing.history import CORRECTED, EVENTS, NOON, US, reads, view
from asof.timing import DAY, HOUR, MINUTE
from tests.sail import connected

if TYPE_CHECKING:
    from pyspark.sql.connect.session import SparkSession

pytestmark = pytest.mark.integration

FIELDS = [
    Field("amount", Int64), Field("price", Float64), Field("page", String), Field("paid", DecimalType(12, 2)),
    Field("huge", DecimalType(38, 4)), Field("flag", Bool), Field("small", Float32),
]  # fmt: skip
WINDOWS_TRIED = (
    Sliding("1h"),
    Sliding("26h", "2h"),
    Sliding("3d"),
    Sliding("5h", "2h"),
    None,
    Session("1h"),
    Session("9h"),
)
NUMBERS_ONLY = ("sum", "mean", "std", "var")
FUNCTIONS = (*NUMBERS_ONLY, "count", "min", "max", "first", "last", "count_distinct", "last_n")


class SailReads:
    """Runs the compiled queries over Arrow tables; what an offline store does around them is not here."""

    def __init__(self, session: SparkSession) -> None:
        self.session = session
        self.found = Capabilities.found(windows=str(self.fetch(WINDOWS)), decimals=self._works(DECIMALS))
        self._numbers = count()

    def fetch(self, text: str) -> list[dict[str, Any]]:
        return self.session.sql(text).toArrow().to_pylist()

    def _works(self, text: str) -> bool:
        try:
            return bool(self.fetch(text))
        except Exception:
            return False

    def view(self, rows: pa.Table, name: str = "") -> tuple[str, dict[str, str]]:
        name = name or f"given_{next(self._numbers)}"
        frame = self.session.createDataFrame(rows)
        frame.createOrReplaceTempView(name)
        return name, {each.name: each.dataType.simpleString() for each in frame.schema.fields}

    def tables(self, query: PointInTime | ViewRows, rows: pa.Table) -> dict[str, SourceTable]:
        relation, types = self.view(rows)
        dtypes = {field.name: from_arrow(field.type) for field in rows.schema}
        source = query.reads[0].view.source.name
        return {source: SourceTable(relation, types, dtypes, "columns", self.found.dialect)}

    def spine(self, frame: pa.Table) -> SpineTable:
        numbered = frame.append_column("asof_n", pa.array(range(frame.num_rows), pa.int64()))
        relation, types = self.view(numbered)
        del types["asof_n"]
        spine = SpineTable(relation, types, "event_timestamp", rows=frame.num_rows, quote=quote_spark)
        ends = self.fetch(
            f"SELECT min(t) AS a, max(t) AS b FROM (SELECT {spine.moment(self.found.dialect)} AS t FROM {relation})"
        )
        return SpineTable(relation, types, spine.time, ends[0]["a"], ends[0]["b"], spine.rows, quote=quote_spark)

    def read(
        self, query: PointInTime, rows: pa.Table, frame: pa.Table, *, carries_last: bool, by_day: bool
    ) -> list[dict[str, Any]]:
        capabilities = Capabilities(carries_last, self.found.has_try_decimals)
        hot = frozenset(read.view.name for read in query.reads) if by_day else frozenset[str]()
        text = compile_select(query, self.tables(query, rows), self.spine(frame), capabilities=capabilities, hot=hot)
        return self.fetch(text)


@pytest.fixture(scope="module")
def sail() -> Iterator[SailReads]:
    with connected(SESSION) as session:
        yield SailReads(session)


@pytest.fixture(scope="module")
def duckdb() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=1)
    yield engine
    engine.close()


def history(rng: random.Random, rows: int) -> pa.Table:
    """Events of few keys at few moments, so that many are equal in both."""
    moments = [NOON + rng.randrange(-4 * 24 * 60, 4 * 24 * 60) * MINUTE for _ in range(max(2, rows // 3))]
    happened = [rng.choice(moments) for _ in range(rows)]

    def of(*values: object) -> list[object]:
        return [rng.choice(values) for _ in range(rows)]

    odd = (math.nan, math.inf, -math.inf, 1e308) if rng.random() < 0.3 else ()
    return pa.table(
        {
            "user": pa.array(of(0, 1, 1, 1, 2, None), pa.int64()),
            "happened": pa.array(happened, US),
            "written": pa.array([each + rng.choice((0, MINUTE, 5 * HOUR)) for each in happened], US),
            "amount": pa.array(of(None, 1, -7, 5, 2**62, 2**63 - 1, -(2**63)), pa.int64()),
            "price": pa.array(of(None, 1.5, -2.25, 0.0, -0.0, 0.1, 3e10, *odd), pa.float64()),
            "page": pa.array(of(None, "a", "b", "", "é", "A", "x'y\\z"), pa.string()),
            "paid": pa.array(of(None, Decimal("1.50"), Decimal("-9999999999.99")), pa.decimal128(12, 2)),
            "huge": pa.array(of(None, Decimal("9" * 34 + ".9999"), Decimal("-1.0001")), pa.decimal128(38, 4)),
            "flag": pa.array(of(None, True, False), pa.bool_()),
            "small": pa.array(of(None, 1.5, -0.0, math.nan, 3e38), pa.float32()),
        }
    )


def entity_frame(rng: random.Random, rows: int, events: pa.Table) -> pa.Table:
    near = (0, 0, 1, -1, HOUR, 3 * HOUR, DAY)
    happened = events["happened"].cast(pa.int64()).to_pylist()
    times = [rng.choice(happened) + rng.choice(near) if rng.random() < 0.9 else None for _ in range(rows)]
    users = [rng.choice((0, 1, 1, 2, 9, None)) for _ in range(rows)]
    return pa.table({"user": pa.array(users, pa.int64()), "event_timestamp": pa.array(times, US)})


def latest_view(rng: random.Random) -> FeatureView:
    options: dict[str, Any] = {"ttl": "1d"} if rng.random() < 0.5 else {}
    options |= {"delay": "1h"} if rng.random() < 0.5 else {}
    return view(*FIELDS, source=rng.choice((CORRECTED, EVENTS)), **options)


def windowed_view(rng: random.Random) -> FeatureView:
    made = []
    for window in WINDOWS_TRIED:
        for _ in range(3):
            function = rng.choice(FUNCTIONS)
            columns = ["amount", "price", "paid", "huge", "small", "amount + 1"]
            column = rng.choice(columns if function in NUMBERS_ONLY else [*columns, "page", "flag"])
            column = "" if function == "count" and rng.random() < 0.5 else column
            where = rng.choice(("", "", "page <> 'a'", "price > 1 OR flag"))
            n = {"n": rng.choice((1, 2, 5))} if function == "last_n" else {}
            made.append(Aggregation(column, function, name=f"f{len(made)}", window=window, where=where, **n))  # type: ignore[arg-type]
    options: dict[str, Any] = {"boundary": "exclusive"} if rng.random() < 0.4 else {}
    options |= {"delay": "1h"} if rng.random() < 0.4 else {}
    return view(*FIELDS, source=rng.choice((CORRECTED, EVENTS)), aggregations=made, **options)


def same(found: Any, wanted: Any) -> bool:
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float):
        if math.isnan(found) or math.isnan(wanted):
            return math.isnan(found) and math.isnan(wanted)
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-6)
    return type(found) is type(wanted) and found == wanted


def differences(found: list[dict[str, Any]], wanted: list[dict[str, Any]], of: FeatureView) -> list[str]:
    assert len(found) == len(wanted)
    made: Mapping[str, object] = {each.name: each for each in of.aggregations}
    return [
        f"{name} of row {place} {made.get(name, '')}: {mine[name]!r}, expected {value!r}"
        for place, (mine, theirs) in enumerate(zip(found, wanted))
        for name, value in theirs.items()
        if not same(mine[name], value)
    ]


@pytest.mark.parametrize("known_at", [None, True, NOON])
@pytest.mark.parametrize("seed", range(2))
def test_a_random_history_reads_as_in_duckdb(
    sail: SailReads, duckdb: DuckDBEngine, seed: int, known_at: bool | int | None
) -> None:
    rng = random.Random(f"{seed} {known_at}")
    for made in (latest_view(rng), windowed_view(rng)):
        rows = history(rng, 80)
        frame = entity_frame(rng, 40, rows)
        query = PointInTime(reads(made), known_at=known_at)
        wanted = duckdb.run(query, {made.source.name: rows}, spine=frame).to_arrow().to_pylist()
        plans = [(True, False), (False, False), (False, True)] if known_at is not True else [(False, False)]
        # Of windows, which take long to plan, the days are cut in every other history.
        for carries_last, by_day in plans if not made.is_aggregated else [(False, seed == 1 and known_at is not True)]:
            found = sail.read(query, rows, frame, carries_last=carries_last, by_day=by_day)

            assert not differences(found, wanted, made), (carries_last, by_day)


def test_windows_of_infinities_alone_are_infinite(sail: SailReads, duckdb: DuckDBEngine) -> None:
    rows = history(random.Random(3), 4).slice(0, 2)
    infinite = rows.set_column(1, "happened", pa.array([NOON, NOON + 1], US)).set_column(0, "user", pa.array([1, 2]))
    infinite = infinite.set_column(4, "price", pa.array([-math.inf, math.inf]))
    wanted = [Aggregation("price", each, name=each, window=Sliding("3d")) for each in ("min", "max", "sum", "mean")]
    made = view(*FIELDS, source=EVENTS, aggregations=wanted)
    frame = pa.table({"user": pa.array([1, 2]), "event_timestamp": pa.array([NOON + 1, NOON + 1], US)})
    query = PointInTime(reads(made))
    expected = duckdb.run(query, {"events": infinite}, spine=frame).to_arrow().to_pylist()

    found = sail.read(query, infinite, frame, carries_last=False, by_day=False)

    assert {expected[0]["min"], expected[1]["max"]} == {-math.inf, math.inf}
    assert not differences(found, expected, made)


@pytest.mark.parametrize("kind", [NewestRows, TouchedKeys, RowsOfKeys])
def test_a_view_s_own_rows_are_those_of_duckdb(sail: SailReads, duckdb: DuckDBEngine, kind: type[ViewRows]) -> None:
    rng = random.Random(5)
    rows, made = history(rng, 60), view(*FIELDS, source=CORRECTED)
    query = kind(made, RowFilter(latest=NOON + DAY, news_from=NOON - DAY, events_from=NOON))
    keys = pa.table({"k0": pa.array([1, 2], pa.int64())})
    sail.view(keys, WANTED)
    wanted = duckdb.run(query, {made.source.name: rows, WANTED: keys}).to_arrow().to_pylist()

    found = sail.fetch(compile_rows(query, sail.tables(query, rows)))

    assert wanted
    assert [list(each) for each in found[:1]] == [list(each) for each in wanted[:1]]
    assert not differences(found, wanted, made)


def test_a_range_of_time_is_a_spine(sail: SailReads, duckdb: DuckDBEngine) -> None:
    rng = random.Random(6)
    rows, made = history(rng, 60), view(*FIELDS, source=EVENTS)
    query = PointInTime(reads(made), start=NOON - DAY, end=NOON + DAY)
    wanted = duckdb.run(query, {made.source.name: rows}).to_arrow().select(["user", "event_timestamp"]).to_pylist()

    assert wanted
    assert sail.fetch(range_spine(query, sail.tables(query, rows))) == wanted


def test_the_rows_of_the_hottest_key_are_counted(sail: SailReads) -> None:
    rows = pa.table({
        "user": pa.array([1, 1, 1, 2], pa.int64()), "happened": pa.array([NOON, NOON, NOON + 1, NOON], US),
        "value": pa.array([1, 2, 3, 4], pa.int64()),
    })  # fmt: skip
    query = PointInTime(reads(view(Field("value", Int64), source=EVENTS)))
    spine = sail.spine(pa.table({"user": pa.array([1], pa.int64()), "event_timestamp": pa.array([NOON + 2], US)}))

    assert sail.fetch(key_counts(query, sail.tables(query, rows), spine, query.reads[0])) == [{"rows": 3, "total": 3}]


def test_a_value_that_does_not_fit_is_named(sail: SailReads) -> None:
    rows = pa.table({
        "user": pa.array([1], pa.int64()), "happened": pa.array([NOON], US), "value": pa.array([1.5], pa.float64()),
    })  # fmt: skip
    query = PointInTime(reads(view(Field("value", Int64), source=EVENTS)))
    frame = pa.table({"user": pa.array([1], pa.int64()), "event_timestamp": pa.array([NOON], US)})

    with pytest.raises(Exception, match=r"asof: column 'value' of source 'events' holds 1\.5, which is no Int64"):
        sail.read(query, rows, frame, carries_last=False, by_day=False)
