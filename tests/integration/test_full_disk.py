"""A full disk under each part of the store: it is said, nothing is lost, and with room again all goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.errors import RegistryError, StorageError

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).parents[2] / "src"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
AT = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)
PARTS = {
    "log": "log:\n  path: {disk}/log\n",
    "online": "online_store:\n  path: {disk}/online.db\n",
    "archive": "offline_store:\n  path: {disk}/archive\n",
    "registry": "registry: {disk}/registry.db\n",
}
FEATURES = """
from datetime import timedelta
from asof import *
from asof.types import *
user = Entity(name="user", join_keys=["user_id"])
users = FileSource(name="users", path="users.parquet", timestamp_field="at", lag="1d")
people = FeatureView(name="people", entities=[user], source=users, schema=[Field("age", Int64)])
clicks = PushSource(
    name="clicks", timestamp_field="at", schema=[Field("user_id", Int64), Field("page", String), Field("at", Timestamp)],
)
clicked = FeatureView(
    name="clicked", entities=[user], source=clicks,
    aggregations=[Aggregation(function="count", window=Sliding(timedelta(hours=1)), name="n_1h")],
)
"""
READ = ["clicked:n_1h", "people:age"]


class Disk:
    """A file system of a few megabytes, and a file that fills it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        with open(self.path / "ballast", "wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"x" * 4096)
            except OSError:
                pass

    def clear(self) -> None:
        (self.path / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be had: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def repository(folder: Path, disk: Disk, part: str = "") -> Path:
    folder.mkdir()
    more = PARTS[part].format(disk=disk.path) if part else ""
    (folder / "feature_store.yaml").write_text(f"project: shop\nclock: 2026-01-02T00:00:00Z\n{more}")
    (folder / "features.py").write_text(FEATURES)
    pq.write_table(pa.table({"user_id": [1, 2], "age": [30, 40], "at": pa.array([AT, AT])}), folder / "users.parquet")
    return folder


def rows(count: int) -> list[dict[str, Any]]:
    return [{"user_id": 1, "page": "a" * 3000, "at": AT}] * count


def refused(call: Callable[[], object], *words: str) -> None:
    with pytest.raises((StorageError, RegistryError)) as caught:
        call()
    message = str(caught.value)
    assert caught.value.exit_code == 8 and "next: " in message and "Traceback" not in message
    assert [word for word in words if word not in message] == [], message


def answers(store: FeatureStore) -> tuple[list[Any], list[Any]]:
    """What history says of user 1 at noon, and what is served."""
    frame = {"user_id": [1], "event_timestamp": [NOW]}
    trained = store.get_historical_features(frame, READ).to_arrow()
    served = store.get_online_features(READ, [{"user_id": 1}]).to_dict()
    return [trained[name][0].as_py() for name in ("n_1h", "age")], [served[name][0] for name in ("n_1h", "age")]


@pytest.mark.parametrize("part", PARTS)
def test_a_full_disk_is_said_and_with_room_again_both_sides_agree(part: str, disk: Disk, tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", disk, part)
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
        store.push("clicks", rows(1))
        assert answers(store) == ([1, 30], [1, 30])
    store = FeatureStore(folder)
    store.push("clicks", rows(1))
    assert answers(store) == ([2, 30], [2, 30])
    kept = 2
    disk.fill()
    if part == "log":
        refused(
            lambda: store.push("clicks", rows(20)),
            str(disk.path),
            "no space left",
            "nothing was written",
            "send again",
        )
    elif part == "online":
        refused(
            lambda: store.push("clicks", rows(20)),
            "are durable in its log",
            "the disk is full",
            "do not push them again",
        )
        refused(lambda: store.materialize(full=True), str(disk.path), "the disk is full", "free disk space")
        kept += 20
    elif part == "archive":
        store.push("clicks", rows(20))
        refused(lambda: answers(store), "archive 'clicks'", str(disk.path), "the disk is full", "nothing was lost")
        kept += 20
    else:
        refused(store.materialize, "registry", str(disk.path), "the disk is full; nothing was written")
        refused(
            lambda: store.get_historical_features({"user_id": [1], "event_timestamp": [NOW]}, READ).save("set"),
            "the disk is full",
        )
    assert store.get_online_features(["people:age"], [{"user_id": 1}]).to_dict()["age"] == [30], "serving goes on"
    disk.clear()
    store.push("clicks", rows(1))
    assert answers(store) == ([kept + 1, 30], [kept + 1, 30])
    store.close()


@pytest.mark.parametrize("part, words", [("online", "free space"), ("registry", "the disk is full, or it fails")])
def test_a_store_that_opens_on_a_full_disk_says_so(part: str, words: str, disk: Disk, tmp_path: Path) -> None:
    folder = repository(tmp_path / "repo", disk, part)
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
    disk.fill()
    with FeatureStore(folder) as store:
        refused(lambda: store.get_online_features(["people:age"], [{"user_id": 1}]), str(disk.path), words)
        disk.clear()
        assert store.get_online_features(["people:age"], [{"user_id": 1}]).to_dict()["age"] == [30]


def test_a_training_set_that_does_not_fit_leaves_no_part_of_itself(disk: Disk, tmp_path: Path) -> None:
    with FeatureStore(repository(tmp_path / "repo", disk)) as store:
        store.apply()
        count = 300_000
        result = store.get_historical_features({"user_id": list(range(count)), "event_timestamp": [NOW] * count}, READ)
        for name in ("set.parquet", "set.csv"):
            disk.fill()
            refused(lambda: result.write(disk.path / name), name, "No space left on device")  # noqa: B023
            assert sorted(os.listdir(disk.path)) == ["ballast"]
            disk.clear()


def test_the_demo_says_that_the_disk_is_full(disk: Disk) -> None:
    disk.fill()
    run = subprocess.run(
        [sys.executable, "-m", "asof", "demo", "--users", "100", "--ticks", "2000", "--output", str(disk.path / "demo")],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(SOURCE)}, timeout=60,
    )  # fmt: skip
    assert run.returncode == 8, run.stderr
    assert "Traceback" not in run.stderr and "No space left" in run.stderr and "next: " in run.stderr
