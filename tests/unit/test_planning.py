"""The plan: what changes, in which order, and what it means for archives and online rows."""

from __future__ import annotations

import json
from typing import Any

from asof.definitions import (
    Aggregation,
    BatchFeatureView,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    OnDemandFeatureView,
    Project,
    PushSource,
    RequestSource,
    Session,
    Sliding,
    Snapshot,
    project_of,
    state_hash,
)
from asof.planning import (
    CreateArchive,
    Delete,
    DropGeneration,
    Finding,
    KeepArchive,
    NewFunction,
    NewGeneration,
    Plan,
    describe,
    diff,
    resolve,
)
from asof.types import Float64, Int64, String, Timestamp

user = Entity("user", ["user_id"])
traffic = LogSource(
    "traffic", schema=[Field("user_id", Int64), Field("page", String), Field("at", Timestamp)], timestamp_field="at"
)


def views_over(gap: str = "1h", **options: Any) -> FeatureView:
    return FeatureView(
        "user_traffic", entities=[user], source=traffic,
        aggregations=[
            Aggregation("", "count", where="page = 'a'", window=Session(gap), name="n"),
            Aggregation("page", "last", window=Sliding("1d"), name="page_1d", default="none"),
        ],
        **options,
    )  # fmt: skip


def whole() -> Project:
    """One of everything, resolved."""
    users = BatchFeatureView(
        "users", entities=[user],
        schema=[Field("user_id", Int64), Field("country", String, "Where", {"pii": "no"}, default="PL")],
        source=FileSource("users.parquet", timestamp_field="at", schema=[
            Field("user_id", Int64), Field("country", String), Field("at", Timestamp)], lag="1h"),
        ttl="1d", delay="1s", tags={"b": "2", "a": "1"}, owner="ana",
    )  # fmt: skip
    pushed = FeatureView(
        "pushed", source=PushSource("p", [Field("x", Int64), Field("at", Timestamp)], "at"), schema=[Field("x", Int64)]
    )
    derived = OnDemandFeatureView(
        "ratio", sources=[views_over()[["n"]], RequestSource("r", [Field("k", Int64)])], schema=[Field("q", Float64)],
        udf=lambda row: {"q": row["n"] / row["k"]}, mode="python",
    )  # fmt: skip
    service = FeatureService("model", [users, views_over()[["n"]].with_name("v"), pushed, derived])
    project, findings = resolve(project_of([service]), {})
    assert [each for each in findings if each.severity == "error"] == []
    return project


def applied(project: Project) -> Snapshot:
    """The project as it comes back from a registry."""
    return Snapshot.decode(Snapshot(1, "shop", project).encode())


def of(*objects: Any) -> Project:
    return resolve(project_of(objects), {})[0]


EMPTY = Snapshot(0, "shop", Project())


def test_applying_twice_changes_nothing() -> None:
    project = whole()

    assert not diff(EMPTY, project).is_empty
    again = diff(applied(project), whole())
    assert (again.changes, again.is_empty, describe(again)) == ((), True, ["nothing to change"])


def test_new_definitions_come_after_what_they_name_each_with_its_meaning() -> None:
    project = of(views_over())
    plan = diff(EMPTY, project)

    assert describe(plan) == [
        "+ entity 'user'",
        "+ source 'traffic'",
        "    its events are archived from now on",
        "+ feature view 'user_traffic'",
        f"    its online rows are built (generation {state_hash(project.views['user_traffic'])})",
    ]
    assert (plan.name, plan.version, plan.project) == ("shop", 0, project)
    assert plan.changes[2] == CreateArchive("traffic")


def test_a_changed_window_is_shown_and_needs_a_new_generation() -> None:
    old, new = of(views_over()), of(views_over(gap="2h"))
    before, after = state_hash(old.views["user_traffic"]), state_hash(new.views["user_traffic"])
    plan = diff(applied(old), new)

    assert describe(plan) == [
        "~ feature view 'user_traffic'",
        "    ~ aggregations.n: count(*) where page = 'a' over session gap 1h as Int64 → "
        "count(*) where page = 'a' over session gap 2h as Int64",
        f"    its online rows are rebuilt (generation {before} → {after}); the old ones serve until then",
    ]
    assert plan.changes[-1] == NewGeneration("user_traffic", before, after)


def test_a_description_or_a_ttl_changes_the_registry_only() -> None:
    plan = diff(applied(of(views_over())), of(views_over(description="Pages", ttl="1d")))

    assert describe(plan) == ["~ feature view 'user_traffic'", "    + description: Pages", "    + ttl: 1d"]


def test_what_goes_is_deleted_dependents_first_and_archives_stay() -> None:
    plan = diff(applied(whole()), Project())

    kinds = [each.kind for each in plan.changes if isinstance(each, Delete)]
    assert list(dict.fromkeys(kinds)) == [
        "feature service", "on-demand feature view", "feature view", "request source", "source", "entity"
    ]  # fmt: skip
    assert KeepArchive("traffic") in plan.changes
    assert {each.view for each in plan.changes if isinstance(each, DropGeneration)} == {
        "users",
        "pushed",
        "user_traffic",
    }
    assert "    its archive stays; `asof teardown --purge` deletes archives" in describe(plan)


def test_a_view_taken_offline_drops_its_online_rows_and_put_back_builds_them() -> None:
    online, offline = of(views_over()), of(views_over(online=False))
    shaped = state_hash(online.views["user_traffic"])

    assert diff(applied(online), offline).changes[-1] == DropGeneration("user_traffic", shaped)
    assert diff(applied(offline), online).changes[-1] == NewGeneration("user_traffic", None, shaped)


def test_other_code_is_a_new_function_and_its_text_is_not_printed() -> None:
    def derived(udf: Any) -> Project:
        return of(OnDemandFeatureView("d", sources=[views_over()], schema=[Field("q", Int64)], udf=udf, mode="python"))

    old = derived(lambda row: {"q": row["n"]})
    new = derived(lambda row: {"q": row["n"] + 1})
    plan = diff(applied(old), new)

    prints = [old.on_demand_views["d"].fingerprint, new.on_demand_views["d"].fingerprint]
    assert plan.changes[-1] == NewFunction("d", *prints)
    assert describe(plan) == [
        "~ on-demand feature view 'd'",
        f"    its function is changed ({prints[0]} → {prints[1]})",
    ]


def test_what_comes_and_goes_in_a_list_is_said_once() -> None:
    def some(*names: str) -> Project:
        made = [Aggregation(function="count", window=Session("1h"), name=name) for name in names]
        return of(FeatureView("user_traffic", entities=[user], source=traffic, aggregations=made))

    def lines(old: Project, new: Project) -> list[str]:
        return [each.removeprefix("    ") for each in describe(diff(applied(old), new)) if "aggregations" in each]

    count = "count(*) over session gap 1h as Int64"
    assert lines(some("a", "b"), some("c", "a", "d")) == [
        f"- aggregations.b: {count}", f"+ aggregations.c: {count}", f"+ aggregations.d: {count}",
    ]  # fmt: skip
    assert lines(some("a", "b"), some("b", "a")) == ["~ aggregations order: a, b → b, a"]


def test_the_parts_of_a_service_are_names() -> None:
    view = views_over()
    old = of(FeatureService("model", features=[view]))
    new = of(FeatureService("model", features=[view[["n"]], view[["n"]].with_name("twin")], tags={"team": "shop"}))

    assert describe(diff(applied(old), new)) == [
        "~ feature service 'model'",
        "    ~ features.user_traffic: all features → n",
        "    + features.twin: n of user_traffic",
        "    + tags.team: shop",
    ]


def finding(severity: Any, name: str, found: str, hint: str = "") -> Finding:
    return Finding(severity, f"feature view {name!r}", f"{name}.py:1", "", found, hint)


def test_a_note_on_several_objects_is_said_once() -> None:
    found = [
        finding("note", "a", "reads 'users' twice", "see 'x'"),
        finding("warning", "a", "reads 'users' twice", "see 'x'"),
        finding("note", "b", "reads 'orders' twice", "see 'x'"),
        finding("note", "c", "reads too much"),
        finding("error", "a", "has nothing"),
        finding("error", "b", "has nothing"),
    ]

    assert describe(Plan("shop", 1, Project(), (), tuple(found))) == [
        "nothing to change",
        "note: 2 feature views: reads … twice (next: see 'x')",
        "    a.py:1: 'a' ('users')",
        "    b.py:1: 'b' ('orders')",
        "warning: a.py:1: feature view 'a': reads 'users' twice (next: see 'x')",
        "note: c.py:1: feature view 'c': reads too much",
        "error: a.py:1: feature view 'a': has nothing",
        "error: b.py:1: feature view 'b': has nothing",
    ]


def test_a_plan_is_ready_for_json_with_its_findings() -> None:
    project, findings = resolve(project_of([views_over(ttl="1d")]), {})
    plan = diff(EMPTY, project).with_findings(findings)
    content = json.loads(json.dumps(plan.to_dict()))

    assert content["changes"][0] == {
        "action": "create", "kind": "entity", "name": "user",
        "fields": [{"field": "join_keys", "before": None, "after": "user_id"}],
    }  # fmt: skip
    assert [each["severity"] for each in content["findings"]] == ["note"]
    assert plan.errors == ()
    assert describe(plan)[-1].startswith("note: ") and "ttl= is ignored on an aggregated view" in describe(plan)[-1]
