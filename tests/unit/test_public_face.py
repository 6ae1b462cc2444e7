"""The public face: which names users meet, and that each verb of the store only hands its call on."""

from __future__ import annotations

import ast
import inspect

from asof import FeatureStore
from asof.config import StoreConfig
from tests.unit.architecture.tree import modules, parsed

NAMES = set(
    """
    apply audit backfill close compact config dead_letter dead_letters doctor explain forget get_data_source get_entity
    get_feature_service get_feature_view get_historical_features get_on_demand_feature_view get_online_features
    get_source history list_data_sources list_entities list_feature_services list_feature_views
    list_on_demand_feature_views list_sources materialize materialize_incremental now plan project push
    read_training_set rebuild rebuild_training_set refresh_registry replay_dead_letters sample served_features
    stream_run stream_status teardown training_set training_sets write_to_online_store
    """.split()
)


def test_the_store_has_no_other_public_names(tmp_path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    with FeatureStore(tmp_path) as store:
        found = {name for name in dir(store) if not name.startswith("_")}
        assert isinstance(store.config, StoreConfig) and store.project == "shop"

    assert found == NAMES


def test_each_verb_is_a_signature_a_docstring_and_one_line() -> None:
    (owner,) = [each for each in parsed(modules()["asof.store"]).body if isinstance(each, ast.ClassDef)]
    longer = []
    for verb in (each for each in owner.body if isinstance(each, ast.FunctionDef) and each.name != "__init__"):
        body = verb.body[1:] if ast.get_docstring(verb) else verb.body
        if len(body) != 1 or not isinstance(body[0], ast.Return | ast.Expr):
            longer.append(verb.name)

    assert longer == []


def test_each_parameter_and_each_answer_has_a_type() -> None:
    untyped = [
        f"{name}({parameter.name})"
        for name in NAMES - {"config", "project"}
        for parameter in list(inspect.signature(getattr(FeatureStore, name)).parameters.values())[1:]
        if parameter.annotation is inspect.Parameter.empty
    ]

    assert untyped == []
    assert not [
        name
        for name in NAMES - {"config", "project"}
        if inspect.signature(getattr(FeatureStore, name)).return_annotation is inspect.Signature.empty
    ]
