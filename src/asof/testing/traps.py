"""The traps of streams that other stores fell into; whatever feeds and serves rows must pass them.

Over 400 lines: a suite is one class, which a product subclasses as a whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from asof.definitions import Aggregation, FeatureView, Field, LogSource, Session, Sliding
from asof.flows.stores import Stores
from asof.flows.stream.event_ids import EVENTS
from asof.testing.clock import NOW, MicrosClock
from asof.testing.streams import (
    ACTIVITY,
    CRASH_POINTS,
    DAY_WINDOW,
    HOUR_WINDOW,
    MORTALS,
    NEWEST,
    SESSION,
    TOPIC,
    USER,
    VISITS,
    StreamRun,
    end,
    visit,
)
from asof.timing import DAY, HOUR, MINUTE, SECOND
from asof.types import Float64, Int64

LIVES = [
    [[0]],
    [[4 * MINUTE]],
    [[4 * MINUTE], [-20 * DAY]],
    [[-20 * DAY], [4 * MINUTE]],
    [[4 * MINUTE, -20 * DAY], [-30 * DAY]],
    [[-400 * DAY], [3 * MINUTE, 4 * MINUTE], [-399 * DAY]],
    [[-SECOND], [-25 * DAY]],
    [[-60 * 366 * DAY], [2 * MINUTE]],
    [[-8 * DAY], [-8 * DAY - 20 * MINUTE], [-30 * DAY]],
    [[0, 4 * MINUTE], [-DAY], [-60 * 366 * DAY]],
]
"""Of one key: the times of its events, batch after batch, after `NOW`."""


class TrapsSuite:
    """A subclass gives the fixture `make_stores`: a callable that makes fresh stores with the given clock."""

    @pytest.fixture
    def make_stores(self) -> Callable[[MicrosClock], Stores]:
        raise NotImplementedError("give a fixture that makes stores")

    @pytest.fixture
    def run(self, make_stores: Callable[[MicrosClock], Stores]) -> StreamRun:
        clock = MicrosClock()
        return StreamRun(make_stores(clock), clock)

    @pytest.fixture
    def mortal_run(self, make_stores: Callable[[MicrosClock], Stores]) -> StreamRun:
        clock = MicrosClock()
        return StreamRun(make_stores(clock), clock, definitions=MORTALS)

    def test_a_key_ends_from_its_tombstones_time_on_and_a_later_event_revives_it(self, mortal_run: StreamRun) -> None:
        mortal_run.send(visit(1, -3 * MINUTE), end(1, -2 * MINUTE), visit(2, -3 * MINUTE), end(2, -2 * MINUTE))
        mortal_run.send(visit(2, -MINUTE, amount=5.0), visit(3, -3 * MINUTE), end(3, MINUTE))
        mortal_run.step()

        assert mortal_run.statuses("newest")["amount"] == ["NOT_FOUND", "PRESENT", "PRESENT"]
        assert mortal_run.served("newest")["amount"] == [None, 5.0, 1.0]
        assert mortal_run.statuses("newest", at=NOW + MINUTE)["amount"] == ["NOT_FOUND", "PRESENT", "NOT_FOUND"]
        mortal_run.finish()
        mortal_run.assert_nothing_lost_or_doubled()
        mortal_run.assert_online_is_history()

    def test_a_late_event_older_than_the_tombstone_does_not_revive_the_key(self, mortal_run: StreamRun) -> None:
        mortal_run.send(end(1, -MINUTE), visit(2, -3 * MINUTE, page="c"))
        mortal_run.step()
        mortal_run.flush()
        mortal_run.send(visit(1, -2 * MINUTE), visit(2, -4 * MINUTE), visit(3, -MINUTE))
        mortal_run.kill()
        mortal_run.step()

        assert mortal_run.statuses("newest")["page"] == ["NOT_FOUND", "NOT_FOUND", "PRESENT"]
        mortal_run.announce("newest")
        mortal_run.finish()
        mortal_run.fill("newest")
        mortal_run.flip("newest")
        assert mortal_run.statuses("newest")["page"] == ["NOT_FOUND", "NOT_FOUND", "PRESENT"]
        mortal_run.assert_online_is_history()

    def test_a_row_that_ends_its_key_is_no_event_for_windows_and_sessions(self, mortal_run: StreamRun) -> None:
        mortal_run.send(visit(1, -55 * MINUTE), end(1, -30 * MINUTE), visit(1, -5 * MINUTE), visit(1, 0, page="c"))
        mortal_run.step()

        served = mortal_run.served("activity", [1])
        # The tombstone keeps no session alive, and the visit of page c counts nowhere.
        assert (served["session"], served["hour"], served["page"]) == ([1], [2], ["b"])
        (worker,) = mortal_run.workers.values()
        feeders = {name: feeder for (name, _), feeder in worker.ingests["visits"].feeders.items()}
        assert feeders["activity"].counts["tombstones ignored"] == 2
        mortal_run.finish()
        mortal_run.assert_online_is_history()

    def test_a_tombstone_without_a_key_is_a_dead_letter(self, mortal_run: StreamRun) -> None:
        mortal_run.stores.log.send(TOPIC, [None], durable=False)
        mortal_run.finish()

        (dead_letter,) = mortal_run.dead_letters()
        assert dead_letter["reason"] == "key 'user_id' is null"

    def test_events_exactly_at_t_at_the_window_start_and_at_the_session_gap_count(self, run: StreamRun) -> None:
        run.send(visit(1, -HOUR), visit(1, -30 * MINUTE), visit(1, 0), visit(2, -HOUR - 1), visit(2, -30 * MINUTE - 1))
        run.send(visit(3, -30 * MINUTE), partition=1)
        run.step()

        served = run.served("activity")
        assert served["session"] == [3, 0, 1] and served["ever"] == [3, 2, 1]
        # The hop of an hour's window is 5 minutes: its tail lies at 11:00, and 10:59:59.999999 is outside.
        assert served["hour"] == [3, 1, 1]
        run.finish()
        run.assert_online_is_history()

    def test_of_two_events_of_one_key_and_one_time_the_later_offset_wins(self, run: StreamRun) -> None:
        run.send(visit(1, -SECOND, page="b"), visit(1, -SECOND, page="c"))
        run.step()

        assert run.served("newest", [1])["page"] == ["c"] == run.served("activity", [1])["page"]
        run.finish()
        run.assert_online_is_history()

    @pytest.mark.parametrize("point", CRASH_POINTS)
    def test_a_crash_between_state_and_offset_doubles_nothing(self, run: StreamRun, point: str) -> None:
        run.send(visit(1, -MINUTE), visit(2, -MINUTE), b"no event", visit(1, -SECOND))
        assert run.step()
        run.crash_at(point)
        run.send(visit(1, -2 * SECOND))
        alive = run.step() and run.flush()

        assert not alive
        run.finish()
        assert run.served("activity", [1])["ever"] == [3]
        run.assert_nothing_lost_or_doubled()
        run.assert_online_is_history()

    def test_a_rebuild_racing_with_the_stream_misses_and_doubles_nothing(self, run: StreamRun) -> None:
        run.send(visit(1, -4 * SECOND))
        run.step()
        run.announce("activity")
        run.send(visit(1, -3 * SECOND))
        run.step()
        run.flush()
        run.fill("activity")
        run.send(visit(1, -2 * SECOND))
        run.step()
        run.flush()
        run.send(visit(1, -SECOND))
        run.step()
        run.flip("activity")

        assert run.served("activity", [1])["ever"] == [4]
        run.finish()
        run.assert_online_is_history()

    def test_a_stream_that_lags_is_served_as_of_the_clock_over_what_has_come(self, run: StreamRun) -> None:
        run.send(visit(1, -50 * MINUTE))
        run.step()
        run.clock.now += 20 * MINUTE
        assert run.served("activity", [1])["hour"] == [0]
        run.send(visit(1, -45 * MINUTE), visit(1, 19 * MINUTE))
        run.step()

        assert run.served("activity", [1])["hour"] == [1] and run.served("activity", [1])["session"] == [1]
        run.finish()
        run.assert_online_is_history()

    def test_rows_do_not_expire_before_their_longest_window(self, make_stores: Callable[[MicrosClock], Stores]) -> None:
        clock = MicrosClock()
        week = FeatureView(
            "week", entities=[USER], source=VISITS,
            aggregations=[Aggregation("", "count", window=HOUR_WINDOW, name="hour"),
                          Aggregation("", "count", window=DAY_WINDOW, name="day")],
        )  # fmt: skip
        run = StreamRun(make_stores(clock), clock, definitions=(VISITS, USER, week, NEWEST))
        run.send(visit(1, -SECOND))
        run.step()
        clock.now += 23 * HOUR
        run.stores.online.delete_expired(run.stores.project, clock.now)

        assert run.served("week", [1])["day"] == [1]
        run.finish()
        clock.now += 30 * DAY
        assert run.stores.online.delete_expired(run.stores.project, clock.now) == 2
        run.assert_online_is_history()

    @pytest.mark.parametrize("batches", LIVES, ids=str)
    def test_a_row_stays_as_long_as_anything_that_it_keeps(
        self, make_stores: Callable[[MicrosClock], Stores], batches: list[list[int]]
    ) -> None:
        clock = MicrosClock()
        windows: tuple[Sliding | Session, ...] = (HOUR_WINDOW, SESSION)
        counted = [Aggregation("", "count", window=each, name=f"n{i}") for i, each in enumerate(windows)]
        views = [
            FeatureView("hour", entities=[USER], source=VISITS, aggregations=counted),
            FeatureView("delayed", entities=[USER], source=VISITS, aggregations=counted, delay="9d"),
            FeatureView("last", entities=[USER], source=VISITS, schema=NEWEST.schema, ttl="1h"),
            FeatureView("delayed_last", entities=[USER], source=VISITS, schema=NEWEST.schema, ttl="1h", delay="9d"),
        ]
        run = StreamRun(make_stores(clock), clock, definitions=(VISITS, USER, *views))
        for place, times in enumerate(batches):
            run.send(*(visit(1, each, amount=float(place)) for each in times))
            run.step()
            run.stores.online.delete_expired(run.stores.project, clock.now)
        run.finish()
        for later in (0, 4 * MINUTE, HOUR, 9 * DAY - HOUR, 9 * DAY, 9 * DAY + 4 * MINUTE, 9 * DAY + HOUR, 30 * DAY):
            clock.now = NOW + later
            run.stores.online.delete_expired(run.stores.project, clock.now)
            run.assert_online_is_history(users=[1], later=[0])
        assert [run.statuses(view, [1])["amount"] for view in ("last", "delayed_last")] == [["NOT_FOUND"]] * 2

    @pytest.mark.parametrize("lateness", ["1h", "30d"])
    def test_a_session_that_is_read_out_of_an_old_log_goes_on_from_its_first_event(
        self, make_stores: Callable[[MicrosClock], Stores], lateness: str
    ) -> None:
        clock = MicrosClock()
        source = LogSource(
            "visits", schema=VISITS.schema, timestamp_field="at", timestamp_unit="us", allowed_lateness=lateness
        )
        long = FeatureView(
            "long", entities=[USER], source=source,
            aggregations=[Aggregation("", "count", window=Session("1d"), name="visits")],
        )  # fmt: skip
        run = StreamRun(make_stores(clock), clock, definitions=(source, USER, long))
        for number in range(-40, 1):
            run.send(visit(1, number * 12 * HOUR))
            run.step()
            run.stores.online.delete_expired(run.stores.project, clock.now)

        assert run.served("long", [1])["visits"] == [41]
        run.finish()
        run.assert_online_is_history()

    def test_a_row_beyond_its_limit_does_not_begin_again_after_it_has_expired(
        self, make_stores: Callable[[MicrosClock], Stores]
    ) -> None:
        clock = MicrosClock()
        pages = FeatureView(
            "pages", entities=[USER], source=VISITS,
            aggregations=[Aggregation("page", "last_n", n=50, window=DAY_WINDOW, name="pages")],
        )  # fmt: skip
        run = StreamRun(make_stores(clock).replaced(max_row_bytes=2000), clock, definitions=(VISITS, USER, pages))
        run.send(*(visit(1, each * SECOND, page="x" * 100) for each in range(-60, 0)))
        run.step()
        for day in range(1, 20):
            clock.now = NOW + day * DAY
            run.send(visit(1, day * DAY))
            run.step()
            run.stores.online.delete_expired(run.stores.project, clock.now)

            assert run.served("pages", [1])["pages"] == [None], day

    def test_tiles_online_hold_what_the_raw_events_say(self, run: StreamRun) -> None:
        # On, just before and just after the edges of five-minute tiles, up to both ends of the window.
        edges = [-HOUR + i * 5 * MINUTE + step for i in range(13) for step in (-1, 0, 1) if i < 12 or step <= 0]
        run.send(*(visit(1, each) for each in edges))
        run.step()
        run.finish()
        run.assert_online_is_history(users=[1], later=[0, 1, MINUTE, 5 * MINUTE - 1, 5 * MINUTE, 17 * MINUTE + 1])

    def test_an_event_ahead_of_the_clock_counts_when_it_is_due(self, run: StreamRun) -> None:
        run.send(visit(1, -MINUTE, page="b", amount=1.0), visit(1, 4 * MINUTE, page="c", amount=9.0))
        run.step()

        served = run.served("activity", [1])
        assert served["ever"] == [1] and served["page"] == ["b"] and served["most"] == [1.0]
        assert run.served("newest", [1])["page"] == ["b"]
        later = run.served("activity", [1], at=NOW + 4 * MINUTE)
        assert later["ever"] == [2] and later["page"] == ["c"] and later["most"] == [9.0]
        assert run.served("newest", [1], at=NOW + 4 * MINUTE)["page"] == ["c"]
        run.finish()
        run.assert_online_is_history(later=[0, 4 * MINUTE - 1, 4 * MINUTE])

    def test_a_session_read_long_after_its_last_event_is_over(self, run: StreamRun) -> None:
        run.send(visit(1, -MINUTE), visit(1, 0))
        run.step()

        at = [NOW, NOW + 30 * MINUTE, NOW + 30 * MINUTE + 1, NOW + 3 * DAY]
        assert [run.served("activity", [1], at=t)["session"] for t in at] == [[2], [2], [0], [0]]
        run.finish()
        run.assert_online_is_history(later=[t - NOW for t in at])

    def test_a_late_event_joins_two_sessions(self, run: StreamRun) -> None:
        run.send(visit(1, -38 * MINUTE), visit(1, 0))
        run.step()
        assert run.served("activity", [1])["session"] == [1]
        run.send(visit(1, -19 * MINUTE), partition=1)
        run.step()

        assert run.served("activity", [1])["session"] == [3]
        run.finish()
        run.assert_online_is_history()

    def test_a_very_late_event_is_joined_out_of_the_archive_also_after_a_crash(self, run: StreamRun) -> None:
        # By the time of the last event the row has let go of the first ones: ten minutes are the allowed lateness.
        run.send(*(visit(1, each * MINUTE) for each in (-120, -95, -50, -25, 0)))
        run.step()
        run.flush()
        run.send(visit(1, -72 * MINUTE), partition=1)
        run.step()
        run.kill()
        run.finish()

        assert run.served("activity", [1])["session"] == [6]
        run.assert_online_is_history()

    def test_the_first_event_of_a_key_is_served(self, run: StreamRun) -> None:
        assert run.served("activity", [9])["ever"] == [0]
        run.send(visit(9))
        run.step()
        assert run.served("activity", [9])["ever"] == [1] and run.served("newest", [9])["page"] == ["b"]

    def test_a_key_that_never_came_is_not_present(self, run: StreamRun) -> None:
        run.send(visit(1))
        run.step()
        assert run.served("newest", [4]) == {"user_id": [4], "page": [None], "amount": [None]}

    def test_an_event_of_nulls_is_an_event(self, run: StreamRun) -> None:
        run.send({**visit(1, -MINUTE), "page": None, "amount": None}, {"user_id": 1, "at": NOW})
        run.step()

        served = run.served("activity", [1])
        assert served["session"] == [2] and served["ever"] == [0] and served["most"] == [None]
        run.finish()
        run.assert_online_is_history()

    def test_one_infinite_value_or_nan_spoils_no_other_row(self, run: StreamRun) -> None:
        odd = [b'{"user_id": 1, "page": "b", "amount": "%s", "at": %d}' % (each, NOW) for each in (b"NaN", b"Infinity")]
        run.send(*odd, visit(2, amount=3.0))
        run.step()

        assert run.served("activity", [2])["most"] == [3.0] and run.served("activity", [1])["ever"] == [2]

    def test_an_append_repeated_by_a_zombie_is_archived_once(self, run: StreamRun) -> None:
        run.send(visit(1, -3 * SECOND), visit(2, -3 * SECOND))
        run.step(0)
        zombie = run.workers.pop(0)
        # It sleeps from here on, and others take its partitions over.
        for member in zombie.members.values():
            consumer: Any = member.consumer
            consumer._membership.leave()
        run.send(visit(1, -2 * SECOND))
        run.step(1)
        run.flush(1)
        run.send(visit(1, -SECOND))
        run.step(1)
        for ingest in zombie.ingests.values():
            ingest.flush()

        tables = [each for each in run.stores.online.tables(run.stores.project) if not each.view.endswith(EVENTS)]
        progress = [run.stores.online.progress(each) for each in tables]
        assert progress and all(each["partition 0"] == 2 for each in progress), "progress never goes back"
        run.workers[2] = zombie
        run.finish()
        run.assert_nothing_lost_or_doubled()
        assert run.served("activity", [1])["ever"] == [3]
        run.assert_online_is_history()

    def test_a_message_sent_twice_is_two_events_and_one_read_twice_is_one(self, run: StreamRun) -> None:
        run.send(visit(1, -SECOND))
        run.send_again(1)
        run.step()
        run.kill()
        run.finish()
        assert run.served("activity", [1])["ever"] == [2]
        run.assert_nothing_lost_or_doubled()

    def test_a_verdict_once_written_stands_on_replay(self, run: StreamRun) -> None:
        run.send(visit(1, -SECOND), visit(1, 8 * MINUTE), visit(1, 0))
        run.crash_at("after write")
        assert not run.step()
        run.clock.now += 5 * MINUTE
        run.finish()

        assert [dead_letter["offset"] for dead_letter in run.dead_letters()] == [1]
        run.assert_nothing_lost_or_doubled()
        run.clock.now += 5 * MINUTE
        assert run.served("activity", [1])["ever"] == [2]
        run.assert_online_is_history()

    def test_a_lost_online_store_is_filled_again_while_the_worker_runs(self, run: StreamRun) -> None:
        run.send(visit(1, -2 * SECOND), visit(2, -2 * SECOND))
        run.step()
        run.flush()
        for table in run.stores.online.tables(run.stores.project):
            run.stores.online.drop(table)
        run.send(visit(1, -SECOND))
        run.step()
        run.finish()

        assert run.served("activity", [1, 2])["ever"] == [2, 1]
        run.assert_nothing_lost_or_doubled()
        run.assert_online_is_history()

    def test_a_source_that_is_applied_while_a_worker_runs_is_worked_on(self, run: StreamRun) -> None:
        run.send(visit(1))
        run.step()
        worker = run.workers[0]
        source = LogSource("clicks", schema=[Field("user_id", Int64), Field("at", Int64)], timestamp_field="at",
                           timestamp_unit="us")  # fmt: skip
        view = FeatureView(
            "clicked", entities=[USER], source=source, aggregations=[Aggregation("", "count", name="clicks")]
        )
        run.apply(*run.definitions, source, view)
        run.stores.log.send("clicks", [b'{"user_id": 1, "at": %d}' % NOW], durable=False)
        worker.look_at_registry()
        run.step()

        assert run.served("clicked", [1])["clicks"] == [1]
        run.apply(*run.definitions)
        worker.look_at_registry()
        assert list(worker.ingests) == ["visits"]

    def test_a_column_that_is_applied_while_a_worker_runs_is_null_before_and_known_after(self, run: StreamRun) -> None:
        run.send({**visit(1, -3 * SECOND), "price": 2.0})
        run.step()
        run.flush()
        source = LogSource(
            "visits", schema=[*VISITS.schema, Field("price", Float64)], timestamp_field="at", timestamp_unit="us",
            allowed_lateness="10m", max_future="5m",
        )  # fmt: skip
        priced = FeatureView(
            "priced", entities=[USER], source=source,
            aggregations=[Aggregation("price", "sum", window=SESSION, name="paid"),
                          Aggregation("", "count", window=SESSION, name="visits")],
        )  # fmt: skip
        views = []
        for view in (ACTIVITY, NEWEST):
            # The same views, of the source as it is now.
            views.append(copy.copy(view))
            object.__setattr__(views[-1], "source", source)
        run.apply(source, USER, *views, priced)
        run.send({**visit(1, -2 * SECOND), "price": 3.0})
        run.step()
        run.flush()
        run.send({**visit(1, -SECOND), "price": 4.0})
        run.step()

        assert run.served("priced", [1])["visits"] == [3]
        assert run.served("priced", [1])["paid"] == [4.0], "read as the schema of its time said"
        run.finish()
        run.assert_nothing_lost_or_doubled()
        run.assert_online_is_history()

    def test_a_log_that_dropped_what_was_never_archived_stops_the_worker_and_names_it(self, run: StreamRun) -> None:
        from asof.errors import LogError
        from asof.flows.stream.run import run_stream

        run.send(visit(1))
        run.finish()
        run.stores.log.delete(TOPIC)
        run.stores.log.create(TOPIC, run.partitions)
        run.send(visit(2))
        with pytest.raises(LogError, match="was deleted and recreated"):
            run_stream(run.stores, until_caught_up=True)
        run_stream(run.stores, until_caught_up=True, accept_gap=True)
        run_stream(run.stores, until_caught_up=True)

        facts = run.stores.registry.load(run.stores.project).facts
        assert len(facts.gaps["visits"]) == 1 and "recreated" in facts.gaps["visits"][0]
        assert run.served("activity", [1, 2])["ever"] == [1, 1]
        run.assert_online_is_history()


__all__ = ["LIVES", "TrapsSuite"]
