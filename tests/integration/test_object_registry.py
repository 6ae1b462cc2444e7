"""The registry in a bucket: processes that commit at once, how many requests it takes, faults, damage, and what plan refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.definitions import Snapshot, project_of
from asof.definitions.facts import Facts
from asof.errors import CheckFailed, RegistryError
from asof.registry.object import ObjectRegistry
from asof.testing.registry import shop
from asof.testing.registry_records import NOON, TODAY
from tests.integration.test_stores_in_a_bucket import FEATURES, repository
from tests.services import S3, S3Proxy

pytestmark = pytest.mark.integration

WRITER = """
import json, sys
from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.errors import RegistryConflict
from asof.registry.object import ObjectRegistry
from asof.testing.registry import shop

settings, address, name, rounds = json.loads(sys.argv[1])
registry = ObjectRegistry(address, storage=ObjectStorage(StorageSettings(**settings)))
wins = 0
while wins < rounds:
    snapshot = registry.load("shop")
    facts = snapshot.facts.with_gap("traffic", f"{name} {wins}")
    try:
        registry.commit(shop().with_facts(facts), expected=snapshot.version, who=name, when=1_600_000_000_000_000)
    except RegistryConflict:
        continue
    wins += 1
"""


def at(proxy: S3Proxy, bucket: str, **settings: object) -> ObjectRegistry:
    storage = ObjectStorage(StorageSettings(**{**proxy.storage, **settings}))
    return ObjectRegistry(f"{bucket}/registry", storage=storage)


def test_processes_that_commit_at_once_lose_no_update(s3: S3, bucket: str) -> None:
    def arguments(name: str) -> list[str]:
        return [sys.executable, "-c", WRITER, json.dumps([s3.storage, f"{bucket}/registry", name, 6])]

    writers = [subprocess.Popen(arguments(name), stderr=subprocess.PIPE, text=True) for name in ("ana", "bo")]
    for each in writers:
        assert each.wait(120) == 0, each.stderr.read() if each.stderr else ""
        each.stderr.close() if each.stderr else None

    registry = ObjectRegistry(f"{bucket}/registry", storage=ObjectStorage(StorageSettings(**s3.storage)))
    snapshot = registry.load("shop")
    assert (snapshot.version, len(snapshot.facts.gaps["traffic"])) == (12, 12)
    assert sorted(each.who for each in registry.history("shop")) == ["ana"] * 6 + ["bo"] * 6


def test_a_check_of_the_version_is_one_request_whatever_the_number_of_versions(s3_proxy: S3Proxy, bucket: str) -> None:
    registry, reader = at(s3_proxy, bucket), at(s3_proxy, bucket)
    for version in range(3):
        registry.commit(shop(count=version), expected=version, who="ana", when=NOON)
    few = checked(reader, s3_proxy, 3)
    for version in range(3, 40):
        registry.commit(shop(count=version), expected=version, who="ana", when=NOON)
    many = checked(reader, s3_proxy, 40)

    assert few == many == 1


def checked(reader: ObjectRegistry, proxy: S3Proxy, version: int) -> int:
    """The number of requests of a check, which finds this version; also where nothing has changed."""
    for _ in range(2):
        with proxy.counted() as requests:
            assert reader.version("shop") == version
    return len(requests)


def test_a_change_of_facts_writes_no_definitions(s3_proxy: S3Proxy, bucket: str) -> None:
    registry = at(s3_proxy, bucket)
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    with s3_proxy.counted() as requests:
        registry.commit(shop(count=1), expected=1, who="ana", when=NOON)
        registry.append_records("shop", [])
        registry.add_counts("shop", "served", TODAY, {"view:a": 1})

    written = [path.partition("?")[0].split("/")[3] for method, path in requests if method == "PUT"]
    assert written == ["versions", "counts"]
    assert registry.load("shop").facts == Facts(others={"count": 1})
    assert at(s3_proxy, bucket).load("shop").project.content() == shop().project.content()


@pytest.mark.parametrize("fault", ["refuse", "drop"])
def test_a_commit_and_a_count_whose_responses_are_lost_are_made_once(
    fault: str, s3_proxy: S3Proxy, bucket: str
) -> None:
    registry = at(s3_proxy, bucket)
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.add_counts("shop", "served", TODAY, {"view:a": 1})
    s3_proxy.only = "PUT"
    for version in range(1, 4):
        setattr(s3_proxy, fault, 1)
        assert registry.commit(shop(count=version), expected=version, who="ana", when=NOON).version == version + 1
        setattr(s3_proxy, fault, 1)
        registry.add_counts("shop", "served", TODAY, {"view:a": 1})

    assert registry.counts("shop", "served") == {TODAY: {"view:a": 4}}
    assert [each.version for each in registry.history("shop")] == [4, 3, 2, 1]


def test_a_store_that_is_busy_is_an_error_of_the_registry_that_may_pass(s3_proxy: S3Proxy, bucket: str) -> None:
    registry = at(s3_proxy, bucket, retries=0)
    s3_proxy.refuse = 100

    with pytest.raises(RegistryError, match="registry s3://.*asks to slow down") as caught:
        registry.version("shop")
    assert caught.value.may_pass


def test_a_damaged_version_is_named_with_the_last_good_one_and_can_be_replaced(s3: S3, bucket: str) -> None:
    storage = ObjectStorage(StorageSettings(**s3.storage))
    registry = ObjectRegistry(f"{bucket}/registry", storage=storage)
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.commit(Snapshot(1, "shop", project_of([])), expected=1, who="bo", when=NOON)
    newest = max(each.address for each in storage.objects_below(f"{bucket}/registry/versions"))
    storage.write(newest, (storage.read(newest) or b"")[:-1] + b" ")

    with pytest.raises(RegistryError, match="version 2 of project 'shop' is damaged: its checksum") as caught:
        registry.load("shop")
    assert "the last good version is version 1 by ana" in caught.value.hint
    assert registry.load_version("shop", 1).version == 1
    assert [each.version for each in registry.history("shop")] == [2, 1]
    registry.commit(shop(), expected=2, who="cy", when=NOON)
    assert registry.load("shop").version == 3


def test_a_store_needs_nothing_of_this_machine_but_a_log_that_it_says_is_its_own(
    tmp_path: Path, s3: S3, bucket: str
) -> None:
    sections = {
        "storage": s3.storage, "offline_store": {"path": f"{bucket}/archives"},
        "registry": {"registry_type": "object", "path": f"{bucket}/registry"},
    }  # fmt: skip
    with pytest.raises(CheckFailed, match="a registry in a bucket"):
        repository(tmp_path / "refused", FEATURES, **sections)

    first = repository(tmp_path / "first", FEATURES, **sections, log={"local": True})
    second = repository(tmp_path / "second", FEATURES, **sections, log={"local": True})
    assert second.plan().is_empty and first.history()[0].version == second.history()[0].version
