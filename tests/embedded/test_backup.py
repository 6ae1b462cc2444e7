"""Backups: a drill that loses everything, backups while others write, refusals, and processes that die in the middle."""

from __future__ import annotations

import decimal
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, LogSource, PushSource, Sliding
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.errors import AsofError, RegistryError, StorageError
from asof.flows.admin.backup.manifest import NAME, BackupFile, decode_manifest
from asof.offline.protocol import Archive
from asof.store import open_store_of
from asof.testing.clock import NOW
from asof.timing import MINUTE, moment
from asof.types import Decimal, Float64, Int64, Json, String, Timestamp

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

USER = Entity("user", join_keys=["user_id"])
CLICKS = PushSource(
    "clicks", schema=[Field("user_id", Int64), Field("price", Decimal(9, 2)), Field("more", Json), Field("at", Timestamp)],
    timestamp_field="at", batch_source=FileSource("old_clicks.parquet", name="old_clicks", timestamp_field="at"),
)  # fmt: skip
VISITS = LogSource(
    "visits", schema=[Field("user_id", Int64), Field("page", String), Field("ms", Int64)], timestamp_field="ms",
    timestamp_unit="ms",
)  # fmt: skip
DEFINITIONS = [
    FeatureView(
        "clicked", entities=[USER], source=CLICKS,
        aggregations=[
            Aggregation("price", "sum", name="spent"),
            Aggregation(function="count", window=Sliding(timedelta(hours=1)), name="clicks_1h"),
        ],
    ),
    FeatureView("last_page", entities=[USER], source=VISITS, schema=[Field("page", String)]),
    FeatureView(
        "profile", entities=[USER], source=FileSource("profile.parquet", name="people", timestamp_field="at"),
        schema=[Field("score", Float64)],
    ),
]  # fmt: skip
FEATURES = ["clicked:spent", "clicked:clicks_1h", "last_page:page", "profile:score"]
FRAME = pa.table({"user_id": [1, 2, 3], "event_timestamp": pa.array([NOW] * 3, pa.timestamp("us", "UTC"))})


def click(user: int, price: str, minutes: int = 0) -> dict[str, Any]:
    return {"user_id": user, "price": price, "more": {"n": user}, "at": moment(NOW - minutes * MINUTE)}


def visit(user: int, page: str) -> bytes:
    return msgspec.json.encode({"user_id": user, "page": page, "ms": NOW // 1000 - 5})


def opened(folder: Path) -> FeatureStore:
    return FeatureStore(folder, clock=lambda: moment(NOW))


def served(store: FeatureStore) -> dict[str, Any]:
    return store.get_online_features(FEATURES, [{"user_id": each} for each in (1, 2, 3)]).to_dict()


def lose_but(folder: Path, *kept: str) -> None:
    """Delete all folders of a repository, its stores among them, but these."""
    for each in folder.iterdir():
        if each.is_dir() and each.name not in kept:
            shutil.rmtree(each)


def lose(folder: Path) -> None:
    lose_but(folder, "backup")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with pushes, loaded history, a stream with a dead letter, a training set, and a backup of it."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "feature_store.yaml").write_text("project: shop\n")
    at = pa.array([NOW - 90 * MINUTE] * 2, pa.timestamp("us", "UTC"))
    prices = pa.array(["1.10", "2.20"]).cast(pa.decimal128(9, 2))
    old = {"user_id": [1, 2], "price": prices, "more": ["{}", "[1]"], "at": at}
    pq.write_table(pa.table(old), folder / "old_clicks.parquet")
    pq.write_table(pa.table({"user_id": [1, 2], "score": [0.5, 0.25], "at": at}), folder / "profile.parquet")
    with opened(folder) as store:
        store.apply(DEFINITIONS)
        store.materialize()
        store.push("clicks", [click(1, "10.05", 5), click(3, "7.00", 70)])
        store.send("visits", [visit(1, "home"), b"no message", visit(2, "cart")], keys=None)
        store.stream_run(until_caught_up=True)
        store.get_historical_features(FRAME, FEATURES).save("first")
        store.audit()
        done = store.backup(folder / "backup")
        assert done.archives == {"clicks": 4, "visits": 2, "dead letters of visits": 1}
        assert (done.training_sets, done.unarchived, done.notes) == (["first"], {}, [])
    return folder


@pytest.fixture
def folder(shop: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(shop, tmp_path / "shop")
    return tmp_path / "shop"


def test_all_is_lost_and_restored_and_rebuilt_and_an_audit_finds_no_difference(folder: Path) -> None:
    with opened(folder) as store:
        before, versions, letters = served(store), store.history(100).to_dicts(), store.dead_letters().to_dicts()
        manifest, runs = store.training_set("first").to_dict(), store.runs("audit").to_dicts()
        rows = store.read_training_set("first").to_arrow()
    lose(folder)

    with opened(folder) as store:
        done = store.restore(folder / "backup")
        assert done.archives == {"clicks": 4, "visits": 2, "dead letters of visits": 1}
        commands = [each.partition(":")[0] for each in done.next_steps]
        assert commands == [
            "asof stream run --accept-gap --until-caught-up clicks visits", "asof rebuild", "asof audit"
        ]  # fmt: skip
        assert store.history(100).to_dicts() == versions and store.dead_letters().to_dicts() == letters
        assert store.training_set("first").to_dict() == manifest and store.runs("audit").to_dicts() == runs
        assert store.read_training_set("first").to_arrow().equals(rows)
        store.stream_run(accept_gap=True, until_caught_up=True)
        store.rebuild()

        assert served(store) == before
        report = store.audit()
        assert report.ok and report.values
        assert store.rebuild_training_set("first").identical
        store.push("clicks", [click(1, "0.95")])
        assert served(store)["spent"][0] == before["spent"][0] + decimal.Decimal("0.95")
        assert store.audit().ok and [each.kind for each in store.runs(limit=50)].count("restore") == 1
        assert not store.plan(DEFINITIONS).changes


def files_below(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


def test_a_backup_made_while_rows_are_pushed_holds_a_beginning_of_them(folder: Path, tmp_path: Path) -> None:
    pushed, stop = [0], Event()

    def push(store: FeatureStore) -> None:
        while not stop.is_set():
            store.push("clicks", [click(9, "1.00")])
            pushed[0] += 1

    with opened(folder) as store, opened(folder) as other, ThreadPoolExecutor(1) as pool:
        done = pool.submit(push, other)
        while not pushed[0] and not done.done():
            time.sleep(0.01)
        before = pushed[0]
        store.stream_run(until_caught_up=True)
        store.backup(tmp_path / "live")
        stop.set()
        done.result(60)
    lose(folder)

    with opened(folder) as store:
        store.restore(tmp_path / "live")
        archive = open_store_of(store).stores.offline
        rows = archive.rows(Archive("shop", "clicks"))
        text = 'SELECT "offset" AS o, ingested_at AS at FROM archive WHERE user_id = 9 ORDER BY 1'
        offsets = archive.sql(text, {"archive": rows}).reader().read_all()["o"].to_pylist()
        assert before <= len(offsets) <= pushed[0]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))


def test_what_is_no_backup_or_is_damaged_or_of_another_project_changes_nothing(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "backup", copy)
    lose(folder)
    before = files_below(folder)

    def refusal(source: Path, **options: Any) -> str:
        with opened(folder) as store, pytest.raises(StorageError) as caught:
            store.restore(source, **options)
        assert files_below(folder) == before
        return str(caught.value)

    assert "is no backup: it has no manifest.json" in refusal(tmp_path)
    manifest = (copy / NAME).read_bytes()
    (copy / NAME).write_bytes(manifest.replace(b'"clicks"', b'"klicks"', 1))
    assert "manifest.json is damaged" in refusal(copy)
    hostile = decode_manifest(manifest, place="")
    (copy / NAME).write_bytes(
        msgspec.structs.replace(hostile, registry={"versions": BackupFile("../../etc/passwd", 1, "")}).encode()
    )
    assert "manifest.json is damaged" in refusal(copy)
    (copy / NAME).write_bytes(msgspec.structs.replace(hostile, format=2).encode())
    assert "is of format 2; this Asof reads up to 1" in refusal(copy)
    (copy / NAME).write_bytes(msgspec.structs.replace(hostile, project="shop2").encode())
    assert "is of project 'shop2', and this one is 'shop'" in refusal(copy)
    (copy / NAME).write_bytes(manifest)
    data = copy / "archives" / "0" / "0.parquet"
    whole = data.read_bytes()
    data.write_bytes(whole[:-9] + b"x" + whole[-8:])
    assert "archives/0/0.parquet is damaged" in refusal(copy, replace=True)
    data.unlink()
    assert "archives/0/0.parquet is missing" in refusal(copy)


def test_nothing_is_written_over_and_a_restore_takes_the_place_of_a_store_only_when_told(
    folder: Path, tmp_path: Path
) -> None:
    shell = partial(CliRunner().invoke, cli)
    with opened(folder) as store:
        with pytest.raises(StorageError, match="is not empty; nothing was changed"):
            store.backup(folder / "backup")
        assert [each.outcome for each in store.runs("backup")] == ["failed", "done"]
        store.push("clicks", [click(2, "5.00")])
        with pytest.raises(StorageError, match="'shop' is not empty: it has version"):
            store.restore(folder / "backup")
        assert served(store)["clicks_1h"] == [1, 1, 0]

    made = shell(["-C", str(folder), "--output", "json", "backup", str(tmp_path / "second")], obj=CliContext())
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["backup"]["archives"]["clicks"] == 5
    refused = shell(["-C", str(folder), "restore", str(folder / "backup")], obj=CliContext())
    assert refused.exit_code == StorageError.exit_code and "--replace, which drops" in refused.output
    asked = shell(["-C", str(folder), "restore", "--replace", str(folder / "backup")], input="n\n", obj=CliContext())
    assert "Nothing was changed" in asked.output
    done = shell(["-C", str(folder), "restore", "--replace", "--yes", str(folder / "backup")], obj=CliContext())
    assert done.exit_code == 0 and "next, 1: asof stream run" in done.output, done.output

    with opened(folder) as store:
        store.stream_run(until_caught_up=True)  # the log is there, and has what came after the backup
        store.rebuild()
        assert served(store)["clicks_1h"] == [1, 1, 0] and store.audit().ok


def test_archives_that_are_kept_otherwise_are_noted_and_have_to_reach_as_far(folder: Path, tmp_path: Path) -> None:
    with opened(folder) as store:
        done = store.backup(tmp_path / "noted", archives="refer")
        assert set(done.archives.values()) == {0}
        registry = Path(open_store_of(store).stores.registry.place)
        (archive,) = [each for each in registry.parent.iterdir() if (each / "shop" / "events").is_dir()]
        moved = tmp_path / "archive"
    for each in registry.parent.glob(f"{registry.name}*"):
        each.unlink()
    archive.rename(moved)
    with opened(folder) as store:
        with pytest.raises(StorageError, match="has no rows of archives, and 'clicks' ends in partition"):
            store.restore(tmp_path / "noted")
        shutil.rmtree(archive, ignore_errors=True)
        moved.rename(archive)
        store.restore(tmp_path / "noted")
        store.rebuild()
        assert store.audit().ok and store.rebuild_training_set("first").identical


KILLED = """
import os, signal, sys
from pathlib import Path
from asof.errors import RegistryError
from asof.testing.clock import NOW
from tests.embedded.test_backup import DEFINITIONS, lose, opened

folder, verb, kills = Path(sys.argv[1]), sys.argv[2], [int(each) for each in sys.argv[3].split(",")]

def in_child(work):
    # Forked before any thread was begun: nothing of a store is open here.
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def killed_at(number):
    def work():
        calls = 0
        def progress(what, done, total):
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
        store = opened(folder)
        if verb == "backup":
            store.backup(folder / "new", progress=progress)
        else:
            store.restore(folder / "backup", progress=progress)
        store.close()
    return in_child(work)

def nothing_is_applied():
    store = opened(folder)
    assert store.list_feature_views() == []
    if number > checks:
        try:
            store.apply(DEFINITIONS)
        except RegistryError as error:
            assert "has not come to its end" in str(error), error
        else:
            raise AssertionError("an apply built on half a restore")
    assert len(store.training_sets()) == 0

checks = int(sys.argv[4])
for number in kills:
    ended = killed_at(number)
    if ended == 0:
        break
    assert ended == -signal.SIGKILL, ended
    if verb == "backup":
        assert not (folder / "new").exists()
    else:
        assert in_child(nothing_is_applied) == 0
print(number, ended)
"""


def killed(folder: Path, verb: str, kills: Iterable[int], *, checks: int = 0) -> tuple[int, int]:
    """Run a verb in processes that die at these calls of its progress; returns the last call, and how that ended."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), verb, ",".join(map(str, kills)), str(checks)], cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    number, ended = done.stdout.split()
    return int(number), int(ended)


def files_of(folder: Path) -> int:
    return len(list(decode_manifest((folder / NAME).read_bytes(), place="").files))


def test_a_process_that_dies_in_a_backup_or_a_restore_leaves_nothing_half(folder: Path) -> None:
    assert killed(folder, "backup", [3]) == (3, -signal.SIGKILL)
    with opened(folder) as store:
        store.backup(folder / "new")
        before = served(store)
    lose_but(folder, "backup", "new")
    checks = files_of(folder / "backup")
    assert killed(folder, "restore", [checks + 2], checks=checks) == (checks + 2, -signal.SIGKILL)

    with opened(folder) as store:
        store.restore(folder / "new")  # whichever backup is taken now, it begins again
        store.stream_run(accept_gap=True, until_caught_up=True)
        store.rebuild()
        assert served(store) == before and store.audit().ok and store.rebuild_training_set("first").identical


@pytest.mark.soak
def test_wherever_a_process_dies_in_a_backup_or_a_restore_the_next_one_is_whole(folder: Path) -> None:
    calls, ended = killed(folder, "backup", range(1, 200))
    assert calls > 5 and ended == 0
    lose_but(folder, "new", "backup")
    checks = files_of(folder / "backup")
    calls, ended = killed(folder, "restore", range(1, 200), checks=checks)
    assert calls > checks + 3 and ended == 0
    with opened(folder) as store:
        store.stream_run(accept_gap=True, until_caught_up=True)
        store.rebuild()
        assert store.audit().ok and store.rebuild_training_set("first").identical


def test_a_project_without_anything_has_no_backup(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    with opened(tmp_path) as store:
        with pytest.raises(RegistryError, match="nothing was applied"):
            store.backup(tmp_path / "backup")
        with pytest.raises(AsofError, match="no backup can be there"):
            store.backup("ftp://host/backup")
    assert not (tmp_path / "backup").exists()
