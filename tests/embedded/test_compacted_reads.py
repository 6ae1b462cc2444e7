"""Reads of a compacted archive: the same values as before, out of few files and row groups."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pyarrow as pa
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, LogSource, Session, Sliding
from asof.definitions import Definition
from asof.flows.rows.archive import with_arrival
from asof.offline.delta.compaction import Sizes
from asof.offline.duckdb.engine import DuckDBOffline
from asof.offline.protocol import Archive
from asof.sources.protocol import Files
from asof.store import open_store_of
from asof.timing import micros
from asof.types import Int64, String, Timestamp

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
USERS = [f"u{number:02}" for number in range(20)]


class Shop:
    """A store whose clock is moved by hand, with a log of clicks."""

    def __init__(self, folder: Path) -> None:
        (folder / "feature_store.yaml").write_text("project: shop\n")
        self.now = NOON
        self.sent = 0
        self.store = FeatureStore(folder, clock=lambda: self.now)
        self.store.apply(self.definitions())
        self.offline.sizes = Sizes(row_group_rows=20)

    @staticmethod
    def definitions() -> list[Definition]:
        user = Entity(name="user", join_keys=["user"])
        schema = [Field("user", String), Field("at", Timestamp), Field("n", Int64)]
        clicks = LogSource("clicks", schema=schema, timestamp_field="at", batch_source=None)
        return [
            FeatureView(name="last", entities=[user], source=clicks, schema=[Field("n", Int64)], ttl=timedelta(days=9)),
            FeatureView(
                name="many", entities=[user], source=clicks,
                aggregations=[
                    Aggregation(function="count", window=Sliding("1h"), name="count_1h"),
                    Aggregation(column="n", function="sum", window=Sliding("2d"), name="sum_2d"),
                    Aggregation(column="n", function="last", window=Session("30m"), name="session_last"),
                ],
            ),
            FeatureView(
                name="all", source=clicks,
                aggregations=[Aggregation(function="count", window=Sliding("1h"), name="clicks_1h")],
            ),
        ]  # fmt: skip

    @property
    def offline(self) -> DuckDBOffline:
        offline = open_store_of(self.store).stores.offline
        assert isinstance(offline, DuckDBOffline)
        return offline

    @property
    def archive(self) -> Archive:
        return Archive("shop", "clicks")

    def flush(self, events: int = 20) -> None:
        """Events of all users in turn, a minute apart, archived by a worker."""
        messages = []
        for _ in range(events):
            at = (self.now + MINUTE * self.sent).isoformat()
            event = {"user": USERS[self.sent * 7 % len(USERS)], "at": at, "n": self.sent}
            messages.append(json.dumps(event).encode())
            self.sent += 1
        moment, self.now = self.now, self.now + MINUTE * self.sent
        self.store.send("clicks", messages)
        self.store.stream_run(until_caught_up=True)
        self.now = moment

    def files(self) -> int:
        rows = self.offline.rows(self.archive)
        assert isinstance(rows, Files)
        return len(rows.paths)

    def values(self) -> dict[str, Any]:
        """What reads return: history at many times and as known, the interval, and one key's rows."""
        moments = [NOON + timedelta(hours=hours) for hours in (-1, 1, 3, 26, 50)]
        frame = pa.table(
            {"user": [user for user in USERS for _ in moments] + ["nobody"], "event_timestamp": moments * 20 + [NOON]}
        )
        features = ["last:n", "many:count_1h", "many:sum_2d", "many:session_last", "all:clicks_1h"]
        read = self.store.get_historical_features
        return {
            "history": read(frame, features).to_arrow().to_pylist(),
            "known": read(frame, features, known_at=True).to_arrow().to_pylist(),
            "interval": read(None, ["last:n"], start_date=NOON + MINUTE * 30, end_date=NOON + MINUTE * 90)
            .to_arrow().to_pylist(),
            "key": self.store.explain("many:sum_2d", {"user": "u07"}, at=NOON + timedelta(hours=5)).rows.to_pylist(),
            "online": self.store.get_online_features(features, [{"user": "u03"}]).to_dict(),
        }  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.store.close()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """The numbers of files of each archive that engines were given since the last call."""
    from asof.offline.duckdb import inputs

    counts: list[int] = []
    view_files = inputs.view_files

    def counting(cursor: Any, name: str, files: Files, *more: str) -> None:
        counts.append(len(files.paths))
        view_files(cursor, name, files, *more)

    monkeypatch.setattr(inputs, "view_files", counting)

    def since_last() -> list[int]:
        found = counts.copy()
        counts.clear()
        return found

    return since_last


def test_reads_return_the_same_before_and_after(shop: Shop) -> None:
    for day in range(2):
        shop.now = NOON + timedelta(days=day)
        for _ in range(4):
            shop.flush(25)
    shop.now = NOON + timedelta(days=2, hours=2)
    before, audited = shop.values(), shop.store.audit(keys=10)
    shop.store.get_historical_features(
        pa.table({"user": USERS, "event_timestamp": [shop.now] * 20}), ["many:sum_2d"]
    ).save("pinned")
    assert shop.files() == 8 and not audited.differences and any(row["sum_2d"] for row in before["history"])

    result = shop.store.compact()

    assert result.archives["clicks"]["files_after"] == shop.files() == 2
    assert shop.values() == before
    assert not shop.store.audit(keys=10).differences
    shop.flush()
    rebuilt = shop.store.rebuild_training_set("pinned")
    assert rebuilt.equal and rebuilt.identical, "its pin is the offsets, which no compaction changes"


def test_reads_of_one_key_and_of_short_times_open_few_files(shop: Shop, opened: Callable[[], list[int]]) -> None:
    for hour in range(6):
        shop.now = NOON + timedelta(days=hour)
        shop.flush(20)
    opened()

    frame = pa.table({"user": ["u03", "u04"], "event_timestamp": [NOON + timedelta(hours=1)] * 2})
    shop.store.get_historical_features(frame, ["many:count_1h"]).to_arrow()
    assert set(opened()) == {1}, "the others are of other days"
    shop.store.get_historical_features(frame, ["many:sum_2d", "last:n"]).to_arrow()
    assert set(opened()) == {1}
    later = pa.table({"user": ["u03"], "event_timestamp": [NOON + timedelta(days=3, hours=8)]})
    shop.store.get_historical_features(later, ["many:sum_2d"]).to_arrow()
    assert set(opened()) == {2}


def test_what_came_after_a_cut_is_not_opened(shop: Shop, opened: Callable[[], list[int]]) -> None:
    for hour in range(3):
        shop.now = NOON + timedelta(days=hour)
        shop.flush(20)
    frame = pa.table({"user": USERS, "event_timestamp": [NOON + timedelta(days=3)] * 20})
    read, cut = shop.store.get_historical_features, NOON + timedelta(days=1, minutes=-1)
    saved = read(frame, ["last:n"], known_at=cut)
    opened()
    assert any(row["n"] is not None for row in saved.to_arrow().to_pylist())
    assert set(opened()) == {1}
    read(frame, ["last:n"]).save("pinned")
    shop.now = NOON + timedelta(days=4)
    shop.flush(20)
    opened()

    assert shop.store.rebuild_training_set("pinned").identical
    assert set(opened()) == {3}, "the fourth file is after its pin"


def test_a_key_is_in_few_row_groups(shop: Shop) -> None:
    for _ in range(10):
        shop.flush(20)
    assert _scanned(shop, "u07") == (10, 10)

    shop.store.compact()

    scanned, groups = _scanned(shop, "u07")
    assert (scanned, groups) == (1, 10)


def test_doctor_asks_for_a_compaction_until_it_is_done(shop: Shop) -> None:
    events = {"user": ["u01"] * 20, "at": pa.array([NOON] * 20, Timestamp.arrow()), "n": [1] * 20}
    for first in range(0, 200, 20):
        days = [micros(NOON + timedelta(days=day)) for day in range(20)]
        offsets = list(range(first, first + 20))
        rows = with_arrival(pa.table(events), partition=[0] * 20, offset=offsets, ingested_at=days)
        shop.offline.append(shop.archive, rows, {0: offsets[-1]})

    def archive() -> Any:
        (found,) = [each for each in shop.store.doctor() if each.part == "archive clicks"]
        return found

    assert "200 files of 0." in archive().text and archive().hint == "run `asof compact`" and not archive().ok
    shop.store.compact()
    assert "20 files of 0.0 MB, 20 of them small" in archive().text and archive().ok


def _scanned(shop: Shop, user: str) -> tuple[int, int]:
    rows = shop.offline.rows(shop.archive)
    assert isinstance(rows, Files)
    text = f"EXPLAIN ANALYZE SELECT * FROM read_parquet({list(rows.paths)!r}) WHERE \"user\" = '{user}'"
    with shop.offline.session() as cursor:
        plan = cursor.execute(text).fetchall()[0][1]
    found = re.search(r"Row Groups Scanned: (\d+) / (\d+)", plan)
    assert found is not None, plan
    return int(found[1]), int(found[2])


def test_a_stream_goes_on_while_its_archive_is_compacted(shop: Shop) -> None:
    shop.flush()
    done = Event()
    numbers: list[int] = []

    def compact() -> None:
        while not done.is_set():
            numbers.append(shop.store.compact().archives["clicks"]["added"])

    thread = Thread(target=compact)
    thread.start()
    try:
        for _ in range(8):
            shop.flush()
    finally:
        done.set()
        thread.join()
    numbers.append(shop.store.compact().archives["clicks"]["added"])

    rows = shop.offline.rows(shop.archive)
    assert rows is not None
    offsets = shop.offline.sql('SELECT "offset" FROM a', {"a": rows}).reader().read_all()["offset"].to_pylist()
    assert sorted(offsets) == list(range(180))
    assert sum(numbers) > 0
    shop.now = NOON + timedelta(hours=4)
    assert not shop.store.audit(keys=10).differences
