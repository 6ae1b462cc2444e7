"""Counts of things are written by `asof.display.counted`: thousands apart, and `1 row`, not `1 rows`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from asof.display import counted
from tests.unit.architecture.tree import describe, modules, nodes, parsed

# Bytes are left out: they stand next to a limit, to be compared digit by digit.
NOUNS = re.compile(
    r" (rows|keys|messages|events|files|columns|partitions|commits|features|views|workers|errors|warnings|connections"
    r"|definitions|jobs|changes|attempts|tables|replicas|masters|entities|sources|services|generations|records|letters|requests|archives"
    r"|topics|runs|versions|values|segments|servers|processes|objects|sessions|projects|executors|members|notes)\b"
)

ALLOWED = {
    # At least the number of messages after which the limit is looked at.
    "len(self._dead)",
    # A pool's size, next to its setting; the width of a malformed response.
    "self._size[1]", "self.settings.max_connections", "len(self._rows)",
    # Formats and other texts, not counts.
    "source.file_format", "other", "sessions",
    # A chart's label.
    "bar['count']", "bar['label']",
    # More than one by what was asked for: a list of at least two, every value of a report, a setting of thousands.
    "made.n", "found['values']", "self.max_empty_values", "declared.size",
}  # fmt: skip


def uncounted(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each formatted value before a noun in the plural, and its line."""
    for node in nodes(tree):
        if isinstance(node, ast.JoinedStr):
            for value, text in zip(node.values, node.values[1:], strict=False):
                if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                    continue
                shown = ast.unparse(value.value)
                if NOUNS.match(str(text.value)) and not shown.isupper() and shown not in ALLOWED:
                    yield shown, node.lineno
        elif isinstance(node, ast.IfExp) and any(
            isinstance(each, ast.Constant) and each.value == "s" for each in (node.body, node.orelse)
        ):
            yield ast.unparse(node), node.lineno


def test_counts_have_one_spelling() -> None:
    offences = [
        f"{module}:{line}: {shown}"
        for module, path in modules().items()
        # The lowest layer has no display; `markers` names views and does not count them.
        if module not in ("asof.display", "asof.errors", "asof.flows.generations.markers")
        for shown, line in uncounted(parsed(path))
    ]

    assert not offences, describe(offences) + "; write counted(n, 'row')"


def test_the_scan_sees_a_plural_of_one() -> None:
    code = "f'{n} rows'; f'{counted(n, \"row\")}'; f\"row{'s' if n > 1 else ''}\"; f'{LIMIT} rows'"

    assert [shown for shown, _ in uncounted(ast.parse(code))] == ["n", "'s' if n > 1 else ''"]


def test_a_number_has_the_noun_that_goes_with_it() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 1234)] == ["0 rows", "1 row", "2 rows", "1,234 rows"]
    assert [counted(2, noun) for noun in ("entity", "key", "day")] == ["2 entities", "2 keys", "2 days"]
