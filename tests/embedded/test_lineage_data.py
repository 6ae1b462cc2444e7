"""Lineage against the engine: a column that it does not name never changes a feature, one that it names is needed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, Session, Sliding
from asof.dtypes import Float64, Int64, String
from asof.expressions import check, parse
from asof.lineage import columns_of_feature
from asof.offline.duckdb.engine import DuckDBEngine
from asof.selection import FeatureOut, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime
from asof.timing import SECOND

TYPES = {"user_id": Int64, "shop": String, "amount": Int64, "price": Float64, "page": String, "noise": String}
"""The columns under their names in Asof; `RAW` has those that the source calls otherwise."""
RAW = {"amount": "betrag", "page": "Page Name", "user_id": "uid"}
START = 1_600_000_000 * SECOND
TIMES = pa.timestamp("us", "UTC")

VALUES: dict[str, list[Any]] = {
    "user_id": [1, 1, 2, None], "shop": ["a", "b", None], "amount": [None, 0, 1, -3, 7], "price": [None, 0.0, 1.5, -2.25],
    "page": ["x", "y", "Z", None], "noise": ["p", "q", "r", None],
}  # fmt: skip
COLUMNS = [
    "amount",
    "price",
    "page",
    "amount * 2",
    "coalesce(price, amount)",
    "CASE WHEN shop = 'a' THEN amount ELSE 3 END",
    "length(page) + amount",
]
CONDITIONS = [
    "",
    "page = 'x'",
    "amount > 0 OR shop IS NULL",
    "noise IN ('p', 'q')",
    "price IS NOT NULL AND page <> shop",
]
DELETIONS = ["", "", "page = 'Z'", "amount < 0 AND shop = 'b'"]
WINDOWS = [None, Sliding("10s", "2s"), Sliding("3s"), Session("2s")]
NUMBERS = ("sum", "mean", "std", "var")
ANY = ("count", "min", "max", "first", "last", "count_distinct")


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=1)
    yield engine
    engine.close()


@st.composite
def views(draw: st.DrawFn) -> FeatureView:
    """A view of latest values or of aggregates, over a source with or without an arrival of its rows."""
    source = FileSource(
        "rows", name="rows", timestamp_field="happened", file_format=draw(st.sampled_from(["parquet", "delta"])),
        created_timestamp_column=draw(st.sampled_from(["written", None])), delete_when=draw(st.sampled_from(DELETIONS)),
        field_mapping={raw: name for name, raw in RAW.items()},
    )  # fmt: skip
    entities = draw(
        st.sampled_from(
            [[Entity("user", join_keys=["user_id"])], [Entity("user", join_keys=["user_id"]), Entity("shop")], []]
        )
    )
    keys = [key for entity in entities for key in entity.join_keys]
    named = draw(
        st.lists(st.sampled_from([name for name in TYPES if name not in keys]), min_size=1, max_size=4, unique=True)
    )
    fields = [Field(name, TYPES[name]) for name in (*keys, *named)]
    if draw(st.booleans()):
        ttl, delay = draw(st.sampled_from([None, "5s"])), draw(st.sampled_from([None, "2s"]))
        return FeatureView("v", source=source, entities=entities, schema=fields, ttl=ttl, delay=delay)
    made = [draw(aggregations(number)) for number in range(draw(st.integers(1, 3)))]
    boundary = draw(st.sampled_from(["inclusive", "exclusive"]))
    view = FeatureView("v", source=source, entities=entities, aggregations=made, boundary=boundary)
    keyed = [Field(key, TYPES[key]) for key in keys]
    return view.resolved(
        schema=keyed, aggregations=[each.with_dtype(each.output_dtype(dtype_of(each.column))) for each in made]
    )


@st.composite
def aggregations(draw: st.DrawFn, number: int) -> Aggregation:
    where, window = draw(st.sampled_from(CONDITIONS)), draw(st.sampled_from(WINDOWS))
    column = draw(st.sampled_from(["", *COLUMNS]))
    if not column:
        return Aggregation(function="count", name=f"f{number}", where=where, window=window)
    is_number = (dtype := dtype_of(column)) is not None and dtype != String
    function = draw(st.sampled_from([*ANY, "last_n", *(NUMBERS if is_number else ())]))
    return Aggregation(
        column, function, name=f"f{number}", where=where, window=window, n=2 if function == "last_n" else 0
    )


def dtype_of(column: str) -> Any:
    return check(parse(column), TYPES) if column else None


def rows_of(rng: random.Random) -> pa.Table:
    """Rows of few moments, so that ties and edges are hit all the time."""
    count = 60
    moments = [START + rng.choice((0, 1, 2, 3, 5, 8, 10, 20)) * SECOND for _ in range(count)]
    columns = {
        RAW.get(name, name): pa.array(rng.choices(values, k=count), TYPES[name].arrow())
        for name, values in VALUES.items()
    }
    columns["happened"] = pa.array(moments, TIMES)
    columns["written"] = pa.array([moment + rng.choice((0, 0, SECOND)) for moment in moments], TIMES)
    columns["unread"] = pa.array(rng.choices(["a", "b"], k=count))
    return pa.table(columns)


def other_values(table: pa.Table, column: str, rng: random.Random) -> pa.Table:
    values = table[column].to_pylist()
    pool = [*values, *([START, START + SECOND] if table.schema.field(column).type == TIMES else []), None]
    return table.set_column(
        table.column_names.index(column),
        table.schema.field(column),
        pa.array(rng.choices(pool, k=len(values)), table.schema.field(column).type),
    )


def spine(rng: random.Random) -> pa.Table:
    count = 40
    return pa.table(
        {
            "user_id": pa.array(rng.choices([1, 2, 3, None], k=count), pa.int64()),
            "shop": pa.array(rng.choices(["a", "b", "c"], k=count)),
            "event_timestamp": pa.array([START + rng.randrange(-2, 25) * SECOND for _ in range(count)], TIMES),
        }
    )


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(view=views(), data=st.data(), seed=st.integers(0, 2**32))
def test_a_feature_depends_on_exactly_the_columns_of_its_lineage(
    engine: DuckDBEngine, tmp_path_factory: Any, view: FeatureView, data: st.DataObject, seed: int
) -> None:
    rng = random.Random(seed)
    table, frame = rows_of(rng), spine(rng)
    feature = data.draw(st.sampled_from(view.features))
    named = columns_of_feature(view, feature.name).all
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    read = ViewRead(view, view.join_keys, (FeatureOut(feature.name, "value", feature.dtype, None),))

    def values(rows: pa.Table) -> list[Any]:
        given_rows: Any = rows
        if view.source.has_arrival:
            pq.write_table(rows, path)
            given_rows = Files((str(path),))
        found = engine.run(PointInTime((read,)), {"rows": given_rows}, spine=frame).to_arrow()
        return [str(each) for each in found["value"].to_pylist()]

    before = values(table)

    for column in table.column_names:
        if column not in named:
            assert values(other_values(table, column, rng)) == before, (
                f"{column} changes {feature.name}, but is not in {named}"
            )
        else:
            assert is_needed(values, table.drop_columns([column]), before), (
                f"{feature.name} is read without {column}, which is in {named}"
            )


def is_needed(values: Any, rows: pa.Table, before: list[Any]) -> bool:
    try:
        return bool(values(rows) != before)
    except Exception:  # the engine's own: whatever it says, it does not read the feature
        return True
