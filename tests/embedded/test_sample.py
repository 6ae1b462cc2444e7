"""Samples on the embedded parts: seeded, uniform, and of the same entities out of every view."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import Aggregation, Entity, FeatureService, FeatureView, Field, FileSource, LogSource, Sliding
from asof.errors import NotFound, RequestError
from asof.flows.admin.sample import sample
from asof.flows.admin.served_keys import online_keys
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.testing.clock import NOW
from asof.timing import MINUTE, micros
from asof.types import Int64, String
from tests.embedded_stores import apply_by_hand, embedded_stores, typed

USER = Entity("user", ["user_id"])
TIMES = pa.timestamp("us", "UTC")
USERS, EVENTS = 60, 200


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    tmp_path: Path = tmp_path_factory.mktemp("sample")
    stores = embedded_stores(tmp_path)
    rows = {
        "user_id": [*range(USERS), None], "country": [f"c{i}" for i in range(USERS + 1)],
        "at": pa.array([NOW - (100 - i) * MINUTE for i in range(USERS + 1)], TIMES),
    }  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "users.parquet")
    traffic = LogSource(
        "traffic", schema=[Field("user_id", Int64), Field("at", Int64)], timestamp_field="at", timestamp_unit="us"
    )
    users = FileSource("users.parquet", name="users", timestamp_field="at")
    counted = Aggregation(function="count", window=Sliding("1d"), name="views_1d")
    views = typed(FeatureView("user_traffic", entities=[USER], source=traffic, aggregations=[counted]))
    fields = [Field("user_id", Int64), Field("country", String)]
    country = FeatureView("user_country", entities=[USER], source=users, schema=fields)
    ever = Aggregation(function="count", name="events")
    total = typed(FeatureView("all_traffic", source=traffic, aggregations=[ever]))
    both = FeatureService("model", [views, country])
    snapshot = apply_by_hand(stores, views, country, total, both)
    stores.offline.create(stores.archive_of(traffic), archive_schema(traffic))
    for name in ("user_traffic", "all_traffic"):
        rebuild(stores, snapshot.project.views[name], wait_s=0)
    stores.log.create("traffic", 2)
    events = [{"user_id": i % (USERS // 2), "at": NOW - i * MINUTE} for i in range(EVENTS)]
    keys = [str(each["user_id"]).encode() for each in events]
    stores.log.send("traffic", [json.dumps(each).encode() for each in events], keys=keys, durable=False)
    run_stream(stores, until_caught_up=True)
    return stores


def draw(stores: Stores, name: str, **options: Any) -> pa.Table:
    return sample(stores, stores.registry.load(stores.project), name, **options)


def test_rows_of_a_latest_value_view_are_its_sources_rows(stores: Stores) -> None:
    seen: list[tuple[str, int, int | None]] = []
    rows = draw(stores, "user_country", n=5, seed=3, progress=lambda *each: seen.append(each)).to_pylist()

    assert seen[-1][0].startswith("sample source ") and seen[-1][1] >= 5 and seen[-1][2] is None
    assert len(rows) == 5 and list(rows[0]) == ["user_id", "event_timestamp", "country"]
    assert all(row["country"] == f"c{row['user_id']}" for row in rows)
    assert rows == draw(stores, "user_country", n=5, seed=3).to_pylist()
    assert rows != draw(stores, "user_country", n=5, seed=4).to_pylist()


def test_rows_of_an_aggregated_view_are_events_with_the_values_as_of_then(stores: Stores) -> None:
    rows = draw(stores, "user_traffic", n=8).to_pylist()

    assert len(rows) == 8
    for row in rows:
        # Event number i is i minutes old; the older ones of the user have greater numbers.
        number = (NOW - micros(row["event_timestamp"])) // MINUTE
        assert row["views_1d"] == len(range(number, EVENTS, USERS // 2))


def test_one_seed_takes_the_same_entities_out_of_every_view_offline_and_online(stores: Stores) -> None:
    of_traffic = draw(stores, "user_traffic", n=7, seed=5, by="entities")
    online = draw(stores, "user_traffic", n=7, seed=5, by="entities", online=True)
    of_country = draw(stores, "user_country", n=60, seed=5, by="entities")["user_id"].to_pylist()

    assert of_traffic["user_id"].to_pylist() == online["user_id"].to_pylist()
    assert of_traffic["views_1d"].to_pylist() == online["views_1d"].to_pylist()
    # Users without traffic are in one view alone; the others come in the same order.
    assert [user for user in of_country if user < USERS // 2][:7] == of_traffic["user_id"].to_pylist()


def test_entities_of_a_service_are_answered_as_of_the_clock(stores: Stores) -> None:
    rows = draw(stores, "model", n=USERS, by="entities").to_pylist()

    assert sorted(row["user_id"] for row in rows) == list(range(USERS))
    assert all((row["views_1d"] > 0) == (row["user_id"] < USERS // 2) for row in rows)
    assert len(draw(stores, "model", n=4).to_pylist()) == 4


def test_every_row_is_as_likely_as_any_other(stores: Stores) -> None:
    drawn = Counter(
        user for seed in range(60) for user in draw(stores, "user_country", n=6, seed=seed)["user_id"].to_pylist()
    )

    # 360 draws out of 60 users: 6 each on average; a sample of the first or the last rows would not reach the others.
    assert len(drawn) > USERS * 0.9 and max(drawn.values()) < 20


def test_a_source_gives_its_own_rows(stores: Stores) -> None:
    assert draw(stores, "users", n=100).num_rows == USERS + 1
    assert draw(stores, "traffic", n=3).num_rows == 3


def test_a_view_without_entities_has_one_row_online(stores: Stores) -> None:
    assert draw(stores, "all_traffic", n=5, online=True)["events"].to_pylist() == [EVENTS]
    assert draw(stores, "all_traffic", n=5, by="entities")["events"].to_pylist() == [EVENTS]


def test_what_cannot_be_sampled_is_said(stores: Stores) -> None:
    with pytest.raises(NotFound, match="did you mean 'user_traffic'"):
        draw(stores, "user_trafic")
    with pytest.raises(RequestError, match="expected 'rows' or 'entities'"):
        draw(stores, "model", by="keys")
    with pytest.raises(RequestError, match="has rows, but no entities"):
        draw(stores, "users", by="entities")


def test_online_keys_are_some_of_those_that_are_served(stores: Stores) -> None:
    snapshot = stores.registry.load(stores.project)
    found = online_keys(stores, snapshot, "user_traffic", limit=7)
    assert found.column_names == ["user_id"] and found.schema.field("user_id").type == pa.int64()
    assert len(set(found["user_id"].to_pylist())) == 7 and set(found["user_id"].to_pylist()) <= set(range(USERS // 2))
    assert online_keys(stores, snapshot, "user_traffic", limit=1000).num_rows == USERS // 2
    # Nothing is materialized of this one.
    assert online_keys(stores, snapshot, "user_country", limit=7).num_rows == 0
    with pytest.raises(NotFound, match="no feature view 'user_trafic'"):
        online_keys(stores, snapshot, "user_trafic", limit=7)
