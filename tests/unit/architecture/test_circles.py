"""Modules import one another in no circle, imports inside of functions and those that only types need included."""

from __future__ import annotations

import ast
from collections.abc import Mapping

import pytest

from tests.unit.architecture.tree import ROOT, describe, modules, nodes, parsed, strings

PACKAGE = dict.fromkeys(["a", "a.x", "a.y", "a.p", "a.p.deep", "a.p.other"])
"""A package as the scan of imports is shown it."""


def imported_modules(module: str, tree: ast.AST, *, known: Mapping[str, object], is_package: bool) -> dict[str, int]:
    """The modules of ours that a module imports, wherever in it the import stands; each with its first line.

    A module inside of another package brings that package's `__init__` with it. One's own packages are there already;
    they count where they are imported by name. Where `import_module` is called, any string that names a module is taken
    for an import of it, and an f-string that it is given for imports of all that begin like it.
    """
    own = [*module.split("."), ""] if is_package else module.split(".")
    found: dict[str, int] = {}

    def add(name: str, line: int) -> None:
        parts = name.split(".")
        for size in range(1, len(parts) + 1):
            above = ".".join(parts[:size])
            if above in known and (size == len(parts) or parts[:size] != own[:size]):
                found.setdefault(above, line)

    every = nodes(tree)
    for node in every:
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = [*own[: len(own) - node.level]] if node.level else []
            home = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                add(f"{home}.{alias.name}" if f"{home}.{alias.name}" in known else home, node.lineno)
    calls = [node for node in every if isinstance(node, ast.Call) and _name_of(node.func) == "import_module"]
    for call in calls:
        if call.args and isinstance(call.args[0], ast.JoinedStr):
            prefix = next(strings(call.args[0]))[0].partition("{}")[0]
            for name in known:
                if prefix and name.startswith(prefix):
                    add(name, call.lineno)
    for text, line in strings(tree) if calls else ():
        if text in known and "." in text:
            add(text, line)
    return found


def _name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def circles(graph: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """The groups of modules that import one another, directly or by way of others (Tarjan's components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        waiting.append(module)
        for other in graph[module]:
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in waiting:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            at = waiting.index(module)
            group, waiting[at:] = waiting[at:], []
            if len(group) > 1 or module in graph[module]:
                found.append(sorted(group))

    for module in graph:
        if module not in order:
            visit(module)
    return sorted(found)


def test_modules_import_one_another_in_no_circle() -> None:
    graph = {
        module: imported_modules(module, parsed(path), known=modules(), is_package=path.name == "__init__.py")
        for module, path in modules().items()
    }
    offences = []
    for group in circles(graph):
        offences.append(f"a circle of {', '.join(group)}:")
        offences += [
            f"    {modules()[module].relative_to(ROOT)}:{line}: {other}"
            for module in group
            for other, line in graph[module].items()
            if other in group
        ]

    assert not offences, describe(offences)


@pytest.mark.parametrize(
    ("module", "code", "found"),
    [
        ("a.x", "from a.y import z", {"a.y": 1}),
        ("a.x", "from a import y", {"a.y": 1}),
        ("a.x", "import a.y as other", {"a.y": 1}),
        ("a.x", "from . import y", {"a.y": 1}),
        ("a.x", "from .y import z", {"a.y": 1}),
        ("a.p", "from ..y import z", {"a.y": 1}),
        ("a.p", "from .deep import z", {"a.p.deep": 1}),
        ("a.p.deep", "from ..y import z", {"a.y": 1}),
        ("a.p.deep", "from .other import z", {"a.p.other": 1}),
        ("a.x", "def read():\n    from a.y import z", {"a.y": 2}),
        ("a.x", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.y import Z", {"a.y": 3}),
        ("a.x", "try:\n    import a.y\nexcept ImportError:\n    pass", {"a.y": 2}),
        # Another package's `__init__` runs as well; one's own counts where it is asked for a name.
        ("a.x", "from a.p.deep import z", {"a.p": 1, "a.p.deep": 1}),
        ("a.x", "from a.p import z", {"a.p": 1}),
        ("a.x", "from a import z", {"a": 1}),
        ("a.x", "import a", {"a": 1}),
        ("a.p.deep", "from a.p import z", {"a.p": 1}),
        ("a.p.deep", "from . import z", {"a.p": 1}),
        ("a.x", "from importlib import import_module\nimport_module('a.y')", {"a.y": 2}),
        ("a.x", "import importlib\nimportlib.import_module(f'a.p.{name}')", {"a.p": 2, "a.p.deep": 2, "a.p.other": 2}),
        ("a.x", "import importlib\nHOMES = {'z': 'a.y'}\nimportlib.import_module(HOMES['z'])", {"a.y": 2}),
        ("a.x", "import sys, numpy\nfrom b import y", {}),
    ],
)  # fmt: skip
def test_the_scan_sees_every_way_to_import(module: str, code: str, found: dict[str, int]) -> None:
    assert imported_modules(module, ast.parse(code), known=PACKAGE, is_package=module == "a.p") == found


def test_a_package_that_takes_from_its_modules_is_seen_when_they_take_from_it() -> None:
    graph = {name: {} for name in PACKAGE} | {
        "a.p": imported_modules("a.p", ast.parse("from .deep import z"), known=PACKAGE, is_package=True),
        "a.p.deep": imported_modules(
            "a.p.deep", ast.parse("def read():\n    from a.p import z"), known=PACKAGE, is_package=False
        ),
    }

    assert circles(graph) == [["a.p", "a.p.deep"]]


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {}, "b": {"a": 1}, "c": {"a": 1, "b": 1}}, []),
        ({"a": {"a": 1}}, [["a"]]),
        ({"a": {"b": 1}, "b": {"a": 1}}, [["a", "b"]]),
        ({"a": {"b": 1}, "b": {"c": 1}, "c": {"d": 1}, "d": {"b": 1}}, [["b", "c", "d"]]),
        (
            {"a": {"b": 1, "d": 1}, "b": {"a": 1}, "c": {"d": 1}, "d": {"c": 1, "e": 1}, "e": {}},
            [["a", "b"], ["c", "d"]],
        ),
        ({"a": {"b": 1, "c": 1}, "b": {"d": 1}, "c": {"d": 1}, "d": {"a": 1}}, [["a", "b", "c", "d"]]),
    ],
)
def test_circles_of_any_length_are_found(graph: dict[str, dict[str, int]], found: list[list[str]]) -> None:
    assert circles(graph) == found
