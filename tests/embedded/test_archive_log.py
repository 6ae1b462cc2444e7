"""The log of Delta archives: what a process knows of it between two uses, and how long it is kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from asof.connections.object_storage import ObjectStorage
from asof.offline.delta.offsets import offsets_in
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import CLICKS, clicks

ROUNDS = 12
"""More than the versions after which an archive gets a checkpoint."""


def at_address(folder: Path) -> DuckDBOffline:
    """A store in a folder that is reached as a bucket is."""
    return DuckDBOffline(f"file://{folder}", threads=1, storage=ObjectStorage())


def append(store: DuckDBOffline, partition: int, first: int, rows: int) -> int:
    return store.append(CLICKS, clicks(partition, first, rows), {partition: first + rows - 1})


def archived(store: DuckDBOffline) -> list[tuple[int, int]]:
    """Partition and offset of each row, ascending."""
    found = store.sql('SELECT "partition", "offset" FROM archive', {"archive": store.rows(CLICKS)}).reader().read_all()
    return sorted(zip(found["partition"].to_pylist(), found["offset"].to_pylist(), strict=True))


def test_writers_that_take_turns_know_what_the_other_one_archived(tmp_path: Path) -> None:
    one, other = at_address(tmp_path), at_address(tmp_path)
    for each in range(ROUNDS):
        assert append(one, 0, 2 * each, 2) == 2
        assert append(other, 0, 2 * each, 2) == 0
        assert append(other, 1, each, 1) == 1
        assert one.offsets(CLICKS, [0, 1, 2]) == {0: 2 * each + 1, 1: each, 2: -1}

    assert archived(one) == [(0, each) for each in range(2 * ROUNDS)] + [(1, each) for each in range(ROUNDS)]
    assert other.offsets(CLICKS, [0, 1]) == {0: 2 * ROUNDS - 1, 1: ROUNDS - 1}


def test_a_writer_that_was_idle_for_long_knows_what_others_archived(tmp_path: Path) -> None:
    idle, busy = at_address(tmp_path), at_address(tmp_path)
    append(idle, 0, 0, 3)
    for each in range(1, ROUNDS + 1):
        append(busy, 0, 3 * each, 3)

    assert append(idle, 0, 0, 3 * ROUNDS + 4) == 1
    assert idle.offsets(CLICKS, [0]) == {0: 3 * ROUNDS + 3}


@pytest.mark.parametrize("versions", [1, 3, 5])
def test_an_archive_that_another_process_made_again_is_not_taken_for_the_old_one(versions: int, tmp_path: Path) -> None:
    store = at_address(tmp_path)
    for each in range(3):
        append(store, 0, 2 * each, 2)
    other = at_address(tmp_path)
    other.drop_project("shop")
    for each in range(versions):
        append(other, 0, each, 1)

    assert store.offsets(CLICKS, [0]) == {0: versions - 1}
    assert append(store, 0, 0, 8) == 8 - versions
    assert archived(at_address(tmp_path)) == [(0, each) for each in range(8)]


def test_a_commit_says_the_offsets_of_its_partitions() -> None:
    lines = (
        b'{"commitInfo":{"operation":"WRITE"}}', b'{"txn":{"appId":"partition 3","version":41,"lastUpdated":7}}',
        b'{"txn":{"appId":"compaction","version":2}}', b'{"add":{"path":"\\"txn\\"","size":1}}',
        b'{"txn":{"appId":"partition -1","version":0}}',
    )  # fmt: skip
    assert offsets_in(b"\n".join(lines)) == {3: 41, -1: 0}


def test_a_compaction_deletes_old_files_of_the_log(tmp_path: Path) -> None:
    store = DuckDBOffline(tmp_path, threads=1)
    for each in range(6):
        append(store, 0, 2 * each, 2)
    store.compact(CLICKS)
    log = tmp_path / "shop" / "events" / "clicks" / "_delta_log"
    old = sorted(log.glob("*.json"))[:-1]
    month_ago = time.time() - 31 * 86400
    for each in old:
        os.utime(each, (month_ago, month_ago))

    append(store, 0, 12, 2)
    assert all(each.exists() for each in old)  # a flush lists no log to do so
    store.compact(CLICKS)

    assert not any(each.exists() for each in old)
    assert archived(store) == [(0, each) for each in range(14)]
    assert DuckDBOffline(tmp_path, threads=1).offsets(CLICKS, [0]) == {0: 13}
