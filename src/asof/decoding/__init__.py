"""Messages of a log into typed rows, in bulk; what cannot be used is told apart, with the reason."""

from asof.decoding.messages import Batch, Decoded, Letter, decode_messages, unusable_created, unusable_times
from asof.decoding.schemas import Schemas, WriterSchema
from asof.decoding.transforming import Transform

__all__ = [
    "Batch", "Decoded", "Letter", "Schemas", "Transform", "WriterSchema", "decode_messages", "unusable_created",
    "unusable_times",
]  # fmt: skip
