"""What is public says its types: `Any` stands in no signature that a user, or a product of theirs, meets."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests.unit.architecture.tree import FAMILIES, modules, nodes, parsed

HANDED_OUT = {
    "asof.online_response": ("OnlineResponse",),
    "asof.flows.admin.audit": ("AuditReport",),
    "asof.flows.admin.doctor": ("Check",),
    "asof.flows.admin.explain": ("Explanation",),
    "asof.flows.offline.result": ("HistoricalResult",),
    "asof.planning.changes": ("Plan",),
}
"""What the store's and the client's verbs return: module → classes."""


def homes() -> Iterator[tuple[str, str]]:
    """Module and name of everything public that is defined in the package; an empty name is all of the module."""
    for package in ("asof", "asof.types", "asof.client", "asof.definitions"):
        for name in exported(package):
            yield home_of(package, name)
    yield "asof", "__getattr__"
    yield "asof.store", "FeatureStore"
    for module, names in HANDED_OUT.items():
        for name in names:
            yield module, name
    for module in modules():
        if module.startswith("asof.testing.") or module in {f"asof.{family}.protocol" for family in FAMILIES}:
            yield module, ""


def tree_of(module: str) -> ast.Module:
    return parsed(modules()[module])


def exported(module: str) -> list[str]:
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            return list(names)
    raise AssertionError(f"{module} has no __all__")


@lru_cache
def imported(module: str) -> dict[str, tuple[str, str]]:
    """Local name → the module and name that it was imported from, within the package."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in nodes(tree_of(module))
        if isinstance(node, ast.ImportFrom) and node.module in modules()
        for alias in node.names
    }


def home_of(module: str, name: str) -> tuple[str, str]:
    """Where a name is defined, however often it is imported on its way."""
    while name in imported(module):
        module, name = imported(module)[name]
    return module, name


@lru_cache
def aliases(module: str) -> dict[str, ast.expr]:
    """The names that a module gives to types (or to other values: they do no harm here)."""
    found = {}
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_alias(node) and node.value:
            found[node.target.id] = node.value
    return found


def is_alias(node: ast.AnnAssign) -> bool:
    return ast.unparse(node.annotation).endswith("TypeAlias")


def says_any(module: str, type_: ast.expr | None) -> bool:
    """Whether a type is `Any`, or holds it, perhaps behind a name or in quotes."""
    for node in ast.walk(type_) if type_ is not None else ():
        if isinstance(node, ast.Attribute) and node.attr == "Any":
            return True
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not is_literal(type_, node):
            try:
                inner = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                continue  # a text that is no type, such as a constant behind a name
            if says_any(module, inner):
                return True
        if isinstance(node, ast.Name):
            if node.id == "Any":
                return True
            home, name = home_of(module, node.id)
            alias = aliases(home).get(name) if home in modules() else None
            if is_type(alias) and says_any(home, alias):
                return True
    return False


def is_literal(type_: ast.expr | None, text: ast.Constant) -> bool:
    """Whether the text is a value of `Literal[…]`, and no type in quotes."""
    return any(
        isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal") and text in ast.walk(node.slice)
        for node in (ast.walk(type_) if type_ is not None else ())
    )


def is_type(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Name | ast.Attribute | ast.Subscript | ast.BinOp | ast.Constant)


def is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def offences(module: str, body: list[ast.stmt], owner: str = "") -> Iterator[str]:
    """Where `Any` stands in the public signatures of these statements."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_public(node.name):
            given = node.args
            parameters = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            for each in parameters:
                if each is not None and says_any(module, each.annotation):
                    yield f"{module}: {owner}{node.name}({each.arg})"
            if says_any(module, node.returns):
                yield f"{module}: {owner}{node.name} returns it"
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            if any(says_any(module, base) for base in node.bases):
                yield f"{module}: {owner}{node.name} is made of it"
            yield from offences(module, node.body, f"{owner}{node.name}.")
        elif isinstance(node, ast.AnnAssign) and is_public(ast.unparse(node.target)):
            type_ = node.value if is_alias(node) else node.annotation
            if says_any(module, type_):
                yield f"{module}: {owner}{ast.unparse(node.target)}"
        elif isinstance(node, ast.Assign) and not owner and is_type(node.value) and says_any(module, node.value):
            yield f"{module}: {ast.unparse(node.targets[0])}"


def named(module: str, name: str) -> list[ast.stmt]:
    """The statements that define a name; all of the module's where none is given."""
    body = tree_of(module).body
    if not name:
        return body
    return [
        node
        for node in body
        if name
        in (
            getattr(node, "name", None),
            *(ast.unparse(target) for target in getattr(node, "targets", ())),
            ast.unparse(node.target) if isinstance(node, ast.AnnAssign) else None,
        )
    ]


def test_no_public_signature_holds_any() -> None:
    found = {offence for module, name in homes() for offence in offences(module, named(module, name))}

    assert sorted(found) == []


def unexplained(line: str) -> bool:
    """Whether a line turns the checks off without the error's code and a reason behind it."""
    return "type: ignore" in line and not re.search(r"# type: ignore\[[a-z-]+(, [a-z-]+)*\]  # (?!fmt: )\w", line)


def test_every_ignored_error_has_its_code_and_a_reason() -> None:
    found = [
        f"{module}:{number}"
        for module, path in modules().items()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if unexplained(line)
    ]

    assert found == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("x = y  # type: ignore", True),
        ("x = y  # type: ignore[assignment]", True),
        ("x = y  # type: ignore[assignment]  # fmt: skip", True),
        ("x = y  # type: ignore[assignment, misc]  # its stub is wrong", False),
        ("x = y", False),
    ],
)
def test_the_scan_tells_a_reason_from_none(line: str, found: bool) -> None:
    assert unexplained(line) == found


def test_every_public_name_is_found() -> None:
    missing = [f"{module}.{name}" for module, name in homes() if not named(module, name)]

    assert missing == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("def read(rows: Any) -> int: ...", ["m: read(rows)"]),
        ("def read(*rows: Any, **more: 'list[Any]') -> int: ...", ["m: read(rows)", "m: read(more)"]),
        ("async def read() -> dict[str, typing.Any]: ...", ["m: read returns it"]),
        ("class Row:\n    values: list[Any]\n    _own: Any", ["m: Row.values"]),
        ("class Row:\n    def __init__(self, values: Any) -> None: ...", ["m: Row.__init__(values)"]),
        ("class Row(NamedTuple, Generic[Any]): ...", ["m: Row is made of it"]),
        ("Rows: TypeAlias = Sequence[Any]", ["m: Rows"]),
        ("Rows = Sequence[Any]", ["m: Rows"]),
        ("def _read(rows: Any) -> Any: ...", []),
        ("def read(rows: Literal['Any'], *, more: object) -> int:\n    kept: Any = more", []),
    ],
)
def test_the_scan_sees_any_wherever_it_stands(text: str, found: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.unit.test_types.home_of", lambda module, name: (module, name))

    assert list(offences("m", ast.parse(text).body)) == found


def test_the_scan_looks_behind_names_and_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "far.py").write_text("Value: TypeAlias = 'list[Any]'\nColumns = dict[str, Value]\nPlain = list[int]")
    (tmp_path / "near.py").write_text(
        "from far import Columns as Table, Plain\ndef read(table: Table, plain: Plain) -> None: ..."
    )
    monkeypatch.setattr("tests.unit.test_types.modules", lambda: {path.stem: path for path in tmp_path.glob("*.py")})

    assert list(offences("near", tree_of("near").body)) == ["near: read(table)"]
