"""The registry's facts are read by their types, never by the names of topics."""

from __future__ import annotations

import ast

import pytest

from tests.unit.architecture.tree import modules, nodes, parsed


def facts_by_text(tree: ast.AST) -> set[int]:
    """The lines that read a registry's facts by the name of a topic: `facts["gaps"]`, `x.facts.get("gaps")`."""

    def is_facts(node: ast.expr) -> bool:
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        return name == "facts"

    def is_text(node: ast.expr | None) -> bool:
        return isinstance(node, ast.Constant) and isinstance(node.value, str)

    found = set()
    for node in nodes(tree):
        if isinstance(node, ast.Subscript):
            by_text = is_facts(node.value) and is_text(node.slice)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            looks_up = node.func.attr in ("get", "pop", "setdefault")
            by_text = looks_up and is_facts(node.func.value) and any(map(is_text, node.args))
        elif isinstance(node, ast.Compare):
            by_text = is_text(node.left) and any(map(is_facts, node.comparators))
        elif isinstance(node, ast.Dict):  # `{**facts, "gaps": …}`
            merged = any(key is None and is_facts(value) for key, value in zip(node.keys, node.values, strict=True))
            by_text = merged and any(map(is_text, node.keys))
        else:
            continue
        if by_text:
            found.add(node.lineno)
    return found


def test_facts_are_read_by_their_types_and_never_by_the_names_of_topics() -> None:
    found = {module: sorted(lines) for module, path in modules().items() if (lines := facts_by_text(parsed(path)))}

    assert found == {}, "give `asof.definitions.facts` a method for it"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ('facts["gaps"]', {1}),
        ('snapshot.facts.get("gaps", {})', {1}),
        ('known = None\nregistry.load(project).facts["gaps"]["visits"]', {2}),
        ('"gaps" in snapshot.facts', {1}),
        ('"gaps" not in facts', {1}),
        ('{**facts, "gaps": []}', {1}),
        ('facts.gaps.get("visits")', set()),
        ('facts.gaps["visits"]', set()),
        ("source in facts.topics", set()),
        ("for topic in facts.items(): pass", set()),
    ],
)
def test_the_scan_sees_facts_that_are_read_by_text(code: str, lines: set[int]) -> None:
    assert facts_by_text(ast.parse(code)) == lines
