"""The public face: which names users meet, and that each verb of the store only hands its call on."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

from asof import FeatureStore
from asof.config import StoreConfig
from asof.flows.offline.result import HistoricalResult
from tests.unit.architecture.tree import modules, parsed

NAMES = set(
    """
    apply audit backfill backup check_expectations close compact config dead_letter dead_letters doctor explain forget get_data_source get_entity
    get_feature_service get_feature_view get_historical_features get_on_demand_feature_view get_online_features
    get_source history kept_expectations kept_profiles lineage list_data_sources list_entities list_feature_services list_feature_views
    list_on_demand_feature_views list_sources materialize materialize_incremental now online_keys plan profile project
    push read_training_set rebuild rebuild_training_set refresh_registry restore replay_dead_letters run_schedule runs sample schedule_status send
    served_features source_schema stream_run stream_status teardown training_set training_set_changes training_sets use
    version_changes write_to_online_store
    """.split()
)


def test_the_store_has_no_other_public_names(tmp_path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    with FeatureStore(tmp_path) as store:
        found = {name for name in dir(store) if not name.startswith("_")}
        assert isinstance(store.config, StoreConfig) and store.project == "shop"

    assert found == NAMES


def test_each_verb_is_a_signature_a_docstring_and_one_line() -> None:
    owners = [
        each
        for module in ("asof.store", "asof.applied_objects")
        for each in parsed(modules()[module]).body
        if isinstance(each, ast.ClassDef)
    ]
    longer = []
    for verb in (each for owner in owners for each in owner.body if isinstance(each, ast.FunctionDef)):
        body = verb.body[1:] if ast.get_docstring(verb) else verb.body
        if verb.name != "__init__" and (len(body) != 1 or not isinstance(body[0], ast.Return | ast.Expr)):
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


def test_no_verb_returns_dicts_of_objects() -> None:
    annotations = {
        f"{owner.__name__}.{name}": str(inspect.signature(verb).return_annotation)
        for owner in (FeatureStore, HistoricalResult)
        for name, verb in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_")
    }

    assert annotations["FeatureStore.materialize"] == "Records[MaterializeResult]"
    assert [name for name, returned in annotations.items() if "object" in returned] == []


WITHOUT_EXTRAS = """
import sys
for name in (
    "adbc_driver_postgresql", "confluent_kafka", "fastavro", "google", "hiredis", "httpx", "jinja2", "jwt", "matplotlib",
    "opentelemetry", "orjson", "pandas", "polars", "prometheus_client", "psycopg", "redis", "sqlglot", "starlette",
    "uvicorn",
):
    sys.modules[name] = None
"""
"""Every import of what only an extra installs fails."""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS + code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["Client", "AsyncClient"])
def test_a_name_that_needs_an_extra_says_so_when_it_is_used(name: str) -> None:
    code = (
        f"from asof import *\nfrom asof import AsofError\ntry:\n    {name}('http://x')\nexcept AsofError as e: print(e)"
    )

    assert "the client of a feature server needs packages that are not installed" in run(code)


def test_help_and_star_import_work_without_extras() -> None:
    names = run("import asof\nfrom asof import *\nprint(sorted(n for n in asof.__all__ if n not in globals()))")
    helped = run("import asof\nhelp(asof)")

    assert names == "[]\n"
    assert "class FeatureStore" in helped and "class Client" in helped


def test_dir_lists_every_name_before_it_is_loaded_and_importing_loads_no_arrow() -> None:
    code = (
        "import asof\nmissing = set(asof.__all__) - set(dir(asof))\n"
        "print(missing, [n for n in ('pyarrow', 'numpy', 'duckdb', 'msgspec') if n in sys.modules])"
    )

    assert run(code) == "set() []\n"
