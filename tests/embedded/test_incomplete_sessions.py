"""A session that a late event may have changed beyond what its row holds is never served as the row has it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

import httpx
import pytest

from asof import FeatureStore
from asof.defaults import HISTORY_READS
from asof.errors import IncompleteRow, StorageError
from asof.flows.online import history as history_module
from asof.flows.push.pusher import Pusher
from asof.flows.stores import Stores
from asof.flows.stream import ingest as ingest_module
from asof.server.app import App
from asof.server.process.service import Service
from asof.store import open_store_of
from tests.embedded.test_client import Bridge, client_over

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
clicks = PushSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at",
    allowed_lateness="0s")
activity = FeatureView("activity", entities=[user], source=clicks, aggregations=[
    Aggregation("", "count", window=Session("30m"), name="session"), Aggregation("", "count", name="ever")])
twin = FeatureView("twin", entities=[user], source=clicks, aggregations=[
    Aggregation("", "count", window=Session("30m"), name="session"), Aggregation("", "count", name="ever")])
"""
BEFORE = [150, 75, 15]
"""Minutes before now of user 1's events: with the third the state no longer holds the second."""
LATE = 45
"""It joins the second and the third, so that the open session has three events."""
USERS = {"user_id": [2, 1, 3]}


def clicks(*minutes: int, user: int = 1) -> list[dict[str, Any]]:
    return [{"user_id": user, "at": NOW - timedelta(minutes=each)} for each in minutes]


class NoArchive:
    """An offline store that takes no rows as long as `fails` is set."""

    def __init__(self, offline: Any) -> None:
        self.offline, self.fails = offline, False

    def __getattr__(self, name: str) -> Any:
        if name == "append" and self.fails:

            def fail(*_: Any, **__: Any) -> Any:
                raise StorageError("the archive is away", hint="wait for it")

            return fail
        return getattr(self.offline, name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("incomplete")
    (folder / "feature_store.yaml").write_text("project: shop\n")
    (folder / "features.py").write_text(DEFINITIONS)
    return folder


class Shop:
    """A store that reads, and a process that pushes, whose archive may go away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = FeatureStore(folder, clock=lambda: NOW)
        self.store.apply()
        self.other = FeatureStore(folder, clock=lambda: NOW)
        stores: Stores = open_store_of(self.other).stores
        self.offline = NoArchive(stores.offline)
        self.pusher = Pusher(stores.replaced(offline=self.offline), "clicks")  # type: ignore[arg-type]
        for each in BEFORE:
            self.pusher.push(clicks(each))
        self.pusher.push(clicks(5, user=2))

    def push_late(self, *, away: bool) -> None:
        self.offline.fails = away
        self.pusher.push(clicks(LATE))

    def session(self, users: Any = USERS) -> dict[str, list[Any]]:
        return self.store.get_online_features(["activity:session"], users).to_dict()

    def counts(self) -> dict[str, int]:
        feeders = self.pusher.ingest.feeders.values()
        counted = {name: sum(each.counts[name] for each in feeders) for name in ("rows marked incomplete",)}
        return counted | dict(self.pusher.ingest.counts)


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Iterator[Shop]:
    folder = tmp_path / "repo"
    folder.mkdir()
    for name in ("feature_store.yaml", "features.py"):
        (folder / name).write_text((built / name).read_text())
    shop = Shop(folder)
    yield shop
    shop.offline.fails = False
    shop.pusher.close()
    shop.other.close()
    shop.store.close()


def test_whoever_marks_a_row_flushes_and_recomputes_it_at_once(shop: Shop) -> None:
    assert shop.session()["session"] == [1, 1, 0]
    shop.push_late(away=False)

    assert shop.session()["session"] == [1, 3, 0]
    counts = shop.counts()
    assert (counts["rows marked incomplete"], counts["rows recomputed"]) == (2, 2), "of two views"
    assert counts["flushes for incomplete rows"] == 1 and shop.pusher.ingest.buffered == 0


def test_until_history_covers_it_the_answer_is_an_error_and_not_the_row(shop: Shop) -> None:
    shop.push_late(away=True)

    for users in (USERS, {"user_id": [1]}, {"user_id": [1] * 40}):
        with pytest.raises(IncompleteRow, match="'activity'.*user_id=1.* is incomplete") as caught:
            shop.session(users)
        assert caught.value.may_pass and "try again" in caught.value.hint
    # The other keys, and what of the row is not a session, are as they are.
    assert shop.session({"user_id": [2, 3]})["session"] == [1, 0]
    assert shop.store.get_online_features(["activity:ever"], USERS).to_dict()["ever"] == [1, 4, 0]
    both = shop.store.get_online_features(["activity:ever", "twin:ever"], USERS, full_feature_names=True).to_dict()
    assert both["twin__ever"] == [1, 4, 0]

    shop.offline.fails = False
    shop.pusher.flush()
    assert shop.session()["session"] == [1, 3, 0]


def test_once_history_covers_it_the_answer_comes_from_there(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "MOST_RECOMPUTED", 0)
    shop.push_late(away=False)
    assert shop.counts()["rows marked incomplete"] == 2 and shop.counts()["rows recomputed"] == 0

    response = shop.store.get_online_features(
        ["activity:session", "activity:ever", "twin:session"], USERS, full_feature_names=True
    )
    assert response.to_dict()["activity__session"] == response.to_dict()["twin__session"] == [1, 3, 0]
    assert response.statuses["activity__session"] == ["PRESENT"] * 3
    assert response.event_times["activity__session"][1] == NOW - timedelta(minutes=15)

    monkeypatch.undo()
    shop.pusher.flush()
    assert shop.counts()["rows recomputed"] == 2 and shop.session()["session"] == [1, 3, 0]


def test_of_many_rows_some_are_recomputed_at_each_flush_and_all_in_the_end(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "MOST_RECOMPUTED", 2)
    users = range(10, 15)
    for each in BEFORE:
        shop.pusher.push([row for user in users for row in clicks(each, user=user)])
    shop.pusher.push([row for user in users for row in clicks(LATE, user=user)])
    assert shop.counts()["rows recomputed"] == 4
    assert shop.session({"user_id": list(users)})["session"] == [3] * 5
    shop.pusher.flush()
    shop.pusher.flush()

    assert shop.counts()["rows recomputed"] == 10
    assert not any(feeder.incomplete for feeder in shop.pusher.ingest.feeders.values())


def test_a_server_says_it_with_503_and_a_client_raises_it(shop: Shop) -> None:
    shop.push_late(away=True)
    loop = asyncio.new_event_loop()
    service = Service(FeatureStore(shop.folder, clock=lambda: NOW))
    loop.run_until_complete(service.start())
    bridge = Bridge(App(service), loop)
    try:
        with client_over(bridge, retries=0) as client:
            with pytest.raises(IncompleteRow, match="user_id=1") as caught:
                client.get_online_features(["activity:session"], USERS)
            assert "try again" in caught.value.hint
            assert client.get_online_features(["activity:session"], {"user_id": [2]}).to_dict()["session"] == [1]
            for path in ("/v1/features", "/get-online-features"):
                answer = client_request(bridge, path, {"features": ["activity:session"], "entities": USERS})
                assert answer.status_code == 503 and "retry-after" in answer.headers, answer.text
                assert "IncompleteRow" in answer.text
            shop.offline.fails = False
            shop.pusher.flush()
            assert client.get_online_features(["activity:session"], USERS).to_dict()["session"] == [1, 3, 0]
    finally:
        loop.run_until_complete(service.stop())
        loop.close()


def client_request(bridge: Bridge, path: str, body: Any) -> Any:
    with httpx.Client(transport=bridge, base_url="http://localhost") as client:
        return client.post(path, json=body)


def test_no_more_reads_than_these_look_into_history_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits until as many are there as may be; one more would be seen."""
    monkeypatch.setattr(ingest_module, "MOST_RECOMPUTED", 0)
    shop.push_late(away=False)
    together, lock, inside, most = Barrier(HISTORY_READS), Lock(), 0, 0
    answer = history_module.view_as_of

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        together.wait(60)
        found = answer(*arguments, **options)
        with lock:
            inside -= 1
        return found

    monkeypatch.setattr(history_module, "view_as_of", counted)
    with ThreadPoolExecutor(4 * HISTORY_READS) as threads:
        found = list(threads.map(lambda _: shop.session()["session"], range(4 * HISTORY_READS)))

    assert found == [[1, 3, 0]] * (4 * HISTORY_READS) and most == HISTORY_READS
