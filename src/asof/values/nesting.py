"""The limit on nested lists and objects, and whether a value or JSON text exceeds it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from asof.defaults import MOST_DEPTH as MOST_DEPTH

_BRACKETS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*\\?(?:"|\Z)|[\[\]{}]', re.DOTALL)


def is_too_deep(value: Any, most: int = MOST_DEPTH) -> bool:
    """Whether lists and dicts (or the brackets of JSON text or bytes) are nested deeper than so many levels."""
    if isinstance(value, bytes):
        if value.count(b"[") + value.count(b"{") <= most:
            return False
        # Each byte as one character: in UTF-8, the bytes of brackets and quotes occur in no other character.
        value = value.decode("latin-1")
    if isinstance(value, str):
        if value.count("[") + value.count("{") <= most:
            return False
        depth = 0
        for found in _BRACKETS.finditer(value):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(found[0], 0)
            if depth > most:
                return True
        return False
    level = [value] if type(value) in _NESTED else []
    for _ in range(most):
        if not level:
            return False
        # Each object once, so that a shared one is not visited twice at every level.
        level = list({id(inner): inner for each in level for inner in _inside(each) if type(inner) in _NESTED}.values())
    return bool(level)


_NESTED = frozenset((list, tuple, dict, np.ndarray))


def _inside(value: Any) -> Any:
    if type(value) is np.ndarray:
        return value.ravel() if value.dtype == object else ()
    return value.values() if type(value) is dict else value
