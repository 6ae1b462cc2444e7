"""An online store that has lost what it was given: an error with the way back, and never zeros."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, Sliding
from asof.errors import AsofError, OnlineRowsLost
from asof.flows.stream.run import run_stream
from asof.store import open_store_of
from asof.testing.clock import NOW
from asof.testing.streams import StreamRun, visit
from asof.timing import moment
from asof.types import Int64, Timestamp
from tests.embedded.test_server import asked, client, folder, online, refusal
from tests.embedded.test_server import built as built
from tests.embedded_stores import close, embedded_stores

__all__ = ["built", "folder"]

USER = Entity("user", join_keys=["user_id"])
CLICKS = PushSource(
    "clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at"
)  # fmt: skip
ACTIVITY = FeatureView(
    "activity", entities=[USER], source=CLICKS,
    aggregations=[Aggregation(function="count", window=Sliding(timedelta(hours=1)), name="clicks_1h")],
)  # fmt: skip
PROFILE = FeatureView(
    "profile", entities=[USER], source=FileSource("profile.parquet", name="people", timestamp_field="at"),
    schema=[Field("age", Int64)],
)  # fmt: skip
BOUGHT = FeatureView(
    "bought", entities=[USER], source=FileSource("bought.parquet", name="orders", timestamp_field="at"),
    aggregations=[Aggregation(function="count", name="orders")],
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    at = pa.array([NOW], pa.timestamp("us", "UTC"))
    for name in ("profile", "bought"):
        pq.write_table(pa.table({"user_id": [1], "age": [30], "at": at}), tmp_path / f"{name}.parquet")
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    with FeatureStore(tmp_path, clock=lambda: moment(NOW)) as made:
        made.apply([ACTIVITY, PROFILE, BOUGHT])
        yield made


def filled(store: FeatureStore) -> None:
    store.materialize()
    store.push("clicks", [{"user_id": 1, "at": moment(NOW)}])
    assert served(store) == {"clicks_1h": [1, 0], "age": [30, None], "orders": [1, 0]}


def served(store: FeatureStore, *features: str) -> dict[str, Any]:
    asked_for = list(features) or ["activity:clicks_1h", "profile:age", "bought:orders"]
    values = store.get_online_features(asked_for, [{"user_id": 1}, {"user_id": 2}]).to_dict()
    del values["user_id"]
    return values


def delete_file(path: Path) -> None:
    # The file itself last: a process that finds it gone makes a new one at once, with a log of the same name.
    for name in ("online.db-wal", "online.db-shm", "online.db"):
        (path / name).unlink(missing_ok=True)


def online_folder(store: FeatureStore) -> Path:
    return Path(open_store_of(store).stores.online.path).parent  # type: ignore[attr-defined]


def test_a_deleted_file_is_an_error_with_the_command_for_each_view_until_it_was_run(store: FeatureStore) -> None:
    filled(store)
    delete_file(online_folder(store))

    with pytest.raises(OnlineRowsLost) as caught:
        served(store)
    for word in ("'activity'", "'profile'", "'bought'", "asof rebuild activity", "asof materialize profile bought"):
        assert word in str(caught.value)
    for view in ("activity:clicks_1h", "profile:age", "bought:orders"):
        with pytest.raises(OnlineRowsLost, match=view.partition(":")[0]):
            served(store, view)

    store.materialize(feature_views=["profile"])
    assert served(store, "profile:age") == {"age": [30, None]}
    with pytest.raises(OnlineRowsLost, match="bought"):
        served(store, "profile:age", "bought:orders")
    store.materialize()
    store.rebuild(["activity"])
    assert served(store) == {"clicks_1h": [1, 0], "age": [30, None], "orders": [1, 0]}


def test_a_file_put_in_the_place_of_another_is_not_read_by_the_numbers_of_the_former(
    store: FeatureStore, tmp_path: Path
) -> None:
    filled(store)
    path = online_folder(store)
    (path / "other").mkdir()
    for name in ("profile", "bought"):
        pq.write_table(pq.read_table(tmp_path / f"{name}.parquet"), path / "other" / f"{name}.parquet")
    (path / "other" / "feature_store.yaml").write_text("project: other\n")
    with FeatureStore(path / "other", clock=lambda: moment(NOW)) as other:
        other.apply([BOUGHT, PROFILE])
        other.materialize()
        theirs = online_folder(other)
    delete_file(path)
    for each in theirs.glob("online.db*"):
        each.rename(path / each.name)
    with pytest.raises(OnlineRowsLost):
        served(store, "profile:age")


def test_what_was_never_materialized_is_not_lost(store: FeatureStore) -> None:
    assert store.get_online_features(["profile:age"], [{"user_id": 1}]).statuses == {"age": ["NOT_FOUND"]}
    delete_file(online_folder(store))
    assert store.get_online_features(["profile:age"], [{"user_id": 1}]).statuses == {"age": ["NOT_FOUND"]}
    with pytest.raises(OnlineRowsLost):
        served(store, "activity:clicks_1h")


WRITTEN = {"user_id": [1], "age": [31], "at": [moment(NOW)]}


def test_rows_that_were_only_written_directly_are_lost_with_their_store(store: FeatureStore) -> None:
    assert store.write_to_online_store("profile", WRITTEN) == 1
    assert served(store, "profile:age") == {"age": [31, None]}
    delete_file(online_folder(store))

    with pytest.raises(OnlineRowsLost, match="asof materialize profile"):
        served(store, "profile:age")
    (check,) = [each for each in store.doctor() if each.part == "view profile"]
    assert not check.ok and "lost" in check.text
    store.materialize(feature_views=["profile"])
    assert served(store, "profile:age") == {"age": [30, None]}
    assert store.write_to_online_store("profile", WRITTEN) == 1
    assert served(store, "profile:age") == {"age": [31, None]}


def test_rows_written_directly_into_a_lost_store_do_not_make_it_whole(store: FeatureStore) -> None:
    store.write_to_online_store("profile", WRITTEN)
    delete_file(online_folder(store))

    with pytest.raises(AsofError, match="asof materialize profile"):
        store.write_to_online_store("profile", WRITTEN)
    with pytest.raises(OnlineRowsLost):
        served(store, "profile:age")


def forget_markers(path: Path) -> int:
    """What a store looks like that was written before there were markers; how many there were."""
    with sqlite3.connect(path / "online.db") as db:
        count = db.execute("DELETE FROM progress WHERE name = '!marker'").rowcount
    db.close()
    return count


def test_rows_from_before_there_were_markers_are_served_and_get_them(store: FeatureStore) -> None:
    filled(store)
    path = online_folder(store)
    assert forget_markers(path) == 3
    with FeatureStore(store.config.path, clock=lambda: moment(NOW)) as later:
        assert served(later) == {"clicks_1h": [1, 0], "age": [30, None], "orders": [1, 0]}
    assert forget_markers(path) == 3


def test_rows_whose_build_did_not_end_get_no_marker(store: FeatureStore) -> None:
    filled(store)
    path = online_folder(store)
    forget_markers(path)
    with sqlite3.connect(path / "online.db") as db:
        db.execute("DELETE FROM progress")
    db.close()
    with FeatureStore(store.config.path, clock=lambda: moment(NOW)) as later:
        for view in ("activity:clicks_1h", "profile:age", "bought:orders"):
            with pytest.raises(OnlineRowsLost):
                served(later, view)
    assert forget_markers(path) == 0


def test_no_read_fails_while_definitions_and_generations_change(store: FeatureStore, tmp_path: Path) -> None:
    filled(store)
    stop, failures, reads = threading.Event(), list[BaseException](), [0]

    def read(reader: FeatureStore) -> None:
        try:
            while not stop.is_set():
                values = served(reader, "activity:clicks_1h", "profile:age", "bought:orders")
                assert (values["clicks_1h"], values["age"], values["orders"]) == ([1, 0], [30, None], [1, 0])
                reads[0] += 1
        except BaseException as error:
            failures.append(error)

    def changed(window: int) -> FeatureView:
        more = Aggregation(function="count", window=Sliding(timedelta(minutes=window)), name="others")
        return FeatureView("activity", entities=[USER], source=CLICKS, aggregations=[*ACTIVITY.aggregations, more])

    with FeatureStore(tmp_path, clock=lambda: moment(NOW)) as other:
        threads = [threading.Thread(target=read, args=(each,)) for each in (store, other)]
        for each in threads:
            each.start()
        for window in (5, 10, 15):
            before = reads[0]
            store.apply([changed(window), PROFILE, BOUGHT])
            store.rebuild(["activity"])
            store.materialize(full=True)
            forget_markers(online_folder(store))
            while reads[0] < before + 10 and not failures:
                time.sleep(0.01)
        stop.set()
        for each in threads:
            each.join()
    assert not failures, failures


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def test_a_worker_on_an_idle_topic_builds_again_what_was_deleted(tmp_path: Path) -> None:
    stores = embedded_stores(tmp_path)
    run = StreamRun(stores, stores.clock)  # type: ignore[arg-type]
    stop = threading.Event()
    own = embedded_stores(tmp_path, clock=stores.clock)
    worker = threading.Thread(target=lambda: run_stream(own, stop=stop, flush_every_s=0.3))
    run.send(visit(1, 0), visit(1, 0))
    worker.start()
    answers: list[Any] = []

    def ever() -> Any:
        try:
            return run.served("activity", [1])["ever"]
        except OnlineRowsLost:
            return None

    def is_back() -> bool:
        answers.append(ever())
        return answers[-1] == [2]

    try:
        until(is_back)
        until(lambda: len(run.archived()) == 2)
        delete_file(tmp_path)
        answers.clear()
        assert ever() is None
        until(is_back)
        assert all(answer in (None, [2]) for answer in answers)
    finally:
        stop.set()
        worker.join()
        close(own)
        close(stores)


FEATURES = ["profile:age", "activity:n_1h"]


def test_a_server_whose_file_was_deleted_answers_503_is_not_ready_and_comes_back(folder: Path) -> None:
    import asyncio

    async def live() -> None:
        async with client(folder, registry_refresh_s=0.1) as made:
            body = {"features": FEATURES, "entities": {"user_id": [1, 777]}}

            async def metric() -> str:
                text = (await made.get("/metrics")).text
                return "".join(line for line in text.splitlines() if line.startswith("asof_view_rows_lost"))

            async def wait_for(status: int) -> Any:
                for _ in range(600):
                    answer = await made.get("/ready")
                    if answer.status_code == status:
                        return answer.json()
                    await asyncio.sleep(0.05)
                raise AssertionError(f"/ready did not become {status}")

            assert (await made.post("/get-online-features", json=body)).status_code == 200
            await wait_for(200)
            assert 'asof_view_rows_lost{view="profile"} 0.0' in await metric()
            store = made.service.store
            delete_file(online_folder(store))

            words = await wait_for(503)
            assert words["status"] == "rows lost"
            assert {"profile", "activity"} <= set(words["views"])
            assert "asof materialize" in words["hint"]
            assert 'asof_view_rows_lost{view="profile"} 1.0' in await metric()
            for entities in ({"user_id": [1]}, {"user_id": [777]}, body["entities"]):
                answer = await made.post("/get-online-features", json={**body, "entities": entities})
                assert answer.status_code == 503
                assert "retry-after" in answer.headers
                assert refusal(answer)["code"] == "OnlineRowsLost"

            await asyncio.to_thread(store.materialize)
            await asyncio.to_thread(store.rebuild)
            assert (await made.post("/get-online-features", json=body)).status_code == 200
            assert (await wait_for(200))["status"] == "ready"
            assert 'asof_view_rows_lost{view="profile"} 0.0' in await metric()

    asyncio.run(live())


def test_a_server_started_over_rows_from_before_there_were_markers_marks_them(folder: Path) -> None:
    with FeatureStore(folder) as store:
        path = online_folder(store)
    count = forget_markers(path)
    assert count
    (answer,) = asked(folder, ("GET", "/ready", None))
    assert answer.status_code == 200
    assert online(folder, features=FEATURES, entities={"user_id": [1]}).status_code == 200
    assert forget_markers(path) == count
