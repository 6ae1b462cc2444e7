"""The conformance suite of archives: each offline store that keeps them subclasses `ArchiveSuite`."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from asof.errors import StorageError
from asof.offline.protocol import Archive, OfflineStore

CLICKS = Archive("shop", "clicks")

_DAY = datetime.date(2026, 1, 1)
_AT = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
_SCHEMA = pa.schema(
    [
        ("user_id", pa.int64()), ("page", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()),
        ("ingested_at", pa.timestamp("us", "UTC")), ("ingest_date", pa.date32()),
    ]
)  # fmt: skip


def clicks(partition: int, first: int, count: int, *, page: str | None = "home") -> pa.Table:
    """`count` rows of one partition, from offset `first` on; user_id is the offset."""
    rows = [
        {
            "user_id": offset, "page": page, "partition": partition, "offset": offset, "ingested_at": _AT,
            "ingest_date": _DAY,
        }
        for offset in range(first, first + count)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, _SCHEMA)


class ArchiveSuite:
    """Every event is archived exactly once, whoever appends it and however often.

    A subclass gives the fixture `open_store`: a callable that opens another instance of the same store, which is empty
    at first.
    """

    @pytest.fixture
    def store(self, open_store: Callable[[], OfflineStore]) -> OfflineStore:
        store = open_store()
        store.create(CLICKS, _SCHEMA)
        return store

    @staticmethod
    def read(store: OfflineStore, archive: Archive = CLICKS, columns: str = "*") -> list[dict[str, object]]:
        rows = store.rows(archive)
        if rows is None:
            return []
        text = f'SELECT {columns} FROM clicks ORDER BY "partition", "offset"'
        return store.sql(text, {"clicks": rows}).reader().read_all().to_pylist()

    def places(self, store: OfflineStore) -> list[tuple[int, int]]:
        rows: list[Any] = self.read(store, columns='"partition", "offset"')
        return [(row["partition"], row["offset"]) for row in rows]

    def test_rows_are_kept_as_they_were(self, store: OfflineStore) -> None:
        rows = pa.concat_tables([clicks(0, 0, 3), clicks(0, 3, 1, page=None)])

        assert store.append(CLICKS, rows, {0: 3}) == 4
        assert self.read(store, columns="user_id, page") == rows.select(["user_id", "page"]).to_pylist()

    def test_text_with_a_nul_character_is_kept_unless_the_store_says_that_it_cannot(self, store: OfflineStore) -> None:
        rows = clicks(0, 0, 1, page="a\0b")
        if store.keeps_nul:
            assert store.append(CLICKS, rows, {0: 0}) == 1
            assert self.read(store, columns="page") == [{"page": "a\0b"}]
        else:
            with pytest.raises(StorageError):
                store.append(CLICKS, rows, {0: 0})
            assert store.append(CLICKS, clicks(0, 0, 1), {0: 0}) == 1

    def test_an_archive_without_rows_reads_as_none(self, store: OfflineStore) -> None:
        assert store.rows(CLICKS) is None
        assert store.offsets(CLICKS, [0, 7]) == {0: -1, 7: -1}

    def test_an_unknown_archive_is_empty(self, store: OfflineStore) -> None:
        unknown = Archive("shop", "other")

        assert (store.rows(unknown), store.offsets(unknown, [0]), store.version(unknown)) == (None, {0: -1}, -1)

    def test_an_append_that_is_repeated_changes_nothing(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 5), {0: 4})

        assert store.append(CLICKS, clicks(0, 0, 5), {0: 4}) == 0
        assert self.places(store) == [(0, offset) for offset in range(5)]

    def test_of_an_append_that_overlaps_only_what_is_new_is_kept(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 5), {0: 4})

        assert store.append(CLICKS, clicks(0, 3, 4), {0: 6}) == 2
        assert self.places(store) == [(0, offset) for offset in range(7)]
        assert store.offsets(CLICKS, [0]) == {0: 6}

    def test_partitions_move_on_their_own(self, store: OfflineStore) -> None:
        store.append(CLICKS, pa.concat_tables([clicks(0, 0, 2), clicks(1, 0, 3)]), {0: 1, 1: 2})
        store.append(CLICKS, clicks(1, 3, 1), {1: 3})

        assert store.offsets(CLICKS, [0, 1, 2]) == {0: 1, 1: 3, 2: -1}

    def test_offsets_move_also_where_no_row_was_usable(self, store: OfflineStore) -> None:
        assert store.append(CLICKS, clicks(0, 0, 0), {0: 9}) == 0
        assert store.offsets(CLICKS, [0]) == {0: 9}

    def test_offsets_never_move_back(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 5), {0: 4})
        store.append(CLICKS, clicks(0, 0, 2), {0: 1})

        assert store.offsets(CLICKS, [0]) == {0: 4}

    def test_an_append_repeated_by_a_zombie_is_dropped(self, open_store: Callable[[], OfflineStore]) -> None:
        zombie, owner = open_store(), open_store()
        zombie.create(CLICKS, _SCHEMA)
        zombie.append(CLICKS, clicks(0, 0, 2), {0: 1})
        owner.append(CLICKS, clicks(0, 2, 3), {0: 4})

        assert zombie.append(CLICKS, clicks(0, 2, 3), {0: 4}) == 0
        assert self.places(owner) == [(0, offset) for offset in range(5)]

    def test_writers_at_the_same_time_lose_and_double_nothing(self, open_store: Callable[[], OfflineStore]) -> None:
        open_store().create(CLICKS, _SCHEMA)

        def write(partition: int) -> None:
            store = open_store()
            for first in range(0, 40, 10):
                store.append(CLICKS, clicks(partition % 2, first, 10), {partition % 2: first + 9})

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write, range(4)))

        assert self.places(open_store()) == [(partition, offset) for partition in (0, 1) for offset in range(40)]

    def test_a_new_column_is_null_in_older_rows(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 1), {0: 0})
        wider = pa.schema([*_SCHEMA, pa.field("price", pa.float64())])
        store.create(CLICKS, wider)
        store.append(CLICKS, clicks(0, 1, 1).append_column("price", pa.array([2.5])), {0: 1})

        assert [row["price"] for row in self.read(store)] == [None, 2.5]

    def test_compaction_keeps_rows_and_offsets(self, store: OfflineStore) -> None:
        for first in range(0, 12, 3):
            store.append(CLICKS, clicks(0, first, 3), {0: first + 2})

        store.compact(CLICKS, keep_hours=0)

        assert self.places(store) == [(0, offset) for offset in range(12)]
        assert store.append(CLICKS, clicks(0, 9, 3), {0: 11}) == 0

    def test_an_older_version_can_be_read_until_its_files_are_gone(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 2), {0: 1})
        version = store.version(CLICKS)
        store.append(CLICKS, clicks(0, 2, 2), {0: 3})

        rows = store.rows(CLICKS, version=version)

        assert rows is not None
        found = store.sql("SELECT count(*) AS n FROM clicks", {"clicks": rows}).reader().read_all()
        assert found["n"].to_pylist() == [2]

    def test_a_version_has_no_row_that_came_after_it_was_asked_for(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 2), {0: 1})
        rows = store.rows(CLICKS, version=store.version(CLICKS))
        store.append(CLICKS, clicks(0, 2, 2), {0: 3})

        assert rows is not None
        found = store.sql("SELECT count(*) AS n FROM clicks", {"clicks": rows}).reader().read_all()
        assert found["n"].to_pylist() == [2]

    def test_what_is_forgotten_is_gone_and_stays_gone_when_it_is_appended_again(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 4, page="it's"), {0: 3})

        assert store.forget(CLICKS, {"user_id": 2, "page": "it's"}) == 1
        assert store.forget(CLICKS, {"user_id": 2}) == 0
        assert store.append(CLICKS, clicks(0, 0, 4), {0: 3}) == 0
        assert [row["user_id"] for row in self.read(store)] == [0, 1, 3]

    def test_projects_and_kinds_are_kept_apart(self, store: OfflineStore) -> None:
        for archive in (Archive("shop2", "clicks"), Archive("sho", "clicks"), Archive("shop", "clicks", "letters")):
            store.create(archive, _SCHEMA)
            store.append(archive, clicks(0, 0, 1), {0: 0})

        store.drop_project("shop")

        assert store.names("shop", "events") == store.names("shop", "letters") == []
        assert store.names("shop2", "events") == store.names("sho", "events") == ["clicks"]
        assert len(self.read(store, Archive("shop2", "clicks"))) == 1
