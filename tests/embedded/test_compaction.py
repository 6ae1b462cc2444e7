"""Compaction of Delta archives: no row is lost or doubled, whatever happens at the same time, and the files are sorted."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof.connections.delta import open_table
from asof.errors import StorageError
from asof.offline.delta import compaction, lease
from asof.offline.delta.compaction import Compaction, Sizes, files_of
from asof.offline.delta.lease import LEASE_US, Lease
from asof.offline.duckdb.engine import DuckDBOffline
from asof.offline.protocol import Archive

EVENTS = Archive("shop", "events")
ORDER = ["user", "at"]
TIMES = pa.timestamp("us", "UTC")
NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
SCHEMA = pa.schema(
    [
        ("user", pa.string()), ("at", TIMES), ("n", pa.int64()), ("price", pa.decimal128(12, 2)), ("f", pa.float64()),
        ("raw", pa.binary()), ("day", pa.date32()), ("flag", pa.bool_()), ("tags", pa.list_(pa.string())),
        ("vector", pa.list_(pa.float32())), ("partition", pa.int32()), ("offset", pa.int64()), ("ingested_at", TIMES),
        ("ingest_date", pa.date32()),
    ]
)  # fmt: skip


def folder_of(root: Path) -> Path:
    return root / "shop/events/events"


def event(offset: int, *, user: str | None = "u", at: dt.datetime | None = NOON, partition: int = 0, day: int = 0):
    ingested = NOON + dt.timedelta(days=day)
    return {
        "user": user, "at": at, "n": offset, "partition": partition, "offset": offset, "ingested_at": ingested,
        "ingest_date": ingested.date(),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([dict.fromkeys(SCHEMA.names) | row for row in rows], SCHEMA)


def opened(folder: Path, **sizes: int) -> DuckDBOffline:
    store = DuckDBOffline(folder, threads=1)
    store.sizes = Sizes(**sizes)
    store.create(EVENTS, SCHEMA)
    return store


def flushed(store: DuckDBOffline, flushes: int, rows: int = 4, *, day: int = 0) -> None:
    """Flushes of one partition; a key has a row in each of them."""
    first = store.offsets(EVENTS, [0])[0] + 1
    for start in range(first, first + flushes * rows, rows):
        events = [
            event(offset, user=f"u{offset % rows}", at=NOON + dt.timedelta(seconds=offset), day=day)
            for offset in range(start, start + rows)
        ]
        store.append(EVENTS, table(events), {0: start + rows - 1})


def contents(store: DuckDBOffline) -> list[tuple[Any, ...]]:
    """All rows; NaN, which equals nothing, as text."""
    rows = store.rows(EVENTS)
    if rows is None:
        return []
    found = store.sql('SELECT * FROM events ORDER BY "partition", "offset"', {"events": rows}).reader().read_all()
    return [tuple(map(repr, (row[name] for name in SCHEMA.names[:-1]))) for row in found.to_pylist()]


def offsets(store: DuckDBOffline) -> list[int]:
    rows = store.rows(EVENTS)
    assert rows is not None
    return sorted(store.sql('SELECT "offset" FROM e', {"e": rows}).reader().read_all()["offset"].to_pylist())


def files(store: DuckDBOffline) -> list[str]:
    rows = store.rows(EVENTS)
    return [] if rows is None else list(rows.paths)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DuckDBOffline]:
    store = opened(tmp_path)
    yield store
    store.close()


MOMENTS = st.sampled_from([None, dt.datetime(1, 1, 1, tzinfo=dt.UTC), NOON]) | st.datetimes(
    dt.datetime(2025, 12, 1), dt.datetime(2026, 2, 1), timezones=st.just(dt.UTC)
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "user": st.sampled_from([None, "", "a", "A", "é", "z" * 100, 'it\'s "x"']) | st.text(max_size=3),
            "at": MOMENTS, "n": st.none() | st.integers(-(2**63), 2**63 - 1), "flag": st.none() | st.booleans(),
            "price": st.none() | st.decimals(-(10**9), 10**9, places=2).map(Number),
            "f": st.none() | st.floats(), "raw": st.none() | st.binary(max_size=3),
            "day": st.none() | st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)),
            "tags": st.none() | st.lists(st.none() | st.sampled_from(["a", ""]), max_size=2),
            "vector": st.none() | st.lists(st.floats(width=32), max_size=2),
            "partition": st.sampled_from([-1, 0, 1]), "days": st.integers(0, 2),
        }
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5), st.booleans())
def test_an_archive_has_the_same_rows_before_and_after(flushes: list[list[dict[str, Any]]], is_cut: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = opened(Path(folder), row_group_rows=4, range_rows=10 if is_cut else 10**6, file_bytes=3000)
        last = dict.fromkeys((-1, 0, 1), -1)
        for flush in flushes:
            for row in flush:
                last[row["partition"]] += 1
                at = NOON + dt.timedelta(days=row.pop("days"))
                row |= {"offset": last[row["partition"]], "ingested_at": at, "ingest_date": at.date()}
            if flush:
                store.append(EVENTS, table(flush), dict(last))
        before = contents(store)

        numbers = store.compact(EVENTS, order=ORDER, time="at", keep_hours=0)

        assert contents(store) == before
        assert store.offsets(EVENTS, [-1, 0, 1]) == last
        assert numbers["files_after"] == len(files(store))
        assert store.compact(EVENTS, order=ORDER, time="at", keep_hours=0)["added"] == 0
        store.close()


def test_a_date_becomes_one_file_in_the_order_of_key_and_time(store: DuckDBOffline) -> None:
    store.sizes = Sizes(row_group_rows=10)
    flushed(store, 10)
    flushed(store, 3, day=1)
    shown: list[tuple[int, int]] = []

    numbers = store.compact(EVENTS, order=ORDER, time="at", keep_hours=0, progress=lambda *done: shown.append(done))

    assert (numbers["files_before"], numbers["added"], numbers["removed"], numbers["files_after"]) == (13, 2, 13, 2)
    assert numbers["vacuumed"] == 13 and numbers["bytes_after"] < numbers["bytes_before"]
    assert shown[-1] == (52, 52) and sorted(shown) == shown
    first = pyarrow.parquet.ParquetFile(files(store)[0])
    rows = first.read(columns=[*ORDER, "offset"]).to_pylist()
    assert rows == sorted(rows, key=lambda row: (row["user"], row["at"])) and len(rows) == 40
    groups = [first.metadata.row_group(n).column(0).statistics for n in range(first.metadata.num_row_groups)]
    assert [(each.min, each.max) for each in groups] == [("u0", "u0"), ("u1", "u1"), ("u2", "u2"), ("u3", "u3")]


def test_the_log_knows_the_bounds_of_a_compacted_file(store: DuckDBOffline, tmp_path: Path) -> None:
    store.append(
        EVENTS,
        table(
            [event(0, user=None, at=None), event(1, user="b"), event(2, user="a" * 100, at=NOON.replace(microsecond=7))]
        ),
        {0: 2},
    )
    flushed(store, 1)

    store.compact(EVENTS, order=ORDER, time="at")

    found = pa.table(open_table(folder_of(tmp_path)).get_add_actions(flatten=True)).to_pylist()[0]
    assert found["num_records"] == 7
    assert (found["null_count.user"], found["null_count.at"], found["null_count.price"]) == (1, 1, 7)
    assert (found["min.user"], found["max.user"]) == (None, "u3"), "a long text is no bound"
    assert (found["min.at"], found["max.at"]) == (NOON.replace(microsecond=7), NOON + dt.timedelta(seconds=6)) or (
        found["min.at"] == NOON
    )
    assert (found["min.offset"], found["max.offset"], found["min.partition"], found["max.partition"]) == (0, 6, 0, 0)
    assert found["min.day"] is None and "min.f" not in {name for name, each in found.items() if each is not None}


def test_a_long_history_is_cut_by_event_time(store: DuckDBOffline) -> None:
    store.sizes = Sizes(row_group_rows=50, range_rows=100)
    history = [
        event(n, user=f"u{n % 7}", at=NOON + dt.timedelta(minutes=(n * 37) % 1000), partition=-1) for n in range(1000)
    ]
    store.append(EVENTS, table(history), {-1: 999})

    store.compact(EVENTS, order=ORDER, time="at")

    times = []
    for path in files(store):
        found = pyarrow.parquet.ParquetFile(path).read(columns=ORDER).to_pylist()
        assert found == sorted(found, key=lambda row: (row["user"], row["at"]))
        times.append((min(row["at"] for row in found), max(row["at"] for row in found)))
    assert len(times) == 10
    times.sort()
    assert all(end < start for (_, end), (start, _) in zip(times, times[1:]))
    assert offsets(store) == list(range(1000))


def test_what_is_sorted_is_not_written_again_with_each_flush(store: DuckDBOffline) -> None:
    flushed(store, 40)
    store.compact(EVENTS, order=ORDER, time="at")
    large = set(files(store))
    written = 0
    for _ in range(6):
        flushed(store, 2)
        written += store.compact(EVENTS, order=ORDER, time="at")["removed"]

    # Each flush is joined with few runs, and the large run with none.
    assert large <= set(files(store))
    assert len(files(store)) <= 4
    assert written <= 12 * 2


def test_rows_are_sorted_again_where_other_columns_are_looked_up(store: DuckDBOffline) -> None:
    flushed(store, 4)
    store.compact(EVENTS, order=ORDER, time="at")

    store.sizes = Sizes(row_group_rows=2)
    assert store.compact(EVENTS, order=["n"])["removed"] == 1
    assert store.compact(EVENTS, order=["n"])["removed"] == 0
    (path,) = files(store)
    assert pyarrow.parquet.ParquetFile(path).read(columns=["n"])["n"].to_pylist() == list(range(16))


def test_files_are_alike_as_long_as_each_is_known_to_have_all_columns(tmp_path: Path) -> None:
    store = DuckDBOffline(tmp_path, threads=1)
    plain = pa.schema([each for each in SCHEMA if each.name in ("user", "at", "n", *SCHEMA.names[-4:])])
    store.create(EVENTS, plain)

    def append(offset: int, schema: pa.Schema) -> None:
        rows = pa.Table.from_pylist([dict.fromkeys(schema.names) | event(offset)], schema)
        store.append(EVENTS, rows, {0: offset})

    def are_alike() -> bool:
        rows = store.rows(EVENTS)
        assert rows is not None
        return rows.are_alike

    append(0, plain)
    append(1, plain)
    assert are_alike()
    store.compact(EVENTS, order=ORDER, time="at")
    assert are_alike()
    wider = plain.insert(0, pa.field("city", pa.string()))
    store.create(EVENTS, wider)
    assert not are_alike(), "the column is in no file yet"
    append(2, wider)
    assert not are_alike()
    rows = store.rows(EVENTS)
    assert rows is not None
    found = store.sql('SELECT "city", "n" FROM e ORDER BY "n"', {"e": rows}).reader().read_all()
    assert found.to_pylist() == [{"city": None, "n": n} for n in range(3)]
    store.compact(EVENTS, order=ORDER, time="at")
    assert are_alike(), "compacted files have the columns of their time"
    store.close()


def test_a_column_that_came_later_is_null_in_older_rows(store: DuckDBOffline) -> None:
    flushed(store, 2)
    wider = SCHEMA.insert(0, pa.field("city", pa.string()))
    store.create(EVENTS, wider)
    store.append(EVENTS, table([event(8)]).append_column("city", pa.array(["x"])).select(wider.names), {0: 8})

    assert store.compact(EVENTS, order=["city", *ORDER], time="at")["files_after"] == 1
    (path,) = files(store)
    found = pyarrow.parquet.ParquetFile(path).read(columns=["city"])["city"].to_pylist()
    assert found == [None] * 8 + ["x"]


def test_compactions_and_appends_at_the_same_time_lose_and_double_nothing(tmp_path: Path) -> None:
    stores = [opened(tmp_path, row_group_rows=8) for _ in range(4)]
    flushed(stores[0], 8)

    def append(number: int) -> None:
        for start in range(0, 40, 4):
            rows = [event(n, user=f"u{n}", partition=number) for n in range(start, start + 4)]
            stores[number].append(EVENTS, table(rows), {number: start + 3})

    def compact(number: int) -> list[dict[str, int]]:
        return [stores[number].compact(EVENTS, order=ORDER, time="at", keep_hours=24) for _ in range(4)]

    with ThreadPoolExecutor(4) as threads:
        appends = [threads.submit(append, number) for number in (1, 2)]
        compactions = [threads.submit(compact, number) for number in (0, 3)]
        for each in appends:
            each.result()
        numbers = [number for each in compactions for number in each.result()]

    assert offsets(stores[0]) == sorted([*range(32), *range(40), *range(40)])
    assert stores[0].offsets(EVENTS, [0, 1, 2]) == {0: 31, 1: 39, 2: 39}
    assert sum(each["added"] for each in numbers) > 0
    for each in stores:
        each.close()


def test_two_compactions_of_the_same_files_have_one_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without the lease, as if it had expired while its holder was at work."""
    store, other = opened(tmp_path), opened(tmp_path)
    flushed(store, 6)
    write, calls = Compaction.write, []

    def overtaken(self: Compaction, *given: Any) -> None:
        write(self, *given)
        calls.append(self)
        if len(calls) == 1:
            monkeypatch.setattr(lease, "held_until", lambda table: 0)
            calls.append(other.compact(EVENTS, order=ORDER, time="at"))

    monkeypatch.setattr(Compaction, "write", overtaken)
    numbers = store.compact(EVENTS, order=ORDER, time="at")

    assert numbers["added"] == 0 and numbers["files_after"] == 1
    assert offsets(store) == list(range(24))
    folder = folder_of(tmp_path)
    assert len(list(folder.glob("**/sorted-*.parquet"))) == 1, "the loser deletes what it wrote"


def test_what_is_forgotten_while_a_compaction_runs_does_not_come_back(tmp_path: Path) -> None:
    store, other = opened(tmp_path, row_group_rows=4), opened(tmp_path)
    flushed(store, 6)
    gone: list[int] = []

    def forget(done: int, total: int) -> None:
        if not gone:
            gone.append(other.forget(EVENTS, {"user": "u2"}))

    store.compact(EVENTS, order=ORDER, time="at", keep_hours=0, progress=forget)

    assert gone == [6]
    kept = [n for n in range(24) if n % 4 != 2]
    assert offsets(store) == kept
    assert store.compact(EVENTS, order=ORDER, time="at", keep_hours=0)["files_after"] == 1
    assert offsets(store) == kept
    folder = folder_of(tmp_path)
    raw = b"".join(path.read_bytes() for path in folder.glob("**/*.parquet"))
    assert b"u1" in raw and b"u2" not in raw


def test_rows_of_a_compacted_file_can_be_forgotten(store: DuckDBOffline) -> None:
    rows = [event(n, user=f"u{n % 3}") | {"tags": ["a", None], "vector": [0.5], "price": Number(n)} for n in range(9)]
    store.append(EVENTS, table(rows[:5]), {0: 4})
    store.append(EVENTS, table(rows[5:]), {0: 8})
    store.compact(EVENTS, order=ORDER, time="at", keep_hours=0)

    assert store.forget(EVENTS, {"user": "u1"}) == 3
    assert offsets(store) == [0, 2, 3, 5, 6, 8]
    assert "['a', None]" in contents(store)[0]


def _killed(folder: Path, at: str) -> None:
    """A process that is killed in the middle of a compaction."""
    store = opened(folder, row_group_rows=4, file_bytes=1000)

    def kill(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if at == "writing":
        store.compact(EVENTS, order=ORDER, time="at", keep_hours=0, progress=kill)
    with pytest.MonkeyPatch.context() as patched:
        if at == "before the commit":
            patched.setattr(Compaction, "commit", kill)
        else:
            patched.setattr(Lease, "release", kill)
        store.compact(EVENTS, order=ORDER, time="at", keep_hours=0)


@pytest.mark.parametrize("at", ["writing", "before the commit", "after the commit"])
def test_a_compaction_that_is_killed_loses_nothing(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path, row_group_rows=4)
    flushed(store, 6)
    before = contents(store)

    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(tmp_path, at))
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert contents(store) == before
    flushed(store, 3)
    after = contents(store)
    assert store.compact(EVENTS, order=ORDER, time="at")["busy"] == 1, "its lease goes on for a while"
    later = lease.system_us() + LEASE_US
    monkeypatch.setattr(lease, "system_us", lambda: later)
    written = sorted(folder_of(tmp_path).glob("**/sorted-*.parquet"))
    assert written, "that is what it left"
    numbers = store.compact(EVENTS, order=ORDER, time="at", keep_hours=0)

    assert numbers["busy"] == 0 and numbers["added"] > 0
    assert contents(store) == after and len(after) == 36
    assert store.offsets(EVENTS, [0]) == {0: 35}
    assert store.forget(EVENTS, {"user": "u2"}) == 9
    assert not any(path.exists() for path in written), "no row that is forgotten is left in any file"


def test_an_error_while_rows_are_sorted_leaves_the_archive_as_it_was(
    store: DuckDBOffline, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed(store, 3)
    before = files(store)

    def full(self: object, *_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(compaction.FileWriter, "write", full)
        with pytest.raises(StorageError, match="archive 'events' cannot be compacted: the disk is full"):
            store.compact(EVENTS, order=ORDER, time="at")

    assert files(store) == before
    numbers = store.compact(EVENTS, order=ORDER, time="at")
    assert (numbers["busy"], numbers["files_after"]) == (0, 1), "the lease was given back"


def test_files_are_kept_for_those_who_read_them(store: DuckDBOffline) -> None:
    flushed(store, 4)
    lazy = store.rows(EVENTS)
    version = store.version(EVENTS)
    store.compact(EVENTS, order=ORDER, time="at")
    flushed(store, 1)

    assert lazy is not None
    counted = store.sql("SELECT count(*) AS n FROM e", {"e": lazy}).reader().read_all()
    assert counted["n"].to_pylist() == [16]
    pinned = store.rows(EVENTS, version=version)
    assert pinned is not None and set(pinned.paths) == set(lazy.paths)


def test_a_lease_has_one_holder_and_expires(store: DuckDBOffline, tmp_path: Path) -> None:
    now = [1_000 * LEASE_US]

    def take() -> Lease | None:
        return Lease.take(lambda: open_table(folder_of(tmp_path)), now=lambda: now[0])

    first = take()
    assert first is not None and take() is None
    now[0] += LEASE_US - 1
    assert take() is None and first.renew()
    now[0] += LEASE_US - 1
    assert take() is None
    now[0] += 2
    second = take()
    assert second is not None
    assert not first.renew()
    first.release()
    assert take() is None, "who has lost it cannot give it back"
    second.release()
    assert take() is not None
    assert files_of(open_table(folder_of(tmp_path))) == []
