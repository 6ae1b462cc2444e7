"""The frame of a schema registry before a message, and the interface that decoders use."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from asof.errors import SourceError
from asof.values.legible import why

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
"""Returns the schema of an ID, or None if the registry does not have it.

Raises `SchemaRegistryUnavailable`, which is no message's fault, or `BrokenSchema`, which is that of this schema's.
"""


@runtime_checkable
class SchemaBySubject(Protocol):
    """Schemas that are found by the subject that producers register them under, too."""

    def latest(self, subject: str) -> WriterSchema | None:
        """The newest schema of a subject, else None. It is not cached.

        Raises:
            BrokenSchema: it cannot be used.
            SchemaRegistryUnavailable: the registry cannot be reached.
        """
        ...


class SchemaRegistryUnavailable(SourceError):
    """A schema registry cannot be reached, refuses this user, or does not respond like one."""

    may_pass = True


class BrokenSchema(ValueError):
    """The registry has a schema of this ID, but none that can be used; the text says why."""


def by_schema(
    indexes: Sequence[int], values: Sequence[bytes], dead_letters: dict[int, str]
) -> dict[int, tuple[list[int], list[bytes]]]:
    """Group framed messages by schema ID: positions and payloads; messages without a frame become dead letters."""
    found: dict[int, tuple[list[int], list[bytes]]] = {}
    for place, value in zip(indexes, values, strict=True):
        if len(value) < FRAME or value[0]:
            dead_letters[place] = "has no schema registry frame (a zero byte and a schema id)"
            continue
        each = found.setdefault(_ID(value, 1)[0], ([], []))
        each[0].append(place)
        each[1].append(value[FRAME:])
    return found


def schema_of(schemas: Schemas | None, schema_id: int, *, where: str) -> WriterSchema | str:
    """The schema of an ID, or the reason why messages that name it are dead letters.

    Raises:
        SourceError: no schema registry is configured.
        SchemaRegistryUnavailable: it cannot be asked now.
    """
    if schemas is None:
        raise SourceError(
            "messages name schemas of a schema registry, but none is configured",
            hint="configure it in feature_store.yaml: schema_registry: {url: …}", where=where,
        )  # fmt: skip
    try:
        schema = schemas(schema_id)
    except BrokenSchema as error:
        return unusable(schema_id, error)
    return schema or f"names schema {schema_id}, which the schema registry does not have"


def unusable(schema_id: int, error: Exception) -> str:
    """The dead letter's reason for a message whose schema cannot be used."""
    return f"names schema {schema_id}, which cannot be used: {why(error)}"


__all__ = [
    "FRAME", "SchemaRegistryUnavailable", "Schemas", "BrokenSchema", "SchemaBySubject", "WriterSchema", "by_schema",
    "schema_of", "unusable",
]  # fmt: skip
