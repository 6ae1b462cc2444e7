"""SQL that is written as for other engines, as Spark reads it: double quotes are around names."""

from __future__ import annotations

import re

_PIECE = re.compile(r"""--[^\n]*|/\*.*?\*/|`(?:[^`]|``)*`|'(?:[^'\\]|\\.|'')*'|"(?:[^"]|"")*\"""", re.DOTALL)
"""A comment, a name in backquotes, a text, or a name in double quotes."""


def with_backquotes(sql: str) -> str:
    """The statement with names in backquotes; texts with two quotes for one have a backslash and one.

    Spark itself takes "x" for a text; its setting for names is not known to every engine of its protocol.
    """
    return _PIECE.sub(_translated, sql)


def _translated(found: re.Match[str]) -> str:
    piece = found[0]
    if piece.startswith('"'):
        return "`" + piece[1:-1].replace('""', '"').replace("`", "``") + "`"
    if piece.startswith("'"):
        # A pair in the middle is one quote; the first and the last are the ends.
        return "'" + piece[1:-1].replace("''", "\\'") + "'"
    return piece


__all__ = ["with_backquotes"]
