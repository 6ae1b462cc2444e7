"""Classes are named by nouns, and a class name means one thing."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from tests.unit.architecture.tree import ROOT, describe, modules, nodes, parsed

TWICE: dict[str, str] = {}
"""Names that two classes may share, and why: none today. A product's class carries the product's name."""

PRONOUNS = {
    "Ahead", "Answer", "Answers", "Ask", "Chosen", "Found", "Gone", "Kept", "Known", "Left", "Letter", "Letters", "Made",
    "Need", "Needs", "Order", "Orders", "Part", "Parts", "Place", "Places", "Question", "Short", "Taken", "Told", "Word",
    "Words", "Written",
}  # fmt: skip
"""Names that say nothing of their own, or that have a term in the glossary."""

PARTICIPLE = re.compile(r"[A-Z][a-z]+(ed|ing)")
"""A name of one word that says what happened to a thing, but not which thing."""

NOUNS = {"Finding", "Interrupted", "Overloaded", "Sliding", "Tracing", "Unchanged"}
"""Nouns of the field, and what users write, catch or implement: a window, two errors, a condition."""


GENERAL = set(
    """
    bounded dumper evaluator histogram int metrics needed replaced shop
    access aggregate array async auth body call certificate check client codec command config create database db
    defaults demo error extreme failed finder format hash http kind lazy local member metadata new no object objects
    option options out query range reply report response schema script section select servers short spec stage story
    endpoint index page search site sum taken timeout tls type typed unknown unreachable writer
    avro bytea delta duck json kafka postgres sqlite
    """.split()
)
"""Words of class names that are programming's, not the feature store's; and products."""


def _classes() -> dict[str, list[str]]:
    """Class name (without a leading underscore) → where it is defined."""
    found = defaultdict(list)
    for path in modules().values():
        for node in nodes(parsed(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name.lstrip("_")].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_a_class_name_means_one_thing() -> None:
    classes = _classes()

    offences = [
        f"{name}: {positions}" for name, positions in classes.items() if len(positions) > 1 and name not in TWICE
    ]
    assert not offences, describe(offences)
    assert [name for name in TWICE if len(classes[name]) < 2] == []


def test_classes_are_named_by_nouns() -> None:
    offences = [
        f"{name}: {positions}"
        for name, positions in _classes().items()
        if name in PRONOUNS or (PARTICIPLE.fullmatch(name) and name not in NOUNS)
    ]

    assert not offences, describe(offences)


def test_the_terms_in_class_names_are_in_the_glossary() -> None:
    glossary = (ROOT / "docs/concepts/glossary.md").read_text().lower()
    used = defaultdict(set)
    for name in _classes():
        for word in re.findall(r"[A-Z][a-z]+|[A-Z]+(?=[A-Z][a-z]|$)", name):
            used[word.lower()].add(name)

    offences = [
        f"{word}: {sorted(names)[:4]}"
        for word, names in used.items()
        if len(names) > 1 and word not in GENERAL and not re.search(rf"\b{word.removesuffix('s')}s?\b", glossary)
    ]
    assert not offences, describe(offences)
