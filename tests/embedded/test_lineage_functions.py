"""Lineage through what computes: the SQL of a transform, and an on-demand function by its signature."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asof import FeatureStore
from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, LogSource, Sliding
from asof.dtypes import Bool, Float64, Int64, String, Timestamp
from asof.lineage import columns_of_feature, inputs_of_feature
from asof.offline.duckdb.engine import DuckDBEngine
from asof.selection import FeatureOut, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime

START = datetime(2026, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
user = Entity("user", join_keys=["user_id"])

MESSAGE = {"uid": Int64, "cents": Int64, "kind": String, "ts": Timestamp, "noise": String, "test": Bool, "bonus": Int64}
VALUES: dict[str, list[Any]] = {
    "uid": [1, 1, 2], "cents": [None, 0, 150, -20], "kind": ["A", "b", None], "noise": ["n", None, "m"],
    "test": [True, False, False, None], "bonus": [1, 2, None],
}  # fmt: skip
SPENT = [
    "cents / 100.0",
    "coalesce(cents, bonus) * 1.0",
    "CASE WHEN kind = 'A' THEN cents END",
    "length(noise) + cents",
]
KINDS = ["lower(kind)", "kind || noise", "'always'"]
FILTERS = ["", "WHERE NOT coalesce(test, false)", "WHERE cents > 0 OR bonus = 2"]
AGGREGATES = [
    Aggregation("", "count", name="value"),
    Aggregation("spent", "sum", name="value", window=Sliding("8s")),
    Aggregation("spent * 2", "max", name="value", where="kind <> 'b'"),
    Aggregation("kind", "count_distinct", name="value"),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=1)
    yield engine
    engine.close()


def messages(rng: random.Random) -> pa.Table:
    columns = {name: pa.array(rng.choices(values, k=40), MESSAGE[name].arrow()) for name, values in VALUES.items()}
    columns["ts"] = pa.array([START + timedelta(seconds=rng.randrange(20)) for _ in range(40)], TIME)
    return pa.table(columns)


def with_other_values(rows: pa.Table, column: str, rng: random.Random) -> pa.Table:
    place, kind = rows.column_names.index(column), rows.schema.field(column).type
    pool = [*rows[column].to_pylist(), None]
    return rows.set_column(place, column, pa.array(rng.choices(pool, k=rows.num_rows), kind))


def is_needed(values: Callable[[pa.Table], Any], rows: pa.Table, before: Any) -> bool:
    """Whether there is another value, or none, without a column."""
    try:
        return bool(values(rows) != before)
    except Exception:  # whatever the engine says: it does not read the feature
        return True


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    spent=st.sampled_from(SPENT), kind=st.sampled_from(KINDS), chosen=st.sampled_from(FILTERS),
    made=st.sampled_from(AGGREGATES), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_through_a_transform_exactly_the_named_columns_of_a_message_matter(
    engine: DuckDBEngine, tmp_path_factory: pytest.TempPathFactory, spent: str, kind: str, chosen: str,
    made: Aggregation, seed: int,
) -> None:  # fmt: skip
    rng = random.Random(seed)
    sql = f"SELECT uid AS user_id, {spent} AS spent, {kind} AS kind, ts FROM message {chosen}"
    schema = [Field("user_id", Int64), Field("spent", Float64), Field("kind", String), Field("ts", Timestamp)]
    log = LogSource(
        "orders", schema=schema, message_schema=[Field(name, dtype) for name, dtype in MESSAGE.items()], transform=sql,
        timestamp_field="ts",
    )  # fmt: skip
    select = engine.read_select(sql, table="message", columns=list(MESSAGE))
    named = columns_of_feature(
        FeatureView("v", source=log, entities=[user], aggregations=[made]), "value", select=select
    ).all

    # The rows that the transform makes, as a file: what is read of them is held by test_lineage_data.
    dtypes = {field.name: field.dtype for field in schema}
    typed = made.with_dtype(made.output_dtype(Float64 if made.column.startswith("spent") else dtypes.get(made.column)))
    view = FeatureView(
        "v", source=FileSource("rows", name="rows", timestamp_field="ts"), entities=[user], aggregations=[made]
    ).resolved(schema=[Field("user_id", Int64)], aggregations=[typed])
    read = ViewRead(view, view.join_keys, (FeatureOut("value", "value", typed.dtype, None),))
    spine = pa.table(
        {
            "user_id": pa.array(rng.choices([1, 2, 3], k=20), pa.int64()),
            "event_timestamp": pa.array([START + timedelta(seconds=rng.randrange(25)) for _ in range(20)], TIME),
        }
    )
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"

    def values(given_messages: pa.Table) -> list[str]:
        keep = {"asof_keep": select.where} if select.where else {}
        rows = engine.evaluate(given_messages, {**select.columns, **keep})
        rows = rows.filter(rows["asof_keep"]).drop_columns(["asof_keep"]) if keep else rows
        pq.write_table(rows, path)
        found = engine.run(PointInTime((read,)), {"rows": Files((str(path),))}, spine=spine).to_arrow()
        return [str(each) for each in found["value"].to_pylist()]

    table = messages(rng)
    before = values(table)
    for column in MESSAGE:
        if column not in named:
            assert values(with_other_values(table, column, rng)) == before, f"{column} is not in {named}: {sql}"
        else:
            assert is_needed(values, table.drop_columns([column]), before), f"{column} is in {named}: {sql}"


FEATURES = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
rows = FileSource("rows.parquet", name="rows", timestamp_field="at", field_mapping={"Age ": "age", "uid": "user_id"})
profile = FeatureView("profile", entities=[user], source=rows, schema=[
    Field("user_id", Int64), Field("age", Int64), Field("income", Float64), Field("city", String)])
clicks = FeatureView("clicks", entities=[user], source=rows, aggregations=[
    Aggregation("pages", "sum", name="pages", where="device = 'phone'"), Aggregation("", "count", name="n")])
now = RequestSource("now", schema=[Field("amount", Float64), Field("note", String)])

@on_demand_feature_view(
    sources=[profile[["age", "income"]], clicks[["pages"]], now], schema=[Field("score", Float64)], mode="python")
def scores(row):
    return {"score": (row["age"] or 0) + (row["income"] or 0) * (row["pages"] or 1) + (row["amount"] or 0)}
"""
COLUMNS: dict[str, list[Any]] = {
    "uid": [1, 2, 3, 4], "Age ": [20, 30, None, 50], "income": [1.5, None, 2.5, 9.0], "city": ["a", "b", None, "c"],
    "pages": [1, 2, 3, 4], "device": ["phone", "phone", "tv", None], "unread": ["x", "y", "z", None],
}  # fmt: skip


def test_an_on_demand_feature_depends_on_the_columns_of_its_inputs_alone(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\nclock: 2026-01-02T00:00:00Z\n")
    (tmp_path / "features.py").write_text(FEATURES)
    table = pa.table({**COLUMNS, "at": pa.array([START] * 4, TIME)})
    frame = pa.table(
        {
            "user_id": COLUMNS["uid"],
            "event_timestamp": pa.array([START + timedelta(hours=1)] * 4, TIME),
            "amount": [1.0, 2.0, 3.0, 4.0],
            "note": ["p", "q", "r", "s"],
        }
    )
    rng = random.Random(1)
    pq.write_table(table, tmp_path / "rows.parquet")
    with FeatureStore(tmp_path) as store:
        store.apply()
        view = store.get_on_demand_feature_view("scores")
        inputs = inputs_of_feature(view)
        named = {
            column
            for each in inputs.features
            for column in columns_of_feature(store.get_feature_view(each.partition(":")[0]), each.partition(":")[2]).all
        }
    assert inputs.features == ("profile:age", "profile:income", "clicks:pages")
    assert named == {"uid", "Age ", "income", "pages", "device", "at"}

    def values(rows: pa.Table, entities: pa.Table = frame) -> list[Any]:
        pq.write_table(rows, tmp_path / "rows.parquet")
        with FeatureStore(tmp_path) as store:
            found: list[Any] = store.get_historical_features(entities, ["scores:score"]).to_arrow()["score"].to_pylist()
        return found

    before = values(table)
    assert before == [20 + 1.5 * 1 + 1, 30 + 2, 2.5 + 3, 50 + 9.0 + 4]
    for column in table.column_names:
        if column not in named:
            assert values(with_other_values(table, column, rng)) == before, column
            assert values(table.drop_columns([column])) == before or column == "city", column
        else:
            assert is_needed(values, table.drop_columns([column]), before), column
    assert values(table, frame.set_column(3, "note", pa.array(["other"] * 4))) == before
    assert values(table, frame.set_column(2, "amount", pa.array([0.0] * 4))) != before
