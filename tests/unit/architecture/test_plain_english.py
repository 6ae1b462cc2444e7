"""Messages, docstrings and comments of the package are in plain English, by the word list that the pages follow, too."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.plain_english import findings
from tests.unit.architecture.tree import SOURCE, describe, modules, nodes, parsed, strings

_SQL = re.compile(r"\bSELECT\b.*\bFROM\b|\bCREATE TABLE\b", re.DOTALL)

_OWN_TERMS = {"aggregation": "words?"}
"""Package → the term of its own that the list would refuse: there a word is 64 bits of an online row."""


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


def test_the_list_finds_what_it_is_for_and_leaves_names_alone() -> None:
    assert findings("the letters that nobody mends") != []
    assert findings("`letters` of 'answers', in order, at places 1 and 2") != []
    assert findings("dead letters in sort order; `answer`, 'letters'; letters, digits and reserved words") == []
