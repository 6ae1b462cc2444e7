"""Explanations on the embedded parts: which rows or events made a value, and why the others did not."""

from __future__ import annotations

import json
import random
from collections import Counter
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
    Session,
    Sliding,
)
from asof.errors import RequestError, UnknownFeature
from asof.flows.admin.explain import Explanation, explain
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.selection import Selection
from asof.testing.clock import NOW
from asof.timing import DAY, HOUR, MINUTE
from asof.types import Float64, Int64, String, Timestamp
from tests.embedded_stores import apply_by_hand, embedded_stores, typed

USER = Entity("user", ["user_id"])
TIMES = pa.timestamp("us", "UTC")

EVENTS = [
    (2 * DAY, "a", 1), (3 * HOUR, "a", 2), (2 * HOUR + 10 * MINUTE, "b", 3), (50 * MINUTE, "a", None), (20 * MINUTE, "b", 5),
    (10 * MINUTE, "a", 7), (-2 * MINUTE, "a", 11),
]  # fmt: skip
"""How long before NOW, page, amount."""


def doubled(row: dict[str, Any]) -> dict[str, Any]:
    return {"twice": 2.0 * row["a_1h"] + row["user_id"]}


def with_function(selection: Selection) -> Selection:
    derivations = [replace(each, view=each.view.with_function(doubled)) for each in selection.derivations]
    return replace(selection, derivations=tuple(derivations))


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Stores:
    tmp_path: Path = tmp_path_factory.mktemp("explain")
    stores = embedded_stores(tmp_path)
    rows = {
        "user_id": [1, 1, 1, 2, 1], "country": ["PL", "DE", "CZ", "FR", "AT"],
        "at": pa.array([NOW - 40 * DAY, NOW - 2 * DAY, NOW - DAY, NOW - DAY, NOW + HOUR], TIMES),
        "created": pa.array([NOW - 40 * DAY, NOW - 2 * DAY, NOW - HOUR, NOW, NOW + HOUR], TIMES),
    }  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "users.parquet")
    schema = [Field("user_id", Int64), Field("page", String), Field("amount", Int64), Field("at", Int64)]
    traffic = LogSource("traffic", schema=schema, timestamp_field="at", timestamp_unit="us")
    aggregations = [
        Aggregation(function="count", where="page = 'a'", window=Sliding("1h"), name="a_1h"),
        Aggregation("amount * 2", "sum", window=Session("1h"), name="session_sum"),
        Aggregation(function="count", name="ever"),
    ]
    views = typed(FeatureView("traffic_view", entities=[USER], source=traffic, aggregations=aggregations))
    users = FileSource("users.parquet", name="users", timestamp_field="at", created_timestamp_column="created")
    fields = [Field("user_id", Int64), Field("country", String)]
    country = FeatureView("country_view", entities=[USER], source=users, schema=fields, ttl="30d")
    twice = [Field("twice", Float64)]
    derived = OnDemandFeatureView("derived", sources=[views], schema=twice, mode="python", udf=doubled)
    snapshot = apply_by_hand(stores, views, country, derived)
    stores.offline.create(stores.archive_of(traffic), archive_schema(traffic))
    rebuild(stores, snapshot.project.views["traffic_view"], wait_s=0)
    stores.log.create("traffic", 1)
    messages = [{"user_id": 1, "page": page, "amount": amount, "at": NOW - ago} for ago, page, amount in EVENTS]
    messages.append({"user_id": 2, "page": "a", "amount": 1, "at": NOW - HOUR})
    stores.log.send("traffic", [json.dumps(each).encode() for each in messages], partition=0, durable=False)
    run_stream(stores, until_caught_up=True)
    return stores


def explained(stores: Stores, reference: str, key: Any = None, **options: Any) -> Explanation:
    snapshot = stores.registry.load(stores.project)
    return explain(stores, snapshot, reference, key or {"user_id": 1}, functions=with_function, **options)


def reasons(found: Explanation) -> Counter[str]:
    return Counter(found.rows["why"].to_pylist())


def test_the_row_of_a_latest_value_is_chosen_among_its_neighbours(stores: Stores) -> None:
    found = explained(stores, "country_view:country", at=NOW)

    assert found.value == "CZ"
    rows = {row["country"]: row["why"] for row in found.rows.to_pylist()}
    assert rows == {"AT": "later than t", "CZ": "chosen", "DE": "older", "PL": "outside ttl"}
    assert found.text.splitlines()[0] == "country_view:country of user_id=1 as of 2026-01-01T12:00:00Z is 'CZ'."


def test_rows_that_were_not_known_are_said_to_be(stores: Stores) -> None:
    found = explained(stores, "country_view:country", at=NOW - 2 * HOUR, known_at=True)

    assert found.value == "DE"
    assert {row["country"]: row["why"] for row in found.rows.to_pylist()}["CZ"] == "not known by t"
    assert "not known by 2025-12-29" in str(
        explained(stores, "country_view:country", known_at=NOW - 3 * DAY).rows["why"]
    )


def test_without_a_row_in_time_there_is_none_chosen(stores: Stores) -> None:
    found = explained(stores, "country_view:country", at=NOW + 90 * DAY)

    assert found.value is None and reasons(found) == {"outside ttl": 4}


def test_the_events_of_a_window_and_why_the_others_are_not_in_it(stores: Stores) -> None:
    found = explained(stores, "traffic_view:a_1h")

    assert found.value == 2
    assert reasons(found) == {"later than t": 1, "counts": 2, "where is false": 1, "before the window": 3}
    assert sum(found.rows["in_window"].to_pylist()) == 3
    assert "events from 2026-01-01T11:00:00Z up to 2026-01-01T12:00:00Z" in found.text
    assert "Of 7 events of this key" in found.text


def test_the_events_of_the_open_session(stores: Stores) -> None:
    found = explained(stores, "traffic_view:session_sum")

    # The chain 50, 20 and 10 minutes ago; the event before is 80 minutes older. One of the three has no amount.
    assert found.value == 24
    assert reasons(found) == {"later than t": 1, "counts": 2, "value is null": 1, "other session": 3}
    assert "began at 2026-01-01T11:10:00Z" in found.text
    assert found.rows["amount * 2"].to_pylist()[1:3] == [14, 10]


def test_a_closed_session_is_said_to_be_closed(stores: Stores) -> None:
    found = explained(stores, "traffic_view:session_sum", at=NOW + 5 * HOUR)

    assert found.value is None and set(reasons(found)) == {"other session"}
    assert "no session is open: the last event, at 2026-01-01T12:02:00Z" in found.text


def test_what_is_online_now_is_shown_with_what_the_row_has_seen(stores: Stores) -> None:
    found = explained(stores, "traffic_view:ever")

    assert found.online == {
        "value": 6,
        "status": "PRESENT",
        "event_time": found.online["event_time"],
        "offsets": {0: 6},
    }
    assert "Online now: 6 (PRESENT); the row has seen partition 0 up to offset 6." in found.text
    assert explained(stores, "traffic_view:ever", at=NOW).online is None


def test_an_unknown_key_has_no_events(stores: Stores) -> None:
    found = explained(stores, "traffic_view:ever", {"user_id": 99})

    assert found.value == 0 and found.rows.num_rows == 0
    assert "History has no row for this key." in found.text and "there is no row for this key" in found.text


def test_an_on_demand_feature_is_explained_by_its_inputs(stores: Stores) -> None:
    found = explained(stores, "derived:twice")

    assert found.value == 5.0
    rows = {row["input"]: row for row in found.rows.to_pylist()}
    assert rows["a_1h"]["from"] == "traffic_view:a_1h" and rows["a_1h"]["value"] == "2"
    assert rows["user_id"]["why"] == "a join key"
    assert reasons(next(each for each in found.inputs if each.reference == "traffic_view:a_1h"))["counts"] == 2


def test_what_cannot_be_explained_is_said(stores: Stores) -> None:
    with pytest.raises(UnknownFeature, match="did you mean 'traffic_view:ever'"):
        explained(stores, "traffic_view:evr")
    with pytest.raises(RequestError, match="names 3 features"):
        explained(stores, "traffic_view")
    with pytest.raises(RequestError, match="'one' is not Int64"):
        explained(stores, "traffic_view:ever", {"user_id": "one"})
    with pytest.raises(RequestError, match="join key 'user_id' is missing or null"):
        explained(stores, "traffic_view:ever", {"user": 1})


def test_what_is_explained_makes_up_the_value(tmp_path: Path) -> None:
    rng = random.Random(7)
    moments = [NOW + rng.randrange(-90, 30) * MINUTE + rng.choice((0, 0, 1, -1)) for _ in range(60)]
    rows = {
        "user_id": [1] * 60, "amount": [rng.choice((None, 1, 2, 3)) for _ in moments], "at": pa.array(moments, TIMES),
        "created": pa.array([each + rng.choice((0, 5, 30)) * MINUTE for each in moments], TIMES),
    }  # fmt: skip
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    fields = [Field("user_id", Int64), Field("amount", Int64)]
    source = FileSource(
        "rows.parquet", name="rows", timestamp_field="at", created_timestamp_column="created", schema=[
            *fields, Field("at", Timestamp), Field("created", Timestamp)
        ],
    )  # fmt: skip
    windows = [Sliding("10m", "5m"), Session("3m"), None]
    aggregations = [
        Aggregation("amount", "count", name=f"n{i}", window=window, where="amount <> 2")
        for i, window in enumerate(windows)
    ]
    view = typed(
        FeatureView(
            "v",
            entities=[USER],
            source=source,
            schema=fields,
            aggregations=aggregations,
            boundary="exclusive",
            delay="2m",
        )
    )
    last = FeatureView("last", entities=[USER], source=source, schema=fields, ttl="4m")
    stores = embedded_stores(tmp_path)
    apply_by_hand(stores, view, last)
    for _ in range(12):
        at = rng.choice(moments) + rng.choice((0, 0, 2, 5, -1)) * MINUTE
        known_at = rng.choice((None, True, NOW))
        for i in range(len(windows)):
            found = explained(stores, f"v:n{i}", at=at, known_at=known_at)
            assert reasons(found)["counts"] == found.value
        found = explained(stores, "last:amount", at=at, known_at=known_at)
        chosen = [row["amount"] for row in found.rows.to_pylist() if row["why"] == "chosen"]
        assert chosen == [found.value] or (found.value is None and not chosen)
