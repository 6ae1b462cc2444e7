"""Modules say what they are for, have names that say something, and are read in one sitting."""

from __future__ import annotations

import ast
import re

from tests.unit.architecture.tree import ROOT, describe, modules, parsed

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

MAX_LINES = 400

REASON = re.compile(r"^Over 400 lines: \w", re.MULTILINE)
"""How a longer module says why it is one, in its docstring."""


def test_every_module_opens_with_one_line_on_what_it_is_for() -> None:
    offences = []
    for path in modules().values():
        text = ast.get_docstring(parsed(path))
        if (
            not text
            or not text.split("\n")[0].strip().endswith((".", "`", ":"))
            or text.split("\n")[1:2] not in ([], [""])
        ):
            offences.append(f"{path.relative_to(ROOT)}: {text.splitlines()[:2] if text else 'no docstring'}")

    assert not offences, describe(offences)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [name for name in modules() if VAGUE_NAMES & set(name.split(".")[-1].split("_"))] == []


def test_a_module_is_read_in_one_sitting_or_says_why_it_is_long() -> None:
    offences = []
    for path in modules().values():
        lines = path.read_text(encoding="utf-8").count("\n")
        reason = REASON.search(ast.get_docstring(parsed(path)) or "")
        if reason and lines <= MAX_LINES:
            offences.append(f"{path.relative_to(ROOT)}: it has {lines} lines, and excuses itself: drop that")
        elif lines > MAX_LINES and not reason:
            offences.append(
                f"{path.relative_to(ROOT)}: {lines} lines, allowed are {MAX_LINES}; split it, or say in its docstring "
                "`Over 400 lines: …`"
            )

    assert not offences, describe(offences)
