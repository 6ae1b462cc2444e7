"""Projects and environments in one folder: neither sees, serves nor deletes what is the other's; old stores stay whole."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from asof import FeatureStore
from asof.config import load_config, shared_stores
from asof.errors import LogError
from asof.flows.facts import change_facts
from asof.flows.rows.archive import archive_schema
from asof.flows.stream.shared_logs import kept_topics
from asof.log.file import FileLog
from asof.log.protocol import LogUser
from asof.sql.partitions import ArchivePartition
from asof.store import open_store_of
from tests.stores.write_one_log_folder import FEATURES, NOON, order, visit, write_repository

STORES = Path(__file__).parents[1] / "stores" / "one_log_folder.tar.gz"
KAFKA = 'log: {type: kafka, bootstrap_servers: "b:9092", topic_prefix: "one."}\n'


@pytest.fixture
def open_store() -> Iterator[Callable[..., FeatureStore]]:
    opened: list[FeatureStore] = []

    def open_one(folder: Path, env: str | None = None, *, hours: float = 0) -> FeatureStore:
        opened.append(FeatureStore(folder, env=env, clock=lambda: NOON + timedelta(hours=hours)))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with two projects, `shop` and `lab`, whose stores are the same files and folders."""
    write_repository(tmp_path / "repository")
    (tmp_path / "repository" / "feature_store.lab.yaml").write_text("project: lab\n")
    return tmp_path / "repository"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of stores that were written when all projects had their topics in one folder."""
    with tarfile.open(STORES) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


def frame(*users: int, hours: float = 0) -> pa.Table:
    at = [NOON + timedelta(hours=hours)] * len(users)
    return pa.table({"user_id": users, "event_timestamp": pa.array(at, pa.timestamp("us", "UTC"))})


def both(store: FeatureStore, feature: str, *users: int, hours: float = 0) -> tuple[list[Any], list[Any]]:
    """What training and serving say of a feature, per user."""
    name = feature.split(":")[1]
    trained = store.get_historical_features(frame(*users, hours=hours), [feature]).to_arrow()[name].to_pylist()
    served = store.get_online_features([feature], [{"user_id": user} for user in users]).to_dict()[name]
    return trained, served


def warnings(store: FeatureStore) -> list[str]:
    return [str(each) for each in store.plan().findings if each.severity == "warning"]


def ways_in(store: FeatureStore) -> None:
    """Events through each way into the log: pushed, written online, sent, dead and replayed."""
    store.push("orders", [order(1, 10.0, -30)])
    store.write_to_online_store("spent", [order(1, 5.0, -20)])
    open_store_of(store).stores.log.send("visits", [visit(1, -10), b"no message"], keys=[b"1", b"1"], durable=True)
    store.stream_run(until_caught_up=True)
    store.replay_dead_letters("visits")


def test_what_one_project_sends_is_not_in_the_other(folder: Path, open_store: Callable[..., FeatureStore]) -> None:
    shop, lab = open_store(folder), open_store(folder, "lab")
    shop.apply()
    lab.apply()
    ways_in(shop)
    lab.stream_run(until_caught_up=True)

    assert both(shop, "spent:spent_ever", 1) == ([15.0], [15.0])
    assert both(shop, "seen:visits_ever", 1) == ([1], [1])
    assert both(lab, "spent:spent_ever", 1) == ([None], [None])
    assert both(lab, "seen:visits_ever", 1) == ([0], [0])
    assert len(lab.sample("spent")) == 0
    assert len(lab.dead_letters()) == 0
    assert all(each["next"] == 0 for each in lab.stream_status())
    logs = {each.part: each.text for each in lab.doctor() if each.part in ("source orders", "source visits")}
    assert logs == {
        "source orders": "offsets push.orders/0 empty, push.orders/1 empty; 0 not archived",
        "source visits": "offsets visits/0 empty, visits/1 empty; 0 not archived",
    }
    assert not set(open_store_of(lab).stores.log.topics()) - {"push.orders", "visits", "visits_dead"}, (
        "no topic for replays"
    )
    assert warnings(shop) == warnings(lab) == []


def test_a_purge_leaves_the_other_project_whole(folder: Path, open_store: Callable[..., FeatureStore]) -> None:
    shop, lab = open_store(folder), open_store(folder, "lab")
    for store in (shop, lab):
        store.apply()
        ways_in(store)
    lab.push("orders", [order(2, 1.0, -5)])
    ids = {topic: open_store_of(lab).stores.log.topic_id(topic) for topic in open_store_of(lab).stores.log.topics()}

    assert shop.teardown(purge=True) == []

    assert "push.orders" not in open_store_of(shop).stores.log.topics()
    assert {
        topic: open_store_of(lab).stores.log.topic_id(topic) for topic in open_store_of(lab).stores.log.topics()
    } == ids
    assert both(lab, "spent:spent_ever", 1, 2) == ([15.0, 1.0], [15.0, 1.0])
    assert len(lab.dead_letters()) == 1
    lab.rebuild()
    assert both(lab, "seen:visits_ever", 1) == ([1], [1])


@pytest.mark.parametrize(
    ("one", "other"), [("push", "kafka"), ("shop", "shop_dev"), ("orders", "visits"), ("a0", "a00")]
)
def test_no_project_name_leads_into_the_topics_of_another(
    folder: Path, open_store: Callable[..., FeatureStore], one: str, other: str
) -> None:
    (folder / "feature_store.yaml").write_text(f"project: {one}\n")
    (folder / "feature_store.lab.yaml").write_text(f"project: {other}\n")
    stores = [open_store(folder), open_store(folder, "lab")]
    for amount, store in enumerate(stores, 1):
        store.apply()
        store.push("orders", [order(1, float(amount), -30)])
    assert both(stores[0], "spent:spent_ever", 1) == ([1.0], [1.0])
    assert both(stores[1], "spent:spent_ever", 1) == ([2.0], [2.0])
    stores[1].teardown(purge=True)

    assert both(stores[0], "spent:spent_ever", 1) == ([1.0], [1.0])


def test_two_environments_of_one_project_are_warned_of_a_log_that_they_share(
    folder: Path, open_store: Callable[..., FeatureStore]
) -> None:
    (folder / "feature_store.dev.yaml").write_text(
        "registry: {path: dev/registry.db}\nonline_store: {path: dev/online.db}\noffline_store: {path: dev/archive}\n"
    )
    base, dev = open_store(folder), open_store(folder, "dev")

    assert any(
        "feature_store.dev.yaml has the same log, so both environments share all data" in each
        for each in warnings(base)
    )
    assert any(
        "feature_store.yaml has the same log, so both environments share all data" in each for each in warnings(dev)
    )
    assert not any("feature_store.lab.yaml" in each for each in warnings(base))
    assert warnings(open_store(folder, "lab")) == []


@pytest.mark.parametrize(
    ("base", "over", "shared"),
    [
        ("", "log: {path: dev/log}\noffline_store: {path: dev/archive}\n", []),
        ("", "log: {path: dev/log}\n", ["offline_store"]),
        ("", "log: {path: data/../data/log}\noffline_store: {path: dev/archive}\n", ["log"]),
        ("", "log: {path: '${NOT_SET}/log'}\noffline_store: {path: dev/archive}\n", []),
        ("", "online_store: {type: redis, url: '${NOT_SET}'}\noffline_store: {path: dev/archive}\n", ["log"]),
        (KAFKA, "offline_store: {path: dev/archive}\n", ["log"]),
        (KAFKA, "project: other\noffline_store: {path: dev/archive}\n", ["log"]),
        (KAFKA.replace(', topic_prefix: "one."', ""), "project: other\n", []),
        (KAFKA.replace(', topic_prefix: "one."', ""), "offline_store: {path: dev/archive}\n", ["log"]),
        (KAFKA, "log: {topic_prefix: two.}\noffline_store: {path: dev/archive}\n", []),
    ],
)
def test_the_stores_that_an_environment_shares_are_known(folder: Path, base: str, over: str, shared: list[str]) -> None:
    yaml = "project: shop\noffline_store: {path: data/archive}\n" + (base or "log: {path: data/log}\n")
    (folder / "feature_store.yaml").write_text(yaml)
    (folder / "feature_store.dev.yaml").write_text(over)

    assert shared_stores(load_config(folder), {}).get("feature_store.dev.yaml", []) == shared


def test_two_repositories_with_one_project_and_one_log_are_warned_and_no_purge_takes_it_from_the_other(
    tmp_path: Path, open_store: Callable[..., FeatureStore]
) -> None:
    stores = []
    for name in ("dev", "prod"):
        write_repository(tmp_path / name)
        (tmp_path / name / "feature_store.yaml").write_text(f"project: shop\nlog: {{path: {tmp_path / 'log'}}}\n")
        stores.append(open_store(tmp_path / name))
    dev, prod = stores
    dev.apply()
    assert warnings(dev) == []
    prod.apply()
    prod.push("orders", [order(1, 10.0, -30)])

    place = f"project 'shop' of the registry sqlite {tmp_path}"
    assert any(f"'push.orders' is also used by {place}/dev/data/registry.db" in each for each in warnings(prod))
    assert any(f"'visits' is also used by {place}/prod/data/registry.db" in each for each in warnings(dev))
    left = dev.teardown(purge=True)
    assert [each.split(" was kept")[0] for each in left] == ["topic 'push.orders'"]
    assert both(prod, "spent:spent_ever", 1) == ([10.0], [10.0])
    prod.push("orders", [order(1, 1.0, -10)])
    assert warnings(prod) == []
    assert prod.teardown(purge=True) == []
    assert "push.orders" not in open_store_of(prod).stores.log.topics()


def test_users_of_a_topic_are_read_in_the_form_of_earlier_versions_too(tmp_path: Path) -> None:
    shop, lab = LogUser("shop", "sqlite /data/registry.db"), LogUser("lab", "postgres db/asof")
    log = FileLog(tmp_path, clock=lambda: 0, user=shop)
    log.create("visits")
    users = log.topic("visits").path / "users"
    inode = users.read_text().split()[0]
    users.write_text(
        f"{inode} project 'shop' of the registry sqlite /data/registry.db\n"
        f"{inode} project 'lab' of the registry postgres db/asof\n1 project 'copied' of the registry sqlite x\n"
    )

    assert log.other_users("visits") == [lab]
    assert FileLog(tmp_path, clock=lambda: 0, user=lab).other_users("visits") == [shop]
    log.create("visits")
    assert len(users.read_text().splitlines()) == 3, "a user that is there in the old form is not added again"
    log.leave("visits")
    assert FileLog(tmp_path, clock=lambda: 0, user=LogUser("new", "sqlite y")).other_users("visits") == [lab]
    users.write_text(f"{inode} ???\n")
    with pytest.raises(LogError, match=r"users is damaged at '\?\?\?'") as raised:
        log.other_users("visits")
    assert raised.value.hint == "delete that line of it"


def test_a_copy_of_a_store_shares_nothing_with_the_original(
    folder: Path, tmp_path: Path, open_store: Callable[..., FeatureStore]
) -> None:
    store = open_store(folder)
    store.apply()
    ways_in(store)
    store.close()
    shutil.copytree(folder, tmp_path / "copy")
    copy = open_store(tmp_path / "copy")

    assert warnings(copy) == []
    assert copy.teardown(purge=True) == []
    assert both(open_store(folder), "spent:spent_ever", 1) == ([15.0], [15.0])


def test_a_store_from_before_is_served_and_goes_on_where_it_stands(
    old: Path, open_store: Callable[..., FeatureStore]
) -> None:
    store = open_store(old / "shop", hours=2)
    log = old / "shop" / "data" / "log"

    assert warnings(store) == []
    assert store.plan().is_empty
    # The push of user 3 had not been archived when its process ended.
    assert both(store, "spent:spent_ever", 1, 2, 3, hours=2) == ([15.5, 7.25, 1.5],) * 2
    assert both(store, "seen:visits_ever", 1, 2, hours=2) == ([3, 1],) * 2
    assert store.get_online_features(["profile:city"], [{"user_id": 2}]).to_dict()["city"] == ["Sopot"]
    assert len(store.read_training_set("at_noon")) == 2
    store.push("orders", [order(1, 100.0, 110)])
    open_store_of(store).stores.log.send("visits", [visit(2, 100), b"nor this"], keys=[b"2", b"2"], durable=True)
    store.stream_run(until_caught_up=True)
    replayed = store.replay_dead_letters("visits")
    assert (replayed["sent"], replayed["already"], len(replayed["still_unfit"])) == (0, 1, 2)
    store.rebuild()
    assert both(store, "spent:spent_ever", 1, hours=2) == ([115.5],) * 2
    assert both(store, "seen:visits_ever", 2, hours=2) == ([2],) * 2
    assert sorted(each.name for each in log.iterdir()) == [
        ".lock", "push.orders", "visits", "visits.replay", "visits_dead",
    ]  # fmt: skip
    assert store.teardown(purge=True) == []
    assert sorted(each.name for each in log.iterdir()) == [".lock", "visits", "visits_dead"]


def test_projects_that_shared_a_topic_before_are_warned_and_no_purge_takes_it_from_the_other(
    old: Path, open_store: Callable[..., FeatureStore]
) -> None:
    shop, lab = open_store(old / "two"), open_store(old / "two", "lab")

    assert any("'push.orders' is also used by project 'lab' of this registry" in each for each in warnings(shop))
    before = both(lab, "spent:spent_ever", 1, 2)
    assert [each.split(" was kept")[0] for each in shop.teardown(purge=True)] == ["topic 'push.orders'"]
    lab.push("orders", [order(2, 1.0, -5)])
    assert both(lab, "spent:spent_ever", 1, 2) == (before[0][:1] + [21.0], before[1][:1] + [21.0])
    shop.apply()
    shop.push("orders", [order(1, 3.0, -5)])
    assert both(shop, "spent:spent_ever", 1, 2) == ([3.0, None],) * 2, "begun anew, it has a log of its own"
    assert lab.teardown(purge=True) == []
    assert both(shop, "spent:spent_ever", 1, 2) == ([3.0, None],) * 2


def test_a_new_project_in_the_folder_of_an_old_one_begins_a_log_of_its_own(
    old: Path, open_store: Callable[..., FeatureStore]
) -> None:
    (old / "shop" / "feature_store.new.yaml").write_text("project: new\n")
    shop, new = open_store(old / "shop", hours=2), open_store(old / "shop", "new", hours=2)

    assert any("an old topic 'push.orders' without a project prefix" in each for each in warnings(new))
    new.apply()
    new.push("orders", [order(1, 1.0, 100)])
    new.stream_run(until_caught_up=True)
    assert both(new, "spent:spent_ever", 1, 3, hours=2) == ([1.0, None],) * 2
    assert both(new, "seen:visits_ever", 1, hours=2) == ([0],) * 2
    assert new.replay_dead_letters("visits").to_dict() == {"sent": 0, "already": 0, "still_unfit": {}}
    assert warnings(new) == []
    new.teardown(purge=True)
    assert both(shop, "spent:spent_ever", 1, 3, hours=2) == ([15.5, 1.5],) * 2


def test_events_that_no_registry_knows_are_taken_over_by_moving_their_topic(
    old: Path, open_store: Callable[..., FeatureStore]
) -> None:
    data = old / "shop" / "data"
    (data / "registry.db").unlink()
    shutil.rmtree(data / "archive")
    store = open_store(old / "shop", hours=2)

    assert len([each for each in warnings(store) if "without a project prefix" in each]) == 2
    (data / "log" / "@shop").mkdir()
    for topic in ("visits", "push.orders"):
        (data / "log" / topic).rename(data / "log" / "@shop" / topic)
    assert warnings(store) == []
    store.apply()
    store.stream_run(until_caught_up=True)
    assert both(store, "spent:spent_ever", 1, 2, 3, hours=2) == ([15.5, 7.25, 1.5],) * 2


def test_replayed_letters_of_a_kafka_source_stay_where_its_archive_knows_them(
    tmp_path: Path, open_store: Callable[..., FeatureStore]
) -> None:
    write_repository(tmp_path / "r")
    features = FEATURES.replace("LogSource(", "KafkaSource(").replace("LogSource,", "KafkaSource,")
    (tmp_path / "r" / "features.py").write_text(features)
    store = open_store(tmp_path / "r")
    project, stores = open_store_of(store).definitions(), open_store_of(store).stores
    snapshot = replace(stores.registry.load("shop"), project=project)
    stores.registry.commit(snapshot, expected=0, who="somebody", when=stores.clock(), note="")
    change_facts(stores, lambda facts: facts.with_topic("visits", "an-id-of-kafka", starts={}), note="")
    replay = {"kafka.visits.replay": "an id"}

    assert kept_topics(stores, replay) == set(), "it may be another project's: nothing came through it"
    source, archive = project.sources["visits"], stores.archive_of(project.sources["visits"])
    stores.offline.create(archive, archive_schema(source))
    stores.offline.append(archive, archive_schema(source).empty_table(), {ArchivePartition.of(0, is_replayed=True): 4})
    assert kept_topics(stores, replay) == {"kafka.visits.replay"}


def test_a_named_configuration_is_compared_with_the_others_of_its_folder_and_not_with_itself(tmp_path: Path) -> None:
    text = "project: shop\nregistry: data/registry.db\n"
    (tmp_path / "feature_store.yaml").write_text(text + "log: {type: file, path: data/log}\n")
    (tmp_path / "shop.yaml").write_text(text + "log: {type: file, path: data/log}\n")
    (tmp_path / "shop.dev.yaml").write_text("log: {type: file, path: data/other}\noffline_store: {path: data/dev}\n")

    named = shared_stores(load_config(file=tmp_path / "shop.yaml"), {})
    overlaid = shared_stores(load_config(file=tmp_path / "shop.yaml", env="dev"), {})

    assert named == {"feature_store.yaml": ["log", "offline_store"]}
    assert overlaid == {}
