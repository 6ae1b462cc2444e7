"""The online store on a real PostgreSQL: writers that meet, restarts, and a fail-over."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import threading
import uuid

import psycopg
import pytest

from asof.errors import StorageError
from asof.online.postgres.store import PostgresOnlineStore
from asof.online.protocol import NO_ROW, Lookup, Newest, OnlineTable, StoreReplaced, Unchanged, pack_version
from tests.services import Postgres

pytestmark = pytest.mark.integration

TRIPS = OnlineTable("prod", "trips", "1-1", "latest")
STATE = OnlineTable("prod", "traffic", "1-1", "state")


@pytest.fixture(scope="module")
def database_url(postgres):
    """One database for all tests of this module; each has a schema of its own."""
    name = f"online_{uuid.uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def open_store(database_url):
    opened, schema = [], f"Test {uuid.uuid4().hex[:12]}"

    def open_one(**options):
        opened.append(PostgresOnlineStore(database_url, schema=schema, **options))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def test_behind_shared_sessions_all_verbs_work(open_store):
    store, other = open_store(pgbouncer=True), open_store(pgbouncer=True)
    assert store.read([Lookup(TRIPS, [b"k"])]) == [[None]]
    assert (store.tables("prod"), store.progress(TRIPS), store.scan(TRIPS)) == ([], {}, [])
    store.drop(TRIPS)
    for table in (TRIPS, STATE):
        store.prepare(table)

    assert store.write(TRIPS, [b"k", b"k"], [b"x", b"y"], condition=Newest([pack_version(1)] * 2)) == [True, True]
    within = store.incarnation()
    assert store.write(STATE, [b"k"], [b"x"], condition=Unchanged([NO_ROW], within)) == [True]
    store.write_progress(STATE, {"0": 7}, within=within)

    assert other.read([Lookup(TRIPS, [b"k"])]) == [[(b"y", pack_version(1))]]
    assert (other.progress(STATE), len(other.scan(STATE)), other.delete(STATE, [b"k"])) == ({"0": 7}, 1, 1)
    other.drop(TRIPS)
    assert store.read([Lookup(TRIPS, [b"k"])]) == [[None]]
    with pytest.raises(StorageError, match="was dropped"):
        store.write(TRIPS, [b"k"], [b"x"], condition=Newest([pack_version(1)]))
    assert "version" in store.ping()


def test_all_lookups_of_a_request_are_one_statement(open_store, monkeypatch):
    store = open_store()
    tables = [OnlineTable("prod", f"view_{place}", "1-1", "latest") for place in range(3)]
    for table in tables:
        store.prepare(table)
        store.write(table, [b"k"], [table.view.encode()], condition=Newest([pack_version(1)]))
    store.read([Lookup(table, [b"k"]) for table in tables])
    sent = []
    execute = psycopg.Cursor.execute
    monkeypatch.setattr(psycopg.Cursor, "execute", lambda self, *a, **o: sent.append(a[0]) or execute(self, *a, **o))

    answers = store.read([Lookup(table, [b"k", b"?"]) for table in tables])

    assert [[row[0] if row else None for row in rows] for rows in answers] == [
        [b"view_0", None], [b"view_1", None], [b"view_2", None],
    ]  # fmt: skip
    assert len(sent) == 1


def test_writers_of_the_same_rows_in_different_orders_never_wait_for_each_other_for_ever(open_store):
    keys = [b"k%03d" % number for number in range(300)]
    stores = [open_store() for _ in range(4)]
    stores[0].prepare(STATE)
    stores[0].prepare(TRIPS)
    stores[0].write(STATE, keys, [b""] * 300, condition=Unchanged([NO_ROW] * 300))
    failures = []

    def work(number):
        mixed, rng = list(keys), random.Random(number)
        try:
            for moment in range(15):
                rng.shuffle(mixed)
                stores[number].write(TRIPS, mixed, [b"x"] * 300, condition=Newest([pack_version(moment)] * 300))
                (rows,) = stores[number].read([Lookup(STATE, mixed)])
                stores[number].write(STATE, mixed, [b"y"] * 300, condition=Unchanged([row[1] for row in rows]))
                stores[number].delete(TRIPS, mixed[:100])
                stores[number].delete_expired("prod", moment)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_a_forked_child_opens_connections_of_its_own(open_store):
    store = open_store()
    store.prepare(TRIPS)
    store.write(TRIPS, [b"k"], [b"parent"], condition=Newest([pack_version(1)]))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    child = context.Process(target=lambda: answers.put(store.read([Lookup(TRIPS, [b"k"])])))
    child.start()
    found = answers.get(timeout=30)
    child.join()

    assert found == [[(b"parent", pack_version(1))]]
    assert store.read([Lookup(TRIPS, [b"k"])]) == found


def test_what_was_written_outlives_a_kill_and_the_store_heals(private_service):
    server = private_service(Postgres, fsync=True)
    store = PostgresOnlineStore(server.create_database("online"), connect_timeout_s=2)
    store.prepare(TRIPS)
    store.write(TRIPS, [b"k"], [b"x"], condition=Newest([pack_version(1)]))
    before = store.incarnation()

    server.kill()
    with pytest.raises(StorageError) as caught:
        store.read([Lookup(TRIPS, [b"k"])])
    assert "PostgreSQL at 127.0.0.1" in caught.value.message
    server.start()

    assert store.read([Lookup(TRIPS, [b"k"])]) == [[(b"x", pack_version(1))]]
    assert store.incarnation() == before
    assert store.warnings() == ["full_page_writes is off: a crash of the machine may damage rows"] or (
        store.warnings() == []
    )
    store.close()


def test_a_restart_between_two_requests_is_not_noticed(private_service):
    server = private_service(Postgres, fsync=True)
    store = PostgresOnlineStore(server.create_database("online"))
    store.prepare(TRIPS)
    store.write(TRIPS, [b"k"], [b"x"], condition=Newest([pack_version(1)]))

    server.restart()

    assert store.read([Lookup(TRIPS, [b"k"])]) == [[(b"x", pack_version(1))]]
    store.close()


def test_after_a_standby_took_over_the_store_is_another_one(private_service):
    primary = private_service(Postgres, fsync=True)
    url = primary.create_database("online")
    store = PostgresOnlineStore(url)
    store.prepare(STATE)
    before = store.incarnation()
    store.write_progress(STATE, {"0": 7}, within=before)
    standby = private_service(Postgres, **primary.standby_options)
    standby_store = PostgresOnlineStore(standby.url("online"))
    with pytest.raises(StorageError) as caught:
        standby_store.write(STATE, [b"k"], [b"x"], condition=Unchanged([NO_ROW]))
    assert "is read-only" in caught.value.message
    assert "give the primary's host in online_store" in caught.value.hint

    primary.kill()
    standby.execute("SELECT pg_promote()")

    assert standby_store.incarnation() != before
    with pytest.raises(StoreReplaced):
        standby_store.write(STATE, [b"k"], [b"x"], condition=Unchanged([NO_ROW], before))
    with pytest.raises(StoreReplaced):
        standby_store.write_progress(STATE, {"0": 8}, within=before)
    assert standby_store.progress(STATE) == {"0": 7}
    assert standby_store.read([Lookup(STATE, [b"k"])]) == [[None]]
    for each in (store, standby_store):
        each.close()


def test_a_server_that_stands_still_is_given_up(private_service):
    server = private_service(Postgres)
    store = PostgresOnlineStore(server.create_database("online"), statement_timeout_s=0.5, connect_timeout_s=2)
    store.prepare(TRIPS)
    store.read([Lookup(TRIPS, [b"k"])])

    server.pause()
    try:
        with pytest.raises(StorageError) as caught:
            store.read([Lookup(TRIPS, [b"k"])])
    finally:
        server.resume()

    assert "no response for 2.5 s" in caught.value.message
    assert "raise statement_timeout_s of online_store" in caught.value.hint
    assert store.read([Lookup(TRIPS, [b"k"])]) == [[None]]
    store.close()


def test_many_expired_rows_are_found_page_by_page(open_store):
    store = open_store()
    store.prepare(TRIPS)
    keys = [b"k%05d" % number for number in range(12_345)]
    due = [None if number % 3 else 1 for number in range(len(keys))]
    store.write(TRIPS, keys, keys, condition=Newest([pack_version(1)] * len(keys)), expires_at=due)

    assert store.delete_expired("prod", 1) == due.count(1)
    assert store.delete_expired("prod", 1) == 0
    assert len(store.scan(TRIPS, limit=20_000)) == due.count(None)


@pytest.fixture
def small_disk(postgres, tmp_path):
    """The URL of a database on a small file system, and a way to make room there."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be had: {mounted.stderr.strip()}")
    name = f"small_{uuid.uuid4().hex[:12]}"
    for folder in (path, *path.parents):
        if folder.stat().st_mode & 0o7 == 0:
            folder.chmod(folder.stat().st_mode | 0o001)
    shutil.chown(path, postgres.user or os.getuid())
    try:
        postgres.execute(f"CREATE TABLESPACE {name} LOCATION '{path}'")
        postgres.execute(f"CREATE DATABASE {name} OWNER asof TABLESPACE {name}")
        yield postgres.url(name), lambda: subprocess.run(["mount", "-o", "remount,size=96m", str(path)], check=True)
        postgres.drop_database(name)
        postgres.execute(f"DROP TABLESPACE {name}")
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_said_and_with_room_again_all_goes_on(small_disk):
    url, make_room = small_disk
    store = PostgresOnlineStore(url)
    store.prepare(TRIPS)
    keys = [b"k%05d" % number for number in range(40)]
    values = [os.urandom(1 << 20)] * len(keys)

    with pytest.raises(StorageError) as caught:
        store.write(TRIPS, keys, values, condition=Newest([pack_version(1)] * len(keys)))
    assert "is full" in caught.value.message
    assert "free some space on the database server" in caught.value.hint
    make_room()

    assert store.write(TRIPS, keys, values, condition=Newest([pack_version(2)] * len(keys))) == [True] * len(keys)
    assert store.read([Lookup(TRIPS, keys[:1])]) == [[(values[0], pack_version(2))]]
    store.close()
