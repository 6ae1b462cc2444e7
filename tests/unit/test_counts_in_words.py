"""Counts of things are written by `asof.display.counted`: thousands apart, and `1 row`, not `1 rows`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.unit.architecture.tree import describe, modules, nodes, parsed

NOUNS = re.compile(
    r" (rows|keys|messages|events|files|columns|partitions|commits|features|views|workers|errors|warnings|connections"
    r"|definitions|jobs|changes|attempts|bytes)\b"
)

ALLOWED = {
    # A limit or constant is never 1, and its reader may want to compare it digit by digit.
    "stores.max_row_bytes", "self._most", "self._memory_bytes", "self._size[1]", "self.settings.max_connections",
    # Bytes of a record that is too long, or of a number with a wrong length: also compared with a limit.
    "size", "len(data)", "len(key)", "state.position",
    # At least the number of messages after which the limit is looked at.
    "len(self._dead)",
    # Column names, formats and other texts, not counts.
    "source.file_format", "other",
    # The width of a malformed response.
    "len(self._rows)",
    # Formatted as a table's cells.
    "bar['count']", "bar['label']", "explained.rows.num_rows",
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
    code = "f'{n} rows'; f'{counted(n, \"row\")}'; f\"row{'s' if n > 1 else ''}\"; f'{LIMIT} bytes'"

    assert [shown for shown, _ in uncounted(ast.parse(code))] == ["n", "'s' if n > 1 else ''"]
