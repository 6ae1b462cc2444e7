"""Ctrl-C in every long command: one line, code 130, and the next run finishes with the right result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.store import open_store_of

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).parents[2] / "src"
ROWS, USERS, EVENTS, VISITORS = 200_000, 6_000, 90_000, 3_000
START_US = 1_767_225_600_000_000
HOUR_US = 3_600_000_000

FEATURES = """
from datetime import UTC, datetime, timedelta
from asof import *
from asof.types import *
user = Entity(name="user", join_keys=["user_id"])
day = Sliding(timedelta(days=1))
old = FileSource(name="old", path="old.parquet", timestamp_field="at", timestamp_unit="us")
rows = FileSource(name="rows", path="rows.parquet", timestamp_field="at", timestamp_unit="us", lag="1d")
people = FeatureView(name="people", entities=[user], source=rows, schema=[Field("value", Int64)])
sums = FeatureView(name="sums", entities=[user], source=rows, aggregations=[Aggregation(function="sum", column="value", window=day, name="sum_1d")])
visits = LogSource(
    name="visits", timestamp_field="at", timestamp_unit="us", batch_source=old, stream_from=datetime(2026, 1, 1, 12, tzinfo=UTC),
    schema=[Field("user_id", Int64), Field("value", Int64), Field("at", Int64)],
)
visited = FeatureView(name="visited", entities=[user], source=visits, aggregations=[
    Aggregation(function="sum", column="value", window=day, name="visited_1d"), Aggregation(function="count", name="ever"),
])
"""


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    random = np.random.default_rng(7)
    return pa.table({
        "user_id": random.integers(0, USERS, ROWS),
        "value": random.integers(0, 100, ROWS),
        # No two rows of one time, so that the last is the last in any order.
        "at": START_US + random.permutation(ROWS) * (11 * HOUR_US // ROWS),
    })  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, rows: pa.Table) -> Path:
    """A repository, applied, with rows to materialize and events that nobody has worked in."""
    folder = tmp_path_factory.mktemp("prepared") / "repo"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text("project: shop\nclock: 2026-01-02T00:00:00Z\n")
    (folder / "features.py").write_text(FEATURES)
    pq.write_table(rows, folder / "rows.parquet")
    # `apply` loads what is there; this is for the run that is stopped.
    pq.write_table(rows.slice(0, 0), folder / "old.parquet")
    with FeatureStore(folder) as store:
        store.apply()
        first = START_US + 13 * HOUR_US
        events = [b'{"user_id":%d,"value":1,"at":%d}' % (i % VISITORS, first + i * 1000) for i in range(EVENTS)]
        open_store_of(store).stores.log.send("visits", events, durable=True)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "repo"))


def started(folder: Path, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "asof", *command], cwd=folder, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(SOURCE), "COLUMNS": "80"},
    )  # fmt: skip


def finished(folder: Path, *command: str) -> float:
    """Run a command to its end; how many seconds it took."""
    begun = time.monotonic()
    process = started(folder, *command)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return time.monotonic() - begun


def interrupted(folder: Path, *command: str, after_s: float) -> bool:
    """Send Ctrl-C in the middle; whether it came in time, and then with one clear line and its code."""
    begun = time.monotonic()
    process = started(folder, *command)
    # On a busy machine Python alone may take that long to start: then it is not yet the command that is stopped.
    while process.poll() is None and "libarrow" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.01)
    time.sleep(max(0.0, begun + after_s - time.monotonic()))
    process.send_signal(signal.SIGINT)
    shown, said = process.communicate(timeout=60)
    if process.returncode == 0:
        return False
    assert process.returncode == 130, (process.returncode, said)
    assert "Traceback" not in said and "unexpected" not in said and "error" not in said, said
    assert said.splitlines()[-1] == "stopped; what was done stands", said
    return True


def interrupt(folder: Path, *command: str, seconds: float, share: float) -> None:
    """Stop a command in the middle, and keep what it has left behind.

    Args:
        seconds: how long the whole takes, about; `share`: of it goes by before.
    """
    before = folder.with_name(f"{folder.name}-before")
    for _ in range(6):
        shutil.copytree(folder, before)
        stopped = interrupted(folder, *command, after_s=seconds * share)
        if stopped:
            shutil.rmtree(before)
            return
        # The machine has become faster since the time was taken: once more from the beginning, and sooner.
        shutil.rmtree(folder)
        before.rename(folder)
        seconds *= 0.7
    raise AssertionError("it had always ended before")


def seconds_of(folder: Path, *command: str) -> float:
    """How long a command takes; what it does is undone."""
    whole = Path(shutil.copytree(folder, folder.with_name(f"{folder.name}-whole")))
    seconds = finished(whole, *command)
    shutil.rmtree(whole)
    return seconds


def interrupt_and_finish(folder: Path, *command: str, shares: Sequence[float] = (0.5,)) -> None:
    """Stop a command after these shares of its time, each time going on from what it has left; then let it end."""
    seconds = seconds_of(folder, *command)
    for share in shares:
        interrupt(folder, *command, seconds=seconds, share=share)
    finished(folder, *command)


def online(folder: Path, features: list[str], users: range) -> dict[str, list[int]]:
    with FeatureStore(folder) as store:
        return store.get_online_features(features, {"user_id": list(users)}).to_dict()


def sums_of(rows: pa.Table) -> dict[int, int]:
    sums = rows.group_by("user_id").aggregate([("value", "sum")])
    return dict(zip(sums["user_id"].to_pylist(), sums["value_sum"].to_pylist(), strict=True))


def test_materialize(folder: Path, rows: pa.Table) -> None:
    interrupt_and_finish(folder, "materialize")
    found = online(folder, ["people:value", "sums:sum_1d"], range(USERS))
    last = rows.sort_by("at")
    latest = dict(zip(last["user_id"].to_pylist(), last["value"].to_pylist(), strict=True))
    sums = sums_of(rows)
    assert found["value"] == [latest.get(user) for user in range(USERS)]
    assert found["sum_1d"] == [sums.get(user) for user in range(USERS)]


def test_stream_run(folder: Path) -> None:
    interrupt_and_finish(folder, "stream", "run", "--until-caught-up")
    found = online(folder, ["visited:visited_1d", "visited:ever"], range(VISITORS))
    assert found["visited_1d"] == found["ever"] == [EVENTS // VISITORS] * VISITORS


def test_backfill_and_rebuild(folder: Path, rows: pa.Table) -> None:
    pq.write_table(rows, folder / "old.parquet")
    # Most of its time it waits for workers, which might feed the old rows.
    interrupt_and_finish(folder, "backfill", "visits", shares=(0.1, 0.6))
    finished(folder, "stream", "run", "--until-caught-up")
    per_user = rows.group_by("user_id").aggregate([([], "count_all")])
    counts = dict(zip(per_user["user_id"].to_pylist(), per_user["count_all"].to_pylist(), strict=True))
    sums = sums_of(rows)
    more = [EVENTS // VISITORS if user < VISITORS else 0 for user in range(USERS)]
    expected = {
        "visited_1d": [sums.get(user, 0) + more[user] for user in range(USERS)],
        "ever": [counts.get(user, 0) + more[user] for user in range(USERS)],
    }

    def answered() -> dict[str, list[int]]:
        found = online(folder, ["visited:visited_1d", "visited:ever"], range(USERS))
        return {"visited_1d": [value or 0 for value in found["visited_1d"]], "ever": found["ever"]}

    assert answered() == expected
    interrupt(folder, "rebuild", "visited", seconds=seconds_of(folder, "rebuild", "visited"), share=0.6)
    assert answered() == expected, "readers keep the old rows while a rebuild is stopped"
    finished(folder, "rebuild", "visited")
    assert answered() == expected


def test_get_historical(folder: Path, rows: pa.Table) -> None:
    out = folder / "training_set.parquet"
    command = ("get", "historical", "--features", "people:value,sums:sum_1d", "--out", out.name)
    seconds = finished(folder, *command)
    whole = pq.read_table(out)
    out.unlink()
    interrupt(folder, *command, seconds=seconds, share=0.6)
    assert not out.exists(), "a part of a file looks like a whole one"
    finished(folder, *command)
    again = pq.read_table(out)
    assert again.equals(whole) and again.num_rows == ROWS
    assert pc.sum(again["value"]).as_py() == pc.sum(rows["value"]).as_py()


@pytest.mark.soak
def test_demo(tmp_path: Path) -> None:
    output = tmp_path / "demo-output"
    command = ("demo", "--users", "300", "--ticks", "6000", "--output", str(output))
    seconds = finished(tmp_path, *command)
    whole = pq.read_table(output / "training_set.parquet")
    shutil.rmtree(output)
    for share in (0.3, 0.6):
        interrupt(tmp_path, *command, seconds=seconds, share=share)
    finished(tmp_path, *command)
    assert pq.read_table(output / "training_set.parquet").sort_by("order_id").equals(whole.sort_by("order_id"))
    assert json.loads((output / "report.json").read_text())
