"""Tests touch no private names of the code that they test: what they need is reached as users and products reach it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.architecture.tree import ROOT, nodes, parsed

TESTS = ROOT / "tests"

OTHERS = {
    "_asdict",
    "_assign_work_unit",
    "_exit",
    "_fields",
    "_get_provider",
    "_make",
    "_replace",
    "_repr_html_",
    "_TRANSPORT",
    "_UNKNOWN_TOPIC",
}
"""Names with an underscore that Python and other packages offer, or ask for."""

ALLOWED: dict[str, tuple[tuple[str, ...], str]] = {
    "integration/test_log_kafka_faults.py": (
        ("_consumer", "_topics"),
        "cuts one consumer off from a broker that others use",
    ),
    "integration/test_online_redis.py": (
        ("_commands", "_connections", "_names", "_rows", "_servers", "_socket", "_tables", "_take_answer"),
        "stops a drop halfway, loses an answer, and writes what one master of a cluster alone tells",
    ),
    "integration/test_online_redis_async.py": (("_transport", "_wire"), "breaks the one connection of a reader"),
    "integration/test_online_redis_faults.py": (("_connections", "_servers"), "takes all connections of the pool"),
    "integration/test_push_kafka.py": (
        ("_consumer", "_give_up", "_owned", "_producer", "_stop", "_thread"),
        "ends one membership in a way that its process does not notice",
    ),
    "unit/test_security.py": (("_asking",), "waits for what the guard asks beside a request"),
}
"""Module of tests → private names of ours that it touches, and why. It must only get shorter."""

LOOKS_PRIVATE = re.compile(
    r"\._[a-zA-Z]|[\"']_[a-zA-Z]\w*[\"']|\bimport\b[^\n]*\b_[a-zA-Z]|^\s+_[a-zA-Z]\w*,", re.MULTILINE
)
"""What a text has in it that touches a private name; all others need not be parsed."""

NOT_RUN = ("tests/stores/",)
"""Scripts that say how stores of older versions were made; they ran with that version's code."""


def is_private(name: str) -> bool:
    return name.startswith("_") and name.isidentifier() and not name.startswith("__") and name not in OTHERS


def private_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every private name that is read off something else than `self` or `cls`, imported from ours, or set by its text."""
    for node in nodes(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asof":
            yield from ((alias.name, node.lineno) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Call):
            called = node.func
            name = (
                called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
            )
            if name in ("setattr", "delattr", "getattr", "hasattr", "patch", "object"):
                texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
                last = [text.rpartition(".")[2] for text in texts if isinstance(text, str)]
                yield from ((each, node.lineno) for each in last if is_private(each))


def modules_of_tests() -> Iterator[Path]:
    for path in sorted(TESTS.rglob("*.py")):
        if not str(path.relative_to(ROOT)).startswith(NOT_RUN):
            yield path


def test_tests_touch_no_private_names_but_what_is_listed() -> None:
    offences = []
    for path in modules_of_tests():
        name = str(path.relative_to(TESTS))
        looks_private = LOOKS_PRIVATE.search(path.read_text(encoding="utf-8"))
        found = dict(reversed(list(private_names(parsed(path))))) if looks_private else {}
        allowed, reason = ALLOWED.get(name, ((), ""))
        offences += [
            f"{path.relative_to(ROOT)}:{line}: {private}; reach it by a parameter, a protocol's verb or a fake of one"
            for private, line in found.items()
            if private not in allowed
        ]
        offences += [
            f"ALLOWED[{name!r}] has {private!r}, which is touched no more: drop it"
            for private in allowed
            if private not in found or not reason
        ]
    names = {str(path.relative_to(TESTS)) for path in modules_of_tests()}
    offences += [f"ALLOWED[{name!r}]: there is no such module" for name in ALLOWED.keys() - names]

    assert not offences, "\n".join(offences)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("store._file", ["_file"]),
        ("store._file.take()", ["_file"]),
        ("made.service._reading._tracing", ["_tracing", "_reading"]),
        ("from asof.store import _who", ["_who"]),
        ("monkeypatch.setattr(store, '_file', None)", ["_file"]),
        ("monkeypatch.setattr('asof.store._who', None)", ["_who"]),
        ("patch.object(store, '_file')", ["_file"]),
        ("getattr(store, '_file')", ["_file"]),
        ("self._file, cls._file, store.__class__, pair._replace(x=1)", []),
        ("from tests.embedded_stores import _made", []),
        ("x = '_events_id'; columns['_events_id']", []),
        ("monkeypatch.setattr(builtins, '__import__', None)", []),
    ],
)
def test_the_scan_sees_private_names(code: str, found: list[str]) -> None:
    assert [name for name, _ in private_names(ast.parse(code))] == found
    assert LOOKS_PRIVATE.search(code) or not found
