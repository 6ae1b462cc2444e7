"""The package's modules, each read once, and what stands in them."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src"
FAMILIES = ("registry", "sources", "offline", "online", "log")


@lru_cache
def modules() -> dict[str, Path]:
    """Every module of the package: its dotted name and file."""
    found = {}
    for path in sorted((SOURCE / "asof").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        # What the demo's template holds is a user's repository, not a part of the package.
        if "template" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@contextmanager
def uncollected() -> Iterator[None]:
    """The collector would go through all trees that there are, again and again, and find nothing to free."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache
def parsed(path: Path) -> ast.Module:
    """A file's tree, read once for all tests of a process."""
    with uncollected():
        return ast.parse(path.read_text(encoding="utf-8"))


def nodes(tree: ast.AST) -> Iterable[ast.AST]:
    """All nodes of a tree; of a whole module they are gathered once."""
    return _gathered(tree) if isinstance(tree, ast.Module) else ast.walk(tree)


@cache
def _gathered(tree: ast.Module) -> list[ast.AST]:
    with uncollected():
        return list(ast.walk(tree))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every absolute import in the tree, also inside functions: dotted name (with the imported names) and line."""
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def strings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every string that is no docstring, and its line; what an f-string fills in is `{}`."""
    apart: set[int] = set()
    for node in nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            # A string that stands alone is documentation, also behind an attribute.
            apart.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            apart.update(map(id, node.values))
            pieces = [each.value if isinstance(each, ast.Constant) else "{}" for each in node.values]
            yield "".join(map(str, pieces)), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            yield node.value, node.lineno


def describe(offences: list[str]) -> str:
    return "\n".join(offences)
