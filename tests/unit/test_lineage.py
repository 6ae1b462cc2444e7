"""Lineage: exactly the source columns that a feature's value is made of."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from asof import Aggregation, Entity, FeatureView, Field, FileSource, LogSource, RequestSource, on_demand_feature_view
from asof.connections.duckdb.evaluator import Evaluator
from asof.lineage import FeatureColumns, FeatureInputs, columns_of_feature, inputs_of_feature
from asof.types import Bool, Float64, Int64, String, Timestamp

user = Entity(name="user", join_keys=["user_id"])
MESSAGE = [
    Field("uid", Int64), Field("cents", Int64), Field("kind", String), Field("ts", Timestamp), Field("ref", String),
    Field("noise", String), Field("test", Bool),
]  # fmt: skip
ROWS = [
    Field("user_id", Int64), Field("spent", Float64), Field("kind", String), Field("ts", Timestamp),
    Field("id", String), Field("gone", Bool),
]  # fmt: skip
SQL = """
SELECT uid AS user_id, cents / 100.0 AS spent, lower(kind) AS kind, ts, ref AS id, spent < 0 AS gone
FROM message WHERE NOT test
"""


@pytest.fixture(scope="module")
def engine() -> Any:
    made = Evaluator(threads=1)
    yield made
    made.close()


def orders(transform: Any = SQL) -> FeatureView:
    source = LogSource(
        "orders", schema=ROWS, message_schema=MESSAGE, transform=transform, timestamp_field="ts", event_id="id",
        delete_when="gone",
    )  # fmt: skip
    aggregations = [
        Aggregation(name="spent_ever", function="sum", column="spent * 2", where="kind IN ('a', 'b')"),
        Aggregation(name="n", function="count"),
    ]
    return FeatureView("spending", entities=[user], source=source, aggregations=aggregations)


def test_an_aggregate_is_made_of_the_columns_of_its_expressions() -> None:
    source = FileSource(
        "rows.parquet", name="rows", timestamp_field="at", created_timestamp_column="written",
        field_mapping={"uid": "user_id", "cents": "spent"}, delete_when="dead = 1",
    )  # fmt: skip
    made = Aggregation(name="most", function="max", column="coalesce(spent, other)", where='"odd name" > spent')
    view = FeatureView("spending", entities=[user], source=source, aggregations=[made])

    found = columns_of_feature(view, "most")

    assert found == FeatureColumns(
        source="rows", value=("cents", "other"), where=("odd name", "cents"), keys=("uid",), times=("at", "written"),
        deletes=("dead",), event_id=(),
    )  # fmt: skip
    assert found.made_of == ("cents", "other", "odd name")
    assert found.all == ("cents", "other", "odd name", "uid", "at", "written", "dead")


def test_a_plain_feature_is_made_of_its_column() -> None:
    source = FileSource("rows.parquet", name="rows", timestamp_field="at", field_mapping={"land": "country"})
    view = FeatureView("profile", entities=[user], source=source, schema=[Field("country", String)])

    assert columns_of_feature(view, "country").all == ("land", "user_id", "at")
    with pytest.raises(KeyError, match="no feature 'land'"):
        columns_of_feature(view, "land")


def test_through_a_transform_it_is_the_message_s_columns(engine: Evaluator) -> None:
    select = engine.read_select(SQL, table="message", columns=[field.name for field in MESSAGE])

    assert columns_of_feature(orders(), "spent_ever", select=select) == FeatureColumns(
        source="orders", value=("cents",), where=("kind", "test"), keys=("uid",), times=("ts",), deletes=("cents",),
        event_id=("ref",),
    )  # fmt: skip
    assert columns_of_feature(orders(), "n", select=select).made_of == ("test",)


def test_of_a_function_each_column_of_a_message_may_matter() -> None:
    view = orders(lambda messages: messages)

    assert set(columns_of_feature(view, "n").all) == {field.name for field in MESSAGE}


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("SELECT a.x AS y FROM m", {"y": ("a",)}),
        ("SELECT *, c + 1 AS d FROM m", {"a": ("a",), "b": ("b",), "c": ("c",), "d": ("c",)}),
        ("SELECT B AS p, p + c AS q FROM m", {"p": ("b",), "q": ("b", "c")}),
        ("SELECT list_transform(b, lambda c: c + 1) AS y FROM m", {"y": ("b",)}),
        ("SELECT list_transform(b, lambda x: x + c) AS y FROM m", {"y": ("b", "c")}),
        ("SELECT list_transform(c, lambda c: c + 1) AS y FROM m", {"y": ("c",)}),
        ("SELECT CASE WHEN m.a > 1 THEN 'b' ELSE upper(c) END AS y FROM m", {"y": ("a", "c")}),
        ("SELECT 1 AS y FROM m", {"y": ()}),
    ],
)
def test_the_engine_says_what_each_column_of_a_select_reads(
    engine: Evaluator, sql: str, reads: dict[str, tuple[str, ...]]
) -> None:
    assert engine.read_select(sql, table="m", columns=["a", "b", "c"]).reads == reads


EXPRESSIONS = [
    "cents / 100.0", "CASE WHEN kind = 'a' THEN cents ELSE uid END", "coalesce(ref, noise, kind)",
    "length(noise) + cents", "upper(kind) || ref",
]  # fmt: skip


@pytest.mark.parametrize("sql", EXPRESSIONS)
def test_a_column_that_is_not_named_changes_nothing_and_one_that_is_named_is_needed(
    engine: Evaluator, sql: str
) -> None:
    columns = {"uid": [1, 2], "cents": [150, 7], "kind": ["a", "b"], "ref": [None, "r"], "noise": [None, "n"]}
    select = engine.read_select(f"SELECT {sql} AS y FROM m", table="m", columns=list(columns))
    value = engine.evaluate(pa.table(columns), select.columns).to_pydict()

    for name, values in columns.items():
        others = {**columns, name: ["other" if isinstance(values[1], str) else 99] * 2}
        if name not in select.reads["y"]:
            assert engine.evaluate(pa.table(others), select.columns).to_pydict() == value
        else:
            del others[name]
            with pytest.raises(Exception, match=name):
                engine.evaluate(pa.table(others), select.columns)


def test_an_on_demand_feature_is_made_of_its_declared_inputs() -> None:
    view = orders()
    basket = RequestSource("basket", schema=[Field("amount", Float64)])

    @on_demand_feature_view(sources=[view[["n"]], view, basket], schema=[Field("ratio", Float64)], mode="python")
    def ratios(row: dict[str, Any]) -> dict[str, Any]:
        return {"ratio": row["amount"]}

    assert inputs_of_feature(ratios) == FeatureInputs(
        features=("spending:n", "spending:spent_ever"), request=("amount",), keys=("user_id",)
    )
