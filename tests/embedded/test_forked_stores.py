"""A used store in children of a fork: what is open opens again there, or says clearly that it cannot."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from asof.definitions import Snapshot
from asof.errors import AsofError
from asof.online.protocol import NO_ROW, Lookup, OnlineTable, Unchanged
from asof.online.sqlite.file import SqliteFile
from asof.online.sqlite.store import SqliteOnlineStore
from asof.registry.sqlite import SqliteRegistry

LOOKS = [["latest"], [7], [7], 1]
TABLE = OnlineTable("shop", "visits", "g1-1", "state")


def ran(folder: Path, case: str) -> list[dict[str, Any]]:
    """What the processes of a case of `tests.forking` say, in order."""
    (folder / "feature_store.yaml").write_text("project: shop\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.forking", str(folder), case], capture_output=True, text=True, timeout=540
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_child_of_a_fork_lists_serves_trains_and_samples(tmp_path: Path) -> None:
    assert ran(tmp_path, "files") == [{"child": LOOKS}, {"ended": 0}, {"parent": LOOKS}]


def test_children_of_a_pool_of_forked_processes_do_so_too(tmp_path: Path) -> None:
    assert ran(tmp_path, "pool") == [{"child": LOOKS}, {"parent": LOOKS}]


def test_a_lazy_result_of_before_the_fork_is_read_in_the_child(tmp_path: Path) -> None:
    assert ran(tmp_path, "lazy") == [{"child": [7]}, {"ended": 0}, {"parent": [7]}]


def test_archives_that_the_parent_used_are_refused_in_the_child_with_the_way_out(tmp_path: Path) -> None:
    served, _, trained, _, pushed, _, parent = ran(tmp_path, "archives")

    assert (served, parent) == ({"child": [3]}, {"parent": [[8], [8]]})
    for each in (trained, pushed):
        assert "its parent used Delta tables before the fork" in each["child"]
        assert "spawn" in each["child"]


def test_what_a_child_applies_and_writes_stays_when_its_parent_closes_the_store(tmp_path: Path) -> None:
    said = ran(tmp_path, "applies")

    assert said == [{"child": [7]}, {"ended": 0}, {"parent": [["again", "latest"], [7]]}]


def in_child(work: Any) -> int:
    child = os.fork()
    if child == 0:
        code = 9
        try:
            code = work()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def kept_after(path: Path, query: str) -> list[Any]:
    """What another program finds in the file."""
    other = sqlite3.connect(path)
    try:
        return other.execute(query).fetchall()
    finally:
        other.close()


def test_rows_that_a_child_writes_stay_when_its_parent_closes_the_online_store(tmp_path: Path) -> None:
    store = SqliteOnlineStore(tmp_path / "online.db")
    store.prepare(TABLE)
    store.write(TABLE, [b"k"], [b"parent"], condition=Unchanged([NO_ROW]))
    ready, closed = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        code = 9
        try:
            ((row,),) = store.read([Lookup(TABLE, [b"k"])])
            os.write(ready[1], b"x")
            os.read(closed[0], 1)
            code = 0 if store.write(TABLE, [b"k"], [b"child"], condition=Unchanged([row[1]])) == [True] else 8
        finally:
            os._exit(code)
    os.read(ready[0], 1)
    store.close()
    os.write(closed[1], b"x")

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    ((row,),) = SqliteOnlineStore(tmp_path / "online.db").read([Lookup(TABLE, [b"k"])])
    assert row[0] == b"child"


def test_a_fork_waits_for_other_threads_that_use_the_online_store(tmp_path: Path) -> None:
    store = SqliteOnlineStore(tmp_path / "online.db")
    store.prepare(TABLE)
    used = SqliteFile(tmp_path / "online.db", busy_timeout_s=30)
    started, forking = threading.Event(), threading.Event()
    os.register_at_fork(before=forking.set)

    def look(db: sqlite3.Connection) -> None:
        started.set()
        forking.wait()

    thread = threading.Thread(target=lambda: used.look(look))
    thread.start()
    started.wait()

    def write() -> int:
        return 0 if used.look(lambda db: db.execute("SELECT count(*) FROM tables").fetchone()) == (1,) else 8

    assert in_child(write) == 0
    thread.join()
    assert store.tables("shop") == [TABLE]


class SlowSnapshot(Snapshot):
    """Is committed for as long as the test wants."""

    started, done = threading.Event(), threading.Event()

    def encode(self) -> str:
        self.started.set()
        self.done.wait()
        return super().encode()


@pytest.mark.parametrize("part", ["online", "registry"])
def test_a_child_forked_in_the_middle_of_another_thread_s_use_says_so(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asof.online.sqlite.file.FORK_WAIT_S", 0.0)
    monkeypatch.setattr("asof.registry.sqlite.file.FORK_WAIT_S", 0.0)
    file, registry = SqliteFile(tmp_path / "online.db", busy_timeout_s=30), SqliteRegistry(tmp_path / "registry.db")
    registry.commit(registry.load("shop"), expected=0, who="me", when=0)
    started, done = threading.Event(), threading.Event()
    monkeypatch.setattr(SlowSnapshot, "started", started)
    monkeypatch.setattr(SlowSnapshot, "done", done)

    def use() -> None:
        if part == "online":
            file.look(lambda db: (started.set(), done.wait()))
        else:
            registry.commit(SlowSnapshot(1, "shop", registry.load("shop").project), expected=1, who="me", when=0)

    thread = threading.Thread(target=use)
    thread.start()
    started.wait()

    def read() -> int:
        try:
            file.look(lambda db: None) if part == "online" else registry.load("shop")
        except AsofError as error:
            return 0 if "forked while another thread" in str(error) and "spawn" in str(error) else 8
        return 7

    assert in_child(read) == 0
    done.set()
    thread.join()
    assert file.look(lambda db: "fine") == "fine"
    assert registry.version("shop") == (1 if part == "online" else 2)


def test_a_child_never_frees_what_was_garbage_of_its_parent() -> None:
    freed: list[int] = []

    class Freed:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            freed.append(os.getpid())

    gc.collect()
    gc.disable()
    try:
        Freed()
        code = in_child(lambda: gc.collect() * 0 + len(freed))
    finally:
        gc.enable()
    gc.collect()
    assert (code, freed) == (0, [os.getpid()])
