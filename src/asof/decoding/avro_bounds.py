"""Bounds on the nesting and the number of values of an Avro message, checked before native code reads it.

With a recursive schema, a message may be nested as deeply as it is long, and an array of nulls has as many values as
its count says, whatever the message's length. fastavro has no bound for either, and would crash the process.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asof.values.nesting import MOST_DEPTH

MOST_EMPTY = 100_000
"""Maximum number of zero-byte values in a message."""

_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_COUNTED = frozenset(("bytes", "string"))
_NUMBERS = frozenset(("int", "long", "enum"))


class Bounds:
    """The bounds of one schema's messages.

    Args:
        schema: as fastavro parsed it.
        named: the named types that it refers to, by full name.

    Attributes:
        are_needed: whether a message of this schema can exceed the bounds.

    Raises:
        ValueError: a record contains itself unconditionally, so it has no finite message.
    """

    def __init__(self, schema: Any, named: Mapping[str, Any]) -> None:
        self._schema = schema
        self._named = named
        self.are_needed = False
        end: set[str] = set()
        for each in (schema, *named.values()):
            self._refuse_endless(each, (), end)
        self._look(schema, {})

    def _refuse_endless(self, schema: Any, within: tuple[str, ...], end: set[str]) -> None:
        kind, definition = self._resolved(schema)
        if kind == "record" and (name := definition["name"]) not in end:
            if name in within:
                raise ValueError(f"record {name!r} contains itself without a null or a list in between")
            for each in definition["fields"]:
                self._refuse_endless(each["type"], (*within, name), end)
            end.add(name)

    def _resolved(self, schema: Any) -> tuple[str, Any]:
        """A schema's kind, and its definition."""
        while True:
            if isinstance(schema, list):
                return "union", schema
            if isinstance(schema, dict):
                kind = schema["type"]
                if isinstance(kind, str) and kind not in self._named:
                    return ("record" if kind == "error" else kind), schema
                schema = kind
            elif schema in self._named:
                schema = self._named[schema]
            else:
                return schema, schema

    def _look(self, schema: Any, seen: dict[str, int | None]) -> int:
        """The minimum bytes of a value; also finds out whether the bounds are needed.

        Args:
            seen: names of records → their minimum bytes; None while one is being visited.
        """
        kind, definition = self._resolved(schema)
        if kind == "record":
            name = definition["name"]
            if name not in seen:
                seen[name] = None
                seen[name] = sum([self._look(each["type"], seen) for each in definition["fields"]])
            known = seen[name]
            # A recursive record has a union or a list in between, which takes a byte.
            if known is None:
                self.are_needed = True
                return 1
            return known
        if kind == "union":
            # At least the index of the branch.
            for each in definition:
                self._look(each, seen)
            return 1
        if kind == "array":
            if self._look(definition["items"], seen) == 0:
                self.are_needed = True
            return 1
        if kind == "map":
            self._look(definition["values"], seen)
            return 1
        return definition["size"] if kind == "fixed" else _SIZES.get(kind, 1)

    def refusal(self, message: bytes) -> str:
        """Why a message exceeds the bounds, else the empty string (truncated messages are left to the reader)."""
        at = empty = 0
        # A stack of what is still to be read: a schema with its depth, or the rest of a list.
        todo: list[tuple[Any, int, int]] = [(self._schema, 0, 1)]
        try:
            while todo:
                schema, depth, count = todo.pop()
                if count > 1:
                    todo.append((schema, depth, count - 1))
                if depth > MOST_DEPTH:
                    return f"is nested too deeply; the most are {MOST_DEPTH} levels"
                kind, definition = self._resolved(schema)
                before = at
                if kind == "record":
                    todo += [(each["type"], depth + 1, 1) for each in reversed(definition["fields"])]
                elif kind == "union":
                    index, at = _number(message, at)
                    if not 0 <= index < len(definition):
                        return ""
                    todo.append((definition[index], depth, 1))
                elif kind in ("array", "map"):
                    length, at = _number(message, at)
                    if length < 0:
                        _, at = _number(message, at)
                    if length:
                        todo.append((schema, depth, 1))
                        inner = definition["items"] if kind == "array" else _entry(definition["values"])
                        todo.append((inner, depth + 1, abs(length)))
                elif kind in _NUMBERS:
                    _, at = _number(message, at)
                elif kind in _COUNTED:
                    length, at = _number(message, at)
                    if length < 0:
                        return ""
                    at += length
                else:
                    at += definition["size"] if kind == "fixed" else _SIZES[kind]
                empty += at == before and not (kind == "record" and definition["fields"])
                if empty > MOST_EMPTY + len(message):
                    return f"has more than {MOST_EMPTY} values that take no bytes"
                if at > len(message):
                    return ""
        except IndexError:
            return ""
        return ""


def _entry(values: Any) -> Any:
    """One entry of a map, as the record with the same encoding."""
    return {"type": "record", "name": "", "fields": [{"type": "string"}, {"type": values}]}


def _number(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
        if shift > 63:
            raise IndexError


__all__ = ["Bounds"]
