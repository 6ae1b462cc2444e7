"""Stores that an older version wrote: their facts and progress are read, and kept as that version can read them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asof import FeatureStore
from asof.aggregation import layout
from asof.definitions import Snapshot, project
from asof.definitions.facts import Facts, LastRun, SourceMark, ViewGenerations
from asof.flows.admin.backup import manifest
from asof.flows.generations.progress import TableProgress
from asof.offline.protocol import LATER_COLUMNS
from asof.online.sqlite import SqliteOnlineStore
from asof.online.sqlite import file as online_file
from asof.registry.object import layout as object_layout
from asof.registry.sqlite import SqliteRegistry
from asof.registry.sqlite import file as registry_file
from asof.testing.registry_records import TODAY, records_of
from asof.timing import SECOND
from asof.values import packing

FOLDER = Path(__file__).parents[1] / "stores"
STORES = FOLDER / "one_log_folder.tar.gz"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "upgrade.md"


UPGRADED = [
    ("one_log_folder.tar.gz", "shop", None), ("one_log_folder.tar.gz", "two", None),
    ("one_log_folder.tar.gz", "two", "lab"), ("without_arrival.tar.gz", "prices", None),
]  # fmt: skip
"""Archive of stores, folder in it, environment."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(STORES) as archive:
        archive.extractall(folder, filter="data")
    return folder


def contents(registry: Path) -> list[str]:
    with sqlite3.connect(registry) as connection:
        return [text for (text,) in connection.execute("SELECT content FROM snapshots ORDER BY project, version")]


@pytest.mark.parametrize("folder", ["shop", "two"])
def test_every_version_that_is_kept_is_read_and_written_as_it_was(old: Path, folder: str) -> None:
    texts = contents(old / folder / "data" / "registry.db")
    assert texts

    for text in texts:
        facts = json.loads(text)["facts"]
        again = json.loads(Snapshot.decode(text).encode())["facts"]
        # A topic without content says nothing, and is not written any more.
        assert again == {topic: value for topic, value in facts.items() if value}
        assert Facts.of(facts).others == {}


def test_all_facts_of_an_old_registry_are_at_hand(old: Path) -> None:
    facts = SqliteRegistry(old / "shop" / "data" / "registry.db").load("shop").facts

    assert facts.generations == {
        "profile": ViewGenerations(current="010c32f21802-1", count=1),
        "seen": ViewGenerations(current="aaecae55c6d9-1", count=1),
        "spent": ViewGenerations(current="e6814df332cf-1", count=1),
    }
    began = 1_767_268_800 * SECOND
    run = LastRun(generation="010c32f21802-1", started=began, rows=2, until=began + 1, created_until=began)
    assert facts.materialized == {"profile": run}
    assert facts.topics == {
        "orders": "17a096d1aa224338a2e75b213cb2008c", "visits": "ba182396fa114b74b18387bc57012fdf"
    }  # fmt: skip
    saved = facts.training_sets["at_noon"]
    assert (saved.name, saved.table, saved.created) == ("at_noon", "at_noon.089b7b7abdc5", "2026-01-01T14:00:00Z")
    assert saved.sources["visits"] == SourceMark(kind="archive", version=2, offsets={1: 4, 500_000: 0})
    assert saved.sources["users"].files is not None and saved.sources["users"].files[0].bytes == 1074
    assert facts.where["feature view/seen"] == "features.py:18"
    assert (facts.staged, facts.replaying, facts.epochs, facts.gaps, facts.starts) == (None, {}, {}, {}, {})


def test_an_old_registry_has_no_records_until_it_gains_them_and_stays_readable_by_the_old_version(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "registry.db"
    shutil.copy(old / "shop" / "data" / "registry.db", path)
    before = contents(path)
    with monkeypatch.context() as patched:
        patched.setattr("asof.connections.sqlite.may_write", lambda path: False)
        reader = SqliteRegistry(path)
        assert reader.records("shop", "run") == [] and reader.counts("shop", "served") == {}
        reader.close()

    writer = SqliteRegistry(path)
    writer.append_records("shop", records_of("a"))
    writer.add_counts("shop", "served", TODAY, {"seen:n": 2})

    assert writer.records("shop", "run") == records_of("a")
    assert writer.counts("shop", "served") == {TODAY: {"seen:n": 2}}
    writer.close()
    assert contents(path) == before
    with sqlite3.connect(path) as connection:
        # What a version that knows no records looks at: its own format, and its own table.
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert len(connection.execute("PRAGMA table_info(snapshots)").fetchall()) == 9


def test_what_an_apply_had_staged_is_read(old: Path) -> None:
    staged = SqliteRegistry(old / "shop" / "data" / "registry.db").load_version("shop", 1).facts

    assert staged.staged is not None and staged.staged.token and "views" in staged.staged.project
    assert {each.building for each in staged.generations.values()} == {
        "010c32f21802-1", "aaecae55c6d9-1", "e6814df332cf-1"
    }  # fmt: skip


def test_the_progress_of_an_old_online_store_is_read_and_written_as_it_was(old: Path) -> None:
    store = SqliteOnlineStore(old / "shop" / "data" / "online.db")
    kept = {table.view: store.progress(table) for table in store.tables("shop")}
    read = {view: TableProgress.of(each) for view, each in kept.items()}

    assert {view: each.content() for view, each in read.items()} == kept
    began = 1_767_268_800 * SECOND
    assert read["profile"] == TableProgress(built=began, materialized=began)
    for view in ("seen", "spent"):
        assert read[view].is_built and read[view].reached and set(read[view].live) >= set(read[view].reached)


def test_a_first_commit_of_facts_that_was_not_marked_as_one_is_left_out_of_the_definitions_history(old: Path) -> None:
    registry = SqliteRegistry(old / "two" / "data" / "registry.db")

    assert [each.version for each in registry.history("lab")] == [4, 3, 2, 1]
    assert [each.version for each in registry.history("lab", facts=False)] == [2]
    assert registry.history("lab", 1, facts=False)[0].summary.startswith("created entity 'user'")
    with sqlite3.connect(registry.path) as connection:
        connection.execute("UPDATE snapshots SET content = 'damaged' WHERE project = 'lab' AND version = 1")
    assert [each.version for each in registry.history("lab", facts=False)] == [2, 1], "no snapshot has to be readable"


def test_every_archive_of_old_stores_is_upgraded_here() -> None:
    assert {each.name for each in FOLDER.glob("*.tar.gz")} == {archive for archive, *_ in UPGRADED}


@pytest.mark.integration
@pytest.mark.parametrize("archive, name, env", UPGRADED)
def test_an_old_store_is_backed_up_and_upgraded_and_its_backup_is_restored(
    archive: str, name: str, env: str | None, tmp_path: Path
) -> None:
    with tarfile.open(FOLDER / archive) as stored:
        stored.extractall(tmp_path, filter="data")
    folder = tmp_path / name

    def opened() -> FeatureStore:
        return FeatureStore(folder, env=env, clock=lambda: datetime(2026, 1, 1, 14, tzinfo=UTC))

    def is_whole(store: FeatureStore) -> bool:
        sets = [store.rebuild_training_set(each.name).identical for each in store.training_sets()]
        return store.audit().ok and all(sets) and store.plan().is_empty

    with opened() as store:
        done = store.backup(tmp_path / "backup")
        store.apply()
        store.materialize()
        store.stream_run(until_caught_up=True)
        assert is_whole(store)
        after = store.history(100).to_dicts()
    shutil.rmtree(folder / "data")
    with opened() as store:
        store.restore(tmp_path / "backup")
        assert store.history(100).to_dicts() == after[-done.versions :]
        store.apply()
        store.stream_run(until_caught_up=True, accept_gap=True)
        store.rebuild()
        assert is_whole(store)


def test_the_page_about_upgrades_has_the_formats_of_the_code() -> None:
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in PAGE.read_text().splitlines()
        if "|" in line
    ]
    formats = {cells[0]: cells[1] for cells in rows if len(cells) > 1}
    assert formats["versions in the registry"] == str(project.FORMAT)
    assert formats["registry file"] == str(registry_file.FORMAT)
    assert formats["registry in a bucket"] == str(object_layout.FORMAT)
    assert formats["online rows"] == str(packing.ARRIVAL_FORMAT) == str(layout.ARRIVAL_FORMAT)
    assert formats["online file"] == str(online_file.FORMAT)
    assert formats["archives"] == "columns " + ", ".join(f"`{each}`" for each in LATER_COLUMNS)
    assert formats["backup"] == str(manifest.FORMAT)
