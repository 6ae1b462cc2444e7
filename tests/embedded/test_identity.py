"""Keys and frames: no entity meets another's rows, and a frame is taken as it came or refused by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource
from asof.errors import AsofError, EntityFrameError, RequestError, RowsRefused, SourceError
from asof.types import Int64, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
EDGE = 2**53
US = pa.timestamp("us", "UTC")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("identity")
    (folder / "feature_store.yaml").write_text("project: identity\n", encoding="utf-8")
    user, value = Entity("user"), [Field("user", Int64), Field("x", Int64)]
    made: list[Any] = [user]
    for name, keys in {
        "whole": pa.array([EDGE, EDGE + 1, 7]), "floats": pa.array([float(EDGE), 7.0, 8.0]),
        "beyond": pa.array([float(EDGE) + 2, 7.0, 8.0]),
    }.items():  # fmt: skip
        rows = pa.table({"user": keys, "x": [1, 2, 3], "happened": pa.array([NOON] * 3, US)})
        pq.write_table(rows, folder / f"{name}.parquet")
        source = FileSource(name=f"{name}_rows", path=str(folder / f"{name}.parquet"), timestamp_field="happened")
        made += [source, FeatureView(name, entities=[user], source=source, schema=value)]
    pushes = PushSource("pushes", schema=[*value, Field("happened", Timestamp)], timestamp_field="happened")
    with FeatureStore(folder, clock=lambda: NOON + timedelta(hours=1)) as store:
        store.apply([*made, pushes, FeatureView("pushed", entities=[user], source=pushes, schema=value)])
        store.materialize(feature_views=["whole", "floats"])
        yield store


def frame(*users: Any, **more: Any) -> pd.DataFrame:
    return pd.DataFrame({"user": list(users), "event_timestamp": [NOON] * len(users), **more})


def history(store: FeatureStore, entity_df: Any, view: str = "whole") -> list[Any]:
    return store.get_historical_features(entity_df, [f"{view}:x"]).to_arrow()["x"].to_pylist()


def test_neighbours_beyond_2_53_are_two_entities_on_both_sides(store: FeatureStore) -> None:
    users = [EDGE, EDGE + 1, 7]
    assert history(store, frame(*users)) == [1, 2, 3]
    assert history(store, frame(*users), "floats") == [1, None, 2], "EDGE + 1 is no float"
    assert store.get_online_features(["whole:x", "floats:x"], {"user": users}, full_feature_names=True).to_dict() == {
        "user": users, "whole__x": [1, 2, 3], "floats__x": [1, None, 2],
    }  # fmt: skip


@pytest.mark.parametrize("ask", [
    lambda store: history(store, frame(float(EDGE) + 2, 7.0)),
    lambda store: history(store, {"user": [float(EDGE) + 2], "event_timestamp": [NOON]}),
    lambda store: store.get_online_features(["whole:x"], [{"user": float(EDGE) + 2}]),
    lambda store: store.get_online_features(["whole:x"], frame(float(EDGE) + 2)),
    lambda store: history(store, "SELECT \"user\", happened AS event_timestamp FROM beyond_rows"),
    lambda store: history(store, frame(7), "beyond"),
    lambda store: store.materialize(feature_views=["beyond"]),
    lambda store: store.push("pushes", [{"user": float(EDGE) + 2, "x": 1, "happened": NOON}]),
    lambda store: store.push("pushes", pd.DataFrame({"user": [float(EDGE) + 2], "x": [1], "happened": [NOON]})),
])  # fmt: skip
def test_a_float_key_beyond_2_53_is_refused(store: FeatureStore, ask: Callable[[FeatureStore], Any]) -> None:
    with pytest.raises((EntityFrameError, RowsRefused, SourceError), match="'user'") as refused:
        ask(store)
    assert "9007199254740994" in str(refused.value)


def test_to_df_keeps_integers_beside_nulls_the_frames_own_columns_and_its_index(store: FeatureStore) -> None:
    given = frame(7, 99, id=pd.array([EDGE + 1, None], dtype="Int64"), kind=pd.Categorical(["a", "b"]))
    given[5] = [0.5, None]
    given.index = pd.Index(["b", "b"], name="order")
    read = store.get_historical_features(given, ["whole:x"])
    before, given["id"] = given.copy(), 0

    made = read.to_df()

    pd.testing.assert_frame_equal(made[before.columns], before)
    assert made["x"].tolist() == [3, pd.NA] and made["x"].dtype == "Int64"
    online = store.get_online_features(["whole:x"], {"user": [EDGE + 1, 99]}).to_df()
    assert online["x"].tolist() == [2, pd.NA] and online["user"].tolist() == [EDGE + 1, 99]


def test_a_frame_may_have_a_column_called_as_features_are_called_inside(store: FeatureStore) -> None:
    made = store.get_historical_features(frame(7, whole__x=[100]), ["whole:x"]).to_df()
    assert (made["whole__x"].tolist(), made["x"].tolist()) == ([100], [3])


def test_sparse_columns_are_taken(store: FeatureStore) -> None:
    given = frame(7)
    given["user"] = pd.arrays.SparseArray([7])
    assert history(store, given) == [3]
    assert store.get_historical_features(given, ["whole:x"]).to_df()["user"].dtype == given["user"].dtype


REPEATED = pd.DataFrame([[7, 8, NOON]], columns=["user", "user", "event_timestamp"])
ODD = {
    "equal names": (REPEATED, "'user'"), "equal names in Arrow": (pa.Table.from_pandas(frame(7)).append_column(
        "user", pa.array([7])), "'user'"),
    "mixed objects": (frame(7, 7, mixed=pd.Series(["a", 1], dtype=object)), "'mixed'"),
    "a great integer": (frame(7, great=pd.Series([2**70], dtype=object)), "'great'"),
    "a great key": (frame(2**70), "'user'"), "complex numbers": (frame(7, number=[1j]), "'number'"),
    "a great integer in Polars": (pl.from_pandas(frame(7)).with_columns(great=pl.lit(2**70, pl.Int128)), "'great'"),
    "a key of 128 bits in Polars": (pl.from_pandas(frame(7)).with_columns(pl.col("user").cast(pl.Int128)), "'user'"),
    "objects in Polars": (pl.from_pandas(frame(7)).with_columns(pl.Series("thing", [object()], pl.Object)), "'thing'"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "named"), ODD.values(), ids=ODD)
def test_an_odd_frame_is_refused_by_the_name_of_its_column(store: FeatureStore, given: Any, named: str) -> None:
    with pytest.raises(EntityFrameError, match=named):
        history(store, given)


def test_a_push_of_integers_of_128_bits_in_polars_is_checked_value_by_value(store: FeatureStore) -> None:
    rows = pl.from_pandas(frame(7).rename(columns={"event_timestamp": "happened"})).with_columns(
        x=pl.lit(2**70, pl.Int128)
    )

    with pytest.raises(RowsRefused, match="'x'"):
        store.push("pushes", rows)


@pytest.mark.parametrize(
    "odd",
    [
        pa.array([1]).cast(pa.decimal256(60, 2)),
        pa.RunEndEncodedArray.from_arrays([1], [7]),
        pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
    ],
    ids=["decimal256", "run-end encoded", "union"],
)
def test_a_column_that_polars_has_no_type_for_is_named(store: FeatureStore, odd: pa.Array) -> None:
    given = pa.Table.from_pandas(frame(7)).append_column("odd", odd)
    result = store.get_historical_features(given, ["whole:x"])

    assert result.to_arrow()["odd"].to_pylist() == odd.to_pylist()
    with pytest.raises(RequestError, match="'odd'"):
        result.to_polars()


def test_a_frame_with_a_full_feature_name_is_told_to_rename_its_column(store: FeatureStore) -> None:
    with pytest.raises(EntityFrameError, match="'whole__x'") as caught:
        store.get_historical_features(frame(7, whole__x=[1]), ["whole:x"], full_feature_names=True)

    assert "full_feature_names" not in str(caught.value)


def test_equal_names_in_a_file_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(frame(7)).append_column("user", pa.array([7])), tmp_path / "frame.parquet")

    with pytest.raises(EntityFrameError, match="'user'"):
        history(store, str(tmp_path / "frame.parquet"))


@pytest.mark.parametrize("given", [REPEATED, pa.table([[1], [2]], names=["user", "user"])], ids=["pandas", "Arrow"])
def test_equal_names_are_refused_in_requests_and_pushes(store: FeatureStore, given: Any) -> None:
    for ask in (lambda: store.get_online_features(["whole:x"], given), lambda: store.push("pushes", given)):
        with pytest.raises(AsofError, match="'user'"):
            ask()


def test_to_numpy_refuses_an_integer_that_no_float_is_exactly(store: FeatureStore) -> None:
    fields = [Field("user", Int64), Field("n", Int64)]
    source = PushSource("numbers", [*fields, Field("at", Timestamp)], "at")
    entity = Entity("user_of_numbers", join_keys=["user"])
    store.apply([entity, source, FeatureView("numbers_view", entities=[entity], source=source, schema=fields)])
    store.push("numbers", {"user": [1, 2, 3], "n": [2**53, 2**53 + 1, 2**62], "at": [NOON] * 3})

    def asked(*users: int) -> Any:
        return store.get_online_features(["numbers_view:n"], {"user": list(users)})

    assert asked(1, 3).to_numpy().tolist() == [[2.0**53], [2.0**62]]
    with pytest.raises(RequestError, match="feature 'numbers_view:n' is 9007199254740993, which no float is exactly"):
        asked(1, 2).to_numpy()


@pytest.mark.parametrize("single", [1, "12", b"12", NOON, {1, 2}, {1: 2}, None, np.array(1)])
def test_a_column_that_is_no_list_is_named(store: FeatureStore, single: Any) -> None:
    with pytest.raises(RowsRefused, match="column 'user' is .*; expected a list of values"):
        store.push("pushes", {"user": single, "x": [1, 2], "happened": [NOON, NOON]})
    with pytest.raises(RowsRefused, match="column 'user' is .*; expected a list of values"):
        store.write_to_online_store("whole", {"user": single, "x": [1, 2], "happened": [NOON, NOON]})
