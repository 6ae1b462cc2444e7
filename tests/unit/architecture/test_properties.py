"""A property does no I/O: what looks like a value costs what a value costs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.unit.architecture.tree import ROOT, modules, nodes, parsed

VERBS = frozenset(
    """
    open connect execute executemany fetchone fetchall commit load load_version load_cert_chain ask send sendall recv
    read read_text read_bytes write write_text write_bytes stat exists is_file is_dir unlink mkdir iterdir glob rglob
    scandir sleep poll scan list_topics refresh_registry check_call check_output Popen urlopen create_topic bounds
    """.split()
)
"""Calls that reach a disk, a server, another process, or wait."""


def is_property(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
        ast.unparse(each).rpartition(".")[2] in ("property", "cached_property") for each in node.decorator_list
    )


def calls_in(function: ast.AST) -> Iterator[tuple[str, str]]:
    """What a function calls or reads off itself: the owner (`self`, another, or none) and the name."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield "self", node.attr
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                yield "other", node.func.attr
            elif isinstance(node.func, ast.Name):
                yield "", node.func.id


def properties_with_io(tree: ast.Module) -> Iterator[tuple[str, str, int]]:
    """`Class.property` of a module, the verb that it reaches (by way of its own module's functions too), and the line."""
    functions = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef)}
    for owner in (each for each in nodes(tree) if isinstance(each, ast.ClassDef)):
        methods = {each.name: each for each in owner.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        for node in filter(is_property, owner.body):
            seen: set[ast.AST] = set()
            waiting: list[ast.AST] = [node]
            while waiting:
                function = waiting.pop()
                if function in seen:
                    continue
                seen.add(function)
                called = set(calls_in(function))
                verbs = sorted(name for kind, name in called if name in VERBS and kind != "self")
                if verbs:
                    yield f"{owner.name}.{node.name}", verbs[0], node.lineno
                    break
                waiting += [methods[name] for kind, name in called if kind == "self" and name in methods]
                waiting += [functions[name] for kind, name in called if kind == "" and name in functions]


def test_no_property_does_io() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}: {name} calls {verb}; make it a method"
        for path in modules().values()
        for name, verb, line in properties_with_io(parsed(path))
    ]

    assert not offences, "\n".join(offences)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("    @property\n    def size(self): return self.path.stat().st_size", [("A.size", "stat")]),
        ("    @property\n    def text(self): return open(self.path)", [("A.text", "open")]),
        ("    @cached_property\n    def n(self): return self.db.execute('x')", [("A.n", "execute")]),
        ("    @functools.cached_property\n    def n(self): return self.db.execute('x')", [("A.n", "execute")]),
        ("    @property\n    def n(self): return self._n()\n    def _n(self): return self.db.ask(1)", [("A.n", "ask")]),
        ("    @property\n    def n(self): return self.m\n    @property\n    def m(self): return f()\n", [("A.n", "read"), ("A.m", "read")]),
        ("    @property\n    def n(self): return self.read", []),
        ("    @property\n    def n(self): return tuple(self.names)", []),
        ("    def n(self): return self.path.stat()", []),
    ],
)  # fmt: skip
def test_the_scan_sees_io_behind_a_property(body: str, found: list[tuple[str, str]]) -> None:
    tree = ast.parse(f"class A:\n{body}\n\ndef f(): return x.read()\n")

    assert [(name, verb) for name, verb, _ in properties_with_io(tree)] == found
