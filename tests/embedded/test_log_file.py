"""The file log: what only files can show."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from errno import ENOSPC
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof.errors import LogError
from asof.log.file import partition as file_partition
from asof.log.file.frames import BATCH_RECORDS, HEADER, check, pack, unpack
from asof.log.file.group import fair_share
from asof.log.file.log import FileLog
from asof.log.protocol import Messages, PartitionNotOwned
from asof.testing.clock import MicrosClock
from asof.testing.log import LogSuite, Member

NOW = 1_700_000_000_000_000


@pytest.fixture
def clock() -> MicrosClock:
    return MicrosClock(NOW)


@pytest.fixture
def open_log(tmp_path: Path, clock: MicrosClock) -> Iterator[Callable[[], FileLog]]:
    opened: list[FileLog] = []

    def open_one() -> FileLog:
        opened.append(FileLog(tmp_path / "log", clock=clock, segment_bytes=4096, session_timeout_s=30))
        return opened[-1]

    yield open_one
    for log in opened:
        log.close()


@pytest.fixture
def log(open_log: Callable[[], FileLog]) -> FileLog:
    return open_log()


def segment(log: FileLog, topic: str, base: int = 0, number: int = 0) -> Path:
    return log.root / topic / str(number) / file_partition.segment_name(base)


def sent(log: FileLog, count: int, *, topic: str = "t", size: int = 10) -> list[bytes]:
    log.create(topic)
    values = [b"%0*d" % (size, i) for i in range(count)]
    for value in values:
        log.send(topic, [value], durable=False)
    return values


def rebooted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_partition, "boot_id", lambda: 4711)


def read_all(log: FileLog, topic: str = "t", start: int = 0) -> list[bytes | None]:
    got: list[bytes | None] = []
    while len(piece := log.read(topic, 0, start)):
        got += piece.values
        start = int(piece.offsets[-1]) + 1
    return got


# ---- batches


cells = st.none() | st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=5), cells), max_size=2).map(tuple)
records = st.lists(st.tuples(cells, cells, headers, st.integers(-(2**62), 2**62)), min_size=1, max_size=30)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(records, st.booleans(), st.booleans(), st.booleans()), max_size=4))
def test_what_is_packed_is_unpacked_the_same(batches: list[tuple[list, bool, bool, bool]]) -> None:
    data, offset, expected = b"", 7, []
    for rows, with_keys, with_headers, with_times in batches:
        packed = pack(
            [row[0] for row in rows],
            keys=[row[1] for row in rows] if with_keys else None,
            headers=[row[2] for row in rows] if with_headers else None,
            times=[row[3] for row in rows] if with_times else NOW,
        )
        for batch in packed:
            data += batch.sealed(offset)
            offset += batch.count
        expected += [
            (r[0], r[1] if with_keys else None, r[2] if with_headers else (), r[3] if with_times else NOW) for r in rows
        ]

    found = unpack(data + b"\x01" * 20, 3)
    got = found.messages
    assert found.size == len(data)
    assert got.offsets.tolist() == list(range(7, offset))
    assert (
        list(zip(got.values, got.keys, got.headers or [()] * len(got), got.timestamps_us.tolist(), strict=True))
        == expected
    )


def test_large_sends_are_cut_into_batches() -> None:
    many = list(pack([b"x"] * (2 * BATCH_RECORDS + 1), keys=None, headers=None, times=NOW))
    heavy = list(pack([bytes(700_000)] * 3, keys=None, headers=None, times=NOW))
    assert [batch.count for batch in many] == [BATCH_RECORDS, BATCH_RECORDS, 1]
    assert [batch.count for batch in heavy] == [1, 1, 1]


def test_each_flipped_bit_of_a_batch_is_noticed() -> None:
    (batch,) = pack([b"value", None], keys=[b"key", b"k"], headers=None, times=[1, 2])
    data = batch.sealed(5)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 4
        with pytest.raises(file_partition.DamagedBatch):
            check(bytes(broken))


def test_messages_are_sliced_and_selected_by_row() -> None:
    messages = Messages(
        np.zeros(3, np.int32), np.arange(3), np.arange(3) * 10, [b"a", None, b"c"], [b"1", b"2", b"3"], [(), (), ()]
    )
    assert messages[1:].offsets.tolist() == [1, 2]
    assert messages.select(np.array([True, False, True])).keys == [b"a", b"c"]
    assert messages.select([2, 0]).values == [b"3", b"1"]
    assert len(Messages.concat([])) == 0
    assert Messages.concat([messages, Messages.empty(), messages[:1]]).timestamps_us.tolist() == [0, 10, 20, 0]


# ---- segments


def test_segments_roll_by_size_and_are_named_by_their_first_offset(log: FileLog) -> None:
    values = sent(log, 200)
    bases = sorted(int(path.stem) for path in (log.root / "t" / "0").glob("*.log"))
    assert bases[0] == 0 and len(bases) > 2
    assert read_all(log) == values
    for base in bases:
        assert log.read("t", 0, base, max_messages=1).values == [values[base]]


def test_a_seek_finds_its_place_with_without_and_with_a_wrong_index(tmp_path: Path, clock: MicrosClock) -> None:
    log = FileLog(tmp_path, clock=clock)
    values = sent(log, 900, size=400)
    index = segment(log, "t").with_suffix(".index")
    assert index.stat().st_size >= 5 * 16

    for data in (index.read_bytes(), index.read_bytes() + b"torn", b"\x01" * 48, b""):
        index.write_bytes(data)
        for offset in (0, 1, 250, 511, 898, 899):
            assert log.read("t", 0, offset, max_messages=1).values == [values[offset]]
    index.unlink()
    assert log.read("t", 0, 640, max_messages=1).values == [values[640]]
    log.close()


def test_a_torn_end_is_never_served_and_the_next_writer_cuts_it(log: FileLog, open_log: Callable[[], FileLog]) -> None:
    sent(log, 3)
    path = segment(log, "t")
    (batch,) = pack([b"never acknowledged"], keys=None, headers=None, times=NOW)
    whole = path.read_bytes()
    for torn in (batch.sealed(3), batch.sealed(3)[:-5], b"\x00" * 100):
        path.write_bytes(whole + torn)
        assert len(log.read("t", 0, 0)) == 3
        assert len(log.read("t", 0, 3)) == 0
    assert open_log().send("t", [b"next"], durable=False) == [(0, 3)]
    assert read_all(log)[3:] == [b"next"]
    assert b"acknowledged" not in path.read_bytes()


@pytest.mark.parametrize("by_age", [False, True])
def test_a_torn_end_does_not_stay_in_a_segment_that_is_followed_by_another(
    log: FileLog, clock: MicrosClock, by_age: bool
) -> None:
    values = sent(log, 2, size=100 if by_age else 2100)
    with open(segment(log, "t"), "ab") as file:
        file.write(b"torn" * 30)
    if by_age:
        clock.now += 10
        log.retain("t", max_age_us=5)
        assert log.bounds("t") == {0: (2, 2)}
    assert log.send("t", [b"next"], durable=False) == [(0, 2)]
    assert len(list((log.root / "t" / "0").glob("*.log"))) == (1 if by_age else 2)
    assert read_all(log, start=log.bounds("t")[0][0]) == [*([] if by_age else values), b"next"]


def test_damage_in_the_middle_is_an_error_with_file_and_position(log: FileLog) -> None:
    values = sent(log, 20)
    path = segment(log, "t")
    data = bytearray(path.read_bytes())
    size = len(data) // 20
    data[size * 7 + HEADER.size + 6] ^= 1
    path.write_bytes(data)

    assert log.read("t", 0, 0).values == values[:7]
    with pytest.raises(LogError, match=rf"{path} is damaged at byte {size * 7}: a batch's checksum"):
        log.read("t", 0, 7)
    assert log.read("t", 0, 8).values == values[8:]
    consumer = log.subscribe("t", "g")
    assert len(consumer.poll(100, 0)) == 7
    with pytest.raises(LogError, match="damaged"):
        consumer.poll(100, 0)
    consumer.close()


def test_a_segment_that_became_shorter_is_an_error_for_readers_and_writers(log: FileLog) -> None:
    sent(log, 5)
    path = segment(log, "t")
    os.truncate(path, path.stat().st_size - 3)
    assert len(log.read("t", 0, 0)) == 4
    with pytest.raises(LogError, match="damaged at byte"):
        log.read("t", 0, 4)
    with pytest.raises(LogError, match="damaged at byte"):
        log.send("t", [b"x"], durable=False)


def test_a_missing_segment_is_an_error_that_names_it(log: FileLog) -> None:
    values = sent(log, 200)
    middle = sorted((log.root / "t" / "0").glob("*.log"))[1]
    start = int(middle.stem)
    following = min(base for path in (log.root / "t" / "0").glob("*.log") if (base := int(path.stem)) > start)
    middle.unlink()
    for wanted in (start, start + 1):
        with pytest.raises(LogError, match=f"has lost the records {wanted} to {following - 1}"):
            log.read("t", 0, wanted)
    assert log.read("t", 0, 0, max_messages=300).values == values[:start]
    with pytest.raises(LogError, match=f"has lost the records {start} to {following - 1}"):
        read_all(log)


# ---- after a power cut: the machine has started anew, so the state may be older or newer than the segments


def test_after_a_power_cut_whole_batches_beyond_the_state_are_kept(
    log: FileLog, open_log: Callable[[], FileLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = sent(log, 3)
    state = log.root / "t" / "0" / "state"
    old = state.read_bytes()
    log.send("t", [b"acknowledged"], durable=True)
    torn = segment(log, "t")
    torn.write_bytes(torn.read_bytes() + b"ASF1 and then nothing")
    for left in (old, b"", bytes(len(old))):
        state.write_bytes(left)
        rebooted(monkeypatch)
        fresh = open_log()
        assert read_all(fresh) == [*values, b"acknowledged"]
        assert fresh.bounds("t") == {0: (0, 4)}
        monkeypatch.undo()


def test_an_offset_that_was_published_is_never_used_again(
    log: FileLog, open_log: Callable[[], FileLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = sent(log, 5)
    path = segment(log, "t")
    os.truncate(path, path.stat().st_size // 5 * 3 + 8)
    rebooted(monkeypatch)
    fresh = open_log()

    assert fresh.send("t", [b"new"], durable=False) == [(0, 5)]
    messages = fresh.read("t", 0, 0)
    assert (messages.offsets.tolist(), messages.values) == ([0, 1, 2, 5], [*values[:3], b"new"])
    assert fresh.read("t", 0, 4).values == [b"new"]


def test_a_hole_before_whole_batches_is_not_taken_for_a_torn_end(
    log: FileLog, open_log: Callable[[], FileLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(log, 5)
    path = segment(log, "t")
    data = bytearray(path.read_bytes())
    size = len(data) // 5
    data[2 * size : 3 * size] = bytes(size)
    path.write_bytes(data)
    rebooted(monkeypatch)
    with pytest.raises(LogError, match=f"damaged at byte {2 * size}"):
        open_log().read("t", 0, 0)


# ---- full disks


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.create("two", 2)
    log.send("two", [b"a", b"b"], keys=[b"1", b"4"], durable=False)
    before = log.bounds("two")
    sizes = [segment(log, "two", number=number).stat().st_size for number in (0, 1)]
    real, calls = os.pwrite, []

    def full(fd: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) > 2:
            raise OSError(ENOSPC, "No space left on device")
        return real(fd, bytes(data)[: len(data) // 2], offset)

    monkeypatch.setattr(file_partition.os, "pwrite", full)
    with pytest.raises(LogError, match="no space left") as raised:
        log.send("two", [b"x"] * 40, keys=[b"%d" % i for i in range(40)], durable=True)
    monkeypatch.undo()

    assert "free disk space" in raised.value.hint
    assert isinstance(raised.value.__cause__, OSError)
    assert log.bounds("two") == before
    log.send("two", [b"c"] * 2, keys=[b"1", b"4"], durable=False)
    assert [len(log.read("two", number, 0)) for number in (0, 1)] == [stop + 1 for _, stop in before.values()]
    assert all(segment(log, "two", number=n).stat().st_size == 2 * sizes[n] for n in (0, 1))


# ---- threads


def test_threads_that_send_while_another_syncs_share_the_next_sync(
    log: FileLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.create("t")
    syncing, go_on, syncs = threading.Event(), threading.Event(), []

    def slow_sync(fd: int) -> None:
        syncs.append(fd)
        syncing.set()
        assert go_on.wait(30)

    monkeypatch.setattr(file_partition, "sync_data", slow_sync)
    positions: dict[bytes, list[tuple[int, int]]] = {}

    def send(value: bytes) -> None:
        positions[value] = log.send("t", [value, value], durable=True)

    threads = [threading.Thread(target=send, args=(b"%d" % i,)) for i in range(6)]
    threads[0].start()
    assert syncing.wait(30)
    assert log.bounds("t") == {0: (0, 0)}, "what is not yet durable must not be seen"
    for thread in threads[1:]:
        thread.start()
    waiting = log.topic("t").partition(0).waiting
    while len(waiting) < 5:
        time.sleep(0.001)
    go_on.set()
    for thread in threads:
        thread.join()

    assert len(syncs) == 2
    messages = log.read("t", 0, 0)
    assert len(messages) == 12
    for value, [(_, first), (_, second)] in positions.items():
        assert messages.values[first : second + 1] == [value, value]


# ---- retention and erasing


def test_retention_by_age_drops_what_is_older_even_in_the_last_segment(log: FileLog, clock: MicrosClock) -> None:
    sent(log, 100)
    clock.now += 10_000_000
    log.send("t", [b"young"], durable=False)
    log.retain("t", max_age_us=5_000_000)
    start, stop = log.bounds("t")[0]
    assert 0 < start < stop == 101

    clock.now += 10_000_000
    log.retain("t", max_age_us=5_000_000)
    assert log.bounds("t") == {0: (101, 101)}
    assert log.send("t", [b"next"], durable=False) == [(0, 101)]
    assert read_all(log, start=101) == [b"next"]
    assert len(list((log.root / "t" / "0").glob("*.log"))) == 1


def test_erased_bytes_are_gone_from_the_disk_also_from_a_torn_end(
    log: FileLog, open_log: Callable[[], FileLog]
) -> None:
    log.create("t")
    for i in range(120):
        log.send("t", [b"value-of-%d" % (i % 3)], keys=[b"user-%d" % (i % 3)], durable=False)
    with_headers = [(("h", b"user-1"),), ()]
    log.send("t", [b"value-of-1", b"other"], keys=[b"user-1", b"user-2"], headers=with_headers, durable=False)
    last = max((log.root / "t" / "0").glob("*.log"))
    with open(last, "ab") as file:
        file.write(b"torn user-1")

    assert open_log().erase("t", lambda key, value: key == b"user-1") == 41

    for path in (log.root / "t").rglob("*"):
        assert path.is_dir() or not any(word in path.read_bytes() for word in (b"user-1", b"value-of-1"))
    assert log.send("t", [b"after"], durable=False) == [(0, 122)]
    assert len(read_all(log)) == 120 - 40 + 2
    assert not list((log.root / "t").rglob("*.erasing"))


def test_an_erase_that_fails_changes_nothing(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    values = sent(log, 10)

    def refuse(source: Path, target: Path) -> None:
        raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(file_partition.os, "replace", refuse)
    with pytest.raises(LogError, match="no space left"):
        log.erase("t", lambda key, value: True)
    monkeypatch.undo()
    assert read_all(log) == values
    assert not list((log.root / "t").rglob("*.erasing"))


def test_an_erase_that_dies_right_after_a_swap_misleads_neither_writers_nor_readers(
    log: FileLog, open_log: Callable[[], FileLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(log, 10)
    readers = [open_log(), open_log()]
    member = Member(readers[0], "t")
    LogSuite().until([member], lambda: len(member.got) == 10)
    real = os.replace

    def swap_and_die(source: Path, target: Path) -> None:
        # This reader looks between the state's change and the swap, so it has the old file open.
        member.consumer.seek(0, 4)
        assert member.poll(2).offsets.tolist() == [4, 5]
        real(source, target)
        raise SystemExit

    monkeypatch.setattr(file_partition.os, "replace", swap_and_die)
    with pytest.raises(SystemExit):
        open_log().erase("t", lambda key, value: value == b"0000000003")
    monkeypatch.undo()

    assert log.send("t", [b"after"], durable=False) == [(0, 10)]
    member.got.clear()
    LogSuite().until([member], lambda: len(member.got) == 5)
    assert member.got[-1] == (0, 10, b"after")
    assert read_all(readers[1])[2:5] == [b"0000000002", b"0000000004", b"0000000005"]
    member.consumer.close()


# ---- groups


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.lists(st.none() | st.integers(0, 5), max_size=14))
def test_a_fair_share_is_even_complete_and_moves_little(members: int, held: list[int | None]) -> None:
    names = [f"m{i}" for i in range(members)]
    owners = {p: None if i is None or i >= members else names[i] for p, i in enumerate(held)}
    wanted = fair_share(names, owners)

    counts = [list(wanted.values()).count(name) for name in names]
    assert sorted(wanted) == sorted(owners)
    assert max(counts) - min(counts) <= 1
    assert fair_share(names, dict(wanted)) == wanted
    # Least movement: with shares a and a+1, a member keeps min(held, share), and the larger shares go to the fullest.
    share, more = divmod(len(owners), members)
    full = sorted((sum(owner == name for owner in owners.values()) for name in names), reverse=True)
    kept = sum(min(h, share + (i < more)) for i, h in enumerate(full))
    assert sum(owners[p] == wanted[p] for p in owners) == kept


def test_a_member_that_did_not_poll_in_time_is_fenced_and_told(tmp_path: Path, clock: MicrosClock) -> None:
    logs = [FileLog(tmp_path, clock=clock, session_timeout_s=0.02) for _ in range(2)]
    logs[0].create("t", 2)
    slow, quick = Member(logs[0], "t"), Member(logs[1], "t")
    slow.poll()
    assert slow.holds == {0, 1}
    LogSuite().until([quick], lambda: quick.holds == {0, 1})

    with pytest.raises(PartitionNotOwned):
        slow.consumer.commit({0: 0})
    assert slow.consumer.committed() == {}
    slow.poll()
    assert slow.calls[1] == ("lost", [0, 1])
    LogSuite().until([slow, quick], lambda: len(slow.holds) == len(quick.holds) == 1)
    for member in (slow, quick):
        member.consumer.close()
    for log in logs:
        log.close()


def test_a_failing_assigned_callback_leaves_the_partitions_to_be_assigned_again(log: FileLog) -> None:
    log.create("t", 2)
    failures = [RuntimeError("the store is away")]

    def assigned(partitions: object) -> None:
        if failures:
            raise failures.pop()

    consumer = log.subscribe("t", "g", assigned=assigned)
    with pytest.raises(RuntimeError):
        consumer.poll(1, 0)
    assert consumer.assignment() == []
    while not consumer.assignment():
        consumer.poll(1, 0.01)
    assert [partition.number for partition in consumer.assignment()] == [0, 1]
    consumer.close()


# ---- names


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".hidden", "a b", "x" * 250])
def test_a_name_that_is_no_file_name_is_refused(log: FileLog, name: str) -> None:
    with pytest.raises(LogError, match="is not a valid topic name"):
        log.create(name)


def test_a_partition_that_is_not_there_is_an_error(log: FileLog) -> None:
    log.create("t", 2)
    with pytest.raises(LogError, match="no partition 2; it has 0 to 1"):
        log.send("t", [b"x"], partition=2, durable=False)
    with pytest.raises(LogError, match="no partition -1"):
        log.read("t", -1, 0)


def test_a_record_that_is_too_large_is_refused(log: FileLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log.create("t")
    monkeypatch.setattr("asof.log.file.frames.RECORD_BYTES", 1000)
    with pytest.raises(LogError, match="has 2000000 bytes; the limit is 1000"):
        log.send("t", [bytes(2_000_000)], durable=False)
    assert log.bounds("t") == {0: (0, 0)}
