"""What a store keeps on this machine is for its owner alone, whatever the umask; what is there keeps its rights."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from asof.registry.sqlite import SqliteRegistry
from asof.server.security.audit import AuditLog
from tests.embedded.test_read_only_stores import DEFINITIONS
from tests.forking import FeatureStore, applied, history, push


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def used(folder: Path) -> FeatureStore:
    """A store that has every kind of file, its journals open."""
    (folder / "feature_store.yaml").write_text("project: shop\n")
    (folder / "features.py").write_text(DEFINITIONS)
    store = applied(folder, reads_files=True, takes_pushes=True)
    history(store, "clicked:total")
    frame = "SELECT 1 AS user_id, TIMESTAMP '2026-11-25 12:00:00' AS event_timestamp"
    store.get_historical_features(frame, ["latest:price"]).save("trained")
    return store


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_to_others(folder: Path) -> list[str]:
    """What somebody else could read: what lies below a folder for its owner alone is out of reach."""
    found = []
    for path in sorted(folder.iterdir()):
        mode = mode_of(path)
        if mode & 0o077:
            found.append(f"{path} {mode:o}")
        elif path.is_dir() and mode != 0o700:
            found += open_to_others(path)
    return found


def test_all_that_a_store_writes_is_for_its_owner_alone(tmp_path: Path) -> None:
    store = used(tmp_path)
    data = tmp_path / "data"
    kinds = {each.name for each in data.iterdir()}

    assert mode_of(data) == 0o700
    assert {"registry.db", "registry.db-wal", "registry.db-shm", "online.db", "online.db-wal", "online.db-shm"} <= kinds
    for path in data.rglob("*"):
        # Delta's own files have no rights of ours; their folders do.
        if not any((above / "_delta_log").is_dir() for above in path.parents):
            assert mode_of(path) == (0o700 if path.is_dir() else 0o600), path
    store.close()


def test_also_in_a_folder_that_others_may_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)

    used(tmp_path).close()

    assert open_to_others(tmp_path / "data") == []
    assert mode_of(tmp_path / "data") == 0o755


def test_what_is_there_keeps_the_rights_that_its_owner_gave_it(tmp_path: Path) -> None:
    store = used(tmp_path)
    store.close()
    data = tmp_path / "data"
    for path in [data, *data.rglob("*")]:
        path.chmod(0o750 if path.is_dir() else 0o640)
    before = {path: mode_of(path) for path in data.rglob("*")}

    with FeatureStore(tmp_path) as again:
        push(again, 4)
        new = {path for path in (data / "log").rglob("*") if path.is_file()} - before.keys()
        after = {path: mode_of(path) for path in before if path.exists()}
        journals = {mode_of(path) for path in data.glob("*-wal")}

    assert {path: mode for path, mode in after.items() if mode != before[path]} == {}
    # A log that is open to a group stays open to it.
    assert {mode_of(path) for path in new if path.exists()} <= {0o640}
    assert journals == {0o640}


def test_an_empty_file_that_was_made_first_is_a_new_registry(tmp_path: Path) -> None:
    (tmp_path / "registry.db").touch(0o640)
    registry = SqliteRegistry(tmp_path / "registry.db")

    assert registry.load("shop").version == 0
    registry.close()
    assert mode_of(tmp_path / "registry.db") == 0o640


def test_the_audit_log_is_for_its_owner_alone(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "logs" / "audit.jsonl"), clock=lambda: 0)
    log.write(who="me")
    log.close()

    assert (mode_of(tmp_path / "logs"), mode_of(tmp_path / "logs" / "audit.jsonl")) == (0o700, 0o600)
