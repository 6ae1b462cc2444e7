"""Names and texts become SQL by the one module `asof.sql.quoting`, whatever is in them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.architecture.tree import parsed

SOURCE = Path(__file__).parents[3] / "src" / "asof"
HOME = "sql/quoting.py"
WITH_SQL = (
    "aggregation", "connections", "derive", "expressions", "log", "offline", "online", "profiles", "registry", "sources",
    "sql",
)  # fmt: skip
OTHER_LANGUAGES = {
    "cli/commands/keys.py": "YAML",
    "connections/csv_files.py": "CSV",
    "connections/text_table.py": "a phrase of SQLite's text search",
}
"""Modules that double quotes of something that is not SQL."""


def offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The lines that write a name or a text into SQL by themselves."""
    hints = {
        id(part) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "hint"
        for part in ast.walk(node)
    }  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in hints:
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "replace":
            given = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if given[:2] in (['"', '""'], ["'", "''"]):
                yield node.lineno, "doubles quotes"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "sql.Identifier":
            yield node.lineno, "quotes by the driver"
        elif isinstance(node, ast.JoinedStr):
            for before, value, after in zip(node.values, node.values[1:], node.values[2:]):
                if isinstance(value, ast.FormattedValue) and _are_quotes(before, after) and not _is_harmless(value):
                    yield node.lineno, "puts a value between quotes"


def _are_quotes(before: ast.expr, after: ast.expr) -> bool:
    if not (isinstance(before, ast.Constant) and isinstance(after, ast.Constant)):
        return False
    return any(str(before.value).endswith(each) and str(after.value).startswith(each) for each in ('"', "'"))


def _is_harmless(value: ast.FormattedValue) -> bool:
    """Whether there is no quote in it: a constant, a time, hexadecimal digits, a number, or what `!r` has quoted."""
    written = ast.unparse(value.value)
    is_digits = isinstance(value.value, ast.Call) and ast.unparse(value.value.func).endswith((".isoformat", ".hex"))
    is_number = value.format_spec is not None and ast.unparse(value.format_spec) == "f'f'"
    return value.conversion != -1 or is_digits or is_number or written.partition("[")[0].isupper()


def modules() -> Iterator[str]:
    for folder in WITH_SQL:
        for path in sorted([*SOURCE.glob(f"{folder}.py"), *(SOURCE / folder).rglob("*.py")]):
            yield str(path.relative_to(SOURCE))


def test_names_and_texts_are_quoted_by_the_one_module() -> None:
    found = [
        f"{name}:{line} {what}"
        for name in modules()
        if name != HOME and name not in OTHER_LANGUAGES
        for line, what in offences(parsed(SOURCE / name))
    ]
    assert not found, "use quote() and text() of asof.sql.quoting:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        """f'SELECT "{name}" FROM t'""", '''f"SELECT '{value}'"''', """'"' + name.replace('"', '""') + '"'""",
        """value.replace("'", "''")""", "sql.SQL('DROP TABLE {}').format(sql.Identifier(name))",
    ],
)  # fmt: skip
def test_other_quoting_is_found(code: str) -> None:
    assert list(offences(ast.parse(code)))


@pytest.mark.parametrize("code", ['f"SELECT {quote(name)} FROM t"', 'f"no source {name!r}"', "name.replace('a', 'b')"])
def test_the_one_function_and_messages_are_no_other_quoting(code: str) -> None:
    assert not list(offences(ast.parse(code)))
