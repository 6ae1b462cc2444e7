"""Expectations of views: refused by plan where they do not fit, checked against the rows, kept for servers and pages."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof import Expectation, FeatureStore, FeatureView, Field, FileSource, OnDemandFeatureView, RequestSource
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.definitions import Snapshot
from asof.errors import CheckFailed, DefinitionError
from asof.server.telemetry.metrics import exposed, server_metrics
from asof.server.telemetry.request_counts import RequestCounts
from asof.store import open_store_of
from asof.types import Float64
from tests.catalog_browser import browser_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

FEATURES = """
from asof import Aggregation, Entity, Expectation, FeatureView, Field, FileSource, PushSource, Sliding
from asof.types import Int64, String

user = Entity(name="user", join_keys=["user_id"])
users = FileSource(name="users", path="users.parquet", timestamp_field="at")
profile = FeatureView(
    name="profile", entities=[user], source=users,
    schema=[Field("age", Int64), Field("city", String), Field("email", String, tags={"pii": "yes"})],
    expectations=[
        EXPECTATIONS
    ],
)
clicks = PushSource("clicks", [Field("user_id", Int64), Field("ms", Int64)], "ms", timestamp_unit="ms")
clicked = FeatureView(
    name="clicked", entities=[user], source=clicks,
    aggregations=[Aggregation(function="count", window=Sliding("1h"), name="clicks_1h")],
    expectations=[Expectation.between("clicks_1h", 0, 2), Expectation.fresh("1h")],
)
"""
HELD = """Expectation.not_null("age", mostly=0.5), Expectation.between("age", 0, 120),
        Expectation.accepted_values("city", ["Bonn", "Gdynia"]), Expectation.unique("email"), Expectation.fresh("2h"),"""
BROKEN = """Expectation.not_null("age"), Expectation.between("age", 31, 120, mostly=0.9),
        Expectation.accepted_values("city", ["Bonn"]), Expectation.unique("city"), Expectation.fresh("30m"),"""


def write(root, expectations=HELD):
    (root / "feature_store.yaml").write_text("project: shop\n")
    (root / "features.py").write_text(FEATURES.replace("EXPECTATIONS", expectations))
    table = {
        "user_id": range(4), "at": pa.array([NOON - timedelta(hours=1)] * 4, pa.timestamp("us", "UTC")),
        "age": pa.array([30, 40, None, 50], pa.int64()), "city": ["Bonn", "Gdynia", "Bonn", None],
        "email": [f"{i}@example.org" for i in range(4)],
    }  # fmt: skip
    pq.write_table(pa.table(table), root / "users.parquet")
    return root


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


@pytest.fixture
def store(root):
    with FeatureStore(root, clock=lambda: NOON) as store:
        store.apply()
        yield store


def applied(root, expectations):
    store = FeatureStore(write(root, expectations), clock=lambda: NOON)
    store.apply()
    return store


def run(root, *args):
    context = CliContext(lambda *given: FeatureStore(root, clock=lambda: NOON))
    return CliRunner().invoke(cli, ["-C", str(root), *args], obj=context)


def test_expectations_that_hold(store):
    results = store.check_expectations(["profile"])

    assert [each.expectation for each in results] == [
        "not_null(age)", "between(age)", "accepted_values(city)", "unique(email)", "fresh",
    ]  # fmt: skip
    assert all(each.ok for each in results)
    report = store.profile(["profile"])
    assert report.ok and report.views[0].expectations == list(results)


def test_expectations_that_fail_say_how_many_rows_miss_them(root):
    with applied(root, BROKEN) as store:
        results = list(store.check_expectations(["profile"]))
        report = store.profile(["profile"])

    assert [(each.expectation, each.found) for each in results if not each.ok] == [
        ("not_null(age)", "1 of 4 rows miss it"), ("between(age)", "1 of 3 values miss it"),
        ("accepted_values(city)", "1 of 3 values miss it"), ("unique(city)", "1 of 3 values miss it"),
        ("fresh", "the newest is of 2026-01-01T11:00:00Z, 1h old"),
    ]  # fmt: skip
    assert not report.ok and len(report.views[0].failed) == 5


def test_an_aggregated_view_is_checked_as_of_sampled_rows(store):
    rows = [{"user_id": 1, "ms": int((NOON - timedelta(minutes=i)).timestamp() * 1000)} for i in range(4)]
    store.push("clicks", rows)
    between, fresh = store.check_expectations(["clicked"])

    assert (between.ok, between.found) == (False, "2 of 4 values miss it") and fresh.ok


def test_a_view_without_rows_is_not_fresh_and_misses_nothing_else(store):
    between, fresh = store.check_expectations(["clicked"])

    assert (between.ok, between.found, fresh.ok, fresh.found) == (True, "no values", False, "no rows")


def test_results_are_kept_and_read_without_being_computed(root, store):
    store.check_expectations(["profile"])
    store.profile(["clicked"])
    (root / "users.parquet").unlink()
    kept = store.kept_expectations()

    assert {each.view for each in kept} == {"profile", "clicked"} and len(kept) == 7
    assert store.kept_expectations("profile")[0].when == int(NOON.timestamp()) * 10**6
    store.check_expectations(["clicked"], keep=False)
    assert len(store.kept_expectations()) == 7


def test_results_of_expectations_that_were_removed_are_not_shown(root, store):
    store.check_expectations(["profile"])
    with applied(root, 'Expectation.fresh("2h"),') as later:
        assert [each.expectation for each in later.kept_expectations("profile")] == ["fresh"]


def test_definitions_keep_their_expectations_and_rows_are_not_built_again(root, store):
    view = open_store_of(store).snapshot().project.views["profile"]
    assert view.expectations[1] == Expectation.between("age", 0, 120)

    snapshot = open_store_of(store).snapshot()
    assert Snapshot.decode(snapshot.encode()).project.views["profile"].expectations == view.expectations
    without = json.loads(snapshot.encode())
    for each in without["project"]["views"]:
        each.pop("expectations")
    assert Snapshot.decode(json.dumps(without)).project.views["profile"].expectations == ()
    before = snapshot.facts.generations_of("profile")
    with applied(root, BROKEN) as later:
        assert open_store_of(later).snapshot().facts.generations_of("profile") == before


@pytest.mark.parametrize(
    ("expectation", "message"),
    [
        ('Expectation.not_null("aeg")', "the view has no feature 'aeg'"),
        ('Expectation.between("city", 0, 1)', "the feature is of type String"),
        ('Expectation.between("age", 0.5)', "0.5"),
        ('Expectation.accepted_values("age", ["x"])', "'x'"),
        ('Expectation.accepted_values("age", [2**31, 2**63])', "9223372036854775808"),
    ],
)
def test_plan_refuses_what_does_not_fit_with_its_line(root, expectation, message):
    with FeatureStore(write(root, f"{expectation},"), clock=lambda: NOON) as store:
        finding = next(each for each in store.plan().findings if each.severity == "error")
        assert message in finding.found and "features.py:" in finding.found and "'profile'" in finding.object
        with pytest.raises(CheckFailed):
            store.apply()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Expectation.not_null(""), lambda: Expectation.not_null("a", mostly=0), lambda: Expectation.between("a"),
        lambda: Expectation.not_null("a", mostly=1.1), lambda: Expectation.accepted_values("a", []),
        lambda: Expectation.accepted_values("a", "text"), lambda: Expectation.fresh("soon"),
        lambda: Expectation.fresh("0s"),
    ],
)  # fmt: skip
def test_an_expectation_that_says_nothing_is_refused(make):
    with pytest.raises(DefinitionError, match="expectation ") as caught:
        make()
    assert "test_expectations.py:" in caught.value.where and caught.value.hint


def test_the_command_exits_with_10_where_one_fails(root, store):
    held = run(root, "profile", "--check", "profile")
    with applied(root, BROKEN):
        failed = run(root, "profile", "--check", "profile")
        whole = run(root, "profile", "profile")
        content = json.loads(run(root, "--output", "json", "profile", "--check", "profile").stdout)
    both = run(root, "profile", "--check", "--compare", "previous")

    assert held.exit_code == 0 and "holds" in held.stdout and "FAILS" not in held.stdout
    assert failed.exit_code == 10 and failed.stdout.count("FAILS") == 5
    assert whole.exit_code == 10 and whole.stdout.count("FAILS") == 5 and "profile:age" in whole.stdout
    assert [each["ok"] for each in content["expectations"]] == [False] * 5
    assert both.exit_code == 2 and "leave out --compare" in both.stderr
    assert "example.org" not in held.stdout + failed.stdout + whole.stdout


def test_failed_expectations_are_metrics(root):
    with applied(root, BROKEN) as store:
        store.check_expectations()
        text = exposed(server_metrics(RequestCounts(), None, now=0, results=list(store.kept_expectations()))).decode()

    assert 'asof_expectation_failed{expectation="unique(city)",feature="city",view="profile"} 1.0' in text
    assert 'asof_expectation_failed{expectation="between(clicks_1h)",feature="clicks_1h",view="clicked"} 0.0' in text
    assert 'asof_expectations_checked_timestamp_seconds{view="profile"} 1.7672688e+09' in text


def test_a_running_server_exposes_them(root):
    with applied(root, BROKEN) as store:
        store.check_expectations()
    for browser in browser_of(root, clock=lambda: NOON):
        lines = browser.get("/metrics", role="").text.splitlines()

    failed = [line for line in lines if line.startswith("asof_expectation_failed")]
    assert len(failed) == 7 and sum(line.endswith(" 1.0") for line in failed) == 6
    assert 'asof_expectation_failed{expectation="unique(city)",feature="city",view="profile"} 1.0' in failed


DERIVED = """
from asof import on_demand_feature_view
from asof.types import Float64

@on_demand_feature_view(
    sources=[profile], schema=[Field("decades", Float64)], mode="python",
    expectations=[Expectation.between("decades", 0, 4.5, mostly=BOUND), Expectation.not_null("decades", mostly=0.5)],
)
def decades(row):
    return {"decades": None if row["age"] is None else row["age"] / 10}
"""


@pytest.mark.parametrize(("mostly", "holds"), [("0.6", True), ("1.0", False)])
def test_the_values_of_an_on_demand_view_are_checked_as_training_reads_them(root, mostly, holds):
    write(root)
    with (root / "features.py").open("a") as definitions:
        definitions.write(DERIVED.replace("BOUND", mostly))
    with FeatureStore(root, clock=lambda: NOON) as store:
        store.apply()
        (found, not_null) = store.check_expectations(["decades"])
        assert (found.view, found.expectation, found.ok) == ("decades", "between(decades)", holds)
        assert found.found == "1 of 3 values miss it" and not_null.ok and not_null.found == "1 of 4 rows miss it"
        report = store.profile(["decades"])
        assert report.ok == holds and list(report.views[0].expectations) == [found, not_null]
    with FeatureStore(root, clock=lambda: NOON) as store:
        assert [each.expectation for each in store.kept_expectations("decades")] == [
            "between(decades)", "not_null(decades)",
        ]  # fmt: skip
        assert store.plan().is_empty


def test_plan_refuses_an_expectation_that_an_on_demand_view_does_not_fit(root):
    write(root)
    with (root / "features.py").open("a") as definitions:
        definitions.write(DERIVED.replace("BOUND", "1.0").replace('not_null("decades"', 'not_null("decade"'))
    with FeatureStore(root, clock=lambda: NOON) as store, pytest.raises(CheckFailed, match="no feature 'decade'"):
        store.apply()


def test_an_on_demand_view_is_not_expected_to_be_what_no_profile_can_tell():
    basket = RequestSource("basket", [Field("amount", Float64)])
    rows = FeatureView("rows", source=FileSource("rows.parquet", timestamp_field="at"), schema=[Field("a", Float64)])

    def double(row):
        return {"twice": row["amount"] * 2}

    given = {"schema": [Field("twice", Float64)], "udf": double, "mode": "python"}
    with pytest.raises(DefinitionError, match=r"'doubled': takes no expectations: it needs request values") as refused:
        OnDemandFeatureView("doubled", sources=[basket], expectations=[Expectation.not_null("twice")], **given)
    assert "the views that it is made of" in refused.value.hint
    with pytest.raises(DefinitionError, match="'doubled': expects to be fresh"):
        OnDemandFeatureView("doubled", sources=[rows], expectations=[Expectation.fresh("1h")], **given)
    assert OnDemandFeatureView("doubled", sources=[basket], expectations=[], **given).name == "doubled"
