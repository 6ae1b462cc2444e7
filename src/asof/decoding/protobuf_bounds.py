"""Bounds on the nesting of Protobuf types and messages, checked before the library follows them."""

from __future__ import annotations

from typing import Any

from asof.decoding.bounds import MessageBounds

LIBRARY_LEVELS = 100
"""The library itself parses no message with more levels."""

_ANY = "google.protobuf.Any"

_VARINT, _EIGHT, _LENGTH, _GROUP, _END, _FOUR = range(6)


class TypeBounds:
    """The bounds of messages of one type.

    Args:
        descriptor: of the type.

    Attributes:
        are_needed: whether a message of this type can exceed the bounds, and the library would parse it.

    Raises:
        ValueError: the type is nested too deeply.
    """

    def __init__(self, descriptor: Any, limits: MessageBounds) -> None:
        self._descriptor = descriptor
        self._limits = limits
        is_recursive = False
        inner = {descriptor.full_name: descriptor}
        for _ in range(limits.max_depth):
            inner = {each.full_name: each for outer in inner.values() for each in _message_types(outer)}
            if not inner:
                break
        else:
            is_recursive = _is_recursive(descriptor)
            if not is_recursive:
                raise ValueError(limits.too_deep)
        self._has_any = _ANY in _reachable(descriptor)
        self.are_needed = is_recursive and limits.max_depth < LIBRARY_LEVELS

    def checked(self, value: dict[str, Any]) -> dict[str, Any]:
        """A message in a field, in JSON. An `Any` may hold one of any depth, which is known once it is read.

        Raises:
            ValueError: it is nested too deeply.
        """
        if self._has_any and _levels(value) + 1 > self._limits.max_depth:
            raise ValueError(f"it {self._limits.too_deep}")
        return value

    def refusal(self, message: bytes) -> str:
        """Why a message exceeds the bounds, else the empty string (damaged messages are left to the library)."""
        # The messages and groups that are open, each with its type (None: unknown) and its end.
        within: list[tuple[Any, int]] = [(self._descriptor, len(message))]
        at = 0
        try:
            while within:
                descriptor, end = within[-1]
                if at >= end:
                    within.pop()
                    continue
                tag, at = _varint(message, at)
                kind = tag & 7
                field = descriptor.fields_by_number.get(tag >> 3) if descriptor is not None else None
                inner = field.message_type if field is not None else None
                if kind == _VARINT:
                    _, at = _varint(message, at)
                elif kind == _LENGTH:
                    size, at = _varint(message, at)
                    if inner is not None:
                        within.append((inner, min(at + size, end)))
                    else:
                        at += size
                elif kind == _GROUP:
                    within.append((inner, end))
                elif kind == _END:
                    within.pop()
                elif kind in (_EIGHT, _FOUR):
                    at += 8 if kind == _EIGHT else 4
                else:
                    return ""
                if len(within) > self._limits.max_depth:
                    return self._limits.too_deep
        except IndexError:
            return ""
        return ""


def _message_types(descriptor: Any) -> list[Any]:
    return [field.message_type for field in descriptor.fields if field.message_type is not None]


def _reachable(descriptor: Any) -> dict[str, set[str]]:
    """The types that a message may contain, with its own: name → names of the types of its fields."""
    found: dict[str, set[str]] = {}
    todo = [descriptor]
    while todo:
        each = todo.pop()
        if each.full_name not in found:
            types = _message_types(each)
            found[each.full_name] = {inner.full_name for inner in types}
            todo += types
    return found


def _levels(value: object) -> int:
    """How deeply the objects, and lists in lists, of a message in JSON are nested; those within an `Any` count."""
    deepest = 0
    todo: list[tuple[object, int]] = [(value, 0)]
    while todo:
        each, level = todo.pop()
        if isinstance(each, dict):
            deepest = max(deepest, level + 1)
            todo += [(inner, level + 1) for inner in each.values() if isinstance(inner, dict | list)]
        elif isinstance(each, list):
            # Repeated fields are no level of their own, as in the message.
            todo += [(inner, level + isinstance(inner, list)) for inner in each if isinstance(inner, dict | list)]
    return deepest


def _is_recursive(descriptor: Any) -> bool:
    """Whether any type that this one refers to contains itself: whether some are left when leaves are removed."""
    found = _reachable(descriptor)
    users: dict[str, list[str]] = {name: [] for name in found}
    for name, inner in found.items():
        for each in inner:
            users[each].append(name)
    leaves = [name for name, inner in found.items() if not inner]
    removed = 0
    while leaves:
        leaf = leaves.pop()
        removed += 1
        for user in users[leaf]:
            found[user].discard(leaf)
            if not found[user]:
                leaves.append(user)
    return removed < len(found)


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    raise IndexError


__all__ = ["LIBRARY_LEVELS", "TypeBounds"]
