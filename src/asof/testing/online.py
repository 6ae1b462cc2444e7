"""What every online store must do: subclass `OnlineStoreSuite` and give it `open_store`.

Over 400 lines: a suite is one class, which a product subclasses as a whole.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from asof.errors import StorageError
from asof.online.protocol import (
    NO_ROW,
    Lookup,
    Newest,
    OnlineStore,
    OnlineTable,
    StoreReplaced,
    Unchanged,
    pack_version,
    state_rows,
    unpack_version,
)

TRIPS = OnlineTable("prod", "driver_trips", "3f2a9c1d-1", "latest")
RATING = OnlineTable("prod", "driver_rating", "77aa0b1c-1", "latest")
TRAFFIC = OnlineTable("prod", "user_traffic", "3f2a9c1d-2", "state")
DRIVER_7, DRIVER_8, DRIVER_9 = b"\x00driver=7", b"\x00driver=8", b"\xffdriver=9"

MORNING, NOON, EVENING = (pack_version(hour * 3_600_000_000) for hour in (9, 12, 18))

EVERYBODY = 20_000
"""Rows of a long write: several times what a store may put into one transaction or one call."""


class OnlineStoreSuite:
    """The promises of `OnlineStore`, as tests.

    A subclass gives the fixture `open_store`: a callable that opens one more instance of the same, at first empty,
    store, as another process would, and closes it after the test.
    """

    @pytest.fixture
    def open_store(self) -> Iterator[Callable[[], OnlineStore]]:
        raise NotImplementedError("give a fixture that opens instances of one store")

    @pytest.fixture
    def store(self, open_store: Callable[[], OnlineStore]) -> OnlineStore:
        store = open_store()
        for table in (TRIPS, RATING, TRAFFIC):
            store.prepare(table)
        return store

    # Newest

    def test_a_written_row_is_read_with_its_version(self, store: OnlineStore) -> None:
        assert store.write(TRIPS, [DRIVER_7], [b"nine"], condition=Newest([NOON])) == [True]
        assert store.read([Lookup(TRIPS, [DRIVER_7])]) == [[(b"nine", NOON)]]

    def test_an_older_row_never_replaces_a_newer_one(self, store: OnlineStore) -> None:
        store.write(TRIPS, [DRIVER_7], [b"noon"], condition=Newest([NOON]))

        assert store.write(TRIPS, [DRIVER_7], [b"morning"], condition=Newest([MORNING])) == [False]
        assert store.read([Lookup(TRIPS, [DRIVER_7])]) == [[(b"noon", NOON)]]

    def test_of_equal_versions_the_later_write_wins(self, store: OnlineStore) -> None:
        store.write(TRIPS, [DRIVER_7], [b"first"], condition=Newest([NOON]))

        assert store.write(TRIPS, [DRIVER_7], [b"corrected"], condition=Newest([NOON])) == [True]
        assert store.read([Lookup(TRIPS, [DRIVER_7])]) == [[(b"corrected", NOON)]]

    def test_each_row_of_a_batch_is_decided_by_itself(self, store: OnlineStore) -> None:
        store.write(TRIPS, [DRIVER_7, DRIVER_8], [b"old", b"old"], condition=Newest([NOON, NOON]))

        kept = store.write(
            TRIPS, [DRIVER_9, DRIVER_8, DRIVER_7], [b"new"] * 3, condition=Newest([MORNING, MORNING, EVENING])
        )

        assert kept == [True, False, True]
        assert _values(store, TRIPS, [DRIVER_7, DRIVER_8, DRIVER_9]) == [b"new", b"old", b"new"]

    def test_a_key_twice_in_a_batch_meets_its_first_row(self, store: OnlineStore) -> None:
        kept = store.write(
            TRIPS, [DRIVER_7] * 4, [b"a", b"b", b"c", b"d"], condition=Newest([NOON, MORNING, NOON, MORNING])
        )

        assert kept == [True, False, True, False]
        assert _values(store, TRIPS, [DRIVER_7]) == [b"c"]

    def test_versions_before_1970_order_as_moments_do(self, store: OnlineStore) -> None:
        before, after = pack_version(-1), pack_version(0)
        store.write(TRIPS, [DRIVER_7], [b"1970"], condition=Newest([after]))

        assert store.write(TRIPS, [DRIVER_7], [b"1969"], condition=Newest([before])) == [False]
        assert unpack_version(pack_version(-5, created=-7, offset=3, partition=2)) == (-5, -7, 3, 2)

    def test_the_order_is_event_time_then_created_then_offset_then_partition(self, store: OnlineStore) -> None:
        ascending = [
            pack_version(1, created=9, offset=9, partition=9),
            pack_version(2, created=1, offset=9, partition=9),
            pack_version(2, created=2, offset=1, partition=9),
            pack_version(2, created=2, offset=2, partition=1),
            pack_version(2, created=2, offset=2, partition=2),
        ]
        for place, version in enumerate(ascending):
            assert store.write(TRIPS, [DRIVER_7], [b"%d" % place], condition=Newest([version])) == [True]
            for older in ascending[:place]:
                assert store.write(TRIPS, [DRIVER_7], [b"older"], condition=Newest([older])) == [False]

        assert _values(store, TRIPS, [DRIVER_7]) == [b"4"]

    # Unchanged

    def test_state_is_written_where_there_was_none(self, store: OnlineStore) -> None:
        assert store.write(TRAFFIC, [DRIVER_7], [b"1"], condition=Unchanged([NO_ROW])) == [True]
        assert store.write(TRAFFIC, [DRIVER_7], [b"2"], condition=Unchanged([NO_ROW])) == [False]
        assert _values(store, TRAFFIC, [DRIVER_7]) == [b"1"]

    def test_state_is_replaced_only_as_it_was_read(self, store: OnlineStore) -> None:
        store.write(TRAFFIC, [DRIVER_7], [b"1"], condition=Unchanged([NO_ROW]))
        token = _mark(store, DRIVER_7)

        assert store.write(TRAFFIC, [DRIVER_7], [b"2"], condition=Unchanged([token])) == [True]
        assert store.write(TRAFFIC, [DRIVER_7], [b"3"], condition=Unchanged([token])) == [False]
        assert _values(store, TRAFFIC, [DRIVER_7]) == [b"2"]

    def test_a_token_for_a_row_that_is_not_there_keeps_nothing(self, store: OnlineStore) -> None:
        assert store.write(TRAFFIC, [DRIVER_7], [b"1"], condition=Unchanged([12345])) == [False]
        assert store.read([Lookup(TRAFFIC, [DRIVER_7])]) == [[None]]

    def test_tokens_of_a_key_never_come_back(self, store: OnlineStore) -> None:
        seen = {NO_ROW}
        for _ in range(20):
            last = NO_ROW
            for _ in range(3):
                assert store.write(TRAFFIC, [DRIVER_7], [b"same"], condition=Unchanged([last])) == [True]
                last = _mark(store, DRIVER_7)
                assert last not in seen
                seen.add(last)
            store.delete(TRAFFIC, [DRIVER_7])

    def test_tokens_do_not_come_back_with_a_table_that_was_dropped(self, store: OnlineStore) -> None:
        store.write(TRAFFIC, [DRIVER_7], [b"1"], condition=Unchanged([NO_ROW]))
        token = _mark(store, DRIVER_7)
        store.drop(TRAFFIC)
        store.prepare(TRAFFIC)
        store.write(TRAFFIC, [DRIVER_7], [b"2"], condition=Unchanged([NO_ROW]))

        assert store.write(TRAFFIC, [DRIVER_7], [b"stale"], condition=Unchanged([token])) == [False]

    def test_each_state_of_a_batch_is_decided_by_itself(self, store: OnlineStore) -> None:
        store.write(TRAFFIC, [DRIVER_7, DRIVER_8], [b"a", b"a"], condition=Unchanged([NO_ROW, NO_ROW]))
        token = _mark(store, DRIVER_8)

        kept = store.write(
            TRAFFIC, [DRIVER_9, DRIVER_8, DRIVER_7], [b"b"] * 3, condition=Unchanged([NO_ROW, token, NO_ROW])
        )

        assert kept == [True, True, False]
        assert _values(store, TRAFFIC, [DRIVER_7, DRIVER_8, DRIVER_9]) == [b"a", b"b", b"b"]

    def test_of_a_state_twice_in_a_batch_the_first_is_kept(self, store: OnlineStore) -> None:
        kept = store.write(TRAFFIC, [DRIVER_7] * 2, [b"a", b"b"], condition=Unchanged([NO_ROW, NO_ROW]))
        assert kept == [True, False]
        token = _mark(store, DRIVER_7)

        kept = store.write(TRAFFIC, [DRIVER_7] * 3, [b"x", b"c", b"y"], condition=Unchanged([NO_ROW, token, token]))

        assert kept == [False, True, False]
        assert _values(store, TRAFFIC, [DRIVER_7]) == [b"c"]

    # Races

    def test_of_two_racing_writers_no_increment_is_lost(self, open_store: Callable[[], OnlineStore]) -> None:
        stores = [open_store(), open_store()]
        stores[0].prepare(TRAFFIC)
        keys = [b"counter-%d" % i for i in range(10)]

        def add(store: OnlineStore) -> None:
            for _ in range(15):
                left = keys
                while left:
                    rows = state_rows(*store.read([Lookup(TRAFFIC, left)]))
                    values = [b"%d" % (int(row[0]) + 1 if row else 1) for row in rows]
                    tokens = [row[1] if row else NO_ROW for row in rows]
                    kept = store.write(TRAFFIC, left, values, condition=Unchanged(tokens))
                    left = [key for key, was_kept in zip(left, kept, strict=True) if not was_kept]

        _all_at_once([partial(add, store) for store in stores for _ in range(2)])

        assert _values(stores[0], TRAFFIC, keys) == [b"60"] * 10

    def test_of_racing_writers_the_newest_row_wins_everywhere(self, open_store: Callable[[], OnlineStore]) -> None:
        stores = [open_store() for _ in range(3)]
        stores[0].prepare(TRIPS)
        keys = [b"k%03d" % i for i in range(100)]

        def write(store: OnlineStore, place: int) -> None:
            for round in range(10):
                moment = (round * 7 + place * 3) % 30
                store.write(TRIPS, keys, [b"%d" % moment] * 100, condition=Newest([pack_version(moment)] * 100))

        _all_at_once([partial(write, store, place) for place, store in enumerate(stores)])

        newest = max((round * 7 + place * 3) % 30 for round in range(10) for place in range(3))
        assert _values(stores[0], TRIPS, keys) == [b"%d" % newest] * 100

    def test_one_instance_serves_many_threads(self, store: OnlineStore) -> None:
        def write_and_read(thread: int) -> None:
            for i in range(20):
                key = b"t%d-%d" % (thread, i)
                assert store.write(TRIPS, [key], [key], condition=Newest([NOON])) == [True]
                assert store.read([Lookup(TRIPS, [key])]) == [[(key, NOON)]]

        _all_at_once([partial(write_and_read, thread) for thread in range(6)])

    # Reading

    def test_several_tables_answer_one_read_in_order(self, store: OnlineStore) -> None:
        store.write(TRIPS, [DRIVER_7, DRIVER_8], [b"trips 7", b"trips 8"], condition=Newest([NOON, NOON]))
        store.write(RATING, [DRIVER_7], [b"rating 7"], condition=Newest([MORNING]))
        store.write(TRAFFIC, [DRIVER_8], [b"traffic 8"], condition=Unchanged([NO_ROW]))

        answers = store.read(
            [
                Lookup(RATING, [DRIVER_8, DRIVER_7]),
                Lookup(TRAFFIC, [DRIVER_8]),
                Lookup(TRIPS, [DRIVER_8, DRIVER_9, DRIVER_7]),
                Lookup(RATING, []),
            ]
        )

        assert answers[0] == [None, (b"rating 7", MORNING)]
        ((traffic,),) = answers[1:2]
        assert traffic is not None and traffic[0] == b"traffic 8"
        assert answers[2] == [(b"trips 8", NOON), None, (b"trips 7", NOON)]
        assert answers[3] == []

    def test_unknown_keys_and_tables_answer_none(self, store: OnlineStore) -> None:
        unknown = OnlineTable("prod", "never_prepared", "0-0", "latest")

        assert store.read([Lookup(TRIPS, [DRIVER_7]), Lookup(unknown, [DRIVER_7, DRIVER_8])]) == [[None], [None, None]]
        assert store.read([Lookup(unknown, [DRIVER_7])]) == [[None]]
        assert store.read([]) == []

    def test_duplicate_keys_are_answered_each(self, store: OnlineStore) -> None:
        store.write(TRIPS, [DRIVER_7], [b"x"], condition=Newest([NOON]))
        row = (b"x", NOON)

        requested = [DRIVER_7, DRIVER_8, DRIVER_7, DRIVER_7, DRIVER_8, DRIVER_7]
        assert store.read([Lookup(TRIPS, requested)]) == [[row, None, row, row, None, row]]

    @pytest.mark.parametrize("n", [1, 2, 3, 5, 64, 511, 512, 513, 3000])
    def test_any_number_of_keys_is_answered_in_the_order_asked_for(self, store: OnlineStore, n: int) -> None:
        known = [b"key-%d" % i for i in range(n)]
        store.write(TRIPS, known, known, condition=Newest([NOON] * n))
        requested = [key for i, key in enumerate(reversed(known)) for key in (key, b"unknown-%d" % i)][:n]

        first, second = store.read([Lookup(TRIPS, requested), Lookup(TRIPS, known)])

        assert first == [None if key.startswith(b"unknown") else (key, NOON) for key in requested]
        assert [row and row[0] for row in second] == known

    def test_bytes_of_any_kind_are_kept_as_they_are(self, store: OnlineStore) -> None:
        keys = [b"", b"\x00", b"\x00\x00", b"'; --", b'"', b"\xff" * 40, "ключ".encode(), b"key", b"KEY", b"key "]
        values = [b"", b"\x00" * 9, bytes(range(256)), b"{}", b"'", b"\xf0", b"\r\n", b"*", b"%", b"_"]
        store.write(TRIPS, keys, values, condition=Newest([NOON] * len(keys)))

        assert _values(store, TRIPS, keys) == values

    def test_an_empty_value_is_a_row(self, store: OnlineStore) -> None:
        store.write(TRIPS, [DRIVER_7], [b""], condition=Newest([NOON]))
        store.write(TRAFFIC, [DRIVER_7], [b""], condition=Unchanged([NO_ROW]))

        assert store.read([Lookup(TRIPS, [DRIVER_7])]) == [[(b"", NOON)]]
        assert _values(store, TRAFFIC, [DRIVER_7]) == [b""]

    def test_values_of_a_megabyte_are_kept_whole(self, store: OnlineStore) -> None:
        keys = [b"big-%d" % i for i in range(20)]
        values = [bytes([i]) * (1 << 20) for i in range(20)]

        assert store.write(TRIPS, keys, values, condition=Newest([NOON] * 20)) == [True] * 20
        assert _values(store, TRIPS, keys) == values

    def test_a_large_batch_is_kept_row_by_row(self, store: OnlineStore) -> None:
        n = 12_345
        keys = [b"%d" % (i * 7919 % n) for i in range(n)]
        store.write(TRIPS, keys[::3], [b"old"] * len(keys[::3]), condition=Newest([NOON] * len(keys[::3])))

        kept = store.write(TRIPS, keys, [b"new"] * n, condition=Newest([MORNING] * n))

        assert kept == [i % 3 != 0 for i in range(n)]
        assert _values(store, TRIPS, keys) == [b"new" if i % 3 else b"old" for i in range(n)]

    def test_no_rows_are_a_batch_too(self, store: OnlineStore) -> None:
        assert store.write(TRIPS, [], [], condition=Newest([])) == []
        assert store.write(TRAFFIC, [], [], condition=Unchanged([])) == []
        assert store.delete(TRIPS, []) == 0

    def test_a_write_with_columns_that_do_not_match_is_refused_whole(self, store: OnlineStore) -> None:
        with pytest.raises(ValueError, match="length"):
            store.write(TRIPS, [DRIVER_7, DRIVER_8], [b"x"], condition=Newest([NOON, NOON]))
        with pytest.raises(ValueError, match="length"):
            store.write(TRIPS, [DRIVER_7], [b"x"], condition=Newest([NOON, NOON]))
        with pytest.raises(ValueError, match="length"):
            store.write(TRIPS, [DRIVER_7], [b"x"], condition=Newest([NOON]), expires_at=[])
        with pytest.raises(ValueError, match="Unchanged"):
            store.write(TRIPS, [DRIVER_7], [b"x"], condition=Unchanged([NO_ROW]))
        with pytest.raises(ValueError, match="Newest"):
            store.write(TRAFFIC, [DRIVER_7], [b"x"], condition=Newest([NOON]))
        assert store.scan(TRIPS) == [] and store.scan(TRAFFIC) == []

    # Reading during writes

    def test_reads_during_a_long_write_go_on_and_never_see_half_a_row(
        self, open_store: Callable[[], OnlineStore], store: OnlineStore
    ) -> None:
        keys = [b"k%05d" % i for i in range(EVERYBODY)]
        writer = open_store()
        done = threading.Event()

        def write() -> None:
            try:
                for moment in (1, 2):
                    version = pack_version(moment)
                    values = [b"%d" % moment * 100] * EVERYBODY
                    writer.write(TRIPS, keys, values, condition=Newest([version] * EVERYBODY))
            finally:
                done.set()

        thread = threading.Thread(target=write)
        thread.start()
        reads_meanwhile = 0
        seen = 0
        watched = keys[:: EVERYBODY // 50]
        while not done.is_set():
            (rows,) = store.read([Lookup(TRIPS, watched)])
            for row in rows:
                assert row is None or row in ((b"1" * 100, pack_version(1)), (b"2" * 100, pack_version(2)))
            total = sum(int(row[0][:1]) for row in rows if row)
            assert total >= seen
            seen = total
            reads_meanwhile += not done.is_set()
        thread.join()

        assert reads_meanwhile > 3
        assert _values(store, TRIPS, watched) == [b"2" * 100] * len(watched)

    # Scanning

    def test_a_scan_pages_through_all_rows_in_key_order(self, store: OnlineStore) -> None:
        keys = [b"%03d" % i for i in range(250)] + [b"\x00", b"\xff\xff", b"\x80"]
        store.write(TRIPS, keys, [key * 2 for key in keys], condition=Newest([NOON] * len(keys)))

        pages = []
        after = None
        while page := store.scan(TRIPS, after=after, limit=60):
            pages.append(page)
            after = page[-1][0]

        assert [len(page) for page in pages] == [60, 60, 60, 60, 13]
        assert [row for page in pages for row in page] == [(key, key * 2, NOON) for key in sorted(keys)]

    def test_a_scan_of_state_gives_the_tokens_that_a_write_takes(self, store: OnlineStore) -> None:
        store.write(TRAFFIC, [DRIVER_7, DRIVER_8], [b"1", b"1"], condition=Unchanged([NO_ROW] * 2))
        keys, _, tokens = zip(*store.scan(TRAFFIC), strict=True)

        assert store.write(TRAFFIC, keys, [b"2", b"2"], condition=Unchanged(tokens)) == [True, True]

    def test_a_scan_of_an_unknown_table_is_empty(self, store: OnlineStore) -> None:
        assert store.scan(OnlineTable("prod", "never_prepared", "0-0", "latest")) == []

    # Forgetting

    def test_a_deleted_row_is_gone_and_its_key_starts_anew(self, store: OnlineStore) -> None:
        store.write(TRIPS, [DRIVER_7, DRIVER_8], [b"x", b"x"], condition=Newest([NOON, NOON]))

        assert store.delete(TRIPS, [DRIVER_7, DRIVER_9]) == 1
        assert _values(store, TRIPS, [DRIVER_7, DRIVER_8]) == [None, b"x"]
        assert store.write(TRIPS, [DRIVER_7], [b"y"], condition=Newest([MORNING])) == [True]

    def test_a_state_deleted_meanwhile_is_not_brought_back(self, store: OnlineStore) -> None:
        store.write(TRAFFIC, [DRIVER_7], [b"1"], condition=Unchanged([NO_ROW]))
        token = _mark(store, DRIVER_7)
        store.delete(TRAFFIC, [DRIVER_7])

        assert store.write(TRAFFIC, [DRIVER_7], [b"2"], condition=Unchanged([token])) == [False]
        assert store.read([Lookup(TRAFFIC, [DRIVER_7])]) == [[None]]

    def test_expired_rows_are_removed_and_no_others(self, store: OnlineStore) -> None:
        # Far ahead of any system clock, since a store may remove by itself what has expired.
        year = 31_536_000_000_000
        then = 400 * year
        keys = [b"due", b"later", b"never", b"renewed", b"kept"]
        expires_at = [then, then + 1_000_000, None, then - year, then - year]
        store.write(TRIPS, keys, keys, condition=Newest([NOON] * 5), expires_at=expires_at)
        store.write(TRIPS, [b"renewed"], [b"renewed"], condition=Newest([NOON]), expires_at=[then + year])
        store.write(TRIPS, [b"kept"], [b"kept"], condition=Newest([NOON]))

        assert store.delete_expired("prod", then - 2 * year) == 0
        assert store.delete_expired("pro", then) == 0
        assert store.delete_expired("prod", then) == 1
        assert _values(store, TRIPS, keys) == [None, b"later", b"never", b"renewed", b"kept"]

    @pytest.mark.parametrize("expiry", [-(10**17), -1, 0, 1, 1_600_000_000_000_000])
    def test_a_row_that_has_expired_when_it_is_written_is_removed_and_no_other(
        self, store: OnlineStore, expiry: int
    ) -> None:
        keys = [b"due", b"never"]
        for table, condition in ((TRIPS, Newest([NOON] * 2)), (TRAFFIC, Unchanged([NO_ROW] * 2))):
            written = store.write(table, keys, keys, condition=condition, expires_at=[expiry, None])

            assert written == [True, True]
            assert _values(store, table, [b"never"]) == [b"never"]
        store.delete_expired("prod", 1_700_000_000_000_000)
        for table in (TRIPS, TRAFFIC):
            assert _values(store, table, keys) == [None, b"never"]

    def test_a_refused_write_does_not_change_when_a_row_expires(self, store: OnlineStore) -> None:
        then = 400 * 31_536_000_000_000
        store.write(TRIPS, [DRIVER_7], [b"x"], condition=Newest([NOON]))
        store.write(TRIPS, [DRIVER_7], [b"y"], condition=Newest([MORNING]), expires_at=[then])

        assert store.delete_expired("prod", then + 1) == 0
        assert _values(store, TRIPS, [DRIVER_7]) == [b"x"]

    # Progress

    def test_progress_is_kept_per_table_and_fact(
        self, open_store: Callable[[], OnlineStore], store: OnlineStore
    ) -> None:
        assert store.progress(TRAFFIC) == {}
        store.write_progress(TRAFFIC, {"0": 41, "1": 7, "topic": "Zm9v", "näme 'x'": -1})
        store.write_progress(TRAFFIC, {"0": 2**62, "1": 3})
        store.write_progress(TRIPS, {"0": 1})
        store.write_progress(TRIPS, {})

        facts = open_store().progress(TRAFFIC)
        assert facts == {"0": 2**62, "1": 3, "topic": "Zm9v", "näme 'x'": -1}
        assert [type(fact) for fact in facts.values()].count(str) == 1
        assert store.progress(TRIPS) == {"0": 1}

    def test_whoever_sees_progress_sees_the_rows_before_it(self, open_store: Callable[[], OnlineStore]) -> None:
        writer, reader = open_store(), open_store()
        writer.prepare(TRIPS)
        done = threading.Event()

        def write() -> None:
            try:
                for i in range(150):
                    writer.write(TRIPS, [DRIVER_7], [b"%d" % i], condition=Newest([pack_version(i)]))
                    writer.write_progress(TRIPS, {"0": i})
            finally:
                done.set()

        thread = threading.Thread(target=write)
        thread.start()
        while not done.is_set():
            offset = int(reader.progress(TRIPS).get("0", -1))
            (value,) = _values(reader, TRIPS, [DRIVER_7])
            assert int(value or -1) >= offset
        thread.join()
        assert reader.progress(TRIPS) == {"0": 149}

    def test_numbers_in_progress_stay_numbers_and_texts_stay_texts(self, store: OnlineStore) -> None:
        store.write_progress(TRAFFIC, {"number": 7, "text": "7", "empty": ""})

        assert store.progress(TRAFFIC) == {"number": 7, "text": "7", "empty": ""}

    # Tables

    def test_preparing_again_changes_nothing(self, open_store: Callable[[], OnlineStore], store: OnlineStore) -> None:
        store.write(TRIPS, [DRIVER_7], [b"x"], condition=Newest([NOON]))
        store.write_progress(TRIPS, {"0": 5})
        store.prepare(TRIPS)
        open_store().prepare(TRIPS)

        assert _values(store, TRIPS, [DRIVER_7]) == [b"x"]
        assert store.progress(TRIPS) == {"0": 5}
        assert store.tables("prod") == sorted([TRIPS, RATING, TRAFFIC])

    def test_a_table_cannot_change_its_kind(self, store: OnlineStore) -> None:
        with pytest.raises(StorageError, match="latest"):
            store.prepare(TRIPS._replace(kind="state"))

    def test_a_table_that_was_never_prepared_refuses_writes(self, store: OnlineStore) -> None:
        unknown = OnlineTable("prod", "never_prepared", "0-0", "latest")

        with pytest.raises(StorageError, match="never_prepared"):
            store.write(unknown, [DRIVER_7], [b"x"], condition=Newest([NOON]))
        with pytest.raises(StorageError, match="never_prepared"):
            store.write_progress(unknown, {"0": 1})
        assert store.progress(unknown) == {}
        assert store.delete(unknown, [DRIVER_7]) == 0

    def test_generations_of_a_view_are_apart(self, store: OnlineStore) -> None:
        second = TRIPS._replace(generation="3f2a9c1d-10")
        store.prepare(second)
        store.write(TRIPS, [DRIVER_7], [b"first"], condition=Newest([NOON]))
        store.write(second, [DRIVER_7], [b"second"], condition=Newest([MORNING]))

        store.drop(TRIPS)

        answers = store.read([Lookup(TRIPS, [DRIVER_7]), Lookup(second, [DRIVER_7])])
        assert answers == [[None], [(b"second", MORNING)]]

    def test_a_dropped_table_is_gone_with_rows_and_progress(
        self, open_store: Callable[[], OnlineStore], store: OnlineStore
    ) -> None:
        other = open_store()
        store.write(TRIPS, [DRIVER_7], [b"x"], condition=Newest([NOON]))
        store.write_progress(TRIPS, {"0": 5})
        assert _values(other, TRIPS, [DRIVER_7]) == [b"x"]

        store.drop(TRIPS)
        store.drop(TRIPS)

        for instance in (store, other):
            assert TRIPS not in instance.tables("prod")
            assert _values(instance, TRIPS, [DRIVER_7]) == [None]
            assert instance.progress(TRIPS) == {}
            assert instance.scan(TRIPS) == []

    def test_a_table_made_again_starts_empty_for_every_instance(
        self, open_store: Callable[[], OnlineStore], store: OnlineStore
    ) -> None:
        other = open_store()
        store.write(TRIPS, [DRIVER_7], [b"x"], condition=Newest([NOON]))
        assert _values(other, TRIPS, [DRIVER_7]) == [b"x"]

        store.drop(TRIPS)
        store.prepare(TRIPS)

        assert _values(other, TRIPS, [DRIVER_7]) == [None]
        assert other.write(TRIPS, [DRIVER_7], [b"y"], condition=Newest([MORNING])) == [True]
        assert _values(store, TRIPS, [DRIVER_7]) == [b"y"]

    def test_dropping_a_project_leaves_those_with_similar_names(self, store: OnlineStore) -> None:
        names = [
            "prod2",
            "prod_eu",
            "pro",
            "Prod",
            "prod.",
            "prod/eu",
            "pr%d",
            "p*",
            "prod'x",
            'prod"',
            "prodé",
            "prod:a",
        ]
        tables = [OnlineTable(name, "v", "1-1", "latest") for name in names]
        for table in tables:
            store.prepare(table)
            store.write(table, [DRIVER_7], [table.project.encode()], condition=Newest([NOON]))

        store.drop_project("prod")
        for gone in ("pr%d", "p*", "prod'x", "prod:a"):
            store.drop_project(gone)

        assert store.tables("prod") == []
        for table in tables:
            left = table.project not in ("pr%d", "p*", "prod'x", "prod:a")
            assert store.tables(table.project) == ([table] if left else [])
            assert _values(store, table, [DRIVER_7]) == [table.project.encode() if left else None]

    def test_names_do_not_run_into_each_other(self, store: OnlineStore) -> None:
        one, two = OnlineTable("a", "b:c", "d", "latest"), OnlineTable("a:b", "c", "d", "latest")
        three, four = OnlineTable("a", "b", "c-1", "latest"), OnlineTable("a", "b-c", "1", "latest")
        for table in (one, two, three, four):
            store.prepare(table)
            store.write(table, [DRIVER_7], [str(tuple(table)).encode()], condition=Newest([NOON]))

        for table in (one, two, three, four):
            assert _values(store, table, [DRIVER_7]) == [str(tuple(table)).encode()]

    # The store itself

    def test_a_write_is_for_the_incarnation_that_its_writer_knows(
        self, open_store: Callable[[], OnlineStore], store: OnlineStore
    ) -> None:
        now = store.incarnation()
        assert open_store().incarnation() == now
        keys = [DRIVER_7]
        assert store.write(TRAFFIC, keys, [b"1"], condition=Unchanged([NO_ROW], within=now)) == [True]
        store.write_progress(TRAFFIC, {"0": 1}, within=now)
        token = _mark(store, DRIVER_7)

        if now:  # else the store does not lose what it has acknowledged, or loses its tables with it
            with pytest.raises(StoreReplaced):
                store.write(TRAFFIC, keys, [b"2"], condition=Unchanged([token], within="another"))
            with pytest.raises(StoreReplaced):
                store.write_progress(TRAFFIC, {"0": 2}, within="another")
        assert _values(store, TRAFFIC, keys) == [b"1"]
        assert store.progress(TRAFFIC) == {"0": 1}

    # Markers

    def test_a_table_is_read_as_marked_from_when_it_was_marked(self, store: OnlineStore) -> None:
        if not store.has_markers:
            pytest.skip("the store has no markers")
        lookups = [Lookup(TRIPS, [DRIVER_7, DRIVER_8]), Lookup(TRAFFIC, [DRIVER_7])]
        store.write(TRIPS, [DRIVER_7], [b"seven"], condition=Newest([NOON]))
        assert store.read_marked(lookups) == [None, None]
        assert store.unmarked([TRIPS, RATING, TRAFFIC]) == [TRIPS, RATING, TRAFFIC]

        store.mark(TRIPS)
        store.mark(TRIPS)
        assert store.read_marked(lookups) == [[(b"seven", NOON), None], None]
        assert store.unmarked([TRIPS, RATING, TRAFFIC]) == [RATING, TRAFFIC]
        store.mark(TRAFFIC)
        assert store.read_marked(lookups) == store.read(lookups)
        assert store.read_marked([lookups[1], lookups[0], lookups[1]]) == [[None], [(b"seven", NOON), None], [None]]
        assert store.unmarked([TRIPS, TRAFFIC]) == store.unmarked([]) == []

    def test_a_marker_is_seen_and_missed_by_every_instance(
        self, open_store: Callable[[], OnlineStore], store: OnlineStore
    ) -> None:
        if not store.has_markers:
            pytest.skip("the store has no markers")
        other, lookups = open_store(), [Lookup(TRIPS, [DRIVER_7])]
        store.mark(TRIPS)
        assert other.read_marked(lookups) == [[None]]

        store.drop(TRIPS)
        assert other.read_marked(lookups) == store.read_marked(lookups) == [None]
        store.prepare(TRIPS)
        assert other.read_marked(lookups) == store.read_marked(lookups) == [None]
        store.mark(TRIPS)
        store.drop_project("prod")
        assert other.read_marked(lookups) == store.read_marked(lookups) == [None]

    def test_no_write_and_no_progress_marks_a_table(self, store: OnlineStore) -> None:
        if not store.has_markers:
            pytest.skip("the store has no markers")
        store.write(TRAFFIC, [DRIVER_7], [b"1"], condition=Unchanged([NO_ROW]))
        store.write_progress(TRAFFIC, {"built": 1})
        assert store.read_marked([Lookup(TRAFFIC, [DRIVER_7])]) == [None]

        store.mark(TRAFFIC)
        assert store.progress(TRAFFIC) == {"built": 1}
        assert [row[0] for row in store.scan(TRAFFIC)] == [DRIVER_7]

    def test_many_keys_are_read_with_their_markers(self, store: OnlineStore) -> None:
        keys = [b"%05d" % i for i in range(EVERYBODY)]
        store.write(RATING, keys[::2], keys[::2], condition=Newest([NOON] * len(keys[::2])))
        store.mark(RATING)
        lookups = [Lookup(RATING, keys), Lookup(TRIPS, keys[:3])]
        unmarked = None if store.has_markers else [None] * 3
        assert store.read_marked(lookups) == [store.read(lookups)[0], unmarked]
        assert store.read_marked([Lookup(RATING, [])]) == [[]]

    def test_a_table_that_is_not_there_is_not_marked(self, store: OnlineStore) -> None:
        if not store.has_markers:
            pytest.skip("the store has no markers")
        gone = TRIPS._replace(generation="gone-1")
        with pytest.raises(StorageError):
            store.mark(gone)
        assert store.read_marked([Lookup(gone, [DRIVER_7])]) == [None]
        if now := store.incarnation():
            with pytest.raises(StoreReplaced):
                store.mark(TRIPS, within="another")
            store.mark(TRIPS, within=now)
            assert store.unmarked([TRIPS]) == []

    def test_what_evicts_rows_is_named_in_words(self, store: OnlineStore) -> None:
        assert isinstance(store.evicts(), str)

    def test_warnings_are_sentences(self, store: OnlineStore) -> None:
        assert all(isinstance(warning, str) and warning for warning in store.warnings())

    def test_what_was_written_is_there_for_the_next_instance(
        self, open_store: Callable[[], OnlineStore], store: OnlineStore
    ) -> None:
        store.write(TRIPS, [DRIVER_7], [b"x"], condition=Newest([NOON]))
        store.close()

        assert _values(open_store(), TRIPS, [DRIVER_7]) == [b"x"]

    def test_ping_describes_the_store_and_close_may_be_called_twice(self, store: OnlineStore) -> None:
        assert store.ping() and "\n" not in store.ping()
        store.close()
        store.close()


def _values(store: OnlineStore, table: OnlineTable, keys: list[bytes]) -> list[bytes | None]:
    (rows,) = store.read([Lookup(table, keys)])
    return [row[0] if row else None for row in rows]


def _mark(store: OnlineStore, key: bytes) -> int:
    (row,) = state_rows(*store.read([Lookup(TRAFFIC, [key])]))
    assert row is not None
    return row[1]


def _all_at_once(jobs: list[Callable[[], None]]) -> None:
    """Run each job in a thread of its own; the first failure is raised here."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        try:
            barrier.wait()
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
