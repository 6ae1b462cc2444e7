"""Profiles of views on embedded stores: which rows they are of, what they are compared with, what they hide and keep."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from asof import FeatureStore
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.errors import NotFound, RequestError
from asof.flows.admin.feature_log import ServedRows
from asof.profiles import drift_of
from asof.store import open_store_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)

FEATURES = """
from asof import (
    Aggregation, Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, Sliding,
    on_demand_feature_view,
)
from asof.types import Float64, Int64, String

user = Entity(name="user", join_keys=["user_id"])
users = FileSource(name="users", path="users.parquet", timestamp_field="at")
profile = FeatureView(
    name="profile", entities=[user], source=users,
    schema=[
        Field("city", String), Field("income", Float64), Field("email", String, tags={"pii": "email"}),
        Field("shown", String, tags={"pii": "no"}),
    ],
)
clicks = PushSource(
    "clicks",
    [Field("user_id", Int64), Field("n", Int64), Field("phone", String, tags={"pii": ""}), Field("ms", Int64)],
    "ms", timestamp_unit="ms",
)
clicked = FeatureView(
    name="clicked", entities=[user], source=clicks,
    aggregations=[
        Aggregation(function="count", window=Sliding("1h"), name="clicks_1h"),
        Aggregation("phone", "last", window=Sliding("1h"), name="last_phone"),
        Aggregation("phone", "count_distinct", window=Sliding("1h"), name="phones"),
    ],
)

@on_demand_feature_view(sources=[profile[["income"]]], schema=[Field("monthly", Float64)], mode="python")
def derived(inputs):
    income = inputs["income"]
    return {"monthly": None if income is None else income / 12}

@on_demand_feature_view(sources=[profile[["email"]]], schema=[Field("domain", String)], mode="python")
def revealing(inputs):
    return {"domain": inputs["email"]}

@on_demand_feature_view(
    sources=[profile[["income"]], RequestSource(name="request", schema=[Field("amount", Float64)])],
    schema=[Field("ratio", Float64)], mode="python",
)
def asked(inputs):
    return {"ratio": 1.0}

model = FeatureService(name="model", features=[profile, clicked])
"""


def write_users(root, incomes, *, cities=("Gdynia", "Bonn"), first=0):
    rows = len(incomes)
    table = pa.table({
        "user_id": range(first, first + rows),
        "at": pa.array([NOON - HOUR - timedelta(seconds=i) for i in range(rows)], pa.timestamp("us", "UTC")),
        "city": [cities[i % len(cities)] for i in range(rows)], "income": pa.array(incomes, pa.float64()),
        "email": [f"{i}@example.org" for i in range(rows)], "shown": ["x"] * rows,
    })  # fmt: skip
    pq.write_table(table, root / "users.parquet")


def normal(shift=0.0, rows=1000):
    return [float(each) for each in np.random.default_rng(1).normal(size=rows) + shift]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    (tmp_path / "features.py").write_text(FEATURES)
    write_users(tmp_path, normal())
    return tmp_path


@pytest.fixture
def clock():
    return [NOON]


@pytest.fixture
def store(root, clock):
    with FeatureStore(root, clock=lambda: clock[0]) as store:
        store.apply()
        yield store


def of(report, reference):
    return next(each for each in report if each.reference == reference)


def push(store, count=30):
    rows = [
        {"user_id": i % 3, "n": i, "phone": f"+48 {i}", "ms": int((NOON - timedelta(minutes=i)).timestamp() * 1000)}
        for i in range(count)
    ]
    store.push("clicks", rows)
    open_store_of(store).pushers.flush()


def run(root, *args, clock=NOON):
    context = CliContext(lambda *given: FeatureStore(root, clock=lambda: clock))
    return CliRunner().invoke(cli, ["-C", str(root), *args], obj=context)


def test_a_latest_value_view_is_profiled_over_the_rows_of_its_source(store):
    income = of(store.profile(["profile"]), "profile:income")

    expected = np.asarray(normal())
    assert (income.rows, income.nulls, income.distinct) == (1000, 0, 1000)
    assert (income.mean, income.std) == pytest.approx((expected.mean(), expected.std(ddof=1)))
    assert income.quantiles["0.5"] == pytest.approx(float(np.median(expected)))
    city = of(store.profile(["profile"]), "profile:city")
    assert [(each.value, each.count) for each in city.top_values] == [("Bonn", 500), ("Gdynia", 500)]


def test_rows_outside_of_the_time_range_do_not_count(store):
    start, end = NOON - HOUR - timedelta(seconds=9), NOON - HOUR - timedelta(seconds=4)
    report = store.profile(["profile"], start=start, end=end)

    assert report.views[0].rows == 5
    assert store.profile(["profile"], end=NOON - 3 * HOUR).views[0].rows == 0


def test_rows_after_the_clock_do_not_count(store, clock):
    clock[0] = NOON - HOUR - timedelta(seconds=500)

    assert store.profile(["profile"]).views[0].rows == 500


def test_an_aggregated_view_is_profiled_as_of_the_times_of_sampled_rows(store):
    push(store)
    report = store.profile(["clicked"], n=10)
    clicks = of(report, "clicked:clicks_1h")

    frame = store.get_historical_features(features=["clicked:clicks_1h"]).to_df()
    assert (report.views[0].sampled, clicks.rows) == (10, 10)
    assert {each.value for each in clicks.top_values} <= set(frame["clicks_1h"])
    assert report.views[0].features == store.profile(["clicked"], n=10).views[0].features
    whole = of(store.profile(["clicked"], n=1000), "clicked:clicks_1h")
    assert (whole.rows, whole.mean) == (30, pytest.approx(frame["clicks_1h"].mean()))


def test_an_aggregated_view_is_profiled_over_a_time_range(store):
    push(store)
    report = store.profile(["clicked"], n=1000, start=NOON - timedelta(minutes=9), end=NOON)

    assert report.views[0].rows == 9


def test_all_views_are_profiled_but_those_that_need_request_values(store):
    push(store)
    report = store.profile()

    assert [each.view for each in report.views] == ["clicked", "profile", "derived", "revealing"]
    assert of(report, "derived:monthly").mean == pytest.approx(np.mean(normal()) / 12)
    with pytest.raises(RequestError, match="needs the request values \\['amount'\\]"):
        store.profile(["asked"])
    with pytest.raises(NotFound, match="no feature view 'profil'"):
        store.profile(["profil"])


def test_a_view_without_rows_has_a_profile_of_none(store):
    clicks = of(store.profile(["clicked"]), "clicked:clicks_1h")

    assert (clicks.rows, clicks.nulls, clicks.null_share, clicks.histogram) == (0, 0, 0.0, None)


@pytest.mark.parametrize("reference", ["profile:email", "clicked:last_phone", "revealing:domain"])
def test_personal_data_is_counted_and_not_shown(store, reference):
    push(store)
    report = store.profile()
    hidden = of(report, reference)

    assert hidden.is_hidden and hidden.rows > 0 and hidden.distinct
    assert (hidden.min, hidden.max, hidden.mean, hidden.histogram, hidden.cells) == (None,) * 5
    assert not hidden.top_values and not hidden.quantiles
    kept = json.dumps([each.content() for each in store.kept_profiles()])
    assert "example.org" not in kept and "+48" not in kept
    assert not of(report, "profile:shown").is_hidden and not of(report, "clicked:clicks_1h").is_hidden


def test_personal_data_is_null_in_samples(store):
    push(store)

    assert {each["email"] for each in store.sample("profile", n=5)} == {None}
    assert {each["shown"] for each in store.sample("profile", n=5)} == {"x"}
    assert {each["last_phone"] for each in store.sample("clicked", n=5)} == {None}
    assert {each["phone"] for each in store.sample("clicks", n=5)} == {None}
    assert {each["domain"] for each in store.sample("revealing", n=5)} == {None}
    rows = store.sample("model", n=5)
    assert {each["email"] for each in rows} == {None} and {each["city"] for each in rows} <= {"Gdynia", "Bonn"}


def test_what_becomes_personal_data_is_hidden_in_what_was_kept(root, store):
    store.profile(["profile"])
    (root / "features.py").write_text(
        FEATURES.replace('Field("city", String)', 'Field("city", String, tags={"pii": "yes"})')
    )
    with FeatureStore(root, clock=lambda: NOON) as later:
        later.apply()
        city = later.kept_profiles("profile")[0].feature("city")

    assert city is not None and city.is_hidden and not city.top_values and city.distinct == 2
    before = store.kept_profiles("profile")[0].feature("income")
    assert before is not None and before.histogram is not None


def test_profiles_are_kept_newest_first_and_are_no_versions(store, clock):
    version = open_store_of(store).snapshot().version
    for day in range(3):
        clock[0] = NOON + day * timedelta(days=1)
        store.profile(["profile"])
    store.profile(["clicked"])

    kept = store.kept_profiles("profile", limit=2)
    assert [each.when for each in kept] == [int((NOON + timedelta(days=d)).timestamp()) * 10**6 for d in (2, 1)]
    assert {each.view for each in store.kept_profiles()} == {"profile", "clicked"}
    assert store.refresh_registry() is None and open_store_of(store).snapshot().version == version
    store.profile(["profile"], keep=False)
    assert len(store.kept_profiles("profile", limit=10)) == 3


def test_a_profile_that_is_kept_is_a_run_with_its_rows(store):
    store.profile(["profile"], keep=False)
    assert list(store.runs("profile")) == []

    report = store.profile(["profile"])
    (run,) = store.runs("profile")
    assert (run.outcome, run.views, run.rows) == ("done", {"profile": report.views[0].rows}, report.views[0].rows)


def test_a_shift_is_an_alarm_against_the_previous_profile(root, store, clock):
    store.profile(["profile"])
    write_users(root, normal(0.5), cities=("Gdynia", "Bonn", "Bern"))
    clock[0] = NOON + HOUR
    report = store.profile(["profile"], compare="previous")

    income = of(report, "profile:income").drift
    assert income is not None and income.alarm and income.baseline == "profile of 2026-01-01T12:00:00Z"
    city = of(report, "profile:city").drift
    assert city == drift_of([500, 500, 0, 0, 0], [333, 334, 333, 0, 0], baseline=income.baseline)
    assert {each.feature for each in report.alarms} == {"income", "city"} and not report.ok
    same = store.profile(["profile"], compare="previous")
    assert same.ok and of(same, "profile:income").drift.psi == 0.0


def test_the_first_profile_has_nothing_to_be_compared_with(store):
    report = store.profile(["profile"], compare="previous")

    assert report.ok and of(report, "profile:income").drift is None


def test_a_profile_of_a_day_is_a_baseline(root, store, clock):
    store.profile(["profile"])
    write_users(root, normal(3.0))
    clock[0] = NOON + timedelta(days=1)
    store.profile(["profile"])

    assert store.profile(["profile"], compare="2026-01-01T18:00").alarms
    assert not store.profile(["profile"], compare="2026-01-02T18:00").alarms
    assert store.profile(["profile"], compare="2025-12-31").ok


def test_a_training_set_is_a_baseline(root, store):
    frame = pa.table({"user_id": range(1000), "event_timestamp": pa.array([NOON] * 1000, pa.timestamp("us", "UTC"))})
    store.get_historical_features(frame, ["profile:income", "profile:city"]).save("january")
    store.get_historical_features(frame, ["profile:income"], full_feature_names=True).save("full")

    for name in ("january", "full"):
        drift = of(store.profile(["profile"], compare=f"training-set:{name}"), "profile:income").drift
        assert drift is not None and drift.psi == 0.0 and drift.baseline == f"training-set:{name}"
    write_users(root, normal(1.0))
    assert of(store.profile(["profile"], compare="training-set:january"), "profile:income").drift.alarm
    with pytest.raises(NotFound, match="no training set 'jan'"):
        store.profile(["profile"], compare="training-set:jan")


def test_what_was_served_is_a_baseline(store):
    store.materialize()
    rows = [{"user_id": i} for i in range(1000)]
    response = store.get_online_features("model", rows)
    ServedRows(open_store_of(store).stores, 1).append("model", [response])

    for baseline in ("served", "served:model"):
        report = store.profile(["profile"], compare=baseline)
        drift = of(report, "profile:income").drift
        assert drift is not None and drift.psi == pytest.approx(0.0) and drift.baseline == "served:model"
        assert of(report, "profile:email").drift is None
    with pytest.raises(NotFound, match="has no feature log"):
        store.profile(["profile"], compare="served:other")


@pytest.mark.parametrize("baseline", ["", "yesterday", "training-set:", "training_set:x"])
def test_a_text_that_is_no_baseline_is_refused(store, baseline):
    with pytest.raises(RequestError, match="expected 'previous', a date or time"):
        store.profile(["profile"], compare=baseline)


def test_an_interval_that_ends_before_it_starts_is_refused(store):
    with pytest.raises(RequestError, match="is not before"):
        store.profile(["profile"], start=NOON, end=NOON)


def test_the_command_shows_features_and_exits_with_10_on_an_alarm(root, store, clock):
    first = run(root, "profile", "profile")
    write_users(root, normal(1.0))
    second = run(root, "profile", "profile", "--compare", "previous", clock=NOON + HOUR)
    third = run(root, "--output", "json", "profile", "profile", "--no-keep")

    assert first.exit_code == 0 and "profile:income" in first.stdout and "hidden" in first.stdout
    assert (
        second.exit_code == 10 and "ALARM" in second.stdout and "Compared with profile of 2026-01-01" in second.stderr
    )
    content = json.loads(third.stdout)
    assert content["ok"] is True and content["views"][0]["features"][0]["feature"] == "city"
    assert "example.org" not in third.stdout


def test_stats_draw_a_feature_as_text_picture_and_json(root, store, tmp_path):
    store.profile(["profile"])
    one = run(root, "stats", "profile:income")
    whole = run(root, "stats", "profile", "--save", str(tmp_path / "all.png"))
    kept = run(root, "--output", "json", "stats", "profile:city", "--kept")

    assert one.exit_code == 0 and one.stdout.startswith("profile:income\n1,000 rows") and "█" in one.stdout
    assert "profile:email: hidden: tagged pii" in whole.stdout and "example.org" not in whole.stdout
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG") and "all.png" in whole.stderr
    assert json.loads(kept.stdout)["features"][0]["top_values"] == [
        {"value": "Bonn", "count": 500}, {"value": "Gdynia", "count": 500},
    ]  # fmt: skip
    assert len(store.kept_profiles("profile", limit=9)) == 1


def test_stats_of_what_is_not_there(root, store):
    unknown = run(root, "stats", "profile:incme")
    nothing = run(root, "stats", "clicked:clicks_1h", "--save", str(root / "no.png"))
    never = run(root, "stats", "clicked", "--kept")

    assert unknown.exit_code == 4 and "did you mean 'income'" in unknown.stderr
    assert (
        nothing.exit_code == 0 and "clicked:clicks_1h: no values" in nothing.stdout and not (root / "no.png").exists()
    )
    assert never.exit_code == 4 and "no profile of 'clicked' is kept" in never.stderr
