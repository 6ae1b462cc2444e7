"""Conditions as the driver of Delta tables takes them: SQL of its own engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asof.sql.quoting import quote, text


def equal_to(columns: Mapping[str, Any]) -> str:
    """The rows where every column has the given value, or one of a list."""
    return " AND ".join(_is(name, value) for name, value in columns.items())


def _is(name: str, value: Any) -> str:
    if isinstance(value, list):
        return f"{quote(name)} IN ({', '.join(map(_literal, value))})"
    return f"{quote(name)} = {_literal(value)}"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, bytes):
        return f"X'{value.hex()}'"
    return text(str(value))


__all__ = ["equal_to"]
