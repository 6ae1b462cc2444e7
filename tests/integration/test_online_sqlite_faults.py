"""The SQLite online store when writers are killed, race across processes, or run out of space."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asof.errors import StorageError
from asof.online.protocol import Lookup, Newest, OnlineTable, pack_version
from asof.online.sqlite.store import SqliteOnlineStore

TRIPS = OnlineTable("prod", "trips", "1-1", "latest")
STATE = OnlineTable("prod", "traffic", "1-1", "state")
ROWS = 700

WRITER = """
import sys
from asof.online.protocol import *
from asof.online.sqlite.store import SqliteOnlineStore
store = SqliteOnlineStore(sys.argv[1])
table = OnlineTable("prod", "trips", "1-1", "latest")
store.prepare(table)
keys = [b"k%04d" % i for i in range(int(sys.argv[2]))]
moment = store.progress(table).get("0", 0)
while True:
    moment += 1
    kept = store.write(table, keys, [b"%d" % moment * 50] * len(keys),
                       condition=Newest([pack_version(moment)] * len(keys)))
    assert all(kept)
    print("rows", moment, flush=True)
    store.write_progress(table, {"0": moment})
    print("progress", moment, flush=True)
"""

ADDER = """
import sys
from asof.online.protocol import *
from asof.online.sqlite.store import SqliteOnlineStore
store = SqliteOnlineStore(sys.argv[1])
table = OnlineTable("prod", "traffic", "1-1", "state")
store.prepare(table)
keys = [b"counter-%d" % i for i in range(20)]
for _ in range(int(sys.argv[2])):
    left = keys
    while left:
        (rows,) = store.read([Lookup(table, left)])
        values = [b"%d" % (int(row[0]) + 1 if row else 1) for row in rows]
        kept = store.write(table, left, values, condition=Unchanged([row[1] if row else NO_ROW for row in rows]))
        left = [key for key, was_kept in zip(left, kept) if not was_kept]
"""


def _start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_writer_loses_nothing_acknowledged_and_leaves_no_progress_ahead_of_its_rows(
    tmp_path: Path, seed: int
) -> None:
    path = tmp_path / "online.db"
    keys = [b"k%04d" % i for i in range(ROWS)]
    moments_seen = 0
    for round in range(3):
        writer = _start(WRITER, path, ROWS)
        assert writer.stdout is not None and writer.stderr is not None
        first = writer.stdout.readline()
        assert first.startswith(b"rows"), writer.stderr.read().decode()
        time.sleep(random.Random(seed * 10 + round).uniform(0, 0.15))
        writer.send_signal(signal.SIGKILL)
        out, _ = writer.communicate(timeout=30)
        acknowledged = [line.split() for line in (first + out).splitlines() if line.count(b" ") == 1]
        written = max(int(moment) for what, moment in acknowledged if what == b"rows")

        store = SqliteOnlineStore(path)
        (rows,) = store.read([Lookup(TRIPS, keys)])
        moments = [int.from_bytes(row[1][:8], "big") - (1 << 63) for row in rows]
        progress = int(store.progress(TRIPS).get("0", 0))
        store.close()
        assert min(moments) >= written
        assert all(row[0] == b"%d" % moment * 50 for row, moment in zip(rows, moments, strict=True))
        assert progress <= min(moments)
        assert progress >= max((int(moment) for what, moment in acknowledged if what == b"progress"), default=0)
        assert written > moments_seen
        moments_seen = written


def test_processes_that_race_for_the_same_states_lose_no_increment(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    adders = [_start(ADDER, path, 40) for _ in range(3)]
    for adder in adders:
        _, errors = adder.communicate(timeout=60)
        assert adder.returncode == 0, errors.decode()

    store = SqliteOnlineStore(path)
    assert [value for _, value, _ in store.scan(STATE)] == [b"120"] * 20
    store.close()


def test_processes_that_make_the_file_at_the_same_moment_all_succeed(tmp_path: Path) -> None:
    script = """
import sys
from asof.online.protocol import OnlineTable
from asof.online.sqlite.store import SqliteOnlineStore
store = SqliteOnlineStore(sys.argv[1])
sys.stdin.read()
store.prepare(OnlineTable("p", sys.argv[2], "1-1", "latest"))
"""
    path = tmp_path / "new" / "online.db"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(path), f"v{i}"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        for i in range(4)
    ]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.close()
        maker.stdin = None
    for maker in makers:
        _, errors = maker.communicate(timeout=60)
        assert maker.returncode == 0, errors.decode()

    store = SqliteOnlineStore(path)
    assert [table.view for table in store.tables("p")] == ["v0", "v1", "v2", "v3"]
    store.close()


def test_a_file_that_may_not_grow_is_a_storage_error_and_keeps_what_it_has(tmp_path: Path) -> None:
    script = """
import resource, sys
from asof.errors import StorageError
from asof.online.protocol import *
from asof.online.sqlite.store import SqliteOnlineStore
store = SqliteOnlineStore(sys.argv[1])
table = OnlineTable("prod", "trips", "1-1", "latest")
store.prepare(table)
store.write(table, [b"before"], [b"x"], condition=Newest([pack_version(1)]))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    for i in range(100):
        store.write(table, [b"%d" % i], [b"x" * 100_000], condition=Newest([pack_version(1)]))
except StorageError as error:
    print(error)
    sys.exit(7)
"""
    path = tmp_path / "online.db"
    writer = _start(script, path)
    out, errors = writer.communicate(timeout=60)
    assert writer.returncode == 7, errors.decode()
    assert b"online_store.path" in out and str(path).encode() in out

    store = SqliteOnlineStore(path)
    ((row,),) = store.read([Lookup(TRIPS, [b"before"])])
    assert row[0] == b"x"
    assert store.scan(TRIPS, limit=200)[-1][0] == b"before"
    store.close()


def test_a_page_that_was_overwritten_is_called_damaged_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    store = SqliteOnlineStore(path)
    store.prepare(TRIPS)
    keys = [b"%05d" % i for i in range(5000)]
    store.write(TRIPS, keys, [b"x" * 200] * 5000, condition=Newest([pack_version(1)] * 5000))
    store.close()
    with path.open("r+b") as file:
        file.seek(8192 * 5)
        file.write(b"\xde" * (path.stat().st_size - 8192 * 5))

    with pytest.raises(StorageError, match="damaged") as caught:
        SqliteOnlineStore(path).read([Lookup(TRIPS, keys)])
    assert "asof rebuild" in caught.value.hint
