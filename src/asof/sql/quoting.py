"""Names and texts as SQL, whatever is in them: every engine here takes the same form."""

from __future__ import annotations


def quote(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A string as SQL."""
    return "'" + value.replace("'", "''") + "'"


__all__ = ["quote", "text"]
