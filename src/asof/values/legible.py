"""Values and errors as text for messages: one line, bounded, and storable everywhere."""

from __future__ import annotations

from typing import Any

from asof.values.nesting import MOST_DEPTH, is_too_deep

MOST_SHOWN = 60
"""Maximum characters of a value in a message."""


def why(error: BaseException) -> str:
    """An error's message, as one line of text that every store can keep."""
    if isinstance(error, RecursionError):
        return f"is nested too deeply; the most are {MOST_DEPTH} levels"
    try:
        text = str(error)
    except Exception:
        text = ""
    return legible(text.strip().split("\n")[0]) or type(error).__name__


def legible(text: str, most: int = 1000) -> str:
    """Text that every store can keep: without lone surrogates and NUL, and of bounded length."""
    return cut(text, most).encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def cut(text: str, most: int) -> str:
    """Text shortened to this many characters, with dots for what is left out."""
    return text if len(text) <= most else text[: most - 3] + "..."


def shown(value: Any) -> str:
    """A value for a message, shortened; also one that Python cannot print, such as an integer of 5000 digits."""
    if is_too_deep(value):
        return f"a value that is nested more than {MOST_DEPTH} levels deep"
    try:
        return cut(repr(value), MOST_SHOWN)
    except Exception:
        size = f" of {value.bit_length()} bits" if isinstance(value, int) else ""
        return f"a value of type {type(value).__name__}{size}"


def is_unicode(text: str) -> bool:
    """Whether a text has a form in UTF-8: one with a lone surrogate has none, and drivers refuse it bare."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
