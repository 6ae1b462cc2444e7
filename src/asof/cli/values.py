"""Values as words: how one cell reads in a table, and how it stands in a JSON document."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from asof.timing import iso, micros, span, span_text

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
    """A value as JSON has it: times as ISO 8601 text, bytes as base64, NaN and infinities as text."""
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity"
    if isinstance(value, datetime):
        return iso(micros(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return span_text(span(value))
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal | Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted(plain(each) for each in value)
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    # numpy's scalars.
    return plain(value.item()) if hasattr(value, "item") else str(value)
