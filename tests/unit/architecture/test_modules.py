"""Modules say what they are for, have names that say something, and are read in one sitting."""

from __future__ import annotations

import ast

from tests.unit.architecture.tree import ROOT, describe, modules, parsed

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


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
