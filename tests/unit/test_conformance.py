"""Every registered product passes the shipped suites of its family, each in a module of tests/conformance of its own."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.unit.architecture.tree import ROOT, nodes, parsed

TESTS = ROOT / "tests"
CONFORMANCE = TESTS / "conformance"

SUITES = {
    "archive": "ArchiveSuite",
    "expressions": "ExpressionSuite",
    "log": "LogSuite",
    "offline": "OfflineStoreSuite",
    "online": "OnlineStoreSuite",
    "registry": "RegistrySuite",
    "sources": "SourceReaderSuite",
    "streams": "TrapsSuite",
}
"""Family of suites → the class of `asof.testing` that its modules subclass."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "registry": ("registry",),
    "sources": ("sources",),
    "offline": ("offline", "archive", "expressions", "streams"),
    "online": ("online", "streams"),
    "log": ("log", "streams"),
}
"""Family of products → the families of suites that each of its products passes."""

ELSEWHERE = {
    ("archive", "duckdb"): "archive_delta",
    # On the embedded products together: DuckDB over Delta, SQLite and files.
    ("streams", "duckdb"): "streams_embedded",
    ("streams", "sqlite"): "streams_embedded",
    ("streams", "file"): "streams_embedded",
}
"""Suite and product → the module that runs it under another name than `<suite>_<product>`."""

MISSING = {
    ("streams", "kafka"): "the suite sets the times of records by hand; workers on Kafka are in test_worker_kafka.py",
}
"""Suite and product → why no module runs it. It must only get shorter."""

ALSO = {"offline_spark_jvm"}
"""Modules that run a product's suites on another of its servers."""

THIRD = TESTS / "embedded" / "test_third_engine.py"
"""Runs suites on an engine that tests alone have, to show that one plugs in from outside."""


@cache
def registered() -> dict[str, list[str]]:
    """The products of each family, as the package's entry points name them."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    return {group.removeprefix("asof."): list(products) for group, products in groups.items()}


def bases_in(path: Path) -> dict[str, set[str]]:
    """Each class of a module, and the names of its bases."""
    # Most modules name no suite: they need not be parsed.
    tree = parsed(path) if "Suite" in path.read_text(encoding="utf-8") else ast.Module([], [])
    return {
        each.name: {base.id for base in each.bases if isinstance(base, ast.Name)}
        for each in nodes(tree)
        if isinstance(each, ast.ClassDef)
    }


def wanted() -> dict[tuple[str, str], str]:
    """What has to be there: suite and product → module."""
    return {
        (suite, product): ELSEWHERE.get((suite, product), f"{suite}_{product}")
        for family, products in registered().items()
        for product in products
        for suite in FAMILIES.get(family, ())
        if (suite, product) not in MISSING
    }


@pytest.mark.parametrize(("suite", "product"), sorted(wanted()))
def test_a_registered_product_passes_the_suites_of_its_family(suite: str, product: str) -> None:
    path = CONFORMANCE / f"test_{wanted()[suite, product]}.py"

    assert path.exists(), f"{product} is registered, and nothing subclasses {SUITES[suite]} for it: write {path.name}"
    assert any(SUITES[suite] in bases for bases in bases_in(path).values()), f"{path.name}: no {SUITES[suite]}"


def test_every_module_of_conformance_is_of_a_registered_product() -> None:
    modules = {path.stem.removeprefix("test_") for path in CONFORMANCE.glob("test_*.py")}

    assert modules == {*wanted().values(), *ALSO}


def test_every_shipped_suite_and_every_family_of_products_is_in_the_tables() -> None:
    shipped = {
        name
        for path in (ROOT / "src" / "asof" / "testing").rglob("*.py")
        for name in bases_in(path)
        if name.endswith("Suite")
    }

    assert shipped == set(SUITES.values())
    assert {family for family in registered() if f"{family}.protocol" in protocols()} == FAMILIES.keys()
    assert {suite for suites in FAMILIES.values() for suite in suites} == SUITES.keys()


def protocols() -> set[str]:
    return {f"{path.parent.name}.protocol" for path in (ROOT / "src" / "asof").glob("*/protocol.py")}


def test_shipped_suites_are_subclassed_nowhere_else() -> None:
    offences = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in TESTS.rglob("*.py")
        if path.parent != CONFORMANCE and path != THIRD
        for name, bases in bases_in(path).items()
        if bases & set(SUITES.values())
    ]

    assert not offences, f"move these to tests/conformance: {offences}"


def test_what_is_missing_is_really_missing_and_has_a_reason() -> None:
    for (suite, product), reason in MISSING.items():
        assert reason and not (CONFORMANCE / f"test_{suite}_{product}.py").exists(), (suite, product)
