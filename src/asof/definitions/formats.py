"""How files and messages are written: the format objects that sources take, under Feast's names."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from asof.definitions.base import written_at
from asof.errors import DefinitionError, nearest
from asof.secrets import has_secret


class ParquetFormat:
    """Parquet files."""

    name = "parquet"


class DeltaFormat:
    """A Delta table."""

    name = "delta"


class CsvFormat:
    """CSV files with a header line."""

    name = "csv"


def format_name(value: object, known: Sequence[str], *, default: str) -> str:
    """The name of a format object, or the text itself."""
    name = default if value is None else value if isinstance(value, str) else getattr(value, "name", str(value))
    if name not in known:
        raise DefinitionError(
            f"format {name!r} is not known",
            hint=nearest(name, known) or f"choose one of {', '.join(known)}",
            where=written_at(),
        )
    return name


class MessageFormat:
    """How to decode a message's bytes.

    Args:
        registry: messages begin with the frame of a schema registry (a zero byte and the schema's id). True: the
            registry of the configuration; text: its URL, which may contain `${VAR}`.
    """

    name: ClassVar[str] = ""

    registry: bool | str

    def _begin(self, registry: bool | str) -> None:
        if isinstance(registry, str) and has_secret(registry):
            raise _refused(
                f"{type(self).__name__}(registry=…) holds a password",
                hint="write it as ${VAR}, or keep it in feature_store.yaml",
            )
        self.registry = registry

    def content(self) -> str | dict[str, object]:
        """The format as JSON-ready data."""
        content: dict[str, Any] = {"type": self.name, **self._content()}
        if self.registry:
            content["registry"] = self.registry
        return content if len(content) > 1 else self.name

    def _content(self) -> dict[str, Any]:
        return {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageFormat) and self.content() == other.content()

    def __hash__(self) -> int:
        return hash(json.dumps(self.content(), sort_keys=True))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _refused(problem: str, *, hint: str) -> DefinitionError:
    return DefinitionError(problem, hint=hint, where=written_at())


class JsonFormat(MessageFormat):
    """Messages that are one JSON object each.

    Args:
        schema_json: accepted as in Feast and ignored; the source's `schema` has the columns.
        registry: see `MessageFormat`; the frame is skipped, and the schema is not fetched.
    """

    name = "json"

    def __init__(self, schema_json: str = "", *, registry: bool | str = False) -> None:
        self._begin(registry)
        self.schema_json = schema_json


class AvroFormat(MessageFormat):
    """Messages that are one Avro record each, without a file's header.

    Args:
        schema_json: the record's schema. With a registry it is the reader's schema, which each writer's schema is
            resolved against; where it is left out, fields are taken by name.
        registry: see `MessageFormat`.
    """

    name = "avro"

    def __init__(self, schema_json: str = "", *, registry: bool | str = False) -> None:
        self._begin(registry)
        if not schema_json and not registry:
            raise _refused(
                "AvroFormat() has no schema", hint="give schema_json=…, or registry=True if messages name their schema"
            )
        if schema_json:
            try:
                schema = json.loads(schema_json)
            except RecursionError as error:
                raise _refused("AvroFormat: schema_json is nested too deeply", hint="use a flatter schema") from error
            except (ValueError, TypeError) as error:
                problem = f"AvroFormat: schema_json is not JSON: {error}"
                raise _refused(problem, hint="give the schema's text") from error
            if not isinstance(schema, dict) or schema.get("type") != "record":
                raise _refused(
                    "AvroFormat: schema_json is not a record",
                    hint="give a schema of type record, whose fields become the columns",
                )
        self.schema_json = schema_json

    def _content(self) -> dict[str, Any]:
        return {"schema_json": self.schema_json} if self.schema_json else {}


class ProtoFormat(MessageFormat):
    """Messages of one Protobuf type.

    Args:
        class_path: the generated class, as `package.module_pb2.Message`; wherever messages are read it must be
            importable.
        descriptor_set: instead of a class, the bytes that `protoc --include_imports --descriptor_set_out=` wrote.
        message_type: the type's full name in the descriptor set.
        registry: see `MessageFormat`; a message whose indexes name another type is a dead letter.
    """

    name = "protobuf"

    def __init__(
        self,
        class_path: str = "",
        *,
        descriptor_set: bytes = b"",
        message_type: str = "",
        registry: bool | str = False,
    ) -> None:
        self._begin(registry)
        if bool(class_path) == bool(descriptor_set):
            raise _refused(
                "ProtoFormat needs either class_path= or descriptor_set=",
                hint="give class_path='package.module_pb2.Message', or the bytes of a descriptor set",
            )
        if class_path and "." not in class_path:
            raise _refused(
                f"ProtoFormat: class_path {class_path!r} has no module name", hint="write package.module_pb2.Message"
            )
        if descriptor_set and not message_type:
            raise _refused(
                "ProtoFormat: message_type= is missing",
                hint="give the full name of the message type, such as message_type='shop.Traffic'",
            )
        self.class_path, self.descriptor_set, self.message_type = class_path, bytes(descriptor_set), message_type

    def _content(self) -> dict[str, Any]:
        content = {"class_path": self.class_path, "message_type": self.message_type}
        if self.descriptor_set:
            content["descriptor_set"] = base64.b64encode(self.descriptor_set).decode()
        return {key: value for key, value in content.items() if value}


MESSAGE_FORMATS: dict[str, type[MessageFormat]] = {each.name: each for each in (JsonFormat, AvroFormat, ProtoFormat)}


def message_format_of(value: str | MessageFormat | Mapping[str, object] | None) -> MessageFormat:
    """A format object, from a format object, a name, or the result of `content()`."""
    if value is None:
        return JsonFormat()
    if isinstance(value, MessageFormat):
        return value
    options: dict[str, Any] = {}
    name: object = value
    if isinstance(value, Mapping):
        options = {key: each for key, each in value.items() if key != "type"}
        name = value["type"]
        if "descriptor_set" in options:
            options["descriptor_set"] = base64.b64decode(options["descriptor_set"])
    return MESSAGE_FORMATS[format_name(name, tuple(MESSAGE_FORMATS), default="json")](**options)


__all__ = [
    "MESSAGE_FORMATS", "AvroFormat", "CsvFormat", "DeltaFormat", "JsonFormat", "MessageFormat", "ParquetFormat",
    "ProtoFormat", "format_name", "message_format_of",
]  # fmt: skip
