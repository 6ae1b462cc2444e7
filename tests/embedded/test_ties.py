"""Rows of one key and time in tables, which have no arrival: the columns that a view reads decide, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource
from asof.definitions import Source, state_hash
from asof.types import Array, Float64, Int64, String

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
USER = Entity("user")
FIELDS = [
    Field("a", Int64),
    Field("b", Int64),
    Field("page", String),
    Field("list", Array(Int64)),
    Field("part", Float64),
]
ROWS = pa.table(
    {
        "user": pa.array([1] * 5, pa.int64()),
        "page": ["Z", "B", None, "é", "a"],
        "note": ["these", "columns", "are", "not", "read"],
        "part": [1.5, 2.0, 2.5, float("nan"), 3.0],
        "b": [1, 9, 2, 5, 1],
        "list": pa.array([[1], [None], [1, 2], None, []], pa.list_(pa.int64())),
        "a": [2, 1, None, None, 2],
        "at": pa.array([NOON] * 5, pa.timestamp("us", "UTC")),
    }
)
EXPECTED = {
    # The schema's columns in their order.
    "by_a": {"a": 2, "page": "a", "b": 1},
    "by_page": {"page": "é", "a": None, "b": 5},
    "by_list": {"list": [None], "page": "B"},
    # NaN, which equals nothing, is not asked for.
    "by_part": {"page": "é"},
    # The aggregations' in theirs, column before where, left to right.
    "of_a": {"last_a": 2, "last_b": 1, "pages": ["é", "B", "Z", "a"]},
    "of_page": {"first_page": "B", "bs": [2, 9, 1, 1, 5]},
    "of_where": {"n": 5, "page": "B", "sum": 18},
    "of_twice": {"last_b": 1, "page": "a"},
}


def views_of(source: Source) -> list[FeatureView]:
    def latest(name: str, *fields: str) -> FeatureView:
        types = {field.name: field for field in FIELDS}
        return FeatureView(name, entities=[USER], source=source, schema=[types[each] for each in fields])

    def aggregated(name: str, *made: Aggregation) -> FeatureView:
        return FeatureView(name, entities=[USER], source=source, aggregations=list(made))

    return [
        latest("by_a", "a", "page", "b"),
        latest("by_page", "page", "a", "b"),
        latest("by_list", "list", "page"),
        latest("by_part", "part", "page"),
        aggregated(
            "of_a",
            Aggregation("a", "last", name="last_a"),
            Aggregation("b", "last", name="last_b"),
            Aggregation("page", "last_n", n=5, name="pages"),
        ),
        aggregated("of_page", Aggregation("page", "first", name="first_page"), Aggregation("b", "last_n", n=9, name="bs")),
        aggregated(
            "of_where",
            Aggregation(function="count", where="b > 0", name="n"),
            Aggregation("page", "last", where="a >= 1 OR b > 0", name="page"),
            Aggregation("b", "sum", name="sum"),
        ),
        aggregated("of_twice", Aggregation("a + b", "sum", name="sums"), Aggregation("b", "last", name="last_b"),
                   Aggregation("page", "last", name="page")),
    ]  # fmt: skip


class TiesSuite:
    """Give a store over a table that holds `ROWS`."""

    @pytest.fixture
    def source(self) -> Source:
        raise NotImplementedError

    @pytest.fixture
    def store(self) -> FeatureStore:
        raise NotImplementedError

    def test_each_view_alone_and_all_together_have_the_same_values(self, store: FeatureStore, source: Source) -> None:
        store.apply([USER, *views_of(source)])

        alone = {name: history(store, [name])[name] for name in EXPECTED}
        both = {name: history(store, list(dict.fromkeys(["of_page", name])))[name] for name in EXPECTED}

        assert alone == EXPECTED
        assert both == EXPECTED
        assert history(store, list(EXPECTED)) == EXPECTED
        assert history(store, list(reversed(EXPECTED))) == EXPECTED
        assert history(store, list(EXPECTED), known_at=True) == EXPECTED

    def test_one_feature_of_a_view_is_that_of_all(self, store: FeatureStore, source: Source) -> None:
        store.apply([USER, *views_of(source)])
        frame = pa.table({"user": [1], "event_timestamp": [LATER]})

        for view, expected in EXPECTED.items():
            for name, value in expected.items():
                table = store.get_historical_features(frame, [f"{view}:{name}"]).to_arrow()

                assert table[name].to_pylist() == [value], f"{view}:{name}"

    def test_what_is_served_is_what_is_trained_on(self, store: FeatureStore, source: Source) -> None:
        store.apply([USER, *views_of(source)])
        store.materialize()
        features = [f"{view}:{name}" for view, expected in EXPECTED.items() for name in expected]

        answer = store.get_online_features(features, {"user": [1]}, full_feature_names=True).to_dict()

        assert by_view({name: values[0] for name, values in answer.items()}) == EXPECTED

    def test_explain_and_sample_follow_the_same_order(self, store: FeatureStore, source: Source) -> None:
        store.apply([USER, *views_of(source)])

        for view, expected in EXPECTED.items():
            sampled = store.sample(view, n=1, by="entities").to_dicts()[0]
            assert {name: sampled[name] for name in expected} == expected
            for name, value in expected.items():
                explained = store.explain(f"{view}:{name}", {"user": 1})
                assert explained.value == value
                if view.startswith("by_"):
                    (chosen,) = [row for row in explained.rows.to_pylist() if row["why"] == "chosen"]
                    assert {each: chosen[each] for each in expected} == expected
                elif name not in ("n", "sum"):
                    (shown,) = explained.rows.select([1]).to_pydict().values()
                    newest_first = [each for each in shown if each is not None]
                    values = value if isinstance(value, list) else [value]
                    assert (newest_first[-1] if name.startswith("first") else newest_first[0]) == values[-1]

    def test_a_value_that_does_not_fit_is_lowest_where_it_is_not_asked_for(
        self, store: FeatureStore, source: Source
    ) -> None:
        whole = FeatureView(
            "by_whole", entities=[USER], source=source, schema=[Field("part", Int64), Field("page", String)]
        )
        store.apply([USER, whole])
        frame = pa.table({"user": [1], "event_timestamp": [LATER]})

        table = store.get_historical_features(frame, ["by_whole:page"]).to_arrow()

        assert table["page"].to_pylist() == ["a"]


def history(store: FeatureStore, views: list[str], **options: Any) -> dict[str, dict[str, Any]]:
    features = [f"{view}:{name}" for view in views for name in EXPECTED[view]]
    frame = pa.table({"user": [1], "event_timestamp": [LATER]})
    table = store.get_historical_features(frame, features, full_feature_names=True, **options).to_arrow()
    return by_view(table.to_pylist()[0])


def by_view(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, value in row.items():
        view, _, feature = name.partition("__")
        if feature:
            found.setdefault(view, {})[feature] = value
    return found


class TestDelta(TiesSuite):
    @pytest.fixture(params=[0, 1, 2])
    def source(self, tmp_path: Path, request: pytest.FixtureRequest) -> Source:
        order = list(permutations(range(5)))[request.param * 37]
        write_deltalake(tmp_path / "rows", ROWS.take(pa.array(order)))
        return FileSource("rows", file_format="delta", timestamp_field="at", name="rows")

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[FeatureStore]:
        (tmp_path / "feature_store.yaml").write_text("project: ties\n", encoding="utf-8")
        with FeatureStore(tmp_path, clock=lambda: LATER) as store:
            yield store

    def test_a_rewrite_of_the_table_changes_no_value(self, store: FeatureStore, source: Source, tmp_path: Path) -> None:
        store.apply([USER, *views_of(source)])
        before = history(store, list(EXPECTED))

        write_deltalake(tmp_path / "rows", ROWS.take(pa.array([4, 3, 2, 1, 0])), mode="overwrite")

        assert history(store, list(EXPECTED)) == before


def test_the_order_of_equal_rows_is_part_of_a_generation() -> None:
    def made(source: Source, *columns: str) -> str:
        made = [Aggregation(each, "last", name=each) for each in columns]
        fields = [Field(each, Int64) for each in columns]
        view = FeatureView("v", entities=[USER], source=source, aggregations=made)
        return state_hash(view.resolved(schema=fields, aggregations=[each.with_dtype(Int64) for each in made]))

    table = FileSource("t", file_format="delta", timestamp_field="at", name="t")
    files = FileSource("t/*.parquet", timestamp_field="at", name="t")

    assert made(table, "a", "b") == made(table, "a", "b")
    assert made(table, "a", "b") != made(table, "b", "a")
    # Files have an arrival: the order in which a view names its columns decides nothing.
    assert made(files, "a", "b") == made(files, "b", "a")
