"""Bounds on one message, which hold before a format's library reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asof.defaults import DECIMAL_BYTES, EMPTY_VALUES, MESSAGE_BYTES, MOST_DEPTH

EMPTY_PER_BYTE = 8
"""So many values without bytes a message may have for each of its bytes: records in records, and nulls."""


@dataclass(frozen=True)
class MessageBounds:
    """What one message may be; whatever exceeds it is a dead letter.

    Args:
        max_bytes: of value, key and headers together; None for messages that Asof wrote itself.
        max_depth: of lists, objects, records and messages in each other.
        max_empty_values: of values that take no bytes in Avro, beyond `EMPTY_PER_BYTE` for each byte.
        max_decimal_bytes: of a decimal in Avro.
    """

    max_bytes: int | None = MESSAGE_BYTES
    max_depth: int = MOST_DEPTH
    max_empty_values: int = EMPTY_VALUES
    max_decimal_bytes: int = DECIMAL_BYTES

    @property
    def too_deep(self) -> str:
        """The reason of what is nested too deeply."""
        return f"is nested too deeply; the most are {self.max_depth} levels"

    @property
    def too_many_empty(self) -> str:
        """The reason of what has too many values without bytes."""
        return f"has more than {self.max_empty_values} values that take no bytes"


DEFAULT_BOUNDS = MessageBounds()


def too_large(
    values: Sequence[bytes | None],
    keys: Sequence[bytes | None] | None,
    headers: Sequence[Sequence[tuple[str, bytes | None]]] | None,
    most: int | None,
) -> dict[int, str]:
    """The messages with more than so many bytes in value, key and headers: index → reason."""
    if most is None:
        return {}
    largest = max(map(len, filter(None, values)), default=0) + max(map(len, filter(None, keys or ())), default=0)
    # The usual case takes no loop in Python.
    if headers is None and largest <= most:
        return {}
    found = {}
    for i, value in enumerate(values):
        size = len(value or b"") + len((keys[i] if keys is not None else None) or b"")
        if headers is not None:
            size += sum(len(name) + len(each or b"") for name, each in headers[i])
        if size > most:
            found[i] = f"the message has {size} bytes; the most are {most}"
    return found


__all__ = ["DEFAULT_BOUNDS", "EMPTY_PER_BYTE", "MessageBounds", "too_large"]
