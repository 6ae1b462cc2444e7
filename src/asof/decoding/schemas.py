"""The frame of a schema registry before a message, and the interface that decoders use."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FRAME = 5
"""Length of the frame in bytes: a zero, then the schema's ID as four bytes, big-endian."""

_ID = struct.Struct(">I").unpack_from


@dataclass(frozen=True)
class WriterSchema:
    """A schema of the registry.

    Args:
        kind: `AVRO`, `PROTOBUF` or `JSON`.
        text: the schema.
        references: the texts of the schemas that it refers to, dependencies first.
    """

    kind: str
    text: str
    references: tuple[str, ...] = ()


Schemas = Callable[[int], WriterSchema | None]
"""Returns the schema of an ID, or None if the registry does not have it. Raises if the registry cannot be reached."""


def by_schema(
    places: Sequence[int], values: Sequence[bytes], letters: dict[int, str]
) -> dict[int, tuple[list[int], list[bytes]]]:
    """Group framed messages by schema ID: positions and payloads; messages without a frame become dead letters."""
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
    """The dead letter's reason for a message with an unknown schema."""
    return f"names schema {schema_id}, which the schema registry does not have"


__all__ = ["FRAME", "Schemas", "WriterSchema", "by_schema", "unknown_id"]
