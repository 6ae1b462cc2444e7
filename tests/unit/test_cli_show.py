"""`asof show view` and `asof show feature`: how a feature is made, from which columns, how fresh, and for whom."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from asof import Aggregation, Entity, FeatureService, FeatureView, Field, FileSource, LogSource, Session, Sliding
from asof.definitions.facts import Facts, LastRun, ViewGenerations
from asof.timing import micros
from asof.types import Int64, String
from tests.cli_shell import FakeStore, Shell

user = Entity(name="user", join_keys=["user_id"])
traffic = LogSource(
    name="traffic",
    schema=[Field("user_id", Int64), Field("page", String), Field("ms", Int64), Field("at", Int64)],
    timestamp_field="at",
    timestamp_unit="ms",
    field_mapping={"ms": "spent"},
)
activity = FeatureView(
    name="activity",
    entities=[user],
    source=traffic,
    aggregations=[
        Aggregation(
            name="spent_7d", function="sum", column="spent / 1000", where="page = 'home'", window=Sliding("7d", "1h")
        ),
        Aggregation(name="open_session", function="count", window=Session("30m")),
    ],
    boundary="exclusive",
    description="What a user did",
    owner="growth",
    tags={"tier": "1"},
)
profile = FeatureView(
    name="profile",
    entities=[user],
    source=FileSource(name="users", path="users.parquet", timestamp_field="registered_at"),
    schema=[Field("user_id", Int64), Field("country", String)],
    ttl="30d",
)
services = [
    FeatureService(name="whole", features=[activity]),
    FeatureService(name="part", features=[activity[["open_session"]]]),
    FeatureService(name="other", features=[profile]),
]


@pytest.fixture
def store() -> FakeStore:
    store = FakeStore()
    views = {"activity": activity, "profile": profile}
    store.answers = {
        "list_feature_views": [activity, profile], "list_on_demand_feature_views": [],
        "list_feature_services": services, "get_feature_view": lambda name: views[name],
    }  # fmt: skip
    newest = datetime(2026, 11, 30, 12, tzinfo=UTC)
    store.stream_status = lambda source: [
        SimpleNamespace(source="traffic", last_message=newest, lag=2),
        SimpleNamespace(source="traffic", last_message=None, lag=1),
    ]
    store.keep(Facts())
    return store


def shown(store: FakeStore, *words: str) -> dict[str, str]:
    """Name → value of what the command shows."""
    answer = Shell(store)("show", *words, width=120)
    assert answer.exit_code == 0, answer.stderr
    lines = answer.stdout.partition("\n\n")[0].splitlines()
    return dict(line.split(None, 1) for line in lines if not line.startswith(" ") and len(line.split(None, 1)) == 2)


def test_a_feature_says_how_it_is_made_and_of_which_columns(store: FakeStore) -> None:
    found = shown(store, "feature", "activity:spent_7d")

    assert {name: found[name] for name in ("aggregate", "where", "window", "hop", "boundary", "source_columns")} == {
        "aggregate": "sum(spent / 1000)", "where": "page = 'home'", "window": "sliding 7d", "hop": "1h",
        "boundary": "exclusive", "source_columns": "ms, page",
    }  # fmt: skip
    assert (found["services"], found["owner"], found["description"]) == ("whole", "growth", "What a user did")
    assert found["meaning"].startswith(
        "Sum of `spent / 1000`, of events whose `page` is 'home', for each user, in the 7 days"
    )
    assert found["freshness"] == "newest message 2026-11-30T12:00:00Z; 3 not archived"
    assert found["defined_at"].startswith(f"{activity.where.rpartition(':')[0]}:")


def test_a_source_of_a_log_says_where_its_history_is(store: FakeStore) -> None:
    old = FileSource(name="old", path="old.parquet", timestamp_field="at")
    streamed = LogSource(
        name="visits", schema=[Field("user_id", Int64), Field("at", Int64)], timestamp_field="at", timestamp_unit="ms",
        batch_source=old, stream_from="2026-01-01T00:00:00Z",
    )  # fmt: skip
    store.answers["get_source"] = lambda name: {"visits": streamed, "traffic": traffic}[name]

    found = shown(store, "source", "visits")
    assert (found["batch_source"], found["stream_from"]) == ("old (file)", "2026-01-01T00:00:00Z")
    assert "batch_source" not in shown(store, "source", "traffic")


@pytest.mark.parametrize(("option", "value"), [("--limit", "x"), ("--limit", "1.5"), ("--seed", "x")])
def test_a_value_that_is_no_number_is_called_so(store: FakeStore, option: str, value: str) -> None:
    answer = Shell(store)("sample", "activity", option, value)

    assert answer.exit_code == 2 and f"'{value}' is not a whole number" in answer.stderr


def test_a_view_says_the_source_columns_of_each_feature(store: FakeStore) -> None:
    answer = Shell(store)("show", "view", "activity", width=120)
    heads, _, *rows = answer.stdout.partition("Features:\n")[2].splitlines()
    place = heads.index("source columns")

    assert [(row.split()[0], row[place:].split("  ")[0].strip()) for row in rows] == [
        ("spent_7d", "ms, page"), ("open_session", "-"),
    ]  # fmt: skip


def test_a_service_uses_a_feature_only_where_it_names_it(store: FakeStore) -> None:
    assert shown(store, "feature", "activity:open_session")["services"] == "whole, part"
    assert shown(store, "view", "activity")["services"] == "whole, part"
    assert shown(store, "feature", "profile:country")["services"] == "other"


def test_what_an_aggregate_has_not_is_not_shown(store: FakeStore) -> None:
    found = shown(store, "feature", "activity:open_session")

    assert found["window"] == "session gap 30m" and not {"hop", "where", "ttl"} & found.keys()


def test_a_view_of_a_table_says_its_ttl_and_when_it_was_materialized(store: FakeStore) -> None:
    assert shown(store, "view", "profile")["freshness"] == "never materialized"
    run = LastRun(generation="g-1", started=micros("2026-11-30"))
    facts = Facts(generations={"profile": ViewGenerations(current="g-1", count=1)}, materialized={"profile": run})
    store.keep(facts)
    found = shown(store, "view", "profile")

    assert found["freshness"] == "last materialized 2026-11-30T00:00:00Z" and found["ttl"] == "30d"
    assert "boundary" not in found


def test_the_document_has_freshness_and_services_beside_the_definition(store: FakeStore) -> None:
    view = json.loads(Shell(store)("show", "view", "activity", "--output", "json").stdout)["view"]
    feature = json.loads(Shell(store)("show", "feature", "activity:spent_7d", "--output", "json").stdout)["feature"]

    assert view["services"] == ["whole", "part"] and view["source"] == "traffic" and view["aggregations"]
    assert view["source_columns"] == {"spent_7d": ["ms", "page"], "open_session": []}
    assert (feature["name"], feature["source_columns"]) == ("activity:spent_7d", ["ms", "page"])
