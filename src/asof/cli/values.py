"""Values in the output of commands: as a cell of a table, and in a JSON document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from asof.timing import iso, micros, span, span_text
from asof.values.json import write_value

# 12:00:00.250000Z is 12:00:00.250Z for people.
_FINE_ZEROS = re.compile(r"(\.\d{3})000Z$")


def cell(value: Any, *, null: str = "null") -> str:
    """A value on one line, for people: times in ISO 8601, floats to ten digits, bytes as text where they are."""
    if value is None:
        return null
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format(value, ".10g")
    if isinstance(value, bytes):
        return one_line(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={cell(each)}" for key, each in value.items()) or "-"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(each) for each in value) or "-"
    if isinstance(value, datetime):
        return _FINE_ZEROS.sub(r"\1Z", iso(micros(value)))
    return one_line(str(plain(value)))


def one_line(text: str) -> str:
    """Text with its control characters written out, so that it can break neither a table nor a terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def plain(value: Any) -> Any:
    """A value as `asof.values.json` writes it; beyond that durations as `1h30m`, sets in order, objects as dicts."""
    if isinstance(value, Enum) and isinstance(value, int | str):
        return value.value
    if isinstance(value, timedelta):
        return span_text(span(value))
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(each) for each in value)
    return plain(value.to_dict()) if hasattr(value, "to_dict") else write_value(value)
