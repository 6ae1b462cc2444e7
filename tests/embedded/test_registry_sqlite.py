"""The SQLite registry: damage, other formats, and races between processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asof.errors import RegistryError
from asof.registry.records import RegistryRecord
from asof.registry.sqlite import SqliteRegistry
from asof.testing.registry import NOON, shop
from asof.testing.registry_records import TODAY, records_of
from tests.sqlite_faults import fill_disk


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def registry(path: Path) -> Iterator[SqliteRegistry]:
    registry = SqliteRegistry(path)
    yield registry
    registry.close()


def break_version(path: Path, version: int, content: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE snapshots SET content = ? WHERE version = ?", (content, version))
    connection.close()


def test_reading_makes_no_file(registry: SqliteRegistry, path: Path) -> None:
    registry.load("shop")
    registry.drop("shop")

    assert not path.exists()


def test_a_file_that_is_not_a_registry_is_named_with_the_next_step(registry: SqliteRegistry, path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 20)

    with pytest.raises(RegistryError) as caught:
        registry.load("shop")

    assert str(caught.value) == (
        f"registry {path}: the file is damaged, or is not a registry of Asof\n"
        "  next: restore it from a backup, or name another file as registry.path in feature_store.yaml"
    )
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)


def test_a_file_cut_short_is_named_as_damaged(registry: SqliteRegistry, path: Path) -> None:
    registry.commit(shop(text="x" * 50_000), expected=0, who="ana", when=NOON)
    registry.close()
    path.write_bytes(path.read_bytes()[: 3 * 4096])

    with pytest.raises(RegistryError, match="the file is damaged"):
        registry.load("shop")


def test_a_damaged_version_names_the_last_good_one_which_can_be_put_back(registry: SqliteRegistry, path: Path) -> None:
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.commit(shop(count=1), expected=1, who="bo", when=NOON + 1)
    break_version(path, 2, '{"format": 1')

    with pytest.raises(RegistryError) as caught:
        registry.load("shop")
    assert str(caught.value) == (
        f"registry {path}: version 2 of project 'shop' is damaged: its checksum does not match its content\n"
        "  next: restore the file from a backup; the last good version is version 1 by ana at 2020-09-13T12:26:40Z"
    )

    registry.commit(registry.load_version("shop", 1), expected=2, who="ana", when=NOON + 2, note="back to 1")
    assert registry.load("shop").version == 3


def test_tables_of_a_newer_format_are_refused(registry: SqliteRegistry, path: Path) -> None:
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()

    with pytest.raises(RegistryError, match="its format is 9; this Asof reads up to 1\n  next: upgrade asof"):
        registry.load("shop")


def test_a_database_of_something_else_is_left_alone(registry: SqliteRegistry, path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE customers (id INTEGER)")
    connection.close()

    with pytest.raises(RegistryError, match="a SQLite database of something else .it has customers."):
        registry.commit(shop(), expected=0, who="ana", when=NOON)


def test_a_folder_in_the_files_place_is_an_error_of_ours(registry: SqliteRegistry, path: Path) -> None:
    path.mkdir()

    with pytest.raises(RegistryError, match="the file cannot be opened"):
        registry.commit(shop(), expected=0, who="ana", when=NOON)


def test_a_file_that_was_replaced_is_read_anew(registry: SqliteRegistry, path: Path, tmp_path: Path) -> None:
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    other = SqliteRegistry(tmp_path / "other.db")
    for version in range(2):
        other.commit(shop(), expected=version, who="bo", when=NOON)
    other.close()
    (tmp_path / "other.db").replace(path)
    for leftover in ("-wal", "-shm"):
        Path(f"{path}{leftover}").unlink(missing_ok=True)

    assert registry.version("shop") == 2


def test_a_reader_does_not_wait_for_a_writer(registry: SqliteRegistry, path: Path) -> None:
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM snapshots")

    assert registry.load("shop").version == 1

    impatient = SqliteRegistry(path, busy_timeout_s=0.01)
    with pytest.raises(RegistryError, match="another process holds its write lock"):
        impatient.commit(shop(), expected=1, who="bo", when=NOON)
    writer.execute("ROLLBACK")
    writer.close()
    impatient.close()


def test_a_full_disk_is_named_and_nothing_is_written(
    registry: SqliteRegistry, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.close()
    fill_disk(monkeypatch, path)

    with pytest.raises(RegistryError, match="the disk is full; nothing was written"):
        registry.commit(shop(text="x" * 100_000), expected=1, who="ana", when=NOON)

    assert registry.version("shop") == 1


def test_a_damaged_record_is_left_out_and_stops_nothing(registry: SqliteRegistry, path: Path) -> None:
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.append_records("shop", records_of("a", "b", "c"))
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE records SET body = '{\"n\":' WHERE subject = 'a'")
        connection.execute("UPDATE records SET body = '[1]' WHERE subject = 'b'")
    connection.close()

    assert [each.subject for each in registry.records("shop", "run")] == ["c"]
    assert registry.load("shop").version == 1


def test_a_full_disk_keeps_no_record_of_a_batch_and_harms_nothing(
    registry: SqliteRegistry, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.append_records("shop", records_of("a"))
    registry.close()
    fill_disk(monkeypatch, path)

    with pytest.raises(RegistryError, match="the disk is full; nothing was written"):
        registry.append_records("shop", [*records_of("b"), RegistryRecord("run", "c", NOON, {"text": "x" * 100_000})])

    assert [each.subject for each in registry.records("shop", "run")] == ["a"]
    assert registry.version("shop") == 1


def test_tables_of_records_that_are_damaged_are_named_and_leave_the_definitions_alone(
    registry: SqliteRegistry, path: Path
) -> None:
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.append_records("shop", records_of("a"))
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE records DROP COLUMN body")
    connection.close()

    with pytest.raises(RegistryError, match="the file is damaged"):
        registry.records("shop", "run")
    assert registry.load("shop").version == 1


WRITER = """
import sys
from asof.errors import RegistryConflict
from asof.registry.sqlite import SqliteRegistry
from asof.testing.registry import NOON, shop
registry, won = SqliteRegistry(sys.argv[1]), 0
while won < 10:
    snapshot = registry.load("shop")
    try:
        registry.commit(shop(count=snapshot.facts.others.get("count", 0) + 1), expected=snapshot.version, who="p",
                        when=NOON)
        won += 1
    except RegistryConflict:
        pass
"""


def test_processes_that_race_from_the_first_commit_on_lose_no_update(registry: SqliteRegistry, path: Path) -> None:
    source = str(Path(__file__).parents[2] / "src")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], env={"PYTHONPATH": source}, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]

    assert errors == ["", ""]
    assert registry.load("shop").facts.others["count"] == registry.version("shop") == 20


COUNTER = """
import sys
from asof.registry.sqlite import SqliteRegistry
from asof.testing.registry_records import TODAY
registry = SqliteRegistry(sys.argv[1])
for _ in range(20):
    registry.add_counts("shop", "served", TODAY, {"view:a": 1, "view:b": 3})
"""


def test_counts_of_processes_that_race_from_the_first_on_add_up(registry: SqliteRegistry, path: Path) -> None:
    source = str(Path(__file__).parents[2] / "src")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COUNTER, str(path)], env={"PYTHONPATH": source}, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]

    assert errors == ["", ""]
    assert registry.counts("shop", "served") == {TODAY: {"view:a": 40, "view:b": 120}}
