"""Messages that kill the process which takes them are found by a child, and are dead letters; a kill makes none."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asof.definitions import Field, LogSource
from asof.flows.stores import ChildDeath
from asof.flows.stream.suspects import DEATHS, FATAL, MOST_KILLS, Suspects
from asof.log.protocol import Messages
from asof.opening.message_process import ChildMessageProcess
from asof.store import FeatureStore, open_store_of
from asof.testing.clock import MicrosClock
from asof.timing import iso, micros
from asof.types import Int64, Timestamp
from tests.embedded_stores import close, embedded_stores

NOW = micros("2026-01-01T12:00:00+00:00")
DEFINITIONS = """
import ctypes, os, sys, time
from pathlib import Path
import pyarrow as pa
from asof import Aggregation, Entity, FeatureView, Field, LogSource
from asof.types import Int64, String, Timestamp

FOLDER = {folder!r}

def rows_of(messages: pa.Table) -> pa.Table:
    for kind in messages["kind"].to_pylist():
        if kind == "abort":
            os.abort()
        elif kind == "segmentation fault":
            ctypes.string_at(0)
        elif kind == "exit":
            os._exit(0)
        elif kind == "sys.exit":
            sys.exit(3)
        elif kind == "memory":
            bytearray(1 << 30)
        elif kind == "endless":
            time.sleep(3600)
        elif kind == "wait":
            while Path(FOLDER, "wait").exists():
                Path(FOLDER, "here").touch()
                time.sleep(0.01)
    return messages.select(["user_id", "ts"])

visits = LogSource("visits", transform=rows_of, timestamp_field="ts",
    message_schema=[Field("user_id", Int64), Field("kind", String), Field("ts", Timestamp)],
    schema=[Field("user_id", Int64), Field("ts", Timestamp)])
seen = FeatureView("seen", entities=[Entity("user", join_keys=["user_id"])], source=visits,
    aggregations=[Aggregation("", "count", name="n")])
"""


def message(kind: str = "", user: int = 1) -> bytes:
    return json.dumps({"user_id": user, "kind": kind, "ts": iso(NOW)}).encode()


class Shop:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "feature_store.yaml").write_text(
            f"project: shop\nclock: {iso(NOW)}\nlog: {{type: file, session_timeout_s: 1}}\n", encoding="utf-8"
        )
        (folder / "features.py").write_text(DEFINITIONS.format(folder=str(folder)), encoding="utf-8")
        self.store = FeatureStore(folder)
        self.store.apply()

    def send(self, *kinds: str) -> None:
        log = open_store_of(self.store).stores.log
        log.send("visits", [message(kind) for kind in kinds], partition=0, durable=True)

    def worker(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "asof", "stream", "run", "--until-caught-up"], cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self) -> int:
        worker = self.worker()
        said, _ = worker.communicate(timeout=300)
        print(said.decode())
        return worker.returncode

    def seen(self) -> int:
        found: int = self.store.get_online_features(["seen:n"], {"user_id": [1]}).to_dict()["n"][0]
        return found

    def dead_letters(self) -> list[tuple[int, str]]:
        return [(each["offset"], each["reason"]) for each in self.store.dead_letters().to_dicts()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.store.close()


def test_a_message_that_kills_two_workers_and_two_children_is_a_dead_letter(shop: Shop) -> None:
    shop.send("", "", "segmentation fault", "")
    assert [shop.run() for _ in range(DEATHS)] == [-signal.SIGSEGV] * DEATHS
    assert shop.dead_letters() == [] and shop.run() == 0

    ((offset, reason),) = shop.dead_letters()
    assert offset == 2 and reason.startswith(FATAL) and "was ended by SIGSEGV" in reason
    assert shop.seen() == 3
    # The next worker begins as ever.
    shop.send("")
    assert shop.run() == 0 and shop.seen() == 4

    # Neither to show nor to replay it ends this process.
    (dead_letter,) = shop.store.dead_letters().to_dicts()
    refused = shop.store.dead_letter(dead_letter["id"])["refused_now"]
    assert isinstance(refused, str) and refused.startswith(FATAL) and "tried again" in refused and "SIGSEGV" in refused
    replayed = shop.store.replay_dead_letters("visits")
    assert (replayed.sent, replayed.still_unfit) == (0, {dead_letter["id"]: refused})

    features = shop.folder / "features.py"
    features.write_text(features.read_text("utf-8").replace("ctypes.string_at(0)", "pass"), encoding="utf-8")
    with FeatureStore(shop.folder) as mended:
        mended.apply()
        replayed = mended.replay_dead_letters("visits")
        assert (replayed.sent, replayed.still_unfit) == (1, {})
    assert shop.run() == 0 and shop.seen() == 5


def test_a_message_whose_worker_is_killed_from_outside_again_and_again_is_none(shop: Shop) -> None:
    shop.send("", "wait", "")
    for _ in range(DEATHS):
        (shop.folder / "wait").touch()
        worker = shop.worker()
        until = time.monotonic() + 120
        while not (shop.folder / "here").exists():
            assert time.monotonic() < until and worker.poll() is None, "it never took the message"
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
        (shop.folder / "here").unlink()
    (shop.folder / "wait").unlink()

    assert shop.run() == 0
    assert shop.dead_letters() == [] and shop.seen() == 3


def test_a_transform_that_raises_system_exit_makes_a_dead_letter_and_no_death(shop: Shop) -> None:
    shop.send("", "sys.exit", "")
    assert shop.run() == 0

    ((offset, reason),) = shop.dead_letters()
    assert offset == 1 and "SystemExit: 3" in reason and shop.seen() == 2


def messages(*kinds: str) -> Messages:
    count = len(kinds)
    return Messages(
        np.zeros(count, np.int32),
        np.arange(count),
        np.full(count, NOW),
        [None] * count,
        [message(each) for each in kinds],
    )


def test_a_child_is_bounded_in_memory_and_time(shop: Shop) -> None:
    config = open_store_of(shop.store).config
    child = ChildMessageProcess(config, "visits", memory_bytes=256 << 20, timeout_s=60)
    try:
        assert child.take(messages("", ""), now=NOW) is None
        assert child.take(messages("", "memory"), now=NOW) == ChildDeath("needs more than 268435456 bytes of memory")
        assert child.take(messages(""), now=NOW) is None
        assert child.take(messages("abort"), now=NOW) == ChildDeath("was ended by SIGABRT")
        assert child.take(messages("exit"), now=NOW) == ChildDeath("ended with exit code 0")
    finally:
        child.close()
    slow = ChildMessageProcess(config, "visits", memory_bytes=256 << 20, timeout_s=1)
    try:
        assert slow.take(messages("endless"), now=NOW) == ChildDeath("needs more than 1 s")
    finally:
        slow.close()


def test_a_child_that_is_killed_or_does_not_start_says_nothing_about_its_messages(shop: Shop) -> None:
    config = open_store_of(shop.store).config
    child = ChildMessageProcess(config, "visits", memory_bytes=256 << 20, timeout_s=60)
    try:
        assert child.take(messages(""), now=NOW) is None
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        death = child.take(messages(""), now=NOW)
        assert death is not None and death.is_outside and "SIGKILL" in death.reason
        assert child.take(messages(""), now=NOW) is None
    finally:
        child.close()
    absent = ChildMessageProcess(config, "no such source", memory_bytes=256 << 20, timeout_s=60)
    death = absent.take(messages(""), now=NOW)
    assert death is not None and death.is_outside and "did not start" in death.reason


class Judged:
    """A child that dies on some offsets, and is killed from outside at some of its calls."""

    def __init__(self, *deadly: int, kills: int = 0) -> None:
        self.deadly, self.kills, self.takes = set(deadly), kills, 0

    def take(self, messages: Messages, *, now: int) -> ChildDeath | None:
        self.takes += 1
        if self.takes <= self.kills:
            return ChildDeath("was ended by SIGKILL", is_outside=True)
        return ChildDeath("was ended by SIGSEGV") if self.deadly & set(messages.offsets.tolist()) else None

    def close(self) -> None:
        pass


@pytest.fixture
def source() -> LogSource:
    return LogSource("visits", schema=[Field("user_id", Int64), Field("ts", Timestamp)], timestamp_field="ts")


@pytest.mark.parametrize(
    ("deaths", "kills", "expected"), [(0, 0, []), (1, 0, []), (2, 0, [5, 6]), (2, 1, [5, 6]), (2, MOST_KILLS, [])]
)
def test_the_messages_to_blame_are_found_after_two_deaths_at_one_offset(
    tmp_path: Path, source: LogSource, deaths: int, kills: int, expected: list[int]
) -> None:
    stores = embedded_stores(tmp_path, clock=MicrosClock()).replaced(isolate=lambda _: Judged(5, 6, kills=kills))
    counts: Counter[str] = Counter()
    for _ in range(deaths):
        Suspects(stores, source, counts=counts).begin(0, position=3, after=8)
    suspects = Suspects(stores, source, counts=counts)
    suspects.begin(0, position=3, after=8)
    batch = Messages(np.zeros(9, np.int32), np.arange(9), np.zeros(9, np.int64), [None] * 9, [message()] * 9)

    found = suspects.fatal(source, batch, base=0, now=NOW, known={})
    assert sorted(found) == expected and all("SIGSEGV" in reason for reason in found.values())
    # All that was in the log has been looked at; what was found is not taken by any process again.
    assert suspects.fatal(source, batch, base=0, now=NOW, known=found) == found
    suspects.release(0)
    again = Suspects(stores, source, counts=Counter())
    again.begin(0, position=3, after=8)
    assert again.fatal(source, batch, base=0, now=NOW, known={}) == {}, "who left alive has not died"
    close(stores)


def test_deaths_at_different_offsets_and_of_partitions_that_others_own_are_no_suspicion(
    tmp_path: Path, source: LogSource
) -> None:
    stores = embedded_stores(tmp_path, clock=MicrosClock()).replaced(isolate=lambda _: Judged(5))
    batch: Any = Messages(np.zeros(9, np.int32), np.arange(9), np.zeros(9, np.int64), [None] * 9, [message()] * 9)
    for position in (1, 3):
        Suspects(stores, source, counts=Counter()).begin(0, position=position, after=8)
    last = Suspects(stores, source, counts=Counter())
    last.begin(0, position=4, after=8)
    assert last.fatal(source, batch, base=0, now=NOW, known={}) == {}
    last.lose({0})
    close(stores)
