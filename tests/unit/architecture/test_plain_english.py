"""Messages, docstrings and comments of the package are in plain English, by the word list that the pages follow, too."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.plain_english import findings
from tests.unit.architecture.tree import SOURCE, describe, modules, nodes, parsed, strings

_SQL = re.compile(r"\bSELECT\b.*\bFROM\b|\bCREATE TABLE\b", re.DOTALL)

_OWN_TERMS = {"aggregation": "words?"}
"""Package → the term of its own that the list would refuse: there a word is 64 bits of an online row."""


RIDDLES = {
    "letter": "dead_letter", "letters": "dead_letters", "told": "described, calls, heard", "asked": "requested, pending",
    "beside": "other, with, next_to", "anew": "again", "words": "keywords, texts, message", "places": "positions, indexes",
    "mend": "fix", "nobody": "no_caller",
}  # fmt: skip
"""Part of a name in code → what to write: the noun of the field for what it holds."""


def _prose(path: Path) -> Iterator[tuple[str, int]]:
    """A module's strings, docstrings and comments with their lines; a string of one token is a name, not prose."""
    tree = parsed(path)
    yield from ((text, line) for text, line in strings(tree) if len(text.split()) > 1 and not _SQL.search(text))
    for node in nodes(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value, node.lineno
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.string, token.start[0]


def _offences() -> dict[str, list[str]]:
    """What is found, by the package or module directly below `asof` (of flows and server: below these)."""
    found: dict[str, list[str]] = {}
    for path in modules().values():
        below = path.relative_to(SOURCE / "asof").parts
        deep = 2 if below[0] in ("flows", "server") else 1
        for text, line in _prose(path):
            for each in findings(text, allowed=_OWN_TERMS.get(below[0])):
                found.setdefault("/".join(below[:deep]), []).append(f"{path.relative_to(SOURCE)}:{line}: {each}")
    return found


def test_the_package_speaks_plain_english() -> None:
    offences = [each for found in _offences().values() for each in found]

    assert not offences, describe(offences)


def _names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The names that a module gives: to functions, parameters, variables, attributes, classes and imported things."""
    for node in nodes(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, 0


def _riddles(name: str, *, allowed: Sequence[str] = ()) -> list[str]:
    """What of a name is a riddle, and the noun of the field."""
    parts = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", re.sub(r"dead_?letters?", "", name, flags=re.IGNORECASE))
    return [
        f"{name}: write {RIDDLES[part]}" for part in map(str.lower, parts) if part in RIDDLES and part not in allowed
    ]


def test_names_in_code_are_no_riddles() -> None:
    offences = []
    for module, path in modules().items():
        allowed = ("words",) if module.startswith("asof.aggregation") else ()
        named = [*_names(parsed(path)), (path.stem, 1)]
        # What a suite for products calls its tests are sentences.
        offences += [
            f"{path.relative_to(SOURCE)}:{line}: {each}"
            for name, line in dict(named).items()
            if not name.startswith("test_")
            for each in _riddles(name, allowed=allowed)
        ]

    assert not offences, describe(offences)


def test_the_list_of_riddles_finds_them_in_any_spelling() -> None:
    for name in ("letters", "_asked_at", "begin_anew", "OwnWords", "PLACES", "letter_of_dead_letters"):
        assert len(_riddles(name)) == 1, name
    assert (
        _riddles("dead_letters")
        == _riddles("DEAD_LETTERS_SCHEMA")
        == _riddles("DeadLetter")
        == _riddles("passwords")
        == []
    )
    assert _riddles("own_words", allowed=("words",)) == []


def test_the_list_finds_what_it_is_for_and_leaves_names_alone() -> None:
    assert findings("the letters that nobody mends") != []
    assert findings("`letters` of 'answers', in order, at places 1 and 2") != []
    assert findings("dead letters in sort order; `answer`, 'letters'; letters, digits and reserved words") == []
