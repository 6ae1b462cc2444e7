"""The conformance suite of archives: each offline store that keeps them subclasses `ArchiveSuite`."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest

from asof.definitions import Field
from asof.errors import StorageError
from asof.offline.protocol import COMPACTED, Archive, OfflineStore
from asof.sql import archive as statements
from asof.sql.arrival import ORIGIN_OFFSET, ORIGIN_PARTITION, PUSHED_AT
from asof.timing import micros
from asof.types import Array, Bool, Bytes, Date, Decimal, Float64, Int32, Int64, String, Timestamp
from asof.values.packing import plain_values

CLICKS = Archive("shop", "clicks")

_DAY = datetime.date(2026, 1, 1)
_AT = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
_SCHEMA = pa.schema(
    [
        ("user_id", pa.int64()), ("page", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()),
        ("ingested_at", pa.timestamp("us", "UTC")), ("ingest_date", pa.date32()),
    ]
)  # fmt: skip

KEY_FIELDS = [
    Field(dtype.name.lower(), dtype) for dtype in (String, Int64, Bytes, Timestamp, Decimal(38, 9), Bool, Date, Int32)
]
_LEAST, _MOST = datetime.datetime(1, 1, 1, tzinfo=datetime.UTC), datetime.datetime(9999, 12, 31, tzinfo=datetime.UTC)
_KEYS: list[tuple[Any, ...]] = [
    ("a", 1, b"a", _AT, decimal.Decimal("1.5"), True, _DAY, 1),
    (
        'It\'s \\ "É" %s',
        -(2**63),
        b"\x00\xff'",
        _AT.replace(microsecond=1),
        decimal.Decimal("-0.000000001"),
        False,
        datetime.date(1969, 12, 31),
        -(2**31),
    ),
    ("A", 2**63 - 1, b"", _LEAST, decimal.Decimal("9" * 29), True, _MOST.date(), 2**31 - 1),
    ("", 0, b"A", _MOST, decimal.Decimal(0), False, _LEAST.date(), 0),
    ('It\'s \\ "É" %s', -(2**63), None, _AT.replace(microsecond=1), None, False, None, -(2**31)),
]
"""Keys of every type that a join key may have; of the last one some columns are null."""


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

    def positions(self, store: OfflineStore) -> list[tuple[int, int]]:
        rows: list[Any] = self.read(store, columns='"partition", "offset"')
        return [(row["partition"], row["offset"]) for row in rows]

    def test_an_archive_that_an_earlier_version_made_gets_the_columns_for_arrival(
        self, store: OfflineStore, open_store: Callable[[], OfflineStore]
    ) -> None:
        store.append(CLICKS, clicks(0, 0, 2), {0: 1})
        later = {PUSHED_AT: pa.array([7], pa.int64()), ORIGIN_PARTITION: pa.array([3], pa.int32())}
        rows = clicks(0, 2, 1)
        for name, column in {**later, ORIGIN_OFFSET: pa.array([9], pa.int64())}.items():
            rows = rows.append_column(name, column)

        assert open_store().append(CLICKS, rows, {0: 2}) == 1
        # As a process of the earlier version goes on.
        assert store.append(CLICKS, clicks(0, 3, 1), {0: 3}) == 1

        names = ", ".join(f'"{name}"' for name in ("offset", PUSHED_AT, ORIGIN_PARTITION, ORIGIN_OFFSET))
        found = self._ran(store, f'SELECT {names} FROM archive ORDER BY "offset"')
        assert [tuple(row.values()) for row in found] == [
            (0, None, None, None), (1, None, None, None), (2, 7, 3, 9), (3, None, None, None)
        ]  # fmt: skip

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
        assert self.positions(store) == [(0, offset) for offset in range(5)]

    def test_of_an_append_that_overlaps_only_what_is_new_is_kept(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 5), {0: 4})

        assert store.append(CLICKS, clicks(0, 3, 4), {0: 6}) == 2
        assert self.positions(store) == [(0, offset) for offset in range(7)]
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
        assert self.positions(owner) == [(0, offset) for offset in range(5)]

    def test_writers_at_the_same_time_lose_and_double_nothing(self, open_store: Callable[[], OfflineStore]) -> None:
        open_store().create(CLICKS, _SCHEMA)

        def write(partition: int) -> None:
            store = open_store()
            for first in range(0, 40, 10):
                store.append(CLICKS, clicks(partition % 2, first, 10), {partition % 2: first + 9})

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(write, range(4)))

        assert self.positions(open_store()) == [(partition, offset) for partition in (0, 1) for offset in range(40)]

    def test_a_new_column_is_null_in_older_rows(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 1), {0: 0})
        wider = pa.schema([*_SCHEMA, pa.field("price", pa.float64())])
        store.create(CLICKS, wider)
        store.append(CLICKS, clicks(0, 1, 1).append_column("price", pa.array([2.5])), {0: 1})

        assert [row["price"] for row in self.read(store)] == [None, 2.5]

    def test_a_new_column_is_null_also_before_the_first_row_that_has_it(self, store: OfflineStore) -> None:
        store.append(CLICKS, clicks(0, 0, 2), {0: 1})
        more = [
            pa.field(dtype.name.lower(), dtype.arrow())
            for dtype in (Float64, Array(String), *(field.dtype for field in KEY_FIELDS))
        ]
        store.create(CLICKS, pa.schema([*_SCHEMA, *more]))

        assert [{row[each.name] for each in more} for row in self.read(store)] == [{None}, {None}]
        assert self._ran(store, statements.event_ids_since("int64", 0, dialect=store.dialect)) == []

    def test_rows_are_found_by_keys_of_every_type_alone_and_together(self, store: OfflineStore) -> None:
        archive = Archive("shop", "things")
        names = [field.name for field in KEY_FIELDS]
        columns = {
            field.name: pa.array([key[place] for key in _KEYS], field.dtype.arrow())
            for place, field in enumerate(KEY_FIELDS)
        }
        arrival = clicks(0, 0, len(_KEYS)).drop_columns(["user_id", "page"])
        rows = pa.table({**columns, **{name: arrival[name] for name in arrival.column_names}})
        store.create(archive, rows.schema)
        store.append(archive, rows, {0: len(_KEYS) - 1})
        plain = list(zip(*(plain_values(columns[field.name], field.dtype) for field in KEY_FIELDS), strict=True))

        for size in (1, 2, len(names)):
            for start in range(len(names) - size + 1):
                chosen = slice(start, start + size)
                requested = rows.select(names[chosen]).slice(1, 1)
                among = statements.rows_among(names[chosen], names[chosen], dialect=store.dialect)
                same = [i for i, key in enumerate(plain) if key[chosen] == plain[1][chosen]]
                assert self.offsets_of(store, archive, among, requested=requested) == same, names[chosen]
                of_keys = statements.rows_of_keys(
                    names[chosen], KEY_FIELDS[chosen], [plain[1][chosen]], dialect=store.dialect
                )
                assert self.offsets_of(store, archive, of_keys) == same, names[chosen]
        # A key with a null is none.
        known = [key for key in plain if None not in key]
        every = statements.rows_of_keys(names, KEY_FIELDS, known, dialect=store.dialect)
        assert self.offsets_of(store, archive, every) == [plain.index(key) for key in known]
        assert len(self._ran(store, statements.distinct_keys(names), archive, name="source")) == len(known)

    def test_rows_are_found_by_their_places_and_moments(self, store: OfflineStore) -> None:
        store.append(CLICKS, pa.concat_tables([clicks(0, 0, 5), clicks(1, 0, 3)]), {0: 4, 1: 2})
        at = micros(_AT)

        def counted(text: str) -> dict[int, int]:
            return {row["partition"]: row["n"] for row in self._ran(store, text)}

        assert self._ran(store, statements.count_rows()) == [{"n": 8}]
        assert counted(statements.counts_by_partition()) == {0: 5, 1: 3}
        assert counted(statements.counts_since(at - 1, dialect=store.dialect)) == {0: 5, 1: 3}
        assert counted(statements.counts_since(at, dialect=store.dialect)) == {}
        since = [statements.event_ids_since("page", each, dialect=store.dialect) for each in (at, at + 1)]
        assert [len(self._ran(store, text)) for text in since] == [8, 0]
        assert [row["last"] for row in self._ran(store, statements.last_offsets())] == [4, 2]
        assert [row["offset"] for row in self._ran(store, statements.rows_between(0, after=1, through=3))] == [2, 3]
        assert self._ran(store, statements.count_between(0, after=1, through=3)) == [{"n": 2}]
        ran = self._ran(store, statements.rows_through(["offset"], {1: 1, 0: 2}))
        assert [row["offset"] for row in ran] == [0, 1, 2, 0, 1] and self._ran(store, statements.every_column()) == []
        own = self._ran(store, statements.history_rows(["page"], 1))
        assert sorted((len(row), row["offset"]) for row in own) == [(2, 0), (2, 1), (2, 2)]
        assert len(self._ran(store, statements.event_ids("page"))) == 8
        through = statements.rows_to_fold(["offset", "page"], {0: 3, 1: -1}, order=["page", "offset"])
        assert [row["offset"] for row in self._ran(store, through)] == [0, 1, 2, 3]
        assert len(self._ran(store, statements.rows_to_fold(["offset"], {0: 3, 1: 0}))) == 5
        newest = self._ran(store, statements.newest_rows([0, 1, 7], count=2, time="ingested_at"))
        assert sorted((row["partition"], row["offset"]) for row in newest) == [(0, 3), (0, 4), (1, 1), (1, 2)]
        nulls = self._ran(store, statements.count_nulls(["user_id", "page"]), name="source")
        assert nulls == [{"user_id": 0, "page": 0}]
        sampled = [statements.sampled_keys(["user_id"], one_in=2, place=each, most=9) for each in (0, 1)]
        assert len({row["user_id"] for text in sampled for row in self._ran(store, text)}) == 5
        named = statements.columns_of_rows({"user": "user_id"}, positions=True)
        assert len(self._ran(store, named, name="source")[0]) == 3

    def test_dead_letters_are_found_by_their_places_and_the_newest_come_first(self, store: OfflineStore) -> None:
        archive = Archive("shop", "clicks", "letters")
        arrival = pa.concat_tables([clicks(0, 0, 3), clicks(1, 5, 2)]).drop_columns(["user_id", "page"])
        at = pa.array([_AT + datetime.timedelta(seconds=each) for each in (3, 1, 2, 2, 9)], pa.timestamp("us", "UTC"))
        values = pa.array([b"a", b"\x00\xff", None, b"", b"e"], pa.binary())
        rows = arrival.append_column("at", at).append_column("value", values)
        rows = rows.append_column("reason", pa.array(["it's", "no", "no", "not", "no"]))
        store.create(archive, rows.schema)
        store.append(archive, rows, {0: 2, 1: 6})

        def ran(text: str) -> list[dict[str, Any]]:
            return self._ran(store, text, archive, name="dead_letters")

        def positions(text: str) -> list[tuple[int, int]]:
            return [(row["partition"], row["offset"]) for row in ran(text)]

        assert sorted(positions(statements.dead_letters())) == [(0, 0), (0, 1), (0, 2), (1, 5), (1, 6)]
        assert sorted(positions(statements.dead_letters([(1, 6), (0, 1), (1, 0)]))) == [(0, 1), (1, 6)]
        assert positions(statements.dead_letters([])) == []
        assert positions(statements.newest_dead_letters(4)) == [(1, 6), (0, 0), (0, 2), (1, 5)]
        found = {(row["partition"], row["offset"]): row["value"] for row in ran(statements.dead_letter_values())}
        assert found == {(0, 0): b"a", (0, 1): b"\x00\xff", (0, 2): None, (1, 5): b"", (1, 6): b"e"}
        reasons = {row["offset"]: row["reason"] for row in ran(statements.dead_letter_reasons(0, after=0))}
        assert reasons == {1: "no", 2: "no"}

    def test_served_features_come_in_the_order_in_which_they_were_answered(self, store: OfflineStore) -> None:
        archive = Archive("shop", "served")
        at = pa.array([_AT + datetime.timedelta(seconds=each) for each in (2, 1, 1, 3)], pa.timestamp("us", "UTC"))
        arrival = pa.concat_tables([clicks(1, 0, 2), clicks(0, 0, 2)]).drop_columns(["user_id", "page"])
        rows = arrival.append_column("served_at", at)
        store.create(archive, rows.schema)
        store.append(archive, rows, {0: 1, 1: 1})

        found = self._ran(store, statements.served_rows("served_at"), archive, name="served")

        assert [(row["partition"], row["offset"]) for row in found] == [(0, 0), (1, 1), (1, 0), (0, 1)]
        described = statements.served_rows("served_at", describe_only=True)
        assert self._ran(store, described, archive, name="served") == []

    @staticmethod
    def _ran(
        store: OfflineStore, text: str, archive: Archive = CLICKS, *, name: str = "archive", **inputs: pa.Table
    ) -> list[dict[str, Any]]:
        """The rows that a statement over the archive finds."""
        rows = store.rows(archive)
        assert rows is not None
        return store.sql(text, {name: rows, **inputs}).reader().read_all().to_pylist()

    def offsets_of(self, store: OfflineStore, archive: Archive, text: str, **inputs: pa.Table) -> list[int]:
        return sorted(row["offset"] for row in self._ran(store, text, archive, **inputs))

    def test_compaction_keeps_rows_and_offsets(self, store: OfflineStore) -> None:
        for first in range(0, 12, 3):
            store.append(CLICKS, clicks(0, first, 3), {0: first + 2})

        store.compact(CLICKS, keep_hours=0)

        assert self.positions(store) == [(0, offset) for offset in range(12)]
        assert store.append(CLICKS, clicks(0, 9, 3), {0: 11}) == 0

    def test_compaction_by_columns_keeps_rows_and_is_done_once(self, store: OfflineStore) -> None:
        for first in range(0, 12, 3):
            store.append(CLICKS, clicks(0, first, 3), {0: first + 2})
        shown: list[tuple[int, int]] = []
        given: dict[str, Any] = {"order": ["user_id", "ingested_at"], "time": "ingested_at"}

        numbers = store.compact(CLICKS, **given, progress=lambda done, total: shown.append((done, total)))

        assert set(numbers) == set(COMPACTED) and numbers["busy"] == 0
        assert numbers["files_after"] <= numbers["files_before"]
        assert all(done <= total for done, total in shown)
        assert self.positions(store) == [(0, offset) for offset in range(12)]
        again = store.compact(CLICKS, **given)
        assert again["added"] == again["removed"] == 0
        assert self.positions(store) == [(0, offset) for offset in range(12)]
        assert store.compact(Archive("shop", "unknown"), **given) == dict.fromkeys(COMPACTED, 0)

    def test_rows_come_sorted_and_in_ranges_of_time(self, store: OfflineStore) -> None:
        rows = clicks(0, 0, 6)
        moments = [_AT.replace(minute=minute) for minute in (3, 1, 2, 3, 1, 2)]
        rows = rows.set_column(4, "ingested_at", pa.array([*moments[:5], None], pa.timestamp("us", "UTC")))
        store.append(CLICKS, rows, {0: 5})
        cut = store.dialect.literal(_AT.replace(minute=2), Timestamp)

        plain = statements.sorted_rows(["offset", "ingested_at"], ["ingested_at", "user_id"])
        assert [row["offset"] for row in self._ran(store, plain)] == [5, 1, 4, 2, 0, 3]
        ranges = statements.sorted_rows(["offset"], ["user_id"], time="ingested_at", cuts=[cut])
        assert [row["offset"] for row in self._ran(store, ranges)] == [1, 4, 0, 2, 3, 5]
        assert len(self._ran(store, statements.values_of("ingested_at"))) == 5

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
