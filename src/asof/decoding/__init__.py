"""Decode messages of a log into typed rows, in bulk; unusable messages become dead letters with a reason."""

from asof.decoding.messages import (
    DecodedMessages,
    MessageBatch,
    UnusableMessage,
    decode_messages,
    unusable_created,
    unusable_times,
)
from asof.decoding.schemas import Schemas, WriterSchema
from asof.decoding.transforming import Transform

__all__ = [
    "DecodedMessages", "MessageBatch", "Schemas", "Transform", "UnusableMessage", "WriterSchema", "decode_messages",
    "unusable_created", "unusable_times",
]  # fmt: skip
