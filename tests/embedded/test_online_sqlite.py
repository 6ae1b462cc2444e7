"""The SQLite online store: what only a file can do."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asof.errors import StorageError
from asof.online.protocol import NO_ROW, Lookup, Newest, OnlineTable, Unchanged, pack_version
from asof.online.sqlite.file import SqliteConnection
from asof.online.sqlite.store import SqliteOnlineStore
from tests.sqlite_faults import fill_disk

TRIPS = OnlineTable("prod", "trips", "1-1", "latest")
STATE = OnlineTable("prod", "traffic", "1-1", "state")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "online.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteOnlineStore]:
    store = SqliteOnlineStore(path, busy_timeout_s=0.05)
    store.prepare(TRIPS)
    store.prepare(STATE)
    yield store
    store.close()


def test_making_a_store_touches_no_file(path: Path) -> None:
    SqliteOnlineStore(path).close()
    assert not path.exists()


def test_a_file_of_a_newer_format_is_refused(store: SqliteOnlineStore, path: Path) -> None:
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 2")
    db.close()

    with pytest.raises(StorageError, match=r"format 2.*online_store\.path"):
        SqliteOnlineStore(path).ping()


def test_somebody_elses_sqlite_file_is_refused_and_left_as_it_was(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE feast (x)")
    db.close()
    before = path.read_bytes()

    with pytest.raises(StorageError, match="not an Asof online store"):
        SqliteOnlineStore(path).prepare(TRIPS)
    assert path.read_bytes() == before


def test_a_file_that_another_process_creates_meanwhile_is_no_foreign_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overtaken(SqliteConnection):
        """The other process creates the whole file after this connection's first look at it."""

        overtaken = False

        def execute(self, statement: str, *arguments: Any) -> Any:
            found = super().execute(statement, *arguments)
            if Overtaken.overtaken:
                return found
            Overtaken.overtaken = True
            rows = found.fetchall()
            other = SqliteOnlineStore(path)
            other.prepare(TRIPS)
            other.close()
            return SimpleNamespace(fetchone=lambda: rows[0])

    monkeypatch.setattr("asof.online.sqlite.file.SqliteConnection", Overtaken)
    store = SqliteOnlineStore(path)
    try:
        store.prepare(STATE)
        assert Overtaken.overtaken and store.tables("prod") == [STATE, TRIPS]
    finally:
        store.close()


def test_a_file_that_is_no_database_is_called_damaged(path: Path) -> None:
    path.write_bytes(b"not a database " * 1000)

    with pytest.raises(StorageError, match="damaged") as caught:
        SqliteOnlineStore(path).read([Lookup(TRIPS, [b"k"])])
    assert str(path) in str(caught.value) and "online_store.path" in str(caught.value)
    assert isinstance(caught.value.__cause__, sqlite3.Error)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StorageError, match=r"online_store\.path"):
        SqliteOnlineStore(tmp_path / "file" / "online.db").ping()


def test_a_path_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        SqliteOnlineStore(tmp_path).ping()


def test_a_write_waits_only_so_long_for_another_process_and_reads_do_not_wait(
    store: SqliteOnlineStore, path: Path
) -> None:
    store.write(TRIPS, [b"k"], [b"x"], condition=Newest([pack_version(1)]))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(StorageError, match=r"locked by another process for more than 0\.05 s"):
        store.write(TRIPS, [b"k"], [b"y"], condition=Newest([pack_version(2)]))
    assert store.read([Lookup(TRIPS, [b"k"])]) == [[(b"x", pack_version(1))]]

    other.execute("ROLLBACK")
    other.close()
    assert store.write(TRIPS, [b"k"], [b"y"], condition=Newest([pack_version(2)])) == [True]


def test_a_full_disk_is_named_and_the_store_goes_on(
    store: SqliteOnlineStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.close()
    fill_disk(monkeypatch, path)
    store = SqliteOnlineStore(path)

    with pytest.raises(StorageError, match="disk is full"):
        store.write(TRIPS, [b"a", b"b"], [b"x" * 200_000] * 2, condition=Newest([pack_version(1)] * 2))
    assert store.read([Lookup(TRIPS, [b"a", b"b"])]) == [[None, None]]
    assert store.write(TRIPS, [b"a"], [b"x"], condition=Newest([pack_version(1)])) == [True]


def test_a_closed_store_says_so(store: SqliteOnlineStore) -> None:
    store.close()
    with pytest.raises(StorageError, match="closed"):
        store.ping()


def test_an_interrupted_write_leaves_no_lock(store: SqliteOnlineStore, path: Path) -> None:
    class Interrupting(bytes):
        def __hash__(self) -> int:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(TRIPS, [Interrupting(b"k")], [b"x"], condition=Newest([pack_version(1)]))

    other = SqliteOnlineStore(path, busy_timeout_s=0)
    assert other.write(TRIPS, [b"k"], [b"x"], condition=Newest([pack_version(1)])) == [True]
    other.close()


def test_threads_that_end_leave_no_connections_behind(
    store: SqliteOnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **o: opened.append(a) or connect(*a, **o))
    for _ in range(20):
        thread = threading.Thread(target=lambda: store.read([Lookup(TRIPS, [b"k"])]))
        thread.start()
        thread.join()

    assert opened == [], "the one that there is serves all of them"


def test_a_forked_child_and_its_parent_go_on_with_one_store(store: SqliteOnlineStore) -> None:
    store.write(STATE, [b"k"], [b"parent"], condition=Unchanged([NO_ROW]))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ((row,),) = store.read([Lookup(STATE, [b"k"])])
            kept = store.write(STATE, [b"k"], [b"child"], condition=Unchanged([row[1]]))
            store.close()
            code = 0 if kept == [True] else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    ((row,),) = store.read([Lookup(STATE, [b"k"])])
    assert row[0] == b"child"
    assert store.write(STATE, [b"k"], [b"parent again"], condition=Unchanged([row[1]])) == [True]


def test_a_read_of_many_keys_in_many_tables_sees_one_moment(store: SqliteOnlineStore, path: Path) -> None:
    keys = [b"%d" % i for i in range(2000)]
    store.write(TRIPS, keys, [b"1"] * 2000, condition=Newest([pack_version(1)] * 2000))
    second = TRIPS._replace(generation="1-2")
    store.prepare(second)
    store.write(second, keys, [b"1"] * 2000, condition=Newest([pack_version(1)] * 2000))
    done = threading.Event()
    writer = SqliteOnlineStore(path)

    def write() -> None:
        try:
            for moment in range(2, 12):
                for table in (TRIPS, second):  # the first is never behind the second
                    writer.write(table, keys, [b"%d" % moment] * 2000, condition=Newest([pack_version(moment)] * 2000))
        finally:
            done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        ahead, behind = store.read([Lookup(TRIPS, keys), Lookup(second, keys)])
        moments = {row[0] for row in ahead}, {row[0] for row in behind}
        assert len(moments[0]) == len(moments[1]) == 1
        assert 0 <= int(moments[0].pop()) - int(moments[1].pop()) <= 1
    thread.join()
    writer.close()
