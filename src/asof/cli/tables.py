"""Tables that stay readable at any width: whole columns, wrapped prose, or one record below the other."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asof.cli.values import cell
from asof.display import cells_of

GAP = 2
NARROWEST_PROSE = 24
"""A column of prose never gets narrower than this; rather the table becomes records."""
ROOMY_PROSE = 40
"""Nor than this while there are spare columns."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        key: which value of a record it shows.
        title: its head; the key itself where not given.
        prose: its text may be wrapped at spaces.
        null: what stands for no value.
        spare: the first to be left out where the width does not suffice.
    """

    key: str
    title: str = ""
    prose: bool = False
    null: str = "-"
    spare: bool = False

    @property
    def head(self) -> str:
        return self.title or self.key.replace("_", " ")


def lines_of(records: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, width: int) -> list[str]:
    """The records as lines of at most `width` cells, unless a single name is longer than that."""
    # A spare column that says nothing about any of them is only noise.
    columns = [
        each for each in columns if not each.spare or any(record.get(each.key) is not None for record in records)
    ]
    shown = list(columns)
    left_out: list[str] = []
    while True:
        cells = [[cell(record.get(column.key), null=column.null) for column in shown] for record in records]
        # Before text gets cramped, a spare column goes.
        roomy = any(column.spare for column in shown)
        widths = _fit(shown, cells, width, prose_cells=ROOMY_PROSE if roomy else NARROWEST_PROSE)
        if widths is not None:
            lines = _table(shown, cells, widths, records)
            note = f"Not shown: {', '.join(left_out)}; --output json has all."
            return [*lines, *wrapped(note, width=width)] if left_out else lines
        spare = next((column for column in reversed(shown) if column.spare), None)
        if spare is None:
            # Left-out columns come back: below each other there is room for all.
            return _records(records, columns, width=width)
        shown.remove(spare)
        left_out.insert(0, spare.head)


def pairs(values: Mapping[str, Any], *, width: int, indent: str = "") -> list[str]:
    """Name and value, one below the other; long values wrapped at spaces, values with parts of their own indented."""
    plain = {key: value for key, value in values.items() if not _has_parts(value)}
    left = max(map(cells_of, plain), default=0)
    lines = []
    for key, value in values.items():
        if key not in plain:
            lines.append(f"{indent}{key}:")
            deeper = indent + " " * GAP
            if isinstance(value, Mapping):
                lines += pairs(value, width=width, indent=deeper)
            else:
                columns = [Column(name, name) for name in dict.fromkeys(name for each in value for name in each)]
                lines += [deeper + line for line in lines_of(value, columns, width=width - len(deeper))]
            continue
        begin = indent + padded(key, left) + " " * GAP
        room = max(width - cells_of(begin), NARROWEST_PROSE)
        # Sentences get a line each: one behind the other, with commas between, one could not see where each ends.
        texts = value if _is_prose(value) else [value]
        wrapped = [line for text in texts for line in _wrap(cell(text, null="-"), room)]
        lines.append((begin + wrapped[0]).rstrip())
        lines += [" " * cells_of(begin) + more for more in wrapped[1:]]
    return lines


def _is_prose(value: Any) -> bool:
    """Whether a value is several sentences or phrases."""
    return isinstance(value, list | tuple) and len(value) > 1 and all(" " in str(each) for each in value)


def _has_parts(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(each, Mapping) and each for each in value)
    return isinstance(value, Mapping) and bool(value)


def wrapped(line: str, *, width: int) -> list[str]:
    """A line in lines of at most `width` cells, broken at spaces; those after the first stand further in."""
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line, width, subsequent_indent=indent + " " * 2 * GAP, break_long_words=False, break_on_hyphens=False
    ) or [""]


def padded(text: str, width: int, *, right: bool = False) -> str:
    """The text filled up with spaces."""
    fill = " " * max(width - cells_of(text), 0)
    return fill + text if right else text + fill


def _fit(
    columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int, *, prose_cells: int
) -> list[int] | None:
    """The width of each column; None where the table does not fit.

    What gives first is prose, down to its longest token, so that no token is broken; then heads, at their underscores.
    """
    texts = [[row[i] for row in cells] for i in range(len(columns))]
    heads = [cells_of(column.head) for column in columns]
    parts = [max(map(cells_of, _parts_of(column.head))) for column in columns]
    longest = [max(map(cells_of, each), default=0) for each in texts]
    widest = [max((cells_of(word) for text in each for word in text.split()), default=0) for each in texts]
    prose = [
        min(longest[i], max(widest[i], prose_cells)) if column.prose else longest[i] for i, column in enumerate(columns)
    ]
    room = width - GAP * (len(columns) - 1)
    widths = [max(pair) for pair in zip(longest, heads)]
    for narrowest in ([max(pair) for pair in zip(prose, heads)], [max(pair) for pair in zip(prose, parts)]):
        excess = sum(widths) - room
        # The widest gives first.
        for i in sorted(range(len(columns)), key=lambda i: -widths[i]):
            given = max(min(widths[i] - narrowest[i], excess), 0)
            widths[i] -= given
            excess -= given
    return widths if sum(widths) <= room else None


def _parts_of(head: str) -> list[str]:
    """A head, split where it may be broken: `views_1d` → `views_`, `1d`."""
    return re.findall(r"[^_ ]*[_ ]+|[^_ ]+", head) or [head]


def _head_lines(head: str, width: int) -> list[str]:
    lines = [""]
    for part in _parts_of(head):
        if lines[-1] and cells_of(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip(" ") for line in lines]


def _table(
    columns: Sequence[Column],
    cells: Sequence[Sequence[str]],
    widths: Sequence[int],
    records: Sequence[Mapping[str, Any]],
) -> list[str]:
    right = [_is_numeric([record.get(column.key) for record in records]) for column in columns]
    heads = [_head_lines(column.head, widths[i]) for i, column in enumerate(columns)]
    deepest = max(map(len, heads))
    # Heads stand on the rule: the shorter ones begin lower.
    rows = [[[""] * (deepest - len(head)) + head for head in heads]]
    for row in cells:
        rows.append([
            _wrap(text, widths[i]) if columns[i].prose and cells_of(text) > widths[i] else [text]
            for i, text in enumerate(row)
        ])  # fmt: skip
    lines = []
    for parts in rows:
        for n in range(max(map(len, parts))):
            line = (" " * GAP).join(
                padded(part[n] if n < len(part) else "", widths[i], right=right[i]) for i, part in enumerate(parts)
            )
            lines.append(line.rstrip())
    lines.insert(deepest, (" " * GAP).join("-" * width for width in widths))
    return lines


def _records(records: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, width: int) -> list[str]:
    lines = []
    for n, record in enumerate(records, start=1):
        if len(records) > 1:
            lines.append(f"-- {n} --")
        values = {column.head: cell(record.get(column.key), null=column.null) for column in columns}
        lines += pairs(values, width=width)
    return lines


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False) or [""]


def _is_numeric(values: Sequence[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in known)
