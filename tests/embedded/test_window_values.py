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
