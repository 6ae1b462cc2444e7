"""`asof lineage`: the tree, its other forms, and names that do not say what is meant."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from asof import Entity, FeatureView, Field, FileSource
from asof.definitions import project_of
from asof.lineage import LineageGraph
from asof.types import Int64
from tests.cli_shell import FakeStore, Shell
from tests.unit.test_lineage_graph import PROJECT, SAVED


@pytest.fixture
def asof() -> Shell:
    store = FakeStore()
    store.answers["lineage"] = lambda: LineageGraph(PROJECT, SAVED)
    return Shell(store)


def test_it_shows_what_a_feature_is_made_of_and_what_uses_it(asof: Shell) -> None:
    result = asof("lineage", "profile:plan")

    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "feature profile:plan", "", "Made of:", "  ├─ view profile  (feature)", "  ├─ column crm:plan  (value, order of rows)",
        "  └─ column crm:seats  (order of rows)", "", "Used by:", "  ├─ service model  (served)", "  └─ training set march  (saved)",
    ]  # fmt: skip


def test_steps_are_chosen_each_way(asof: Shell) -> None:
    lines = asof("lineage", "crm:seats", "--upstream", "0", "--downstream", "2").stdout.splitlines()

    assert lines[2:4] == ["Made of:", "  nothing that is shown"]
    assert "  │  └─ training set march  (saved)" in lines


def test_impact_is_a_list_by_kind(asof: Shell) -> None:
    assert asof("lineage", "basket", "--impact").stdout.splitlines() == [
        "What may change with request source basket:", "  feature         ratios:ratio", "  on_demand_view  ratios", "  service         model", "  training_set    march",
    ]  # fmt: skip
    assert asof("lineage", "march", "--impact").stdout == "Nothing depends on training set march.\n"
    assert json.loads(asof("lineage", "basket", "--impact", "--format", "json").stdout) == {
        "name": "basket", "kind": "request-source",
        "impact": {"feature": ["ratios:ratio"], "on-demand-view": ["ratios"], "service": ["model"], "training-set": ["march"]},
    }  # fmt: skip


def test_json_is_the_tree_for_programs(asof: Shell) -> None:
    expected = {
        "name": "ratios", "kind": "on-demand-view", "items": 4, "is_complete": True,
        "upstream": [
            {"kind": "request-source", "is": ["request values of"], "name": "basket"},
            {"kind": "feature", "is": ["input of"], "name": "spending:spent"},
        ],
        "downstream": [{"kind": "feature", "is": ["feature of"], "name": "ratios:ratio"}],
    }  # fmt: skip

    assert json.loads(asof("lineage", "ratios", "--format", "json").stdout) == expected
    assert json.loads(asof("--output", "json", "lineage", "ratios").stdout) == expected


def test_what_is_counted_is_counted_in_each_form(asof: Shell) -> None:
    view = FeatureView(
        "wide",
        entities=[Entity("user")],
        source=FileSource("w.parquet", timestamp_field="at"),
        schema=[Field(f"f{i}", Int64) for i in range(90)],
    )
    asof.store.answers["lineage"] = lambda: LineageGraph(project_of([view]))

    assert "and 66 features of wide" in asof("lineage", "wide", "--limit", "30").stdout
    found = json.loads(asof("lineage", "wide", "--limit", "30", "--format", "json").stdout)
    assert found["is_complete"] is False
    assert len(found["downstream"][-1]["members"]) == 66


def test_it_is_mermaid_and_svg_too(asof: Shell) -> None:
    assert asof("lineage", "model", "--format", "mermaid").stdout.startswith("flowchart LR\n")
    root = ElementTree.fromstring(asof("lineage", "model", "--format", "svg").stdout)
    assert root.find("{http://www.w3.org/2000/svg}style") is not None, "a file of its own has its colours with it"
    assert json.loads(asof("--output", "json", "lineage", "model", "--format", "svg").stdout)["svg"].startswith("<svg")


def test_an_unknown_name_is_an_error_with_a_near_one(asof: Shell) -> None:
    result = asof("lineage", "spendin")

    assert result.exit_code == 4
    assert "nothing with the name 'spendin' is applied" in result.stderr
    assert "'spending'" in result.stderr


def test_a_name_of_several_things_asks_for_the_kind(asof: Shell) -> None:
    view = FeatureView(
        "user",
        entities=[Entity("user")],
        source=FileSource("w.parquet", timestamp_field="at"),
        schema=[Field("a", Int64)],
    )
    asof.store.answers["lineage"] = lambda: LineageGraph(project_of([view]))

    result = asof("lineage", "user")

    assert result.exit_code == 4
    assert "the name of several things: entity, view" in result.stderr
    assert asof("lineage", "user", "--kind", "view").stdout.startswith("view user\n")
    assert "no service 'user' is applied" in asof("lineage", "user", "--kind", "service").stderr
