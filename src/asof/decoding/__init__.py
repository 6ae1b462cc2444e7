"""Decode messages of a log into typed rows, in bulk; unusable messages become dead letters with a reason."""

from asof.decoding.bounds import DEFAULT_BOUNDS, MessageBounds
from asof.decoding.codecs import check_format
from asof.decoding.messages import (
    DecodedMessages,
    MessageBatch,
    UnusableMessage,
    decode_messages,
    unusable_created,
    unusable_times,
)
from asof.decoding.schemas import BrokenSchema, SchemaBySubject, SchemaRegistryUnavailable, Schemas, WriterSchema
from asof.decoding.transforming import Transform

__all__ = [
    "DEFAULT_BOUNDS", "DecodedMessages", "MessageBatch", "MessageBounds", "SchemaRegistryUnavailable", "Schemas",
    "SchemaBySubject", "Transform", "UnusableMessage", "BrokenSchema", "WriterSchema", "check_format",
    "decode_messages", "unusable_created", "unusable_times",
]  # fmt: skip
