"""The short way of one row answers byte for byte what the general way does, or leaves the request to it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.online.protocol import Lookup
from asof.server.fast_path.one_row import OneRow
from asof.server.read.responses import Encoder
from asof.store import open_store_of

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NAMES = ["number", "count", "flag", "word"]
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
shop = Entity("shop", join_keys=["shop"])
fields = [Field("number", Float64), Field("count", Int64), Field("flag", Bool), Field("word", String)]
one = FeatureView("one", entities=[user], ttl="30d", schema=fields,
    source=FileSource("rows.parquet", name="one_rows", timestamp_field="at"))
pair = FeatureView("pair", entities=[user, shop], schema=fields,
    source=FileSource("rows.parquet", name="pair_rows", timestamp_field="at"))
clicks = PushSource("clicks", timestamp_field="at",
    schema=[Field("user_id", Int64), Field("number", Float64), Field("word", String), Field("at", Timestamp)])
newest = FeatureView("newest", entities=[user], source=clicks, schema=[Field("number", Float64), Field("word", String)])
counted = FeatureView("counted", entities=[user], source=clicks,
    aggregations=[Aggregation("", "count", window=Sliding("1h"), name="n")])
stuffed = FeatureView("stuffed", entities=[user], schema=[Field("word", String, default="?")],
    source=FileSource("rows.parquet", name="stuffed_rows", timestamp_field="at"))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("one_row")
    (folder / "feature_store.yaml").write_text("project: shop\n")
    (folder / "features.py").write_text(DEFINITIONS)
    days = pa.array([NOW - timedelta(days=n, microseconds=n) for n in (1, 2, 3, 4, 40)], pa.timestamp("us", "UTC"))
    rows = pa.table(
        {
            "user_id": [1, 2, 3, 4, 5], "shop": ["a", "b", "ü", "d", "e"], "at": days,
            "number": [1.5, None, math.nan, -math.inf, 2.0], "count": [2**62, None, -1, 0, 5],
            "flag": [True, None, False, None, True], "word": ["plain", None, "says null", 'a "quote"', ""],
        }
    )  # fmt: skip
    pq.write_table(rows, folder / "rows.parquet")
    with FeatureStore(folder, clock=lambda: NOW) as store:
        store.apply()
        store.materialize()
        at = [NOW - timedelta(hours=1), NOW - timedelta(hours=2), NOW + timedelta(minutes=1)]
        store.push(
            "clicks", pa.table({"user_id": [1, 2, 2], "number": [1.0, None, 3.0], "word": ["a", "b", "c"], "at": at})
        )
        yield store


def both(store: FeatureStore, features: list[str], entities: dict[str, list[Any]]) -> tuple[bytes | None, bytes]:
    """What the short way answers, and what the general one does."""
    reader = open_store_of(store).open_reader(open_store_of(store).stores.registry.load("shop"), tuple(features), True)
    encoder = Encoder(reader.selection)
    one_row = OneRow.of(reader, encoder.metadata)
    assert one_row is not None
    general = encoder.feast(reader.read(entities)[0])
    keys = one_row.keys(entities)
    if keys is None:
        return None, general
    lookups = reader.ask(entities).lookups
    assert [(each.table, each.keys) for each in lookups] == [(t, [key]) for t, key in zip(one_row.tables, keys)]
    answer = one_row.answer(entities, packed(store, lookups), at=open_store_of(store).stores.clock())
    return (None if answer is None else answer[0]), general


def packed(store: FeatureStore, lookups: list[Lookup]) -> list[bytes | None]:
    """The one row that each lookup asks for."""
    return [None if row is None else row[0] for (row,) in open_store_of(store).stores.online.read(lookups)]


ONE, PAIR = ([f"{view}:{name}" for name in NAMES] for view in ("one", "pair"))
NEWEST = ["newest:word", "newest:number"]


@pytest.mark.parametrize(
    ("features", "entities"),
    [
        (ONE, {"user_id": [1]}), (ONE, {"user_id": [2]}), (ONE, {"user_id": [3]}), (ONE, {"user_id": [4]}),
        (NEWEST, {"user_id": [1]}), (["newest:word", "one:word", "newest:number", "one:flag"], {"user_id": [1]}),
        (PAIR, {"user_id": [1], "shop": ["a"]}), (PAIR, {"shop": ["ü"], "user_id": [3]}),
        (["pair:count", "one:count", "pair:word"], {"user_id": [2], "shop": ["b"]}),
    ],
)  # fmt: skip
def test_an_ordinary_row_is_answered_with_the_same_bytes(store, features, entities):
    short, general = both(store, features, entities)

    assert short == general


@pytest.mark.parametrize(
    ("features", "entities"),
    [
        (ONE, {"user_id": [5]}), (ONE, {"user_id": [99]}), (NEWEST, {"user_id": [2]}), (ONE, {"user_id": [1, 2]}),
        (ONE, {"user_id": [1], "other": [1]}), (PAIR, {"user_id": [1], "shop": ["b"]}),
    ],
)  # fmt: skip
def test_what_is_expired_missing_pending_or_more_is_left_to_the_general_way(store, features, entities):
    assert both(store, features, entities)[0] is None


def test_keys_of_other_types_are_left_to_the_general_way(store):
    reader = open_store_of(store).open_reader(open_store_of(store).stores.registry.load("shop"), tuple(PAIR), True)
    one_row = OneRow.of(reader, None)
    assert one_row is not None

    for key in (True, 1.0, "1", None, 2**63, [1]):
        assert one_row.keys({"user_id": [key], "shop": ["a"]}) is None
    for entities in ({"user_id": [1]}, {"user_id": [1], "shop": ["\ud800"]}, [{"user_id": 1, "shop": "a"}], {}):
        assert one_row.keys(entities) is None


def test_answers_after_one_with_nulls_are_whole_again(store):
    reader = open_store_of(store).open_reader(open_store_of(store).stores.registry.load("shop"), tuple(ONE), True)
    encoder = Encoder(reader.selection)
    one_row = OneRow.of(reader, encoder.metadata)
    assert one_row is not None

    for user in (2, 1, 4, 1):
        entities = {"user_id": [user]}
        rows = packed(store, reader.ask(entities).lookups)
        answered = one_row.answer(entities, rows, at=open_store_of(store).stores.clock())
        assert answered[0] == encoder.feast(reader.read(entities)[0])


@pytest.mark.parametrize("feature", ["counted:n", "stuffed:word"])
def test_windows_and_defaults_have_no_short_way(store, feature):
    reader = open_store_of(store).open_reader(open_store_of(store).stores.registry.load("shop"), (feature,), True)

    assert OneRow.of(reader, None) is None


def test_rows_with_more_bytes_than_a_response_may_have_take_the_general_way(store):
    stores = open_store_of(store).stores
    reader = open_store_of(store).open_reader(stores.registry.load("shop"), tuple(ONE), True)
    entities = {"user_id": [1]}
    rows = packed(store, reader.ask(entities).lookups)
    size = sum(len(row) for row in rows if row is not None)

    for most, is_taken in ((size, True), (size - 1, False)):
        one_row = OneRow.of(reader, None, most_bytes=most)
        assert one_row is not None
        assert (one_row.answer(entities, rows, at=stores.clock()) is not None) == is_taken
