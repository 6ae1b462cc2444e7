"""The lineage of a project: which nodes and edges there are, what depends on what, and what is near a node."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asof import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    LogSource,
    OnDemandFeatureView,
    PushSource,
    RequestSource,
    Sliding,
)
from asof.definitions import project_of
from asof.definitions.facts import SavedProjection, TrainingSet
from asof.lineage import (
    LineageGraph,
    LineageGroup,
    LineageNode,
    Neighbourhood,
    columns_of_view,
    history_columns_of_view,
)
from asof.lineage.branches import branches_of, tree_lines
from asof.lineage.neighbourhood import neighbourhood_of
from asof.sql.row_select import RowSelect
from asof.types import Float64, Int64, String, Timestamp

USER = Entity(name="user", join_keys=["user_id"])
PAST = FileSource("past.parquet", name="past", timestamp_field="happened", field_mapping={"uid": "user_id"})
ORDERS = PushSource(
    "orders", [Field("user_id", Int64), Field("amount", Float64), Field("shop", String), Field("at", Timestamp), Field("unread", String)],
    "at", batch_source=PAST, delete_when="shop = 'gone'",
)  # fmt: skip
CRM = FileSource("crm", name="crm", timestamp_field="at", file_format="delta")
SPENDING = FeatureView(
    "spending", entities=[USER], source=ORDERS,
    aggregations=[
        Aggregation("amount", "sum", name="spent", where="shop <> 'x'", window=Sliding(timedelta(hours=1))),
        Aggregation(function="count", name="n"),
    ],
)  # fmt: skip
PROFILE = FeatureView("profile", entities=[USER], source=CRM, schema=[Field("plan", String), Field("seats", Int64)])
BASKET = RequestSource("basket", [Field("total", Float64)])
RATIOS = OnDemandFeatureView(
    "ratios", schema=[Field("ratio", Float64)], sources=[SPENDING[["spent"]], BASKET], mode="python",
    udf=lambda row: {"ratio": row["total"] / row["spent"]},
)  # fmt: skip
MODEL = FeatureService("model", [PROFILE[["plan"]], RATIOS])
PROJECT = project_of([MODEL, SPENDING])
SAVED = {
    "march": TrainingSet(name="march", table="t", projections=[
        SavedProjection(view="spending", features=["n", "removed"]), SavedProjection(view="profile"), SavedProjection(view="ratios"), SavedProjection(view="no_more")]),
}  # fmt: skip


@pytest.fixture(scope="module")
def graph() -> LineageGraph:
    return LineageGraph(PROJECT, SAVED)


def ids(nodes: object) -> list[str]:
    return sorted(each.id for each in nodes)  # type: ignore[attr-defined]


class TestGraph:
    def test_a_feature_is_made_of_the_columns_of_its_value_and_condition(self, graph: LineageGraph) -> None:
        spent = LineageNode("feature", "spending:spent")

        assert {node.id: reasons for node, reasons in graph.upstream(spent).items()} == {
            "view/spending": ("feature of",), "column/orders:amount": ("value of",), "column/orders:shop": ("condition of",),
            "column/past:amount": ("value of",), "column/past:shop": ("condition of",),
        }  # fmt: skip
        assert ids(graph.downstream(spent)) == ["on-demand-view/ratios"]

    def test_what_matters_to_all_features_leads_to_the_view(self, graph: LineageGraph) -> None:
        assert {node.id: reasons for node, reasons in graph.upstream(LineageNode("view", "spending")).items()} == {
            "source/orders": ("rows of",), "entity/user": ("entity of",), "column/orders:user_id": ("join key of",),
            "column/orders:at": ("time of",), "column/orders:shop": ("deletion in",), "column/past:uid": ("join key of",),
            "column/past:happened": ("time of",), "column/past:shop": ("deletion in",),
        }  # fmt: skip

    def test_of_rows_without_an_arrival_all_columns_of_the_view_decide(self, graph: LineageGraph) -> None:
        assert graph.upstream(LineageNode("feature", "profile:plan"))[LineageNode("column", "crm:seats")] == (
            "order of rows of",
        )
        assert columns_of_view(PROFILE)["plan"].all == ("plan", "user_id", "at", "seats")

    def test_a_sum_does_not_depend_on_the_order_of_rows(self) -> None:
        both = [Aggregation("a", "sum", name="s"), Aggregation("b", "last", name="l", where="c = 1")]
        found = columns_of_view(FeatureView("v", entities=[USER], source=CRM, aggregations=both))

        assert found["s"].order == ()
        assert found["l"].order == ("a", "b", "c")

    def test_the_history_of_a_log_has_its_own_columns(self) -> None:
        found = history_columns_of_view(SPENDING)["spent"]

        assert (found.source, found.value, found.keys, found.times) == ("past", ("amount",), ("uid",), ("happened",))
        assert history_columns_of_view(PROFILE) == {}

    def test_impact_is_everything_that_may_change(self, graph: LineageGraph) -> None:
        found = graph.impact(LineageNode("column", "orders:amount"))

        assert {kind: [node.name for node in nodes] for kind, nodes in found.items()} == {
            "feature": ["spending:spent", "ratios:ratio"], "on-demand-view": ["ratios"], "service": ["model"], "training-set": ["march"],
        }  # fmt: skip
        assert graph.impact(LineageNode("column", "orders:unread")) == {}
        assert ids(graph.impact(LineageNode("column", "orders:at"))["training-set"]) == ["training-set/march"]

    def test_origins_are_everything_that_a_thing_is_made_of(self, graph: LineageGraph) -> None:
        found = graph.origins(LineageNode("service", "model"))

        assert ids(found["source"]) == ["source/crm", "source/orders", "source/past"]
        assert ids(found["request-source"]) == ["request-source/basket"]
        assert "column/orders:unread" not in ids(found["column"])

    def test_a_training_set_is_made_of_the_features_that_are_still_there(self, graph: LineageGraph) -> None:
        assert ids(graph.upstream(LineageNode("training-set", "march"))) == [
            "feature/profile:plan", "feature/profile:seats", "feature/ratios:ratio", "feature/spending:n",
        ]  # fmt: skip

    def test_of_a_transform_each_column_counts_unless_the_engine_has_read_it(self) -> None:
        fields = [Field("user_id", Int64), Field("spent", Float64), Field("at", Timestamp)]
        source = LogSource(
            "log", schema=fields, timestamp_field="at", transform="SELECT … FROM message WHERE …",
            message_schema=[Field("uid", Int64), Field("cents", Int64), Field("at", Timestamp), Field("ok", Int64)],
        )  # fmt: skip
        view = FeatureView("v", entities=[USER], source=source, aggregations=[Aggregation("spent", "sum", name="s")])
        select = RowSelect(
            {"user_id": "uid", "spent": "cents", "at": "at"},
            "ok",
            {"user_id": ["uid"], "spent": ["cents"], "at": ["at"]},
            ["ok"],
        )
        made_of = {
            name: [node.name for node in LineageGraph(project_of([view]), None, selects).upstream(LineageNode("feature", "v:s")) if node.kind == "column"]
            for name, selects in {"read": {"log": select}, "unread": {}}.items()
        }  # fmt: skip

        assert made_of == {"read": ["log:cents", "log:ok"], "unread": ["log:uid", "log:cents", "log:at", "log:ok"]}

    def test_nodes_are_found_by_name(self, graph: LineageGraph) -> None:
        assert ids(graph.named("spending:spent")) == ["feature/spending:spent"]
        assert graph.named("nothing") == []
        assert graph.node("view", "spending") == LineageNode("view", "spending")
        assert graph.node("view", "nothing") is None


class TestNeighbourhood:
    def test_it_is_one_step_each_way(self, graph: LineageGraph) -> None:
        found = graph.neighbourhood(LineageNode("feature", "profile:plan"))

        assert ids(found.items) == [
            "column/crm:plan", "column/crm:seats", "feature/profile:plan", "service/model", "training-set/march", "view/profile",
        ]  # fmt: skip
        assert found.items[0] == found.focus
        assert found.is_complete
        assert {(edge.before, edge.after) for edge in found.edges} == {
            ("column/crm:plan", "feature/profile:plan"), ("column/crm:seats", "feature/profile:plan"),
            ("view/profile", "feature/profile:plan"), ("feature/profile:plan", "service/model"),
            ("feature/profile:plan", "training-set/march"),
        }  # fmt: skip

    def test_no_steps_are_the_node_alone(self, graph: LineageGraph) -> None:
        assert graph.neighbourhood(LineageNode("view", "spending"), upstream=0, downstream=0).items == (
            LineageNode("view", "spending"),
        )

    def test_too_many_features_of_a_view_are_counted(self) -> None:
        many = FeatureView("v", entities=[USER], source=CRM, schema=[Field(f"f{i}", Int64) for i in range(100)])
        graph = LineageGraph(project_of([many]))
        focus = LineageNode("view", "v")

        found = graph.neighbourhood(focus, limit=20)
        [group] = [each for each in found.items if isinstance(each, LineageGroup)]

        assert len(found.items) == 20
        assert (group.id, group.label, group.title) == ("down1-feature-v", "and 86 features", "and 86 features of v")
        assert next(edge.count for edge in found.edges if edge.after == group.id) == 86

    def test_an_expanded_group_goes_first(self) -> None:
        views = [
            FeatureView(f"v{i}", entities=[USER], source=CRM, schema=[Field(f"f{j}", Int64) for j in range(30)])
            for i in range(4)
        ]
        graph = LineageGraph(project_of([FeatureService("s", views)]))
        shown = [
            sum(isinstance(each, LineageNode) and each.parent == "v2" for each in found.items)
            for found in (
                graph.neighbourhood(LineageNode("service", "s")),
                graph.neighbourhood(LineageNode("service", "s"), expanded=["up1-feature-v2"]),
            )
        ]

        assert shown == [14, 30]

    def test_where_even_the_groups_are_too_many_those_of_a_kind_are_one(self) -> None:
        views = [
            FeatureView(f"v{i}", entities=[USER], source=CRM, schema=[Field(f"f{j}", Int64) for j in range(3)])
            for i in range(80)
        ]
        graph = LineageGraph(project_of([FeatureService("s", views)]))

        found = graph.neighbourhood(LineageNode("service", "s"))
        [group] = [each for each in found.items if isinstance(each, LineageGroup)]

        assert len(found.items) == 60
        assert (group.parent, group.label) == ("", "and 182 features")

    def test_lists_have_each_branch_once(self, graph: LineageGraph) -> None:
        found = branches_of(graph.neighbourhood(LineageNode("feature", "ratios:ratio"), upstream=3))

        assert tree_lines(found.upstream) == [
            "└─ on-demand view ratios  (feature)",
            "   ├─ request source basket  (request values)",
            "   └─ feature spending:spent  (input)",
            "      ├─ view spending  (feature)",
            "      │  ├─ column orders:shop  (deletion)",
            "      │  └─ column past:shop  (deletion)",
            "      ├─ column orders:amount  (value)",
            "      ├─ column orders:shop  (condition)",
            "      ├─ column past:amount  (value)",
            "      └─ column past:shop  (condition)",
        ]  # fmt: skip
        assert tree_lines(found.downstream) == ["├─ service model  (served)", "└─ training set march  (saved)"]


KINDS = ("source", "column", "view", "feature", "service")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[LineageNode, dict[LineageNode, tuple[str, ...]]], ...]:
    """Layers of nodes, and edges from a layer to any later one."""
    nodes = [
        LineageNode(kind, f"p{number % parents}:{number}" if kind in ("column", "feature") else str(number))
        for kind in KINDS
        for parents in [draw(st.integers(1, 40))]
        for number in range(draw(st.integers(1, 60)))
    ]  # fmt: skip
    before: dict[LineageNode, dict[LineageNode, tuple[str, ...]]] = {node: {} for node in nodes}
    after: dict[LineageNode, dict[LineageNode, tuple[str, ...]]] = {node: {} for node in nodes}
    pick = draw(st.randoms(use_true_random=False))
    for _ in range(draw(st.integers(0, 400))):
        one, other = sorted((pick.choice(nodes), pick.choice(nodes)), key=lambda node: KINDS.index(node.kind))
        if one.kind != other.kind:
            after[one][other] = before[other][one] = ("of",)
    return before, after


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 5), st.integers(0, 5), st.integers(30, 80), st.data())
def test_all_that_is_near_is_shown_or_counted_within_the_limit(
    edges: tuple[dict[LineageNode, dict[LineageNode, tuple[str, ...]]], ...],
    up: int,
    down: int,
    limit: int,
    data: st.DataObject,
) -> None:
    before, after = edges
    focus = data.draw(st.sampled_from(list(before)))

    def near(side: dict[LineageNode, dict[LineageNode, tuple[str, ...]]], steps: int) -> set[LineageNode]:
        found = {focus}
        for _ in range(steps):
            found |= {each for node in found for each in side[node]}
        return found

    found = neighbourhood_of(before, after, focus, upstream=up, downstream=down, limit=limit)
    again = neighbourhood_of(
        before, after, focus, upstream=up, downstream=down, limit=limit,
        expanded=[each.id for each in found.items if isinstance(each, LineageGroup)][:1],
    )  # fmt: skip

    for each in (found, again):
        check(each, near(before, up) | near(after, down), after, limit)


def check(
    found: Neighbourhood,
    near: set[LineageNode],
    after: dict[LineageNode, dict[LineageNode, tuple[str, ...]]],
    limit: int,
) -> None:
    members = {
        node: item.id for item in found.items for node in (item.members if isinstance(item, LineageGroup) else [item])
    }  # fmt: skip
    assert len(found.items) <= limit
    assert set(members) == near
    assert sum(len(item.members) if isinstance(item, LineageGroup) else 1 for item in found.items) == len(near)
    expected = {(members[a], members[b]) for a in near for b in after[a] if b in near and members[a] != members[b]}
    assert {(edge.before, edge.after) for edge in found.edges} == expected
    if len(near) <= limit:
        # Nothing is hidden where all of it has room.
        assert found.is_complete
