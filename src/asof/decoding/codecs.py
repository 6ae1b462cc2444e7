"""The decoder of a source's messages, made once from its format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from asof.decoding.bounds import MessageBounds
from asof.decoding.json import JsonCodec
from asof.decoding.schemas import Schemas
from asof.definitions import AvroFormat, Field, JsonFormat, LogSource, ProtoFormat


class Codec(Protocol):
    """Decodes messages of one format."""

    def decode(
        self,
        indexes: list[int],
        values: list[bytes],
        *,
        dead_letters: dict[int, str],
        undeclared: Counter[str],
        schemas: Schemas | None,
    ) -> tuple[list[int], dict[str, pa.Array]]:
        """Positions (ascending) and columns of the decodable messages; misfits are null and added to `dead_letters`."""
        ...


def codec_of(source: LogSource, bounds: MessageBounds) -> Codec:
    """The decoder of a source's values.

    Raises:
        DefinitionError: the format's schema or type cannot be used, or exceeds the bounds.
    """
    known: tuple[MessageBounds, Codec] | None = source.__dict__.get("_codec")
    if known is None or known[0] != bounds:
        # Built once per definition: it depends only on the definition, and caches schemas.
        elsewhere = {*source.key_fields, *source.header_fields, source.record_time_field}
        fields = [each for each in source.message_fields if each.name not in elsewhere]
        known = bounds, _codec_of(source, fields, bounds)
        object.__setattr__(source, "_codec", known)
    return known[1]


def key_codec_of(source: LogSource, fields: Sequence[Field], bounds: MessageBounds) -> Codec:
    """The decoder of a source's Avro keys.

    Raises:
        DefinitionError: as `codec_of`.
    """
    from asof.decoding.avro import AvroCodec  # only where keys are Avro

    known: tuple[MessageBounds, Codec] | None = source.__dict__.get("_key_codec")
    if known is None or known[0] != bounds:
        assert isinstance(source.key_format, AvroFormat)
        single = fields[0].name if len(fields) == 1 else ""
        known = bounds, AvroCodec(fields, source.key_format, where=source.where, bounds=bounds, single=single)
        object.__setattr__(source, "_key_codec", known)
    return known[1]


def _codec_of(source: LogSource, fields: Sequence[Field], bounds: MessageBounds) -> Codec:
    # Each format's library is imported only for sources with that format.
    if isinstance(source.message_format, AvroFormat):
        from asof.decoding.avro import AvroCodec

        return AvroCodec(fields, source.message_format, where=source.where, bounds=bounds)
    if isinstance(source.message_format, ProtoFormat):
        from asof.decoding.protobuf import ProtobufCodec

        return ProtobufCodec(fields, source.message_format, where=source.where, bounds=bounds)
    assert isinstance(source.message_format, JsonFormat)
    # Producers often repeat the key in the value: that must not force a check of each message.
    return JsonCodec(fields, source.message_format, bounds=bounds, passed_over=source.key_fields)


def check_format(source: LogSource, bounds: MessageBounds) -> None:
    """Check that messages of this source can be decoded: their schemas and types, as far as the definition has them.

    Raises:
        DefinitionError: one cannot be used, or exceeds the bounds.
        MissingExtra: the format's library is not installed here.
    """
    codec_of(source, bounds)
    if isinstance(source.key_format, AvroFormat):
        key_codec_of(source, source.key_columns, bounds)


__all__ = ["Codec", "check_format", "codec_of", "key_codec_of"]
