"""Which fields messages have: declared ones that none of them has, and fields that are not declared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asof.decoding.bounds import MessageBounds, too_large
from asof.decoding.codecs import codec_of
from asof.decoding.messages import EncodedMessages, metadata_columns
from asof.decoding.schemas import FRAME, Schemas, WriterSchema
from asof.definitions import AvroFormat, Field, JsonFormat, LogSource, ProtoFormat
from asof.errors import AsofError
from asof.values.legible import why
from asof.values.nesting import is_too_deep


@dataclass
class MessageFields:
    """The fields of some messages.

    Args:
        decoded: number of messages that could be decoded.
        reasons: why others could not, with their number.
        absent: declared columns that none of the decoded messages has.
        undeclared: fields that are not declared, with the number of messages that have each.
    """

    decoded: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    absent: list[str] = field(default_factory=list)
    undeclared: Counter[str] = field(default_factory=Counter)


def fields_of_messages(
    source: LogSource, messages: EncodedMessages, *, schemas: Schemas | None, bounds: MessageBounds
) -> MessageFields:
    """Compare messages with the columns that a source declares; messages without a value (tombstones) are left out.

    Raises:
        DefinitionError: the format's schema or type cannot be used.
        SchemaRegistryUnavailable: the messages name schemas, and the registry cannot be reached.
    """
    found = MessageFields()
    dead_letters = too_large(messages.values, messages.keys, messages.headers, bounds.max_bytes)
    present = {i: value for i, value in enumerate(messages.values) if value is not None and i not in dead_letters}
    codec = codec_of(source, bounds)
    has_value: dict[str, bool] = {}
    good: list[int] = []
    # In bulk, and one by one where that fails: what a message raises is its own.
    groups = [list(present)]
    while groups:
        group = groups.pop()
        reasons: dict[int, str] = {}
        undeclared: Counter[str] = Counter()
        try:
            index, columns = codec.decode(
                group, [present[i] for i in group], dead_letters=reasons, undeclared=undeclared, schemas=schemas
            )
            if source.has_metadata:
                columns |= metadata_columns(
                    source, messages, index, dead_letters=reasons, schemas=schemas, bounds=bounds
                )
        except AsofError:
            raise
        except Exception as error:
            if len(group) > 1:
                groups += [[each] for each in group]
            elif group:
                dead_letters[group[0]] = why(error)
            continue
        dead_letters |= reasons
        found.undeclared += undeclared
        is_good = np.array([i not in reasons for i in index], dtype=bool)
        good += [i for i in index if i not in reasons]
        for name, column in columns.items():
            valid = column.filter(pa.array(is_good)).is_valid()
            has_value[name] = has_value.get(name, False) or bool(pc.any(valid).as_py())
    found.decoded = len(good)
    found.reasons = Counter(dead_letters.values())
    if good:
        missing = [each.name for each in source.message_fields if not has_value.get(each.name)]
        given = _null_fields(source, [present[i] for i in good]) if missing else frozenset()
        found.absent = [name for name in missing if name not in given]
    return found


def _null_fields(source: LogSource, values: Sequence[bytes]) -> Collection[str]:
    """The names in JSON messages: a field whose value is null is there."""
    if not isinstance(source.message_format, JsonFormat):
        return frozenset()
    start = FRAME if source.message_format.registry else 0
    elsewhere = {*source.key_fields, *source.header_fields, source.record_time_field}
    return set(chain.from_iterable(json.loads(value[start:]) for value in values)) - elsewhere


def fields_of_schema(schema: WriterSchema, source: LogSource) -> set[str] | None:
    """The names of the fields that messages of a schema have; None where names do not decide what is read.

    Protobuf goes by numbers, and a schema in JSON that takes any field says nothing about names.
    """
    text = schema.text
    if is_too_deep(text):
        return None
    try:
        found = json.loads(text) if schema.kind in ("AVRO", "JSON") else None
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    if schema.kind == "AVRO" and isinstance(source.message_format, AvroFormat):
        fields = found.get("fields")
        if not isinstance(fields, list):
            return None
        names = {each["name"] for each in fields if isinstance(each, dict) and isinstance(each.get("name"), str)}
        return names | _read_by_alias(source.message_format, names)
    if schema.kind == "JSON" and isinstance(source.message_format, JsonFormat):
        properties = found.get("properties")
        return set(properties) if isinstance(properties, dict) and properties else None
    return None


def _read_by_alias(message_format: AvroFormat, names: Collection[str]) -> set[str]:
    """Fields of the reader's own schema that take one of the writer's by an alias."""
    if not message_format.schema_json:
        return set()
    return {
        each["name"]
        for each in json.loads(message_format.schema_json).get("fields", [])
        if set(each.get("aliases") or ()) & set(names)
    }


def declared_fields(source: LogSource) -> list[Field]:
    """The columns that a source reads from the values of its messages."""
    elsewhere = {*source.key_fields, *source.header_fields, source.record_time_field}
    return [each for each in source.message_fields if each.name not in elsewhere]


def expected_kind(source: LogSource) -> str:
    """A schema registry's name for the format of a source's messages."""
    if isinstance(source.message_format, ProtoFormat):
        return "PROTOBUF"
    return "AVRO" if isinstance(source.message_format, AvroFormat) else "JSON"


__all__ = ["MessageFields", "declared_fields", "expected_kind", "fields_of_messages", "fields_of_schema"]
