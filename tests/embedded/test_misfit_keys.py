"""Join keys in files that do not fit their declared type: refused by name, by every read alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource
from asof.dtypes import DType
from asof.errors import SourceError
from asof.types import Date, Int32, Int64, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
US = pa.timestamp("us", "UTC")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: keys\n", encoding="utf-8")
    with FeatureStore(tmp_path, clock=lambda: NOON + timedelta(hours=1)) as store:
        yield store


MISFIT_KEYS: dict[str, tuple[DType, pa.Array]] = {
    "2**63": (Int64, pa.array([1, 2**63], pa.uint64())),
    "a fraction": (Int64, pa.array([1.0, 1.5])),
    "a float beyond 2**53": (Int64, pa.array([1.0, 2.0**53 + 2])),
    "a 32 bit float beyond 2**24": (Int64, pa.array([1.0, 2.0**24 + 2], pa.float32())),
    "infinity": (Int64, pa.array([1.0, float("inf")])),
    "2**40 of Int32": (Int32, pa.array([1, 2**40])),
    "a date of the year 10000": (Date, pa.array([1, 2_932_897], pa.int32()).cast(pa.date32())),
    "a time of the year 10000": (Timestamp, pa.array([1, 253_402_300_800_000_000], pa.int64()).cast(US)),
}  # fmt: skip


def with_keys(store: FeatureStore, tmp_path: Path, dtype: DType, keys: pa.Array, *, aggregated: bool) -> None:
    """Two rows of a file, of these keys, applied as view `v`."""
    pq.write_table(pa.table({"k": keys, "at": pa.array([NOON, NOON], US), "v": [1, 2]}), tmp_path / "keyed.parquet")
    entity = Entity("keyed", join_keys=["k"])
    source = FileSource(name="keyed", path="keyed.parquet", timestamp_field="at")
    options: Any = {"aggregations": [Aggregation("v", "sum", name="v")]} if aggregated else {}
    view = FeatureView("v", entities=[entity], source=source, schema=[Field("k", dtype), Field("v", Int64)], **options)
    store.apply([entity, source, view])


@pytest.mark.parametrize("aggregated", [False, True])
@pytest.mark.parametrize("what", MISFIT_KEYS)
def test_a_key_in_a_file_that_does_not_fit_is_refused_by_every_read(
    store: FeatureStore, tmp_path: Path, what: str, aggregated: bool
) -> None:
    dtype, keys = MISFIT_KEYS[what]
    with_keys(store, tmp_path, dtype, keys, aggregated=aggregated)
    key = keys[0].as_py() if not dtype.is_integer else 1
    frame = pa.table({"k": pa.array([key], dtype.arrow()), "event_timestamp": pa.array([NOON], US)})

    for read in (
        lambda: store.get_historical_features(frame, ["v:v"]).to_arrow(),
        lambda: store.get_historical_features(None, ["v:v"]).to_arrow(),
        store.materialize,
        lambda: store.sample("v"),
        lambda: store.sample("v", by="entities"),
        lambda: store.explain("v:v", {"k": key}),
    ):
        with pytest.raises(SourceError, match="column 'k' of source 'keyed' (holds|does not fit)"):
            read()


@pytest.mark.parametrize("aggregated", [False, True])
def test_nan_among_whole_keys_is_null_for_every_read(store: FeatureStore, tmp_path: Path, aggregated: bool) -> None:
    with_keys(store, tmp_path, Int64, pa.array([1.0, float("nan")]), aggregated=aggregated)

    assert store.get_historical_features(None, ["v:v"]).to_arrow().to_pydict()["k"] == [1]
    assert [each.rows for each in store.materialize()] == [1]
    assert store.sample("v").to_arrow()["k"].to_pylist() == [1]
    assert store.sample("v", by="entities").to_arrow()["k"].to_pylist() == [1]


@pytest.mark.parametrize("zone", [None, "UTC"])
def test_keys_of_nanoseconds_are_floored_in_explain_too(store: FeatureStore, tmp_path: Path, zone: str | None) -> None:
    nanoseconds = pa.array([1_999, 2_999], pa.timestamp("ns", zone))
    with_keys(store, tmp_path, Timestamp, nanoseconds, aggregated=False)

    for us, value in ((1, 1), (2, 2), (3, None)):
        explained = store.explain("v:v", {"k": datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us)})
        assert (explained.value, len(explained)) == (value, 0 if value is None else 1)
