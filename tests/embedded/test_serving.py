"""Online reads: what each status means, what entity rows may be, and the traps of serving; all against real SQLite."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asof import FeatureStore
from asof.definitions import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    RequestSource,
    Session,
    Sliding,
    Snapshot,
    on_demand_feature_view,
)
from asof.dtypes import DType
from asof.errors import EntityFrameError, RegistryError, RequestError, StorageError
from asof.flows.generations.writer import GenerationWriter
from asof.flows.online.read import OnlineReader, plain_default
from asof.flows.rows.batch import RowBatch
from asof.flows.stores import Stores, current_generation, table_of
from asof.online.protocol import Newest, pack_version
from asof.selection import FeatureOut, select
from asof.store import open_store_of
from asof.testing.clock import NOW
from asof.timing import DAY, HOUR, MINUTE, SECOND, Micros, moment
from asof.types import Array, Bool, Bytes, Date, Embedding, Float32, Float64, Int32, Int64, Json, String, Timestamp
from asof.types import Decimal as DecimalType
from asof.values.fit import fit_values
from asof.values.from_arrow import python_values
from asof.values.packing import FORMAT, key_bytes, pack_rows, plain_values
from tests.embedded_stores import apply_by_hand, close, embedded_stores, typed
from tests.oracle import features_as_of, same

USER = Entity("user", join_keys=["user_id"])
SHOP = Entity("shop")
ROWS = FileSource("rows.parquet", name="rows", timestamp_field="at")
EVENTS = LogSource(
    "events", timestamp_field="at", timestamp_unit="us",
    schema=[Field("user_id", Int64), Field("page", String), Field("amount", Int64), Field("at", Int64)],
)  # fmt: skip
PROFILE = FeatureView(
    "profile", source=ROWS, entities=[USER], ttl="1d",
    schema=[Field("user_id", Int64), Field("age", Int64), Field("city", String, default="?"), Field("seen", Timestamp)],
)  # fmt: skip
ACTIVITY = FeatureView(
    "activity", source=EVENTS, entities=[USER], aggregations=[
        Aggregation("", "count", window=Sliding("1h"), name="n_1h"), Aggregation("amount", "sum", name="total"),
        Aggregation("", "count", window=Session("30m"), name="session"),
        Aggregation("page", "last_n", n=2, name="pages"), Aggregation("page", "last", window=Sliding("1d"), name="page"),
    ],
)  # fmt: skip
NEWEST = FeatureView(
    "newest", source=EVENTS, entities=[USER], schema=[Field("page", String), Field("amount", Int64)], ttl="6h"
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    stores = embedded_stores(tmp_path_factory.mktemp("serving"))
    yield stores
    close(stores)


def applied(stores: Stores, *definitions: Any) -> Snapshot:
    """Definitions, each view with an empty generation that readers use."""
    views = [each for each in definitions if isinstance(each, FeatureView)]
    generations = {each.name: {"current": "g-1", "count": 1} for each in views}
    snapshot = apply_by_hand(stores, *definitions, generations=generations)
    for each in snapshot.project.views.values():
        table = table_of(stores.project, each, "g-1")
        stores.online.drop(table)
        stores.online.prepare(table)
        stores.online.mark(table)
    return snapshot


def no_history(read: Any, keys: Any, at: Micros) -> Any:
    raise AssertionError(f"{read.view.name} was looked up in history for {keys} as of {at}")


def reader(stores: Stores, features: Any, *, history: Any = no_history, **options: Any) -> OnlineReader:
    snapshot = stores.registry.load(stores.project)
    return OnlineReader(stores, snapshot, select(snapshot, features, **options), history=history)


def put(stores: Stores, view: str, key: tuple[Any, ...], time: Micros, *values: Any) -> None:
    """One row of a batch-fed view, as materialize writes it; values are plain."""
    definition = stores.registry.load(stores.project).project.views[view]
    table = table_of(stores.project, definition, "g-1")
    packed = pack_rows([time], [[value] for value in values])
    stores.online.write(table, [key_bytes(key)], packed, condition=Newest([pack_version(time)]))


def feed(stores: Stores, view: str, rows: list[dict[str, Any]], *, clock: Micros = NOW) -> None:
    """Events of a log, folded into a view's rows as the worker does."""
    definition = stores.registry.load(stores.project).project.views[view]
    table = pa.table(
        {field.name: pa.array([row[field.name] for row in rows], field.dtype.arrow()) for field in EVENTS.schema}
    )
    times = np.array([row["at"] for row in rows], dtype=np.int64)
    offsets = np.array([row["offset"] for row in rows], dtype=np.int64)
    batch = RowBatch(table, times, times, np.zeros(len(rows), dtype=np.int32), offsets)
    GenerationWriter(stores, definition, "g-1").apply(batch, clock=clock)


def event(
    offset: int, time: Micros, *, user: int = 1, page: str | None = "a", amount: int | None = 1
) -> dict[str, Any]:
    return {"offset": offset, "at": time, "user_id": user, "page": page, "amount": amount}


def status_of(
    stores: Stores, feature: str, key: int, *, at: Micros = NOW, history: Any = no_history
) -> tuple[Any, str]:
    answer, _ = reader(stores, [feature], history=history).read([{"user_id": key}], at=at)
    ((name, values),) = [(name, values) for name, values in answer.to_dict().items() if name != "user_id"]
    return values[0], answer.statuses[name][0]


# ---- statuses ----


def test_a_missing_key_is_not_reported_as_present(stores: Stores) -> None:
    applied(stores, PROFILE)
    put(stores, "profile", (1,), NOW, 30, "Łódź", None)

    answer, complete = reader(stores, "profile").read([{"user_id": 1}, {"user_id": 2}], at=NOW)

    assert answer.to_dict() == {"user_id": [1, 2], "age": [30, None], "city": ["Łódź", "?"], "seen": [None, None]}
    assert answer.statuses == {
        "age": ["PRESENT", "NOT_FOUND"], "city": ["PRESENT", "NOT_FOUND"], "seen": ["NULL_VALUE", "NOT_FOUND"],
    }  # fmt: skip
    assert answer.event_times["age"] == [moment(NOW), None]
    assert not complete


def test_an_all_null_row_is_not_skipped(stores: Stores) -> None:
    applied(stores, PROFILE)
    put(stores, "profile", (1,), NOW, None, None, None)

    answer, complete = reader(stores, "profile").read([{"user_id": 1}], at=NOW)

    assert answer.statuses == {name: ["NULL_VALUE"] for name in ("age", "city", "seen")}
    assert answer.to_dict()["city"] == ["?"]
    assert answer.event_times["age"] == [moment(NOW)]
    assert complete


@pytest.mark.parametrize(("age", "expected"), [(DAY, (7, "PRESENT")), (DAY + 1, (None, "OUTSIDE_MAX_AGE"))])
def test_a_row_exactly_as_old_as_the_ttl_is_known_and_an_older_one_is_not(
    stores: Stores, age: Micros, expected: tuple[Any, str]
) -> None:
    applied(stores, PROFILE)
    put(stores, "profile", (1,), NOW - age, 7, "x", None)
    assert status_of(stores, "profile:age", 1) == expected


@pytest.mark.parametrize(("age", "expected"), [(8 * DAY, "OUTSIDE_MAX_AGE"), (8 * DAY + 1, "NOT_FOUND")])
def test_a_row_that_is_a_week_older_than_its_ttl_is_not_found_removed_or_not(
    stores: Stores, age: Micros, expected: str
) -> None:
    applied(stores, PROFILE)
    put(stores, "profile", (1,), NOW - age, 7, "x", None)
    answer, _ = reader(stores, "profile").read([{"user_id": key} for key in (1, 2)], at=NOW)

    assert (answer.to_dict()["age"], answer.statuses["age"]) == ([None, None], [expected, "NOT_FOUND"])
    assert answer.event_times["age"] == [moment(NOW - age) if expected == "OUTSIDE_MAX_AGE" else None, None]


def test_a_row_beyond_its_ttl_answers_the_default_and_says_how_old_it_is(stores: Stores) -> None:
    applied(stores, PROFILE)
    put(stores, "profile", (1,), NOW - 2 * DAY, 7, "x", None)
    answer, _ = reader(stores, "profile").read([{"user_id": 1}], at=NOW)
    assert (answer.to_dict()["city"], answer.statuses["city"]) == (["?"], ["OUTSIDE_MAX_AGE"])
    assert answer.event_times["city"] == [moment(NOW - 2 * DAY)]


def test_a_delay_moves_the_moment_and_the_ttl_with_it(stores: Stores) -> None:
    applied(stores, FeatureView("late", source=ROWS, entities=[USER], schema=PROFILE.schema, ttl="1d", delay="1h"))
    for key, time in ((1, NOW - HOUR), (2, NOW - HOUR - DAY), (3, NOW - HOUR - DAY - 1)):
        put(stores, "late", (key,), time, 1, "x", None)
    statuses = [status_of(stores, "late:age", key)[1] for key in (1, 2, 3)]
    assert statuses == ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE"]


def test_windows_answer_for_a_key_that_was_never_seen(stores: Stores) -> None:
    applied(stores, ACTIVITY)
    answer, complete = reader(stores, "activity").read([{"user_id": 404}], at=NOW)
    found = answer.to_dict()
    assert {name: found[name][0] for name in answer.statuses} == {
        "n_1h": 0, "total": None, "session": 0, "pages": None, "page": None,
    }  # fmt: skip
    assert [answer.statuses[name][0] for name in ("n_1h", "total", "session")] == ["PRESENT", "NULL_VALUE", "PRESENT"]
    assert answer.event_times["n_1h"] == [None]
    assert not complete


def test_many_rows_and_few_rows_of_windows_answer_alike(stores: Stores) -> None:
    applied(stores, ACTIVITY)
    feed(stores, "activity", [event(i, NOW - i * MINUTE, user=i % 50, page="abc"[i % 3]) for i in range(200)])
    keys = list(range(100))
    many, _ = reader(stores, "activity").read({"user_id": keys}, at=NOW)
    few = [reader(stores, "activity").read({"user_id": [key]}, at=NOW)[0] for key in keys]
    for name, values in many.to_dict().items():
        assert values == [each.to_dict()[name][0] for each in few]
    for name, times in many.event_times.items():
        assert times == [each.event_times[name][0] for each in few]
    assert [status for each in few for status in each.statuses["page"]] == many.statuses["page"]


@pytest.mark.parametrize("keys", [3, 100, 400])
def test_views_with_the_same_windows_are_answered_together_as_each_by_itself(stores: Stores, keys: int) -> None:
    twin = FeatureView("twin", source=EVENTS, entities=[USER], aggregations=ACTIVITY.aggregations)
    slow = FeatureView("slow", source=EVENTS, entities=[USER], aggregations=ACTIVITY.aggregations, delay="1h")
    applied(stores, ACTIVITY, twin, slow)
    for view, minutes in (("activity", 1), ("twin", 7), ("slow", 3)):
        feed(stores, view, [event(i, NOW - i * minutes * MINUTE, user=i % 50, page="abc"[i % 3]) for i in range(90)])

    def history(read: Any, keys: Any, at: Micros) -> Any:
        wanted = keys["user_id"]
        return {each.output: [f"{read.view.name} {key}" for key in wanted] for each in read.features}, [at] * len(
            wanted
        )

    at, rows = NOW - 2 * SECOND, {"user_id": [*range(keys)]}
    together, _ = reader(stores, ["activity", "twin", "slow"], history=history, full_feature_names=True).read(
        rows, at=at
    )
    for view in ("activity", "twin", "slow"):
        alone, _ = reader(stores, [view], history=history, full_feature_names=True).read(rows, at=at)
        for name, values in alone.to_dict().items():
            assert together.to_dict()[name] == values
        for name, times in alone.event_times.items():
            assert together.event_times[name] == times
    assert together.to_dict()["activity__total"][0] == "activity 0"
    assert together.to_dict()["twin__total"][0] == "twin 0"


# ---- moments ----


def test_a_pending_row_is_not_seen_before_it_is_due(stores: Stores) -> None:
    applied(stores, NEWEST)
    feed(stores, "newest", [event(0, NOW - MINUTE, page="old"), event(1, NOW + MINUTE, page="new")])
    feed(stores, "newest", [event(2, NOW + MINUTE, user=2, page="only")])
    assert status_of(stores, "newest:page", 1, at=NOW + MINUTE - 1) == ("old", "PRESENT")
    assert status_of(stores, "newest:page", 1, at=NOW + MINUTE) == ("new", "PRESENT")
    assert status_of(stores, "newest:page", 2) == (None, "NOT_FOUND")
    assert status_of(stores, "newest:page", 2, at=NOW + MINUTE) == ("only", "PRESENT")


def test_a_row_newer_than_the_moment_is_answered_from_history_even_with_others_pending(stores: Stores) -> None:
    asked: list[Any] = []

    def history(read: Any, keys: Any, at: Micros) -> Any:
        asked.append((read.view.name, keys, at))
        return {"newest__page": ["before"]}, [NOW - HOUR]

    applied(stores, NEWEST)
    feed(stores, "newest", [event(0, NOW, page="now"), event(1, NOW + MINUTE, page="later")])
    assert status_of(stores, "newest:page", 1, at=NOW - 1, history=history) == ("before", "PRESENT")
    assert asked == [("newest", {"user_id": [1]}, NOW - 1)]


@pytest.mark.parametrize(
    ("newest", "expected"),
    [(None, "NOT_FOUND"), (NOW - 9 * DAY, "NOT_FOUND"), (NOW - 2 * DAY, "OUTSIDE_MAX_AGE"), (NOW - HOUR, "NULL_VALUE")],
)
def test_what_history_answers_has_the_status_of_its_newest_row(stores: Stores, newest: Any, expected: str) -> None:
    applied(stores, PROFILE)
    put(stores, "profile", (1,), NOW + 1, 7, "x", None)

    def history(read: Any, keys: Any, at: Micros) -> Any:
        assert [feature.default for feature in read.features] == [None]
        return {"profile__city": [None]}, [newest]

    assert status_of(stores, "profile:city", 1, history=history) == ("?", expected)


def test_a_read_about_a_past_moment_inside_the_newest_tile_does_not_leak(stores: Stores) -> None:
    applied(stores, ACTIVITY)
    start = NOW - NOW % HOUR
    feed(
        stores,
        "activity",
        [event(0, start), event(1, start + 30 * MINUTE), event(2, start + 40 * MINUTE)],
        clock=start + HOUR,
    )

    def history(read: Any, keys: Any, at: Micros) -> Any:
        return {"activity__n_1h": [1]}, [start]

    at = start + 20 * MINUTE
    answer, _ = reader(stores, ["activity:n_1h"], history=history).read([{"user_id": 1}, {"user_id": 2}], at=at)
    assert answer.to_dict()["n_1h"] == [1, 0]
    assert answer.event_times["n_1h"] == [moment(start), None]
    # Within a second of the newest event the row itself knows.
    assert status_of(stores, "activity:n_1h", 1, at=start + 40 * MINUTE - 1) == (2, "PRESENT")


def test_a_session_read_long_after_its_last_event_is_over(stores: Stores) -> None:
    applied(stores, ACTIVITY)
    feed(stores, "activity", [event(0, NOW - MINUTE), event(1, NOW)])
    assert status_of(stores, "activity:session", 1, at=NOW + 30 * MINUTE) == (2, "PRESENT")
    assert status_of(stores, "activity:session", 1, at=NOW + 30 * MINUTE + 1) == (0, "PRESENT")
    assert status_of(stores, "activity:session", 1, at=NOW + 300 * DAY) == (0, "PRESENT")


def test_a_ttl_shorter_than_a_window_does_not_cut_the_window(stores: Stores) -> None:
    applied(stores, FeatureView("short", source=EVENTS, entities=[USER], ttl="1m", aggregations=ACTIVITY.aggregations))
    feed(stores, "short", [event(0, NOW - 50 * MINUTE), event(1, NOW - 40 * MINUTE)])
    assert status_of(stores, "short:n_1h", 1) == (2, "PRESENT")
    assert status_of(stores, "short:total", 1, at=NOW + 30 * DAY) == (2, "PRESENT")


def test_the_clock_is_asked_after_the_rows_are_read(stores: Stores) -> None:
    """A row that is written while a request is on its way is newer than the request's begin, and no row of the future."""
    applied(stores, PROFILE)

    class Online:
        def read_marked(self, lookups: Any) -> Any:
            stores.clock.move(SECOND)  # type: ignore[attr-defined]
            put(stores, "profile", (1,), stores.clock(), 7, "x", None)
            return stores.online.read_marked(lookups)

    slow = stores.replaced(online=Online())  # type: ignore[arg-type]
    answer, _ = reader(slow, ["profile:age"]).read([{"user_id": 1}])
    assert (answer.to_dict()["age"], answer.at) == ([7], NOW + SECOND)
    stores.clock.now = NOW  # type: ignore[attr-defined]


# ---- keys and order ----


def test_feature_order_is_that_of_the_request(stores: Stores) -> None:
    """And so the same in every process: nothing on the way is a set."""
    applied(stores, PROFILE, ACTIVITY)
    features = ["activity:total", "profile:city", "activity:n_1h", "profile:age", "activity:page"]
    names = [each.partition(":")[2] for each in features]
    for order in (1, -1):
        answer, _ = reader(stores, features[::order]).read([{"user_id": 1}], at=NOW)
        assert list(answer.to_dict()) == ["user_id", *names[::order]]
        assert list(answer.statuses) == list(answer.event_times) == names[::order]
        assert answer.to_arrow().column_names == ["user_id", *names[::order]]


def test_duplicate_entity_rows_are_each_answered_in_their_place(stores: Stores) -> None:
    applied(stores, PROFILE)
    put(stores, "profile", (1,), NOW, 7, "x", None)
    put(stores, "profile", (2,), NOW + 1, 8, "x", None)
    asked = []

    def history(read: Any, keys: Any, at: Micros) -> Any:
        asked.append(keys)
        return {"profile__age": [6]}, [NOW]

    answer, _ = reader(stores, ["profile:age"], history=history).read({"user_id": [2, 1, 2, 9, 1]}, at=NOW)
    assert answer.to_dict()["age"] == [6, 7, 6, None, 7]
    assert asked == [{"user_id": [2]}]


def test_a_view_without_entities_answers_every_row(stores: Stores) -> None:
    total = FeatureView("total", source=EVENTS, aggregations=[Aggregation("", "count", name="n")])
    applied(stores, total)
    feed(stores, "total", [event(0, NOW), event(1, NOW, user=2)])
    for rows, expected in (([{}], [2]), ([{}, {}], [2, 2]), ([], []), ({}, [2]), ({"other": [1, 2, 3]}, [2, 2, 2])):
        answer, _ = reader(stores, "total").read(rows, at=NOW)
        assert (answer.to_dict(), len(answer)) == ({"n": expected}, len(expected))
    behind, _ = reader(stores, "total", history=lambda *_: ({"total__n": [0]}, [None])).read([{}, {}], at=NOW - DAY)
    assert behind.to_dict() == {"n": [0, 0]}


def test_composite_keys_mapped_keys_and_aliases_read_the_rows_they_name(stores: Stores) -> None:
    fields = [Field("user_id", Int64), Field("shop", String), Field("spent", Int64)]
    both = FeatureView("both", source=ROWS, entities=[USER, SHOP], schema=fields)
    pair = FeatureService("pair", [
        PROFILE[["age"]], PROFILE[["age"]].with_name("friend").with_join_key_map({"user_id": "friend_id"}), both,
    ])  # fmt: skip
    applied(stores, PROFILE, both, pair)
    for key, age in ((1, 30), (2, 40)):
        put(stores, "profile", (key,), NOW, age, "x", None)
    put(stores, "both", (1, "b"), NOW, 5)
    rows = [{"user_id": 1, "friend_id": 2, "shop": "b"}, {"user_id": 2, "friend_id": 1, "shop": "b"}]
    answer, _ = reader(stores, "pair", full_feature_names=True).read(rows, at=NOW)
    found = answer.to_dict()
    assert (found["profile__age"], found["friend__age"], found["both__spent"]) == ([30, 40], [40, 30], [5, None])


@pytest.mark.parametrize(
    ("dtype", "value", "others"),
    [
        (Int64, 7, [np.int64(7), np.int32(7), 7.0]), (Int32, 7, [np.int16(7)]), (String, "ż", [np.str_("ż")]),
        (DecimalType(10, 2), Decimal("1.50"), [Decimal("1.5"), "1.5", Decimal("15E-1"), Decimal("1.500")]),
        (DecimalType(10, 2), Decimal("0"), [Decimal("-0"), 0]),
        (DecimalType(12, 9), Decimal("0.000000001"), ["1E-9"]),
        (Date, date(2026, 1, 2), ["2026-01-02"]),
        (Timestamp, moment(NOW), ["2026-01-01T12:00:00Z", datetime(2026, 1, 1, 12), pd.Timestamp(NOW, unit="us")]),
        (Float32, 0.1, [np.float32(0.1)]), (Bool, True, [np.True_]),
    ],
    ids=str,
)  # fmt: skip
def test_a_key_is_found_in_whatever_form_it_is_given(
    stores: Stores, dtype: DType, value: Any, others: list[Any]
) -> None:
    view = FeatureView(
        "typed", source=ROWS, entities=[Entity("e", ["k"])], schema=[Field("k", dtype), Field("x", Int64)]
    )
    applied(stores, view)
    (plain,) = plain_values(pa.array([value], dtype.arrow()), dtype)
    put(stores, "typed", (plain,), NOW, 5)
    for form in (value, *others):
        assert reader(stores, "typed").read([{"k": form}], at=NOW)[0].to_dict()["x"] == [5], form


def test_a_key_of_32_and_of_64_bits_is_one_key(stores: Stores) -> None:
    views = [
        FeatureView(name, source=ROWS, entities=[USER], schema=[Field("user_id", dtype), Field(name[0], Int64)])
        for name, dtype in (("narrow", Int32), ("wide", Int64))
    ]
    applied(stores, *views)
    for name in ("narrow", "wide"):
        put(stores, name, (7,), NOW, 1)
    put(stores, "wide", (2**40,), NOW, 2)
    answer, _ = reader(stores, ["narrow:n", "wide:w"]).read({"user_id": [7, 2**40]}, at=NOW)
    assert answer.to_dict() == {"user_id": [7, 2**40], "n": [1, None], "w": [1, 2]}


@pytest.mark.parametrize(
    "rows",
    [
        [{"user_id": 1, "other": "x"}, {"user_id": 2}], ({"user_id": i} for i in (1, 2)), {"user_id": [1, 2], "other": "ab"[:0] or [0, 0]},
        {"user_id": np.array([1, 2])}, {"user_id": np.array([1.0, 2.0])}, {"user_id": pd.Series([1, 2])}, {"user_id": (1, 2)},
        pd.DataFrame({"user_id": [1, 2], "other": ["x", "y"]}), pl.DataFrame({"user_id": [1, 2]}), pa.table({"user_id": [1, 2]}),
    ],
    ids=["dicts", "generator", "lists", "numpy", "floats", "series", "tuples", "pandas", "polars", "arrow"],
)  # fmt: skip
def test_entity_rows_are_dicts_columns_or_tables_and_what_is_not_asked_for_is_passed_over(
    stores: Stores, rows: Any
) -> None:
    applied(stores, PROFILE)
    put(stores, "profile", (2,), NOW, 7, "x", None)
    assert reader(stores, ["profile:age"]).read(rows, at=NOW)[0].to_dict() == {"user_id": [1, 2], "age": [None, 7]}


def test_no_entity_rows_are_no_answers(stores: Stores) -> None:
    applied(stores, PROFILE, ACTIVITY)
    for rows in ([], {"user_id": []}, pd.DataFrame({"user_id": pd.Series([], dtype="int64")})):
        answer, complete = reader(stores, ["profile:age", "profile:city", "activity:n_1h"]).read(rows, at=NOW)
        assert answer.to_dict() == {"user_id": [], "age": [], "city": [], "n_1h": []}
        assert complete and len(answer) == 0 and answer.to_arrow().num_rows == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"user_id": "7"}], "join key 'user_id' in entity row 0: '7' is not Int64"),
        ([{"user_id": 1}, {"user_id": True}], "entity row 1: True is not Int64"),
        ([{"user_id": 2**63}], "outside Int64"), ([{"user_id": 3.7}], "3.7 is not a whole number"),
        ([{"user_id": None}], "join key 'user_id' is null in entity row 0"),
        ([{"user_id": float("nan")}], "is null in entity row 0"),
        (pd.DataFrame({"user_id": [1.0, None]}), "is null in entity row 1"),
        ({"user_id": np.array([1, 1.5])}, "entity row 1: 1.5 is not a whole number"),
        ({"user_id": "77"}, "entity column 'user_id' is '77'; expected one value per row"),
        ("7", "the entity rows are '7'; expected dicts"), ({"user_ids": [1]}, "rename its column 'user_ids' to 'user_id'"),
        ([{"user_id": [1]}], "is not Int64"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_named(stores: Stores, rows: Any, message: str) -> None:
    applied(stores, PROFILE)
    with pytest.raises(EntityFrameError) as refused:
        reader(stores, ["profile:age"]).read(rows, at=NOW)
    assert message in str(refused.value)


def test_text_without_utf8_is_refused_as_a_key(stores: Stores) -> None:
    applied(
        stores, FeatureView("shops", source=ROWS, entities=[SHOP], schema=[Field("shop", String), Field("x", Int64)])
    )
    with pytest.raises(EntityFrameError, match="UTF-8"):
        reader(stores, "shops").read([{"shop": "\ud800"}], at=NOW)


# ---- on-demand features and forms of the answer ----


def ratio_view() -> Any:
    @on_demand_feature_view(
        sources=[PROFILE, RequestSource("cart", schema=[Field("items", Int64), Field("note", String)])],
        schema=[Field("ratio", Float64), Field("asked_at", Timestamp)], mode="python",
    )  # fmt: skip
    def ratio(row: dict[str, Any]) -> dict[str, Any]:
        known = row["items"] is not None and row["age"]
        return {"ratio": row["items"] / row["age"] if known else None, "asked_at": row["event_timestamp"]}

    return ratio


def test_on_demand_features_see_request_values_and_the_moment(stores: Stores) -> None:
    applied(stores, PROFILE, ratio_view())
    put(stores, "profile", (1,), NOW, 4, "x", None)
    snapshot = stores.registry.load(stores.project)
    from dataclasses import replace

    selection = select(snapshot, ["ratio:ratio", "ratio:asked_at", "profile:age"])
    own = ratio_view()
    made = tuple(replace(each, view=each.view.with_function(own.function)) for each in selection.derivations)
    answering = OnlineReader(stores, snapshot, replace(selection, derivations=made), history=no_history)
    rows = [
        {"user_id": 1, "items": 2, "note": "a"},
        {"user_id": 1, "items": None, "note": None},
        {"user_id": 9, "items": np.int64(1), "note": "b"},
    ]

    answer, _ = answering.read(rows, at=NOW)

    found = answer.to_dict()
    assert (found["ratio"], found["items"], found["note"]) == ([0.5, None, None], [2, None, 1], ["a", None, "b"])
    assert found["asked_at"] == [datetime(2026, 1, 1, 12, tzinfo=UTC)] * 3
    assert answer.statuses["ratio"] == ["PRESENT", "NULL_VALUE", "NULL_VALUE"]
    assert answer.statuses["age"] == ["PRESENT", "PRESENT", "NOT_FOUND"]
    assert answer.event_times["ratio"] == [None, None, None]
    for wrong, message in (
        ([{"user_id": 1, "note": ""}], "has no request value 'items'"),
        ([{"user_id": 1, "items": "2", "note": ""}], "request value 'items' in entity row 0: '2' is not Int64"),
    ):
        with pytest.raises(EntityFrameError, match=message):
            answering.read(wrong, at=NOW)


def test_all_forms_of_an_answer_say_the_same(stores: Stores) -> None:
    applied(stores, PROFILE, ACTIVITY)
    put(stores, "profile", (1,), NOW, 7, "x", NOW - DAY)
    answer, _ = reader(stores, ["profile:seen", "profile:age", "activity:n_1h"]).read({"user_id": [1, 2]}, at=NOW)
    values = answer.to_dict()
    assert values["seen"] == [datetime(2025, 12, 31, 12, tzinfo=UTC), None]
    table = answer.to_arrow(include_event_timestamps=True)
    assert table.select(list(values)).to_pydict() == values
    assert [str(table.schema.field(name).type) for name in values] == [
        "int64",
        "timestamp[us, tz=UTC]",
        "int64",
        "int64",
    ]
    assert table["age__ts"].to_pylist() == answer.event_times["age"] == answer.to_dict(True)["age__ts"]
    assert answer.to_df()["n_1h"].tolist() == [0, 0]
    numbers, _ = reader(stores, ["profile:age", "activity:n_1h"]).read({"user_id": [1, 2]}, at=NOW)
    assert np.array_equal(numbers.to_numpy(), np.array([[7.0, 0.0], [np.nan, 0.0]]), equal_nan=True)
    with pytest.raises(RequestError, match="feature 'profile:seen' has type Timestamp; expected a number"):
        answer.to_numpy()


def test_a_row_of_a_newer_format_is_not_misread(stores: Stores) -> None:
    snapshot = applied(stores, PROFILE)
    import msgspec

    table = table_of(stores.project, snapshot.project.views["profile"], "g-1")
    packed = msgspec.msgpack.encode([FORMAT + 1, NOW, 1, "x", None])
    stores.online.write(table, [key_bytes((1,))], [packed], condition=Newest([pack_version(NOW)]))
    with pytest.raises(StorageError, match="format 2; expected 1"):
        reader(stores, "profile").read([{"user_id": 1}], at=NOW)


def test_a_view_that_is_not_online_is_refused(stores: Stores) -> None:
    applied(stores, FeatureView("offline", source=ROWS, entities=[USER], schema=PROFILE.schema, online=False))
    with pytest.raises(StorageError, match="'offline' is not online"):
        reader(stores, "offline")


# ---- serving equals history ----


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from([-7 * HOUR, -6 * HOUR, -HOUR - MINUTE, -HOUR, -30 * MINUTE, -MINUTE, -1, 0, 1, MINUTE]),
            st.integers(1, 2), st.sampled_from([None, "a", "b"]), st.sampled_from([None, 1, -5]),
        ),
        min_size=1, max_size=12,
    ),
    st.integers(0, 12),
)  # fmt: skip
def test_what_is_served_equals_history_at_several_moments(
    stores: Stores, drawn: list[tuple[Micros, int, str | None, int | None]], cut: int
) -> None:
    definitions = applied(stores, typed(ACTIVITY), NEWEST).project.views
    events = [
        event(i, NOW + at, user=user, page=page, amount=amount) for i, (at, user, page, amount) in enumerate(drawn)
    ]
    rows = [{**each, "event_time": each["at"], "arrival": (each["offset"], 0)} for each in events]

    def history(read: Any, keys: Any, at: Micros) -> Any:
        asked = [features_as_of(rows, read.view, [key], at, defaults=False) for key in keys["user_id"]]
        known = [[row["at"] for row in rows if row["user_id"] == key and row["at"] <= at] for key in keys["user_id"]]
        return {each.output: [one[each.name] for one in asked] for each in read.features}, [
            max(one, default=None) for one in known
        ]

    for view in ("activity", "newest"):
        for batch in filter(None, (events[:cut], events[cut:])):
            feed(stores, view, batch)
        answering = reader(stores, view, history=history)
        for at in (
            NOW - HOUR,
            NOW - SECOND,
            NOW - 1,
            NOW,
            NOW + 1,
            NOW + MINUTE,
            NOW + 29 * MINUTE,
            NOW + 6 * HOUR,
            NOW + 30 * DAY,
        ):
            found = answering.read({"user_id": [1, 2]}, at=at)[0].to_dict()
            for place, key in enumerate((1, 2)):
                for name, value in features_as_of(rows, definitions[view], [key], at).items():
                    assert same(value, found[name][place]), (view, key, name, at - NOW, value, found[name][place])


# ---- through the store ----


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    with FeatureStore(tmp_path, clock=lambda: moment(NOW)) as store:
        stores = open_store_of(store).stores
        applied(stores, PROFILE)
        for key in range(20):
            put(stores, "profile", (key,), NOW, key, "x", None)
        yield store


def test_reads_go_on_while_generations_flip_and_old_ones_are_dropped(store: FeatureStore) -> None:
    stores, stop = open_store_of(store).stores, threading.Event()
    failures: list[Any] = []
    reads = [0]
    rows = [{"user_id": key} for key in range(20)]

    def hammer() -> None:
        try:
            while not stop.is_set():
                answer = store.get_online_features(["profile:age"], rows)
                if answer.to_dict()["age"] != list(range(20)) or set(answer.statuses["age"]) != {"PRESENT"}:
                    failures.append(answer.statuses)
                reads[0] += 1
        except Exception as error:  # any error at all is the failure
            failures.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2, 22):
            snapshot = stores.registry.load(stores.project)
            view = snapshot.project.views["profile"]
            old, new = (table_of(stores.project, view, f"g-{each}") for each in (number - 1, number))
            assert current_generation(snapshot, view) == old.generation
            stores.online.prepare(new)
            copied = stores.online.scan(old)
            stores.online.write(
                new, [key for key, _, _ in copied], [value for _, value, _ in copied],
                condition=Newest([version for _, _, version in copied]),  # type: ignore[misc]
            )  # fmt: skip
            stores.online.mark(new)
            apply_by_hand(stores, PROFILE, generations={"profile": {"current": new.generation, "count": number}})
            stores.online.drop(old)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert reads[0] > 0


def test_a_missing_key_is_answered_while_the_registry_is_away(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(project: str) -> int:
        raise RegistryError("it is away")

    store.get_online_features(["profile:age"], [{"user_id": 1}])
    monkeypatch.setattr(open_store_of(store).stores.registry, "version", away)

    answer = store.get_online_features(["profile:age"], [{"user_id": 1}, {"user_id": 99}])

    assert answer.to_dict()["age"] == [1, None]
    assert answer.statuses["age"] == ["PRESENT", "NOT_FOUND"]


def test_requests_are_told_apart_by_what_they_ask_for(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the identity of an object, which another one may have after it."""
    from asof.selection import select

    decided = []
    monkeypatch.setattr(
        "asof.open_store.select", lambda *asked, **named: decided.append(asked) or select(*asked, **named)
    )

    def ask(make: Callable[[], Any]) -> list[str]:
        return list(store.get_online_features([make()], [{"user_id": 1, "friend": 2}]).to_dict())

    for _ in range(20):
        assert ask(lambda: PROFILE[["age"]]) == ["user_id", "age"]
        assert ask(lambda: PROFILE[["city"]]) == ["user_id", "city"]
        assert ask(lambda: PROFILE[["city"]].with_join_key_map({"user_id": "friend"})) == ["friend", "city"]
        assert ask(lambda: "profile:seen") == ["user_id", "seen"]
    assert len(decided) == 4


def test_a_past_moment_is_answered_from_the_files_with_its_status(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    times = pa.array([NOW - 3 * DAY, NOW + HOUR, NOW - HOUR, NOW + HOUR, NOW + HOUR], pa.timestamp("us", "UTC"))
    table = {
        "user_id": [1, 1, 2, 2, 3],
        "age": [1, 2, None, 4, 5],
        "city": ["a", "b", None, "d", "e"],
        "seen": times,
        "at": times,
    }
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    with FeatureStore(tmp_path, clock=lambda: moment(NOW)) as store:
        applied(open_store_of(store).stores, PROFILE)
        for key in (1, 2, 3):
            put(open_store_of(store).stores, "profile", (key,), NOW + HOUR, key, "x", None)
        answer = store.get_online_features(["profile:age", "profile:city"], {"user_id": [1, 2, 3]})
        assert answer.to_dict() == {"user_id": [1, 2, 3], "age": [None] * 3, "city": ["?"] * 3}
        assert answer.statuses["city"] == ["OUTSIDE_MAX_AGE", "NULL_VALUE", "NOT_FOUND"]
        assert answer.event_times["city"] == [moment(NOW - 3 * DAY), moment(NOW - HOUR), None]


@pytest.mark.parametrize(
    ("dtype", "default"),
    [
        (Float32, 0.1), (Float64, 1), (Int64, 3.0), (DecimalType(12, 2), "1.5"), (DecimalType(38, 9), 5),
        (Timestamp, "2026-01-01T00:00:00"), (Timestamp, datetime(2026, 1, 1, tzinfo=UTC)), (Date, "2026-01-02"), (Json, {"a": 1}),
        (String, "x"), (Bytes, b"x"), (Bool, True), (Array(Timestamp), ["2026-01-01"]), (Embedding(2), [0.1, 2]),
    ],
)  # fmt: skip
def test_a_default_is_the_value_that_a_historical_read_gives(dtype, default):
    made = plain_default(FeatureOut("a", "a", dtype, default))
    historical = python_values(fit_values([default], dtype)[0])[0]

    assert (made, type(made), str(made)) == (historical, type(historical), str(historical))
