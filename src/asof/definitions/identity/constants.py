"""Constants as text: equal texts for equal values, in every process and version of Python."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

_LISTS = (list, tuple, deque)
_SETS = (set, frozenset)
_DICTS = (dict, OrderedDict, defaultdict, Counter, MappingProxyType)


class Untellable(Exception):
    """A value that cannot be compared from one process to the next; the text says what it is."""


def constant_text(value: Any, other: Callable[[Any], str]) -> str:
    """A value as text.

    Args:
        other: the text of what is neither a plain value nor a container; it may raise Untellable.

    Raises:
        Untellable: the value, or one in it, has no such text.
    """
    return _Texts(other).of(value)


class _Texts:
    def __init__(self, other: Callable[[Any], str]) -> None:
        self._other = other
        self._open: list[int] = []

    def of(self, value: Any) -> str:
        kind = type(value)
        plain = _PLAIN.get(kind)
        if plain is not None:
            return f"{kind.__name__}:{plain(value)}"
        if kind is datetime or kind is time:
            zone = "" if value.tzinfo is None else f" {self.of(value.tzinfo)} fold {value.fold}"
            return f"{kind.__name__}:{value.replace(tzinfo=None).isoformat()}{zone}"
        if kind is ZoneInfo and value.key is not None:
            return f"zone:{value.key}"
        if kind is re.Pattern:
            return f"pattern:{self.of(value.pattern)} {value.flags}"
        if kind is slice:
            return f"slice:{self.of([value.start, value.stop, value.step])}"
        if kind in _LISTS or kind in _SETS or kind in _DICTS:
            return self._container(value, kind)
        if _is_numpy(value):
            return self._numpy(value)
        return self._other(value)

    def _container(self, value: Any, kind: type) -> str:
        if id(value) in self._open:
            return f"the container {len(self._open) - self._open.index(id(value))} levels up"
        self._open.append(id(value))
        try:
            if kind in _DICTS:
                # Their order counts: a function may go through them.
                items = [f"{self.of(key)}={self.of(each)}" for key, each in value.items()]
                if kind is defaultdict:
                    items.append(f"default {self.of(value.default_factory)}")
            else:
                items = [self.of(each) for each in value]
        finally:
            self._open.pop()
        if kind in _SETS:
            items.sort()
        return f"{kind.__name__}[{len(items)}: {', '.join(items)}]"

    def _numpy(self, value: Any) -> str:
        if value.dtype.hasobject:
            return f"array {value.shape} {self.of(value.tolist())}"
        values = value.tobytes()  # in C order, whatever the order in memory
        shape = getattr(value, "shape", ())
        return f"array {value.dtype.str} {value.dtype.descr} {shape} {hashlib.sha256(values).hexdigest()}"


def _is_numpy(value: Any) -> bool:
    # Who has such a value has loaded NumPy; it is not loaded for others.
    numpy = sys.modules.get("numpy")
    return numpy is not None and (type(value) is numpy.ndarray or isinstance(value, numpy.generic))


def _offset(zone: timezone) -> str:
    return str(zone.utcoffset(None))


_PLAIN: dict[type, Callable[[Any], str]] = {
    type(None): str, type(...): str, type(NotImplemented): str, bool: str, int: hex, float: repr, complex: repr,
    # JSON's escapes, as what repr() escapes depends on the version of Python.
    str: json.dumps, bytes: bytes.hex, bytearray: bytearray.hex, memoryview: memoryview.hex,
    Decimal: str, Fraction: str, UUID: str, range: repr, date: date.isoformat, timedelta: repr, timezone: _offset,
}  # fmt: skip

__all__ = ["Untellable", "constant_text"]
