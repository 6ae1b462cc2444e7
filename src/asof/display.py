"""How results and definitions show themselves: a short table as text, and the same as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any
from unicodedata import combining, east_asian_width

from asof.timing import DAY, HOUR, MINUTE, SECOND, Micros, iso, micros

SHOWN_ROWS = 10
"""How many rows are shown; the line below the table says how many there are."""

_CELL = 60
"""Longer values are cut, so that one long text does not push the other columns out."""

_WIDTH = 120
"""Columns that do not fit into this many characters are named below the table of text."""

_GAP = "  "

_UNITS = (
    ("day", DAY), ("hour", HOUR), ("minute", MINUTE), ("second", SECOND), ("millisecond", 1000), ("microsecond", 1)
)  # fmt: skip


def cell(value: Any) -> str:
    """A value as one short line."""
    text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in _text(value))
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format(value, ".10g")
    if isinstance(value, datetime):
        # pandas' missing time is a datetime too, and not equal to itself.
        return iso(micros(value)) if value == value else "null"
    if isinstance(value, bytes):
        return value[:_CELL].decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_text(each) for each in value) + "]"
    return str(value)


def text_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, count: int | None = None
) -> str:
    """A title line, and the rows below the names of their columns.

    Args:
        count: how many rows there are; those given where None.
    """
    count = len(rows) if count is None else count
    cells = [[cell(value) for value in row] for row in rows[:SHOWN_ROWS]]
    lines, used = [title], 0
    shown: list[int] = []
    for place, name in enumerate(columns):
        width = max([len(name), *(len(row[place]) for row in cells)])
        if shown and used + width > _WIDTH:
            break
        used += width + len(_GAP)
        shown.append(width)
    if cells:
        lines.append(_GAP.join(name.ljust(width) for name, width in zip(columns, shown, strict=False)).rstrip())
        for row in cells:
            lines.append(_GAP.join(text.ljust(width) for text, width in zip(row, shown, strict=False)).rstrip())
    lines += _left_out(columns[len(shown) :] if cells else (), len(cells), count)
    return "\n".join(lines)


def html_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    count: int | None = None,
    most: int = SHOWN_ROWS,
) -> str:
    """The same as `text_table` for a notebook, with all columns; everything in it is escaped.

    Args:
        most: how many rows are shown.
    """
    count = len(rows) if count is None else count
    shown = rows[:most]
    parts = [f"<div><p>{escape(title)}</p>"]
    if shown:
        heads = "".join(f"<th>{escape(name)}</th>" for name in columns)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell(value))}</td>" for value in row) + "</tr>" for row in shown)
        parts.append(f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>")
    parts += [f"<p>{escape(line)}</p>" for line in _left_out((), len(shown), count)]
    return "".join([*parts, "</div>"])


def counted(count: int, noun: str) -> str:
    """`1 row`, `2 rows`, `2 entities`."""
    if count == 1:
        return f"1 {noun}"
    is_irregular = noun.endswith("y") and noun[-2:-1] not in "aeiou"
    return f"{count:,} {noun[:-1]}ies" if is_irregular else f"{count:,} {noun}s"


def clipped(text: str, width: int) -> str:
    """The text in at most `width` cells; where it is longer, its end is `…`."""
    if cells_of(text) <= width:
        return text
    while cells_of(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def cells_of(text: str) -> int:
    """How many cells of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(each) else 2 if east_asian_width(each) in "WF" else 1 for each in text)


def span_prose(us: Micros) -> str:
    """A duration for people: 5_400_000_000 → `1 hour 30 minutes`."""
    parts = []
    for unit, size in _UNITS:
        count, us = divmod(us, size)
        if count:
            parts.append(counted(count, unit))
    return " ".join(parts) or counted(0, "second")


def _left_out(columns: Sequence[str], shown: int, count: int) -> list[str]:
    lines = []
    if columns:
        lines.append(f"({len(columns)} more columns: {', '.join(columns)})" if len(columns) > 1
                     else f"(1 more column: {columns[0]})")  # fmt: skip
    if shown < count:
        lines.append(f"(the first {shown} of {counted(count, 'row')})")
    return lines


__all__ = ["SHOWN_ROWS", "cell", "cells_of", "clipped", "counted", "html_table", "span_prose", "text_table"]
