"""The file log under real processes that are killed, stopped or run out of space at any moment."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from asof.errors import LogError
from asof.log.file.log import FileLog
from asof.testing.log import LogSuite, Member

pytestmark = pytest.mark.integration

OPEN = """
import os, sys, time
from asof.log.file.log import FileLog
log = FileLog(sys.argv[1], clock=lambda: time.time_ns() // 1000, segment_bytes=20_000, session_timeout_s=1.0)
"""

WRITE = (
    OPEN
    + """
writer, i = sys.argv[2], 0
while True:
    names = [f"{writer}-{i + k}" for k in range(1 + i % 5)]
    # Larger than a pipe's or a page's worth now and then, so that a kill can fall into the middle of a write.
    values = [(name + ":").encode() + name[-1:].encode() * (40_000 if i % 7 == 0 else 30) for name in names]
    places = log.send("t", values, keys=[name.encode() for name in names], durable=True)
    sys.stdout.write("".join(f"{name} {p} {o}\\n" for name, (p, o) in zip(names, places)))
    sys.stdout.flush()
    i += len(names)
"""
)

CONSUME = (
    OPEN
    + """
say = lambda word: lambda parts: print(word, *(p.number for p in parts), flush=True)
consumer = log.subscribe("t", "workers", assigned=say("assigned"), revoked=say("revoked"), lost=say("lost"))
while True:
    consumer.poll(10, 0.02)
"""
)

OWN = OPEN + 'print(log.own_partition("t"), flush=True)\ntime.sleep(600)\n'

ERASE = OPEN + 'while True:\n    log.erase("t", lambda key, value: key == b"secret")\n    print("erased", flush=True)\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(root: Path) -> Iterator[FileLog]:
    opened = FileLog(root, clock=lambda: 0, segment_bytes=20_000, session_timeout_s=1.0)
    yield opened
    opened.close()


@pytest.fixture
def start(root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def run(script: str, *arguments: str, out: Path | None = None) -> subprocess.Popen[str]:
        with ExitStack() as stack:
            running.append(
                subprocess.Popen(
                    [sys.executable, "-c", script, str(root), *arguments],
                    stdout=subprocess.PIPE if out is None else stack.enter_context(out.open("a")),
                    text=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                )
            )
        return running[-1]

    yield run
    for process in running:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def everything(log: FileLog, topic: str = "t") -> dict[tuple[int, int], tuple[bytes | None, bytes | None]]:
    """All records by place; fails where offsets are not dense."""
    found: dict[tuple[int, int], tuple[bytes | None, bytes | None]] = {}
    for number, (first, stop) in log.bounds(topic).items():
        at = first
        while len(piece := log.read(topic, number, at, stop=stop)):
            assert piece.offsets.tolist() == list(range(at, at + len(piece)))
            for offset, key, value in zip(piece.offsets.tolist(), piece.keys, piece.values, strict=True):
                found[number, offset] = key, value
            at += len(piece)
        assert at == stop
    return found


def is_whole(key: bytes | None, value: bytes | None) -> bool:
    """Whether a writer made exactly this value for this key."""
    assert key is not None and value is not None
    return value in (key + b":" + key[-1:] * 30, key + b":" + key[-1:] * 40_000)


def test_acknowledged_records_are_read_once_and_readers_see_no_garbage_while_writers_are_killed(
    log: FileLog, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    log.create("t", 2)
    reader = Member(log, "t")
    chance = random.Random(7)
    acknowledged = tmp_path / "acknowledged"
    kills = 0
    # A busy machine gets few writes in between two kills.
    while kills < 14 or acknowledged.read_bytes().count(b"\n") <= 100:
        writers = [start(WRITE, f"w{kills + i}", out=acknowledged) for i in range(2)]
        before = acknowledged.stat().st_size
        while acknowledged.stat().st_size == before:
            reader.poll(timeout_s=0.01)
        until = time.monotonic() + chance.uniform(0, 0.15)
        while time.monotonic() < until:
            reader.poll(timeout_s=0.005)
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            kills += 1

    log.send("t", [b"end:d" + b"d" * 29] * 2, keys=[b"end", b"end"], durable=True)
    found = everything(log)
    # A kill may cut the last line of a writer, which is then no acknowledgement.
    lines = [line.split() for line in acknowledged.read_text().split("\n")[:-1]]
    promised = {(int(number), int(offset)): name.encode() for name, number, offset in lines}
    assert len(promised) == len(lines) > 100
    for place, name in promised.items():
        assert found[place][0] == name
    keys = [key for key, _ in found.values() if key != b"end"]
    assert len(keys) == len(set(keys))
    assert all(is_whole(key, value) for key, value in found.values() if key != b"end")

    LogSuite().until([reader], lambda: len(reader.got) >= len(found))
    assert {(number, offset): value for number, offset, value in reader.got} == {
        place: value for place, (_, value) in found.items()
    }
    assert len(reader.got) == len(found)
    reader.consumer.close()


def test_a_killed_consumers_partitions_go_to_the_others(
    log: FileLog, start: Callable[..., subprocess.Popen[str]]
) -> None:
    log.create("t", 4)
    member = Member(log, "t")
    other = start(CONSUME)
    LogSuite().until([member], lambda: len(member.holds) == 2)
    assert other.stdout is not None

    assert other.stdout.readline().startswith("assigned")

    other.kill()
    other.wait()

    LogSuite().until([member], lambda: member.holds == {0, 1, 2, 3})
    assert "lost" not in [what for what, _ in member.calls]
    member.consumer.close()


def test_a_stopped_consumer_loses_its_partitions_and_learns_it(
    log: FileLog, start: Callable[..., subprocess.Popen[str]]
) -> None:
    log.create("t", 2)
    other = start(CONSUME)
    assert other.stdout is not None
    assert other.stdout.readline() == "assigned 0 1\n"

    other.send_signal(signal.SIGSTOP)
    member = Member(log, "t")
    LogSuite().until([member], lambda: member.holds == {0, 1})
    other.send_signal(signal.SIGCONT)

    assert other.stdout.readline() == "lost 0 1\n"
    LogSuite().until([member], lambda: len(member.holds) == 1)
    member.consumer.close()


def test_a_dead_process_partition_is_taken_over_and_living_ones_are_not(
    log: FileLog, start: Callable[..., subprocess.Popen[str]]
) -> None:
    log.create("t", 1)
    owners = [start(OWN) for _ in range(3)]
    numbers = []
    for owner in owners:
        assert owner.stdout is not None
        numbers.append(int(owner.stdout.readline()))
    assert sorted(numbers) == [0, 1, 2]

    owners[1].kill()
    owners[1].wait()

    assert log.own_partition("t") == numbers[1]
    assert log.partitions("t") == 3


def test_a_forked_child_has_a_partition_of_its_own(log: FileLog) -> None:
    log.create("t", 1)
    assert log.own_partition("t") == 0
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            own = log.own_partition("t")
            os.write(writes, b"%d %d" % log.send("t", [b"c"], partition=own, durable=False)[0])
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writes)
    assert os.read(reads, 100) == b"1 0"
    os.close(reads)
    second = FileLog(log.root, clock=lambda: 0)
    assert second.own_partition("t") == 1
    second.close()


def test_writers_and_readers_go_on_while_an_eraser_is_killed_again_and_again(
    log: FileLog, start: Callable[..., subprocess.Popen[str]]
) -> None:
    log.create("t", 1)
    member = Member(log, "t")
    chance = random.Random(3)
    sent: list[bytes] = []
    for round_number in range(6):
        eraser = start(ERASE)
        assert eraser.stdout is not None
        until: float | None = None
        while until is None or time.monotonic() < until:
            keys = [b"open", b"secret"]
            values = [b"open-%d" % len(sent), b"hidden-%d" % len(sent)]
            log.send("t", values, keys=keys, durable=False)
            sent.append(values[0])
            member.poll(timeout_s=0.002)
            if until is None and (round_number or eraser.stdout.readline()):
                until = time.monotonic() + 0.3 + chance.uniform(0, 0.05)
        eraser.kill()
        eraser.wait()

    log.erase("t", lambda key, value: key == b"secret")
    assert log.send("t", [b"end"], durable=False) == [(0, 2 * len(sent))]
    LogSuite().until([member], lambda: bool(member.got) and member.got[-1][2] == b"end")
    offsets = [offset for _, offset, _ in member.got]
    assert offsets == sorted(set(offsets))
    assert [value for _, _, value in member.got if value is not None and value.startswith(b"open")] == sent
    for path in (log.root / "t" / "0").glob("*.log"):
        assert b"hidden" not in path.read_bytes()
    member.consumer.close()


def test_a_file_size_limit_is_reported_and_keeps_the_log_whole(log: FileLog) -> None:
    log.create("t")
    log.send("t", [b"first"], durable=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        with pytest.raises(LogError, match="no space left"):
            log.send("t", [bytes(100_000)], durable=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.send("t", [b"second"], durable=True) == [(0, 1)]
    assert log.read("t", 0, 0).values == [b"first", b"second"]
