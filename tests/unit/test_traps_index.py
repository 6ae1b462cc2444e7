"""Each trap that other feature stores fell into, and the tests that keep Asof out of it, by name."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.unit.architecture.tree import ROOT, nodes, parsed

OFFLINE = "src/asof/testing/offline.py"
VALUES = "src/asof/testing/offline_values.py"
STREAMS = "src/asof/testing/traps.py"
ONLINE = "src/asof/testing/online.py"
ARCHIVE = "src/asof/testing/archive.py"
MATERIALIZE = "tests/embedded/test_materialize.py"
FOLD = "tests/unit/test_aggregation.py"
HERE = "tests/embedded/test_traps.py"

TRAPS: dict[str, list[str]] = {
    "an event exactly at t, at the window's start, at the session gap": [
        f"{OFFLINE}::test_an_event_exactly_at_t_counts", f"{OFFLINE}::test_a_window_starts_at_a_whole_hop",
        f"{OFFLINE}::test_an_event_exactly_a_gap_later_joins_the_session",
        f"{STREAMS}::test_events_exactly_at_t_at_the_window_start_and_at_the_session_gap_count",
    ],
    "two events of one key and one time": [
        f"{OFFLINE}::test_of_two_events_of_one_key_and_one_time_the_later_created_wins",
        f"{STREAMS}::test_of_two_events_of_one_key_and_one_time_the_later_offset_wins",
        f"{MATERIALIZE}::test_of_two_rows_of_one_key_and_time_the_later_in_file_and_row_wins",
    ],
    "the label row is itself an event": [
        f"{OFFLINE}::test_the_label_row_that_is_itself_an_event_can_be_left_out",
        f"{FOLD}::test_the_newest_instant_stays_apart_on_an_exclusive_boundary",
    ],
    "a batch layer older than its stream tail overcounts": [
        "tests/embedded/test_apply.py::test_the_years_before_a_stream_are_loaded_once_and_count_beside_it",
    ],
    "a read about a past moment inside the newest tile leaks": [
        f"{FOLD}::test_reads_between_batches_never_see_the_future",
        f"{FOLD}::test_a_read_before_merged_events_is_said_to_be_behind",
    ],
    "a rebuild racing with the stream": [f"{STREAMS}::test_a_rebuild_racing_with_the_stream_misses_and_doubles_nothing"],
    "a crash between state and offset doubles": [
        f"{STREAMS}::test_a_crash_between_state_and_offset_doubles_nothing",
        "tests/integration/test_worker_faults.py::test_workers_killed_at_random_moments_lose_and_double_nothing",
    ],
    "stream lag with a wall-clock head": [f"{STREAMS}::test_a_stream_that_lags_is_served_as_of_the_clock_over_what_has_come"],
    "ttl or retention shorter than a window": [
        f"{STREAMS}::test_rows_do_not_expire_before_their_longest_window",
        f"{STREAMS}::test_a_row_stays_as_long_as_anything_that_it_keeps",
    ],
    "buckets online against raw rows offline": [
        f"{STREAMS}::test_tiles_online_hold_what_the_raw_events_say",
        f"{FOLD}::test_rows_answer_as_the_oracle_does", "tests/embedded/test_point_in_time.py::test_every_view_answers_like_the_oracle",
    ],
    "an event later than the last batch job": [
        f"{MATERIALIZE}::test_online_rows_answer_as_history_over_random_rows_and_runs",
        f"{HERE}::test_an_event_later_than_the_last_batch_job_counts_once_it_is_materialized",
    ],
    "corrections under min, max, last-N": [
        f"{OFFLINE}::test_corrections_count_under_min_max_and_last_n",
        f"{HERE}::test_corrections_under_min_max_and_last_n_reach_what_is_served",
    ],
    "a session read long after its last event": [
        f"{OFFLINE}::test_a_session_is_open_for_a_gap_and_no_longer", f"{STREAMS}::test_a_session_read_long_after_its_last_event_is_over",
    ],
    "late events that join two sessions": [
        f"{OFFLINE}::test_a_late_event_joins_two_sessions", f"{STREAMS}::test_a_late_event_joins_two_sessions",
        f"{STREAMS}::test_a_very_late_event_is_joined_out_of_the_archive_also_after_a_crash",
    ],
    "the first event of a key": [f"{STREAMS}::test_the_first_event_of_a_key_is_served"],
    "naive times, wrong units, ns rounded up past t": [
        f"{OFFLINE}::test_naive_times_are_utc_and_integers_have_their_unit",
        f"{OFFLINE}::test_nanoseconds_are_floored_and_never_rounded_past_t",
        "tests/unit/test_fitting.py::test_integers_are_time_only_with_a_unit",
        "tests/embedded/test_bad_input.py::test_a_moment_has_to_be_a_time",
    ],
    "one hot key with a million events": [
        "tests/integration/test_worker_faults.py::test_one_hot_key_with_very_many_events_is_counted_to_the_last",
        f"{FOLD}::test_a_hot_key_keeps_one_record_per_tile",
    ],
    "spine rows dropped or merged": [f"{OFFLINE}::test_spine_rows_are_neither_dropped_nor_merged"],
    "feature order changed between processes": [f"{HERE}::test_features_come_in_the_order_asked_for_in_every_process"],
    "a missing key reported as present": [
        f"{STREAMS}::test_a_key_that_never_came_is_not_present", f"{ONLINE}::test_unknown_keys_and_tables_answer_none",
    ],
    "an all-null row skipped": [
        f"{MATERIALIZE}::test_a_row_of_nulls_is_written_and_told_from_a_missing_key", f"{STREAMS}::test_an_event_of_nulls_is_an_event",
        f"{OFFLINE}::test_the_null_of_the_latest_row_stays_null",
    ],
    "teardown of one project touching another with a longer name": [
        f"{ONLINE}::test_dropping_a_project_leaves_those_with_similar_names", f"{ARCHIVE}::test_projects_and_kinds_are_kept_apart",
        "src/asof/testing/registry.py::test_projects_do_not_touch_one_another_even_where_one_name_begins_with_the_other",
        f"{HERE}::test_a_teardown_leaves_a_project_with_a_longer_name_as_it_was",
    ],
    "incremental materialize missing late rows": [
        f"{MATERIALIZE}::test_an_incremental_run_finds_late_rows_without_a_created_time",
        f"{MATERIALIZE}::test_an_incremental_run_selects_by_created_time_and_looks_back_by_the_lag",
    ],
    "serving blocked while materializing": [
        f"{ONLINE}::test_reads_during_a_long_write_go_on_and_never_see_half_a_row",
        f"{MATERIALIZE}::test_full_removes_keys_that_vanished_and_readers_see_no_hole",
    ],
    "one inf or NaN failing a whole batch": [
        f"{VALUES}::test_one_inf_or_nan_does_not_fail_a_batch", f"{STREAMS}::test_one_infinite_value_or_nan_spoils_no_other_row",
        f"{MATERIALIZE}::test_infinities_and_nan_are_values_and_fail_no_batch",
    ],
    "a Delta append repeated by a zombie": [
        f"{ARCHIVE}::test_an_append_repeated_by_a_zombie_is_dropped", f"{STREAMS}::test_an_append_repeated_by_a_zombie_is_archived_once",
    ],
}  # fmt: skip


@cache
def named_in(path: str) -> frozenset[str]:
    return frozenset(
        each.name
        for each in nodes(parsed(ROOT / path))
        if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
    )


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_is_covered_by_tests_that_are_there(trap: str) -> None:
    assert TRAPS[trap]
    missing = [each for each in TRAPS[trap] if each.split("::")[1] not in named_in(each.split("::")[0])]
    assert not missing, f"{trap}: no such test: {missing}"


def test_every_shipped_suite_that_covers_a_trap_is_run_on_the_embedded_products() -> None:
    suites = {each.split("::")[0] for tests in TRAPS.values() for each in tests if each.startswith("src/")}
    names = {
        each.name for path in suites for each in nodes(parsed(ROOT / path))
        if isinstance(each, ast.ClassDef) and each.name.endswith("Suite")
    }  # fmt: skip
    run = {
        base.id for path in (ROOT / "tests" / "conformance").glob("test_*.py")
        for each in nodes(parsed(path)) if isinstance(each, ast.ClassDef)
        for base in each.bases if isinstance(base, ast.Name)
    }  # fmt: skip
    assert names and names <= run, f"not run: {sorted(names - run)}"
