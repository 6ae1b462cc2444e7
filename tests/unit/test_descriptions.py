"""What a feature is, in sentences: the whole text of every kind of definition, and that its claims are true."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    OnDemandFeatureView,
    RequestSource,
    Session,
    Sliding,
)
from asof.catalog.descriptions import describe_feature
from asof.display import span_prose
from asof.types import Embedding, Float64, Int64, String, Timestamp
from tests.oracle import events_in_window, features_as_of

USER, SHOP = Entity(name="user", join_keys=["user_id"]), Entity(name="shop", join_keys=["shop_id"])
FIELDS = [
    Field("user_id", Int64),
    Field("shop_id", Int64),
    Field("kind", String),
    Field("amount", Float64),
    Field("at", Timestamp),
    Field("id", String),
]
EVENTS = LogSource("events", schema=FIELDS, timestamp_field="at")
ROWS = FileSource("rows.parquet", name="rows", timestamp_field="at")


def aggregated(
    *, source: Any = EVENTS, entities: Any = (USER,), boundary: str = "inclusive", delay: str | None = None, **made: Any
) -> FeatureView:
    return FeatureView(
        "v",
        entities=list(entities),
        source=source,
        aggregations=[Aggregation(name="f", **made)],
        boundary=boundary,
        delay=delay,
    )


def latest(field: Field, *, source: Any = ROWS, **options: Any) -> FeatureView:
    return FeatureView("v", entities=[USER], source=source, schema=[field], **options)


def derived(mode: str, count: int) -> OnDemandFeatureView:
    many = FeatureView("many", entities=[USER], source=ROWS, schema=[Field(f"a{i}", Int64) for i in range(count)])
    request = RequestSource("basket", [Field("total", Float64)])

    def ratio(inputs: Any) -> Any:
        return inputs

    return OnDemandFeatureView("v", schema=[Field("f", Float64)], sources=[many, request], udf=ratio, mode=mode)


CASES: list[tuple[FeatureView | OnDemandFeatureView, list[str]]] = [
    (aggregated(function="count", where="kind = 'product'", window=Sliding("30m")), [
        "Number of events whose `kind` is 'product', for each user, in the 30 minutes up to the moment.",
        "An event at exactly the moment counts, and so does one exactly 30 minutes older.",
        "The window's start moves in steps of 1 minute: what is older by less than that may still count.",
        "Without any it is 0.",
    ]),
    (aggregated(function="count", window=Sliding("1d"), boundary="exclusive"), [
        "Number of events, for each user, in the day before the moment.",
        "An event at exactly the moment is left out; one exactly 1 day older counts.",
        "The window's start moves in steps of 1 hour: what is older by less than that may still count.",
        "Without any it is 0.",
    ]),
    (aggregated(column="amount", function="count", where="kind <> 'x' OR amount > 3", source=ROWS), [
        "Number of rows for which `kind <> 'x' OR amount > 3` and for which `amount` is not null, for each user, over all rows up to the moment.",
        "A row at exactly the moment counts.",
        "Without any it is 0.",
    ]),
    (aggregated(column="amount", function="count"), [
        "Number of events for which `amount` is not null, for each user, over all events up to the moment.",
        "An event at exactly the moment counts.",
        "Without any it is 0.",
    ]),
    (aggregated(column="amount * 2", function="sum", window=Session("1h"), where="kind = 'product'"), [
        "Sum of `amount * 2`, of events whose `kind` is 'product', for each user, in the session that is open at the moment.",
        "A session is a chain of events at most 1 hour apart; it is open until 1 hour after its last one.",
        "An event at exactly the moment counts.",
        "Whether a session goes on is decided by all events, also by those that do not meet the condition.",
        "Nulls are passed over. Without any it is null.",
    ]),
    (aggregated(function="count", window=Session("90m"), boundary="exclusive"), [
        "Number of events, for each user, in the session that is open at the moment.",
        "A session is a chain of events at most 1 hour 30 minutes apart; it is open until 1 hour 30 minutes after its last one.",
        "An event at exactly the moment is left out.",
        "Without an open session it is 0.",
    ]),
    (aggregated(column="amount", function="mean", window=Sliding("7d", "1d"), delay="2h", entities=[USER, SHOP], default=0.5), [
        "Mean of `amount`, for each user and shop, in the 7 days up to the moment less 2 hours.",
        "An event at exactly the moment less 2 hours counts, and so does one exactly 7 days older.",
        "The window's start moves in steps of 1 day: what is older by less than that may still count.",
        "Nulls are passed over. Without any it is `0.5`.",
    ]),
    (aggregated(column="kind", function="last_n", n=3, entities=[]), [
        "The latest 3 values of `kind` that are not null, oldest first, for the whole source, over all events up to the moment.",
        "An event at exactly the moment counts.",
        "Without any it is null.",
    ]),
    (aggregated(column="kind", function="last_n", n=3, where="amount > 1"), [
        "The latest 3 values of `kind` that are not null, oldest first, of events for which `amount > 1`, for each user, over all events up to the moment.",
        "An event at exactly the moment counts.",
        "Without any it is null.",
    ]),
    (aggregated(column="kind", function="count_distinct"), [
        "Number of distinct values of `kind`, for each user, over all events up to the moment.",
        "An event at exactly the moment counts.",
        "Nulls are not counted. Without any it is 0.",
    ]),
    (aggregated(column="kind", function="first"), [
        "First value of `kind` that is not null, for each user, over all events up to the moment.",
        "An event at exactly the moment counts.",
        "Without any it is null.",
    ]),
    (aggregated(column="kind", function="last", source=LogSource("events", schema=FIELDS, timestamp_field="at", delete_when="kind = 'gone'", event_id="id")), [
        "Latest value of `kind` that is not null, for each user, over all events up to the moment.",
        "An event at exactly the moment counts.",
        "Without any it is null.",
        "Events for which `kind = 'gone'` holds do not count.",
        "Of events with the same `id` within 1 day, only the first counts.",
    ]),
    (latest(Field("plan", String)), [
        "`plan` of the latest row up to the moment, for each user.",
        "A row at exactly the moment counts.",
        "A null of that row stays null, and without such a row it is null.",
    ]),
    (latest(Field("plan", String, default="free"), ttl="7d", delay="30m", source=FileSource("r.parquet", timestamp_field="at", field_mapping={"tariff": "plan"}, delete_when="gone")), [
        "`plan` (column `tariff` of the source) of the latest row up to the moment less 30 minutes, for each user, if it was then at most 7 days old.",
        "A row at exactly the moment less 30 minutes counts, and so does one exactly 7 days older.",
        "Where that row has a null, or there is no such row, it is `free`.",
        "Rows for which `gone` holds delete their key: from then on there is no value until the next row.",
    ]),
    (latest(Field("kind", String), source=LogSource("log", schema=FIELDS, timestamp_field="at", key_fields=["user_id"], transform="SELECT * FROM message"), ttl="1h"), [
        "`kind` of the latest event up to the moment, for each user, if it is at most 1 hour old.",
        "An event at exactly the moment counts, and so does one exactly 1 hour older.",
        "A null of that event stays null, and without such an event it is null.",
        "Messages without a value delete their key: from then on there is no value until the next event.",
        "The events are made from messages by SQL.",
    ]),
    (latest(Field("vector", Embedding(384))), [
        "Embedding of 384 numbers: `vector` of the latest row up to the moment, for each user.",
        "A row at exactly the moment counts.",
        "A null of that row stays null, and without such a row it is null.",
    ]),
    (derived("python", 2), [
        "Computed at each read by the function `derived.<locals>.ratio`, from `many:a0`, `many:a1` and the request's `total`.",
        "The function sees the keys `user_id` and the moment, too; it is the same in training and in serving.",
    ]),
    (derived("pandas", 9), [
        "Computed at each read by the function `derived.<locals>.ratio` on pandas frames, from `many:a0`, `many:a1`, `many:a2`, `many:a3`, `many:a4`, "
        "4 more features and the request's `total`.",
        "The function sees the keys `user_id` and the moment, too; it is the same in training and in serving.",
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("view", "sentences"), CASES, ids=range(len(CASES)))
def test_every_kind_of_feature_is_described(view: FeatureView | OnDemandFeatureView, sentences: list[str]) -> None:
    assert describe_feature(view, view.feature_names[0]) == sentences


@pytest.mark.parametrize(("function", "beginning"), [
    ("sum", "Sum of `amount`,"), ("mean", "Mean of `amount`,"), ("min", "Least value of `amount`,"), ("max", "Greatest value of `amount`,"),
    ("std", "Sample standard deviation of `amount`,"), ("var", "Sample variance of `amount`,"),
])  # fmt: skip
def test_each_measure_has_its_name(function: str, beginning: str) -> None:
    assert describe_feature(aggregated(column="amount", function=function), "f")[0].startswith(beginning)


@pytest.mark.parametrize(("where", "text"), [
    ("kind = 'a'", "whose `kind` is 'a'"), ("amount = 3", "whose `amount` is 3"), ("3 = amount", "for which `3 = amount`"),
    ("kind = NULL", "for which `kind = NULL`"), ("kind <> 'a'", "for which `kind <> 'a'`"), ("kind = user_id", "for which `kind = user_id`"),
])  # fmt: skip
def test_only_the_simplest_conditions_are_put_into_prose(where: str, text: str) -> None:
    assert describe_feature(aggregated(function="count", where=where), "f")[0].startswith(
        f"Number of events {text}, for each"
    )


def test_an_unknown_feature_is_an_error() -> None:
    with pytest.raises(KeyError, match="no feature 'x'"):
        describe_feature(aggregated(function="count"), "x")


@settings(deadline=None)
@given(st.integers(1, 500), st.integers(1, 60), st.integers(-1000, 1000), st.sampled_from(["inclusive", "exclusive"]))
def test_what_is_said_of_the_edges_of_a_window_is_true(length: int, hop: int, t: int, boundary: str) -> None:
    window = Sliding(timedelta(microseconds=length), timedelta(microseconds=min(hop, length)))

    def counts(time: int) -> bool:
        return bool(events_in_window([{"event_time": time}], window, t, boundary))

    assert counts(t) == (boundary == "inclusive")
    assert counts(t - window.length), "one exactly as old as the window is long counts"
    assert not counts(t - window.length - window.hop), "what may still count is older by less than a hop"
    assert any(counts(t - window.length - more) for more in range(window.hop)) and not counts(t + 1)


@pytest.mark.parametrize("age", [0, 7, 8])
def test_what_is_said_of_ttl_and_delay_is_true(age: int) -> None:
    view = FeatureView("v", source=ROWS, schema=[Field("plan", String)], ttl=_us(7), delay=_us(2))
    rows = [{"event_time": 100 - 2 - age, "plan": "a", "arrival": 0}]

    assert features_as_of(rows, view, (), 100)["plan"] == ("a" if age <= 7 else None)
    assert describe_feature(view, "plan")[1] == (
        "A row at exactly the moment less 2 microseconds counts, and so does one exactly 7 microseconds older."
    )


def _us(count: int) -> str:
    return f"{count}us"


@pytest.mark.parametrize(("us", "text"), [
    (0, "0 seconds"), (1, "1 microsecond"), (1_500, "1 millisecond 500 microseconds"), (90_000_000, "1 minute 30 seconds"),
    (5_400_000_000, "1 hour 30 minutes"), (86_400_000_000, "1 day"), (1_000 * 86_400_000_000, "1,000 days"),
])  # fmt: skip
def test_durations_in_prose(us: int, text: str) -> None:
    assert span_prose(us) == text
