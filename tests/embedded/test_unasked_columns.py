"""A value that does not fit is no reason to refuse a read that does not ask for its column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, Sliding
from asof.errors import SourceError
from asof.types import Int64

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = pa.array([NOON - timedelta(hours=1)], pa.timestamp("us", "UTC"))
USER = Entity("user", join_keys=["user_id"])
FRAME = pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})


def mixed_parquet(folder: Path, odd: object) -> None:
    """Files of which one has another type."""
    for name, value in (("a", 5), ("b", odd)):
        rows = {"user_id": [1], "fine": [7], "odd": [value], "at": AT}
        pq.write_table(pa.table(rows), folder / f"{name}.parquet")


def csv(folder: Path, odd: object) -> None:
    for name, value in (("a", 5), ("b", odd)):
        rows = {"user_id": [1], "fine": [7], "odd": [value], "at": AT}
        pyarrow.csv.write_csv(pa.table(rows), folder / f"{name}.csv")


@pytest.fixture(params=[mixed_parquet, csv])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureStore]:
    """A store whose files get a value that does not fit once they are applied."""
    write: Callable[[Path, object], None] = request.param
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    (tmp_path / "rows").mkdir()
    write(tmp_path / "rows", 5.0)
    kind = "csv" if write is csv else "parquet"
    source = FileSource("rows", name="rows", timestamp_field="at", file_format=kind)
    sums = [
        Aggregation(column=name, function="sum", window=Sliding("1d"), name=f"{name}_1d") for name in ("fine", "odd")
    ]
    fields = [Field("user_id", Int64), Field("fine", Int64), Field("odd", Int64)]
    with FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply(
            [
                FeatureView("latest", entities=[USER], source=source, schema=fields),
                FeatureView("summed", entities=[USER], source=source, schema=fields, aggregations=sums),
            ]
        )
        write(tmp_path / "rows", 5.5)
        yield store


@pytest.mark.parametrize(
    ("asked", "value", "unasked"), [("latest:fine", 7, "latest:odd"), ("summed:fine_1d", 14, "summed:odd_1d")]
)
def test_a_misfit_in_another_column_of_a_view_does_not_refuse_a_read(
    asked: str, value: int, unasked: str, store: FeatureStore
) -> None:
    assert store.get_historical_features(FRAME, [asked]).to_arrow()[asked.split(":")[1]].to_pylist() == [value]
    with pytest.raises(SourceError, match="column 'odd'"):
        store.get_historical_features(FRAME, [unasked]).to_arrow()


def test_the_plan_names_a_misfit_in_any_column(store: FeatureStore) -> None:
    applied = [store.get_feature_view(name) for name in ("latest", "summed")]

    assert "column 'odd'" in "\n".join(map(str, store.plan(applied).errors))
