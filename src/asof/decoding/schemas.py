"""What a schema registry puts before a message, and what a decoder asks of one."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FRAME = 5
"""Bytes of the frame: a zero, then the schema's id as four bytes, big-endian."""

_ID = struct.Struct(">I").unpack_from


@dataclass(frozen=True)
class WriterSchema:
    """A schema as the registry keeps it.

    Args:
        kind: `AVRO`, `PROTOBUF` or `JSON`.
        text: the schema.
        references: the texts of the schemas that it names, each after those that it names itself.
    """

    kind: str
    text: str
    references: tuple[str, ...] = ()


Schemas = Callable[[int], WriterSchema | None]
"""Answers the schema of an id; None where the registry has none. Raises where the registry cannot be asked."""


def by_schema(
    places: Sequence[int], values: Sequence[bytes], letters: dict[int, str]
) -> dict[int, tuple[list[int], list[bytes]]]:
    """Framed messages by their schema's id: places and what follows the frame; what has no frame is a letter."""
    found: dict[int, tuple[list[int], list[bytes]]] = {}
    for place, value in zip(places, values, strict=True):
        if len(value) < FRAME or value[0]:
            letters[place] = "has no schema registry frame (a zero byte and a schema id)"
            continue
        each = found.setdefault(_ID(value, 1)[0], ([], []))
        each[0].append(place)
        each[1].append(value[FRAME:])
    return found


def unknown_id(schema_id: int) -> str:
    """Why a message of an unknown schema is a letter."""
    return f"names schema {schema_id}, which the schema registry does not have"


__all__ = ["FRAME", "Schemas", "WriterSchema", "by_schema", "unknown_id"]
