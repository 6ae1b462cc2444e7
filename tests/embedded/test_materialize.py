"""Materialize from real files into a real online store, and read back what the oracle says as of the clock."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    PushSource,
    Session,
    Sliding,
    project_of,
)
from asof.errors import NotFound, RegistryConflict, RequestError, RowsRefused, SourceError
from asof.expressions import parse
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.batch import write_view as batch_rows
from asof.flows.batch.materialize import materialize
from asof.flows.batch.write_rows import write_rows
from asof.flows.batch.write_view import pack_versions
from asof.flows.generations.switch import announce
from asof.flows.stores import Stores
from asof.online.protocol import OnlineTable, Unchanged, pack_version
from asof.sources.protocol import Batches, ScanRequest, SourceReaderDefaults
from asof.testing.clock import NOW, MicrosClock
from asof.testing.evaluator import evaluate
from asof.timing import DAY, HOUR, MINUTE, SECOND
from asof.types import Float64, Int64, String, Timestamp
from asof.values.packing import key_bytes
from tests.embedded_stores import apply_by_hand, embedded_stores, read_online, reader_of
from tests.oracle import arrival_by_columns, features_as_of, same

USER = Entity("user", join_keys=["user_id"])
SHOP = Entity("shop")
COLUMNS = [Field("user_id", Int64), Field("shop", String), Field("amount", Int64), Field("price", Float64),
           Field("page", String)]  # fmt: skip
TIMES = pa.timestamp("us", "UTC")
KEYS = {"user_id": [1, 2, 3, 4], "shop": ["a", "b", "ż", "a"]}


@pytest.fixture
def clock() -> MicrosClock:
    return MicrosClock()


@pytest.fixture
def stores(tmp_path: Path, clock: MicrosClock) -> Stores:
    return embedded_stores(tmp_path, clock=clock)


def row(user: int | None, time: int | None, amount: int | None = 0, **others: Any) -> dict[str, Any]:
    """A row `time` microseconds before or after NOW."""
    event_time = None if time is None else NOW + time
    base = {"user_id": user, "shop": "a", "amount": amount, "price": 0.5, "page": "x", "event_time": event_time}
    return {**base, "created": event_time, **others}


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {field.name: pa.array([each[field.name] for each in rows], field.dtype.arrow()) for field in COLUMNS}
    columns["at"] = pa.array([each["event_time"] for each in rows], TIMES)
    columns["written"] = pa.array([each["created"] for each in rows], TIMES)
    return pa.table(columns)


def write(tmp_path: Path, rows: list[dict[str, Any]], name: str = "rows/0.parquet") -> list[dict[str, Any]]:
    """The rows as one file of the source; answers them with their arrival."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    pq.write_table(table_of(rows), tmp_path / name)
    return [{**each, "arrival": (name, place)} for place, each in enumerate(rows)]


def source(**options: Any) -> FileSource:
    return FileSource("rows", name="rows", timestamp_field="at", schema=(), **options)


def latest(source: FileSource, *, entities: Any = USER, **options: Any) -> FeatureView:
    return FeatureView("profile", source=source, entities=entities, schema=COLUMNS, **options)


def windows(source: FileSource, *, entities: Any = USER, **options: Any) -> FeatureView:
    hour, day = Sliding("1h"), Sliding("1d")
    aggregations = [
        Aggregation("", "count", window=hour, name="n_1h"), Aggregation("amount", "sum", window=day, name="amount_1d"),
        Aggregation("page", "last", name="last_page"), Aggregation("page", "first", window=day, name="first_page"),
        Aggregation("", "count", window=Session("30m"), name="session", where="page <> 'y'"),
        Aggregation("price", "max", window=day, name="price_max"),
        Aggregation("amount * 2", "last_n", n=3, name="amounts"),
    ]  # fmt: skip
    return FeatureView(
        "activity", source=source, entities=entities, schema=COLUMNS, aggregations=aggregations, **options
    )


def evaluated(text: str, row: Any) -> Any:
    return evaluate(parse(text), row)


def assert_online_is_history(stores: Stores, view: str, rows: list[dict[str, Any]], keys: Any = None) -> None:
    """Every key answers online what the oracle says as of the clock."""
    definition = stores.registry.load(stores.project).project.views[view]
    keys = keys or {key: KEYS[key] for key in definition.join_keys}
    found = read_online(stores, view, keys or [{}])
    for place in range(len(found[definition.feature_names[0]])):
        key = [keys[name][place] for name in definition.join_keys]
        expected = features_as_of(rows, definition, key, stores.clock(), evaluate=evaluated)
        for name, value in expected.items():
            assert same(value, found[name][place]), (view, key, name, value, found[name][place])


def random_rows(rng: random.Random, count: int) -> list[dict[str, Any]]:
    """Rows full of ties, nulls, late arrivals, and moments beyond the clock."""
    rows = []
    for _ in range(count):
        time = rng.choice((-40 * DAY, -DAY, -DAY + 1, -HOUR, -50 * MINUTE, -20 * MINUTE, -5, 0, 1, 30 * MINUTE))
        time += rng.choice((0, 0, 0, SECOND, -SECOND, 1))
        made = row(
            rng.choice((1, 1, 2, 3, None)), rng.choice((time, time, time, time, None)), rng.choice((None, 0, 1, 7, -3)),
            shop=rng.choice(("a", "b", "ż", None)), price=rng.choice((None, 0.5, 1.5, math.inf, math.nan)),
            page=rng.choice((None, "x", "y")),
        )  # fmt: skip
        made["created"] = rng.choice((None, made["event_time"], NOW - 2 * HOUR, NOW))
        rows.append(made)
    return rows


@pytest.mark.parametrize(
    ("seed", "options"), [(0, {}), (1, {"created_timestamp_column": "written"})], ids=["arrival", "created"]
)
def test_online_rows_answer_as_history_over_random_rows_and_runs(
    stores: Stores, tmp_path: Path, clock: MicrosClock, seed: int, options: dict[str, str]
) -> None:
    rng = random.Random(seed)
    rows_source = source(**options)
    # Latest rows by a composite key, windows by one column and with a delay.
    apply_by_hand(stores, latest(rows_source, entities=[USER, SHOP], ttl="7d"), windows(rows_source, delay="10m"))
    rows: list[dict[str, Any]] = []
    for run in range(3):
        fresh = random_rows(rng, 60)
        for each in fresh if run else []:
            # What comes with a later run was written down after the one before, however old it is.
            each["created"] = clock() + rng.choice((0, 1))
        rows += write(tmp_path, fresh, f"rows/{run}.parquet")
        if not options:
            rows = [{**each, "created": None} for each in rows]
        clock.move(rng.choice((SECOND, HOUR)))
        materialize(stores)
        assert_online_is_history(stores, "profile", rows)
        assert_online_is_history(stores, "activity", rows)


def test_an_incremental_run_finds_late_rows_without_a_created_time(
    stores: Stores, tmp_path: Path, clock: MicrosClock
) -> None:
    apply_by_hand(stores, latest(source()), windows(source()))
    rows = write(tmp_path, [row(1, -HOUR, 1)])
    materialize(stores)
    clock.move(HOUR)
    rows += write(tmp_path, [row(2, -3 * DAY, 2), row(1, -2 * HOUR, 3)], "rows/1.parquet")

    materialize(stores)

    assert read_online(stores, "profile", {"user_id": [1, 2]})["amount"] == [1, 2]
    assert_online_is_history(stores, "activity", rows)


def test_an_incremental_run_selects_by_created_time_and_looks_back_by_the_lag(
    stores: Stores, tmp_path: Path, clock: MicrosClock
) -> None:
    apply_by_hand(stores, latest(source(created_timestamp_column="written", lag="10m")))
    write(tmp_path, [row(1, -DAY), row(2, -DAY), row(3, -DAY, created=NOW - 5 * MINUTE)])
    assert materialize(stores)[0].rows == 3
    clock.move(MINUTE)
    # Written down before the last run, and seen only now; and one that is older than its key's row.
    write(tmp_path, [row(2, -HOUR, 5, created=NOW - 9 * MINUTE), row(1, -2 * DAY, 9, created=NOW)], "rows/1.parquet")

    done = materialize(stores)

    # Key 1 is touched by an older row, which does not replace its newer one.
    assert done[0].rows == 2
    assert read_online(stores, "profile", {"user_id": [1, 2, 3]})["amount"] == [0, 5, 0]


def test_an_incremental_run_by_event_time_looks_back_by_the_lookback(
    stores: Stores, tmp_path: Path, clock: MicrosClock
) -> None:
    apply_by_hand(stores, latest(source(), lookback="1h"))
    write(tmp_path, [row(1, -DAY)])
    materialize(stores)
    clock.move(MINUTE)
    write(tmp_path, [row(2, -HOUR, 5), row(3, -2 * HOUR, 6)], "rows/1.parquet")

    assert materialize(stores)[0].rows == 1
    assert read_online(stores, "profile", {"user_id": [2, 3]})["amount"] == [5, None]


def test_a_row_of_the_future_is_written_when_it_is_due(stores: Stores, tmp_path: Path, clock: MicrosClock) -> None:
    apply_by_hand(
        stores, latest(source(created_timestamp_column="written")), windows(source(created_timestamp_column="written"))
    )
    rows = write(tmp_path, [row(1, -HOUR, 1, created=NOW - HOUR), row(1, MINUTE, 2, created=NOW - HOUR)])

    materialize(stores, end=NOW + DAY)

    assert read_online(stores, "profile", {"user_id": [1]})["amount"] == [1]
    assert_online_is_history(stores, "activity", rows)
    clock.move(MINUTE)
    materialize(stores)
    assert read_online(stores, "profile", {"user_id": [1]})["amount"] == [2]
    assert_online_is_history(stores, "activity", rows)


def test_a_row_at_the_clock_counts_and_one_within_the_delay_does_not(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(), delay="1h"))
    write(tmp_path, [row(1, -HOUR, 1), row(1, -HOUR + 1, 2)])

    materialize(stores)

    assert read_online(stores, "profile", {"user_id": [1]})["amount"] == [1]


def test_an_interval_is_half_open_and_leaves_no_gap_behind(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(), lookback="1us"))
    write(tmp_path, [row(1, -3 * HOUR), row(2, -2 * HOUR), row(3, -HOUR), row(4, -MINUTE)])

    done = materialize(stores, start=NOW - 2 * HOUR, end=NOW - HOUR)

    found = read_online(stores, "profile", {"user_id": [1, 2, 3, 4]})["amount"]
    assert (done[0].rows, found) == (1, [None, 0, None, None])
    # The next plain run does not begin at the interval's end: what came before it was never looked at.
    materialize(stores)
    assert read_online(stores, "profile", {"user_id": [1, 2, 3, 4]})["amount"] == [0, 0, 0, 0]


def test_a_plain_run_with_an_end_goes_on_from_there(stores: Stores, tmp_path: Path, clock: MicrosClock) -> None:
    apply_by_hand(stores, latest(source(created_timestamp_column="written")))
    write(tmp_path, [row(1, -3 * HOUR), row(2, -HOUR)])

    assert materialize(stores, end=NOW - 2 * HOUR)[0].rows == 1
    clock.move(1)
    assert materialize(stores)[0].rows == 1
    assert read_online(stores, "profile", {"user_id": [1, 2]})["amount"] == [0, 0]


def test_running_twice_changes_no_window(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, windows(source()))
    rows = write(tmp_path, [row(1, -MINUTE, 5), row(1, -2 * MINUTE, 6), row(2, -MINUTE, 7)])
    seen: list[tuple[str, int, int | None]] = []
    materialize(stores, progress=lambda *each: seen.append(each))
    assert seen[-1] == ("materialize activity", 2, 2)
    once = read_online(stores, "activity", {"user_id": [1, 2]})

    materialize(stores)
    materialize(stores, start=NOW - DAY)

    assert read_online(stores, "activity", {"user_id": [1, 2]}) == once
    assert_online_is_history(stores, "activity", rows)


def test_the_progress_of_latest_values_has_a_total_once_the_run_is_long_enough_to_count(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_by_hand(stores, latest(source()))
    write(tmp_path, [row(user, at) for user in range(1, 8) for at in (-HOUR, -MINUTE)])
    monkeypatch.setattr(batch_rows, "ROWS_AT_ONCE", 2)

    def seen(**options: Any) -> list[tuple[str, int, int | None]]:
        found: list[tuple[str, int, int | None]] = []
        materialize(stores, progress=lambda *each: found.append(each), **options)
        return found

    assert [each[1:] for each in seen()] == [(2, None), (4, None), (6, None), (7, 7)]
    monkeypatch.setattr(batch_rows, "COUNTED_AFTER", 4)
    found = seen()
    assert {each[0] for each in found} == {"materialize profile"}
    # Rows that the store has already are part of the run, too.
    assert [each[1:] for each in found] == [(2, None), (4, 7), (6, 7), (7, 7)]
    assert [each[1:] for each in seen(start=NOW - 2 * HOUR, end=NOW - 30 * MINUTE)][1:] == [(4, 7), (6, 7), (7, 7)]


def test_of_two_rows_of_one_key_and_time_the_later_in_file_and_row_wins(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source()), windows(source()))
    rows = write(tmp_path, [row(1, -5, 1, page="a"), row(1, -5, 2, page="b")], "rows/1.parquet")
    rows += write(tmp_path, [row(1, -5, 3, page="c")] * 5, "rows/0.parquet")

    materialize(stores)

    assert read_online(stores, "profile", {"user_id": [1]})["amount"] == [2]
    assert_online_is_history(stores, "activity", rows)


def test_a_correction_in_a_later_file_replaces_the_row_of_the_same_time(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(), lookback="1d"))
    write(tmp_path, [row(1, -5, 1)])
    materialize(stores)
    write(tmp_path, [row(1, -5, 2)], "rows/1.parquet")

    materialize(stores)

    assert read_online(stores, "profile", {"user_id": [1]})["amount"] == [2]


def test_without_an_arrival_the_greatest_row_by_column_order_wins(tmp_path: Path, clock: MicrosClock) -> None:
    class TableReader(SourceReaderDefaults):
        """Rows that have no arrival, as those of a database."""

        def describe(self, source: Any) -> Any:
            raise NotImplementedError

        def scan(self, source: Any, need: ScanRequest) -> Batches:
            table = table_of(rows)
            return Batches(table.schema, lambda need: table.select(list(need.columns)).to_reader())

    stores = embedded_stores(tmp_path, clock=clock, readers={"file": TableReader()})
    rows = [row(1, -5, each % 7, page="xyz"[each % 3]) for each in range(20)] + [row(1, -5, None, page="zz")]
    rows = arrival_by_columns(rows, ["shop", "amount", "price", "page"])
    apply_by_hand(stores, latest(source()), windows(source()))

    materialize(stores)

    assert_online_is_history(stores, "profile", rows, {"user_id": [1]})
    # A window's order is by the columns that its view reads, in the source's order.
    assert_online_is_history(stores, "activity", arrival_by_columns(rows, ["user_id", "amount", "price", "page"]))


def test_null_keys_and_null_times_are_passed_over(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source()), windows(source()))
    write(tmp_path, [row(None, -5), row(1, None), row(2, -5)])

    assert [each.rows for each in materialize(stores)] == [1, 1]
    assert reader_of(stores, "profile").read({"user_id": [1]}, at=NOW)[0].statuses["amount"] == ["NOT_FOUND"]


def test_infinities_and_nan_are_values_and_fail_no_batch(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source()), windows(source()))
    write(tmp_path, [row(1, -5, price=math.inf), row(2, -5, price=math.nan), row(3, -5, price=-math.inf)])

    materialize(stores)

    found = read_online(stores, "profile", {"user_id": [1, 2, 3]})["price"]
    assert (found[0], math.isnan(found[1]), found[2]) == (math.inf, True, -math.inf)
    assert read_online(stores, "activity", {"user_id": [1]})["price_max"] == [math.inf]


def test_a_row_of_nulls_is_written_and_told_from_a_missing_key(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source()))
    write(tmp_path, [row(1, -5, None, shop=None, price=None, page=None), row(1, -6, 3)])

    materialize(stores)

    response, complete = reader_of(stores, "profile").read({"user_id": [1, 9]}, at=NOW)
    assert response.statuses["amount"] == ["NULL_VALUE", "NOT_FOUND"]
    assert not complete


def test_a_view_without_entities_has_one_row(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(), entities=None), windows(source(), entities=None))
    rows = write(tmp_path, [row(1, -MINUTE, 5), row(2, -SECOND, 7)])

    assert [each.rows for each in materialize(stores)] == [1, 1]
    assert_online_is_history(stores, "profile", rows)
    assert_online_is_history(stores, "activity", rows)


def test_rows_older_than_ttl_are_told_from_missing_ones_and_expire_after_a_grace(
    stores: Stores, tmp_path: Path
) -> None:
    apply_by_hand(stores, latest(source(), ttl="1d"))
    write(tmp_path, [row(1, -2 * DAY), row(2, -DAY)])

    [done] = materialize(stores)

    assert (done.rows, done.expired) == (2, 1), "a run says how many of its rows nobody can read"
    response, _ = reader_of(stores, "profile").read({"user_id": [1, 2, 3]}, at=NOW)
    assert response.statuses["amount"] == ["OUTSIDE_MAX_AGE", "PRESENT", "NOT_FOUND"]
    assert stores.online.delete_expired("shop", NOW + 6 * DAY - 1) == 0
    assert stores.online.delete_expired("shop", NOW + 6 * DAY) == 1


def test_full_removes_keys_that_vanished_and_readers_see_no_hole(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_by_hand(stores, latest(source()), windows(source()))
    write(tmp_path, [row(1, -5, 1), row(2, -5, 2)])
    materialize(stores)
    write(tmp_path, [row(2, -5, 2)])
    seen = []

    def watching(what: str, done: int, total: int | None) -> None:
        seen.append(read_online(stores, "profile", {"user_id": [2]})["amount"])

    assert [each.rows for each in materialize(stores, full=True, progress=watching)] == [1, 1]

    assert seen and all(each == [2] for each in seen)
    assert read_online(stores, "profile", {"user_id": [1, 2]})["amount"] == [None, 2]
    assert read_online(stores, "activity", {"user_id": [1, 2]})["n_1h"] == [0, 1]
    assert len(stores.online.tables("shop")) == 2


def test_rows_that_a_killed_full_run_left_are_dropped_by_the_next(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source()))
    write(tmp_path, [row(1, -5, 1)])
    materialize(stores)
    view = stores.registry.load("shop").project.views["profile"]
    stores.online.prepare(OnlineTable("shop", "profile", announce(stores, view)))

    materialize(stores)
    assert read_online(stores, "profile", {"user_id": [1]})["amount"] == [1]
    materialize(stores, full=True)

    assert read_online(stores, "profile", {"user_id": [1]})["amount"] == [1]
    assert len(stores.online.tables("shop")) == 1


def test_a_lost_online_store_is_filled_again(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(), lookback="1us"), windows(source(), lookback="1us"))
    rows = write(tmp_path, [row(1, -HOUR, 1), row(2, -DAY, 2)])
    materialize(stores)
    stores.online.drop_project("shop")

    assert [each.rows for each in materialize(stores)] == [2, 2]
    assert read_online(stores, "profile", {"user_id": [1, 2]})["amount"] == [1, 2]
    assert_online_is_history(stores, "activity", rows)


def test_a_full_run_that_was_overtaken_changes_nothing(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source()))
    write(tmp_path, [row(1, -5, 1)])
    materialize(stores)

    def overtaking(what: str, done: int, total: int | None) -> None:
        facts = stores.registry.load("shop").facts
        if "overtaken" not in facts.others:
            apply_by_hand(stores, latest(source()), overtaken=True)
            materialize(stores, full=True)

    with pytest.raises(RegistryConflict, match="another build of it started"):
        materialize(stores, full=True, progress=overtaking)
    assert read_online(stores, "profile", {"user_id": [1]})["amount"] == [1]
    assert len(stores.online.tables("shop")) == 1


def test_a_run_that_is_interrupted_is_taken_up_by_the_next(stores: Stores, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(batch_rows, "ROWS_AT_ONCE", 50)
    monkeypatch.setattr(batch_rows, "EVENTS_AT_ONCE", 50)
    apply_by_hand(
        stores, latest(source(created_timestamp_column="written")), windows(source(created_timestamp_column="written"))
    )
    users = range(150)
    rows = write(tmp_path, [row(user, -MINUTE, user) for user in users])

    def impatient(what: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    for options in ({"views": ["profile"]}, {"views": ["activity"]}, {"full": True}):
        with pytest.raises(KeyboardInterrupt):
            materialize(stores, **options, progress=impatient)
    assert not stores.registry.load("shop").facts.materialized

    assert [each.rows for each in materialize(stores)] == [150, 150]
    assert read_online(stores, "profile", {"user_id": list(users)})["amount"] == list(users)
    assert_online_is_history(stores, "activity", rows)


def test_windows_are_computed_in_pieces_of_whole_keys(stores: Stores, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(batch_rows, "EVENTS_AT_ONCE", 8)
    monkeypatch.setattr(batch_rows, "KEYS_AT_ONCE", 2)
    apply_by_hand(stores, windows(source(), entities=[USER, SHOP]))
    rng = random.Random(5)
    # One key has more rows than a piece takes.
    rows = write(tmp_path, [*random_rows(rng, 60), *(row(2, -each * SECOND, each, shop="b") for each in range(40))])

    materialize(stores)

    assert_online_is_history(stores, "activity", rows)


def test_a_row_that_changed_meanwhile_is_read_again_from_the_source(
    stores: Stores, tmp_path: Path, monkeypatch: Any
) -> None:
    apply_by_hand(stores, windows(source()))
    rows = write(tmp_path, [row(user, -MINUTE, 1) for user in (1, 2, 3)])
    materialize(stores)
    read = stores.online.read
    ran = []

    def overtaken(lookups: Any) -> Any:
        found = read(lookups)
        if not ran:
            ran.append(lookups)
            rows.extend(write(tmp_path, [row(1, -SECOND, 8)], "rows/1.parquet"))
            materialize(stores)
            rows.extend(write(tmp_path, [row(1, -1, 9)], "rows/2.parquet"))
        return found

    monkeypatch.setattr(stores.online, "read", overtaken)
    materialize(stores)

    assert ran
    assert_online_is_history(stores, "activity", rows)


PAST = {"interval": {"start": NOW - 2 * DAY, "end": NOW - 20 * HOUR}, "end": {"end": NOW - 20 * HOUR}}
"""Runs that look at the past alone; the day's window is still open on its last hours."""

BEFORE: dict[str, list[dict[str, Any]]] = {
    "plain": [{}], "full": [{"full": True}], "interval": [{"start": NOW - DAY}],
    "intervals": [{"start": NOW - 3 * HOUR, "end": NOW + DAY}, {"start": NOW - DAY, "end": NOW - 3 * HOUR}],
    "plain with an end": [{}, {"end": NOW - 22 * HOUR}],
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"created_timestamp_column": "written"}, {"lag": "3d"}], ids=str)
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("past", PAST)
def test_a_run_over_the_past_takes_late_rows_in_and_no_window_goes_back(
    stores: Stores, tmp_path: Path, clock: MicrosClock, past: str, before: str, options: dict[str, str]
) -> None:
    apply_by_hand(stores, windows(source(**options)))
    rows = write(tmp_path, [row(user, -each * HOUR, each) for user in (1, 2) for each in (21, 20, 3, 2, 1, 0)])
    rows += write(tmp_path, [row(3, -30 * HOUR), row(4, -SECOND)], "rows/1.parquet")
    for each in BEFORE[before]:
        materialize(stores, **each)
    # User 3 is new to some of these runs.
    users = {"user_id": [1, 2, 4]}
    once = read_online(stores, "activity", users)
    materialize(stores, **PAST[past])  # type: ignore[arg-type]

    assert read_online(stores, "activity", users) == once
    # One row is late, and one is of a moment that no run has looked at; a plain run will.
    late = row(1, -21 * HOUR, 100, created=clock())
    rows += write(tmp_path, [late, row(2, -30 * HOUR, 7, created=clock())], "rows/2.parquet")
    clock.move(MINUTE)
    write(tmp_path, [row(1, 1, 1000, created=clock())], "rows/3.parquet")
    materialize(stores, **PAST[past])  # type: ignore[arg-type]

    found = read_online(stores, "activity", users)
    assert found["amount_1d"] == [once["amount_1d"][0] + 100, *once["amount_1d"][1:]]
    assert found["n_1h"] == once["n_1h"] == [2, 2, 1]
    rows += [{**row(1, 1, 1000, created=clock()), "arrival": ("rows/3.parquet", 0)}]
    materialize(stores)
    assert_online_is_history(stores, "activity", rows)


def test_a_run_over_the_past_does_not_undo_what_was_never_recorded(
    stores: Stores, tmp_path: Path, monkeypatch: Any
) -> None:
    apply_by_hand(stores, windows(source()))
    rows = write(tmp_path, [row(user, -each * HOUR, each) for user in (1, 2) for each in (21, 3, 0)])
    rows += write(tmp_path, [row(2, -30 * MINUTE)], "rows/1.parquet")

    def impatient(what: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        materialize(stores, progress=impatient)
    assert not stores.registry.load("shop").facts.materialized
    materialize(stores, start=NOW - DAY, end=NOW - 20 * HOUR)
    assert_online_is_history(stores, "activity", rows)

    # As an older version recorded it.
    snapshot = stores.registry.load("shop")
    recorded = snapshot.facts.materialized["activity"].content()
    run = {name: value for name, value in recorded.items() if name != "as_of"}
    run |= {"until": NOW + 1, "created_until": NOW}
    apply_by_hand(stores, windows(source()), materialized={"activity": run})
    rows += write(tmp_path, [row(1, -21 * HOUR, 100), row(1, -2 * HOUR, 50)], "rows/2.parquet")
    materialize(stores, start=NOW - DAY, end=NOW - 20 * HOUR)
    assert_online_is_history(stores, "activity", rows)


@pytest.mark.parametrize("past", PAST)
def test_a_run_over_the_past_that_another_run_overtakes_does_not_undo_it(
    stores: Stores, tmp_path: Path, clock: MicrosClock, monkeypatch: Any, past: str
) -> None:
    apply_by_hand(stores, windows(source()))
    rows = write(tmp_path, [row(1, -21 * HOUR, 1), row(2, -21 * HOUR, 1)])
    materialize(stores)
    read = stores.online.read
    ran = []

    def overtaken(lookups: Any) -> Any:
        found = read(lookups)
        if not ran:
            ran.append(lookups)
            clock.move(HOUR)
            rows.extend(write(tmp_path, [row(1, HOUR, 8), row(1, 30 * MINUTE, 4)], "rows/1.parquet"))
            materialize(stores)
        return found

    monkeypatch.setattr(stores.online, "read", overtaken)
    materialize(stores, **PAST[past])  # type: ignore[arg-type]

    assert ran
    assert_online_is_history(stores, "activity", rows)


def test_rows_that_cannot_be_read_are_replaced(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, windows(source()))
    rows = write(tmp_path, [row(user, -MINUTE, user) for user in (1, 2, 3)])
    materialize(stores)
    (table,) = stores.online.tables("shop")
    key, _, token = stores.online.scan(table)[0]
    stores.online.write(table, [key], [b"no row of ours"], condition=Unchanged([token]))  # type: ignore[list-item]

    materialize(stores)

    assert_online_is_history(stores, "activity", rows)


def test_a_row_beyond_the_size_limit_answers_null_and_is_counted(stores: Stores, tmp_path: Path) -> None:
    small = stores.replaced(max_row_bytes=2000)
    apply_by_hand(small, windows(source()))
    write(tmp_path, [*(row(1, -each * HOUR, each) for each in range(20)), row(2, -5)])

    done = materialize(small)

    assert (done[0].rows, done[0].overflowed) == (2, 1)
    assert read_online(small, "activity", {"user_id": [1, 2]})["n_1h"] == [None, 1]


def test_an_applied_view_needs_no_declared_types_and_a_changed_one_answers_at_once(
    stores: Stores, tmp_path: Path
) -> None:
    def applied(name: str) -> None:
        made = [Aggregation("amount", name, where="page = 'x'", name=name)]
        project = project_of([FeatureView("sums", source=source(), entities=USER, aggregations=made)])
        apply_plan(stores, make_plan(stores, project))

    write(tmp_path, [row(1, -5, 4), row(1, -6, 5), row(1, -7, 6, page="y")])
    applied("sum")
    assert read_online(stores, "sums", {"user_id": [1]})["sum"] == [None]
    materialize(stores)
    assert read_online(stores, "sums", {"user_id": [1]})["sum"] == [9]

    applied("max")

    assert read_online(stores, "sums", {"user_id": [1]})["max"] == [5]
    assert len(stores.online.tables("shop")) == 1


def test_progress_is_kept_per_generation(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(), lookback="1us"))
    write(tmp_path, [row(1, -HOUR)])
    materialize(stores)
    known = stores.registry.load("shop").facts.materialized["profile"].content()

    apply_by_hand(
        stores, latest(source(), lookback="1us"), materialized={"profile": {**known, "generation": "older-1"}}
    )

    assert materialize(stores)[0].rows == 1, "what was done for other rows does not count"


def test_only_views_that_a_batch_source_feeds_are_materialized(stores: Stores, tmp_path: Path) -> None:
    schema = [Field("user_id", Int64), Field("at", Timestamp), Field("amount", Int64)]
    log = FeatureView(
        "seen", source=LogSource("clicks", schema=schema, timestamp_field="at"), entities=USER, schema=schema
    )
    apply_by_hand(
        stores, log, latest(source()), FeatureView("off", source=source(), entities=USER, schema=COLUMNS, online=False)
    )
    write(tmp_path, [row(1, -5)])

    assert [each.view for each in materialize(stores)] == ["profile"]
    with pytest.raises(RequestError, match="'seen' reads the log of source 'clicks'.*\n.*asof stream run"):
        materialize(stores, views=["seen"])
    with pytest.raises(RequestError, match="'off' is not online"):
        materialize(stores, views=["off"])
    with pytest.raises(NotFound, match="no feature view 'profil' is applied\n.*did you mean 'profile'"):
        materialize(stores, views=["profil"])
    with pytest.raises(RequestError, match="is not after start"):
        materialize(stores, start=NOW, end=NOW)
    with pytest.raises(RequestError, match="full=True reads all event times, so it takes no start"):
        materialize(stores, start=NOW, full=True)


def test_a_missing_file_and_a_key_of_another_type_are_named(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source()))
    with pytest.raises(SourceError, match="source 'rows': there is no file"):
        materialize(stores)
    write(tmp_path, [])
    rows = table_of([row(1, -5)]).set_column(0, "user_id", pa.array([1.5]))
    pq.write_table(rows, tmp_path / "rows/0.parquet")
    with pytest.raises(SourceError, match="column 'user_id' of source 'rows' holds 1.5, which is no Int64"):
        materialize(stores)


def test_versions_packed_in_bulk_are_those_packed_one_by_one() -> None:
    rng = random.Random(1)
    rows = [tuple(rng.choice((0, 1, -1, 2**62, -(2**63), 2**63 - 1)) for _ in range(3)) for _ in range(50)]
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]

    assert pack_versions(*columns) == [pack_version(a, created=b, offset=c) for a, b, c in rows]


# write_to_online_store


def test_a_row_written_without_a_created_time_is_newer_than_what_it_corrects(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(created_timestamp_column="written")))
    write(tmp_path, [row(1, -HOUR, 1, created=NOW - MINUTE), row(2, -HOUR, 1, created=NOW - MINUTE)])
    materialize(stores)
    given = table_of([row(1, -HOUR, 7), row(2, -HOUR, 8, created=None)])

    assert write_rows(stores, "profile", given.slice(0, 1).drop_columns(["written"])) == 1
    assert write_rows(stores, "profile", given.slice(1)) == 1
    assert read_online(stores, "profile", {"user_id": [1, 2]})["amount"] == [7, 8]
    write(tmp_path, [row(1, -HOUR, 9, created=NOW + SECOND)], "rows/1.parquet")
    stores.clock.move(MINUTE)  # type: ignore[attr-defined]
    materialize(stores)
    assert read_online(stores, "profile", {"user_id": [1, 2]})["amount"] == [9, 8]


def test_rows_written_by_hand_land_unless_a_newer_row_is_stored(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(created_timestamp_column="written")))
    write(tmp_path, [row(1, -HOUR, 1), row(2, -HOUR, 1)])
    materialize(stores)
    news = [row(1, -HOUR, 5), row(2, -2 * HOUR, 6), row(3, -SECOND, None), row(3, -SECOND, 7)]
    table = table_of(news)

    assert write_rows(stores, "profile", table) == 3
    assert read_online(stores, "profile", {"user_id": [1, 2, 3]})["amount"] == [5, 1, 7]
    # The created time may be left out; dicts with text times do as well.
    plain = {"user_id": 2, "shop": "a", "amount": 9, "price": 1.0, "page": None, "at": "2026-01-01T11:59:59Z"}
    assert write_rows(stores, "profile", [plain]) == 1
    assert read_online(stores, "profile", {"user_id": [2]})["amount"] == [9]
    assert write_rows(stores, "profile", table.slice(0, 0)) == 0


def test_rows_that_do_not_fit_are_refused_whole_and_named(stores: Stores) -> None:
    apply_by_hand(stores, latest(source()))
    rows = {
        "user_id": [1, None, 3], "shop": ["a", 12, None], "amount": [3.7, 2**63, 1], "prize": [1.0, 2.0, 3.0],
        "page": [None, "x", "y"], "at": ["2026-01-01T00:00:00Z"] * 3,
    }  # fmt: skip

    with pytest.raises(RowsRefused) as refused:
        write_rows(stores, "profile", rows)

    text = str(refused.value)
    for problem in (
        "column 'price' is missing", "column 'prize' is not declared", "column 'user_id', row 1: is null",
        "column 'shop', row 1: 12 is not text", "column 'amount', row 0: 3.7", "column 'amount', row 1: 9223372036854775808",
    ):  # fmt: skip
        assert problem in text
    assert read_online(stores, "profile", {"user_id": [3]})["page"] == [None]


def test_rows_of_the_future_are_refused(stores: Stores) -> None:
    apply_by_hand(stores, latest(source()))
    with pytest.raises(RowsRefused, match="column 'at', row 1: 2026-01-01T12:00:00.000001Z is later than the clock"):
        write_rows(stores, "profile", table_of([row(1, 0), row(1, 1)]).drop_columns(["written"]))


def test_rows_that_are_not_due_by_the_delay_of_their_view_are_refused(stores: Stores) -> None:
    """The one row of a key cannot hold them next to what is served until then."""
    apply_by_hand(stores, latest(source(), delay="1h"))
    rows = table_of([row(1, -HOUR), row(2, -HOUR + 1)]).drop_columns(["written"])
    with pytest.raises(RowsRefused, match="row 1: .* is later than the clock .* less the view's delay of 1h"):
        write_rows(stores, "profile", rows)
    assert write_rows(stores, "profile", rows.slice(0, 1)) == 1


def test_a_row_written_by_hand_deletes_its_key_as_one_of_the_source_does(stores: Stores, tmp_path: Path) -> None:
    apply_by_hand(stores, latest(source(delete_when="page = 'gone' AND amount > 0")))
    write(tmp_path, [row(1, -HOUR, 1), row(2, -HOUR, 1)])
    materialize(stores)
    rows = [row(1, -MINUTE, 3, page="gone"), row(2, -MINUTE, 0, page="gone")]

    assert write_rows(stores, "profile", table_of(rows).drop_columns(["written"])) == 2
    assert read_online(stores, "profile", {"user_id": [1, 2]})["amount"] == [None, 0]


def test_rows_of_logs_and_of_windows_are_not_written_by_hand(stores: Stores) -> None:
    schema = [Field("user_id", Int64), Field("at", Timestamp), Field("amount", Int64)]
    pushed = FeatureView(
        "pushed", source=PushSource("orders", schema=schema, timestamp_field="at"), entities=USER, schema=schema
    )
    apply_by_hand(stores, pushed, windows(source()))

    with pytest.raises(RequestError, match="reads the log of source 'orders'.*\n.*push rows to 'orders'"):
        write_rows(stores, "pushed", [])
    with pytest.raises(RequestError, match="'activity' aggregates source 'rows'"):
        write_rows(stores, "activity", [])


def test_keys_of_every_kind_are_read_back(stores: Stores, tmp_path: Path) -> None:
    day = Entity("day", join_keys=["at_day"])
    fields = [Field("at_day", Timestamp), Field("amount", Int64)]
    moments = pa.array([NOW - DAY, NOW - 2 * DAY], pa.timestamp("us"))
    pq.write_table(
        pa.table({"at_day": moments, "amount": [1, 2], "at": pa.array([NOW - 5] * 2, TIMES)}), tmp_path / "days.parquet"
    )
    view = FeatureView("days", source=FileSource("days.parquet", timestamp_field="at"), entities=day, schema=fields)
    apply_by_hand(stores, view)

    materialize(stores)

    assert {key for key, *_ in stores.online.scan(stores.online.tables("shop")[0])} == {
        key_bytes((NOW - DAY,)), key_bytes((NOW - 2 * DAY,))
    }  # fmt: skip
    assert read_online(stores, "days", {"at_day": ["2025-12-31T12:00:00Z"]})["amount"] == [1]
