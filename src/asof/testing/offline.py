"""What every offline store must return: the traps of historical reads, each as a named test."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from asof.definitions import (
    Aggregation,
    Field,
    FileSource,
    PushSource,
    Session,
    Sliding,
)
from asof.dtypes import Int64, Timestamp
from asof.errors import EntityFrameError
from asof.offline.protocol import OfflineStore
from asof.sql.query import PointInTime
from asof.testing.history import CORRECTED, EVENTS, KEY, NOON, US, events, reads, spine, view
from asof.testing.offline_profiles import ProfilesOfRows
from asof.testing.offline_rows import ReadsOfViewRows
from asof.testing.offline_values import ReadsOfValues
from asof.timing import DAY, EARLIEST, HOUR, LATEST, MINUTE, SECOND


class OfflineStoreSuite(ReadsOfValues, ReadsOfViewRows, ProfilesOfRows):
    """Subclass it with a fixture `engine` that returns an OfflineStore able to read Arrow tables."""

    def test_an_event_exactly_at_t_counts(self, engine: OfflineStore) -> None:
        latest = view(Field("value", Int64))

        assert self.ask(engine, latest, events((1, NOON, 7)), spine((1, NOON), (1, NOON - 1))) == [(7,), (None,)]
        assert self.counts(engine, Sliding("1h"), [NOON], NOON, NOON - 1) == [1, 0]
        assert self.counts(engine, Session("1h"), [NOON], NOON, NOON - 1) == [1, 0]

    def test_a_value_exactly_as_old_as_the_ttl_is_known(self, engine: OfflineStore) -> None:
        latest = view(Field("value", Int64), ttl="1d")

        assert self.ask(engine, latest, events((1, NOON, 7)), spine((1, NOON + DAY), (1, NOON + DAY + 1))) == [
            (7,),
            (None,),
        ]

    def test_a_delay_shifts_the_answer(self, engine: OfflineStore) -> None:
        late = view(Field("value", Int64), delay="1h")

        assert self.ask(engine, late, events((1, NOON, 7)), spine((1, NOON + HOUR - 1), (1, NOON + HOUR))) == [
            (None,),
            (7,),
        ]

    def test_a_window_starts_at_a_whole_hop(self, engine: OfflineStore) -> None:
        start = NOON - NOON % HOUR

        assert self.counts(
            engine, Sliding("2h", "1h"), [start - 1, start], start + 2 * HOUR, start + 3 * HOUR - 1, start + 3 * HOUR
        ) == [1, 1, 0]  # fmt: skip

    def test_times_before_1970_floor_down(self, engine: OfflineStore) -> None:
        assert self.counts(engine, Sliding("10s", "10s"), [-20 * SECOND, -20 * SECOND - 1], -5 * SECOND) == [1]

    def test_an_event_exactly_a_gap_later_joins_the_session(self, engine: OfflineStore) -> None:
        times = [NOON, NOON + HOUR, NOON + 2 * HOUR + 1]

        assert self.counts(engine, Session("1h"), times, *times) == [1, 2, 1]

    def test_a_session_is_open_for_a_gap_and_no_longer(self, engine: OfflineStore) -> None:
        assert self.counts(engine, Session("1h"), [NOON], NOON + HOUR, NOON + HOUR + 1, NOON + 30 * DAY) == [1, 0, 0]

    def test_a_late_event_joins_two_sessions(self, engine: OfflineStore) -> None:
        apart = [NOON, NOON + 2 * HOUR]

        assert self.counts(engine, Session("1h"), apart, NOON + 2 * HOUR) == [1]
        assert self.counts(engine, Session("1h"), [*apart, NOON + HOUR], NOON + 2 * HOUR) == [3]

    def test_where_filters_what_is_counted_and_not_what_keeps_a_session_alive(self, engine: OfflineStore) -> None:
        filtered = view(
            Field("value", Int64),
            aggregations=[Aggregation("", "count", name="n", where="value = 1", window=Session("1h"))],
        )
        rows = events((1, NOON, 1), (1, NOON + HOUR, 2), (1, NOON + 2 * HOUR, 1))

        assert self.ask(engine, filtered, rows, spine((1, NOON + 2 * HOUR))) == [(2,)]

    def test_the_label_row_that_is_itself_an_event_can_be_left_out(self, engine: OfflineStore) -> None:
        times = [NOON - MINUTE, NOON]

        for window in (Sliding("1h"), Session("1h"), None):
            assert self.counts(engine, window, times, NOON) == [2]
            assert self.counts(engine, window, times, NOON, boundary="exclusive") == [1]

    def test_of_two_events_of_one_key_and_one_time_the_later_created_wins(self, engine: OfflineStore) -> None:
        rows = events(
            (1, NOON, 5, NOON + 3), (1, NOON, 9, NOON + 1), (1, NOON, 7, None),
            columns=("user", "happened", "value", "written"),
        )  # fmt: skip

        assert self.ask(engine, view(Field("value", Int64), source=CORRECTED), rows, spine((1, NOON))) == [(5,)]

    def test_the_null_of_the_latest_row_stays_null(self, engine: OfflineStore) -> None:
        rows = events((1, NOON, 5), (1, NOON + 1, None))

        assert self.ask(engine, view(Field("value", Int64)), rows, spine((1, NOON + 1))) == [(None,)]
        assert self.ask(engine, view(Field("value", Int64, default=3)), rows, spine((1, NOON + 1), (2, NOON))) == [
            (3,),
            (3,),
        ]

    def test_last_passes_over_nulls(self, engine: OfflineStore) -> None:
        last = view(Field("value", Int64), aggregations=[Aggregation("value", "last", name="l", window=Sliding("1h"))])

        assert self.ask(engine, last, events((1, NOON, 5), (1, NOON + 1, None)), spine((1, NOON + 1))) == [(5,)]

    def test_corrections_count_under_min_max_and_last_n(self, engine: OfflineStore) -> None:
        made = [Aggregation("value", f, name=f, window=Sliding("1h")) for f in ("min", "max")]
        made.append(Aggregation("value", "last_n", n=2, name="l", window=Sliding("1h")))
        rows = events(
            (1, NOON, 5, NOON + 9),
            (1, NOON, 1, NOON),
            (1, NOON + 1, 3, NOON),
            columns=("user", "happened", "value", "written"),
        )

        answer = self.ask(
            engine, view(Field("value", Int64), source=CORRECTED, aggregations=made), rows, spine((1, NOON + 1))
        )

        assert answer == [(1, 5, [5, 3])]

    def test_spine_rows_are_neither_dropped_nor_merged(self, engine: OfflineStore) -> None:
        frame = spine((1, NOON), (9, NOON), (1, NOON), (None, NOON), (1, None), (1, NOON - DAY), (1, NOON))

        rows = events((1, NOON, 7))
        assert self.ask(engine, view(Field("value", Int64)), rows, frame) == [
            (7,),
            (None,),
            (7,),
            (None,),
            (None,),
            (None,),
            (7,),
        ]
        counted = view(aggregations=[Aggregation("", "count", name="n", window=Sliding("1h"))])
        assert self.ask(engine, counted, rows, frame) == [(1,), (0,), (1,), (None,), (None,), (0,), (1,)]

    def test_a_spine_without_rows_has_an_answer_without_rows(self, engine: OfflineStore) -> None:
        assert self.ask(engine, view(Field("value", Int64)), events((1, NOON, 7)), spine()) == []

    def test_a_key_without_events_counts_nothing(self, engine: OfflineStore) -> None:
        functions = ("count", "sum", "min", "last", "mean", "std", "count_distinct")
        made = [Aggregation("value", f, name=f, window=Sliding("1h")) for f in functions]

        answer = self.ask(
            engine, view(Field("value", Int64), aggregations=made), events((1, NOON, 7)), spine((2, NOON))
        )

        assert answer == [(0, None, None, None, None, None, 0)]

    def test_a_source_without_rows_answers_every_spine_row(self, engine: OfflineStore) -> None:
        source = PushSource("events", [KEY, Field("happened", Timestamp), Field("value", Int64)], "happened")
        counted = view(Field("value", Int64), source=source, aggregations=[Aggregation("", "count", name="n")])

        result = engine.run(PointInTime(reads(counted)), {"events": None}, spine=spine((1, NOON)))

        assert result.reader().read_all().column("n").to_pylist() == [0]

    def test_nanoseconds_are_floored_and_never_rounded_past_t(self, engine: OfflineStore) -> None:
        rows = pa.table(
            {
                "user": pa.array([1, 2]), "value": pa.array([7, 8]),
                "happened": pa.array([NOON * 1000 + 999, -1], pa.timestamp("ns")),
            }
        )  # fmt: skip

        assert self.ask(engine, view(Field("value", Int64)), rows, spine((1, NOON), (2, -1), (2, -2))) == [
            (7,),
            (8,),
            (None,),
        ]

    def test_naive_times_are_utc_and_integers_have_their_unit(self, engine: OfflineStore) -> None:
        naive = pa.table(
            {"user": pa.array([1]), "value": pa.array([7]), "happened": pa.array([NOON], pa.timestamp("us"))}
        )
        in_ms = pa.table({"user": pa.array([1]), "value": pa.array([7]), "happened": pa.array([NOON // 1000])})
        integers = FileSource("events.parquet", name="events", timestamp_field="happened", timestamp_unit="ms")

        assert self.ask(engine, view(Field("value", Int64)), naive, spine((1, NOON), (1, NOON - 1))) == [(7,), (None,)]
        assert self.ask(
            engine, view(Field("value", Int64), source=integers), in_ms, spine((1, NOON), (1, NOON - 1))
        ) == [(7,), (None,)]

    def test_a_date_is_its_midnight(self, engine: OfflineStore) -> None:
        rows = pa.table({"user": pa.array([1]), "value": pa.array([7]), "happened": pa.array([date(1970, 1, 2)])})

        assert self.ask(engine, view(Field("value", Int64)), rows, spine((1, DAY), (1, DAY - 1))) == [(7,), (None,)]

    def test_rows_outside_the_years_1_to_9999_are_passed_over(self, engine: OfflineStore) -> None:
        users = pa.array([1, 1, 2, 2, 3])
        times = [EARLIEST - 1, EARLIEST, NOON, LATEST + 1, EARLIEST - 2]
        in_days = FileSource("events.parquet", name="events", timestamp_field="happened")
        in_s = FileSource("events.parquet", name="events", timestamp_field="happened", timestamp_unit="s")
        columns = {
            EVENTS: pa.array(times, US),
            in_days: pa.array([time // DAY for time in times], pa.int32()).cast(pa.date32()),
            in_s: pa.array([*(time // SECOND for time in times[:3]), 2**62, -(2**62)]),
        }  # fmt: skip

        for source, column in columns.items():
            rows = pa.table({"user": users, "happened": column, "value": pa.array([10, 11, 20, 21, 30])})
            latest = view(Field("value", Int64), source=source)
            summed = view(source=source, aggregations=[Aggregation("value", "sum", name="sum")])
            frame = spine((1, NOON), (2, NOON), (3, NOON), (2, LATEST))

            assert self.ask(engine, latest, rows, frame) == [(11,), (20,), (None,), (20,)]
            assert self.ask(engine, summed, rows, frame) == [(11,), (20,), (None,), (20,)]

    def test_a_created_time_outside_these_years_is_none(self, engine: OfflineStore) -> None:
        rows = events(
            (1, NOON, 1, NOON + 5), (1, NOON, 2, LATEST + 1), (1, NOON, 3, EARLIEST - 1), (1, NOON, 4, None),
            columns=("user", "happened", "value", "written"),
        )  # fmt: skip

        assert self.ask(engine, view(Field("value", Int64), source=CORRECTED), rows, spine((1, NOON))) == [(1,)]

    @pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("ns", 10**9)])
    def test_the_spine_keeps_its_columns_as_they_are(self, engine: OfflineStore, unit: str, per_second: int) -> None:
        frame = pa.table(
            {
                "note": pa.array(["a", None]).dictionary_encode(),
                "event_timestamp": pa.array([NOON // SECOND * per_second] * 2, pa.timestamp(unit)),
                "user": pa.array([1, 2], pa.int32()),
            }
        )  # fmt: skip

        assert self.ask(engine, view(Field("value", Int64)), events((1, NOON, 7)), frame) == [(7,), (None,)]

    def test_views_without_entities_answer_every_row(self, engine: OfflineStore) -> None:
        made = view(Field("value", Int64), entities=())

        frame = spine((5, NOON), (6, NOON + 1), (7, NOON - 1))

        assert self.ask(engine, made, events((1, NOON, 7), (2, NOON + 1, 8)), frame) == [
            (7,), (8,), (None,)
        ]  # fmt: skip

    def test_a_read_of_a_time_range_needs_no_entity_frame(self, engine: OfflineStore) -> None:
        request = PointInTime(reads(view(Field("value", Int64))), start=NOON, end=NOON + 2)
        rows = events((1, NOON - 1, 1), (2, NOON, 2), (1, NOON + 1, 3), (1, NOON + 1, 4), (1, NOON + 2, 5))

        answer = engine.run(request, {"events": rows}).reader().read_all()

        assert answer.schema.names == ["user", "event_timestamp", "value"]
        assert [(row["user"], row["value"]) for row in answer.to_pylist()] == [(2, 2), (1, 4)]

    def test_sql_over_the_sources_is_an_entity_frame(self, engine: OfflineStore) -> None:
        request = PointInTime(reads(view(Field("value", Int64))))
        frame = 'SELECT "user", happened AS event_timestamp, value * 10 AS label FROM events ORDER BY value DESC'

        answer = (
            engine.run(request, {"events": events((1, NOON, 7), (1, NOON + 1, 8))}, spine=frame).reader().read_all()
        )

        assert [(row["label"], row["value"]) for row in answer.to_pylist()] == [(80, 8), (70, 7)]
        assert engine.tables_in(frame) == {"events"}

    @pytest.mark.parametrize("text", ["DROP TABLE events", "SELECT 1; SELECT 2", "SELEC 1"])
    def test_an_entity_frame_that_is_not_one_select_is_refused(self, engine: OfflineStore, text: str) -> None:
        with pytest.raises(EntityFrameError):
            engine.tables_in(text)

    def test_the_same_answer_in_chunks_of_any_size(self, engine: OfflineStore) -> None:
        frame = spine(*((number % 3, NOON + number) for number in range(50)))
        rows = events(*((number % 3, NOON + number, number) for number in range(0, 50, 2)))
        result = engine.run(PointInTime(reads(view(Field("value", Int64)))), {"events": rows}, spine=frame)

        whole = result.reader().read_all()
        pieces = list(result.reader(batch_rows=7))

        assert pa.Table.from_batches(pieces).equals(whole)

    def test_expressions_are_evaluated_over_a_batch(self, engine: OfflineStore) -> None:
        batch = pa.table({"a": [1, None, 3]})

        assert engine.evaluate(batch, {"double": '"a" * 2', "big": '"a" > 2'}).to_pydict() == {
            "double": [2, None, 6], "big": [False, None, True],
        }  # fmt: skip

    def test_a_select_over_single_rows_is_taken_apart_into_expressions(self, engine: OfflineStore) -> None:
        batch = pa.table({"a": [1, None, 3]})

        found = engine.read_select('SELECT a * 2 AS "double" FROM rows WHERE a > 2', table="rows", columns=["a"])

        assert engine.evaluate(batch, {**found.columns, "kept": found.where}).to_pydict() == {
            "double": [2, None, 6], "kept": [False, None, True],
        }  # fmt: skip

    @pytest.mark.parametrize(
        "text",
        [
            "DROP TABLE rows", "SELEC a FROM rows", "SELECT a AS x FROM events", "SELECT max(a) AS x FROM rows",
            "SELECT now() AS x FROM rows", "SELECT (SELECT 1) AS x FROM rows", "SELECT a + 1 FROM rows",
            "SELECT b AS x FROM rows",
        ],
    )  # fmt: skip
    def test_a_select_that_is_more_than_that_is_refused(self, engine: OfflineStore, text: str) -> None:
        with pytest.raises(ValueError, match="."):
            engine.read_select(text, table="rows", columns=["a"])


__all__ = ["EVENTS", "NOON", "OfflineStoreSuite", "events", "reads", "spine", "view"]
