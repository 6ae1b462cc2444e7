"""The columns of a batch source: as they are declared, and as the source has them now."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, PushSource
from asof.errors import NotFound, RequestError, SourceError
from asof.types import Float64, Int64, Timestamp

USER = Entity("user", join_keys=["user_id"])
AT = pa.array([0], pa.timestamp("us", "UTC"))
ROWS = pa.table({"user_id": [1], "age": [30], "at": AT, "note": ["x"], "height": [1.5], "spent": [2.0]})


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    pq.write_table(ROWS, tmp_path / "people.parquet")
    people = FileSource("people.parquet", name="people", timestamp_field="at", field_mapping={"height": "size"})
    clicks = PushSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
    store = FeatureStore(tmp_path)
    store.apply(
        [
            FeatureView("profile", entities=[USER], source=people, schema=[Field("age", Int64), Field("size", Float64)]),
            FeatureView("spending", entities=[USER], source=people,
                        aggregations=[Aggregation("spent", "sum", name="sum")]),
            FeatureView("activity", entities=[USER], source=clicks, aggregations=[Aggregation("", "count", name="n")]),
        ]
    )  # fmt: skip
    return store


def states(store: FeatureStore) -> dict[str, tuple[str, str, str]]:
    return {each.name: (each.declared, each.found, each.state) for each in store.source_schema("people")}


def test_columns_are_compared_under_their_names_in_the_source(store: FeatureStore) -> None:
    assert states(store) == {
        "user_id": ("Int64", "Int64", "same"), "age": ("Int64", "Int64", "same"), "at": ("", "Timestamp", "same"),
        "note": ("", "String", "not used"), "height": ("Float64", "Float64", "same"), "spent": ("Float64", "Float64", "same"),
    }  # fmt: skip
    assert not any(each.is_wrong for each in store.source_schema("people"))


def test_what_changed_in_the_source_since_is_seen(store: FeatureStore) -> None:
    changed = ROWS.drop_columns(["spent", "height"]).append_column("height", pa.array(["tall"]))
    changed = changed.set_column(1, "age", pa.array([30.0])).append_column("odd", pa.array([1], pa.time64("us")))
    pq.write_table(changed, Path(store.config.path) / "people.parquet")

    found = states(store)

    assert found["age"] == ("Int64", "Float64", "read as declared")
    assert found["height"] == ("Float64", "String", "does not fit")
    assert found["spent"] == ("Float64", "", "missing")
    assert found["odd"][1:] == ("time64[us]", "not used")
    by_name = {each.name: each for each in store.source_schema("people")}
    assert "that is not whole" in by_name["age"].note
    assert [each.name for each in by_name.values() if each.is_wrong] == ["height", "spent"]


def test_a_log_and_an_unknown_source_are_refused_with_the_next_step(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="source 'clicks' is a log"):
        store.source_schema("clicks")
    with pytest.raises(NotFound, match="no source 'peple' is applied") as refused:
        store.source_schema("peple")
    assert refused.value.hint == "did you mean 'people'?"


def test_a_source_that_is_gone_says_so(store: FeatureStore) -> None:
    (Path(store.config.path) / "people.parquet").unlink()
    with pytest.raises(SourceError, match="people"):
        store.source_schema("people")
