"""A store for who may only read its files and folders: reads work, writes say what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from asof import Entity
from asof.errors import AsofError
from asof.online.protocol import Lookup, Newest, OnlineTable, pack_version
from asof.online.sqlite.file import SqliteFile
from asof.online.sqlite.store import SqliteOnlineStore
from asof.registry.sqlite import SqliteRegistry
from asof.testing.registry_records import records_of
from tests.forking import FeatureStore, applied, history, listed, noon, online, push

TABLE = OnlineTable("shop", "trips", "g1-1", "latest")

DEFINITIONS = """
from datetime import timedelta
from asof import Aggregation, Entity, FeatureView, Field, FileSource, PushSource, Sliding
from asof.types import Int64, Timestamp
user = Entity("user", join_keys=["user_id"])
sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
latest = FeatureView("latest", entities=[user], source=sales, schema=[Field("price", Int64)])
columns = [Field("user_id", Int64), Field("n", Int64), Field("at", Timestamp)]
clicks = PushSource(name="clicks", schema=columns, timestamp_field="at")
total = Aggregation(column="n", function="sum", window=Sliding(timedelta(hours=1)), name="total")
clicked = FeatureView("clicked", entities=[user], source=clicks, aggregations=[total])
"""

READS: dict[str, Callable[[FeatureStore], Any]] = {
    "list": listed,
    "online": lambda store: [online(store), online(store, "clicked:total")],
    "historical": lambda store: [history(store), history(store, "clicked:total")],
    "sample": lambda store: [store.sample(view).to_arrow().num_rows for view in ("latest", "clicked")],
    "plan": lambda store: store.plan().is_empty,
    "explain": lambda store: "is 7" in str(store.explain("latest:price", {"user_id": 1})),
    "status": lambda store: len(store.stream_status()),
    "dead letters": lambda store: len(store.dead_letters()),
    "doctor": lambda store: all(each.ok for each in store.doctor()),
}
FOUND = {
    "list": ["clicked", "latest"], "online": [[7], [3]], "historical": [[7], [3]], "sample": [1, 1], "plan": True,
    "explain": True, "status": 1, "dead letters": 0, "doctor": True,
}  # fmt: skip
WRITES: dict[str, Callable[[FeatureStore], Any]] = {
    "push": lambda store: push(store, 4),
    "materialize": lambda store: store.materialize(),
    "apply": lambda store: store.apply([store.get_feature_view("latest"), Entity("shop", join_keys=["shop_id"])]),
}


BOUND = """
import ctypes, os, sys
for capability in (1, 2):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "tests.embedded.test_read_only_stores", *sys.argv[1:]])
"""
"""Lets permissions bind root, too: drops CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH. Without effect for a user."""


def read_by_another(folder: Path) -> dict[str, Any]:
    # Without a function to run in the child: that would be a fork, before which the stores close their files.
    done = subprocess.run(
        [sys.executable, "-c", BOUND, str(folder)], capture_output=True, text=True, timeout=540
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def main(folder: str) -> None:
    store = FeatureStore(folder, clock=noon)
    said: dict[str, Any] = {}
    for name, work in {**READS, **WRITES}.items():
        try:
            said[name] = work(store)
        except AsofError as error:
            said[name] = f"{type(error).__name__}: {error}"
    print(json.dumps(said))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    (tmp_path / "features.py").write_text(DEFINITIONS)
    made = applied(tmp_path, reads_files=True, takes_pushes=True)
    history(made, "clicked:total")
    yield made
    for each in [tmp_path, *tmp_path.rglob("*")]:
        os.chmod(each, 0o755 if each.is_dir() else 0o644)
    made.close()


def take_rights(folder: Path, *, folders: bool = True) -> None:
    for each in [*folder.rglob("*"), folder]:
        if each.is_file() or folders:
            os.chmod(each, each.stat().st_mode & ~0o222)


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open elsewhere"])
@pytest.mark.parametrize("folders", [False, True], ids=["files", "files and folders"])
def test_list_online_historical_sample_and_plan_work_for_who_may_only_read(
    folders: bool, is_open: bool, store: FeatureStore, tmp_path: Path
) -> None:
    if not is_open:
        store.close()
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    take_rights(tmp_path, folders=folders)

    said = read_by_another(tmp_path)

    assert {name: said[name] for name in FOUND} == FOUND
    for name in WRITES:
        assert "permission" in said[name].lower() or "cannot be written" in said[name], said[name]
        assert "next:" in said[name]
    assert sorted(str(each) for each in tmp_path.rglob("*") if "__pycache__" not in str(each)) == before


@pytest.fixture
def reading_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Take this process's right to write, for files that are opened from then on."""
    return lambda: monkeypatch.setattr("asof.connections.sqlite.may_write", lambda path: False)


def write(store: SqliteOnlineStore, moment: int) -> None:
    store.write(TABLE, [b"k"], [b"%d" % moment], condition=Newest([pack_version(moment)]))


def value(store: SqliteOnlineStore) -> bytes:
    ((row,),) = store.read([Lookup(TABLE, [b"k"])])
    assert row is not None
    return row[0]


def test_an_online_reader_sees_what_others_write_meanwhile(tmp_path: Path, reading_only: Callable[[], None]) -> None:
    writer = SqliteOnlineStore(tmp_path / "online.db")
    writer.prepare(TABLE)
    write(writer, 1)
    writer.close()
    reader = SqliteOnlineStore(tmp_path / "online.db")
    found = []
    for moment in (2, 3):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("asof.connections.sqlite.may_write", lambda path: False)
            found.append(value(reader))
        writer = SqliteOnlineStore(tmp_path / "online.db")
        write(writer, moment)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("asof.connections.sqlite.may_write", lambda path: False)
            found.append(value(reader))
        writer.close()
    reading_only()
    found.append(value(reader))

    assert found == [b"1", b"2", b"2", b"3", b"3"]


def test_an_online_read_in_the_middle_of_which_the_file_is_written_is_done_again(
    tmp_path: Path, reading_only: Callable[[], None]
) -> None:
    path = tmp_path / "online.db"
    writer = SqliteOnlineStore(path)
    writer.prepare(TABLE)
    writer.close()
    reading_only()
    reader = SqliteFile(path, busy_timeout_s=30)
    seen: list[bool] = []

    def look(db: Any) -> int:
        seen.append(db.stamp is not None)
        if len(seen) == 1:
            os.utime(path, ns=(1, 1))  # as a write of another process does
        return len(seen)

    assert reader.look(look) == 2
    assert seen == [True, True]


def test_a_registry_reader_sees_what_others_apply_meanwhile(tmp_path: Path, reading_only: Callable[[], None]) -> None:
    path = tmp_path / "registry.db"
    reader = SqliteRegistry(path)
    found = []
    for version in range(3):
        writer = SqliteRegistry(path)
        writer.commit(writer.load("shop"), expected=version, who="me", when=0)
        writer.close()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("asof.connections.sqlite.may_write", lambda path: False)
            found.append((reader.version("shop"), reader.load("shop").version))

    assert found == [(1, 1), (2, 2), (3, 3)]
    reading_only()
    with pytest.raises(AsofError, match="cannot be written"):
        reader.commit(reader.load("shop"), expected=3, who="me", when=0)
    with pytest.raises(AsofError, match="cannot be written"):
        reader.append_records("shop", records_of("a"))
    assert SqliteRegistry(path).version("shop") == 3
    assert reader.records("shop", "run") == []


if __name__ == "__main__":
    main(sys.argv[1])
