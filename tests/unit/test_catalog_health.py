"""How views and sources are, put together from runs, audits, use and the status of streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from asof.catalog.entries import CatalogEntry, entries_of
from asof.catalog.health import Health, HealthInputs, ViewAudit, health_of
from asof.catalog.search import CatalogSearch, filter_of
from asof.definitions import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    Sliding,
    Snapshot,
    project_of,
)
from asof.definitions.facts import Facts, LastRun
from asof.definitions.on_demand import OnDemandFeatureView
from asof.flows.runs import Run
from asof.flows.stream.status import PartitionStatus
from asof.flows.use import UseSums
from asof.timing import micros
from asof.types import Float64, Int64

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
USER = Entity("user", join_keys=["user_id"])
CLICKS = LogSource(
    "clicks", schema=[Field("user_id", Int64), Field("at", Int64)], timestamp_field="at", timestamp_unit="us"
)
SALES = FileSource("sales.parquet", name="sales", timestamp_field="at")
LATEST = FeatureView(
    "latest", entities=[USER], source=SALES, ttl="1d", schema=[Field("price", Int64), Field("n", Int64)]
)
CLICKED = FeatureView(
    "clicked", entities=[USER], source=CLICKS,
    aggregations=[Aggregation(function="count", window=Sliding(HOUR), name="total")],
)  # fmt: skip
OFFLINE = FeatureView("offline", entities=[USER], source=SALES, schema=[Field("old", Int64)], online=False)
FOREVER = FeatureView("forever", entities=[USER], source=SALES, schema=[Field("first", Int64)])
RATIO = OnDemandFeatureView(
    "ratio", schema=[Field("share", Float64)], sources=[LATEST[["price"]], CLICKED], mode="python", udf=lambda row: row
)
MODEL = FeatureService("model", [LATEST[["price"]]])
PROJECT = project_of([MODEL, RATIO, OFFLINE, FOREVER])


def run(kind: str = "materialize", *, outcome: str = "done", ago: timedelta = HOUR, **more: Any) -> Run:
    known: dict[str, Any] = {"views": {}, "sources": {}, "details": {}, "error": None, "rows": 0, "who": "ana"}
    return Run(kind, outcome, NOON - ago, NOON, 1.0, **{**known, **more})


def partition(
    *, lag: int = 0, behind_s: float = 0.0, dead_letters: int = 0, gaps: Sequence[str] = ()
) -> PartitionStatus:
    return PartitionStatus(
        source="clicks", topic="clicks", partition=0, first=0, next=9, archived=8 - lag, lag=lag, behind_s=behind_s,
        events_per_s=0.0, freshness_s=None, late_p50_s=None, late_max_s=None, dead_letters=dead_letters,
        last_message=NOON - timedelta(minutes=5), gaps=list(gaps),
    )  # fmt: skip


def made(*, until: timedelta | None = HOUR, **parts: Any) -> Health:
    runs = {} if until is None else {
        name: LastRun(generation="a-1", until=micros(NOON - until)) for name in ("latest", "forever")
    }  # fmt: skip
    snapshot = Snapshot(1, "shop", PROJECT, Facts(materialized=runs))
    return health_of(snapshot, HealthInputs(**parts), at=NOON)


def test_a_batch_fed_view_is_served_until_where_it_was_materialized() -> None:
    newest, older = run(views={"latest": 2}), run(views={"latest": 5}, ago=3 * HOUR)
    view = made(runs=[run("audit", views={"latest": 9}), newest, older]).views["latest"]

    assert (view.source, view.served_until, view.age_s) == ("sales", NOON - HOUR, 3600.0)
    assert view.last_run is newest, "an audit writes no rows"
    assert not view.is_stale and view.attention == ()


def test_a_view_of_a_log_is_served_until_its_newest_message_or_the_oldest_that_waits() -> None:
    worker = run("stream", sources={"clicks": {"messages": 3}})
    health = made(runs=[worker], streams={"clicks": [partition()]})
    view, source = health.views["clicked"], health.sources["clicks"]
    assert (view.served_until, view.last_run) == (NOON - timedelta(minutes=5), worker)
    assert (source.lag, source.dead_letters, source.views, source.attention) == (0, 0, ("clicked",), ())

    health = made(streams={"clicks": [partition(), partition(lag=3, behind_s=60.0)]})
    assert health.views["clicked"].served_until == NOON - timedelta(minutes=1)
    assert (health.sources["clicks"].lag, health.sources["clicks"].behind_s) == (3, 60.0)
    assert not health.views["clicked"].is_stale, "a restart takes a minute"


@pytest.mark.parametrize(
    ("name", "until", "reason"),
    [
        ("latest", None, "it was never materialized up to now: run `asof materialize`"),
        ("latest", timedelta(hours=25), "it was materialized 1d1h ago, longer than its ttl: reads return null"),
        ("forever", timedelta(days=8), "it was materialized 8d ago: run `asof materialize`"),
        ("latest", timedelta(hours=23), ""), ("forever", timedelta(days=6), ""), ("offline", None, ""),
    ],
)  # fmt: skip
def test_what_is_materialized_too_long_ago_is_stale_and_says_since_when(
    name: str, until: timedelta | None, reason: str
) -> None:
    view = made(until=until).views[name]

    assert view.is_stale == bool(reason)
    assert not reason or view.attention[0].startswith(reason)


def test_a_source_says_how_far_it_is_behind_and_what_it_could_not_use() -> None:
    behind = partition(lag=1200, behind_s=5000.0, dead_letters=2, gaps=["offsets 1 to 4 accepted as lost"])
    health = made(streams={"clicks": [behind]})

    assert health.sources["clicks"].attention == (
        "1,200 messages of source 'clicks' are not archived, the oldest for 1h23m: run `asof stream run`",
        "source 'clicks' has 2 dead letters: see `asof dead-letters list`",
        "source 'clicks': events were lost: offsets 1 to 4 accepted as lost",
    )
    view = health.views["clicked"]
    assert view.is_stale and view.attention == ("it is 1h23m behind its source", *health.sources["clicks"].attention)
    assert (
        health.views["ratio"].is_stale
        and "view 'clicked': it is 1h23m behind its source" in health.views["ratio"].attention
    )


def test_failed_runs_and_audits_with_differences_need_attention() -> None:
    failed = run(outcome="failed", views={"latest": 0}, error="SourceError: sales.parquet is missing")
    audit = ViewAudit(NOON - 2 * HOUR, 100, 3, {"the row is missing": 1, "behind clock": 2})
    view = made(runs=[failed, run(views={"latest": 2})], audits={"latest": audit}).views["latest"]

    assert view.audit is audit
    assert view.attention == (
        "its last run (materialize, 1h ago) failed: SourceError: sales.parquet is missing",
        "its last audit (2h ago) found 3 differences: behind clock",
    )


USE = {"latest:price": UseSums(600, 2), "ratio:share": UseSums(30, 0), "gone:x": UseSums(5, 5)}


def test_use_is_summed_per_view_and_looked_up_per_entry() -> None:
    health = made(use=USE)
    entries = {(each.kind, each.name): each for each in entries_of(PROJECT)}

    view = health.views["latest"]
    assert (view.requests, view.requests_per_day, view.training_sets) == (600, 20.0, 2)
    unused = {name for name, each in entries.items() if health.is_unused(each)}
    assert unused == {
        ("feature", "latest:n"), ("feature", "clicked:total"), ("feature", "offline:old"), ("feature", "forever:first"),
        ("view", "clicked"), ("view", "offline"), ("view", "forever"), ("source", "clicks"),
    }  # fmt: skip
    assert health.requests_of(entries["service", "model"]) == health.requests_of(entries["source", "sales"]) == 600
    assert health.requests_of(entries["feature", "latest:n"]) == 0


def test_search_finds_what_is_stale_or_unused_and_asks_for_the_health() -> None:
    health = made(until=timedelta(days=2), use=USE)
    search = CatalogSearch(entries_of(PROJECT))

    def found(**filters: Any) -> list[str]:
        return [each.name for each in search.find(limit=99, keeps=filter_of(health=health, **filters))]

    assert found(stale=True) == ["latest:n", "latest:price", "ratio:share", "latest", "ratio", "model", "sales"]
    assert found(stale=True, unused=True) == ["latest:n"]
    assert found(unused=True, kind="view") == ["clicked", "forever", "offline"]
    with pytest.raises(ValueError, match="looked up in the health"):
        filter_of(stale=True)


RANKED: list[tuple[str, Callable[[], Health]]] = [
    ("used", lambda: made(use={"latest:price": UseSums(9, 0)})),
    ("saved with a training set", lambda: made(use={"latest:price": UseSums(0, 1)})),
    ("audited", lambda: made(audits={"latest": ViewAudit(NOON, 9, 0, {})})),
]


@pytest.mark.parametrize(("why", "health"), RANKED, ids=[why for why, _ in RANKED])
def test_of_two_features_the_one_that_is_better_known_comes_first(why: str, health: Callable[[], Health]) -> None:
    one, other = CatalogEntry("feature", "latest:price"), CatalogEntry("feature", "clicked:total")

    assert health().rank(one) < health().rank(other)


def test_of_two_features_that_are_used_alike_the_fresh_one_comes_first_and_one_with_differences_last() -> None:
    one, other = CatalogEntry("feature", "latest:price"), CatalogEntry("feature", "forever:first")
    use = {"latest:price": UseSums(600, 0), "forever:first": UseSums(900, 0)}
    assert made(use=use).rank(one) == made(use=use).rank(other), "of one magnitude"

    stale = made(use=use, until=timedelta(days=2))
    assert stale.rank(one) > stale.rank(other)
    differs = made(use=use, audits={"latest": ViewAudit(NOON, 9, 1, {"x": 1})})
    assert differs.rank(one) > differs.rank(other)
    more = made(use={"latest:price": UseSums(6000, 0), "forever:first": UseSums(900, 0)}, until=timedelta(days=2))
    assert more.rank(one) < more.rank(other), "use counts first"
