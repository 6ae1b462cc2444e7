"""Dead letters on the embedded parts: shown with their bytes, and replayed once each."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, LogSource, Snapshot
from asof.errors import NotFound
from asof.flows.facts import change_facts
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores
from asof.flows.stream.dead_letters import dead_letter_id, list_dead_letters, replay_dead_letters, show_dead_letter
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.testing.clock import NOW, MicrosClock
from asof.timing import HOUR
from asof.types import Int64
from tests.embedded_stores import apply_by_hand, close, copied_stores, embedded_stores, read_online

AMOUNT = Field("amount", Int64)


def definitions(*more: Field) -> list[Any]:
    source = LogSource(
        "orders", schema=[Field("user_id", Int64), Field("at", Int64), *more], timestamp_field="at", timestamp_unit="us"
    )
    view = FeatureView(
        "user_orders", entities=[Entity("user", ["user_id"])], source=source,
        aggregations=[Aggregation(function="count", name="orders")],
    )  # fmt: skip
    return [source, view]


def applied(stores: Stores, *more: Field) -> Snapshot:
    snapshot = apply_by_hand(stores, *definitions(*more))
    source = snapshot.project.sources["orders"]
    stores.offline.create(stores.archive_of(source), archive_schema(source))
    rebuild(stores, snapshot.project.views["user_orders"], wait_s=0)
    return snapshot


def send(stores: Stores, *values: Any) -> None:
    stores.log.create("orders", 1)
    stores.log.send(
        "orders", [each if isinstance(each, bytes) else json.dumps(each).encode() for each in values],
        partition=0, durable=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path: Path = tmp_path_factory.mktemp("built")
    stores = embedded_stores(tmp_path)
    applied(stores, AMOUNT)
    send(
        stores, {"user_id": 1, "amount": 5, "at": NOW}, {"user_id": 1, "amount": "five", "at": NOW - HOUR},
        b"\xffgarbage", {"user_id": 2, "amount": 1, "at": NOW + HOUR},
    )  # fmt: skip
    run_stream(stores, until_caught_up=True)
    close(stores)
    return tmp_path


@pytest.fixture
def stores(built: Path, tmp_path: Path) -> Stores:
    return copied_stores(built, tmp_path)


def test_letters_are_listed_with_their_place_and_reason(stores: Stores) -> None:
    dead_letters = list_dead_letters(stores).to_dicts()

    assert sorted(each["id"] for each in dead_letters) == ["orders/0/1", "orders/0/2", "orders/0/3"]
    by_offset = {each["offset"]: each for each in dead_letters}
    assert "'five' is not" in by_offset[1]["reason"] and by_offset[2]["size"] == len(b"\xffgarbage")
    assert "1h after the clock" in by_offset[3]["reason"]
    assert not any(each["replayed"] for each in dead_letters)
    assert len(list_dead_letters(stores, "orders", 1)) == 1


def test_a_letter_is_shown_with_its_raw_bytes(stores: Stores) -> None:
    dead_letter = show_dead_letter(stores, dead_letter_id("orders", (0, 2)))

    assert dead_letter["value"] == b"\xffgarbage" and dead_letter["text"] == "\\xffgarbage"
    assert "JSON" in dead_letter["reason"] and dead_letter["refused_now"]


def test_an_unknown_letter_is_not_found(stores: Stores) -> None:
    for unknown in ("orders/0/0", "orders/0/99"):
        with pytest.raises(NotFound, match="no dead letter"):
            show_dead_letter(stores, unknown)
    with pytest.raises(NotFound, match="is not a dead letter's ID"):
        show_dead_letter(stores, "orders")
    with pytest.raises(NotFound, match="did you mean 'orders'"):
        show_dead_letter(stores, "order/0/1")


def test_letters_that_still_do_not_fit_stay_with_their_reasons(stores: Stores) -> None:
    done = replay_dead_letters(stores, "orders")

    assert done["sent"] == 0 and done["already"] == 0
    assert set(done["still_unfit"]) == {"orders/0/1", "orders/0/2", "orders/0/3"}


def test_a_letter_that_fits_by_now_is_accepted_once(stores: Stores) -> None:
    clock = stores.clock
    assert isinstance(clock, MicrosClock)
    clock.move(2 * HOUR)

    assert replay_dead_letters(stores, "orders", ["orders/0/3"]).to_dict() == {
        "sent": 1,
        "already": 0,
        "still_unfit": {},
    }
    assert replay_dead_letters(stores, "orders")["already"] == 1
    run_stream(stores, until_caught_up=True)
    replay_dead_letters(stores, "orders")
    run_stream(stores, until_caught_up=True)

    assert read_online(stores, "user_orders", {"user_id": [1, 2]})["orders"] == [1, 1]
    assert [each["replayed"] for each in list_dead_letters(stores).to_dicts() if each["id"] == "orders/0/3"] == [True]


def test_after_the_schema_was_mended_letters_count_at_their_own_time(stores: Stores) -> None:
    applied(stores)

    done = replay_dead_letters(stores, "orders", ["orders/0/1"])
    run_stream(stores, until_caught_up=True)

    assert done.to_dict() == {"sent": 1, "already": 0, "still_unfit": {}}
    before = read_online(stores, "user_orders", {"user_id": [1]}, at=NOW - HOUR)["orders"]
    assert before == [1] and read_online(stores, "user_orders", {"user_id": [1]})["orders"] == [2]


def test_a_replay_whose_process_died_is_taken_over(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asof.flows.stream.dead_letters.TURN_S", 0.1)
    change_facts(stores, lambda facts: facts.with_replay("orders", "dead"), note="a replay that died")

    assert replay_dead_letters(stores, "orders")["sent"] == 0
    assert stores.registry.load("shop").facts.replaying == {}


def test_two_replays_at_once_send_each_letter_once(stores: Stores, tmp_path: Path) -> None:
    later = MicrosClock(NOW + 2 * HOUR)
    processes = [embedded_stores(tmp_path, clock=later) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda each: replay_dead_letters(each, "orders"), processes))

    assert sum(each["sent"] for each in done) == 1 and sum(each["already"] for each in done) == 2
    assert stores.log.bounds("orders.replay") == {0: (0, 1)}


def test_letters_of_another_source_are_refused(stores: Stores) -> None:
    other = LogSource("clicks", schema=[Field("at", Int64)], timestamp_field="at", timestamp_unit="us")
    apply_by_hand(stores, *definitions(AMOUNT), other)

    with pytest.raises(NotFound, match="is not of source 'clicks'"):
        replay_dead_letters(stores, "clicks", ["orders/0/1"])
