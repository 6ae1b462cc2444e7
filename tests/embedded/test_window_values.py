"""Values that windows are made of: checked as those of the latest rows are, and the same in training and serving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, Sliding
from asof.dtypes import DType
from asof.errors import SourceError
from asof.types import Array, Embedding, Float64, Int64, Json, Timestamp

AT = datetime(2026, 1, 1, 13, tzinfo=UTC)
US = pa.timestamp("us", "UTC")
USER = Entity("user")
DAY = Sliding(timedelta(days=1))


def store_of(folder: Path, values: Sequence[Any], kind: pa.DataType, dtype: DType, *functions: str) -> FeatureStore:
    times = [AT - timedelta(minutes=len(values) - place) for place in range(len(values))]
    rows = {"user": [1] * len(values), "at": pa.array(times, US), "value": pa.array(values, kind)}
    pq.write_table(pa.table(rows), folder / "events.parquet")
    (folder / "feature_store.yaml").write_text("project: windows\n", encoding="utf-8")
    store = FeatureStore(folder, clock=lambda: AT)
    events = FileSource(name="events", path=str(folder / "events.parquet"), timestamp_field="at")
    made = [Aggregation(column="value", function=each, window=DAY, name=each) for each in functions]
    fields = [Field("user", Int64), Field("value", dtype)]
    store.apply([USER, events, FeatureView("v", entities=[USER], source=events, schema=fields, aggregations=made)])
    return store


def trained(store: FeatureStore, *functions: str) -> list[Any]:
    frame = pa.table({"user": [1], "event_timestamp": pa.array([AT], US)})
    found = store.get_historical_features(frame, [f"v:{each}" for each in functions]).to_arrow()
    return [found[each][0].as_py() for each in functions]


@pytest.mark.parametrize(
    ("values", "kind", "dtype"),
    [
        (["{bad", "{}"], pa.string(), Json),
        (["NaN", "{}"], pa.string(), Json),
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], pa.list_(pa.float32()), Embedding(3)),
        ([2**60 + 1, 1], pa.int64(), Float64),
        ([253_402_300_800_000_000, 0], US, Timestamp),
        ([[253_402_300_800_000_000], []], pa.list_(US), Array(Timestamp)),
    ],
)
def test_a_value_that_is_none_of_its_type_is_refused_by_windows_too(
    tmp_path: Path, values: list[Any], kind: pa.DataType, dtype: DType
) -> None:
    with store_of(tmp_path, values, kind, dtype, "first") as store:
        with pytest.raises(SourceError, match="source 'events' holds"):
            trained(store, "first")
        with pytest.raises(SourceError, match="source 'events' holds"):
            store.materialize()


def test_what_an_aggregated_view_declares_is_the_type_of_what_it_aggregates(tmp_path: Path) -> None:
    with store_of(tmp_path, [1, 2], pa.int64(), Float64, "sum", "last") as store:
        store.materialize()
        served = store.get_online_features(["v:sum", "v:last"], {"user": [1]}).to_dict()

        assert list(map(repr, trained(store, "sum", "last"))) == ["3.0", "2.0"]
        assert [repr(served[name][0]) for name in ("sum", "last")] == ["3.0", "2.0"]


@pytest.mark.parametrize("values", [[1e155, 3e155], [1.7e308, 1.7e308], [1.0, 2.0, -1e151]])
def test_spreads_whose_squares_may_overflow_are_nan_in_training_and_serving(
    tmp_path: Path, values: list[float]
) -> None:
    with store_of(tmp_path, values, pa.float64(), Float64, "std", "var") as store:
        store.materialize()
        served = store.get_online_features(["v:std", "v:var"], {"user": [1]}).to_dict()

        assert all(map(math.isnan, trained(store, "std", "var")))
        assert all(math.isnan(served[name][0]) for name in ("std", "var"))


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([1e308, 1e308, -1e308], 1e308), ([-1e308, -1.7e308, 1.5e308, 1.5e308, -1.7e308], -1.4e308),
        ([1.7e308] * 3 + [-1.7e308] * 3, 0.0), ([1e308, 1e308], math.inf), ([1e308] + [-1e308] * 3, -math.inf),
        ([1e308, 1e308, -math.inf], -math.inf), ([-1e308, -1e308, math.nan], math.nan),
    ],
)  # fmt: skip
def test_sums_that_pass_the_greatest_float_on_their_way_are_the_same_in_training_and_serving(
    tmp_path: Path, values: list[float], total: float
) -> None:
    near: Any = {"rel": 1e-9, "abs": 1e299, "nan_ok": True}
    with store_of(tmp_path, values, pa.float64(), Float64, "sum", "mean") as store:
        store.materialize()
        served = store.get_online_features(["v:sum", "v:mean"], {"user": [1]}).to_dict()

        assert [served["sum"][0], served["mean"][0]] == pytest.approx([total, total / len(values)], **near)
        assert trained(store, "sum", "mean") == pytest.approx([total, total / len(values)], **near)


CONDITIONS = {
    "value < 1": 1, "value >= 1": 1, "value <= 0.5": 1, "value > 0.5": 1, "value BETWEEN 0 AND 1": 1,
    "value NOT BETWEEN 0 AND 1": 1, "value IN (0.5)": 1, "value = 0.5": 1, "value <> 0.5": 1, "NOT (value < 1)": 1,
    "value + 1 < 3": 1, "CASE WHEN value < 1 THEN 1 ELSE 0 END = 0": 1,
}  # fmt: skip
"""Condition → how many of 0.5 and NaN it holds for: NaN is the greatest number."""


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_nan_that_the_statistics_of_a_file_leave_out_is_the_greatest_number(tmp_path: Path, kind: pa.DataType) -> None:
    times = pa.array([AT - timedelta(minutes=2), AT - timedelta(minutes=1)], US)
    rows = {"user": [1, 1], "at": times, "value": pa.array([0.5, math.nan], kind)}
    pq.write_table(pa.table(rows), tmp_path / "events.parquet")
    (tmp_path / "feature_store.yaml").write_text("project: nan\n", encoding="utf-8")
    events = FileSource(name="events", path=str(tmp_path / "events.parquet"), timestamp_field="at")
    counts = [
        Aggregation(function="count", where=where, window=DAY, name=f"n{i}") for i, where in enumerate(CONDITIONS)
    ]
    names = [each.name for each in counts]
    with FeatureStore(tmp_path, clock=lambda: AT) as store:
        store.apply([USER, events, FeatureView("v", entities=[USER], source=events, aggregations=counts)])
        store.materialize()
        served = store.get_online_features([f"v:{each}" for each in names], [{"user": 1}]).to_dict()

        assert dict(zip(CONDITIONS, trained(store, *names), strict=True)) == CONDITIONS
        assert dict(zip(CONDITIONS, (served[each][0] for each in names), strict=True)) == CONDITIONS


def test_a_row_is_deleted_by_a_nan_that_the_statistics_of_a_file_leave_out(tmp_path: Path) -> None:
    rows = {"user": [1, 2], "at": pa.array([AT, AT], US), "value": [0.5, math.nan]}
    pq.write_table(pa.table(rows), tmp_path / "events.parquet")
    (tmp_path / "feature_store.yaml").write_text("project: nan\n", encoding="utf-8")
    events = FileSource(
        name="events", path=str(tmp_path / "events.parquet"), timestamp_field="at", delete_when="value > 1"
    )
    view = FeatureView("v", entities=[USER], source=events, schema=[Field("user", Int64), Field("value", Float64)])
    frame = pa.table({"user": [1, 2], "event_timestamp": pa.array([AT, AT], US)})
    with FeatureStore(tmp_path, clock=lambda: AT) as store:
        store.apply([USER, events, view])
        store.materialize()

        assert store.get_historical_features(frame, ["v:value"]).to_arrow()["value"].to_pylist() == [0.5, None]
        assert store.get_online_features(["v:value"], [{"user": 1}, {"user": 2}]).to_dict()["value"] == [0.5, None]
