"""The source text of functions and classes, and which outside names it reads: from the text alone, never bytecode."""

from __future__ import annotations

import ast
import inspect
import linecache
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FunctionType
from typing import TypeAlias

Reference: TypeAlias = tuple[str, ...]
"""A name and the attributes that are read off it: `helpers.rates.VAT` is `("helpers", "rates", "VAT")`."""

_Scope: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Import:
    """What an import statement binds a name to.

    Args:
        module: the module, without leading dots; `level` says how many there were.
        attribute: what is taken from it; empty where the name is the module itself.
    """

    module: str
    attribute: str = ""
    level: int = 0

    @property
    def path(self) -> str:
        """`numpy.sqrt`"""
        return f"{self.module}.{self.attribute}" if self.attribute else self.module


@dataclass(frozen=True)
class FunctionSource:
    """The text of a function or class.

    Args:
        reads: what it reads from outside, in the order of the text; also the names that it imports itself.
        imports: name → what an import statement inside of it binds.
        writes: the globals that it sets itself: its own state, such as a cache.
    """

    text: str
    reads: tuple[Reference, ...]
    imports: Mapping[str, Import]
    writes: frozenset[str] = frozenset()


class NoSource(Exception):
    """The source text is not to be had, as of what was typed at a prompt."""


def function_source(function: FunctionType) -> FunctionSource:
    """A function's text from its first decorator on, dedented.

    Raises:
        NoSource: there is none.
    """
    code = function.__code__
    text = module_text(code.co_filename, function.__globals__)
    index = _parsed(text)
    if index is None:
        # Not all of what the lines are in is Python: a page with an example, a notebook with magic commands.
        return _alone(function)
    found = [node for node in index.functions if _is_of(node, code)]
    if isinstance(next(iter(found), None), ast.Lambda) and len(found) > 1:
        found = _narrowed(found, code) or found
    if not found:
        raise NoSource
    # Lambdas that cannot be distinguished count together.
    texts = [_text_of(node, text) for node in found]
    return _source("\n".join(texts), found)


def class_source(cls: type, module_globals: Mapping[str, object], filename: str) -> FunctionSource:
    """A class's text from its first decorator on; of several of one name, all of them.

    Raises:
        NoSource: it was not made by a class statement.
    """
    index = _parsed(module_text(filename, module_globals))
    found = index.classes.get(cls.__qualname__, []) if index is not None else []
    if not found:
        raise NoSource
    text = module_text(filename, module_globals)
    return FunctionSource("\n".join(_text_of(node, text) for node in found), (), {})


def module_source(filename: str, module_globals: Mapping[str, object]) -> FunctionSource:
    """A whole module's text."""
    text = module_text(filename, module_globals)
    index = _parsed(text)
    if index is None:
        raise NoSource
    return FunctionSource(text, (), {})


def module_imports(filename: str, module_globals: Mapping[str, object]) -> Mapping[str, Import]:
    """Name → what the module's import statements bind it to; none where its text is not to be had."""
    try:
        index = _parsed(module_text(filename, module_globals))
    except NoSource:
        return {}
    return index.imports if index is not None else {}


def module_text(filename: str, module_globals: Mapping[str, object]) -> str:
    """The text that a module was compiled from.

    Raises:
        NoSource: it is not to be had.
    """
    # A repository's files are kept as they were compiled: one may have been edited since.
    kept = getattr(module_globals.get("__loader__"), "compiled_text", None)
    if isinstance(kept, str) and module_globals.get("__file__") == filename:
        return kept
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, dict(module_globals))
    if not lines:
        raise NoSource
    return "".join(lines)


@dataclass(frozen=True)
class _Index:
    functions: Sequence[_Scope]
    classes: Mapping[str, list[ast.ClassDef]]
    imports: Mapping[str, Import]


@lru_cache(maxsize=256)
def _parsed(text: str) -> _Index | None:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    functions = [node for node in ast.walk(tree) if isinstance(node, _Scope)]
    imports = {
        name: bound for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
        for name, bound in _bindings(node)
    }  # fmt: skip
    classes: dict[str, list[ast.ClassDef]] = {}
    for name, node in _classes(tree.body, ""):
        classes.setdefault(name, []).append(node)
    return _Index(functions, classes, imports)


def _classes(body: Iterable[ast.AST], prefix: str) -> Iterator[tuple[str, ast.ClassDef]]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield prefix + node.name, node
            yield from _classes(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _classes(node.body, f"{prefix}{node.name}.<locals>.")
        else:
            yield from _classes(ast.iter_child_nodes(node), prefix)


def _bindings(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Import]]:
    if isinstance(node, ast.ImportFrom):
        for each in node.names:
            yield each.asname or each.name, Import(node.module or "", each.name, node.level)
        return
    for each in node.names:
        if each.asname:
            yield each.asname, Import(each.name)
        else:
            top = each.name.partition(".")[0]
            yield top, Import(top)


def _first_line(node: _Scope | ast.ClassDef) -> int:
    return min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])


def _is_of(node: _Scope, code: CodeType) -> bool:
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    return node.name == code.co_name and _first_line(node) == code.co_firstlineno


def _narrowed(found: Sequence[_Scope], code: CodeType) -> list[_Scope]:
    """Of several lambdas in one line, the innermost one that contains the code's positions."""
    positions = [
        (line, column)
        for line, _, column, end in code.co_positions()
        # The first instructions stand for no text: they are said to be at the line's beginning.
        if line is not None and column is not None and (column, end) != (0, 0)
    ]
    if not positions:
        return []
    low, high = min(positions), max(positions)
    enclosing = [
        node
        for node in found
        if isinstance(node, ast.Lambda)
        and (node.body.lineno, node.body.col_offset) <= low
        and high <= (node.body.end_lineno or 0, node.body.end_col_offset or 0)
    ]
    return list(enclosing[-1:])


def _text_of(node: _Scope | ast.ClassDef, text: str) -> str:
    if isinstance(node, ast.Lambda):
        return ast.get_source_segment(text, node) or ""
    lines = text.split("\n")[_first_line(node) - 1 : node.end_lineno]
    return textwrap.dedent("\n".join(lines)).rstrip()


def _alone(function: FunctionType) -> FunctionSource:
    try:
        text = textwrap.dedent(inspect.getsource(function.__code__))
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError, ValueError) as error:
        raise NoSource from error
    name = function.__code__.co_name
    found = [node for node in ast.walk(tree) if isinstance(node, _Scope) and getattr(node, "name", "<lambda>") == name]
    if not found:
        raise NoSource
    return _source(text.rstrip(), found[:1])


def _source(text: str, nodes: Sequence[_Scope]) -> FunctionSource:
    reader = _ReadNames()
    for node in nodes:
        reader.enter(node)
    return FunctionSource(text, tuple(reader.reads), reader.imports, frozenset(reader.writes))


class _ReadNames(ast.NodeVisitor):
    """Collects what is read from outside the scopes entered. Annotations decide no value and are passed over."""

    def __init__(self) -> None:
        self.reads: dict[Reference, None] = {}
        self.imports: dict[str, Import] = {}
        self.writes: set[str] = set()
        self._scopes: list[tuple[str, frozenset[str]]] = []

    def enter(self, node: _Scope) -> None:
        """Read a function's body; its decorators and defaults were evaluated outside of it."""
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else list(node.body)
        arguments = node.args
        names = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        names |= {each.arg for each in (arguments.vararg, arguments.kwarg) if each is not None}
        before = self._scopes
        # What a class body binds is not seen by the functions in it.
        self._scopes = [each for each in before if each[0] != "class"]
        self._scopes.append(("function", frozenset(names | self._bound(body))))
        for each in body:
            self.visit(each)
        self._scopes = before

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for each in (*node.decorator_list, *node.args.defaults, *node.args.kw_defaults):
            if each is not None:
                self.visit(each)
        self.enter(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for each in (*node.args.defaults, *node.args.kw_defaults):
            if each is not None:
                self.visit(each)
        self.enter(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for each in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self.visit(each)
        self._scopes.append(("class", frozenset(self._bound(node.body))))
        for statement in node.body:
            self.visit(statement)
        self._scopes.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def generic_visit(self, node: ast.AST) -> None:
        if not isinstance(node, _COMPREHENSIONS):
            super().generic_visit(node)
            return
        bound = {each.id for part in node.generators for each in ast.walk(part.target) if isinstance(each, ast.Name)}
        self._scopes.append(("function", frozenset(bound)))
        super().generic_visit(node)
        self._scopes.pop()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            attributes.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._note(inner.id, *reversed(attributes))
        else:
            self.visit(inner)

    def visit_Name(self, node: ast.Name) -> None:
        # A name that is written is read, too, where it is declared global: `COUNT += 1`.
        self._note(node.id)

    def _note(self, name: str, *attributes: str) -> None:
        if not any(name in names for _, names in self._scopes):
            self.reads[(name, *attributes)] = None

    def _bound(self, body: Sequence[ast.AST]) -> set[str]:
        """The names that a scope's own statements bind; imports are kept apart, as what is read through them counts."""
        bound: set[str] = set()
        outside: set[str] = set()
        pending = list(body)
        while pending:
            node = pending.pop()
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    bound.add(node.name)
                    continue
                case ast.Lambda():
                    continue
                case ast.Import() | ast.ImportFrom():
                    self.imports |= dict(_bindings(node))
                case ast.Global() | ast.Nonlocal():
                    outside |= set(node.names)
                    self.writes |= set(node.names)
                case ast.Name(ctx=ast.Store() | ast.Del()):
                    bound.add(node.id)
                case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    bound.add(name)
                case ast.MatchMapping(rest=str(name)):
                    bound.add(name)
            if isinstance(node, _COMPREHENSIONS):
                # Its own names are its own; one that `:=` binds is the function's.
                walrus = [each.target for each in ast.walk(node) if isinstance(each, ast.NamedExpr)]
                bound |= {each.id for each in walrus}
                continue
            pending += ast.iter_child_nodes(node)
        return bound - outside - set(self.imports)


__all__ = [
    "Import", "NoSource", "Reference", "FunctionSource", "class_source", "function_source", "module_imports",
    "module_source", "module_text",
]  # fmt: skip
