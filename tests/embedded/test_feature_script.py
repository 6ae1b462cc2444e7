"""A feature is tried on a handful of events, and training and serving answer it alike."""

import pytest

from asof import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    KafkaSource,
    LogSource,
    PushSource,
    Session,
    Sliding,
    on_demand_feature_view,
)
from asof.errors import DeadLetterLimit, RowsRefused
from asof.testing.features import FeatureScript
from asof.types import Float64, Int64, String, Timestamp

user = Entity("user", join_keys=["user_id"])
traffic = LogSource(
    "traffic",
    schema=[Field("user_id", Int64), Field("page", String), Field("ms", Int64)],
    timestamp_field="ms",
    timestamp_unit="ms",
)
visits = FeatureView(
    "visits", entities=[user], source=traffic,
    aggregations=[
        Aggregation(function="count", window=Session("1h"), name="in_session"),
        Aggregation(function="count", where="page = 'photo'", window=Sliding("1d"), name="photos_1d"),
    ],
)  # fmt: skip
payments = PushSource("payments", [Field("user_id", Int64), Field("amount", Float64), Field("at", Timestamp)], "at")
paid = FeatureView("paid", entities=[user], source=payments, schema=[Field("amount", Float64)], ttl="1h")


@on_demand_feature_view(sources=[visits], schema=[Field("share", Float64)], mode="python")
def photo_share(row):
    return {"share": row["photos_1d"] / row["in_session"] if row["in_session"] else None}


@pytest.fixture
def script():
    with FeatureScript(visits, paid, photo_share, start="2026-01-01T10:00") as script:
        yield script


def test_a_session_goes_on_within_its_gap_and_ends_after_it(script):
    script.event("traffic", at="2026-01-01T10:00", user_id=7, page="home")
    script.event("traffic", at="2026-01-01T11:00", user_id=7, page="photo")

    assert script.features("visits", at="2026-01-01T12:00", user_id=7) == {"in_session": 2, "photos_1d": 1}
    assert script.features("visits", at="2026-01-01T12:00:00.000001", user_id=7) == {"in_session": 0, "photos_1d": 1}


def test_on_demand_functions_and_references_are_answered(script):
    script.event("traffic", at="2026-01-01T10:00", user_id=7, page="photo")

    assert script.features(["photo_share:share", "visits:in_session"], user_id=7) == {"share": 1.0, "in_session": 1}


def test_a_late_event_counts_where_it_belongs(script):
    script.event("traffic", at="2026-01-01T12:00", user_id=7, page="home")
    script.event("traffic", at="2026-01-01T11:30", user_id=7, page="home")

    assert script.features("visits:in_session", at="2026-01-01T12:10", user_id=7) == {"in_session": 2}


def test_pushed_values_go_out_of_date(script):
    script.event("payments", at="2026-01-01T10:00", user_id=7, amount=2.5)

    assert script.features("paid", at="2026-01-01T11:00", user_id=7) == {"amount": 2.5}
    assert script.features("paid", at="2026-01-01T11:00:01", user_id=7) == {"amount": None}


def test_a_pushed_event_that_does_not_fit_is_refused(script):
    with pytest.raises(RowsRefused, match="'much' is not a number"):
        script.event("payments", at="2026-01-01T10:00", user_id=7, amount="much")


def test_many_messages_that_do_not_fit_do_not_stop_a_short_script(script):
    for _ in range(1200):
        script.event("traffic", at="2026-01-01T10:00", user_id="seven", page="home")

    try:
        assert script.features("visits", user_id=7) == {"in_session": 0, "photos_1d": 0}
    except DeadLetterLimit:
        pytest.fail("the limit counts from 10 s on")


def test_a_source_on_a_cluster_is_tried_without_one():
    clicks = KafkaSource(
        "clicks", topic="web.clicks", bootstrap_servers="${NOWHERE}", timestamp_field="at",
        schema=[Field("user_id", Int64), Field("at", Timestamp)],
    )  # fmt: skip
    clicked = FeatureView(
        "clicked", entities=[user], source=clicks,
        aggregations=[Aggregation(function="count", window=Sliding("1h"), name="clicks_1h")],
    )  # fmt: skip
    with FeatureScript(clicked, start="2026-01-01T10:00") as played:
        played.event("clicks", at="2026-01-01T10:01", user_id=7)
        played.event("clicks", at="2026-01-01T10:02", user_id=7)
        assert played.features("clicked", at="2026-01-01T10:30", user_id=7) == {"clicks_1h": 2}
        assert played.features("clicked", at="2026-01-01T12:00", user_id=7) == {"clicks_1h": 0}
