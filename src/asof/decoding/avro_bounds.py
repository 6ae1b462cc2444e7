"""Bounds on Avro schemas and messages, checked before native code follows them.

With a recursive schema, a message may be nested as deeply as it is long; an array of nulls has as many values as its
count says, and a record of records as many as their fields multiply to, whatever the message's length. fastavro has
no bound for any of them, and would crash the process or never end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from asof.decoding.bounds import EMPTY_PER_BYTE, MessageBounds

SHORTER, LONGER = "is shorter than the schema says", "is longer than the schema says"

_BITS_64 = (1 << 64) - 1
_SIZES = {"null": 0, "boolean": 1, "float": 4, "double": 8}
_COUNTED = frozenset(("bytes", "string"))
_NUMBERS = frozenset(("int", "long", "enum"))


class _Extent(NamedTuple):
    """What a schema's values are at least, or are in any case.

    Args:
        bytes: the minimum of a value.
        levels: how deeply records, arrays and maps are nested, as far as the schema does not name itself.
        empty: the values without bytes that a value has in any case, itself included.
        is_fixed: whether each value has the same number of bytes.
    """

    bytes: int
    levels: int
    empty: int
    is_fixed: bool = False


class SchemaBounds:
    """The bounds of one schema's messages.

    Args:
        schema: as fastavro parsed it.
        named: the named types that it refers to, by full name.
        skips: whether there is a reader's schema, which may leave out some of it. What is left out is skipped without
            a look at the message's end, if it has no length of its own: an array of numbers as often as its count says.

    Attributes:
        are_needed: whether a message of this schema can exceed the bounds.

    Raises:
        ValueError: the schema is nested too deeply, or a record contains itself unconditionally, so that it has no
            finite message.
    """

    def __init__(self, schema: Any, named: Mapping[str, Any], limits: MessageBounds, *, skips: bool = False) -> None:
        self._skips = skips
        self._schema = schema
        self._named = named
        self._limits = limits
        self.are_needed = False
        end: set[str] = set()
        for each in (schema, *named.values()):
            self._refuse_endless(each, (), end)
        self._look(schema, {}, 0)

    def _refuse_endless(self, schema: Any, within: tuple[str, ...], end: set[str]) -> None:
        kind, definition = self._resolved(schema)
        if kind == "record" and (name := definition["name"]) not in end:
            if name in within:
                raise ValueError(f"record {name!r} contains itself without a null or a list in between")
            if len(within) > self._limits.max_depth:
                raise ValueError(self._limits.too_deep)
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

    def _look(self, schema: Any, seen: dict[str, _Extent | None], level: int) -> _Extent:
        """The extent of a schema; also finds out whether the bounds are needed.

        Args:
            seen: names of records → their extent; None while one is being visited.
            level: how deeply this schema is nested in the first one.
        """
        if level > self._limits.max_depth:
            raise ValueError(self._limits.too_deep)
        kind, definition = self._resolved(schema)
        if kind == "record":
            name = definition["name"]
            if name not in seen:
                seen[name] = None
                parts = [self._look(each["type"], seen, level + 1) for each in definition["fields"]]
                found = _Extent(
                    sum(each.bytes for each in parts), 1 + max((each.levels for each in parts), default=0),
                    1 + sum(each.empty for each in parts), all(each.is_fixed for each in parts),
                )  # fmt: skip
                seen[name] = found
                self.are_needed |= found.empty > EMPTY_PER_BYTE * found.bytes
            known = seen[name]
            if known is None:
                # A recursive record has a union or a list in between, which takes a byte.
                self.are_needed = True
                return _Extent(1, 0, 0)
            if level + known.levels > self._limits.max_depth:
                raise ValueError(self._limits.too_deep)
            return known
        if kind == "union":
            # At least the index of the branch.
            levels = [self._look(each, seen, level).levels for each in definition]
            return _Extent(1, max(levels, default=0), 0)
        if kind in ("array", "map"):
            item = self._look(definition["items" if kind == "array" else "values"], seen, level + 1)
            if kind == "array":
                self.are_needed |= item.bytes == 0 or (self._skips and item.is_fixed)
            return _Extent(1, 1 + item.levels, 0)
        size = definition["size"] if kind == "fixed" else _SIZES.get(kind, 1)
        if type(size) is not int or size < 0:
            raise ValueError(f"a fixed type has size {size!r}")
        return _Extent(size, 0, int(size == 0), kind in ("fixed", *_SIZES))

    def refusal(self, message: bytes) -> str:
        """Why a message exceeds the bounds, or does not have its schema's form; else the empty string.

        fastavro goes on where a message is broken: behind its end are the bytes that guard it, and a negative index is
        one to Python. What it finds there may be a count without end.
        """
        limits = self._limits
        most_empty = limits.max_empty_values + EMPTY_PER_BYTE * len(message)
        at = empty = 0
        # A stack of what is still to be read: a schema with its depth, and how often.
        todo: list[tuple[Any, int, int]] = [(self._schema, 0, 1)]
        try:
            while todo:
                schema, depth, count = todo.pop()
                if count > 1:
                    todo.append((schema, depth, count - 1))
                if depth > limits.max_depth:
                    return limits.too_deep
                kind, definition = self._resolved(schema)
                before = at
                if kind == "record":
                    todo += [(each["type"], depth + 1, 1) for each in reversed(definition["fields"])]
                elif kind == "union":
                    index, at = _number(message, at)
                    if not 0 <= index < len(definition):
                        return f"names branch {index} of a union that has {len(definition)}"
                    todo.append((definition[index], depth, 1))
                elif kind in ("array", "map"):
                    length, at = _number(message, at)
                    if length < 0:
                        _, at = _number(message, at)
                    if length:
                        todo.append((schema, depth, 1))
                        is_array = kind == "array"
                        inner = definition["items"] if is_array else _entry(definition["values"])
                        # An entry is a record to this loop, but no level of the message.
                        todo.append((inner, depth + is_array, abs(length)))
                elif kind in _NUMBERS:
                    _, at = _number(message, at)
                elif kind in _COUNTED:
                    length, at = _number(message, at)
                    if length < 0:
                        return "has a text or bytes of negative length"
                    at += length
                else:
                    at += definition["size"] if kind == "fixed" else _SIZES[kind]
                empty += at == before
                if empty > most_empty:
                    return limits.too_many_empty
                if at > len(message):
                    return SHORTER
        except IndexError:
            return SHORTER
        except OverflowError:
            return "has a number of more than 64 bits"
        return "" if at == len(message) else LONGER


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
            number &= _BITS_64
            return (number >> 1) ^ -(number & 1), at
        shift += 7
        if shift > 63:
            raise OverflowError


__all__ = ["LONGER", "SHORTER", "SchemaBounds"]
