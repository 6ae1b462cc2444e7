"""The public names of `asof`: a golden list, so that none comes or goes unnoticed."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import asof

GOLDEN = Path(__file__).with_name("exports.txt")
"""One name per line. A name that goes is a breaking change: say so in CHANGELOG.md."""


def test_the_public_names_are_the_golden_list() -> None:
    assert sorted(asof.__all__) == GOLDEN.read_text(encoding="utf-8").split()


def test_the_public_names_are_sorted_and_unique() -> None:
    assert list(asof.__all__) == sorted(set(asof.__all__))


@pytest.mark.parametrize("name", asof.__all__)
def test_a_public_name_can_be_imported_and_is_documented(name: str) -> None:
    exported = getattr(asof, name)

    if inspect.isclass(exported) or inspect.isroutine(exported):
        # A dataclass without a docstring gets its signature as one, which says nothing.
        text = inspect.getdoc(exported) or ""
        assert text and not text.startswith(f"{exported.__name__}("), f"asof.{name} has no docstring"


def test_dir_lists_every_public_name() -> None:
    assert set(asof.__all__) <= set(dir(asof))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        asof.no_such_name  # noqa: B018 - the access is what is tested


def test_import_loads_no_module_of_the_package_beyond_the_small_ones() -> None:
    source = str(Path(__file__).parents[2] / "src")
    loaded = subprocess.run(
        [sys.executable, "-c", "import asof, sys; print(*[name for name in sys.modules if name.startswith('asof.')])"],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()

    assert set(loaded) <= {"asof.distribution", "asof.errors", "asof.timing", "asof.dtypes", "asof.types"}


def test_the_types_module_exports_what_it_lists() -> None:
    types = importlib.import_module("asof.types")

    assert list(types.__all__) == sorted(types.__all__)
    assert all(hasattr(types, name) for name in types.__all__)
