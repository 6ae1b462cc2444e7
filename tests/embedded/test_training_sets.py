"""Training sets on the embedded parts: saved with a manifest, read back, made again and compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    OnDemandFeatureView,
    Sliding,
    Snapshot,
)
from asof.errors import NotFound, RequestError
from asof.flows.offline.read import read_history
from asof.flows.offline.result import HistoricalResult
from asof.flows.offline.training_sets.hashes import TableHash
from asof.flows.offline.training_sets.manifest import list_training_sets, read_training_set, saved_training_set
from asof.flows.offline.training_sets.rebuild import changes_since, rebuild_training_set
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.selection import Selection, select
from asof.testing.clock import NOW
from asof.timing import HOUR, MINUTE, Micros
from asof.types import Float64, Int64, String
from tests.embedded_stores import apply_by_hand, close, copied_stores, embedded_stores, typed

USER = Entity("user", ["user_id"])
TIMES = pa.timestamp("us", "UTC")


def write_users(tmp_path: Path, country: str = "PL") -> None:
    rows = {"user_id": [1, 2], "country": [country, "DE"], "at": pa.array([NOW - 9 * HOUR, NOW - 8 * HOUR], TIMES)}
    pq.write_table(pa.table(rows), tmp_path / "users.parquet")


def ratio(row: dict[str, Any]) -> dict[str, Any]:
    return {"per_hour": row["views_1d"] / 24}


def definitions(window: str = "1d") -> list[Any]:
    traffic = LogSource(
        "traffic", schema=[Field("user_id", Int64), Field("page", String), Field("at", Int64)],
        timestamp_field="at", timestamp_unit="us",
    )  # fmt: skip
    users = FileSource("users.parquet", name="users", timestamp_field="at")
    counted = Aggregation(function="count", window=Sliding(window), name="views_1d")
    views = typed(FeatureView("user_traffic", entities=[USER], source=traffic, aggregations=[counted]))
    fields = [Field("user_id", Int64), Field("country", String)]
    country = FeatureView("user_country", entities=[USER], source=users, schema=fields)
    rates = [Field("per_hour", Float64)]
    derived = OnDemandFeatureView("rates", sources=[views], schema=rates, mode="python", udf=ratio)
    return [views, country, derived]


def send(stores: Stores, user: int, at: Micros) -> None:
    stores.log.create("traffic", 1)
    value = json.dumps({"user_id": user, "page": "x", "at": at}).encode()
    stores.log.send("traffic", [value], partition=0, durable=False)


def with_function(selection: Selection) -> Selection:
    derivations = [replace(each, view=each.view.with_function(ratio)) for each in selection.derivations]
    return replace(selection, derivations=tuple(derivations))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path: Path = tmp_path_factory.mktemp("built")
    stores = embedded_stores(tmp_path)
    write_users(tmp_path)
    snapshot = apply_by_hand(stores, *definitions())
    source = snapshot.project.sources["traffic"]
    stores.offline.create(stores.archive_of(source), archive_schema(source))
    rebuild(stores, snapshot.project.views["user_traffic"], wait_s=0)
    for i in range(4):
        send(stores, 1 + i % 2, NOW - (4 - i) * HOUR)
    run_stream(stores, until_caught_up=True)
    close(stores)
    return tmp_path


@pytest.fixture
def stores(built: Path, tmp_path: Path) -> Stores:
    return copied_stores(built, tmp_path)


FEATURES = ["user_traffic:views_1d", "user_country:country", "rates:per_hour"]


def frame(at: Micros = NOW) -> pa.Table:
    times = pa.array([at, at - HOUR, at], TIMES)
    return pa.table({"label": ["a", "b", "c"], "user_id": [2, 1, 3], "ordered_at": times})


def read(stores: Stores, entity_df: Any = None, *, features: Any = FEATURES, **options: Any) -> HistoricalResult:
    snapshot: Snapshot = stores.registry.load(stores.project)
    read = read_history(stores, snapshot, with_function(select(snapshot, features)), entity_df, **options)
    return HistoricalResult(read)


def test_saving_keeps_the_rows_and_says_how_they_were_made(stores: Stores) -> None:
    manifest = read(stores, frame()).save("march")

    assert manifest["rows"] == 3 and manifest["features"] == FEATURES and manifest["time_column"] == "ordered_at"
    assert manifest["frame_columns"] == ["label", "user_id", "ordered_at"]
    assert [each["name"] for each in manifest["columns"]][3:] == ["views_1d", "country", "per_hour"]
    assert manifest["sources"]["traffic"]["offsets"] == {"0": 3}
    assert manifest["sources"]["users"]["files"][0]["path"].endswith("users.parquet")
    assert manifest["reproducible"] and manifest["why"] == "as long as the files of users stay as they are"
    assert manifest["created_by"] == "tests" and manifest["created"] == "2026-01-01T12:00:00Z"
    assert json.loads(json.dumps(manifest.to_dict())) == manifest.to_dict()
    assert (
        list_training_sets(stores).to_dicts() == [manifest.to_dict()]
        and saved_training_set(stores, "march") == manifest
    )
    assert read_training_set(stores, "march").equals(read(stores, frame()).to_arrow())


def test_a_set_made_again_is_the_same_though_events_came_since(stores: Stores) -> None:
    seen: list[tuple[str, int, int | None]] = []
    read(stores, frame()).save("march", progress=lambda *each: seen.append(each))
    assert seen[0][:2] == ("compute training set march", 0) and seen[-1] == ("save training set march", 3, 3)
    send(stores, 1, NOW - 90 * MINUTE)
    run_stream(stores, until_caught_up=True)

    assert read(stores, frame()).to_arrow()["views_1d"].to_pylist() == [2, 3, 0]
    again = rebuild_training_set(stores, "march", functions=with_function, progress=lambda *each: seen.append(each))
    assert seen[-1] == ("rebuild training set march", 3, 3)
    assert again["equal"] and again["identical"] and again["why"] == []
    assert (again["rows_then"], again["rows_now"], again["differing"]) == (3, 3, 0)


def test_a_changed_file_is_named_and_its_rows_are_shown(stores: Stores, tmp_path: Path) -> None:
    read(stores, frame()).save("march")
    write_users(tmp_path, "CZ")

    again = rebuild_training_set(stores, "march", functions=with_function)

    assert not again["equal"] and again["changed_columns"] == ["country"] and again["differing"] == 1
    (row,) = again["differing_rows"]
    assert (row["label"], row["column"], row["then"], row["now"]) == ("b", "country", "PL", "CZ")
    assert "users.parquet was changed or removed" in again["why"][0]


def test_a_changed_definition_is_named_and_the_one_of_then_is_used(stores: Stores) -> None:
    read(stores, frame()).save("march")
    apply_by_hand(stores, *definitions("2h"))

    again = rebuild_training_set(stores, "march", functions=with_function)

    assert again["identical"]
    assert again["why"] == ["the definition of feature view 'user_traffic' has changed; rebuilt with the old one"]


def test_what_changed_since_is_said_without_making_it_again(stores: Stores, tmp_path: Path) -> None:
    read(stores, frame()).save("march")
    assert changes_since(stores, "march") == []

    apply_by_hand(stores, *definitions("2h"))
    write_users(tmp_path, "CZ")

    view, file = changes_since(stores, "march")
    assert view == "the definition of feature view 'user_traffic' has changed"
    assert "users.parquet was changed or removed" in file


def test_a_query_over_sources_and_a_range_can_be_saved(stores: Stores) -> None:
    query = 'SELECT DISTINCT user_id, "at" AS number, make_timestamptz("at") AS event_timestamp FROM traffic'
    read(stores, query).save("from_query")
    read(stores, features=["user_traffic:views_1d"], start=NOW - 3 * HOUR).save("from_range")
    send(stores, 7, NOW - HOUR)
    run_stream(stores, until_caught_up=True)

    assert saved_training_set(stores, "from_query")["entity_frame"] == query
    assert rebuild_training_set(stores, "from_query", functions=with_function)["identical"]
    assert saved_training_set(stores, "from_range")["rows"] == 3
    assert rebuild_training_set(stores, "from_range")["identical"]


def test_a_taken_name_is_refused_unless_it_is_to_be_overwritten(stores: Stores, tmp_path: Path) -> None:
    read(stores, frame()).save("march")

    with pytest.raises(RequestError, match="'march' already exists: saved at 2026-01-01T12:00:00Z by tests"):
        read(stores, frame()).save("march")
    read(stores, frame(NOW - 3 * HOUR)).save("march", overwrite=True)
    assert read_training_set(stores, "march")["views_1d"].to_pylist() == [1, 1, 0]
    assert len(list((tmp_path / "archive" / "shop" / "tables").iterdir())) == 1


def test_names_that_are_paths_are_refused(stores: Stores) -> None:
    with pytest.raises(RequestError, match="is not a valid name of a training set"):
        read(stores, frame()).save("../march")


def test_an_unknown_set_is_not_found(stores: Stores) -> None:
    read(stores, frame()).save("march")

    with pytest.raises(NotFound, match="did you mean 'march'"):
        saved_training_set(stores, "marsh")


def test_the_hash_of_rows_is_the_same_however_they_are_cut_and_stored() -> None:
    values = {
        "i": pa.array([1, None, 3], pa.int64()), "f": pa.array([0.5, float("nan"), None]), "s": ["a", None, "bc"],
        "l": [[1], None, [2, None]], "t": pa.array([1, 2, None], TIMES), "b": [True, None, False],
    }  # fmt: skip
    table = pa.table(values)
    other = table.set_column(0, "i", table["i"].cast(pa.int32())).set_column(2, "s", table["s"].cast(pa.large_string()))

    def hashed(batches: list[pa.RecordBatch]) -> str:
        digest = TableHash(batches[0].schema)
        for batch in batches:
            digest.add(batch)
        return digest.whole

    whole = hashed(table.to_batches())
    assert hashed(table.to_batches(max_chunksize=1)) == whole and hashed(other.to_batches(max_chunksize=2)) == whole
    assert hashed(table.take([1, 0, 2]).combine_chunks().to_batches()) != whole
    assert hashed(table.set_column(1, "f", pa.array([0.5, 0.0, None])).to_batches()) != whole
