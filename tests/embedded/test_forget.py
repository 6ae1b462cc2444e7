"""Forgetting a key on the embedded parts: it is gone from logs, archives, online rows and dead letters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, LogSource
from asof.errors import NotFound, RequestError
from asof.flows.admin.audit import audit
from asof.flows.admin.forget import forget
from asof.flows.batch.materialize import materialize
from asof.flows.offline.read import read_history
from asof.flows.offline.training_sets.save import save_training_set
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores
from asof.flows.stream.dead_letters import list_dead_letters, replay_dead_letters
from asof.flows.stream.ingest import Ingest
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.selection import select
from asof.testing.clock import NOW, MicrosClock
from asof.timing import HOUR, MINUTE
from asof.types import Int64, String
from tests.embedded_stores import apply_by_hand, close, copied_stores, embedded_stores, read_online, typed

USER, SHOP = Entity("user", ["user_id"]), Entity("shop", ["shop"])
TIMES = pa.timestamp("us", "UTC")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path: Path = tmp_path_factory.mktemp("built")
    stores = embedded_stores(tmp_path)
    rows = {"user_id": [7, 8], "country": ["PL", "DE"], "at": pa.array([NOW - HOUR] * 2, TIMES)}
    pq.write_table(pa.table(rows), tmp_path / "users.parquet")
    schema = [Field("user_id", Int64), Field("shop", String), Field("at", Int64)]
    traffic = LogSource("traffic", schema=schema, timestamp_field="at", timestamp_unit="us")
    count = [Aggregation(function="count", name="n")]
    views = typed(FeatureView("of_user", entities=[USER], source=traffic, aggregations=count))
    both = typed(FeatureView("of_both", entities=[USER, SHOP], source=traffic, aggregations=count))
    users = FileSource("users.parquet", name="users", timestamp_field="at")
    fields = [Field("user_id", Int64), Field("country", String)]
    country = FeatureView("country", entities=[USER], source=users, schema=fields)
    snapshot = apply_by_hand(stores, views, both, country)
    stores.offline.create(stores.archive_of(traffic), archive_schema(traffic))
    for name in ("of_user", "of_both"):
        rebuild(stores, snapshot.project.views[name], wait_s=0)
    send(
        stores, *({"user_id": 7 + i % 2, "shop": "ab"[i % 3 % 2], "at": NOW - i * MINUTE} for i in range(20)),
        {"user_id": 77, "shop": "a", "at": NOW},
        {"user_id": 7, "shop": 5, "at": NOW}, {"user_id": "7", "shop": "a", "at": NOW},
        {"user_id": 8, "shop": 5, "at": NOW},
        b'{"user_id": 7, broken', b"\xff 77 \xff", {"user_id": 7, "shop": "a", "at": NOW + HOUR},
    )  # fmt: skip
    run_stream(stores, until_caught_up=True)
    materialize(stores)
    close(stores)
    return tmp_path


@pytest.fixture
def stores(built: Path, tmp_path: Path) -> Stores:
    return copied_stores(built, tmp_path)


def send(stores: Stores, *values: Any) -> None:
    stores.log.create("traffic", 1)
    encoded = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in values]
    stores.log.send("traffic", encoded, partition=0, durable=False)


def forgotten(stores: Stores, entity: str = "user", key: Any = 7, **options: Any) -> dict[str, Any]:
    return forget(stores, stores.registry.load(stores.project), entity, key, **options)


def test_a_forgotten_key_is_gone_from_everywhere(stores: Stores, tmp_path: Path) -> None:
    done = forgotten(stores)

    # Ten events, and four letters of which one can only be guessed at.
    assert done["log"] == {"traffic": 13} and done["archive"] == {"traffic": 10}
    assert done["dead_letters"] == {"traffic": 3}
    assert done["online"] == {"of_user": 1, "of_both": 2, "country": 1}
    assert done.undecided_dead_letters == ["traffic/0/24"] and done["sources"] == ["users"]
    assert read_online(stores, "of_user", {"user_id": [7, 8, 77]})["n"] == [0, 10, 1]
    assert {each["id"] for each in list_dead_letters(stores).to_dicts()} == {
        "traffic/0/23",
        "traffic/0/24",
        "traffic/0/25",
    }
    assert audit(stores, stores.registry.load("shop"), ["of_user", "of_both"]).ok
    files = [path for path in (tmp_path / "log").rglob("*") if path.is_file()]
    assert sum(path.read_bytes().count(b'"user_id": 7,') for path in files) == 1  # the one that cannot be decoded


def test_forgetting_again_changes_nothing(stores: Stores) -> None:
    forgotten(stores)

    again = forgotten(stores)
    for where in ("log", "archive", "dead_letters", "online"):
        assert set(again[where].values()) == {0}


def test_replayed_letters_are_forgotten_too(stores: Stores) -> None:
    assert isinstance(stores.clock, MicrosClock)
    stores.clock.move(2 * HOUR)
    assert replay_dead_letters(stores, "traffic")["sent"] == 1
    run_stream(stores, until_caught_up=True)

    done = forgotten(stores)
    assert done["log"]["traffic.replay"] == 1 and done["archive"] == {"traffic": 11}
    rebuild(stores, stores.registry.load("shop").project.views["of_user"], wait_s=0)
    assert read_online(stores, "of_user", {"user_id": [7]})["n"] == [0]


def test_what_a_worker_had_read_is_waited_for(stores: Stores) -> None:
    send(stores, {"user_id": 7, "shop": "a", "at": NOW})
    ingest = Ingest(stores, "traffic", seconds=lambda: 0.0)
    start = ingest.begin("traffic", 0, first=0)
    ingest.take("traffic", stores.log.read("traffic", 0, start))

    assert "1 message not archived yet" in forgotten(stores, wait_s=0.1)["notes"][0]
    ingest.flush()
    ingest.close()
    assert forgotten(stores)["archive"] == {"traffic": 1}
    assert read_online(stores, "of_user", {"user_id": [7]})["n"] == [0]


def test_training_sets_that_hold_the_key_are_listed(stores: Stores) -> None:
    snapshot = stores.registry.load("shop")
    frame = pa.table({"user_id": [7, 8, 7], "event_timestamp": pa.array([NOW] * 3, TIMES)})
    save_training_set(read_history(stores, snapshot, select(snapshot, "of_user"), frame), "with_seven")
    save_training_set(read_history(stores, snapshot, select(snapshot, "of_user"), frame.slice(1, 1)), "without")

    assert forgotten(stores)["training_sets"] == [{"name": "with_seven", "rows": 2}]


def test_another_entity_of_a_composite_key_is_forgotten_alone(stores: Stores) -> None:
    done = forgotten(stores, "shop", {"shop": "b"})

    assert done["online"] == {"of_both": 2} and done["archive"]["traffic"] > 0
    assert any("'of_user'" in note and "`asof rebuild of_user`" in note for note in done["notes"])
    rebuild(stores, stores.registry.load("shop").project.views["of_user"], wait_s=0)
    left = read_online(stores, "of_both", {"user_id": [7, 8, 7, 8], "shop": ["a", "a", "b", "b"]})["n"]
    assert left[2:] == [0, 0] and read_online(stores, "of_user", {"user_id": [7, 8]})["n"] == left[:2]


def test_a_key_that_does_not_fit_is_refused(stores: Stores) -> None:
    with pytest.raises(NotFound, match="did you mean 'user'"):
        forgotten(stores, "usr")
    with pytest.raises(RequestError, match="has the join keys \\['user_id'\\]; found \\['id'\\]"):
        forgotten(stores, key={"id": 7})
    with pytest.raises(RequestError, match="'seven' is not Int64"):
        forgotten(stores, key="seven")


def test_rows_of_views_with_more_keys_are_forgotten_too(tmp_path: Path) -> None:
    """An entity of two join keys is another one than that of the first key: its rows hold the key all the same."""
    stores = embedded_stores(tmp_path)
    schema = [Field("user_id", Int64), Field("shop", String), Field("at", Int64)]
    traffic = LogSource("traffic", schema=schema, timestamp_field="at", timestamp_unit="us")
    count = [Aggregation(function="count", name="n")]
    visit = Entity("visit", ["user_id", "shop"])
    of_user = typed(FeatureView("of_user", entities=[USER], source=traffic, aggregations=count))
    of_visit = typed(FeatureView("of_visit", entities=[visit], source=traffic, aggregations=count))
    snapshot = apply_by_hand(stores, of_user, of_visit)
    stores.offline.create(stores.archive_of(traffic), archive_schema(traffic))
    for name in ("of_user", "of_visit"):
        rebuild(stores, snapshot.project.views[name], wait_s=0)
    send(stores, *({"user_id": 7 + i % 2, "shop": "ab"[i % 3 % 2], "at": NOW - i} for i in range(12)))
    run_stream(stores, until_caught_up=True)

    done = forgotten(stores)

    assert done["online"] == {"of_user": 1, "of_visit": 2} and not done["notes"]
    assert read_online(stores, "of_visit", {"user_id": [7, 7], "shop": ["a", "b"]})["n"] == [0, 0]
    done = forgotten(stores, "visit", {"user_id": 8, "shop": "a"})
    assert done["online"] == {"of_user": 0, "of_visit": 1} or done["online"] == {"of_visit": 1}
    assert any("`asof rebuild of_user`" in note for note in done["notes"])
    close(stores)
